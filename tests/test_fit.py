"""`fit`: from a symbolic cost and data to estimates, their uncertainty, and errors that say what and where."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import sym2tf
from sym2tf import Parameter, fit
from sym2tf.errors import ArgumentError, DataError, FitError, FitWarning, SingularProblemError, UnusedDataWarning
from sym2tf.fit.evaluation import objective as objectives
from sym2tf.fit.solvers import linear
from sym2tf.fit.solvers.linear import solve_least_squares
from sym2tf.fit.statement.classify import classify
from sym2tf.fit.statement.state import state
from sym2tf.passes.degree import INFINITE, degrees
from sym2tf.passes.pipeline import optimize

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
NIST = SHARED / "nist" / "linear"

x, y, z, s = (sp.IndexedBase(name) for name in "xyzs")
X, W = sp.IndexedBase("X"), sp.IndexedBase("w")
i, j, k, n = sp.symbols("i j k n", integer=True)
a, b, c, w, t, v = sp.symbols("a b c w t v")

LINE = sp.Sum((y[i] - w * x[i] - b) ** 2, (i, 0, n - 1)) / n
XS = np.array([0.0, 1.0, 2.0, 3.0, 5.0, 8.0])
YS = np.array([1.1, 2.9, 5.2, 6.8, 11.1, 16.9])
RNG = np.random.default_rng(20261121)
GRID = np.linspace(0.0, 5.0, 80)
DECAY = 2.5 * np.exp(-1.3 * GRID) + 0.5 + 0.05 * RNG.standard_normal(80)
LABELS = np.where(RNG.random(80) < 1 / (1 + np.exp(-1.5 * (GRID - 2))), 1.0, -1.0)


def over(term: Any) -> Any:
    return sp.Sum(term, (i, 0, n - 1))


def digits(found: Any, due: Any) -> float:
    """The number of digits in which all of `found` agree with `due`."""
    found, due = np.asarray(found, float), np.asarray(due, float)
    return float(np.min(-np.log10(np.maximum(np.abs((found - due) / due), 1e-16))))


def ols(columns: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    theta = np.linalg.lstsq(columns, observed, rcond=None)[0]
    r = observed - columns @ theta
    variance = r @ r / (len(observed) - columns.shape[1])
    return theta, np.sqrt(variance * np.diag(np.linalg.inv(columns.T @ columns)))


# Linear least squares --------------------------------------------------------------------------


def test_a_line_agrees_with_lstsq_in_estimates_and_standard_errors() -> None:
    result = fit(LINE, data={x: XS, y: YS}, params={w: 0, b: 0})
    theta, errors = ols(np.column_stack([XS, np.ones(6)]), YS)
    np.testing.assert_allclose([result.params[w], result.params[b]], theta, rtol=1e-13)
    np.testing.assert_allclose([result.stderr[w], result.stderr["b"]], errors, rtol=1e-12)
    assert result.success
    assert result.problem == "linear least squares"
    assert "QR" in result.solver
    assert result.iterations == 1
    np.testing.assert_allclose(result.r_squared, np.corrcoef(XS, YS)[0, 1] ** 2, rtol=1e-12)
    np.testing.assert_allclose(result.cost, np.mean(result.residuals**2), rtol=1e-13)
    assert result.gradient_norm < 1e-12


def test_the_course_example_reaches_the_reference_to_eight_digits() -> None:
    path = SHARED / "birth_life_2010.txt"
    if not path.exists():
        pytest.skip("../shared/data is not there")
    birth, life = np.loadtxt(path, delimiter="\t", skiprows=1, usecols=(1, 2)).T
    result = fit(LINE, data={x: birth, y: life}, params={w: 0, b: 0})
    assert round(result.params[b], 8) == 85.71349893
    assert round(result.stderr[b], 8) == 0.89258862
    assert round(result.params[w], 8) == -5.71881564
    assert round(result.stderr[w], 8) == 0.28330629
    assert round(result.r_squared, 6) == 0.684285


@pytest.mark.parametrize(("name", "least"), [("norris", 12), ("longley", 12)])
def test_nist_linear_problems_keep_their_digits(name: str, least: float) -> None:
    if not NIST.exists():
        pytest.skip("../shared/data/nist is not there")
    due = json.loads((NIST / "certified.json").read_text())[name]
    table = np.loadtxt(NIST / f"{name}.csv", delimiter=",", skiprows=1)
    beta = sp.symbols(f"b0:{table.shape[1]}")
    regressors = [sp.IndexedBase(f"x{m}") for m in range(1, table.shape[1])]
    model = beta[0] + sum(p * q[i] for p, q in zip(beta[1:], regressors, strict=True))
    data = {y: table[:, 0]} | dict(zip(regressors, table[:, 1:].T, strict=True))
    result = fit(over((y[i] - model) ** 2), data, beta)
    assert digits([result.params[p] for p in beta], due["estimate"]) >= least
    assert digits([result.stderr[p] for p in beta], due["standard_deviation"]) >= least
    assert digits(result.residual_std, due["residual_standard_deviation"]) >= least
    assert digits(result.r_squared, due["r_squared"]) >= least


def test_a_matrix_of_regressors_takes_its_shape_from_the_data() -> None:
    features = RNG.standard_normal((30, 3))
    observed = features @ [1.0, -2.0, 3.0] + 0.1 * RNG.standard_normal(30)
    cost = over((y[i] - sp.Sum(X[i, j] * W[j], (j, 0, k - 1))) ** 2)
    theta, errors = ols(features, observed)
    for params in ({W: np.zeros(3)}, {W: Parameter(shape=(3,))}, [W], None):
        result = fit(cost, {X: features, y: observed}, params)
        np.testing.assert_allclose(result.params[W], theta, rtol=1e-12)
        np.testing.assert_allclose(result.stderr["w"], errors, rtol=1e-12)
        assert result.names == ("w[0]", "w[1]", "w[2]")
        assert result.params[W[1]] == result.params["w[1]"] == result.params[W][1]
        assert result.r_squared is None
        assert "intercept" in result.r_squared_reason


def test_weights_are_those_of_the_cost_and_their_common_factor_does_not_matter() -> None:
    sigma = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 1.0])
    residual = (y[i] - w * x[i] - b) / s[i]
    result = fit(over(residual**2), {x: XS, y: YS, s: sigma}, [w, b])
    theta, errors = ols(np.column_stack([XS, np.ones(6)]) / sigma[:, None], YS / sigma)
    np.testing.assert_allclose([result.params[w], result.params[b]], theta, rtol=1e-12)
    np.testing.assert_allclose([result.stderr[w], result.stderr[b]], errors, rtol=1e-12)
    other = fit(7 * over(residual**2) / n, {x: XS, y: YS, s: sigma}, [w, b])
    np.testing.assert_allclose(other.stderr[w], result.stderr[w], rtol=1e-12)
    np.testing.assert_allclose(result.residuals, YS - theta[0] * XS - theta[1], rtol=1e-9)


def test_a_penalty_is_stacked_and_leaves_no_standard_errors() -> None:
    features = RNG.standard_normal((20, 3))
    observed = RNG.standard_normal(20)
    loss = over((y[i] - sp.Sum(X[i, j] * W[j], (j, 0, k - 1))) ** 2)
    result = fit(loss + sp.Rational(1, 2) * sp.Sum(W[j] ** 2, (j, 0, k - 1)), {X: features, y: observed}, [W])
    due = np.linalg.solve(features.T @ features + 0.5 * np.eye(3), features.T @ observed)
    np.testing.assert_allclose(result.params[W], due, rtol=1e-12)
    assert result.stderr is None
    assert "penalty" in result.stderr_reason
    assert "penalty" in result.summary()
    np.testing.assert_allclose(result.predict(), features @ due, rtol=1e-12)


def test_a_penalty_makes_more_parameters_than_observations_solvable() -> None:
    features, observed = RNG.standard_normal((3, 5)), RNG.standard_normal(3)
    loss = over((y[i] - sp.Sum(X[i, j] * W[j], (j, 0, k - 1))) ** 2)
    result = fit(loss + sp.Sum(W[j] ** 2, (j, 0, k - 1)), {X: features, y: observed}, [W])
    due = np.linalg.solve(features.T @ features + np.eye(5), features.T @ observed)
    np.testing.assert_allclose(result.params[W], due, rtol=1e-11)


def test_two_sums_of_squares_of_equal_weight_are_one_problem() -> None:
    cost = over((y[i] - w * x[i]) ** 2) + over((z[i] - w * s[i]) ** 2)
    data = {x: XS, y: YS, s: XS + 1, z: 2 * XS}
    theta, errors = ols(np.concatenate([XS, XS + 1])[:, None], np.concatenate([YS, 2 * XS]))
    result = fit(cost, data, [w])
    np.testing.assert_allclose([result.params[w], result.stderr[w]], [theta[0], errors[0]], rtol=1e-12)


def test_an_expanded_square_is_solved_by_a_newton_step_and_says_so() -> None:
    cost = over(y[i] ** 2 - 2 * y[i] * w * x[i] + w**2 * x[i] ** 2 - b * y[i] + b**2)
    result = fit(cost, {x: XS, y: YS}, [w, b])
    np.testing.assert_allclose(result.params[w], XS @ YS / (XS @ XS), rtol=1e-12)
    np.testing.assert_allclose(result.params[b], YS.mean() / 2, rtol=1e-12)
    assert result.problem == "quadratic"
    assert "Newton" in result.solver
    assert result.stderr is None
    assert "likelihood=True" in result.stderr_reason


def test_an_equation_is_least_squares_with_indices_or_with_plain_symbols() -> None:
    due = fit(LINE, {x: XS, y: YS}, [w, b])
    indexed = fit(sp.Eq(y[i], w * x[i] + b), {x: XS, y: YS})
    plain = fit(sp.Eq(v, w * t + b), {t: XS, v: YS}, [w, b])
    for result in (indexed, plain):
        assert result.params["w"] == due.params["w"]
        np.testing.assert_allclose(result.stderr["b"], due.stderr["b"], rtol=1e-14)
        np.testing.assert_allclose(result.residuals, YS - due.predict(), atol=1e-14)
    np.testing.assert_allclose(plain.predict({t: [1.0, 2.0]}), due.predict({x: [1.0, 2.0]}))
    assert np.ndim(plain.predict({t: 1.0})) == 0
    assert plain.expr.free_symbols == {t}
    np.testing.assert_allclose(float(plain.expr.subs(t, 2)), plain.predict({t: 2.0}), rtol=1e-14)


def test_a_transformed_observation_is_what_the_model_predicts() -> None:
    result = fit(over((sp.log(y[i]) - w * x[i] - b) ** 2), {x: XS, y: YS}, [w, b])
    np.testing.assert_allclose(result.predict({x: XS}), np.log(YS) - result.residuals, rtol=1e-12)


def test_keys_are_symbols_bases_elements_or_names() -> None:
    due = fit(LINE, {x: XS, y: YS}, {w: 0, b: 0}).params[w]
    assert fit(LINE, {"x": XS, y[i]: list(YS)}, {"w": 0, "b": 0}).params["w"] == due
    assert fit(LINE, {"x": XS, "y": YS, n: 6}, ["w", "b"]).params["w"] == due


def test_a_smaller_size_means_a_prefix() -> None:
    due = fit(LINE, {x: XS[:4], y: YS[:4]}, [w, b])
    assert fit(LINE, {x: XS, y: YS, n: 4}, [w, b]).params[w] == due.params[w]


def test_fixed_parameters_stay_and_bounds_hold() -> None:
    fixed = fit(LINE, {x: XS, y: YS}, {w: 0, b: Parameter(1.0, fixed=True)})
    np.testing.assert_allclose(fixed.params[w], XS @ (YS - 1) / (XS @ XS), rtol=1e-13)
    assert fixed.params[b] == 1.0
    assert fixed.stderr[b] == 0.0
    assert fixed.names == ("w",)
    assert "(fixed)" in fixed.summary()
    wide = fit(LINE, {x: XS, y: YS}, {w: Parameter(bounds=(-9, 9)), b: 0})
    assert wide.params[w] == fit(LINE, {x: XS, y: YS}, [w, b]).params[w]
    bounded = fit(LINE, {x: XS, y: YS}, {w: Parameter(bounds=(None, 1)), b: 0})
    assert bounded.params[w] == 1.0
    np.testing.assert_allclose(bounded.params[b], np.mean(YS - XS), rtol=1e-9)
    assert bounded.at_bounds == ("w",)
    assert bounded.stderr is None
    assert "bound" in bounded.stderr_reason


def test_as_many_observations_as_parameters_fit_exactly_without_standard_errors() -> None:
    result = fit(LINE, {x: [0.0, 1.0], y: [1.0, 3.0]}, [w, b])
    np.testing.assert_allclose([result.params[w], result.params[b]], [2, 1], rtol=1e-14)
    assert result.stderr is None
    assert "degrees of freedom" in result.stderr_reason


def test_a_condition_of_ten_to_the_nine_leaves_eleven() -> None:
    """Large offsets of the regressor, as in time stamps: exact rational arithmetic is the judge."""
    stamps = 1.7e9 + np.arange(12.0)
    observed = np.round(3.0 * np.arange(12.0) + RNG.standard_normal(12), 3)
    result = fit(LINE, {x: stamps, y: observed}, [w, b])
    rows = sp.Matrix([[sp.Rational(float(q)), 1] for q in stamps])
    due = (rows.T * rows).LUsolve(rows.T * sp.Matrix([sp.Rational(float(q)) for q in observed]))
    assert digits([result.params[w], result.params[b]], [float(q) for q in due]) > 11


def test_the_solver_falls_back_to_plain_doubles_on_large_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "WIDE_LIMIT", 1)
    columns = np.column_stack([XS, np.ones(6)])
    found = solve_least_squares(columns, YS, ("w", "b"))
    assert not found.extended
    np.testing.assert_allclose(found.theta, ols(columns, YS)[0], rtol=1e-12)


def test_a_shifted_index_fits_an_autoregression() -> None:
    series = np.cumsum(RNG.standard_normal(40))
    result = fit(sp.Sum((x[i + 1] - a * x[i] - c) ** 2, (i, 0, n - 2)), {x: series}, [a, c])
    theta, errors = ols(np.column_stack([series[:-1], np.ones(39)]), series[1:])
    np.testing.assert_allclose(result.estimates, theta, rtol=1e-12)
    np.testing.assert_allclose([result.stderr[a], result.stderr[c]], errors, rtol=1e-12)
    np.testing.assert_allclose(result.predict(), series[1:] - result.residuals, rtol=1e-12, atol=1e-14)
    assert result.model.observed == "x[i + 1]"


def test_an_equation_over_two_indices_sums_over_both() -> None:
    table = RNG.standard_normal((4, 5))
    result = fit(sp.Eq(z[i, j], a * x[i] + b * y[j] + c), {z: table, x: np.arange(4.0), y: np.arange(5.0)})
    grid = np.stack([q.ravel() for q in (*np.mgrid[:4.0, :5.0], np.ones((4, 5)))], axis=1)
    theta, errors = ols(grid, table.ravel())
    np.testing.assert_allclose(result.estimates, theta, rtol=1e-11)
    np.testing.assert_allclose([result.stderr[q] for q in (a, b, c)], errors, rtol=1e-11)
    assert result.residuals.shape == result.predict().shape == (4, 5)


def test_elements_of_a_base_are_parameters() -> None:
    result = fit(over((y[i] - W[0] - W[1] * x[i]) ** 2), {x: XS, y: YS}, [W])
    due = fit(LINE, {x: XS, y: YS}, [w, b])
    np.testing.assert_allclose(result.params[W], [due.params[b], due.params[w]], rtol=1e-13)
    assert not result.expr.has(W)


def test_a_constant_model_has_the_mean_and_no_r_squared_to_speak_of() -> None:
    result = fit(sp.Eq(y[i], b), {y: YS})
    np.testing.assert_allclose(result.params[b], YS.mean(), rtol=1e-15)
    np.testing.assert_allclose(result.stderr[b], YS.std(ddof=1) / np.sqrt(6), rtol=1e-14)
    assert abs(result.r_squared) < 1e-12
    np.testing.assert_allclose(result.predict(), np.full(6, YS.mean()))


# Properties ------------------------------------------------------------------------------------

magnitudes = st.floats(-6, 6).map(lambda e: 10.0**e)
factors = st.tuples(magnitudes, st.sampled_from([-1.0, 1.0])).map(lambda p: p[0] * p[1])


@given(factors, factors)
@settings(max_examples=25)
def test_a_change_of_units_changes_estimates_and_errors_by_the_same_factor(p: float, q: float) -> None:
    due = fit(LINE, {x: XS, y: YS}, [w, b])
    found = fit(LINE, {x: p * XS, y: q * YS}, [w, b])
    np.testing.assert_allclose(found.params[w], due.params[w] * q / p, rtol=1e-12)
    np.testing.assert_allclose(found.params[b], due.params[b] * q, rtol=1e-12)
    np.testing.assert_allclose(found.stderr[w], due.stderr[w] * abs(q / p), rtol=1e-12)
    np.testing.assert_allclose(found.stderr[b], due.stderr[b] * abs(q), rtol=1e-12)
    np.testing.assert_allclose(found.r_squared, due.r_squared, rtol=1e-12)


@pytest.mark.parametrize(("p", "q"), [(1e200, 1e180), (1e-250, 1e-240), (1e-200, 1e100)])
def test_units_at_the_edge_of_the_floats_cost_no_digits(p: float, q: float) -> None:
    due = fit(LINE, {x: XS, y: YS}, [w, b])
    found = fit(LINE, {x: p * XS, y: q * YS}, [w, b])
    np.testing.assert_allclose(found.params[w], due.params[w] / p * q, rtol=1e-12)
    np.testing.assert_allclose(found.stderr[b], due.stderr[b] * q, rtol=1e-12)
    np.testing.assert_allclose(found.stderr[w], due.stderr[w] / p * q, rtol=1e-12)
    np.testing.assert_allclose(found.r_squared, due.r_squared, rtol=1e-12)


@given(st.integers(-(10**6), 10**6), st.integers(-1000, 1000))
@settings(max_examples=25)
def test_a_shift_of_the_data_moves_the_intercept_alone(dx: int, dy: int) -> None:
    grid, values = np.arange(6.0), np.round(YS * 16) / 16  # sums with integers are exact
    due = fit(LINE, {x: grid, y: values}, [w, b])
    found = fit(LINE, {x: grid + dx, y: values + dy}, [w, b])
    np.testing.assert_allclose(found.params[w], due.params[w], rtol=1e-10)
    np.testing.assert_allclose(found.params[b], due.params[b] + dy - due.params[w] * dx, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(found.stderr[w], due.stderr[w], rtol=1e-9)


@given(st.permutations(range(6)))
@settings(max_examples=20)
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    due = fit(LINE, {x: XS, y: YS}, [w, b])
    found = fit(LINE, {x: XS[order], y: YS[order]}, [w, b])
    np.testing.assert_allclose(found.params[w], due.params[w], rtol=1e-14)
    np.testing.assert_allclose(found.covariance, due.covariance, rtol=1e-13)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_random_designs_agree_with_lstsq(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, observed = rng.standard_normal((12, count)), rng.standard_normal(12)
    cost = over((y[i] - sp.Sum(X[i, j] * W[j], (j, 0, k - 1))) ** 2)
    result = fit(cost, {X: features, y: observed}, [W])
    np.testing.assert_allclose(result.params[W], ols(features, observed)[0], rtol=1e-9, atol=1e-12)


# Other costs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [(1, 1, 0), (0, 0, 0), (10, 0.2, 3)])
def test_an_exponential_decay_agrees_with_curve_fit(start: tuple[float, ...]) -> None:
    cost = over((y[i] - a * sp.exp(-k * x[i]) - c) ** 2)
    result = fit(cost, {x: GRID, y: DECAY}, dict(zip((a, k, c), start, strict=True)))
    due, covariance = scipy.optimize.curve_fit(
        lambda g, a, k, c: a * np.exp(-k * g) + c, GRID, DECAY, (1, 1, 0), ftol=1e-15, xtol=1e-15
    )
    np.testing.assert_allclose(result.estimates, due, rtol=1e-7)
    np.testing.assert_allclose(result.covariance, covariance, rtol=1e-5)
    assert result.success
    assert result.problem == "nonlinear least squares"
    assert result.gradient_norm < 1e-10
    assert result.evaluations >= result.iterations > 1
    np.testing.assert_allclose(result.predict({x: GRID}) + result.residuals, DECAY, rtol=1e-14)


def test_logistic_regression_agrees_with_scipy_and_has_no_standard_errors() -> None:
    cost = over(sp.log(1 + sp.exp(-y[i] * (w * x[i] + b))))
    result = fit(cost, {x: GRID, y: LABELS}, [w, b])

    def score(p: np.ndarray) -> np.ndarray:
        pull = -LABELS / (1 + np.exp(LABELS * (p[0] * GRID + p[1])))
        return np.array([pull @ GRID, pull.sum()])

    due = scipy.optimize.root(score, [1.0, -1.0], tol=1e-14).x
    np.testing.assert_allclose(result.estimates, due, rtol=1e-9)
    assert result.success
    assert result.problem == "smooth"
    assert result.stderr is None
    with pytest.raises(FitError, match="no sum of squares"):
        result.predict({x: GRID})
    with pytest.raises(FitError, match="no sum of squares"):
        result.plot()


COUNTS = np.random.default_rng(7).poisson(np.exp(0.4 * GRID - 0.5)).astype(float)
POISSON = over(sp.exp(w * x[i] + b) - y[i] * (w * x[i] + b) + sp.loggamma(y[i] + 1))


def test_a_poisson_likelihood_has_the_errors_of_its_information() -> None:
    result = fit(POISSON, {x: GRID, y: COUNTS}, [w, b], likelihood=True)
    columns = np.column_stack([GRID, np.ones(80)])
    mean = np.exp(columns @ result.estimates)
    np.testing.assert_allclose(columns.T @ (mean - COUNTS), 0, atol=1e-9)
    np.testing.assert_allclose(result.covariance, np.linalg.inv(columns.T @ (mean[:, None] * columns)), rtol=1e-10)
    np.testing.assert_allclose(result.standard_errors, np.sqrt(np.diag(result.covariance)), rtol=1e-14)
    np.testing.assert_allclose(result.log_likelihood, scipy.stats.poisson.logpmf(COUNTS, mean).sum(), rtol=1e-12)
    assert result.observations == 80
    assert result.degrees_of_freedom is None
    text = result.summary()
    for due in ("maximum likelihood", f"{result.log_likelihood:.10g}", "P>|z|"):
        assert due in text
    assert re.search(r"^observations: +80 ", text, re.MULTILINE)
    assert "R²" not in text
    row = next(line.split() for line in text.splitlines() if line.startswith("w "))
    half = 1.959963984540054 * result.stderr[w]
    np.testing.assert_allclose(float(row[6]), result.params[w] + half, rtol=1e-5)


def test_a_logistic_likelihood_agrees_with_the_closed_form_of_its_information() -> None:
    cost = over(sp.log(1 + sp.exp(-y[i] * (w * x[i] + b))))
    result = fit(cost, {x: GRID, y: LABELS}, [w, b], likelihood=True)
    columns = np.column_stack([GRID, np.ones(80)])
    chance = 1 / (1 + np.exp(-columns @ result.estimates))
    due = np.linalg.inv(columns.T @ ((chance * (1 - chance))[:, None] * columns))
    np.testing.assert_allclose(result.covariance, due, rtol=1e-10)
    assert result.stderr_reason == ""


def test_a_gaussian_likelihood_with_its_scale_agrees_with_the_closed_form() -> None:
    cost = over((y[i] - w * x[i] - b) ** 2 / (2 * t**2) + sp.log(t) + sp.log(2 * sp.pi) / 2)
    result = fit(cost, {x: XS, y: YS}, {w: 2, b: 1, t: 1}, likelihood=True)
    theta, errors = ols(np.column_stack([XS, np.ones(6)]), YS)
    scale = np.sqrt(np.mean((YS - theta[0] * XS - theta[1]) ** 2))
    np.testing.assert_allclose(result.estimates, [*theta, scale], rtol=1e-9)
    due = [*(errors * np.sqrt(4 / 6)), scale / np.sqrt(12)]  # variances by n, not n - 2; var(scale) = scale^2/(2n)
    np.testing.assert_allclose(result.standard_errors, due, rtol=1e-8)
    density = scipy.stats.norm.logpdf(YS, theta[0] * XS + theta[1], scale)
    np.testing.assert_allclose(result.log_likelihood, density.sum(), rtol=1e-12)
    assert result.observations == 6


@pytest.mark.parametrize("weight", [1 / s[i] ** 2, sp.Rational(1, 4)])
def test_a_gaussian_likelihood_with_known_scales_has_absolute_errors(weight: Any) -> None:
    sigma = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 1.0]) if weight.has(s) else np.full(6, 2.0)
    data = {x: XS, y: YS} | ({s: sigma} if weight.has(s) else {})
    cost = over(weight * (y[i] - w * x[i] - b) ** 2 / 2)
    result = fit(cost, data, [w, b], likelihood=True)
    scaled = np.column_stack([XS, np.ones(6)]) / sigma[:, None]
    np.testing.assert_allclose(result.covariance, np.linalg.inv(scaled.T @ scaled), rtol=1e-12)
    assert "QR" in result.solver
    assert result.observations == 6
    np.testing.assert_allclose(result.log_likelihood, -result.cost, rtol=1e-15)


def test_observations_of_a_likelihood_are_those_of_the_data_axis() -> None:
    features = RNG.standard_normal((30, 3))
    classes = np.eye(3)[RNG.integers(0, 3, 30)]
    score = sp.Sum(X[i, j] * z[j, c], (j, 0, k - 1))
    m = sp.Symbol("m", integer=True)
    log_sum = sp.log(sp.Sum(sp.exp(score), (c, 0, m - 1)))
    cost = over(-sp.Sum(y[i, c] * score, (c, 0, m - 1)) + log_sum) + sp.Sum(z[j, c] ** 2, (j, 0, k - 1), (c, 0, m - 1))
    result = fit(cost, {X: features, y: classes}, likelihood=True)
    assert result.observations == 30
    assert result.names[0] == "z[0,0]"
    lagged = sp.Sum((x[i + 1] - a * x[i]) ** 2, (i, 0, n - 2)) / 2
    assert fit(lagged, {x: XS}, likelihood=True).observations == 5
    two = over(sp.cosh(y[i] - a)) + over(sp.log(sp.cosh(y[i] - a))) + sp.Sum(sp.cosh(x[i] - a), (i, 0, k - 1))
    assert fit(two, {y: YS, x: XS[:4]}, likelihood=True).observations == 10


def test_what_is_no_sum_over_observations_is_no_likelihood() -> None:
    with pytest.raises(ArgumentError, match="divided by n: leave that out"):
        fit(POISSON / n, {x: GRID, y: COUNTS}, [w, b], likelihood=True)
    with pytest.raises(ArgumentError, match="is an equation, which is fitted by least squares"):
        fit(sp.Eq(y[i], b), {y: YS}, likelihood=True)
    with pytest.raises(ArgumentError, match="True or False, got 'yes'"):
        fit(POISSON, {x: GRID, y: COUNTS}, [w, b], likelihood="yes")
    stopped = fit(POISSON, {x: GRID, y: COUNTS}, {w: Parameter(bounds=(0, 0.1)), b: 0}, likelihood=True)
    assert stopped.stderr is None
    assert "bound" in stopped.stderr_reason


SEPARABLE = over(sp.log(1 + sp.exp(-y[i] * (w * x[i] + b))))


@pytest.mark.parametrize("most", [10, 1000])
@pytest.mark.parametrize("labels", [np.sign(XS - 2.5), np.array([-1, -1, 1, 1, 1, 1])])
def test_separable_classes_have_no_minimum_and_are_reported_so(labels: np.ndarray, most: int) -> None:
    with pytest.warns(FitWarning, match="no minimum .are two classes perfectly separated") as raised:
        result = fit(SEPARABLE, {x: XS, y: labels}, [w, b], max_iterations=most)
    assert raised[0].filename == __file__
    assert str(raised[0].message) == result.message
    assert not result.success
    assert result.message.startswith("not converged")
    assert ("limit of iterations" in result.message) == (most == 10)
    assert "NOT CONVERGED" in repr(result)


def test_a_parameter_that_runs_away_beside_one_that_does_not_is_seen() -> None:
    with pytest.warns(FitWarning, match="parameters grow without end"):
        fit(sp.exp(-a) + b**2, params={a: 0, b: 1})


def test_the_valley_of_rosenbrock_is_followed_to_its_end() -> None:
    result = fit((1 - a) ** 2 + 100 * (b - a**2) ** 2, params={a: -1.2, b: 1})
    assert result.success
    np.testing.assert_allclose(result.estimates, [1, 1], rtol=1e-12)


def test_bounds_stop_a_smooth_cost() -> None:
    cost = (1 - a) ** 2 + 100 * (b - a**2) ** 2
    result = fit(cost, params={a: Parameter(-1.2, bounds=(-2, 0.5)), b: 1})
    assert result.success
    np.testing.assert_allclose(result.estimates, [0.5, 0.25], rtol=1e-8)
    assert result.at_bounds == ("a",)
    assert "reflective" in result.solver
    cost = over(sp.log(1 + sp.exp(-y[i] * (w * x[i] + b))))
    free = fit(cost, {x: GRID, y: LABELS}, [w, b])
    result = fit(cost, {x: GRID, y: LABELS}, {w: Parameter(bounds=(0, 0.9 * free.params[w])), b: 0})
    assert result.success
    assert "L-BFGS-B" in result.solver
    assert result.params[w] == 0.9 * free.params[w]
    assert result.at_bounds == ("w",)


def test_bounds_stop_a_quadratic_cost_that_is_no_sum_of_squares() -> None:
    result = fit(a**2 - 6 * a + b**2 - a * b, params={a: Parameter(bounds=(None, 1)), b: 0})
    assert result.success
    np.testing.assert_allclose(result.estimates, [1, 0.5], rtol=1e-7)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (sp.Abs(y[i] - b), r"not smooth \(Abs\).*sqrt\(r\*\*2 \+ eps\) for Abs\(r\), or use a Huber loss"),
        (sp.Max(y[i] - b, 0) - sp.Min(y[i] - b, 0), r"not smooth \((Max, Min|Min, Max)\).*log\(1 \+ exp"),
    ],
)
def test_a_cost_with_corners_is_not_called_converged(term: Any, words: str) -> None:
    with pytest.warns(FitWarning, match=words):
        result = fit(over(term), {y: np.array([1.0, 2.0, 4.0])}, [b])
    np.testing.assert_allclose(result.params[b], 2, atol=1e-6)
    assert not result.success
    assert "terminated successfully" not in result.message


def test_corners_in_the_data_or_smoothed_do_not_disturb() -> None:
    smooth = over(sp.sqrt((y[i] - b) ** 2 + sp.Rational(1, 10)) + sp.Abs(y[i]))
    result = fit(smooth, {y: np.array([1.0, 2.0, 4.0])}, [b])
    assert result.success


def test_many_parameters_are_fitted_without_a_hessian() -> None:
    cost = sp.Sum(sp.cosh(W[i] - x[i]), (i, 0, n - 1))
    due = np.linspace(-1, 1, 60)
    for method, name in ((None, "trust-krylov"), ("l-bfgs-b", "L-BFGS-B")):
        result = fit(cost, {x: due}, {W: np.zeros(60)}, method=method)
        assert result.success
        assert name in result.solver
        np.testing.assert_allclose(result.params[W], due, atol=1e-6)


def test_a_saddle_is_left() -> None:
    result = fit((a**2 - 4) ** 2 + b**2, params={a: 0, b: 1})
    assert result.success
    np.testing.assert_allclose(abs(result.params[a]), 2, rtol=1e-9)


def nist_nonlinear(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows `start 1, start 2, certified value, certified standard deviation`, and the rows `y, x` of a problem."""
    path = SHARED / "nist" / "nonlinear" / f"{name}.dat"
    if not path.exists():
        pytest.skip("../shared/data/nist is not there")
    lines = path.read_text().splitlines()
    entries = [re.match(r"\s*b\d+ = +(\S+) +(\S+) +(\S+) +(\S+)", line) for line in lines]
    first = next(at for at, line in enumerate(lines) if re.match(r"Data: +y", line)) + 1
    table = [[float(q) for q in line.split()] for line in lines[first:] if line.strip()]
    return np.array([[float(q) for q in m.groups()] for m in entries if m]), np.array(table)


