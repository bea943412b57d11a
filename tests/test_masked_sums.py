"""What a mask hides is never used, in values and in derivatives, also after the masked product was contracted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from sym2tf.api import to_sympy
from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.tensorflow import direct
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy
from sym2tf.passes.contraction import contract
from sym2tf.passes.pipeline import normalize, optimize

tf = lazy("tensorflow")

N = 4
n = sp.Symbol("n", integer=True, positive=True)
i, j, k = sp.symbols("i j k", integer=True)
A, B, M = (sp.IndexedBase(name, shape=(n, n)) for name in "ABM")
x = sp.IndexedBase("x", shape=(n,))
ALL = {s: (s, 0, n - 1) for s in (i, j, k)}
TRIANGLE = np.tril(np.ones((N, N)))
HIDDEN = TRIANGLE * [1, 1, 1, 0]  # no term needs j = 3


def where(condition: Any, value: Any) -> Any:
    return sp.Piecewise((value, condition), (0, True))


def data(graph: Graph, **given: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    drawn = {name: rng.normal(size=(N, N)) for name in "ABM"} | {"x": rng.normal(size=N)} | given
    return {name: drawn[name] for name in (graph[v].attributes["name"] for v in graph.inputs)}


def spoiled(value: float) -> Any:
    """A matrix whose last row is of no use."""
    b = np.random.default_rng(1).normal(size=(N, N))
    b[3] = value
    return b


def same(graph: Graph, values: dict[str, Any]) -> Any:
    """The outputs of the optimised graph, which are those of the graph as it was lowered."""
    with np.errstate(all="ignore"):
        due = evaluate(graph, values)
        got = evaluate(optimize(graph)[0], values)
    for name, value in due.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
    return list(got.values())


TOTALS = {
    "data": (where(M[i, j] > 0, A[i, j] * B[j, k]), {"M": HIDDEN, "B": spoiled(np.nan)}),
    "quotient": (where(M[i, j] > 0, A[i, j] / B[j, k]), {"M": HIDDEN, "B": spoiled(0)}),
    "logarithm": (where(M[i, j] > 0, A[i, j] * sp.log(B[j, k] ** 2)), {"M": HIDDEN, "B": spoiled(0)}),
    "value of a product": (
        where(M[i, k] > 0, sp.Sum(A[i, j] * B[j, k], ALL[j])),
        {"M": HIDDEN.T, "A": spoiled(np.nan)},
    ),
    "value of quotients": (where(M[i, k] > 0, sp.Sum(A[i, j] / B[j, k], ALL[j])), {"M": HIDDEN, "B": spoiled(0).T}),
}


@pytest.mark.parametrize("name", TOTALS)
def test_what_no_term_needs_is_never_used_to_second_order(name: str) -> None:
    body, given = TOTALS[name]
    over = [ALL[s] for s in (j, i, k) if s in body.free_symbols]
    graph = lower(sp.Sum(body, *over))
    values = data(graph, **given)
    wrt = [v for v in graph.inputs if graph[v].attributes["name"] in "AB"]
    for derivative in (graph, derivatives.gradient(graph, wrt), derivatives.hessian(graph, wrt)):
        assert all(np.all(np.isfinite(answer)) for answer in same(derivative, values))
    forward = derivatives.jvp(graph, wrt)
    tangents = {forward[v].attributes["name"]: np.ones((N, N)) for v in forward.inputs[len(graph.inputs) :]}
    assert np.all(np.isfinite(same(forward, values | tangents)[0]))


@pytest.mark.parametrize(
    ("expr", "given"),
    [
        (sp.Sum(A[i, j] * B[j, k], (j, 0, i)), {"B": spoiled(np.nan)}),
        (sp.Sum(sp.exp(A[i, j]) * x[j] * B[j, k], (j, 0, i)), {"B": spoiled(np.nan)}),
        (sp.Sum(where(M[i, j] > 0, x[j] * A[i, j] * B[j, k]), ALL[j]), {"B": spoiled(np.nan), "M": TRIANGLE}),
    ],
)
def test_rows_that_do_not_need_an_element_do_not_see_that_it_is_nan(expr: Any, given: dict[str, Any]) -> None:
    graph = lower(expr, indices=(i, k))
    (got,) = same(graph, data(graph, **given))
    assert np.all(np.isfinite(got[:3]))
    assert np.all(np.isnan(got[3]))
    tensors = {name: tf.constant(value) for name, value in data(graph, **given).items()}
    np.testing.assert_allclose(direct.run(optimize(graph)[0], tensors, {"n": N})["out"], got, rtol=1e-12)


def test_infinite_quotients_stay_in_the_rows_that_need_them() -> None:
    graph = lower(sp.Sum(A[i, j] / B[j, k], (j, 0, i)), indices=(i, k))
    values = data(graph, B=spoiled(0))
    with np.errstate(all="ignore"):
        due, got = (evaluate(g, values)["out"] for g in (graph, optimize(graph)[0]))
    np.testing.assert_allclose(got[:3], due[:3], rtol=1e-12)
    assert not np.isfinite(got[3]).any()


CAREFUL = sp.Sum(where(M[i, j] > 0, A[i, j] / B[j, k] * x[j]), ALL[j])


def test_care_is_taken_once_and_costs_one_contraction() -> None:
    graph, report = optimize(lower(CAREFUL, indices=(i, k)))
    assert report.fired["finite part of a factor"] == 1
    assert graph.counts()["einsum"] == 2
    again, fired = contract(graph)
    assert again is graph, fired
    plain = optimize(lower(sp.Sum(A[i, j] * x[j], (j, 0, i)), indices=(i,)))[1]  # x is masked with A
    assert "finite part of a factor" not in plain.fired


def test_formulas_show_no_care() -> None:
    graph = lower(CAREFUL, indices=(i, k))
    assert "abs" not in normalize(graph).counts()
    raised = to_sympy(optimize(graph)[0])
    assert not raised.has(sp.nan, sp.oo, sp.Abs)
    back = lower(raised, indices=sorted(raised.free_symbols & set(sp.symbols("i j", integer=True)), key=str))
    values = data(graph, M=TRIANGLE)
    np.testing.assert_allclose(evaluate(back, values)["out"], evaluate(graph, values)["out"], rtol=1e-12)


def test_data_are_not_copied_for_the_corners_of_functions() -> None:
    hidden = sp.Max(0, sp.Sum(A[i, j] * B[j, k], ALL[j]))
    graph = lower(sp.Sum(hidden * M[i, k], ALL[i], ALL[k]))
    gradient, _ = optimize(derivatives.gradient(graph, [v for v in graph.inputs if graph[v].attributes["name"] == "B"]))
    products = [v for v in gradient.order if gradient[v].op.name == "einsum"]
    assert len(products) == 2
    assert all(gradient.inputs[0] in gradient.operands(v) for v in products)
