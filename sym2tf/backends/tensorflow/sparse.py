"""Sparse tensors from a pattern and a tensor of values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sym2tf.errors import ShapeError
from sym2tf.lazy import lazy

tf = lazy("tensorflow")


def sparse_tensor(rows: Any, columns: Any, shape: tuple[int, int], values: Any) -> Any:
    """A `tf.sparse.SparseTensor` of shape `(*batch, *shape)`.

    Args:
        rows: of the entries, in row-major order.
        columns: of the entries.
        shape: of one matrix.
        values: of shape `(*batch, entries)`.

    Raises:
        ShapeError: the batch shape is not known where it is called, inside a graph.
    """
    if not values.shape.is_fully_defined():
        raise ShapeError(f"a sparse tensor needs a known batch shape, got values of shape {values.shape}")
    batch = tuple(values.shape.as_list()[:-1])
    count = math.prod(batch)
    front = np.indices(batch).reshape(len(batch), count).repeat(len(rows), axis=1)
    indices = np.stack([*front, np.tile(rows, count), np.tile(columns, count)], axis=-1)
    return tf.sparse.SparseTensor(
        tf.constant(indices, tf.int64, (len(indices), len(batch) + 2)), tf.reshape(values, [-1]), (*batch, *shape)
    )
