"""Standard errors of medians and quantiles, whose loss has no curvature but for the density of the residuals there.

The sandwich of Powell (Koenker, Quantile Regression, 2005, section 3.4.2) with Epanechnikov's kernel and the bandwidth
of Hall and Sheather (JRSS B 50, 1988), as statsmodels' QuantReg computes it where nothing else is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.lazy import lazy

special = lazy("scipy.special")

Array = np.ndarray[Any, Any]

ALPHA = 0.05  # of the confidence intervals for which the bandwidth is best
QUARTILES = 1.34  # from the lower to the upper one of a normal distribution, in standard deviations
THROUGH = 1e-9  # relative to the residuals: the quantile goes through such a point


def meat_of(u: Array, J: Array, theta: Array, level: float) -> Array | None:
    """(rows,), the roots of what stands between (J^T J)^-1 J^T and its transpose; None where the residuals vanish.

    Args:
        u: (rows,), the residuals.
        J: (rows, p), their Jacobian.
        theta: (p,), the estimates.
        level: of the quantile, 0.5 of a median.
    """
    lower, upper = np.quantile(u, [0.25, 0.75])
    spread = min(float(np.std(u - J @ theta)), float(upper - lower) / QUARTILES)
    h = _bandwidth(len(u), level)
    if not 0 < level - h < level + h < 1:
        return None
    width = spread * float(special.ndtri(level + h) - special.ndtri(level - h))
    if not width > 0:
        return None
    z = u / width
    density = float((0.75 * (1 - z**2) * (np.abs(z) <= 1)).sum()) / (len(u) * width)
    above = u > THROUGH * np.abs(u).max()
    root: Array = np.where(above, level, 1 - level) / density
    return root


def _bandwidth(n: int, level: float) -> float:
    z = float(special.ndtri(level))
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    most = float(special.ndtri(1 - ALPHA / 2)) ** (2 / 3)
    return float(n ** (-1 / 3) * most * (1.5 * density**2 / (2 * z**2 + 1)) ** (1 / 3))
