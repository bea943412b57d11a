"""Sums of piecewise linear losses of linear residuals (medians, quantiles), which are linear programs.

Koenker, Bassett, Econometrica 46, 1978: every residual is split into what is above and what is below zero, each with
its price.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.backends.numpy import program
from sym2tf.errors import FitError
from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.solvers.linear import power_of_two
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.solvers.task import Task
from sym2tf.frontend.lower import lower
from sym2tf.lazy import lazy
from sym2tf.losses import Loss, residual
from sym2tf.passes.degree import degrees

optimize = lazy("scipy.optimize")
sparse = lazy("scipy.sparse")

Array = np.ndarray[Any, Any]

PROBES = np.array([1e-3, 0.5, 2.0, 1e3])


def slopes(loss: Loss) -> tuple[float, float] | None:
    """The prices of a unit above and below zero; None where the loss is not made of two such lines."""
    compute = program(lower(loss.expression, args=(residual,)))
    with np.errstate(all="ignore"):
        above, below = (
            np.broadcast_to(next(iter(compute({str(residual): sign * PROBES}, {}).values())), PROBES.shape) / PROBES
            for sign in (1.0, -1.0)
        )
    if not (np.allclose(above, above[0], rtol=1e-12) and np.allclose(below, below[0], rtol=1e-12)):
        return None
    return (float(above[0]), float(below[0])) if above[0] >= 0 and below[0] >= 0 else None


def solve_linear_program(task: Task) -> Solution | None:
    """The minimum of a sum of piecewise linear losses of linear residuals by SciPy's HiGHS; None for other costs.

    Raises:
        FitError: HiGHS finds none.
    """
    graph, loss = task.structure.whitened, task.problem.loss
    if graph is None or loss is None or task.constrained or not _linear(task, graph):
        return None
    prices = slopes(loss)
    if prices is None:
        return None
    values, jacobian = evaluators(graph, task.problem)
    zero = np.zeros(task.count)
    r, J = task.monitor.ask("whitened residuals and jacobian", zero, lambda: (values(zero), jacobian(zero)))
    theta, answer = program_of(r, J, prices, (task.low, task.high))
    if theta is None:
        raise FitError(f"the linear program of the loss {loss.name} has no solution: {answer.message}")
    theta = _vertex(task, theta, r, J)
    gradient = task.gradient(theta)
    return Solution(
        theta,
        "linear programming (HiGHS, through SciPy), because the loss is piecewise linear and the residuals are linear "
        f"in the parameters; evaluated by {task.engine}",
        bool(answer.success),
        f"{'solved' if answer.success else 'not solved'}: {answer.message}",
        int(answer.nit),
        task.evaluations,
        gradient,
        at_bounds=tuple(
            name for name, x, a, b in zip(task.problem.names, theta, task.low, task.high, strict=True) if x in (a, b)
        ),
    )


def program_of(
    r: Array, J: Array, prices: tuple[float, float], limits: tuple[Array, Array]
) -> tuple[Array | None, Any]:
    """The minimum of the sum of the losses of r + J theta within limits, and what HiGHS says.

    Args:
        r: (rows,).
        J: (rows, p).
        prices: of a unit above and below zero.
        limits: (p,) each; of theta.
    """
    rows, p = J.shape
    scale, unit = power_of_two(np.sqrt(np.square(J).sum(axis=0))), float(power_of_two(np.abs(r).max(initial=0)))
    low, high = limits
    price = np.concatenate([np.zeros(p), np.full(rows, prices[0]), np.full(rows, prices[1])])
    split = sparse.hstack([sparse.csr_array(J / scale), -sparse.eye_array(rows), sparse.eye_array(rows)])
    bounds = [*zip(low * scale / unit, high * scale / unit, strict=True), *[(0, None)] * (2 * rows)]
    answer = optimize.linprog(price, A_eq=split, b_eq=-r / unit, bounds=bounds, method="highs")
    return None if answer.x is None else np.clip(answer.x[:p] * unit / scale, low, high), answer


def _linear(task: Task, graph: Any) -> bool:
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    degree = degrees(graph, [nodes[u.name] for u in task.problem.free if u.name in nodes])
    return all(degree[v] <= 1 for v in graph.outputs.values())


def _vertex(task: Task, theta: Array, r: Array, J: Array) -> Array:
    """The corner next to a solution, to full precision: as many residuals vanish there as parameters are free."""
    free = (theta > task.low) & (theta < task.high)
    nearest = np.argsort(np.abs(r + J @ theta), kind="stable")[: int(free.sum())]
    rows = J[np.ix_(nearest, free)]
    if not free.any() or np.linalg.matrix_rank(rows) < len(nearest):
        return theta
    corner = theta.copy()
    corner[free] = np.linalg.solve(rows, -(r[nearest] + J[np.ix_(nearest, ~free)] @ theta[~free]))
    inside = ((corner >= task.low) & (corner <= task.high)).all()
    return corner if inside and task.cost(corner) <= task.cost(theta) else theta
