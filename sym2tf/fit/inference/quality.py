"""How well a model describes the data: R2, log-likelihood, information criteria. Computed when asked for.

Every function gives `(number, "")`, or `(None, why there is none)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.fit.evaluation.residuals import run
from sym2tf.fit.inference.least_squares import Inference, Linearisation
from sym2tf.fit.solvers.linear import power_of_two
from sym2tf.fit.statement.classify import Model, Structure
from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]
Found = tuple[float | None, str]


@dataclass(frozen=True)
class Quality:
    """R2, adjusted R2, log-likelihood, AIC and BIC."""

    r_squared: Found
    adjusted: Found
    log_likelihood: Found
    aic: Found
    bic: Found


NO_SQUARES = "the cost is no sum of squares"
NO_ROWS = "the rows of a stream are gone through and not kept"


def quality_of(
    problem: Problem,
    structure: Structure,
    inference: Inference,
    at: Linearisation | None,
    observed: Any,
    parameters: int,
) -> Quality:
    """All of it; `parameters` is how many were estimated."""
    r2, llf = r_squared(problem, structure, inference, at, observed), log_likelihood(problem, inference, at)
    aic, bic = information(llf, inference, parameters)
    return Quality(r2, adjusted(r2, inference), llf, aic, bic)


def shown_residuals(problem: Problem, structure: Structure, theta: Array, at: Linearisation | None) -> tuple[Any, Any]:
    """Observed - model in the shape of the data, and what is observed; dicts by what is observed for several models.

    The residuals as written, and None, where no model is known; None twice where there are no residuals either.
    """
    if problem.stream is not None:  # its rows are gone
        return None, None
    if not structure.models:
        return (None if at is None else at.residual), None
    pairs = {model.observed: sides(problem, model, theta) for model in structure.models}
    shown = {}
    for model in structure.models:
        observed, predicted = pairs[model.observed]
        shown[model.observed] = observed - predicted
        if at is not None and not _correlated(problem):  # the solver's own residuals have more digits
            starts = np.cumsum([0, *at.rows])
            own = at.residual[starts[model.block] : starts[model.block + 1]] * model.sign
            shown[model.observed] = own.reshape(predicted.shape)
    if len(pairs) == 1:
        return next(iter(shown.values())), next(iter(pairs.values()))[0]
    return shown, {name: observed for name, (observed, _) in pairs.items()}


def _correlated(problem: Problem) -> bool:
    return any(spread.kind == "covariance" for spread in problem.spreads.values())


def sides(problem: Problem, model: Model, theta: Array) -> tuple[Array, Array]:
    """What is observed and what the model says, in one shape."""
    found = run(model.graph, problem, problem.unpacked(theta))
    observed, predicted = np.broadcast_arrays(found["observed"] * 1.0, found["model"])
    return observed, predicted


def r_squared(
    problem: Problem, structure: Structure, inference: Inference, at: Linearisation | None, observed: Any
) -> Found:
    """1 - RSS/TSS, with the total sum of squares about the (weighted) mean, if the model can move by a constant."""
    if inference.rss is not None and (inference.total is not None or inference.no_total):
        return _ratio(inference.rss, inference.total, inference.no_total)
    if at is None:
        return None, NO_SQUARES
    if _correlated(problem):
        return None, "the observations are correlated, so there is no variance about a mean to compare with"
    if structure.model is None:
        return None, structure.no_model
    if len(at.rows) > 1:
        return None, "the cost adds several sums of squares"
    r, J = at.whitened
    one = np.ones(len(J)) if at.common is not None else np.sqrt(at.weights)
    Q = np.linalg.qr(J / power_of_two(np.abs(J).max(axis=0, initial=0)))[0]
    if np.linalg.norm(one - Q @ (Q.T @ one)) > 1e-7 * np.linalg.norm(one):
        return None, "the model cannot move by a constant (it has no intercept)"
    if not np.ptp(observed):
        return _ratio(0.0, 0.0, "")
    unit = float(power_of_two(np.abs(observed).max()))
    y, r = observed.ravel() / unit * one, r / unit
    direction = one / np.linalg.norm(one)
    centred = y - direction * (direction @ y)
    centred = centred - direction * (direction @ centred)
    return _ratio(float(r @ r), float(centred @ centred), "")


def _ratio(rss: float, total: float | None, reason: str) -> Found:
    if total is None:
        return None, reason
    return (1 - rss / total, "") if total > 0 else (None, "the observed values are all the same")


def adjusted(r2: Found, inference: Inference) -> Found:
    """1 - (1 - R2) (N - 1)/(N - p): R2 with variances that are estimated without bias in place of sums (Theil 1961)."""
    value, reason = r2
    n, freedom = inference.observations, inference.degrees_of_freedom
    if value is None or n is None or freedom is None:
        return None, reason
    if freedom <= 0:
        return None, "there are no degrees of freedom"
    return 1 - (1 - value) * (n - 1) / freedom, ""


def log_likelihood(problem: Problem, inference: Inference, at: Linearisation | None) -> Found:
    """The log-likelihood at the estimates.

    Of a declared likelihood: minus the cost. Of a sum of squares with weights w, for Gaussian errors of variance
    sigma^2/w, as statsmodels' OLS and WLS have it: -N/2 (log(2 pi RSS/N) + 1) + sum(log w)/2, where RSS/N is the
    estimate of sigma^2 that maximises it; for `absolute_sigma`, sigma^2 = 1:
    -(N log(2 pi) + RSS - sum(log w))/2. Of a covariance, the logarithm of its determinant stands for -sum(log w).
    """
    if inference.log_likelihood is not None:
        return inference.log_likelihood, ""
    if inference.rss is None:
        return None, NO_SQUARES + " and not declared a likelihood"
    if inference.no_variance:
        return None, inference.no_variance
    n = inference.observations or 0
    logs = inference.log_weights
    if at is not None and (at.common is None or inference.normal):
        logs = float(np.log(at.weights[at.weights > 0]).sum())
    inverse_roots = [spread.array for spread in problem.spreads.values() if spread.kind == "covariance"]
    logs += 2 * sum(float(np.log(np.diag(root)).sum()) for root in inverse_roots if root is not None)
    if inference.normal:
        rss = inference.rss * (1.0 if at is None or at.common is None else at.common)
        return -0.5 * (n * float(np.log(2 * np.pi)) + rss - logs), ""
    if inference.rss == 0 and (at is None or not at.residual.any()):
        return None, "the residuals are all zero, so the likelihood has no maximum"
    return -0.5 * n * (float(np.log(2 * np.pi / n)) + _log_rss(inference, at) + 1) + 0.5 * logs, ""


def _log_rss(inference: Inference, at: Linearisation | None) -> float:
    """The logarithm of the sum of squares, which itself may leave the range of floats."""
    if at is None:
        return float(np.log(inference.rss or np.nan))
    r, _ = at.whitened
    unit = float(power_of_two(np.abs(r).max()))
    return float(np.log(np.square(r / unit).sum()) + 2 * np.log(unit))


def information(llf: Found, inference: Inference, parameters: int) -> tuple[Found, Found]:
    """AIC = 2 k - 2 log L and BIC = k log N - 2 log L.

    Here k counts the estimated parameters without the variance of Gaussian errors, as statsmodels counts (R's `AIC`
    counts that too). Akaike 1974; Schwarz 1978.
    """
    value, reason = llf
    if value is None:
        return (None, reason), (None, reason)
    aic = 2 * parameters - 2 * value
    n = inference.observations
    if n is None:
        return (aic, ""), (None, "the number of observations cannot be told from the cost")
    return (aic, ""), (float(parameters * np.log(n)) - 2 * value, "")
