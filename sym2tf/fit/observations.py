"""The axis of observations: a model of scalar symbols becomes one of arrays, for a cost to sum over."""

from __future__ import annotations

from collections.abc import Iterable

from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import TensorType
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, apply

OBSERVATIONS = "n_observations"


def with_observation_axis(graph: Graph, inputs: Iterable[int]) -> Graph:
    """`graph` with one more core axis, in front, of the common length `n_observations`, on each of `inputs`.

    Every operation is applied again: attributes count axes from the right, so they stay what they are, and
    operands
    without the new axis broadcast.
    """
    chosen = set(inputs)
    name = OBSERVATIONS
    while name in graph.size_names() or name in graph.info.get("sizes", {}):
        name += "_"
    builder = Builder()
    where: dict[int, int] = {}
    for v in graph.order:
        node = graph[v]
        if v in chosen:
            longer = TensorType(node.type.kind, (size_symbol(name), *node.type.shape))
            where[v] = builder.add(input_, (), {**node.attributes, "type": longer}, origin=node.origin)
            continue
        operands = [Value(builder, where[u]) for u in graph.operands(v)]
        builder.origin = node.origin
        where[v] = apply(builder, node.op, operands, node.attributes).id
    outputs = {key: where[v] for key, v in graph.outputs.items()}
    return builder.build([where[v] for v in graph.inputs], outputs, graph.info)
