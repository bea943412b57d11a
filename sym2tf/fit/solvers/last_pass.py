"""One more pass over all rows after mini-batches: what the residuals say about where the training has ended.

Data that are few enough for a Jacobian of all rows need none, and data that are gone allow none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, SingularProblemError
from sym2tf.fit.solvers.minibatch import NEAR
from sym2tf.fit.solvers.one_pass import IN_BLOCKS_FROM, blocks, passed, planned, solution_of
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.statement.batches import checked_batches
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import separate

Array = np.ndarray[Any, Any]


def is_for_a_pass(problem: Problem, structure: Structure) -> bool:
    """Whether the residuals are to be seen in blocks: a stream that can be repeated, or very many rows at hand."""
    if structure.residuals is None:
        return False
    if problem.stream is not None:
        return bool(problem.stream.repeatable)
    longest = max((a.shape[0] for a in problem.data.values() if a.ndim), default=1)
    return longest * (len(problem.names) + 1) >= IN_BLOCKS_FROM


def with_last_pass(problem: Problem, structure: Structure, found: Solution) -> Solution:
    """A training's end with sums of squares, condition and inverse root over all rows, by which it is judged.

    It counts as converged where it is less than a tenth of a standard error from the minimum, in every combination of
    the parameters. Where the Jacobian has not full rank, the solution is as it was.
    """
    if found.stopped not in ("", "validation"):
        return found
    try:
        own = separate(problem)
        plan = replace(planned(problem, structure, own), theta=found.theta)
        if problem.stream is not None:
            batches = checked_batches(problem, own, problem.stream.batches())
        else:
            batches = blocks(problem, own, problem.bound[own.observations])
        seen, factor, _ = passed(plan, batches)
        p = len(found.theta)
        summed = solution_of(plan, seen, factor, found.theta, factor[:p, p], found.at_bounds)
    except (ArgumentError, SingularProblemError):
        return found
    distance = _distance(factor, np.isin(problem.names, found.at_bounds), seen.squares)
    success, message = found.success, found.message
    if distance is not None and found.success:
        success = distance <= NEAR
        there = "the minimum" if success else "the minimum still: more epochs, or a learning rate that falls"
        message += f"; {distance:.2g} standard errors from {there}"
    return replace(
        found,
        success=success,
        message=message,
        condition=summed.condition,
        inverse_root=summed.inverse_root,
        sums=summed.sums,
        residual=None,
        J=None,
    )


def _distance(factor: Array, held: Array, rows: int) -> float | None:
    """The Gauss-Newton step still to go, in standard errors of the combination that it is most of; None if unknown."""
    p = len(held)
    freedom = rows - int((~held).sum())
    R = np.asarray(np.linalg.qr(np.column_stack([factor[: p + 1, :p][:, ~held], factor[: p + 1, p]]), mode="r"))
    rest = float(np.abs(R[-1, -1]))
    if freedom <= 0 or not rest or len(R) < 2:
        return None
    return float(np.linalg.norm(R[:-1, -1])) / (rest / np.sqrt(freedom))
