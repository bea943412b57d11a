"""Index notation, form by form: values against loops, derivatives against differences, what graphs are made of."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

import sym2tf
from sym2tf.autodiff.derivatives import gradient, hessian, jacobian, jvp, vjp
from sym2tf.autodiff.sparsity import dependencies
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import DataError, ShapeError, SizeError, SubscriptError, UnsupportedExpressionError
from sym2tf.frontend import lower as lowering
from sym2tf.frontend.describe import describe
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.lower import lower
from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import Dim
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind
from sym2tf.notation import MaxOver, MinOver
from sym2tf.passes.pipeline import optimize, stabilize
from tests.peak_memory import asks_linux, megabytes_printed_by

i, j, k, n, m, a, b = sp.symbols("i j k n m a b", integer=True)
x, y, w, A, B, T = (sp.IndexedBase(name) for name in "xywABT")
g, h, start, stop = (sp.IndexedBase(name) for name in ("g", "h", "start", "stop"))
Delta = sp.KroneckerDelta
N, M = 6, 3
rng = np.random.default_rng(7)
DATA: dict[str, Any] = {
    "x": rng.normal(size=N),
    "y": rng.normal(size=N),
    "w": rng.normal(size=M),
    "A": rng.normal(size=(N, N)),
    "B": rng.normal(size=(N, M)),
    "T": rng.normal(size=(M, N, M)),
    "g": np.array([1, 0, 3, 3, 5, 2]),
    "h": np.array([2, 2, 0, 1, 0, 2]),
    "start": np.array([0, 2, 2]),
    "stop": np.array([2, 2, 6]),
    "k": 2,
}
X, Y, W, AA, BB, TT, G, H = (DATA[name] for name in ("x", "y", "w", "A", "B", "T", "g", "h"))
R = range(N)
D = sp.IndexedBase("A", shape=(n, n))  # declared square: of an axis that subscripts do not exhaust nobody else knows
V = sp.IndexedBase("g", shape=(n,))

Case = tuple[str, Any, Any, dict[str, Any]]


def case(name: str, expr: Any, due: Any, **options: Any) -> Any:
    return pytest.param(expr, due, options, id=name)


ELEMENTS = [
    case("stride", sp.Sum(x[2 * i], (i, 0, 2)), X[0] + X[2] + X[4]),
    case("offset-stride", sp.Sum(x[2 * i + 1] * w[i], (i, 0, m - 1)), X[1::2] @ W),
    case("reversed", sp.Sum(x[n - 1 - i] * y[i], (i, 0, n - 1)), X[::-1] @ Y),
    case("backwards-by-two", sp.Sum(x[5 - 2 * i] * w[i], (i, 0, 2)), X[5::-2] @ W),
    case("last", x[n - 1] * sp.Sum(x[i], (i, 0, n - 1)), X[-1] * X.sum()),
    case("convolution", sp.Sum(w[j] * x[i + j], (j, 0, m - 1)), np.convolve(X, W[::-1], "valid")),
    case("autocorrelation", sp.Sum(x[i] * x[i + j], (i, 0, n - 3), (j, 0, 2)),
         sum(X[:4] @ X[s : s + 4] for s in R[:3])),
    case("diagonal", A[i, i] * x[i], np.diag(AA) * X),
    case("trace", sp.Sum(A[i, i], (i, 0, n - 1)), np.trace(AA)),
    case("shifted-diagonal", sp.Sum(D[i, i + 1], (i, 0, n - 2)), np.trace(AA, 1)),
    case("antidiagonal", sp.Sum(A[i, n - 1 - i], (i, 0, n - 1)), np.trace(AA[::-1])),
    case("outer-diagonal", sp.Sum(T[j, i, j] * x[i], (j, 0, m - 1)), np.einsum("jij->i", TT) * X),
    case("hankel", sp.Sum(D[i, j] * x[i + j], (i, 0, 2), (j, 0, 2)),
         sum(AA[a, b] * X[a + b] for a in R[:3] for b in R[:3])),
    case("flattened", sp.Sum(x[i * m + j] * w[j], (j, 0, m - 1), (i, 0, 1)), (X.reshape(2, 3) @ W).sum()),
    case("gather", x[g[i]], X[G]),
    case("gather-shifted", sp.Sum(x[V[i] + 1] * w[i], (i, 0, 2)), X[G[:3] + 1] @ W),
    case("gather-twice", sp.Sum(x[g[g[i]]], (i, 0, n - 1)), X[G[G]].sum()),
    case("gather-rows", B[g[i], j], BB[G]),
    case("gather-columns", B[j, h[i]], BB[:, H].T),
    case("gather-both", A[g[i], h[j]], AA[np.ix_(G, H)]),
    case("gather-diagonal", sp.Sum(B[i, h[i]], (i, 0, n - 1)), BB[np.arange(N), H].sum()),
    case("gather-middle", T[j, g[i], j], np.array([[TT[b, G[a], b] for b in R[:3]] for a in R])),
    case("gather-apart", T[h[i], j, h[i]], np.array([TT[H[a], :, H[a]] for a in R])),
    case("gather-as-value", sp.Sum(g[i] * x[g[i]], (i, 0, n - 1)), G @ X[G]),
    case("halves", sp.Sum(x[sp.floor(i / 2)], (i, 0, 5)), 2 * X[:3].sum()),
    case("halves-up", sp.Sum(x[sp.ceiling(i / 2)], (i, 0, 5)), X[[0, 1, 1, 2, 2, 3]].sum()),
    case("periodic", sp.Sum(x[i] * x[sp.Mod(i + 1, n)], (i, 0, n - 1)), X @ np.roll(X, -1)),
    case("periodic-wide", sp.Sum(y[i] * w[sp.Mod(i, 3)], (i, 0, n - 1)), Y @ np.tile(W, 2)),
    case("clamped", sp.Sum(y[i] * x[sp.Max(i - 1, 0)], (i, 0, n - 1)), Y @ X[[0, 0, 1, 2, 3, 4]]),
    case("clamped-above", sp.Sum(x[i] * x[sp.Min(i + 1, n - 1)], (i, 0, n - 1)), X @ X[[1, 2, 3, 4, 5, 5]]),
    case("squares", sp.Sum(x[i**2], (i, 0, 2)), X[0] + X[1] + X[4]),
    case("products", sp.Sum(x[i * j], (i, 0, 2), (j, 0, 2)), sum(X[a * b] for a in R[:3] for b in R[:3])),
    case("argument", x[k] * x[0], X[2] * X[0], args=(x, k)),
    case("argument-in-a-row", A[k, i] * x[i], AA[2] * X, args=(A, x, k)),
    case("matrix-symbol", sp.Sum(sp.MatrixSymbol("A", n, n)[i, g[i]], (i, 0, n - 1)), AA[np.arange(N), G].sum()),
    case("of-a-product", (sp.MatrixSymbol("A", n, n) * sp.MatrixSymbol("B", n, m))[g[i], 1], (AA @ BB)[G, 1]),
]  # fmt: skip
RANGES = [
    case("running", sp.Sum(y[i] * sp.Sum(x[j], (j, 0, i)), (i, 0, n - 1)), Y @ np.cumsum(X)),
    case("running-before", sp.Sum(y[i] * sp.Sum(x[j], (j, 0, i - 1)), (i, 0, n - 1)), Y @ (np.cumsum(X) - X)),
    case("running-after", sp.Sum(x[j] * y[i], (j, i + 1, n - 1), (i, 0, n - 1)),
         sum(X[b] * Y[a] for a in R for b in R if b > a)),
    case("running-from", sp.Sum(x[j] * y[i], (j, i, n - 1), (i, 0, n - 1)), Y @ np.cumsum(X[::-1])[::-1]),
    case("running-far", sp.Sum(x[j] * y[i], (j, 0, i - 2), (i, 0, n - 1)),
         sum(X[b] * Y[a] for a in R for b in R if b <= a - 2)),
    case("running-back", sp.Sum(y[i] * sp.Sum(x[j], (j, 0, n - 1 - i)), (i, 0, n - 1)), Y @ np.cumsum(X)[::-1]),
    case("running-free", sp.Sum(x[j] ** 2, (j, 0, i)), np.cumsum(X**2), indices=[i]),
    case("running-twice", sp.Sum(x[k], (k, 0, j), (j, 0, i)), np.cumsum(np.cumsum(X)), indices=[i]),
    case("triangle", sp.Sum(A[i, j], (j, 0, i), (i, 0, n - 1)), np.tril(AA).sum()),
    case("strict-triangle", sp.Sum(A[i, j] * x[i] * y[j], (j, i + 1, n - 1), (i, 0, n - 1)), X @ np.triu(AA, 1) @ Y),
    case("pairs", sp.Sum(sp.exp(-((x[i] - x[j]) ** 2)), (j, i + 1, n - 1), (i, 0, n - 2)),
         sum(np.exp(-((X[a] - X[b]) ** 2)) for a in R for b in R if b > a)),
    case("causal-convolution", sp.Sum(x[j] * y[i - j], (j, 0, i)), np.convolve(X, Y)[:N], indices=[i]),
    case("window", sp.Sum(x[j], (j, i, i + 2)), np.convolve(X, np.ones(3), "valid"), indices=[i]),
    case("window-of-a-size", sp.Sum(x[j] * w[j - i], (j, i, i + m - 1)), np.convolve(X, W[::-1], "valid"), indices=[i]),
    case("tetrahedron", sp.Sum(x[i] * x[j] * x[k], (k, 0, j - 1), (j, 0, i - 1), (i, 0, n - 1)),
         sum(X[a] * X[b] * X[c] for a in R for b in R for c in R if c < b < a)),
    case("count", x[0] * sp.Sum(1, (j, 0, i)) * y[i], X[0] * Y * (1 + np.arange(N)), indices=[i]),
    case("index-as-value", sp.Sum(j * x[i], (j, 0, i), (i, 0, n - 1)), sum(b * X[a] for a in R for b in range(a + 1))),
    case("running-product", sp.Product(x[j], (j, 0, i)), np.cumprod(X), indices=[i]),
    case("vandermonde", sp.Product(x[j] - x[i], (j, i + 1, n - 1), (i, 0, n - 1)), np.linalg.det(np.vander(X[::-1]))
         * (-1) ** 0),
    case("ragged", sp.Sum(x[i], (i, start[k], stop[k] - 1)), [X[:2].sum(), 0, X[2:].sum()]),
    case("ragged-shifted", sp.Sum(x[i] * y[i - start[k]], (i, start[k], stop[k] - 1)),
         [sum(X[a] * Y[a - s] for a in range(s, e)) for s, e in zip(DATA["start"], DATA["stop"], strict=True)]),
    case("inside-the-axis", x[0] * x[n - 1] * sp.Sum(x[i], (i, 2, n - 2)), X[0] * X[-1] * X[2:5].sum()),
    case("tril-matvec", sp.Sum(A[i, j] * x[j], (j, 0, i)), np.tril(AA) @ X, indices=[i]),
]  # fmt: skip
WINDOWS = [
    case("reversed-window", sp.Sum(w[j] * x[i - j + 2], (j, 0, 2)), np.convolve(X, W, "valid")),
    case("window-and-weights", sp.Sum(w[j] * x[i + j] * y[i + m - 1], (j, 0, m - 1), (i, 0, n - m)),
         np.convolve(X, W[::-1], "valid") @ Y[2:]),
    case("window-in-a-square", sp.Sum((y[i + m - 1] - sp.Sum(w[j] * x[i + j], (j, 0, m - 1))) ** 2, (i, 0, n - m)),
         np.sum((Y[2:] - np.convolve(X, W[::-1], "valid")) ** 2)),
    case("moving-sum", sp.Sum(x[i + j], (j, 0, 2)), np.convolve(X, np.ones(3), "valid")),
    case("weights-that-are-indices", sp.Sum(j * x[i + j], (j, 0, 2)), np.convolve(X, [2, 1, 0], "valid")),
    case("window-from-one", sp.Sum(w[j - 1] * x[i + j - 1], (j, 1, m)), np.convolve(X, W[::-1], "valid"), indices=[i]),
    case("strided-windows", sp.Sum(D[0, j] * x[2 * i + j], (j, 0, 3)), [AA[0, :4] @ X[:4], AA[0, :4] @ X[2:]]),
    case("windows-backwards", sp.Sum(D[0, j] * D[1, i] * x[5 - 2 * i - j], (j, 0, 3), (i, 0, 1)),
         AA[0, :4] @ X[5:1:-1] * AA[1, 0] + AA[0, :4] @ X[3::-1] * AA[1, 1]),
    case("windows-of-rows", sp.Sum(w[j] * A[k, i + j], (j, 0, m - 1)),
         np.array([np.convolve(row, W[::-1], "valid") for row in AA]).T),
    case("many-kernels", sp.Sum(B[k, j] * x[i + j], (j, 0, m - 1)),
         np.array([np.convolve(X, row[::-1], "valid") for row in BB]).T),
    case("kernels-of-their-own", sp.Sum(B[k, j] * A[k, i + j], (j, 0, m - 1)),
         np.array([np.convolve(AA[a], BB[a, ::-1], "valid") for a in R]).T),
    case("channels", sp.Sum(D[j, k] * T[k, i + j, a], (j, 0, 2), (k, 0, 2)),
         np.array([sum(np.convolve(TT[c, :, b], AA[2::-1, c], "valid") for c in R[:3]) for b in R[:3]])),
    case("layer", sp.Sum(D[j, k] * D[a, k] * T[k, i + j, b], (j, 0, 2), (k, 0, 2)),
         np.einsum("jc,ac,cwbj->abw", AA[:3, :3], AA[:, :3], np.lib.stride_tricks.sliding_window_view(TT, 3, 1))),
    case("windows-in-the-plane", sp.Sum(w[a] * D[a, b] * D[i + a, j + b], (a, 0, m - 1), (b, 0, 1)),
         np.einsum("a,ab,ijab->ij", W, AA[:3, :2], np.lib.stride_tricks.sliding_window_view(AA, (3, 2)))),
    case("moving-power", sp.Sum(x[i + j] ** 2, (j, 0, 2)), np.convolve(X**2, np.ones(3), "valid")),
    case("functions-of-windows", sp.Sum(w[j] * sp.exp(-3 * x[i + j] ** 2 / 7) * sp.sin(x[i + j]), (j, 0, m - 1)),
         np.convolve(np.exp(-3 * X**2 / 7) * np.sin(X), W[::-1], "valid")),
    case("windows-of-two", sp.Sum(w[j] * x[i + j] * sp.tanh(y[i + j]), (j, 0, m - 1)),
         np.convolve(X * np.tanh(Y), W[::-1], "valid")),
    case("windows-apart", sp.Sum(w[j] * x[i + j + 1] * sp.tanh(D[0, i + j]), (j, 0, m - 1)),
         np.convolve(X[1:] * np.tanh(AA[0, :5]), W[::-1], "valid"), indices=[i]),
    case("windows-under-a-condition", sp.Sum(w[j] * sp.Max(x[i + j], y[0]), (j, 0, m - 1)),
         np.convolve(np.maximum(X, Y[0]), W[::-1], "valid")),
    case("windows-that-meet", sp.Sum(D[i, j] * w[j] * x[i + j], (i, 0, 2), (j, 0, 2)),
         sum(AA[b, c] * W[c] * X[b + c] for b in R[:3] for c in R[:3])),
]  # fmt: skip
EXTREMES = [
    case("max", MaxOver(x[i], (i, 0, n - 1)), X.max()),
    case("min-of-rows", MinOver(A[i, j] + x[j], (j, 0, n - 1)), (AA + X).min(1)),
    case("max-of-all", MaxOver(A[i, j] * y[i], (i, 0, n - 1), (j, 0, n - 1)), (AA * Y[:, None]).max()),
    case("running-max", MaxOver(x[j], (j, 0, i)), np.maximum.accumulate(X), indices=[i]),
    case("minimax", MinOver(MaxOver(A[i, j], (j, 0, n - 1)), (i, 0, n - 1)), AA.max(1).min()),
    case("range-of-the-data", MaxOver(x[i], i) - MinOver(x[i], i), np.ptp(X)),
    case("centred", sp.exp(x[i] - MaxOver(x[j], (j, 0, n - 1))), np.exp(X - X.max())),
]
DELTAS = [
    case("rename", sp.Sum(Delta(i, j) * A[i, j], (i, 0, n - 1), (j, 0, n - 1)), np.trace(AA)),
    case("identity", Delta(i, j) * x[i] * x[j] + A[i, j], np.diag(X**2) + AA),
    case("subdiagonal", sp.Sum(Delta(i, j + 1) * A[i, j], (i, 0, n - 1), (j, 0, n - 1)), np.trace(AA, -1)),
    case("one-element", sp.Sum(Delta(i, 3) * x[i] ** 2, (i, 0, n - 1)), X[3] ** 2),
    case("one-left-out", sp.Sum((1 - Delta(i, j)) * x[i] * x[j], (i, 0, n - 1), (j, 0, n - 1)), X.sum() ** 2 - X @ X),
    case("polynomial-product", sp.Sum(Delta(k, i + j) * w[i] * w[j], (i, 0, 2), (j, 0, 2)) * T[0, k, 0],
         np.r_[np.convolve(W, W), 0] * TT[0, :, 0]),
    case("segment-sum", w[k] * sp.Sum(Delta(h[i], k) * x[i], (i, 0, n - 1)), W * np.bincount(H, X, M)),
    case("segment-rows", w[k] * sp.Sum(Delta(h[i], k) * B[i, j], (i, 0, n - 1)),
         np.array([[W[c] * BB[c == H, b].sum() for c in R[:3]] for b in R[:3]])),
    case("select", sp.Sum(Delta(h[i], k) * w[k], (k, 0, m - 1)) * x[i], W[H] * X),
    case("select-outside", sp.Sum(Delta(g[i], k) * w[k], (k, 0, m - 1)) * x[i],
         np.where(G < M, W[np.minimum(G, 2)], 0) * X),
    case("segments-outside", sp.Sum(w[k] * sp.Sum(Delta(g[i], k) * x[i], (i, 0, n - 1)), (k, 0, m - 1)),
         sum(W[G[a]] * X[a] for a in R if G[a] < M)),
    case("one-hot", Delta(h[i], k) * w[k] * x[i], np.where(H[:, None] == np.arange(3), W * X[:, None], 0)),
    case("own-index", sp.Sum(Delta(i, g[i]) * x[i], (i, 0, n - 1)), X[np.arange(N) == G].sum()),
    case("levi-civita", sp.Sum(sp.LeviCivita(i, j, k) * D[i, 0] * D[j, 1] * D[k, 2], (i, 0, 2), (j, 0, 2), (k, 0, 2)),
         np.linalg.det(AA[:3, :3])),
]  # fmt: skip
CASES = ELEMENTS + RANGES + WINDOWS + EXTREMES + DELTAS


def lowered(expr: Any, options: dict[str, Any]) -> tuple[Graph, dict[str, Any]]:
    graph = lower(expr, **options).validate()
    return graph, {name: DATA[name] for name in names(graph)}


def names(graph: Graph) -> list[str]:
    return [graph[v].attributes["name"] for v in graph.inputs]


@pytest.mark.parametrize(("expr", "due", "options"), CASES)
def test_values_are_those_of_loops(expr: Any, due: Any, options: dict[str, Any]) -> None:
    graph, data = lowered(expr, options)
    np.testing.assert_allclose(evaluate(graph, data)["out"], due, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(evaluate(optimize(graph)[0], data)["out"], due, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("expr", "due", "options"), CASES)
def test_derivatives_are_those_of_differences(expr: Any, due: Any, options: dict[str, Any]) -> None:
    graph, data = lowered(expr, options)
    real = [v for v in graph.inputs if graph[v].type.kind is Kind.REAL]
    draw = np.random.default_rng(3)
    direction = {graph[v].attributes["name"]: draw.normal(size=data[graph[v].attributes["name"]].shape) for v in real}
    sides = [
        evaluate(graph, data | {name: data[name] + sign * 1e-6 * d for name, d in direction.items()})["out"]
        for sign in (1, -1)
    ]
    slope = (sides[0] - sides[1]) / 2e-6
    forward = jvp(graph, real)
    tangents = dict(zip(names(forward)[len(graph.inputs) :], direction.values(), strict=True))
    (pushed,) = evaluate(forward, data | tangents).values()
    np.testing.assert_allclose(pushed, slope, rtol=1e-6, atol=1e-7)
    backward = vjp(graph, real)
    weight = draw.normal(size=np.shape(due))
    pulled = evaluate(backward, data | {names(backward)[-1]: weight}).values()
    product = sum(np.sum(p * d) for p, d in zip(pulled, direction.values(), strict=True))
    np.testing.assert_allclose(product, np.sum(weight * slope), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "picked", ["gather-diagonal", "convolution", "layer", "running-before", "running-max", "segment-rows"]
)
def test_tensorflow_computes_the_same_with_batches(picked: str) -> None:
    expr, due, options = next(c.values for c in CASES if c.id == picked)
    f = sym2tf.compile(expr, **options)
    data = {name: np.stack([DATA[name], DATA[name]]) for name in names(f.graph)}
    np.testing.assert_allclose(f(**data), np.stack([due, due]), rtol=1e-12)


# What the graphs are made of


def counts(expr: Any, **options: Any) -> dict[str, int]:
    return optimize(lower(expr, **options))[0].counts()


def core_rank(graph: Graph) -> int:
    return max(graph[v].type.rank for v in graph.nx)


@pytest.mark.parametrize(
    ("expr", "row", "never"),
    [
        (sp.Sum(y[i] * sp.Sum(x[j], (j, 0, i)), (i, 0, n - 1)), "cumsum", {"select", "less_equal"}),
        (sp.Sum(x[j] * y[i], (j, i + 1, n - 1), (i, 0, n - 1)), "cumsum", {"select", "less_equal"}),
        (sp.Sum(w[k] * sp.Sum(Delta(h[i], k) * x[i], (i, 0, n - 1)) ** 2, (k, 0, m - 1)), "scatter_add", {"one_hot"}),
        (sp.Sum(x[i] * sp.Sum(Delta(h[i], k) * w[k], (k, 0, m - 1)), (i, 0, n - 1)), "gather", {"one_hot", "range"}),
        (sp.Sum(x[2 * i + 1], (i, 0, n - 1)), "stride", {"gather"}),
        (sp.Sum(x[n - 1 - i] * y[i], (i, 0, n - 1)), "stride", {"gather"}),
        (sp.Sum(x[g[i]] * y[i], (i, 0, n - 1)), "gather", {"reshape", "range"}),
    ],
)
def test_the_form_that_costs_least_is_taken(expr: Any, row: str, never: set[str]) -> None:
    graph = optimize(lower(expr))[0]
    assert row in graph.counts()
    assert not never & set(graph.counts())
    assert core_rank(graph) == 1  # nothing of n squared elements is ever made


def test_a_delta_of_two_indices_leaves_no_identity_matrix() -> None:
    found = counts(sp.Sum(Delta(i, j) * x[i] * y[j], (i, 0, n - 1), (j, 0, n - 1)))
    assert not {"eye", "equal", "gather", "range"} & set(found)


@pytest.mark.parametrize(
    "expr",
    [
        -sp.Sum(Delta(h[i], k) * sp.log(B[i, k] ** 2 + 2), (k, 0, m - 1), (i, 0, n - 1)),
        sp.Sum(Delta(h[i], k) * sp.exp(B[i, k]) * w[k], (k, 0, m - 1), (i, 0, n - 1)),
        sp.Sum(Delta(j, 2) * sp.tanh(3 * B[i, j]) * y[i], (j, 0, m - 1), (i, 0, n - 1)),
    ],
    ids=["cross-entropy", "two-tensors", "column"],
)
def test_functions_are_taken_of_what_a_delta_picks(expr: Any) -> None:
    graph = lower(expr)
    data = {name: DATA[name] for name in names(graph)}
    made, report = optimize(graph)
    assert "function of what is picked" in report.fired
    assert not [v for v in made.nx if made[v].op.elementwise and made.operands(v) and made[v].type.rank > 1]
    plain, backward = (
        optimize(gradient(g, [v for v in g.inputs if g[v].type.kind is Kind.REAL]))[0]
        for g in (graph, stabilize(graph))
    )
    functions = {"exp", "log", "tanh", "square"}
    assert not [v for v in backward.nx if backward[v].op.name in functions and backward[v].type.rank > 1]
    np.testing.assert_allclose(evaluate(made, data)["out"], evaluate(graph, data)["out"])
    due = evaluate(plain, data)
    for name, value in evaluate(backward, data).items():
        np.testing.assert_allclose(value, due[name])


def test_derivatives_keep_the_form() -> None:
    running = lower(sp.Sum((y[i] - sp.Sum(x[j], (j, 0, i))) ** 2, (i, 0, n - 1)))
    for make in (vjp, jvp):
        assert core_rank(optimize(make(running, list(running.inputs)))[0]) == 1
    segments = lower(sp.Sum(sp.Sum(Delta(h[i], k) * x[i], (i, 0, n - 1)) ** 2 * w[k], (k, 0, m - 1)))
    backward = optimize(vjp(segments, [v for v in segments.inputs if segments[v].type.kind is Kind.REAL]))[0]
    assert {"scatter_add", "gather"} <= set(backward.counts())
    assert core_rank(backward) == 1


@pytest.mark.parametrize("picked", [c.id for c in WINDOWS if c.id != "windows-that-meet"])
def test_windows_are_never_made_one_by_one(picked: str) -> None:
    expr, _, options = next(c.values for c in WINDOWS if c.id == picked)
    graph = lower(expr, **options)
    for made in (graph, vjp(graph, list(graph.inputs)), jvp(graph, list(graph.inputs))):
        found = optimize(made)[0].counts()
        assert "correlate" in found
        assert not {"gather", "scatter_add"} & set(found)


@pytest.mark.parametrize("picked", ["convolution", "windows-of-rows", "layer", "windows-in-the-plane"])
def test_the_sparsity_of_windows_is_that_of_their_jacobian(picked: str) -> None:
    expr, due, options = next(c.values for c in (*ELEMENTS, *WINDOWS) if c.id == picked)
    graph, data = lowered(expr, options)
    inputs = list(graph.inputs)
    dense = [np.reshape(d, (np.size(due), -1)) for d in evaluate(jacobian(graph, inputs), data).values()]
    found = np.zeros((np.size(due), sum(d.shape[1] for d in dense)), bool)
    sizes = Binding(graph).bind({name: value.shape for name, value in data.items()}, {})
    found[dependencies(graph, inputs, sizes, {})["out"].pairs()] = True
    np.testing.assert_array_equal(found, np.concatenate(dense, axis=1) != 0)


def test_functions_of_windows_are_taken_of_nothing_that_no_window_reaches() -> None:
    base = sp.IndexedBase("x", shape=(n,))
    graph = lower(sp.Sum(sp.log(base[i + j]) * w[j], (j, 0, m - 1), (i, 2, 3)))
    assert "correlate" in graph.counts()
    data = {"w": W, "x": np.array([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0])}
    logs = np.log(data["x"][2:6])
    answer = evaluate(gradient(graph, list(graph.inputs)), data)
    np.testing.assert_allclose(evaluate(graph, data)["out"], np.convolve(logs, W[::-1], "valid").sum())
    by_w, by_x = answer.values()
    np.testing.assert_allclose(by_w, np.convolve(logs, [1, 1], "valid"))
    np.testing.assert_allclose(by_x, [0, 0, *np.convolve(W, [1, 1]) / data["x"][2:6], 0])


@pytest.mark.parametrize(("width", "length", "due"), [(0, 4, np.zeros(5)), (3, 2, []), (1, 0, []), (0, 0, [0])])
def test_kernels_of_nothing_and_data_without_a_window_have_values_and_derivatives(
    width: int, length: int, due: Any
) -> None:
    expr = sp.Sum(w[j] * x[i + j], (j, 0, m - 1))
    graph, f = lower(expr), sym2tf.compile(expr)
    data = {"w": np.ones(width), "x": np.ones(length)}
    backward, weights = vjp(graph, list(graph.inputs)), np.ones(len(due))
    seed = {names(backward)[-1]: weights}
    for value in (evaluate(graph, data)["out"], f(**data)):
        np.testing.assert_array_equal(value, due)
    for parts in (evaluate(backward, data | seed).values(), f.vjp()(*data.values(), weights)):
        for part, size in zip(parts, (width, length), strict=True):
            np.testing.assert_array_equal(part, np.zeros(size))


def test_windows_without_overlap_are_not_correlated() -> None:
    assert "correlate" not in counts(sp.Sum(D[0, j] * x[3 * i + j], (j, 0, 2)))


WINDOW_PROGRAM = """
import numpy as np, sympy as sp
from sym2tf.backends import numpy as reference
from sym2tf.autodiff import derivatives
from sym2tf.frontend.lower import lower
from sym2tf.passes.pipeline import optimize, stabilize
i, j, n, m = sp.symbols("i j n m", integer=True)
k, x, y = map(sp.IndexedBase, "kxy")
cost = sp.Sum((y[i] - sp.Sum(k[j] * x[i + j], (j, 0, m - 1))) ** 2, (i, 0, n - 1))
N, M = 10**6, 10**3  # all windows are 8 GB
rng = np.random.default_rng(0)
data = dict(k=rng.normal(size=M), x=rng.normal(size=N + M - 1), y=rng.normal(size=N))
small = dict(k=data["k"][:3], x=data["x"][:12], y=data["y"][:10])
"""
WINDOWS_IN_NUMPY = """
graph = lower(cost, args=(k, x, y))
gradient = optimize(derivatives.gradient(graph, graph.inputs[:2]))[0]
run = lambda data: list(reference.evaluate(gradient, data).values())
"""
WINDOWS_IN_TENSORFLOW = """
from sym2tf.compiled import compile
function = compile(cost, args=(k, x, y)).gradient([k, x])
run = lambda data: [v.numpy() for v in function(**data)]
"""
WINDOWS_JUDGED = """
run(small)
before = peak()
by_k, by_x = run(data)
grown = peak() - before
r = 2 * (np.correlate(data["x"], data["k"], "valid") - data["y"])
np.testing.assert_allclose(by_k, np.correlate(data["x"], r, "valid"), rtol=1e-8, atol=1e-4)
np.testing.assert_allclose(by_x, np.convolve(r, data["k"]), rtol=1e-8, atol=1e-6)
print(grown)
"""


@asks_linux
@pytest.mark.parametrize("backend", [WINDOWS_IN_NUMPY, WINDOWS_IN_TENSORFLOW], ids=["numpy", "tensorflow"])
def test_a_million_windows_of_a_thousand_take_the_memory_of_the_data(backend: str) -> None:
    assert megabytes_printed_by(WINDOW_PROGRAM + backend + WINDOWS_JUDGED) < 300


def test_a_million_terms_by_segments_and_as_running_sums_take_no_square_of_memory() -> None:
    count, groups = 10**6, 10**5
    values, where = np.random.default_rng(0).normal(size=count), np.arange(count) % groups
    running = lower(sp.Sum(x[i] * sp.Sum(x[j], (j, 0, i)), (i, 0, n - 1)))
    assert evaluate(running, {"x": values})["out"] == pytest.approx(float(values @ np.cumsum(values)))
    segments = lower(sp.Sum(w[k] * sp.Sum(Delta(h[i], k) * x[i], (i, 0, n - 1)), (k, 0, m - 1)))
    answer = evaluate(segments, {"h": where, "w": np.ones(groups), "x": values})["out"]
    assert answer == pytest.approx(float(values.sum()))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_subscripts_are_computed_in_integers_whatever_the_dtype(dtype: str) -> None:
    size = 3000  # beyond the integers that these formats hold
    halves = lower(x[sp.floor(g[i] / 2)] - y[i])
    data = np.arange(size) % 7
    pairs = np.repeat(data, 2)[:size]
    answer = evaluate(halves, {"x": data, "g": np.arange(size), "y": pairs}, dtype=dtype)["out"]
    assert not np.any(answer.astype(float))


# Sizes


def test_sizes_follow_from_several_data_together() -> None:
    graph = lower(sp.Sum(w[j] * x[i + j], (j, 0, m - 1)))
    assert evaluate(graph, {"w": np.ones(2), "x": np.ones(9)})["out"].shape == (8,)
    with pytest.raises(SizeError):
        evaluate(graph, {"w": np.ones(9), "x": np.ones(2)})


def test_a_symbol_that_would_reach_below_zero_as_an_index_is_a_length() -> None:
    graph = lower(x[n - 1 - g[i]] * y[i] + y[n - 1])
    answer = evaluate(graph, {"g": G, "x": X, "y": Y}, {"n": N})["out"]
    np.testing.assert_allclose(answer, X[N - 1 - G] * Y + Y[-1])


def test_a_place_in_a_convolution_is_an_index_and_no_length() -> None:
    graph = lower(sp.Sum(w[j] * x[i + m - 1 - j], (j, 0, m - 1)))
    kernel = np.array([1.0, -2.0, 5.0])
    np.testing.assert_allclose(evaluate(graph, {"w": kernel, "x": X})["out"], np.convolve(X, kernel, "valid"))


def test_what_is_read_through_data_may_have_any_length() -> None:
    graph = lower(sp.Sum(x[g[i]] * y[i], (i, 0, n - 1)))
    assert evaluate(graph, {"g": [0, 41], "x": np.arange(42), "y": np.ones(2)})["out"] == 41
    by_name = {graph[v].attributes["name"]: graph[v].type for v in graph.inputs}
    assert by_name["g"].kind is Kind.INTEGER
    assert isinstance(by_name["x"].shape[0], Dim)


def test_a_range_that_ends_before_the_data_does_not_cut_them() -> None:
    graph = lower(sp.Sum(A[i, j], (j, 0, i - 1), (i, 0, n - 1)))
    assert evaluate(graph, {"A": AA})["out"] == pytest.approx(np.tril(AA, -1).sum())


def test_empty_ranges_are_sums_of_nothing() -> None:
    triangle = lower(sp.Sum(A[i, j], (j, 0, i - 1), (i, 0, n - 1)))
    assert evaluate(triangle, {"A": np.ones((1, 1))})["out"] == 0
    product = lower(sp.Product(x[j], (j, 0, i - 1)) * y[i], indices=[i])
    np.testing.assert_allclose(evaluate(product, {"x": X, "y": Y})["out"], np.r_[1, np.cumprod(X)[:-1]] * Y)


# Errors

OUTSIDE: list[tuple[Any, dict[str, Any]]] = [
    (x[g[i]], {"x": X, "g": [0, 6]}),
    (x[g[i]], {"x": X, "g": [-1, 0]}),
    (A[i, g[i]], {"A": AA, "g": [0, 1, 2, 3, 4, 6]}),
    (A[g[i], 0], {"A": AA, "g": [0, -6]}),
    (A[g[i], h[i]], {"A": AA, "g": [0, 1], "h": [6, 0]}),
    (x[g[i] + 1], {"x": X, "g": [0, 5]}),
]


@pytest.mark.parametrize(("expr", "data"), OUTSIDE, ids=str)
def test_subscripts_outside_of_the_data_raise_and_never_wrap(expr: Any, data: dict[str, Any]) -> None:
    with pytest.raises(SubscriptError, match=r"subscript -?\d+ of an axis of length 6"):
        evaluate(lower(expr), data)
    with pytest.raises(SubscriptError, match=r"of an axis of length 6: it comes from g"):
        sym2tf.compile(expr)(**data)


RAGGED = sp.Sum(x[i], (i, start[k], stop[k] - 1))
BEYOND: list[tuple[Any, list[int], list[int]]] = [
    (RAGGED, [0, 2, 2], [2, 2, 7]),
    (RAGGED, [-1, 0, 0], [2, 2, 6]),
    (RAGGED, [0, 8, 0], [2, 8, 6]),  # over nothing, but there is no such place
    (sp.exp(RAGGED) * w[k], [0, 2, 2], [2, 2, 7]),
    (sp.Product(x[i], (i, start[k], stop[k] - 1)), [0, 2, 2], [2, 9, 6]),
    (MaxOver(x[i], (i, start[k], stop[k] - 1)), [0, -2, 2], [2, 1, 6]),
]


@pytest.mark.parametrize(("expr", "first", "end"), BEYOND, ids=str)
def test_ragged_ranges_beyond_the_data_raise_and_are_never_cut(expr: Any, first: list[int], end: list[int]) -> None:
    graph = lower(expr)
    data = {"x": X, "w": W, "start": first, "stop": end}
    for made in (graph, optimize(graph)[0]):
        with pytest.raises(SubscriptError, match=r"subscript -?\d+ of an axis"):
            evaluate(made, {name: data[name] for name in names(graph)})


def test_ragged_ranges_beyond_the_data_raise_in_tensorflow_with_batches_and_derivatives_too() -> None:
    f = sym2tf.compile(RAGGED)
    for made in (f, f.vjp()):
        more = () if made is f else (np.ones(3),)
        made([0, 2, 2], [2, 2, 6], X, *more)
        with pytest.raises(SubscriptError, match="it comes from start or stop"):
            made([0, 2, 2], [2, 2, 7], X, *more)
    with pytest.raises(SubscriptError, match="it comes from start or stop"):
        f([[0, 2, 2], [0, -1, 2]], [2, 2, 6], X)


@pytest.mark.parametrize(
    ("length", "first", "end", "due"),
    [(6, [6, 0, 3], [6, 0, 3], [0, 0, 0]), (6, [5, 4, 0], [2, 0, 6], [0, 0, 6]), (0, [0, 0, 0], [0, 0, 0], [0, 0, 0])],
    ids=["at-both-ends", "reversed", "no-data"],
)
def test_ragged_ranges_over_nothing_are_sums_of_nothing(length: int, first: Any, end: Any, due: Any) -> None:
    answer = evaluate(lower(RAGGED), {"x": np.ones(length), "start": first, "stop": end})["out"]
    np.testing.assert_array_equal(answer, due)


def test_a_bound_counts_only_where_the_indices_count_that_it_depends_on() -> None:
    expr = sp.Sum(x[j], (j, 0, g[k] - i), (i, 0, k), (k, 0, n - 1))
    data = {"x": X, "g": np.arange(N)}
    due = sum(X[: a - b + 1].sum() for a in R for b in R if b <= a)
    np.testing.assert_allclose(evaluate(lower(expr), data)["out"], due)


def test_a_sum_that_the_scan_has_not_seen_is_an_internal_error_and_no_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hidden(sp.Function):
        """Has a definition that the scan does not look into."""

    unseen = sp.Sum(x[i], (i, 0, n - 1))
    table = {Hidden: Handler(lambda context, expr, scope, xs: xs[0], children=lambda expr: (unseen,))}
    monkeypatch.setattr(lowering, "HANDLERS", lowering.HANDLERS | table)
    with pytest.raises(AssertionError, match="the scan has not seen it"):
        lower(Hidden(y[0]))


@pytest.mark.parametrize(
    ("members", "due"),
    [
        (lambda e: sp.Interval(0, e**2), 1.0),
        (lambda e: sp.Interval.open(e, 2 * e), 0.0),
        (lambda e: sp.FiniteSet(x[0], x[1] + e), 0.0),
        (lambda e: sp.Union(sp.Interval(-2, 0), sp.Interval(1, 3 + e)), 1.0),
    ],
)
def test_membership_may_be_asked_of_sums_in_sets_of_sums(members: Any, due: float) -> None:
    total, other = (sp.Sum(b[i], (i, 0, n - 1)) for b in (x, y))
    expr = sp.Piecewise((1, sp.Contains(total, members(other))), (0, True))
    data = {"x": np.full(N, 0.5), "y": np.full(N, 0.5)}
    graph = lower(expr, args=(x, y))
    assert evaluate(graph, data, {"n": N})["out"] == due


def deep(index: Any, levels: int) -> Any:
    for _ in range(levels):
        index = g[index]
    return index


UNSUPPORTED: list[tuple[Any, str]] = [
    (x[i / 2], "subscript i/2"),
    (x[sp.sin(i)], "sin"),
    (sp.Sum(x[i - 1], (i, 0, n)), "starts at -1, negative"),
    (x[-1], "the first element is"),
    (sp.Sum(x[i - j], (j, 0, 2), (i, 0, n - 1)), "starts at -2"),
    (sp.Sum(x[i], (i, 0, n), (i, 0, m)), "the index i has two ranges: 0 to n and 0 to m"),
    (sp.Sum(x[i], (i, 0, j), (j, 0, i)), "a bound of j depends on i"),
    (sp.Sum(x[j], (j, 0, n - 1), (i, 0, j)), "write the inner limits first"),
    (sp.Sum(x[i], (i, 0, sp.oo)), "infinite"),
    (sp.Sum(x[i], (i, 0, sp.sqrt(n))), "a bound that is not a size"),
    (sp.Sum(x[i], (i, 5, 2)), "reverse them by hand"),
    (A[i], "1 subscripts where A has 2 axes"),
    (x[deep(g[i], 400)], "it is too deep"),
    (x[g[y[i] / 2] + 1], "the subscript y[i]/2"),
    (Delta(i, j, (0, 3)) * x[i], "leave the range out"),
    (
        sp.Piecewise((1, sp.Contains(y[0], sp.ConditionSet(a, a**2 > sp.Sum(x[i], (i, 0, n - 1))))), (0, True)),
        "no relation: write one",
    ),
]


@pytest.mark.parametrize(("expr", "text"), UNSUPPORTED, ids=lambda value: describe(value))
def test_what_is_not_supported_is_said_where_it_stands(expr: Any, text: str) -> None:
    with pytest.raises(UnsupportedExpressionError) as caught:
        lower([expr, A[0, 0]])
    assert text in str(caught.value)


@pytest.mark.parametrize("other", [0, 2])
def test_a_free_index_ends_where_the_last_shifted_subscript_ends(other: int) -> None:
    z = sp.IndexedBase("z", shape=(n,))
    graph = sym2tf.lower(z[j + 1] * z[j + other])
    data = np.arange(1.0, 6.0)
    count = 5 - max(1, other)
    expected = data[1 : 1 + count] * data[other : other + count]
    np.testing.assert_array_equal(evaluate(graph, {"z": data})["out"], expected)


def test_free_indices_with_two_ranges_are_refused() -> None:
    p, q = (sp.IndexedBase(name, shape=(size,)) for name, size in (("p", n), ("q", m)))
    with pytest.raises(
        ShapeError, match=r"the free index i runs over axes of different lengths: . in .\[i\] and . in .\[i\]"
    ):
        lower(p[i] + q[i])
    with pytest.raises(ShapeError, match=r"the free index i has two ranges: 0 to [24] and 0 to [24]"):
        lower(x[sp.Idx("i", 3)] + y[sp.Idx("i", 5)])


def test_data_that_contradict_a_size_are_named() -> None:
    graph = lower(sp.Sum(x[i] * y[i], (i, 0, n - 1)))
    with pytest.raises(
        SizeError, match=r"y has length 4 .* n = 6 elements are needed \(n = 6 from the length 6 of x\)"
    ):
        evaluate(graph, {"x": X, "y": Y[:4]})


def test_a_subscript_that_sizes_put_below_zero_is_named() -> None:
    graph = lower(sp.Sum(x[i], (i, n - 4, n - 1)))
    assert evaluate(graph, {"x": X})["out"] == pytest.approx(X[-4:].sum())
    with pytest.raises(SizeError, match="a subscript reaches n-4, below zero with n = 3"):
        evaluate(graph, {"x": X[:3]})


# The notation itself


def test_extremes_over_indices_behave_as_sums_do_in_sympy() -> None:
    over = MaxOver(x[i] * k, (i, 0, n - 1))
    assert str(over) == "MaxOver(k*x[i], (i, 0, n - 1))"
    assert sp.latex(over) == r"\max_{0 \leq i \leq n - 1} k {x}_{i}"
    assert n in over.free_symbols
    assert i not in over.free_symbols
    assert over.subs(k, 2) == MaxOver(2 * x[i], (i, 0, n - 1))
    assert over.subs(n, 3).doit() == sp.Max(0 * k + k * x[0], k * x[1], k * x[2])
    assert over.doit() == over
    assert MinOver(x[i] * j, (j, 0, i), (i, 1, 2)).doit() == sp.Min(0, x[1], x[2], 2 * x[2])
    assert pickle.loads(pickle.dumps(over)) == over
    assert MaxOver(x[sp.Idx(i, (0, 4))], sp.Idx(i, (0, 4))).limits[0][1:] == (0, 4)
    with pytest.raises(ValueError, match="at least one index"):
        MaxOver(x[i])
    with pytest.raises(ValueError, match=r"\(index, lower, upper\)"):
        MaxOver(x[i], (i, 3))


WRITTEN: dict[str, Callable[[], Any]] = {
    "softmax": lambda: sp.exp(x[i]) / sp.Sum(sp.exp(x[j]), (j, 0, n - 1)),
    "logsumexp": lambda: sp.log(sp.Sum(sp.exp(x[j]), (j, 0, n - 1))),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_patterns_over_an_index_are_recognised(name: str) -> None:
    assert name in counts(WRITTEN[name]())


def test_the_blocks_of_the_documentation_run_in_order() -> None:
    text = (Path(__file__).parent.parent / "docs" / "indices.md").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "indices.md", "exec"), namespace)


JACOBIANS = [
    "gather-rows",
    "gather-diagonal",
    "convolution",
    "running-free",
    "causal-convolution",
    "segment-rows",
    "max",
]


@pytest.mark.parametrize("picked", JACOBIANS)
def test_jacobians_and_hessians_are_made_of_tangents(picked: str) -> None:
    expr, _, options = next(c.values for c in CASES if c.id == picked)
    graph, data = lowered(expr, options)
    real = [v for v in graph.inputs if graph[v].type.kind is Kind.REAL]
    name = graph[real[0]].attributes["name"]
    forward = jvp(graph, real[:1])
    tangent = names(forward)[-1]
    columns = []
    for at in np.ndindex(data[name].shape):
        unit = np.zeros_like(data[name])
        unit[at] = 1
        columns.append(next(iter(evaluate(forward, data | {tangent: unit}).values())))
    due = np.moveaxis(np.stack(columns), 0, -1)
    (whole,) = evaluate(jacobian(graph, real[:1]), data).values()
    np.testing.assert_allclose(whole.reshape(due.shape), due, rtol=1e-12, atol=1e-12)


def test_second_derivatives_through_data_are_those_of_differences() -> None:
    graph, data = lowered(
        sp.Sum(w[k] * sp.Sum(Delta(h[i], k) * sp.sin(x[g[i]]), (i, 0, n - 1)) ** 3, (k, 0, m - 1)), {}
    )
    (at,) = (v for v in graph.inputs if graph[v].attributes["name"] == "x")
    slope = gradient(graph, [at])
    (curvature,) = evaluate(hessian(graph, [at]), data).values()
    for c in R:
        step = 1e-6 * np.eye(N)[c]
        up, down = (next(iter(evaluate(slope, data | {"x": X + s}).values())) for s in (step, -step))
        np.testing.assert_allclose(curvature[c], (up - down) / 2e-6, rtol=1e-6, atol=1e-7)


def test_a_model_with_one_constant_for_each_group_is_fitted_in_one_step() -> None:
    slope, level = sp.Symbol("s"), sp.IndexedBase("b")
    groups = rng.integers(0, 3, 40)
    at = rng.normal(size=40)
    seen = 2 * at + np.array([1.0, -1.0, 0.5])[groups] + rng.normal(size=40) / 10
    cost = sp.Sum((y[i] - level[g[i]] - slope * x[i]) ** 2, (i, 0, n - 1))
    found = sym2tf.fit(cost, data={x: at, y: seen, g: groups}, params={level: np.zeros(3), slope: 0})
    design = np.column_stack([groups[:, None] == np.arange(3), at])
    due = np.linalg.lstsq(design, seen, rcond=None)[0]
    np.testing.assert_allclose([*found.params["b"], found.params["s"]], due, rtol=1e-12)
    assert "solved in one step" in str(found)
    with pytest.raises(DataError, match=r"g stands in a subscript and must be integers, but holds 0\.5"):
        sym2tf.fit(cost, data={x: at, y: seen, g: np.full(40, 0.5)}, params={level: np.zeros(3), slope: 0})