B = sp.symbols("b1:7")
NONLINEAR = {
    "Misra1a": B[0] * (1 - sp.exp(-B[1] * x[i])),
    "MGH17": B[0] + B[1] * sp.exp(-x[i] * B[3]) + B[2] * sp.exp(-x[i] * B[4]),
    "Lanczos3": sum(B[m] * sp.exp(-B[m + 1] * x[i]) for m in (0, 2, 4)),
    "BoxBOD": B[0] * (1 - sp.exp(-B[1] * x[i])),
}


@pytest.mark.parametrize("start", [1, 2])
@pytest.mark.parametrize("name", NONLINEAR)
def test_nist_nonlinear_problems_reach_their_certified_values_from_both_starts(name: str, start: int) -> None:
    certified, table = nist_nonlinear(name)
    params = dict(zip(B, certified[:, start - 1], strict=False))
    result = fit(sp.Eq(y[i], NONLINEAR[name]), {x: table[:, 1], y: table[:, 0]}, params)
    assert result.success
    assert "Levenberg-Marquardt" in result.solver
    assert digits(result.estimates, certified[:, 2]) > 9
    assert digits(np.sqrt(np.diag(result.covariance)), certified[:, 3]) > 9


def test_giving_up_is_said_with_the_limit_and_without_praise() -> None:
    rosenbrock = (1 - a) ** 2 + 100 * (b - a**2) ** 2
    with pytest.warns(FitWarning, match=r"the limit of iterations is reached \(max_iterations=3\)"):
        result = fit(rosenbrock, params={a: -1.2, b: 1}, max_iterations=3)
    assert not result.success
    assert result.message.startswith("not converged after 3 iterations: the limit")
    assert "gradient norm" in result.message
    assert "success" not in result.message
    assert "start values" not in result.message


