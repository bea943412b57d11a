"""Index notation: elements of data, sums and products over them."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import sympy as sp

from sym2tf.frontend.context import Context, Index, Lowered, Scope
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.ranges import NotAffineError, affine
from sym2tf.frontend.scan import limits
from sym2tf.ir.dims import Size
from sym2tf.ops.arithmetic import mul, pow_
from sym2tf.ops.contraction import einsum, prod
from sym2tf.ops.indexing import slice_, squeeze, sum_, transpose
from sym2tf.ops.leaves import size
from sym2tf.ops.values import Value, apply, constant, with_shape


def _element(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if expr in context.types:
        return Lowered(context.input(expr))
    value = context.input(expr.base)
    if value.type.rank != len(expr.indices):
        return context.unsupported(
            expr, None, f"{len(expr.indices)} subscripts where {expr.base} has {value.type.rank} axes"
        )
    return element_of(context, expr, Lowered(value), expr.indices, scope)


def element_of(context: Context, expr: Any, base: Lowered, subscripts: Sequence[Any], scope: Scope) -> Lowered:
    """The element of a tensor at `subscripts`, one for each tensor axis.

    Args:
        context: of the lowering.
        expr: the element, for messages.
        base: the tensor; its index axes stay in front.
        subscripts: what was written.
        scope: where.
    """
    value = base.value
    axes: list[Index | None] = list(base.axes)
    for k, subscript in enumerate(subscripts):
        axis = k - len(subscripts)
        try:
            indices, rest = affine(subscript, context, scope)
        except NotAffineError as reason:
            return context.unsupported(expr, None, f"the subscript {subscript}: {reason}")
        if not indices:
            if isinstance(rest, int) and rest < 0:
                return context.unsupported(expr, None, _below_zero(f"the subscript {subscript} is"))
            value = _cut(value, axis, rest, 1)
            axes.append(None)
            continue
        (index, coefficient), *more = indices.items()
        if more or coefficient != 1:
            only = "only one index with coefficient 1 plus a size is supported yet"
            return context.unsupported(expr, None, f"the subscript {subscript}: {only}")
        start = index.start + rest
        if isinstance(start, int) and start < 0:
            return context.unsupported(expr, None, _below_zero(f"the subscript {subscript} starts at {start},"))
        value = _cut(value, axis, start, index.extent)
        axes.append(index)
    for k in range(len(axes) - 1, -1, -1):
        if axes[k] is None:
            value = squeeze(value, axis=k - len(axes))
            del axes[k]
    found = _in_order(value, [a for a in axes if a is not None])
    return Lowered(found.value, found.axes, max(found.depth, base.depth))


def _below_zero(what: str) -> str:
    return f"{what} negative: indices are zero-based, the first element is [0] and the last one [n - 1]"


def _cut(value: Value, axis: int, start: Size, size: Size) -> Value:
    if start == 0 and value.shape[axis] == size:
        return value
    cut: Value = slice_(value, axis=axis, start=start, size=size)
    return cut


def _in_order(value: Value, axes: list[Index]) -> Lowered:
    """The axes brought into their common order, an index that stands on several of them once: a diagonal."""
    ordered = sorted(set(axes), key=lambda a: a.order)
    if len(ordered) < len(axes):
        value = with_shape(value, tuple(a.extent for a in axes))
        letter = dict(zip(ordered, ascii_lowercase, strict=False))
        inputs, output = ("".join(letter[a] for a in axes),), "".join(letter[a] for a in ordered)
        value = einsum(value, inputs=inputs, output=output)
    elif ordered != axes:
        value = transpose(value, axes=tuple(axes.index(a) - len(axes) for a in ordered))
    return Lowered(value, tuple(ordered), max((a.depth for a in axes), default=0))


def _indices(context: Context, expr: Any, scope: Scope) -> list[Index] | None:
    """The indices that a sum or product binds, innermost first; None where its range was refused."""
    inner = context.scopes.get((id(expr), scope))
    return None if inner is None else [inner.indices[symbol] for symbol, _, _ in limits(expr)]


def _count(context: Context, extent: Size) -> Value:
    if isinstance(extent, int):
        return constant(context.builder, extent)
    return apply(context.builder, size, (), {"size": extent})


def _sum(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    bound = _indices(context, expr, scope)
    (body,) = xs
    if bound is None:
        return body
    value = body.value
    places = tuple(k - value.type.rank for k, a in enumerate(body.axes) if a in bound)
    if places:
        front, tail = value.shape[: len(body.axes)], value.shape[len(body.axes) :]
        full = (*(a.extent if a in bound else d for a, d in zip(body.axes, front, strict=True)), *tail)
        value = sum_(with_shape(value, full), axes=places)
    for index in bound:
        if index not in body.axes:
            value = mul(value, _count(context, index.extent))
    axes = tuple(a for a in body.axes if a not in bound)
    return Lowered(value, axes, min(body.depth, scope.depth))


def _product(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    bound = _indices(context, expr, scope)
    (body,) = xs
    if bound is None:
        return body
    value, axes = body.value, list(body.axes)
    for index in bound:
        if index not in axes:
            value = pow_(value, _count(context, index.extent))
            continue
        k, rank = axes.index(index), len(axes)
        if k != rank - 1:
            order = [*(j for j in range(rank) if j != k), k]
            value = transpose(value, axes=tuple(j - rank for j in order))
        axes.remove(index)
        value = prod(with_shape(value, (*value.shape[:-1], index.extent)), axis=-1)
    return Lowered(value, tuple(axes), min(body.depth, scope.depth))


def _body(expr: Any) -> tuple[Any, ...]:
    return (expr.function,)


HANDLERS: dict[Any, Handler] = {
    sp.Indexed: Handler(_element, children=lambda expr: ()),
    sp.Sum: Handler(_sum, children=_body, opens=True),
    sp.Product: Handler(_product, children=_body, opens=True),
}
