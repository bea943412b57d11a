"""Costs that are quadratic in the parameters, solved in one step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sym2tf.errors import (
    ArgumentError,
    FitError,
    FitWarning,
    GraphError,
    ResourceLimitError,
    SingularProblemError,
    warn,
)
from sym2tf.fit.evaluation.nonfinite import explain
from sym2tf.fit.evaluation.objective import Objective
from sym2tf.fit.evaluation.residuals import Residuals
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers.exact import AUTOMATIC_WORK, LARGEST_WORK, solve_exactly
from sym2tf.fit.solvers.linear import (
    LOST_FOR,
    STEPS_AT_BOUNDS,
    WARNED_FOR,
    LinearSolution,
    power_of_two,
    solve_least_squares,
    undetermined,
)
from sym2tf.fit.solvers.solution import Solution, at_bounds, scaled_eigen
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]


def solve_linear(problem: Problem, structure: Structure, residuals: Residuals, options: Options) -> Solution:
    """Residuals linear in the parameters: QR or exact arithmetic, or SciPy's bounded solver where a bound is active.

    QR with its refinement is exact but for the rounding of the design itself, which the condition number magnifies.
    Where that endangers the digits that a result shows, the problem is stated and solved again in rational numbers.

    Raises:
        ArgumentError: method="exact", but the residuals hold what cannot be computed exactly, or too many rows.
        SingularProblemError: the data do not determine all parameters.
    """
    zero = np.zeros(len(problem.names))
    r, J = residuals.evaluate(zero)
    if not (np.isfinite(r).all() and np.isfinite(J).all()):
        because = explain(problem, zero) or "a residual or a derivative of it is not finite"
        raise FitError(f"the model is not defined at these data: {because}")
    root = residuals.relative_weights
    A, t = (-J, r) if root is None else (-J * root[:, None], r * root)
    if options.method == "exact":
        found, why = _exactly(problem, structure, residuals)
    else:
        found = solve_least_squares(A, t, problem.names)
        if root is not None:
            found = replace(found, residual=r + J @ found.theta)
        found, why = _escalated(problem, structure, residuals, found, options)
    weighted = found.residual if root is None else found.residual * root
    factor = 2 * (residuals.common if residuals.common is not None else 1.0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        gradient = -factor * (A.T @ weighted)
    solution = Solution(
        found.theta,
        why,
        True,
        "solved in one step",
        1,
        1,
        gradient,
        found.condition,
        found.inverse_root,
        found.residual,
        J,
    )
    low, high = problem.packed("lower"), problem.packed("upper")
    if ((found.theta >= low) & (found.theta <= high)).all():
        return solution
    return _bounded_linear(problem, solution, A, t, residuals, factor)


def _exactly(problem: Problem, structure: Structure, residuals: Residuals) -> tuple[LinearSolution, str]:
    weighted = residuals.common is None
    try:
        found = solve_exactly(problem, structure, sum(residuals.rows), weighted=weighted, limit=LARGEST_WORK)
    except (GraphError, ResourceLimitError) as error:
        raise ArgumentError(f"method='exact' is not possible here: {error}") from None
    return found, "exact rational arithmetic, because method='exact' asks for it"


def _escalated(
    problem: Problem, structure: Structure, residuals: Residuals, found: LinearSolution, options: Options
) -> tuple[LinearSolution, str]:
    """The QR solution or, where its condition asks for it and nothing prevents it, the exact one; and why."""
    precision = "extended-precision refinement" if found.extended else "no refinement, since the data are large"
    because = "because the cost is a sum of squares of residuals linear in the parameters"
    lost = found.condition * np.finfo(float).eps
    if lost <= LOST_FOR:
        return found, f"QR factorisation ({precision}), {because}"
    reason = "method='qr' asks for QR"
    if options.method != "qr":
        rows, weighted = sum(residuals.rows), residuals.common is None
        try:
            exact = solve_exactly(problem, structure, rows, weighted=weighted, limit=AUTOMATIC_WORK)
        except (GraphError, ResourceLimitError, SingularProblemError) as error:
            reason = str(error)
        else:
            number = f"a condition number of {found.condition:.2g}"
            return exact, f"exact rational arithmetic, {because} and with {number} QR may not keep 12 digits"
    left = max(0, int(-np.log10(lost)))
    text = f"the condition number {found.condition:.2g} leaves about {left} digits of the estimates"
    if lost > WARNED_FOR:
        warn(FitWarning, f"{text}, and they were not computed exactly: {reason}")
    return found, f"QR factorisation ({precision}), {because}; {text}, and {reason}"


def _bounded_linear(
    problem: Problem, free: Solution, A: Array, t: Array, residuals: Residuals, factor: float
) -> Solution:
    scale = power_of_two(np.sqrt(np.square(A).sum(axis=0)))
    low, high = problem.packed("lower"), problem.packed("upper")
    answer = optimize.lsq_linear(
        A / scale, t, (low * scale, high * scale), method="bvls", tol=1e-14, max_iter=STEPS_AT_BOUNDS
    )
    theta = np.clip(answer.x / scale, low, high)
    r, J = residuals.evaluate(theta)
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
        at_bounds=at_bounds(problem, theta),
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
    return (
        f"the cost has no minimum: it falls without end when one changes {parts}. "
        "What is to be as large as possible needs maximize=True"
    )