def test_a_fit_that_fails_from_the_default_start_says_what_to_give() -> None:
    cost = over((y[i] - a * sp.exp(-k * x[i]) - c) ** 2)
    with pytest.warns(FitWarning, match=r"no start values were given: give params=\{a: ..., c: ..., k"):
        fit(cost, {x: XS, y: XS**2}, max_iterations=3)


def test_large_data_are_evaluated_by_tensorflow_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = over((y[i] - a * sp.exp(-k * x[i]) - c) ** 2)
    data, params = {x: GRID, y: DECAY}, {a: 1, k: 1, c: 0}
    due = fit(cost, data, params)
    monkeypatch.setattr(objectives, "TENSORFLOW_FROM", 1)
    found = fit(cost, data, params)
    assert "TensorFlow" in found.solver
    np.testing.assert_allclose(found.estimates, due.estimates, rtol=1e-9)


def test_derivatives_on_small_data_are_optimised_only_where_they_are_called_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    optimised = []

    def counting(graph: Any) -> Any:
        optimised.append(len(graph))
        return optimize(graph)

    monkeypatch.setattr(objectives, "optimize", counting)
    cost = over(sp.log(1 + sp.exp(-y[i] * (w * x[i] + b))))
    data, params = {x: GRID, y: LABELS}, [w, b]
    due = fit(cost, data, params)
    assert optimised == []
    monkeypatch.setattr(objectives, "PATIENCE", 1)
    found = fit(cost, data, params)
    assert len(optimised) == 2
    np.testing.assert_allclose(found.estimates, due.estimates, rtol=1e-10)
    monkeypatch.setattr(objectives, "OPTIMIZED_FROM", 1)
    at_once = fit(cost, data, params)
    assert len(optimised) == 4
    np.testing.assert_allclose(at_once.estimates, due.estimates, rtol=1e-10)


