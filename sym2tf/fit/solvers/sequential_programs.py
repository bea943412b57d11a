"""Sums of piecewise linear losses (medians, quantiles) of nonlinear residuals: one linear program after the other.

Each step minimises the losses of the linearised residuals within a box, whose size follows from how well they foretold
the cost: sequential linear programming with a trust region, which converges as fast as Newton's method where as many
residuals vanish as there are parameters (Fletcher, Practical Methods of Optimization, 1987, section 14.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.solvers.descent import require_start
from sym2tf.fit.solvers.linear_program import program_of, slopes
from sym2tf.fit.solvers.quiet import quietly
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.solvers.squares import HUGE, lengths_of
from sym2tf.fit.solvers.task import Task
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

GAIN = 1e-12  # of the cost: a linearised step that promises less shows a minimum
ROUNDING = 1e-14  # the same, where the cost cannot tell a gain from rounding
SHORTEST = 1e-7  # box, relative to the first one, in which a promise still says something
MOST = 200  # linear programs
POOR, GOOD = 0.1, 0.75  # of what was promised: below, a step is not taken; above, the box doubles


@dataclass(frozen=True)
class _Walk:
    theta: Array
    steps: int
    said: str
    success: bool


def solve_linear_programs(task: Task) -> Solution | None:
    """A minimum of a sum of piecewise linear losses of residuals; None for other costs, and under constraints.

    Raises:
        FitError: the residuals are not defined at the start.
    """
    graph, loss = task.structure.whitened, task.problem.loss
    if graph is None or loss is None or task.constrained or task.options.multistart is not None:
        return None
    prices = slopes(loss)
    if prices is None:
        return None
    values, jacobian = evaluators(graph, task.problem)

    def at(theta: Array) -> Array:
        (r,) = task.monitor.ask("whitened", theta, lambda: (values(theta),), lambda a: (total(a[0]), None))
        return r

    def slope(theta: Array) -> Array:
        (J,) = task.monitor.ask("whitened jacobian", theta, lambda: (jacobian(theta),))
        return J

    def total(r: Array) -> float:
        return float(np.where(r > 0, prices[0] * r, -prices[1] * r).sum())

    require_start(task, np.clip(task.problem.packed("initial"), task.low, task.high))
    walk = _walked(task, at, slope, total, prices)
    gradient = task.gradient(walk.theta)
    limits = zip(task.problem.names, walk.theta, task.low, task.high, strict=True)
    return Solution(
        walk.theta,
        "a sequence of linear programs (HiGHS, through SciPy) within a trust region, because the loss is piecewise "
        f"linear; evaluated by {task.engine}",
        walk.success,
        walk.said,
        walk.steps,
        task.evaluations + walk.steps,
        gradient,
        at_bounds=tuple(name for name, x, a, b in limits if x in (a, b)),
    )


def _walked(task: Task, at: Any, slope: Any, total: Any, prices: tuple[float, float]) -> _Walk:
    theta, most = _least_squares(task, at, slope), min(task.options.max_iterations, MOST)
    with np.errstate(all="ignore"):
        r, J = at(theta), slope(theta)
        cost, steps = total(r), 0
        lengths = lengths_of(J)
        reach = np.linalg.norm(r) / np.where(lengths > 0, lengths, 1.0)
        size, promised = 1.0, np.inf
        while steps < most:
            box = np.maximum(theta - size * reach, task.low), np.minimum(theta + size * reach, task.high)
            candidate, said = program_of(r - J @ theta, J, prices, box)
            if candidate is None:
                return _Walk(theta, steps, f"not converged: HiGHS has stopped: {said.message}", False)
            steps += 1
            promised = cost - total(r + J @ (candidate - theta))
            if promised <= GAIN * size * cost or promised <= ROUNDING * cost or size < SHORTEST:
                break
            after = at(candidate)
            gained = cost - total(after) if np.isfinite(after).all() else -np.inf
            if gained > POOR * promised:
                inside = np.abs(candidate - theta) < 0.99 * size * reach
                theta, r, cost = candidate, after, cost - gained
                J = slope(theta)
                size = min(size * 2, 1e6) if gained > GOOD * promised and not inside.all() else size
            else:
                size /= 4
        else:
            return _Walk(theta, steps, _said(steps, promised, cost, ", the limit"), False)
    success = size >= SHORTEST or promised <= GAIN * size * cost
    return _Walk(theta, steps, _said(steps, promised, cost, "", success=success), success)


def _least_squares(task: Task, at: Any, slope: Any) -> Array:
    """Where the squares are least, which is near; the start where they are not defined."""
    start = np.clip(task.problem.packed("initial"), task.low, task.high)
    with quietly():
        if not (np.isfinite(at(start)).all() and np.isfinite(slope(start)).all()):
            return start
        found = optimize.least_squares(
            lambda q: np.nan_to_num(at(q), nan=HUGE, posinf=HUGE, neginf=-HUGE),
            start, lambda q: np.nan_to_num(slope(q)), task.room, x_scale="jac", max_nfev=task.options.max_iterations,
        )  # fmt: skip
        theta = np.clip(np.asarray(found.x, np.float64), task.low, task.high)
        return theta if np.isfinite(at(theta)).all() and np.isfinite(slope(theta)).all() else start


def _said(steps: int, promised: float, cost: float, why: str, *, success: bool = False) -> str:
    share = max(promised, 0.0) / cost if cost else 0.0
    return (
        f"{'converged' if success else 'not converged'} after {steps} linear programs{why}: with the residuals "
        f"linearised there, no step within the trust region lowers the cost by more than {share:.2g} of it"
    )
