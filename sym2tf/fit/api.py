"""`fit`: statement, class, solver, result."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from sym2tf.errors import FitError, FitWarning, SingularProblemError, warn
from sym2tf.fit.classify import classify, extract
from sym2tf.fit.inference import infer
from sym2tf.fit.likelihood import infer_from_likelihood, require_likelihood
from sym2tf.fit.monitor import Monitor
from sym2tf.fit.options import Options
from sym2tf.fit.residuals import residuals_of, run
from sym2tf.fit.result import FitResult
from sym2tf.fit.solvers import solve
from sym2tf.fit.statement import state


def fit(
    cost: Any, data: Any = None, params: Any = None, *, likelihood: bool = False, max_iterations: int = 1000
) -> FitResult:
    """Estimate the parameters that minimise a symbolic cost over data.

    The class of the problem is read off the graph of the cost. Sums of squares of residuals linear in the
    parameters
    are solved in one step by QR, other quadratic costs by one Newton step, everything else by SciPy's
    optimisers with
    symbolic derivatives.

    Args:
        cost: a scalar expression, such as `Sum((y[i] - w*x[i] - b)**2, (i, 0, n-1))/n`, or `Eq(y, model)`,
            which is
            fitted by least squares over the last axis of the data.
        data: a mapping (dict, DataFrame) from symbols, indexed bases or names to numbers and arrays; sizes
            may be given
            too, and a smaller one than the data have means a prefix.
        params: a mapping from parameters to initial values or `Parameter`s, or the parameters alone, which
            start at 0;
            by default every symbol that is not data, except what is observed (the left side of an equation) or
            subscripted by observations as the data are: that is an error. Where it is given, any other unknown
            symbol is an error.
        likelihood: declares the cost to be a negative log-likelihood (the sum over the observations, in full but
            for constants): standard errors then come from the inverse of its Hessian at the minimum.
        max_iterations: after which an iterative solver gives up.

    Returns:
        A `FitResult`; look at `success` where the cost is not quadratic.

    Warns:
        FitWarning: the solver has not converged; says why and what to try.

    Raises:
        ArgumentError: unknown, unused or repeated symbols, a cost that is not scalar or no likelihood though declared
            one, bounds that do not fit.
        DataError: data that are missing, empty, not finite, not numbers, of different lengths, or fewer than
            parameters.
        SingularProblemError: the data do not determine all parameters; names the combinations.
        FitError: there is no minimum, or the cost is not defined at the start.

    Example:
        >>> fit(sp.Sum((y[i] - w*x[i] - b)**2, (i, 0, n-1)), data={x: xs, y: ys}, params={w: 0, b: 0})
    """
    options = Options(likelihood=likelihood, max_iterations=max_iterations)
    start = time.perf_counter()
    problem = state(cost, data, params)
    if likelihood:
        require_likelihood(problem)
    monitor = Monitor(options)
    structure = classify(problem)
    residuals = residuals_of(problem, structure, monitor) if structure.residuals is not None else None
    prepared = time.perf_counter()
    try:
        solution = solve(problem, structure, residuals, options, monitor)
        inference = infer(problem, structure, residuals, solution)
    except SingularProblemError as error:
        raise SingularProblemError(f"{error}{problem.hint}") from None
    graph = extract(problem.graph, {"out": problem.graph.outputs["out"]})
    value = float(run(graph, problem, problem.unpacked(solution.theta))["out"].reshape(()))
    if likelihood:
        inference = infer_from_likelihood(problem, residuals, solution, value, inference)
    finished = time.perf_counter()
    if not np.isfinite(solution.theta).all():
        raise FitError(f"the estimates are not finite: {solution.theta}")
    if not solution.success:
        warn(FitWarning, solution.message)
    return FitResult(
        problem,
        structure,
        solution,
        inference,
        options,
        value,
        tuple(monitor.history),
        prepared - start,
        finished - prepared,
    )
