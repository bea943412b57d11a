"""Kronecker deltas: identity matrices and one-hot rows where they stand alone.

Where a sum holds one, it renames an index, or makes the sum a gather or a sum by segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp
from sympy.functions.special.tensor_functions import eval_levicivita

from sym2tf.frontend.context import Affine, Context, Index, Lowered, Scope
from sym2tf.frontend.handlers import Handler, rewritten
from sym2tf.frontend.ranges import NotAffineError, affine, bounds, plus
from sym2tf.frontend.subscripts import affine_value, in_order, number, taken
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, cast, mul
from sym2tf.ops.assembly import eye
from sym2tf.ops.gathering import one_hot, scattered
from sym2tf.ops.indexing import sum_, transpose
from sym2tf.ops.logic import and_, equal, less_equal, select
from sym2tf.ops.piecewise_linear import max_, min_
from sym2tf.ops.values import Value, apply, constant, with_shape

Place = Affine | Lowered  # the value that an index must have: of other indices, or integer data
Solution = tuple[Index, Place]


def _delta(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if len(expr.args) != 2:
        return context.unsupported(expr, None, "a delta with a range: leave the range out, sums have their own")
    sides = [_affine(a, context, scope) for a in expr.args]
    solutions: list[Solution] = []
    value = None
    if sides[0] is not None and sides[1] is not None:
        difference = plus(sides[0], sides[1], -1)
        solutions = _solutions(difference)
        value = _identity(context, difference)
    else:
        for side, other in ((sides[0], xs[1]), (sides[1], xs[0])):
            found = _unknown(side)
            if found is None or found[0] in other.axes:  # as in KroneckerDelta(i, g[i])
                continue
            if other.value.type.kind is Kind.INTEGER:
                index, shift = found
                place = other if shift == 0 else context.combine(add, [other, number(context, -shift)])
                solutions.append((index, place))
                value = _one_hot(context, index, place)
    if value is None:
        same = context.combine(equal, xs)
        value = Lowered(cast(same.value, kind=Kind.REAL), same.axes, same.depth)
    context.deltas[value.value.id, value.axes] = solutions
    return value


def _affine(expr: Any, context: Context, scope: Scope) -> Affine | None:
    """A side that is made of indices, numbers and sizes."""
    symbols = [s for s in expr.free_symbols if isinstance(s, sp.Symbol | sp.Idx)]
    if not all(scope.find(s) is not None or s in context.sizes for s in symbols):
        return None
    try:
        found = affine(expr, context, scope)
        bounds(found)
    except NotAffineError:
        return None
    return found


def _unknown(side: Affine | None) -> tuple[Index, Any] | None:
    """The index and the shift of a side that is an index plus a size."""
    if side is None or list(side.indices.values()) != [1]:
        return None
    return next(iter(side.indices)), side.rest


def _solutions(difference: Affine) -> list[Solution]:
    """What each index must be for `difference` to be 0."""
    found: list[Solution] = []
    for index, c in difference.indices.items():
        if c in (1, -1):
            rest = plus(difference, Affine({index: c}, 0), -1)
            found.append((index, Affine({i: -c * d for i, d in rest.indices.items()}, -c * rest.rest)))
    return found


def _identity(context: Context, difference: Affine) -> Lowered | None:
    """The identity matrix, where two indices of the same rectangular range meet."""
    if sorted(difference.indices.values(), key=str) != [-1, 1]:
        return None
    first, second = sorted(difference.indices, key=lambda i: i.order)
    shift = difference.indices[first] * difference.rest  # first = second - shift
    if first.dependent or second.dependent or (first.start + shift, first.extent) != (second.start, second.extent):
        return None
    value = apply(context.builder, eye, (), {"size": first.extent})
    return Lowered(value, (first, second), max(first.depth, second.depth))


def _one_hot(context: Context, index: Index, place: Lowered) -> Lowered:
    where = _minus(context, place, index.start)
    hot = in_order(one_hot(where.value, size=index.extent), [*place.axes, index])
    return Lowered(hot.value, hot.axes, max(hot.depth, place.depth))


def _minus(context: Context, place: Lowered, start: Any) -> Lowered:
    return place if start == 0 else context.combine(add, [place, number(context, -start)])


def contracted(context: Context, factors: list[Lowered], bound: list[Index]) -> tuple[list[Lowered], list[Index]]:
    """The factors of a sum without the deltas that can be solved for one of its indices, and the indices that remain.

    `Sum(KroneckerDelta(g[i], k)*w[k], (k, ...))` is a gather; a sum over i is one by segments.
    """
    again = True
    while again:
        again = False
        for factor in factors:
            solution = _solvable(context, factor, factors, bound)
            if solution is not None:
                index, place = solution
                others = [f for f in factors if f is not factor]
                touching = [f for f in others if index in f.axes]
                factors = [f for f in others if index not in f.axes]
                factors.append(_picked(context, touching, index, place))
                bound = [b for b in bound if b is not index]
                again = True
                break
    for factor in factors:
        for index, place in context.deltas.get((factor.value.id, factor.axes), ()):
            summed = _segments(context, [f for f in factors if f is not factor], bound, index, place)
            if summed is not None:
                return summed, []
    return factors, bound


def _solvable(context: Context, factor: Lowered, factors: Sequence[Lowered], bound: Sequence[Index]) -> Solution | None:
    for index, place in context.deltas.get((factor.value.id, factor.axes), ()):
        tails = any(f.tail for f in factors if f is not factor and index in f.axes)
        if index in bound and not tails:
            return index, place
    return None


def _indices_of(place: Place) -> tuple[Index, ...]:
    return tuple(place.indices) if isinstance(place, Affine) else place.axes


def _inside(place: Place, index: Index) -> bool:
    """Whether a place is known to lie in the range of an index."""
    if not isinstance(place, Affine):
        return False
    low, high = bounds(place)
    spare = low - index.start, index.last - high
    return all(isinstance(s, int) and s >= 0 for s in spare)


def _within(context: Context, place: Place, index: Index) -> tuple[Lowered, Lowered | None]:
    """Where on the axis of an index a place is, moved into it, and the condition that it was there."""
    value = affine_value(context, place) if isinstance(place, Affine) else place
    if _inside(place, index):
        return _minus(context, value, index.start), None
    first, last = number(context, index.start), number(context, index.last)
    there = context.combine(
        and_, [context.combine(less_equal, [first, value]), context.combine(less_equal, [value, last])]
    )
    value = context.combine(min_, [context.combine(max_, [value, first]), last])
    return _minus(context, value, index.start), there


def _picked(context: Context, factors: Sequence[Lowered], index: Index, place: Place) -> Lowered:
    """The product of factors where an index has the value `place`; zero where its range lacks that."""
    inside = _inside(place, index)
    where, there = (None, None) if inside else _within(context, place, index)
    if not factors:
        return context.number(1) if there is None else _one_where(there)
    at = Affine(place.indices, place.rest - index.start) if isinstance(place, Affine) else place
    alike: dict[tuple[Index, ...], list[Lowered]] = {}  # products of others would be larger than what is picked of them
    for factor in factors:
        alike.setdefault(factor.axes, []).append(factor)
    bodies = [with_tensor_axis(product_of(context, same), index) for same in alike.values()]
    value = product_of(context, [taken(context, body, [at if where is None else where]) for body in bodies])
    return value if there is None else context.combine(select, [there, value, context.number(0)])


def product_of(context: Context, factors: Sequence[Lowered]) -> Lowered:
    """The product of one or more factors."""
    return context.combine(mul, factors) if len(factors) > 1 else factors[0]


def _one_where(condition: Lowered) -> Lowered:
    return Lowered(cast(condition.value, kind=Kind.REAL), condition.axes, condition.depth)


def with_tensor_axis(body: Lowered, index: Index) -> Lowered:
    """A scalar value with the axis of an index as its tensor axis, in full length."""
    k, rank = body.axes.index(index), len(body.axes)
    shape = tuple(index.extent if a is index else d for a, d in zip(body.axes, body.value.shape, strict=True))
    value = with_shape(body.value, shape)
    if k != rank - 1:
        value = transpose(value, axes=(*(j - rank for j in range(rank) if j != k), k - rank))
    return Lowered(value, tuple(a for a in body.axes if a is not index), body.depth)


def _segments(
    context: Context, factors: list[Lowered], bound: list[Index], index: Index, place: Place
) -> list[Lowered] | None:
    """A sum in which a delta says where each term belongs: the terms are added up by segments."""
    summed = _indices_of(place)
    inner = [f for f in factors if set(f.axes) & set(bound)]
    if index in bound or not summed or not set(summed) <= set(bound):
        return None
    if any(index in f.axes or f.tail for f in inner):
        return None
    body = product_of(context, inner) if inner else context.number(1)
    body = rectangular(context, body, [b for b in bound if b not in summed])
    where, there = _within(context, place, index)
    if there is not None:
        body = context.combine(select, [there, body, context.number(0)])
    own = [a for a in body.axes if a not in where.axes]
    axes = [*own, *where.axes]
    missing = [a for a in where.axes if a not in body.axes]
    if missing:
        body = context.combine(mul, [body, _ones(context, missing)])
    lengths = [body.value.shape[body.axes.index(a)] if a in own else a.extent for a in axes]
    order = tuple(body.axes.index(a) - len(axes) for a in axes)
    value = body.value
    if order != tuple(range(-len(axes), 0)):
        value = transpose(value, axes=order)
    full = with_shape(value, tuple(lengths))
    place_value = with_shape(where.value, tuple(a.extent for a in where.axes))
    added = in_order(scattered(full, place_value, index.extent), [*own, index])
    total = Lowered(added.value, added.axes, max(added.depth, body.depth, where.depth))
    return [*(f for f in factors if f not in inner), total]


def _ones(context: Context, axes: Sequence[Index]) -> Lowered:
    ordered = tuple(sorted(axes, key=lambda a: a.order))
    value = with_shape(constant(context.builder, 1), (1,) * len(ordered))
    return Lowered(value, ordered, max(a.depth for a in ordered))


def rectangular(context: Context, body: Lowered, bound: Sequence[Index]) -> Lowered:
    """The sum over indices whose ranges depend on nothing."""
    found = reduced(sum_, body, bound)
    value = found.value
    for index in bound:
        if index not in body.axes:
            value = mul(value, number(context, index.extent).value)
    return Lowered(value, found.axes, found.depth)


def reduced(op: Callable[..., Value], body: Lowered, bound: Sequence[Index]) -> Lowered:
    """A reduction over those of `bound` that the body depends on."""
    value = body.value
    places = tuple(k - value.type.rank for k, a in enumerate(body.axes) if a in bound)
    if places:
        front, tail = value.shape[: len(body.axes)], value.shape[len(body.axes) :]
        full = (*(a.extent if a in bound else d for a, d in zip(body.axes, front, strict=True)), *tail)
        value = op(with_shape(value, full), axes=places)
    return Lowered(value, tuple(a for a in body.axes if a not in bound), body.depth)


HANDLERS: dict[Any, Handler] = {
    sp.KroneckerDelta: Handler(_delta, children=lambda expr: expr.args[:2]),
    sp.LeviCivita: rewritten(lambda expr: eval_levicivita(*expr.args)),
}
