"""Recognises a softmax in what was written, and what sums to one along an axis."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder
from sym2tf.ops.arithmetic import log, mul, pow_
from sym2tf.ops.contraction import logsumexp, softmax
from sym2tf.ops.elementary import exp
from sym2tf.ops.indexing import broadcast, restore, squeeze, sum_
from sym2tf.ops.leaves import const, input_, size
from sym2tf.ops.values import Value, with_shape
from sym2tf.passes.axis_names import alike, peeled

MOST_AXES = 3  # of one softmax: their assignments are tried one by one


def normalised(a: Value, b: Value) -> Value | None:
    """`exp(a) * b`, where `b` is 1 / sum(c * exp(a)) stretched back, as a softmax; None if it is not that.

    The two may hold their axes in different orders; `c` is constant along the summed axes. Where the sum takes
    another stretch of the same data (`exp(x[j])/Sum(exp(x[k]), (k, 0, n-1))`, with `j` beyond `n`), it is
    `exp(a - logsumexp)`.
    """
    builder = a.builder
    power, axes, path = peeled(builder, b.id)
    if not _is_reciprocal(builder, power):
        return None
    total, inner, lower = peeled(builder, builder.operands[power][0])
    if builder.nodes[total].op is not sum_:
        return None
    split = _weighted_exponential(builder, total)
    if split is None:
        return None
    exponent, weights = split
    along = builder.nodes[total].attributes["axes"]
    places = tuple(None if k is None else inner[k] for k in axes)  # axes of `b` -> those of the sum
    found = _assigned(builder, a, exponent, along, places)
    if found is None:
        return None
    chosen, whole = found
    result: Value
    if whole:
        result = softmax(a, axes=chosen)
    else:
        result = exp(a - _replayed(builder, (*path, *lower), logsumexp(Value(builder, exponent), axes=along)))
    if not weights:
        return result
    rest = Value(builder, weights[0]) if len(weights) == 1 else mul(*(Value(builder, w) for w in weights))
    for axis in sorted(along):  # leftmost first: the others keep their distance from the right
        rest = squeeze(rest, axis=axis)
    scaled: Value = result * _replayed(builder, (*path, *lower), rest) ** -1
    return scaled


def _is_reciprocal(builder: Any, v: int) -> bool:
    if builder.nodes[v].op is not pow_:
        return False
    exponent = peeled(builder, builder.operands[v][1])[0]
    return builder.nodes[exponent].op is const and builder.nodes[exponent].attributes["value"] == -1


def _weighted_exponential(builder: Builder, total: int) -> tuple[int, list[int]] | None:
    """What `total` sums: the exponent of its only exponential, and factors that are constant along its axes."""
    (summed,) = builder.operands[total]
    factors = builder.operands[summed] if builder.nodes[summed].op is mul else (summed,)
    along = builder.nodes[total].attributes["axes"]
    exponent, weights = None, []
    for u in factors:
        if all(builder.nodes[u].type.shape[axis] == 1 for axis in along):
            weights.append(u)
        elif builder.nodes[u].op is exp and exponent is None:
            (exponent,) = builder.operands[u]
        else:
            return None
    return None if exponent is None else (exponent, weights)


def _assigned(
    builder: Builder, a: Value, exponent: int, along: tuple[int, ...], places: tuple[int | None, ...]
) -> tuple[tuple[int, ...], bool] | None:
    """The axes of `a` that the sum took, and whether it took them whole; None if `exponent` is not `a`."""
    rank = builder.nodes[exponent].type.rank
    kept = [k for k in range(rank) if k - rank not in along]
    shape, other = a.shape, builder.nodes[exponent].type.shape
    free = [p for p, k in enumerate(places) if k is None and shape[p] != 1]
    names: list[Any] = [None] * rank
    for p, k in enumerate(places):
        if k is not None:
            names[kept[k]] = p
    summed = [s for s in along if other[s] != 1]
    if len(free) != len(summed) or len(free) > MOST_AXES:
        return None
    for order in permutations(free):
        for s, p in zip(summed, order, strict=True):
            names[s] = p
        if alike(builder, (a.id, tuple(range(len(shape)))), (exponent, tuple(names))):
            axes = tuple(sorted(p - len(shape) for p in free))
            return axes, all(shape[p] == other[k] for k, p in enumerate(names) if p is not None)
    return None


def _replayed(builder: Builder, path: tuple[int, ...], value: Value) -> Value:
    """The movements at `path`, outermost first, made on `value`, whose axes may be shorter than those they were on."""
    for v in reversed(path):
        node = builder.nodes[v]
        if node.op is broadcast:
            shape = node.attributes["shape"]
            value = broadcast(value, shape=shape[max(len(shape) - value.type.rank, 0) :])
        else:
            value = value.apply(node.op, (value,), node.attributes)
    return value


def log_of_softmax(a: Value, axes: tuple[int, ...]) -> Value:
    """log(softmax(a)) without rounding to 0 first."""
    answer: Value = a - restore(logsumexp(a, axes=axes), axes)
    return answer


def without_shift(a: Value, axes: tuple[int, ...]) -> Value | None:
    """softmax(a) of a sum without the terms that are constant along `axes`; None where there are none."""
    builder = a.builder
    terms = [Value(builder, u) for u in builder.operands[a.id]]
    kept = [t for t in terms if any(t.shape[axis] != 1 for axis in axes)]
    if len(kept) in (0, len(terms)):
        return None
    rest = kept[0]
    for term in kept[1:]:
        rest = rest + term
    if rest.shape != a.shape:
        return None
    answer: Value = softmax(rest, axes=axes)
    return answer


def sum_of_simplex(a: Value, axes: tuple[int, ...]) -> Any:
    """The sum of what adds up to one along some of `axes`, or of a multiple; None where nothing is known."""
    builder = a.builder
    factors = [Value(builder, u) for u in (builder.operands[a.id] if a.node.op is mul else (a.id,))]
    for k, factor in enumerate(factors):
        others = factors[:k] + factors[k + 1 :]
        for group in _simplex_groups(factor):
            constant_there = all(other.shape[axis] == 1 for axis in group for other in others)
            if group.issubset(axes) and constant_there:
                return _sum_of_rest(a, others, group, axes)
    return None


def _sum_of_rest(a: Value, others: list[Value], group: frozenset[int], axes: tuple[int, ...]) -> Any:
    """The sum over `axes` of the product of `others`, constant along `group`, and a factor that adds up to 1 there."""
    left = [axis for axis in axes if axis not in group]
    if not others:
        count: Size = 1
        for axis in left:
            count = count * a.shape[axis]
        return count if isinstance(count, int) else a.apply(size, (), {"size": count})
    rest = others[0] if len(others) == 1 else mul(*others)
    if left:
        shape = tuple(1 if k - a.type.rank in group else d for k, d in enumerate(a.shape))
        return sum_(with_shape(rest, shape), axes=axes)
    for axis in sorted(group):
        rest = squeeze(rest, axis=axis)
    return rest


def _simplex_groups(a: Value) -> list[frozenset[int]]:
    """The sets of axes (negative) along which `a` adds up to one."""
    base, places, _ = peeled(a.builder, a.id)
    rank = a.builder.nodes[base].type.rank
    found = []
    for due in _simplex_axes(a.builder, base):
        group = frozenset(p - a.type.rank for p, k in enumerate(places) if k is not None and k - rank in due)
        if len(group) == len(due):
            found.append(group)
    return found


def _simplex_axes(builder: Builder, v: int) -> list[frozenset[int]]:
    """The sets of axes (negative) over which node `v` sums to one."""
    node = builder.nodes[v]
    if node.op is softmax:
        return [frozenset(node.attributes["axes"])]
    if node.op is not input_:
        return []
    entries = (entry.partition(":") for entry in node.attributes.get("known", ()))
    return [frozenset((int(axis),)) for fact, _, axis in entries if fact in ("simplex", "one_hot") and axis]


def log_of_weighted_sum(weight: Value, a: Value, axes: tuple[int, ...]) -> Value:
    """log(sum(weight * exp(a))) for positive weights."""
    short = all(weight.shape[axis] == 1 for axis in axes)
    if not short:
        answer: Value = logsumexp(a + log(weight), axes=axes)
        return answer
    for axis in sorted(axes):
        weight = squeeze(weight, axis=axis)
    outside: Value = log(weight) + logsumexp(a, axes=axes)
    return outside
