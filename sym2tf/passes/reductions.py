"""Moves work out of sums over axes, and turns sums of products of operands with different axes into einsum.

`Sum(c*x[i])` becomes `c*Sum(x[i])`, `Sum(x[i]*y[j], i, j)` a product of two sums, `Sum(A[i, j]*x[j], j)` a
matrix-vector product, a sum of sums one sum, a sum over an axis of length 1 no sum at all.

Cost model. Factors with the same axes stay one elementwise product under one `sum`: the data are read once,
and einsum is no quicker for a dot product. Factors with different axes meet in an einsum, two at a time,
because the elementwise product would have more elements than the smaller of them, and often more than both;
which two is the choice that gives the fewest axes. Measured on two CPU cores in float64 (TensorFlow 2.21,
`tf.function`), microseconds:

    dot product              reduce_sum(a*b)   einsum   tensordot
    10^3 elements                        366      326         269     (the call itself costs about 250)
    10^6 elements                        773     1168        1192
    batch 10^5 of 3 elements            1257     3324
    matrix-vector product    reduce_sum(A*x)   einsum
    10^3 by 10^3                        1362      581
    batch 10^3 of 30 by 30              1143      413
    batch 10^5 of 3 by 3                5298     4040
    matrix product, batch 10^3 of 30   35842     7834

A sum of terms is split only where nothing can cancel: `Sum(x[i] - m)` is not `Sum(x[i]) - n*m`, which loses
every digit when m is the mean, and `Sum((y[i] - w*x[i] - b)**2)` is never multiplied out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder, Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import broadcast, expand, squeeze, sum_, transpose
from sym2tf.ops.leaves import const, size
from sym2tf.ops.values import Value, constant, with_kind, with_rank
from sym2tf.passes.counting import use_counts

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def reduce_less(graph: Graph, *, exact: bool = False, split: bool = False) -> tuple[Graph, Counter[str]]:
    """`graph` with less under its sums; how often each step was taken.

    Args:
        graph: any valid graph.
        exact: only drop sums over axes of length 1; everything else changes the order of a summation.
        split: also split a constant off a sum where the two may cancel: quicker, right in exact arithmetic.
    """
    if not any(graph[v].op in (sum_, broadcast, expand) for v in graph.order):
        return graph, Counter()
    uses = use_counts(graph)
    reducer = _Reducer(exact=exact, split=split)
    where: dict[int, int] = {}
    for v in graph.order:
        node, operands = graph[v], [where[u] for u in graph.operands(v)]
        if node.op is sum_:
            reducer.builder.stage, reducer.builder.origin = node.stage, node.origin
            where[v] = reducer.sum(operands[0], node.attributes["axes"])
        elif node.op.elementwise and operands:
            where[v] = reducer.elementwise(node, operands)
        else:
            where[v] = reducer.builder.copy_node(graph, v, operands)
        if uses[v] > 1:
            reducer.shared.add(where[v])
    result = reducer.builder.build(
        [where[v] for v in graph.inputs], {name: where[v] for name, v in graph.outputs.items()}, graph.info
    )
    return (result, reducer.fired) if reducer.fired else (graph, reducer.fired)


@dataclass
class _Reducer:
    """Adds sums to `builder`, in the cheapest form. Nodes in `shared` have other users: kept whole."""

    exact: bool
    split: bool
    builder: Builder = field(default_factory=Builder)
    shared: set[int] = field(default_factory=set)
    fired: Counter[str] = field(default_factory=Counter)

    # What the new graph holds

    def shape(self, v: int) -> tuple[Size, ...]:
        return self.builder.nodes[v].type.shape

    def long_axes(self, v: int) -> frozenset[int]:
        """The core axes along which `v` is longer than 1, as negative numbers."""
        shape = self.shape(v)
        return frozenset(k - len(shape) for k, d in enumerate(shape) if d != 1)

    def without_broadcasts(self, operands: Sequence[int]) -> Sequence[int]:
        """The operands of an elementwise operation, those not stretched that another one stretches anyway."""
        if not any(self.builder.nodes[u].op is broadcast for u in operands):
            return operands
        kept = list(operands)
        for k, u in enumerate(operands):
            inner = self.builder.operands[u][0] if self.builder.nodes[u].op is broadcast else None
            if inner is None or len(self.shape(inner)) != len(self.shape(u)):
                continue
            others = frozenset().union(*(self.long_axes(w) for j, w in enumerate(kept) if j != k))
            if self.long_axes(u) <= others | self.long_axes(inner):
                kept[k] = inner
                self.fired["drop a broadcast"] += 1
        return kept

    # Elementwise operations

    def elementwise(self, node: Node, operands: Sequence[int]) -> int:
        """Takes an operation before the axes of length 1 of all its operands; in a sum, of some."""
        builder, axes = self.builder, list[int]()
        while axis := self.common_axis(operands):
            axes.append(axis)
            operands = [builder.operands[u][0] for u in operands]
        operands = self.without_broadcasts(operands)
        if node.op.associative and node.op.commutative and not self.exact and len(operands) > 2:
            operands = self.grouped(node, operands)
        made = builder.add(node.op, operands, node.attributes, origin=node.origin, stage=node.stage)
        for axis in reversed(axes):
            made = builder.add(expand, [made], {"axis": axis}, stage=node.stage)
        if axes:
            self.fired["before new axes"] += 1
        return made

    def grouped(self, node: Node, operands: Sequence[int]) -> list[int]:
        """Operands, those with the same new axis made one."""
        groups: dict[int, list[int]] = {}
        for u in operands:  # numbers stay outside, where rules and signs see them
            record = self.builder.nodes[u]
            axis = record.attributes["axis"] if record.op is expand and not self.is_number(u) else 0
            groups.setdefault(axis, []).append(u)
        kept = groups.pop(0, [])
        for same in groups.values():
            bare = replace(node, origin=None)
            kept.append(same[0] if len(same) == 1 else self.elementwise(bare, same))
        return kept

    def common_axis(self, operands: Sequence[int]) -> int:
        """The axis that every operand was given last, or 0; a number may have been given any other one."""
        axis = 0
        for u in operands:
            node = self.builder.nodes[u]
            if node.op is not expand:
                return 0
            if self.is_number(u):
                continue
            if axis not in (0, node.attributes["axis"]):
                return 0
            axis = node.attributes["axis"]
        return axis or -1

    def is_number(self, v: int) -> bool:
        """Whether `v` is a constant, with new axes or without."""
        while self.builder.nodes[v].op is expand:
            (v,) = self.builder.operands[v]
        return self.builder.nodes[v].op is const

    # Sums

    def sum(self, v: int, axes: tuple[int, ...]) -> int:
        """The node for the sum of `v` over `axes`."""
        short = [a for a in axes if self.shape(v)[a] == 1]
        if short:
            self.fired["sum over an axis of length 1"] += 1
            v, axes = self.drop(v, short), _without(axes, short)
        if not axes:
            return v
        if self.exact:
            return self.builder.add(sum_, [v], {"axes": axes})
        node = self.builder.nodes[v]
        if node.op is sum_ and v not in self.shared:
            self.fired["sum of a sum"] += 1
            return self.sum(self.builder.operands[v][0], _merged(node.attributes["axes"], axes))
        if node.op is broadcast:
            return self.sum_of_broadcast(v, axes)
        if node.op is add and v not in self.shared:
            return self.sum_of_terms(v, axes)
        if node.op is mul and node.type.kind >= Kind.REAL and v not in self.shared:
            return self.sum_of_product(v, axes)
        return self.builder.add(sum_, [v], {"axes": axes})

    def sum_of_broadcast(self, v: int, axes: tuple[int, ...]) -> int:
        """Equal terms: their number times one of them."""
        (inner,) = self.builder.operands[v]
        rank = len(self.shape(inner))
        stretched = [a for a in axes if -a > rank or self.shape(inner)[a] == 1]
        if not stretched or rank != len(self.shape(v)):
            return self.builder.add(sum_, [v], {"axes": axes})
        self.fired["sum of equal terms"] += 1
        count = self.count(v, stretched)
        shape = tuple(1 if k - rank in stretched else d for k, d in enumerate(self.shape(v)))
        kept = inner if shape == self.shape(inner) else self.builder.add(broadcast, [inner], {"shape": shape})
        rest = self.sum(self.drop(kept, stretched), _without(axes, stretched))
        return self.times([rest], count)

    def sum_of_terms(self, v: int, axes: tuple[int, ...]) -> int:
        """Terms that are constant along all the axes come out, if the caller does not mind cancellation."""
        terms = self.builder.operands[v]
        fixed = [u for u in terms if self.long_axes(u).isdisjoint(axes)]
        whole = self.builder.add(sum_, [v], {"axes": axes})
        if not fixed or not self.split:
            return whole
        rest = [u for u in terms if not self.long_axes(u).isdisjoint(axes)]
        if frozenset().union(*map(self.long_axes, rest)).isdisjoint(axes):
            return whole
        self.fired["constant term out of a sum"] += 1
        counted = self.times([self.drop(u, axes) for u in fixed], self.count(v, axes))
        left = self.full_sum(rest, axes, v)
        return self.builder.add(add, self.aligned([counted, left]))

    def full_sum(self, terms: Sequence[int], axes: tuple[int, ...], like: int) -> int:
        inner = terms[0] if len(terms) == 1 else self.builder.add(add, terms)
        missing = self.long_axes(like).intersection(axes) - self.long_axes(inner)
        made = self.sum(inner, axes)
        return self.times([made], self.count(like, sorted(missing))) if missing else made

    def sum_of_product(self, v: int, axes: tuple[int, ...]) -> int:
        """Constant factors come out, factors that share no axis are summed apart, the others in einsums."""
        factors = self.factors(v)
        outside = [self.drop(f, axes) for f in factors if self.long_axes(f).isdisjoint(axes)]
        inside = [f for f in factors if not self.long_axes(f).isdisjoint(axes)]
        if outside:
            self.fired["constant factor out of a sum"] += 1
        clusters = _clusters([(f, self.long_axes(f).intersection(axes)) for f in inside])
        if len(clusters) > 1:
            self.fired["sum of a product of sums"] += 1
        sums = [self.contract(cluster, axes) for cluster in clusters]
        return self.product(self.aligned([*outside, *sums]))

    def factors(self, v: int) -> list[int]:
        """The factors of a product, through products that nothing else uses and the axes they were given."""
        found: list[int] = []
        stack: list[tuple[int, tuple[int, ...]]] = [(v, ())]
        while stack:
            u, axes = stack.pop()
            inner, outer = u, axes
            while self.builder.nodes[inner].op is expand and inner not in self.shared:
                outer = (self.builder.nodes[inner].attributes["axis"], *outer)
                (inner,) = self.builder.operands[inner]
            if self.builder.nodes[inner].op is mul and (inner == v or inner not in self.shared):
                stack += [(w, outer) for w in reversed(self.builder.operands[inner])]
                continue
            for axis in axes:
                u = self.builder.add(expand, [u], {"axis": axis})
            found.append(u)
        return found

    def contract(self, factors: Sequence[int], axes: tuple[int, ...]) -> int:
        """The sum of a product over `axes`; the result keeps the other axes, also those of length 1."""
        rank = len(self.shape(factors[0]))
        groups: dict[frozenset[int], list[int]] = {}
        for f in factors:
            groups.setdefault(self.long_axes(f), []).append(f)
        if len(groups) == 1:
            short = [a for a in axes if a not in next(iter(groups))]
            whole = self.product([self.drop(f, short) for f in factors])
            return self.builder.add(sum_, [whole], {"axes": _without(axes, short)})
        self.fired["einsum"] += 1
        every = frozenset().union(*groups)
        kept = every.difference(axes)
        # The operands lose their axes of length 1; letters stand for the axes of the product, left to right.
        letter = {axis: LETTERS[k] for k, axis in enumerate(sorted(every))}
        parts = [
            (a, self.product([self.drop(f, [k for k in range(-rank, 0) if k not in a]) for f in fs]))
            for a, fs in groups.items()
        ]
        while len(parts) > 1:
            i, j, result = _cheapest_pair([a for a, _ in parts], kept)
            (a, f), (b, g) = parts[i], parts[j]
            parts = [part for k, part in enumerate(parts) if k not in (i, j)]
            f, left = self.untransposed(f, "".join(letter[axis] for axis in sorted(a)))
            g, right = self.untransposed(g, "".join(letter[axis] for axis in sorted(b)))
            output = "".join(letter[axis] for axis in sorted(result))
            made = self.builder.add(einsum, [f, g], {"inputs": (left, right), "output": output})
            same = [k for k, (c, _) in enumerate(parts) if c == result]
            if same:
                made = self.builder.add(mul, [made, parts.pop(same[0])[1]])
            parts.append((result, made))
        ((last, made),) = parts
        over = sorted(last.difference(kept))
        if over:
            order = sorted(last)
            made = self.builder.add(sum_, [made], {"axes": tuple(order.index(a) - len(order) for a in over)})
        # Axes of length 1 that were kept: put back, from the right.
        remaining = [a for a in range(-rank, 0) if a not in axes]
        for position, axis in zip(range(-1, -len(remaining) - 1, -1), reversed(remaining), strict=True):
            if axis not in kept:
                made = self.builder.add(expand, [made], {"axis": position})
        return made

    # Pieces

    def drop(self, v: int, axes: Iterable[int]) -> int:
        """`v` without `axes`, all of length 1; an axis that an `expand` has made is simply not made."""
        due, outer = set(axes), list[int]()
        while due:
            node = self.builder.nodes[v]
            if node.op is not expand:
                for axis in sorted(due):  # from the left: the axes to the right keep their numbers
                    v = self.builder.add(squeeze, [v], {"axis": axis})
                break
            axis = node.attributes["axis"]
            (v,) = self.builder.operands[v]
            if axis in due:
                due.remove(axis)
            else:
                outer.append(axis + sum(1 for a in due if a > axis))
            due = {a + 1 if a < axis else a for a in due}
        for axis in reversed(outer):
            v = self.builder.add(expand, [v], {"axis": axis})
        return v

    def untransposed(self, v: int, letters: str) -> tuple[int, str]:
        """What `v` transposes, and the letters of its axes, given those of `v`: einsum takes any order."""
        while self.builder.nodes[v].op is transpose:
            axes = self.builder.nodes[v].attributes["axes"]
            (v,) = self.builder.operands[v]
            moved = dict(zip((len(letters) + a for a in axes), letters[-len(axes) :], strict=True))
            letters = "".join(moved.get(k, letter) for k, letter in enumerate(letters))
        return v, letters

    def count(self, v: int, axes: Iterable[int]) -> Size:
        """The number of elements of `v` along `axes`."""
        total: Size = 1
        for axis in axes:
            total = total * self.shape(v)[axis]
        return total

    def product(self, factors: Sequence[int]) -> int:
        return factors[0] if len(factors) == 1 else self.builder.add(mul, factors)

    def times(self, values: Sequence[int], count: Size) -> int:
        """`count` times the sum of `values`."""
        aligned = self.aligned(values)
        v = Value(self.builder, aligned[0] if len(aligned) == 1 else self.builder.add(add, aligned))
        kind = v.type.kind
        if isinstance(count, int):
            number = constant(self.builder, count, kind)
        else:
            number = with_kind(Value(self.builder, self.builder.add(size, (), {"size": count})), kind)
        number = with_rank(number, v.type.rank)
        return self.builder.add(mul, [number.id, v.id])

    def aligned(self, values: Sequence[int]) -> list[int]:
        """`values` with axes of length 1 in front of those of lower rank."""
        rank = max(len(self.shape(v)) for v in values)
        return [with_rank(Value(self.builder, v), rank).id for v in values]


def _without(axes: Sequence[int], gone: Sequence[int]) -> tuple[int, ...]:
    """`axes` as they are numbered once `gone` are no more."""
    return tuple(a + sum(1 for g in gone if g > a) for a in axes if a not in gone)


def _merged(inner: Sequence[int], outer: Sequence[int]) -> tuple[int, ...]:
    """The axes of one sum that does what a sum over `inner` and then one over `outer` do."""
    gone, merged = set(inner), set(inner)
    for axis in outer:
        position, left = (
            0,
            -axis,
        )  # the axis is the `left`-th from the right among those that the inner sum keeps
        while left:
            position -= 1
            left -= position not in gone
        merged.add(position)
    return tuple(sorted(merged))


def _clusters(factors: Sequence[tuple[int, frozenset[int]]]) -> list[list[int]]:
    """Factors apart that share no summed axis, directly or through others."""
    clusters: list[tuple[frozenset[int], list[int]]] = []
    for factor, axes in factors:
        touching = [c for c in clusters if not c[0].isdisjoint(axes)]
        clusters = [c for c in clusters if c[0].isdisjoint(axes)]
        merged = frozenset(axes).union(*(c[0] for c in touching))
        clusters.append((merged, [*(f for c in touching for f in c[1]), factor]))
    return [members for _, members in clusters]


def _cheapest_pair(parts: Sequence[frozenset[int]], kept: frozenset[int]) -> tuple[int, int, frozenset[int]]:
    """Which two factors to contract, and the axes of the result: fewest in it, then in the product."""
    best: tuple[tuple[int, int], int, int, frozenset[int]] | None = None
    for i, a in enumerate(parts):
        for j in range(i + 1, len(parts)):
            others = kept.union(*(c for k, c in enumerate(parts) if k not in (i, j)))
            result = (a | parts[j]) & others
            cost = (len(result), len(a | parts[j]))
            if best is None or cost < best[0]:
                best = (cost, i, j, result)
    assert best is not None
    return best[1:]
