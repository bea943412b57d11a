"""Takes the guards of derivatives away where a graph is to be read: they matter to floats, not to mathematics.

A cotangent that passes an operation on a whole tensor carries the guard "some element needs it", so that no NaN of a
branch that is not taken gets in. Where nothing needs it the cotangent is zero anyway.
"""

from __future__ import annotations

import math

from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import cast
from sym2tf.ops.assembly import eye
from sym2tf.ops.contraction import reduce_any
from sym2tf.ops.indexing import broadcast, expand, squeeze, transpose
from sym2tf.ops.leaves import const, input_
from sym2tf.ops.logic import and_, less, or_, select
from sym2tf.ops.piecewise_linear import abs_
from sym2tf.ops.values import Value, with_kind, with_shape
from sym2tf.passes.counting import constant_value


def without_guards(graph: Graph) -> Graph:
    """`graph` with `select(some element needs it, x, 0)` replaced by `x`, in derivatives only."""
    builder, where = Builder(), dict[int, int]()
    for v in graph.order:
        node, operands = graph[v], graph.operands(v)
        if node.op is select and constant_value(graph, operands[2]) == 0 and _is_guard(graph, operands[0]):
            value = with_kind(Value(builder, where[operands[1]]), node.type.kind)
            where[v] = with_shape(value, node.type.shape).id
        elif node.op is select and _is_nan(graph, operands[1]) and _is_hit(graph, operands[0]):
            where[v] = with_shape(Value(builder, where[operands[2]]), node.type.shape).id
        else:
            where[v] = builder.copy_node(graph, v, [where[u] for u in operands])
    outputs = {name: where[v] for name, v in graph.outputs.items()}
    return builder.build([where[v] for v in graph.inputs], outputs, graph.info)


def _is_hit(graph: Graph, v: int) -> bool:
    """Whether `v` says that a masked sum needs something that is not finite (`emission.finite`)."""
    while graph[v].op in (expand, broadcast, squeeze, transpose):
        (v,) = graph.operands(v)
    parts = graph.operands(v) if graph[v].op is or_ else (v,)
    return all(graph[u].op is less and constant_value(graph, graph.operands(u)[0]) == 0 for u in parts) and all(
        _is_support(graph, u) for u in parts
    )


def _is_finite(graph: Graph, v: int) -> bool:
    """Whether `v` says that something is finite, which in mathematics it always is."""
    if graph[v].op is not less:
        return False
    size, limit = graph.operands(v)
    return graph[size].op is abs_ and constant_value(graph, limit) == math.inf


def _is_nan(graph: Graph, v: int) -> bool:
    value = constant_value(graph, v)
    return isinstance(value, float) and math.isnan(value)


def _is_guard(graph: Graph, v: int) -> bool:
    """Whether `v`, made by differentiation, says that the support of a cotangent, or of several, reaches an element."""
    stack = [v]
    while stack:
        u = stack.pop()
        while graph[u].op in (expand, broadcast, squeeze, transpose):
            (u,) = graph.operands(u)
        node = graph[u]
        if node.op in (or_, and_):
            stack += graph.operands(u)
        elif _is_finite(graph, u):
            continue
        elif node.stage != "derivative":
            return False
        elif node.op is less:
            if constant_value(graph, graph.operands(u)[0]) != 0 or not _is_support(graph, u):
                return False
        elif node.op is not reduce_any:
            return False
    return True


def _is_support(graph: Graph, v: int) -> bool:
    """Whether `less(0, v)` asks for a sum of zeros and ones, however moved and contracted."""
    stack, found = [graph.operands(v)[1]], False
    seen = set(stack)
    while stack:
        u = stack.pop()
        node = graph[u]
        if node.op is cast and graph[graph.operands(u)[0]].type.kind is Kind.BOOLEAN:
            found = True
        elif node.op in (const, eye):
            continue
        elif node.op.elementwise or node.op is input_:
            return False
        else:
            fresh = [w for w in graph.operands(u) if w not in seen and graph[w].type.kind >= Kind.REAL]
            seen.update(fresh)
            stack += fresh
    return found
