"""What a recognised sum of squares says about its minimum: covariance and residual variance.

This runs in every fit, so it does no more than standard errors need; the rest is computed when it is asked for
(`quality`, `influence`, `robust`, `intervals`, `profile`, `bootstrap`, `prediction`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sym2tf.errors import SingularProblemError
from sym2tf.fit.evaluation.residuals import NO_COMMON_VARIANCE, Residuals, residuals_of
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers.linear import inverse_root_of, power_of_two, require_rank
from sym2tf.fit.solvers.solution import Solution, Sums, listed
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]

TINY = 1e-280  # squares below it may have lost digits
ILL_CONDITIONED = 1e5  # condition number from which standard errors need extended precision for ten digits


@dataclass(frozen=True)
class Linearisation:
    """The residuals of a sum of squares and their derivative at the estimates.

    Attributes:
        residual: (rows,), all blocks stacked, without weights.
        jacobian: (rows, p), of it.
        weights: (rows,), by what each square enters the cost.
        common: the weight that all rows share, or None.
        rows: of each block.
    """

    residual: Array = field(repr=False)
    jacobian: Array = field(repr=False)
    weights: Array = field(repr=False)
    common: float | None
    rows: tuple[int, ...]

    @property
    def whitened(self) -> tuple[Array, Array]:
        """Residual and Jacobian times the roots of the weights; as they are where all weights are the same."""
        if self.common is not None:
            return self.residual, self.jacobian
        root = np.sqrt(self.weights)
        return self.residual * root, self.jacobian * root[:, None]


@dataclass(frozen=True)
class Inference:
    """Statistics of a fit; None, with a reason, where they mean nothing.

    Attributes:
        covariance: (p, p), of the free parameters.
        stderr: (p,), their standard errors.
        no_stderr: why there is none.
        errors: what kind of standard errors these are.
        sigma: the residual standard deviation (of the weighted residuals where weights differ).
        rss: the sum of the squares that `sigma` is estimated from; None where the cost is no sum of squares.
        observations, degrees_of_freedom: how many squares, and how many more than parameters.
        condition: of the problem with scaled columns.
        log_likelihood: at the estimates, where the cost was declared to be its negative.
        normal: whether ratios to the standard errors are normal (likelihoods, known variances), not Student's.
        at: the linearisation at the estimates, where it was formed.
        total: the sum of squares about the mean, where the data that say it are gone (streams).
        no_total: why there is none, for such data.
        no_variance: why the squares have no common variance; empty if they have.
        log_weights: the sum of the logarithms of the weights, for such data; those that all rows share left out unless
            they are the variances themselves.
    """

    covariance: Array | None = None
    stderr: Array | None = None
    no_stderr: str = ""
    errors: str = "from the curvature at the minimum"
    sigma: float | None = None
    rss: float | None = None
    observations: int | None = None
    degrees_of_freedom: int | None = None
    condition: float | None = None
    log_likelihood: float | None = None
    normal: bool = False
    at: Linearisation | None = field(default=None, repr=False)
    total: float | None = None
    no_total: str = ""
    no_variance: str = ""
    log_weights: float = 0.0


def infer(
    problem: Problem, residuals: Residuals | None, solution: Solution, *, absolute_sigma: bool = False
) -> Inference:
    """The statistics of a solution.

    Covariance is s^2 (J^T W J)^-1 with s^2 = RSS/(N - p), and without s^2 where the weights say the variances
    themselves (`absolute_sigma`): exact for linear models, the usual linearisation for others (Seber and Wild,
    Nonlinear Regression, 1989, section 2.1.2). Where constraints with gradients A hold it is
    s^2 Z (Z^T J^T W J Z)^-1 Z^T with A Z = 0 (ibid., appendix E).

    Raises:
        SingularProblemError: the Jacobian at the minimum has not full rank.
    """
    if solution.sums is not None:
        return _from_sums(solution, solution.sums, absolute_sigma)
    if problem.stream is not None:
        return Inference(no_stderr="the data came in batches, of which nothing is kept")
    if residuals is None:
        reason = (
            "standard errors need a sum of squares; if the cost is a negative log-likelihood, say so with "
            "fit(..., likelihood=True)"
        )
        return Inference(no_stderr=reason, condition=solution.condition)
    if solution.rss is not None:
        return _from_squares(residuals, solution, solution.rss, absolute_sigma)
    at = linearise(residuals, solution)
    r, J = at.whitened
    used = _used(residuals)
    freedom = used - J.shape[1] + count_held(solution.active)
    rss, length = _squares(r)
    F, condition = solution.inverse_root, solution.condition
    if solution.linearised is not None and solution.linearised[1] <= ILL_CONDITIONED:
        F, condition = solution.linearised
    if solution.active is not None:
        F = None
    if F is None and not solution.at_bounds and not solution.stopped and solution.success:
        try:
            F, condition = inverse_root_at(J, solution.active, problem.names)
        except SingularProblemError as error:
            raise SingularProblemError(f"at {listed(problem.names, solution.theta)}: {error}") from None
    found = Inference(
        no_stderr=_no_stderr(residuals.no_inference, solution, freedom, used, absolute_sigma),
        sigma=None if residuals.no_inference else _sigma(length, freedom, at.common, absolute_sigma),
        rss=rss,
        observations=used,
        degrees_of_freedom=freedom,
        condition=condition,
        normal=absolute_sigma,
        at=at,
        no_variance=residuals.no_inference,
    )
    return _with_errors(found, F)


def _from_sums(solution: Solution, sums: Sums, known: bool) -> Inference:
    """The same from what a solver that has kept no rows has added up."""
    freedom = sums.squares - len(solution.theta)
    no_variance = NO_COMMON_VARIANCE if sums.penalised else ""
    common = sums.common if known else 1.0
    found = Inference(
        no_stderr=_no_stderr(no_variance, solution, freedom, sums.squares, known),
        sigma=None if no_variance else _sigma(math.sqrt(sums.rss), freedom, common, known),
        rss=sums.rss * common,
        observations=sums.squares,
        degrees_of_freedom=freedom,
        condition=solution.condition,
        normal=known,
        total=None if sums.total is None else sums.total * common,
        no_total=sums.no_total,
        no_variance=no_variance,
        log_weights=sums.log_weights + sums.squares * float(np.log(common)),
    )
    return _with_errors(found, solution.inverse_root)


def _from_squares(residuals: Residuals, solution: Solution, rss: float, known: bool) -> Inference:
    """The same where the solver has the inverse root and the sum of squares, and no rows."""
    used = _used(residuals)
    freedom = used - len(solution.theta)
    found = Inference(
        no_stderr=_no_stderr(residuals.no_inference, solution, freedom, used, known),
        sigma=None if residuals.no_inference else _sigma(math.sqrt(rss), freedom, residuals.common, known),
        rss=rss,
        observations=used,
        degrees_of_freedom=freedom,
        condition=solution.condition,
        normal=known,
        no_variance=residuals.no_inference,
    )
    return _with_errors(found, solution.inverse_root)


def _used(residuals: Residuals) -> int:
    """The number of squares with a weight that is not zero."""
    return len(residuals.weights) if residuals.common is not None else int(np.count_nonzero(residuals.weights))


def _with_errors(found: Inference, F: Array | None) -> Inference:
    """The same with covariance and standard errors from F, F F^T = (J^T W J)^-1, unless a reason is known against."""
    if F is None or found.sigma is None or found.no_stderr:
        return found
    covariance, stderr = spread(found.sigma * F)
    return replace(found, covariance=covariance, stderr=stderr)


def linearise(residuals: Residuals, solution: Solution) -> Linearisation:
    """The linearisation at the solution: the solver's own where it has it."""
    if solution.residual is None or solution.J is None:
        with np.errstate(all="ignore"):
            r, J = residuals.evaluate(solution.theta)
    else:
        r, J = solution.residual, solution.J
    return Linearisation(r, J, residuals.weights, residuals.common, residuals.rows)


