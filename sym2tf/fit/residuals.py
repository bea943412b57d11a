"""Residuals of a sum of squares as numbers: their values, weights and Jacobian at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate, program
from sym2tf.errors import DataError, FitError
from sym2tf.fit.classify import Structure
from sym2tf.fit.monitor import Monitor
from sym2tf.fit.statement import Problem
from sym2tf.fit.wording import counted
from sym2tf.ir.graph import Graph

Array = np.ndarray[Any, Any]

AT_ONCE = 200_000  # elements of a Jacobian that is computed in one call instead of column by column


@dataclass(frozen=True)
class Residuals:
    """The residuals of a problem, all blocks stacked.

    Attributes:
        evaluate: theta -> `(r, J)`, both with the rows of every block one after the other, without weights.
        weights: (rows,), by what each squared residual enters the cost.
        rows: of each block.
        common: the weight that all rows share, or None.
        no_inference: why the squares are not those of independent observations of equal rank; empty if they
            are.
    """

    evaluate: Callable[[Array], tuple[Array, Array]]
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
    parts = run(structure.weights, problem)
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
    evaluate = linearised(structure.residuals, problem)

    def summary(answer: tuple[Array, ...]) -> tuple[float, float]:
        r, J = answer
        with np.errstate(all="ignore"):
            weighted = weights * r
            return float(weighted @ r), 2 * float(np.linalg.norm(J.T @ weighted))

    def watched(theta: Array) -> tuple[Array, Array]:
        r, J = monitor.ask("residuals", theta, lambda: evaluate(theta), summary)
        return r, J

    return Residuals(watched, weights, rows, common, _no_inference(rows, common))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def run(graph: Graph, problem: Problem, values: dict[str, Array] | None = None) -> dict[str, Array]:
    """The outputs of a graph of the problem at its data, fixed parameters and `values`."""
    return evaluate(graph, inputs_of(graph, problem, values or {}), problem.bound)


def inputs_of(graph: Graph, problem: Problem, values: dict[str, Array]) -> dict[str, Array]:
    """An array for each input of a graph of the problem."""
    known = {**problem.data, **problem.fixed, **values}
    return {graph[v].attributes["name"]: known[graph[v].attributes["name"]] for v in graph.inputs}


def _no_inference(rows: tuple[int, ...], common: float | None) -> str:
    if len(rows) == 1 or common is not None:
        return ""
    return "the cost adds sums of squares of different weight (a penalty?), whose residuals have no common variance"


def linearised(graph: Graph, problem: Problem) -> Callable[[Array], tuple[Array, Array]]:
    """The outputs of a graph as a function of theta: one vector (rows,), and its Jacobian (rows, p).

    Both come from one graph; the tangents along all parameters are a batch.
    """
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    wrt = [(u, nodes[u.name]) for u in problem.free if u.name in nodes]
    pushed = derivatives.jvp(graph, [v for _, v in wrt], values=True)
    tangents = [pushed[v].attributes["name"] for v in pushed.inputs[len(graph.inputs) :]]
    compute = program(pushed)
    count = len(problem.names)
    basis = problem.unpacked(np.eye(count))
    names = list(graph.outputs)

    def at(theta: Array) -> tuple[Array, Array]:
        primals = inputs_of(graph, problem, problem.unpacked(theta))

        def sweep(columns: Any) -> dict[str, Array]:
            seeds = {t: basis[u.name][columns] for t, (u, _) in zip(tangents, wrt, strict=True)}
            return compute({**primals, **seeds}, problem.bound)

        if count * max(map(np.size, primals.values())) <= AT_ONCE:
            found = sweep(slice(None))
            r = np.concatenate([found[n][0].ravel() for n in names])
            J = np.concatenate([found[f"d/{n}"].reshape(count, -1) for n in names], axis=1).T
        else:
            columns = []
            for k in range(count):
                found = sweep(k)
                columns.append(np.concatenate([found[f"d/{n}"].ravel() for n in names]))
            r, J = np.concatenate([found[n].ravel() for n in names]), np.stack(columns, axis=1)
        return r, J

    return at


def require_finite(J: Array, names: tuple[str, ...], rows: Array | None = None) -> None:
    """Raise `FitError` naming the parameter whose column of the design holds NaN or infinity."""
    bad = ~np.isfinite(J)
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        raise FitError(
            f"the derivative of residual {row} by {names[column]} is {J[row, column]}: "
            "the model is not defined at these data"
        )
