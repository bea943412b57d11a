"""Sums of squares of residuals: SciPy's Levenberg-Marquardt and trust region, and the last digits by Gauss-Newton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.fit.solvers.linear import RANK_TOLERANCE, power_of_two
from sym2tf.fit.solvers.task import Run, Task
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

STEP_TOLERANCE = 1e-7  # of a step still to go, relative to the parameter or to its scale
SEARCH_TOLERANCE = 1e-10  # relative, at which a search ends: Gauss-Newton steps go on from there, quicker
EVALUATIONS = 100  # by parameter, after which Levenberg-Marquardt has failed; MINPACK's own limit
FINISHED = 1e-12  # of a step, relative: there are no more digits to be had
FLOOR = 1e-9  # of a step, relative: below it, one that gets no shorter is rounding
FINISHING = 20  # Gauss-Newton steps at most
QUICK = 0.02  # of one such step to the next: above it, they are accelerated
MEMORY = 4  # steps that an accelerated one is made of
NOISE = 1e-9  # by which the cost may rise in a step near the minimum: sums of squares of tiny residuals are that noisy
TINY = 1e-280  # squares below it may have lost digits
HUGE = 1e150  # stands for a residual that cannot be computed: optimisers then shorten the step


def levenberg_marquardt(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `leastsq`, which is MINPACK's lmder (Moré 1978), with the symbolic Jacobian."""

    def fun(q: Array) -> Array:
        return _finite(task.residual(q))

    def transposed(q: Array) -> Array:
        J = task.design(q)
        return (J if np.isfinite(J).all() else np.nan_to_num(J)).T

    with np.errstate(all="ignore"):
        found, _, info, said, flag = optimize.leastsq(
            fun,
            theta,
            Dfun=transposed,
            col_deriv=True,
            full_output=True,
            ftol=SEARCH_TOLERANCE,
            xtol=SEARCH_TOLERANCE,
            gtol=0.0,
            maxfev=max(min(most, EVALUATIONS * (len(theta) + 1)), 1),
        )
    return Run(np.asarray(found, np.float64), int(info["nfev"]), " ".join(said.split()), flag in (1, 2, 3, 4))


def trust_region_reflective(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `least_squares(method="trf")` (Branch, Coleman, Li 1999), for bounds."""
    with np.errstate(all="ignore"):
        answer = optimize.least_squares(
            lambda q: _finite(task.residual(q)),
            np.clip(theta, task.low, task.high),
            jac=lambda q: np.nan_to_num(task.design(q)),
            method="trf",
            bounds=task.room,
            x_scale="jac",
            ftol=SEARCH_TOLERANCE,
            xtol=SEARCH_TOLERANCE,
            gtol=None,
            max_nfev=max(most, 1),
        )
    return Run(np.asarray(answer.x, np.float64), int(answer.nfev), str(answer.message), bool(answer.success))


def lengths_of(J: Array) -> Array:
    """The Euclidean lengths of columns, also of those whose squares leave the range of floats."""
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij->j", J, J)
    if ((squares > TINY) & (squares < np.inf)).all():
        return np.sqrt(squares)
    unit = power_of_two(np.abs(J).max(axis=0, initial=0))
    answer: Array = unit * np.sqrt(np.square(J / unit).sum(axis=0))
    return answer


def _finite(r: Array) -> Array:
    return r if np.isfinite(r).all() else np.where(np.isfinite(r), r, HUGE)


@dataclass(frozen=True)
class Step:
    """A Gauss-Newton step.

    Attributes:
        change: (p,), of the parameters; 0 where a bound stops one.
        length: the largest component, relative to the parameter or to its scale.
        left: the same over what is tolerated: at most 1 is converged.
        singular: the Jacobian has not full rank, so that this is the shortest of many steps.
    """

    change: Array
    length: float
    left: float
    singular: bool


def gauss_newton_step(task: Task, theta: Array, noise: float) -> Step:
    """The step to the minimum of the linearised problem, among the parameters that no bound stops.

    Args:
        task: whose cost is a sum of squares.
        theta: where to.
        noise: a residual that counts as rounding, in total.
    """
    r, J = task.residual(theta), task.design(theta)
    change = np.zeros(len(theta))
    if not (np.isfinite(r).all() and np.isfinite(J).all()):
        return Step(change, np.inf, np.inf, False)
    lengths = lengths_of(J)
    unit = np.where(lengths > 0, lengths, 1.0)
    free = ~task.active(theta, J.T @ r) if task.bounded else np.ones(len(theta), bool)
    scaled = J / unit if free.all() else J[:, free] / unit[free]
    solved, _, rank, _ = np.linalg.lstsq(scaled, -r, rcond=RANK_TOLERANCE * len(theta))
    change[free] = solved / unit[free]
    scale = np.abs(theta) + np.linalg.norm(r) / unit
    relative = np.abs(change) / np.maximum(scale, 1e-300)
    allowed = STEP_TOLERANCE * scale + noise / unit
    left = float((np.abs(change) / np.maximum(allowed, 1e-300)).max(initial=0))
    return Step(change, float(relative.max(initial=0)), left, rank < free.sum())


@dataclass(frozen=True)
class Finish:
    """Where Gauss-Newton steps ended.

    Attributes:
        theta: flat.
        steps: how many were taken.
        left: of the step still to go, over what is tolerated.
        singular: the Jacobian has not full rank there.
        slow: the steps get shorter slowly, if at all, though there are digits to be had.
    """

    theta: Array
    steps: int
    left: float
    singular: bool
    slow: bool


def gauss_newton(task: Task, theta: Array, most: int, noise: float) -> Finish:
    """Gauss-Newton steps while they get shorter: the last digits, which no search by cost values can see.

    Where residuals are large they shrink by about the same factor each, which Anderson's acceleration makes use of.
    """
    cost, step = task.cost(theta), gauss_newton_step(task, theta, noise)
    before: list[tuple[Array, Array]] = []
    steps, slow = 0, False
    while FINISHED < step.length < np.inf:
        change = _accelerated(theta, step.change, before) if slow else step.change
        candidate = np.clip(theta + change, task.low, task.high) if task.bounded else theta + change
        after = task.cost(candidate)
        if steps >= min(FINISHING, most) or not after <= cost + NOISE * abs(cost):
            return Finish(theta, steps, step.left, step.singular, True)
        following = gauss_newton_step(task, candidate, noise)
        if not following.length < step.length:
            return Finish(theta, steps, step.left, step.singular, step.length > FLOOR)
        before = [*before[1 - MEMORY :], (theta, step.change)]
        slow = following.length > QUICK * step.length
        theta, step, cost, steps = candidate, following, after, steps + 1
    return Finish(theta, steps, step.left, step.singular, False)


def _accelerated(theta: Array, change: Array, before: Sequence[tuple[Array, Array]]) -> Array:
    """The step that the last ones suggest (Walker, Ni, SIAM J. Numer. Anal. 49, 2011, algorithm AA)."""
    largest = np.maximum(np.abs(theta), np.abs(change))
    scale = (1 / np.where(largest > 0, largest, 1.0))[:, None]
    moved = np.stack([theta - other for other, _ in before], axis=1)
    bent = np.stack([change - other for _, other in before], axis=1)
    mixed = np.linalg.lstsq(bent * scale, change * scale[:, 0], rcond=1e-6)[0]
    answer: Array = change - (moved + bent) @ mixed
    return answer if np.isfinite(answer).all() else change