# The class of a problem ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "kind", "degree"),
    [
        (over((y[i] - w * x[i] - b) ** 2), "linear least squares", 2),
        (over((y[i] - w * sp.exp(x[i]) - b / x[i]) ** 2), "linear least squares", 2),
        (over((y[i] - w * b * x[i]) ** 2), "nonlinear least squares", 4),
        (over((y[i] - sp.exp(w * x[i]) - b) ** 2), "nonlinear least squares", INFINITE),
        (over((y[i] - w * x[i] - b) ** 2) + w, "quadratic", 2),
        (over((y[i] - w * x[i] - b) ** 2) ** 2, "nonlinear least squares", 4),
        (sp.sqrt(over((y[i] - w * x[i] - b) ** 2)), "smooth", INFINITE),
        (over(sp.Abs(y[i] - w * x[i] - b)), "smooth", INFINITE),
        (over(sp.Piecewise(((y[i] - w * x[i] - b) ** 2, x[i] > 0), (0, True))), "quadratic", 2),
    ],
)
def test_the_class_is_read_off_the_graph(cost: Any, kind: str, degree: float) -> None:
    structure = classify(state(cost, {x: XS + 1, y: YS}, [w, b]))
    assert (structure.kind, structure.degree) == (kind, degree)


def test_degrees_of_nodes() -> None:
    graph = sym2tf.lower([a**3 * b + t, sp.exp(a), t**a, a / t, sp.Piecewise((a, a > 0), (0, True)), sp.pi])
    chosen = [u for u in graph.inputs if graph[u].attributes["name"] in "ab"]
    found = degrees(graph, chosen)
    assert [found[u] for u in graph.outputs.values()] == [4, INFINITE, INFINITE, 1, INFINITE, 0]


