"""Nonlinear least squares of very many rows: Levenberg-Marquardt on products that are added up block by block.

MINPACK factors the whole Jacobian in every step. Products of its columns are enough to find the way: their rounding
makes a step a little longer or shorter, not the minimum, which is where the gradient J^T r vanishes, and that is as
exact as the residuals are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.fit.evaluation.residuals import Residuals
from sym2tf.fit.evaluation.rowwise import RowProducts
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers.linear import require_rank
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]

LARGE_FROM = 100_000
"""Rows from which products are added up; `python -m benchmarks fits` compares the fits of 10^6 and 10^7 rows."""
MOST_PARAMETERS = 50
SAMPLE = 50_000  # rows that are fitted first: a start for all of them that few steps lead away from
ILL_CONDITIONED = 1e4  # from which standard errors need more digits than products have
FIRST_DAMPING, NEAR_DAMPING, LEAST_DAMPING, LAST_DAMPING = 1e-3, 1e-8, 1e-14, 1e12
FINISHED = 1e-10  # of a step, relative to the parameter and to its standard error: it is not taken any more
CAUTION = 3.0  # times as slow as the last two steps say may be the next ones
NEAR = 1e-3  # the same for the sample
NOISE = 1e-12  # of the cost, which sums of squares cannot tell apart


def is_large(problem: Problem, structure: Structure, residuals: Residuals | None, options: Options) -> bool:
    """Whether a problem is for `solve_large`: many rows, few parameters, and nothing but squares."""
    return (
        residuals is not None
        and structure.kind == "nonlinear least squares"
        and len(residuals.rows) == 1
        and residuals.rows[0] >= LARGE_FROM
        and len(problem.names) <= MOST_PARAMETERS
        and not problem.bounded
        and not problem.constraints
        and options.method in (None, "lm")
        and options.multistart is None
        and options.strategy is None
        and options.dtype == "float64"
    )


def solve_large(
    problem: Problem, structure: Structure, residuals: Residuals, options: Options, monitor: Monitor
) -> Solution | None:
    """The minimum; None where rows depend on each other, or no minimum is found, so that others must try.

    Raises:
        SingularProblemError: the data do not determine all parameters.
    """
    assert structure.residuals is not None
    rows = RowProducts(structure.residuals, problem, residuals.relative_weights)
    if not rows.usable:
        return None
    monitor.solver = "Levenberg-Marquardt on products added up block by block"
    common = residuals.common if residuals.common is not None else 1.0
    asked = 0

    def ask(theta: Array) -> Array:
        nonlocal asked
        asked += 1
        return monitor.ask("products", theta, lambda: (rows.at(theta),), summary)[0]

    def summary(answer: tuple[Array, ...]) -> tuple[float, float]:
        G = answer[0]
        return common * float(G[-1, -1]), 2 * common * float(np.linalg.norm(G[:-1, -1]))

    start = problem.packed("initial")
    every = max(1, rows.rows // SAMPLE)
    few = RowProducts(structure.residuals, problem, residuals.relative_weights, every=every)
    near, _, first, found = _search(few.at, start, few.rows, options.max_iterations, FIRST_DAMPING, NEAR)
    begin, damping = (near, NEAR_DAMPING) if found else (start, FIRST_DAMPING)
    theta, G, steps, converged = _search(ask, begin, rows.rows, options.max_iterations, damping, FINISHED)
    steps += first
    if not converged:
        return None
    R, scale = _triangle(G)
    if R is None or np.linalg.cond(R) > ILL_CONDITIONED:
        (whole,) = monitor.ask("triangle", theta, lambda: (rows.triangle(theta),))
        R = whole[: len(theta), : len(theta)] / scale
    condition = require_rank(R, scale, problem.names)
    gradient = 2 * common * G[:-1, -1]
    return Solution(
        theta,
        "Levenberg-Marquardt on products of the symbolic Jacobian, added up over blocks of rows by all cores, because "
        f"the residuals are not linear in the parameters, and {counted(rows.rows, 'row')} are many; evaluated by NumPy",
        True,
        f"converged: the gradient norm is {np.linalg.norm(gradient):.3g} before the last step, and the way still to "
        "go is below 1e-10 of every parameter or of its standard error",
        steps,
        asked,
        gradient,
        condition,
        np.linalg.solve(R, np.eye(len(R))) / scale[:, None],
        rss=float(G[-1, -1]),
    )


def _triangle(G: Array) -> tuple[Array | None, Array]:
    """The triangular factor of the Jacobian with columns of unit length, from its products, and these lengths."""
    A = G[:-1, :-1]
    scale = np.where(np.diag(A) > 0, np.sqrt(np.diag(A)), 1.0)
    try:
        return np.linalg.cholesky(A / np.outer(scale, scale)).T, scale
    except np.linalg.LinAlgError:
        return None, scale


def _search(
    ask: Any, theta: Array, rows: int, most: int, damping: float, finished: float
) -> tuple[Array, Array, int, bool]:
    """Where Levenberg-Marquardt ends (damping by Nielsen 1999, scaling by Moré 1978), and whether at a minimum.

    The last step is taken without an evaluation: steps near a minimum shrink by the same factor each time, at least, so
    that two of them tell how far it is after the second.
    """
    G, factor, before = ask(theta), 2.0, 0.0
    p = len(theta)
    scale = np.zeros(p)
    if not np.isfinite(G).all():
        return theta, G, 0, False
    for step in range(1, most + 1):
        A, g, cost = G[:p, :p], G[:p, p], G[p, p]
        scale = np.maximum(scale, np.diag(A))
        if not (scale > 0).all():
            return theta, G, step, False
        root = np.sqrt(scale)
        scaled = A / np.outer(root, root)
        scaled[np.diag_indices(p)] += damping
        try:
            way = -np.linalg.solve(scaled, g / root) / root
        except np.linalg.LinAlgError:
            return theta, G, step, False
        spread = np.sqrt(cost / max(rows - p, 1) / scale)
        predicted = -float(way @ (2 * g + A @ way))
        length = float((np.abs(way) * (1 + damping) / (np.abs(theta) + spread)).max())
        size = float(np.linalg.norm(root * way))
        if length * (CAUTION * size / before if size * CAUTION < before else 1.0) <= finished:
            G = G.copy()
            G[p, p] -= predicted
            return theta + way, G, step, True
        there = ask(theta + way)
        # below the noise of sums of squares the slopes at both ends still tell what is gained (trapezoidal rule)
        unclear = predicted <= NOISE * cost
        gained = -float(way @ (g + there[:p, p])) if unclear else float(cost - there[p, p])
        ratio = gained / max(predicted, np.finfo(float).tiny)
        if np.isfinite(there).all() and ratio > 1e-4:
            theta, G, before = theta + way, there, size
            damping, factor = max(damping * float(np.clip(1 - (2 * ratio - 1) ** 3, 1 / 3, 2)), LEAST_DAMPING), 2.0
        else:
            damping, factor = damping * factor, 2 * factor
        if damping > LAST_DAMPING:
            return theta, G, step, False
    return theta, G, most, False
