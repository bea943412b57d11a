"""Functions of what is picked: the same numbers of fewer operations, and nothing moves that others need."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sym2tf.autodiff.derivatives import vjp
from sym2tf.backends.numpy import evaluate
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add, log, mul
from sym2tf.ops.assembly import reshape
from sym2tf.ops.elementary import exp, sin
from sym2tf.ops.gathering import gathered, stride
from sym2tf.ops.indexing import expand, slice_, squeeze, transpose
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value
from sym2tf.passes.picking import pick
from sym2tf.passes.pipeline import stabilize

n = size_symbol("n")
rng = np.random.default_rng(3)
X, G = rng.uniform(1, 2, size=(5, 4)), np.array([2, 0])


def made(build: Callable[..., Any]) -> Graph:
    """The graph of `build(x, y, g)`: x of shape (n, 4), a number y, two integers g."""
    builder = Builder()
    types = {
        "x": TensorType(Kind.REAL, (n, 4)),
        "y": TensorType(Kind.REAL, ()),
        "g": TensorType(Kind.INTEGER, (2,)),
    }
    nodes = [builder.add(input_, (), {"name": k, "symbol": k, "type": t}) for k, t in types.items()]
    found = build(*(Value(builder, v) for v in nodes))
    outputs = found if isinstance(found, tuple) else (found,)
    return builder.build(nodes, {f"o{k}": v.id for k, v in enumerate(outputs)}).validate()


def elements(graph: Graph) -> int:
    """How many numbers elementwise operations make, for n = 5."""
    total = 0
    for v in graph.order:
        if graph[v].op.elementwise and graph.operands(v):
            total += int(np.prod([d if isinstance(d, int) else 5 for d in graph[v].type.shape]))
    return total


def row(value: Any, start: int = 1) -> Any:
    return squeeze(slice_(value, axis=-2, start=start, size=1), axis=-2)


CASES: dict[str, tuple[Callable[..., Any], int]] = {
    "gather": (lambda x, y, g: gathered(log(x), g, axis=-2), 8),
    "slice": (lambda x, y, g: slice_(exp(log(x)), axis=-1, start=1, size=2), 20),
    "stride": (lambda x, y, g: stride(sin(x), axis=-1, start=3, size=2, step=-2), 10),
    "with-numbers": (lambda x, y, g: gathered(mul(y, add(log(x), 3)), g, axis=-2), 24),
    "through-movements": (
        lambda x, y, g: gathered(reshape(transpose(log(y * x), axes=(-1, -2)), rank=2, shape=(4 * n,)), g),
        4,
    ),
    "down-to-a-number": (lambda x, y, g: squeeze(slice_(exp(y + row(x)), axis=-1, start=0, size=1), axis=-1), 2),
    "twice": (lambda x, y, g: gathered(sin(gathered(log(x), g, axis=-2)), g * 0, axis=-1), 8 + 2),
    "squares": (lambda x, y, g: gathered(mul(x, x), g, axis=-2), 8),
}


@pytest.mark.parametrize("name", CASES)
def test_only_what_is_picked_is_computed(name: str) -> None:
    build, due = CASES[name]
    graph = made(build)
    found, fired = pick(graph)
    data = {"x": X, "y": 0.5, "g": G}
    assert fired["function of what is picked"] >= 1
    assert elements(found.validate()) == due < elements(graph)
    for key, value in evaluate(graph, data).items():
        np.testing.assert_array_equal(evaluate(found, data)[key], value)


@pytest.mark.parametrize(
    "build",
    [
        lambda x, y, g: (gathered(log(x), g, axis=-2), log(x)),
        lambda x, y, g: add(slice_(log(x), axis=-1, start=0, size=3), slice_(log(x), axis=-1, start=1, size=3)),
        lambda x, y, g: gathered(log(row(x)), expand(g, axis=-1) + expand(g, axis=-2) * 0),
        lambda x, y, g: gathered(mul(x, exp(x)), g, axis=-2),
        lambda x, y, g: gathered(x, g, axis=-2),
    ],
    ids=["an-output", "two-users", "as-many", "two-tensors", "no-function"],
)
def test_what_others_need_or_costs_no_less_stays(build: Callable[..., Any]) -> None:
    graph = made(build)
    assert pick(graph) == (graph, {})


def test_an_element_that_nobody_looks_at_has_derivative_zero() -> None:
    graph = stabilize(made(lambda x, y, g: gathered(log(x), g, axis=-2)))
    assert graph.counts()["log"] == 1
    (x,) = (v for v in graph.inputs if graph[v].attributes["name"] == "x")
    zeros = np.where(np.isin(np.arange(5), G)[:, None], X, 0)
    backward = vjp(graph, [x])
    ones = {graph_name(backward, backward.inputs[-1]): np.ones((2, 4))}
    (by_x,) = evaluate(backward, {"x": zeros, "y": 0.0, "g": G} | ones).values()
    np.testing.assert_allclose(by_x, np.divide(1, zeros, where=zeros > 0, out=np.zeros_like(zeros)))


def graph_name(graph: Graph, v: int) -> str:
    name: str = graph[v].attributes["name"]
    return name


def test_deep_graphs_take_linear_time() -> None:
    def chain(depth: int) -> Callable[..., Any]:
        def build(x: Any, y: Any, g: Any) -> Any:
            for _ in range(depth):
                x = slice_(sin(sin(x)), axis=-1, start=0, size=4)
            return gathered(x, g, axis=-2)

        return build

    graph = made(chain(10_000))
    start = time.process_time()
    pick(graph)
    assert time.process_time() - start < 5
