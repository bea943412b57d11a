"""Residuals of a sum of squares as numbers: their values, weights and Jacobian at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import program
from sym2tf.errors import DataError
from sym2tf.fit.evaluation.functions import Evaluation
from sym2tf.fit.evaluation.norms import length_of
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.parameters import Unknown
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import sums_over
from sym2tf.fit.wording import counted
from sym2tf.ir.graph import Graph
from sym2tf.ir.subgraphs import extract
from sym2tf.ops.leaves import input_
from sym2tf.passes.pipeline import stabilize

Array = np.ndarray[Any, Any]

NO_COMMON_VARIANCE = (
    "the cost adds sums of squares of different weight, or squares that are none of observations (a penalty?), whose "
    "residuals have no common variance"
)


@dataclass(frozen=True)
class Residuals:
    """The residuals of a problem, all blocks stacked.

    Attributes:
        evaluate: theta -> `(r, J)`, both with the rows of every block one after the other, without weights. This and
            the next two are called under `np.errstate`.
        values: theta -> r, several times as quick where J is not needed.
        jacobian: theta -> J, (rows, p) in Fortran order.
        weights: (rows,), by what each squared residual enters the cost.
        rows: of each block.
        common: the weight that all rows share, or None.
        no_inference: why the squares are not those of independent observations of equal rank; empty if they
            are.
    """

    evaluate: Callable[[Array], tuple[Array, Array]]
    values: Callable[[Array], Array]
    jacobian: Callable[[Array], Array]
    weights: Array
    rows: tuple[int, ...]
    common: float | None
    no_inference: str

    @property
    def relative_weights(self) -> Array | None:
        """The square roots of the weights, None where all are the same."""
        return None if self.common is not None else np.sqrt(self.weights)


def residuals_of(problem: Problem, structure: Structure, monitor: Monitor) -> Residuals | None:
    """The residuals of a cost that is a sum of squares; None where a weight is negative, so that it is none.

    Raises:
        DataError: fewer observations than parameters, or a weight that is not finite.
    """
    assert structure.residuals is not None
    assert structure.weights is not None
    weights, rows, common = _weighing(structure.weights, problem)
    if not np.isfinite(weights).all():
        count = int((~np.isfinite(weights)).sum())
        raise DataError(
            f"{counted(count, 'squared residual has', 'squared residuals have')} a weight that is not finite: "
            "do the weights or standard deviations in the data hold zeros?"
        )
    if weights.min(initial=0) < 0:
        return None
    count = len(problem.names)
    if len(weights) < count:
        raise DataError(
            f"{counted(count, 'parameter')} ({_few(problem.names)}) but only {counted(len(weights), 'observation')}: "
            f"too few to determine the parameters{problem.hint}"
        )
    values, jacobian = _bare_evaluators(structure.residuals, problem, once=True)

    def cost(r: Array) -> float:
        return float(r.dot(r)) * common if common is not None else float((weights * r).dot(r))

    def cost_and_norm(answer: tuple[Array, ...]) -> tuple[float, float]:
        r, J = answer
        return cost(r), 2 * length_of(J.T @ (weights * r))

    def watched(theta: Array) -> tuple[Array, Array]:
        r, J = monitor.ask("residuals and jacobian", theta, lambda: (values(theta), jacobian(theta)), cost_and_norm)
        return r, J

    def watched_values(theta: Array) -> Array:
        if monitor.checkpoint is None:
            r = values(theta)
            monitor.seen(theta, cost(r), None)
            return r
        return monitor.ask("residuals", theta, lambda: (values(theta),), lambda answer: (cost(answer[0]), None))[0]

    def watched_jacobian(theta: Array) -> Array:
        if monitor.checkpoint is None:
            return jacobian(theta)
        return monitor.ask("jacobian", theta, lambda: (jacobian(theta),))[0]

    inference = "" if problem.equations else why_no_variance(problem, structure.residuals, weights)
    return Residuals(watched, watched_values, watched_jacobian, weights, rows, common, inference)


def _weighing(graph: Graph, problem: Problem) -> tuple[Array, tuple[int, ...], float | None]:
    """The weights of all rows, the rows of each block, and the weight that all share, if any."""

    def weighed() -> tuple[Array, tuple[int, ...], float | None]:
        parts = _weights(graph, problem)
        weights = np.concatenate([part.ravel() for part in parts.values()])
        common = float(weights[0]) if (weights == weights[0]).all() and weights[0] > 0 else None
        weights.flags.writeable = False
        return weights, tuple(part.size for part in parts.values()), common

    return weighed() if graph.inputs else made(graph, ("weighing", *sorted(problem.bound.items())), weighed)


def _weights(graph: Graph, problem: Problem) -> dict[str, Array]:
    """By what each square enters the cost; made once for each set of sizes where no data decide it."""
    if graph.inputs:
        return run(graph, problem)
    return made(graph, ("values", *sorted(problem.bound.items())), lambda: run(graph, problem))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def run(graph: Graph, problem: Problem, values: dict[str, Array] | None = None) -> dict[str, Array]:
    """The outputs of a graph of the problem at its data, fixed parameters and `values`."""
    compute = made(graph, "program", lambda: program(graph))
    return compute(inputs_of(graph, problem, values or {}), problem.bound)


def inputs_of(graph: Graph, problem: Problem, values: dict[str, Array]) -> dict[str, Array]:
    """An array for each input of a graph of the problem."""
    known = {**problem.fixed, **values}
    names = [graph[v].attributes["name"] for v in graph.inputs]
    return {name: known[name] if name in known else problem.data[name] for name in names}


def why_no_variance(problem: Problem, graph: Graph, weights: Array) -> str:
    """Why the squares of a cost are not those of observations with one variance; empty if they are.

    Squares without data are none of observations, nor are those of sums over observations that have squares as well.

    Args:
        problem: with the cost.
        graph: of its residuals.
        weights: (..., rows), of their squares.
    """
    blocks = list(graph.outputs.values())
    if len(blocks) == 1:
        return ""
    least = np.where(weights > 0, weights, np.inf).min(axis=-1)
    unlike = bool((least < weights.max(axis=-1)).any())
    shapes = [set(graph[v].type.shape) - {1} for v in blocks]
    bare = [not _holds_arrays(problem, graph, v) for v in blocks]
    summed = any(
        _sums_over_any(graph, v, other - own)
        for v, own in zip(blocks, shapes, strict=True)
        for other in shapes
        if own < other
    )
    return NO_COMMON_VARIANCE if unlike or any(bare) > all(bare) or summed else ""


def _holds_arrays(problem: Problem, graph: Graph, v: int) -> bool:
    """Whether data with axes stand in a node."""
    nodes = (graph[u] for u in (v, *graph.ancestors(v)) if graph[u].op is input_)
    return any(node.attributes["name"] in problem.data and node.type.rank > 0 for node in nodes)


def _sums_over_any(graph: Graph, v: int, lengths: set[Any]) -> bool:
    return any(sums_over(graph, u, length) for u in (v, *graph.ancestors(v)) for length in lengths)


def without_idle(problem: Problem, structure: Structure) -> Structure:
    """A structure without the squares that all enter the cost with weight 0, as those of a penalty of 0 do."""
    graph, weights = structure.residuals, structure.weights
    if graph is None or weights is None or problem.equations or problem.stream is not None or len(graph.outputs) == 1:
        return structure
    parts = _weights(weights, problem)
    used = tuple(name for name, part in parts.items() if np.any(part != 0))
    if len(used) in (0, len(parts)):
        return structure
    return made(graph, ("without idle", *used), lambda: _reduced(structure, used))


def _reduced(structure: Structure, used: tuple[str, ...]) -> Structure:
    assert structure.residuals is not None
    assert structure.weights is not None
    residuals, weights = (
        extract(graph, {str(k): graph.outputs[name] for k, name in enumerate(used)})
        for graph in (structure.residuals, structure.weights)
    )
    models = tuple(replace(m, block=used.index(str(m.block))) for m in structure.models if str(m.block) in used)
    reason = structure.no_model
    if len(models) < len(structure.models):
        reason = "what is observed enters the cost with weight 0"
    return replace(structure, residuals=residuals, weights=weights, models=models, no_model=reason)


def linearised(graph: Graph, problem: Problem) -> Callable[[Array], tuple[Array, Array]]:
    """The outputs of a graph as a function of theta: one vector (rows,), and its Jacobian (rows, p)."""
    values, jacobian = evaluators(graph, problem)
    return lambda theta: (values(theta), jacobian(theta))


def evaluators(
    graph: Graph, problem: Problem, *, once: bool = True
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Functions of theta that give the outputs of a graph, flat and one after the other, and their Jacobian.

    What the data alone decide is computed once, unless `once` is False.
    """
    values, jacobian = _bare_evaluators(graph, problem, once=once)
    quiet = np.errstate(all="ignore")
    return quiet(values), quiet(jacobian)


