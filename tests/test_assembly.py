"""Sums of padded values become concatenations where the values lie side by side, and stay sums where they overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

import sym2tf
from sym2tf.backends.numpy import evaluate
from sym2tf.ir.dims import Size, size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add
from sym2tf.ops.assembly import concat, stack
from sym2tf.ops.indexing import expand, pad, slice_
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, apply, constant
from sym2tf.passes.assembly import assemble

n = size_symbol("n")


def padded_sum(
    shape: tuple[Size, ...], axis: int, places: list[tuple[int, int]], *, scalars: bool = False, rest: bool = False
) -> Graph:
    """A sum of inputs `x0`, ... of the given `(start, length)` along an axis of a tensor of `shape`.

    With `scalars`, inputs that lack all axes of length 1, which are expanded. With `rest`, one more term.
    """
    builder = Builder()
    inputs, terms = [], []

    def given(name: str, of: tuple[Size, ...]) -> Value:
        type_ = TensorType(Kind.REAL, of)
        inputs.append(builder.add(input_, (), {"name": name, "symbol": name, "type": type_}))
        return Value(builder, inputs[-1])

    for k, (start, length) in enumerate(places):
        own = list(shape)
        own[axis] = length
        value = given(f"x{k}", tuple(d for d in own if d != 1) if scalars else tuple(own))
        for a in range(len(own)):
            if scalars and own[a] == 1:
                value = expand(value, axis=a - (value.type.rank + 1) - (0 if a <= value.type.rank else 1))
        assert value.shape == tuple(own)
        terms.append(pad(value, axis=axis, before=start, after=shape[axis] - start - length))
    if rest:
        terms.append(given("rest", shape))
    y = apply(builder, add, terms)
    return builder.build(inputs, {"y": y.id}).validate()


CASES: list[tuple[dict[str, Any], dict[str, int]]] = [
    ({"shape": (3,), "axis": -1, "places": [(0, 1), (1, 1), (2, 1)], "scalars": True}, {"stack": 1, "pad": 0}),
    ({"shape": (5,), "axis": -1, "places": [(3, 1), (1, 1), (2, 1)], "scalars": True}, {"stack": 1, "pad": 1}),
    ({"shape": (n,), "axis": -1, "places": [(0, 1), (1, 1)], "scalars": True, "rest": True}, {"stack": 1, "pad": 1}),
    ({"shape": (4, 1), "axis": -2, "places": [(0, 1), (1, 1), (2, 1), (3, 1)], "scalars": True},
     {"stack": 1, "expand": 1, "pad": 0}),
    ({"shape": (1, 1, 3), "axis": -1, "places": [(0, 1), (1, 1), (2, 1)], "scalars": True},
     {"stack": 1, "expand": 2, "pad": 0}),
    ({"shape": (2, 4), "axis": -1, "places": [(0, 1), (1, 1), (2, 1), (3, 1)], "scalars": True},
     {"stack": 1, "pad": 0}),
    ({"shape": (2, 9), "axis": -1, "places": [(0, 2), (2, 3), (7, 1)]}, {"concat": 2, "pad": 1}),
    ({"shape": (7, 2), "axis": -2, "places": [(1, 2), (5, 2)]}, {"concat": 1, "pad": 1}),
    ({"shape": (9,), "axis": -1, "places": [(0, 1), (5, 1), (6, 1)], "scalars": True}, {"concat": 1, "stack": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "counts"), CASES)
def test_terms_side_by_side_are_joined_and_the_value_stays(case: dict[str, Any], counts: dict[str, int]) -> None:
    graph = padded_sum(**case)
    joined, fired = assemble(graph)
    joined.validate()
    assert fired["padded terms side by side"] == len(case["places"])
    assert {name: joined.counts().get(name, 0) for name in counts} == counts
    rng = np.random.default_rng(0)
    types = {graph[v].attributes["name"]: graph[v].type.shape for v in graph.inputs}
    for batch in ((), (3,)):
        points = {name: rng.normal(size=(*batch, *(5 if d == n else d for d in s))) for name, s in types.items()}
        points["x0"] = points["x0"][0] if batch else points["x0"]  # without the batch that others have
        due = evaluate(graph, points, {"n": 5})["y"]
        np.testing.assert_array_equal(evaluate(joined, points, {"n": 5})["y"], due)
    assert assemble(joined)[0] is joined


@pytest.mark.parametrize(
    "case",
    [
        {"shape": (4,), "axis": -1, "places": [(0, 2), (1, 2)]},
        {"shape": (4,), "axis": -1, "places": [(0, 2)], "rest": True},
    ],
)
def test_overlapping_and_single_terms_stay_sums(case: dict[str, Any]) -> None:
    graph = padded_sum(**case)
    assert assemble(graph)[0] is graph


def assembled(name: str) -> tuple[Builder, list[int], Value]:
    """A tensor of 3 x 7, put together in one of several ways."""
    builder, inputs = Builder(), []

    def given(*shape: int) -> Value:
        name, type_ = f"x{len(inputs)}", TensorType(Kind.REAL, shape)
        inputs.append(builder.add(input_, (), {"name": name, "symbol": name, "type": type_}))
        return Value(builder, inputs[-1])

    makers = {
        "pad": lambda: pad(given(3, 4), axis=-1, before=2, after=1),
        "pad rows": lambda: pad(pad(given(1, 4), axis=-1, before=2, after=1), axis=-2, before=1, after=1),
        "stack": lambda: stack(*(given(3) for _ in range(7)), axis=-1),
        "concat": lambda: concat(given(3, 2), given(3, 4), given(3, 1), axis=-1),
        "expanded": lambda: expand(expand(stack(*(given() for _ in range(7)), axis=-1), axis=-2), axis=-1),
    }
    return builder, inputs, makers[name]()


@pytest.mark.parametrize(("start", "size"), [(k, size) for size in (1, 2, 5) for k in range(8 - size)])
@pytest.mark.parametrize("name", ["pad", "pad rows", "stack", "concat", "expanded"])
def test_slices_of_what_was_put_together_keep_their_value(name: str, start: int, size: int) -> None:
    builder, inputs, whole = assembled(name)
    y = slice_(whole, axis=-2 if name == "expanded" else -1, start=start, size=size)
    graph = builder.build(inputs, {"y": y.id}).validate()
    found, _ = assemble(graph)
    found.validate()
    rng = np.random.default_rng(0)
    points = {graph[v].attributes["name"]: rng.normal(size=graph[v].type.shape) for v in graph.inputs}
    np.testing.assert_array_equal(evaluate(found, points)["y"], evaluate(graph, points)["y"])
    if size == 1 and name != "pad rows":
        assert found.counts().get("stack", 0) + found.counts().get("concat", 0) + found.counts().get("pad", 0) == 0


def test_zeros_that_are_padded_add_nothing() -> None:
    builder = Builder()
    x = Value(builder, builder.add(input_, (), {"name": "x", "symbol": "x", "type": TensorType(Kind.REAL, (n,))}))
    zero = expand(constant(builder, 0, Kind.REAL), axis=-1)
    y = x + pad(zero, axis=-1, before=0, after=n - 1)
    found, fired = assemble(builder.build([x.id], {"y": y.id}))
    assert found.counts() == {"input": 1}
    assert fired["padded zeros"] == 1


def test_the_derivative_by_an_element_computes_nothing_for_the_others() -> None:
    base = sp.IndexedBase("x")
    f = sym2tf.compile((1 - base[0]) ** 2 + 100 * (base[1] - base[0] ** 2) ** 2)
    whole, first = f.gradient(base).graph, f.gradient(base[1]).graph
    assert whole.counts()["stack"] == 1
    assert whole.counts()["pad"] == 1
    assert not {"stack", "pad", "concat"} & set(first.counts())
    assert len(first) < len(whole) / 2 + 2
    assert evaluate(first, {"x": [1.5, 2.0]})["out/0"] == -50
