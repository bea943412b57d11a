"""Profile intervals: of each parameter the values at which the cost, minimised over all others, is not too high.

Bates and Watts, Nonlinear Regression Analysis and Its Applications (1988), chapter 6, for least squares: where
tau = sign * sqrt((S(theta_k) - S)/s^2) is between -t and t of Student's distribution. For likelihoods where twice the
rise of the negative log-likelihood is below the quantile of chi^2 with one degree of freedom (Wilks 1938; Venzon and
Moolgavkar, Applied Statistics 37, 1988).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.errors import FitError
from sym2tf.fit.inference.intervals import Intervals
from sym2tf.fit.inference.refit import Found, Region
from sym2tf.lazy import lazy

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]
Search = Callable[[Region, Array], Found]

ENLARGEMENTS = 60
FLAT = 1e-3  # of the threshold, by which tau must grow over `PATIENCE` enlargements of the step
PATIENCE = 5
PRECISION = 1e-9  # of the distance of an end from the estimate
LOWER_BY = 1e-6  # in tau^2: a minimum that is lower by more than this is another one


@dataclass(frozen=True)
class Landscape:
    """A fit from which profiles are taken.

    Attributes:
        names: of the parameters.
        theta: (p,), the estimates.
        cost: there.
        unit: by how much the cost rises where tau is 1.
        threshold: of tau at the ends of an interval.
        region: where a minimum may be.
        search: finds the minimum in a region from a start.
        covariance: (p, p), by which starts are guessed; None where there is none.
    """

    names: tuple[str, ...]
    theta: Array
    cost: float
    unit: float
    threshold: float
    region: Region
    search: Search
    covariance: Array | None


def profile_intervals(land: Landscape, level: float) -> Intervals:
    """The interval of each parameter.

    An end is infinite where the cost never rises by enough on that side, and at a bound where the bound comes first;
    NaN where the optimiser cannot follow. `reasons` says so.

    Raises:
        FitError: a lower minimum was met on the way.
    """
    ends: dict[str, list[float]] = {"lower": [], "upper": []}
    reasons = {}
    for k, name in enumerate(land.names):
        for side, sign in (("lower", -1.0), ("upper", 1.0)):
            end, reason = _end(land, k, sign)
            ends[side].append(end)
            if reason:
                reasons[name, side] = reason
    return Intervals(land.names, np.array(ends["lower"]), np.array(ends["upper"]), level, "profile", reasons)


def _end(land: Landscape, k: int, sign: float) -> tuple[float, str]:
    """One end of the interval of parameter `k`, and what is particular about it."""
    centre = float(land.theta[k])
    limit = float(land.region.high[k] if sign > 0 else land.region.low[k])
    if centre == limit:
        return limit, "the estimate stands at this bound"
    held = land.region.holding(k)
    last = land.theta
    known: dict[float, float] = {}  # another start leads to other last digits, and a root is enclosed by signs

    def tau(value: float) -> float:
        if value not in known:
            known[value] = height_at(value)
        return known[value]

    def height_at(value: float) -> float:
        nonlocal last
        found = land.search(held, _guess(land, k, value, last))
        if not found.success and not np.isfinite(found.cost):
            return np.nan
        rise = (found.cost - land.cost) / land.unit
        if rise < -LOWER_BY:
            raise FitError(
                f"while {land.names[k]} was held at {value:.8g}, the cost fell to {found.cost:.10g}, below the "
                f"{land.cost:.10g} of the fit, which is no global minimum: fit again from there"
            )
        last = found.theta
        return float(np.sqrt(max(rise, 0.0)))

    inner, step = centre, land.threshold * float(land.region.unit[k])
    known, heights = {centre: 0.0}, []
    for _ in range(ENLARGEMENTS):
        outer = centre + sign * step
        outer = min(outer, limit) if sign > 0 else max(outer, limit)
        height = known[outer] = tau(outer)
        if not np.isfinite(height):
            return np.nan, f"the other parameters could not be fitted at {land.names[k]} = {outer:.6g}"
        if height >= land.threshold:
            # not asked for again: with another start it may come out on the other side of the threshold
            return _root(lambda v: (known[v] if v in known else tau(v)) - land.threshold, inner, outer), ""
        if outer == limit:
            return limit, "the bound comes before the cost has risen by enough"
        heights.append(height)
        if len(heights) > PATIENCE and height - heights[-1 - PATIENCE] < FLAT * land.threshold:
            break
        inner = outer
        step *= 2.0
    return sign * np.inf, f"however far {land.names[k]} goes, the cost does not rise by enough"


def _root(function: Callable[[float], float], inner: float, outer: float) -> float:
    precision = PRECISION * abs(outer - inner)
    return float(optimize.brentq(function, inner, outer, xtol=precision, rtol=4 * np.finfo(float).eps, maxiter=200))


def _guess(land: Landscape, k: int, value: float, last: Array) -> Array:
    """Where the others are likely to be: from the last minimum along the ridge that the covariance tells of."""
    start = last.copy()
    if land.covariance is not None and land.covariance[k, k] > 0:
        start = last + land.covariance[:, k] / land.covariance[k, k] * (value - last[k])
        start = np.clip(start, land.region.low, land.region.high)
    start[k] = value
    return start
