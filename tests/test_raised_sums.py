"""Sums raised to SymPy mean what the graph computes: nothing is torn out of a sum, and lowering them gives it back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from sym2tf.api import to_sympy
from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import GraphError, UnsupportedExpressionError
from sym2tf.frontend.lower import lower
from sym2tf.notation import MaxOver
from sym2tf.passes.pipeline import optimize
from tests.test_random_indices import M, N, given, names, ready

n = sp.Symbol("n", integer=True, positive=True)
i, j, k = sp.symbols("i j k", integer=True)
x, g = sp.IndexedBase("x", shape=(n,)), sp.IndexedBase("g", shape=(n,))
A = sp.IndexedBase("A", shape=(n, n))
DATA = {"x": np.arange(1.0, 6.0), "g": np.array([0, 1, -1, 5, 1]), "A": np.sin(np.arange(25.0)).reshape(5, 5)}


def values(graph: Any) -> Any:
    return list(evaluate(graph, {name: DATA[name] for name in names(graph)}, {"n": 5}).values())


def free(raised: Any) -> list[Any]:
    return sorted(raised.free_symbols & {i, j}, key=str)


SEGMENTS = sp.Sum(sp.KroneckerDelta(g[i], j) * x[i], (i, 0, n - 1))
NESTED = {
    "squares of segments": sp.Sum(SEGMENTS**2, (j, 0, 3)),
    "squares of triangular sums": sp.Sum(sp.Sum(A[i, j] * x[j], (j, 0, i)) ** 2, (i, 0, n - 1)),
    "largest triangular sum": MaxOver(sp.Sum(sp.sin(A[i, j]), (j, 0, i)) ** 2, (i, 0, n - 1)),
    "sum over a ragged range": sp.Sum(sp.exp(sp.Sum(x[j] / 9, (j, 0, g[i]))), (i, 0, 1)),
    "product of sums over ragged ranges": sp.Product(1 + sp.Sum(A[i, j] * x[j], (j, i, n - 1)), (i, 0, n - 1)),
}


@pytest.mark.parametrize("name", NESTED)
def test_conditions_stay_inside_the_sums_that_bind_their_indices(name: str) -> None:
    graph = lower(NESTED[name])
    for each in (graph, optimize(graph)[0]):
        raised = to_sympy(each)
        assert not {i, j, k} & raised.free_symbols
        np.testing.assert_allclose(values(lower(raised)), values(graph), rtol=1e-12)


def test_sums_by_segments_are_sums_with_a_delta() -> None:
    raised = to_sympy(lower(NESTED["squares of segments"]))
    assert raised == NESTED["squares of segments"]
    assert not to_sympy(lower(SEGMENTS, indices=(j,))).has(sp.Piecewise, sp.Min)


def test_gradients_of_sums_by_segments_are_right() -> None:
    graph = lower(NESTED["squares of segments"])
    gradient = derivatives.gradient(graph, [v for v in graph.inputs if graph[v].attributes["name"] == "x"])
    raised = to_sympy(gradient)
    np.testing.assert_allclose(values(lower(raised, indices=free(raised))), values(gradient), rtol=1e-12)


@pytest.mark.parametrize("optimised", [False, True])
def test_raised_random_index_expressions_equal_loops(optimised: bool) -> None:
    checked = unreadable = 0
    for seed in range(40_000, 40_120):
        made = ready(seed)
        if made is None:
            continue
        _, graph, data, due = made
        try:
            raised = to_sympy(optimize(graph)[0] if optimised else graph)
        except GraphError:  # a condition that SymPy would spoil: refused by name
            unreadable += 1
            continue
        indices = free(raised) if due.ndim else []
        if len(indices) < due.ndim:  # nothing depends on one of the axes
            continue
        try:
            back = lower(raised, indices=indices)
        except UnsupportedExpressionError:  # a Piecewise as a subscript: the place that a mask guards
            unreadable += 1
            continue
        known = {name: {**data, "n": N, "m": M}[name] for name in names(back)}
        np.testing.assert_allclose(
            evaluate(back, known, given(back))["out"], due, rtol=1e-9, atol=1e-9, err_msg=f"{seed}: {raised}"
        )
        checked += 1
    assert checked > 60
    assert unreadable < 6
