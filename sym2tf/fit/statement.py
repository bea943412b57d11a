"""What the user states (a cost or equations, data, parameters) checked and turned into a `Problem`.

Everything that can be wrong with a statement is found here, before anything is computed, and named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.columns import integers, numbers
from sym2tf.fit.data import Stream, Table, read
from sym2tf.fit.equations import Equation, Spread, equations_of, label, lowered, sides, with_total
from sym2tf.fit.inputs import Inputs
from sym2tf.fit.observations import with_axes
from sym2tf.fit.parameters import Parameter, Unknown, decided, unpacked
from sym2tf.fit.relations import Constraint, relations_of
from sym2tf.fit.roles import require_data
from sym2tf.fit.sizes import checked_sizes, size_of, sizes_from
from sym2tf.fit.spreads import require_positive, settled, spreads_of
from sym2tf.fit.subgraphs import extract, needed
from sym2tf.fit.ties import Tie, is_tie, refuse_bounds, substituted
from sym2tf.fit.wording import kind_of
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.losses import Loss, loss_of
from sym2tf.ops.arithmetic import mul
from sym2tf.ops.contraction import einsum
from sym2tf.passes.pipeline import in_normal_form

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Problem:
    """A cost as a graph, the arrays of its data, and its parameters.

    Attributes:
        cost: what the user gave: an expression, an equation, or a tuple of several equations.
        graph: lowered, not optimised; inputs are data and parameters; output `"out"` is the cost. For an equation
            `"observed"` and `"model"` are its sides, `"difference"` is observed - model, and `"residual"` is that in
            units of sigma; for the second equation they are `"observed 1"`, ...
        data: by input name, float64; int64 what stands in subscripts. Of a stream its first batch.
        unknowns: the parameters in the order in which the user gave them; without those that are tied.
        sizes: numbers for size symbols that the user gave.
        bound: every size as a number.
        symbols: input name -> what the user wrote.
        implicit: the user listed no parameters, so that every symbol without data is one.
        starts_given: the user said where to start; otherwise every parameter starts at 0.
        maximize: the user's cost is to be maximised: the output `"out"` is its negative.
        batch: the lengths of the axes of data in front of those that the cost uses: as many independent fits.
        equations: `(observed, model)` of each equation; none for a cost.
        loss: of the residuals of equations; None where it is the square, and for a cost.
        spreads: how precise the observations are, by the number of their equation, where it is stated.
        ties: parameters that are expressions in `unknowns`.
        constraints: relations that the parameters must obey.
        stream: where further batches come from; None where the data are at hand as a whole.
    """

    cost: Any
    graph: Graph
    data: Mapping[str, Array]
    unknowns: tuple[Unknown, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    bound: Mapping[str, int] = field(default_factory=dict)
    symbols: Mapping[str, Any] = field(default_factory=dict)
    implicit: bool = False
    starts_given: bool = True
    maximize: bool = False
    batch: tuple[int, ...] = ()
    equations: tuple[Equation, ...] = ()
    loss: Loss | None = None
    spreads: Mapping[int, Spread] = field(default_factory=dict)
    ties: Mapping[str, Tie] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    stream: Stream | None = None

    @property
    def free(self) -> tuple[Unknown, ...]:
        """The parameters to estimate."""
        return tuple(u for u in self.unknowns if not u.fixed)

    @property
    def fixed(self) -> dict[str, Array]:
        """The values of the others."""
        return {u.name: u.initial for u in self.unknowns if u.fixed}

    @property
    def names(self) -> tuple[str, ...]:
        """The elements of the free parameters."""
        return tuple(name for u in self.free for name in u.names)

    @property
    def bounded(self) -> bool:
        """Whether a free parameter has a finite bound."""
        return any(np.isfinite(u.lower).any() or np.isfinite(u.upper).any() for u in self.free)

    @property
    def hint(self) -> str:
        """What to look at where the data do not determine the parameters: a symbol taken for one by mistake."""
        if not self.implicit:
            return ""
        data = f"data has {', '.join(self.data)}" if self.data else "there are no data"
        names = ", ".join(u.name for u in self.unknowns)
        return f" (params was left out, so all symbols without data are parameters: {names}; {data})"

    def unpacked(self, theta: Array) -> dict[str, Array]:
        """The free parameters as arrays, from the flat vector of all their elements (last axis)."""
        return unpacked(self.free, theta)

    def packed(self, attribute: str) -> Array:
        """`initial`, `lower` or `upper` of the free parameters as one flat vector."""
        return np.concatenate([getattr(u, attribute).ravel() for u in self.free])


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
    equations = equations_of(cost)
    rule = _loss(loss, equations)
    if maximize and equations:
        raise ArgumentError("maximize is for a cost; the losses of an equation are minimised")
    source = read(data)
    columns = _Columns(source)
    spreads = spreads_of(equations, sigma, weights, columns.take)
    stated = None if params is None else _parameters(params)
    relations = relations_of(constraints)
    ties = {key: p.initial for key, p in (stated or {}).items() if is_tie(p.initial)}
    own = _own_roots(cost, equations, rule, spreads)
    others = {f"tie {k}": expression for k, expression in enumerate(ties.values())}
    others |= {f"constraint {k}": expression for k, (*_, expression) in enumerate(relations)}
    graph = lowered(own | others)
    everything = Inputs(graph)
    tied = {everything.require(key, "params"): f"tie {k}" for k, key in enumerate(ties)}
    graph = substituted(graph, tied) if tied else graph
    in_cost = Inputs(graph, needed(graph, [graph.outputs[name] for name in own]))
    if any(_may_be_square(graph, v) for v in graph.order):
        graph = in_normal_form(graph)
    listed = {everything.find(key) for key in stated or ()}
    sizes, arrays = columns.read(graph, listed)
    if stated is None:
        require_data(cost, equations, in_cost.symbols, in_cost.sizes, arrays)
        named = {n: Parameter() for n in in_cost.names if n not in arrays}
    else:
        named = _named(stated, everything, in_cost, arrays, tied)
    _require_known(in_cost, arrays, named, columns.table)
    groups = [[label(side, k) for side in _sides_of(spreads.get(k))] for k in range(len(equations))]
    graph, arrays, batch = with_axes(graph, arrays, groups)
    _refuse_parameters_in_spreads(graph, spreads, named)
    spreads = settled(graph, spreads, batch)
    arrays |= {s.name: s.array for s in spreads.values() if s.array is not None}
    if isinstance(source, Stream):
        _require_one_fit(batch, spreads)
    graph = with_total(graph, cost, equations, rule, spreads, maximize=maximize)
    bound = sizes_from(graph, arrays, named, sizes)
    unknowns = tuple(decided(_node(graph, name), p, bound, batch) for name, p in named.items())
    bound = checked_sizes(graph, arrays, unknowns, sizes)
    problem = Problem(
        _as_one(cost, equations),
        _own_part(graph, in_cost, spreads),
        arrays,
        unknowns,
        sizes,
        bound,
        {**everything.symbols, **{s.name: sp.Symbol(s.name) for s in spreads.values() if s.name}},
        implicit=params is None,
        starts_given=isinstance(params, Mapping),
        maximize=maximize,
        batch=batch,
        equations=equations,
        loss=rule,
        spreads=spreads,
        ties={
            name: Tie(everything.symbols[name], name, list(ties.values())[k], _part(graph, f"tie {k}"))
            for k, name in enumerate(tied)
        },
        constraints=tuple(
            Constraint(text, kind, _part(graph, f"constraint {k}")) for k, (text, kind, _) in enumerate(relations)
        ),
        stream=source if isinstance(source, Stream) else None,
    )
    if not problem.free:
        raise ArgumentError("every parameter is fixed: there is nothing to fit")
    _require_useful(problem)
    _require_spread(problem)
    return problem


class _Columns:
    """The columns of the data, which are read where the statement needs them."""

    def __init__(self, source: Table | Stream) -> None:
        streamed = isinstance(source, Stream)
        self.table = Table(list(source.first), source.first.__getitem__) if isinstance(source, Stream) else source
        self.streamed = streamed
        self._taken: set[Any] = set()

    def take(self, name: str) -> Any:
        """The column that sigma or weights name."""
        if name not in self.table.keys:
            raise ArgumentError(f"sigma names the column {name!r}; {self.table.source} has {_listed(self.table.keys)}")
        self._taken.add(name)
        return self.table.get(name)

    def read(self, graph: Graph, listed: Collection[str | None]) -> tuple[dict[str, int], dict[str, Array]]:
        """Sizes, and arrays by input name.

        Args:
            graph: of the statement.
            listed: the parameters, which a file may have columns for as well.

        Raises:
            ArgumentError: a key that the statement does not have, or two for one symbol.
            DataError: what is no finite number.
        """
        known = Inputs(graph)
        sizes: dict[str, int] = {}
        arrays: dict[str, Array] = {}
        closed = self.table.closed
        for key in self.table.keys:
            if closed and key in known.sizes:
                sizes[known.sizes[key]] = size_of(key, self.table.get(key))
                continue
            name = known.find(key)
            if name is None and closed and key not in self._taken:
                known.require(key, "data")
            if name is None or (not closed and name in listed):
                continue
            if name in arrays:
                raise ArgumentError(f"data gives {name} twice, by symbol and by name")
            arrays[name] = typed(graph[known.nodes[name]], self.table.get(key))
        return sizes, arrays


def typed(node: Node, value: Any) -> Array:
    """The array of an input: integers where it stands in a subscript."""
    name = node.attributes["name"]
    array = numbers(name, value)
    return integers(name, array) if node.type.kind is Kind.INTEGER else array


def _listed(names: Iterable[Any]) -> str:
    shown = list(map(str, names))
    return ", ".join(shown[:20]) + (", ..." if len(shown) > 20 else "") or "none"


def _loss(loss: Any, equations: Collection[Equation]) -> Loss | None:
    if loss is None:
        return None
    if not equations:
        raise ArgumentError("loss belongs to an equation, Eq(y, model) or {y: model}; a cost says itself what is lost")
    rule = loss_of(loss)
    return None if rule.is_square else rule


def _parameters(params: Any) -> dict[Any, Parameter]:
    """What the user says of parameters, by symbol or name."""
    if isinstance(params, sp.Basic | sp.IndexedBase | str):
        params = [params]
    if not isinstance(params, Iterable):
        raise ArgumentError(f"params is {kind_of(params)}; give a mapping to start values, or the symbols")
    pairs = params.items() if isinstance(params, Mapping) else ((key, None) for key in params)
    return {key: value if isinstance(value, Parameter) else Parameter(value) for key, value in pairs}


def _named(
    stated: Mapping[Any, Parameter],
    everything: Inputs,
    in_cost: Inputs,
    data: Mapping[str, Array],
    tied: Collection[str],
) -> dict[str, Parameter]:
    """The parameters that are not tied, by name."""
    named: dict[str, Parameter] = {}
    for key, parameter in stated.items():
        if key in everything.sizes:
            raise ArgumentError(f"params has {key}, which is a size: it stands in a bound or a shape")
        if isinstance(key, str) and everything.find(key) is None and len(words := key.replace(",", " ").split()) > 1:
            raise ArgumentError(f"params is the text {key!r}; give a list: params=[{', '.join(map(repr, words))}]")
        name = everything.require(key, "params")
        if name in data:
            raise ArgumentError(f"{name} is in data and in params: it can be only one of them")
        if name in named:
            raise ArgumentError(f"params gives {name} twice, by symbol and by name")
        if name in tied:
            refuse_bounds(name, parameter)
        else:
            in_cost.require(key, "params")
            named[name] = parameter
    return named


def _require_known(in_cost: Inputs, data: Mapping[str, Array], named: Collection[str], table: Table) -> None:
    missing = [n for n in in_cost.names if n not in data and n not in named]
    if missing:
        noun = "symbol" if len(missing) == 1 else "symbols"
        columns = "" if table.closed else f" ({table.source} has the columns {_listed(table.keys)})"
        raise ArgumentError(
            f"the cost has the {noun} {', '.join(missing)}, for which there is neither data nor a parameter: "
            f"give data={{...}} or params={{...}} for it{columns}"
        )
    if not named:
        raise ArgumentError("the cost has no parameters: every symbol in it is data")


def _own_roots(
    cost: Any, equations: Sequence[Equation], loss: Loss | None, spreads: Mapping[int, Spread]
) -> dict[str, Any]:
    """The expressions of which the cost is made."""
    roots = sides(equations) if equations else {"out": cost}
    roots |= {label(s.kind, k): s.expression for k, s in spreads.items() if s.array is None}
    return roots | {f"loss {symbol}": symbol for symbol in (loss.symbols if loss is not None else ())}


def _sides_of(spread: Spread | None) -> list[str]:
    """The expressions of an equation."""
    return ["observed", "model", *([spread.kind] if spread is not None and spread.array is None else [])]


def _own_part(graph: Graph, in_cost: Inputs, spreads: Mapping[int, Spread]) -> Graph:
    """The graph without ties and constraints, but with every input of the cost, used or not."""
    outputs = {name: v for name, v in graph.outputs.items() if not name.startswith(("tie ", "constraint ", "loss "))}
    names = {*in_cost.names, *(s.name for s in spreads.values())}
    return extract(graph, outputs, keep=[v for v in graph.inputs if graph[v].attributes["name"] in names])


def _part(graph: Graph, output: str) -> Graph:
    return extract(graph, {"out": graph.outputs[output]})


def _as_one(cost: Any, equations: Collection[Equation]) -> Any:
    """The cost in terms of SymPy: an expression, an equation, or a tuple of equations."""
    if not equations or isinstance(cost, sp.Eq):
        return cost
    found = tuple(sp.Eq(left, right, evaluate=False) for left, right in equations)
    return found if len(found) > 1 else found[0]


def _refuse_parameters_in_spreads(graph: Graph, spreads: Mapping[int, Spread], named: Collection[str]) -> None:
    for k, spread in spreads.items():
        if spread.array is None:
            used = needed(graph, [graph.outputs[label(spread.kind, k)]])
            names = [graph[v].attributes["name"] for v in graph.inputs if v in used]
            wrong = [name for name in names if name in named]
            if wrong:
                raise ArgumentError(
                    f"{spread.kind} is {describe(spread.expression)}, in which {wrong[0]} has no data: where the "
                    "spread depends on parameters, state the negative log-likelihood instead"
                )


def _require_one_fit(batch: tuple[int, ...], spreads: Mapping[int, Spread]) -> None:
    if batch:
        raise DataError(f"the first batch of data has axes {batch} in front of those that the statement uses")
    arrays = [s for s in spreads.values() if s.array is not None and s.array.ndim]
    if arrays:
        raise ArgumentError(
            f"{arrays[0].kind} is an array, but the data come in batches: put it into the batches, and state "
            f"{arrays[0].kind} as the symbol of it"
        )


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
                raise ArgumentError(f"the fit starts at {shown}, where the constraint {constraint.text} does not hold")


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


def _may_be_square(graph: Graph, v: int) -> bool:
    """Whether a node may be a square, or a sum of squares, that is written as the product of a value with itself."""
    operands = graph.operands(v)
    return graph[v].op is einsum or (graph[v].op is mul and len(set(operands)) < len(operands))


def _node(graph: Graph, name: str) -> Node:
    return next(graph[v] for v in graph.inputs if graph[v].attributes["name"] == name)
