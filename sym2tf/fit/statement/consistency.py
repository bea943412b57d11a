"""Whether a statement makes sense as a whole, once its parts are known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.statement.data import Table
from sym2tf.fit.statement.equations import Spread, label
from sym2tf.fit.statement.expressions import Expressions
from sym2tf.fit.statement.inputs import Inputs, listed
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.spreads import require_positive
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph
from sym2tf.ir.subgraphs import extract, needed

Array = np.ndarray[Any, Any]


def require_known(in_cost: Inputs, data: Collection[str], named: Collection[str], table: Table) -> None:
    """Raise `ArgumentError` where a symbol is neither data nor a parameter, or none is a parameter."""
    missing = [n for n in in_cost.names if n not in data and n not in named]
    if missing:
        noun = "symbol" if len(missing) == 1 else "symbols"
        columns = "" if table.closed else f" ({table.source} has the columns {listed(table.keys)})"
        raise ArgumentError(
            f"the cost has the {noun} {', '.join(missing)}, for which there is neither data nor a parameter: "
            f"give data={{...}} or params={{...}} for it{columns}"
        )
    if not named:
        raise ArgumentError("the cost has no parameters: every symbol in it is data")


def refuse_observations(said: Expressions, graph: Graph, named: Collection[str]) -> None:
    """Raise `ArgumentError` for ties to observations, and spreads that depend on parameters."""
    for name, (output, expression) in said.ties.items():
        if graph[graph.outputs[output]].type.rank > said.graph[said.graph.outputs[output]].type.rank:
            raise ArgumentError(
                f"{name} is tied to {describe(expression)}, which is another number for each observation: write that "
                "into the model"
            )
    for k, spread in said.spreads.items():
        if spread.array is None:
            used = needed(graph, [graph.outputs[label(spread.kind, k)]])
            names = [graph[v].attributes["name"] for v in graph.inputs if v in used]
            wrong = [name for name in names if name in named]
            if wrong:
                raise ArgumentError(
                    f"{spread.kind} is {describe(spread.expression)}, in which {wrong[0]} has no data: where the "
                    "spread depends on parameters, state the negative log-likelihood instead"
                )


def require_one_fit(batch: tuple[int, ...], spreads: Mapping[int, Spread]) -> None:
    """Raise where data that come in batches are to be fitted independently, or with spreads at hand as a whole."""
    if batch:
        raise DataError(f"the first batch of data has axes {batch} in front of those that the statement uses")
    arrays = [s for s in spreads.values() if s.array is not None and s.array.ndim]
    if arrays:
        raise ArgumentError(
            f"{arrays[0].kind} is an array, but the data come in batches: put it into the batches, and state "
            f"{arrays[0].kind} as the symbol of it"
        )


def require_sense(problem: Problem) -> None:
    """Check a whole problem.

    Raises:
        ArgumentError: nothing is to be estimated; constraints that say nothing about the parameters, or forbid the
            start that the user chose.
        DataError: standard deviations that are not positive at the data.
    """
    if not problem.free:
        raise ArgumentError("every parameter is fixed: there is nothing to fit")
    _require_useful(problem)
    _require_spread(problem)


def _require_useful(problem: Problem) -> None:
    """Refuse constraints that say nothing about the parameters, or forbid the start that the user chose."""
    free, known = {u.name for u in problem.free}, {*problem.data, *problem.fixed}
    for constraint in problem.constraints:
        names = [constraint.graph[v].attributes["name"] for v in constraint.graph.inputs]
        unknown = [n for n in names if n not in free and n not in known]
        if unknown:
            raise ArgumentError(
                f"the constraint {constraint.text} has {unknown[0]}, which is neither parameter nor data"
            )
        if not free.intersection(names):
            raise ArgumentError(f"the constraint {constraint.text} is about no parameter that is to be estimated")
        if constraint.kind == "inequality" and problem.starts_given and not problem.batch:
            start = {u.name: u.initial for u in problem.unknowns}
            with np.errstate(all="ignore"):
                inputs = {n: start.get(n, problem.data.get(n)) for n in names}
                value = np.min(evaluate(constraint.graph, inputs, problem.bound)["out"])
            if value < -1e-9 * max(1.0, *(float(np.abs(start[n]).max()) for n in names if n in start)):
                shown = ", ".join(f"{n}={start[n]}" for n in names if n in start)
                raise ArgumentError(
                    f"the fit starts at {shown}, where the constraint {constraint.text} does not hold: "
                    "give start values in params at which it does"
                )


def _require_spread(problem: Problem) -> None:
    """Check standard deviations that are expressions in the data."""
    for k, spread in problem.spreads.items():
        if spread.array is None:
            name = label(spread.kind, k)
            graph = extract(problem.graph, {"out": problem.graph.outputs[name]})
            inputs = {graph[v].attributes["name"]: problem.data[graph[v].attributes["name"]] for v in graph.inputs}
            with np.errstate(all="ignore"):
                values = evaluate(graph, inputs, problem.bound)["out"]
            if not np.isfinite(values).all():
                raise DataError(f"{name}, which is {describe(spread.expression)}, is not finite at these data")
            require_positive(spread.kind, name, np.asarray(values))
