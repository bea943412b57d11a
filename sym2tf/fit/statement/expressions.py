"""All expressions of a statement, lowered together: sides of equations, spreads, ties, constraints, in one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sym2tf.errors import ArgumentError
from sym2tf.fit.statement.equations import Equation, Spread, equations_of, label, lowered, sides
from sym2tf.fit.statement.inputs import Inputs
from sym2tf.fit.statement.parameters import Parameter
from sym2tf.fit.statement.relations import relations_of
from sym2tf.fit.statement.spreads import spreads_of
from sym2tf.fit.statement.ties import is_tie, refuse_bounds, substituted
from sym2tf.ir.graph import Graph
from sym2tf.ir.subgraphs import needed
from sym2tf.losses import Loss, loss_of
from sym2tf.ops.arithmetic import mul
from sym2tf.ops.contraction import einsum
from sym2tf.passes.pipeline import in_normal_form


@dataclass(frozen=True)
class Expressions:
    """What is said about a problem, but for numbers.

    Attributes:
        graph: its outputs are `"out"`, the cost, or the sides of equations and their spreads; ties and constraints.
        equations: pairs of sides; none for a cost.
        loss: of the residuals; None where it is the square.
        spreads: by the number of their equation.
        ties: name of a parameter -> the output that it is, and the expression.
        relations: output -> text and kind of the constraint.
        everything: the inputs of all expressions, tied parameters included.
        in_cost: those on which the cost depends.
    """

    graph: Graph
    equations: tuple[Equation, ...]
    loss: Loss | None
    spreads: Mapping[int, Spread]
    ties: Mapping[str, tuple[str, Any]]
    relations: Mapping[str, tuple[str, Literal["equality", "inequality"]]]
    everything: Inputs
    in_cost: Inputs

    @property
    def outputs_by_equation(self) -> list[list[str]]:
        """The outputs that belong to each equation, what is observed first."""
        return [
            [label("observed", k), label("model", k), *_expressed({k: self.spreads[k]} if k in self.spreads else {})]
            for k in range(len(self.equations))
        ]


def expressions_of(
    cost: Any,
    stated: Mapping[Any, Parameter] | None,
    column: Callable[[str], Any],
    *,
    loss: Any,
    sigma: Any,
    weights: Any,
    constraints: Any,
    maximize: bool,
) -> Expressions:
    """The expressions in the arguments of `fit`.

    Args:
        cost: as for `fit`.
        stated: what is said of parameters.
        column: of the data, for spreads that name one.
        loss: as for `fit`.
        sigma: as for `fit`.
        weights: as for `fit`.
        constraints: as for `fit`.
        maximize: as for `fit`.

    Raises:
        ArgumentError: what cannot be said together, or what ties and relations cannot be.
        DataError: spreads that are no finite numbers.
    """
    equations = equations_of(cost)
    rule = _loss(loss, equations)
    if maximize and equations:
        raise ArgumentError("maximize is for a cost; the losses of an equation are minimised")
    spreads = spreads_of(equations, sigma, weights, column)
    relations = relations_of(constraints)
    ties = {key: p.initial for key, p in (stated or {}).items() if is_tie(p.initial)}
    own = sides(equations) if equations else {"out": cost}
    own |= _expressed(spreads)
    own |= {f"loss {symbol}": symbol for symbol in (rule.symbols if rule is not None else ())}
    others = {f"tie {k}": expression for k, expression in enumerate(ties.values())}
    others |= {f"constraint {k}": expression for k, (*_, expression) in enumerate(relations)}
    graph = lowered(own | others)
    everything = Inputs(graph)
    tied = {everything.require(key, "params"): f"tie {k}" for k, key in enumerate(ties)}
    for key in ties:
        refuse_bounds(str(key), (stated or {})[key])
    graph = substituted(graph, tied) if tied else graph
    in_cost = Inputs(graph, needed(graph, [graph.outputs[name] for name in own]))
    if any(_may_be_square(graph, v) for v in graph.order):
        graph = in_normal_form(graph)
    return Expressions(
        graph,
        equations,
        rule,
        spreads,
        {name: (output, others[output]) for name, output in tied.items()},
        {f"constraint {k}": (text, kind) for k, (text, kind, _) in enumerate(relations)},
        everything,
        in_cost,
    )


def _expressed(spreads: Mapping[int, Spread]) -> dict[str, Any]:
    """The spreads that are expressions, by the names of their outputs."""
    return {label(s.kind, k): s.expression for k, s in spreads.items() if s.array is None}


def _loss(loss: Any, equations: Sequence[Equation]) -> Loss | None:
    if loss is None:
        return None
    if not equations:
        raise ArgumentError("loss belongs to an equation, Eq(y, model) or {y: model}; a cost says itself what is lost")
    rule = loss_of(loss)
    return None if rule.is_square else rule


def _may_be_square(graph: Graph, v: int) -> bool:
    """Whether a node may be a square, or a sum of squares, that is written as the product of a value with itself."""
    operands = graph.operands(v)
    return graph[v].op is einsum or (graph[v].op is mul and len(set(operands)) < len(operands))
