"""How a gradient rule says that an operand matters only on a branch."""

from __future__ import annotations

from typing import Any, NamedTuple


class Guarded(NamedTuple):
    """A cotangent or tangent that counts only where `guard` holds; elsewhere it is zero."""

    value: Any
    guard: Any


def when(guard: Any, value: Any) -> Guarded:
    """What a gradient rule returns for an operand that matters only where `guard` holds."""
    return Guarded(value, guard)
