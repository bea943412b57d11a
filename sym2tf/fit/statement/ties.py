"""Parameters that are expressions in other parameters: they are replaced by these in the graph of the statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sym2tf.errors import ArgumentError
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Builder, Graph
from sym2tf.lazy import lazy

nx = lazy("networkx")


@dataclass(frozen=True)
class Tie:
    """A parameter that depends on others.

    Attributes:
        symbol, name: of the parameter.
        expression: what it is tied to, as the user wrote it.
        graph: its value, output `"out"`, in terms of parameters that are not tied.
    """

    symbol: Any
    name: str
    expression: Any
    graph: Graph = field(repr=False)


def substituted(graph: Graph, ties: Mapping[str, str]) -> Graph:
    """`graph` without the inputs that are tied: what they are tied to stands in their place.

    Args:
        graph: with the expressions as outputs.
        ties: name of an input -> of the output that takes its place.

    Raises:
        ArgumentError: ties in a circle, or an expression of another shape than the parameter.
    """
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    replaced = {nodes[name]: graph.outputs[output] for name, output in ties.items()}
    for v, source in replaced.items():
        if graph[v].type.shape != graph[source].type.shape:
            raise ArgumentError(
                f"{graph[v].attributes['name']} is tied to an expression of type {graph[source].type}, "
                f"but is itself {graph[v].type}"
            )
    builder = Builder()
    where: dict[int, int] = {}
    for v in _order(graph, replaced):
        if v in replaced:
            where[v] = where[replaced[v]]
        else:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    inputs = [where[v] for v in graph.inputs if v not in replaced]
    return builder.build(inputs, {name: where[v] for name, v in graph.outputs.items()}, graph.info)


def _order(graph: Graph, replaced: Mapping[int, int]) -> list[int]:
    """The nodes so that a tied input comes after what it is tied to."""
    combined = nx.DiGraph(graph.nx)
    combined.add_edges_from((source, v) for v, source in replaced.items())
    try:
        return list(nx.topological_sort(combined))
    except nx.NetworkXUnfeasible:
        circle = [u for u, _ in nx.find_cycle(combined) if u in replaced]
        names = [graph[v].attributes["name"] for v in circle]
        raise ArgumentError(
            f"params ties {' to '.join([*names, names[0]])}: a circle, in which nothing is free"
        ) from None


def is_tie(value: Any) -> bool:
    """Whether a start value is an expression in other symbols."""
    return bool(getattr(value, "free_symbols", None))


def refuse_bounds(name: str, stated: Any) -> None:
    """A tied parameter has nothing of its own; raises `ArgumentError` where something is stated."""
    if stated.bounds is not None or stated.fixed:
        what = "bounds" if stated.bounds is not None else "fixed=True"
        raise ArgumentError(
            f"{name} is tied to {describe(stated.initial)} and has {what}: state that of the other parameters, or as a "
            "relation in constraints"
        )
