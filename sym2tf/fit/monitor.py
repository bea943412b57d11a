"""What happens while a solver runs: every number that it asks for passes through here.

SciPy's optimisers hide their state, but they are deterministic in what they are told. So whoever sees all questions
and answers can record the path, stop the solver at any of them, keep the best point so far, and replay a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.fit.options import Options

Array = np.ndarray[Any, Any]
Answer = tuple[Array, ...]


@dataclass(frozen=True)
class Step:
    """One step on the way of a solver: a point that is better than all before it, or an epoch.

    Attributes:
        iteration: counted from 0.
        cost: there.
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
    """Raised where the solver asks, to end it at the best point so far; says why."""


class Monitor:
    """Sees every evaluation of a fit.

    Attributes:
        history: the steps so far.
        best: the point with the lowest cost so far, and that cost; None before the first.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.history: list[Step] = []
        self.best: tuple[Array, float] | None = None
        self._began = time.perf_counter()

    def ask(
        self,
        kind: str,
        theta: Array,
        compute: Callable[[], Answer],
        summary: Callable[[Answer], tuple[float, float | None]] | None = None,
    ) -> Answer:
        """The answer of `compute`, or the one that a journal holds for this question.

        Args:
            kind: what is asked for: `"cost"` (with its gradient), `"hessian"`, `"residuals"`, `"jacobian"`, ...
            theta: where, flat.
            compute: what answers.
            summary: cost and, where it is known, the norm of its gradient, from the answer.

        Raises:
            StopFit: the fit is to end.
        """
        answer = compute()
        if summary is not None:
            cost, norm = summary(answer)
            if np.isfinite(cost) and (self.best is None or cost < self.best[1]):
                self.best = theta.copy(), cost
                seconds = time.perf_counter() - self._began
                self.history.append(Step(len(self.history), cost, norm, theta.copy(), seconds))
        return answer
