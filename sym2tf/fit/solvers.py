"""From the structure of a problem to the solver that it asks for."""

from __future__ import annotations

from sym2tf.fit.classify import Structure
from sym2tf.fit.direct import solve_linear, solve_quadratic
from sym2tf.fit.iterative import solve_smooth
from sym2tf.fit.monitor import Monitor
from sym2tf.fit.options import Options
from sym2tf.fit.residuals import Residuals
from sym2tf.fit.solution import Solution
from sym2tf.fit.statement import Problem


def solve(
    problem: Problem, structure: Structure, residuals: Residuals | None, options: Options, monitor: Monitor
) -> Solution:
    """The minimum, by the solver that the structure asks for."""
    if structure.kind == "linear least squares" and residuals is not None:
        return solve_linear(problem, structure, residuals, options)
    if structure.degree == 2:
        solution = solve_quadratic(problem, monitor)
        if solution is not None:
            return solution
    return solve_smooth(problem, residuals, options, monitor)
