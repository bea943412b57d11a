"""How a SymPy class is lowered: one `Handler` in one table per area, looked up by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

from sym2tf.errors import ShapeError
from sym2tf.frontend.context import Context, Lowered, Scope
from sym2tf.frontend.describe import describe
from sym2tf.ir.op import Op
from sym2tf.ops.arithmetic import add, log, mul
from sym2tf.ops.decompositions import expm, logm
from sym2tf.ops.elementary import exp
from sym2tf.ops.indexing import squeeze

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
    """The handler of a class that is one operation on its arguments, which are numbers."""

    def build(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
        require_one_shape(expr, xs)
        result = context.combine(op, xs, **attributes)
        return of_matrices(context, expr, op, xs, result) if result.tail else result

    return Handler(build)


def require_one_shape(expr: Any, xs: list[Lowered]) -> None:
    """Arrays among the arguments of a function of numbers are taken element by element: their shapes must be equal.

    Raises:
        ShapeError: they are not.
    """
    shapes = list(dict.fromkeys(x.value.shape[len(x.axes) :] for x in xs if x.tail))
    if len(shapes) > 1 and not any(getattr(a, "is_Matrix", False) for a in expr.args):
        listed = " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
        raise ShapeError(f"{describe(expr)}: arrays of shapes {listed} element by element")


def of_matrices(context: Context, expr: Any, op: Op, xs: list[Lowered], result: Lowered) -> Lowered:
    """What a function of numbers means where `result`, its value by elements, is a tensor.

    That is meant where a function is applied to each element, and where matrices of one shape are added or one is
    scaled. A matrix of a single element is its element; `exp(A)` and `log(A)` are functions of the matrix.

    Raises:
        ShapeError: a function of a matrix that is not square.
    """
    matrices = [getattr(a, "is_Matrix", False) for a in expr.args[: len(xs)]]
    if not any(matrices):
        return result
    shapes = {x.value.shape[-2:] for x, is_matrix in zip(xs, matrices, strict=False) if is_matrix}
    if shapes == {(1, 1)}:
        return context.combine(op, [_single(x) if m else x for x, m in zip(xs, matrices, strict=True)])
    if (op is mul and matrices.count(True) == 1) or (op is add and all(matrices) and len(shapes) == 1):
        return result
    function = _OF_MATRICES.get(op)
    if function is not None:
        ((rows, columns),) = shapes
        if rows != columns:
            raise ShapeError(f"{describe(expr)}: a function of a matrix needs a square one, got {rows} x {columns}")
        return Lowered(function(xs[0].value), xs[0].axes, xs[0].depth)
    if op is add:
        advice = "a number is never added to a matrix: write x*Identity(n) or x*OneMatrix(n, m)"
    else:
        advice = f"{type(expr).__name__} of a matrix: write A.applyfunc(f) for a function of each element"
    return context.unsupported(expr, None, advice)


def _single(x: Lowered) -> Lowered:
    """The element of a matrix that has only one."""
    return Lowered(squeeze(squeeze(x.value, axis=-1), axis=-1), x.axes, x.depth)


_OF_MATRICES: Mapping[Op, Any] = {exp: expm, log: logm}


class StandIn(sp.Dummy):
    """Stands for an argument in the definition of a function.

    The argument itself would not do: out of SymPy's cache a definition may come with an equal argument in its place,
    whose sums the scan has never seen.
    """

    argument: Any


STAND_IN = Handler(lambda context, expr, scope, xs: xs[0], children=lambda expr: (expr.argument,))


def rewritten(rewrite: Callable[[Any], Any]) -> Handler:
    """The handler of a class that is defined by other SymPy classes."""

    def children(expr: Any) -> Sequence[Any]:
        return (rewrite(expr.func(*map(stand_in, expr.args))),)

    return Handler(lambda context, expr, scope, xs: xs[0], children=children)


def stand_in(argument: Any) -> Any:
    """What stands for an argument in a definition: a symbol of its own, for what may hold sums."""
    if argument.is_Atom or not isinstance(argument, sp.Expr | sp.logic.boolalg.Boolean) or argument.is_Matrix:
        return argument
    symbol = StandIn()
    symbol.argument = argument
    return symbol


def lookup(table: Mapping[Any, Handler], expr: Any) -> Handler | None:
    """The handler of the class of `expr` or of the nearest base class that has one."""
    for cls in type(expr).__mro__:
        handler = table.get(cls)
        if handler is not None:
            return handler
    return None
