"""The bootstrap: the fit repeated on resampled data (Efron and Tibshirani, An Introduction to the Bootstrap, 1993)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from sym2tf.errors import ArgumentError, FitError
from sym2tf.fit.inference.intervals import Intervals, require_level
from sym2tf.fit.inference.least_squares import Linearisation
from sym2tf.fit.inference.refit import Found, Region, least_squares, smooth
from sym2tf.lazy import lazy

scipy_special = lazy("scipy.special")

Array = np.ndarray[Any, Any]
Kind = Literal["residuals", "pairs"]
Function = Callable[[Array], Array]

AT_ONCE = 10_000_000  # elements of resampled residuals that are made at once


@dataclass(frozen=True)
class Bootstrap:
    """Estimates from resampled data.

    Attributes:
        names: of the free parameters, element by element.
        estimate: (p,), from the data themselves.
        estimates: (samples that succeeded, p).
        failures: how many samples could not be fitted; they are not among the estimates.
        kind: what was resampled: `"residuals"` or `"pairs"` (whole observations).
        influence: (rows, p), by how much each observation moved the estimates, for the acceleration.
    """

    names: tuple[str, ...]
    estimate: Array
    estimates: Array = field(repr=False)
    failures: int
    kind: Kind
    influence: Array = field(repr=False)

    @property
    def stderr(self) -> Array:
        """(p,), the standard deviations of the estimates."""
        return np.asarray(self.estimates.std(axis=0, ddof=1))

    @property
    def covariance(self) -> Array:
        """(p, p), of the estimates."""
        return np.atleast_2d(np.cov(self.estimates, rowvar=False))

    @property
    def bias(self) -> Array:
        """(p,), of the mean of the estimates against the estimate."""
        return np.asarray(self.estimates.mean(axis=0) - self.estimate)

    def conf_int(self, level: float = 0.95, kind: Literal["bca", "percentile", "basic"] = "bca") -> Intervals:
        """An interval for each parameter.

        `"percentile"` are quantiles of the estimates; `"bca"` the same, corrected for bias and acceleration (Efron
        1987; the acceleration from the infinitesimal jackknife); `"basic"` reflects them at the estimate.

        Raises:
            ArgumentError: another kind, or a level that is not between 0 and 1.
        """
        level = require_level(level)
        tails = np.array([0.5 * (1 - level), 0.5 * (1 + level)])
        if kind == "bca":
            ends = np.array([self._bca(k, tails) for k in range(len(self.names))])
        elif kind in ("percentile", "basic"):
            ends = np.quantile(self.estimates, tails, axis=0).T
            if kind == "basic":
                ends = 2 * self.estimate[:, None] - ends[:, ::-1]
        else:
            raise ArgumentError(f"kind is 'bca', 'percentile' or 'basic', got {kind!r}")
        return Intervals(self.names, ends[:, 0], ends[:, 1], level, f"bootstrap ({kind})")

    def _bca(self, k: int, tails: Array) -> Array:
        values, moved = self.estimates[:, k], self.influence[:, k]
        below = ((values < self.estimate[k]).mean() + (values <= self.estimate[k]).mean()) / 2
        squares = np.square(moved).sum()
        acceleration = np.power(moved, 3).sum() / (6 * squares**1.5) if squares > 0 else 0.0
        z = scipy_special.ndtri(below) + scipy_special.ndtri(tails)
        shifted = scipy_special.ndtr(scipy_special.ndtri(below) + z / (1 - acceleration * z))
        return np.quantile(values, np.where(np.isfinite(shifted), shifted, tails))


def require_sampling(samples: Any, seed: Any, kind: Any) -> None:
    """Refuse what says no number of samples, no seed or no kind.

    Raises:
        ArgumentError: one of them.
    """
    for name, value, least in (("samples", samples, 2), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ArgumentError(f"{name} is an integer, at least {least}; got {value!r}")
    if kind not in (None, "residuals", "pairs"):
        raise ArgumentError(f"kind is 'residuals' or 'pairs', got {kind!r}")


def of_linear(
    names: tuple[str, ...], theta: Array, at: Linearisation, inverse_root: Array, kind: Kind, samples: int, seed: int
) -> Bootstrap:
    """Residuals linear in the parameters: every sample is one linear problem."""
    r, J = at.whitened
    rng = np.random.default_rng(seed)
    pull = -inverse_root @ (J @ inverse_root).T  # (p, rows), of a change of the residuals
    if kind == "residuals":
        noise = _centred(r, J.shape[1])
        draws = (rng.integers(len(r), size=(count, len(r))) for count in _batches(samples, len(r)))
        estimates = np.concatenate([theta + noise[drawn] @ pull.T for drawn in draws])
    else:
        estimates = np.array([theta + _weighted(J, r, _counts(rng, len(r))) for _ in range(samples)])
    return _finished(names, theta, estimates, np.isfinite(estimates).all(axis=1), kind, -(pull * r).T)


def of_squares(
    names: tuple[str, ...],
    theta: Array,
    at: Linearisation,
    inverse_root: Array,
    squares: tuple[Function, Function],
    region: Region,
    kind: Kind,
    samples: int,
    seed: int,
) -> Bootstrap:
    """Sums of squares of other residuals; `squares` are functions of theta to whitened residuals and Jacobian."""
    r, J = at.whitened
    values, jacobian = squares
    rng = np.random.default_rng(seed)
    noise = _centred(r, J.shape[1])

    def again() -> Found:
        if kind == "residuals":
            shift = noise[rng.integers(len(r), size=len(r))] - r
            return least_squares(region, (lambda q: values(q) + shift, jacobian), theta)
        root = np.sqrt(_counts(rng, len(r)))
        return least_squares(region, (lambda q: values(q) * root, lambda q: jacobian(q) * root[:, None]), theta)

    pull = inverse_root @ (J @ inverse_root).T
    return _repeated(names, theta, again, samples, kind, (pull * r).T)


def of_contributions(
    names: tuple[str, ...],
    theta: Array,
    parts: tuple[Function, Function],
    covariance: Array,
    region: Region,
    samples: int,
    seed: int,
) -> Bootstrap:
    """A likelihood: `parts` are functions of theta to what each observation adds, (N,), and its slope, (N, p)."""
    values, slopes = parts
    rng = np.random.default_rng(seed)
    scores = slopes(theta)
    root = np.eye(len(theta))
    if not region.bounded and not region.constraints:  # in these coordinates the curvature is about that of a sphere
        root = np.linalg.cholesky(covariance)
        region = replace(region, unit=np.ones(len(theta)))

    def again() -> Found:
        counts = _counts(rng, len(scores))

        def cost(q: Array) -> tuple[float, Array]:
            at = root @ q
            return float(counts @ values(at)), (counts @ slopes(at)) @ root

        found = smooth(region, (cost, None), np.linalg.solve(root, theta))
        return replace(found, theta=root @ found.theta)

    return _repeated(names, theta, again, samples, "pairs", scores @ covariance)


def _centred(r: Array, count: int) -> Array:
    """Residuals about their mean, lengthened to the variance of the errors (Efron and Tibshirani, section 9.4)."""
    return (r - r.mean()) * np.sqrt(len(r) / (len(r) - count))


def _counts(rng: np.random.Generator, rows: int) -> Array:
    """How often each row is drawn."""
    return np.bincount(rng.integers(rows, size=rows), minlength=rows).astype(np.float64)


def _weighted(J: Array, r: Array, counts: Array) -> Array:
    """The change of the estimates where rows count so often; NaN where those drawn do not determine them."""
    root = np.sqrt(counts)
    step, _, rank, _ = np.linalg.lstsq(J * root[:, None], -r * root, rcond=None)
    return step if rank == J.shape[1] else np.full(J.shape[1], np.nan)


def _batches(samples: int, rows: int) -> list[int]:
    size = max(AT_ONCE // rows, 1)
    return [min(size, samples - start) for start in range(0, samples, size)]


def _repeated(
    names: tuple[str, ...], theta: Array, again: Callable[[], Found], samples: int, kind: Kind, influence: Array
) -> Bootstrap:
    runs = [again() for _ in range(samples)]
    good = np.array([run.success and bool(np.isfinite(run.theta).all()) for run in runs])
    return _finished(names, theta, np.array([run.theta for run in runs]), good, kind, influence)


def _finished(
    names: tuple[str, ...], theta: Array, estimates: Array, good: Array, kind: Kind, influence: Array
) -> Bootstrap:
    if good.sum() < 2:
        raise FitError(f"{len(good) - int(good.sum())} of {len(good)} samples of the bootstrap could not be fitted")
    return Bootstrap(names, theta, estimates[good], int(len(good) - good.sum()), kind, influence)
