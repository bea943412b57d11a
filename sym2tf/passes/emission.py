"""Monomials back into nodes: which factors meet first, and by which operation.

Cost model. Factors with the same axes stay one elementwise product under one `sum`: the data are read once,
and einsum is no quicker for a dot product. Factors with different axes meet in an einsum, two at a time,
because the elementwise product would have more elements than the smaller of them, and often more than both;
which two is what `planning` finds. Measured on two CPU cores in float64 (TensorFlow 2.21, `tf.function`), microseconds:

    dot product              reduce_sum(a*b)   einsum   tensordot
    10^3 elements                        366      326         269     (the call itself costs about 250)
    10^6 elements                        773     1168        1192
    batch 10^5 of 3 elements            1257     3324
    matrix-vector product    reduce_sum(A*x)   einsum
    10^3 by 10^3                        1362      581
    batch 10^3 of 30 by 30              1143      413
    batch 10^5 of 3 by 3                5298     4040
    matrix product, batch 10^3 of 30   35842     7834

Letters stand so that TensorFlow's einsum, which is a batched matrix product, needs no transposed copy: the operand
whose free letters come first in the result comes first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from sym2tf.ir.dims import Dim, Size, evaluate_size, size_names
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import Kind
from sym2tf.ops.assembly import diag, eye, reshape
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import expand, squeeze, sum_
from sym2tf.ops.linalg import inverse, solve
from sym2tf.ops.logic import less, or_, select
from sym2tf.ops.values import Value, constant
from sym2tf.passes import planning
from sym2tf.passes.masks import hidden, independent, is_chosen, masked, spreading
from sym2tf.passes.monomials import UNIT, Alphabet, Factor, Letters, Monomial
from sym2tf.passes.products import NAMES, Products, union, without_units

ORDERED = "order for typical sizes"  # a step that may come out otherwise where sizes are known
NOMINAL = 64  # elements along an axis whose length is a symbol


class Emitter:
    """Adds the values of monomials to a builder.

    Attributes:
        builder: holds the factors and receives the nodes.
        alphabet: of the monomials.
        products: adds what needs no sum.
        fired: how often each step was taken.
        careful: what is not finite stays out of the sums that do not need it.
    """

    def __init__(
        self,
        builder: Builder,
        alphabet: Alphabet,
        sizes: Mapping[str, int],
        fired: Counter[str],
        *,
        careful: bool,
    ) -> None:
        self.careful = careful
        self.builder = builder
        self.alphabet = alphabet
        self.products = Products(builder, alphabet, fired)
        self.fired = fired
        self.pairs: dict[Hashable, tuple[int, tuple[int, ...]]] = {}  # einsums that there are, however they are turned
        self._hints = sizes

    def value(self, m: Monomial, kind: Kind) -> int:
        """The node that holds a monomial."""
        have = m.letters
        order = tuple(letter for letter in m.output if letter != UNIT and letter in have)
        made: Factor | None = None
        if m.factors or m.masks or m.count != 1 or not m.eyes:
            made = self.products.whole(self.unsummed(m, order, kind), order)
        for pair in m.eyes:
            have = have.union(pair)
            made = self.with_eye(made, pair, tuple(letter for letter in m.output if letter in have))
        assert made is not None
        return self.products.stretched(made, m.output)

    def unsummed(self, m: Monomial, order: Letters, kind: Kind) -> list[Factor]:
        """Factors without a common sum or mask: the sums over all letters that `order` lacks are done."""
        if not m.masks:
            return self.contracted(m.factors, order, m.count, kind)
        masks = independent(self.products, m.masks)
        inner = [mask for mask in masks if not set(mask[1]) <= {UNIT, *order}]
        factors, bad = self.finite(m.factors, inner, order, kind)
        for mask in inner:
            factors = masked(self.products, factors, mask, kind)
        found = self.contracted(factors, order, m.count, kind)
        if bad is not None:
            own = {x for _, letters in found for x in letters}
            whole = self.products.whole(found, tuple(x for x in order if x in own))
            both = tuple(x for x in order if x in own or x in bad[1])
            condition, value = (Value(self.builder, self.products.placed(f, both)) for f in (bad, whole))
            found = [(select(condition, constant(self.builder, math.nan, kind), value).id, both)]
        outer = [mask for mask in masks if mask not in inner]
        if not outer:
            return found
        have = {letter for _, letters in (*found, *outer) for letter in letters}
        target = tuple(letter for letter in order if letter in have)
        made = self.products.whole(found, tuple(x for x in target if any(x in letters for _, letters in found)))
        for mask in outer:
            made = self.products.selected(mask, made, tuple(x for x in target if x in made[1] or x in mask[1]))
        return [made]

    def finite(
        self, factors: Sequence[Factor], masks: Sequence[Factor], order: Letters, kind: Kind
    ) -> tuple[Sequence[Factor], Factor | None]:
        """Factors of which masks cannot keep everything that is not finite, made finite; and where that was needed.

        Only for what the user wrote, under conditions that the user wrote. It costs a second contraction.
        """
        if not self.careful or self.builder.stage != "primal":
            return factors, None
        chosen = [mask for mask in masks if is_chosen(self.builder, mask[0])]
        found = dict.fromkeys(f for mask in chosen for f in spreading(self.products, factors, mask, order))
        conditions = []
        clean: dict[Factor, Factor] = {}
        for factor in found:
            clean[factor], weights = hidden(self.products, factor, masks)
            over = {letter for _, letters in weights for letter in letters}
            target = tuple(letter for letter in order if letter in over)
            hits = self.products.whole(self.contracted(weights, target, 1, Kind.REAL), target)
            self.fired["finite part of a factor"] += 1
            conditions.append((less(0, Value(self.builder, hits[0])).id, hits[1]))
        if not found:
            return factors, None
        over = {letter for _, letters in conditions for letter in letters}
        target = tuple(letter for letter in order if letter in over)
        placed = [Value(self.builder, self.products.placed(condition, target)) for condition in conditions]
        bad = placed[0] if len(placed) == 1 else or_(*placed)
        return [clean.get(f, f) for f in factors], (bad.id, target)

    def contracted(self, factors: Iterable[Factor], order: Letters, count: Size, kind: Kind) -> list[Factor]:
        """Factors without a common sum: the sums over all letters that `order` lacks are done."""
        outside: list[Factor] = []
        inside: list[tuple[Factor, frozenset[int]]] = []
        for v, letters in factors:
            over = frozenset(letters).difference(order, (UNIT,))
            if over:
                inside.append(((v, letters), over))
            else:
                outside.append((v, letters))
        if count != 1 or not (outside or inside):
            outside.append((self.products.number(count, kind), ()))
        clusters = _clusters(inside)
        if len(clusters) > 1:
            self.fired["sum of a product of sums"] += 1
        if clusters and outside:
            outside = self.absorbed(outside, clusters, order)
            self.fired["constant factor out of a sum"] += len(outside)
        return [*outside, *(self.cluster(cluster, order) for cluster in clusters)]

    def absorbed(self, outside: list[Factor], clusters: list[list[Factor]], order: Letters) -> list[Factor]:
        """The factors that stay outside all sums; a tensor that is smaller in one, with a factor there, goes in."""
        stay = []
        for factor in outside:
            best: tuple[int, list[Factor], int] | None = None
            for cluster in clusters if set(factor[1]) - {UNIT} else ():
                result = self.elements(letter for _, letters in cluster for letter in letters if letter in order)
                for k, (_, letters) in enumerate(cluster):
                    length = self.elements(letters)
                    if length < (result if best is None else best[0]) and set(factor[1]) <= {UNIT, *letters}:
                        best = length, cluster, k
            if best is None:
                stay.append(factor)
            else:
                _, cluster, k = best
                cluster[k] = self.products.whole([cluster[k], factor], union(cluster[k][1], ()))
        return stay

    def elements(self, letters: Iterable[int]) -> int:
        """About how many elements a value with these letters has."""
        return math.prod(self.nominal(letter) for letter in set(letters))

    # Sums of products

    def cluster(self, factors: Sequence[Factor], order: Letters) -> Factor:
        """The sum of the product of factors that summed letters hold together."""
        parts = self.merged(factors, order)
        lengths = {letter: self.nominal(letter) for _, letters in parts for letter in letters}
        halves = planning.halves(parts, order, lengths) if len(parts) > 3 else None
        if halves is not None:
            self.fired["equal halves"] += 1
            v, letters = self.cluster(halves.half, halves.letters)
            parts = [*halves.rest, (v, letters), (v, tuple(halves.mirror[letter] for letter in letters))]
        inputs = [frozenset(letters).difference((UNIT,)) for _, letters in parts]
        if len(inputs) > 2 and any(isinstance(self.alphabet.sizes[letter], Dim) for letter in lengths):
            self.fired[ORDERED] += 1
        output = frozenset(letter for letters in inputs for letter in letters).intersection(order)
        for step in planning.order_of(inputs, output, lengths):
            taken = [parts.pop(k) for k in sorted(step, reverse=True)]
            made = taken.pop()
            while taken:
                other = taken.pop()
                kept = output.union(*(letters for _, letters in (*parts, *taken))).intersection((*made[1], *other[1]))
                last = not parts and not taken
                made = self.pair(made, other, tuple(x for x in order if x in kept) if last else None, kept)
            parts.append(made)
        return parts[0]

    def nominal(self, letter: int) -> int:
        """About how many elements an axis has."""
        length = self.alphabet.sizes[letter]
        if not isinstance(length, Dim):
            return length
        known = {name: self._hints.get(name, NOMINAL) for name in size_names(length)}
        return max(1, evaluate_size(length, known))

    def merged(self, factors: Sequence[Factor], order: Letters) -> list[Factor]:
        """Factors with equal letters as one, and letters that only one factor has summed there."""
        # the same choice among equals whenever the same factors meet
        place = {letter: k for k, letter in enumerate(order)}
        parts = sorted(factors, key=lambda f: (f[0], [place.get(letter, len(place)) for letter in f[1]]))
        while True:
            uses = Counter(letter for _, letters in parts for letter in set(letters) if letter != UNIT)
            alone = {letter for letter, n in uses.items() if n == 1}.difference(order)
            parts = [self.total(self.products.distinct(part, alone), alone) for part in parts]
            groups: dict[frozenset[int], list[Factor]] = {}
            for v, letters in parts:
                groups.setdefault(frozenset(letters).difference((UNIT,)), []).append((v, letters))
            if len(groups) == len(parts):
                return parts
            parts = [self.together(same, own.difference(order), uses) for own, same in groups.items()]

    def together(self, same: Sequence[Factor], over: frozenset[int], uses: Mapping[int, int]) -> Factor:
        """The product of factors with equal letters; those in `over` are summed, here if nothing else has them.

        A trace of an inverse times a matrix is that of the solution of a system.
        """
        order = without_units(same[0][1])
        here = frozenset(letter for letter in over if uses[letter] == len(same))
        inverses = [f for f in same if self.builder.nodes[f[0]].op is inverse]
        if len(same) > 1 and inverses and here:
            rest = list(same)
            rest.remove(inverses[0])
            return self.pair(inverses[0], self.products.whole(rest, order), None, frozenset(order) - here)
        return self.products.whole(same, order)

    def total(self, factor: Factor, over: Iterable[int]) -> Factor:
        """A factor summed over some of its letters; axes of length 1 go with them."""
        v, letters = factor
        gone = [k - len(letters) for k, letter in enumerate(letters) if letter in over]
        if not gone:
            return factor
        gone = sorted({*gone, *(k - len(letters) for k, letter in enumerate(letters) if letter == UNIT)})
        kept = tuple(letter for k, letter in enumerate(letters) if k - len(letters) not in gone)
        return self.builder.add(sum_, [v], {"axes": tuple(gone)}), kept

    def pair(self, a: Factor, b: Factor, order: Letters | None, kept: frozenset[int]) -> Factor:
        """The product of two factors, summed over what `kept` lacks; the letters of the result are in `order`, if any.

        A sum over letters that both have is a matrix product; one over all letters of both a sum of a product.
        """
        left, right = frozenset(a[1]).difference((UNIT,)), frozenset(b[1]).difference((UNIT,))
        over = (left & right) - kept
        solved = self.system(a, b, over) or self.system(b, a, over) if over else None
        if solved is not None:
            return self.products.distinct(solved, over)
        if not over or left == right:
            whole = self.products.whole([a, b], order if order is not None and not over else union(a[1], b[1]))
            return self.total(whole, over)
        (a, b), output = self.as_matrices(a, b, order, kept)
        known = sorted((a, b))
        places = {letter: k for k, letter in enumerate(dict.fromkeys((*known[0][1], *known[1][1])))}
        both = tuple((v, tuple(places[letter] for letter in letters)) for v, letters in known)
        key: Hashable = (both, frozenset(places[letter] for letter in output))
        if key in self.pairs:  # perhaps with the letters of the result in another order, which costs less to turn
            v, order_there = self.pairs[key]
            letter_of = {k: letter for letter, k in places.items()}
            return v, tuple(letter_of[k] for k in order_there)
        names = dict(zip(dict.fromkeys((*a[1], *b[1])), NAMES, strict=False))
        subscripts = tuple("".join(names[letter] for letter in letters) for _, letters in (a, b))
        attributes = {"inputs": subscripts, "output": "".join(names[letter] for letter in output)}
        self.fired["einsum"] += 1
        v = self.builder.add(einsum, [a[0], b[0]], attributes)
        self.pairs[key] = v, tuple(places[letter] for letter in output)
        return v, output

    def as_matrices(
        self, a: Factor, b: Factor, order: Letters | None, kept: frozenset[int]
    ) -> tuple[tuple[Factor, Factor], Letters]:
        """The operands of an einsum in the better order, without axes of length 1, and the letters of the result."""
        first, second = self.products.unit_free(a), self.products.unit_free(b)
        own = [[x for x in f[1] if x in kept and x not in g[1]] for f, g in ((first, second), (second, first))]
        position = {letter: k for k, letter in enumerate(order or ())}
        late = len(position)
        rank = [min((position.get(x, late) for x in letters), default=late + 1) for letters in own]
        if (rank[1], second[0]) < (rank[0], first[0]):
            first, second, own = second, first, own[::-1]
        both = [x for x in first[1] if x in kept and x in second[1]]
        return (first, second), order if order is not None else (*both, *own[0], *own[1])

    def system(self, a: Factor, b: Factor, over: frozenset[int]) -> Factor | None:
        """`b` contracted with an inverse, as the solution of a system of equations; None where `a` is no inverse."""
        node = self.builder.nodes[a[0]]
        rows, columns = a[1][-2:] if len(a[1]) > 1 else (UNIT, UNIT)
        if node.op is not inverse or UNIT in (rows, columns) or not over & {rows, columns}:
            return None
        adjoint = columns not in over
        inner, free, front = (rows, columns, a[1][:-2]) if adjoint else (columns, rows, a[1][:-2])
        (matrix,) = self.builder.operands[a[0]]
        twin = self.alphabet.fresh(self.alphabet.sizes[free])
        v, letters = b[0], tuple(twin if letter == free else letter for letter in b[1])
        rest = tuple(x for x in letters if x not in (*front, inner, UNIT))
        v = self.products.placed((v, letters), (*front, inner, *rest))
        if not rest:
            v = self.builder.add(expand, [v], {"axis": -1})
        elif len(rest) > 1:
            v = self.builder.add(reshape, [v], {"rank": len(rest), "shape": (self.products.count(rest),)})
        v = self.builder.add(solve, [matrix, v], {"adjoint": adjoint})
        self.fired["inverse times a factor is a system"] += 1
        if not rest:
            v = self.builder.add(squeeze, [v], {"axis": -1})
        elif len(rest) > 1:
            shape = tuple(self.alphabet.sizes[x] for x in rest)
            v = self.builder.add(reshape, [v], {"rank": 1, "shape": shape})
        return v, tuple(free if x == twin else x for x in (*front, free, *rest))

    def with_eye(self, factor: Factor | None, pair: tuple[int, int], order: Letters) -> Factor:
        """A factor times a unit tensor whose letters stay, with the letters of `order` in about that order."""
        name, other = pair
        if factor is None or name not in factor[1]:
            v = self.builder.add(eye, (), {"size": self.alphabet.sizes[name]})
            return (v, pair) if factor is None else self.products.whole([factor, (v, pair)], order)
        rest = tuple(letter for letter in order if letter in factor[1] and letter != name)
        v = self.products.placed(factor, (*rest, name))
        return self.builder.add(diag, [v]), (*rest, name, other)


def _clusters(factors: Sequence[tuple[Factor, frozenset[int]]]) -> list[list[Factor]]:
    """Factors apart that share no summed letter, directly or through others."""
    clusters: list[tuple[frozenset[int], list[Factor]]] = []
    for factor, over in factors:
        touching = [c for c in clusters if not c[0].isdisjoint(over)]
        clusters = [c for c in clusters if c[0].isdisjoint(over)]
        clusters.append((over.union(*(c[0] for c in touching)), [*(f for c in touching for f in c[1]), factor]))
    return [members for _, members in clusters]
