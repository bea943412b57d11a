"""Problems whose data come in batches and that one pass does not solve: mini-batches, one for each batch."""

from __future__ import annotations

from dataclasses import replace

from sym2tf.errors import ArgumentError
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers.minibatch import Stream, is_stochastic, solve_minibatch
from sym2tf.fit.solvers.solution import Solution
from sym2tf.fit.statement.batches import checked_batches
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import separate


def solve_streamed(problem: Problem, options: Options, monitor: Monitor) -> Solution:
    """Where a Keras optimiser ends that makes a step for each batch.

    Args:
        problem: with a stream, stated for its first batch.
        options: of `fit`; those that need all data at hand are refused.
        monitor: is told of each epoch.

    Raises:
        ArgumentError: constraints, several starts, or a method that needs all data at hand; a cost that is no sum over
            rows.
        DataError: a batch that is not like the first; more epochs of batches that can be gone through only once.
    """
    assert problem.stream is not None
    source = problem.stream
    if problem.constraints:
        raise ArgumentError("constraints need all data at hand, and these come in batches; bounds can be kept")
    if options.multistart is not None:
        raise ArgumentError("multistart needs all data at hand, and these come in batches")
    if options.method is not None and not is_stochastic(options):
        raise ArgumentError(
            f"method={options.method!r} needs all data at hand, and these come in batches: leave method out, or give "
            "a Keras optimiser such as 'adam'"
        )
    own = separate(problem)
    batches = Stream(lambda: checked_batches(problem, own, source.batches()), source.repeatable)
    found = solve_minibatch(problem, None, options, monitor, batches)
    return found if found.cost is not None else replace(found, cost=monitor.history[-1].cost)
