"""Lengths of vectors whose squares may leave the range of floats."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LEAST, MOST = 1e-140, 1e140  # between which squares can be added up


def length_of(vector: Array) -> float:
    """The Euclidean length; of what is not finite, what it is."""
    largest = float(np.abs(vector).max(initial=0))
    if LEAST < largest < MOST:
        return float(np.linalg.norm(vector))
    if largest == 0 or not np.isfinite(largest):
        return largest
    with np.errstate(over="ignore"):
        return largest * float(np.linalg.norm(vector / largest))
