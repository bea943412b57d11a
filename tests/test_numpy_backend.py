"""The reference backends: NumPy programs, the judge in high precision, constants that are rounded once."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

from sym2tf.backends.constants import constant_values, rounded
from sym2tf.backends.mpmath import evaluate as evaluate_mpmath
from sym2tf.backends.numpy import evaluate, numpy_dtype, program
from sym2tf.errors import ArgumentError, DtypeError, ShapeError, SizeError
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops import OPS
from sym2tf.ops.leaves import input_, pi, size
from sym2tf.ops.values import Value, constant

N = size_symbol("n")


class Making:
    """A graph in the making."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.inputs: list[int] = []

    def input(self, name: str, *shape: Any, kind: Kind = Kind.REAL) -> Any:
        attributes = {"name": name, "symbol": sp.Symbol(name), "type": TensorType(kind, shape)}
        self.inputs.append(self.builder.add(input_, (), attributes))
        return Value(self.builder, self.inputs[-1])

    def number(self, value: Any) -> Any:
        return constant(self.builder, value, Kind.REAL)

    def build(self, **outputs: Any) -> Graph:
        return self.builder.build(self.inputs, {name: v.id for name, v in outputs.items()}).validate()


def regression() -> Graph:
    making = Making()
    x, y, w, b = making.input("x", N), making.input("y", N), making.input("w"), making.input("b")
    count = Value(making.builder, making.builder.add(size, (), {"size": N}))
    return making.build(cost=OPS["sum"]((y - w * x - b) ** 2, axes=(-1,)) / count)


DATA = {"x": np.arange(5.0), "y": np.array([1.0, 3.0, 5.0, 7.0, 10.0]), "w": 2.0, "b": 1.0}


def test_a_cost_over_data_is_that_of_numpy_and_of_the_judge() -> None:
    assert evaluate(regression(), DATA)["cost"] == 0.2
    assert evaluate_mpmath(regression(), DATA)["cost"][()] == mpmath.mpf(1) / 5 or math.isclose(
        evaluate_mpmath(regression(), DATA)["cost"][()], 0.2
    )


def test_batch_axes_broadcast_to_the_left_of_core_axes() -> None:
    run = program(regression())
    w, b = np.linspace(0, 1, 3)[:, None], np.linspace(0, 1, 4)
    costs = run({**DATA, "w": w, "b": b})["cost"]
    assert costs.shape == (3, 4)
    assert costs[2, 1] == run({**DATA, "w": w[2, 0], "b": b[1]})["cost"]
    x = np.stack([DATA["x"], DATA["x"] + 1])
    assert run({**DATA, "x": x})["cost"].shape == (2,)


def test_constant_and_partly_constant_outputs_have_the_full_batch_shape() -> None:
    making = Making()
    x, y = making.input("x"), making.input("y", 2)
    graph = making.build(one=making.number(1), x=x, y=y)
    for outputs in (
        evaluate(graph, {"x": np.zeros((3, 1)), "y": np.zeros((4, 2))}),
        evaluate_mpmath(graph, {"x": np.zeros((3, 1)), "y": np.zeros((4, 2))}),
    ):
        assert {name: o.shape for name, o in outputs.items()} == {"one": (3, 4), "x": (3, 4), "y": (3, 4, 2)}
    evaluate(graph, {"x": 0.0, "y": [0, 0]})["one"][...] = 2  # a result is the caller's own array


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_nothing_is_computed_in_a_larger_dtype(dtype: str) -> None:
    making = Making()
    x = making.input("x", 3)
    graph = making.build(
        y=OPS["sum"](OPS["lgamma"](x * Fraction(1, 3) + 1), axes=(-1,)), k=making.number(Fraction(1, 3))
    )
    outputs = evaluate(graph, {"x": [1.0, 2.0, 3.0]}, dtype=dtype)
    assert {o.dtype for o in outputs.values()} == {numpy_dtype(Kind.REAL, dtype)}
    assert float(outputs["k"]) == rounded(Fraction(1, 3), dtype)


def test_results_are_ieee_and_without_warnings() -> None:
    making = Making()
    x = making.input("x")
    graph = making.build(r=1 / x, l=OPS["log"](x), e=OPS["exp"](1 / x))
    out = evaluate(graph, {"x": [0.0, -0.0, -1.0]})
    assert out["r"].tolist() == [math.inf, -math.inf, -1.0]
    assert out["l"][0] == -math.inf
    assert math.isnan(out["l"][2])
    assert out["e"].tolist()[:2] == [math.inf, 0.0]


