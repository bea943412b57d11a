"""Bounds and subscripts as arithmetic on sizes: what a `Sum` ranges over and which elements `x[i + 1]` reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from sym2tf.frontend.context import Context, Index, Scope
from sym2tf.ir.dims import Size

_DEPTH = 40  # subscripts and bounds are small; deeper ones are not affine in any way that matters
MAX_ELEMENTS = 10**8


class NotAffineError(Exception):
    """A bound or subscript that is not an integer polynomial in sizes plus indices; the text says why."""


def affine(expr: Any, context: Context, scope: Scope, depth: int = 0) -> tuple[Mapping[Index, int], Size]:
    """`expr` as integer multiples of indices in scope, plus a size.

    Raises:
        NotAffineError: it is something else.
    """
    if depth > _DEPTH:
        raise NotAffineError("it is too deep")
    if isinstance(expr, int | sp.Integer):
        return {}, int(expr)
    if isinstance(expr, sp.Symbol | sp.Idx):
        index = scope.find(expr)
        return ({index: 1}, 0) if index is not None else ({}, context.size_of(expr))
    if isinstance(expr, sp.Add):
        indices: dict[Index, int] = {}
        total: Size = 0
        for term in expr.args:
            more, rest = affine(term, context, scope, depth + 1)
            for index, coefficient in more.items():
                indices[index] = indices.get(index, 0) + coefficient
            total = total + rest
        return {index: c for index, c in indices.items() if c}, total
    if isinstance(expr, sp.Mul):
        indices, total = {}, 1
        for factor in expr.args:
            more, rest = affine(factor, context, scope, depth + 1)
            if more and indices:
                raise NotAffineError("indices are multiplied")
            if more or indices:
                if not (isinstance(total, int) and isinstance(rest, int)):
                    raise NotAffineError("an index is multiplied by a size")
                scale = total if more else rest
                indices = {i: c * scale for i, c in (more or indices).items()}
            total = total * rest
        return indices, total
    if isinstance(expr, sp.Pow) and isinstance(expr.exp, sp.Integer) and 0 < expr.exp.p <= 8:
        more, rest = affine(expr.base, context, scope, depth + 1)
        if more:
            raise NotAffineError("an index is raised to a power")
        power: Size = 1
        for _ in range(expr.exp.p):
            power = power * rest
        return {}, power
    raise NotAffineError(f"{type(expr).__name__} is not arithmetic on integers and sizes")


def size_symbols(expr: Any) -> set[Any]:
    """The symbols of a bound or a shape."""
    return set() if isinstance(expr, int) else {s for s in expr.free_symbols if isinstance(s, sp.Symbol)}


def largest(sizes: list[Size]) -> Size | None:
    """The largest of some sizes when that does not depend on their values, else None."""
    best = sizes[0]
    for size in sizes[1:]:
        difference = size - best
        if not isinstance(difference, int):
            return None
        if difference > 0:
            best = size
    return best
