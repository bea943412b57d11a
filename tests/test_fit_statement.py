"""What can be stated: equations, losses, spreads, ties, constraints, data of every form; and what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import statsmodels.api as sm
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import sym2tf
from sym2tf import Parameter, fit, losses
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, DataError, SingularProblemError
from sym2tf.fit.evaluation.residuals import linearised
from sym2tf.fit.options import Options
from sym2tf.fit.statement import arrays
from sym2tf.fit.statement.classify import classify
from sym2tf.fit.statement.data import read
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.state import state
from sym2tf.frontend.lower import lower
from sym2tf.lazy import lazy
from sym2tf.passes.pipeline import stabilize

tf = lazy("tensorflow")

a, b, c, p, q, t, v, e = sp.symbols("a b c p q t v e")
t2, v2 = sp.symbols("t2 v2")
i, j, k, n = sp.symbols("i j k n", integer=True)
x, y, z, s, W = (sp.IndexedBase(name) for name in ("x", "y", "z", "s", "w"))
positive, negative = sp.Symbol("positive", positive=True), sp.Symbol("negative", negative=True)

RNG = np.random.default_rng(20261122)
T = np.linspace(0.0, 4.0, 24)
V = 1.8 * T + 1.0 + 0.2 * RNG.standard_normal(24)
OUTLIERS = V + np.where(np.arange(24) % 7 == 3, 6.0, 0.0)
S = RNG.uniform(0.1, 0.6, 24)
GROWTH = 2.0 * np.exp(-0.7 * T) + 0.02 * RNG.standard_normal(24)
LINE = sp.Eq(v, a * t + b)
INDEXED = sp.Eq(y[i], a * x[i] + b)
TV = {t: T, v: V}
DESIGN = np.column_stack([T, np.ones(24)])


def weighted(columns: np.ndarray, observed: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(columns / sigma[:, None], observed / sigma, rcond=None)[0]


def value(problem: Problem, theta: Any, output: str = "out") -> np.ndarray:
    """An output of the graph of a problem at parameters."""
    inputs = {**problem.data, **problem.fixed, **problem.unpacked(np.asarray(theta, float))}
    names = [problem.graph[node].attributes["name"] for node in problem.graph.inputs]
    return evaluate(problem.graph, {name: inputs[name] for name in names}, problem.bound)[output]


# Equations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [LINE, {v: a * t + b}, sp.Sum((y[i] - a * x[i] - b) ** 2, (i, 0, n - 1))])
def test_an_equation_a_mapping_and_the_written_sum_are_one_problem(cost: Any) -> None:
    result = fit(cost, {x: T, y: V} if cost.__class__ is sp.Sum else TV, [a, b])
    np.testing.assert_allclose(result.estimates, np.linalg.lstsq(DESIGN, V, rcond=None)[0], rtol=1e-12)
    assert result.problem == "linear least squares"


def test_several_equations_share_parameters_and_may_have_data_of_their_own_length() -> None:
    u, w = np.linspace(0, 1, 9), 1.8 * np.linspace(0, 1, 9) - 3
    result = fit({v: a * t + b, v2: a * t2 + c}, {t: T, v: V, t2: u, v2: w}, [a, b, c])
    design = np.zeros((33, 3))
    design[:24, 0], design[24:, 0], design[:24, 1], design[24:, 2] = T, u, 1, 1
    np.testing.assert_allclose(
        result.estimates, np.linalg.lstsq(design, np.concatenate([V, w]), rcond=None)[0], rtol=1e-11
    )
    models = result.structure.models
    assert [model.observed for model in models] == ["v", "v2"]
    assert [model.block for model in models] == [0, 1]
    assert result.model is None


def test_several_equations_over_indices_share_data() -> None:
    result = fit({y[i]: a * x[i] + b, z[i]: a * x[i] - b}, {x: T, y: V, z: V - 2}, [a, b])
    design = np.concatenate([DESIGN, DESIGN * [1, -1]])
    np.testing.assert_allclose(
        result.estimates, np.linalg.lstsq(design, np.concatenate([V, V - 2]), rcond=None)[0], rtol=1e-11
    )


def test_a_model_that_lacks_an_index_of_what_is_observed_is_the_same_along_it() -> None:
    table = RNG.standard_normal((3, 5)) + np.arange(3)[:, None]
    rows = fit(sp.Eq(z[i, j], W[i]), {z: table}, [W])
    np.testing.assert_allclose(rows.params[W], table.mean(axis=1), rtol=1e-12)
    across = fit(sp.Eq(z[i, j], W[j]), {z: table}, [W])
    np.testing.assert_allclose(across.params[W], table.mean(axis=0), rtol=1e-12)


def test_graphs_of_equations_have_sides_differences_and_residuals() -> None:
    problem = state({v: a * t + b, v2: a * t2}, {t: T, v: V, t2: T[:5], v2: V[:5]}, [a, b], sigma={v: S})
    raw = V - (2 * T + 1)
    np.testing.assert_allclose(value(problem, [2, 1], "difference"), raw)
    np.testing.assert_allclose(value(problem, [2, 1], "residual"), raw / S)
    np.testing.assert_allclose(value(problem, [2, 1], "residual 1"), V[:5] - 2 * T[:5])
    np.testing.assert_allclose(value(problem, [2, 1], "model 1"), 2 * T[:5])
    np.testing.assert_allclose(value(problem, [2, 1]), ((raw / S) ** 2).sum() + ((V - 2 * T)[:5] ** 2).sum())


# Losses ----------------------------------------------------------------------------------------

REFERENCES: dict[str, Any] = {  # by mpmath, from the sources that the docstrings name
    "least_squares": lambda r: r**2,
    "huber": lambda r: r**2 if abs(r) <= 1.345 else 2 * 1.345 * abs(r) - 1.345**2,
    "soft_l1": lambda r: 2 * (mpmath.sqrt(1 + r**2) - 1),
    "log_cosh": lambda r: 2 * mpmath.log(mpmath.cosh(r)),
    "cauchy": lambda r: mpmath.log(1 + r**2),
    "arctan": lambda r: mpmath.atan(r**2),
    "tukey": lambda r: 4.685**2 / 3 * (1 - max(0, 1 - (r / 4.685) ** 2) ** 3),
    "absolute": abs,
    "quantile": lambda r: abs(r) / 2,
    "student_t": lambda r: 5 * mpmath.log(1 + r**2 / 4),
}
POINTS = [-1e3, -30.0, -4.7, -1.4, -1.3, -0.5, 0.0, 1e-5, 0.3, 1.345, 2.0, 4.6, 5.0, 800.0]


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_has_the_values_of_its_formula(name: str) -> None:
    graph = stabilize(lower(losses.LOSSES[name]().expression))
    found = evaluate(graph, {"residual": np.array(POINTS)}, {})["out"]
    np.testing.assert_allclose(found, [float(REFERENCES[name](mpmath.mpf(r))) for r in POINTS], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ["soft_l1", "cauchy", "arctan", "huber"])
def test_robust_fits_agree_with_scipy_at_the_same_scale(name: str) -> None:
    result = fit(LINE, {t: T, v: OUTLIERS}, {a: 1.8, b: 1}, loss=losses.LOSSES[name](0.3))
    reference = scipy.optimize.least_squares(
        lambda theta: OUTLIERS - DESIGN @ theta, [1.8, 1], loss=name, f_scale=0.3, xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    np.testing.assert_allclose(result.estimates, reference.x, rtol=1e-6)
    np.testing.assert_allclose(result.cost, 2 * reference.cost, rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "norm"), [("huber", sm.robust.norms.HuberT()), ("tukey", sm.robust.norms.TukeyBiweight())]
)
def test_robust_fits_agree_with_statsmodels_at_its_scale(name: str, norm: Any) -> None:
    reference = sm.RLM(OUTLIERS, DESIGN, M=norm).fit(maxiter=500, tol=1e-13)
    start = dict(zip((a, b), reference.params, strict=True))
    result = fit(LINE, {t: T, v: OUTLIERS}, start, loss=name, sigma=reference.scale)
    np.testing.assert_allclose(result.estimates, reference.params, rtol=1e-6)


@pytest.mark.parametrize("loss", ["huber", losses.huber, losses.huber(), losses.huber(1.345), losses.LOSSES["huber"]])
def test_a_loss_is_named_or_made(loss: Any) -> None:
    problem = state(LINE, TV, [a, b], loss=loss)
    assert problem.loss == losses.huber()
    assert classify(problem).kind == "M-estimation"


@pytest.mark.parametrize("loss", [sp.Lambda(c, sp.log(sp.cosh(c))), lambda r: sp.log(sp.cosh(r))])
def test_a_loss_may_be_any_formula(loss: Any) -> None:
    problem = state(LINE, TV, [a, b], loss=loss, sigma=S)
    np.testing.assert_allclose(value(problem, [2, 1]), np.log(np.cosh((V - 2 * T - 1) / S)).sum(), rtol=1e-12)


def test_a_multiple_of_the_square_is_least_squares() -> None:
    result = fit(LINE, TV, [a, b], loss=lambda r: r**2 / 2)
    assert result.problem == "linear least squares"
    np.testing.assert_allclose(result.estimates, np.linalg.lstsq(DESIGN, V, rcond=None)[0], rtol=1e-11)


@pytest.mark.parametrize("given", [None, "least_squares", losses.least_squares])
def test_least_squares_by_name_is_the_default(given: Any) -> None:
    assert state(LINE, TV, [a, b], loss=given).loss is None


def test_the_scale_of_a_loss_may_be_data_or_a_parameter() -> None:
    known = state(LINE, TV | {c: 0.5}, [a, b], loss=losses.cauchy(c))
    unknown = state(LINE, TV, [a, b, c], loss=losses.cauchy(c))
    due = (0.25 * np.log1p(((V - 2 * T - 1) / 0.5) ** 2)).sum()
    np.testing.assert_allclose(value(known, [2, 1]), due, rtol=1e-12)
    np.testing.assert_allclose(value(unknown, [2, 1, 0.5]), due, rtol=1e-12)
    assert classify(known).whitened is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: losses.huber(-1), "scale of a loss is positive, got -1"),
        (lambda: losses.huber("wide"), "number or an expression, got 'wide'"),
        (lambda: losses.cauchy(losses.residual), "number or an expression"),
        (lambda: losses.quantile(1.5), "between 0 and 1, got 1.5"),
        (lambda: losses.Loss("flat", sp.Integer(1)), "the loss flat is 1; it must be an expression in"),
        (lambda: losses.loss_of("hubert"), "the losses are least_squares, huber, .*; got 'hubert'"),
        (lambda: losses.loss_of(sp.Lambda((a, b), a + b)), "function of one residual.* takes 2"),
        (lambda: losses.loss_of(3), "a loss is a name .*; got 3"),
        (lambda: losses.loss_of(lambda r: "r"), "it must be an expression"),
    ],
)
def test_what_is_no_loss_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


# Sigma and weights -----------------------------------------------------------------------------

MATRIX = np.diag(S**2) + 0.02


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(
    ("given", "like"),
    [({"sigma": S}, S), ({"weights": 1 / S**2}, S), ({"sigma": MATRIX}, MATRIX), ({"sigma": 0.3}, np.full(24, 0.3))],
)
def test_sigma_is_that_of_curve_fit(given: dict[str, Any], like: np.ndarray, absolute: bool) -> None:
    result = fit(LINE, TV, [a, b], absolute_sigma=absolute, **given)
    theta, covariance = scipy.optimize.curve_fit(
        lambda x, a, b: a * x + b, T, V, p0=[1, 1], sigma=like, absolute_sigma=absolute, ftol=1e-14, xtol=1e-14
    )
    np.testing.assert_allclose(result.estimates, theta, rtol=1e-7)
    np.testing.assert_allclose(result.covariance, covariance, rtol=1e-6)
    assert result.problem == "linear least squares"


def test_sigma_of_a_nonlinear_model_is_that_of_curve_fit() -> None:
    result = fit({v: a * sp.exp(-b * t)}, {t: T, v: GROWTH}, {a: 1, b: 1}, sigma=S)
    theta, covariance = scipy.optimize.curve_fit(
        lambda x, a, b: a * np.exp(-b * x), T, GROWTH, p0=[1, 1], sigma=S, ftol=1e-14, xtol=1e-14
    )
    np.testing.assert_allclose(result.estimates, theta, rtol=1e-7)
    np.testing.assert_allclose(result.covariance, covariance, rtol=1e-5)


@pytest.mark.parametrize(
    ("cost", "data", "given"),
    [
        (INDEXED, {x: T, y: V, s: S}, {"sigma": s}),
        (INDEXED, {x: T, y: V, s: S}, {"sigma": s[i]}),
        (INDEXED, {x: T, y: V, s: 2 * S}, {"sigma": s[i] / 2}),
        (INDEXED, {x: T, y: V, s: S}, {"weights": s[i] ** -2}),
        (INDEXED, {x: T, y: V, "err": S}, {"sigma": "err"}),
        (INDEXED, {x: T, y: V}, {"sigma": {y: S}}),
        (INDEXED, {x: T, y: V}, {"sigma": {y[i]: S}}),
        (INDEXED, {x: T, y: V}, {"sigma": {"y": list(S)}}),
        (LINE, TV | {e: S}, {"sigma": e}),
        (LINE, TV | {e: S}, {"sigma": e * sp.Rational(7, 3)}),
        (LINE, TV, {"sigma": pd.Series(S)}),
        (LINE, pd.DataFrame({"t": T, "v": V, "err": S, "label": "text"}), {"sigma": "err"}),
    ],
)
def test_spreads_are_arrays_expressions_columns_or_mappings(cost: Any, data: Any, given: dict[str, Any]) -> None:
    result = fit(cost, data, [a, b], **given)
    np.testing.assert_allclose(result.estimates, weighted(DESIGN, V, S), rtol=1e-11)


def test_each_equation_has_its_sigma() -> None:
    result = fit({v: a * t + b, v2: a * t}, TV | {v2: V - 1}, [a, b], sigma={v: S, v2: 0.1})
    design = np.concatenate([DESIGN, DESIGN * [1, 0]])
    due = weighted(design, np.concatenate([V, V - 1]), np.concatenate([S, np.full(24, 0.1)]))
    np.testing.assert_allclose(result.estimates, due, rtol=1e-11)


def test_a_column_of_a_matrix_takes_sigma_of_its_length_and_covariances() -> None:
    m, d = sp.symbols("m d", integer=True, positive=True)
    X, w, Y = sp.MatrixSymbol("X", m, d), sp.MatrixSymbol("w", d, 1), sp.MatrixSymbol("Y", m, 1)
    data = {X: DESIGN, Y: V[:, None]}
    for sigma in (S, S[:, None], np.diag(S**2)):
        found = fit(sp.Eq(Y, X * w), data, [w], sigma=sigma).params[w].ravel()
        np.testing.assert_allclose(found, weighted(DESIGN, V, S), rtol=1e-10)


def test_a_weight_of_zero_leaves_an_observation_out() -> None:
    keep = np.arange(24) != 5
    spoilt = np.where(keep, V, 1e6)
    result = fit(LINE, {t: T, v: spoilt}, [a, b], weights=keep)
    np.testing.assert_allclose(result.estimates, np.linalg.lstsq(DESIGN[keep], V[keep], rcond=None)[0], rtol=1e-9)
    reference = fit(LINE, {t: T[keep], v: V[keep]}, [a, b])
    np.testing.assert_allclose(result.standard_errors, reference.standard_errors, rtol=1e-6)


# Parameters ------------------------------------------------------------------------------------


def test_a_tied_parameter_follows_the_others() -> None:
    result = fit(LINE, TV, {a: 1, b: 2 * a})
    slope = np.linalg.lstsq((T + 2)[:, None], V, rcond=None)[0]
    np.testing.assert_allclose(result.estimates, slope, rtol=1e-12)
    assert result.names == ("a",)
    tie = result.statement.ties["b"]
    found, J = linearised(tie.graph, result.statement)(result.estimates)
    np.testing.assert_allclose([*found, *J.ravel()], [2 * slope[0], 2], rtol=1e-12)


def test_ties_may_form_chains_and_bring_parameters_of_their_own() -> None:
    chain = fit(sp.Eq(v, a * t + b + c), TV, {p: 1, a: 2 * p, b: a / 2 + q, c: b - p, q: 1})
    design = np.column_stack([2 * T + 1, np.full(24, 2)])  # a t + b + c = 2 p t + (p + q) + q
    np.testing.assert_allclose(chain.estimates, np.linalg.lstsq(design, V, rcond=None)[0], rtol=1e-10)
    assert chain.names == ("p", "q")


def test_a_tie_may_hold_numbers_of_the_data_and_fixed_parameters() -> None:
    result = fit(LINE, TV | {c: 2.0}, {a: 1, p: Parameter(0.5, fixed=True), b: c * p})
    np.testing.assert_allclose(result.estimates, [T @ (V - 1) / (T @ T)], rtol=1e-12)


def test_numbers_of_sympy_are_start_values_and_no_ties() -> None:
    problem = state(LINE, TV, {a: sp.Rational(1, 3), b: sp.pi})
    np.testing.assert_allclose(problem.packed("initial"), [1 / 3, np.pi])
    assert not problem.ties


def test_assumptions_imply_bounds_and_where_to_start() -> None:
    unsure = sp.Symbol("unsure", nonnegative=True)
    model = sp.Eq(v, positive * t + negative + unsure * a)
    problem = state(model, TV, [positive, negative, unsure, a])
    first, second, third, fourth = problem.unknowns
    assert [float(u.initial) for u in problem.unknowns] == [1, -1, 0, 0]
    assert (first.lower, first.upper, first.implied) == (0, np.inf, True)
    assert (second.lower, second.upper, second.implied) == (-np.inf, 0, True)
    assert (third.lower, third.upper, third.implied) == (0, np.inf, True)
    assert (fourth.lower, fourth.upper, fourth.implied) == (-np.inf, np.inf, False)


def test_stated_bounds_take_the_place_of_implied_ones() -> None:
    (u,) = state(sp.Eq(v, positive * t), TV, {positive: Parameter(bounds=(-5, 3))}).unknowns
    assert (u.lower, u.upper, u.implied, u.initial) == (-5, 3, False, 1)
    (u,) = state(sp.Eq(v, positive * t), TV, {positive: Parameter(bounds=(2, 3))}).unknowns
    assert u.initial == 2


def test_elements_of_a_positive_base_are_positive() -> None:
    base = sp.IndexedBase("base", positive=True)
    (u,) = state(sp.Eq(y[i], base[0] * x[i] + base[1]), {x: T, y: V}, [base]).unknowns
    assert u.implied
    np.testing.assert_array_equal(u.lower, [0, 0])
    np.testing.assert_array_equal(u.initial, [1, 1])


def test_constraints_are_functions_with_jacobians() -> None:
    relations = [a + b <= 4, sp.Eq(a * b, 2), b**2 > a - 10, sp.And(a >= 0, b < c)]
    problem = state(LINE, TV | {c: 7.0}, {a: 1, b: 2}, constraints=relations)
    assert [constraint.kind for constraint in problem.constraints] == ["inequality", "equality", *["inequality"] * 3]
    found = [linearised(constraint.graph, problem)(np.array([1.5, 2.0])) for constraint in problem.constraints]
    np.testing.assert_allclose([f[0] for f, _ in found], [0.5, 1, 12.5, 1.5, 5])
    np.testing.assert_allclose([J[0] for _, J in found], [[-1, -1], [2, 1.5], [-1, 4], [1, 0], [0, -1]])


def test_a_constraint_may_hold_at_all_data_and_through_ties() -> None:
    problem = state(INDEXED, {x: T, y: V}, {a: 1, b: 2 * a}, constraints=a * x[i] + b >= -1)
    found, J = linearised(problem.constraints[0].graph, problem)(np.array([3.0]))
    np.testing.assert_allclose(found, 3 * T + 7)
    np.testing.assert_allclose(J[:, 0], T + 2)


@pytest.mark.parametrize("likelihood", [False, True])
def test_what_is_maximised_is_minus_what_is_minimised(likelihood: bool) -> None:
    gain = -sp.Sum((y[i] - a * x[i] - b) ** 2, (i, 0, n - 1)) / 2
    most = fit(gain, {x: T, y: V}, [a, b], maximize=True, likelihood=likelihood)
    least = fit(-gain, {x: T, y: V}, [a, b], likelihood=likelihood)
    np.testing.assert_array_equal(most.estimates, least.estimates)
    np.testing.assert_allclose(most.cost, -least.cost)
    np.testing.assert_allclose(most.standard_errors, least.standard_errors, rtol=1e-12)
    if likelihood:
        np.testing.assert_allclose(most.log_likelihood, most.cost)


# Independent fits ------------------------------------------------------------------------------

MANY = V + RNG.standard_normal((2, 3, 24))


@pytest.mark.parametrize(
    ("cost", "data", "shapes"),
    [
        (INDEXED, {x: T, y: MANY}, {"x": (24,), "y": (2, 3, 24)}),
        (sp.Sum((y[i] - a * x[i] - b) ** 2, (i, 0, n - 1)), {x: T, y: MANY}, {"x": (24,), "y": (2, 3, 24)}),
        (LINE, {t: T, v: MANY}, {"t": (24,), "v": (2, 3, 24)}),
        (LINE, {t: np.stack([T, T, T]), v: MANY}, {"t": (3, 24), "v": (2, 3, 24)}),
    ],
)
def test_axes_in_front_are_independent_fits(cost: Any, data: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    problem = state(cost, data, {a: np.zeros(3), b: [[1.0], [2.0]]})
    assert problem.batch == (2, 3)
    assert {name: array.shape for name, array in problem.data.items()} == shapes
    starts = {u.name: u.starts for u in problem.unknowns}
    np.testing.assert_array_equal(starts["b"], [[1, 1, 1], [2, 2, 2]])
    assert starts["a"].shape == (2, 3)
    assert problem.names == ("a", "b")
    np.testing.assert_allclose(value(problem, [2, 1]), ((MANY - 2 * T - 1) ** 2).sum(axis=-1))


def test_a_number_for_each_fit_has_an_axis_of_length_one() -> None:
    problem = state(sp.Eq(v, a * t + c), {t: T, v: MANY[0], c: [[1.0], [2.0], [3.0]]}, [a])
    assert problem.batch == (3,)
    assert problem.data["c"].shape == (3,)


def test_numbers_for_each_fit_of_an_indexed_cost_are_plain() -> None:
    problem = state(sp.Eq(y[i], a * x[i] + c), {x: T, y: MANY[0], c: [1.0, 2.0, 3.0]}, [a])
    assert problem.batch == (3,)


# Data ------------------------------------------------------------------------------------------

FRAME = pd.DataFrame({"t": T, "v": V, "name": "text", "b": np.nan}, index=[f"row {k}" for k in range(24)])
RECORDS = FRAME[["t", "v"]].to_records(index=False)


@pytest.mark.parametrize(
    "data",
    [
        FRAME,
        FRAME.convert_dtypes(),
        RECORDS,
        np.array(list(zip(T, V, strict=True)), dtype=[("t", float), ("v", float)]),
        {t: pd.Series(T, dtype="Float64"), "v": list(V)},
    ],
    ids=["frame", "nullable", "records", "structured", "mixed"],
)
def test_data_come_as_frames_records_and_mappings(data: Any) -> None:
    result = fit(LINE, data, {a: 0, b: 0})
    np.testing.assert_allclose(result.estimates, np.linalg.lstsq(DESIGN, V, rcond=None)[0], rtol=1e-12)


def test_data_come_from_files(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "points.csv", index=False)
    FRAME.to_csv(tmp_path / "points.tsv", index=False, sep="\t")
    np.save(tmp_path / "points.npy", RECORDS)
    np.savez(tmp_path / "points.npz", t=T, v=V, other=np.array(["text"]))
    np.save(tmp_path / "t.npy", T)
    due = np.linalg.lstsq(DESIGN, V, rcond=None)[0]
    for name in ("points.csv", "points.tsv", "points.npy", "points.npz"):
        for path in (tmp_path / name, str(tmp_path / name)):
            np.testing.assert_allclose(fit(LINE, path, [a, b]).estimates, due, rtol=1e-11)
    mixed = {t: tmp_path / "t.npy", v: V}
    np.testing.assert_allclose(fit(LINE, mixed, [a, b]).estimates, due, rtol=1e-12)


def test_mapped_and_float_arrays_are_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", T)
    mapped = np.load(tmp_path / "t.npy", mmap_mode="r")
    problem = state(INDEXED, {x: mapped, y: V}, [a, b])
    assert np.shares_memory(problem.data["x"], mapped)
    assert np.shares_memory(problem.data["y"], V)
    from_path = state(INDEXED, {x: tmp_path / "t.npy", y: V}, [a, b]).data["x"]
    assert isinstance(from_path.base, np.memmap) or isinstance(from_path, np.memmap)


@pytest.mark.parametrize("order", ["C", "F"])
def test_values_that_are_not_finite_are_counted_in_parts_and_the_first_is_named(
    monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(arrays, "AT_ONCE", 7)
    table = np.zeros((30, 4), order=order)
    table[17, 2] = table[11, 3] = table[29, 0] = np.nan
    with pytest.raises(DataError, match=r"X has 3 values that are not finite: the first is nan at \(11, 3\)"):
        arrays.numbers("X", table)


def batches(size: int = 5) -> list[dict[str, Any]]:
    return [{"t": T[k : k + size], "v": V[k : k + size]} for k in range(0, 24, size)]


@pytest.mark.parametrize(
    ("make", "repeatable"),
    [
        (lambda: batches, True),
        (batches, True),
        (lambda: iter(batches()), False),
        (lambda: lambda: iter(batches()), True),
    ],
    ids=["function", "list", "iterator", "factory"],
)
def test_batches_are_a_stream_of_which_the_first_states_the_problem(make: Any, repeatable: bool) -> None:
    problem = state(LINE, make(), [a, b])
    assert problem.stream is not None
    assert problem.stream.repeatable is repeatable
    np.testing.assert_array_equal(problem.data["t"], T[:5])
    assert [len(batch["t"]) for batch in problem.stream.batches()] == [5, 5, 5, 5, 4]
    if repeatable:
        assert len(list(problem.stream.batches())) == 5
    else:
        with pytest.raises(DataError, match=r"gone through only once.*function that returns"):
            list(problem.stream.batches())


def test_a_dataset_of_tensorflow_is_a_stream() -> None:
    dataset = tf.data.Dataset.from_tensor_slices({"t": T, "v": V}).batch(10)
    problem = state(LINE, dataset, [a, b])
    assert problem.stream is not None
    assert problem.stream.repeatable
    np.testing.assert_array_equal(problem.data["v"], V[:10])
    assert [len(batch["v"]) for batch in problem.stream.batches()] == [10, 10, 4]


def test_a_model_that_is_not_linear_is_fitted_to_a_stream_by_steps_for_each_batch() -> None:
    def growth() -> list[dict[str, Any]]:
        return [{"t": T[k::6], "v": GROWTH[k::6]} for k in range(6)]

    method = sym2tf.optimizers.adam(sym2tf.optimizers.step_decay([0.05, 0.005], [300]))
    model = a * sp.exp(-b * t)
    result = fit({v: model}, growth, {a: 1, b: 1}, method=method, epochs=100)
    due = fit({v: model}, {t: T, v: GROWTH}, {a: 1, b: 1})
    np.testing.assert_allclose(result.estimates, due.estimates, rtol=5e-3)
    r = GROWTH - result.params[a] * np.exp(-result.params[b] * T)
    np.testing.assert_allclose(result.cost, r @ r, rtol=1e-9)
    np.testing.assert_allclose(result.standard_errors, due.standard_errors, rtol=2e-2)  # from one more pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"constraints": a + b <= 9}, "constraints need all data at hand"),
        ({"method": "trust-exact"}, "method='trust-exact' needs all data at hand.*Keras optimiser"),
        ({"multistart": 3}, "multistart needs all data at hand"),
    ],
)
def test_what_needs_all_data_at_hand_is_refused_for_batches(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        fit({v: a * sp.exp(-b * t)}, batches, {a: 1, b: 1}, **given)


@pytest.mark.parametrize(
    ("third", "words"),
    [
        ({"t": [1.0, np.nan], "v": [1.0, 2.0]}, r"batch 2, from row 10: t has 1 value that is not finite.*nan at 1"),
        ({"t": [1.0, 2.0]}, "batch 2, from row 10: there is no v"),
        ({"t": [1.0, 2.0], "v": [1.0]}, "batch 2, from row 10: lengths differ: t has 2, v has 1"),
        ({"t": [[1.0], [2.0]], "v": [1.0, 2.0]}, r"batch 2, from row 10: t has shape \(2, 1\), 1 axis are due|1 axis"),
        ({"t": [1.0], "v": [1.0], "u": [1.0]}, "batch 2, from row 10: there is u, which the first batch lacks"),
        ([1.0, 2.0], "batch 2 is a list, not a mapping like the first"),
    ],
)
def test_a_batch_that_is_not_like_the_first_is_named(third: Any, words: str) -> None:
    found = batches()
    found[2] = third
    with pytest.raises(DataError, match=words):
        fit(LINE, found, [a, b])


# Errors ----------------------------------------------------------------------------------------

SQUARES = sp.Sum((y[i] - a * x[i] - b) ** 2, (i, 0, n - 1))
XY = {x: T, y: V}
MISSING = FRAME.assign(t=FRAME["t"].where(FRAME.index != "row 3")).convert_dtypes()


@pytest.mark.parametrize(
    ("cost", "data", "params", "given", "error", "words"),
    [
        (SQUARES, XY, [a, b], {"loss": "huber"}, ArgumentError, "loss belongs to an equation"),
        (SQUARES, XY, [a, b], {"sigma": S}, ArgumentError, "sigma belongs to an equation"),
        (SQUARES, XY, [a, b], {"weights": S}, ArgumentError, "weights belongs to an equation"),
        (LINE, TV, [a, b], {"sigma": S, "weights": S}, ArgumentError, "same thing.*one of them"),
        (LINE, TV, [a, b], {"loss": "huber", "likelihood": True}, ArgumentError, "likelihood"),
        (LINE, TV, [a, b], {"likelihood": True}, ArgumentError, "is an equation"),
        ({v: a * t, v2: b * t}, TV | {v2: V}, [a, b], {"likelihood": True}, ArgumentError, "likelihood"),
        (LINE, TV, [a, b], {"maximize": True}, ArgumentError, "maximize is for a cost"),
        (LINE, TV, [a, b], {"sigma": np.r_[S[:-1], 0.0]}, DataError, "sigma must be positive; it is 0.0 at 23"),
        (LINE, TV, [a, b], {"sigma": -1}, DataError, "sigma must be positive; it is -1.0$"),
        (LINE, TV, [a, b], {"sigma": np.r_[S[:-1], np.nan]}, DataError, "sigma has 1 value that is not finite"),
        (LINE, TV, [a, b], {"sigma": S[:5]}, DataError, "sigma has length 5"),
        (LINE, TV, [a, b], {"sigma": 1e-200}, DataError, "within 1e-154 and 1e154"),
        (LINE, TV, [a, b], {"weights": -S}, DataError, "weights must be zero or more"),
        (LINE, TV, [a, b], {"sigma": MATRIX[:5, :5]}, DataError, "sigma has length 5"),
        (LINE, TV, [a, b], {"sigma": -MATRIX}, DataError, "not positive definite"),
        (LINE, TV, [a, b], {"sigma": np.triu(MATRIX)}, DataError, "not symmetric"),
        (LINE, TV, [a, b], {"sigma": a * t}, ArgumentError, "in which a has no data.*likelihood"),
        (LINE, TV | {e: -S}, [a, b], {"sigma": e}, DataError, "sigma must be positive"),
        (LINE, TV, [a, b], {"sigma": {c: S}}, ArgumentError, "sigma has c, which no equation observes; observed are v"),
        (LINE, TV, [a, b], {"sigma": "err"}, ArgumentError, "names the column 'err'; data has t, v"),
        ({v: a * t, v2: b * t}, TV | {v2: V}, [a, b], {"sigma": S}, ArgumentError, "2 equations: give sigma by what"),
        (INDEXED, XY | {s: S}, [a, b], {"sigma": s[j]}, ArgumentError, "sigma has the free index j"),
        (sp.Eq(y[i], a * x[j]), XY, [a], {}, ArgumentError, "the model has the free index j"),
        ({}, TV, [a, b], {}, ArgumentError, "mapping .* is empty"),
        ({"v": a * t}, TV, [a], {}, ArgumentError, "'v' is text"),
        (sp.true, TV, [a], {}, ArgumentError, "the equation is True"),
        (LINE, TV, {a: 2 * b, b: a / 2}, {}, ArgumentError, "ties (a to b to a|b to a to b): a circle"),
        (LINE, TV, {a: 2 * a, b: 1}, {}, ArgumentError, "ties a to a: a circle"),
        (LINE, TV, {a: 1, b: 2 * q}, {}, ArgumentError, "symbol q, for which there is neither data nor a parameter"),
        (LINE, TV, {a: 1, b: 1, q: 2 * a}, {}, ArgumentError, "params has q, which the cost does not contain"),
        (LINE, TV, {a: 1, b: Parameter(2 * a, bounds=(0, 1))}, {}, ArgumentError, "b is tied to 2\\*a and has bounds"),
        (LINE, TV, {a: 1, b: Parameter(2 * a, fixed=True)}, {}, ArgumentError, "b is tied to 2\\*a and has fixed"),
        (LINE, TV, {a: 1, b: 2 * t}, {}, ArgumentError, "b is tied to 2\\*t, which is another number for"),
        (LINE, TV, {a: 1, b: 1}, {"constraints": [a <= b, q <= 1]}, ArgumentError, "q <= 1 has q, which is neither"),
        (LINE, TV | {c: 1.0}, {a: 1, b: 1}, {"constraints": c <= 2}, ArgumentError, "c <= 2 is about no parameter"),
        (LINE, TV, {a: 1, b: Parameter(1, fixed=True)}, {"constraints": b <= 2}, ArgumentError, "about no parameter"),
        (sp.Eq(v, positive * t), TV, [positive], {"constraints": positive >= -1}, ArgumentError, "0 is True whatever"),
        (LINE, TV, [a, b], {"constraints": [sp.Eq(1, 2)]}, ArgumentError, "constraint 0 is False"),
        (LINE, TV, [a, b], {"constraints": [sp.Ne(a, b)]}, ArgumentError, "constraint 0 is Ne\\(a, b\\)"),
        (LINE, TV, [a, b], {"constraints": [a + b]}, ArgumentError, "constraint 0 is a \\+ b"),
        (LINE, TV, [a, b], {"constraints": "a <= b"}, ArgumentError, "constraints is a str; give relations"),
        (LINE, TV, [a, b], {"constraints": 3}, ArgumentError, "constraints is an int; give relations"),
        (LINE, TV, {a: 3, b: 1}, {"constraints": a + b <= 3}, ArgumentError, "starts at a=3.*b <= 3 does not hold"),
        (sp.Eq(v, positive * t), TV, {positive: -1}, {}, ArgumentError, "starts at -1, but .* declared positive"),
        (LINE, {t: T[:, None], v: V}, [a, b], {}, DataError, "lengths differ: t has 1 observation, v has 24"),
        (LINE, {t: T, v: V[:, None]}, [a, b], {}, DataError, "lengths differ"),
        (LINE, {t: np.ones((2, 24)), v: np.ones((3, 24))}, [a, b], {}, DataError, "independent fits.*do not agree"),
        (LINE, {t: T, v: MANY}, {a: np.zeros(5), b: 0}, {}, ArgumentError, r"start value of a has shape \(5,\)"),
        (LINE, MISSING, [a, b], {}, DataError, "t has 1 missing value: the first is at 3 .index 'row 3'.*dropna"),
        (LINE, FRAME.assign(v=FRAME["v"].where(FRAME.index != "row 7")), [a, b], {}, DataError, "1 missing value"),
        (LINE, FRAME.assign(t="x"), [a, b], {}, DataError, "t holds .*, not real numbers"),
        (LINE, FRAME[["t", "name"]], [a, b], {}, ArgumentError, "symbol v, .*data has the columns t, name"),
        (LINE, pd.DataFrame([[1, 2, 3]], columns=["t", "v", "t"]), [a, b], {}, DataError, "two columns 't'"),
        (LINE, {t: "t.csv", v: V}, [a, b], {}, DataError, "'t.csv' is text"),
        (LINE, {t: "nowhere.npy", v: V}, [a, b], {}, DataError, "cannot read 'nowhere.npy': No such file"),
        (LINE, "table.xlsx", [a, b], {}, DataError, "read this with pandas"),
        (LINE, "nowhere.npz", [a, b], {}, DataError, "cannot read 'nowhere.npz'"),
        (LINE, np.ones((5, 2)), [a, b], {}, ArgumentError, "data is an? ndarray; give a mapping"),
        (LINE, 3.0, [a, b], {}, ArgumentError, "data is a float; give a mapping"),
        (LINE, [], [a, b], {}, DataError, "data holds no batch"),
        (LINE, iter([(T, V)]), [a, b], {}, ArgumentError, "whose first item is a tuple"),
        (LINE, lambda: 3, [a, b], {}, ArgumentError, "function that returns an int, not batches"),
        (LINE, [{"t": T}], [a, b], {}, ArgumentError, "symbol v"),
        (LINE, [{"t": T, "v": V}], [a, b], {"sigma": S}, ArgumentError, "is an array, but the data come in batches"),
        (LINE, [{"t": T, "v": MANY}], [a, b], {}, DataError, "first batch of data has axes"),
    ],
)  # fmt: skip
def test_every_wrong_statement_is_named(
    cost: Any, data: Any, params: Any, given: dict[str, Any], error: Any, words: str
) -> None:
    with pytest.raises(error) as raised:
        fit(cost, data, params, **given)
    assert re.search(words, str(raised.value), re.DOTALL), str(raised.value)


def test_files_that_are_no_arrays_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", T)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "empty.csv").write_text("t,v\n")
    for name, words in (
        ("plain.npy", r"shape \(24,\) without names.*data="),
        ("broken.npy", "is no .npy file"),
        ("broken.npz", "is no .npz file"),
        ("empty.npz", "is no .npz file"),
        ("empty.csv", "a header and no rows"),
    ):
        with pytest.raises(DataError, match=words):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("max_iterations", 0, "max_iterations must be a positive integer, got 0"),
        ("max_iterations", True, "max_iterations must be a positive integer"),
        ("epochs", 2.5, "epochs must be a positive integer"),
        ("batch_size", -1, "batch_size must be a positive integer"),
        ("patience", 0, "patience must be a positive integer"),
        ("multistart", "many", "multistart must be a positive integer"),
        ("likelihood", 1, "likelihood must be True or False"),
        ("absolute_sigma", None, "absolute_sigma must be True or False"),
        ("seed", 1.5, "seed must be an integer"),
        ("dtype", "float16", "dtype must be 'float64' or 'float32'"),
        ("callbacks", (3,), "callbacks are functions of a Step, got 3"),
    ],
)
def test_options_are_checked(option: str, value: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Options(**{option: value})


def test_observed_values_that_are_all_the_same_are_said_to_be() -> None:
    result = fit(LINE, {t: T, v: np.full(24, 3.0)}, [a, b])
    np.testing.assert_allclose(result.estimates, [0, 3], atol=1e-12)
    assert result.r_squared is None
    assert "the same" in result.r_squared_reason


# Properties ------------------------------------------------------------------------------------

MODELS: dict[str, tuple[Any, dict[Any, float]]] = {
    "line": (a * t + b, {a: 1, b: 1}),
    "decay": (a * sp.exp(-b * t), {a: 1.5, b: 0.5}),
}
ESTIMATES = {name: fit(sp.Eq(v, m), {t: T, v: GROWTH}, start, sigma=S).estimates for name, (m, start) in MODELS.items()}


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.permutations(range(24)), st.floats(-3, 3), st.integers(3, 21))
def test_order_units_of_sigma_and_splitting_do_not_change_the_estimates(
    name: str, order: list[int], power: float, cut: int
) -> None:
    model, start = MODELS[name]
    shuffled = fit(sp.Eq(v, model), {t: T[order], v: GROWTH[order]}, start, sigma=10**power * S[order])
    np.testing.assert_allclose(shuffled.estimates, ESTIMATES[name], rtol=1e-7)
    other = model.subs(t, t2)
    data = {t: T[:cut], v: GROWTH[:cut], t2: T[cut:], v2: GROWTH[cut:]}
    parts = fit({v: model, v2: other}, data, start, sigma={v: S[:cut], v2: S[cut:]})
    np.testing.assert_allclose(parts.estimates, ESTIMATES[name], rtol=1e-7)


@settings(max_examples=8, deadline=None)
@given(st.floats(-6, 6), st.booleans())
def test_units_of_the_observations_scale_linear_estimates(power: float, weigh: bool) -> None:
    unit = 10**power
    given_ = {"sigma": unit * S} if weigh else {}
    result = fit(LINE, {t: T, v: unit * V}, [a, b], loss=None, **given_)
    due = weighted(DESIGN, V, S if weigh else np.ones(24))
    np.testing.assert_allclose(result.estimates, unit * due, rtol=1e-10)


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=24, max_size=24).filter(lambda w: sum(map(bool, w)) > 3))
def test_integer_weights_are_repetitions(repeats: list[int]) -> None:
    weighed = fit(LINE, TV, [a, b], weights=repeats)
    repeated = fit(LINE, {t: np.repeat(T, repeats), v: np.repeat(V, repeats)}, [a, b])
    np.testing.assert_allclose(weighed.estimates, repeated.estimates, rtol=1e-9, atol=1e-9)


def test_a_tie_that_leaves_nothing_to_tell_apart_is_singular() -> None:
    with pytest.raises(SingularProblemError, match="do not determine"):
        fit(sp.Eq(v, a * t + b + c), TV, {a: 1, b: 1, c: 2 * p, p: 1})


def test_the_losses_are_public() -> None:
    assert sym2tf.losses is losses


@pytest.mark.filterwarnings("ignore:trained for 1 epoch:sym2tf.errors.FitWarning")
@pytest.mark.parametrize("method", [None, "adam"])
def test_data_frames_that_come_one_after_the_other_may_have_further_columns(method: str | None) -> None:
    chunks = [FRAME[k : k + 8] for k in range(0, 24, 8)]
    found, due = (fit(LINE, data, [a, b], method=method) for data in (chunks, [dict(q[["t", "v"]]) for q in chunks]))
    np.testing.assert_array_equal(found.estimates, due.estimates)
    with pytest.raises(ArgumentError, match="name"):
        fit(LINE, [dict(q) for q in chunks], [a, b], method=method)
