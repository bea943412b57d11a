"""What the user states (a cost or equations, data, parameters) checked and turned into a `Problem`.

Everything that can be wrong with a statement is found here, before anything is computed, and named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.errors import ArgumentError
from sym2tf.fit.statement.axes import with_axes
from sym2tf.fit.statement.consistency import refuse_observations, require_known, require_one_fit, require_sense
from sym2tf.fit.statement.data import Stream, read
from sym2tf.fit.statement.equations import Equation, Spread, with_total
from sym2tf.fit.statement.expressions import Expressions, expressions_of
from sym2tf.fit.statement.inputs import Columns, Inputs
from sym2tf.fit.statement.parameters import Parameter, decided, parameters_of
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.relations import Constraint
from sym2tf.fit.statement.sizes import checked_sizes, sizes_from
from sym2tf.fit.statement.spreads import settled
from sym2tf.fit.statement.subscripts import require_data
from sym2tf.fit.statement.ties import Tie
from sym2tf.ir.graph import Graph
from sym2tf.ir.subgraphs import extract

Array = np.ndarray[Any, Any]


def state(
    cost: Any,
    data: Any,
    params: Any,
    *,
    loss: Any = None,
    sigma: Any = None,
    weights: Any = None,
    constraints: Any = (),
    maximize: bool = False,
) -> Problem:
    """The problem that the user states; `fit` says what the arguments are.

    Raises:
        ArgumentError: symbols that are unknown, unused, stated twice, or of the wrong sort; a cost that is not scalar;
            options that do not fit a cost, or an equation.
        DataError: data that are missing, not numbers, not finite, empty, or of lengths that differ.
    """
    source = read(data)
    columns = Columns(source)
    stated = None if params is None else parameters_of(params)
    said = expressions_of(
        cost, stated, columns, loss=loss, sigma=sigma, weights=weights, constraints=constraints, maximize=maximize
    )
    sizes, arrays = columns.read(
        said.graph, said.everything, [] if stated is None else map(said.everything.find, stated)
    )
    if stated is None:
        require_data(cost, said.equations, said.in_cost.symbols, said.in_cost.sizes, arrays)
        named = {name: Parameter() for name in said.in_cost.names if name not in arrays}
    else:
        named = _named(stated, said, arrays)
    require_known(said.in_cost, arrays, named, columns.table)
    graph, arrays, batch = with_axes(said.graph, arrays, said.outputs_by_equation)
    refuse_observations(said, graph, named)
    spreads = settled(graph, said.spreads, batch)
    if isinstance(source, Stream):
        require_one_fit(batch, spreads)
    arrays |= {s.name: s.array for s in spreads.values() if s.array is not None}
    graph = with_total(graph, cost, said.equations, said.loss, spreads, maximize=maximize)
    bound = sizes_from(graph, arrays, named, sizes)
    nodes = {graph[v].attributes["name"]: graph[v] for v in graph.inputs}
    unknowns = tuple(decided(nodes[name], parameter, bound, batch) for name, parameter in named.items())
    problem = Problem(
        _as_one(cost, said.equations),
        _own_part(graph, said.in_cost, spreads),
        arrays,
        unknowns,
        sizes,
        checked_sizes(graph, arrays, unknowns, sizes),
        {**said.everything.symbols, **{s.name: sp.Symbol(s.name) for s in spreads.values() if s.name}},
        implicit=stated is None,
        starts_given=isinstance(params, Mapping),
        maximize=maximize,
        batch=batch,
        equations=said.equations,
        loss=said.loss,
        spreads=spreads,
        ties={
            name: Tie(said.everything.symbols[name], name, expression, extract(graph, {"out": graph.outputs[output]}))
            for name, (output, expression) in said.ties.items()
        },
        constraints=tuple(
            Constraint(text, kind, extract(graph, {"out": graph.outputs[output]}))
            for output, (text, kind) in said.relations.items()
        ),
        stream=source if isinstance(source, Stream) else None,
    )
    require_sense(problem)
    return problem


def _named(stated: Mapping[Any, Parameter], said: Expressions, data: Mapping[str, Array]) -> dict[str, Parameter]:
    """The parameters that are not tied, by name."""
    named: dict[str, Parameter] = {}
    for key, parameter in stated.items():
        if key in said.everything.sizes:
            raise ArgumentError(f"params has {key}, which is a size: it stands in a bound or a shape")
        words = key.replace(",", " ").split() if isinstance(key, str) and said.everything.find(key) is None else []
        if len(words) > 1:
            raise ArgumentError(f"params is the text {key!r}; give a list: params=[{', '.join(map(repr, words))}]")
        name = said.everything.require(key, "params")
        if name in data:
            raise ArgumentError(f"{name} is in data and in params: it can be only one of them")
        if name in named:
            raise ArgumentError(f"params gives {name} twice, by symbol and by name")
        if name not in said.ties:
            said.in_cost.require(key, "params")
            named[name] = parameter
    return named


def _own_part(graph: Graph, in_cost: Inputs, spreads: Mapping[int, Spread]) -> Graph:
    """The graph without ties and constraints, but with every input of the cost, used or not."""
    outputs = {name: v for name, v in graph.outputs.items() if not name.startswith(("tie ", "constraint ", "loss "))}
    names = {*in_cost.names, *(s.name for s in spreads.values())}
    return extract(graph, outputs, keep=[v for v in graph.inputs if graph[v].attributes["name"] in names])


def _as_one(cost: Any, equations: Collection[Equation]) -> Any:
    """The cost in terms of SymPy: an expression, an equation, or a tuple of equations."""
    if not equations or isinstance(cost, sp.Eq):
        return cost
    found = tuple(sp.Eq(left, right, evaluate=False) for left, right in equations)
    return found if len(found) > 1 else found[0]
