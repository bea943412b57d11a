"""Sums of squares of residuals: SciPy's Levenberg-Marquardt and trust region, and the last digits by Gauss-Newton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.fit.solvers.linear import RANK_TOLERANCE, power_of_two
from sym2tf.fit.solvers.quiet import quietly
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
        J = task.design(q).T
        return J if is_finite(J) else np.nan_to_num(J)

    found, _, info, said, flag = optimize.leastsq(  # which warns of nothing with full_output
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
    with quietly():
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
    squares = np.einsum("ij,ij->j", J, J)
    if all(TINY < square < math.inf for square in squares.tolist()):
        return np.sqrt(squares)
    unit = power_of_two(np.abs(J).max(axis=0, initial=0))
    answer: Array = unit * np.sqrt(np.square(J / unit).sum(axis=0))
    return answer


def is_finite(numbers: Array) -> bool:
    """Whether all are: told by the sum of their squares, unless that overflows (under `np.errstate`)."""
    return math.isfinite(np.vdot(numbers, numbers)) or bool(np.isfinite(numbers).all())


def _finite(r: Array) -> Array:
    return r if is_finite(r) else np.where(np.isfinite(r), r, HUGE)


@dataclass(frozen=True)
class Step:
    """A Gauss-Newton step.

    Attributes:
        change: (p,), of the parameters; 0 where a bound stops one.
        length: the largest component, relative to the parameter or to its scale.
        left: the same over what is tolerated: at most 1 is converged.
        singular: the Jacobian has not full rank, so that this is the shortest of many steps.
        factors: `(unit, values, V)`: the lengths of the columns of the Jacobian, and singular values and right singular
            vectors of it with columns of unit length; None where a bound stops a parameter, or it is not finite.
    """

    change: Array
    length: float
    left: float
    singular: bool
    factors: tuple[Array, Array, Array] | None = None

    @property
    def inverse_root(self) -> tuple[Array, float] | None:
        """F with F F^T = (J^T J)^-1, and the condition number of J with columns of unit length."""
        if self.factors is None or self.singular:
            return None
        unit, values, V = self.factors
        return V.T / values / unit[:, None], float(values[0] / values[-1])


def gauss_newton_step(task: Task, theta: Array, noise: float) -> Step:
    """The step to the minimum of the linearised problem, among the parameters that no bound stops.

    Args:
        task: whose cost is a sum of squares.
        theta: where to.
        noise: a residual that counts as rounding, in total.
    """
    r, J = task.residual(theta), task.design(theta)
    if not (is_finite(r) and is_finite(J.T)):
        return Step(np.zeros(len(theta)), np.inf, np.inf, False)
    unit = lengths_of(J)
    if not unit.all():
        unit[unit == 0] = 1.0
    stopped = task.active(theta, J.T @ r) if task.bounded else None
    if stopped is None or not stopped.any():
        change, values, V = _shortest(J / unit, r, len(theta))
        change /= unit
        factors, singular = (unit, values, V), not values[-1] > 0
    else:
        free, change = ~stopped, np.zeros(len(theta))
        solved, values, _ = _shortest(J[:, free] / unit[free], r, len(theta))
        change[free] = solved / unit[free]
        factors, singular = None, bool((values == 0).any())
    size = abs(change)
    scale = abs(theta) + math.sqrt(r.dot(r)) / unit
    relative = size / np.maximum(scale, 1e-300)
    left = size / np.maximum(STEP_TOLERANCE * scale + noise / unit, 1e-300)
    return Step(change, max(relative.tolist()), max(left.tolist()), singular, factors)


def _shortest(A: Array, r: Array, count: int) -> tuple[Array, Array, Array]:
    """The shortest x that minimises |r + A x|, the singular values of A (0 for those that are rounding), and V."""
    if not A.shape[1]:
        return np.zeros(0), np.zeros(0), np.zeros((0, 0))
    U, values, V = np.linalg.svd(A, full_matrices=False)
    least = RANK_TOLERANCE * count * values[0]
    along = U.T.dot(r)
    if values[-1] > least:
        return -V.T.dot(along / values), values, V
    kept = values > least
    values = np.where(kept, values, 0.0)
    return -(V[kept].T @ (along[kept] / values[kept])), values, V


@dataclass(frozen=True)
class Finish:
    """Where Gauss-Newton steps ended.

    Attributes:
        theta: flat.
        steps: how many were taken.
        left: of the step still to go, over what is tolerated.
        singular: the Jacobian has not full rank there.
        slow: the steps get shorter slowly, if at all, though there are digits to be had.
        inverse_root: of the Jacobian there, and its condition number, where it has full rank and no bound holds.
    """

    theta: Array
    steps: int
    left: float
    singular: bool
    slow: bool
    inverse_root: tuple[Array, float] | None


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
            return Finish(theta, steps, step.left, step.singular, True, step.inverse_root)
        following = gauss_newton_step(task, candidate, noise)
        if not following.length < step.length:
            return Finish(theta, steps, step.left, step.singular, step.length > FLOOR, step.inverse_root)
        before = [*before[1 - MEMORY :], (theta, step.change)]
        slow = following.length > QUICK * step.length
        theta, step, cost, steps = candidate, following, after, steps + 1
    return Finish(theta, steps, step.left, step.singular, False, step.inverse_root)


def _accelerated(theta: Array, change: Array, before: Sequence[tuple[Array, Array]]) -> Array:
    """The step that the last ones suggest (Walker, Ni, SIAM J. Numer. Anal. 49, 2011, algorithm AA)."""
    largest = np.maximum(np.abs(theta), np.abs(change))
    scale = (1 / np.where(largest > 0, largest, 1.0))[:, None]
    moved = np.stack([theta - other for other, _ in before], axis=1)
    bent = np.stack([change - other for _, other in before], axis=1)
    mixed = np.linalg.lstsq(bent * scale, change * scale[:, 0], rcond=1e-6)[0]
    answer: Array = change - (moved + bent) @ mixed
    return answer if np.isfinite(answer).all() else change
