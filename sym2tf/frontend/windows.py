"""Sums over windows: what gathers at `i + j` would make a matrix of, as the correlation that it is.

`Sum(k[j]*x[i + j], (j, 0, m - 1))` costs the memory of its data and its answer, not that of all windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sym2tf.frontend.context import Affine, Context, Index, Lowered, Window, depth_of
from sym2tf.frontend.deltas import product_of
from sym2tf.frontend.ranges import bounds
from sym2tf.frontend.subscripts import in_order, sliced
from sym2tf.ir.dims import Size
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import mul
from sym2tf.ops.correlation import MOST, correlate
from sym2tf.ops.gathering import stride
from sym2tf.ops.indexing import expand, squeeze, transpose
from sym2tf.ops.values import Value, apply, constant, with_shape

LARGEST = 32  # operations of a function of what was gathered


class _Pair(NamedTuple):
    """One axis along which windows move: the subscript is `step*place + sign*offset + rest`."""

    axis: int
    place: Index
    step: int
    offset: Index
    sign: int
    rest: Size


def correlated(context: Context, factors: list[Lowered], bound: list[Index]) -> tuple[list[Lowered], list[Index]]:
    """The factors of a sum, windows and what is summed over them as correlations, and the indices that remain."""
    again = any(_window(context, factor) is not None for factor in factors)
    factors = _together(context, factors) if again else factors
    while again:
        again = False
        for k, factor in enumerate(factors):
            window = _window(context, factor)
            others = [*factors[:k], *factors[k + 1 :]]
            pairs = None if window is None else _pairs(window, others, bound)
            if window is None or pairs is None:
                continue
            offsets = {pair.offset for pair in pairs}
            kernel = [f for f in others if offsets & set(f.axes)]
            rest = [f for f in others if not offsets & set(f.axes)]
            made, summed = _correlation(context, window, pairs, kernel, rest, bound)
            factors, bound, again = [*rest, made], [b for b in bound if b not in offsets | summed], True
            break
    return factors, bound


def _together(context: Context, factors: Sequence[Lowered]) -> list[Lowered]:
    """Factors with windows at the same subscripts made one, as in `Sum(x[i + j]*y[i + j]*k[j], j)`."""
    kept: list[tuple[Lowered, Window | None]] = []
    for factor in factors:
        window = _window(context, factor)
        twin = next((k for k, (_, other) in enumerate(kept) if window is not None and _alike(window, other)), None)
        if twin is None:
            kept.append((factor, window))
        else:
            both = context.combine(mul, [kept[twin][0], factor])
            kept[twin] = both, _window(context, both)
    return [factor for factor, _ in kept]


def _alike(window: Window, other: Window | None) -> bool:
    return other is not None and (window.names, window.places) == (other.names, other.places)


def _window(context: Context, factor: Lowered) -> Window | None:
    """What a factor was gathered from, or the function that it is of what was gathered at one place.

    The data are what subscripts reach, and no more.
    """
    axes, nodes = factor.axes, context.builder.nodes
    known = context.windows.get((factor.value.id, axes))
    if known is not None or factor.tail:
        return None if known is None else _cut_out(known)
    order, leaves = [factor.value.id], dict[int, Window]()
    for v in order:
        if len(order) > LARGEST or not nodes[v].op.elementwise or not context.builder.operands[v]:
            return None
        for u in context.builder.operands[v]:
            if (u, axes) in context.windows:
                leaves[u] = _cut_out(context.windows[u, axes])
            elif any(d != 1 for d in nodes[u].type.shape):
                order.append(u)
    found = list(leaves.values())
    if not found or not all(_alike(found[0], other) for other in found):
        return None
    made = {u: window.value for u, window in leaves.items()}
    for v in sorted(set(order)):  # operands have smaller numbers
        operands = [made.get(u) or _number(Value(context.builder, u)) for u in context.builder.operands[v]]
        made[v] = apply(context.builder, nodes[v].op, operands, nodes[v].attributes)
    result = found[0]._replace(value=made[factor.value.id], depth=max(window.depth for window in found))
    context.windows[factor.value.id, axes] = result
    return result


def _cut_out(window: Window) -> Window:
    """A window on nothing but the data that subscripts reach, whose elements are all looked at."""
    value, places = window.value, {}
    for axis, place in window.places.items():
        first, last = bounds(place)
        value = sliced(value, axis - len(window.names), first, last - first + 1)
        places[axis] = Affine(place.indices, place.rest - first)
    return window._replace(value=value, places=places)


def _number(value: Value) -> Value:
    """A value of one element, without axes."""
    while value.type.rank:
        inner = value.builder.operands[value.id][0] if value.node.op is expand else None
        value = squeeze(value, axis=-1) if inner is None else Value(value.builder, inner)
    return value


def _pairs(window: Window, others: Sequence[Lowered], bound: Sequence[Index]) -> list[_Pair] | None:
    """Which index of each subscript is summed, and which one stays; None where the sum is no correlation."""
    pairs: list[_Pair] = []
    for axis, subscript in window.places.items():
        found = next((p for p in _readings(axis, subscript, bound) if _separates(p, others)), None)
        if found is None:
            return None
        pairs.append(found)
    places = {pair.place for pair in pairs}
    kernels = [f for f in others if any(pair.offset in f.axes for pair in pairs)]
    if any(places & set(f.axes) or f.tail for f in kernels) or len(pairs) > MOST:
        return None
    return pairs if window.value.type.kind is Kind.REAL else None


def _readings(axis: int, subscript: Affine, bound: Sequence[Index]) -> Iterator[_Pair]:
    """Each way to take a subscript as a place plus an offset that is summed, those of inner sums first."""
    order = sorted(subscript.indices, key=lambda i: bound.index(i) if i in bound else len(bound))
    for offset in order:
        (place,) = (i for i in order if i is not offset)
        step, sign = subscript.indices[place], subscript.indices[offset]
        if offset in bound and sign in (1, -1) and isinstance(step, int) and _overlap(step, offset.extent):
            yield _Pair(axis, place, step, offset, int(str(sign)), subscript.rest)


def _overlap(step: int, width: Size) -> bool:
    """Whether windows that start `step` apart have elements in common, so that there is something to be saved."""
    return not isinstance(width, int) or width > abs(step)


def _separates(pair: _Pair, others: Iterable[Lowered]) -> bool:
    """Whether no other factor holds both indices."""
    return not any(pair.place in f.axes and pair.offset in f.axes for f in others)


def _correlation(
    context: Context,
    window: Window,
    pairs: Sequence[_Pair],
    kernel: Sequence[Lowered],
    rest: Sequence[Lowered],
    bound: Sequence[Index],
) -> tuple[Lowered, set[Index]]:
    """The factors `kernel`, summed over windows of the data, and further indices that have been summed.

    An index that data and kernel have in common, and no other factor, stands for the channels.
    """
    places, offsets = [p.place for p in pairs], [p.offset for p in pairs]
    data = window.value
    for pair in pairs:
        data = sliced(data, pair.axis - len(window.names), *_reached(pair))
    own: list[Any] = list(window.names)
    for pair in pairs:
        own[pair.axis] = pair.offset
    product = product_of(context, kernel) if kernel else Lowered(constant(context.builder, 1, Kind.REAL))
    weights, axes = _full(product, offsets)
    for k, pair in enumerate(pairs):
        if pair.sign < 0:
            extent = pair.offset.extent
            weights = stride(weights, axis=k - len(pairs), start=extent - 1, size=extent, step=-1)
    outside = {a for f in rest for a in f.axes}
    both = [a for a in own if a in axes and a not in offsets]
    channel = next((a for a in both if a in bound and a not in outside), None)
    output = next((a for a in axes if a not in own and a not in offsets), None)
    front = sorted({a for a in (*own, *axes) if a not in (channel, output, *offsets)}, key=lambda a: a.order)
    lengths = {} if channel is None else {channel: channel.extent}
    data = _arranged(data, own, [*front, channel, *offsets], lengths)
    weights = _arranged(weights, axes, [*front, output, channel, *offsets], lengths)
    value: Value = correlate(data, weights, dims=len(pairs))
    for k, pair in enumerate(pairs):
        if pair.step != 1:
            start = 0 if pair.step > 0 else -pair.step * (pair.place.extent - 1)
            value = stride(value, axis=k - len(pairs), start=start, size=pair.place.extent, step=pair.step)
    if output is None:
        value = squeeze(value, axis=-len(pairs) - 1)
    found = in_order(value, [*front, *([] if output is None else [output]), *places])
    depth = max(window.depth, depth_of(kernel), found.depth)
    return Lowered(found.value, found.axes, depth), set() if channel is None else {channel}


def _reached(pair: _Pair) -> tuple[Size, Size]:
    """The first element that a subscript reaches, and how many there are from it to the last one."""
    first = pair.rest
    count: Size = 1
    for index, c in ((pair.place, pair.step), (pair.offset, pair.sign)):
        first = first + c * (index.start if c > 0 else index.last)
        count = count + abs(c) * (index.extent - 1)
    return first, count


def _full(product: Lowered, offsets: Sequence[Index]) -> tuple[Value, list[Any]]:
    """A kernel with its offsets last, in full length, and the names of its axes."""
    kept = [a for a in product.axes if a not in offsets]
    value = _arranged(product.value, list(product.axes), [*kept, *offsets], {a: a.extent for a in offsets})
    return value, [*kept, *offsets]


def _arranged(value: Value, names: Sequence[Any], due: Sequence[Any], lengths: Mapping[Any, Size]) -> Value:
    """The axes of a value in the order of `due`, new ones of length 1, those of `lengths` in full length."""
    order = [names.index(name) for name in due if name in names]
    if order != sorted(order):
        value = transpose(value, axes=tuple(k - len(names) for k in order))
    for k in range(-1, -len(due) - 1, -1):
        if due[k] not in names:
            value = expand(value, axis=k)
    shape = tuple(lengths.get(name, d) for name, d in zip(due, value.shape, strict=True))
    return with_shape(value, shape)
