"""Huge or streamed costs: steps of a Keras optimiser, or of a rule of `sym2tf.optimizers`, over mini-batches.

What the optimiser steps down is, for a cost that the user wrote as an expression, an estimate of that cost (see
`separable`). For an equation it is the mean loss of an observation, as in Keras, so that learning rates do not depend
on how many there are; the minimum is the same, and the cost that is reported is the sum.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sym2tf.backends.tensorflow.minibatch import Training, shuffled, streamed, training
from sym2tf.backends.tensorflow.placement import agreed, is_alone, is_chief, placed, require_device, worker_errors
from sym2tf.backends.tensorflow.updates import Updates, described, keras_updates, rule_updates
from sym2tf.compiled import CompiledFunction
from sym2tf.errors import ArgumentError, DataError, FitError
from sym2tf.fit.evaluation.batchcost import BatchCost, batch_cost
from sym2tf.fit.evaluation.nonfinite import explain
from sym2tf.fit.evaluation.residuals import Residuals
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor, StopFit
from sym2tf.fit.solvers.solution import Solution, listed
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted
from sym2tf.frontend.lower import lower
from sym2tf.optimizers import Optimizer, gradient, parameter, t

Array = np.ndarray[Any, Any]
Batches = Callable[[], Iterable[Mapping[str, Array]]]

BATCH_SIZE = 256  # rows, where the user does not say
AT_ONCE = 65_536  # rows that are evaluated in one go where nothing is learnt from them
TOGETHER = 32  # steps that the workers of a strategy make in one go: all the same, or they would wait for each other
NEAR = 0.1  # standard errors
INTERVAL = 0.25  # seconds that TensorFlow keeps for itself, and between two writings of the checkpoint
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


@dataclass(frozen=True)
class Stream:
    """Batches of a stream by input name.

    Attributes:
        batches: goes through them from the beginning.
        repeatable: whether it can do so more than once.
    """

    batches: Batches
    repeatable: bool


def solve_minibatch(
    problem: Problem, residuals: Residuals | None, options: Options, monitor: Monitor, stream: Stream | None = None
) -> Solution:
    """The solution that `train` gives, and how far it is from the minimum where residuals tell.

    It counts as converged where it is less than a tenth of a standard error from the minimum, in every combination of
    the parameters; where there are no residuals, when all epochs are done.

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
    low, high = problem.packed("lower"), problem.packed("upper")
    active = ((theta <= low) & (slope >= 0)) | ((theta >= high) & (slope <= 0))
    r = J = None
    success = trained.stopped in ("", "validation")
    if residuals is not None and stream is None:
        r, J = residuals.evaluate(theta)
        distance = _distance(residuals, r, J, ~active)
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


def _distance(residuals: Residuals, r: Array, J: Array, free: Array) -> float | None:
    """The Gauss-Newton step still to go, in standard errors of the combination that it is most of; None if unknown."""
    root = np.sqrt(residuals.weights)
    r, J = r * root, (J * root[:, None])[:, free]
    freedom = len(r) - J.shape[1]
    if freedom <= 0 or not np.isfinite(J).all() or not J.size:
        return None
    step = np.linalg.lstsq(J, r, rcond=None)[0]
    moved = J @ step
    rest = float(np.linalg.norm(r - moved))
    return float(np.linalg.norm(moved)) / (rest / np.sqrt(freedom)) if rest else None


def train(
    problem: Problem,
    options: Options,
    monitor: Monitor,
    stream: Stream | None = None,
) -> Trained:
    """The parameters after the epochs that are asked for.

    Args:
        problem: with all data, or with the first batch of a stream.
        options: method, batch_size, epochs, seed, dtype, device, strategy.
        monitor: is told of each epoch, and may end the training; its checkpoint keeps the state.
        stream: the batches; None for data at hand.

    Raises:
        ArgumentError: the cost is no sum over observations; an unknown method.
        DataError: a stream that would have to be gone through again, and cannot.
        FitError: the cost is not finite; a worker of the strategy is gone.
    """
    cost = batch_cost(problem, options.dtype)
    source = _AtHand(cost, options) if stream is None else _Streamed(cost, options, stream)
    with placed(options.device):
        updates = _updates(options.method, problem, options.dtype)
        evaluate = cost.function.on_batches(source.count, options.strategy, mean=bool(problem.equations))
        bounds = [
            (u.lower, u.upper) if np.isfinite(u.lower).any() or np.isfinite(u.upper).any() else None
            for u in problem.free
        ]
        trained = training(updates, evaluate, bounds, cost.layout)
        run = _Run(problem, options, monitor, source, trained)
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
    function = CompiledFunction(rule, dtype=dtype, name=method.name, title=f"one step of {method.name}")
    slots = [float(method.initial.get(slot, 0.0)) for slot in method.slots]
    return rule_updates(f"{method.name} (sym2tf.optimizers)", function, slots, starts, dtype)


