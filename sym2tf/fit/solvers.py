"""From the structure of a problem to the solver that it asks for, or to why another one does not fit it.

The table `SOLVERS` is in order of preference: a problem is given to the first that fits it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sym2tf.errors import ArgumentError, FitError
from sym2tf.fit import varpro
from sym2tf.fit.classify import Structure
from sym2tf.fit.descent import Search, descend, require_start, solution
from sym2tf.fit.direct import solve_linear, solve_quadratic
from sym2tf.fit.iterative import l_bfgs_b, trust_exact, trust_krylov
from sym2tf.fit.minibatch import is_stochastic, solve_minibatch
from sym2tf.fit.monitor import Monitor
from sym2tf.fit.options import Options
from sym2tf.fit.residuals import Residuals
from sym2tf.fit.solution import Solution
from sym2tf.fit.squares import levenberg_marquardt, trust_region_reflective
from sym2tf.fit.statement import Problem
from sym2tf.fit.task import KRYLOV_LIMIT, Task

Words = Callable[[Task], str]


@dataclass(frozen=True)
class Solver:
    """A row of the table.

    Attributes:
        method: its name for `method=`.
        title: its name in a result.
        search: what it does from a start.
        unfit: why it cannot solve a problem; empty if it can.
        reason: why it is chosen for a problem that it can solve; empty where another one is better.
    """

    method: str
    title: str
    search: Search
    unfit: Words
    reason: Words


def _not_squares(task: Task) -> str:
    if task.residuals is None:
        return "the cost is no sum of squares"
    return "" if task.squares else "the Jacobian of so many residuals is too large"


def _bounded(task: Task) -> str:
    return "the parameters have bounds, which it does not know" if task.bounded else ""


def _few(task: Task) -> str:
    return (
        "" if task.has_hessian else f"no Hessian is formed for {task.count} parameters and {task.size} numbers of data"
    )


def _first(*checks: Words) -> Words:
    """The first reason that one of `checks` gives."""
    return lambda task: next((said for check in checks if (said := check(task))), "")


def _squares_because(task: Task) -> str:
    return "the cost is a sum of squares of residuals that are not linear in the parameters"


def _smooth_because(task: Task) -> str:
    return f"the cost is smooth, not quadratic, and has {task.count} parameters"


def _krylov_because(task: Task) -> str:
    if task.engine == "TensorFlow" or task.count > KRYLOV_LIMIT:
        return ""
    return f"the cost is smooth and {task.count} parameters are many for a Hessian, not for its products with vectors"


def _many_because(task: Task) -> str:
    return "there are bounds" if task.bounded else f"{task.count} parameters are many for a Hessian"


def _never(task: Task) -> str:
    return ""


SOLVERS = (
    Solver(
        "lm",
        "Levenberg-Marquardt (MINPACK, through SciPy) with the symbolic Jacobian",
        levenberg_marquardt,
        _first(_not_squares, _bounded),
        _squares_because,
    ),
    Solver(
        "trf",
        "trust region reflective (SciPy's least_squares) with the symbolic Jacobian",
        trust_region_reflective,
        _not_squares,
        lambda task: f"{_squares_because(task)}, which have bounds",
    ),
    Solver(
        "varpro",
        "variable projection (through SciPy's least_squares) with the symbolic Jacobian",
        varpro.variable_projection,
        _first(_not_squares, varpro.why_not),
        _never,
    ),
    Solver(
        "trust-exact",
        "trust region with the symbolic Hessian (SciPy's trust-exact)",
        trust_exact,
        _first(_bounded, _few),
        _smooth_because,
    ),
    Solver(
        "trust-krylov",
        "trust region with products of the symbolic Hessian with vectors (SciPy's trust-krylov)",
        trust_krylov,
        _first(_bounded, lambda task: "" if task.has_product else "the cost has no second derivative"),
        _krylov_because,
    ),
    Solver("l-bfgs-b", "L-BFGS-B (SciPy) with the symbolic gradient", l_bfgs_b, _never, _many_because),
)
RESORTS = ("varpro", "trust-exact", "l-bfgs-b")  # where the solver of a sum of squares fails
DIRECT = {  # what solves in one step -> of what
    "qr": "sums of squares of residuals that are linear in the parameters",
    "exact": "sums of squares of residuals that are linear in the parameters",
    "newton": "costs that are quadratic in the parameters",
}


def solve(
    problem: Problem, structure: Structure, residuals: Residuals | None, options: Options, monitor: Monitor
) -> Solution:
    """The minimum, by the solver that the structure or `method=` asks for.

    Bounds that nobody stated, but that symbols imply that are declared positive, hold only if the minimum without them
    violates them, or none is found.

    Raises:
        ArgumentError: `method` is no solver, or does not fit the problem; says why.
        FitError: the cost is not finite at the start, or has no minimum.
        SingularProblemError: the data do not determine all parameters.
    """
    if is_stochastic(options):
        return solve_minibatch(problem, residuals, options, monitor)
    direct = _directly(problem, structure, residuals, options, monitor)
    if direct is not None:
        return direct
    loose = any(getattr(u, "implied", False) for u in problem.free)
    free = Task(problem, structure, residuals, options, monitor, implied=not loose)
    if not loose:
        return _iteratively(free)
    low, high = problem.packed("lower"), problem.packed("upper")
    try:
        found = _iteratively(free)
    except FitError:
        found = None
    if found is not None and found.success and ((found.theta >= low) & (found.theta <= high)).all():
        return found
    bound = _iteratively(Task(problem, structure, residuals, options, monitor))
    why = "left the range for which its symbols are declared" if found is not None else "failed"
    return replace(bound, solver=f"{bound.solver}; a first attempt without the bounds of declared signs {why}")


def _directly(
    problem: Problem, structure: Structure, residuals: Residuals | None, options: Options, monitor: Monitor
) -> Solution | None:
    """The minimum of a quadratic cost in one step; None where there is no such step, or another method is asked for."""
    method = options.method
    linear = structure.kind == "linear least squares" and residuals is not None
    if method not in (None, *DIRECT):
        return None
    if linear and residuals is not None and method != "newton":
        return solve_linear(problem, structure, residuals, options)
    if structure.degree == 2 and method in (None, "newton"):
        found = solve_quadratic(problem, monitor)
        if found is None and method is not None:
            raise ArgumentError("method='newton' does not fit here: a bound excludes the minimum. Leave method out")
        return found
    if method is not None:
        raise ArgumentError(
            f"method={method!r} does not fit here: it is for {DIRECT[method]}, and this is a problem of the class "
            f"{structure.kind}. Leave method out"
        )
    return None


def _iteratively(task: Task) -> Solution:
    chosen, because = _chosen(task)
    theta = np.clip(task.problem.packed("initial"), task.low, task.high)
    require_start(task, theta)
    others = _others(task, chosen)
    end = descend(task, chosen.search, lambda: [other.search for other in others()], theta)
    names = [chosen.title, *(other.title for other in (others() if end.searches > 1 else ()))]
    text = ", then ".join(names[: end.searches])
    if end.newton:
        text += ", then Newton steps with the symbolic Hessian"
    return solution(task, end, f"{text}, because {because}; evaluated by {task.engine}")


def _others(task: Task, chosen: Solver) -> Callable[[], list[Solver]]:
    """What to try where the solver of a sum of squares fails; looked for only then, since it takes a Hessian."""

    def found() -> list[Solver]:
        if task.options.method is not None or not task.squares:
            return []
        return [solver for solver in SOLVERS if solver.method in RESORTS and not solver.unfit(task)][:2]

    return found


def _chosen(task: Task) -> tuple[Solver, str]:
    """The solver for a task and why it is that one.

    Raises:
        ArgumentError: no solver has the name that is asked for, or it does not fit.
    """
    method = task.options.method
    if method is None:
        for solver in SOLVERS:
            if not solver.unfit(task) and (because := solver.reason(task)):
                return solver, because
    found = next((solver for solver in SOLVERS if solver.method == method), None)
    if found is None:
        names = ", ".join([*DIRECT, *(solver.method for solver in SOLVERS)])
        raise ArgumentError(
            f"method={method!r} is none of the solvers {names}; Keras optimisers need mini-batches: give batch_size"
        )
    why = found.unfit(task)
    if why:
        fit = ", ".join(solver.method for solver in SOLVERS if not solver.unfit(task))
        raise ArgumentError(f"method={method!r} does not fit here: {why}. What fits: {fit}")
    return found, f"method={method!r} asks for it"
