"""Sums of losses of residuals (M-estimation) by SciPy's least_squares, which takes the loss as a function of r^2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import program
from sym2tf.errors import DifferentiationError
from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.solvers.quiet import quietly
from sym2tf.fit.solvers.squares import HUGE, SEARCH_TOLERANCE
from sym2tf.fit.solvers.task import Run, Task
from sym2tf.frontend.lower import lower
from sym2tf.lazy import lazy
from sym2tf.losses import Loss, residual
from sym2tf.passes.degree import degrees

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

PROBES = np.array([1e-3, 0.1, 0.7, 1.3, 3.0, 20.0, 1e3])  # residuals at which a loss is looked at
LEAST = 1e-100  # residual that stands for 0 in quotients


def slope_of(loss: Loss) -> Callable[[Array], Array]:
    """The derivative of a loss, as a function of residuals (rows,)."""
    graph = lower(loss.expression, args=(residual,))
    slope = program(derivatives.gradient(graph, graph.inputs))

    def at(r: Array) -> Array:
        return np.broadcast_to(next(iter(slope({str(residual): r}, {}).values())), r.shape)

    return at


class Curve:
    """A loss with two derivatives, as numbers."""

    def __init__(self, loss: Loss) -> None:
        graph = lower(loss.expression, args=(residual,))
        self._value = program(graph)
        self._slope = program(derivatives.gradient(graph, graph.inputs))
        self._bend = program(derivatives.hessian(graph, graph.inputs))

    def at(self, r: Array) -> tuple[Array, Array, Array]:
        """Value and two derivatives at residuals (rows,)."""
        with np.errstate(all="ignore"):
            found = [next(iter(f({str(residual): r}, {}).values())) for f in (self._value, self._slope, self._bend)]
        value, slope, bend = (np.broadcast_to(a, r.shape) for a in found)
        return value, slope, bend

    def of_square(self, z: Array) -> Array:
        """(3, rows): twice the loss as a function of z = r^2, and two derivatives by z, as SciPy wants them."""
        r = np.maximum(np.sqrt(z), LEAST)
        value, slope, bend = self.at(r)
        with np.errstate(all="ignore"):
            second = (bend - slope / r) / (2 * z)
        return np.stack([2 * value, slope / r, np.where(np.isfinite(second), second, 0.0)])


def why_not(task: Task) -> str:
    """Why SciPy's least_squares does not know a problem's loss; empty if it does."""
    loss = task.problem.loss
    if task.structure.whitened is None or loss is None:
        return "the cost is no sum of losses of residuals"
    try:
        curve = Curve(loss)
    except DifferentiationError:
        return f"the loss {loss.name} has no second derivative"
    (left, _, _), (right, _, bend) = curve.at(-PROBES), curve.at(PROBES)
    if not np.allclose(left, right, rtol=1e-12, atol=0):
        return f"the loss {loss.name} is no function of the square of the residual"
    return "" if (bend > 0).any() else f"the loss {loss.name} is not smooth"


def m_estimation(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `least_squares(loss=...)` (Triggs and others, Bundle Adjustment, 2000, section 4.3).

    Where residuals are linear in the parameters, or the loss is not convex, it starts at least squares.
    """
    graph, loss = task.structure.whitened, task.problem.loss
    assert graph is not None
    assert loss is not None
    values, jacobian = evaluators(graph, task.problem)
    curve = Curve(loss)

    def fun(q: Array) -> Array:
        r, _ = task.monitor.ask("whitened", q, lambda: (values(q), np.zeros(0)), lambda a: (total(a[0]), None))
        return r if np.isfinite(r).all() else np.where(np.isfinite(r), r, HUGE)

    def total(r: Array) -> float:
        return float(curve.at(r)[0].sum())

    def design(q: Array) -> Array:
        (J,) = task.monitor.ask("whitened jacobian", q, lambda: (jacobian(q),))
        return np.nan_to_num(J)

    start = np.clip(theta, task.low, task.high)
    limits = task.room
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    degree = degrees(graph, [nodes[u.name] for u in task.problem.free if u.name in nodes])
    if all(degree[v] <= 1 for v in graph.outputs.values()):
        least = optimize.lsq_linear(design(start), design(start) @ start - fun(start), limits)
        start = np.clip(least.x, *limits)
    elif (curve.at(PROBES)[2] < 0).any():
        with quietly():
            least = optimize.least_squares(fun, start, design, limits, x_scale="jac", max_nfev=max(most, 1))
        start = np.clip(least.x, *limits)
    with quietly():
        answer = optimize.least_squares(
            fun,
            start,
            jac=design,
            method="trf",
            bounds=limits,
            x_scale="jac",
            loss=curve.of_square,
            ftol=SEARCH_TOLERANCE,
            xtol=SEARCH_TOLERANCE,
            gtol=1e-15,
            max_nfev=max(most, 1),
        )
    return Run(np.asarray(answer.x, np.float64), int(answer.nfev), str(answer.message), bool(answer.success))
