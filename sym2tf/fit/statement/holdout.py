"""A fraction of the observations set aside, to follow the cost on what the fit has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.statement.axes import OBSERVATIONS
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted
from sym2tf.ir.dims import Size, size_names

Array = np.ndarray[Any, Any]


def held_out(problem: Problem, fraction: float, seed: int) -> tuple[Problem, Problem]:
    """The problem with a part of its observations, and with the others, which are drawn at random.

    Args:
        problem: whose data all lie along one axis.
        fraction: of the observations that the second one has, at least one.
        seed: of the drawing; both parts keep the order of their observations.

    Raises:
        ArgumentError: no fraction, or the data do not say which axis is that of the observations, or neighbours or
            places along it count.
        DataError: less than two observations.
    """
    if not 0 < fraction < 1:
        raise ArgumentError(f"validation is {fraction}; give data, or a fraction between 0 and 1")
    if problem.stream is not None:
        raise ArgumentError("validation as a fraction needs data that are at hand as a whole; give data for it")
    axis = _axis(problem, fraction)
    length = problem.bound[axis]
    if length < 2:
        raise DataError(f"validation={fraction} needs more than {counted(length, 'observation')}")
    aside = min(max(round(fraction * length), 1), length - 1)
    order = np.random.default_rng(seed).permutation(length)
    return _part(problem, axis, np.sort(order[aside:])), _part(problem, axis, np.sort(order[:aside]))


def _axis(problem: Problem, fraction: float) -> str:
    """The size of the axis of observations."""
    advice = "give data for validation instead"
    graph = problem.graph
    types = {graph[v].attributes["name"]: graph[v].type.shape for v in graph.inputs}
    lengths = {size for name in problem.data for size in types.get(name, ()) if not isinstance(size, int)}
    own = {name for u in problem.unknowns for size in types.get(u.name, ()) for name in size_names(size)}
    alone = {name for size in lengths for name in size_names(size) if _plain(size, name)} - own
    if len(alone) > 1 and OBSERVATIONS in alone:
        alone = {OBSERVATIONS}
    if len(alone) != 1:
        found = f"the axes {', '.join(sorted(alone))}" if alone else "no axis that is only one of data"
        raise ArgumentError(f"validation={fraction} needs one axis of observations, and the cost has {found}: {advice}")
    (axis,) = alone
    for v in graph.order:
        for size in graph[v].type.shape:
            mixed = axis in size_names(size) and not _plain(size, axis)
            if mixed or (axis in size_names(size) and not graph.operands(v) and v not in graph.inputs):
                raise ArgumentError(
                    f"validation={fraction} would tear neighbours along {axis} apart, or forget their places, which "
                    f"count in this cost: {advice}"
                )
    return axis


def _plain(size: Size, name: str) -> bool:
    return not isinstance(size, int) and size.terms == (((name,), 1),)


def _part(problem: Problem, axis: str, rows: Array) -> Problem:
    """The problem with these observations alone."""
    graph = problem.graph
    types = {graph[v].attributes["name"]: graph[v].type.shape for v in graph.inputs}
    data = {name: _taken(name, array, types.get(name, ()), axis, rows) for name, array in problem.data.items()}
    spreads = {
        k: replace(s, array=data[s.name]) if s.array is not None and s.name in data else s
        for k, s in problem.spreads.items()
    }
    sizes = {name: len(rows) if name == axis else size for name, size in problem.sizes.items()}
    bound: Mapping[str, int] = {**problem.bound, axis: len(rows)}
    return replace(problem, data=data, spreads=spreads, sizes=sizes, bound=bound)


def _taken(name: str, array: Array, shape: tuple[Size, ...], axis: str, rows: Array) -> Array:
    places = [k - len(shape) for k, size in enumerate(shape) if _plain(size, axis)]
    if len(places) > 1:
        raise ArgumentError(f"validation as a fraction cannot divide {name}, which has the observations on two axes")
    return np.take(array, rows, axis=places[0]) if places else array
