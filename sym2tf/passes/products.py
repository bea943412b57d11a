"""Products without sums, and what they need: factors with their axes in a given order, diagonals, new axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import mul
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import broadcast, expand, squeeze, transpose
from sym2tf.ops.leaves import const, size
from sym2tf.ops.logic import select
from sym2tf.ops.values import Value, constant, with_kind, with_rank
from sym2tf.passes.monomials import UNIT, Alphabet, Factor, Letters

NAMES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

# TensorFlow's elementwise kernels broadcast at most five runs of axes; batch axes that only broadcast make up two.
MOST_RUNS = 3


class Products:
    """Adds elementwise products of factors to a builder."""

    def __init__(self, builder: Builder, alphabet: Alphabet, fired: Counter[str]) -> None:
        self.builder = builder
        self.alphabet = alphabet
        self.fired = fired

    def whole(self, factors: Sequence[Factor], order: Letters) -> Factor:
        """The elementwise product, with the letters of `order`; in another order where all factors agree on one."""
        groups, numbers = self.grouped(factors, order)
        if len(groups) == 1 and len(groups[0][0]) == len(order):
            return self.group(*groups[0], order, numbers)
        if _runs([own for own, _ in groups], order) > MOST_RUNS:
            groups = [self.outer(groups, order)]
        operands = [*numbers]
        for own, members in groups:
            if len(own) == len(order):
                operands += (self.placed(factor, order) for factor in members)
            else:
                operands.append(self.placed(self.group(own, members, order), order))
        return self.product(operands, len(order)), order

    def outer(
        self, groups: Iterable[tuple[frozenset[int], list[Factor]]], order: Letters
    ) -> tuple[frozenset[int], list[Factor]]:
        """Tensors whose axes alternate, multiplied by `einsum`, two at a time."""
        made, *others = (self.unit_free(self.group(own, members, order)) for own, members in groups)
        for other in others:
            names = dict(zip(dict.fromkeys((*made[1], *other[1])), NAMES, strict=False))
            output = tuple(letter for letter in order if letter in names)
            inputs = tuple("".join(names[letter] for letter in letters) for _, letters in (made, other))
            attributes = {"inputs": inputs, "output": "".join(names[letter] for letter in output)}
            made = self.builder.add(einsum, [made[0], other[0]], attributes), output
        return frozenset(made[1]), [made]

    def grouped(
        self, factors: Sequence[Factor], order: Letters
    ) -> tuple[list[tuple[frozenset[int], list[Factor]]], list[int]]:
        """The factors of a product by their letters, those with fewer multiplied into some with more; numbers apart.

        So small tensors meet before they meet a large one. Numbers stay outside, where rules and signs see them.
        """
        numbers = [v for v, _ in factors if self.builder.nodes[v].op is const]
        groups: dict[frozenset[int], list[Factor]] = {}
        for factor in factors:
            if self.builder.nodes[factor[0]].op is not const:
                v, letters = self.distinct(factor)
                groups.setdefault(frozenset(letters).difference((UNIT,)), []).append((v, letters))
        kept = []
        for own in sorted(groups, key=len):
            larger = [other for other in groups if own < other]
            if larger:
                first = min(larger, key=lambda other: (len(other), min(v for v, _ in groups[other])))
                groups[first].append(self.group(own, groups[own], order))
            else:
                kept.append((own, groups[own]))
        return kept, numbers

    def group(
        self, own: frozenset[int], members: Sequence[Factor], order: Letters, numbers: Sequence[int] = ()
    ) -> Factor:
        """The product of factors that have the same letters, and of numbers."""
        if len(members) == 1 and not numbers:
            return members[0]
        orders = {without_units(letters) for _, letters in members if own.issubset(letters)}
        target = orders.pop() if len(orders) == 1 else tuple(letter for letter in order if letter in own)
        placed = [self.placed(factor, target) for factor in members]
        return self.product([*numbers, *placed], len(target)), target

    def product(self, operands: Sequence[int], rank: int) -> int:
        """The product of nodes of one rank and of numbers."""
        aligned = [with_rank(Value(self.builder, v), rank).id for v in operands]
        return aligned[0] if len(aligned) == 1 else self.builder.add(mul, aligned)

    def number(self, count: Size, kind: Kind) -> int:
        """A size as a number."""
        if isinstance(count, int):
            return constant(self.builder, count, kind).id
        return with_kind(Value(self.builder, self.builder.add(size, (), {"size": count})), kind).id

    def count(self, letters: Iterable[int]) -> Size:
        """The number of elements along axes."""
        total: Size = 1
        for letter in letters:
            total = total * self.alphabet.sizes[letter]
        return total

    def selected(self, mask: Factor, factor: Factor, order: Letters) -> Factor:
        """A factor where a mask holds, zero elsewhere."""
        value = Value(self.builder, self.placed(factor, order))
        made: Value = select(Value(self.builder, self.placed(mask, order)), value, 0)
        return made.id, order

    # Axes

    def distinct(self, factor: Factor, over: Iterable[int] = ()) -> Factor:
        """A factor without a letter that it has twice: its diagonal, or for letters in `over` its trace."""
        v, letters = factor
        named = without_units(letters)
        if len(set(named)) == len(named):
            return factor
        v, letters = self.unit_free(factor)
        gone = {letter for letter in over if letters.count(letter) > 1}
        output = tuple(letter for letter in dict.fromkeys(letters) if letter not in gone)
        names = dict(zip(dict.fromkeys(letters), NAMES, strict=False))
        subscripts = "".join(names[letter] for letter in letters)
        attributes = {"inputs": (subscripts,), "output": "".join(names[letter] for letter in output)}
        self.fired["diagonal"] += 1
        return self.builder.add(einsum, [v], attributes), output

    def unit_free(self, factor: Factor) -> Factor:
        """A factor without its axes of length 1."""
        v, letters = factor
        for k in range(len(letters)):
            if letters[k] == UNIT:
                v = self.builder.add(squeeze, [v], {"axis": k - len(letters)})
        return v, without_units(letters)

    def placed(self, factor: Factor, order: Letters) -> int:
        """A factor with one axis for each letter of `order`, of length 1 where it lacks the letter."""
        v, letters = self.distinct(factor)
        if letters == order:
            return v
        v, letters = self.unit_free((v, letters))
        due = tuple(letter for letter in order if letter in letters)
        if due != letters:
            axes = tuple(letters.index(letter) - len(letters) for letter in due)
            v = self.builder.add(transpose, [v], {"axes": axes})
        return self.with_new_axes(v, [k - len(order) for k, letter in enumerate(order) if letter not in due])

    def with_new_axes(self, v: int, axes: Iterable[int]) -> int:
        """`v` with axes of length 1, which are numbered in the result."""
        for axis in sorted(axes, reverse=True):
            v = self.builder.add(expand, [v], {"axis": axis})
        return v

    def stretched(self, factor: Factor, output: Letters) -> int:
        """A factor with all axes of `output`, in full length."""
        missing = {letter for letter in output if letter != UNIT}.difference(factor[1])
        order = tuple(UNIT if letter in missing else letter for letter in output)
        if order == factor[1]:
            v = factor[0]
        else:
            named = without_units(order)
            v = self.placed(factor, named)
            v = self.with_new_axes(v, [k - len(order) for k, letter in enumerate(order) if letter == UNIT])
        if missing:
            shape = tuple(self.alphabet.sizes[letter] for letter in output)
            first = min(k for k, letter in enumerate(output) if letter in missing)
            v = self.builder.add(broadcast, [v], {"shape": shape[first:]})
        return v


def without_units(letters: Letters) -> Letters:
    """Letters without those of axes of length 1."""
    return tuple(letter for letter in letters if letter != UNIT)


def union(a: Letters, b: Letters) -> Letters:
    """The letters of both, those of the longer one in its order."""
    longer, other = (a, b) if len(a) >= len(b) else (b, a)
    return tuple(dict.fromkeys(letter for letter in (*longer, *other) if letter != UNIT))


def _runs(groups: Sequence[frozenset[int]], order: Letters) -> int:
    """How often, along the axes of a product, others of its factors take over, and one for the first."""
    holders = [[letter in own for own in groups] for letter in order]
    return sum(k == 0 or holders[k] != holders[k - 1] for k in range(len(holders))) if len(groups) > 1 else 0
