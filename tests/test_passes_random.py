"""Random graphs through every pass: valid, the same values, and a fixed point."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sym2tf.backends.numpy import evaluate
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.elementary import cos, exp, sin, tanh
from sym2tf.ops.indexing import broadcast, expand, sum_
from sym2tf.ops.leaves import input_
from sym2tf.ops.logic import less, select
from sym2tf.ops.piecewise_linear import max_, min_
from sym2tf.ops.values import Value
from sym2tf.passes.contraction import contract
from sym2tf.passes.counting import operation_count
from sym2tf.passes.machine import choose_machine_operations
from sym2tf.passes.pipeline import LEVELS, optimize, prune
from sym2tf.passes.sharing import share

N, M = size_symbol("n"), size_symbol("m")
INPUTS = {"s": (), "t": (), "u": (N,), "v": (N,), "p": (M,), "A": (N, M), "B": (N, M)}
SIZES = {"s": (), "t": (), "u": (3,), "v": (3,), "p": (2,), "A": (3, 2), "B": (3, 2)}
NUMBERS = [Fraction(k) for k in (-2, -1, 1, 2, 3)] + [Fraction(1, 3), Fraction(-1, 2)]
EXPONENTS = [Fraction(k) for k in (-3, -2, -1, 2, 3, 6)] + [Fraction(k, 2) for k in (-3, -1, 1, 3)]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Sums, products, powers and reductions of inputs of rank 0 to 2, smooth and of moderate size."""
    builder = Builder()
    inputs = [
        Value(
            builder,
            builder.add(input_, (), {"name": name, "symbol": name, "type": TensorType(Kind.REAL, shape)}),
        )
        for name, shape in INPUTS.items()
    ]
    values = list(inputs)
    pick = lambda: values[draw(st.integers(0, len(values) - 1))]
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["add", "add", "mul", "mul", "pow", "function", "sum", "max", "select", "scale"]))
        operands = _alike([pick() for _ in range(draw(st.integers(2, 4)))])
        first = operands[0]
        if kind == "add":
            values.append(add(*operands))
        elif kind == "mul":
            values.append(mul(*operands))
        elif kind == "scale":
            values.append(draw(st.sampled_from(NUMBERS)) * first)
        elif kind == "pow":  # of something between 1 and 3
            values.append((2 + sin(first)) ** draw(st.sampled_from(EXPONENTS)))
        elif kind == "function":
            values.append(draw(st.sampled_from([sin, cos, tanh, lambda x: exp(tanh(x))]))(first))
        elif kind == "max":
            values.append(draw(st.sampled_from([max_, min_]))(*operands))
        elif kind == "select":
            values.append(select(less(first, operands[1]), operands[0], operands[-1]))
        else:
            rank = first.type.rank
            chosen = draw(st.sets(st.integers(-rank, -1), min_size=1)) if rank else set()
            values.append(sum_(first, axes=tuple(sorted(chosen))) if chosen else broadcast(_vector(first), shape=(N,)))
    outputs = {f"o{k}": v.id for k, v in enumerate(values[-draw(st.integers(1, 4)) :])}
    return builder.build([v.id for v in inputs], outputs)


def _vector(value: Value) -> Value:
    return expand(value, axis=-1)


def _alike(values: list[Value]) -> list[Value]:
    """Operands that broadcast: a vector over m keeps axis -1, one over n gets a new axis there."""
    shapes = {v.shape for v in values}
    if not any(M in shape for shape in shapes):
        return values
    made = []
    for v in values:
        if v.shape and v.shape[-1] == N:
            v = expand(v, axis=-1)
        elif v.shape == (1,) or not v.shape:
            pass
        made.append(v)
    return made


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.uniform(-1.5, 1.5, shape) for name, shape in SIZES.items()}


def assert_same_values(before: Graph, after: Graph) -> None:
    after.validate()
    assert list(after.outputs) == list(before.outputs)
    expected, got = evaluate(before, data()), evaluate(after, data())
    scale = max(1.0, *(float(np.max(np.abs(value))) for value in expected.values()))
    for name, value in expected.items():
        # Reassociation moves the error of one term into another: relative to the largest number in sight.
        np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-11 * scale)


def same(g: Graph, h: Graph) -> bool:
    builder = Builder()
    one, two = builder.include(g), builder.include(h)
    return [one[v] for v in g.outputs.values()] == [two[v] for v in h.outputs.values()]


PASSES = {
    "prune": prune,
    "sharing": share,
    "sharing, exact": lambda graph: share(graph, exact=True),
    "contraction": contract,
    "contraction, split": lambda graph: contract(graph, split=True),
    "contraction, exact": lambda graph: contract(graph, exact=True),
    "machine": choose_machine_operations,
    "machine, exact": lambda graph: choose_machine_operations(graph, exact=True),
}


@pytest.mark.parametrize("name", PASSES)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(graph=graphs())
def test_pass_is_valid_and_keeps_the_values(name: str, graph: Graph) -> None:
    graph.validate()
    after, _ = PASSES[name](graph)
    assert_same_values(graph, after)


@pytest.mark.parametrize("name", ["prune", "sharing", "contraction"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(graph=graphs())
def test_pass_run_again_changes_nothing(name: str, graph: Graph) -> None:
    once, _ = PASSES[name](graph)
    assert same(once, PASSES[name](once)[0])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(graph=graphs())
def test_no_pass_adds_work_except_for_powers(graph: Graph) -> None:
    before, powers = operation_count(graph), graph.counts().get("pow", 0)
    assert operation_count(share(graph)[0]) <= before
    assert operation_count(choose_machine_operations(graph)[0]) <= before + 4 * powers  # x**-6: three and 1/x


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(graph=graphs())
def test_pipeline_keeps_the_values_and_is_a_fixed_point(level: str, graph: Graph) -> None:
    after, _ = optimize(graph, level=level)
    assert_same_values(graph, after)
    again, _ = optimize(after, level=level)
    assert same(after, again)
