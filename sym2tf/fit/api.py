"""`fit`: statement, class, solver, result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from sym2tf.errors import FitError, FitWarning, SingularProblemError, warn
from sym2tf.fit.batched import fit_batch
from sym2tf.fit.evaluation.norms import length_of
from sym2tf.fit.evaluation.residuals import Residuals, residuals_of, run, without_idle
from sym2tf.fit.inference.least_squares import Inference, infer
from sym2tf.fit.inference.likelihood import infer_from_likelihood, require_likelihood
from sym2tf.fit.inference.robust import infer_from_loss
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor, StopFit
from sym2tf.fit.result import FitResult
from sym2tf.fit.solvers.choice import solve
from sym2tf.fit.solvers.minibatch import kept_with, of_this_worker
from sym2tf.fit.solvers.one_pass import is_one_pass, solve_in_one_pass
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.statement.classify import Structure, classify
from sym2tf.fit.statement.holdout import held_out
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.restatement import stated
from sym2tf.fit.supervision import monitor_of, where_stopped, with_undefined
from sym2tf.fit.warm_start import started_from
from sym2tf.ir.subgraphs import extract


def fit(
    cost: Any,
    data: Any = None,
    params: Any = None,
    *,
    loss: Any = None,
    sigma: Any = None,
    weights: Any = None,
    absolute_sigma: bool = False,
    constraints: Any = (),
    likelihood: bool = False,
    maximize: bool = False,
    method: Any = None,
    multistart: int | None = None,
    max_iterations: int = 1000,
    batch_size: int | None = None,
    epochs: int = 1,
    validation: Any = None,
    patience: int | None = None,
    progress: bool | None = None,
    callbacks: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] = (),
    checkpoint: str | PathLike[str] | None = None,
    tensorboard: str | PathLike[str] | None = None,
    seed: int = 0,
    dtype: str = "float64",
    device: str | None = None,
    strategy: Any = None,
) -> FitResult | Any:
    """Estimate the parameters that minimise a symbolic cost over data.

    The class of the problem is read off the graph of the cost, and the solver from the class: sums of squares of
    residuals linear in the parameters are solved in one step by QR, other quadratic costs by one Newton step, other
    sums of squares by Levenberg-Marquardt, everything else by SciPy's optimisers, all with symbolic derivatives; data
    that come in batches by one pass where the model is linear, else by a Keras optimiser. `result.solver` names the
    solver and the reason.

    Args:
        cost: what to minimise: a scalar expression, such as `Sum((y[i] - w*x[i] - b)**2, (i, 0, n-1))/n`; or
            `Eq(y, model)`, which is fitted by least squares, plain symbols standing for arrays over the last axis of
            the data; or `{y: model, ...}`, several equations that may share parameters, whose losses are added up.
        data: by symbol, indexed base or name: a mapping to numbers and arrays (also memory-mapped ones, which are not
            copied, and paths of `.npy` files), where sizes may be given too, a smaller one than the data have
            meaning a prefix; a pandas DataFrame or a structured array, a path of a CSV, TSV, `.npy` or `.npz`
            file, whose further columns are left alone; or batches: a `tf.data.Dataset`, a generator or other
            iterable of mappings, or a function of no arguments that returns one. Axes in front of those that the cost
            uses are independent fits.
        params: a mapping from parameters to initial values, `Parameter`s, or expressions in other parameters, to
            which they are tied (`{a: 1, b: 2*a}`); or the parameters alone, which start at 0 (at 1 or -1 where the
            symbol is declared positive or negative). By default every symbol that is not data, except what is
            observed (the left side of an equation) or subscripted by observations as the data are: that is an error.
            Where it is given, any other unknown symbol is an error. A `FitResult` is the start of the next fit, with
            its bounds, fixed values and ties.
        loss: of an equation, of each residual (observed - model)/sigma: a name or a record of `sym2tf.losses`
            (`"huber"`, `losses.huber(2)`), a SymPy `Lambda` or a function that makes an expression of a symbol. None is
            the square.
        sigma: of an equation, the standard deviations of the observations in their units: a number, an array like the
            observations, an expression in the data, or a matrix, which is their covariance. A mapping from what is
            observed to any of these where there are several equations.
        weights: in place of `sigma`, which is then 1/sqrt(weights); 0 leaves an observation out.
        absolute_sigma: `sigma` is meant literally, as in `scipy.optimize.curve_fit`: the covariance of the parameters
            is not scaled by the variance of the residuals.
        constraints: relations between the parameters, `a + b <= 1` or `Eq(a*b, 2)`; `<` is taken for `<=`.
        likelihood: declares the cost to be a negative log-likelihood (the sum over the observations, in full but
            for constants): standard errors then come from the inverse of its Hessian at the minimum.
        maximize: the cost is maximised instead; with `likelihood` it is the log-likelihood itself.
        method: the solver, where the default is not wanted: `"qr"`, `"exact"`, `"newton"`, `"lm"`, `"trf"`,
            `"varpro"`, `"trust-exact"`, `"trust-krylov"`, `"l-bfgs-b"`, `"slsqp"`, `"trust-constr"`; for mini-batches
            the name of a Keras optimiser, one of its objects, or an `Optimizer` of `sym2tf.optimizers`.
        multistart: how many starts to try, drawn around the initial values and within the bounds; the best is kept.
        max_iterations: after which an iterative solver gives up.
        batch_size: rows of a mini-batch, for stochastic optimisation of data that are at hand as a whole.
        epochs: passes over the data by mini-batches; no other solver knows them.
        validation: data like `data`, on which the cost is followed, for `patience`; or a fraction (0.2) of the
            observations, drawn at random by `seed`, which the fit then does not see.
        patience: steps (epochs) without a better cost on `validation` after which the fit stops, with the parameters
            that were best there; a fit that converges before is as without.
        progress: show a line with cost and gradient norm, after half a second; None does so on a terminal alone.
        callbacks: functions of a `Step`, called after each; one that returns True or raises StopIteration ends the fit
            at the best point so far, as Ctrl-C does.
        checkpoint: a folder where the work is kept; the same call, after it was killed at any moment, goes on there and
            gives the same result to the last bit.
        tensorboard: a folder for event files, with costs, gradient norms and parameters.
        seed: of everything random.
        dtype: `"float64"` or `"float32"`, of the numbers in which the cost is evaluated.
        device: of TensorFlow, such as `"GPU:0"`.
        strategy: a `tf.distribute.Strategy`.

    Returns:
        A `FitResult`; look at `success` where the cost is not quadratic. A `BatchFitResult` where data have axes in
        front of those that the cost uses. Which one it is depends on the data, so no type can say it:
        `assert isinstance(result, BatchFitResult)` tells a type checker.

    Warns:
        FitWarning: the solver has not converged; says why and what to try.

    Raises:
        ArgumentError: unknown, unused or repeated symbols, a cost that is not scalar or no likelihood though declared
            one, bounds, ties, constraints or options that do not fit.
        DataError: data that are missing, empty, not finite, not numbers, of different lengths, or fewer than
            parameters; standard deviations that are not positive.
        SingularProblemError: the data do not determine all parameters; names the combinations.
        FitError: there is no minimum, or the cost is not defined at the start.

    Example:
        >>> fit(sp.Sum((y[i] - w*x[i] - b)**2, (i, 0, n-1)), data={x: xs, y: ys}, params={w: 0, b: 0})
        >>> fit({v: a*sp.exp(-k*t)}, data={t: times, v: volts}, params={a: 1, k: 0.1}, loss="huber", sigma=0.02)
    """
    options = Options(
        likelihood=likelihood,
        absolute_sigma=absolute_sigma,
        method=method,
        multistart=multistart,
        max_iterations=max_iterations,
        batch_size=batch_size,
        epochs=epochs,
        validation=validation,
        patience=patience,
        progress=progress,
        callbacks=(callbacks,) if callable(callbacks) else tuple(callbacks),
        checkpoint=checkpoint,
        tensorboard=tensorboard,
        seed=seed,
        dtype=dtype,
        device=device,
        strategy=strategy,
    )
    start = time.perf_counter()
    if isinstance(params, FitResult):
        params = started_from(params)
    how = {"loss": loss, "sigma": sigma, "weights": weights, "constraints": constraints, "maximize": maximize}
    problem = stated(cost, data, params, **how)
    if likelihood:
        require_likelihood(problem)
    if problem.batch:
        return fit_batch(problem, without_idle(problem, classify(problem)), options, start)
    watched = None
    if isinstance(validation, float):
        problem, watched = held_out(problem, validation, seed)
    elif validation is not None:
        watched = stated(cost, validation, params, **how)
    with monitor_of(problem, of_this_worker(problem, options), watched, **kept_with(problem, options)) as monitor:
        return _fitted(problem, options, monitor, start)


def _fitted(problem: Problem, options: Options, monitor: Monitor, start: float) -> FitResult:
    """The result for a problem whose data are at hand as a whole; `start` is when its statement began."""
    structure = without_idle(problem, classify(problem))
    once = is_one_pass(problem, structure, options)
    squares = structure.residuals is not None and not once and problem.stream is None
    residuals = residuals_of(problem, structure, monitor) if squares else None
    prepared = time.perf_counter()
    try:
        if once:
            solution = solve_in_one_pass(problem, structure)
        else:
            solution = _solved(problem, structure, residuals, options, monitor)
        value = _cost_at(problem, residuals, solution)
        monitor.settled(solution.theta, value, length_of(solution.gradient))
        inference = _inferred(problem, structure, residuals, solution, value, options)
    except SingularProblemError as error:
        raise SingularProblemError(f"{error}{problem.hint}") from None
    finished = time.perf_counter()
    if not np.isfinite(solution.theta).all():
        raise FitError(f"the estimates are not finite: {solution.theta}")
    if not solution.success and solution.stopped != "callback":
        warn(FitWarning, solution.message)
    return FitResult(
        problem,
        structure,
        solution,
        inference,
        options,
        -value if problem.maximize else value,
        tuple(monitor.history),
        prepared - start,
        finished - prepared,
    )


@np.errstate(over="ignore")  # the sum of squares may leave the range of floats where estimates and errors do not
def _cost_at(problem: Problem, residuals: Residuals | None, solution: Solution) -> float:
    """The cost at the estimates: what the solver knows of it, or computed once more."""
    if solution.sums is not None:
        return solution.sums.cost
    if solution.rss is not None and residuals is not None and problem.equations:
        return solution.rss * (1.0 if residuals.common is None else residuals.common)
    if solution.cost is not None:
        return solution.cost
    if solution.residual is not None and residuals is not None and problem.equations:
        return float(residuals.weights @ np.square(solution.residual))
    graph = made(problem.graph, "cost", lambda: extract(problem.graph, {"out": problem.graph.outputs["out"]}))
    return float(run(graph, problem, problem.unpacked(solution.theta))["out"].reshape(()))


def _inferred(
    problem: Problem,
    structure: Structure,
    residuals: Residuals | None,
    solution: Solution,
    cost: float,
    options: Options,
) -> Inference:
    """What the estimates say beyond themselves; nothing if Ctrl-C is pressed meanwhile."""
    try:
        inference = infer(problem, residuals, solution, absolute_sigma=options.absolute_sigma)
        if problem.loss is not None and problem.stream is None:
            inference = infer_from_loss(problem, structure, solution, inference)
        if options.likelihood:
            inference = infer_from_likelihood(problem, residuals, solution, cost, inference)
    except KeyboardInterrupt:
        if solution.stopped == "Ctrl-C":  # the second one
            raise
        return Inference(no_stderr="Ctrl-C was pressed while they were computed")
    return inference


def _solved(
    problem: Problem, structure: Structure, residuals: Residuals | None, options: Options, monitor: Monitor
) -> Solution:
    """Where the solver ends, or where it is stopped."""
    try:
        return with_undefined(solve(problem, structure, residuals, options, monitor), problem, monitor)
    except (StopFit, KeyboardInterrupt) as stop:
        return where_stopped(problem, monitor, stop)
