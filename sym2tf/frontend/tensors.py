"""Lowered matrices and tensors: contractions that keep index axes in front, fillings, and what errors say of shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sympy as sp
from sympy.tensor.array.expressions import ArraySymbol

from sym2tf.errors import ShapeError
from sym2tf.frontend.context import Context, Lowered, Scope, aligned, common_axes, depth_of
from sym2tf.frontend.describe import describe
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.ranges import NotAffineError, affine
from sym2tf.ir.dims import Size
from sym2tf.ir.types import Kind
from sym2tf.ops.assembly import eye
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import transpose
from sym2tf.ops.values import Value, apply, constant, with_shape

LETTERS = "abcdefghijklmnop"  # of tensor axes
_INDEX_LETTERS = "zyxwvutsrq"
_NAMED = 6  # symbols that a message lists


def contracted(context: Context, operands: Sequence[tuple[Lowered, str]], output: str) -> Lowered:
    """The sum over the letters that `output` lacks of a product of tensors; index axes stay, in front.

    Args:
        context: of the lowering.
        operands: each with one letter (of `LETTERS`) for each of its tensor axes.
        output: the letters of the result.
    """
    lowered = [x for x, _ in operands]
    axes = common_axes(lowered)
    letter = dict(zip(axes, _INDEX_LETTERS, strict=False))
    if len(letter) < len(axes):
        raise ShapeError(f"a product that depends on {len(axes)} indices, more than {len(_INDEX_LETTERS)}")
    inputs = tuple("".join(letter[a] for a in x.axes) + own for x, own in operands)
    front = "".join(letter[a] for a in axes)
    value = apply(context.builder, einsum, [full(x) for x in lowered], {"inputs": inputs, "output": front + output})
    return Lowered(value, axes, depth_of(lowered))


def full(x: Lowered) -> Value:
    """The value with index axes of their full lengths."""
    shape = x.value.shape
    due = (*(a.extent for a in x.axes), *shape[len(x.axes) :])
    return x.value if shape == due else with_shape(x.value, due)


def alike(xs: Sequence[Lowered], tail: int) -> list[Value]:
    """Values with the same index axes, all of full length, in front of `tail` tensor axes."""
    axes = common_axes(xs)
    return [full(Lowered(aligned(x, axes, tail), axes)) for x in xs]


def swapped(x: Lowered) -> Lowered:
    """The transposed matrix."""
    return Lowered(transpose(x.value, axes=(-1, -2)), x.axes, x.depth)


def identity(context: Context, size: Size) -> Lowered:
    """The identity matrix."""
    return Lowered(apply(context.builder, eye, (), {"size": size}))


def ones(context: Context, shape: tuple[Size, ...], number: Any = 1) -> Lowered:
    """A tensor of one number."""
    return Lowered(with_shape(constant(context.builder, number, Kind.REAL), shape))


def same_shape(xs: Iterable[Lowered], rank: int = 2) -> tuple[Size, ...]:
    """The shape that all of these tensors have.

    Raises:
        ShapeError: they differ; a number is no tensor.
    """
    shapes = [x.value.shape[len(x.axes) :] for x in xs]
    for shape in shapes:
        if shape != shapes[0] or len(shape) != rank:
            raise ShapeError(f"{shape_text(shapes[0])} and {shape_text(shape)} do not agree")
    return shapes[0]


def shape_text(shape: Sequence[Size]) -> str:
    """A shape in words."""
    return " x ".join(map(str, shape)) if shape else "a number"


def declarations(expr: Any) -> str:
    """`expr` and how the matrices in it were declared, for messages about shapes."""
    found: dict[Any, None] = {}
    stack = [expr]
    while stack and len(found) <= _NAMED:
        node = stack.pop()
        if isinstance(node, sp.MatrixSymbol | ArraySymbol):
            found[node] = None
        else:
            stack.extend(reversed(getattr(node, "args", ())))
    listed = ", ".join(f"{a.name} is {shape_text(a.shape)}" for a in list(found)[:_NAMED])
    return f"{describe(expr)} ({listed})" if listed else describe(expr)


def _stand_in(context: Context, expr: Any, x: Lowered) -> Lowered:
    """`x`, or something of the right shape where a tensor could not be lowered, to find what else cannot be."""
    shape = getattr(expr, "shape", None) or ()
    return x if x.tail or not shape else ones(context, tuple(dimension(context, d) for d in shape), float("nan"))


def told(handler: Handler) -> Handler:
    """The handler with the expression and its symbols named where shapes do not agree."""

    def build(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
        try:
            if context.problems:
                xs = [_stand_in(context, e, x) for e, x in zip(handler.children(expr), xs, strict=True)]
            return handler.build(context, expr, scope, xs)
        except ShapeError as error:
            if context.problems:  # which may be why
                return context.number(float("nan"))
            raise ShapeError(f"{declarations(expr)}: {error}") from None

    return Handler(build, handler.children, handler.opens, handler.outside)


def dimension(context: Context, expr: Any) -> Size:
    """A dimension of a matrix as a size.

    Raises:
        ShapeError: it is no arithmetic on integers and sizes.
    """
    try:
        return affine(expr, context, Scope())[1]
    except NotAffineError as reason:
        raise ShapeError(f"the dimension {describe(expr)}: {reason}") from None
