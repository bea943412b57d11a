"""Linear least squares in one pass over batches of rows, in memory that does not grow with their number.

The batches come from a stream, or are slices of data at hand that are too many for a Jacobian of all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, DataError, FitWarning, ShapeError, SubscriptError, warn
from sym2tf.fit.evaluation.blocks import Run, Squares, nothing, running, squares_of
from sym2tf.fit.options import Options
from sym2tf.fit.solvers.linear import STEPS_AT_BOUNDS, WARNED_FOR, power_of_two, require_rank
from sym2tf.fit.solvers.solution import Solution, Sums, at_bounds
from sym2tf.fit.solvers.triangle import absorbed
from sym2tf.fit.statement.batches import checked_batches
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import Separable, separate
from sym2tf.fit.wording import counted
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.subgraphs import extract
from sym2tf.lazy import lazy
from sym2tf.ops.leaves import iota

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

IN_BLOCKS_FROM = 5_000_000
"""Rows x (parameters + 1) from which data at hand are gone through in blocks. Their Jacobian would take 40 MB, and
several times that while it is factored."""
BLOCK = 100_000  # rows of data at hand that are evaluated at once
SPANNED = 1e-13  # the squared distance, per row, of a constant from the span of the columns, from which it is one


@dataclass(frozen=True)
class Seen:
    """What is left of the rows that have been seen.

    Attributes:
        factor: (p + 2, p + 2), triangular, of the rows `[J | r | 1]`, each times the root of its weight.
        rows: of the data.
        squares: how many there are with a weight that is not zero.
        weight, mean, spread: of what is observed: the sum of the weights, the mean, the squares about it.
        log_weights: the sum of the logarithms of the weights.
        constant: what the cost adds to the squares.
        roots: the least and the largest root of a weight that is not zero.
        penalised: squares that are none of observations were added.
    """

    factor: Array
    rows: int = 0
    squares: int = 0
    weight: float = 0.0
    mean: float = 0.0
    spread: float = 0.0
    log_weights: float = 0.0
    constant: float = 0.0
    roots: tuple[float, float] = (np.inf, 0.0)
    penalised: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be computed for every batch.

    Attributes:
        problem, own: whose cost it is.
        data, rest: its squares that depend on observations, and others.
        weighted: rows do not all have the same weight.
        total: why there is no sum of squares about the mean; empty if there is one.
        observed: what is observed, where the model is known.
        sides: that and the model.
        guess: the number of rows for which weights are computed until the true one is known.
        theta: where the residuals are linearised.
    """

    problem: Problem
    own: Separable
    data: Squares
    rest: Squares
    weighted: bool
    total: str
    observed: Run
    sides: Run
    guess: int
    theta: Array

    def at(self, batch: Mapping[str, Array], total: int) -> tuple[dict[str, Array], dict[str, int]]:
        """Inputs and sizes, for a batch of so many rows in all: a mean is one over all of them."""
        problem = self.problem
        values = problem.unpacked(self.theta)
        inputs = {**problem.data, **batch, **problem.fixed, **values, self.own.total: np.asarray(total)}
        return inputs, {**problem.bound, self.own.observations: self.own.number(batch)}


def is_one_pass(problem: Problem, structure: Structure, options: Options) -> bool:
    """Whether rows are to be seen once and not kept: a linear problem whose data are a stream, or very many."""
    if structure.kind != "linear least squares" or options.method not in (None, "qr"):
        return False
    if problem.constraints or problem.batch or options.batch_size is not None:
        return False
    longest = max((a.shape[0] for a in problem.data.values() if a.ndim), default=1)
    many = longest * (len(problem.names) + 1) >= IN_BLOCKS_FROM
    return problem.stream is not None or (many and _separated(problem) is not None)


def solve_in_one_pass(problem: Problem, structure: Structure) -> Solution:
    """The minimum over all rows, of which some at a time are in memory.

    Args:
        problem: with a stream, and stated for its first batch; or with data at hand, whose rows are gone through in
            blocks.
        structure: residuals linear in the parameters.

    Raises:
        ArgumentError: the cost is no sum over the rows.
        DataError: a batch that is not like the first, with its number; fewer rows than parameters.
        SingularProblemError: the data do not determine all parameters; names the combinations.
        FitError: the model is not defined at some data.
    """
    own = separate(problem)
    if problem.stream is not None:
        batches = checked_batches(problem, own, problem.stream.batches())
        return _solved(problem, structure, own, batches, "the data come in batches")
    count = problem.bound[own.observations]
    return _solved(problem, structure, own, blocks(problem, own, count), f"{count} rows are many for one matrix")


def _separated(problem: Problem) -> Separable | None:
    try:
        return separate(problem)
    except ArgumentError:
        return None


def blocks(problem: Problem, own: Separable, count: int) -> Iterator[Mapping[str, Array]]:
    """Data at hand, some rows at a time."""
    for start in range(0, count, BLOCK):
        yield own.rows_of(problem.data, slice(start, min(start + BLOCK, count)))


