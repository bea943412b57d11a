"""From the structure of a problem to the solver that it asks for, or to why another one does not fit it.

The table `SOLVERS` is in order of preference: a problem is given to the first that fits it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, FitError
from sym2tf.fit.evaluation.residuals import Residuals
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers import robust_loss, varpro
from sym2tf.fit.solvers.constrained import slsqp, trust_constr
from sym2tf.fit.solvers.descent import End, Search, descend, descend_loosely, require_start, solution
from sym2tf.fit.solvers.direct import solve_linear, solve_quadratic
from sym2tf.fit.solvers.full_passes import is_by_passes, solve_by_passes
from sym2tf.fit.solvers.large import is_large, solve_large
from sym2tf.fit.solvers.last_pass import is_for_a_pass, with_last_pass
from sym2tf.fit.solvers.linear_program import solve_linear_program
from sym2tf.fit.solvers.minibatch import is_stochastic, solve_minibatch, solve_streamed
from sym2tf.fit.solvers.multistart import from_all, starts
from sym2tf.fit.solvers.sequential_programs import solve_linear_programs
from sym2tf.fit.solvers.smooth import l_bfgs_b, trust_exact, trust_krylov
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.solvers.squares import levenberg_marquardt, trust_region_reflective
from sym2tf.fit.solvers.task import KRYLOV_LIMIT, Task
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]
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
    if task.engine != "NumPy" and (said := _asked(task.options)):
        return f"it takes a Jacobian, which NumPy computes, and {said}"
    return "" if task.squares else "the Jacobian of so many residuals is too large"


def _bounded(task: Task) -> str:
    return "the parameters have bounds, which it does not know" if task.bounded else ""


def _asked(options: Options) -> str:
    """The option that has the cost computed by TensorFlow; empty for none."""
    names = {"strategy": None, "device": None, "dtype": "float64"}
    return next((f"{name}= asks for TensorFlow" for name, x in names.items() if getattr(options, name) != x), "")


def _few(task: Task) -> str:
    if not task.has_hessian and (because := _first_order_because(task.options)):
        return because
    return (
        "" if task.has_hessian else f"no Hessian is formed for {task.count} parameters and {task.size} numbers of data"
    )


def _first(*checks: Words) -> Words:
    """The first reason that one of `checks` gives."""
    return lambda task: next((said for check in checks if (said := check(task))), "")


def _related(task: Task) -> str:
    return "the parameters have constraints, which it does not know" if task.constrained else ""


def _unrelated(task: Task) -> str:
    return "" if task.constrained else "there are no constraints"


def _no_product(task: Task) -> str:
    return "" if task.has_product else "the cost has no second derivative"


def _squares_because(task: Task) -> str:
    return "the cost is a sum of squares of residuals that are not linear in the parameters"


def _linear_because(task: Task) -> str:
    if task.problem.starts_given:
        return ""
    names = ", ".join(varpro.linear_parameters(task.problem, task.structure))
    return f"the cost is a sum of squares, whose residuals are linear in {names}, and no start values are given"


def _smooth_because(task: Task) -> str:
    return f"the cost is smooth, not quadratic, and has {task.count} parameters"


def _krylov_because(task: Task) -> str:
    if task.engine == "TensorFlow" or task.count > KRYLOV_LIMIT:
        return ""
    return f"the cost is smooth and {task.count} parameters are many for a Hessian, not for its products with vectors"


def _many_because(task: Task) -> str:
    return "there are bounds" if task.bounded else f"{task.count} parameters are many for a Hessian"


def _first_order_because(options: Options) -> str:
    """Why only the gradient is computed; empty where other derivatives are too."""
    if options.strategy is not None:
        return "strategy= computes the cost and its gradient on replicas, and nothing else"
    return "in float32 a gradient has too few digits for more" if options.dtype == "float32" else ""


def _never(task: Task) -> str:
    return ""


SOLVERS = (
    Solver(
        "varpro",
        "variable projection (through SciPy's least_squares) with the symbolic Jacobian",
        varpro.variable_projection,
        _first(_related, _not_squares, varpro.why_not),
        _linear_because,
    ),
    Solver(
        "lm",
        "Levenberg-Marquardt (MINPACK, through SciPy) with the symbolic Jacobian",
        levenberg_marquardt,
        _first(_related, _not_squares, _bounded),
        _squares_because,
    ),
    Solver(
        "trf",
        "trust region reflective (SciPy's least_squares) with the symbolic Jacobian",
        trust_region_reflective,
        _first(_related, _not_squares),
        lambda task: f"{_squares_because(task)}, which have bounds",
    ),
    Solver(
        "trf",
        "trust region reflective (SciPy's least_squares with the symbolic loss) with the symbolic Jacobian",
        robust_loss.m_estimation,
        _first(_related, robust_loss.why_not),
        lambda task: f"the cost is a sum of losses of residuals, {task.problem.loss.name if task.problem.loss else ''}",
    ),
    Solver(
        "trust-exact",
        "trust region with the symbolic Hessian (SciPy's trust-exact)",
        trust_exact,
        _first(_related, _bounded, _few),
        _smooth_because,
    ),
    Solver(
        "newton",
        "Newton's method with the symbolic Hessian, its steps held within a trust region (SciPy's trust-exact)",
        trust_exact,
        _first(_related, _bounded, _few),
        _never,
    ),
    Solver(
        "trust-krylov",
        "trust region with products of the symbolic Hessian with vectors (SciPy's trust-krylov)",
        trust_krylov,
        _first(_related, _bounded, _no_product),
        _krylov_because,
    ),
    Solver("l-bfgs-b", "L-BFGS-B (SciPy) with the symbolic gradient", l_bfgs_b, _related, _many_because),
    Solver(
        "slsqp",
        "sequential least squares programming (SciPy's SLSQP) with symbolic derivatives",
        slsqp,
        _unrelated,
        lambda task: "there are constraints" if task.count <= SLSQP_LIMIT else "",
    ),
    Solver(
        "trust-constr",
        "trust region for constraints (SciPy's trust-constr) with symbolic derivatives",
        trust_constr,
        _unrelated,
        lambda task: f"there are constraints and {task.count} parameters",
    ),
)
SLSQP_LIMIT = 200  # parameters up to which its dense matrices are cheap
RESORTS = ("varpro", "lm", "trust-exact", "l-bfgs-b", "trust-constr")  # where the first solver fails, by what fits
DIRECT = {  # what solves in one step -> of what
    "qr": "sums of squares of residuals that are linear in the parameters",
    "exact": "sums of squares of residuals that are linear in the parameters",
    "newton": "costs that are quadratic in the parameters (others take several steps)",
}


@np.errstate(all="ignore")
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
    if is_by_passes(problem, structure, options):
        return solve_by_passes(problem, structure, options, monitor)
    if problem.stream is not None:
        trained = solve_streamed(problem, options, monitor)
        return with_last_pass(problem, structure, trained) if is_for_a_pass(problem, structure) else trained
    if is_stochastic(options):
        if not is_for_a_pass(problem, structure):
            return solve_minibatch(problem, residuals, options, monitor)
        return with_last_pass(problem, structure, solve_minibatch(problem, None, options, monitor))
    direct = _directly(problem, structure, residuals, options, monitor)
    if direct is not None and options.multistart is None:
        return direct
    if direct is not None:
        return replace(direct, message=f"{direct.message}; a quadratic cost has one minimum, whatever the start")
    if residuals is not None and is_large(problem, structure, residuals, options):
        found = solve_large(problem, structure, residuals, options, monitor)
        if found is not None:
            return found
    if problem.loss is not None and options.method is None:
        task = Task(problem, structure, residuals, options, monitor)
        program = solve_linear_program(task) or solve_linear_programs(task)
        if program is not None:
            return program
    loose = any(u.implied for u in problem.free)
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
    if problem.constraints and method is None:
        return None
    linear = structure.kind == "linear least squares" and residuals is not None
    if method not in (None, *DIRECT) or (method is None and options.strategy is not None):
        return None
    if problem.constraints:
        raise ArgumentError(f"method={method!r} does not know constraints; 'slsqp' and 'trust-constr' do")
    if linear and residuals is not None and method != "newton":
        return solve_linear(problem, structure, residuals, options)
    if structure.degree == 2 and method in (None, "newton"):
        found = solve_quadratic(problem, monitor)
        if found is None and method is not None:
            raise ArgumentError("method='newton' does not fit here: a bound excludes the minimum. Leave method out")
        return found
    if method not in (None, "newton"):
        raise ArgumentError(
            f"method={method!r} does not fit here: it is for {DIRECT[method]}, and this is a problem of the class "
            f"{structure.kind}. Leave method out"
        )
    return None


def _iteratively(task: Task) -> Solution:
    chosen, because = _chosen(task)
    others = _others(task, chosen)
    task.monitor.solver = f"{chosen.title}, because {because}"

    simpler = None
    if task.constrained and task.options.method is None:
        with task.without_constraints():
            simpler, _ = _chosen(task)

    def descent(theta: Array) -> End:
        require_start(task, theta)
        found = None if simpler is None else descend_loosely(task, simpler.search, theta)
        return found or descend(task, chosen.search, lambda: [other.search for other in others()], theta)

    theta = task.problem.packed("initial")
    if task.bounded:
        theta = np.clip(theta, task.low, task.high)
    count = task.options.multistart
    found = None if count is None else from_all(task, starts(task, count, task.options.seed), descent)
    end = descent(theta) if found is None else found.best
    names = [chosen.title, *(other.title for other in (others() if end.searches > 1 else ()))]
    if end.loose and simpler is not None:
        names, because = [simpler.title], "the constraints hold with room at the minimum without them"
    text = ", then ".join(names[: end.searches])
    if end.newton:
        text += ", then Newton steps with the symbolic Hessian"
    answer = solution(task, end, f"{text}, because {because}; evaluated by {task.engine}")
    if found is None:
        return answer
    return replace(answer, minima=found.minima, message=f"{answer.message}; {found.told}")


def _others(task: Task, chosen: Solver) -> Callable[[], list[Solver]]:
    """What to try where the solver of a sum of squares fails; looked for only then, since it takes a Hessian."""

    def found() -> list[Solver]:
        if task.options.method is not None or not (task.squares or task.constrained or task.problem.loss is not None):
            return []
        usable = (s for s in SOLVERS if s is not chosen and s.method in RESORTS and not s.unfit(task))
        return list(islice(usable, 2))

    return found


def _chosen(task: Task) -> tuple[Solver, str]:
    """The solver for a task and why it is that one.

    Raises:
        ArgumentError: no solver has the name that is asked for, or it does not fit.
    """
    method = task.options.method
    if method is None and (because := _first_order_because(task.options)):
        first_order = (l_bfgs_b, slsqp)
        return next(s for s in SOLVERS if s.search in first_order and not s.unfit(task)), because
    if method is None:
        for solver in SOLVERS:
            if (because := solver.reason(task)) and not solver.unfit(task):
                return solver, because
    named = [solver for solver in SOLVERS if solver.method == method]
    if not named:
        names = ", ".join(dict.fromkeys([*DIRECT, *(solver.method for solver in SOLVERS)]))
        raise ArgumentError(
            f"method={method!r} is none of the solvers {names}; Keras optimisers need mini-batches: give batch_size"
        )
    found = next((solver for solver in named if not solver.unfit(task)), None)
    if found is None:
        why = named[0].unfit(task)
        fit = ", ".join(solver.method for solver in SOLVERS if not solver.unfit(task))
        raise ArgumentError(f"method={method!r} does not fit here: {why}. What fits: {fit}")
    return found, f"method={method!r} asks for it"
