"""From a start to a minimum: a search, its last digits, others where it fails, and what is to be said about the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sym2tf.errors import FitError, SingularProblemError
from sym2tf.fit.evaluation.nonfinite import explain
from sym2tf.fit.evaluation.norms import length_of
from sym2tf.fit.solvers.constrained import Optimality, optimality, polished, relations_of
from sym2tf.fit.solvers.convergence import cause_of_failure, runaway
from sym2tf.fit.solvers.linear import power_of_two, require_rank, undetermined
from sym2tf.fit.solvers.newton import flat_directions, gradient_left, newton_step, off_a_saddle, polish, remaining
from sym2tf.fit.solvers.solution import Solution, listed
from sym2tf.fit.solvers.squares import NOISE, gauss_newton, lengths_of
from sym2tf.fit.solvers.task import Run, Task
from sym2tf.fit.wording import counted

Array = np.ndarray[Any, Any]
Search = Callable[[Task, Array, int], Run]

ROUNDS = 6  # searches, each with scales taken where the last one ended
LOWER = 1e-6  # relative, by which another search from the start must do better where neither has converged
BESIDE = 1e-5  # from a bound, relative: interior methods end there instead of on it
ORTHOGONAL, BALANCED, VANISHED = 1e-6, 1e-5, 1e-10  # relative: the gradient of squares is 0, or could be
ROUNDING = 1e-15  # of the residuals at the start: what may be left of them by rounding alone


@dataclass(frozen=True)
class End:
    """Where the way from one start has ended.

    Attributes:
        theta: flat.
        iterations: of all searches and steps.
        left: of the step (or gradient) still to go, over what is tolerated: at most 1 is converged.
        said, status: what the last search says about itself.
        newton: Newton steps with the Hessian were taken.
        searches: how many of those that were offered were needed.
        optimality: how it fulfils the constraints, where there are any.
        inverse_root: of the Jacobian of residuals there, and its condition number, where they are known.
        loose: it was found without the constraints, which hold there.
    """

    theta: Array
    iterations: int
    left: float
    said: str
    status: bool
    newton: bool
    searches: int = 1
    optimality: Optimality | None = None
    inverse_root: tuple[Array, float] | None = None
    loose: bool = False


def require_start(task: Task, theta: Array) -> None:
    """Check that the cost and its gradient are finite where the search begins.

    Raises:
        FitError: they are not.
    """
    value, gradient = task.cost(theta), task.gradient(theta)
    if np.isfinite(value) and np.isfinite(gradient).all():
        return
    what = f"the cost is {value}" if not np.isfinite(value) else "the gradient of the cost is not finite"
    because = explain(task.problem, theta)
    raise FitError(
        f"{what} at the start values {listed(task.problem.names, theta)}{because and f', because {because}'}: "
        "choose other ones with params={...}"
    )


def descend(task: Task, first: Search, others: Callable[[], Sequence[Search]], theta: Array) -> End:
    """The minimum that a search finds, or others where it fails; the last one is repeated while it gets on.

    Args:
        task: what is to be solved.
        first: the search that begins at the start.
        others: those to go on with; the last of all begins at the best point so far, those between at the start again.
        theta: the start, at which the cost is finite.
    """
    most = task.options.max_iterations
    noise = ROUNDING * float(np.linalg.norm(task.residual(theta))) if task.squares else 0.0
    start, end = theta, End(theta, 0, np.inf, "", True, False, 0)
    searches = [first]
    for number in range(ROUNDS):
        if number == 1:
            searches += others()
        search = searches[min(number, len(searches) - 1)]
        last = number >= len(searches) - 1
        begin = end.theta if last else start
        run = search(task, begin, most - end.iterations)
        if not task.constrained and not task.cost(run.theta) <= task.cost(begin):
            run = replace(run, theta=begin)
        found = _settled(task, run, end, noise, most)
        cost, least = task.cost(found.theta), task.cost(end.theta)
        better = found.left < end.left if task.constrained else cost <= least - (not last) * LOWER * abs(least)
        if found.left <= 1 or better or end.searches == 0:
            end = replace(found, searches=min(number + 1, len(searches)))
        else:
            end = replace(end, iterations=found.iterations, searches=min(number + 1, len(searches)))
        if end.left <= 1 or end.iterations >= most:
            break
        loose = not task.bounded and not task.constrained
        aside = off_a_saddle(task, end.theta) if last and loose and task.has_hessian else None
        if aside is not None:
            end = replace(end, theta=aside, inverse_root=None)
        elif last and np.array_equal(begin, end.theta):
            break
    return end


def descend_loosely(task: Task, search: Search, theta: Array) -> End | None:
    """A minimum that is found without the constraints, if it is one with them too; None if it is not.

    Args:
        task: with constraints.
        search: of one that has none.
        theta: the start.
    """
    relations = relations_of(task)
    if relations.equal.any():
        return None
    try:
        with task.without_constraints():
            end = descend(task, search, list, theta)
    except FitError:
        return None
    if not (end.left <= 1 and relations.hold_loosely(end.theta)):
        return None
    return replace(end, optimality=optimality(task, relations, end.theta), loose=True)


def _settled(task: Task, run: Run, before: End, noise: float, most: int) -> End:
    """The last digits of what a search has found, and how far it is from converged."""
    if task.constrained:
        iterations = before.iterations + run.iterations
        theta, steps, found = polished(task, relations_of(task), _onto_bounds(task, run.theta), most - iterations)
        newton = before.newton or steps > 0
        return End(theta, iterations + steps, found.left, run.said, run.success, newton, optimality=found)
    theta, iterations = _onto_bounds(task, run.theta), before.iterations + run.iterations
    if task.squares:
        finish = gauss_newton(task, theta, max(most - iterations, 0), noise)
        theta, iterations = finish.theta, iterations + finish.steps
        left = np.inf if finish.singular else finish.left
        moved = not np.array_equal(theta, before.theta)
        if left <= 1 and moved and not finish.slow:
            known = finish.inverse_root
            return End(theta, iterations, left, run.said, run.success, before.newton, inverse_root=known)
    if not task.has_hessian:
        left = min(left, remaining(task, theta)) if task.squares else remaining(task, theta)
        return End(theta, iterations, left, run.said, run.success, before.newton)
    theta, steps = polish(task, theta, max(most - iterations, 0))
    return End(theta, iterations + steps, remaining(task, theta), run.said, run.success, before.newton or steps > 0)


def _onto_bounds(task: Task, theta: Array) -> Array:
    """Parameters that a search has left just inside a bound, towards which the cost falls, on it."""
    if not task.bounded:
        return theta
    theta = np.clip(theta, task.low, task.high)
    g = task.gradient(theta)
    near = BESIDE * np.maximum(np.abs(theta), 1.0)
    low, high = (theta - task.low <= near) & (g > 0), (task.high - theta <= near) & (g < 0)
    moved: Array = np.where(low, task.low, np.where(high, task.high, theta))
    cost = task.cost(theta)
    return moved if task.cost(moved) <= cost + NOISE * abs(cost) else theta  # one ulp from a bound costs are noise


def solution(task: Task, end: End, solver: str) -> Solution:
    """What is to be said about the end of a descent.

    Raises:
        SingularProblemError: there is a flat valley; names the combinations that are not determined.
    """
    theta, problem = end.theta, task.problem
    gradient = task.gradient(theta)
    active = task.active(theta, gradient) if task.bounded else np.zeros(len(theta), bool)
    norm = length_of(gradient[~active])
    kkt = end.optimality
    if kkt is not None:
        norm = kkt.residual
    if end.left > 1 and end.iterations < task.options.max_iterations:
        _require_isolated(task, end, ~active)
    squares = task.squares
    return Solution(
        theta,
        solver,
        end.left <= 1,
        _message(task, end, norm),
        end.iterations,
        task.evaluations,
        gradient,
        None if squares else _condition(task, theta),
        residual=task.values(theta) if squares else None,
        J=task.jacobian(theta) if squares else None,
        at_bounds=tuple(n for n, a in zip(problem.names, active, strict=True) if a),
        hessian=task.hessian_at(theta) if not squares or task.options.likelihood else None,
        active=kkt.active if kkt is not None and len(kkt.active) else None,
        multipliers={} if kkt is None else kkt.multipliers,
        linearised=end.inverse_root if squares and task.unit == 1 else None,
    )


def _condition(task: Task, theta: Array) -> float | None:
    step = newton_step(task, theta) if task.has_hessian else None
    return None if step is None else step.condition


def _message(task: Task, end: End, norm: float) -> str:
    kkt = end.optimality
    if kkt is not None and kkt.violated:
        return (
            f"not converged after {counted(end.iterations, 'iteration')}: the constraint {kkt.violated} is violated by "
            f"{kkt.violation:.3g}. If the constraints can be met together, start where they are"
        )
    if end.left <= 1 and kkt is not None:
        held = ", ".join(f"{text} (multiplier {value:.6g})" for text, value in kkt.multipliers.items())
        return (
            f"converged: the gradient of the Lagrange function has the norm {norm:.3g}; "
            f"{'with equality hold ' + held if held else 'no constraint holds with equality'}"
        )
    if end.left <= 1:
        text = f"converged: the gradient norm is {norm:.3g}"
        if task.squares or task.has_hessian:
            kind = "Newton" if end.newton or not task.squares else "Gauss-Newton"
            text += f", and the {kind} step still to go is below 1e-7 of every parameter or of its scale"
        return text
    most = task.options.max_iterations
    stopped = "" if end.status else end.said
    if end.iterations >= most:
        stopped = f"the limit of iterations is reached (max_iterations={most})"
    step = newton_step(task, end.theta) if task.has_hessian else None
    way = None if step is None else step.change
    cause = cause_of_failure(task.problem, task.objective, end.theta, way, task.has_hessian and step is None, stopped)
    return f"not converged after {counted(end.iterations, 'iteration')}: {cause} (gradient norm {norm:.3g})"


def _require_isolated(task: Task, end: End, free: Array) -> None:
    """Refuse the bottom of a valley: a Jacobian without full rank where the gradient vanishes, or a flat Hessian.

    The gradients of constraints that hold with equality count as rows of the Jacobian.

    Raises:
        FitError: the search has run away.
        SingularProblemError: names what the data do not determine there.
    """
    theta, kkt = end.theta, end.optimality
    names = tuple(n for n, f in zip(task.problem.names, free, strict=True) if f)
    where = f"at {listed(task.problem.names, theta)}"
    try:
        if task.squares:
            r, J = task.residual(theta), task.design(theta)[:, free]
            stationary = _is_stationary(task, r, J, kkt)
            if kkt is not None:
                J = np.concatenate([J, kkt.active[:, free]])
            if names and np.isfinite(J).all() and stationary:
                scale = power_of_two(lengths_of(J))
                require_rank(np.atleast_2d(np.linalg.qr(J / scale, mode="r")), scale, names)
        elif kkt is None and task.has_hessian and gradient_left(task, theta) <= 1:
            flat = flat_directions(task, theta)
            if flat is not None:
                raise SingularProblemError(undetermined(*flat, task.problem.names))
    except SingularProblemError as error:
        ran = runaway(task.problem, theta)
        if ran:
            raise FitError(f"there is no minimum: {ran}") from None
        raise SingularProblemError(
            f"{where}, where the search ended: {error}. If that is far from what you expect, start elsewhere: "
            "params={...}, or multistart=20"
        ) from None


def _is_stationary(task: Task, r: Array, J: Array, kkt: Optimality | None) -> bool:
    """Whether residuals are orthogonal to the columns of their Jacobian, or vanish, or constraints balance them."""
    length = np.linalg.norm(r)
    if kkt is not None:
        return not kkt.violated and bool(kkt.residual <= BALANCED * 2 * task.factor * length * np.linalg.norm(J))
    if length <= VANISHED * np.linalg.norm(task.residual(task.problem.packed("initial"))):
        return True
    return bool((np.abs(J.T @ r) <= ORTHOGONAL * length * lengths_of(J)).all())