@pytest.mark.parametrize("run", [evaluate, evaluate_mpmath])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": np.arange(4.0)}, SizeError, "length 4"),
        ({"y": 1.0}, ShapeError, "y"),
        ({"w": np.zeros(2), "b": np.zeros(3)}, ShapeError, "broadcast"),
        ({"c": 1.0}, ArgumentError, "unknown c"),
    ],
)
def test_data_that_do_not_fit_are_named(run: Any, change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run(regression(), {**DATA, **change})


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(ArgumentError, match="missing b"):
        evaluate(regression(), {k: v for k, v in DATA.items() if k != "b"})
    with pytest.raises(DtypeError, match="complex128"):
        evaluate(regression(), {**DATA, "w": 1j})
    with pytest.raises(DtypeError, match="float8"):
        program(regression(), "float8")
    making = Making()
    graph = making.build(y=making.input("k", kind=Kind.INTEGER) + 1)
    with pytest.raises(DtypeError, match="float64"):
        evaluate(graph, {"k": 0.5})


def test_a_given_size_uses_a_prefix_and_never_more_than_the_data() -> None:
    prefix = evaluate(regression(), DATA, {"n": 4})["cost"]
    assert prefix == evaluate(regression(), {**DATA, "x": DATA["x"][:4], "y": DATA["y"][:4]})["cost"] == 0
    assert evaluate_mpmath(regression(), DATA, {"n": 4})["cost"][()] == 0
    with pytest.raises(SizeError, match="6"):
        evaluate(regression(), DATA, {"n": 6})


def test_a_program_runs_on_data_of_any_length_and_from_many_threads() -> None:
    run = program(regression())

    def cost(length: int) -> float:
        x = np.arange(float(length))
        return float(run({"x": x, "y": 2 * x + 1, "w": 2.0, "b": 0.0})["cost"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(cost, list(range(1, 40)) * 10)) == [1.0] * 390


def test_a_call_of_a_small_program_costs_tens_of_microseconds() -> None:
    making = Making()
    value = x = making.input("x")
    for level in range(20):
        value = OPS["sin"](value) * x if level % 2 else value + x
    run, given = program(making.build(y=value)), {"x": np.float64(0.3)}
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(100):
            run(given)
        best = min(best, (time.perf_counter() - started) / 100)
    assert best < 200e-6  # about 35 us on an idle machine


def test_deep_graphs_are_evaluated_without_recursion() -> None:
    making = Making()
    value = x = making.input("x")
    for _ in range(20_000):
        value = OPS["cos"](value)
    graph = making.build(y=value, x=x)
    assert abs(evaluate(graph, {"x": 0.1})["y"] - 0.7390851332151607) < 1e-15


def test_constants_are_maximal_and_rounded_once() -> None:
    making = Making()
    x, number = making.input("x"), making.number
    root = number(2) ** number(Fraction(1, 2))
    circle = Value(making.builder, making.builder.add(pi, (), {}))
    graph = making.build(
        y=x * (root / 3), zero=OPS["sin"](circle), two=OPS["log"](OPS["exp"](number(2))),
        nan=OPS["log"](number(-1)),
        tie=number(1 + Fraction(1, 2**53)),
    )  # fmt: skip
    values = constant_values(graph)
    named = {name: values[v] for name, v in graph.outputs.items() if name != "y"}
    assert math.isnan(named.pop("nan"))
    assert named == {"zero": 0.0, "two": 2.0, "tie": 1.0}
    with mpmath.workdps(60):
        assert rounded(mpmath.sqrt(2) / 3, "float64") in values.values()
    assert len(values) == 5
    single = constant_values(graph, "float32")
    with mpmath.workdps(60):
        assert rounded(mpmath.sqrt(2) / 3, "float32") in single.values()


def test_a_finite_constant_beyond_the_range_of_the_dtype_is_refused() -> None:
    making = Making()
    graph = making.build(y=OPS["exp"](OPS["exp"](making.number(1000))))
    with pytest.raises(DtypeError, match="float64 cannot hold"):
        constant_values(graph)
    assert rounded(Fraction(2**2000), "float64") == math.inf


def test_integers_beyond_64_bits_are_refused() -> None:
    assert rounded(Fraction(2**63 - 1), "int64") == 2**63 - 1
    for bad in (Fraction(2**63), Fraction(1, 2), math.inf):
        with pytest.raises(DtypeError):
            rounded(bad, "int64")
    with pytest.raises(DtypeError, match="float8"):
        rounded(1, "float8")


def test_the_judge_never_hangs_on_huge_numbers() -> None:
    making = Making()
    x = making.input("x")
    tower = OPS["exp"](OPS["exp"](OPS["exp"](OPS["exp"](x))))
    graph = making.build(t=tower, s=OPS["sin"](tower), stable=OPS["log"](1 + OPS["exp"](x)))
    out = evaluate_mpmath(graph, {"x": 1e300})
    assert out["t"][()] == mpmath.inf
    assert mpmath.isnan(out["s"][()])
    assert mpmath.almosteq(out["stable"][()], mpmath.mpf(1e300))
