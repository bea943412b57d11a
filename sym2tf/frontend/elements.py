"""Matrices and arrays that are inputs, and elements of these and of computed ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sym2tf.errors import ShapeError
from sym2tf.frontend.context import Context, Lowered, Scope
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.ranges import NotAffineError, affine, bounds
from sym2tf.frontend.subscripts import subscripted
from sym2tf.frontend.walk import TENSORS, base_of, subscripts_of
from sym2tf.ir.dims import Size


def _leaf(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return Lowered(context.input(expr))


def _element(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if expr in context.types:
        return Lowered(context.input(expr))
    subscripts = subscripts_of(expr)
    base = xs[0] if xs else Lowered(context.input(base_of(expr)))
    if xs:  # how far the subscripts of an input reach, the scan has seen
        _require_within(context, subscripts, base.value.shape[len(base.axes) :], scope)
    return subscripted(context, expr, base, subscripts, scope)


def _computed(expr: Any) -> tuple[Any, ...]:
    """What an element is taken of, unless it is an input: then the element itself may be the argument."""
    base = base_of(expr)
    return () if isinstance(base, TENSORS) else (base,)


def _require_within(context: Context, subscripts: Sequence[Any], shape: Sequence[Size], scope: Scope) -> None:
    """Check that subscripts stay inside of a tensor that is no input.

    Raises:
        ShapeError: one does not. Where sizes must be known to tell, the binding of sizes will.
    """
    for subscript, length in zip(subscripts, shape, strict=True):
        try:
            _, last = bounds(affine(subscript, context, scope))
        except NotAffineError:
            continue  # computed, and looked at when it is
        left = length - 1 - last
        if not isinstance(left, int):
            context.extents.append(left)
        elif left < 0:
            raise ShapeError(f"the subscript {subscript} goes up to {last} on an axis of length {length}")


LEAF = Handler(_leaf, children=lambda expr: ())
ELEMENT = Handler(_element, children=_computed)
