"""Shapes at run time: core and batch shapes of the inputs.

Every backend that runs a graph on arrays needs the same answers. How data bind sizes is `sym2tf.ir.binding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, ShapeError
from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import TensorType

Shape = tuple[int, ...]


def input_types(graph: Graph) -> dict[str, TensorType]:
    """The inputs of a graph by name, in order."""
    return {graph[v].attributes["name"]: graph[v].type for v in graph.inputs}


def check_names(types: Mapping[str, TensorType], given: Iterable[str]) -> None:
    """Raise `ArgumentError` unless `given` names every input and nothing else."""
    present = set(given)
    missing = [name for name in types if name not in present]
    unknown = sorted(present - set(types))
    if missing or unknown:
        both = {"missing": missing, "unknown": unknown}
        parts = [f"{what} {', '.join(names)}" for what, names in both.items() if names]
        raise ArgumentError(f"inputs: {'; '.join(parts)}")


def core_shape(name: str, type: TensorType, shape: Sequence[int]) -> Shape:
    """The part of an array's shape that is core.

    Raises:
        ShapeError: the array has fewer axes than the core.
    """
    if len(shape) < type.rank:
        axes = "1 core axis of length" if type.rank == 1 else f"{type.rank} core axes of lengths"
        got = f"an array of shape {tuple(shape)}" if shape else "a number"
        raise ShapeError(f"{name} needs {axes} {', '.join(map(str, type.shape))}, got {got}")
    return tuple(shape[len(shape) - type.rank :])


def batch_shape(types: Mapping[str, TensorType], shapes: Mapping[str, Shape]) -> Shape:
    """The batch shape that those of all inputs broadcast to.

    Raises:
        ShapeError: they do not broadcast.
    """
    batches = {name: shapes[name][: len(shapes[name]) - type.rank] for name, type in types.items()}
    try:
        return np.broadcast_shapes(*batches.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in batches.items() if shape)
        raise ShapeError(f"batch shapes do not broadcast: {listed}") from None


def at_sizes(
    graph: Graph, arrays: Mapping[str, Any], sizes: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, int], Shape]:
    """The inputs of `graph` cut to its sizes, the sizes, and the batch shape.

    Args:
        graph: any graph.
        arrays: for each input.
        sizes: numbers for size symbols that the arrays do not determine, or of which they hold more.

    Raises:
        ShapeError, SizeError: shapes that do not fit the graph or each other.
    """
    types = input_types(graph)
    shapes = {name: arrays[name].shape for name in types}
    cores = {name: core_shape(name, type, shapes[name]) for name, type in types.items()}
    bound = Binding(graph).bind(shapes, sizes)
    cuts: dict[str, Any] = {name: prefix_slices(type, cores[name], bound) for name, type in types.items()}
    cut = {name: arrays[name] if where is None else arrays[name][where] for name, where in cuts.items()}
    return cut, bound, batch_shape(types, shapes)


def prefix_slices(type: TensorType, core: Shape, sizes: Mapping[str, int]) -> tuple[Any, ...] | None:
    """The subscript that cuts an array down to the sizes in use; None where it fits already."""
    due = tuple(evaluate_size(size, sizes) for size in type.shape)
    return None if due == core else (..., *(slice(0, length) for length in due))
