"""What passes count: uses of a node, and the operations that a graph costs."""

from __future__ import annotations

from sym2tf.ir.graph import Graph
from sym2tf.ir.op import Op
from sym2tf.ops.indexing import expand
from sym2tf.ops.leaves import Exact, const

FREE = frozenset({"expand", "squeeze", "cast"})  # a reshape in TensorFlow, or folded into a constant


def use_counts(graph: Graph) -> dict[int, int]:
    """How often each node is used, as an operand or as an output: `Graph.use_count` of all nodes at once."""
    uses = dict.fromkeys(graph.order, 0)
    for v in graph.order:
        for u in graph.operands(v):
            uses[u] += 1
    for v in graph.outputs.values():
        uses[v] += 1
    return uses


def operation_count(graph: Graph) -> int:
    """The cost of a graph in binary operations: an n-ary node costs n - 1, any other node with operands 1.

    Leaves, reshapes and casts cost nothing.
    """
    total = 0
    for v in graph.order:
        op, operands = graph[v].op, len(graph.operands(v))
        if operands and op.name not in FREE:
            total += operands - 1 if op.associative else 1
    return total


def constant_value(graph: Graph, v: int) -> Exact | None:
    """The number that `v` is, seen through the `expand` nodes that align ranks; None if it is no `const`."""
    while is_op(graph, v, expand):
        v = graph.operands(v)[0]
    return graph[v].attributes["value"] if is_op(graph, v, const) else None


def is_op(graph: Graph, v: int, op: Op) -> bool:
    """Whether `v` is an `op`."""
    return graph[v].op is op
