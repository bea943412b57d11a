"""Corners of tensors: axes without elements or with one, guards through diagonals, shares of exponentials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.tensorflow import direct
from sym2tf.frontend.lower import lower
from sym2tf.lazy import lazy
from sym2tf.notation import MaxOver, MinOver
from sym2tf.passes.pipeline import optimize, stabilize
from tests.mixtures import SIZES, A, B, c, draw, i, mixture, n, t, x

tf = lazy("tensorflow")

I = (i, 0, n - 1)  # noqa: E741
EMPTY: list[tuple[Any, float]] = [
    (sp.Trace((4 * sp.Identity(n) + A).I), 0),
    (sp.Trace((4 * sp.Identity(n) + A).I * B * B.T), 0),
    (sp.log(sp.Determinant(4 * sp.Identity(n) + A)), 0),
    (sp.Determinant(A), 1),
    (sp.log(sp.Sum(sp.exp(x[i]), I)), -np.inf),
    (MaxOver(x[i], I), -np.inf),
    (MinOver(c * x[i], I), np.inf),
    (sp.Product(x[i], I), 1),
]


@pytest.mark.parametrize(("expr", "due"), EMPTY)
def test_functions_of_nothing(expr: Any, due: float) -> None:
    graph = lower(expr)
    names = [graph[v].attributes["name"] for v in graph.inputs]
    data = {name: value for name, value in draw(0, {"n": 0, "m": 2}).items() if name in names}
    sizes = {name: {"n": 0, "m": 2}[name] for name in graph.info["sizes"]}
    for each in (graph, optimize(graph)[0]):
        assert evaluate(each, data, sizes)["out"] == due
    for derivative in (derivatives.gradient(graph, graph.inputs), derivatives.hessian(graph, graph.inputs)):
        for each in (derivative, optimize(derivative)[0]):
            assert all(value.shape.count(0) or value.ndim < 1 for value in evaluate(each, data, sizes).values())


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (2, 1), (2, 0)], ids=str)
def test_mixtures_with_short_axes(sizes: tuple[int, int]) -> None:
    lengths = dict(zip("nm", sizes, strict=True))
    checked = 0
    for seed in range(40):
        made = ready(seed)
        if made is None:
            continue
        expr, function, graph = made
        names = [graph[v].attributes["name"] for v in graph.inputs]
        drawn = draw(seed, lengths)
        data, known = {name: drawn[name] for name in names}, {name: lengths[name] for name in graph.info["sizes"]}
        with np.errstate(all="ignore"):
            due = function(drawn)
            for hints in (None, known):  # the order of contractions may depend on them
                answer = evaluate(optimize(graph, sizes=hints)[0], data, known)["out"]
                np.testing.assert_allclose(np.squeeze(answer), due, rtol=1e-7, atol=1e-9, err_msg=f"{seed}: {expr}")
        checked += 1
    assert checked > 30


def ready(seed: int) -> Any:
    """A mixture and its graph; None where SymPy cannot hold it."""
    try:
        expr, function = mixture(seed)
        return expr, function, lower(expr)
    except (AttributeError, NotImplementedError, TypeError):  # of SymPy, for some elements of FunctionMatrix
        return None


@pytest.mark.parametrize("level", ["exact", "stable"])
@pytest.mark.parametrize(
    "expr",
    [
        sp.Sum(sp.Max(0, A[i, i] ** 2 - c), I),
        sp.Trace((A * A).applyfunc(sp.Abs)),
        sp.Sum(sp.Piecewise((sp.log(A[i, i]), A[i, i] > 0), (0, True)) * x[i], I),
    ],
)
def test_guards_go_through_diagonals_and_products_in_tensorflow(expr: Any, level: str) -> None:
    graph = lower(expr)
    gradient = derivatives.gradient(graph, graph.inputs[:1])
    names = [graph[v].attributes["name"] for v in graph.inputs]
    data = {name: value for name, value in draw(3).items() if name in names}
    (due,) = evaluate(gradient, data).values()
    tensors = {name: tf.constant(value) for name, value in data.items()}
    (answer,) = direct.run(optimize(gradient, level=level)[0], tensors, {"n": SIZES["n"]}).values()
    np.testing.assert_allclose(answer, due, rtol=1e-12)


def test_shares_of_exponentials_do_not_overflow() -> None:
    share = sp.exp(c) / (sp.exp(c) + sp.exp(t))
    graph = optimize(lower(2 * share + 1))[0]
    assert "exp" not in graph.counts()
    assert evaluate(graph, {"c": np.float64(1000), "t": np.float64(999)})["out"] == pytest.approx(
        1 + 2 / (1 + np.exp(-1)), rel=1e-14
    )
    stable = stabilize(lower(share))
    slope = optimize(derivatives.gradient(stable, stable.inputs[:1]))[0]
    assert np.isfinite(evaluate(slope, {"c": np.float64(1000), "t": np.float64(-1000)})["out/0"])
