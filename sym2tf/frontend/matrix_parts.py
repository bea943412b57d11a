"""The anatomy of SymPy's matrix classes: which arguments are expressions to lower, and which are sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import sympy as sp
from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction
from sympy.matrices.expressions.companion import CompanionMatrix
from sympy.matrices.expressions.matexpr import MatrixElement
from sympy.matrices.expressions.permutation import MatrixPermute
from sympy.matrices.expressions.slice import MatrixSlice
from sympy.matrices.expressions.special import GenericIdentity, GenericZeroMatrix
from sympy.tensor.array.expressions.array_expressions import (
    ArrayElement,
    ArrayElementwiseApplyFunc,
    ArraySymbol,
    OneArray,
    Reshape,
    ZeroArray,
)


def matrix_parts(expr: Any) -> Sequence[Any]:
    """The sub-expressions of a matrix expression, an element of one, or an explicit matrix; plain numbers left out."""
    parts: Sequence[Any] = _of_class(_PARTS, expr)(expr)
    return parts


def dimensions(expr: Any) -> Iterable[Any]:
    """The sizes that a matrix expression or an element of one is written with."""
    sizes: Iterable[Any] = _of_class(_DIMENSIONS, expr)(expr)
    return sizes


def body_of_function(expr: ElementwiseApplyFunction) -> tuple[Any, Any]:
    """The variable and the body of the function that is applied to each element; the same objects every time."""
    function = expr.function if isinstance(expr.function, sp.Lambda) else _lambda_of(expr.function)
    return function.variables[0], function.expr


@cache  # one for each class of function that there is
def _lambda_of(function: Any) -> Any:
    x = sp.Dummy("x", real=True)
    return sp.Lambda(x, function(x))


@lru_cache(maxsize=64)  # an object that goes away would leave its id to another one, while a scan remembers ids
def _coefficients(poly: Any) -> tuple[Any, ...]:
    return tuple(poly.all_coeffs())


def _of_class(table: Mapping[type, Callable[[Any], Any]], expr: Any) -> Callable[[Any], Any]:
    for cls in type(expr).__mro__:
        if cls in table:
            return table[cls]
    return table[object]


def _bounds_of_idx(expr: Any) -> list[Any]:
    found = []
    for subscript in expr.indices if isinstance(expr, ArrayElement) else (expr.i, expr.j):
        for index in subscript.atoms(sp.Idx):
            found += [end for end in (index.lower, index.upper) if end is not None]
    return found


_NONE: Callable[[Any], tuple[Any, ...]] = lambda e: ()
_FIRST: Callable[[Any], tuple[Any, ...]] = lambda e: e.args[:1]

_PARTS: dict[type, Callable[[Any], Sequence[Any]]] = {
    object: lambda e: e.args,
    sp.MatrixSymbol: _NONE,
    sp.MatrixBase: lambda e: [entry for entry in e.flat() if not entry.is_Number],
    sp.Identity: _NONE,
    sp.ZeroMatrix: _NONE,
    sp.OneMatrix: _NONE,
    sp.PermutationMatrix: _NONE,
    sp.FunctionMatrix: lambda e: (e.lamda.expr,),
    sp.BlockMatrix: lambda e: e.blocks.flat(),
    sp.BlockDiagMatrix: lambda e: e.args,
    MatrixElement: _FIRST,
    MatrixSlice: _FIRST,
    MatrixPermute: _FIRST,
    CompanionMatrix: lambda e: _coefficients(e.args[0]),
    ElementwiseApplyFunction: lambda e: (e.expr, body_of_function(e)[1]),
    ArraySymbol: _NONE,
    ZeroArray: _NONE,
    OneArray: _NONE,
    Reshape: _FIRST,
    ArrayElement: _FIRST,
    ArrayElementwiseApplyFunc: lambda e: (e.expr, body_of_function(e)[1]),
}

_DIMENSIONS: dict[type, Callable[[Any], Iterable[Any]]] = {
    object: _NONE,
    GenericIdentity: _NONE,
    GenericZeroMatrix: _NONE,
    sp.MatrixSymbol: lambda e: e.shape,
    sp.Identity: lambda e: e.shape,
    sp.ZeroMatrix: lambda e: e.shape,
    sp.OneMatrix: lambda e: e.shape,
    sp.FunctionMatrix: lambda e: e.shape,
    MatrixElement: _bounds_of_idx,
    ArrayElement: _bounds_of_idx,
    ArraySymbol: lambda e: e.shape,
    ZeroArray: lambda e: e.shape,
    OneArray: lambda e: e.shape,
    Reshape: lambda e: e.shape,
    MatrixSlice: lambda e: (*e.rowslice, *e.colslice),
}
