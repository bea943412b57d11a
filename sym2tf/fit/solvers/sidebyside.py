"""Levenberg-Marquardt on many small fits side by side, in NumPy, by all cores."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sym2tf.backends.levenberg_marquardt import (
    NUMPY,
    RUNNING,
    TOLERANCES,
    UNDEFINED,
    Measure,
    Proposal,
    State,
    begun,
    judged,
    proposed,
    running,
    settled,
)
from sym2tf.fit.evaluation.sidebyside import Products

Array = np.ndarray[Any, Any]

GROUP = 512  # fits that are worth a thread of their own
MOST_TOGETHER = 16_384  # fits that take their steps together: what a step keeps of them stays near the cache
COMPACT = 0.8  # part of the fits that still go on, below which the others leave


@dataclass(frozen=True)
class Ends:
    """Where the fits ended, one row each.

    Attributes:
        theta: (fits, p).
        cost: (fits,), sums of squares.
        gradient: (fits, p), of the costs, where they were computed last.
        iterations: (fits,).
        state: (fits,), one of `CONVERGED`, `STALLED`, `UNDEFINED`, `RUNAWAY`, or `RUNNING` at the limit of iterations.
        products: (fits, p, p), J^T W J where it was computed last; None where it was not.
    """

    theta: Array
    cost: Array
    gradient: Array
    iterations: Array
    state: Array
    products: Array | None = None


def groups(fits: int) -> list[slice]:
    """Ranges of fits that take their steps together, each in a thread."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = max(min(workers, fits // GROUP), -(-fits // MOST_TOGETHER), 1)
    edges = np.linspace(0, fits, number + 1).astype(int)
    return [slice(int(start), int(stop)) for start, stop in pairwise(edges)]


def in_threads(work: Any, parts: list[slice]) -> list[Any]:
    """What a function gives for each range, by all cores."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
        return list(pool.map(work, parts))


def levenberg_marquardt(
    products: Products,
    theta: Array,
    bounds: tuple[Array, Array] | None,
    measure: Measure,
    most: int,
    damping: float,
) -> State:
    """The minima of all fits.

    Args:
        products: of the Jacobians.
        theta: (p, fits), where to start.
        bounds: (p, 1) each; None where there are none.
        measure: of the fits; a magnitude that is not known is NaN, and that of the residuals at the start is taken.
        most: iterations.
        damping: at the start.
    """
    with np.errstate(all="ignore"):
        return _steps(products, begun(theta, damping, 0, None, None), bounds, measure, most)


def _steps(products: Products, state: State, bounds: tuple[Array, Array] | None, measure: Measure, most: int) -> State:
    xp, due = NUMPY, TOLERANCES["float64"]
    G = products.at(state.theta)
    ended = np.where(np.isfinite(G).all((0, 1)), RUNNING, UNDEFINED)
    state = state._replace(products=G, ended=ended)
    measure = Measure(measure.freedom, np.where(np.isnan(measure.magnitude), G[-1, -1], measure.magnitude))
    results = State(*map(np.copy, state))
    active = np.arange(len(ended))
    while True:
        proposal = proposed(xp, state, bounds, measure, due)
        state = settled(xp, state, proposal, most)
        going = running(state, most)
        if np.count_nonzero(going) < COMPACT * len(active) or not going.any():
            for whole, part in zip(results, state, strict=True):
                whole[..., active] = part
            keep = np.flatnonzero(going)
            if not len(keep):
                return results
            active, products = active[keep], products.picked(keep)
            state = State(*(part[..., keep] for part in state))
            proposal = Proposal(*(part[..., keep] for part in proposal))
            measure = Measure(*(part[keep] for part in measure))
        state = judged(xp, state, proposal, products.at(proposal.trial), measure, most, due)
