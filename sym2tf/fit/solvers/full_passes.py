"""Nonlinear least squares over a stream, which is gone through once for each evaluation of all residuals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sym2tf.errors import DataError, FitError
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers.one_pass import Seen, passed, planned, solution_of
from sym2tf.fit.solvers.solution import Solution, at_bounds
from sym2tf.fit.statement.batches import checked_batches
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import separate
from sym2tf.fit.wording import counted
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

METHODS = ("lm", "trf")  # methods that ask for all rows of a stream in each evaluation
CONVERGED = 1e-12  # relative change of cost and parameters at which passes over a stream end
AT_BOUND = 1e-8  # from a bound, relative, where a parameter counts as being at it


def is_by_passes(problem: Problem, structure: Structure, options: Options) -> bool:
    """Whether a stream is to be gone through for each evaluation of residuals that are not linear."""
    if problem.stream is None or options.method not in METHODS or structure.kind != "nonlinear least squares":
        return False
    return not problem.constraints and options.multistart is None


def solve_by_passes(problem: Problem, structure: Structure, options: Options, monitor: Monitor) -> Solution:
    """Non-linear least squares over a stream, with one pass for each evaluation.

    SciPy's solver sees of residuals and Jacobian nothing but lengths and products, which are those of their common
    triangular factor: so that stands for all rows, and every step is the one that they would give.

    Raises:
        DataError: the stream cannot be gone through again.
        FitError: the model is not defined at the start.
    """
    own = separate(problem)
    assert problem.stream is not None
    stream, first, p = problem.stream, planned(problem, structure, own), len(problem.names)

    def through(theta: Array) -> tuple[Seen, Array, int]:
        return passed(replace(first, theta=theta), checked_batches(problem, own, stream.batches()))

    def whole(theta: Array) -> tuple[Array, ...]:
        try:
            seen, factor, _ = through(theta)
        except FitError as error:
            if isinstance(error, DataError) or not tried:
                raise
            return (np.full((p + 1, p + 1), np.inf),)
        return (factor[: p + 1, : p + 1] * np.sqrt(seen.weight),)

    def summary(answer: tuple[Array, ...]) -> tuple[float, float]:
        factor = answer[0]
        return float(factor[:, p] @ factor[:, p]), 2 * float(np.linalg.norm(factor[:, :p].T @ factor[:, p]))

    tried: dict[bytes, Array] = {}

    def at(theta: Array) -> Array:
        key = theta.tobytes()
        if key not in tried:
            (found,) = monitor.ask("residuals and jacobian", theta, lambda: whole(theta), summary)
            tried.clear()
            tried[key] = found
        return tried[key]

    low, high = problem.packed("lower"), problem.packed("upper")
    found = optimize.least_squares(
        lambda theta: at(theta)[:, p].copy(), problem.packed("initial"), lambda theta: at(theta)[:, :p].copy(),
        (low, high), "trf", ftol=CONVERGED, xtol=CONVERGED, gtol=None, x_scale="jac", max_nfev=options.max_iterations,
    )  # fmt: skip
    theta = found.x.copy()
    for bound in (low, high):  # which the solver, that keeps inside, only comes near to
        near = np.isfinite(bound) & (np.abs(theta - bound) <= AT_BOUND * np.maximum(np.abs(theta), 1))
        theta[near] = bound[near]
    seen, factor, number = through(theta)
    batched = counted(number, "batch", "batches")
    return replace(
        solution_of(first, seen, factor, theta, factor[:p, p], at_bounds(problem, theta)),
        solver=f"trust region reflective (SciPy) with one pass over {seen.rows} rows in {batched} for each evaluation, "
        f"because method={options.method!r} asks for it",
        success=bool(found.success),
        message=f"{'converged' if found.success else 'not converged'}: {found.message}",
        iterations=int(found.njev),
        evaluations=int(found.nfev),
    )