class _AtHand:
    """Shuffled batches of data at hand as a whole.

    Attributes:
        count: of observations.
        reason: why mini-batches are taken.
        wording: what a batch is.
    """

    reason = "batch_size asks for it"

    def __init__(self, cost: BatchCost, options: Options) -> None:
        self.cost, self.options = cost, options
        self.count = cost.count
        self.size = min(options.batch_size or BATCH_SIZE, cost.count)
        self.per_epoch = -(-cost.count // self.size)
        self.wording = f"{self.size} of {counted(cost.count, 'row')}"
        self._arrays = cost.observed(cost.problem.data)
        self._open: Any = None

    def opened(self, epoch: int, position: int) -> tuple[Any, int | None]:
        """An iterator that stands before a batch of an epoch, and how many are left of this epoch."""
        if self._open is None:
            steps = epoch * self.per_epoch + position, self.options.epochs * self.per_epoch
            seed = self.options.seed
            self._open = iter(shuffled(self.cost.layout, self._arrays, self.count, self.size, seed, steps))
        return self._open, self.per_epoch - position

    def batch(self, epoch: int, position: int) -> Mapping[str, Array] | None:
        """A batch by itself."""
        step = epoch * self.per_epoch + position
        seed = self.options.seed
        one = shuffled(self.cost.layout, self._arrays, self.count, self.size, seed, (step, step + 1))
        return next(iter(one.as_numpy_iterator()))

    def whole(self, theta: Array) -> tuple[float | None, Array | None]:
        """Cost and gradient over all data."""
        found = self.cost.total(theta, self.cost.blocks(self.cost.problem.data, AT_ONCE))
        return found.value, found.gradient


class _Streamed:
    """Batches as a stream gives them.

    Attributes:
        count: of observations, None where the cost can do without.
        reason: why mini-batches are taken.
        wording: what a batch is.
    """

    reason = "the data come in batches and the model is not linear"
    wording = "a stream"

    def __init__(self, cost: BatchCost, options: Options, stream: Stream) -> None:
        if not stream.repeatable and options.epochs > 1:
            raise DataError(
                "data can be gone through only once, and epochs asks for more: give a function that returns the "
                "batches anew"
            )
        if options.batch_size is not None:
            raise ArgumentError("batch_size is for data at hand: a stream says itself how long its batches are")
        self.cost, self.stream = cost, stream
        self._use = "factor" if cost.problem.equations else cost.use_of_count
        self.count = self._counted() if self._use == "needed" else None
        self._failed: Exception | None = None

    def _counted(self) -> int:
        if not self.stream.repeatable:
            raise DataError(
                "the cost weighs a sum over the observations against other terms, so their number must be known, and "
                "data can be gone through only once: divide the sum by their number, or give a function that returns "
                "the batches anew"
            )
        name, axis = next(iter(self.cost.separable.axes.items()))
        return sum(np.shape(batch[name])[axis] for batch in self.stream.batches())

    def opened(self, epoch: int, position: int) -> tuple[Any, int | None]:
        """An iterator that stands before a batch of an epoch; how many are left is not known."""
        return iter(streamed(self.cost.layout, self._remembering, self.cost.problem.data, position)), None

    def _remembering(self) -> Iterator[Mapping[str, Array]]:
        """The batches; TensorFlow replaces an exception of the user's by one of its own."""
        try:
            yield from self.stream.batches()
        except Exception as error:
            self._failed = error
            raise

    def batch(self, epoch: int, position: int) -> Mapping[str, Array] | None:
        """A batch by itself, where that can be."""
        if not self.stream.repeatable:
            return None
        return next(itertools.islice(iter(self.stream.batches()), position, None), None)

    def whole(self, theta: Array) -> tuple[float | None, Array | None]:
        """Cost and gradient over all data."""
        if not self.stream.repeatable:
            return None, None
        found = self.cost.total(theta, self.stream.batches(), per_row=self._use == "mean", count=self.count)
        return found.value, found.gradient


class _Run:
    """The epochs of a training.

    Attributes:
        theta: the parameters that are its result.
        epoch: epochs that are done.
        position: batches of the next one that are done.
        steps: batches in all.
    """

    def __init__(
        self,
        problem: Problem,
        options: Options,
        monitor: Monitor,
        source: _AtHand | _Streamed,
        trained: Training,
    ) -> None:
        self.problem, self.options, self.monitor = problem, options, monitor
        self.source, self.trained, self.states = source, trained, monitor.checkpoint
        self.epoch = self.position = 0
        self._told: list[tuple[Array, float, float | None]] = []  # what the monitor was told at the end of each epoch
        self._saved = time.perf_counter()
        self._chunk = 1 if options.strategy is None else TOGETHER
        self._ended_at: Array | None = None

    @property
    def theta(self) -> Array:
        return self._current() if self._ended_at is None else self._ended_at

    @property
    def steps(self) -> int:
        return int(self.trained.steps)

    def _current(self) -> Array:
        return np.concatenate([p.ravel() for p in self.trained.parameters()])

    def through_epochs(self) -> tuple[str, str]:
        """Train to the end; says how it ended, and who ended it, if somebody did."""
        try:
            self._restore()
            while self.epoch < self.options.epochs:
                self._through_epoch()
                self._close_epoch()
        except StopFit as stop:
            self._ended_at = stop.theta
            return stop.message, stop.reason
        except KeyboardInterrupt:
            return f"interrupted (Ctrl-C) in epoch {self.epoch}, after {counted(self.steps, 'step')}", "Ctrl-C"
        return f"trained for {counted(self.epoch, 'epoch')}, {counted(self.steps, 'step')}", ""

    def _through_epoch(self) -> None:
        iterator, left = self.source.opened(self.epoch, self.position)
        more = True
        while more and left != 0:
            most = self._chunk if left is None else min(self._chunk, left)
            start = time.perf_counter()
            done, fine, more = self._advanced(iterator, most)
            seconds = time.perf_counter() - start
            self.position += done
            left = None if left is None else left - done
            if not fine:
                raise FitError(self._undefined())
            if self.options.strategy is None:
                self._chunk = int(max(1, min(16 * self._chunk, done * INTERVAL / max(seconds, 1e-6))))
            if self.states is not None and time.perf_counter() - self._saved > INTERVAL:
                self._save()
        if self.trained.weight == 0:
            raise DataError("the data hold no batch")

    def _advanced(self, iterator: Any, most: int) -> tuple[int, bool, bool]:
        try:
            with worker_errors(self.options.strategy):
                return self.trained.run(iterator, most)
        except Exception:
            failed = getattr(self.source, "_failed", None)
            if failed is not None:
                raise failed from None
            raise

    def _close_epoch(self) -> None:
        """Tell the monitor of an epoch: the mean of the costs of its batches, on the scale of the whole cost."""
        rows = float(self.trained.weight)
        cost = float(self.trained.total) / rows
        if self.problem.equations:
            cost *= rows
        self.trained.total.assign(0.0)
        self.trained.weight.assign(0.0)
        self.epoch, self.position = self.epoch + 1, 0
        self._tell(self._current(), cost, None)
        if self.states is not None:
            self._save()

    def _tell(self, theta: Array, cost: float, validation: float | None) -> None:
        try:
            self.monitor.iterated(theta, cost, None, validation)
        finally:
            self._told.append((theta, cost, self.monitor.history[-1].validation if self.monitor.history else None))

    def _undefined(self) -> str:
        """What to say where the cost of a batch is not finite."""
        theta = self._current()
        batch = self.source.batch(self.epoch, self.position)
        told = ""
        if batch is not None:
            data = {**self.problem.data, **{n: np.asarray(a) for n, a in batch.items() if n in self.problem.data}}
            name, axis = next(iter(self.source.cost.separable.axes.items()))
            bound = {**self.problem.bound, self.source.cost.separable.observations: data[name].shape[axis]}
            told = explain(replace(self.problem, data=data, bound=bound), theta)
        return (
            f"the cost, or its gradient, is not finite in batch {self.position} of epoch {self.epoch}, at "
            f"{listed(self.problem.names, theta)}{': ' * bool(told)}{told}; choose a smaller learning rate, other "
            "start values or bounds"
        )

    # Checkpoints ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        assert self.states is not None
        arrays = {f"variable {k}": np.asarray(v) for k, v in enumerate(self.trained.variables)}
        count = len(self.problem.names)
        arrays["thetas"] = np.array([theta for theta, _, _ in self._told]).reshape(-1, count)
        arrays["costs"] = np.array([cost for _, cost, _ in self._told])
        arrays["validations"] = np.array([np.nan if v is None else v for _, _, v in self._told])
        self.states.save_state(arrays, {"epoch": self.epoch, "position": self.position})
        self._saved = time.perf_counter()

    def _restore(self) -> None:
        """Go on where a checkpoint was written; all workers of a strategy go by that of the first."""
        found = None if self.states is None else self.states.load_state()
        variables = self.trained.variables
        if self.options.strategy is not None and self.options.checkpoint is not None:
            found = self._agreed(found)
        if found is None:
            return
        arrays, meta = found
        for k, variable in enumerate(variables):
            variable.assign(arrays[f"variable {k}"].astype(variable.dtype.as_numpy_dtype))
        self.epoch, self.position = int(meta["epoch"]), int(meta["position"])
        sign = -1.0 if self.problem.maximize else 1.0
        for theta, cost, validation in zip(arrays["thetas"], arrays["costs"], arrays["validations"], strict=True):
            self._tell(theta, float(cost), None if np.isnan(validation) else sign * float(validation))

    def _agreed(
        self, found: tuple[dict[str, Array], dict[str, Any]] | None
    ) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """The state of the first worker, for all."""
        strategy, variables = self.options.strategy, self.trained.variables
        own = None if found is None else np.array([1, found[1]["epoch"], found[1]["position"]])
        (place,) = agreed(strategy, None if own is None else [own], [(3,)])
        if place[0] == 0:
            return None
        names = [f"variable {k}" for k in range(len(variables))] + ["thetas", "costs", "validations"]
        epochs = int(place[1])
        shapes = [tuple(v.shape) for v in variables] + [(epochs, len(self.problem.names)), (epochs,), (epochs,)]
        arrays = agreed(strategy, None if found is None else [found[0][n] for n in names], shapes)
        return dict(zip(names, arrays, strict=True)), {"epoch": int(place[1]), "position": int(place[2])}
