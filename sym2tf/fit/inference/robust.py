"""Standard errors that hold where the usual assumptions do not: sandwiches of curvature and scores.

White, Econometrica 48 (1980), HC0; MacKinnon and White, Journal of Econometrics 29 (1985), HC1 to HC3; Huber, Robust
Statistics (1981), sections 6.6 and 7.6, for likelihoods and M-estimators.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, DifferentiationError, FitError
from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.inference.influence import DETERMINED, leverage_of
from sym2tf.fit.inference.least_squares import Inference, Linearisation, count_held, inverse_root_at, spread, unusable
from sym2tf.fit.inference.quantile_errors import meat_of
from sym2tf.fit.inference.scores import contributions
from sym2tf.fit.solvers.linear_program import slopes
from sym2tf.fit.solvers.robust_loss import Curve
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]

KINDS = ("HC0", "HC1", "HC2", "HC3")
NAMES = {
    "HC0": "HC0: robust against errors of unequal variance (White 1980)",
    "HC1": "HC1: robust against errors of unequal variance, times N/(N - p)",
    "HC2": "HC2: robust against errors of unequal variance, squares over 1 - leverage",
    "HC3": "HC3: robust against errors of unequal variance, squares over (1 - leverage)^2",
}


def robust_inference(
    problem: Problem, solution: Solution, inference: Inference, at: Linearisation | None, kind: Any
) -> Inference:
    """The same inference with robust standard errors.

    Raises:
        ArgumentError: another `kind`, or one that this cost does not know.
        FitError: there are no standard errors to begin with, or no scores; says why.
    """
    if kind not in KINDS:
        raise ArgumentError(f"kind is one of {', '.join(KINDS)}, got {kind!r}")
    reason = unusable(solution) or inference.no_variance
    if reason:
        raise FitError(f"robust errors need a regular minimum of a sum of equal observations: {reason}")
    if inference.log_likelihood is not None:
        covariance = _of_likelihood(problem, solution, inference, kind)
    elif at is not None:
        covariance = _of_squares(problem, solution, inference, at, kind)
    else:
        reason = inference.no_stderr or "those of an M-estimator hold for outliers as they are"
        raise FitError(f"robust errors need squares of residuals or a declared likelihood: {reason}")
    stderr = np.sqrt(np.diag(covariance).clip(0))
    return replace(inference, covariance=covariance, stderr=stderr, no_stderr="", errors=NAMES[kind])


def _of_squares(problem: Problem, solution: Solution, inference: Inference, at: Linearisation, kind: str) -> Array:
    """F (Q^T diag(e^2) Q) F^T with J F = Q, whose columns are orthonormal."""
    r, J = at.whitened
    F = solution.inverse_root if solution.active is None else None
    if F is None:
        F, _ = inverse_root_at(J, solution.active, problem.names)
    Q = J @ F
    e = r
    if kind in ("HC2", "HC3"):
        rest = 1 - leverage_of(at, solution.active)
        if (rest < DETERMINED).any():
            row = int(np.argmin(rest))
            raise FitError(f"{kind} does not exist: observation {row} alone determines a parameter (its leverage is 1)")
        e = r / np.sqrt(rest) if kind == "HC2" else r / rest
    covariance, _ = spread(F @ _root(Q * e[:, None]))
    return covariance * _correction(kind, inference.observations, inference.degrees_of_freedom)


def _of_likelihood(problem: Problem, solution: Solution, inference: Inference, kind: str) -> Array:
    """H^-1 (sum of g g^T) H^-1 with the scores g of the observations."""
    if kind in ("HC2", "HC3"):
        raise ArgumentError(f"{kind} is about the leverage of residuals; a likelihood has HC0 and HC1")
    if inference.covariance is None:
        raise FitError(f"robust errors need the curvature: {inference.no_stderr}")
    _, scores = contributions(problem, inference.observations)
    root = inference.covariance @ scores(solution.theta).T
    n = inference.observations
    return root @ root.T * _correction(kind, n, None if n is None else n - len(solution.theta))


def _correction(kind: str, n: int | None, freedom: int | None) -> float:
    if kind != "HC1":
        return 1.0
    if n is None or freedom is None or freedom <= 0:
        raise FitError("HC1 does not exist: there are no degrees of freedom")
    return n / freedom


def _root(A: Array) -> Array:
    """(p, p), R^T with R^T R = A^T A."""
    return np.asarray(np.linalg.qr(A, mode="r")).T


def infer_from_loss(problem: Problem, structure: Structure, solution: Solution, inference: Inference) -> Inference:
    """The statistics of an M-estimate, for the loss rho of residuals u = (y - f)/sigma.

    The covariance is k^2 [sum psi(u)^2/(N - p)] / [sum psi'(u)/N]^2 (J^T J)^-1 with psi = rho', J = du/dtheta and
    k = 1 + p/N var(psi')/mean(psi')^2: Huber (1981), equation 7.6.6, which statsmodels' RLM calls H1.
    """
    loss, graph = problem.loss, structure.whitened
    if loss is None or graph is None:
        return inference
    values, jacobian = evaluators(graph, problem)
    u, J = values(solution.theta), jacobian(solution.theta)
    n, p = len(J), J.shape[1] - count_held(solution.active)
    inference = replace(inference, observations=n, degrees_of_freedom=n - p)
    reason = unusable(solution)
    if not reason and n <= p:
        reason = f"{n} observations leave no degrees of freedom"
    if reason:
        return replace(inference, no_stderr=reason)
    prices = slopes(loss)
    if prices is not None:
        return _of_quantile(u, J, solution, inference, prices[0] / (prices[0] + prices[1]))
    try:
        _, first, second = Curve(loss).at(u)
    except DifferentiationError:
        return replace(inference, no_stderr=f"the loss {loss.name} has no second derivative")
    if not np.isfinite(second).all() or not second.mean() > 0:
        return replace(inference, no_stderr=f"the loss {loss.name} has no mean curvature at the residuals")
    F, condition = inverse_root_at(J, solution.active, problem.names)
    k = 1 + p / n * second.var() / second.mean() ** 2
    scale = k * np.sqrt(np.square(first).sum() / (n - p)) / second.mean()
    covariance, stderr = spread(scale * F)
    return replace(
        inference,
        covariance=covariance,
        stderr=stderr,
        no_stderr="",
        errors="of an M-estimator (Huber's H1)",
        condition=condition,
        normal=True,
    )


def _of_quantile(u: Array, J: Array, solution: Solution, inference: Inference, level: float) -> Inference:
    """The statistics of a regression quantile (of a median, for absolute values)."""
    root = None if solution.active is not None else meat_of(u, J, solution.theta, level)
    if root is None:
        reason = "the density of the residuals at the quantile cannot be told; bootstrap() gives standard errors"
        return replace(inference, no_stderr=reason)
    names = tuple(f"parameter {k}" for k in range(J.shape[1]))
    F, condition = inverse_root_at(J, None, names)
    covariance, stderr = spread(F @ _root((J @ F) * root[:, None]))
    return replace(
        inference,
        covariance=covariance,
        stderr=stderr,
        no_stderr="",
        errors="from the density of the residuals at the quantile (Powell's sandwich, as in statsmodels' QuantReg)",
        condition=condition,
    )
