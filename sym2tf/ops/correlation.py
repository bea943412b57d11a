"""Windows: sums of products of a kernel with every stretch of data that is as long, without a matrix of stretches.

The rule of the derivatives is that of convolutional layers (V. Dumoulin, F. Visin, "A guide to convolution arithmetic
for deep learning", 2016): by the data the correlation of the padded cotangent with the reversed kernel, by the kernel
that of the data with the cotangent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.errors import ShapeError
from sym2tf.ir.dims import Size, broadcast_sizes
from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import Kind, TensorType, broadcast_shapes
from sym2tf.ops.gathering import stride
from sym2tf.ops.indexing import expand, pad, restore, slice_, sum_, transpose
from sym2tf.ops.values import ones_like, with_rank, with_shape

MOST = 3  # axes along which windows move: TensorFlow has kernels for so many


def _type(x: TensorType, k: TensorType, *, dims: int) -> TensorType:
    if x.rank < dims + 1 or k.rank != x.rank + 1:
        raise ShapeError(f"windows of {x} along {dims} axes and kernels {k}")
    broadcast_sizes((x.shape[-dims - 1], k.shape[-dims - 1]))
    front = broadcast_shapes((x.shape[: -dims - 1], k.shape[: -dims - 2]))
    lengths = (n - m + 1 for n, m in zip(x.shape[-dims:], k.shape[-dims:], strict=True))
    return TensorType(max(x.kind, k.kind), (*front, k.shape[-dims - 2], *lengths))


def _np_correlate(x: Any, k: Any, *, dims: int) -> Any:
    x, k = np.asarray(x), np.asarray(k)
    lengths = tuple(n - m + 1 for n, m in zip(x.shape[-dims:], k.shape[-dims:], strict=True))
    if not x.size or not k.size or 0 in lengths:
        front = np.broadcast_shapes(x.shape[: -dims - 1], k.shape[: -dims - 2])
        return np.zeros((*front, k.shape[-dims - 2], *lengths), np.result_type(x, k))
    if dims == 1 and x.size == x.shape[-1] and k.size == k.shape[-1]:
        front = np.broadcast_shapes(x.shape[:-2], k.shape[:-3])
        return np.correlate(x.ravel(), k.ravel(), "valid").reshape(*front, 1, *lengths)
    windows = np.lib.stride_tricks.sliding_window_view(x, k.shape[-dims:], tuple(range(-dims, 0)))
    places, offsets = "uvw"[:dims], "xyz"[:dims]
    return np.einsum(f"...c{places}{offsets},...oc{offsets}->...o{places}", windows, k)


def _swapped(k: Any, dims: int) -> Any:
    """Kernels with the axes of outputs and channels exchanged."""
    return transpose(k, axes=(-dims - 1, -dims - 2, *range(-dims, 0)))


def _summed_to(value: Any, shape: tuple[Size, ...]) -> Any:
    """A cotangent summed over the axes along which an operand of core `shape` was stretched."""
    axes = [-k for k in range(1, len(shape) + 1) if shape[-k] == 1 != value.shape[-k]]
    return restore(sum_(value, axes=tuple(sorted(axes))), axes) if axes else value


def _by_data(g: Any, x: Any, k: Any, dims: int) -> Any:
    for axis in range(-dims, 0):  # one zero more than needed, so that kernels of length 0 need none
        m = k.shape[axis]
        g = pad(g, axis=axis, before=m, after=m)
        k = stride(k, axis=axis, start=m - 1, size=m, step=-1)
    found = correlate(g, with_rank(_swapped(k, dims), g.type.rank + 1), dims=dims)
    for axis in range(-dims, 0):
        found = slice_(found, axis=axis, start=1, size=x.shape[axis])
    return _summed_to(found, x.shape)


def _by_kernel(g: Any, x: Any, k: Any, dims: int) -> Any:
    # The sum over an axis that x has and the kernel lacks is done by the correlation: it stands for the channels.
    front = range(-dims - 2, -x.type.rank - 1, -1)
    batch = next((a for a in front if k.shape[a - 1] == 1 != x.shape[a] and x.shape[a] == g.shape[a]), None)
    x, g = (_channel(v, batch, dims) for v in (x, g))
    g = expand(g, axis=-dims - 3)  # for the channels of x, which are a batch here
    found = _swapped(correlate(with_rank(x, g.type.rank - 1), g, dims=dims), dims)
    return _summed_to(found if batch is None else expand(found, axis=batch - 1), k.shape)


def _channel(value: Any, batch: int | None, dims: int) -> Any:
    """A value with an axis of its front, or a new one, in the place of the channels, and its own channels before it."""
    if batch is None:
        return expand(value, axis=-dims - 1)
    return transpose(value, axes=(*range(batch + 1, -dims), batch, *range(-dims, 0)))


def _vjp(g: Any, y: Any, x: Any, k: Any, *, dims: int) -> tuple[Any, ...]:
    return _by_data(g, x, k, dims), _by_kernel(g, x, k, dims)


def _jvp(tangents: tuple[Any, ...], y: Any, x: Any, k: Any, *, dims: int) -> Any:
    by_x, by_k = tangents
    terms = []
    if by_x is not None:
        terms.append(correlate(by_x, with_rank(k, by_x.type.rank + 1), dims=dims))
    if by_k is not None:
        terms.append(correlate(with_rank(x, by_k.type.rank - 1), by_k, dims=dims))
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _support(g: Any, y: Any, x: Any, k: Any, *, dims: int) -> tuple[Any, ...]:
    return _vjp(g, y, *(with_shape(ones_like(v), v.shape) for v in (x, k)), dims=dims)


correlate: Op = Op(
    name="correlate", arity=2, elementwise=False, promotes=Kind.REAL, infer=_type, numpy=_np_correlate,
    tf=TFOp("", "tf.nn.convolution", form=lambda e, x, k, *, dims: e.call("correlate_core", x, k, dims)),
    vjp=_vjp, jvp=_jvp, support=_support, label="Σ in windows",
    doc="y[..., o, i] = sum over c and j of k[..., o, c, j]*x[..., c, i + j], where i and j stand for the last `dims` "
    "axes. The axes in front of channels c and outputs o broadcast; operands have equally many of them.",
)

ROWS = (correlate,)
