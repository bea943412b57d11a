"""Minima under constraints: SciPy's SLSQP and trust-constr, and the last digits by Newton steps on the KKT system.

The point is judged by the conditions of Karush, Kuhn and Tucker (Nocedal, Wright, Numerical Optimization, 2006, chapter
12): the gradient is a combination of those of the constraints that hold with equality, whose multipliers are not
negative for inequalities, and no constraint is violated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.fit.evaluation.residuals import linearised
from sym2tf.fit.solvers.smooth import Scaled
from sym2tf.fit.solvers.solution import scaled_eigen
from sym2tf.fit.solvers.squares import STEP_TOLERANCE
from sym2tf.fit.solvers.task import Run, Task
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy
from sym2tf.passes.degree import degrees

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

SMALL = 1e-12  # of the scaled problem, where SLSQP ends
TIGHT = 1e-6  # of a constraint, relative to its gradient times the parameters: it may hold with equality
KKT_TOLERANCE = 1e-6  # of the gradient of the Lagrange function, where there is no Hessian
FEASIBLE = 1e-8  # of a violated constraint, in the same units
STEPS = 12
FEW, ENOUGH = 20, 200  # parameters up to which trust-constr has failed after so many iterations, unless it is asked for


@dataclass(frozen=True)
class Relations:
    """The constraints of a problem as one function.

    Attributes:
        evaluate: theta -> `(c, A)`: (m,), 0 for equalities and not negative for inequalities, and its Jacobian (m, p).
        equal: (m,), which are equalities.
        texts: (m,), as the user wrote them.
        curved: (m,), which are not linear in the parameters.
    """

    evaluate: Callable[[Array], tuple[Array, Array]]
    equal: Array
    texts: tuple[str, ...]
    curved: Array

    def hold_loosely(self, theta: Array) -> bool:
        """Whether all hold at a point, and none with equality."""
        c, A = self.evaluate(theta)
        return not self.equal.any() and bool((c > TIGHT * _sizes(A, theta)).all())


def relations_of(task: Task) -> Relations:
    """The constraints of a task."""
    functions = [linearised(c.graph, task.problem) for c in task.problem.constraints]
    start = task.problem.packed("initial")
    lengths = [len(f(start)[0]) for f in functions]

    def compute(theta: Array) -> tuple[Array, Array]:
        parts = [f(theta) for f in functions]
        return np.concatenate([c for c, _ in parts]), np.concatenate([A for _, A in parts])

    def watched(theta: Array) -> tuple[Array, Array]:
        c, A = task.monitor.ask("constraints", theta, lambda: compute(theta))
        return c, A

    kinds = [c.kind == "equality" for c in task.problem.constraints]
    texts = [
        c.text if length == 1 else f"{c.text} [{k}]"
        for c, length in zip(task.problem.constraints, lengths, strict=True)
        for k in range(length)
    ]
    curved = [_curved(c.graph, task) for c in task.problem.constraints]
    return Relations(watched, np.repeat(kinds, lengths), tuple(texts), np.repeat(curved, lengths))


def _curved(graph: Graph, task: Task) -> bool:
    free = {u.name for u in task.problem.free}
    degree = degrees(graph, [v for v in graph.inputs if graph[v].attributes["name"] in free])
    return any(degree[v] > 1 for v in graph.outputs.values())


def _sizes(A: Array, theta: Array) -> Array:
    """By how much each constraint changes, about, where the parameters change by themselves."""
    answer: Array = np.maximum(np.abs(A) @ np.maximum(np.abs(theta), 1.0), 1e-300)
    return answer


def slsqp(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `SLSQP` (Kraft 1988)."""
    scaled, relations = Scaled(task, theta), relations_of(task)
    equal = relations.equal

    def part(which: Array, kind: str) -> dict[str, Any]:
        return {
            "type": kind,
            "fun": lambda q: relations.evaluate(q * scaled.scale)[0][which],
            "jac": lambda q: relations.evaluate(q * scaled.scale)[1][which] * scaled.scale,
        }

    chosen = [part(which, kind) for which, kind in ((equal, "eq"), (~equal, "ineq")) if which.any()]
    return scaled.run(
        "SLSQP",
        {"ftol": SMALL, "maxiter": max(most, 1)},
        constraints=chosen,
        bounds=list(zip(scaled.low, scaled.high, strict=True)),
    )


