"""Newton steps with the symbolic Hessian: the last digits of a minimum, and the judgement whether it is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.fit.solvers.linear import power_of_two
from sym2tf.fit.solvers.solution import scaled_eigen
from sym2tf.fit.solvers.squares import NOISE, STEP_TOLERANCE
from sym2tf.fit.solvers.task import Task

Array = np.ndarray[Any, Any]

GRADIENT_TOLERANCE = 1e-6  # of the scaled gradient where there is no Hessian
SINGLE_TOLERANCE = 1e-3  # the same where the cost is evaluated in single precision
POLISHING = 12
RANK = 32 * np.finfo(float).eps  # of a scaled eigenvalue, by parameters: below it, there is no curvature
BENT = 1e-6  # of a negative eigenvalue, relative to the largest: above it, the point is a saddle


@dataclass(frozen=True)
class NewtonStep:
    """A Newton step.

    Attributes:
        change: (p,), of the parameters; 0 where a bound stops one.
        condition: ratio of the extreme eigenvalues of the scaled Hessian.
    """

    change: Array
    condition: float


def scales(task: Task, theta: Array, unit: float) -> Array:
    """The change of each parameter alone that moves the cost by about `unit`; powers of two."""
    curvature = np.abs(np.diag(task.objective.hessian(theta)))
    fallback = np.maximum(np.abs(theta), 1.0)
    with np.errstate(all="ignore"):
        scale = np.sqrt(unit / curvature)
    return power_of_two(np.where(np.isfinite(scale) & (scale > 0), scale, fallback))


def newton_step(task: Task, theta: Array) -> NewtonStep | None:
    """The step to the minimum of the quadratic model; None where the Hessian is not positive definite."""
    _, g = task.objective.value_and_gradient(theta)
    free = ~task.active(theta, g)
    if not free.any():
        return NewtonStep(np.zeros(len(theta)), 1.0)
    H = task.objective.hessian(theta)[np.ix_(free, free)]
    if not (np.isfinite(H).all() and np.isfinite(g).all()):
        return None
    scale, eigenvalues, V = scaled_eigen(H)
    if eigenvalues[0] <= RANK * len(H) * eigenvalues[-1]:
        return None
    change = np.zeros(len(theta))
    change[free] = -scale * (V @ ((V.T @ (scale * g[free])) / eigenvalues))
    return NewtonStep(change, float(eigenvalues[-1] / eigenvalues[0]))


def polish(task: Task, theta: Array, most: int) -> tuple[Array, int]:
    """Newton steps while they get shorter: the last digits, which no search by cost values can see."""
    last, steps = np.inf, 0
    for _ in range(min(POLISHING, most)):
        value, _ = task.objective.value_and_gradient(theta)
        found = newton_step(task, theta)
        if found is None:
            break
        candidate = np.clip(theta + found.change, task.low, task.high)
        length = float(np.abs(found.change / np.maximum(np.abs(theta), 1e-300)).max())
        after, _ = task.objective.value_and_gradient(candidate)
        if not length < last or not after <= value + NOISE * abs(value) or length == 0:
            break
        theta, last, steps = candidate, length, steps + 1
    return theta, steps


def remaining(task: Task, theta: Array) -> float:
    """How far from converged: at most 1 is converged.

    With a Hessian, the largest component of the Newton step still to go over what is tolerated; without, the largest
    component of the projected gradient over what is tolerated.
    """
    if not task.has_hessian:
        return gradient_left(task, theta)
    value, _ = task.objective.value_and_gradient(theta)
    found = newton_step(task, theta)
    if found is None:
        return np.inf
    allowed = STEP_TOLERANCE * (np.abs(theta) + scales(task, theta, abs(value)))
    return float((np.abs(found.change) / np.maximum(allowed, 1e-300)).max())


def gradient_left(task: Task, theta: Array) -> float:
    """The largest component of the projected gradient over what is tolerated."""
    value, g = task.objective.value_and_gradient(theta)
    free = ~task.active(theta, g)
    projected = np.abs(g[free] * np.maximum(np.abs(theta[free]), 1)).max(initial=0)
    tolerance = GRADIENT_TOLERANCE if task.options.dtype == "float64" else SINGLE_TOLERANCE
    return float(projected / (tolerance * max(abs(value), 1e-300)))


def off_a_saddle(task: Task, theta: Array) -> Array | None:
    """A point aside, along the most negative curvature, where the cost is lower; None if there is none."""
    H = task.objective.hessian(theta)
    if not np.isfinite(H).all():
        return None
    scale, eigenvalues, V = scaled_eigen(H)
    if eigenvalues[0] >= -BENT * np.abs(eigenvalues).max():
        return None
    value, _ = task.objective.value_and_gradient(theta)
    reach = np.sqrt((abs(value) or 1.0) / -eigenvalues[0])
    for length in (reach, -reach, reach / 8, -reach / 8, reach / 64, -reach / 64):
        candidate: Array = theta + length * scale * V[:, 0]
        if task.objective.value_and_gradient(candidate)[0] < value:
            return candidate
    return None


def flat_directions(task: Task, theta: Array) -> tuple[Array, Array] | None:
    """Directions in which the cost has a flat valley, and the lengths that judge their components.

    They are null vectors of the Hessian (among the parameters that no bound stops) along which the cost, minimised over
    the others, stays what it is, far beyond where a curvature of higher order would show. None if there are none.

    Returns:
        `(directions, lengths)`: (d, p) and (p,), as `undetermined` wants them.
    """
    value, g = task.objective.value_and_gradient(theta)
    free = ~task.active(theta, g)
    H = task.objective.hessian(theta)[np.ix_(free, free)]
    if not free.any() or not np.isfinite(H).all():
        return None
    scale, eigenvalues, V = scaled_eigen(H)
    lost = np.abs(eigenvalues) <= BENT * np.abs(eigenvalues).max(initial=0)
    if not lost.any():
        return None
    directions = np.zeros((int(lost.sum()), len(theta)))
    directions[:, free] = (V[:, lost] * scale[:, None]).T
    lengths = np.ones(len(theta))
    lengths[free] = 1 / scale
    with np.errstate(all="ignore"):
        flat = all(_is_flat(task, theta, value, sign * d, free) for d in directions for sign in (1.0, -1.0))
    return (directions, lengths) if flat else None


def _is_flat(task: Task, theta: Array, value: float, direction: Array, free: Array) -> bool:
    """Whether the cost, minimised over what has curvature, stays `value` along a null vector of its Hessian."""
    reach = 0.1 * max(float(np.abs(theta).max(initial=0)), 1.0) / np.abs(direction).max()
    beside = theta + reach * direction
    if ((beside < task.low) | (beside > task.high)).any():
        return True  # the other side tells
    moved = task.objective.value_and_gradient(beside)[0]
    allowed = 1e-9 * abs(value) + 1e-6 * abs(moved - value)
    for _ in range(POLISHING):
        after, g = task.objective.value_and_gradient(beside)
        if abs(after - value) <= allowed:
            return True
        H = task.objective.hessian(beside)[np.ix_(free, free)]
        if not np.isfinite(H).all():
            return False
        scale, eigenvalues, V = scaled_eigen(H)
        curved = eigenvalues > 1e-3 * eigenvalues[-1]
        beside[free] -= scale * (V[:, curved] @ ((V[:, curved].T @ (scale * g[free])) / eigenvalues[curved]))
    return False
