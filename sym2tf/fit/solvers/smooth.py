"""Costs that are no sums of squares, by SciPy's optimisers with symbolic derivatives.

Every search has the same signature, `(task, start, most iterations) -> Run`. Parameters are scaled by the curvature
where the Hessian is formed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sym2tf.fit.solvers.newton import scales
from sym2tf.fit.solvers.quiet import quietly
from sym2tf.fit.solvers.squares import NOISE
from sym2tf.fit.solvers.task import Run, Task
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")
sparse = lazy("scipy.sparse.linalg")

Array = np.ndarray[Any, Any]

LAST_STEPS = 3
GRADIENT = 1e-9  # of the scaled problem, whose cost is about 1, where a search ends
OVERFLOW = "array must not contain infs or NaNs"  # what NumPy says where the linear algebra of a search overflows


class Scaled:
    """The cost in variables in which it and its curvature are about 1; what cannot be computed is infinitely dear."""

    def __init__(self, task: Task, theta: Array) -> None:
        self.task = task
        self.unit = abs(task.objective.value_and_gradient(theta)[0]) or 1.0
        self.scale = scales(task, theta, self.unit) if task.has_hessian else np.ones(len(theta))
        self.low, self.high = task.low / self.scale, task.high / self.scale
        self.start = np.clip(theta / self.scale, self.low, self.high)

    def value_and_gradient(self, q: Array) -> tuple[float, Array]:
        f, g = self.task.objective.value_and_gradient(q * self.scale)
        if not (np.isfinite(f) and np.isfinite(g).all()):
            return np.inf, np.zeros(len(g))
        return f / self.unit, g * self.scale / self.unit

    def hessian(self, q: Array) -> Array:
        H = self.task.objective.hessian(q * self.scale)
        return np.nan_to_num(H * np.outer(self.scale, self.scale) / self.unit)

    def product(self, q: Array, v: Array) -> Array:
        Hv = self.task.objective.hessian_product(q * self.scale, v * self.scale)
        return np.nan_to_num(Hv * self.scale / self.unit)

    def run(self, method: str, options: dict[str, Any], **derivatives: Any) -> Run:
        """Where SciPy's optimiser ends: at the last point that it accepted, where the curvature leaves the floats."""
        accepted, steps = self.start, 0

        def remember(q: Array, *_: Any) -> None:  # trust-constr hands over its state too
            nonlocal accepted, steps
            accepted, steps = np.array(q, np.float64), steps + 1

        try:
            with quietly():
                answer = optimize.minimize(
                    self.value_and_gradient,
                    self.start,
                    jac=True,
                    method=method,
                    options=options,
                    callback=remember,
                    **derivatives,
                )
        except ValueError as error:
            if OVERFLOW not in str(error):
                raise
            return Run(self._unscaled(accepted), steps, "the curvature is beyond all floats", False)
        return Run(self._unscaled(answer.x), int(answer.nit), str(answer.message), bool(answer.success))

    def _unscaled(self, q: Array) -> Array:
        with np.errstate(all="ignore"):
            theta: Array = np.clip(np.asarray(q, np.float64) * self.scale, self.task.low, self.task.high)
        return theta


def trust_exact(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `trust-exact` (Conn, Gould, Toint 2000, section 7.3), with the symbolic Hessian."""
    scaled = Scaled(task, theta)
    return scaled.run("trust-exact", {"gtol": GRADIENT, "maxiter": max(most, 1)}, hess=scaled.hessian)


def trust_krylov(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `trust-krylov` (Lenders, Kirches, Potschka 2018), with products of the symbolic Hessian with vectors."""
    scaled = Scaled(task, theta)
    run = scaled.run("trust-krylov", {"gtol": GRADIENT, "maxiter": max(most, 1)}, hessp=scaled.product)
    return replace(run, theta=_finished(task, run.theta))


def _finished(task: Task, theta: Array) -> Array:
    """Newton steps by conjugate gradients while they at least halve the gradient: the last digits."""
    value, g = task.objective.value_and_gradient(theta)
    for _ in range(LAST_STEPS):

        def product(v: Array, at: Array = theta) -> Array:
            return task.objective.hessian_product(at, np.asarray(v, np.float64).ravel())

        H = sparse.LinearOperator((len(theta), len(theta)), matvec=product, dtype=np.float64)
        step, _ = sparse.cg(H, -g, rtol=1e-8, maxiter=2 * len(theta))
        after, slope = task.objective.value_and_gradient(theta + step)
        if not (after <= value + NOISE * abs(value) and np.linalg.norm(slope) < 0.5 * np.linalg.norm(g)):
            break
        theta, value, g = theta + step, after, slope
    return theta


def l_bfgs_b(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `L-BFGS-B` (Byrd, Lu, Nocedal, Zhu 1995), with the symbolic gradient; for bounds too."""
    scaled = Scaled(task, theta)
    most = max(most, 1)
    options = {"gtol": 1e-10, "ftol": 1e-15, "maxiter": most, "maxfun": 100 * most, "maxcor": 20}
    return scaled.run("L-BFGS-B", options, bounds=list(zip(scaled.low, scaled.high, strict=True)))