def linearised_again(problem: Problem, structure: Structure, solution: Solution) -> Linearisation | None:
    """The linearisation of a fit that kept none; None where the cost is no sum of squares, or its rows are gone."""
    if structure.residuals is None or problem.stream is not None:
        return None
    residuals = residuals_of(problem, structure, Monitor(Options()))
    return None if residuals is None else linearise(residuals, solution)


def spread(F: Array) -> tuple[Array, Array]:
    """F F^T, which may leave the range of floats where its diagonal's roots, the standard errors, do not."""
    with np.errstate(over="ignore", under="ignore"):
        C = F @ F.T
        squares = C.diagonal()
        if squares.min(initial=1) > TINY and squares.max(initial=1) < np.inf:
            return C, np.sqrt(squares)
        unit = power_of_two(np.abs(F).max(axis=1))
        return C, unit * np.sqrt(np.square(F / unit[:, None]).sum(axis=1))


def count_held(active: Array | None) -> int:
    """By how many the constraints that hold with equality lessen the number of parameters."""
    return 0 if active is None else int(np.linalg.matrix_rank(active))


def null_space(active: Array) -> Array:
    """(p, p - rank), an orthonormal basis of the directions along which no active constraint changes."""
    _, values, V = np.linalg.svd(active)
    rank = int((values > values.max(initial=0) * max(active.shape) * np.finfo(float).eps).sum())
    return V[rank:].T