def _bare_evaluators(
    graph: Graph, problem: Problem, *, once: bool
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """The same, to be called under `np.errstate`."""
    stable, slopes = made(graph, ("slopes", tuple(u.name for u in problem.free)), lambda: _with_slopes(graph, problem))
    of_values, of_slopes = (Evaluation(g, problem, once=once) for g in (stable, slopes))
    places, shape = made(slopes, ("places", *of_slopes.key), lambda: _places(stable, problem, of_values))

    def values(theta: Array) -> Array:
        found = of_values.stretched(of_values.bare(theta))
        return found[0].ravel() if len(found) == 1 else np.concatenate([r.ravel() for r in found])

    def jacobian(theta: Array) -> Array:
        transposed = np.zeros(shape)
        for (columns, rows, one), value, due in zip(places, of_slopes.bare(theta), of_slopes.shapes, strict=True):
            if one:  # of a vector by a number: it broadcasts
                transposed[columns.start, rows] = value
            else:
                width = columns.stop - columns.start
                transposed[columns, rows] = np.broadcast_to(value, due).reshape(-1, width).T
        return transposed.T

    return values, jacobian


def _with_slopes(graph: Graph, problem: Problem) -> tuple[Graph, Graph]:
    """A graph as it is evaluated, and its derivatives by the free parameters in it."""
    stable = made(graph, "stable", lambda: stabilize(graph))
    nodes = {stable[v].attributes["name"]: v for v in stable.inputs}
    among = [nodes[u.name] for u in problem.free if u.name in nodes]
    slopes = made(stable, ("jacobian", tuple(among)), lambda: derivatives.jacobian(stable, among, forward=True))
    return stable, slopes


def _places(graph: Graph, problem: Problem, of_values: Evaluation) -> tuple[list[tuple[slice, slice, bool]], Any]:
    """Where each derivative stands in the transposed Jacobian, and the shape of that.

    A place is `(columns, rows, one)`; the last says that it is the derivative of a vector by a number.
    """
    names = {graph[v].attributes["name"] for v in graph.inputs}
    ends = np.cumsum([0, *(prod(shape) for shape in of_values.shapes)]).tolist()
    places = [
        (slice(start, start + u.initial.size), slice(ends[row], ends[row + 1]), len(due) == 1 and not u.initial.shape)
        for row, due in enumerate(of_values.shapes)
        for u, start in _starts(problem)
        if u.name in names
    ]
    return places, (len(problem.names), ends[-1])


def _starts(problem: Problem) -> list[tuple[Unknown, int]]:
    """The free parameters, each with its place in theta."""
    sizes = [u.initial.size for u in problem.free]
    return list(zip(problem.free, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
