"""What makes fits quick changes no number: kernels, what is computed once, what is remembered, sums over blocks."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

from sym2tf import Parameter, fit
from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.numpy_source import kernel
from sym2tf.errors import DataError, SingularProblemError
from sym2tf.fit.evaluation.functions import Evaluation
from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.statement.classify import classify
from sym2tf.fit.statement.restatement import stated
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Graph
from sym2tf.ops.elementary import exp
from sym2tf.ops.leaves import input_
from sym2tf.passes.hoisting import split
from sym2tf.passes.pipeline import optimize

restatement = sys.modules["sym2tf.fit.statement.restatement"]
large = sys.modules["sym2tf.fit.solvers.large"]

a, b, c, x, y = sp.symbols("a b c x y")
i, j, n, m = sp.symbols("i j n m", integer=True)
X, Y, W = sp.IndexedBase("X"), sp.IndexedBase("Y"), sp.IndexedBase("W")
A, B, w = sp.MatrixSymbol("A", n, m), sp.MatrixSymbol("B", n, m), sp.MatrixSymbol("w", m, 1)
RNG = np.random.default_rng(5)

FORMULAS: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
    "elementwise": (a * sp.exp(-b * x) + c / x - x**3 + 2, {"a": (), "b": (), "c": (), "x": ()}),
    "constants": (sp.sqrt(2) * a + sp.pi, {"a": ()}),
    "branches": (sp.Piecewise((a**2, a > b), (sp.log(b), True)), {"a": (), "b": ()}),
    "sums": (sp.Sum((Y[i] - a * X[i]) ** 2, (i, 0, n - 1)) / n, {"X": (7,), "Y": (7,), "a": ()}),
    "sum of a constant": (sp.Sum(a * b, (i, 0, n - 1)) + sp.Sum(X[i], (i, 0, n - 1)), {"X": (7,), "a": (), "b": ()}),
    "shifts": (sp.Sum((X[i + 1] - a * X[i]) ** 2, (i, 0, n - 2)), {"X": (7,), "a": ()}),
    "ranges": (sp.Sum(i * X[i] * a, (i, 0, n - 1)), {"X": (7,), "a": ()}),
    "matrices": ((A * w).T * B * w + a * sp.ones(1), {"A": (5, 3), "B": (5, 3), "w": (3, 1), "a": ()}),
    "special functions": (sp.erf(a) * sp.loggamma(b) + sp.Max(a, b, c), {"a": (), "b": (), "c": ()}),
}


def arrays_for(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    names = [graph[v].attributes["name"] for v in graph.inputs]
    return {name: np.random.default_rng(11).uniform(0.5, 2.0, shapes[name]) for name in names}


def run_kernel(graph: Graph, arrays: dict[str, np.ndarray], sizes: dict[str, int]) -> list[np.ndarray]:
    due = evaluate(graph, arrays, sizes)
    given = [arrays[graph[v].attributes["name"]] for v in graph.inputs]
    with np.errstate(all="ignore"):
        found = kernel(graph, sizes)(*(value if value.shape else value[()] for value in given))
    return [np.broadcast_to(value, due[name].shape) for name, value in zip(graph.outputs, found, strict=True)]


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("derived", [False, True])
def test_kernels_compute_what_the_reference_backend_computes(name: str, derived: bool) -> None:
    expression, shapes = FORMULAS[name]
    graph = lower(expression)
    if derived:
        graph = derivatives.jacobian(graph, graph.inputs, values=True)
    for form in (graph, optimize(graph)[0]):
        arrays = arrays_for(form, shapes)
        sizes = {s: {"n": 7 if "X" in shapes else 5, "m": 3}[s] for s in form.size_names()}
        for found, due in zip(run_kernel(form, arrays, sizes), evaluate(form, arrays, sizes).values(), strict=True):
            np.testing.assert_allclose(found, due, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", FORMULAS)
def test_what_is_computed_once_and_the_rest_are_the_whole(name: str) -> None:
    expression, shapes = FORMULAS[name]
    graph = optimize(lower(expression))[0]
    arrays = arrays_for(graph, shapes)
    sizes = {s: {"n": 7 if "X" in shapes else 5, "m": 3}[s] for s in graph.size_names()}
    fixed = [v for v in graph.inputs if graph[v].attributes["name"] not in ("a", "w")]
    parts = split(graph, fixed)
    for part in parts:
        part.validate()
    names = {graph[v].attributes["name"] for v in fixed}
    assert {parts.once[v].attributes["name"] for v in parts.once.inputs} <= names
    kept = evaluate(parts.once, {n: arrays[n] for n in arrays if n in _inputs(parts.once)}, sizes)
    rest = evaluate(parts.rest, {n: v for n, v in {**arrays, **kept}.items() if n in _inputs(parts.rest)}, sizes)
    for output, due in evaluate(graph, arrays, sizes).items():
        np.testing.assert_allclose(rest[output], due, rtol=1e-13)


def _inputs(graph: Graph) -> set[str]:
    return {graph[v].attributes["name"] for v in graph.inputs}


def test_nothing_of_the_rest_depends_on_fixed_inputs_alone() -> None:
    graph = optimize(lower(a * sp.exp(x**2) * sp.cos(b) + sp.sin(x) + b))[0]
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    rest = split(graph, [nodes["x"], nodes["b"]]).rest
    varying = {v for v in rest.inputs if rest[v].attributes["name"] == "a"}
    for v in rest.order:
        if any(u in varying for u in rest.operands(v)):
            varying.add(v)
        else:
            assert rest[v].op is input_ or v in varying or not rest.operands(v)


def test_large_values_are_not_kept() -> None:
    graph = lower(sp.Sum(sp.Sum(sp.exp(X[i] * Y[j]) * a, (i, 0, n - 1)), (j, 0, m - 1)))
    fixed = [v for v in graph.inputs if graph[v].attributes["name"] != "a"]
    small = split(graph, fixed, keep=lambda type: type.rank < 2)
    assert all(small.rest[v].type.rank < 2 for v in small.rest.inputs)


MODEL = sp.Eq(y, a * sp.exp(-(x**2)) + b * sp.exp(-c * x))
GRID = np.linspace(0.1, 3.0, 40)
OBSERVED = 2 * np.exp(-(GRID**2)) + np.exp(-1.5 * GRID) + 0.01 * RNG.standard_normal(40)
START = {a: 1.0, b: 1.0, c: 1.0}
PLAIN: dict[str, Any] = {"loss": None, "sigma": None, "weights": None, "constraints": (), "maximize": False}


def counted_rows(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> int:
    """How many elements `exp` was evaluated for."""
    seen = 0

    def counting(values: Any, *rest: Any) -> Any:
        nonlocal seen
        seen += np.size(values)
        return np.exp(values, *rest)

    original = exp.numpy
    object.__setattr__(exp, "numpy", counting)
    try:
        call()
    finally:
        object.__setattr__(exp, "numpy", original)
    return seen


def test_what_data_alone_decide_is_computed_once_for_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    equation = sp.Eq(y, a * sp.exp(-(x**2) - sp.Rational(1, 7)) + b * sp.cos(c * x))  # exp of data alone

    def evaluated() -> None:
        problem = stated(equation, {x: GRID, y: OBSERVED}, START, **PLAIN)
        residuals = classify(problem).residuals
        assert residuals is not None
        values, jacobian = evaluators(residuals, problem)
        for _ in range(10):
            values(np.ones(3))
            jacobian(np.ones(3))

    assert counted_rows(monkeypatch, evaluated) == 2 * 40  # once for the residuals and once for their Jacobian


def test_evaluations_keep_what_fixed_parameters_decide() -> None:
    params = {**START, c: Parameter(1.5, fixed=True)}
    problem = stated(MODEL, {x: GRID, y: OBSERVED}, params, **PLAIN)
    residuals = classify(problem).residuals
    assert residuals is not None
    evaluation = Evaluation(residuals, problem)
    assert set(evaluation.plan.inputs) - set(evaluation.kept) <= {"a", "b", "y"}


# What is remembered ----------------------------------------------------------------------------------


def test_a_remembered_statement_takes_other_numbers() -> None:
    first = fit(MODEL, {x: GRID, y: OBSERVED}, START)
    again = fit(MODEL, {x: GRID, y: 2 * OBSERVED}, {a: 2.0, b: 2.0, c: 1.2})
    np.testing.assert_allclose(again.params[a], 2 * first.params[a], rtol=1e-9)
    np.testing.assert_allclose(again.params[c], first.params[c], rtol=1e-9)
    once_more = fit(MODEL, {x: GRID, y: OBSERVED}, START)
    assert np.array_equal(once_more.estimates, first.estimates)  # to the last bit
    assert np.array_equal(first.residuals, once_more.residuals)


def test_an_equal_formula_is_the_same_formula() -> None:
    same = sp.Eq(y, a * sp.exp(-(x**2)) + b * sp.exp(-c * x))
    first = stated(MODEL, {x: GRID, y: OBSERVED}, START, **PLAIN)
    second = stated(same, {x: GRID, y: OBSERVED}, START, **PLAIN)
    assert first.graph is second.graph


@pytest.mark.parametrize(
    ("data", "params"),
    [
        ({x: GRID[:9], y: OBSERVED[:9]}, START),
        ({x: GRID, y: OBSERVED}, {**START, c: Parameter(1.0, fixed=True)}),
        ({x: GRID, y: OBSERVED, c: 1.5}, {a: 1.0, b: 1.0}),
        ({x: 1.5, y: OBSERVED}, {a: 1.0, b: Parameter(1.0, fixed=True), c: Parameter(1.0, fixed=True)}),
    ],
)
def test_statements_of_another_kind_are_not_mixed_up(data: dict[Any, Any], params: dict[Any, Any]) -> None:
    fit(MODEL, {x: GRID, y: OBSERVED}, START)
    result = fit(MODEL, data, params)
    assert result.names == tuple(str(p) for p, v in params.items() if not isinstance(v, Parameter))
    r = result.residuals
    assert r.shape == np.shape(data[y])
    assert float(r @ r) == pytest.approx(result.cost)


def test_bad_numbers_are_refused_in_a_remembered_statement_too() -> None:
    fit(MODEL, {x: GRID, y: OBSERVED}, START)
    bad = OBSERVED.copy()
    bad[3] = np.nan
    with pytest.raises(DataError, match=r"y has 1 value that is not finite.*3"):
        fit(MODEL, {x: GRID, y: bad}, START)
    with pytest.raises(DataError):
        fit(MODEL, {x: GRID, y: OBSERVED[:-1]}, START)
    with pytest.raises(SingularProblemError):
        fit(MODEL, {x: np.full(40, 1.5), y: OBSERVED}, START)


def test_bounds_are_those_of_the_call() -> None:
    free = fit(MODEL, {x: GRID, y: OBSERVED}, START)
    bounded = fit(MODEL, {x: GRID, y: OBSERVED}, {**START, c: Parameter(1.0, bounds=(0.5, 1.2))})
    assert bounded.at_bounds == ("c",)
    assert fit(MODEL, {x: GRID, y: OBSERVED}, START).at_bounds == ()
    assert free.params[c] > 1.2


def test_bounds_of_a_remembered_statement_may_move() -> None:
    for high in (1.2, 1.4, 1.1):
        result = fit(MODEL, {x: GRID, y: OBSERVED}, {**START, c: Parameter(1.0, bounds=(0.5, high))})
        assert result.params[c] == high


def test_what_is_remembered_keeps_no_data_alive() -> None:
    formula = sp.Eq(y, a * sp.exp(-(x**2)) + b * sp.exp(-c * x) + sp.Rational(1, 500))
    grid, observed = GRID.copy(), OBSERVED.copy()
    kept = [weakref.ref(grid), weakref.ref(observed)]
    for _ in range(2):
        fit(formula, {x: grid, y: observed}, START)
    del grid, observed
    gc.collect()
    assert [array() for array in kept] == [None, None]


def test_few_statements_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restatement, "STATEMENTS", 3)
    for count in range(4, 10):
        stated(MODEL, {x: GRID[:count], y: OBSERVED[:count]}, START, **PLAIN)
    assert len(restatement._statements) == 3


def test_a_fit_with_a_checkpoint_gives_the_same_bits(tmp_path: Path) -> None:
    alone = fit(MODEL, {x: GRID, y: OBSERVED}, START)
    kept = fit(MODEL, {x: GRID, y: OBSERVED}, START, checkpoint=tmp_path / "kept")
    assert np.array_equal(alone.estimates, kept.estimates)
    assert np.array_equal(alone.standard_errors, kept.standard_errors)
    assert [(s.iteration, s.cost) for s in alone.history] == [(s.iteration, s.cost) for s in kept.history]
    assert alone.evaluations == kept.evaluations


@pytest.mark.parametrize("factor", [1.0, 1e-140, 1e140])
def test_standard_errors_of_the_last_step_are_those_of_the_jacobian(factor: float) -> None:
    result = fit(MODEL, {x: GRID, y: factor * OBSERVED}, {a: factor, b: factor, c: 1.0})
    J = np.asarray(result.linearisation.jacobian) / factor * np.array([factor, factor, 1.0])
    due = np.sqrt(np.diag(np.linalg.inv(J.T @ J))) * (result.residual_std / factor) * np.array([factor, factor, 1.0])
    np.testing.assert_allclose(result.standard_errors, due, rtol=1e-9)
    lengths = np.sqrt(np.square(J).sum(axis=0))
    assert result.condition == pytest.approx(np.linalg.cond(J / lengths), rel=1e-6)


def test_threads_may_fit_one_formula_at_once() -> None:
    formula = sp.Eq(y, a * sp.exp(-(x**2)) + b * sp.exp(-c * x) + sp.Rational(1, 1000))
    scales = np.linspace(1, 3, 12)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda s: fit(formula, {x: GRID, y: s * OBSERVED}, START), scales))
    alone = [fit(formula, {x: GRID, y: s * OBSERVED}, START) for s in scales]
    for together, one in zip(results, alone, strict=True):
        np.testing.assert_allclose(together.estimates, one.estimates, rtol=1e-9)


# Many rows -------------------------------------------------------------------------------------------


def many_rows(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """A fit on sums over blocks of rows, and the same by the usual solver."""
    usual = fit(*arguments, **options)
    monkeypatch.setattr(large, "LARGE_FROM", 20)
    monkeypatch.setattr(large, "SAMPLE", 15)
    monkeypatch.setattr(sys.modules["sym2tf.fit.evaluation.rowwise"], "BLOCK", 16)
    return fit(*arguments, **options), usual


def require_same(found: Any, due: Any) -> None:
    assert "added up over blocks" in found.solver
    assert "added up" not in due.solver
    np.testing.assert_allclose(found.estimates, due.estimates, rtol=1e-8)
    np.testing.assert_allclose(found.standard_errors, due.standard_errors, rtol=1e-7)
    for name in ("cost", "condition", "residual_std", "aic"):
        np.testing.assert_allclose(getattr(found, name), getattr(due, name), rtol=1e-7, err_msg=name)
    np.testing.assert_allclose(found.residuals, due.residuals, rtol=1e-5, atol=1e-9)
    assert found.degrees_of_freedom == due.degrees_of_freedom


def test_sums_over_blocks_of_rows_give_the_same_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    require_same(*many_rows(monkeypatch, MODEL, {x: GRID, y: OBSERVED}, START))


def test_weights_count_in_sums_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sigma = np.where(np.arange(40) % 3, 0.01, 0.05)
    require_same(*many_rows(monkeypatch, MODEL, {x: GRID, y: OBSERVED}, START, sigma=sigma))


def test_vector_parameters_in_sums_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = sp.Sum((Y[i] - sp.tanh(sp.Sum(A[i, j] * W[j], (j, 0, 1)))) ** 2, (i, 0, n - 1))
    design = np.random.default_rng(11).standard_normal((40, 2))
    data = {
        sp.MatrixSymbol("A", n, 2): design,
        Y: np.tanh(design @ [0.5, -1]) + 0.01 * np.random.default_rng(11).standard_normal(40),
    }
    cost = cost.subs(A, sp.MatrixSymbol("A", n, 2))
    found, due = many_rows(monkeypatch, cost, data, {W: np.zeros(2)})
    np.testing.assert_allclose(found.estimates, due.estimates, rtol=1e-8)
    np.testing.assert_allclose(found.standard_errors, due.standard_errors, rtol=1e-7)


def test_rows_that_depend_on_each_other_are_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = np.cumsum(np.random.default_rng(11).standard_normal(60)) + 20
    cost = sp.Sum((X[i + 1] - a * sp.exp(-b / 10) * X[i] - sp.sin(b)) ** 2, (i, 0, n - 2))
    found, due = many_rows(monkeypatch, cost, {X: walk}, {a: 1.0, b: 0.5})
    assert "added up" not in found.solver
    np.testing.assert_allclose(found.estimates, due.estimates, rtol=1e-6)


def test_unidentifiable_parameters_are_named_in_sums_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGE_FROM", 20)
    with pytest.raises(SingularProblemError, match="a"):
        fit(sp.Eq(y, a * b * sp.exp(-c * x)), {x: GRID, y: OBSERVED}, {a: 1.0, b: 2.0, c: 1.0})


def test_a_problem_with_other_data_is_another_evaluation() -> None:
    problem = stated(MODEL, {x: GRID, y: OBSERVED}, START, **PLAIN)
    residuals = classify(problem).residuals
    assert residuals is not None
    other = replace(problem, data={**problem.data, "y": problem.data["y"] + 1})
    theta = np.array([1.0, 2.0, 3.0])
    first, second = evaluators(residuals, problem)[0](theta), evaluators(residuals, other)[0](theta)
    np.testing.assert_allclose(np.abs(second - first), 1.0)