# Errors ----------------------------------------------------------------------------------------

XY = {x: XS, y: YS}
BAD = YS.copy()
BAD[3], BAD[5] = np.nan, np.inf


@pytest.mark.parametrize(
    ("cost", "data", "params", "error", "words"),
    [
        (LINE, XY, [w], ArgumentError, "symbol b,"),
        (LINE, {x: XS}, [w, b], ArgumentError, "symbol y,"),
        (LINE, XY | {z: XS}, [w, b], ArgumentError, "data has z.*does not contain.*b, w, x, y"),
        (LINE, XY, [w, b, c], ArgumentError, "params has c.*does not contain"),
        (LINE, XY | {sp.Symbol("w", real=True): 1}, [b], ArgumentError, "assumptions.*real.*that very object"),
        (LINE, XY | {w: 1.0}, [w, b], ArgumentError, "w is in data and in params"),
        (LINE, XY | {"x": XS}, [w, b], ArgumentError, "x twice"),
        (LINE, XY, {w: 0, "w": 1, b: 0}, ArgumentError, "w twice"),
        (LINE, XY, {w: 0, b: 0, n: 3}, ArgumentError, "n, which is a size"),
        (LINE, {x: XS, y: YS[:4]}, [w, b], DataError, "(y has length 4.*6.*x)|(x has length 6.*4.*y)"),
        (sp.Eq(v, w * t + b), {t: XS, v: YS[:4]}, None, DataError, "(t has 6.*v has 4)|(v has 4.*t has 6)"),
        (LINE, {x: XS, y: BAD}, [w, b], DataError, "y has 2 values that are not finite.*nan at 3"),
        (LINE, {x: [], y: []}, [w, b], DataError, "is empty"),
        (LINE, {x: np.ma.masked_array(XS, XS > 3), y: YS}, [w, b], DataError, "x has 2 masked values"),
        (over((y[i] - w * sp.log(x[i])) ** 2), XY, [w], FitError, r"log\(x\[i\]\) is infinite.*at i=0"),
        (over((y[i] - w) ** 2 / x[i]), XY, [w], DataError, "1 squared residual has a weight that is not finite"),
        ("w", {}, [w], ArgumentError, "is text"),
        (a**2 - b**2, {}, [a, b], FitError, "falls without end when one changes b"),
        (LINE, {x: ["a"] * 6, y: YS}, [w, b], DataError, "x holds text, not real numbers: the first is a at 0"),
        (LINE, {x: np.array([1, 2, "3 kg", 4, 5, None], object), y: YS}, [w, b], DataError, "first is 3 kg at 2"),
        (LINE, "points.csv", [w, b], DataError, "cannot read 'points.csv': No such file"),
        (LINE, Path("points.csv"), [w, b], DataError, "cannot read 'points.csv': No such file"),
        (LINE, {x: [[1], [1, 2]], y: YS}, [w, b], DataError, "x is not an array of numbers"),
        (LINE, {x: XS * 1j, y: YS}, [w, b], DataError, "x holds complex"),
        (LINE, {x: 3.0, y: YS}, [w, b], DataError, "x has 0 axes"),
        (LINE, {x: XS[:1], y: YS[:1]}, [w, b], DataError, r"2 parameters \(w, b\) but only 1 observation:"),
        (LINE, XY | {n: 7}, [w, b], DataError, "length 6.*7"),
        (LINE, XY | {n: 2.5}, [w, b], DataError, "n is a size"),
        (LINE, [XS, YS], [w, b], ArgumentError, "data is a list"),
        (LINE, XY, 3, ArgumentError, "params is an int"),
        (LINE, XY, "w b", ArgumentError, r"params is the text 'w b'; give a list: params=\['w', 'b'\]"),
        (LINE, {x: 1.0, y: YS}, [w, b], DataError, "x has 0 axes .*uses 1 subscript$"),
        (LINE, XY, {w: "much", b: 0}, ArgumentError, "start value of w is not a number"),
        (LINE, XY, {w: np.nan, b: 0}, ArgumentError, "start value of w is not finite"),
        (LINE, XY, {w: [1, 2], b: 0}, ArgumentError, "w is used with 0 subscripts"),
        (LINE, XY, {w: Parameter(bounds=(2, 1)), b: 0}, ArgumentError, "bounds of w cross"),
        (LINE, XY, {w: Parameter(5, bounds=(0, 1)), b: 0}, ArgumentError, "w starts at 5, outside"),
        (LINE, XY, {w: Parameter(bounds=3), b: 0}, ArgumentError, "lower, upper"),
        (LINE, XY, {w: Parameter(fixed=True), b: Parameter(fixed=True)}, ArgumentError, "every parameter is fixed"),
        (LINE, XY | {w: 1.0, b: 2.0}, None, ArgumentError, "no parameters"),
        ((y[i] - w * x[i]) ** 2, XY, [w], ArgumentError, "not scalar.*Sum"),
        ((v - w * t) ** 2, {t: XS, v: YS}, [w], ArgumentError, r"has shape \(6,\).*write .\[i\] under a Sum"),
        (sp.Eq(y[i], w * t), {y: YS, t: XS}, [w], ArgumentError, "t has shape .* no subscript"),
        ([LINE], XY, [w, b], ArgumentError, "one expression"),
        (a > 0, {}, [a], ArgumentError, "no cost"),
        (sp.Sum(W[j] ** 2, (j, 0, k - 1)), {}, [W], ArgumentError, "no data determine k"),
        (over(y[i] * w), XY | {}, [w], ArgumentError, "data has x"),
        (over(y[i] * w), {y: YS}, [w], FitError, "linear in w: it has no minimum"),
        (-LINE, XY, [w, b], FitError, "no minimum"),
        (over(sp.log(w * x[i])), {x: XS}, [w], FitError, "at the start values w=0"),
    ],
)  # fmt: skip
def test_every_wrong_statement_is_named(cost: Any, data: Any, params: Any, error: Any, words: str) -> None:
    with pytest.raises(error) as raised:
        fit(cost, data, params)
    assert re.search(words, str(raised.value), re.DOTALL), str(raised.value)


