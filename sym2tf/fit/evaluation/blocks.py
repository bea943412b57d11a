"""The squares of a linear cost as blocks of numbers `[J | r | 1]`, for whatever rows of data are at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import program
from sym2tf.errors import DataError, FitError
from sym2tf.fit.statement.classify import squares_in, weights_of
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import Separable
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.subgraphs import extract
from sym2tf.ir.types import Kind
from sym2tf.ops.values import constant, with_shape
from sym2tf.passes.degree import degrees
from sym2tf.passes.pipeline import optimize, stabilize

Array = np.ndarray[Any, Any]
Run = Callable[[Mapping[str, Array], Mapping[str, int]], dict[str, Array]]


@dataclass(frozen=True)
class Squares:
    """Some of the squares of a linear cost, and what is added to them.

    Attributes:
        blocks: how many residuals there are, each an array.
        slopes: residuals `"0"`, `"1"`, ... and their derivatives.
        places: name of a derivative -> which residual it belongs to, and which part of theta.
        weights: of each residual by its name, by what its squares enter the cost.
        alike: the weights depend on no data that vary.
        constant: output `"out"`, what the cost adds to the squares; None if nothing.
        count: of the parameters.
    """

    blocks: int
    slopes: Run
    places: Mapping[str, tuple[int, slice]]
    weights: Run
    alike: bool
    constant: Run | None
    count: int

    def block(self, inputs: Mapping[str, Array], sizes: Mapping[str, int], *, weighted: bool, where: str) -> Array:
        """The rows `[J | r | 1]` at theta = 0, times the roots of their weights if `weighted`: (rows, p + 2).

        Raises:
            FitError: a residual or derivative that is not finite; says where.
            DataError: a weight that is not finite, or negative.
        """
        found = self.slopes(inputs, sizes)
        residuals = [found[str(k)] for k in range(self.blocks)]
        ends = np.cumsum([0, *(r.size for r in residuals)]).tolist()
        p = self.count
        rows = np.zeros((ends[-1], p + 2), order="F")
        for name, (k, columns) in self.places.items():
            rows[ends[k] : ends[k + 1], columns] = found[name].reshape(residuals[k].size, -1)
        for k, r in enumerate(residuals):
            rows[ends[k] : ends[k + 1], p] = r.ravel()
        rows[:, p + 1] = 1.0
        if not np.isfinite(rows.sum()) and not np.isfinite(rows).all():
            row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise FitError(f"{where}: residual {row} or a derivative of it is not finite: {rows[row, : p + 1]}")
        if weighted:
            rows *= np.sqrt(self.weight(inputs, sizes, where=where))[:, None]
        return rows

    def weight(self, inputs: Mapping[str, Array], sizes: Mapping[str, int], *, where: str) -> Array:
        """The weights of the rows of `block`."""
        found = self.weights(inputs, sizes)
        weights = np.concatenate([found[str(k)].ravel() for k in range(self.blocks)])
        if not np.isfinite(weights).all():
            raise DataError(f"{where}: a squared residual has a weight that is not finite: are there zeros?")
        if (weights < 0).any():
            raise DataError(f"{where}: squares of negative weight, {weights.min()}, have no minimum")
        return weights


def squares_of(problem: Problem, own: Separable, part: str) -> Squares:
    """The squares in a part of the cost: `"data"`, those of the observations, or `"rest"`."""
    graph = extract(own.parts, {"out": own.parts.outputs[part]})
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    by_free = degrees(graph, [nodes[u.name] for u in problem.free if u.name in nodes])
    out = graph.outputs["out"]
    found = squares_in(graph, out, by_free)
    added = _constant(graph, out, found)
    if not found:
        return Squares(0, nothing, {}, nothing, True, added, len(problem.names))
    residuals = stabilize(extract(graph, {str(k): graph.operands(v)[0] for k, v in enumerate(found)}))
    inputs = {residuals[v].attributes["name"]: v for v in residuals.inputs}
    wrt = [u for u in problem.free if u.name in inputs]
    slopes = derivatives.jacobian(residuals, [inputs[u.name] for u in wrt], values=True, forward=True)
    starts = dict(zip((u.name for u in problem.free), np.cumsum([0, *(u.initial.size for u in problem.free)])))  # noqa: B905
    places = {
        f"d/{derivatives.name_of(str(k), j)}": (k, slice(starts[u.name], starts[u.name] + u.initial.size))
        for k in range(len(found))
        for j, u in enumerate(wrt)
    }
    weights = weights_of(graph, out, found)
    alike = not {weights[v].attributes["name"] for v in weights.inputs} & _varying(problem, own)
    return Squares(
        len(found),
        running(slopes),
        places,
        running(weights),
        alike,
        added,
        len(problem.names),
    )


def _varying(problem: Problem, own: Separable) -> set[str]:
    """The data that may differ from row to row, or from batch to batch."""
    if problem.stream is None:
        return {*own.axes, own.rows or ""}
    stated = {spread.name for spread in problem.spreads.values()}
    return {*problem.data, own.rows or ""} - stated


def nothing(inputs: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
    """The outputs of a graph without any."""
    return {}


def running(graph: Graph) -> Run:
    """A graph as a function of more inputs than it has, and of more sizes."""
    graph = optimize(graph)[0]
    names = [graph[v].attributes["name"] for v in graph.inputs]
    known = graph.size_names() | set(graph.info.get("sizes", ()))
    compute = program(graph)

    def run(inputs: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        return compute({n: inputs[n] for n in names}, {n: s for n, s in sizes.items() if n in known})

    return run


def _constant(graph: Graph, out: int, squares: list[int]) -> Run | None:
    """The cost without its squares."""
    builder = Builder()
    where: dict[int, int] = {}
    for v in graph.order:
        if v in squares:
            where[v] = with_shape(constant(builder, 0, Kind.REAL), graph[v].type.shape).id
        else:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    whole = builder.build([where[v] for v in graph.inputs], {"out": where[out]}, graph.info)
    left = optimize(extract(whole, {"out": whole.outputs["out"]}))[0]
    if left[left.outputs["out"]].attributes.get("value") == 0:
        return None
    return running(left)
