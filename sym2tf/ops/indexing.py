"""Rows that move data and compute nothing: new axes, broadcasts, slices, padding, transposition.

Axes are counted from the right and always negative, so that a rule written for a core shape works unchanged
when batch axes or the basis axis of a Jacobian stand in front of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.errors import ShapeError
from sym2tf.ir.dims import Size
from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import TensorType


def _movement(name: str, infer: Any, numpy: Any, tf: TFOp, vjp: Any, doc: str) -> Op:
    return Op(
        name=name, infer=infer, elementwise=False, linear=True, promotes=False, numpy=numpy, tf=tf, vjp=vjp,
        doc=doc,
    )


def _insert(shape: tuple[Size, ...], axis: int, size: Size) -> tuple[Size, ...]:
    at = len(shape) + 1 + axis
    return (*shape[:at], size, *shape[at:])


def _replace(shape: tuple[Size, ...], axis: int, *size: Size) -> tuple[Size, ...]:
    if -axis > len(shape):
        raise ShapeError(f"axis {axis} of a value with {len(shape)} core axes")
    at = len(shape) + axis
    return (*shape[:at], *size, *shape[at + 1 :])


expand: Op = _movement(
    "expand",
    lambda x, *, axis: TensorType(x.kind, _insert(x.shape, axis, 1)),
    lambda x, *, axis: np.expand_dims(x, axis),
    TFOp("ExpandDims", "tf.expand_dims", form=lambda e, x, *, axis: e.call("tf.expand_dims", x, axis=axis)),
    lambda g, y, x, *, axis: (squeeze(g, axis=axis),),
    "A new axis of length 1, at position `axis` of the result.",
)
squeeze: Op = _movement(
    "squeeze",
    lambda x, *, axis: TensorType(x.kind, _replace(x.shape, axis)),
    lambda x, *, axis: np.squeeze(x, axis),
    TFOp("Squeeze", "tf.squeeze", form=lambda e, x, *, axis: e.call("tf.squeeze", x, axis=axis)),
    lambda g, y, x, *, axis: (expand(g, axis=axis),),
    "Drops an axis of length 1.",
)


def _broadcast_type(x: TensorType, *, shape: tuple[Size, ...]) -> TensorType:
    keep = len(x.shape) - len(shape)
    if keep < 0 or any(a not in (1, b) for a, b in zip(x.shape[keep:], shape, strict=True)):
        raise ShapeError(f"{x} does not broadcast to ({', '.join(map(str, shape))})")
    return TensorType(x.kind, (*x.shape[:keep], *shape))


def _broadcast_numpy(x: Any, *, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(x, (*np.shape(x)[: np.ndim(x) - len(shape)], *shape))


def _broadcast_vjp(g: Any, y: Any, x: Any, *, shape: tuple[Size, ...]) -> tuple[Any, ...]:
    from_right = [-k for k in range(1, len(shape) + 1)]
    stretched = [axis for axis in from_right if x.shape[axis] == 1 and shape[axis] != 1]
    return (restore(sum_(g, axes=tuple(sorted(stretched))), stretched),)


broadcast = _movement(
    "broadcast",
    _broadcast_type,
    _broadcast_numpy,
    TFOp("BroadcastTo", "tf.broadcast_to",
         form=lambda e, x, *, shape: e.call("broadcast_core", x, e.shape(shape))),
    _broadcast_vjp,
    "Stretches axes of length 1 so that the last core axes have `shape`.",
)


def _slice_numpy(x: Any, *, axis: int, start: int, size: int) -> Any:
    if start < 0 or start + size > np.shape(x)[axis]:
        raise IndexError(f"elements {start} to {start + size - 1} of an axis of length {np.shape(x)[axis]}")
    return x[(..., slice(start, start + size), *(slice(None),) * (-axis - 1))]


def _slice_vjp(g: Any, y: Any, x: Any, *, axis: int, start: Size, size: Size) -> tuple[Any, ...]:
    return (pad(g, axis=axis, before=start, after=x.shape[axis] - start - size),)


slice_: Op = _movement(
    "slice",
    lambda x, *, axis, start, size: TensorType(x.kind, _replace(x.shape, axis, size)),
    _slice_numpy,
    TFOp("StridedSlice", "", form=lambda e, x, *, axis, start, size: e.subscript(
        x, axis, e.size(start), e.size(start + size))),
    _slice_vjp,
    "`size` elements of one axis, from `start`.",
)


def _pad_numpy(x: Any, *, axis: int, before: int, after: int) -> Any:
    widths = [(0, 0)] * np.ndim(x)
    widths[axis] = (before, after)
    return np.pad(x, widths)


pad: Op = _movement(
    "pad",
    lambda x, *, axis, before, after: TensorType(
        x.kind, _replace(x.shape, axis, x.shape[axis] + before + after)),
    _pad_numpy,
    TFOp("Pad", "tf.pad", form=lambda e, x, *, axis, before, after: e.call(
        "pad_axis", x, axis, e.size(before), e.size(after))),
    lambda g, y, x, *, axis, before, after: (slice_(g, axis=axis, start=before, size=x.shape[axis]),),
    "Zeros before and after the elements of one axis.",
)


def _transpose_numpy(x: Any, *, axes: tuple[int, ...]) -> Any:
    keep = np.ndim(x) - len(axes)
    return np.transpose(x, (*range(keep), *(np.ndim(x) + a for a in axes)))


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    rank = len(axes)
    return tuple(axes.index(k - rank) - rank for k in range(rank))


transpose: Op = _movement(
    "transpose",
    lambda x, *, axes: TensorType(
        x.kind, (*x.shape[: len(x.shape) - len(axes)], *(x.shape[a] for a in axes))),
    _transpose_numpy,
    TFOp("Transpose", "tf.transpose", form=lambda e, x, *, axes: e.call("transpose_core", x, e.shape(axes))),
    lambda g, y, x, *, axes: (transpose(g, axes=_inverse(axes)),),
    "The last core axes in a new order: axis k of these is axis `axes[k]` of the operand.",
)


def restore(value: Any, axes: Any) -> Any:
    """Put axes of length 1 back where `axes` (negative, in the result) had been reduced."""
    for axis in sorted(axes, reverse=True):
        value = expand(value, axis=axis)
    return value


def _sum_type(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    return TensorType(x.kind, reduced(x.shape, axes))


def reduced(shape: tuple[Size, ...], axes: tuple[int, ...]) -> tuple[Size, ...]:
    """`shape` without `axes`."""
    if any(-a > len(shape) for a in axes):
        raise ShapeError(f"axes {axes} of a value with {len(shape)} core axes")
    return tuple(d for k, d in enumerate(shape) if k - len(shape) not in axes)


sum_: Op = Op(
    name="sum", infer=_sum_type, elementwise=False, linear=True,
    numpy=lambda x, *, axes: np.sum(x, axis=axes),
    tf=TFOp("Sum", "tf.reduce_sum", form=lambda e, x, *,
        axes: e.call("tf.reduce_sum", x, axis=e.shape(axes))),
    vjp=lambda g, y, x, *, axes: (restore(g, axes),), label="Σ",
    doc="The sum over `axes`. Its cotangent keeps length 1 there; who needs the full length broadcasts it.",
)

ROWS = (expand, squeeze, broadcast, slice_, pad, transpose, sum_)