FEATURES = over((y[i] - sp.Sum(X[i, j] * W[j], (j, 0, k - 1))) ** 2)
TRANSPOSED = over((y[i] - sp.Sum(X[j, i] * W[j], (j, 0, k - 1))) ** 2)


@pytest.mark.parametrize(
    ("cost", "data", "words"),
    [
        (LINE, {x: XS}, "^y has no data, yet is subscripted by i like x, .* data has x"),
        (LINE, {y: YS}, "^x has no data, yet is subscripted by i like y, .* data has y"),
        (sp.Eq(v, w * t + b), {t: XS}, "^v is observed in the equation but has no data; data has t"),
        (sp.Eq(y[i], w * x[i] + b), {x: XS}, "^y is observed in the equation but has no data; data has x"),
        (sp.Eq(sp.log(y[i] * s[i]), w * x[i]), {x: XS}, "^(y, s|s, y) are observed in the equation but have no data"),
        (sp.Eq(y[i], w * x[i] + b), {y: YS}, "^x has no data"),
        (sp.Eq(y[i + 1], w * x[i]), {y: YS}, "^x has no data, yet is subscripted by i like y"),
        (FEATURES, {X: np.ones((6, 2))}, "^y has no data"),
        (FEATURES, {y: YS}, "^X has no data"),
        (TRANSPOSED, {X: np.ones((2, 6))}, "^y has no data"),
        (LINE, {}, "no data determine n: give data for x"),
    ],
)
def test_forgotten_data_are_never_taken_for_parameters(cost: Any, data: Any, words: str) -> None:
    with pytest.raises((DataError, ArgumentError)) as raised:
        fit(cost, data)
    assert re.search(words, str(raised.value)), str(raised.value)


