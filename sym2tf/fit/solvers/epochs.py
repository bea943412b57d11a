"""The epochs of a training by mini-batches: steps, what the monitor is told, and checkpoints of the state."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from sym2tf.backends.tensorflow.minibatch import Training
from sym2tf.backends.tensorflow.placement import agreed, worker_errors
from sym2tf.errors import DataError, FitError
from sym2tf.fit.evaluation.nonfinite import explain
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor, StopFit
from sym2tf.fit.solvers.batch_sources import AtHand, Streamed
from sym2tf.fit.solvers.solution import listed
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]

TOGETHER = 32  # steps that the workers of a strategy make in one go: all the same, or they would wait for each other
INTERVAL = 0.25  # seconds that TensorFlow keeps for itself, and between two writings of the checkpoint


class Epochs:
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
        source: AtHand | Streamed,
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
            failed = self.source.failed
            if failed is not None:
                raise failed from None
            raise

    def _close_epoch(self) -> None:
        """Tell the monitor of an epoch: what the costs of its batches say about the whole cost."""
        cost = float(self.trained.total)
        if not (self.source.summed or self.problem.equations):
            cost /= float(self.trained.weight)
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
