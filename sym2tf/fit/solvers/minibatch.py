"""Huge or streamed costs: steps of a Keras optimiser, or of a rule of `sym2tf.optimizers`, over mini-batches.

What the optimiser steps down is, for a cost that the user wrote as an expression, an estimate of that cost (see
`separable`). For an equation it is the mean loss of an observation, as in Keras, so that learning rates do not depend
on how many there are; the minimum is the same, and the cost that is reported is the sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sym2tf.backends.tensorflow.minibatch import training
from sym2tf.backends.tensorflow.placement import is_alone, is_chief, placed, require_device
from sym2tf.backends.tensorflow.updates import Updates, described, keras_updates, rule_updates
from sym2tf.compiled import CompiledFunction
from sym2tf.errors import ArgumentError
from sym2tf.fit.evaluation.batchcost import batch_cost
from sym2tf.fit.evaluation.residuals import Residuals, evaluators
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers.batch_sources import AtHand, NamedBatches, Streamed
from sym2tf.fit.solvers.epochs import Epochs
from sym2tf.fit.solvers.robust_loss import slope_of
from sym2tf.fit.solvers.solution import Solution, stopped_by_bounds
from sym2tf.fit.statement.batches import checked_batches
from sym2tf.fit.statement.classify import classify
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import separate
from sym2tf.frontend.lower import lower
from sym2tf.optimizers import Optimizer, gradient, parameter, t

Array = np.ndarray[Any, Any]

NEAR = 0.1  # standard errors
KERAS = ("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lion", "muon", "nadam", "rmsprop",
         "schedulefreeadamw", "sgd")  # fmt: skip


def is_stochastic(options: Options) -> bool:
    """Whether the user asks for mini-batches: a batch size, a Keras optimiser or an `Optimizer`."""
    method = options.method
    return options.batch_size is not None or (
        method is not None and (not isinstance(method, str) or method.lower() in KERAS)
    )


def of_this_worker(problem: Problem, options: Options) -> Options:
    """The options for this process: of the workers of a strategy the first alone writes files and shows progress.

    Raises:
        ArgumentError: there is no such device or strategy; a checkpoint of workers that go through all data at once.
    """
    if options.device is not None or options.strategy is not None:
        require_device(options.device, options.strategy)
    if options.strategy is None or is_alone(options.strategy):
        return options
    if options.checkpoint is not None and not _in_batches(problem, options):
        raise ArgumentError(
            "checkpoint= keeps what one process has computed, and here several workers compute each number: leave it "
            "out, or fit by mini-batches (batch_size)"
        )
    if is_chief(options.strategy):
        return options
    return replace(options, checkpoint=None, tensorboard=None, progress=False)


def _in_batches(problem: Problem, options: Options) -> bool:
    return problem.stream is not None or is_stochastic(options)


def kept_with(problem: Problem, options: Options) -> dict[str, Any]:
    """What a state of a training means nothing without, for a checkpoint; empty where there is no training."""
    if not _in_batches(problem, options):
        return {}
    method = options.method
    if isinstance(method, str) or method is None:
        text = method or "adam"
    elif isinstance(method, Optimizer):
        text = repr(method)
    else:
        text = described(method)
    return {"method": text, "batch_size": options.batch_size, "seed": options.seed}


@dataclass(frozen=True)
class Trained:
    """Where a training ended.

    Attributes:
        theta: flat.
        cost, gradient: over all data there; None where the data cannot be gone through again.
        epochs, steps: that it took.
        solver: the name of the method, what it was used on, and why.
        message: why it ended.
        stopped: who ended it before all epochs were done; empty for nobody.
    """

    theta: Array
    cost: float | None
    gradient: Array | None
    epochs: int
    steps: int
    solver: str
    message: str
    stopped: str


def solve_minibatch(
    problem: Problem,
    residuals: Residuals | None,
    options: Options,
    monitor: Monitor,
    stream: NamedBatches | None = None,
) -> Solution:
    """The solution that `train` gives, and how far it is from the minimum where residuals tell.

    It counts as converged where it is less than a tenth of a standard error from the minimum, in every combination of
    the parameters; where there are no residuals, neither squared nor under a loss, when all epochs are done.

    Args:
        problem: as for `train`.
        residuals: of the problem, whose Jacobian is formed.
        options: as for `train`.
        monitor: as for `train`.
        stream: as for `train`.
    """
    trained = train(problem, options, monitor, stream)
    theta, message = trained.theta, trained.message
    slope = np.full(len(theta), np.nan) if trained.gradient is None else trained.gradient
    if trained.cost is not None and trained.gradient is not None:
        monitor.settled(theta, trained.cost, float(np.linalg.norm(slope)))
        message += f"; the gradient norm over all data is {np.linalg.norm(slope):.3g}"
    active = stopped_by_bounds(theta, slope, problem.packed("lower"), problem.packed("upper"))
    r = J = None
    success = trained.stopped in ("", "validation")
    if stream is None:
        if residuals is not None:
            r, J = residuals.evaluate(theta)
            root = np.sqrt(residuals.weights)
            distance = _distance(r * root, J * root[:, None], ~active)
        else:
            distance = _distance_of_loss(problem, theta, ~active)
        if distance is not None and success:
            success = distance <= NEAR
            there = "the minimum" if success else "the minimum still: more epochs, or a learning rate that falls"
            message += f"; {distance:.2g} standard errors from {there}"
    return Solution(
        theta,
        trained.solver,
        success,
        message,
        trained.epochs,
        trained.steps,
        slope,
        residual=r,
        J=J,
        at_bounds=tuple(n for n, at in zip(problem.names, active, strict=True) if at),
        stopped=trained.stopped,
        cost=None if stream is None else trained.cost,
    )


def _distance_of_loss(problem: Problem, theta: Array, free: Array) -> float | None:
    """The same for an M-estimate, whose estimating equations are J^T psi(u) = 0 with the slope psi of the loss."""
    graph = None if problem.loss is None else classify(problem).whitened
    if problem.loss is None or graph is None:
        return None
    values, jacobian = evaluators(graph, problem)
    return _distance(slope_of(problem.loss)(values(theta)), jacobian(theta), free)


def _distance(r: Array, J: Array, free: Array) -> float | None:
    """The Gauss-Newton step still to go, in standard errors of the combination that it is most of; None if unknown."""
    J = J[:, free]
    freedom = len(r) - J.shape[1]
    if freedom <= 0 or not np.isfinite(J).all() or not J.size:
        return None
    step = np.linalg.lstsq(J, r, rcond=None)[0]
    moved = J @ step
    rest = float(np.linalg.norm(r - moved))
    return float(np.linalg.norm(moved) / (rest / np.sqrt(freedom))) if rest else None


def solve_streamed(problem: Problem, options: Options, monitor: Monitor) -> Solution:
    """Where a Keras optimiser ends that makes a step for each batch.

    Args:
        problem: with a stream, stated for its first batch.
        options: of `fit`; those that need all data at hand are refused.
        monitor: is told of each epoch.

    Raises:
        ArgumentError: as of `train`, or a method that needs all data at hand.
        DataError: a batch that is not like the first; more epochs of batches that can be gone through only once.
    """
    assert problem.stream is not None
    source = problem.stream
    if options.method is not None and not is_stochastic(options):
        raise ArgumentError(
            f"method={options.method!r} needs all data at hand, and these come in batches: leave method out, or give "
            "a Keras optimiser such as 'adam'"
        )
    own = separate(problem)
    batches = NamedBatches(lambda: checked_batches(problem, own, source.batches()), source.repeatable)
    found = solve_minibatch(problem, None, options, monitor, batches)
    return found if found.cost is not None else replace(found, cost=monitor.history[-1].cost)


def train(
    problem: Problem,
    options: Options,
    monitor: Monitor,
    stream: NamedBatches | None = None,
) -> Trained:
    """The parameters after the epochs that are asked for.

    Args:
        problem: with all data, or with the first batch of a stream.
        options: method, batch_size, epochs, seed, dtype, device, strategy.
        monitor: is told of each epoch, and may end the training; its checkpoint keeps the state.
        stream: the batches; None for data at hand.

    Raises:
        ArgumentError: constraints or several starts; the cost is no sum over observations; an unknown method.
        DataError: a stream that would have to be gone through again, and cannot.
        FitError: the cost is not finite; a worker of the strategy is gone.
    """
    if problem.constraints:
        raise ArgumentError(
            "constraints need all data at hand in every step, which mini-batches are not: give bounds, tie parameters "
            "to others, or fit all data at once"
        )
    if options.multistart is not None:
        raise ArgumentError(
            "multistart needs all data at hand in every step, which mini-batches are not: leave it out, or fit all "
            "data at once"
        )
    cost = batch_cost(problem, options.dtype)
    source = AtHand(cost, options) if stream is None else Streamed(cost, options, stream)
    with placed(options.device):
        updates = _updates(options.method, problem, options.dtype)
        evaluate = cost.function.on_batches(source.count, options.strategy, mean=bool(problem.equations))
        bounds = [
            (u.lower, u.upper) if np.isfinite(u.lower).any() or np.isfinite(u.upper).any() else None
            for u in problem.free
        ]
        trained = training(updates, evaluate, bounds, cost.layout, summed=source.summed)
        run = Epochs(problem, options, monitor, source, trained)
        message, stopped = run.through_epochs()
        value, slope = source.whole(run.theta)
    why = "method asks for it" if options.method is not None else source.reason
    name = f"{updates.name} on mini-batches of {source.wording}, because {why}; evaluated by TensorFlow"
    return Trained(run.theta, value, slope, run.epoch, run.steps, name, message, stopped)


def _updates(method: Any, problem: Problem, dtype: str) -> Updates:
    starts = [u.initial for u in problem.free]
    if not isinstance(method, Optimizer):
        return keras_updates("adam" if method is None else method, starts, dtype)
    if method.hyperparameters:
        names = ", ".join(map(str, method.hyperparameters))
        raise ArgumentError(f"the optimiser {method.name} has the symbols {names}: fit needs numbers for them")
    rule = lower([method.update, *method.slots.values()], args=[parameter, gradient, t, *method.slots])
    function = CompiledFunction(rule, dtype=dtype, name=method.name, title=f"one step of {method.name}", taped=False)
    slots = [float(method.initial.get(slot, 0.0)) for slot in method.slots]
    return rule_updates(f"{method.name} (sym2tf.optimizers)", function, slots, starts, dtype)
