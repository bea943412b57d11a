"""A minimum found again near one that is known: with a parameter held, other weights or other observations.

SciPy's optimisers from a warm start; what profiles and bootstraps call a hundred or a thousand times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sym2tf.fit.evaluation.residuals import linearised
from sym2tf.fit.solvers.quiet import quietly
from sym2tf.fit.statement.problem import Problem
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]
Squares = tuple[Callable[[Array], Array], Callable[[Array], Array]]
Smooth = tuple[Callable[[Array], tuple[float, Array]], Callable[[Array], Array] | None]

TOLERANCE = 1e-12
HUGE = 1e150  # stands for what cannot be computed: optimisers then shorten the step


@dataclass(frozen=True)
class Found:
    """A minimum: where, the cost there (of squares their sum), and whether the optimiser is content."""

    theta: Array
    cost: float
    success: bool


@dataclass(frozen=True)
class Region:
    """Where a minimum is looked for.

    Attributes:
        low, high: (p,), bounds.
        unit: (p,), the size of a typical change of each parameter.
        constraints: `(kind, theta -> (values, Jacobian))`; kind is `"eq"` or `"ineq"`, as SciPy has them.
        free: (p,), which parameters may move.
    """

    low: Array
    high: Array
    unit: Array
    constraints: Sequence[tuple[str, Callable[[Array], tuple[Array, Array]]]] = field(default=())
    free: Array = field(default_factory=lambda: np.zeros(0, bool))

    def holding(self, k: int) -> Region:
        """The same with parameter `k` held."""
        free = self.free.copy()
        free[k] = False
        return replace(self, free=free)

    @property
    def bounded(self) -> bool:
        return bool(np.isfinite(self.low[self.free]).any() or np.isfinite(self.high[self.free]).any())


def region_of(problem: Problem, theta: Array, stderr: Array | None) -> Region:
    """All that the problem allows."""
    size = np.where(theta == 0, 1.0, np.abs(theta))
    usable = stderr is not None and bool((stderr > 0).all() and np.isfinite(stderr).all())
    kinds = {"equality": "eq", "inequality": "ineq"}
    constraints = [(kinds[c.kind], linearised(c.graph, problem)) for c in problem.constraints]
    unit = stderr if usable and stderr is not None else size
    return Region(problem.packed("lower"), problem.packed("upper"), unit, constraints, np.ones(len(theta), bool))


def least_squares(region: Region, squares: Squares, start: Array) -> Found:
    """The minimum of a sum of squares: `squares` are functions of theta to residuals (rows,) and Jacobian (rows, p)."""
    values, jacobian = squares
    free, unit = region.free, region.unit[region.free]
    if region.constraints:

        def cost(theta: Array) -> tuple[float, Array]:
            r = values(theta)
            return float(r @ r), 2 * (jacobian(theta).T @ r)

        return smooth(region, (cost, None), start)

    def full(q: Array) -> Array:
        theta = start.copy()
        theta[free] = q * unit
        return theta

    def fun(q: Array) -> Array:
        r = values(full(q))
        return r if np.isfinite(r).all() else np.where(np.isfinite(r), r, HUGE)

    def jac(q: Array) -> Array:
        return np.nan_to_num(jacobian(full(q))[:, free] * unit)

    theta, success = start, True
    if free.any():
        first, bounded = start[free] / unit, region.bounded
        many = dict.fromkeys(("ftol", "xtol", "gtol"), TOLERANCE)
        with quietly():
            if bounded or len(values(start)) < free.sum():
                low, high = region.low[free] / unit, region.high[free] / unit
                answer = optimize.least_squares(fun, np.clip(first, low, high), jac, bounds=(low, high), **many)
                q, success = answer.x, bool(answer.success)
            else:
                q, _, _, _, flag = optimize.leastsq(fun, first, Dfun=jac, full_output=True, **many)
                success = flag in (1, 2, 3, 4)
        theta = full(q)
    with np.errstate(all="ignore"):
        r = values(theta)
        value = float(r @ r)
    return Found(theta, value, success and bool(np.isfinite(value)))


def smooth(region: Region, cost: Smooth, start: Array) -> Found:
    """The minimum of any other cost: `cost` are functions of theta to `(value, gradient)` and, if known, Hessian."""
    both, hessian = cost
    free, unit = region.free, region.unit[region.free]
    first, _ = both(start)
    if not free.any():
        return Found(start, first, bool(np.isfinite(first)))
    scale = abs(first) or 1.0

    def full(q: Array) -> Array:
        theta = start.copy()
        theta[free] = q * unit
        return theta

    def fun(q: Array) -> tuple[float, Array]:
        value, gradient = both(full(q))
        if not np.isfinite(value) or not np.isfinite(gradient).all():
            return HUGE, np.zeros(len(q))
        return value / scale, gradient[free] * unit / scale

    def second(q: Array) -> Array:
        assert hessian is not None
        return np.nan_to_num(hessian(full(q))[np.ix_(free, free)] * np.outer(unit, unit) / scale)

    bounds = list(zip(region.low[free] / unit, region.high[free] / unit, strict=True))
    q = start[free] / unit
    with quietly():
        if region.constraints:
            answer = optimize.minimize(
                fun, q, jac=True, method="SLSQP", bounds=bounds, constraints=_of_scipy(region, full, unit),
                options={"ftol": 1e-14, "maxiter": 500},
            )  # fmt: skip
        elif hessian is not None and not region.bounded:
            answer = optimize.minimize(fun, q, jac=True, hess=second, method="trust-exact", options={"gtol": 1e-10})
            # a search that can lower the cost no further reports failure where rounding, not the way, has ended it
            if not answer.success and float(np.abs(answer.jac).max()) < 1e-7:
                answer.success = True
        else:
            options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000, "maxcor": 20}
            answer = optimize.minimize(fun, q, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
            if not answer.success and float(np.abs(answer.jac).max()) < 1e-6:
                answer.success = True
    theta = full(answer.x)
    value, _ = both(theta)
    return Found(theta, value, bool(answer.success) and bool(np.isfinite(value)))


def _of_scipy(region: Region, full: Callable[[Array], Array], unit: Array) -> list[Mapping[str, Any]]:
    def row(kind: str, function: Callable[[Array], tuple[Array, Array]]) -> Mapping[str, Any]:
        return {
            "type": kind,
            "fun": lambda q: function(full(q))[0],
            "jac": lambda q: function(full(q))[1][:, region.free] * unit,
        }

    return [row(kind, function) for kind, function in region.constraints]
