"""Variable projection: residuals linear in some parameters are minimised over those for any values of the others.

What is left is a smaller and better conditioned problem (Golub, Pereyra, SIAM J. Numer. Anal. 10, 1973) that needs no
start values for the linear parameters. Its Jacobian is Kaufman's (BIT 15, 1975), the projection of that of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from sym2tf.fit.solvers.linear import RANK_TOLERANCE
from sym2tf.fit.solvers.quiet import quietly
from sym2tf.fit.solvers.squares import HUGE, SEARCH_TOLERANCE, lengths_of
from sym2tf.fit.solvers.task import Run, Task
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.problem import Problem
from sym2tf.lazy import lazy
from sym2tf.passes.degree import coupled

optimize = lazy("scipy.optimize")

Array = np.ndarray[Any, Any]

GRADIENT = 1e-15  # below which SciPy's MINPACK lets no tolerance go by much
TRIED = 16  # parameters among which the largest set is searched for; of more, one after the other


def linear_parameters(problem: Problem, structure: Structure) -> tuple[str, ...]:
    """The largest set of parameters (by elements) in which the residuals are linear jointly, by name.

    Read off the graph: two parameters go together unless they are multiplied somewhere.
    """
    graph = structure.residuals
    if graph is None:
        return ()
    free = {u.name: u.initial.size for u in problem.free}
    return made(graph, ("linear parameters", tuple(free.items())), lambda: _largest(graph, free))


def _largest(graph: Any, sizes: dict[str, int]) -> tuple[str, ...]:
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    pairs = coupled(graph, [nodes[name] for name in sizes if name in nodes])
    names = {v: name for name, v in nodes.items()}
    apart = {frozenset(names[v] for v in pair) for pair in pairs}
    able = [name for name in sizes if frozenset((name,)) not in apart and name in nodes]

    def together(chosen: Iterable[str]) -> bool:
        return not any(frozenset(pair) in apart for pair in combinations(chosen, 2))

    if len(able) > TRIED:
        found: list[str] = []
        for name in sorted(able, key=lambda n: (sum(n in pair for pair in apart), able.index(n))):
            if together([*found, name]):
                found.append(name)
        return tuple(n for n in able if n in found)
    sets = (chosen for count in range(len(able), 0, -1) for chosen in combinations(able, count) if together(chosen))
    return max(sets, key=lambda chosen: sum(sizes[name] for name in chosen), default=())


class _Reduced:
    """The problem in the nonlinear parameters alone."""

    def __init__(self, task: Task, theta: Array) -> None:
        linear = linear_parameters(task.problem, task.structure)
        self.task, self.theta = task, theta.copy()
        self.linear = np.concatenate([np.full(u.initial.size, u.name in linear) for u in task.problem.free])
        self.free = ~self.linear

    @cached_property
    def start(self) -> Array:
        return self.theta[self.free]

    def whole(self, alpha: Array) -> Array:
        """All parameters: the linear ones are the best for these of the others."""
        theta = self.theta.copy()
        theta[self.free] = alpha
        r, design = self.task.residual(theta), self.task.design(theta)[:, self.linear]
        if not (np.isfinite(r).all() and np.isfinite(design).all()):
            return theta
        lengths = lengths_of(design)
        unit = np.where(lengths > 0, lengths, 1.0)
        change = np.linalg.lstsq(design / unit, -r, rcond=RANK_TOLERANCE * len(unit))[0]
        theta[self.linear] += change / unit
        self.theta = theta
        return theta

    def residual(self, alpha: Array) -> Array:
        r = self.task.residual(self.whole(alpha))
        return r if np.isfinite(r).all() else np.where(np.isfinite(r), r, HUGE)

    def design(self, alpha: Array) -> Array:
        """The Jacobian of the nonlinear parameters without its part in the space of the linear ones."""
        J = np.nan_to_num(self.task.design(self.whole(alpha)))
        Phi = J[:, self.linear]
        U, values, _ = np.linalg.svd(Phi / np.maximum(lengths_of(Phi), 1e-300), False)
        U = U[:, values > RANK_TOLERANCE * len(values) * values.max(initial=0)]
        rest = J[:, self.free]
        answer: Array = rest - U @ (U.T @ rest)
        return answer


def variable_projection(task: Task, theta: Array, most: int) -> Run:
    """SciPy's `least_squares` on the nonlinear parameters, with the linear ones at their best."""
    reduced = _Reduced(task, theta)
    low, high = (limit[reduced.free] for limit in task.room)
    bounded = bool(np.isfinite(low).any() or np.isfinite(high).any())
    with quietly():
        answer = optimize.least_squares(
            reduced.residual,
            np.clip(reduced.start, low, high),
            jac=reduced.design,
            method="trf" if bounded else "lm",
            bounds=(low, high),
            x_scale="jac",
            ftol=SEARCH_TOLERANCE,
            xtol=SEARCH_TOLERANCE,
            gtol=GRADIENT,
            max_nfev=max(most, 1),
        )
        found = reduced.whole(np.asarray(answer.x, np.float64))
    return Run(found, int(answer.nfev), str(answer.message), bool(answer.success))


def why_not(task: Task) -> str:
    """Why variable projection does not fit a problem; empty if it does."""
    linear = linear_parameters(task.problem, task.structure)
    if not linear:
        return "the residuals are linear in none of the parameters"
    limits = {u.name: (u.lower, u.upper) for u in task.problem.free}
    low = np.concatenate([np.full(u.initial.size, u.name in linear) for u in task.problem.free])
    if (np.isfinite(task.low[low]) | np.isfinite(task.high[low])).any():
        held = [name for name in linear if np.isfinite(limits[name][0]).any() or np.isfinite(limits[name][1]).any()]
        return f"{', '.join(held)}, in which the residuals are linear, has bounds"
    if len(linear) == len(task.problem.free):
        return "the residuals are linear in all of the parameters: that is method='qr'"
    return ""
