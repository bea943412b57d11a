"""Parameters as the user states them, and with everything about them decided: shape, start, bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError
from sym2tf.fit.wording import counted
from sym2tf.ir.dims import evaluate_size, size_names
from sym2tf.ir.graph import Node

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Parameter:
    """How a parameter is to be estimated.

    Attributes:
        initial: where to start: a number, or an array for an indexed base; a number stands for every element.
        shape: of an indexed base, where neither `initial` nor the data say it.
        bounds: `(lower, upper)`, numbers or arrays, None for no bound on that side.
        fixed: keep the initial value.
    """

    initial: Any = 0.0
    shape: tuple[int, ...] | None = None
    bounds: tuple[Any, Any] | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Unknown:
    """One parameter with everything decided; arrays have the parameter's shape."""

    symbol: Any
    name: str
    initial: Array
    lower: Array
    upper: Array
    fixed: bool

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each element in C order: `w`, or `w[0]`, `w[1]`, ..."""
        if not self.initial.shape:
            return (self.name,)
        return tuple(f"{self.name}[{','.join(map(str, k))}]" for k in np.ndindex(self.initial.shape))


def decided(node: Node, stated: Parameter, sizes: Mapping[str, int]) -> Unknown:
    """A parameter with its shape, start and bounds, which are checked.

    Args:
        node: its input node.
        stated: by the user.
        sizes: what the data determine.

    Raises:
        ArgumentError: no shape, or a start or bounds that do not fit it or each other.
    """
    name = node.attributes["name"]
    needed = {s for d in node.type.shape for s in size_names(d)} - set(sizes)
    if stated.shape is not None:
        shape = tuple(stated.shape)
    elif np.ndim(stated.initial):
        shape = np.shape(stated.initial)
    elif needed:
        raise ArgumentError(
            f"the shape of {name} is ({', '.join(map(str, node.type.shape))}), and no data determine "
            f"{', '.join(sorted(needed))}: give data for {name}, or an array of start values, or Parameter(shape=...)"
        )
    else:
        shape = tuple(evaluate_size(d, sizes) for d in node.type.shape)
    if len(shape) != node.type.rank:
        used = counted(node.type.rank, "subscript")
        raise ArgumentError(f"{name} is used with {used}, its start value has shape {shape}")
    start = _parameter_array(f"the start value of {name}", stated.initial, shape)
    if not np.isfinite(start).all():
        raise ArgumentError(f"the start value of {name} is not finite: {stated.initial!r}")
    low, high = _bounds(name, stated.bounds, shape)
    if (low > high).any():
        raise ArgumentError(f"the bounds of {name} cross: {stated.bounds}")
    if ((start < low) | (start > high)).any():
        raise ArgumentError(f"{name} starts at {stated.initial}, outside its bounds {stated.bounds}")
    return Unknown(node.attributes["symbol"], name, start, low, high, stated.fixed)


def _bounds(name: str, bounds: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
    if bounds is None:
        bounds = (None, None)
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ArgumentError(f"the bounds of {name} are (lower, upper), got {bounds!r}")
    low = _parameter_array(f"the lower bound of {name}", -np.inf if bounds[0] is None else bounds[0], shape)
    high = _parameter_array(f"the upper bound of {name}", np.inf if bounds[1] is None else bounds[1], shape)
    if np.isnan(low).any() or np.isnan(high).any():
        raise ArgumentError(f"a bound of {name} is NaN")
    return low, high


def _parameter_array(what: str, value: Any, shape: tuple[int, ...]) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{what} is not a number: {value!r}") from None
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        raise ArgumentError(f"{what} has shape {array.shape}, {shape} is due") from None