def _solved(
    problem: Problem, structure: Structure, own: Separable, batches: Iterator[Mapping[str, Array]], why: str
) -> Solution:
    plan = planned(problem, structure, own)
    seen, factor, number = passed(plan, batches)
    batched = counted(number, "batch", "batches")
    described = f"QR factorisation of one batch of rows after the other (one pass, {seen.rows} rows in {batched})"
    because = "because the cost is a sum of squares of residuals linear in the parameters and"
    return _minimum(plan, seen, factor, f"{described}, {because} {why}")


def planned(problem: Problem, structure: Structure, own: Separable) -> Plan:
    """What a pass computes, with the residuals linearised at theta = 0.

    Raises:
        DataError: the cost uses the numbers of rows, and the first batch has one row.
    """
    if problem.stream is not None and own.number(problem.data) == 1 and own.rows is None and _numbered(problem, own):
        raise DataError("the cost uses the numbers of rows, which a first batch of one row does not show: lengthen it")
    data, rest = squares_of(problem, own, "data"), squares_of(problem, own, "rest")
    weighted = not (data.alike and data.blocks == 1 and not rest.blocks)
    model = structure.model
    graph = None if model is None else extract(model.graph, {"observed": model.graph.outputs["observed"]})
    return Plan(
        problem,
        own,
        data,
        rest,
        weighted,
        _no_total(structure, data, rest),
        nothing if graph is None else running(graph),
        nothing if model is None else running(model.graph),
        own.number(problem.data),
        np.zeros(len(problem.names)),
    )


def passed(plan: Plan, batches: Iterator[Mapping[str, Array]]) -> tuple[Seen, Array, int]:
    """What is left of all rows, the factor of the whole cost, and the number of batches."""
    m = plan.data.count + 2
    seen, number = Seen(np.zeros((m, m))), 0
    batch: Mapping[str, Array] = {}
    for number, batch in enumerate(batches, 1):
        seen = _with_batch(plan, seen, batch, f"batch {number - 1}, from row {seen.rows}")
    if not seen.rows:
        raise DataError("data hold no rows")
    seen, factor = _finished(plan, seen, batch)
    if seen.squares < plan.data.count:
        raise DataError(
            f"{counted(plan.data.count, 'parameter')} but only {counted(seen.squares, 'observation')}: too few to "
            f"determine the parameters{plan.problem.hint}"
        )
    return seen, factor, number


def _numbered(problem: Problem, own: Separable) -> bool:
    graph, length = problem.graph, size_symbol(own.observations)
    return any(graph[v].op is iota and graph[v].attributes["size"] == length for v in graph.order)


def _with_batch(plan: Plan, seen: Seen, batch: Mapping[str, Array], where: str) -> Seen:
    inputs, sizes = plan.at(batch, plan.guess)
    try:
        block = plan.data.block(inputs, sizes, weighted=plan.weighted, where=where)
        constant = 0.0 if plan.data.constant is None else float(plan.data.constant(inputs, sizes)["out"])
    except (ShapeError, SubscriptError) as error:
        raise DataError(f"{where}: {error}") from error
    one = block[:, -1]
    used, (least, most) = one[one > 0], seen.roots
    observed = {} if plan.total else _observed(plan, inputs, sizes, one, seen)
    return replace(
        seen,
        factor=absorbed(seen.factor, block),
        rows=seen.rows + plan.own.number(batch),
        squares=seen.squares + used.size,
        log_weights=seen.log_weights + (2 * float(np.log(used).sum()) if plan.weighted else 0.0),
        constant=seen.constant + constant,
        roots=(min(least, float(used.min(initial=np.inf))), max(most, float(used.max(initial=0.0)))),
        **observed,
    )


def _observed(
    plan: Plan, inputs: Mapping[str, Array], sizes: Mapping[str, int], root: Array, seen: Seen
) -> dict[str, Any]:
    """Weight, mean and squares about it with more rows: Chan, Golub, LeVeque, The American Statistician 37 (1983)."""
    y = plan.observed(inputs, sizes)["observed"].ravel()
    if y.size != root.size:  # it is broadcast against the model
        found = plan.sides(inputs, sizes)
        y = np.broadcast_arrays(found["observed"], found["model"])[0].ravel()
    w = np.square(root)
    weight = float(w.sum())
    mean = float((w * y).sum()) / weight if weight else 0.0
    spread = float((w * np.square(y - mean)).sum())
    both = seen.weight + weight
    if not both:
        return {}
    shift = mean - seen.mean
    return {
        "weight": both,
        "mean": seen.mean + shift * weight / both,
        "spread": seen.spread + spread + shift**2 * seen.weight * weight / both,
    }


