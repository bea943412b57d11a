"""Where a solver ended, in one form for all solvers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sym2tf.fit.solvers.linear import power_of_two
from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sums:
    """What a solver that saw its rows once, and kept none, knows about all of them.

    Attributes:
        rss: the sum of the weighted squares, without the weight that all share.
        squares: how many there are with a weight that is not zero.
        total: of what is observed, the squares about the mean, in the same way; None, with a reason, where R2 means
            nothing.
        no_total: that reason.
        cost: in full.
        penalised: the cost adds squares that are none of observations.
        common: the weight that all share; 1 where weights differ.
        log_weights: the sum of the logarithms of the weights; 0 where all share one.
    """

    rss: float
    squares: int
    total: float | None
    no_total: str
    cost: float
    penalised: bool
    common: float
    log_weights: float


class Minimum(NamedTuple):
    """A minimum that starts have led to.

    Attributes:
        cost: there.
        theta: the free parameters, flat.
        times: how many starts have led there.
    """

    cost: float
    theta: Array
    times: int


@dataclass(frozen=True)
class Solution:
    """Where a solver ended.

    Attributes:
        theta: flat.
        solver: its name and why it was chosen.
        success, message: whether and how it converged.
        iterations, evaluations: what it took.
        gradient: of the cost, flat.
        condition: of the problem with scaled parameters; None where no second derivatives were formed.
        inverse_root: (p, p), F with F F^T = (J^T W J)^-1, where the solver has it.
        linearised: the same of residuals that are not linear, by their Jacobian J at `theta`, and its condition number.
        residual: the stacked residuals without weights, where it has them.
        J: their Jacobian.
        at_bounds: names of the parameters that a bound stopped.
        hessian: (p, p), of the cost, where it was formed.
        active: (m, p), the gradients of the constraints that hold with equality there (of the free parameters); None
            where there are none.
        stopped: who ended the fit before its solver did: `"callback"`, `"validation"` (early stopping) or `"Ctrl-C"`;
            empty if nobody.
        sums: of all rows, where the solver has not kept them.
        rss: the sum of the weighted squares, without the weight that all share, where the solver has added it up and
            formed no residuals, which may be had again.
        multipliers: of the constraints that hold with equality, as the user wrote them: by how much the cost would fall
            if the constraint were loosened by one.
        cost: over all data, where they come in batches; for batches that are gone, that of the last epoch.
        minima: the distinct minima that `multistart` has found, the lowest first.
    """

    theta: Array
    solver: str
    success: bool
    message: str
    iterations: int
    evaluations: int
    gradient: Array
    condition: float | None = None
    inverse_root: Array | None = None
    residual: Array | None = None
    J: Array | None = field(default=None, repr=False)
    at_bounds: tuple[str, ...] = ()
    hessian: Array | None = field(default=None, repr=False)
    active: Array | None = field(default=None, repr=False)
    stopped: str = ""
    sums: Sums | None = None
    rss: float | None = None
    multipliers: Mapping[str, float] = field(default_factory=dict)
    minima: tuple[Minimum, ...] = ()
    cost: float | None = None
    linearised: tuple[Array, float] | None = field(default=None, repr=False)


def stopped_by_bounds(theta: Array, gradient: Array, low: Array, high: Array) -> Array:
    """Which parameters a bound stops: at the bound, and the cost would fall beyond it."""
    stopped: Array = ((theta <= low) & (gradient >= 0)) | ((theta >= high) & (gradient <= 0))
    return stopped


def at_bounds(problem: Problem, theta: Array) -> tuple[str, ...]:
    """The parameters that stand exactly at a bound."""
    low, high = problem.packed("lower"), problem.packed("upper")
    return tuple(n for n, x, a, b in zip(problem.names, theta, low, high, strict=True) if x in (a, b))


def scaled_eigen(H: Array) -> tuple[Array, Array, Array]:
    """Scales that give `H` a diagonal of about one, and eigenvalues (ascending) and vectors of it scaled."""
    scale = 1 / np.sqrt(power_of_two(np.abs(np.diag(H))))
    eigenvalues, V = np.linalg.eigh(H * np.outer(scale, scale))
    return scale, eigenvalues, V


def listed(names: tuple[str, ...], theta: Array) -> str:
    """`a=1, b=2`, the first few."""
    pairs = [f"{n}={x:.6g}" for n, x in zip(names, theta, strict=True)]
    return ", ".join(pairs[:8]) + (", ..." if len(pairs) > 8 else "")
