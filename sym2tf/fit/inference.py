"""What a recognised sum of squares says about its minimum: covariance, residual standard deviation, R2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.errors import SingularProblemError
from sym2tf.fit.classify import Structure
from sym2tf.fit.linear import inverse_root_of, power_of_two
from sym2tf.fit.residuals import Residuals, run
from sym2tf.fit.solution import Solution, listed
from sym2tf.fit.statement import Problem
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Inference:
    """Statistics of a fit; None, with a reason, where they mean nothing.

    Attributes:
        covariance: (p, p), of the free parameters.
        stderr: (p,), their standard errors.
        no_stderr: why there is none.
        sigma: the residual standard deviation (of the weighted residuals where weights differ).
        observations, degrees_of_freedom: how many squares, and how many more than parameters.
        r_squared: 1 - RSS/TSS about the mean, if the model can move by a constant.
        no_r_squared: why there is none.
        residuals: observed - model in the shape of the data, or the residuals as written where no model is
            known.
        observed: the observed values, where the model is known.
        condition: of the problem with scaled columns.
        log_likelihood: at the estimates, where the cost was declared to be its negative.
    """

    covariance: Array | None = None
    stderr: Array | None = None
    no_stderr: str = ""
    sigma: float | None = None
    observations: int | None = None
    degrees_of_freedom: int | None = None
    r_squared: float | None = None
    no_r_squared: str = ""
    residuals: Array | None = None
    observed: Array | None = None
    condition: float | None = None
    log_likelihood: float | None = None


def infer(problem: Problem, structure: Structure, residuals: Residuals | None, solution: Solution) -> Inference:
    """The statistics of a solution.

    Covariance is s^2 (J^T W J)^-1 with s^2 = RSS/(N - p): exact for linear models, the usual linearisation
    for others (Seber and Wild, Nonlinear Regression, 1989, section 2.1.2).

    Raises:
        SingularProblemError: the Jacobian at the minimum has not full rank.
    """
    if residuals is None:
        reason = (
            "standard errors need a sum of squares; if the cost is a negative log-likelihood, say so with "
            "fit(..., likelihood=True)"
        )
        return Inference(no_stderr=reason, no_r_squared="the cost is no sum of squares", condition=solution.condition)
    if solution.residual is None or solution.J is None:
        r, J = residuals.evaluate(solution.theta)
    else:
        r, J = solution.residual, solution.J
    root = residuals.relative_weights
    weighted = r if root is None else r * root
    count, used = J.shape[1], len(r) if root is None else int(np.count_nonzero(residuals.weights))
    freedom = used - count
    scale = float(power_of_two(np.abs(weighted).max(initial=0)))
    rss = float(np.square(weighted / scale).sum())
    reason = _no_stderr(residuals, solution, freedom, used)
    F, condition = solution.inverse_root, solution.condition
    if F is None and not solution.at_bounds and (solution.success or solution.degenerate):
        try:
            F, condition = inverse_root_of(J if root is None else J * root[:, None], problem.names)
        except SingularProblemError as error:
            raise SingularProblemError(f"at {listed(problem.names, solution.theta)}: {error}") from None
    sigma = float(np.sqrt(rss / freedom)) * scale if freedom > 0 and not residuals.no_inference else None
    covariance = stderr = None
    if F is not None and sigma is not None and not reason:
        covariance, stderr = _spread(sigma * F)
    shown, observed = _observations(problem, structure, residuals, solution.theta, r)
    r_squared, no_r_squared = _r_squared(residuals, structure, J, weighted, root, observed)
    return Inference(
        covariance, stderr, reason, sigma, used, freedom, r_squared, no_r_squared, shown, observed, condition
    )


def _spread(F: Array) -> tuple[Array, Array]:
    """F F^T, which may leave the range of floats where its diagonal's roots, the standard errors, do not."""
    unit = power_of_two(np.abs(F).max(axis=1))
    with np.errstate(over="ignore", under="ignore"):
        return F @ F.T, unit * np.sqrt(np.square(F / unit[:, None]).sum(axis=1))


def _no_stderr(residuals: Residuals, solution: Solution, freedom: int, used: int) -> str:
    if residuals.no_inference:
        return residuals.no_inference
    if freedom <= 0:
        verb = "leaves" if used == 1 else "leave"
        return f"{counted(used, 'observation')} {verb} no degrees of freedom to estimate the variance of the residuals"
    if solution.at_bounds:
        return f"{', '.join(solution.at_bounds)} stands at a bound, where the usual theory does not hold"
    if not solution.success:
        return "the fit has not converged"
    return ""


def _observations(
    problem: Problem, structure: Structure, residuals: Residuals, theta: Array, r: Array
) -> tuple[Array, Array | None]:
    model = structure.model
    if model is None or structure.residuals is None:
        return r, None
    starts = np.concatenate([[0], np.cumsum(residuals.rows)])
    own = r[starts[model.block] : starts[model.block + 1]] * model.sign
    found = run(model.graph, problem, problem.unpacked(theta))
    observed, predicted = np.broadcast_arrays(found["observed"], found["model"])
    return own.reshape(predicted.shape), observed


def _r_squared(
    residuals: Residuals,
    structure: Structure,
    J: Array,
    weighted: Array,
    root: Array | None,
    observed: Array | None,
) -> tuple[float | None, str]:
    if observed is None:
        return None, structure.no_model
    if len(residuals.rows) > 1:
        return None, "the cost adds several sums of squares"
    one = np.ones(len(J)) if root is None else root
    scaled = (J if root is None else J * root[:, None]) / power_of_two(np.abs(J).max(axis=0, initial=0))
    Q = np.linalg.qr(scaled)[0]
    if np.linalg.norm(one - Q @ (Q.T @ one)) > 1e-7 * np.linalg.norm(one):
        return None, "the model cannot move by a constant (it has no intercept)"
    unit = float(power_of_two(np.abs(observed * 1.0).max()))
    y, weighted = observed.ravel() / unit * one, weighted / unit
    direction = one / np.linalg.norm(one)
    centred = y - direction * (direction @ y)
    centred = centred - direction * (direction @ centred)
    total = float(centred @ centred)
    if total == 0:
        return None, "the observed values are all the same"
    return 1 - float(weighted @ weighted) / total, ""
