"""Index notation: elements of data, sums, products and extremes over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp

from sym2tf.frontend import deltas
from sym2tf.frontend.binders import limits
from sym2tf.frontend.context import Affine, Context, Index, Lowered, Scope
from sym2tf.frontend.deltas import contracted, product_of, rectangular, reduced, with_tensor_axis
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.ranges import bounds, plus
from sym2tf.frontend.subscripts import between, end_value, mask, number, subscripted, taken
from sym2tf.frontend.windows import correlated
from sym2tf.notation import MaxOver, MinOver
from sym2tf.ops.arithmetic import add, mul, pow_
from sym2tf.ops.contraction import prod, reduce_max, reduce_min
from sym2tf.ops.gathering import cumsum
from sym2tf.ops.indexing import pad, transpose
from sym2tf.ops.logic import less_equal, select
from sym2tf.ops.piecewise_linear import max_
from sym2tf.ops.values import with_shape


def _element(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if expr in context.types:
        return Lowered(context.input(expr))
    base = Lowered(context.input(expr.base))
    if base.tail != len(expr.indices):
        return context.unsupported(expr, None, f"{len(expr.indices)} subscripts where {expr.base} has {base.tail} axes")
    return subscripted(context, expr, base, expr.indices, scope)


def _indices(context: Context, expr: Any, scope: Scope) -> list[Index]:
    """The indices that a sum or product binds, innermost first."""
    inner = context.scopes[id(expr), scope]
    return [inner.indices[symbol] for symbol, _, _ in limits(expr)]


def _closed(found: Lowered, scope: Scope) -> Lowered:
    """A value in which the indices of a scope are bound, so that it can be shared outside of that one."""
    return Lowered(found.value, found.axes, max((min(found.depth, scope.depth), *(a.depth for a in found.axes))))


def _sum(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    bound = _indices(context, expr, scope)
    factors = list(xs)
    if any(index.dependent for index in bound):
        factors = _nested(context, factors, [index for index in bound if index.dependent])
        bound = [index for index in bound if not index.dependent]
    factors, bound = correlated(context, *contracted(context, factors, bound))
    return _closed(rectangular(context, product_of(context, factors), bound), scope)


def _nested(context: Context, factors: list[Lowered], bound: Sequence[Index]) -> list[Lowered]:
    """The factors of a sum after summing over indices whose ranges depend on outer ones, innermost first."""
    for index in bound:
        inner = [f for f in factors if index in f.axes]
        factors = [f for f in factors if index not in f.axes]
        if not inner:
            factors.append(_count(context, index))
            continue
        product = product_of(context, inner)
        end = _only_moving_end(index)
        if end is not None and not product.tail and not set(end.indices) & set(product.axes):
            factors.append(_running_sum(context, product, index))
            continue
        product = context.combine(select, [mask(context, index), product, context.number(0)])
        factors.append(rectangular(context, product, [index]))
    return factors


def _ends(context: Context, index: Index) -> tuple[Lowered, Lowered]:
    """The first and the last value of a dependent index that count."""
    low = end_value(context, index.lower) if index.lower is not None else number(context, index.start)
    high = end_value(context, index.upper) if index.upper is not None else number(context, index.last)
    return low, high


def _some(context: Context, index: Index) -> Lowered:
    """Whether any value of a dependent index counts."""
    return context.combine(less_equal, _ends(context, index))


def _count(context: Context, index: Index) -> Lowered:
    """How many values of a dependent index count."""
    low, high = _ends(context, index)
    count = context.combine(add, [high, context.combine(mul, [low, context.number(-1)]), context.number(1)])
    return context.combine(max_, [count, context.number(0)])


def _only_moving_end(index: Index) -> Affine | None:
    """The end of a range that outer indices move while the other one stays where it is."""
    ends = [end for end in (index.lower, index.upper) if end is not None]
    return ends[0] if len(ends) == 1 and isinstance(ends[0], Affine) else None


def _running_sum(context: Context, body: Lowered, index: Index) -> Lowered:
    """A sum whose range grows or shrinks with an index outside of the body: of the running sums, one for each value."""
    tensor = with_tensor_axis(body, index)
    upwards = isinstance(index.upper, Affine)
    sums = cumsum(tensor.value, axis=-1, reverse=not upwards, exclusive=False)
    place: Affine | Lowered
    if isinstance(index.upper, Affine):
        place = plus(index.upper, Affine({}, index.start), -1)  # the last one that counts
        low, _ = bounds(place)
        if not (isinstance(low, int) and low >= 0):  # none may count: a zero in front of the sums
            sums = pad(sums, axis=-1, before=1, after=0)
            place = Affine(place.indices, place.rest + 1)
            if not (isinstance(low, int) and low >= -1):
                place = between(context, place, 0, index.extent)
    else:
        assert isinstance(index.lower, Affine)
        place = plus(index.lower, Affine({}, index.start), -1)
        spare = index.extent - 1 - bounds(place)[1]
        if not (isinstance(spare, int) and spare >= 0):
            sums = pad(sums, axis=-1, before=0, after=1)
            if not (isinstance(spare, int) and spare >= -1):
                place = between(context, place, 0, index.extent)
    return taken(context, Lowered(sums, tensor.axes, tensor.depth), [place])


def _product(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    bound = _indices(context, expr, scope)
    (body,) = xs
    if body.tail:
        return context.unsupported(expr, None, "a product of matrices: write the factors, or A**k")
    for index in bound:
        if index not in body.axes:
            count = _count(context, index) if index.dependent else number(context, index.extent)
            body = context.combine(pow_, [body, count])
            continue
        if index.dependent:
            body = context.combine(select, [mask(context, index), body, context.number(1)])
        k, rank = body.axes.index(index), body.value.type.rank
        order = [*(j for j in range(rank) if j != k), k]
        value = body.value if k == rank - 1 else transpose(body.value, axes=tuple(j - rank for j in order))
        value = prod(with_shape(value, (*value.shape[:-1], index.extent)), axis=-1)
        body = Lowered(value, tuple(a for a in body.axes if a is not index), body.depth)
    return _closed(body, scope)


def _extreme(op: Any, nothing: float) -> Callable[[Context, Any, Scope, list[Lowered]], Lowered]:
    """The handler of a reduction whose value over nothing is infinite."""

    def build(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
        bound = _indices(context, expr, scope)
        (body,) = xs
        for index in bound:
            if index.dependent:
                there = _some(context, index) if index not in body.axes else mask(context, index)
                body = context.combine(select, [there, body, context.number(nothing)])
        return _closed(reduced(op, body, bound), scope)

    return build


def _body(expr: Any) -> tuple[Any, ...]:
    return (expr.function,)


def _factors(expr: Any) -> tuple[Any, ...]:
    """The factors of what is summed, one by one: some may not depend on the index, some are deltas."""
    function = expr.function
    return tuple(function.args) if type(function) is sp.Mul else (function,)


HANDLERS: dict[Any, Handler] = deltas.HANDLERS | {
    sp.Indexed: Handler(_element, children=lambda expr: ()),
    sp.Sum: Handler(_sum, children=_factors, opens=True),
    sp.Product: Handler(_product, children=_body, opens=True),
    MaxOver: Handler(_extreme(reduce_max, -math.inf), children=_body, opens=True),
    MinOver: Handler(_extreme(reduce_min, math.inf), children=_body, opens=True),
}
