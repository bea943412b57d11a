"""A step of Levenberg-Marquardt for many small least-squares problems side by side, in NumPy or in TensorFlow.

Damping is Nielsen's (Damping Parameter in Marquardt's Method, IMM-REP-1999-05), scaling Moré's (The Levenberg-Marquardt
Algorithm, 1978). All arrays have the fits along their last axis. A step is three functions, so that who calls them
computes the products of the Jacobian as suits it: `proposed`, `settled`, and `judged` when these are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

FIRST_DAMPING = 1e-4  # nearly a Gauss-Newton step, as MINPACK's first one is
LAST_DAMPING = 1e14  # beyond it a step changes nothing
LEAST_DAMPING = 1e-14
CAREFUL_DAMPING = 0.1  # with which those begin again that came to nothing so
PATIENCE = 50  # iterations after which a fit is tried that way
FLAT, FLAT_STEPS = 1e-4, 50
"""A fit is given up after so many steps in a row that lower the cost by less than this part of it, if meanwhile what
they promise is not halved either. Steps that shrink by a hundredth each time halve it in 35."""

RUNNING, CONVERGED, STALLED, UNDEFINED, RUNAWAY = range(5)


class Tolerances(NamedTuple):
    """What counts as nothing in a dtype.

    Attributes:
        step: of a parameter, relative to it, below which a step is the last one.
        spread: the same relative to its standard error, for parameters that are nearly zero.
        noise: of a sum of squares, relative to it.
        cosine: between residuals and a column of the Jacobian, below which a fit that is stuck is at its minimum.
        rounding: of a residual, relative to what is observed.
        tiny: the least positive number that divides.
    """

    step: float
    spread: float
    noise: float
    cosine: float
    rounding: float
    tiny: float


TOLERANCES = {
    "float64": Tolerances(1e-9, 1e-9, 1e-12, 1e-6, 1e-14, 1e-300),
    "float32": Tolerances(1e-3, 1e-3, 1e-5, 1e-2, 1e-6, 1e-37),  # float64 goes on from there
}


class Arrays(NamedTuple):
    """The functions of a library of arrays that a step needs, beside its operators."""

    where: Callable[..., Any]
    maximum: Callable[..., Any]
    clip: Callable[..., Any]
    sqrt: Callable[..., Any]
    abs: Callable[..., Any]
    isfinite: Callable[..., Any]
    sum: Callable[..., Any]
    all: Callable[..., Any]
    stack: Callable[..., Any]
    concatenate: Callable[..., Any]
    zeros_like: Callable[..., Any]


NUMPY = Arrays(
    np.where,
    np.maximum,
    np.clip,
    np.sqrt,
    np.abs,
    np.isfinite,
    np.sum,
    np.all,
    np.stack,
    np.concatenate,
    np.zeros_like,
)


class State(NamedTuple):
    """How far the fits are.

    Attributes:
        theta: (p, fits).
        damping, factor: (fits,), Nielsen's mu (relative to the scale) and nu.
        scale: (p, fits), the largest squared lengths of the columns of the Jacobian so far.
        products: (p+1, p+1, fits), of the columns of the Jacobian and, last, the residuals, with each other.
        ended: (fits,), one of `RUNNING`, ...
        iterations: (fits,).
        flat: (fits,), steps in a row that gained next to nothing.
        mark: (fits,), what the first of them promised.
    """

    theta: Any
    damping: Any
    factor: Any
    scale: Any
    products: Any
    ended: Any
    iterations: Any
    flat: Any
    mark: Any


class Measure(NamedTuple):
    """By what the numbers of the fits are judged.

    Attributes:
        freedom: (fits,), observations less parameters, at least 1.
        magnitude: (fits,), the sum of squares of what is observed, by which rounding is judged.
    """

    freedom: Any
    magnitude: Any


class Proposal(NamedTuple):
    """Where the fits may go.

    Attributes:
        trial, way: (p, fits), the point, and the step to it.
        predicted: (fits,), by how much the linear model says that the cost falls.
        scale: (p, fits), for the next state.
        short: (fits,), the step is too short to be worth an evaluation.
        minimal: (fits,), the gradient is as small as rounding leaves it.
    """

    trial: Any
    way: Any
    predicted: Any
    scale: Any
    short: Any
    minimal: Any


def begun(theta: Any, damping: Any, iterations: Any, products: Any, ended: Any) -> State:
    """The state at the start, in NumPy; `damping` and `iterations` are (fits,)."""
    none, ones = np.zeros(theta.shape[1], np.int32), np.ones(theta.shape[1])
    return State(theta, damping * ones, 2 * ones, 0 * theta, products, ended, iterations + none, none, np.inf * ones)


def running(state: State, most: Any) -> Any:
    """(fits,), which go on."""
    return (state.ended == RUNNING) & (state.iterations < most)


def proposed(xp: Arrays, state: State, bounds: tuple[Any, Any] | None, measure: Measure, due: Tolerances) -> Proposal:
    """A step of each fit.

    Args:
        xp: the library of the arrays.
        state: of the fits.
        bounds: (p, 1) each; None where there are none.
        measure: of the fits.
        due: the tolerances of the dtype.
    """
    p = state.theta.shape[0]
    theta, damping = state.theta, state.damping
    A, g, cost = state.products[:p, :p], state.products[:p, p], state.products[p, p]
    scale = xp.maximum(state.scale, xp.stack([A[k, k] for k in range(p)]))
    lengths = xp.where(scale > 0, scale, 1.0 + xp.zeros_like(scale))
    stopped = None
    if bounds is not None:
        stopped = ((theta <= bounds[0]) & (g >= 0)) | ((theta >= bounds[1]) & (g <= 0))
    rows = [state.products[k] for k in range(p)]
    added = damping * lengths
    way = -solved(xp, rows, added, stopped)
    trial = theta + way
    if bounds is None:
        predicted = xp.sum(way * (added * way - g), 0)  # since (A + diag(added)) way = -g
    else:
        trial = xp.clip(trial, *bounds)
        way = trial - theta
        predicted = -xp.sum(way * (2 * g + xp.sum(A * way, 1)), 0)
    rounding = due.rounding * xp.sqrt(measure.magnitude)
    spread = (due.spread * xp.sqrt(cost / measure.freedom) + rounding) / xp.sqrt(lengths)
    short = xp.all(xp.abs(way) * (1 + damping) <= due.step * xp.abs(theta) + spread, 0)
    level = xp.abs(g) <= (due.cosine * xp.sqrt(cost) + rounding) * xp.sqrt(lengths)
    still = g == 0
    if stopped is not None:
        level, still = level | stopped, still | stopped
    return Proposal(trial, way, predicted, scale, short | xp.all(still, 0), xp.all(level, 0))


def settled(xp: Arrays, state: State, proposal: Proposal, most: Any) -> State:
    """Where the step is short it is taken without an evaluation, and is the last one."""
    done = running(state, most) & proposal.short
    return state._replace(
        theta=xp.where(done, proposal.trial, state.theta),
        ended=xp.where(done, CONVERGED, state.ended),
        iterations=xp.where(done, state.iterations + 1, state.iterations),
    )


def judged(
    xp: Arrays, state: State, proposal: Proposal, there: Any, measure: Measure, most: Any, due: Tolerances
) -> State:
    """The state after the step, or where it was with more damping.

    Args:
        xp: the library of the arrays.
        state: as `settled` leaves it.
        proposal: the step.
        there: (p+1, p+1, fits), the products at `proposal.trial`.
        measure: of the fits.
        most: iterations.
        due: the tolerances of the dtype.
    """
    p = state.theta.shape[0]
    way, predicted, g, cost = proposal.way, proposal.predicted, state.products[:p, p], state.products[p, p]
    # below the noise of sums of squares the slopes at both ends still tell what is gained (trapezoidal rule)
    unclear = predicted <= due.noise * cost + due.rounding**2 * measure.magnitude
    gained = xp.where(unclear, -xp.sum(way * (g + there[:p, p]), 0), cost - there[p, p])
    ratio = gained / xp.maximum(predicted, due.tiny)
    going = running(state, most)
    lengths = sum(there[k, k] for k in range(p + 1))  # where these are finite, so are all products
    taken = going & xp.isfinite(lengths) & (ratio > 1e-4)
    moving = (taken & (gained > FLAT * cost)) | (predicted < state.mark / 2)
    flat = xp.where(moving, 0, state.flat + 1)
    stuck = ~taken & (state.damping > LAST_DAMPING)
    ended = xp.where(stuck, xp.where(proposal.minimal, CONVERGED, STALLED), RUNNING)
    ended = xp.where((ended == RUNNING) & (flat >= FLAT_STEPS), RUNAWAY, ended)
    growth = xp.clip(1 - (2 * ratio - 1) ** 3, 0.1, 2.0)
    return State(
        xp.where(taken, proposal.trial, state.theta),
        xp.maximum(state.damping * xp.where(taken, growth, state.factor), LEAST_DAMPING),
        xp.where(taken, 2.0 + 0 * state.factor, 2 * state.factor),
        proposal.scale,
        xp.where(taken, there, state.products),
        xp.where(going, ended, state.ended),
        xp.where(going, state.iterations + 1, state.iterations),
        flat,
        xp.where(moving, predicted, state.mark),
    )


def solved(xp: Arrays, rows: Sequence[Any], damping: Any, stopped: Any = None) -> Any:
    """The solutions of damped systems, by elimination of all side by side: (p, fits).

    A damped matrix is positive definite, so no pivots are looked for; where rounding spoils it, the step is no good,
    is refused, and the damping grows.

    Args:
        xp: the library of the arrays.
        rows: of the systems, each (p+1, fits) with its right side last.
        damping: (p, fits), what is added to the diagonal.
        stopped: (p, fits), which unknowns are zero; None if none is.
    """
    p = len(rows)
    unit = np.eye(p, p + 1, dtype=damping.dtype.name)[:, :, None]
    rows = [row + damping[k] * unit[k] for k, row in enumerate(rows)]
    if stopped is not None:
        free = xp.where(stopped, 0.0 * damping, 1.0 + 0.0 * damping)
        wide = xp.concatenate([free, 1.0 + 0.0 * damping[:1]], 0)
        rows = [row * wide * free[k] + (1 - free[k]) * unit[k] for k, row in enumerate(rows)]
    for k in range(p):  # row i loses its first i columns
        pivot = rows[k] / rows[k][:1]
        rows = [pivot if i == k else row[1:] - row[:1] * pivot[1:] if i > k else row for i, row in enumerate(rows)]
    found: list[Any] = []
    for row in reversed(rows):
        value = row[-1]
        for k, known in enumerate(found):
            value = value - row[-2 - k] * known
        found.append(value)
    return xp.stack(found[::-1])


def eliminated(rows: Sequence[Any]) -> list[Any]:
    """What is left of the columns after the first p of p rows when these have become a unit matrix."""
    rows = list(rows)
    for k in range(len(rows)):  # the columns before k are done with
        pivot = rows[k][1:] / rows[k][:1]
        rows = [pivot if i == k else row[1:] - row[:1] * pivot for i, row in enumerate(rows)]
    return rows
