"""From a problem and its class to the minimum: in one step where the cost is quadratic, else by iteration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sym2tf.errors import FitError, SingularProblemError
from sym2tf.fit.classify import Structure
from sym2tf.fit.linear import power_of_two, solve_least_squares, undetermined
from sym2tf.fit.objective import Objective
from sym2tf.fit.residuals import Residuals, require_finite
from sym2tf.fit.statement import Problem
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

NEWTON_LIMIT = 50  # parameters up to which the Hessian is formed
HESSIAN_ELEMENTS = 50_000_000  # observations x parameters^2 up to which it is
STEP_TOLERANCE = 1e-7  # of a Newton step still to go, relative to the parameter and to its curvature
GRADIENT_TOLERANCE = 1e-6  # of the scaled gradient where there is no Hessian
ROUNDS = 6  # restarts with scales taken where the last run ended
POLISHING = 12


@dataclass(frozen=True)
class Solution:
    """Where a solver ended.

    Attributes:
        theta: flat.
        solver: its name and why it was chosen.
        success, message: whether and how it converged.
        iterations, evaluations: what it took.
        gradient: of the cost, flat.
        condition: of the problem with scaled parameters; None where no second derivatives were formed.
        inverse: (p, p), `(J^T W J)^-1` where the solver has it.
        residual: the stacked residuals without weights, where it has them.
        J: their Jacobian.
        at_bounds: names of the parameters that a bound stopped.
        degenerate: the gradient vanishes there, but the Hessian is singular: it is no isolated minimum.
    """

    theta: Array
    solver: str
    success: bool
    message: str
    iterations: int
    evaluations: int
    gradient: Array
    condition: float | None = None
    inverse: Array | None = None
    residual: Array | None = None
    J: Array | None = field(default=None, repr=False)
    at_bounds: tuple[str, ...] = ()
    degenerate: bool = False


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
    precision = (
        "extended-precision refinement" if found.extended else "no refinement, since the data are large"
    )
    unweighted = found.residual if root is None else r + J @ found.theta
    factor = 2 * (residuals.common if residuals.common is not None else 1.0)
    solution = Solution(
        found.theta,
        f"QR factorisation ({precision}), because the cost is a sum of squares of residuals linear in the parameters",
        True,
        "solved in one step",
        1,
        1,
        -factor * (A.T @ found.residual),
        found.condition,
        found.inverse,
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
        inverse=None,
        residual=r,
        J=J,
        at_bounds=stopped,
    )


def solve_quadratic(problem: Problem) -> Solution:
    """A quadratic cost whose squares were not recognised: one Newton step with the exact Hessian, and one more to refine.

    Raises:
        SingularProblemError: a direction without curvature.
        FitError: a direction of negative curvature, so that there is no minimum.
    """
    objective = Objective(problem)
    if not objective.prepare_hessian():
        raise FitError("the cost has no second derivative")
    theta = np.zeros(len(problem.names))
    H = objective.hessian(theta)
    scale, eigenvalues, V = _scaled_eigen(H)
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
        return solve_smooth(problem, objective)
    _, g = objective.value_and_gradient(theta)
    return Solution(
        theta,
        "one Newton step with the exact Hessian, because the cost is quadratic in the parameters but no sum of squares that "
        "was recognised (written as squares it would keep more digits)",
        True,
        "solved in one step",
        1,
        objective.evaluations,
        g,
        float(eigenvalues[-1] / eigenvalues[0]),
    )


def _scaled_eigen(H: Array) -> tuple[Array, Array, Array]:
    """Scales that give `H` a diagonal of about one, and the eigenvalues (ascending) and vectors of the scaled matrix."""
    scale = 1 / np.sqrt(power_of_two(np.abs(np.diag(H))))
    eigenvalues, V = np.linalg.eigh(H * np.outer(scale, scale))
    return scale, eigenvalues, V


def _no_minimum(direction: Array, names: tuple[str, ...]) -> str:
    direction = direction / np.abs(direction).max()
    parts = ", ".join(f"{n} by {d:+.3g}" for n, d in zip(names, direction, strict=True) if abs(d) > 1e-9)
    return f"the cost has no minimum: it falls without end when one changes {parts}"


def solve_smooth(
    problem: Problem, objective: Objective | None = None, *, max_iterations: int = 1000
) -> Solution:
    """Any other cost: trust region with the symbolic Hessian, or L-BFGS-B for many parameters and for bounds.

    Parameters are scaled by the curvature where the Hessian is formed, and again where a run ended; Newton steps then
    polish the minimum.

    Raises:
        FitError: the cost is not finite at the start.
    """
    objective = objective or Objective(problem)
    theta = problem.packed("initial")
    value, gradient = objective.value_and_gradient(theta)
    if not np.isfinite(value) or not np.isfinite(gradient).all():
        what = f"the cost is {value}" if not np.isfinite(value) else "the gradient of the cost is not finite"
        raise FitError(
            f"{what} at the start values {_listed(problem, theta)}: choose other ones with params={{...}}"
        )
    size = max((a.size for a in problem.data.values()), default=1)
    small = (
        len(theta) <= NEWTON_LIMIT
        and size * len(theta) ** 2 <= HESSIAN_ELEMENTS
        and objective.prepare_hessian()
    )
    newton = small and bool(np.isfinite(objective.hessian(theta)).all())
    iterations, said, status = 0, "", True
    for _ in range(ROUNDS):
        run = _one_run(problem, objective, theta, newton, max_iterations - iterations)
        moved, theta = not np.array_equal(theta, run.x), run.x
        iterations, said, status = iterations + int(run.nit), str(run.message), bool(run.success)
        if newton:
            theta, steps = _polish(problem, objective, theta)
            iterations += steps
        if _remaining(problem, objective, theta, newton) <= 1 or iterations >= max_iterations or not moved:
            break
    return _report(problem, objective, theta, newton, iterations, said, status)


def _one_run(problem: Problem, objective: Objective, theta: Array, newton: bool, iterations: int) -> Any:
    """One run of a SciPy optimiser in scaled variables; the answer's `x` is unscaled."""
    value, _ = objective.value_and_gradient(theta)
    unit = abs(value) or 1.0
    scale = _scales(objective, theta, unit) if newton else np.ones(len(theta))

    def fun(q: Array) -> tuple[float, Array]:
        f, g = objective.value_and_gradient(q * scale)
        return (f / unit if np.isfinite(f) else np.inf), np.nan_to_num(
            g * scale / unit, posinf=0.0, neginf=0.0
        )

    if newton and not problem.bounded:
        answer = optimize.minimize(
            fun,
            theta / scale,
            jac=True,
            hess=lambda q: objective.hessian(q * scale) * np.outer(scale, scale) / unit,
            method="trust-exact",
            options={"gtol": 1e-9, "maxiter": max(iterations, 1)},
        )
    else:
        low, high = problem.packed("lower") / scale, problem.packed("upper") / scale
        answer = optimize.minimize(
            fun,
            np.clip(theta / scale, low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={
                "gtol": 1e-10,
                "ftol": 1e-15,
                "maxiter": max(iterations, 1),
                "maxfun": 100 * max(iterations, 1),
                "maxcor": 20,
            },
        )
    answer.x = np.clip(answer.x * scale, problem.packed("lower"), problem.packed("upper"))
    return answer


def _scales(objective: Objective, theta: Array, unit: float) -> Array:
    """The change of each parameter alone that moves the cost by about `unit`; powers of two."""
    curvature = np.abs(np.diag(objective.hessian(theta)))
    fallback = np.maximum(np.abs(theta), 1.0)
    with np.errstate(all="ignore"):
        scale = np.sqrt(unit / curvature)
    return power_of_two(np.where(np.isfinite(scale) & (scale > 0), scale, fallback))


def _active(problem: Problem, theta: Array, gradient: Array) -> Array:
    """Which parameters a bound stops: at the bound, and the cost would fall beyond it."""
    low, high = problem.packed("lower"), problem.packed("upper")
    return ((theta <= low) & (gradient >= 0)) | ((theta >= high) & (gradient <= 0))


def _newton_step(objective: Objective, theta: Array, free: Array) -> tuple[Array, float] | None:
    """The Newton step of the free parameters, and the condition number; None where the Hessian is not positive definite."""
    _, g = objective.value_and_gradient(theta)
    H = objective.hessian(theta)[np.ix_(free, free)]
    if not free.any():
        return np.zeros(len(theta)), 1.0
    if not np.isfinite(H).all():
        return None
    scale, eigenvalues, V = _scaled_eigen(H)
    if eigenvalues[0] <= 32 * np.finfo(float).eps * len(H) * eigenvalues[-1]:
        return None
    step = np.zeros(len(theta))
    step[free] = -scale * (V @ ((V.T @ (scale * g[free])) / eigenvalues))
    return step, float(eigenvalues[-1] / eigenvalues[0])


def _polish(problem: Problem, objective: Objective, theta: Array) -> tuple[Array, int]:
    """Newton steps as long as they get shorter: the last digits that a line search by cost values cannot see."""
    low, high = problem.packed("lower"), problem.packed("upper")
    last, steps = np.inf, 0
    for _ in range(POLISHING):
        value, g = objective.value_and_gradient(theta)
        found = _newton_step(objective, theta, ~_active(problem, theta, g))
        if found is None:
            break
        candidate = np.clip(theta + found[0], low, high)
        length = float(np.abs(found[0] / np.maximum(np.abs(theta), 1e-300)).max())
        after, _ = objective.value_and_gradient(candidate)
        if not length < last or not after <= value + 1e-12 * abs(value) or length == 0:
            break
        theta, last, steps = candidate, length, steps + 1
    return theta, steps


def _remaining(problem: Problem, objective: Objective, theta: Array, newton: bool) -> float:
    """How far from converged: at most 1 is converged.

    With a Hessian, the largest component of the Newton step still to go over what is tolerated; without, the largest
    component of the projected gradient over what is tolerated.
    """
    value, g = objective.value_and_gradient(theta)
    free = ~_active(problem, theta, g)
    if not newton:
        return float(
            np.abs(g[free] * np.maximum(np.abs(theta[free]), 1)).max(initial=0)
            / (GRADIENT_TOLERANCE * max(abs(value), 1e-300))
        )
    found = _newton_step(objective, theta, free)
    if found is None:
        return np.inf
    allowed = STEP_TOLERANCE * (np.abs(theta) + _scales(objective, theta, abs(value)))
    return float((np.abs(found[0]) / np.maximum(allowed, 1e-300)).max())


def _report(
    problem: Problem,
    objective: Objective,
    theta: Array,
    newton: bool,
    iterations: int,
    said: str,
    status: bool,
) -> Solution:
    _, g = objective.value_and_gradient(theta)
    active = _active(problem, theta, g)
    left = _remaining(problem, objective, theta, newton)
    step = _newton_step(objective, theta, ~active) if newton else None
    norm = float(np.linalg.norm(g[~active]))
    if left <= 1:
        message = f"converged: the gradient norm is {norm:.3g}"
        if newton:
            message += ", and the Newton step still to go is below 1e-7 of every parameter or of its scale"
    elif newton and step is None:
        message = (
            f"not converged: after {iterations} iterations the gradient norm is {norm:.3g}, but the Hessian is not positive "
            f"definite there, so this is no isolated minimum ({said})"
        )
    else:
        message = f"not converged: after {iterations} iterations the gradient norm is {norm:.3g} ({said})"
    stopped = tuple(n for n, a in zip(problem.names, active, strict=True) if a)
    return Solution(
        theta,
        _solver(problem, objective, newton),
        left <= 1,
        message,
        iterations,
        objective.evaluations,
        g,
        step[1] if step is not None else None,
        at_bounds=stopped,
        degenerate=newton and step is None and status,
    )


def _solver(problem: Problem, objective: Objective, newton: bool) -> str:
    count = len(problem.names)
    if newton and not problem.bounded:
        name = f"trust region with the symbolic Hessian (SciPy's trust-exact), because the cost is smooth, not quadratic, and has {count} parameters"
    elif problem.bounded:
        name = "L-BFGS-B (SciPy) with the symbolic gradient, because there are bounds"
    else:
        name = (
            f"L-BFGS-B (SciPy) with the symbolic gradient, because {count} parameters are many for a Hessian"
        )
    return f"{name}; evaluated by {objective.engine}"


def _listed(problem: Problem, theta: Array) -> str:
    pairs = [f"{n}={x:g}" for n, x in zip(problem.names, theta, strict=True)]
    return ", ".join(pairs[:8]) + (", ..." if len(pairs) > 8 else "")


def solve(
    problem: Problem, structure: Structure, residuals: Residuals | None, max_iterations: int
) -> Solution:
    """The minimum, by the solver that the structure asks for."""
    if structure.kind == "linear least squares" and residuals is not None:
        return solve_linear(problem, residuals)
    if structure.degree == 2:
        return solve_quadratic(problem)
    return solve_smooth(problem, max_iterations=max_iterations)
