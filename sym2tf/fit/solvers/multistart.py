"""Many starts for costs with several minima: where to start, and which of the ends are the same minimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sym2tf.errors import FitError
from sym2tf.fit.solvers.descent import End
from sym2tf.fit.solvers.solution import Minimum
from sym2tf.fit.solvers.task import Task
from sym2tf.fit.wording import counted
from sym2tf.lazy import lazy

qmc = lazy("scipy.stats.qmc")

Array = np.ndarray[Any, Any]

REACH = 10.0  # times the start (or 1, if that is smaller), up to which starts without bounds lie
SAME = 1e-4  # relative, by which the parameters of one minimum may differ


class Found(NamedTuple):
    """What the starts have led to.

    Attributes:
        best: the end with the lowest cost, of those that converged if any did.
        minima: the distinct minima, the lowest first.
        told: how it went, in words.
    """

    best: End
    minima: tuple[Minimum, ...]
    told: str


def starts(task: Task, count: int, seed: int) -> Array:
    """`(count, p)` points: the start that was stated, and others spread evenly by a Latin hypercube.

    Between two bounds they are uniform; beside one they lie up to 10 times as far from it as the start, or as little as
    a tenth; without bounds they lie on both sides of the start at all scales up to 10 times its size.
    """
    first = task.problem.packed("initial")
    low, high = task.problem.packed("lower"), task.problem.packed("upper")
    spread = qmc.LatinHypercube(len(first), seed=np.random.default_rng(seed)).random(count - 1)
    v, size = 2 * spread - 1, np.maximum(np.abs(first), 1.0)
    with np.errstate(all="ignore"):
        within = low + spread * (high - low)
        above = low + np.where(first > low, first - low, size) * REACH**v
        below = high - np.where(first < high, high - first, size) * REACH**v
    beside = first + size * np.sinh(v * np.arcsinh(REACH))
    low_only, high_only = np.isfinite(low), np.isfinite(high)
    others = np.where(low_only & high_only, within, np.where(low_only, above, np.where(high_only, below, beside)))
    return np.vstack([first, others])


def from_all(task: Task, points: Array, descend: Callable[[Array], End]) -> Found:
    """The ends of the ways from many starts.

    Raises:
        FitError: the one that the first start raises, if all of them fail.
    """
    ends: list[End] = []
    errors: list[FitError] = []
    for point in points:
        try:
            ends.append(descend(np.clip(point, task.low, task.high)))
        except FitError as error:
            errors.append(error)
    if not ends:
        raise errors[0]
    converged = [end for end in ends if end.left <= 1]
    minima = _distinct(task, converged)
    best = min(converged or ends, key=lambda end: task.cost(end.theta))
    told = (
        f"{len(converged)} of {counted(len(points), 'start')} converged, to {counted(len(minima), 'minimum', 'minima')}"
    )
    if minima:
        told += f", {minima[0].times} of them to the lowest"
    if errors:
        told += f"; {counted(len(errors), 'start')} failed, the first because {errors[0]}"
    return Found(best, minima, told)


def _distinct(task: Task, ends: Sequence[End]) -> tuple[Minimum, ...]:
    groups: list[_Group] = []
    for end in sorted(ends, key=lambda end: task.cost(end.theta)):
        same = next((g for g in groups if g.holds(end.theta)), None)
        if same is None:
            groups.append(_Group(end.theta, 1))
        else:
            same.count += 1
    unit = (-1.0 if task.problem.maximize else 1.0) * (task.unit**2 if task.squares else 1.0)
    return tuple(Minimum(unit * task.cost(g.theta), g.theta, g.count) for g in groups)


@dataclass
class _Group:
    theta: Array
    count: int

    def holds(self, theta: Array) -> bool:
        size = np.maximum(np.abs(self.theta), np.abs(theta))
        return bool((np.abs(self.theta - theta) <= SAME * np.maximum(size, SAME * size.max(initial=0)) + 1e-12).all())
