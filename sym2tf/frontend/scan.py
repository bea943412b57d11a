"""The look around before lowering: which symbols are sizes, which are free indices, and how far subscripts reach.

An input node needs its core shape, and that of `x` in `Sum(x[i+1] - x[i], (i, 0, n-2))` is known only when every
subscript of `x` has been seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

from sym2tf.errors import ArgumentError, UnusedDataWarning, warn
from sym2tf.frontend.context import Context, Index, Scope, leaf_name
from sym2tf.frontend.matrix_parts import body_of_function, dimensions, matrix_parts
from sym2tf.frontend.ranges import MAX_ELEMENTS, NotAffineError, affine, largest, size_symbols
from sym2tf.ir.dims import Dim, Size, linear_in_one
from sym2tf.ir.types import BOOLEAN, REAL, Kind, TensorType

Reach = tuple[int, Size]  # (axis from the left, elements needed)

BINDERS = (sp.Sum, sp.Product, sp.FunctionMatrix)  # what gives symbols a range inside its body
ELEMENTS = (sp.Indexed, MatrixElement, ArrayElement)
TENSORS = (sp.IndexedBase, sp.MatrixSymbol, ArraySymbol)  # leaves with a core shape
APPLIED = (ElementwiseApplyFunction, ArrayElementwiseApplyFunc)
PARTED = (  # not all of their arguments are expressions
    *(MatrixElement, sp.MatrixExpr, sp.MatrixBase),
    *(ArrayElement, ArraySymbol, ZeroArray, OneArray, Reshape, ArrayElementwiseApplyFunc),
)


def scan(context: Context, exprs: Sequence[Any], arguments: Sequence[Any] | None, order: Sequence[Any]) -> list[Any]:
    """Find sizes, indices, leaves and the shapes of data; returns the leaves that occur.

    Args:
        context: receives sizes, free indices, scopes of sums, and the types of the leaves.
        exprs: the expressions to lower.
        arguments: the leaves that the user named as arguments, if any.
        order: the order in which the user wants free indices as output axes.
    """
    opaque = set(arguments or ())
    _sizes(context, exprs, opaque)
    uses = _Uses(context, opaque)
    uses.free_indices(exprs, order)
    for root in exprs:
        uses.visit(root)
    for leaf in arguments or ():
        if leaf not in context.sizes:
            uses.leaves.setdefault(leaf, None)
    uses.decide_shapes()
    return list(uses.leaves)


def children(expr: Any) -> Iterable[Any]:
    """What lowering will look at below `expr`; bounds, subscripts and leaves are not expressions."""
    if isinstance(expr, BINDERS):
        return (body(expr),)
    if isinstance(expr, sp.Indexed | sp.Idx) or is_leaf(expr):
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
    """Whether `expr` can only be an argument: a symbol (of an array too), an undefined function or a derivative of one."""
    if isinstance(expr, sp.Derivative):
        return isinstance(expr.expr, sp.core.function.AppliedUndef)
    return isinstance(expr, sp.Symbol | sp.MatrixSymbol | ArraySymbol | sp.core.function.AppliedUndef)


def body(expr: Any) -> Any:
    """What a `Sum`, `Product` or `FunctionMatrix` says of each value of its indices."""
    return expr.lamda.expr if isinstance(expr, sp.FunctionMatrix) else expr.function


def base_of(element: Any) -> Any:
    """What an element is taken of."""
    return element.args[0] if isinstance(element, MatrixElement | ArrayElement) else element.base


def subscripts_of(element: Any) -> tuple[Any, ...]:
    """Where an element stands."""
    return (element.i, element.j) if isinstance(element, MatrixElement) else tuple(element.indices)


def limits(expr: Any) -> list[tuple[Any, Any, Any]]:
    """`(symbol, lower, upper)` for each index that `expr` binds, the outermost last; bounds may be None."""
    if isinstance(expr, sp.FunctionMatrix):
        return [(s, sp.S.Zero, d - 1) for s, d in zip(expr.lamda.variables, expr.shape, strict=True)]
    found = []
    for limit in expr.limits:
        symbol, *bounds = limit
        lower, upper = bounds if len(bounds) == 2 else (None, None)
        if lower is None and isinstance(symbol, sp.Idx):
            lower, upper = symbol.lower, symbol.upper
        found.append((symbol, lower, upper))
    return found


def _walk(exprs: Iterable[Any], opaque: set[Any]) -> Iterator[Any]:
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
    found = _walk(exprs, set())
    return {base_of(e) if isinstance(e, ELEMENTS) else e for e in found if is_leaf(e) or isinstance(e, ELEMENTS)}


def _sizes(context: Context, exprs: Sequence[Any], opaque: set[Any]) -> None:
    """Register every symbol that stands in a bound or a declared shape."""
    found: dict[Any, None] = {}
    for expr in _walk(exprs, opaque):
        if isinstance(expr, BINDERS):
            bound = {symbol for symbol, _, _ in limits(expr)}
            for _, lower, upper in limits(expr):
                for end in (lower, upper):
                    if end is not None:
                        found |= dict.fromkeys(size_symbols(end) - bound)
        elif isinstance(expr, sp.Indexed):
            for entry in (*(expr.base.shape or ()), *_idx_bounds(expr.indices)):
                found |= dict.fromkeys(size_symbols(entry))
        elif isinstance(expr, PARTED):
            for entry in dimensions(expr):
                found |= dict.fromkeys(size_symbols(entry))
    for symbol in sorted(set(found) - _bound_symbols(exprs, opaque), key=str):
        context.size_of(symbol)


def _bound_symbols(exprs: Iterable[Any], opaque: set[Any]) -> set[Any]:
    bound: set[Any] = set()
    for e in _walk(exprs, opaque):
        if isinstance(e, BINDERS):
            bound.update(symbol for symbol, _, _ in limits(e))
        elif isinstance(e, APPLIED):
            bound.add(body_of_function(e)[0])
    return bound


def _is_length(symbol: Any, subscripts: Iterable[Any]) -> bool:
    """Whether a free symbol can only be a length, as in `x[n - 1]`: an index, which counts from 0, would reach -1."""
    if not isinstance(symbol, sp.Symbol) or not symbol.is_integer:
        return False
    offsets = [subscript - symbol for subscript in subscripts]
    return all(offset.is_Integer and offset.is_negative for offset in offsets)


def _idx_bounds(indices: Iterable[Any]) -> Iterator[Any]:
    for index in indices:
        for symbol in getattr(index, "atoms", lambda *_: ())(sp.Idx):
            if symbol.upper is not None:
                yield symbol.lower
                yield symbol.upper


def _unbound_subscripts(exprs: Iterable[Any], opaque: set[Any]) -> dict[Any, list[Any]]:
    """The symbols that no enclosing sum binds where they stand in subscripts, with these; an Idx may stand alone."""
    none: frozenset[Any] = frozenset()
    stack, seen = [(expr, none) for expr in exprs], set()
    used: dict[Any, list[Any]] = {}
    while stack:
        expr, bound = stack.pop()
        if (id(expr), bound) in seen:
            continue
        seen.add((id(expr), bound))
        if isinstance(expr, BINDERS):
            stack.append((body(expr), bound | {symbol for symbol, _, _ in limits(expr)}))
        elif isinstance(expr, ELEMENTS):
            if expr not in opaque:
                for subscript in subscripts_of(expr):
                    for s in subscript.free_symbols - bound:
                        if isinstance(s, sp.Symbol | sp.Idx):
                            used.setdefault(s, []).append(subscript)
                stack.extend((child, bound) for child in children(expr))
        elif isinstance(expr, sp.Idx):
            if expr not in bound and expr not in opaque:
                used.setdefault(expr, []).append(expr)
        elif not (isinstance(expr, sp.Basic) and expr in opaque):
            stack.extend((child, bound) for child in children(expr))
    return used


def _dimensions_of_subscripts(exprs: Iterable[Any], opaque: set[Any]) -> dict[Any, list[Any]]:
    """For each symbol that is a whole subscript of a matrix, the dimensions along which it runs."""
    found: dict[Any, list[Any]] = {}
    for e in _walk(exprs, opaque):
        if isinstance(e, MatrixElement):
            for symbol, dim in zip((e.i, e.j), e.parent.shape, strict=True):
                found.setdefault(symbol, []).append(dim)
    return found


def _bottom(expr: Any, axis: int, indices: Mapping[Index, int], rest: Size) -> tuple[Size, str]:
    """The first element that a subscript reaches and, where this is because a sum starts there, words for it."""
    low, why = rest, ""
    for index, coefficient in indices.items():
        last = index.start + index.extent - 1
        low = low + coefficient * (index.start if coefficient > 0 else last)
        if subscripts_of(expr)[axis] == index.symbol and index.depth:
            why = f"the sum starts at {index.symbol} = {index.start} and indices count from zero"
            if isinstance(last, Dim) and linear_in_one(last) == (str(last), 1, 0):
                why += f"; write ({index.symbol}, 0, {last} - {index.start})"
    return low, why


class _Uses:
    """Collects leaves and the reach of subscripts, scope by scope."""

    def __init__(self, context: Context, opaque: set[Any]) -> None:
        self.context = context
        self.opaque = opaque
        self.leaves: dict[Any, None] = {}
        self.reaches: dict[Any, list[Reach]] = {}
        self.ranged: set[tuple[Any, int]] = set()  # axes on which an index runs
        self.bottoms: dict[tuple[Any, int], list[tuple[Size, str]]] = {}  # first elements, and why they are first
        self.kinds: dict[Any, Kind] = {}

    def free_indices(self, exprs: Sequence[Any], order: Sequence[Any]) -> None:
        """Symbols in subscripts that nothing binds become output axes, sorted by name unless `order` says."""
        used = _unbound_subscripts(exprs, self.opaque)
        # the free symbols of an Idx with a range hold the sizes of the range too
        bound = _bound_symbols(exprs, self.opaque)
        for symbol in used:
            if symbol not in bound and symbol not in order and _is_length(symbol, used[symbol]):
                self.context.size_of(symbol)
        free = [s for s in used if s not in self.context.sizes]
        idx_labels = {s.label for s in free if isinstance(s, sp.Idx)}
        free = [s for s in free if s not in idx_labels and s not in self.opaque]
        unknown = [s for s in order if s not in free]
        if unknown:
            raise ArgumentError(f"indices= names {', '.join(map(str, unknown))}, which is no free index")
        position = {s: k for k, s in enumerate(order)}
        dims = _dimensions_of_subscripts(exprs, self.opaque)
        for symbol in free:
            key = (0, position.get(symbol, len(position)), str(symbol))
            start, extent = self._free_range(symbol, dims.get(symbol, ()))
            self.context.root.indices[symbol] = Index(symbol, start, extent, key, 0)

    def _free_range(self, symbol: Any, dims: Iterable[Any]) -> tuple[Size, Size]:
        if isinstance(symbol, sp.Idx) and symbol.upper is not None:
            _, lower = affine(symbol.lower, self.context, Scope())
            _, upper = affine(symbol.upper, self.context, Scope())
            return lower, upper - lower + 1
        for dim in dims:  # the first; others that differ are found where the subscript is lowered
            try:
                return 0, affine(dim, self.context, Scope())[1]
            except NotAffineError:
                continue  # reported where the matrix is lowered
        return 0, self.context.fresh_size(f"n_{symbol}")

    def visit(self, root: Any) -> None:
        """Collect below one expression."""
        stack: list[tuple[Any, Scope]] = [(root, self.context.root)]
        seen: set[tuple[int, Scope]] = set()
        while stack:
            expr, scope = stack.pop()
            if (id(expr), scope) in seen:
                continue
            seen.add((id(expr), scope))
            if isinstance(expr, sp.Basic) and expr in self.opaque and not isinstance(expr, TENSORS):
                self.leaves.setdefault(expr, None)
            elif isinstance(expr, BINDERS):
                inner = self._open(expr, scope)
                if inner is not None:
                    stack.append((body(expr), inner))
            elif isinstance(expr, APPLIED):
                symbol, function = body_of_function(expr)
                stack += [
                    (expr.expr, scope),
                    (function, self.context.bind_element((id(expr), scope), symbol, expr.expr)),
                ]
            elif isinstance(expr, ELEMENTS):
                if isinstance(base_of(expr), TENSORS):
                    self._subscripts(expr, scope)
                else:
                    stack.append((base_of(expr), scope))
            elif is_leaf(expr):
                if not scope.binds(expr) and expr not in self.context.sizes:
                    self.leaves.setdefault(expr, None)
            else:
                if isinstance(expr, sp.logic.boolalg.BooleanFunction | sp.Piecewise):
                    self._conditions(expr)
                stack.extend((child, scope) for child in children(expr))

    def _conditions(self, expr: Any) -> None:
        """A bare symbol where a condition belongs is a Boolean input."""
        if isinstance(expr, sp.Piecewise):
            places: Iterable[Any] = (branch.cond for branch in expr.args)
        else:
            places = expr.args[:1] if isinstance(expr, sp.ITE) else expr.args
        for place in places:
            if isinstance(place, sp.Symbol):
                self.kinds[place] = Kind.BOOLEAN

    def _open(self, expr: Any, scope: Scope) -> Scope | None:
        """The scope of a sum, with the ranges of its indices; None, and a problem noted, when they cannot be had."""
        context = self.context
        ranges: dict[Any, tuple[Size, Size]] = {}
        for symbol, lower, upper in limits(expr):
            if lower is None:
                ranges[symbol] = (0, context.fresh_size(f"n_{symbol}"))
                continue
            if upper in (sp.oo, sp.S.Infinity) or lower == -sp.oo:
                context.unsupported(expr, None, "an infinite sum or product: find its closed form with .doit()")
                return None
            try:
                (low_indices, low), (up_indices, up) = (affine(e, context, scope) for e in (lower, upper))
            except NotAffineError as reason:
                context.unsupported(expr, None, f"a bound that is not a size: {reason}")
                return None
            names = {i.symbol for i in (*low_indices, *up_indices)} | {
                s for s, _, _ in limits(expr) for end in (lower, upper) if s in end.free_symbols
            }
            if names:
                context.unsupported(
                    expr,
                    None,
                    f"a bound that depends on the index {sorted(map(str, names))[0]}: "
                    "write a rectangular sum with a Piecewise mask",
                )
                return None
            extent = up - low + 1
            if isinstance(extent, int) and extent > MAX_ELEMENTS:
                advice = f"{extent} terms, more than {MAX_ELEMENTS}: find a closed form with .doit()"
                context.unsupported(expr, None, advice)
                return None
            if isinstance(extent, int) and extent < 0:
                advice = f"the upper bound {upper} lies below the lower bound {lower}: reverse them by hand"
                context.unsupported(expr, None, advice)
                return None
            context.extents.append(extent)
            ranges[symbol] = (low, extent)
        return context.bind((id(expr), scope), ranges)

    def _subscripts(self, expr: Any, scope: Scope) -> None:
        base = base_of(expr)
        self.leaves.setdefault(base, None)
        reaches = self.reaches.setdefault(base, [])
        for axis, subscript in enumerate(subscripts_of(expr)):
            try:
                indices, rest = affine(subscript, self.context, scope)
            except NotAffineError:
                continue  # reported where the subscript is lowered
            top: Size = rest + 1
            for index, coefficient in indices.items():
                top = top + coefficient * (index.start + index.extent - 1 if coefficient > 0 else index.start)
            reaches.append((axis, top))
            self.bottoms.setdefault((base, axis), []).append(_bottom(expr, axis, indices, rest))
            if indices:
                self.ranged.add((base, axis))

    def decide_shapes(self) -> None:
        """Give every leaf its type."""
        for leaf in self.leaves:
            if isinstance(leaf, TENSORS):
                self.context.types[leaf] = TensorType(Kind.REAL, self._shape(leaf))
            else:
                self.context.types[leaf] = BOOLEAN if self.kinds.get(leaf) is Kind.BOOLEAN else REAL

    def _shape(self, base: Any) -> tuple[Size, ...]:
        reaches = self.reaches.get(base, [])
        rank = len(base.shape) if base.shape else 1 + max((axis for axis, _ in reaches), default=0)
        shape: list[Size] = []
        for axis in range(rank):
            needed = [size for a, size in reaches if a == axis]
            if base.shape:
                declared = self._declared(base, axis)
                self._note(base, axis - rank, [s for s in needed if s != declared])
                shape.append(declared)
                continue
            shape.append(self._length(base, axis, axis - rank, needed))
        return tuple(shape)

    def _declared(self, base: Any, axis: int) -> Size:
        try:
            declared: Size = affine(base.shape[axis], self.context, Scope())[1]
        except NotAffineError as reason:
            self.context.unsupported(base, None, f"the dimension {base.shape[axis]}: {reason}")
            return 1
        return declared

    def _length(self, base: Any, axis: int, place: int, needed: list[Size]) -> Size:
        """The length of an axis without a declared one: what ranges reach, or any length where only elements count."""
        numbers: list[int] = [size for size in needed if isinstance(size, int)]
        formulas: list[Size] = [size for size in needed if not isinstance(size, int)]
        top = largest(formulas) if formulas else None
        if top is None and numbers and not formulas and (base, axis) in self.ranged:
            return max(numbers)
        if formulas:
            self._warn_unused(base, axis)
        if top is None:
            top = self.context.fresh_size(f"{leaf_name(base)}_length")
            self._note(base, place, formulas)
        self._note(base, place, [max(numbers)] if numbers else [])
        return top

    def _warn_unused(self, base: Any, axis: int) -> None:
        """Sums that count from one drop the first of the data."""
        bottoms = [(low, why) for low, why in self.bottoms[base, axis] if isinstance(low, int)]
        if len(bottoms) < len(self.bottoms[base, axis]):
            return
        low, why = min(bottoms)
        if low > 0 and why:
            unused = f"{base}[0] is" if low == 1 else f"{base}[0] to {base}[{low - 1}] are"
            where = f" on axis {axis}" if axis else ""
            warn(UnusedDataWarning, f"{unused} never used{where}: {why}")

    def _note(self, base: Any, axis: int, needed: Sequence[Size]) -> None:
        """Lengths that the data must reach on an axis, and that bind sizes, though the axis may be longer."""
        for size in dict.fromkeys(needed):
            self.context.reaches.append((base, axis, size))
