"""What happens while a solver runs: every number that it asks for passes through here.

SciPy's optimisers hide their state, but they are deterministic in what they are told. So whoever sees all questions
and answers can record the path, stop the solver at any of them, keep the best point so far, and replay a run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from sym2tf.fit.options import Options
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]
Answer = tuple[Array, ...]
Reason = Literal["callback", "validation", "Ctrl-C"]

LEVEL = 1e-8
"""Relative change of the cost on validation data that is none: near a minimum it trembles in the last digits."""


@dataclass(frozen=True)
class Step:
    """One step on the way of a solver: a point that is better than all before it, or an epoch.

    Attributes:
        iteration: counted from 0.
        cost: there, as it was stated (of what is maximised, that).
        gradient_norm: there, where it is known.
        theta: the free parameters, flat.
        seconds: since the solver began.
        validation: the cost on the validation data, where there are any.
    """

    iteration: int
    cost: float
    gradient_norm: float | None
    theta: Array
    seconds: float
    validation: float | None = None


class StopFit(Exception):  # noqa: N818  # a message to `fit`, no error
    """Raised where the solver asks, to end it.

    Attributes:
        reason: who ended it.
        message: in words.
        theta: the parameters to return.
    """

    def __init__(self, reason: Reason, message: str, theta: Array) -> None:
        super().__init__(message)
        self.reason, self.message, self.theta = reason, message, theta


class Recorder(Protocol):
    """A checkpoint: answers from a record of an earlier run where it holds them, else computes and records them."""

    def answer(self, kind: str, theta: Array, compute: Callable[[], Answer]) -> Answer: ...

    def save_state(self, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None: ...

    def load_state(self) -> tuple[dict[str, Array], dict[str, Any]] | None: ...

    def close(self) -> None: ...


class Watcher(Protocol):
    """Shows the progress of a fit: is told of every step, and the time at every evaluation."""

    def __call__(self, step: Step) -> None: ...

    def tick(self, evaluations: int) -> None: ...

    def close(self) -> None: ...


class Monitor:
    """Sees every evaluation of a fit; ends with `close`, or as a context.

    Attributes:
        history: the steps so far.
        best: the point with the lowest cost so far, and that cost; None before the first.
        undefined: the last point where the cost was not finite, None if it always was.
        evaluations: of the cost or of what it is made of.
        solver: what is at work, with the reason for it; solvers say so before they begin.
        checkpoint: what earlier runs found out, None if nothing is kept. Solvers that go by epochs save and load
            their states there.
    """

    def __init__(
        self,
        options: Options,
        *,
        maximize: bool = False,
        checkpoint: Recorder | None = None,
        validate: Callable[[Array], float] | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """A monitor.

        Args:
            options: whose `callbacks` and `patience` count.
            maximize: the costs that pass are those stated with the sign changed.
            checkpoint: what earlier runs answered; closed with the monitor.
            validate: the cost on validation data.
            watchers: who shows the progress.
        """
        self.options = options
        self.history: list[Step] = []
        self.best: tuple[Array, float] | None = None
        self.undefined: Array | None = None
        self.evaluations = 0
        self.solver = "an iterative solver"
        self._sign = -1.0 if maximize else 1.0
        self.checkpoint = checkpoint
        self._validate, self._watchers = validate, tuple(watchers)
        self._settled = False
        self._least: tuple[Step, float] | None = None  # on the validation data
        self._waiting = 0
        self._began = time.perf_counter()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Tell the watchers that the fit is over, and keep what is to be kept."""
        if self.checkpoint is not None:
            self.checkpoint.close()
        for watcher in self._watchers:
            watcher.close()

    def ask(
        self,
        kind: str,
        theta: Array,
        compute: Callable[[], Answer],
        summary: Callable[[Answer], tuple[float, float | None]] | None = None,
    ) -> Answer:
        """The answer of `compute`, or the one that a journal holds for this question.

        Args:
            kind: what is asked for: `"cost"` (with its gradient), `"hessian"`, `"residuals"`, `"jacobian"`, ...;
                with `theta` it must determine the answer.
            theta: where, flat.
            compute: what answers.
            summary: cost and, where it is known, the norm of its gradient, from the answer.

        Raises:
            StopFit: the fit is to end.
        """
        answer = compute() if self.checkpoint is None else self.checkpoint.answer(kind, theta, compute)
        if summary is not None and not self._settled:
            self.seen(theta, *summary(answer))
        return answer

    def seen(self, theta: Array, cost: float, norm: float | None) -> None:
        """Take an evaluation down whose answer nothing keeps; `ask` does it for others.

        Raises:
            StopFit: the fit is to end.
        """
        if self._settled:
            return
        self.evaluations += 1
        if not math.isfinite(cost):
            self.undefined = theta.copy()
        elif self.best is None or cost < self.best[1]:
            self.iterated(theta, cost, norm)
        for watcher in self._watchers:
            watcher.tick(self.evaluations)

    def iterated(
        self, theta: Array, cost: float, gradient_norm: float | None = None, validation: float | None = None
    ) -> None:
        """Take a step down: solvers that go by epochs call it after each; for others `ask` does.

        Args:
            theta: where, flat.
            cost: there, or the mean over an epoch.
            gradient_norm: where it is known.
            validation: the cost on validation data; by default it is computed if there are any.

        Raises:
            StopFit: a callback or patience ends the fit.
        """
        step, watched = self._taken(theta.copy(), cost, gradient_norm, validation)
        self._call_back(step)
        if self.options.patience is not None:
            self._wait(step, watched, self.options.patience)

    def settled(self, theta: Array, cost: float, gradient_norm: float | None) -> None:
        """Take down where the solver ended, if that is not the last step; what is evaluated later is no step."""
        self._settled = True
        if not self.history or not np.array_equal(self.history[-1].theta, theta):
            self._taken(theta.copy(), cost, gradient_norm, None)

    def _taken(
        self, theta: Array, cost: float, gradient_norm: float | None, validation: float | None
    ) -> tuple[Step, float]:
        """A new step in the history, and the cost that `patience` watches."""
        if math.isfinite(cost) and (self.best is None or cost < self.best[1]):
            self.best = theta, cost
        if validation is None and self._validate is not None:
            validation = self._validate(theta)
        seconds = time.perf_counter() - self._began
        shown = None if validation is None else self._sign * validation
        step = Step(len(self.history), self._sign * cost, gradient_norm, theta, seconds, shown)
        self.history.append(step)
        for watcher in self._watchers:
            watcher(step)
        return step, cost if validation is None else validation

    def _call_back(self, step: Step) -> None:
        for callback in self.options.callbacks:
            try:
                said = callback(step)
            except StopIteration:
                said = True
            # what callbacks return by the way, such as the characters that they wrote, means nothing
            if isinstance(said, bool | np.bool_) and said:
                theta = step.theta if self.best is None else self.best[0]
                after = counted(step.iteration + 1, "step")
                raise StopFit("callback", f"stopped by a callback after {after}, at the best point so far", theta)

    def _wait(self, step: Step, watched: float, patience: int) -> None:
        """End the fit when `watched`, the cost on validation data, has not fallen for `patience` steps."""
        if self._least is None or watched < self._least[1]:
            little = self._least is not None and self._least[1] - watched <= LEVEL * abs(self._least[1])
            self._least, self._waiting = (step, watched), self._waiting if little else 0
            return
        if not watched - self._least[1] <= LEVEL * abs(self._least[1]):
            self._waiting += 1
        if self._waiting >= patience:
            best = self._least[0]
            where = "validation data" if step.validation is not None else "the data"
            raise StopFit(
                "validation",
                f"stopped early: the cost on {where} has not fallen for {counted(patience, 'step')} since step "
                f"{best.iteration}, whose parameters these are",
                best.theta,
            )
