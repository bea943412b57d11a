"""The graph and its builder: equal nodes are one node, every invariant is checked, nothing recurses."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import networkx as nx
import pytest

from sym2tf.errors import GraphError, ShapeError
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph, Node
from sym2tf.ir.types import BOOLEAN, INTEGER, REAL, Kind, TensorType
from sym2tf.ops.arithmetic import add, mul, pow_
from sym2tf.ops.elementary import sin
from sym2tf.ops.indexing import expand, sum_
from sym2tf.ops.leaves import const, input_, size
from sym2tf.ops.values import Value, constant


def an_input(builder: Builder, name: str, type_: TensorType = REAL) -> int:
    return builder.add(input_, (), {"name": name, "symbol": name, "type": type_})


def a_square() -> Graph:
    """sin(x*x) of one input."""
    builder = Builder()
    x = an_input(builder, "x")
    y = builder.add(sin, [builder.add(mul, [x, x])])
    return builder.build([x], {"y": y})


# The builder --------------------------------------------------------------------------------------


def test_the_same_operation_on_the_same_operands_is_one_node() -> None:
    builder = Builder()
    x = an_input(builder, "x")
    assert builder.add(sin, [x]) == builder.add(sin, [x])
    assert len(builder.nodes) == 2


def test_operands_of_a_commutative_operation_have_no_order_and_others_have() -> None:
    builder = Builder()
    x, y = an_input(builder, "x"), an_input(builder, "y")
    assert builder.add(add, [x, y]) == builder.add(add, [y, x])
    assert builder.add(pow_, [x, y]) != builder.add(pow_, [y, x])


def test_attributes_tell_nodes_apart_by_value_and_by_type() -> None:
    builder = Builder()
    one = builder.add(const, (), {"value": Fraction(1), "kind": Kind.INTEGER})
    assert builder.add(const, (), {"kind": Kind.INTEGER, "value": Fraction(1)}) == one
    assert builder.add(const, (), {"value": Fraction(1), "kind": Kind.REAL}) != one
    true = builder.add(const, (), {"value": True, "kind": Kind.BOOLEAN})
    assert builder.nodes[true].attributes["value"] is True, "True == 1 must not make them one constant"


def test_a_type_error_leaves_no_node_behind() -> None:
    builder = Builder()
    x = an_input(builder, "x")
    with pytest.raises(ShapeError, match="axes"):
        builder.add(sum_, [x], {"axes": (-1,)})
    assert len(builder.nodes) == 1


def test_what_no_output_needs_is_left_out_but_inputs_stay() -> None:
    builder = Builder()
    x, unused = an_input(builder, "x"), an_input(builder, "unused")
    y = builder.add(sin, [x])
    builder.add(mul, [x, y])
    graph = builder.build([x, unused], {"y": y}).validate()
    assert graph.counts() == {"input": 2, "sin": 1}


def test_including_a_graph_twice_adds_nothing_and_keeps_origin_and_stage() -> None:
    source = Builder(stage="derivative")
    source.origin = "where it came from"
    x = an_input(source, "x")
    graph = source.build([x], {"y": source.add(sin, [x])})
    builder = Builder()
    first = builder.include(graph)
    assert builder.include(graph) == first
    copied = builder.nodes[first[graph.outputs["y"]]]
    assert (copied.stage, copied.origin) == ("derivative", "where it came from")


# The graph ----------------------------------------------------------------------------------------


def test_x_times_x_has_two_parallel_edges() -> None:
    graph = a_square()
    product = next(v for v in graph.nx if graph[v].op is mul)
    (x,) = graph.inputs
    assert sorted(graph.nx[x][product]) == [0, 1]
    assert graph.operands(product) == (x, x)
    assert graph.use_count(x) == 2
    assert graph.users(x) == [product]


def test_operands_keep_their_positions() -> None:
    builder = Builder()
    x, y = an_input(builder, "x"), an_input(builder, "y")
    power = builder.add(pow_, [y, x])
    assert builder.build([x, y], {"p": power}).operands(power) == (y, x)


def test_the_order_puts_operands_first_and_is_the_same_every_time() -> None:
    graph = a_square()
    place = {v: k for k, v in enumerate(graph.order)}
    assert all(place[u] < place[v] for u, v in graph.nx.edges())
    assert a_square().order == graph.order


def test_size_names_are_found_in_types_and_in_attributes() -> None:
    builder = Builder()
    n, m = size_symbol("n"), size_symbol("m")
    x = an_input(builder, "x", TensorType(Kind.REAL, (n - 1,)))
    y = Value(builder, x)
    total = sum_(y, axes=(-1,)).apply(const, (), {"value": Fraction(1), "kind": Kind.REAL})
    length = builder.add(size, (), {"size": n * m})
    graph = builder.build([x], {"a": total.id, "b": length})
    assert graph.size_names() == {"n", "m"}


def test_a_valid_graph_validates_to_itself() -> None:
    graph = a_square()
    assert graph.validate() is graph


def with_node(graph: Graph, v: int, **changes: Any) -> Graph:
    """The graph with the record of one node changed behind its back."""
    copy = graph.nx.copy()
    old = graph[v]
    fields = {"op": old.op, "attributes": old.attributes, "type": old.type} | changes
    copy.nodes[v]["node"] = Node(**fields)
    return Graph(copy, graph.inputs, graph.outputs)


def with_edges(graph: Graph, edit: Callable[[nx.MultiDiGraph], object]) -> Graph:
    copy = graph.nx.copy()
    edit(copy)
    return Graph(copy, graph.inputs, graph.outputs)


def a_cycle() -> Graph:
    graph = a_square()
    y = graph.outputs["y"]
    product = next(v for v in graph.nx if graph[v].op is mul)
    return with_edges(graph, lambda g: g.add_edge(y, product, 2))


def an_output_that_is_no_node() -> Graph:
    graph = a_square()
    return Graph(graph.nx, graph.inputs, {"lost": 99})


def an_input_that_is_no_node() -> Graph:
    graph = a_square()
    return Graph(graph.nx, (98,), graph.outputs)


def a_missing_position() -> Graph:
    graph = a_square()
    (x,) = graph.inputs
    product = next(v for v in graph.nx if graph[v].op is mul)
    return with_edges(graph, lambda g: g.remove_edge(x, product, 0))


def a_doubled_position() -> Graph:
    builder = Builder()
    x, y = an_input(builder, "x"), an_input(builder, "y")
    graph = builder.build([x, y], {"s": builder.add(mul, [x, y])})
    (product,) = graph.outputs.values()

    def edit(g: nx.MultiDiGraph) -> None:
        g.remove_edge(y, product, 1)
        g.add_edge(y, product, 0)

    return with_edges(graph, edit)


def too_many_operands() -> Graph:
    graph = a_square()
    (x,) = graph.inputs
    return with_edges(graph, lambda g: g.add_edge(x, graph.outputs["y"], 1))


def a_wrong_type() -> Graph:
    graph = a_square()
    return with_node(graph, graph.outputs["y"], type=BOOLEAN)


def operands_that_do_not_fit() -> Graph:
    builder = Builder()
    a = an_input(builder, "a", TensorType(Kind.REAL, (2,)))
    b = an_input(builder, "b", TensorType(Kind.REAL, (2,)))
    graph = builder.build([a, b], {"s": builder.add(add, [a, b])})
    wider = TensorType(Kind.REAL, (3,))
    return with_node(graph, b, type=wider, attributes={"name": "b", "symbol": "b", "type": wider})


def two_equal_nodes() -> Graph:
    graph = a_square()
    copy = graph.nx.copy()
    (x,) = graph.inputs
    product = next(v for v in graph.nx if graph[v].op is mul)
    copy.add_node(50, node=graph[product])
    copy.add_edge(x, 50, 0)
    copy.add_edge(x, 50, 1)
    return Graph(copy, graph.inputs, {**graph.outputs, "again": 50})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (a_cycle, "cycle"),
        (an_output_that_is_no_node, "lost is not a node"),
        (an_input_that_is_no_node, "input 0 is not a node"),
        (a_missing_position, r"mul has operand positions \[1\]"),
        (a_doubled_position, r"mul has operand positions \[0, 0\]"),
        (too_many_operands, "sin takes 1 operands, got 2"),
        (a_wrong_type, "sin has type boolean"),
        (operands_that_do_not_fit, "add: axes of length 2 and 3"),
        (two_equal_nodes, "both mul of the same operands"),
    ],
)
def test_validate_finds_every_broken_invariant(broken: Callable[[], Graph], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        broken().validate()


def chain(levels: int) -> Graph:
    builder = Builder()
    x = v = an_input(builder, "x")
    for _ in range(levels):
        v = builder.add(sin, [v])
    return builder.build([x], {"y": v})


def test_a_chain_of_100_000_levels_builds_validates_and_copies_without_recursion() -> None:
    assert sys.getrecursionlimit() < 100_000
    graph = chain(100_000).validate()
    assert len(graph) == 100_001
    assert len(graph.ancestors(graph.outputs["y"])) == 100_001
    builder = Builder()
    where = builder.include(graph)
    assert len(builder.nodes) == 100_001
    assert where[graph.outputs["y"]] == 100_000


def test_building_and_validating_takes_linear_time() -> None:
    def seconds(levels: int) -> float:
        def once() -> float:
            start = time.process_time()
            chain(levels).validate()
            return time.process_time() - start

        return min(once() for _ in range(3))

    # eight times the nodes; quadratic time would be 64 times as long
    assert seconds(16_000) < 24 * seconds(2_000)


# Values -------------------------------------------------------------------------------------------


def test_subtraction_division_and_negation_are_spelled_with_add_mul_and_pow() -> None:
    builder = Builder()
    x, y = Value(builder, an_input(builder, "x")), Value(builder, an_input(builder, "y"))
    result = (x - y) / (-x) - 3
    graph = builder.build([x.id, y.id], {"r": result.id}).validate()
    assert set(graph.counts()) == {"input", "const", "add", "mul", "pow"}


def test_core_ranks_are_aligned_by_explicit_nodes() -> None:
    builder = Builder()
    x = Value(builder, an_input(builder, "x"))
    row = Value(builder, an_input(builder, "row", TensorType(Kind.REAL, (size_symbol("n"),))))
    product = x * row
    assert product.shape == (size_symbol("n"),)
    assert any(node.op is expand for node in builder.nodes)


def test_numbers_beside_values_stay_exact_and_take_the_kind_of_the_result() -> None:
    builder = Builder()
    x = Value(builder, an_input(builder, "x"))
    third = constant(builder, Fraction(1, 3))
    assert third.constant == Fraction(1, 3)
    assert constant(builder, 0.1).constant == Fraction(0.1)
    two = (x + 2).node
    graph = builder.build([x.id], {"y": (x + 2).id}).validate()
    (number,) = [v for v in graph.nx if graph[v].op is const]
    assert graph[number].type == REAL
    assert two.type == REAL


def test_integers_stay_integers_under_addition_and_become_real_under_division() -> None:
    builder = Builder()
    k = Value(builder, an_input(builder, "k", INTEGER))
    assert (k + 1).type == INTEGER
    assert (k / 2).type == REAL
    builder.build([k.id], {"y": (k / 2 + k).id}).validate()
