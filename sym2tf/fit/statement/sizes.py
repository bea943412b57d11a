"""The sizes of a statement as numbers: what the lengths of data, given shapes and start values say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sym2tf.errors import DataError, ShapeError, SizeError
from sym2tf.fit.statement.parameters import Parameter, Unknown
from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import linear_in_one
from sym2tf.ir.graph import Graph

Array = np.ndarray[Any, Any]


def size_of(key: Any, value: Any) -> int:
    """A size that the user gave.

    Raises:
        DataError: no integer, or a negative one.
    """
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "iuf" or array != np.floor(array) or array < 0:
        raise DataError(f"{key} is a size and must be an integer >= 0, got {value!r}")
    return int(array)


def sizes_from(
    graph: Graph, data: Mapping[str, Array], stated: Mapping[str, Parameter], given: Mapping[str, int]
) -> dict[str, int]:
    """The sizes that data, given shapes and array start values determine; contradictions are found later."""
    shapes = {n: a.shape for n, a in data.items()}
    for name, parameter in stated.items():
        shape = parameter.shape if parameter.shape is not None else np.shape(parameter.initial)
        if shape:
            shapes[name] = tuple(shape)
    sizes = dict(given)
    axes = Binding(graph).axes
    for axis in axes:
        linear = linear_in_one(axis.length)
        if linear is None or axis.input not in shapes or -axis.axis > len(shapes[axis.input]):
            continue
        name, slope, offset = linear
        sizes.setdefault(name, (shapes[axis.input][axis.axis] - offset) // slope)
    own = {(a.input, a.axis): a.length for a in axes if a.exact}
    for axis in axes:  # a parameter of which only elements are used has as many as that
        linear = linear_in_one(own[axis.input, axis.axis])
        if not axis.exact and isinstance(axis.length, int) and axis.input in stated and linear is not None:
            sizes.setdefault(linear[0], axis.length)
    return sizes


def checked_sizes(
    graph: Graph, data: Mapping[str, Array], unknowns: Iterable[Unknown], given: Mapping[str, int]
) -> dict[str, int]:
    """Every size as a number.

    Raises:
        DataError: lengths that contradict each other or a given size.
    """
    shapes = {n: a.shape for n, a in data.items()} | {u.name: u.initial.shape for u in unknowns}
    try:
        return Binding(graph).bind(shapes, given)
    except (SizeError, ShapeError) as error:
        raise DataError(str(error)) from error
