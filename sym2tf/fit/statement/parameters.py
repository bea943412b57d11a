"""Parameters as the user states them, and with everything about them decided: shape, start, bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.errors import ArgumentError
from sym2tf.fit.wording import counted, kind_of
from sym2tf.ir.dims import evaluate_size, size_names
from sym2tf.ir.graph import Node

Array = np.ndarray[Any, Any]

SIGNS = {  # what SymPy may be told of a symbol -> the bounds that this implies, and where to start
    "positive": (0.0, np.inf, 1.0),
    "negative": (-np.inf, 0.0, -1.0),
    "nonnegative": (0.0, np.inf, 0.0),
    "nonpositive": (-np.inf, 0.0, 0.0),
}


@dataclass(frozen=True)
class Parameter:
    """How a parameter is to be estimated.

    Attributes:
        initial: where to start: a number, or an array for an indexed base; a number stands for every element. None is
            0, or 1 or -1 where the symbol is declared positive or negative, or the nearest value within the bounds.
            An expression in other parameters ties it to them.
        shape: of an indexed base, where neither `initial` nor the data say it.
        bounds: `(lower, upper)`, numbers or arrays, None for no bound on that side.
        fixed: keep the initial value.
    """

    initial: Any = None
    shape: tuple[int, ...] | None = None
    bounds: tuple[Any, Any] | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Unknown:
    """One parameter with everything decided; arrays have the parameter's shape.

    Attributes:
        symbol, name: of it.
        initial: where to start.
        lower, upper: bounds, infinite where there are none.
        fixed: it keeps its initial value.
        implied: nobody stated bounds, but the symbol is declared positive or the like: a bound that need not be
            enforced unless a solver would cross it.
        starts: (batch..., shape...), where independent fits start from different values.
    """

    symbol: Any
    name: str
    initial: Array
    lower: Array
    upper: Array
    fixed: bool
    implied: bool = False
    starts: Array | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each element in C order: `w`, or `w[0]`, `w[1]`, ..."""
        return element_names(self.name, self.initial.shape)


def element_names(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """`w`, or `w[0]`, `w[1]`, ... of an array of parameters, in C order."""
    return tuple(f"{name}[{','.join(map(str, k))}]" for k in np.ndindex(shape)) if shape else (name,)


def parameters_of(params: Any) -> dict[Any, Parameter]:
    """What the user says of parameters, by symbol or name."""
    if isinstance(params, sp.Basic | sp.IndexedBase | str):
        params = [params]
    if not isinstance(params, Iterable):
        raise ArgumentError(f"params is {kind_of(params)}; give a mapping to start values, or the symbols")
    pairs = params.items() if isinstance(params, Mapping) else ((key, None) for key in params)
    return {key: value if isinstance(value, Parameter) else Parameter(value) for key, value in pairs}


def unpacked(free: Iterable[Unknown], theta: Array) -> dict[str, Array]:
    """The free parameters as arrays, from the flat vector of all their elements (last axis)."""
    values, at = {}, 0
    for u in free:
        values[u.name] = theta[..., at : at + u.initial.size].reshape((*theta.shape[:-1], *u.initial.shape))
        at += u.initial.size
    return values


def decided(node: Node, stated: Parameter, sizes: Mapping[str, int], batch: tuple[int, ...] = ()) -> Unknown:
    """A parameter with its shape, start and bounds, which are checked.

    Args:
        node: its input node.
        stated: by the user.
        sizes: what the data determine.
        batch: the axes of independent fits, which start values may have in front.

    Raises:
        ArgumentError: no shape, or a start or bounds that do not fit it or each other.
    """
    name, symbol = node.attributes["name"], node.attributes["symbol"]
    declared = next((word for word in SIGNS if getattr(symbol, f"is_{word}", None) is True), "")
    below, above, default = SIGNS.get(declared, (-np.inf, np.inf, 0.0))
    array = _numbers(f"the start value of {name}", default if stated.initial is None else stated.initial)
    shape = _shape(node, stated, array, sizes, batch)
    many = array.ndim > len(shape)
    starts = _broadcast(f"the start value of {name}", array, (*batch, *shape) if many else shape)
    if not np.isfinite(starts).all():
        raise ArgumentError(f"the start value of {name} is not finite: {stated.initial!r}")
    lower, upper = np.full(shape, below), np.full(shape, above)
    if stated.bounds is not None:
        lower, upper = _bounds(name, stated.bounds, shape)
        if (lower > upper).any():
            raise ArgumentError(f"the bounds of {name} cross: {stated.bounds}")
        if stated.initial is None and not stated.fixed:
            starts = np.clip(starts, lower, upper)
    if ((starts < lower) | (starts > upper)).any():
        given = (
            f"but the symbol is declared {declared}" if stated.bounds is None else f"outside its bounds {stated.bounds}"
        )
        raise ArgumentError(f"{name} starts at {default if stated.initial is None else stated.initial}, {given}")
    single = lower == upper
    if single.any() and not single.all() and not stated.fixed:
        raise ArgumentError(
            f"the bounds of {name} leave one value for {int(single.sum())} of its {single.size} elements: only a whole "
            "parameter can be fixed; say it as constraints, one Eq for each element"
        )
    fixed = stated.fixed or bool(single.all())
    implied = stated.bounds is None and bool(np.isfinite(lower).any() or np.isfinite(upper).any())
    first = np.array(starts.reshape((-1, *shape))[0]) if many else starts
    return Unknown(symbol, name, first, lower, upper, fixed, implied, starts if many else None)


def _shape(
    node: Node, stated: Parameter, initial: Array, sizes: Mapping[str, int], batch: tuple[int, ...]
) -> tuple[int, ...]:
    """The core shape of a parameter, as stated, or that of its start value, or what the data determine."""
    name, rank = node.attributes["name"], node.type.rank
    needed = {s for d in node.type.shape for s in size_names(d)} - set(sizes)
    if stated.shape is not None:
        shape = tuple(stated.shape)
    elif initial.ndim and (initial.ndim <= rank or not batch):
        shape = initial.shape
    elif initial.ndim and rank:
        shape = initial.shape[-rank:]
    elif needed:
        raise ArgumentError(
            f"the shape of {name} is ({', '.join(map(str, node.type.shape))}), and no data determine "
            f"{', '.join(sorted(needed))}: give data for {name}, or an array of start values, or Parameter(shape=...)"
        )
    else:
        shape = tuple(evaluate_size(d, sizes) for d in node.type.shape)
    if len(shape) != rank:
        bounds = "; bounds are given as Parameter(start, bounds=(lower, upper))" if rank == 0 else ""
        raise ArgumentError(
            f"{name} is used with {counted(rank, 'subscript')}, its start value has shape {shape}{bounds}"
        )
    return shape


def _bounds(name: str, bounds: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ArgumentError(f"the bounds of {name} are (lower, upper), got {bounds!r}")
    told = (f"the lower bound of {name}", f"the upper bound of {name}")
    infinite = (-np.inf, np.inf)
    low, high = (
        _broadcast(what, _numbers(what, none if bound is None else bound), shape)
        for what, bound, none in zip(told, bounds, infinite, strict=True)
    )
    if np.isnan(low).any() or np.isnan(high).any():
        raise ArgumentError(f"a bound of {name} is NaN")
    return low, high


def _numbers(what: str, value: Any) -> Array:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{what} is not a number: {value!r}") from None


def _broadcast(what: str, array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        raise ArgumentError(f"{what} has shape {array.shape}, {shape} is due") from None
