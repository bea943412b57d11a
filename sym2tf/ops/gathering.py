"""Rows that move elements to computed or strided places: gather and scatter, one-hot, running sums, strides.

Axes are counted from the right, as everywhere. A subscript that points outside its axis is an error in NumPy
and in TensorFlow on the CPU, never an element from the other end; TensorFlow's GPU kernels and XLA do not look.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sym2tf.errors import ShapeError, SubscriptError
from sym2tf.ir.dims import Size
from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.values import Value


def gathered(x: Any, index: Any, axis: int = -1) -> Value:
    """`x` with its core axis `axis` replaced by the core axes of the integer value `index`."""
    taken: Value = gather(x, index, axis=axis, core=x.type.rank, rank=index.type.rank)
    return taken


def scattered(x: Any, index: Any, size: Size, axis: int = -1) -> Value:
    """The transpose of `gathered`: the axes of `x` that match the core of `index`, summed into one of length `size`.

    `axis` is where that one stands in the result.
    """
    total: Value = scatter_add(x, index, axis=axis, core=x.type.rank, rank=index.type.rank, size=size)
    return total


def _integer(index: TensorType) -> None:
    if index.kind is not Kind.INTEGER:
        raise ShapeError(f"a subscript of type {index}, which is not integer")


def _gather_type(x: TensorType, index: TensorType, *, axis: int, core: int, rank: int) -> TensorType:
    _integer(index)
    if (core, rank) != (x.rank, index.rank) or -axis > core:
        raise ShapeError(f"gather from axis {axis} of {x} by {index}, declared of ranks {core} and {rank}")
    at = core + axis
    return TensorType(x.kind, (*x.shape[:at], *index.shape, *x.shape[at + 1 :]))


def _places(index: Any, length: int) -> Any:
    """Subscripts as int64.

    Raises:
        SubscriptError: one of them is no element of an axis of `length`.
    """
    places = np.asarray(index).astype(np.int64)
    wrong = (places < 0) | (places >= length)
    if wrong.any():
        raise SubscriptError(f"subscript {places[wrong].flat[0]} of an axis of length {length}")
    return places


def _batched(x: Any, core: int, places: Any, rank: int) -> tuple[Any, Any, tuple[int, ...]]:
    """Both operands with one flat batch axis in front; a batch that only `x` has counts as further core axes."""
    if places.ndim == rank:
        return x[np.newaxis], places[np.newaxis], ()
    batch = np.broadcast_shapes(x.shape[: x.ndim - core], places.shape[: places.ndim - rank])
    count = math.prod(batch)
    x = np.broadcast_to(x, (*batch, *x.shape[x.ndim - core :]))
    places = np.broadcast_to(places, (*batch, *places.shape[places.ndim - rank :]))
    return (
        x.reshape(count, *x.shape[len(batch) :]), places.reshape(count, *places.shape[len(batch) :]), batch
    )


def _np_gather(x: Any, index: Any, *, axis: int, core: int, rank: int) -> Any:
    x = np.asarray(x)
    places = _places(index, x.shape[axis])
    if places.ndim == rank:
        return np.take(x, places, axis=axis)
    x, places, batch = _batched(x, core, places, rank)
    first = x.ndim + axis
    rows = np.arange(len(x)).reshape(-1, *(1,) * rank)
    taken = np.moveaxis(x, axis, 1)[rows, places]  # batch, index axes, all others
    moved = np.moveaxis(taken, range(1, 1 + rank), range(first, first + rank))
    return moved.reshape(*batch, *moved.shape[1:])


def _np_scatter_add(x: Any, index: Any, *, axis: int, core: int, rank: int, size: int) -> Any:
    x, places, batch = _batched(np.asarray(x), core, _places(index, size), rank)
    rest = -axis - 1
    first = x.ndim - rest - rank
    front = np.moveaxis(x, range(first, first + rank), range(1, 1 + rank))
    others = front.shape[1 + rank :]
    places = places + size * np.arange(len(x)).reshape(-1, *(1,) * rank)
    total = np.zeros((len(x) * size, *others), x.dtype)
    np.add.at(total, places.reshape(-1), front.reshape(places.size, *others))
    moved = np.moveaxis(total.reshape(len(x), size, *others), 1, first)
    return moved.reshape(*batch, *moved.shape[1:])


gather: Op = Op(
    name="gather", arity=2, elementwise=False, promotes=False, infer=_gather_type, numpy=_np_gather,
    tf=TFOp("GatherV2", "tf.gather", form=lambda e, x, index, *, axis, core, rank: e.call(
        "gather_core", x, index, axis, core, rank)),
    vjp=lambda g, y, x, index, *, axis, core, rank: (scattered(g, index, x.shape[axis], axis), None),
    jvp=lambda tangents, y, x, index, *, axis, core, rank: gathered(tangents[0], index, axis),
    support=lambda g, y, x, index, *, axis, core, rank: (scattered(g, index, x.shape[axis], axis), None),
    sample=((-3.0, 3.0), (0, 4)),
    doc="x[..., index, ...]: core axis `axis` of x replaced by the core axes of an integer index; batch axes of "
    "both broadcast, which is why their core ranks `core` and `rank` are given.",
)


def _scatter_type(
    x: TensorType, index: TensorType, *, axis: int, core: int, rank: int, size: Size
) -> TensorType:
    _integer(index)
    at = core + axis + 1 - rank
    if (core, rank) != (x.rank, index.rank) or at < 0 or x.shape[at : at + rank] != index.shape:
        raise ShapeError(f"axes of {x} scattered by {index} onto axis {axis} do not fit")
    return TensorType(x.kind, (*x.shape[:at], size, *x.shape[at + rank :]))


scatter_add: Op = Op(
    name="scatter_add", arity=2, elementwise=False, promotes=False, infer=_scatter_type, numpy=_np_scatter_add,
    tf=TFOp("ScatterNd", "tf.scatter_nd", form=lambda e, x, index, *, axis, core, rank, size: e.call(
        "scatter_add_core", x, index, axis, core, rank, e.size(size))),
    vjp=lambda g, y, x, index, *, axis, core, rank, size: (gathered(g, index, axis), None),
    jvp=lambda tangents, y, x, index, *, axis, core, rank, size: scattered(tangents[0], index, size, axis),
    support=lambda g, y, x, index, *, axis, core, rank, size: (gathered(g, index, axis), None),
    sample=((-3.0, 3.0), (0, 4)), label="Σ by index",
    doc="The transpose of gather, a sum by segments: element i of the result is the sum of those where index is i.",
)

one_hot: Op = Op(
    name="one_hot", elementwise=False, promotes=False, sample=((-1, 4),),
    infer=lambda index, *, size: TensorType(Kind.REAL, (*index.shape, size)),
    numpy=lambda index, *, size: np.asarray(
        np.expand_dims(np.asarray(index).astype(np.int64), -1) == np.arange(size), np.float64),
    tf=TFOp("OneHot", "tf.one_hot", form=lambda e, index, *, size: e.call(
        "one_hot_core", index, e.size(size), e.dtype(Kind.REAL))),
    vjp=lambda g, y, index, *, size: (None,),
    doc="1 where the new last axis, of length `size`, meets the integer, else 0; all 0 for one outside the axis.",
)

floor_divide: Op = Op(
    name="floor_divide", elementwise=False, promotes=False, sample=((-9, 9),), label="//",
    infer=lambda x, *, by: TensorType(Kind.INTEGER, x.shape),
    numpy=lambda x, *, by: np.floor_divide(x, by),
    tf=TFOp("FloorDiv", "tf.math.floordiv", form=lambda e, x, *, by: e.call("tf.math.floordiv", x, e.size(by))),
    vjp=lambda g, y, x, *, by: (None,),
    doc="The floor of an integer divided by a size, exact where a quotient of floats would not be.",
)


def _upwards(low: Any, size: int, step: int, axis: int) -> Any:
    """The NumPy index of a progression on one axis, read from its lowest element."""
    return (..., slice(low, low + size * abs(step), abs(step)), *(slice(None),) * (-axis - 1))


def _np_cumsum(x: Any, *, axis: int, reverse: bool, exclusive: bool) -> Any:
    x = np.asarray(x)
    if reverse:
        return np.flip(_np_cumsum(np.flip(x, axis), axis=axis, reverse=False, exclusive=exclusive), axis)
    sums = np.cumsum(x, axis=axis)
    if not exclusive or not x.shape[axis]:
        return sums
    kept = sums[_upwards(0, x.shape[axis] - 1, 1, axis)]
    widths = [(0, 0)] * x.ndim
    widths[axis] = (1, 0)
    return np.pad(kept, widths)


def _cumsum_vjp(g: Any, y: Any, x: Any, *, axis: int, reverse: bool, exclusive: bool) -> tuple[Any, ...]:
    return (cumsum(g, axis=axis, reverse=not reverse, exclusive=exclusive),)


cumsum: Op = Op(
    name="cumsum", elementwise=False, linear=True, infer=lambda x, *, axis, reverse, exclusive: x,
    numpy=_np_cumsum,
    tf=TFOp("Cumsum", "tf.cumsum", form=lambda e, x, *, axis, reverse, exclusive: e.call(
        "tf.cumsum", x, axis=axis, exclusive=exclusive, reverse=reverse)),
    vjp=_cumsum_vjp, label="running Σ",
    doc="Sums of the elements up to each one of an axis (from it on if `reverse`, without itself if `exclusive`).",
)


def _low(start: Size, size: Size, step: int) -> Size:
    """The smallest subscript of a progression."""
    return start if step > 0 else start + (size - 1) * step


def _np_stride(x: Any, *, axis: int, start: int, size: int, step: int) -> Any:
    length, last = np.shape(x)[axis], start + (size - 1) * step
    if size and not (0 <= start < length and 0 <= last < length):
        raise SubscriptError(f"subscripts {start} to {last} of an axis of length {length}")
    taken = x[_upwards(_low(start, size, step), size, step, axis)]
    return np.flip(taken, axis) if step < 0 else taken


def _np_dilate(x: Any, *, axis: int, start: int, size: int, step: int) -> Any:
    shape = list(np.shape(x))
    count, shape[axis] = shape[axis], size
    result = np.zeros(shape, np.asarray(x).dtype)
    result[_upwards(_low(start, count, step), count, step, axis)] = np.flip(x, axis) if step < 0 else x
    return result


def _replaced(x: TensorType, axis: int, size: Size) -> TensorType:
    if -axis > x.rank:
        raise ShapeError(f"axis {axis} of a value with {x.rank} core axes")
    at = x.rank + axis
    return TensorType(x.kind, (*x.shape[:at], size, *x.shape[at + 1 :]))


stride: Op = Op(
    name="stride", elementwise=False, linear=True, promotes=False, numpy=_np_stride,
    infer=lambda x, *, axis, start, size, step: _replaced(x, axis, size),
    tf=TFOp("StridedSlice", "", form=lambda e, x, *, axis, start, size, step: e.call(
        "stride_axis", x, axis, e.size(_low(start, size, step)), e.size(size), step)),
    vjp=lambda g, y, x, *, axis, start, size, step: (
        dilate(g, axis=axis, start=start, size=x.shape[axis], step=step),),
    doc="`size` elements of one axis: start, start + step, ...; `step` may be negative.",
)
dilate: Op = Op(
    name="dilate", elementwise=False, linear=True, promotes=False, numpy=_np_dilate,
    infer=lambda x, *, axis, start, size, step: _replaced(x, axis, size),
    tf=TFOp("", "dilate_axis", form=lambda e, x, *, axis, start, size, step: e.call(
        "dilate_axis", x, axis, e.size(start), e.size(size), step)),
    vjp=lambda g, y, x, *, axis, start, size, step: (
        stride(g, axis=axis, start=start, size=x.shape[axis], step=step),),
    doc="The transpose of stride: the elements at start, start + step, ... of an axis of `size`, zeros between.",
)

ROWS = (gather, scatter_add, one_hot, floor_divide, cumsum, stride, dilate)
