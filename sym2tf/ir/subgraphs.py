"""Parts of a graph as graphs of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sym2tf.ir.graph import Builder, Graph


def needed(graph: Graph, nodes: Iterable[int]) -> set[int]:
    """The nodes themselves, and all that they are computed from."""
    found = set(nodes)
    for v in reversed(graph.order):
        if v in found:
            found.update(graph.operands(v))
    return found


def extract(graph: Graph, outputs: Mapping[str, int], keep: Iterable[int] = ()) -> Graph:
    """The part of `graph` that computes `outputs`, with only the inputs that it needs, and those in `keep`."""
    builder = Builder()
    kept = needed(graph, [*outputs.values(), *keep])
    where: dict[int, int] = {}
    for v in graph.order:
        if v in kept:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    inputs = [v for v in graph.inputs if v in kept]
    return built(builder, graph, inputs, where, {n: where[v] for n, v in outputs.items()})


def built(
    builder: Builder, graph: Graph, inputs: Sequence[int], where: Mapping[int, int], outputs: Mapping[str, int]
) -> Graph:
    """What `builder` made of parts of `graph`, whose `inputs` are at `where`, with what is known about them."""
    names = {graph[v].attributes["name"] for v in inputs}
    reaches = tuple(reach for reach in graph.info.get("reaches", ()) if reach[0] in names)
    arguments = tuple(graph[v].attributes["name"] for v in inputs)
    info = {**graph.info, "reaches": reaches, "args": arguments, "outputs": tuple(outputs)}
    return builder.build([where[v] for v in inputs], outputs, info)
