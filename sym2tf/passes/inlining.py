"""Puts a graph of scalars into another one, elementwise: values of any shape take the place of its inputs.

This is how an update rule, stated once for a number, is applied to every parameter of a model.
"""

from __future__ import annotations

from collections.abc import Mapping

from sym2tf.errors import GraphError
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ops.values import Value, apply


def inline(builder: Builder, graph: Graph, bound: Mapping[int, Value]) -> dict[str, Value]:
    """The outputs of `graph` as values of `builder`.

    Args:
        builder: of the graph that receives it.
        graph: elementwise operations on scalars.
        bound: for every input of `graph` a value of the same kind; their core shapes broadcast.

    Raises:
        GraphError: an input is not bound, or bound to a value of another kind; a node is no scalar, or no elementwise
            operation.
    """
    where: dict[int, Value] = {}
    for v in graph.order:
        node, operands = graph[v], graph.operands(v)
        if node.type.shape:
            raise GraphError(f"{node.op.name} has core shape {node.type}: only graphs of scalars are inlined")
        if v in bound:
            if bound[v].type.kind is not node.type.kind:
                raise GraphError(f"input {node.attributes['name']} is {node.type.kind}, not {bound[v].type.kind}")
            where[v] = bound[v]
        elif v in graph.inputs:
            raise GraphError(f"input {node.attributes['name']} is not bound")
        elif not operands:
            where[v] = Value(builder, builder.copy_node(graph, v, ()))
        elif node.op.elementwise:
            builder.origin = node.origin
            where[v] = apply(builder, node.op, [where[u] for u in operands], node.attributes)
        else:
            raise GraphError(f"{node.op.name} is not elementwise")
    builder.origin = None
    return {name: where[v] for name, v in graph.outputs.items()}
