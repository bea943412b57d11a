"""Bounds and subscripts as arithmetic on sizes: what a `Sum` ranges over and which elements `x[i + 1]` reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sympy as sp

from sym2tf.frontend.context import Affine, Context, Index, Scope
from sym2tf.ir.dims import Size

_DEPTH = 40  # subscripts and bounds are small; deeper ones are not affine in any way that matters
MAX_ELEMENTS = 10**8


class NotAffineError(Exception):
    """A bound or subscript that is not an integer polynomial in sizes plus indices; the text says why."""


def affine(expr: Any, context: Context, scope: Scope, depth: int = 0) -> Affine:
    """`expr` as multiples of indices in scope, plus a size.

    Raises:
        NotAffineError: it is something else.
    """
    if depth > _DEPTH:
        raise NotAffineError("it is too deep")
    if isinstance(expr, int | sp.Integer):
        return Affine({}, int(expr))
    if isinstance(expr, sp.Symbol | sp.Idx):
        index = scope.find(expr)
        if index is not None:
            return Affine({**index.offset.indices, index: 1}, index.offset.rest)
        if expr in context.integers:
            raise NotAffineError("it holds data")
        return Affine({}, context.size_of(expr))
    if isinstance(expr, sp.Add):
        indices: dict[Index, Size] = {}
        total: Size = 0
        for term in expr.args:
            more, rest = affine(term, context, scope, depth + 1)
            for index, coefficient in more.items():
                indices[index] = indices.get(index, 0) + coefficient
            total = total + rest
        return Affine({index: c for index, c in indices.items() if c != 0}, total)
    if isinstance(expr, sp.Mul):
        product = Affine({}, 1)
        for factor in expr.args:
            product = _times(product, affine(factor, context, scope, depth + 1))
        return product
    if isinstance(expr, sp.Pow) and isinstance(expr.exp, sp.Integer) and 0 < expr.exp.p <= 8:
        more, rest = affine(expr.base, context, scope, depth + 1)
        if more:
            raise NotAffineError("an index is raised to a power")
        power: Size = 1
        for _ in range(expr.exp.p):
            power = power * rest
        return Affine({}, power)
    raise NotAffineError(f"{type(expr).__name__} is not arithmetic on integers and sizes")


def _times(a: Affine, b: Affine) -> Affine:
    if a.indices and b.indices:
        raise NotAffineError("indices are multiplied")
    scaled, scale = (a, b.rest) if a.indices else (b, a.rest)
    return Affine({i: c * scale for i, c in scaled.indices.items() if scale != 0}, scaled.rest * scale)


def plus(a: Affine, b: Affine, times: int = 1) -> Affine:
    """`a + times*b`."""
    indices = dict(a.indices)
    for index, coefficient in b.indices.items():
        indices[index] = indices.get(index, 0) + times * coefficient
    return Affine({i: c for i, c in indices.items() if c != 0}, a.rest + times * b.rest)


def sign(size: Size) -> int:
    """1 or -1 for what cannot be negative or positive whatever sizes are in it, none below zero; 0 for others."""
    coefficients = [size] if isinstance(size, int) else [c for _, c in size.terms]
    if all(c >= 0 for c in coefficients):
        return 1
    return -1 if all(c <= 0 for c in coefficients) else 0


def hull(value: Affine) -> tuple[Size, Size]:
    """The smallest and largest value over the whole ranges of its indices, those included that do not count."""
    low = high = value.rest
    for index, c in value.indices.items():
        first, last = (index.start, index.last) if _sign(c) > 0 else (index.last, index.start)
        low, high = low + c * first, high + c * last
    return low, high


def bounds(value: Affine) -> tuple[Size, Size]:
    """The smallest and largest value over the indices that count; exact unless a range is empty for some others."""
    return _end(value, -1), _end(value, 1)


def _end(value: Affine, direction: int) -> Size:
    """The extreme of a linear form over nested ranges: inner indices first, each at the end of its own range."""
    terms, rest = dict(value.indices), value.rest
    while terms:
        index = max(terms, key=lambda i: i.level)
        c = terms.pop(index)
        upwards = _sign(c) == direction
        end = index.upper if upwards else index.lower
        if not isinstance(end, Affine):
            end = Affine({}, index.last if upwards else index.start)
        for outer, d in end.indices.items():
            terms[outer] = terms.get(outer, 0) + c * d
        terms = {i: d for i, d in terms.items() if d != 0}
        rest = rest + c * end.rest
    return rest


def interval(expr: Any, context: Context, scope: Scope) -> tuple[Size, Size] | None:
    """Bounds of an integer expression of indices and sizes; None where data or sizes decide."""
    try:
        return bounds(affine(expr, context, scope))
    except NotAffineError:
        pass
    if isinstance(expr, sp.Max | sp.Min):
        ends = [interval(a, context, scope) for a in expr.args]
        pick = largest if isinstance(expr, sp.Max) else smallest
        low, high = (pick([e[k] for e in ends if e is not None]) if None not in ends else None for k in (0, 1))
        return None if low is None or high is None else (low, high)
    if isinstance(expr, sp.Mod):
        inner, by = (interval(a, context, scope) for a in expr.args)
        if inner is None or by is None or by[0] != by[1]:
            return None
        spare = inner[1] - inner[0] + 1 - by[0]
        if isinstance(spare, int) and spare >= 0:  # every remainder occurs
            return 0, by[0] - 1
        return inner if inner[0] == 0 and isinstance(spare, int) else None
    if isinstance(expr, sp.floor):
        inner = interval(sp.numer(sp.together(expr.args[0])), context, scope)
        by_number = sp.denom(sp.together(expr.args[0]))
        if inner is None or not by_number.is_Integer or not all(isinstance(e, int) for e in inner):
            return None
        return tuple(e // int(by_number) for e in inner)  # type: ignore[operator, return-value]
    return None


def _sign(size: Size) -> int:
    known = sign(size)
    if not known:
        raise NotAffineError(f"an index is multiplied by {size}, which may be positive or negative")
    return known


def size_symbols(expr: Any) -> set[Any]:
    """The symbols of a bound or a shape, those left out that stand in subscripts there."""
    return {s for s in symbols_in(expr, inside=False) if isinstance(s, sp.Symbol)}


def symbols_in(expr: Any, *, inside: bool = True) -> Iterator[Any]:
    """The symbols and indices of a bound or a subscript, but no indexed bases; `inside` the subscripts of data too."""
    stack = [expr]
    while stack:
        part = stack.pop()
        if isinstance(part, sp.Symbol | sp.Idx):
            yield part
        elif isinstance(part, sp.Indexed):
            stack.extend(part.indices if inside else ())
        else:
            stack.extend(getattr(part, "args", ()))


def data_in(expr: Any) -> Iterator[Any]:
    """The elements of data in a bound or a subscript, as in `x[g[i] + 1]`."""
    stack = [expr]
    while stack:
        part = stack.pop()
        if isinstance(part, sp.Indexed):
            yield part
        else:
            stack.extend(getattr(part, "args", ()))


def smallest(sizes: Sequence[Size]) -> Size | None:
    """The smallest of some sizes when that does not depend on their values, else None."""
    opposite = largest([-size for size in sizes])
    return None if opposite is None else -opposite


def largest(sizes: Sequence[Size]) -> Size | None:
    """The largest of some sizes when that does not depend on their values, else None."""
    best = sizes[0]
    for size in sizes[1:]:
        difference = size - best
        if not isinstance(difference, int):
            return None
        if difference > 0:
            best = size
    return best
