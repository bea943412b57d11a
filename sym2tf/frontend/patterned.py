"""Matrices with a pattern: blocks, diagonals, Kronecker products, slices, permutations, functions of the subscripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction
from sympy.matrices.expressions.permutation import MatrixPermute
from sympy.matrices.expressions.slice import MatrixSlice

from sym2tf.errors import ShapeError
from sym2tf.frontend.context import Context, Lowered, Scope, aligned, common_axes, depth_of
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.matrix_parts import body_of_function
from sym2tf.frontend.ranges import NotAffineError, affine
from sym2tf.frontend.tensors import alike, contracted, full, identity, ones
from sym2tf.ir.dims import Dim, Size
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import mul
from sym2tf.ops.assembly import Numbers, concat, reshape, table
from sym2tf.ops.gathering import gathered, stride
from sym2tf.ops.indexing import expand, pad, slice_, squeeze
from sym2tf.ops.values import Value, apply, with_shape

_PAIRS = "abcdefghijklmnop"


def _with(x: Lowered, value: Value) -> Lowered:
    return Lowered(value, x.axes, x.depth)


# Blocks ------------------------------------------------------------------------------------------------------------


def joined(context: Context, rows: list[list[Lowered]]) -> Lowered:
    """A matrix from rows of blocks."""
    blocks = [block for row in rows for block in row]
    values = iter(alike(blocks, 2))
    bands = [[next(values) for _ in row] for row in rows]
    strips = [apply(context.builder, concat, band, {"axis": -1}) for band in bands]
    value = strips[0] if len(strips) == 1 else apply(context.builder, concat, strips, {"axis": -2})
    return Lowered(value, common_axes(blocks), depth_of(blocks))


def _blocks(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    rows, columns = expr.blockshape
    return joined(context, [xs[k * columns : (k + 1) * columns] for k in range(rows)])


def _block_diagonal(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    shapes = [x.value.shape[-2:] for x in xs]
    return joined(
        context,
        [
            [x if j == k else ones(context, (shapes[k][0], shapes[j][1]), 0) for j in range(len(xs))]
            for k, x in enumerate(xs)
        ],
    )


def _kronecker(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if 2 * len(xs) > len(_PAIRS):
        raise ShapeError(f"a Kronecker product of {len(xs)} factors, more than {len(_PAIRS) // 2}")
    pairs = [_PAIRS[2 * k : 2 * k + 2] for k in range(len(xs))]
    outer = contracted(
        context, list(zip(xs, pairs, strict=True)), "".join(p[0] for p in pairs) + "".join(p[1] for p in pairs)
    )
    rows: Size = 1
    columns: Size = 1
    for x in xs:
        rows, columns = rows * x.value.shape[-2], columns * x.value.shape[-1]
    return _with(outer, reshape(outer.value, rank=2 * len(xs), shape=(rows, columns)))


# Diagonals ---------------------------------------------------------------------------------------------------------


def diagonal(context: Context, x: Lowered) -> Lowered:
    """The diagonal of a matrix, square or not, as one tensor axis."""
    value = x.value
    rows, columns = value.shape[-2:]
    surplus = rows - columns
    if not isinstance(surplus, int):
        raise ShapeError(f"which of {rows} and {columns} is the smaller, the length of the diagonal, is not known")
    if surplus:
        axis, length = (-2, columns) if surplus > 0 else (-1, rows)
        value = slice_(value, axis=axis, start=0, size=length)
    return contracted(context, [(_with(x, value), "aa")], "a")


def on_diagonal(context: Context, x: Lowered) -> Lowered:
    """The square matrix with a vector, one tensor axis, on its diagonal."""
    return contracted(context, [(identity(context, x.value.shape[-1]), "ab"), (x, "a")], "ab")


def _diagonal_of(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    found = diagonal(context, xs[0])
    return _with(found, expand(found.value, axis=-1))


def _diagonal_matrix(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    rows, columns = xs[0].value.shape[-2:]
    if rows == columns:
        return context.combine(mul, [xs[0], identity(context, rows)])
    square = on_diagonal(context, diagonal(context, xs[0]))
    length = square.value.shape[-1]
    axis, missing = (-1, columns - length) if rows == length else (-2, rows - length)
    return _with(square, pad(square.value, axis=axis, before=0, after=missing))


def _diag(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    rows, columns = xs[0].value.shape[-2:]
    if 1 not in (rows, columns):
        raise ShapeError(f"a diagonal matrix is made of a vector, not of {rows} x {columns}")
    return on_diagonal(context, _with(xs[0], squeeze(xs[0].value, axis=-1 if columns == 1 else -2)))


# Parts and orders --------------------------------------------------------------------------------------------------


def _slice(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    value = xs[0].value
    for axis, part in ((-2, expr.rowslice), (-1, expr.colslice)):
        try:
            (moving, start), (_, stop) = (affine(end, context, scope) for end in part[:2])
            moves = moving or affine(part[1], context, scope)[0]
        except NotAffineError as reason:
            return context.unsupported(expr, None, f"the slice {part[0]}:{part[1]}: {reason}")
        if moves or not part[2].is_Integer:
            return context.unsupported(expr, None, f"the slice {part[0]}:{part[1]}:{part[2]} moves with an index")
        value = _cut(context, value, axis, start, stop, int(part[2]))
    return _with(xs[0], value)


def _cut(context: Context, value: Value, axis: int, start: Size, stop: Size, step: int) -> Value:
    length, span = value.shape[axis], stop - start
    size = len(range(0, span, step)) if isinstance(span, int) else _quotient(span, step)
    last = start + (size - 1) * step
    for inside in (start, last, length - 1 - start, length - 1 - last):
        if isinstance(inside, int) and inside < 0:
            raise ShapeError(f"the slice {start}:{stop}:{step} leaves an axis of length {length}")
        if not isinstance(inside, int):
            context.extents.append(inside)
    if size == length and step == 1:
        return value
    if step == 1:
        cut: Value = slice_(value, axis=axis, start=start, size=size)
        return cut
    strided: Value = stride(value, axis=axis, start=start, size=size, step=step)
    return strided


def _quotient(span: Dim, step: int) -> Size:
    """A symbolic number of elements divided by a step."""
    if any(c % step for _, c in span.terms):
        raise ShapeError(f"{span} elements in steps of {step}: their number is known only where {step} divides it")
    return Dim(tuple((m, c // step) for m, c in span.terms))


def _places(context: Context, numbers: list[int]) -> Value:
    attributes = {"values": Numbers(map(Fraction, numbers)), "shape": (len(numbers),), "kind": Kind.INTEGER}
    return apply(context.builder, table, (), attributes)


def _permutation(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    order = list(expr.args[0].array_form)
    return Lowered(gathered(identity(context, len(order)).value, _places(context, order), axis=-2))


def _permuted(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    _, permutation, axis = expr.args
    places = _places(context, list(permutation.array_form))
    return _with(xs[0], gathered(xs[0].value, places, axis=int(axis) - 2))


# Functions of subscripts and elements ------------------------------------------------------------------------------


def _function_matrix(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    (body,) = xs
    if body.tail:
        raise ShapeError("its entries are matrices")
    inner = context.scopes[id(expr), scope]
    own = [inner.indices[s] for s in expr.lamda.variables]
    outer = tuple(a for a in body.axes if a not in own)
    value = aligned(body, tuple(sorted((*outer, *own), key=lambda a: a.order)))
    due = (*(a.extent for a in outer), *(a.extent for a in own))
    return Lowered(with_shape(value, due), outer, min(body.depth, scope.depth))


def _applied(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    matrix, body = xs
    if not body.tail:
        body = Lowered(aligned(body, body.axes, 2), body.axes, body.depth)
    core = matrix.value.shape[-2:]
    value = full(body)
    value = with_shape(value, (*value.shape[:-2], *core))
    return Lowered(value, body.axes, min(body.depth, scope.depth))


def _children_of_application(expr: Any) -> tuple[Any, ...]:
    return expr.expr, body_of_function(expr)[1]


def _first(expr: Any) -> Sequence[Any]:
    return (expr.args[0],)


_blocks_of: Callable[[Any], Any] = lambda expr: expr.blocks.flat()

HANDLERS: dict[Any, Handler] = {
    sp.BlockMatrix: Handler(_blocks, children=_blocks_of),
    sp.BlockDiagMatrix: Handler(_block_diagonal),
    sp.KroneckerProduct: Handler(_kronecker),
    sp.DiagonalOf: Handler(_diagonal_of),
    sp.DiagonalMatrix: Handler(_diagonal_matrix),
    sp.DiagMatrix: Handler(_diag),
    MatrixSlice: Handler(_slice, children=_first),
    sp.PermutationMatrix: Handler(_permutation, children=lambda expr: ()),
    MatrixPermute: Handler(_permuted, children=_first),
    sp.FunctionMatrix: Handler(_function_matrix, children=lambda expr: (expr.lamda.expr,), opens=True),
    ElementwiseApplyFunction: Handler(_applied, children=_children_of_application, opens=True, outside=1),
}
