"""What standard errors say about each parameter: ratios, p-values and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, FitError
from sym2tf.fit.inference.estimates import Tied
from sym2tf.fit.inference.least_squares import Inference
from sym2tf.lazy import lazy

pandas = lazy("pandas")
scipy_special = lazy("scipy.special")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Intervals:
    """An interval for each free parameter, element by element.

    Attributes:
        names: of the elements.
        lower, upper: (p,); infinite where an interval has no end on that side.
        level: of confidence.
        method: how they were found.
        reasons: why an end is infinite or stands at a bound, by `(name, "lower" or "upper")`.
    """

    names: tuple[str, ...]
    lower: Array = field(repr=False)
    upper: Array = field(repr=False)
    level: float
    method: str
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def __getitem__(self, key: Any) -> tuple[float, float]:
        """`(lower, upper)` of one element: by name, as `"w[0]"`, or by symbol."""
        name = str(key).replace(" ", "")
        if name not in self.names:
            raise KeyError(f"{key}: there are intervals for {', '.join(self.names)}")
        k = self.names.index(name)
        return float(self.lower[k]), float(self.upper[k])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """(p, 2), as statsmodels' `conf_int` gives it."""
        return np.column_stack([self.lower, self.upper]).astype(dtype or np.float64)

    def __str__(self) -> str:
        rows = [f"{n}: [{a:.8g}, {b:.8g}]" for n, a, b in zip(self.names, self.lower, self.upper, strict=True)]
        notes = [f"{name}, {side} end: {reason}" for (name, side), reason in self.reasons.items()]
        return "\n".join([f"{self.level:.6g} {self.method} intervals", *rows, *notes])


def require_level(level: Any) -> float:
    """A level of confidence as a float.

    Raises:
        ArgumentError: it is no number between 0 and 1.
    """
    if isinstance(level, bool) or not isinstance(level, int | float | np.number) or not 0 < level < 1:
        raise ArgumentError(f"level is a number between 0 and 1, such as 0.95; got {level!r}")
    return float(level)


def require_errors(inference: Inference, what: str) -> tuple[Array, Array]:
    """Covariance and standard errors.

    Raises:
        FitError: there are none, so that there is no `what`; says why.
    """
    if inference.covariance is None or inference.stderr is None:
        raise FitError(f"{what} need standard errors, and there are none: {inference.no_stderr}")
    return inference.covariance, inference.stderr


def quantile(inference: Inference, level: float) -> float:
    """Half the width of an interval in standard errors: Student's, or the normal one where the variance is known."""
    tail = 0.5 * (1 + level)
    if inference.normal or inference.degrees_of_freedom is None:
        return float(scipy_special.ndtri(tail))
    return float(scipy_special.stdtrit(inference.degrees_of_freedom, tail))


def ratios(estimates: Array, stderr: Array, inference: Inference) -> Array:
    """Estimate over standard error: t, or z where the variance is known; infinite where the error is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = estimates / stderr
    return found


def p_values(estimates: Array, stderr: Array, inference: Inference) -> Array:
    """The probability of a ratio at least as far from 0 if the parameter is 0 (two-sided)."""
    t = np.abs(ratios(estimates, stderr, inference))
    if inference.normal or inference.degrees_of_freedom is None:
        return np.asarray(2 * scipy_special.ndtr(-t))
    return np.asarray(2 * scipy_special.stdtr(inference.degrees_of_freedom, -t))


def correlation(inference: Inference) -> Array | None:
    """(p, p), of the estimates; NaN beside a standard error of 0."""
    if inference.covariance is None or inference.stderr is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = inference.covariance / inference.stderr[:, None] / inference.stderr[None, :]
    return found


def wald(names: tuple[str, ...], theta: Array, inference: Inference, level: float) -> Intervals:
    """Estimate +- quantile * standard error.

    Raises:
        FitError: there are no standard errors.
    """
    _, errors = require_errors(inference, "Wald intervals")
    half = quantile(inference, level) * errors
    return Intervals(names, theta - half, theta + half, level, "wald")


def frame(names: tuple[str, ...], theta: Array, inference: Inference, level: float, tied: tuple[Tied, ...] = ()) -> Any:
    """A pandas DataFrame with a row for each free or tied parameter; NaN where there are no standard errors."""
    index = [*names, *(name for t in tied for name in t.names)]
    estimates = np.concatenate([theta, *(t.value.ravel() for t in tied)])
    errors = np.full(len(estimates), np.nan)
    half = 0.0
    if inference.stderr is not None:
        errors = np.concatenate([inference.stderr, *(t.stderr.ravel() for t in tied if t.stderr is not None)])
        half = quantile(inference, level)
    columns = {
        "estimate": estimates,
        "stderr": errors,
        "z" if inference.normal else "t": ratios(estimates, errors, inference),
        "p": p_values(estimates, errors, inference),
        "lower": estimates - half * errors,
        "upper": estimates + half * errors,
    }
    return pandas.DataFrame(columns, index=index)
