"""Subscripts: which elements of a tensor `x[n - 1 - i]`, `A[i, i]`, `x[i + j]` or `x[g[i] + 1]` are, as graph values.

A subscript that is one index times an integer plus a size is a slice; one index on several axes is a diagonal; all
others are computed as integers, and the axes that they stand on are gathered from at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from string import ascii_lowercase
from typing import Any

import sympy as sp

from sym2tf.frontend.context import Affine, Context, Data, Index, Lowered, Scope, Window
from sym2tf.frontend.describe import describe
from sym2tf.frontend.ranges import NotAffineError, affine, bounds, hull
from sym2tf.ir.dims import Size
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.assembly import reshape
from sym2tf.ops.contraction import einsum
from sym2tf.ops.gathering import floor_divide, gathered, stride
from sym2tf.ops.indexing import slice_, squeeze, transpose
from sym2tf.ops.leaves import iota, size
from sym2tf.ops.logic import and_, less_equal, select
from sym2tf.ops.piecewise_linear import abs_, max_, min_
from sym2tf.ops.values import Value, apply, constant, with_shape

_DEPTH = 40  # as in `ranges`


def subscripted(
    context: Context, expr: Any, base: Lowered, subscripts: Sequence[Any], scope: Scope, depth: int = 0
) -> Lowered:
    """The elements of a tensor at `subscripts`, one for each tensor axis.

    Args:
        context: of the lowering.
        expr: the element, for messages.
        base: the tensor; its index axes stay in front.
        subscripts: what was written.
        scope: where.
        depth: how many subscripts it stands in.
    """
    places: list[Affine | Lowered] = []
    for subscript in subscripts:
        try:
            place = _place(context, subscript, scope, depth)
        except NotAffineError as reason:
            return context.unsupported(expr, None, f"the subscript {describe(subscript)}: {reason}")
        if isinstance(place, Affine) and not _above_zero(context, expr, subscript, place):
            return context.number(float("nan"))
        places.append(place)
    return taken(context, base, places)


def _place(context: Context, subscript: Any, scope: Scope, depth: int) -> Affine | Lowered:
    try:
        place = affine(subscript, context, scope)
        bounds(place)
    except NotAffineError:
        return _where_it_counts(context, integer(context, subscript, scope, depth))
    return place


def _above_zero(context: Context, expr: Any, subscript: Any, place: Affine) -> bool:
    low, _ = bounds(place)
    if not isinstance(low, int) or low >= 0:
        return True
    at = f"starts at {low}, negative" if place.indices else "is negative"
    advice = f"the subscript {describe(subscript)} {at}: indices are zero-based, "
    context.unsupported(expr, None, advice + "the first element is [0] and the last one [n - 1]")
    return False


def _where_it_counts(context: Context, value: Lowered) -> Lowered:
    """A subscript made of data, 0 where the range of an index depends on another one and leaves it out."""
    for index in value.axes:
        ends = [e for e in (index.lower, index.upper) if e is not None]
        if any(isinstance(e, Data) or set(e.indices) & set(value.axes) for e in ends):
            value = context.combine(select, [mask(context, index), value, context.number(0)])
    return value


def taken(context: Context, base: Lowered, places: Sequence[Affine | Lowered]) -> Lowered:
    """`base` with each of its tensor axes replaced by the indices of a subscript.

    Args:
        context: of the lowering.
        base: a value with as many tensor axes as there are places.
        places: for each an affine subscript, of which nothing below 0 is asked, or an integer value.
    """
    front, value = len(base.axes), base.value
    names: list[Index | None] = [*base.axes, *(None,) * len(places)]
    computed: dict[int, Lowered] = {}
    plain: dict[int, Affine] = {}
    for k, place in enumerate(places, front):
        if isinstance(place, Lowered):
            computed[k] = place
        elif not _is_progression(place):
            computed[k] = _clipped(context, place)
        else:
            plain[k] = place
    gathering = {index for place in computed.values() for index in place.axes}
    for k, place in list(plain.items()):
        if gathering & set(place.indices):
            computed[k] = affine_value(context, plain.pop(k))
    for k, index in enumerate(base.axes):
        if index in gathering and value.shape[k] == 1 != index.extent:
            return taken(context, _without(base, k), places)
        if index in gathering:
            computed[k] = affine_value(context, Affine({index: 1}, -index.start))
    for k, place in plain.items():
        value = _cut(value, k - len(names), place)
        names[k] = next(iter(place.indices), None)
    dropped = [k for k in plain if not plain[k].indices]
    for k in sorted(dropped, reverse=True):
        value = squeeze(value, axis=k - len(names))
        del names[k]
        computed = {j - (j > k): place for j, place in computed.items()}
    data, data_names = value, tuple(names)
    if computed:
        value, names = _gathered(context, value, names, computed)
    found = in_order(value, [a for a in names if a is not None])
    depth = max([base.depth, found.depth, *(c.depth for c in computed.values())])
    windows = _windows(places, data_names)
    if computed and windows is not None:
        context.windows[found.value.id, found.axes] = Window(data, data_names, windows, depth)
    return Lowered(found.value, found.axes, depth)


def _windows(places: Sequence[Affine | Lowered], names: Sequence[Index | None]) -> dict[int, Affine] | None:
    """The computed subscripts, by axis, if each is a sum of multiples of two indices that stand nowhere else."""
    found = [p for p in places if isinstance(p, Affine) and (len(p.indices) > 1 or not _is_progression(p))]
    axes = [k for k, name in enumerate(names) if name is None]
    used = [*(a for a in names if a is not None), *(i for p in found for i in p.indices)]
    apart = len(set(used)) == len(used) and all(isinstance(p, Affine) for p in places)
    if not apart or len(found) != len(axes) or any(len(p.indices) != 2 for p in found):
        return None
    return None if any(i.dependent for p in found for i in p.indices) else dict(zip(axes, found, strict=True))


def _is_progression(place: Affine) -> bool:
    """Whether a subscript runs through an axis in equal steps, all of whose places count."""
    if len(place.indices) > 1 or not all(isinstance(c, int) for c in place.indices.values()):
        return False
    return not any(index.dependent for index in place.indices) or bounds(place) == hull(place)


def _without(base: Lowered, k: int) -> Lowered:
    """A value without an axis of length 1, on which nothing depends."""
    axes = (*base.axes[:k], *base.axes[k + 1 :])
    return Lowered(squeeze(base.value, axis=k - base.value.type.rank), axes, base.depth)


def _cut(value: Value, axis: int, place: Affine) -> Value:
    """One axis at a subscript that is a size, or one index times an integer plus a size."""
    if not place.indices:
        return sliced(value, axis, place.rest, 1)
    ((index, step),) = place.indices.items()
    assert isinstance(step, int)
    start = step * index.start + place.rest
    if step == 1:
        return sliced(value, axis, start, index.extent)
    every: Value = stride(value, axis=axis, start=start, size=index.extent, step=step)
    return every


def sliced(value: Value, axis: int, start: Size, size: Size) -> Value:
    """`size` elements of one axis from `start` on."""
    if start == 0 and value.shape[axis] == size:
        return value
    cut: Value = slice_(value, axis=axis, start=start, size=size)
    return cut


def _gathered(
    context: Context, value: Value, names: list[Index | None], computed: Mapping[int, Lowered]
) -> tuple[Value, list[Index | None]]:
    """The computed axes, made one, replaced by the indices of their places."""
    positions = sorted(computed)
    first, rank = positions[0], len(names)
    lengths = [value.shape[k] for k in positions]
    rest = [k for k in range(rank) if k not in computed]
    order = [*(k for k in rest if k < first), *positions, *(k for k in rest if k > first)]
    if order != list(range(rank)):
        value = transpose(value, axes=tuple(k - rank for k in order))
    after = rank - first - len(positions)
    if len(positions) > 1:
        shape = (_product(lengths), *value.shape[first + len(positions) :])
        value = reshape(value, rank=after + len(positions), shape=shape)
    places = [computed[k] for k in positions]
    place = places[0] if len(places) == 1 else _linear(context, places, lengths)
    value = gathered(value, place.value, axis=-1 - after)
    ordered = [names[k] for k in order]
    return value, [*ordered[:first], *place.axes, *ordered[first + len(positions) :]]


def _linear(context: Context, places: Sequence[Lowered], lengths: Sequence[Size]) -> Lowered:
    """Row-major numbers of elements; each place is looked up in its own range, so that none runs over into the next."""
    terms = []
    for k, (place, extent) in enumerate(zip(places, lengths, strict=True)):
        if place.value.node.op is not iota:
            within = apply(context.builder, iota, (), {"start": 0, "size": extent})
            place = Lowered(gathered(within, place.value), place.axes, place.depth)
        repeat = _product(lengths[k + 1 :])
        terms.append(place if repeat == 1 else context.combine(mul, [place, number(context, repeat)]))
    return context.combine(add, terms)


def _product(lengths: Sequence[Size]) -> Size:
    product: Size = 1
    for length in lengths:
        product = product * length
    return product


def in_order(value: Value, axes: list[Index]) -> Lowered:
    """The axes brought into their common order, an index that stands on several of them once: a diagonal."""
    ordered = sorted(set(axes), key=lambda a: a.order)
    if len(ordered) < len(axes):
        value = with_shape(value, tuple(a.extent for a in axes))
        letter = dict(zip(ordered, ascii_lowercase, strict=False))
        inputs, output = ("".join(letter[a] for a in axes),), "".join(letter[a] for a in ordered)
        value = einsum(value, inputs=inputs, output=output)
    elif ordered != axes:
        value = transpose(value, axes=tuple(axes.index(a) - len(axes) for a in ordered))
    return Lowered(value, tuple(ordered), max((a.depth for a in axes), default=0))


# Integers as values


def number(context: Context, count: Size) -> Lowered:
    """A size as a value."""
    if isinstance(count, int):
        return Lowered(constant(context.builder, count))
    return Lowered(apply(context.builder, size, (), {"size": count}))


def values_of(context: Context, index: Index) -> Lowered:
    """The values that an index takes."""
    value = apply(context.builder, iota, (), {"start": index.start, "size": index.extent})
    return Lowered(value, (index,), index.depth)


def affine_value(context: Context, place: Affine) -> Lowered:
    """Multiples of indices plus a size, as an integer value."""
    if len(place.indices) == 1 and 1 in place.indices.values():
        (index,) = place.indices
        value = apply(context.builder, iota, (), {"start": index.start + place.rest, "size": index.extent})
        return Lowered(value, (index,), index.depth)
    terms = []
    for index, c in sorted(place.indices.items(), key=lambda item: item[0].order):
        values = values_of(context, index)
        terms.append(values if c == 1 else context.combine(mul, [values, number(context, c)]))
    if place.rest != 0 or not terms:
        terms.append(number(context, place.rest))
    return context.combine(add, terms) if len(terms) > 1 else terms[0]


def _clipped(context: Context, place: Affine) -> Lowered:
    """An affine subscript, kept within what it reaches where all its indices count."""
    return between(context, place, *bounds(place))


def between(context: Context, place: Affine, low: Size, high: Size) -> Lowered:
    """An affine value, moved to the nearer end where it lies outside of `low` to `high`."""
    value = affine_value(context, place)
    least, most = hull(place)
    if least != low:
        value = context.combine(max_, [value, number(context, low)])
    if most != high:
        value = context.combine(min_, [value, number(context, high)])
    return value


def mask(context: Context, index: Index) -> Lowered:
    """Where the values of an index count, as a condition on it and on what its range depends on."""
    inner = values_of(context, index)
    parts = []
    if index.lower is not None:
        parts.append(context.combine(less_equal, [_end_within(context, index, index.lower, lower=True), inner]))
    if index.upper is not None:
        parts.append(context.combine(less_equal, [inner, _end_within(context, index, index.upper, lower=False)]))
    return context.combine(and_, parts) if len(parts) > 1 else parts[0]


def _end_within(context: Context, index: Index, end: Affine | Data, *, lower: bool) -> Lowered:
    """A bound of `index` that is looked up, if data say it, so that terms beyond the data are an error, not dropped.

    One that ends the range in front of its first value, or starts it behind its last, leaves nothing to be dropped.
    """
    value = end_value(context, end)
    if isinstance(end, Affine):
        return value
    first = index.start if lower else index.start - 1  # `extent` + 1 bounds: that of a range over nothing is one
    value = _where_it_counts(context, _shifted(context, value, -first))
    nearest = number(context, index.extent) if lower else context.number(0)
    value = context.combine(min_ if lower else max_, [value, nearest])
    within = apply(context.builder, iota, (), {"start": first, "size": index.extent + 1})
    return Lowered(gathered(within, value.value), value.axes, value.depth)


def _shifted(context: Context, value: Lowered, by: Size) -> Lowered:
    return value if by == 0 else context.combine(add, [value, number(context, by)])


def end_value(context: Context, end: Affine | Data) -> Lowered:
    """A bound as an integer value."""
    return affine_value(context, end) if isinstance(end, Affine) else integer(context, end.expr, end.scope)


def integer(context: Context, expr: Any, scope: Scope, depth: int = 0) -> Lowered:
    """An integer expression of indices, sizes and integer data, computed with integers whatever the dtype of reals is.

    Raises:
        NotAffineError: it is no such expression.
    """
    if depth > _DEPTH:
        raise NotAffineError("it is too deep")
    try:
        return affine_value(context, affine(expr, context, scope))
    except NotAffineError as reason:
        for cls in type(expr).__mro__:
            if cls in _INTEGER:
                return _INTEGER[cls](context, expr, scope, depth + 1)
        raise NotAffineError(reason) from None


def _leaf(context: Context, expr: Any, scope: Scope, depth: int) -> Lowered:
    return Lowered(context.input(expr))


def _element(context: Context, expr: Any, scope: Scope, depth: int) -> Lowered:
    if expr in context.types:
        value = Lowered(context.input(expr))
    else:
        base = Lowered(context.input(expr.base))
        if base.tail != len(expr.indices):
            raise NotAffineError(f"{len(expr.indices)} subscripts where {expr.base} has {base.tail} axes")
        value = subscripted(context, expr, base, expr.indices, scope, depth)
    if value.value.type.kind is Kind.INTEGER:
        return value
    if context.problems:  # one of its own subscripts was refused
        return context.number(0)
    raise NotAffineError(f"{describe(expr)} is not integer")


def _combined(op: Any) -> Callable[[Context, Any, Scope, int], Lowered]:
    def build(context: Context, expr: Any, scope: Scope, depth: int) -> Lowered:
        return context.combine(op, [integer(context, a, scope, depth) for a in expr.args])

    return build


def _power(context: Context, expr: Any, scope: Scope, depth: int) -> Lowered:
    if not (isinstance(expr.exp, sp.Integer) and 0 < expr.exp.p <= 8):
        raise NotAffineError(f"{describe(expr)} is no small power")
    base = integer(context, expr.base, scope, depth)
    return context.combine(mul, [base] * expr.exp.p) if expr.exp.p > 1 else base


def quotient(expr: Any, context: Context, scope: Scope) -> tuple[Any, Size]:
    """`floor(expr)` as an integer expression and the size that it is divided by."""
    above, below = sp.fraction(sp.together(expr))
    divisor = affine(below, context, scope)
    if divisor.indices or (isinstance(divisor.rest, int) and divisor.rest <= 0):
        raise NotAffineError(f"{describe(below)} is no positive size")
    return above, divisor.rest


def _floor(context: Context, expr: Any, scope: Scope, depth: int) -> Lowered:
    above, by = quotient(expr.args[0], context, scope)
    return _divided(integer(context, above, scope, depth), by)


def _ceiling(context: Context, expr: Any, scope: Scope, depth: int) -> Lowered:
    above, by = quotient(-expr.args[0], context, scope)
    return _negative(context, _divided(integer(context, above, scope, depth), by))


def _mod(context: Context, expr: Any, scope: Scope, depth: int) -> Lowered:
    by = affine(expr.args[1], context, scope)
    if by.indices or (isinstance(by.rest, int) and by.rest <= 0):
        raise NotAffineError(f"{describe(expr.args[1])} is no positive size")
    value = integer(context, expr.args[0], scope, depth)
    whole = context.combine(mul, [_divided(value, by.rest), number(context, by.rest)])
    return context.combine(add, [value, _negative(context, whole)])


def _divided(value: Lowered, by: Size) -> Lowered:
    return value if by == 1 else Lowered(floor_divide(value.value, by=by), value.axes, value.depth)


def _negative(context: Context, value: Lowered) -> Lowered:
    return context.combine(mul, [value, context.number(-1)])


_INTEGER: Mapping[Any, Callable[[Context, Any, Scope, int], Lowered]] = {
    sp.Symbol: _leaf,
    sp.Indexed: _element,
    sp.Add: _combined(add),
    sp.Mul: _combined(mul),
    sp.Pow: _power,
    sp.Max: _combined(max_),
    sp.Min: _combined(min_),
    sp.Abs: _combined(abs_),
    sp.floor: _floor,
    sp.ceiling: _ceiling,
    sp.Mod: _mod,
}
