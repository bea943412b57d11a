"""Costs that are not quadratic, by SciPy's optimisers with symbolic derivatives, polished by Newton steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.errors import FitError
from sym2tf.fit.convergence import cause_of_failure
from sym2tf.fit.linear import power_of_two
from sym2tf.fit.monitor import Monitor
from sym2tf.fit.objective import Objective
from sym2tf.fit.options import Options
from sym2tf.fit.residuals import Residuals
from sym2tf.fit.solution import Solution, listed, scaled_eigen
from sym2tf.fit.statement import Problem
from sym2tf.fit.wording import counted
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

NEWTON_LIMIT = 50  # parameters up to which the Hessian is formed
HESSIAN_ELEMENTS = 50_000_000  # observations x parameters^2 up to which it is
STEP_TOLERANCE = 1e-7  # of a Newton step still to go, relative to the parameter and to its curvature
GRADIENT_TOLERANCE = 1e-6  # of the scaled gradient where there is no Hessian
ROUNDS = 6  # restarts with scales taken where the last run ended
POLISHING = 12
NOISE = 1e-9  # by which the cost may rise in a polishing step: sums of squares of tiny residuals are that noisy


def solve_smooth(problem: Problem, residuals: Residuals | None, options: Options, monitor: Monitor) -> Solution:
    """Any other cost: trust region with the symbolic Hessian, or L-BFGS-B for many parameters and for bounds.

    A sum of squares is first brought down by SciPy's Levenberg-Marquardt, which finds its way from poor starts.
    Parameters are scaled by the curvature where the Hessian is formed, and again where a run ended; Newton
    steps then polish the minimum.

    Raises:
        FitError: the cost is not finite at the start.
    """
    objective, max_iterations = Objective(problem, monitor), options.max_iterations
    theta = problem.packed("initial")
    value, gradient = objective.value_and_gradient(theta)
    if not np.isfinite(value) or not np.isfinite(gradient).all():
        what = f"the cost is {value}" if not np.isfinite(value) else "the gradient of the cost is not finite"
        raise FitError(
            f"{what} at the start values {listed(problem.names, theta)}: choose other ones with params={{...}}"
        )
    size = max((a.size for a in problem.data.values()), default=1)
    small = len(theta) <= NEWTON_LIMIT and size * len(theta) ** 2 <= HESSIAN_ELEMENTS and objective.prepare_hessian()
    newton = small and bool(np.isfinite(objective.hessian(theta)).all())
    iterations, said, status = 0, "", True
    squares = (
        residuals
        if residuals is not None
        and objective.engine == "NumPy"
        and len(residuals.weights) * len(theta) <= HESSIAN_ELEMENTS
        else None
    )
    if squares is not None:
        theta, iterations, said = _levenberg_marquardt(problem, objective, squares, theta, max_iterations)
        if newton:
            theta, steps = _polish(problem, objective, theta, max_iterations - iterations)
            iterations += steps
    for _ in range(ROUNDS):
        if squares is not None and (iterations >= max_iterations or _remaining(problem, objective, theta, newton) <= 1):
            status = iterations < max_iterations
            break
        with np.errstate(all="ignore"):
            run = _one_run(problem, objective, theta, newton, max_iterations - iterations)
        moved, theta = not np.array_equal(theta, run.x), run.x
        iterations, said, status = iterations + int(run.nit), str(run.message), bool(run.success)
        if newton:
            theta, steps = _polish(problem, objective, theta, max_iterations - iterations)
            iterations += steps
        if _remaining(problem, objective, theta, newton) <= 1 or iterations >= max_iterations:
            break
        aside = _off_a_saddle(objective, theta) if newton and not problem.bounded else None
        if aside is not None:
            theta = aside
        elif not moved:
            break
    solver = _solver(problem, objective, newton, squares is not None)
    return _report(problem, objective, theta, newton, solver, iterations, max_iterations, said, status)


def _levenberg_marquardt(
    problem: Problem, objective: Objective, residuals: Residuals, theta: Array, most: int
) -> tuple[Array, int, str]:
    """Where SciPy's `least_squares` ends (or the start, if that is better), its evaluations, and what it says."""
    root = np.sqrt(residuals.weights)

    def fun(q: Array) -> Array:
        r = residuals.evaluate(q)[0] * root
        return np.where(np.isfinite(r), r, 1e150)

    bounded = problem.bounded
    with np.errstate(all="ignore"):
        answer = optimize.least_squares(
            fun,
            theta,
            jac=lambda q: np.nan_to_num(residuals.evaluate(q)[1] * root[:, None]),
            method="trf" if bounded else "lm",
            bounds=(problem.packed("lower"), problem.packed("upper")) if bounded else (-np.inf, np.inf),
            x_scale="jac",
            max_nfev=most,
        )
    objective.evaluations += int(answer.nfev)
    better = objective.value_and_gradient(answer.x)[0] <= objective.value_and_gradient(theta)[0]
    return (answer.x if better else theta), int(answer.nfev), str(answer.message)


