"""How single observations pull at a least-squares fit. Computed when asked for.

Belsley, Kuh, Welsch, Regression Diagnostics (1980), chapter 2; for nonlinear models with the Jacobian in place of the
design (Seber and Wild, Nonlinear Regression, 1989, section 4.6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sym2tf.fit.inference.least_squares import Linearisation, count_held, null_space
from sym2tf.fit.solvers.linear import power_of_two

Array = np.ndarray[Any, Any]

DETERMINED = 1e-10  # distance of a leverage from 1 below which an observation determines a parameter by itself


@dataclass(frozen=True)
class Influence:
    """Of every row of the residuals; NaN where an observation alone determines a parameter (leverage 1).

    Attributes:
        leverage: (rows,), the diagonal of the hat matrix.
        standardized: (rows,), residuals over their standard errors s sqrt(1 - h) (internally studentised).
        studentized: (rows,), the same with s from all other observations (externally studentised); Student's t.
        cooks_distance: (rows,), how far all estimates move if one observation is left out.
        durbin_watson: about 2 where residuals that follow each other are not correlated.
    """

    leverage: Array = field(repr=False)
    standardized: Array = field(repr=False)
    studentized: Array = field(repr=False)
    cooks_distance: Array = field(repr=False)
    durbin_watson: float


def basis(J: Array, active: Array | None) -> Array:
    """(rows, p), orthonormal columns that span those of J, along active constraints only."""
    scaled = power_of_two(np.sqrt(np.square(J).sum(axis=0)))
    A = J / scaled
    return np.asarray(np.linalg.qr(A if active is None else A @ null_space(active / scaled))[0])


def leverage_of(at: Linearisation, active: Array | None) -> Array:
    """(rows,), between 0 and 1, adding up to the number of parameters."""
    return np.square(basis(at.whitened[1], active)).sum(axis=1)


def influence_of(at: Linearisation, active: Array | None, freedom: int, sign: int) -> Influence:
    """All of it.

    Args:
        at: the estimates.
        active: the gradients of the constraints that hold with equality.
        freedom: the number of degrees of freedom, at least 1.
        sign: what makes the residuals observed - model.
    """
    r, J = at.whitened
    r = sign * r
    h = leverage_of(at, active)
    count = J.shape[1] - count_held(active)
    rest = np.where(1 - h > DETERMINED, 1 - h, np.nan)
    with np.errstate(all="ignore"):
        s = np.sqrt(np.square(r).sum() / freedom)
        standardized = r / (s * np.sqrt(rest))
        studentized = standardized * np.sqrt((freedom - 1) / (freedom - np.square(standardized)))
        cooks = np.square(standardized) * h / rest / count
        watson = float(np.square(np.diff(r)).sum() / np.square(r).sum())
    return Influence(h, standardized, studentized, cooks, watson)