def trust_constr(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `trust-constr` (Byrd, Hribar, Nocedal 1999; Lalee, Nocedal, Plantenga 1998)."""
    scaled, relations = Scaled(task, theta), relations_of(task)
    enough = most if task.options.method is not None or task.count > FEW else ENOUGH
    constraint = optimize.NonlinearConstraint(
        lambda q: relations.evaluate(q * scaled.scale)[0],
        np.zeros(len(relations.texts)),
        np.where(relations.equal, 0.0, np.inf),
        jac=lambda q: relations.evaluate(q * scaled.scale)[1] * scaled.scale,
        hess=lambda q, v: _curvature(relations, q * scaled.scale, v) * np.outer(scaled.scale, scaled.scale),
    )
    second = {"hess": scaled.hessian} if task.has_hessian else {"hess": optimize.BFGS()}
    return scaled.run(
        "trust-constr",
        {"gtol": 1e-10, "xtol": 1e-12, "maxiter": max(min(most, enough), 1)},
        constraints=[constraint],
        bounds=optimize.Bounds(scaled.low, scaled.high),
        **second,
    )


@dataclass(frozen=True)
class Optimality:
    """How a point fulfils the conditions of optimality.

    Attributes:
        left: over what is tolerated: at most 1 is a minimum.
        violation: of the worst constraint, 0 where all hold; `violated` is that one.
        active: (k, p), gradients of the constraints that hold with equality.
        multipliers: of those, by their texts.
        residual: norm of the gradient of the Lagrange function.
        change: (p,), the Newton step to the solution of the KKT system; None where there is no Hessian or no minimum.
    """

    left: float
    violation: float
    violated: str
    active: Array
    multipliers: dict[str, float]
    residual: float
    change: Array | None


def optimality(task: Task, relations: Relations, theta: Array) -> Optimality:
    """The conditions of Karush, Kuhn and Tucker at a point, among the parameters that no bound stops."""
    c, A = relations.evaluate(theta)
    gradient = task.gradient(theta)
    size = _sizes(A, theta)
    short = np.where(relations.equal, np.abs(c), np.maximum(-c, 0.0)) / size
    worst = int(np.argmax(short))
    held = relations.equal | (c <= TIGHT * size)
    free, multipliers, held = _multipliers(task, theta, gradient, A, held, relations.equal)
    lagrange = gradient - A[held].T @ multipliers[held]
    residual = float(np.linalg.norm(lagrange[free]))
    change = _kkt_step(task, relations, theta, A, c, held, multipliers, free, lagrange)
    if change is None:
        scale = np.abs(gradient) + np.abs(A[held].T) @ np.abs(multipliers[held]) + abs(task.cost(theta))
        left = float((np.abs(lagrange) / np.maximum(KKT_TOLERANCE * scale, 1e-300))[free].max(initial=0))
        left = left if not task.has_hessian else np.inf
    else:
        allowed = STEP_TOLERANCE * np.maximum(np.abs(theta), np.abs(theta).max() * 1e-3 + 1e-8)
        left = float((np.abs(change) / allowed).max())
    left = max(left, float(short.max(initial=0)) / FEASIBLE)
    named = {relations.texts[k]: float(multipliers[k]) for k in np.flatnonzero(held)}
    violated = relations.texts[worst] if short[worst] > FEASIBLE else ""
    return Optimality(left, float(np.abs(c[worst])) if violated else 0.0, violated, A[held], named, residual, change)


def _multipliers(
    task: Task, theta: Array, gradient: Array, A: Array, held: Array, equal: Array
) -> tuple[Array, Array, Array]:
    """The parameters that no bound stops, all multipliers (0 for what is not held), and the constraints that are held.

    An inequality with a negative multiplier does not hold the minimum up, so it is dropped, the worst first.
    """
    held = held.copy()
    while True:
        multipliers = np.zeros(len(held))
        free = ~((theta <= task.low) | (theta >= task.high))
        if held.any() and free.any():
            multipliers[held] = np.linalg.lstsq(A[held][:, free].T, gradient[free], rcond=1e-12)[0]
        wrong = held & ~equal & (multipliers < 0)
        if not wrong.any():
            lagrange = gradient - A.T @ multipliers
            return free | ~task.active(theta, lagrange), multipliers, held
        held[int(np.argmin(np.where(wrong, multipliers, np.inf)))] = False


def _kkt_step(
    task: Task,
    relations: Relations,
    theta: Array,
    A: Array,
    c: Array,
    held: Array,
    multipliers: Array,
    free: Array,
    lagrange: Array,
) -> Array | None:
    """The Newton step of the KKT system; None where there is no Hessian, or where this is no isolated minimum."""
    if not task.has_hessian:
        return None
    H = task.objective.hessian(theta) - _curvature(relations, theta, multipliers)
    if not np.isfinite(H).all():
        return None
    change = np.zeros(len(theta))
    if not free.any():
        return change
    H, rows = H[np.ix_(free, free)], A[held][:, free]
    normal = -np.linalg.lstsq(rows, c[held], rcond=1e-12)[0] if held.any() else np.zeros(int(free.sum()))
    _, values, V = np.linalg.svd(rows, full_matrices=True) if held.any() else (0, np.zeros(0), np.eye(len(H)))
    rank = int((values > 1e-12 * values.max(initial=0)).sum())
    Z = V[rank:].T
    if Z.shape[1]:
        scale, eigenvalues, W = scaled_eigen(Z.T @ H @ Z)
        if eigenvalues[0] <= 32 * np.finfo(float).eps * len(H) * eigenvalues[-1]:
            return None
        slope = Z.T @ (lagrange[free] + H @ normal)
        normal = normal - Z @ (scale * (W @ ((W.T @ (scale * slope)) / eigenvalues)))
    change[free] = normal
    return change


def _curvature(relations: Relations, theta: Array, multipliers: Array) -> Array:
    """The second derivatives of the constraints (p, p), times their multipliers (m,); differences of gradients."""
    p = len(theta)
    H = np.zeros((p, p))
    if not (multipliers * relations.curved).any():
        return H
    for k in range(p):
        h = 1e-6 * max(abs(theta[k]), 1.0)
        after, before = (relations.evaluate(theta + sign * h * np.eye(p)[k])[1] for sign in (1, -1))
        H[k] = multipliers @ (after - before) / (2 * h)
    return 0.5 * (H + H.T)


def polished(task: Task, relations: Relations, theta: Array, most: int) -> tuple[Array, int, Optimality]:
    """Newton steps on the KKT system while it gets closer to being fulfilled."""
    found, steps = optimality(task, relations, theta), 0
    while steps < min(STEPS, most) and found.change is not None and found.left > 1e-8:
        candidate = np.clip(theta + found.change, task.low, task.high)
        following = optimality(task, relations, candidate)
        if not following.left < found.left:
            break
        theta, found, steps = candidate, following, steps + 1
    return theta, steps, found