def _one_run(problem: Problem, objective: Objective, theta: Array, newton: bool, iterations: int) -> Any:
    """One run of a SciPy optimiser in scaled variables; the answer's `x` is unscaled."""
    value, _ = objective.value_and_gradient(theta)
    unit = abs(value) or 1.0
    scale = _scales(objective, theta, unit) if newton else np.ones(len(theta))

    def fun(q: Array) -> tuple[float, Array]:
        # what cannot be computed counts as infinitely dear: optimisers then shorten the step
        f, g = objective.value_and_gradient(q * scale)
        defined = np.isfinite(f) and np.isfinite(g).all()
        return (f / unit, g * scale / unit) if defined else (np.inf, np.zeros(len(g)))

    def hessian(q: Array) -> Array:
        return np.nan_to_num(objective.hessian(q * scale) * np.outer(scale, scale) / unit)

    if newton and not problem.bounded:
        answer = optimize.minimize(
            fun,
            theta / scale,
            jac=True,
            hess=hessian,
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
    """The Newton step and the condition number; None where the Hessian is not positive definite."""
    _, g = objective.value_and_gradient(theta)
    H = objective.hessian(theta)[np.ix_(free, free)]
    if not free.any():
        return np.zeros(len(theta)), 1.0
    if not np.isfinite(H).all():
        return None
    scale, eigenvalues, V = scaled_eigen(H)
    if eigenvalues[0] <= 32 * np.finfo(float).eps * len(H) * eigenvalues[-1]:
        return None
    step = np.zeros(len(theta))
    step[free] = -scale * (V @ ((V.T @ (scale * g[free])) / eigenvalues))
    return step, float(eigenvalues[-1] / eigenvalues[0])


def _off_a_saddle(objective: Objective, theta: Array) -> Array | None:
    """A point aside, along the most negative curvature, where the cost is lower; None if there is none."""
    H = objective.hessian(theta)
    if not np.isfinite(H).all():
        return None
    scale, eigenvalues, V = scaled_eigen(H)
    if eigenvalues[0] >= -1e-6 * np.abs(eigenvalues).max():
        return None
    value, _ = objective.value_and_gradient(theta)
    reach = np.sqrt((abs(value) or 1.0) / -eigenvalues[0])
    for length in (reach, -reach, reach / 8, -reach / 8, reach / 64, -reach / 64):
        candidate: Array = theta + length * scale * V[:, 0]
        if objective.value_and_gradient(candidate)[0] < value:
            return candidate
    return None


def _polish(problem: Problem, objective: Objective, theta: Array, most: int) -> tuple[Array, int]:
    """Newton steps while they get shorter: the last digits, which no search by cost values can see."""
    low, high = problem.packed("lower"), problem.packed("upper")
    last, steps = np.inf, 0
    for _ in range(min(POLISHING, most)):
        value, g = objective.value_and_gradient(theta)
        found = _newton_step(objective, theta, ~_active(problem, theta, g))
        if found is None:
            break
        candidate = np.clip(theta + found[0], low, high)
        length = float(np.abs(found[0] / np.maximum(np.abs(theta), 1e-300)).max())
        after, _ = objective.value_and_gradient(candidate)
        if not length < last or not after <= value + NOISE * abs(value) or length == 0:
            break
        theta, last, steps = candidate, length, steps + 1
    return theta, steps


def _remaining(problem: Problem, objective: Objective, theta: Array, newton: bool) -> float:
    """How far from converged: at most 1 is converged.

    With a Hessian, the largest component of the Newton step still to go over what is tolerated; without, the
    largest
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
    solver: str,
    iterations: int,
    most: int,
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
    else:
        stopped = "" if status else said
        if iterations >= most:
            stopped = f"the limit of iterations is reached (max_iterations={most})"
        way = None if step is None else step[0]
        cause = cause_of_failure(problem, objective, theta, way, newton and step is None, stopped)
        message = f"not converged after {counted(iterations, 'iteration')}: {cause} (gradient norm {norm:.3g})"
    return Solution(
        theta,
        solver,
        left <= 1,
        message,
        iterations,
        objective.evaluations,
        g,
        step[1] if step is not None else None,
        at_bounds=tuple(n for n, a in zip(problem.names, active, strict=True) if a),
        degenerate=newton and step is None and status and _off_a_saddle(objective, theta) is None,
        hessian=objective.hessian(theta) if newton else None,
    )


def _solver(problem: Problem, objective: Objective, newton: bool, squares: bool) -> str:
    count = len(problem.names)
    if squares:
        name = "Levenberg-Marquardt" if not problem.bounded else "trust region reflective"
        then = ", then Newton steps with the symbolic Hessian" if newton else ""
        reason = "the cost is a sum of squares of residuals that are not linear in the parameters"
        name = f"{name} (SciPy's least_squares) with the symbolic Jacobian{then}, because {reason}"
    elif newton and not problem.bounded:
        name = (
            "trust region with the symbolic Hessian (SciPy's trust-exact), "
            f"because the cost is smooth, not quadratic, and has {count} parameters"
        )
    else:
        reason = "there are bounds" if problem.bounded else f"{count} parameters are many for a Hessian"
        name = f"L-BFGS-B (SciPy) with the symbolic gradient, because {reason}"
    return f"{name}; evaluated by {objective.engine}"
