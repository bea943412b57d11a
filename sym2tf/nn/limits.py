"""What the functions of `sym2tf.nn` take: expressions, and limits as SymPy's `Sum` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from sym2tf.errors import ArgumentError

Limit = tuple[Any, Any, Any]  # index, first and last value


def expression(x: Any) -> Any:
    """`x` as a scalar expression.

    Raises:
        ArgumentError: a base without subscripts, a list, or what is no expression at all.
    """
    if isinstance(x, sp.IndexedBase):
        raise ArgumentError(f"{x} is an indexed base: give an element, such as {x}[i]")
    if isinstance(x, sp.Expr):
        return x
    try:
        return sp.sympify(x, strict=True) + 0
    except (sp.SympifyError, TypeError):
        raise ArgumentError(f"an expression or a matrix is due, got {x!r}, a {type(x).__name__}") from None


def checked(limits: Sequence[Any], name: str, *, least: int = 0) -> tuple[Limit, ...]:
    """Limits `(index, first, last)`, with their parts as SymPy expressions.

    Raises:
        ArgumentError: fewer than `least`, one that is no triple with a symbol in front, or an index twice.
    """
    if len(limits) < least:
        raise ArgumentError(f"{name} needs limits to sum over, such as (k, 0, K - 1)")
    found = []
    for limit in limits:
        parts = tuple(limit) if isinstance(limit, tuple | list | sp.Tuple) else ()
        if len(parts) != 3 or not isinstance(parts[0], sp.Symbol | sp.Idx):
            raise ArgumentError(f"{name}: {limit} is no limit; write (index, first, last), as in Sum")
        found.append((parts[0], *map(expression, parts[1:])))
    indices = [index for index, _, _ in found]
    if len(set(indices)) < len(indices):
        raise ArgumentError(f"{name}: an index twice among {', '.join(map(str, indices))}")
    return tuple(found)


def count(limits: Sequence[Limit]) -> Any:
    """How many terms a sum with these limits has."""
    return sp.Mul(*(last - first + 1 for _, first, last in limits))
