"""What a node's value is: its kind and its core shape. The dtype is bound later, when code is generated."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from sym2tf.errors import ShapeError
from sym2tf.ir.dims import Size, broadcast_sizes


class Kind(enum.IntEnum):
    """Kinds of values, in the order of promotion."""

    BOOLEAN = 0
    INTEGER = 1
    REAL = 2
    COMPLEX = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class TensorType:
    """Kind and core shape of a value; batch axes stand left of the core and are not part of the type."""

    kind: Kind
    shape: tuple[Size, ...] = ()

    @property
    def rank(self) -> int:
        """The number of core axes."""
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(str, self.shape))})"


BOOLEAN = TensorType(Kind.BOOLEAN)
INTEGER = TensorType(Kind.INTEGER)
REAL = TensorType(Kind.REAL)


def broadcast_shapes(shapes: Iterable[tuple[Size, ...]]) -> tuple[Size, ...]:
    """The core shape of an elementwise operation on operands of equal core rank.

    Raises:
        ShapeError: ranks differ (core broadcasts are explicit in the graph), or two axes disagree.
    """
    listed = list(shapes)
    if listed.count(listed[0]) == len(listed):
        return listed[0]
    if any(len(shape) != len(listed[0]) for shape in listed[1:]):
        raise ShapeError(f"core ranks differ: {', '.join(str(tuple(map(str, s))) for s in listed)}")
    return tuple(broadcast_sizes(axis) for axis in zip(*listed, strict=True))
