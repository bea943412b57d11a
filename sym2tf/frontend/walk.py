"""The anatomy of SymPy expressions: what lowering looks at below each, what elements and leaves are, what binds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import sympy as sp
from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction
from sympy.matrices.expressions.matexpr import MatrixElement
from sympy.tensor.array.expressions.array_expressions import (
    ArrayElement,
    ArrayElementwiseApplyFunc,
    ArraySymbol,
    OneArray,
    Reshape,
    ZeroArray,
)

from sym2tf.frontend.binders import BINDERS, body, ends_of, limits
from sym2tf.frontend.matrix_parts import body_of_function, matrix_parts
from sym2tf.frontend.ranges import data_in

ELEMENTS = (sp.Indexed, MatrixElement, ArrayElement)
TENSORS = (sp.IndexedBase, sp.MatrixSymbol, ArraySymbol)  # leaves with a core shape
APPLIED = (ElementwiseApplyFunction, ArrayElementwiseApplyFunc)
PARTED = (  # not all of their arguments are expressions
    *(MatrixElement, sp.MatrixExpr, sp.MatrixBase),
    *(ArrayElement, ArraySymbol, ZeroArray, OneArray, Reshape, ArrayElementwiseApplyFunc),
)


def children(expr: Any) -> Iterable[Any]:
    """What lowering will look at below `expr`; of bounds and subscripts only the data in them, of leaves nothing."""
    if isinstance(expr, BINDERS):
        return (body(expr), *(element for end in ends_of(expr) for element in data_in(end)))
    if isinstance(expr, ELEMENTS):
        data = [element for subscript in subscripts_of(expr) for element in data_in(subscript)]
        return data if isinstance(expr, sp.Indexed) else [*matrix_parts(expr), *data]
    if isinstance(expr, sp.Idx) or is_leaf(expr):
        return ()
    if isinstance(expr, PARTED):
        return matrix_parts(expr)
    if binds_symbols(expr):  # of these only sets are lowered, and after the bound symbols are replaced
        return sorted(expr.free_symbols, key=str) if isinstance(expr, sp.Set) else ()
    return getattr(expr, "args", ())


def binds_symbols(expr: Any) -> bool:
    """Whether symbols in `expr` mean nothing outside of it, as in an Integral, a Lambda or a set by condition."""
    return bool(getattr(expr, "bound_symbols", ())) or isinstance(expr, sp.Integral | sp.Limit)


def is_leaf(expr: Any) -> bool:
    """Whether `expr` can only be an argument: a symbol, of an array too, an undefined function or its derivative."""
    if isinstance(expr, sp.Derivative):
        return isinstance(expr.expr, sp.core.function.AppliedUndef)
    return isinstance(expr, sp.Symbol | sp.MatrixSymbol | ArraySymbol | sp.core.function.AppliedUndef)


def base_of(element: Any) -> Any:
    """What an element is taken of."""
    return element.args[0] if isinstance(element, MatrixElement | ArrayElement) else element.base


def subscripts_of(element: Any) -> tuple[Any, ...]:
    """Where an element stands."""
    return (element.i, element.j) if isinstance(element, MatrixElement) else tuple(element.indices)


def subexpressions(exprs: Iterable[Any], opaque: set[Any]) -> Iterator[Any]:
    """Every distinct sub-expression object, bounds and subscripts left out."""
    stack, seen = list(exprs), set()
    while stack:
        expr = stack.pop()
        if id(expr) not in seen:
            seen.add(id(expr))
            yield expr
            if not (isinstance(expr, sp.Basic) and expr in opaque):
                stack.extend(children(expr))


def occurring(exprs: Iterable[Any]) -> set[Any]:
    """The symbols, indexed bases and applied functions that stand in expressions."""
    found = subexpressions(exprs, set())
    return {base_of(e) if isinstance(e, ELEMENTS) else e for e in found if is_leaf(e) or isinstance(e, ELEMENTS)}


def bound_symbols(exprs: Iterable[Any], opaque: set[Any]) -> set[Any]:
    """Every symbol that some sub-expression binds."""
    bound: set[Any] = set()
    for e in subexpressions(exprs, opaque):
        if isinstance(e, BINDERS):
            bound.update(symbol for symbol, _, _ in limits(e))
        elif isinstance(e, APPLIED):
            bound.add(body_of_function(e)[0])
    return bound
