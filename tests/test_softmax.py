"""Softmax and cross-entropy: recognised in any spelling, stable, and with `prediction - target` as gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

import sym2tf
from sym2tf.autodiff.derivatives import gradient, jacobian
from sym2tf.backends.mpmath import evaluate as evaluate_mpmath
from sym2tf.backends.numpy import evaluate
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.contraction import softmax
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value
from sym2tf.passes.pipeline import normalize, optimize, stabilize

i, j, k, h = sp.symbols("i j k h", integer=True)
n, m, p = sp.symbols("n m p", integer=True, positive=True)
b, s = sp.Symbol("b"), sp.Symbol("s", positive=True)
x, y, w, u, q = (sp.IndexedBase(name) for name in "xywuq")
z, t = sp.IndexedBase("z"), sp.IndexedBase("t")
X, W = sp.IndexedBase("X"), sp.IndexedBase("W")
pi = sp.IndexedBase(sp.Symbol("pi", positive=True))


def over_all(term: Any) -> Any:
    return sp.Sum(term, (i, 0, n - 1), (k, 0, m - 1))


def share(score: Any, along: Any, *, shift: Any = 0, weight: Any = 1) -> Any:
    """exp(score) by its sum over one index."""
    other = sp.Symbol("o", integer=True)
    total = sp.Sum(weight * sp.exp(score.subs(along, other) - shift), (other, 0, m - 1))
    return weight * sp.exp(score - shift) / total


RECOGNISED = {
    "of a matrix along its last index": over_all(t[i, k] * share(z[i, k], k)),
    "with the sums the other way round": sp.Sum(t[i, k] * share(z[i, k], k), (k, 0, m - 1), (i, 0, n - 1)),
    "along the first index": sp.Sum(t[k, i] * share(z[k, i], k), (k, 0, m - 1), (i, 0, n - 1)),
    "of a vector": sp.Sum(y[k] * share(z[k], k), (k, 0, m - 1)),
    "of scores that are products": over_all(t[i, k] * share(sp.Sum(X[i, h] * W[h, k], (h, 0, p - 1)), k)),
    "of such scores, sums reversed": sp.Sum(
        t[i, k] * share(sp.Sum(X[i, h] * W[h, k], (h, 0, p - 1)), k), (k, 0, m - 1), (i, 0, n - 1)
    ),
    "with a shift": over_all(t[i, k] * share(z[i, k], k, shift=y[i])),
    "with a common factor": over_all(t[i, k] * share(z[i, k], k, weight=s)),
    "with a temperature": over_all(t[i, k] * share(z[i, k] / s, k)),
}


def data(graph: Graph, scale: float = 1.0, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sizes = {"n": 3, "m": 4, "p": 2}
    found = {}
    for node in (graph[v] for v in graph.inputs):
        shape = tuple(d if isinstance(d, int) else sizes[str(d)] for d in node.type.shape)
        name = node.attributes["name"]
        found[name] = rng.normal(size=shape) * (scale if name == "z" else 1.0)
        if name in ("t", "s", "pi", "q"):
            found[name] = np.abs(found[name]) + 0.1
    if "t" in found:
        found["t"] = found["t"] / found["t"].sum(-1, keepdims=True)
    return found


@pytest.mark.parametrize("name", RECOGNISED)
def test_a_softmax_written_out_becomes_one_operation(name: str) -> None:
    graph = lower(RECOGNISED[name])
    after = optimize(graph)[0]
    counts = after.counts()
    assert counts.get("softmax") == 1
    assert not {"exp", "pow", "logsumexp"} & set(counts)
    at = data(graph)
    (due,) = evaluate_mpmath(graph, at).values()
    (answer,) = evaluate(after, at).values()
    np.testing.assert_allclose(answer, due.astype(float), rtol=1e-13)


NOT_SOFTMAX = {
    "other scores below": over_all(t[i, k] * sp.exp(z[i, k]) / sp.Sum(sp.exp(2 * z[i, j]), (j, 0, m - 1))),
    "sum over the other index": sp.Sum(
        t[i, k] * sp.exp(z[i, k]) / sp.Sum(sp.exp(z[j, k]), (j, 0, n - 1)), (i, 0, n - 1), (k, 0, m - 1)
    ),
    "a square matrix and its transpose": sp.Sum(
        t[i, k] * sp.exp(z[i, k]) / sp.Sum(sp.exp(z[j, i]), (j, 0, n - 1)), (i, 0, n - 1), (k, 0, n - 1)
    ),
    "weights that vary": over_all(t[i, k] * sp.exp(z[i, k]) / sp.Sum(q[j] * sp.exp(z[i, j]), (j, 0, m - 1))),
    "a term more": over_all(t[i, k] * sp.exp(z[i, k]) / (1 + sp.Sum(sp.exp(z[i, j]), (j, 0, m - 1)))),
}


@pytest.mark.parametrize("name", NOT_SOFTMAX)
def test_what_only_looks_like_a_softmax_keeps_its_value(name: str) -> None:
    graph = lower(NOT_SOFTMAX[name])
    after = optimize(graph)[0]
    if name != "sum over the other index":
        assert "softmax" not in after.counts()
    rng = np.random.default_rng(1)
    side = dict.fromkeys(range(9), 3)
    at = {
        graph[v].attributes["name"]: rng.uniform(0.2, 1.0, [side[a] for a in range(graph[v].type.rank)])
        for v in graph.inputs
    }
    (due,) = evaluate_mpmath(graph, at).values()
    np.testing.assert_allclose(next(iter(evaluate(after, at).values())), due.astype(float), rtol=1e-13)


def test_a_free_index_that_reaches_further_than_the_sum_is_stable() -> None:
    f = lower(sp.exp(x[j]) / sp.Sum(sp.exp(x[k]), (k, 0, n - 1)))
    after = optimize(f)[0]
    assert "logsumexp" in after.counts() or "softmax" in after.counts()
    at = {"x": np.array([2000.0, 1999.0, 2001.0])}
    (answer,) = evaluate(after, at).values()
    np.testing.assert_allclose(answer, np.exp(at["x"] - 2001) / np.exp(at["x"] - 2001).sum(), rtol=1e-12)


LOGARITHMS = {
    "log mean exp": sp.log(sp.Sum(sp.exp(z[i]), (i, 0, n - 1)) / n),
    "log of a weighted sum": sp.log(sp.Sum(pi[i] * sp.exp(z[i]), (i, 0, n - 1))),
    "log of a multiple": sp.log(s * sp.Sum(sp.exp(z[i]), (i, 0, n - 1))),
    "log of a softmax": sp.Sum(sp.log(share(z[i], i).subs(m, n)), (i, 0, n - 1)),
    "log of a likelihood": sp.log(sp.Sum(sp.exp(-((z[i] - b) ** 2) / (2 * s**2)) / s, (i, 0, n - 1))),
}


@pytest.mark.parametrize("name", LOGARITHMS)
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e4])
def test_logarithms_of_sums_of_exponentials_neither_overflow_nor_lose_digits(name: str, scale: float) -> None:
    graph = lower(LOGARITHMS[name])
    at = data(graph, 1.0 if name == "log of a likelihood" else scale)
    after = optimize(graph)[0]
    assert "logsumexp" in after.counts()
    (due,) = evaluate_mpmath(graph, at, digits=60).values()
    np.testing.assert_allclose(next(iter(evaluate(after, at).values())), due.astype(float), rtol=1e-12)
    derived = optimize(gradient(stabilize(graph), list(graph_inputs(stabilize(graph), "z"))))[0]
    judged = evaluate_mpmath(gradient(graph, list(graph_inputs(graph, "z"))), at, digits=60)
    for answer, truth in zip(evaluate(derived, at).values(), judged.values(), strict=True):
        np.testing.assert_allclose(answer, truth.astype(float), rtol=1e-9, atol=1e-300)


def graph_inputs(graph: Graph, name: str) -> list[int]:
    return [v for v in graph.inputs if graph[v].attributes["name"] == name]


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e4])
@pytest.mark.parametrize("axes", [(-1,), (-2,), (-2, -1)], ids=str)
def test_softmax_and_its_first_two_derivatives_are_finite_and_right_at_any_size(
    scale: float, axes: tuple[int, ...]
) -> None:
    builder = Builder()
    a = Value(builder, builder.add(input_, (), {"name": "a", "symbol": "a", "type": TensorType(Kind.REAL, (2, 3))}))
    graph = builder.build([a.id], {"y": softmax(a, axes=axes).id})
    first = jacobian(graph, [graph.inputs[0]])
    second = jacobian(first, [first.inputs[0]])
    at = {"a": np.round(np.random.default_rng(0).normal(size=(2, 3)) * scale, 3)}
    for derived in (graph, first, second):
        (answer,), (due,) = evaluate(derived, at).values(), evaluate_mpmath(derived, at, digits=80).values()
        assert np.isfinite(answer).all()
        np.testing.assert_allclose(answer, due.astype(float), rtol=1e-11, atol=1e-15)


def reading(loss: Any, wrt: str, assume: Any = ()) -> Graph:
    """The gradient before machine operations."""
    graph = stabilize(lower(loss, assume=assume))
    return normalize(gradient(graph, graph_inputs(graph, wrt)))


def logit(score: Any) -> Any:
    return 1 / (1 + sp.exp(-score))


def binary(score: Any) -> Any:
    """The cross-entropy of a Bernoulli variable, written out."""
    return -y[i] * sp.log(logit(score)) - (1 - y[i]) * sp.log(1 - logit(score))


LINEAR = sp.Sum(X[i, h] * w[h], (h, 0, p - 1))
SCORES = sp.Sum(X[i, h] * W[h, k], (h, 0, p - 1))
BINARY = {
    "of logits": (sp.Sum(binary(u[i]), (i, 0, n - 1)), "u"),
    "averaged": (sp.Sum(binary(u[i]), (i, 0, n - 1)) / n, "u"),
    "with weights": (sp.Sum(q[i] * binary(u[i]), (i, 0, n - 1)), "u"),
    "of a linear model": (sp.Sum(binary(LINEAR + b), (i, 0, n - 1)) / n, "w"),
    "of its intercept": (sp.Sum(binary(LINEAR + b), (i, 0, n - 1)) / n, "b"),
    "as softplus": (sp.Sum(sp.log(1 + sp.exp(u[i])) - y[i] * u[i], (i, 0, n - 1)), "u"),
}


@pytest.mark.parametrize("name", BINARY)
def test_the_gradient_of_binary_cross_entropy_is_prediction_minus_target(name: str) -> None:
    loss, wrt = BINARY[name]
    counts = reading(loss, wrt).counts()
    assert counts["sigmoid"] == 1
    assert counts["add"] == 1 + (wrt in "wb")  # the difference, and the intercept in the score
    assert not {"log", "log1p", "softplus", "exp", "div"} & set(counts)
    assert counts.get("pow", 0) == ("/n" in str(loss))


SIGNED = sp.Sum(sp.log(1 + sp.exp(-y[i] * u[i])), (i, 0, n - 1))


def test_the_gradient_of_the_logistic_loss_with_signed_labels_is_one_sigmoid() -> None:
    counts = reading(SIGNED, "u").counts()
    assert counts["sigmoid"] == 1
    assert not {"log", "softplus", "exp", "pow", "add"} & set(counts)


CATEGORICAL = {
    "of logits": (-over_all(t[i, k] * sp.log(share(z[i, k], k))), "z"),
    "sums the other way round": (-sp.Sum(t[i, k] * sp.log(share(z[i, k], k)), (k, 0, m - 1), (i, 0, n - 1)), "z"),
    "averaged": (-over_all(t[i, k] * sp.log(share(z[i, k], k))) / n, "z"),
    "nested sums": (-sp.Sum(sp.Sum(t[i, k] * sp.log(share(z[i, k], k)), (k, 0, m - 1)), (i, 0, n - 1)) / n, "z"),
    "as a difference": (over_all(t[i, k] * (sp.log(sp.Sum(sp.exp(z[i, j]), (j, 0, m - 1))) - z[i, k])) / n, "z"),
    "of a linear model": (-over_all(t[i, k] * sp.log(share(SCORES, k))) / n, "W"),
    "with a shift": (-over_all(t[i, k] * sp.log(share(z[i, k], k, shift=y[i]))), "z"),
}


@pytest.mark.parametrize("assumption", [sym2tf.OneHot, sym2tf.Simplex])
@pytest.mark.parametrize("name", CATEGORICAL)
def test_the_gradient_of_categorical_cross_entropy_is_prediction_minus_target(name: str, assumption: Any) -> None:
    loss, wrt = CATEGORICAL[name]
    derived = reading(loss, wrt, [assumption(t, -1)])
    counts = derived.counts()
    assert counts["softmax"] == counts["add"] == 1
    assert not {"log", "logsumexp", "exp", "sum", "div"} & set(counts)
    assert counts.get("pow", 0) == ("/n" in str(loss))
    at = data(derived)
    scores = at["X"] @ at["W"] if "X" in at else at["z"]
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    due = (weights - at["t"]) / (len(scores) if "/n" in str(loss) else 1)
    (answer,) = evaluate(derived, at).values()
    np.testing.assert_allclose(answer, at["X"].T @ due if "X" in at else due, rtol=1e-12, atol=1e-14)


def test_without_the_assumption_the_gradient_sums_the_target() -> None:
    derived = reading(CATEGORICAL["of logits"][0], "z")
    assert derived.counts()["sum"] == 1
    at = data(derived)
    at["t"] = at["t"] * 3
    weights = np.exp(at["z"]) / np.exp(at["z"]).sum(-1, keepdims=True)
    np.testing.assert_allclose(next(iter(evaluate(derived, at).values())), 3 * weights - at["t"], rtol=1e-12)


def test_facts_hold_along_the_axis_that_was_named_and_no_other() -> None:
    columns = lower(sp.Sum(t[i, k] * y[i], (k, 0, m - 1), (i, 0, n - 1)), assume=[sym2tf.Simplex(t, 0)])
    assert "t" in {
        columns[v].attributes["name"] for v in columns.ancestors(columns.outputs["out"]) & set(columns.inputs)
    }
    rows = optimize(lower(over_all(t[i, k]), assume=[sym2tf.Simplex(t, -1)]))[0]
    assert rows.counts().get("sum", 0) == 0
    other = optimize(lower(sp.Sum(t[i, k] * y[k], (i, 0, n - 1), (k, 0, m - 1)), assume=[sym2tf.Simplex(t, -1)]))[0]
    assert other.counts().get("einsum", 0) + other.counts().get("sum", 0) > 0
