"""What a user can say in SymPy's terms that SymPy has no words for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Simplex:
    """The assumption that the elements of an input along an axis are at least 0 and sum to 1.

    Attributes:
        target: the input: a matrix symbol or an indexed base.
        axis: of its core, counted from the left, or from the right if negative.
    """

    target: Any
    axis: int = -1


@dataclass(frozen=True)
class OneHot:
    """The assumption that along an axis of an input one element is 1 and the others are 0; attributes as `Simplex`."""

    target: Any
    axis: int = -1