@pytest.mark.parametrize(
    ("cost", "data", "names"),
    [
        (FEATURES + sp.Sum(s[j] * W[j] ** 2, (j, 0, k - 1)), {X: np.eye(6)[:, :2], y: YS, s: np.ones(2)}, "w[0] w[1]"),
        (over((y[i] - W[i]) ** 2) + sp.Sum((W[i + 1] - W[i]) ** 2, (i, 0, n - 2)), {y: YS[:2]}, "w[0] w[1]"),
        (over((y[i] - W[0] - W[1] * x[i]) ** 2), {x: XS, y: YS}, "w[0] w[1]"),
        (sp.Eq(z[i, j], W[j] * x[i]), {z: np.outer(XS, [1, 2]), x: XS}, "w[0] w[1]"),
    ],
)
def test_a_base_over_features_or_with_a_penalty_of_its_own_is_a_parameter(cost: Any, data: Any, names: str) -> None:
    assert " ".join(fit(cost, data).names) == names


def test_one_parameter_for_each_observation_has_to_be_listed() -> None:
    result = fit(over(sp.cosh(W[i] - x[i])), {x: XS}, [W])
    np.testing.assert_allclose(result.params[W], XS, atol=1e-8)


def test_an_implicit_parameter_that_is_not_determined_reminds_of_the_missing_data() -> None:
    with pytest.raises(SingularProblemError, match=r"params was left out, .* parameters: b, t, w; data has v"):
        fit(sp.Eq(v, w * t + b), {v: YS})
    with pytest.raises(DataError, match=r"3 parameters \(b, t, w\) but only 2 observations: .*data has v"):
        fit(sp.Eq(v, w * t + b), {v: YS[:2]})


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (over((y[i] - (a + b) * x[i]) ** 2), r"determine a - b: .*only a \+ b is determined"),
        (over((y[i] - a - b - c * x[i]) ** 2), r"determine a - b"),
        (over((y[i] - a * x[i] - b * 0.5 * x[i] - c) ** 2), r"determine a - 2\*b.*only a \+ 0.5\*b"),
        (over((y[i] - a - b - c) ** 2), r"determine a - c, b - c|determine .*,.*:"),
        (over((y[i] - a * x[i] - b * (x[i] - x[i])) ** 2) + 0 * b, r"does not contain"),
    ],
)
def test_a_singular_problem_names_what_is_not_determined(cost: Any, words: str) -> None:
    with pytest.raises((SingularProblemError, ArgumentError)) as raised:
        fit(cost, XY if cost.has(x) else {y: YS}, [a, b] if not cost.has(c) else [a, b, c])
    assert re.search(words, str(raised.value)), str(raised.value)


def test_a_column_of_zeros_is_named() -> None:
    with pytest.raises(SingularProblemError, match="w has no influence"):
        fit(LINE, {x: np.zeros(6), y: YS}, [w, b])


def test_a_flat_valley_of_a_nonlinear_cost_is_named() -> None:
    with pytest.raises(SingularProblemError, match=r"at a=.*do not determine a - "):
        fit(over((y[i] - a * b * x[i]) ** 2), XY, {a: 1, b: 1})


def test_a_flat_quadratic_is_named() -> None:
    with pytest.raises(SingularProblemError, match="determine a - b"):
        fit((a + b) * (a + b - 2), params=[a, b])


@pytest.mark.parametrize("model", [w * x[i] + b, sp.exp(w * x[i]) + b])
def test_a_sum_from_one_warns_once_at_the_line_of_the_user(model: Any) -> None:
    with pytest.warns(UnusedDataWarning, match=r"x\[0\] is never used|y\[0\] is never used") as raised:
        result = fit(sp.Sum((y[i] - model) ** 2, (i, 1, n)), {x: XS / 8, y: YS}, [w, b])
    texts = [str(found.message) for found in raised]
    assert len(texts) == len(set(texts))
    assert {found.filename for found in raised} == {__file__}
    assert result.observations == 5


def test_predict_refuses_what_it_cannot_use() -> None:
    result = fit(LINE, XY, [w, b])
    with pytest.raises(ArgumentError, match="lacks data for x"):
        result.predict({})
    with pytest.raises(ArgumentError, match="data has q"):
        result.predict({x: XS, "q": 1})
    with pytest.raises(ArgumentError, match="w is a parameter"):
        result.predict({x: XS, w: 1})
    with pytest.raises(DataError, match="x has 0 axes"):
        result.predict({x: 1.0})
    np.testing.assert_array_equal(result.predict(XY), result.predict())


def test_unknown_parameters_of_a_result_are_named() -> None:
    with pytest.raises(KeyError, match="q: the parameters are w, b"):
        fit(LINE, XY, [w, b]).params["q"]