def _finished(plan: Plan, seen: Seen, batch: Mapping[str, Array]) -> tuple[Seen, Array]:
    """With the true number of rows in the weights, and with what stands beside the sum over the rows."""
    before, after = (plan.data.weight(*plan.at(batch, total), where="the data") for total in (plan.guess, seen.rows))
    used = before > 0
    ratios = after[used] / before[used]
    ratio = float(ratios[0]) if ratios.size else 1.0
    if not np.allclose(ratios, ratio, rtol=1e-12, atol=0):
        raise ArgumentError(
            "the number of rows changes the weights of the squares relative to each other, and it is known only when "
            "all have been seen: state the cost without it"
        )
    factor = seen.factor * np.sqrt(ratio) if plan.weighted else seen.factor
    seen = replace(seen, constant=seen.constant * ratio)
    if plan.weighted:
        logs = seen.log_weights + seen.squares * float(np.log(ratio))
        seen = replace(seen, spread=seen.spread * ratio, log_weights=logs)
    inputs, sizes = plan.at(batch, seen.rows)
    if plan.rest.constant is not None:
        seen = replace(seen, constant=seen.constant + float(plan.rest.constant(inputs, sizes)["out"]))
    if plan.rest.blocks:
        block = plan.rest.block(inputs, sizes, weighted=True, where="what is added to the sum over the rows")
        factor = absorbed(factor, block)
        added = int(np.count_nonzero(block[:, -1]))
        seen = replace(seen, squares=seen.squares + added, penalised=added > 0)
    return replace(seen, weight=1.0 if plan.weighted else float(after[0])), factor


def _minimum(plan: Plan, seen: Seen, factor: Array, solver: str) -> Solution:
    """The minimum of a linear problem, from its factor at theta = 0."""
    problem, p = plan.problem, plan.data.count
    R, q = factor[:p, :p], factor[:p, p]
    scale, unit = power_of_two(np.abs(R).max(axis=0, initial=0)), power_of_two(np.abs(factor[:, p]).max())
    require_rank(R / scale, scale, problem.names)
    theta = -np.linalg.solve(R / scale, q / unit) * (unit / scale)
    low, high = problem.packed("lower"), problem.packed("upper")
    stopped: tuple[str, ...] = ()
    if ((theta < low) | (theta > high)).any():
        bounds = low * scale / unit, high * scale / unit
        found = optimize.lsq_linear(R / scale, -q / unit, bounds, "bvls", tol=1e-14, max_iter=STEPS_AT_BOUNDS)
        theta = np.clip(found.x * (unit / scale), low, high)
        stopped = at_bounds(problem, theta)
        because = "because a bound excludes the free minimum"
        solver = f"bounded least squares (scipy.optimize.lsq_linear), {because}; {solver}"
    solution = solution_of(plan, seen, factor, theta, R @ theta + q, stopped)
    return replace(solution, solver=solver, message="solved in one pass")


def solution_of(plan: Plan, seen: Seen, factor: Array, theta: Array, left: Array, stopped: tuple[str, ...]) -> Solution:
    """Everything about a minimum.

    Args:
        plan: of the pass.
        seen: in it.
        factor: of the whole cost.
        theta: the minimum.
        left: (p,), of the residuals there the part in the span of their derivatives.
        stopped: the parameters that a bound stops.
    """
    p = plan.data.count
    R = factor[:p, :p]
    scale = power_of_two(np.abs(R).max(axis=0, initial=0))
    condition = require_rank(R / scale, scale, plan.problem.names)
    if condition * np.finfo(float).eps > WARNED_FOR:
        warn(FitWarning, f"the condition number {condition:.2g} leaves few digits of the estimates")
    F = np.linalg.solve(R / scale, np.eye(p)) / scale[:, None]
    rss = float(left @ left) + float(factor[p, p]) ** 2
    reason = _reason(plan, factor)
    least, most = seen.roots
    unlike = plan.data.blocks > 1 and not plan.problem.equations and least != most
    sums = Sums(
        rss, seen.squares, None if reason else seen.spread, reason, seen.weight * rss + seen.constant,
        seen.penalised or unlike, seen.weight, seen.log_weights,
    )  # fmt: skip
    return Solution(
        theta, "", True, "", 1, 1, 2 * seen.weight * (R.T @ left), condition,
        None if stopped else F, at_bounds=stopped, sums=sums,
    )  # fmt: skip


def _reason(plan: Plan, factor: Array) -> str:
    """Why there is no R2."""
    p = plan.data.count
    distance = np.square(factor[p:, p + 1]).sum()
    if plan.total or distance <= SPANNED * np.square(factor[:, p + 1]).sum():
        return plan.total
    return "the model cannot move by a constant (it has no intercept)"


def _no_total(structure: Structure, data: Squares, rest: Squares) -> str:
    if structure.model is None:
        return structure.no_model
    return "the cost adds several sums of squares" if data.blocks + rest.blocks > 1 else ""
