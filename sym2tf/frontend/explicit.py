"""Matrices that are written out entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp
from sympy.matrices.expressions.companion import CompanionMatrix

from sym2tf.errors import ShapeError
from sym2tf.frontend.context import Context, Lowered, Scope, common_axes, depth_of
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.numbers import exact_number
from sym2tf.frontend.tensors import alike, identity, ones
from sym2tf.ir.types import Kind
from sym2tf.ops.assembly import Numbers, reshape, stack, table
from sym2tf.ops.indexing import expand
from sym2tf.ops.values import apply, with_kind


def assembled(context: Context, entries: Sequence[Lowered], shape: tuple[int, ...]) -> Lowered:
    """A tensor of `shape` from its entries in row-major order, which are scalars."""
    if any(x.tail for x in entries):
        raise ShapeError("an entry is a matrix itself: write BlockMatrix")
    values = alike(entries, 0)
    if all(x.type.kind is not Kind.BOOLEAN for x in values):
        values = [with_kind(x, Kind.REAL) for x in values]
    axes, depth = common_axes(entries), depth_of(entries)
    if len(values) == 1:
        value = values[0]
        for _ in shape:
            value = expand(value, axis=-1)
        return Lowered(value, axes, depth)
    value = apply(context.builder, stack, values, {"axis": -1})
    return Lowered(reshape(value, rank=1, shape=shape), axes, depth)


def numbers(context: Context, entries: Sequence[Any], shape: tuple[int, ...]) -> Lowered | None:
    """A tensor of plain numbers as one node, in row-major order; None where an entry is something else."""
    values = Numbers(v for v in (exact_number(e) for e in entries if e.is_Number) if v is not None)
    if len(values) < len(entries):
        return None
    return Lowered(apply(context.builder, table, (), {"values": values, "shape": shape, "kind": Kind.REAL}))


def written_out(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    """An explicit matrix; one of numbers is one node."""
    shape = (int(expr.rows), int(expr.cols))
    if xs:
        return assembled(context, xs, shape)
    entries = expr.flat()
    if all(e == entries[0] for e in entries):
        number = exact_number(entries[0]) if entries else 0
        if number is not None:
            return ones(context, shape, number)
    if expr.is_square and expr == sp.eye(shape[0]):
        return identity(context, shape[0])
    found = numbers(context, entries, shape)
    return context.unsupported(expr, None, "entries that are no real numbers") if found is None else found


def entries_to_lower(expr: Any) -> Sequence[Any]:
    """The entries of an explicit matrix, or nothing where all are plain numbers."""
    entries: Sequence[Any] = expr.flat()
    return () if all(e.is_Number and e.is_extended_real for e in entries) else entries


def _companion(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return xs[0]


HANDLERS: dict[Any, Handler] = {
    sp.MatrixBase: Handler(written_out, children=entries_to_lower),
    CompanionMatrix: Handler(_companion, children=lambda expr: (expr.as_explicit(),)),
}