# The result ------------------------------------------------------------------------------------


def test_the_result_reads_like_a_dict_and_tells_its_story() -> None:
    result = fit(LINE, XY, [w, b])
    assert list(result.params) == [w, b]
    assert dict(result.params)[w] == result.params["w"]
    assert result.covariance.shape == (2, 2)
    assert repr(result).startswith("<FitResult w=1.98")
    text = str(result)
    assert text == result.summary()
    for due in ("parameter", "std. error", "0.975]", "linear least squares", "R²", "QR", "solved in one step"):
        assert due in text
    table = text.split("=" * 20)[0].splitlines()
    assert max(map(len, text.splitlines())) <= 100
    assert table
    page = result._repr_html_()
    assert "<table>" in page
    assert "Sum(" in page


def cost_line(result: Any) -> str:
    facts = result.summary().split("=" * 20)[-1]
    found = re.search(r"^cost: +(.*?)\n\w", facts, re.DOTALL | re.MULTILINE)
    assert found is not None
    return " ".join(found[1].split())


def test_the_summary_says_what_was_minimised() -> None:
    result = fit(sp.Eq(y[i], w * x[i] + b), XY)
    assert cost_line(result) == f"{result.cost:.10g} = sum of squares of y[i] - (b + w*x[i])"
    assert cost_line(fit(sp.Eq(v, w * t), {t: XS, v: YS})).endswith(" = sum of squares of v - t*w")
    assert cost_line(fit(LINE, XY)).endswith(" = Sum((-b - w*x[i] + y[i])**2, (i, 0, n - 1))/n")


def test_a_long_cost_ends_in_dots() -> None:
    names = sp.symbols("a_rather_long_name_:6")
    model = sum(q * x[i] ** p for p, q in enumerate(names))
    text = cost_line(fit(sp.Eq(y[i], model), {x: np.arange(8.0), y: np.arange(8.0)}))
    assert re.fullmatch(
        r"\S+ = sum of squares of y\[i\] - \(.*a_rather_long_name_\d(\*x\[i\]\*?\*?\d?)? \.\.\.", text
    ), text


def test_intervals_are_those_of_student() -> None:
    result = fit(LINE, XY, [w, b])
    row = next(line.split() for line in result.summary().splitlines() if line.startswith("w "))
    half = 2.7764451051977987 * result.stderr[w]  # t(0.975, 4 degrees of freedom)
    np.testing.assert_allclose(
        [float(q) for q in row[5:]], [result.params[w] - half, result.params[w] + half], rtol=1e-5
    )


def test_html_escapes_what_the_user_wrote() -> None:
    evil = sp.Symbol("<script>")
    page = fit((evil - 1) ** 2 + (evil - 2) ** 2, params=[evil])._repr_html_()
    assert "<script>" not in page


def test_plots_show_the_line_or_fitted_against_observed(tmp_path: Path) -> None:
    line = fit(LINE, XY, [w, b]).plot(tmp_path / "line.png")
    assert (tmp_path / "line.png").stat().st_size > 5000
    (axes,) = line.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    np.testing.assert_allclose(axes.lines[0].get_xdata()[[0, -1]], [0, 8])
    both = fit(over((y[i] - w * x[i] - b * z[i]) ** 2), XY | {z: XS**2}, [w, b]).plot()
    assert both.axes[0].get_xlabel() == "y, observed"


LONG = sp.Symbol("a_very_long_name_of_a_parameter_that_fills_more_than_one_line_of_the_title_of_a_plot_" * 2)


@pytest.mark.parametrize("first", [a, LONG])
def test_the_title_of_a_plot_stays_inside(first: sp.Symbol) -> None:
    model = first * sp.exp(-k * x[i]) + c + b * x[i]
    result = fit(over((y[i] - model) ** 2), {x: GRID, y: 1e5 * DECAY}, {first: 1e5, k: 1, c: 0, b: 0})
    figure = result.plot()
    box = figure._suptitle.get_window_extent(figure.canvas.get_renderer())
    assert box.x0 > 0
    assert box.x1 < figure.bbox.width
    assert "R² = 0.99" in figure._suptitle.get_text()
    assert "± 4.9e+03" in figure._suptitle.get_text()
    figure.canvas.draw()
    assert figure.axes[0].get_window_extent().y1 < box.y0


def test_a_plot_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    result = fit(LINE, XY, [w, b])
    with pytest.raises(FitError, match=r"cannot write '.*no.fit\.png': No such file"):
        result.plot(tmp_path / "no" / "fit.png")
    with pytest.raises(ArgumentError, match=r"the suffix '\.xyz' of '.*' names no format.*\.pdf, .*\.png"):
        result.plot(str(tmp_path / "fit.xyz"))
    with pytest.raises(ArgumentError, match="'fit' names no format"):
        result.plot("fit")
    with pytest.raises(ArgumentError, match="takes the path of a file, not an int"):
        result.plot(3)
    assert list(tmp_path.iterdir()) == []


def test_the_statement_is_left_as_it_was() -> None:
    data, start = {x: XS.copy(), y: YS.copy()}, np.zeros(())
    fit(LINE, data, {w: start, b: 0})
    np.testing.assert_array_equal(data[x], XS)
    assert start == 0


def test_a_small_fit_imports_neither_tensorflow_nor_the_optimisers() -> None:
    program = (
        "import sympy as sp, sym2tf, sys\n"
        "x, y = sp.IndexedBase('x'), sp.IndexedBase('y'); i, n = sp.symbols('i n', integer=True)\n"
        "w, b = sp.symbols('w b')\n"
        "r = sym2tf.fit(sp.Sum((y[i]-w*x[i]-b)**2, (i, 0, n-1)), {x: [1, 2, 3], y: [1, 2, 4]}, [w, b])\n"
        "r.summary()\n"
        "print([m for m in ('tensorflow', 'scipy.optimize', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def _matrix_costs() -> list[Any]:
    n, k = sp.symbols("n k", integer=True, positive=True)
    X, w, y = sp.MatrixSymbol("X", n, k), sp.MatrixSymbol("w", k, 1), sp.MatrixSymbol("y", n, 1)
    r = X * w - y
    return [r.T * r, r.T * r / n, sp.Trace(r * r.T), sp.DotProduct(r, r), (r.T * r)[0, 0], sp.Eq(y, X * w)]


@pytest.mark.parametrize("cost", _matrix_costs(), ids=str)
def test_least_squares_in_matrices_is_least_squares(cost: Any) -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(50, 3))
    y = X @ [[1.0], [2.0], [-1.0]] + 0.1 * rng.normal(size=(50, 1))
    result = sym2tf.fit(cost, data={"X": X, "y": y}, params={"w": np.zeros((3, 1))})
    w, squares, *_ = np.linalg.lstsq(X, y, rcond=None)
    covariance = float(squares[0]) / 47 * np.linalg.inv(X.T @ X)
    np.testing.assert_allclose(next(iter(result.params.values())), w, rtol=1e-12)
    np.testing.assert_allclose(result.standard_errors, np.sqrt(np.diag(covariance)), rtol=1e-10)


def test_every_python_block_of_the_page_on_fitting_runs_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # it saves pictures and a fit
    page = (Path(__file__).parent.parent / "docs" / "fitting.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 10
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "fitting.md", "exec"), namespace)
