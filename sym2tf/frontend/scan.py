"""The look around before lowering: which symbols are sizes, which are free indices, and how far subscripts reach.

An input node needs its core shape, and that of `x` in `Sum(x[i+1] - x[i], (i, 0, n-2))` is known only when every
subscript of `x` has been seen.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sympy as sp
from sympy.matrices.expressions.matexpr import MatrixElement

from sym2tf.errors import ArgumentError, ShapeError, UnusedDataWarning, warn
from sym2tf.frontend.binders import BINDERS, body, ends_of, limits, opened
from sym2tf.frontend.context import Affine, Context, Index, Scope, leaf_name
from sym2tf.frontend.describe import describe
from sym2tf.frontend.matrix_parts import body_of_function, dimensions
from sym2tf.frontend.ranges import (
    NotAffineError,
    affine,
    bounds,
    data_in,
    interval,
    largest,
    size_symbols,
    symbols_in,
)
from sym2tf.frontend.walk import (
    APPLIED,
    ELEMENTS,
    PARTED,
    TENSORS,
    base_of,
    bound_symbols,
    children,
    is_leaf,
    subexpressions,
    subscripts_of,
)
from sym2tf.ir.dims import Dim, Size, linear_in_one, size_names
from sym2tf.ir.types import Kind, TensorType

Reach = tuple[int, Size]  # (axis from the left, elements needed)


def scan(context: Context, exprs: Sequence[Any], arguments: Sequence[Any] | None, order: Sequence[Any]) -> list[Any]:
    """Find sizes, indices, leaves and the shapes of data; returns the leaves that occur.

    Args:
        context: receives sizes, free indices, scopes of sums, and the types of the leaves.
        exprs: the expressions to lower.
        arguments: the leaves that the user named as arguments, if any.
        order: the order in which the user wants free indices as output axes.
    """
    opaque = set(arguments or ())
    _sizes(context, exprs, opaque, set(order))
    stated = dict(context.sizes)
    uses = _Uses(context, opaque)
    uses.collect(exprs, order, {})
    lengths = uses.lengths_of_indices()
    if lengths:
        context.restart(stated)
        uses = _Uses(context, opaque)
        uses.collect(exprs, order, lengths)
    for leaf in arguments or ():
        if leaf not in context.sizes:
            uses.leaves.setdefault(leaf, None)
    uses.decide_shapes()
    return list(uses.leaves)


def _sizes(context: Context, exprs: Sequence[Any], opaque: set[Any], indices: set[Any]) -> None:
    """Register every symbol that stands in a bound or a declared shape, or that a subscript is divided by."""
    found: set[Any] = set()
    for expr in subexpressions(exprs, opaque):
        if isinstance(expr, BINDERS):
            bound = {symbol for symbol, _, _ in limits(expr)}
            for end in ends_of(expr):
                found |= size_symbols(end) - bound
        entries: Iterable[Any] = ()
        if isinstance(expr, sp.Indexed):
            entries = (*(expr.base.shape or ()), *_idx_bounds(expr.indices))
        elif isinstance(expr, PARTED):
            entries = dimensions(expr)
        if isinstance(expr, ELEMENTS):
            entries = (*entries, *_divisors(subscripts_of(expr)))
        for entry in entries:
            found |= size_symbols(entry)
    for symbol in sorted(found - bound_symbols(exprs, opaque) - indices, key=str):
        context.size_of(symbol)


def _divisors(subscripts: Iterable[Any]) -> Iterator[Any]:
    """What integers are divided by in subscripts, as in `x[Mod(i + 1, n)]` and `x[floor(i/m)]`."""
    stack = list(subscripts)
    while stack:
        part = stack.pop()
        if isinstance(part, sp.Mod):
            yield part.args[1]
        elif isinstance(part, sp.Pow) and part.exp.is_negative:
            yield part.base
        stack.extend(getattr(part, "args", ()))


def _is_length(symbol: Any, subscripts: Iterable[Any], sizes: Container[Any]) -> bool:
    """Whether a free symbol can only be a length, as in `x[n - 1 - i]`: an index, counting from 0, would reach -1.

    Not in `x[i + m - 1 - j]` where `m` is a size, and so at least 1: there it is the place in a convolution.
    """
    if not isinstance(symbol, sp.Symbol) or not symbol.is_integer:
        return False
    for subscript in subscripts:
        terms = (subscript - symbol).as_coefficients_dict()
        first = terms.pop(sp.S.One, sp.S.Zero)  # where the other indices are 0
        others = all(isinstance(t, sp.Symbol | sp.Idx | sp.Indexed) and t != symbol for t in terms)
        first += sum(factor for term, factor in terms.items() if term in sizes and factor.is_positive)
        if not others or not (first.is_Integer and first.is_negative):
            return False
    return True


def _idx_bounds(indices: Iterable[Any]) -> Iterator[Any]:
    for index in indices:
        for symbol in getattr(index, "atoms", lambda *_: ())(sp.Idx):
            if symbol.upper is not None:
                yield symbol.lower
                yield symbol.upper


def _unbound_subscripts(exprs: Iterable[Any], opaque: set[Any], order: Iterable[Any]) -> dict[Any, list[Any]]:
    """The symbols that no enclosing sum binds where they stand in subscripts, with these; an Idx may stand alone.

    In the bounds of a sum, too, an Idx is an index, and so is what `order` says.
    """
    none: frozenset[Any] = frozenset()
    stack, seen = [(expr, none) for expr in exprs], set()
    used: dict[Any, list[Any]] = {}
    while stack:
        expr, bound = stack.pop()
        if (id(expr), bound) in seen:
            continue
        seen.add((id(expr), bound))
        if isinstance(expr, BINDERS):
            inner = bound | {symbol for symbol, _, _ in limits(expr)}
            stack.extend((child, inner) for child in children(expr))
            for end in ends_of(expr):
                for s in set(symbols_in(end, inside=False)) - inner:
                    if isinstance(s, sp.Idx) or s in order:
                        used.setdefault(s, []).append(end)
        elif isinstance(expr, ELEMENTS):
            if expr not in opaque:
                for subscript in subscripts_of(expr):
                    for s in set(symbols_in(subscript, inside=False)) - bound:
                        used.setdefault(s, []).append(subscript)
                stack.extend((child, bound) for child in children(expr))
        elif isinstance(expr, sp.Idx):
            if expr not in bound and expr not in opaque:
                used.setdefault(expr, []).append(expr)
        elif isinstance(expr, sp.KroneckerDelta):
            stack.extend((child, bound) for child in children(expr))
            for s in set(symbols_in(expr, inside=False)) & set(order) - bound:
                used.setdefault(s, []).append(expr)
        elif not (isinstance(expr, sp.Basic) and expr in opaque):
            stack.extend((child, bound) for child in children(expr))
    return used


def _declared_lengths(exprs: Iterable[Any], opaque: set[Any]) -> dict[Any, list[tuple[Any, int, Any]]]:
    """For each symbol that is a subscript, alone or plus a number: the declared length, the number, and where."""
    found: dict[Any, list[tuple[Any, int, Any]]] = {}
    for e in subexpressions(exprs, opaque):
        if isinstance(e, ELEMENTS) and e not in opaque:
            shape = e.parent.shape if isinstance(e, MatrixElement) else getattr(base_of(e), "shape", None) or ()
            for subscript, dim in zip(subscripts_of(e), shape, strict=False):
                offset, symbol = subscript.as_coeff_Add() if isinstance(subscript, sp.Add) else (0, subscript)
                if isinstance(offset, int | sp.Integer) and offset >= 0:
                    found.setdefault(symbol, []).append((dim, int(offset), e))
    return found


def _bottom(expr: Any, axis: int, place: Affine) -> tuple[Size, str]:
    """The first element that a subscript reaches and, where this is because a sum starts there, words for it."""
    low, why = bounds(place)[0], ""
    for index in place.indices:
        if (
            subscripts_of(expr)[axis] == index.symbol
            and index.depth
            and not index.dependent
            and not index.offset.indices
        ):
            why = f"the sum starts at {index.symbol} = {index.start} and indices count from zero"
            if isinstance(index.last, Dim) and linear_in_one(index.last) == (str(index.last), 1, 0):
                why += f"; write ({index.symbol}, 0, {index.last} - {index.start})"
    return low, why


def _falls_short(place: Affine) -> bool:
    """Whether a range like that of j in `(j, 0, i - 1)` ends before that of i does: the data end where i does."""
    return any(
        isinstance(index.upper, Affine) and index.last not in {outer.last for outer in index.upper.indices}
        for index in place.indices
    )


def _refuse_two_ranges(free: Iterable[Any]) -> None:
    """Two Idx of one name with different ranges are two indices to SymPy; nobody means that.

    Raises:
        ShapeError: names both ranges.
    """
    first: dict[str, Any] = {}
    for index in free:
        other = first.setdefault(str(index), index)
        if other is not index:
            both = " and ".join(_range_text(i) for i in (other, index))
            raise ShapeError(f"the free index {index} has two ranges: {both}")


def _range_text(index: Any) -> str:
    if not isinstance(index, sp.Idx) or index.upper is None:
        return "that of the data"
    return f"{index.lower} to {index.upper}"


class _Uses:
    """Collects leaves and the reach of subscripts, scope by scope."""

    def __init__(self, context: Context, opaque: set[Any]) -> None:
        self.context = context
        self.opaque = opaque
        self.leaves: dict[Any, None] = {}
        self.reaches: dict[Any, list[Reach]] = {}
        self.loose: dict[tuple[Any, int], list[Size]] = {}  # reaches of which data have more as a rule
        self.ranks: dict[Any, int] = {}  # numbers of subscripts
        self.ranged: set[tuple[Any, int]] = set()  # axes on which an index runs
        self.bottoms: dict[tuple[Any, int], list[tuple[Size, str]]] = {}  # first elements, and why they are first
        self.kinds: dict[Any, Kind] = {}
        self.of_data: dict[Any, Size] = {}  # free indices whose range only the data say

    def collect(self, exprs: Sequence[Any], order: Sequence[Any], lengths: Mapping[Any, Size]) -> None:
        """Look at all expressions; `lengths` of free indices are what an earlier look found out."""
        self._free_indices(exprs, order, lengths)
        for root in exprs:
            self.visit(root)

    def lengths_of_indices(self) -> dict[Any, Size]:
        """The ranges of free indices that run along axes of which sums say the length.

        In `exp(x[i])/Sum(exp(x[j]), (j, 0, n - 1))` i has n values, as j has.
        """
        open_names = {name for extent in self.of_data.values() for name in size_names(extent)}
        found = {}
        for symbol, extent in self.of_data.items():
            stated = set()
            for reaches in self.reaches.values():
                for along in {axis for axis, size in reaches if size == extent}:
                    others = [d for axis, d in reaches if axis == along and d != extent and isinstance(d, Dim)]
                    if others and not any(size_names(d) & open_names for d in others):
                        stated.add(largest(others))
            if len(stated) == 1 and None not in stated:
                found[symbol] = stated.pop()
        return {symbol: length for symbol, length in found.items() if length is not None}

    def _free_indices(self, exprs: Sequence[Any], order: Sequence[Any], known: Mapping[Any, Size]) -> None:
        """Symbols in subscripts that nothing binds become output axes, sorted by name unless `order` says."""
        used = _unbound_subscripts(exprs, self.opaque, order)
        # the free symbols of an Idx with a range hold the sizes of the range too
        bound, stated = bound_symbols(exprs, self.opaque), set(self.context.sizes)
        for symbol in used:
            if symbol not in bound and symbol not in order and _is_length(symbol, used[symbol], stated):
                self.context.size_of(symbol)
        free = [s for s in used if s not in self.context.sizes]
        idx_labels = {s.label for s in free if isinstance(s, sp.Idx)}
        self._integer_arguments(s for s in free if s in self.opaque)
        free = [s for s in free if s not in idx_labels and s not in self.opaque]
        _refuse_two_ranges(free)
        unknown = [s for s in order if s not in free]
        if unknown:
            raise ArgumentError(f"indices= names {', '.join(map(str, unknown))}, which is no free index")
        position = {s: k for k, s in enumerate(order)}
        lengths = _declared_lengths(exprs, self.opaque)
        for symbol in free:
            key = (0, position.get(symbol, len(position)), str(symbol))
            start, extent = (0, known[symbol]) if symbol in known else self._free_range(symbol, lengths.get(symbol, ()))
            self.context.root.indices[symbol] = Index(symbol, start, extent, key, 0)

    def _integer_arguments(self, symbols: Iterable[Any]) -> None:
        """Arguments in subscripts are integers that the caller gives."""
        for symbol in symbols:
            self.context.integers.add(symbol)
            self.kinds[symbol] = Kind.INTEGER

    def _free_range(self, symbol: Any, lengths: Iterable[tuple[Any, int, Any]]) -> tuple[Size, Size]:
        if isinstance(symbol, sp.Idx) and symbol.upper is not None:
            _, lower = affine(symbol.lower, self.context, Scope())
            _, upper = affine(symbol.upper, self.context, Scope())
            return lower, upper - lower + 1
        known: list[tuple[Size, Any]] = []
        shifted: list[Size] = []
        for length, offset, element in lengths:
            try:
                declared = affine(length, self.context, Scope())[1]
            except NotAffineError:
                continue  # reported where the tensor is lowered
            if offset:
                shifted.append(declared - offset)
            else:
                known.append((declared, element))
        for length, element in known[1:]:
            if length != known[0][0]:
                raise ShapeError(
                    f"the free index {symbol} runs over axes of different lengths: {known[0][0]} in "
                    f"{describe(known[0][1])} and {length} in {describe(element)}"
                )
        if known or shifted:  # in `x[i + 1] - x[i]` the last i is that of the last difference
            shortest = largest([-length for length in (*(length for length, _ in known[:1]), *shifted)])
            if known or shortest is not None:
                return 0, known[0][0] if shortest is None else -shortest
        self.of_data[symbol] = self.context.fresh_size(f"n_{symbol}")
        return 0, self.of_data[symbol]

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
                inner = opened(self.context, expr, scope)
                if inner is not None:
                    stack.append((body(expr), inner))
                    stack.extend((element, inner) for element in self._data(ends_of(expr)))
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
                stack.extend((element, scope) for element in self._data(subscripts_of(expr)))
            elif is_leaf(expr):
                if not scope.binds(expr) and expr not in self.context.sizes:
                    self.leaves.setdefault(expr, None)
            else:
                if isinstance(expr, sp.logic.boolalg.BooleanFunction | sp.Piecewise):
                    self._conditions(expr)
                elif isinstance(expr, sp.KroneckerDelta):
                    self._data(expr.args)
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

    def _data(self, exprs: Iterable[Any]) -> list[Any]:
        """The elements of data in subscripts and bounds, which makes the data integers."""
        elements = [element for expr in exprs for element in data_in(expr)]
        for element in elements:
            self.kinds[element if element in self.opaque else element.base] = Kind.INTEGER
        return elements

    def _subscripts(self, expr: Any, scope: Scope) -> None:
        base, subscripts = base_of(expr), subscripts_of(expr)
        self.leaves.setdefault(base, None)
        reaches = self.reaches.setdefault(base, [])
        self.ranks[base] = max(self.ranks.get(base, 1), len(subscripts))
        for axis, subscript in enumerate(subscripts):
            try:
                place = affine(subscript, self.context, scope)
                low, high = bounds(place)
            except NotAffineError:  # reported, if it is no integer either, where the subscript is lowered
                reach = interval(subscript, self.context, scope)
                if reach is not None:
                    reaches.append((axis, reach[1] + 1))
                continue
            if _falls_short(place):
                self.loose.setdefault((base, axis), []).append(high + 1)
                continue
            reaches.append((axis, high + 1))
            if not isinstance(low, int):
                self.context.firsts.append(low)
            self.bottoms.setdefault((base, axis), []).append(_bottom(expr, axis, place))
            if len(place.indices) == 1 and next(iter(place.indices.values())) in (1, -1):
                self.ranged.add((base, axis))

    def decide_shapes(self) -> None:
        """Give every leaf its type."""
        for leaf in self.leaves:
            shape = self._shape(leaf) if isinstance(leaf, TENSORS) else ()
            self.context.types[leaf] = TensorType(self.kinds.get(leaf, Kind.REAL), shape)

    def _shape(self, base: Any) -> tuple[Size, ...]:
        reaches = self.reaches.get(base, [])
        rank = len(base.shape) if base.shape else self.ranks.get(base, 1)
        shape: list[Size] = []
        for axis in range(rank):
            needed = [size for a, size in reaches if a == axis]
            if base.shape:
                declared = self._declared(base, axis)
                needed += self.loose.get((base, axis), [])
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
        self._note(base, place, [size for size in self.loose.get((base, axis), []) if size != top])
        return top

    def _warn_unused(self, base: Any, axis: int) -> None:
        """Sums that count from one drop the first of the data."""
        all_bottoms = self.bottoms.get((base, axis), [])
        bottoms = [(low, why) for low, why in all_bottoms if isinstance(low, int)]
        if not bottoms or len(bottoms) < len(all_bottoms):
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
