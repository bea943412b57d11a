"""Residuals of a sum of squares as numbers: their values, weights and Jacobian at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import program
from sym2tf.errors import DataError, FitError
from sym2tf.fit.evaluation.functions import Evaluation
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.parameters import Unknown
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted
from sym2tf.ir.graph import Graph
from sym2tf.passes.pipeline import stabilize

Array = np.ndarray[Any, Any]

NO_COMMON_VARIANCE = (
    "the cost adds sums of squares of different weight (a penalty?), whose residuals have no common variance"
)


@dataclass(frozen=True)
class Residuals:
    """The residuals of a problem, all blocks stacked.

    Attributes:
        evaluate: theta -> `(r, J)`, both with the rows of every block one after the other, without weights.
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
    parts = _weights(structure.weights, problem)
    weights = np.concatenate([parts[name].ravel() for name in parts])
    rows = tuple(part.size for part in parts.values())
    if not np.isfinite(weights).all():
        count = int((~np.isfinite(weights)).sum())
        raise DataError(
            f"{counted(count, 'squared residual has', 'squared residuals have')} a weight that is not finite: "
            "do the weights or standard deviations in the data hold zeros?"
        )
    if (weights < 0).any():
        return None
    count = len(problem.names)
    if len(weights) < count:
        raise DataError(
            f"{counted(count, 'parameter')} ({_few(problem.names)}) but only {counted(len(weights), 'observation')}: "
            f"too few to determine the parameters{problem.hint}"
        )
    common = float(weights[0]) if (weights == weights[0]).all() and weights[0] > 0 else None
    values, jacobian = evaluators(structure.residuals, problem)

    def cost(r: Array) -> float:
        with np.errstate(all="ignore"):
            return float(r @ r) * common if common is not None else float((weights * r) @ r)

    def cost_and_norm(answer: tuple[Array, ...]) -> tuple[float, float]:
        r, J = answer
        with np.errstate(all="ignore"):
            return cost(r), 2 * float(np.linalg.norm(J.T @ (weights * r)))

    def watched(theta: Array) -> tuple[Array, Array]:
        r, J = monitor.ask("residuals and jacobian", theta, lambda: (values(theta), jacobian(theta)), cost_and_norm)
        return r, J

    def watched_values(theta: Array) -> Array:
        return monitor.ask("residuals", theta, lambda: (values(theta),), lambda answer: (cost(answer[0]), None))[0]

    def watched_jacobian(theta: Array) -> Array:
        return monitor.ask("jacobian", theta, lambda: (jacobian(theta),))[0]

    inference = "" if problem.equations else _no_inference(rows, common)
    return Residuals(watched, watched_values, watched_jacobian, weights, rows, common, inference)


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


def _no_inference(rows: tuple[int, ...], common: float | None) -> str:
    if len(rows) == 1 or common is not None:
        return ""
    return NO_COMMON_VARIANCE


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
    stable = made(graph, "stable", lambda: stabilize(graph))
    nodes = {stable[v].attributes["name"]: v for v in stable.inputs}
    wrt = [(u, start) for u, start in _starts(problem) if u.name in nodes]
    among = [nodes[u.name] for u, _ in wrt]
    slopes = made(stable, ("jacobian", tuple(among)), lambda: derivatives.jacobian(stable, among, forward=True))
    of_values, of_slopes = (Evaluation(g, problem, once=once) for g in (stable, slopes))
    ends = np.cumsum([0, *(prod(shape) for shape in of_values.shapes)]).tolist()
    places = [
        (slice(start, start + u.initial.size), slice(ends[row], ends[row + 1]))
        for row in range(len(of_values.shapes))
        for u, start in wrt
    ]
    shape = len(problem.names), ends[-1]

    def values(theta: Array) -> Array:
        found = of_values.full(theta)
        return found[0].ravel() if len(found) == 1 else np.concatenate([r.ravel() for r in found])

    def jacobian(theta: Array) -> Array:
        transposed = np.zeros(shape)
        for (columns, rows), value, due in zip(places, of_slopes.call(theta), of_slopes.shapes, strict=True):
            width = columns.stop - columns.start
            if len(due) == width == 1:  # of a vector by a number: it broadcasts
                transposed[columns.start, rows] = value
            else:
                transposed[columns, rows] = np.broadcast_to(value, due).reshape(-1, width).T
        return transposed.T

    return values, jacobian


def _starts(problem: Problem) -> list[tuple[Unknown, int]]:
    """The free parameters, each with its place in theta."""
    sizes = [u.initial.size for u in problem.free]
    return list(zip(problem.free, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))


def require_finite(J: Array, names: tuple[str, ...], rows: Array | None = None) -> None:
    """Raise `FitError` naming the parameter whose column of the design holds NaN or infinity."""
    bad = ~np.isfinite(J)
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        raise FitError(
            f"the derivative of residual {row} by {names[column]} is {J[row, column]}: "
            "the model is not defined at these data"
        )
