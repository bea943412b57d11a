"""Matrix expressions: matrices have two tensor axes, which stand after the axes of indices."""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.matrices.expressions.matexpr import MatrixElement

from sym2tf.frontend.context import Context, Lowered, Scope
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.indexed import element_of


def _symbol(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return Lowered(context.input(expr))


def _element(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if expr in context.types:
        return Lowered(context.input(expr))
    base = xs[0] if xs else Lowered(context.input(expr.parent))
    return element_of(context, expr, base, (expr.i, expr.j), scope)


def _parent(expr: Any) -> tuple[Any, ...]:
    """What an element is taken of, unless it is an input: then the element itself may be the argument."""
    return () if isinstance(expr.parent, sp.MatrixSymbol) else (expr.parent,)


HANDLERS: dict[Any, Handler] = {
    sp.MatrixSymbol: Handler(_symbol, children=lambda e: ()),
    MatrixElement: Handler(_element, children=_parent),
}
