"""How a SymPy class is lowered: one `Handler` in one table per area, looked up by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sym2tf.frontend.context import Context, Lowered, Scope
from sym2tf.ir.op import Op

Build = Callable[[Context, Any, Scope, list[Lowered]], Lowered]


def arguments(expr: Any) -> Sequence[Any]:
    """The usual children: all arguments."""
    args: Sequence[Any] = expr.args
    return args


@dataclass(frozen=True)
class Handler:
    """How one class of SymPy expression becomes graph nodes.

    Attributes:
        build: makes the node from the lowered children.
        children: the sub-expressions to lower first.
        opens: whether the children stand in the scope that the expression itself opens.
        outside: how many of the children, the first ones, stand outside of that scope all the same.
    """

    build: Build
    children: Callable[[Any], Sequence[Any]] = arguments
    opens: bool = False
    outside: int = 0


def elementwise(op: Op, **attributes: Any) -> Handler:
    """The handler of a class that is one operation on its arguments."""
    return Handler(lambda context, expr, scope, xs: context.combine(op, xs, **attributes))


def rewritten(rewrite: Callable[[Any], Any]) -> Handler:
    """The handler of a class that is defined by other SymPy classes."""
    return Handler(lambda context, expr, scope, xs: xs[0], children=lambda expr: (rewrite(expr),))


def lookup(table: Mapping[Any, Handler], expr: Any) -> Handler | None:
    """The handler of the class of `expr` or of the nearest base class that has one."""
    for cls in type(expr).__mro__:
        handler = table.get(cls)
        if handler is not None:
            return handler
    return None
