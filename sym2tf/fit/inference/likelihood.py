"""Inference where the user declares the cost to be a negative log-likelihood."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.errors import ArgumentError
from sym2tf.fit.evaluation.residuals import Residuals
from sym2tf.fit.inference.least_squares import Inference, null_space, unusable
from sym2tf.fit.solvers.linear import power_of_two
from sym2tf.fit.solvers.solution import Solution, scaled_eigen
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.subscripts import count_observations
from sym2tf.frontend.describe import describe

Array = np.ndarray[Any, Any]


def require_likelihood(problem: Problem) -> None:
    """Refuse a cost that cannot be a negative log-likelihood.

    Raises:
        ArgumentError: an equation, or a mean over the observations, whose errors would be wrong by a factor sqrt(n).
    """
    cost = problem.cost
    if problem.equations:
        shown = describe(cost) if isinstance(cost, sp.Eq) else "this"
        raise ArgumentError(
            f"likelihood=True needs a cost, the negative log-likelihood; {shown} is an equation, which is fitted by "
            "least squares, or with its loss"
        )
    sizes = set(_numbers_of_sizes(problem))
    for term in sp.Add.make_args(cost):
        for factor in sp.Mul.make_args(term):
            if isinstance(factor, sp.Pow) and factor.base in sizes and factor.exp.is_negative:
                raise ArgumentError(
                    f"a negative log-likelihood is a sum over the observations, but {describe(term)} is divided by "
                    f"{factor.base}: leave that out, or the standard errors would be wrong"
                )


def infer_from_likelihood(
    problem: Problem, residuals: Residuals | None, solution: Solution, cost: float, inference: Inference
) -> Inference:
    """The statistics of a maximum-likelihood estimate.

    The covariance is the inverse of the observed information, which is the Hessian of the cost at its minimum
    (Pawitan, In All Likelihood, 2001, section 2.5); where constraints hold, of its part along them (Aitchison and
    Silvey, Annals of Mathematical Statistics 29, 1958).

    Args:
        problem: whose cost is the negative log-likelihood, up to a constant.
        residuals: if it is a sum of squares too.
        solution: of the problem.
        cost: at the solution.
        inference: what is known without the declaration; residuals and R2 are kept.
    """
    sizes = _numbers_of_sizes(problem)
    covariance, reason = _covariance(residuals, solution)
    return replace(
        inference,
        covariance=covariance,
        stderr=None if covariance is None else np.sqrt(np.diag(covariance)),
        no_stderr=reason,
        observations=None
        if problem.stream is not None
        else count_observations(problem.cost, problem.symbols, sizes, problem.data),
        degrees_of_freedom=None,
        sigma=None,
        log_likelihood=-cost,
        normal=True,
    )


def _numbers_of_sizes(problem: Problem) -> dict[Any, int]:
    symbols = problem.graph.info.get("sizes", {})
    return {symbol: problem.bound[name] for name, symbol in symbols.items() if name in problem.bound}


def _covariance(residuals: Residuals | None, solution: Solution) -> tuple[Array | None, str]:
    reason = unusable(solution)
    if reason:
        return None, reason
    exact = residuals is not None and solution.inverse_root is not None and solution.active is None
    if exact:  # to full precision: no product of J with itself
        assert residuals is not None
        assert solution.inverse_root is not None
        F = solution.inverse_root
        return F @ F.T / (2 * (1.0 if residuals.common is None else residuals.common)), ""
    if solution.hessian is None:
        return None, f"no Hessian was formed: {len(solution.theta)} parameters are many for these data"
    if solution.active is None:
        scale, eigenvalues, V = scaled_eigen(solution.hessian)
    else:
        unit = 1 / np.sqrt(power_of_two(np.abs(np.diag(solution.hessian))))
        Z = null_space(solution.active * unit)
        eigenvalues, U = np.linalg.eigh(Z.T @ (solution.hessian * np.outer(unit, unit)) @ Z)
        scale, V = unit, Z @ U
    if eigenvalues.min(initial=np.inf) <= 0:
        return None, "the Hessian is not positive definite at the estimates"
    root = scale[:, None] * V / np.sqrt(eigenvalues)
    return root @ root.T, ""
