"""Event files for TensorBoard, through `tf.summary.write`, which needs no TensorBoard to be installed."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np

from sym2tf.lazy import lazy

tf = lazy("tensorflow")

Array = np.ndarray[Any, Any]

BINS = 30  # of a histogram, as in TensorBoard's own


class EventFile:
    """A new event file in a folder; scalars and histograms of one step at a time."""

    def __init__(self, folder: str | PathLike[str]) -> None:
        with tf.device("CPU:0"):
            self._writer = tf.summary.create_file_writer(fspath(folder))

    def write(self, step: int, scalars: Mapping[str, float], histograms: Mapping[str, Array]) -> None:
        """Add one step.

        Args:
            step: its number.
            scalars: by tag.
            histograms: by tag, arrays of any shape; what is not finite is left out.
        """
        with tf.device("CPU:0"), self._writer.as_default(step=step):
            for tag, number in scalars.items():
                tf.summary.write(tag, np.float32(number), metadata=_plugin("scalars"))
            for tag, array in histograms.items():
                tf.summary.write(tag, _histogram(array), metadata=_plugin("histograms"))

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _plugin(name: str) -> Any:
    """What tells TensorBoard how to show a tensor."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = name
    return metadata


def _histogram(array: Array) -> Array:
    """Rows of left edge, right edge and count, which is the tensor that TensorBoard's plugin reads."""
    counts, edges = np.histogram(array[np.isfinite(array)], BINS)
    return np.stack([edges[:-1], edges[1:], counts], axis=1)
