"""Derivatives by one element of an input: `w[0]` of an indexed base `w`.

The element gets a new scalar input, a shift that is added to it; the derivative by the shift at zero is the derivative
by the element, to any order and in any mode, and no rule needs to know about elements.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sym2tf.errors import ShapeError
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.indexing import pad
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, constant, with_rank

Element = tuple[int, tuple[int, ...]]  # an input node and the subscripts


def with_shifts(graph: Graph, elements: Sequence[Element]) -> tuple[Graph, list[int]]:
    """The graph with a shift added to each of some elements of its inputs, and the new inputs that are the shifts.

    The inputs of `graph` stay first and in order.

    Raises:
        ShapeError: a subscript too many or too few, or beyond an axis of known length.
    """
    if not elements:
        return graph, []
    builder = Builder()
    where: dict[int, int] = {}
    shifts: dict[int, Value] = {}
    kept: dict[int, int] = {}
    for v in graph.order:
        where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
        kept[v] = where[v]
        for k, (base, subscripts) in enumerate(elements):
            if base == v:
                name = f"{graph[v].attributes['name']}_{'_'.join(map(str, subscripts))}"
                attributes = {"name": f"{name}_shift{k}", "symbol": None, "type": TensorType(Kind.REAL)}
                shifts[k] = Value(builder, builder.add(input_, (), attributes))
                whole = Value(builder, where[v])
                where[v] = (whole + _placed(shifts[k], whole, subscripts)).id
    inputs = [kept[v] for v in graph.inputs] + [shifts[k].id for k in range(len(elements))]
    outputs = {name: where[v] for name, v in graph.outputs.items()}
    return builder.build(inputs, outputs, graph.info), inputs[len(graph.inputs) :]


def without_shifts(graph: Graph, names: Collection[str]) -> Graph:
    """The graph with zero for the inputs called `names`."""
    if not names:
        return graph
    builder = Builder()
    where: dict[int, int] = {}
    for v in graph.order:
        node = graph[v]
        if node.op is input_ and node.attributes["name"] in names:
            where[v] = constant(builder, 0, Kind.REAL).id
        else:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    inputs = [where[v] for v in graph.inputs if graph[v].attributes["name"] not in names]
    return builder.build(inputs, {name: where[v] for name, v in graph.outputs.items()}, graph.info)


def _placed(shift: Value, whole: Value, subscripts: tuple[int, ...]) -> Value:
    """`shift` at one place of a tensor of zeros in the shape of `whole`."""
    if len(subscripts) != whole.type.rank:
        raise ShapeError(f"{len(subscripts)} subscripts for an input with {whole.type.rank} axes")
    placed = with_rank(shift, whole.type.rank)
    for k, at in enumerate(subscripts):
        size, axis = whole.shape[k], k - whole.type.rank
        if at < 0 or (isinstance(size, int) and at >= size):
            raise ShapeError(f"element {at} of an axis of length {size}: elements count from 0 to {size - 1}")
        placed = pad(placed, axis=axis, before=at, after=size - 1 - at)
    return placed
