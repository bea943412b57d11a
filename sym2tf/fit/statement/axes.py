"""Axes of data beyond those that a statement uses: observations of plain symbols, and independent fits in front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.wording import counted
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.subgraphs import needed
from sym2tf.ir.types import TensorType
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, apply

Array = np.ndarray[Any, Any]

OBSERVATIONS = "n_observations"  # the size that counts along the axis of plain symbols in an equation


def with_observation_axis(graph: Graph, inputs: Mapping[int, int]) -> Graph:
    """`graph` with one more core axis, in front, on each of `inputs`.

    Every operation is applied again: attributes count axes from the right, so they stay what they are, and
    operands without the new axis broadcast.

    Args:
        graph: of scalars, as far as it depends on the inputs.
        inputs: input nodes, each with the number of its group; a group shares one length, `n_observations` or
            `n_observations_1`, ...
    """
    taken = graph.size_names() | set(graph.info.get("sizes", {}))
    names: dict[int, str] = {}
    for group in inputs.values():
        name = f"{OBSERVATIONS}_{group}" if group else OBSERVATIONS
        while name in taken:
            name += "_"
        names[group] = name
    builder = Builder()
    where: dict[int, int] = {}
    for v in graph.order:
        node = graph[v]
        if v in inputs:
            longer = TensorType(node.type.kind, (size_symbol(names[inputs[v]]), *node.type.shape))
            where[v] = builder.add(input_, (), {**node.attributes, "type": longer}, origin=node.origin)
            continue
        operands = [Value(builder, where[u]) for u in graph.operands(v)]
        builder.origin = node.origin
        where[v] = apply(builder, node.op, operands, node.attributes).id
    outputs = {key: where[v] for key, v in graph.outputs.items()}
    return builder.build([where[v] for v in graph.inputs], outputs, graph.info)


def with_axes(
    graph: Graph, data: Mapping[str, Array], equations: Sequence[Sequence[str]]
) -> tuple[Graph, dict[str, Array], tuple[int, ...]]:
    """The graph with axes of observations on the plain symbols that have arrays, and the axes of independent fits.

    In an equation without subscripts the last axis of the data is the observations; further ones, and in all other
    statements those in front of the axes that it uses, are independent fits.

    Args:
        graph: of the statement.
        data: by input name.
        equations: of each equation the outputs that belong to it, what is observed first; none for a cost.

    Returns:
        The graph, the data, and the shape of the batch of fits; `()` for one fit.

    Raises:
        DataError: too few axes, or lengths that differ.
        ArgumentError: plain symbols with arrays where the statement has no place for them.
    """
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    extra: dict[str, int] = {}
    for name, array in data.items():
        rank = graph[nodes[name]].type.rank
        if array.ndim < rank:
            raise DataError(
                f"{name} has {counted(array.ndim, 'axis', 'axes')} (shape {array.shape}), "
                f"but the cost uses {counted(rank, 'subscript')}"
            )
        if array.ndim > rank:
            extra[name] = array.ndim - rank
    if not extra:
        return graph, dict(data), ()
    arrays = dict(data)
    chosen: dict[int, int] = {}
    for number, (group, observed) in enumerate(_groups(graph, equations, extra)):
        for name in _same_length(group, observed, arrays):
            chosen[nodes[name]] = number
            extra[name] -= 1
        extra.update({name: arrays[name].ndim for name in group if nodes[name] not in chosen})
    fronts = {name: arrays[name].shape[:count] for name, count in extra.items() if count}
    _require_place(graph, nodes, arrays, fronts, bool(chosen))
    try:
        batch = np.broadcast_shapes(*fronts.values())
    except ValueError:
        shown = ", ".join(f"{name} {front}" for name, front in fronts.items())
        raise DataError(f"the axes of independent fits, in front, do not agree: {shown}") from None
    return with_observation_axis(graph, chosen) if chosen else graph, arrays, batch


def _groups(
    graph: Graph, equations: Sequence[Sequence[str]], extra: Iterable[str]
) -> list[tuple[list[str], frozenset[str]]]:
    """The symbols with arrays that share an axis of observations, and which of them are observed."""
    found: list[tuple[list[str], frozenset[str]]] = []
    for outputs in equations:
        nodes = [graph.outputs[name] for name in outputs]
        if any(graph[v].type.rank for v in nodes):
            continue
        used = needed(graph, nodes)
        names = [graph[v].attributes["name"] for v in graph.inputs if v in used]
        left = needed(graph, nodes[:1])
        observed = frozenset(graph[v].attributes["name"] for v in graph.inputs if v in left)
        names = [name for name in names if name in extra]
        if not names:
            continue
        shared = [group for group in found if set(group[0]) & set(names)]
        merged = list(dict.fromkeys([name for group in (*shared, (names, observed)) for name in group[0]]))
        found = [group for group in found if group not in shared]
        found.append((merged, observed.union(*(group[1] for group in shared))))
    return found


def _same_length(group: Sequence[str], observed: Iterable[str], arrays: dict[str, Array]) -> list[str]:
    """Those of a group that have the axis of observations.

    What is not observed may have a last axis of length 1 instead, beside others with as many axes: a number for each
    of the independent fits; the axis is taken off.
    """
    deepest = max(arrays[name].ndim for name in group)
    longest = max(arrays[name].shape[-1] for name in group)
    single = [n for n in group if n not in observed and arrays[n].ndim == deepest > 1 and arrays[n].shape[-1] == 1]
    if longest > 1 and any(arrays[n].ndim == deepest and n not in single for n in group):
        for name in single:
            arrays[name] = arrays[name][..., 0]
        group = [name for name in group if name not in single]
    lengths = {name: arrays[name].shape[-1] for name in group}
    first = group[0]
    other = next((n for n in group if lengths[n] != lengths[first]), None)
    if other is not None:
        raise DataError(
            f"lengths differ: {first} has {counted(lengths[first], 'observation')}, {other} has {lengths[other]}"
        )
    return list(group)


def _require_place(
    graph: Graph,
    nodes: Mapping[str, int],
    arrays: Mapping[str, Array],
    fronts: Mapping[str, tuple[int, ...]],
    observations: bool,
) -> None:
    """Refuse arrays of plain symbols where nothing says that they are of independent fits."""
    plain = [name for name in fronts if not graph[nodes[name]].type.rank]
    if not plain or observations or len(plain) < len(fronts):
        return
    name = plain[0]
    if "out" in graph.outputs:
        raise ArgumentError(
            f"{name} has shape {arrays[name].shape}, but the cost uses it with 0 subscripts, so it would not be "
            f"scalar: write {name}[i] under a Sum, or state Eq(y, model)"
        )
    raise ArgumentError(
        f"{name} has shape {arrays[name].shape} but no subscript, in an equation with free indices: "
        f"write {name}[i] there too"
    )
