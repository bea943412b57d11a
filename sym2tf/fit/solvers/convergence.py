"""Why a fit has not converged, told from the cost around the point where the solver ended."""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.fit.evaluation.objective import Objective
from sym2tf.fit.statement.problem import Problem
from sym2tf.passes.degree import degrees

Array = np.ndarray[Any, Any]

ASTRAY = 1e6  # times the start (or 1, if smaller), from where a cost that keeps falling does so for ever

CORNERS = {  # name of an operation -> what the user wrote
    "abs": "Abs",
    "max": "Max",
    "min": "Min",
    "sign": "sign",
    "floor": "floor",
    "ceiling": "ceiling",
    "mod": "Mod",
}
FAR = 1e3  # times the start, from which a parameter has run away if another has vanished as much
SMOOTHER = {
    "Abs": "write sqrt(r**2 + eps) for Abs(r), or use a Huber loss",
    "Max": "write log(1 + exp(k*r))/k for Max(r, 0)",
    "Min": "write -log(1 + exp(-k*r))/k for Min(r, 0)",
}


def cause_of_failure(
    problem: Problem, objective: Objective, theta: Array, step: Array | None, singular: bool, stopped: str
) -> str:
    """Why a fit has not converged, and what to do; the first that holds of what may hold together.

    Args:
        problem: what was to be solved.
        objective: its cost.
        theta: where the solver ended.
        step: that Newton would take from there.
        singular: the Hessian is not positive definite.
        stopped: what stopped the solver: a limit of iterations, or what SciPy says; empty if it found its minimum.
    """
    if _runs_away(problem, objective, theta, step):
        meanwhile = f"{stopped} while " if stopped.startswith("the limit") else ""
        return (
            f"{meanwhile}the cost still falls as the parameters grow without end, so it has no minimum "
            "(are two classes perfectly separated? is a maximum meant, maximize=True?): add a penalty, or bounds"
        )
    ran = runaway(problem, theta)
    if ran and stopped.startswith("the limit"):
        return f"{stopped} while there seems to be no minimum: {ran}"
    corners = _corners(objective)
    if stopped.startswith("the limit"):
        text = stopped
    elif corners:
        return (
            f"the cost is not smooth ({', '.join(corners)}), so no derivatives can tell that this is a minimum: "
            + "; ".join(dict.fromkeys(SMOOTHER.get(corner, "use a smooth function instead") for corner in corners))
        )
    elif singular:
        text = (
            "the Hessian is not positive definite there, so this is no isolated minimum: "
            "fix or bound a parameter that others can replace, or try multistart=20"
        )
    else:
        text = "the solver finds no lower cost, but the step still to go is too long to call it a minimum"
        if stopped:
            text = f"the solver gave up ({stopped.rstrip('.')})"
        text += ": start elsewhere (multistart=20 does), give bounds, or write parameters so that they are of like size"
    if problem.starts_given:
        return text
    starts = ", ".join([f"{u.name}: ..." for u in problem.free[:6]])
    return f"{text}; no start values were given: give params={{{starts}}}"


def runaway(problem: Problem, theta: Array) -> str:
    """What has grown and what has gone to zero on the way, if both have: a limit of the model, which is no point of it.

    Both are told from where they began; searches only go where the cost is lower.
    """
    start = np.abs(problem.packed("initial"))
    size = np.abs(theta)
    bound = np.isfinite(problem.packed("lower")) | np.isfinite(problem.packed("upper"))
    grown = (size > FAR * np.maximum(start, 1)) & ~bound
    gone = (size > 0) & (size < np.where(start > 0, start, 1) / FAR) & ~bound
    if not (grown.any() and gone.any()):
        return ""
    more, less = (
        ", ".join([f"{n} (to {x:.3g})" for n, x, is_so in zip(problem.names, theta, which, strict=True) if is_so][:4])
        for which in (grown, gone)
    )
    return (
        f"the cost still falls as {less} goes to 0 and {more} grows. The data ask for the limit of the model there, "
        "which has fewer parameters: fit that instead, or give bounds"
    )


def _corners(objective: Objective) -> list[str]:
    """The functions with corners or steps through which the parameters enter the cost."""
    graph = objective.graph
    degree = degrees(graph, objective.wrt)
    rough = (v for v in graph.order if graph[v].op.name in CORNERS and any(degree[u] > 0 for u in graph.operands(v)))
    return list(dict.fromkeys(CORNERS[graph[v].op.name] for v in rough))


def _runs_away(problem: Problem, objective: Objective, theta: Array, step: Array | None) -> bool:
    """Whether the way on, from the start through `theta` or by Newton, leads downhill on ever flatter ground."""
    start = problem.packed("initial")
    way = theta - start
    far = np.linalg.norm(way) > ASTRAY * max(1.0, float(np.linalg.norm(start)))
    if far and _plunges(problem, objective, theta, way):
        return True
    if problem.bounded or not way.any():
        return False
    ways = [way]
    if step is not None and step.any():
        ways.append(step * (np.linalg.norm(way) / np.linalg.norm(step)))
    return any(_flattens(objective, theta, direction) for direction in ways)


def _plunges(problem: Problem, objective: Objective, theta: Array, way: Array) -> bool:
    """Whether the way, far as it has led already, goes down within the bounds for as long again."""
    end = theta + way
    if not ((problem.packed("lower") <= end) & (end <= problem.packed("upper"))).all():
        return False
    with np.errstate(all="ignore"):
        here, there = (objective.value_and_gradient(point)[0] for point in (theta, end))
    return bool(np.isfinite(there) and there < here - abs(here) / 2)


def _flattens(objective: Objective, theta: Array, direction: Array) -> bool:
    value, slope = [], []
    with np.errstate(all="ignore"):
        for reach in (0.0, 1.0, 9.0):
            f, g = objective.value_and_gradient(theta + reach * direction)
            value.append(f)
            slope.append(float(g @ direction))
    if not np.isfinite([*value, *slope]).all():
        return False
    falls = value[0] >= value[1] >= value[2] and slope[0] < 0
    return falls and abs(slope[1]) < 0.1 * abs(slope[0]) and abs(slope[2]) <= abs(slope[1])
