"""Costs that are quadratic in the parameters, solved in one step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sym2tf.errors import FitError, SingularProblemError
from sym2tf.fit.linear import power_of_two, solve_least_squares, undetermined
from sym2tf.fit.monitor import Monitor
from sym2tf.fit.objective import Objective
from sym2tf.fit.residuals import Residuals, require_finite
from sym2tf.fit.solution import Solution, scaled_eigen
from sym2tf.fit.statement import Problem
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]


def solve_linear(problem: Problem, residuals: Residuals) -> Solution:
    """Residuals linear in the parameters: QR, or SciPy's bounded solver where a bound is in the way.

    Raises:
        SingularProblemError: the data do not determine all parameters.
    """
    zero = np.zeros(len(problem.names))
    r, J = residuals.evaluate(zero)
    require_finite(np.column_stack([J, r]), (*problem.names, "nothing (the residual itself)"))
    root = residuals.relative_weights
    A, t = (-J, r) if root is None else (-J * root[:, None], r * root)
    found = solve_least_squares(A, t, problem.names)
    precision = "extended-precision refinement" if found.extended else "no refinement, since the data are large"
    unweighted = found.residual if root is None else r + J @ found.theta
    factor = 2 * (residuals.common if residuals.common is not None else 1.0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        gradient = -factor * (A.T @ found.residual)
    solution = Solution(
        found.theta,
        f"QR factorisation ({precision}), because the cost is a sum of squares of residuals linear in the parameters",
        True,
        "solved in one step",
        1,
        1,
        gradient,
        found.condition,
        found.inverse_root,
        unweighted,
        J,
    )
    low, high = problem.packed("lower"), problem.packed("upper")
    if ((found.theta >= low) & (found.theta <= high)).all():
        return solution
    return _bounded_linear(problem, solution, A, t, residuals, factor)


def _bounded_linear(
    problem: Problem, free: Solution, A: Array, t: Array, residuals: Residuals, factor: float
) -> Solution:
    scale = power_of_two(np.sqrt(np.square(A).sum(axis=0)))
    low, high = problem.packed("lower"), problem.packed("upper")
    answer = optimize.lsq_linear(A / scale, t, (low * scale, high * scale), method="bvls", tol=1e-14)
    theta = np.clip(answer.x / scale, low, high)
    r, J = residuals.evaluate(theta)
    stopped = tuple(n for n, x, a, b in zip(problem.names, theta, low, high, strict=True) if x in (a, b))
    return replace(
        free,
        theta=theta,
        solver="bounded least squares (scipy.optimize.lsq_linear), because a bound excludes the free minimum",
        success=bool(answer.success),
        message=f"{'solved' if answer.success else 'not solved'}: {answer.message}",
        iterations=int(answer.nit),
        gradient=-factor * (A.T @ (t - A @ theta)),
        inverse_root=None,
        residual=r,
        J=J,
        at_bounds=stopped,
    )


def solve_quadratic(problem: Problem, monitor: Monitor) -> Solution | None:
    """A quadratic cost with no squares recognised: a Newton step with the exact Hessian, and two to refine.

    None where bounds exclude the minimum.

    Raises:
        SingularProblemError: a direction without curvature.
        FitError: a direction of negative curvature, so that there is no minimum.
    """
    objective = Objective(problem, monitor)
    if not objective.prepare_hessian():
        raise FitError("the cost has no second derivative")
    theta = np.zeros(len(problem.names))
    H = objective.hessian(theta)
    scale, eigenvalues, V = scaled_eigen(H)
    floor = 32 * np.finfo(float).eps * len(theta) * np.abs(eigenvalues).max(initial=0)
    if eigenvalues[0] < -floor:
        raise FitError(_no_minimum(V[:, 0] * scale, problem.names))
    if eigenvalues[0] <= floor:
        lost = np.abs(eigenvalues) <= floor
        raise SingularProblemError(undetermined((V[:, lost] * scale[:, None]).T, 1 / scale, problem.names))
    for _ in range(3):
        _, g = objective.value_and_gradient(theta)
        theta = theta - scale * (V @ ((V.T @ (scale * g)) / eigenvalues))
    low, high = problem.packed("lower"), problem.packed("upper")
    if ((theta < low) | (theta > high)).any():
        return None
    _, g = objective.value_and_gradient(theta)
    return Solution(
        theta,
        "one Newton step with the exact Hessian, "
        "because the cost is quadratic in the parameters but no sum of squares that "
        "was recognised (written as squares it would keep more digits)",
        True,
        "solved in one step",
        1,
        objective.evaluations,
        g,
        float(eigenvalues[-1] / eigenvalues[0]),
        hessian=H,
    )


def _no_minimum(direction: Array, names: tuple[str, ...]) -> str:
    direction = direction / np.abs(direction).max()
    parts = ", ".join(f"{n} by {d:+.3g}" for n, d in zip(names, direction, strict=True) if abs(d) > 1e-9)
    return f"the cost has no minimum: it falls without end when one changes {parts}"
