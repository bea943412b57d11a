"""Profiles and bootstraps of a fit: which functions they need, from the kind of cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sym2tf.errors import FitError
from sym2tf.fit.evaluation.objective import Objective
from sym2tf.fit.evaluation.residuals import residuals_of
from sym2tf.fit.inference import bootstrap
from sym2tf.fit.inference.bootstrap import Bootstrap
from sym2tf.fit.inference.intervals import Intervals, quantile
from sym2tf.fit.inference.least_squares import Inference, Linearisation, inverse_root_at
from sym2tf.fit.inference.profile import Landscape, profile_intervals
from sym2tf.fit.inference.refit import Region, least_squares, region_of, smooth
from sym2tf.fit.inference.scores import contributions
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]
Function = Callable[[Array], Array]


@dataclass(frozen=True)
class Fitted:
    """A fit as far as resampling and profiling need it.

    Attributes:
        problem, structure, solution, inference: of it.
        at: the linearisation at the estimates, of sums of squares.
    """

    problem: Problem
    structure: Structure
    solution: Solution
    inference: Inference
    at: Linearisation | None

    @property
    def likelihood(self) -> bool:
        return self.inference.log_likelihood is not None


def profiles(fit: Fitted, level: float) -> Intervals:
    """Profile intervals of every free parameter.

    Raises:
        FitError: the cost says nothing about probabilities, or the fit is at no minimum; says why.
    """
    _require_minimum(fit, "profiles")
    problem, inference, theta = fit.problem, fit.inference, fit.solution.theta
    region = region_of(problem, theta, inference.stderr)
    threshold = quantile(inference, level)
    if fit.likelihood:
        objective = Objective(problem, Monitor(Options()))
        hessian = objective.hessian if objective.prepare_hessian() else None
        search = partial(_smooth, (objective.value_and_gradient, hessian))
        cost, unit = objective.value_and_gradient(theta)[0], 0.5
    else:
        r, _ = _linearisation(fit, "profiles").whitened
        if inference.sigma is None:
            raise FitError(
                f"profiles need the variance of the residuals: {inference.no_stderr or inference.no_variance}"
            )
        if inference.sigma == 0:
            raise FitError("the residuals are all zero: the estimates are exact and have no profile")
        search = partial(_squares, _whitened(fit))
        cost, unit = float(r @ r), inference.sigma**2
    land = Landscape(problem.names, theta, cost, unit, threshold, region, search, inference.covariance)
    return profile_intervals(land, level)


def resample(fit: Fitted, samples: Any, seed: Any, kind: Any) -> Bootstrap:
    """The bootstrap; `kind` is None for residuals, and for pairs where there are none.

    Raises:
        ArgumentError: samples, seed or kind that are none.
        FitError: the cost has neither residuals nor a term for each observation; says why.
    """
    bootstrap.require_sampling(samples, seed, kind)
    _require_minimum(fit, "a bootstrap")
    problem, theta, names = fit.problem, fit.solution.theta, fit.problem.names
    region = region_of(problem, theta, fit.inference.stderr)
    if fit.likelihood or problem.loss is not None:
        if kind == "residuals":
            what = "a likelihood has no residuals" if fit.likelihood else "with a loss residuals are not equal enough"
            raise FitError(f"{what} to resample: kind='pairs' resamples observations")
        if fit.inference.covariance is None:
            raise FitError(f"a bootstrap of terms needs standard errors for scale: {fit.inference.no_stderr}")
        parts = contributions(problem, fit.inference.observations)
        return bootstrap.of_contributions(names, theta, parts, fit.inference.covariance, region, samples, seed)
    at, squares = _with_weight(_linearisation(fit, "a bootstrap"), _whitened(fit))
    if fit.inference.no_variance and kind != "pairs":
        raise FitError(f"residuals cannot be exchanged: {fit.inference.no_variance}")
    r, J = at.whitened
    if len(r) <= J.shape[1]:
        raise FitError("as many parameters as observations leave no residuals to resample")
    F, _ = inverse_root_at(J, fit.solution.active, names)
    resampled: bootstrap.Kind = "pairs" if kind == "pairs" else "residuals"
    if fit.structure.kind == "linear least squares" and not problem.constraints and not region.bounded:
        return bootstrap.of_linear(names, theta, at, F, resampled, samples, seed)
    return bootstrap.of_squares(names, theta, at, F, squares, region, resampled, samples, seed)


def _require_minimum(fit: Fitted, what: str) -> None:
    if not fit.solution.success or fit.solution.stopped:
        state = "was stopped" if fit.solution.stopped else "has not converged"
        raise FitError(f"{what} start from a minimum, and the fit {state}")


def _linearisation(fit: Fitted, what: str) -> Linearisation:
    if fit.at is None:
        reason = fit.inference.no_stderr or "a loss is neither"
        raise FitError(f"{what} need squares of residuals or a declared likelihood: {reason}")
    return fit.at


def _whitened(fit: Fitted) -> tuple[Function, Function]:
    """Functions of theta to the residuals times the roots of their weights, and to the Jacobian of that."""
    residuals = residuals_of(fit.problem, fit.structure, Monitor(Options()))
    assert residuals is not None
    root, quiet = residuals.relative_weights, np.errstate(all="ignore")
    values, jacobian = quiet(residuals.values), quiet(residuals.jacobian)
    if root is None:
        return values, jacobian
    column = root[:, None]
    return (lambda theta: values(theta) * root), (lambda theta: jacobian(theta) * column)


def _with_weight(
    at: Linearisation, squares: tuple[Function, Function]
) -> tuple[Linearisation, tuple[Function, Function]]:
    """The same without the rows of weight 0, which are no observations and not to be drawn."""
    if at.common is not None or at.weights.all():
        return at, squares
    used, (values, jacobian) = at.weights > 0, squares
    kept = replace(
        at,
        residual=at.residual[used],
        jacobian=at.jacobian[used],
        weights=at.weights[used],
        rows=(int(used.sum()),),
    )
    return kept, (lambda theta: values(theta)[used], lambda theta: jacobian(theta)[used])


def _squares(squares: tuple[Function, Function], region: Region, start: Array) -> Any:
    return least_squares(region, squares, start)


def _smooth(cost: Any, region: Region, start: Array) -> Any:
    return smooth(region, cost, start)
