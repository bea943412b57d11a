"""Sums, products and extremes over indices: the ranges of what they bind.

A range is rectangular, or its ends depend on outer indices (`(j, 0, i)`) or on data (`(i, start[k], stop[k] - 1)`);
then an index runs over the smallest range that holds all of them, and a mask says which of its values count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy as sp

from sym2tf.frontend.context import Affine, Context, Data, Index, Scope
from sym2tf.frontend.describe import describe
from sym2tf.frontend.ranges import MAX_ELEMENTS, NotAffineError, affine, bounds, data_in, plus, symbols_in
from sym2tf.ir.dims import Size
from sym2tf.notation import MaxOver, MinOver

BINDERS = (sp.Sum, sp.Product, MaxOver, MinOver, sp.FunctionMatrix)  # what gives symbols a range inside its body


def body(expr: Any) -> Any:
    """What a `Sum`, `Product` or `FunctionMatrix` says of each value of its indices."""
    return expr.lamda.expr if isinstance(expr, sp.FunctionMatrix) else expr.function


def limits(expr: Any) -> list[tuple[Any, Any, Any]]:
    """`(symbol, lower, upper)` for each index that `expr` binds, the outermost last; bounds may be None."""
    if isinstance(expr, sp.FunctionMatrix):
        return [(s, sp.S.Zero, d - 1) for s, d in zip(expr.lamda.variables, expr.shape, strict=True)]
    found = []
    for limit in expr.limits:
        symbol, *ends = limit
        lower, upper = ends if len(ends) == 2 else (None, None)
        if lower is None and isinstance(symbol, sp.Idx):
            lower, upper = symbol.lower, symbol.upper
        found.append((symbol, lower, upper))
    return found


def ends_of(expr: Any) -> list[Any]:
    """The bounds that `expr` states."""
    return [end for _, lower, upper in limits(expr) for end in (lower, upper) if end is not None]


class _RefusedError(Exception):
    """A range that cannot be had; the text says why."""


def opened(context: Context, expr: Any, scope: Scope) -> Scope | None:
    """The scope of a sum, with the ranges of its indices; None, and a problem noted, when they cannot be had."""
    listed = limits(expr)
    symbols = [symbol for symbol, _, _ in listed]
    orders = {symbol: context.bound_order(symbol) for symbol in symbols}
    try:
        if len(orders) < len(symbols):
            twice = next(s for s in symbols if symbols.count(s) > 1)
            raise _RefusedError(f"the index {twice} has two ranges: {_ranges(listed, twice)}")
        inner = context.bind((id(expr), scope), symbols)
        for k, (symbol, lower, upper) in reversed(list(enumerate(listed))):
            _refuse_inner(symbol, symbols[: k + 1], [end for end in (lower, upper) if end is not None])
            inner.indices[symbol] = _index(context, symbol, lower, upper, inner, orders[symbol])
    except (_RefusedError, NotAffineError) as reason:
        context.scopes.pop((id(expr), scope), None)
        context.unsupported(expr, None, str(reason))
        return None
    inner.indices = {symbol: inner.indices[symbol] for symbol in symbols}
    return inner


def _ranges(listed: Iterable[tuple[Any, Any, Any]], symbol: Any) -> str:
    return " and ".join(f"{lower} to {upper}" for s, lower, upper in listed if s == symbol)


def _refuse_inner(symbol: Any, hidden: Iterable[Any], ends: Iterable[Any]) -> None:
    """Bounds know the indices that are bound further out, not those further in."""
    wrong = [s for end in ends for s in symbols_in(end) if s in hidden]
    if wrong:
        raise _RefusedError(
            f"a bound of {symbol} depends on {wrong[0]}, which is not bound outside of it: write the inner limits "
            "first, as in Sum(f, (j, 0, i), (i, 0, n - 1))"
        )


def _index(context: Context, symbol: Any, lower: Any, upper: Any, scope: Scope, order: tuple[int, int, int]) -> Index:
    if lower is None:
        return Index(symbol, 0, context.fresh_size(f"n_{symbol}"), order, scope.depth)
    if upper in (sp.oo, sp.S.Infinity) or lower == -sp.oo:
        raise _RefusedError("an infinite sum or product: find its closed form with .doit()")
    ends = [_bound(context, end, scope) for end in (lower, upper)]
    low, up = ends
    if isinstance(low, Affine) and isinstance(up, Affine):
        width = plus(up, low, -1)
        if low.indices and not width.indices:  # (j, i, i + 2): the index counts from the lower end
            return Index(symbol, 0, _extent(context, 0, width.rest, lower, upper), order, scope.depth, offset=low)
    first = bounds(low)[0] if isinstance(low, Affine) else 0
    last = bounds(up)[1] if isinstance(up, Affine) else context.fresh_size(f"n_{symbol}") - 1
    extent = _extent(context, first, last, lower, upper)
    lower_end, upper_end = (None if isinstance(e, Affine) and not e.indices else e for e in ends)
    outer = [i.level for end in ends if isinstance(end, Affine) for i in end.indices]
    level = 1 + max(outer, default=-1)
    return Index(symbol, first, extent, order, scope.depth, lower_end, upper_end, level=level)


def _bound(context: Context, end: Any, scope: Scope) -> Affine | Data:
    if next(data_in(end), None) is not None:
        return Data(end, scope)
    try:
        return affine(end, context, scope)
    except NotAffineError as reason:
        if all(scope.find(s) is None and s not in context.integers for s in symbols_in(end)):
            raise _RefusedError(f"a bound that is not a size: {reason}") from None
        return Data(end, scope)


def _extent(context: Context, first: Size, last: Size, lower: Any, upper: Any) -> Size:
    extent = last - first + 1
    if isinstance(extent, int) and extent > MAX_ELEMENTS:
        raise _RefusedError(f"{extent} terms, more than {MAX_ELEMENTS}: find a closed form with .doit()")
    if isinstance(extent, int) and extent < 0:
        raise _RefusedError(
            f"the upper bound {describe(upper)} lies below the lower bound {describe(lower)}: reverse them by hand"
        )
    context.extents.append(extent)
    return extent
