"""Event files for TensorBoard, through `tf.summary`."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np

from sym2tf.lazy import lazy

tf = lazy("tensorflow")

Array = np.ndarray[Any, Any]


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
            histograms: by tag, arrays of any shape.
        """
        with tf.device("CPU:0"), self._writer.as_default(step=step):
            for tag, number in scalars.items():
                tf.summary.scalar(tag, number)
            for tag, array in histograms.items():
                tf.summary.histogram(tag, array)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