def _squares(r: Array) -> tuple[float, float]:
    """The sum of squares, and its root, which may be in the range of floats where the sum is not."""
    with np.errstate(over="ignore", under="ignore"):
        rss = float(r.dot(r))
        if TINY < rss < np.inf or not len(r):
            return rss, math.sqrt(rss)
        scale = float(power_of_two(np.abs(r).max()))
        scaled = float(np.square(r / scale).sum())
        return float(scaled * np.float64(scale) ** 2), math.sqrt(scaled) * scale


def _sigma(length: float, freedom: int, common: float | None, known: bool) -> float | None:
    """What multiplies the inverse root of J^T W J, whose weights leave out what all rows share (`common`).

    Args:
        length: the root of the sum of squares.
        freedom: the number of degrees of freedom.
        common: the weight that all rows share, or None.
        known: the weights say the variances themselves.
    """
    if known:
        return 1.0 if common is None else 1 / math.sqrt(common)
    return length / math.sqrt(freedom) if freedom > 0 else None


def inverse_root_at(J: Array, active: Array | None, names: tuple[str, ...]) -> tuple[Array, float]:
    """F with F F^T = Z (Z^T J^T J Z)^-1 Z^T in columns of unit length, and the condition number.

    Raises:
        SingularProblemError: J Z has not full rank.
    """
    if active is None:
        return _inverse_root(J, names)
    unit = power_of_two(np.sqrt(np.square(J).sum(axis=0)))
    Z = null_space(active / unit)
    if not Z.shape[1]:
        return np.zeros((len(names), 1)), 1.0
    try:
        F, condition = _inverse_root(J / unit @ Z, tuple(f"direction {k + 1}" for k in range(Z.shape[1])))
    except SingularProblemError:
        raise SingularProblemError(
            f"data and constraints together do not determine {', '.join(names)}: a change of some of them along the "
            "constraints changes no residual"
        ) from None
    return (Z @ F) / unit[:, None], condition


def _inverse_root(J: Array, names: tuple[str, ...]) -> tuple[Array, float]:
    """F with F F^T = (J^T J)^-1, and the condition number: by QR, with extended precision where digits would be lost.

    Raises:
        SingularProblemError: J has not full rank.
    """
    scale = power_of_two(np.abs(J).max(axis=0, initial=0))
    R = np.asarray(np.linalg.qr(J / scale, mode="r"))
    condition = require_rank(R, scale, names)
    if condition > ILL_CONDITIONED:
        return inverse_root_of(J, names)
    return np.linalg.inv(R) / scale[:, None], condition


def _no_stderr(no_variance: str, solution: Solution, freedom: int, used: int, known: bool) -> str:
    """Why there are no standard errors; empty if there are."""
    if no_variance:
        return no_variance
    if freedom > 0 or known:
        return unusable(solution)
    verb = "leaves" if used == 1 else "leave"
    return f"{counted(used, 'observation')} {verb} no degrees of freedom to estimate the variance of the residuals"


def unusable(solution: Solution) -> str:
    """Why the curvature where a solver ended says nothing about errors; empty if it does."""
    if solution.at_bounds:
        verb = "stands" if len(solution.at_bounds) == 1 else "stand"
        return f"{', '.join(solution.at_bounds)} {verb} at a bound, where the usual theory does not hold"
    if solution.stopped:
        return "the fit was stopped before it reached the minimum"
    return "" if solution.success else "the fit has not converged"
