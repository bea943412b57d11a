"""Independent fits along leading batch axes: each is the fit that it would be alone, and failures are named."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import sym2tf
from sym2tf import Parameter, fit
from sym2tf.errors import ArgumentError, DataError, FitWarning, PersistenceError
from sym2tf.fit.result import FitResult

batched = sys.modules["sym2tf.fit.batched"]  # `sym2tf.fit` is the function

a, b, c, x, y = sp.symbols("a b c x y")
i, n = sp.symbols("i n", integer=True)
X, Y, W = (sp.IndexedBase(name) for name in "XYW")

DECAY = sp.Eq(y, a * sp.exp(-b * x) + c)
GRID = np.linspace(0.0, 4.0, 25)
RNG = np.random.default_rng(20261122)
TRUE = np.column_stack([RNG.uniform(1, 3, 12), RNG.uniform(0.5, 2, 12), RNG.uniform(-1, 1, 12)])
CURVES = TRUE[:, :1] * np.exp(-TRUE[:, 1:2] * GRID) + TRUE[:, 2:] + 0.01 * RNG.standard_normal((12, 25))
START = {a: 1.0, b: 1.0, c: 0.0}


def theta(result: Any) -> np.ndarray:
    return np.stack([result.params[name] for name in result.names], axis=-1)


@pytest.fixture(scope="module")
def decays() -> Any:
    return fit(DECAY, data={x: GRID, y: CURVES}, params=START)


def test_each_fit_of_a_batch_equals_the_single_fit(decays: Any) -> None:
    for k in range(12):
        alone = fit(DECAY, data={x: GRID, y: CURVES[k]}, params=START)
        one = decays[k]
        for p in (a, b, c):
            np.testing.assert_allclose(one.params[p], alone.params[p], rtol=1e-8)
            np.testing.assert_allclose(one.stderr[p], alone.stderr[p], rtol=1e-7)
        np.testing.assert_allclose(one.covariance, alone.covariance, rtol=1e-6)
        np.testing.assert_allclose(one.cost, alone.cost, rtol=1e-10)
        assert one.success


def test_batches_agree_with_curve_fit(decays: Any) -> None:
    for k in range(12):
        model = lambda t, p, q, r: p * np.exp(-q * t) + r
        due, covariance = scipy.optimize.curve_fit(model, GRID, CURVES[k], [1, 1, 0], xtol=1e-14, ftol=1e-14)
        np.testing.assert_allclose(theta(decays)[k], due, rtol=1e-6)
        np.testing.assert_allclose(decays.covariance[k], covariance, rtol=1e-4)


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_curves_does_not_matter(order: list[int]) -> None:
    straight = fit(DECAY, data={x: GRID, y: CURVES}, params=START)
    shuffled = fit(DECAY, data={x: GRID, y: CURVES[order]}, params=START)
    np.testing.assert_allclose(theta(shuffled), theta(straight)[order], rtol=1e-10)
    assert np.array_equal(shuffled.success, straight.success[order])


def test_first_steps_in_single_precision_change_no_digit_that_counts(decays: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(batched, "SINGLE_FROM", 1)
    result = fit(DECAY, data={x: GRID, y: CURVES}, params=START, device="CPU:0")
    np.testing.assert_allclose(theta(result), theta(decays), rtol=1e-8)


def test_chunks_change_nothing(decays: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(batched, "MEMORY", 8 * 25 * 7 * 5)  # five fits at once
    chunked = fit(DECAY, data={x: GRID, y: CURVES}, params=START, device="CPU:0")
    np.testing.assert_allclose(theta(chunked), theta(decays), rtol=1e-10)
    np.testing.assert_allclose(chunked.covariance, decays.covariance, rtol=1e-8)


def test_several_batch_axes_keep_their_shape(decays: Any) -> None:
    result = fit(DECAY, data={x: GRID, y: CURVES.reshape(3, 4, 25)}, params=START)
    assert result.batch == (3, 4)
    assert result.params[a].shape == (3, 4)
    assert result.covariance.shape == (3, 4, 3, 3)
    np.testing.assert_allclose(theta(result).reshape(12, 3), theta(decays), rtol=1e-10)
    np.testing.assert_allclose(result[2, 1].params[b], theta(decays)[9, 1], rtol=1e-10)
    with pytest.raises(IndexError, match="2 axes"):
        result[1]


def test_regressors_may_differ_from_fit_to_fit() -> None:
    grids = GRID * np.linspace(0.8, 1.2, 12)[:, None]
    result = fit(DECAY, data={x: grids, y: CURVES}, params=START)
    alone = fit(DECAY, data={x: grids[7], y: CURVES[7]}, params=START)
    np.testing.assert_allclose(result[7].params[b], alone.params[b], rtol=1e-8)


def test_starts_may_differ_from_fit_to_fit(decays: Any) -> None:
    near = fit(DECAY, data={x: GRID, y: CURVES}, params={a: TRUE[:, 0], b: TRUE[:, 1], c: 0.0})
    np.testing.assert_allclose(theta(near), theta(decays), rtol=1e-8)
    assert near.iterations.sum() < decays.iterations.sum()


def test_fixed_parameters_keep_their_value() -> None:
    result = fit(DECAY, data={x: GRID, y: CURVES}, params={**START, c: Parameter(0.25, fixed=True)})
    alone = fit(DECAY, data={x: GRID, y: CURVES[3]}, params={**START, c: Parameter(0.25, fixed=True)})
    assert result.names == ("a", "b")
    np.testing.assert_allclose(result.params[c], 0.25)
    np.testing.assert_allclose(result[3].params[a], alone.params[a], rtol=1e-8)


def test_bounds_hold_and_a_parameter_at_a_bound_has_no_standard_error() -> None:
    bounded = {**START, b: Parameter(0.9, bounds=(0.0, 1.0))}
    result = fit(DECAY, data={x: GRID, y: CURVES}, params=bounded)
    assert result.success.all()
    assert (result.params[b] <= 1.0).all()
    stopped = result.params[b] == 1.0
    assert 0 < stopped.sum() < 12
    assert np.array_equal(np.isnan(result.stderr[b]), stopped)
    for k in (int(np.argmax(stopped)), int(np.argmin(stopped))):
        alone = fit(DECAY, data={x: GRID, y: CURVES[k]}, params=bounded)
        np.testing.assert_allclose(result.cost[k], alone.cost, rtol=1e-8)


def test_linear_fits_take_one_step_and_agree_with_lstsq() -> None:
    observed = np.random.default_rng(11).standard_normal((2, 7, 25))
    result = fit(sp.Eq(y, a + b * x + c * x**2), data={x: GRID, y: observed}, params=[a, b, c])
    assert "QR" in result.solver
    assert (result.iterations == 1).all()
    design = np.column_stack([np.ones(25), GRID, GRID**2])
    due = np.linalg.lstsq(design, observed.reshape(14, 25).T, rcond=None)[0].T
    np.testing.assert_allclose(theta(result).reshape(14, 3), due, rtol=1e-9)
    r = observed[1, 3] - design @ due[10]
    spread = np.linalg.inv(design.T @ design) * (r @ r) / 22
    np.testing.assert_allclose(result.covariance[1, 3], spread, rtol=1e-9)


def test_a_linear_fit_without_a_solution_is_flagged_and_the_others_stand() -> None:
    grids = np.tile(GRID, (3, 1))
    grids[1] = 2.0  # a constant regressor beside an intercept
    with pytest.warns(FitWarning, match="1 of 3 fits failed .at 1.*do not determine"):
        result = fit(sp.Eq(y, a + b * x), data={x: grids, y: CURVES[:3]}, params=[a, b])
    assert result.success.tolist() == [True, False, True]
    assert result.failed.tolist() == [[1]]
    assert np.isnan([result.params[a][1], result.stderr[b][1]]).all()
    np.testing.assert_allclose([result.params[b][2], result.params[a][2]], np.polyfit(GRID, CURVES[2], 1), rtol=1e-10)


def test_fits_that_run_out_of_iterations_are_flagged_by_place_and_keep_what_they_have() -> None:
    curves = CURVES.copy()
    curves[5] = np.random.default_rng(11).standard_normal(25) * 100  # an outlier among the curves
    with pytest.warns(FitWarning, match=r"1 of 12 fits failed \(at 5\): not converged: the limit of iterations"):
        result = fit(DECAY, data={x: GRID, y: curves}, params=START, max_iterations=25)
    assert np.array_equal(np.flatnonzero(~result.success), [5])
    assert np.isfinite(theta(result)).all()
    assert np.isnan(result.stderr[a][5])
    assert "limit" in result[5].message
    assert result[4].message == "converged"


def test_a_cost_that_is_not_defined_at_the_start_is_flagged() -> None:
    shifted = sp.Eq(y, a * sp.log(x - b))
    starts = np.where(np.arange(4) == 2, 5.0, -1.0)  # x - b < 0 for one of them
    observed = 2 * np.log(GRID + 1.5) + 0.01 * np.random.default_rng(11).standard_normal((4, 25))
    with pytest.warns(FitWarning, match="at 2.*not finite at the start"):
        result = fit(shifted, data={x: GRID, y: observed}, params={a: 1.0, b: starts})
    assert result.success.tolist() == [True, True, False, True]
    np.testing.assert_allclose(result.params[b][2], 5.0)


def test_nan_in_one_curve_is_a_data_error() -> None:
    curves = CURVES.copy()
    curves[4, 7] = np.nan
    with pytest.raises(DataError, match=r"y has 1 value that is not finite.*4, 7"):
        fit(DECAY, data={x: GRID, y: curves}, params=START)


def test_batch_axes_that_do_not_agree_are_a_data_error() -> None:
    with pytest.raises(DataError):
        fit(DECAY, data={x: np.tile(GRID, (5, 1)), y: CURVES}, params=START)


def test_exact_data_are_fitted_exactly() -> None:
    exact = TRUE[:, :1] * np.exp(-TRUE[:, 1:2] * GRID) + TRUE[:, 2:]
    result = fit(DECAY, data={x: GRID, y: exact}, params=START)
    assert result.success.all()
    np.testing.assert_allclose(theta(result), TRUE, rtol=1e-10)


def test_numpy_and_tensorflow_agree_with_weights_by_fit_and_bounds() -> None:
    spread = np.where(np.arange(25) % 2, 0.01, 0.03) * np.linspace(1, 2, 12)[:, None]
    params = {**START, b: Parameter(0.9, bounds=(0.0, 1.0))}
    ours, theirs = (
        fit(DECAY, data={x: GRID, y: CURVES}, params=params, sigma=spread, device=device) for device in (None, "CPU:0")
    )
    assert "NumPy" in ours.solver
    assert "TensorFlow on CPU:0" in theirs.solver
    np.testing.assert_allclose(theta(ours), theta(theirs), rtol=1e-8)
    np.testing.assert_allclose(ours.covariance, theirs.covariance, rtol=1e-8)


MANY = np.random.default_rng(7).uniform((1, 0.5, -1), (3, 2, 1), (1500, 3))
MANY_GRIDS = GRID * np.linspace(0.9, 1.1, 1500)[:, None]
MANY_CURVES = MANY[:, :1] * np.exp(-MANY[:, 1:2] * MANY_GRIDS) + MANY[:, 2:]
MANY_CURVES = MANY_CURVES + 0.01 * np.random.default_rng(8).standard_normal(MANY_CURVES.shape)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_many_fits_in_threads_are_the_single_fits(weighted: bool, same: bool) -> None:
    grids = GRID if same else MANY_GRIDS
    sigma = np.linspace(1, 2, 25) * (1 if same else np.linspace(1, 3, 1500)[:, None]) if weighted else None
    result = fit(DECAY, data={x: grids, y: MANY_CURVES}, params=START, sigma=sigma)
    assert result.success.all()
    for k in (0, 749, 750, 1499):
        own = None if sigma is None else sigma if same else sigma[k]
        alone = fit(DECAY, data={x: grids if same else grids[k], y: MANY_CURVES[k]}, params=START, sigma=own)
        np.testing.assert_allclose([result[k].params[p] for p in (a, b, c)], alone.estimates, rtol=1e-8)
        np.testing.assert_allclose([result[k].stderr[p] for p in (a, b, c)], [alone.stderr[p] for p in (a, b, c)], 1e-7)


def test_formulas_that_couple_rows_are_computed_with_the_fits_in_front() -> None:
    model = a * sp.Sum(sp.exp(-b * X[i]), (i, 0, n - 1)) / n + c
    k = sp.Symbol("k", integer=True)
    cost = sp.Sum((Y[k] - (model + a * X[k])) ** 2, (k, 0, n - 1))
    observed = np.linspace(0, 2, 70)[:, None] * GRID + 1 + 0.01 * np.random.default_rng(3).standard_normal((70, 25))
    result = fit(cost, data={X: GRID, Y: observed}, params={a: 1.0, c: 0.0, b: Parameter(1.0, fixed=True)})
    alone = fit(cost, data={X: GRID, Y: observed[33]}, params={a: 1.0, c: 0.0, b: Parameter(1.0, fixed=True)})
    np.testing.assert_allclose(result[33].params[a], alone.params[a], rtol=1e-8)
    swing = sp.Sum((Y[k] - sp.sin(b * X[k]) * sp.Sum(sp.exp(-b * X[i]), (i, 0, n - 1))) ** 2, (k, 0, n - 1))
    seen = np.sin(0.8 * GRID) * np.exp(-0.8 * GRID).sum() + 0.01 * np.random.default_rng(3).standard_normal((70, 25))
    many, one = (fit(swing, data={X: GRID, Y: curve}, params={b: 0.7}) for curve in (seen, seen[33]))
    np.testing.assert_allclose(many[33].params[b], one.params[b], rtol=1e-8)
    np.testing.assert_allclose(many[33].stderr[b], one.stderr[b], rtol=1e-7)


def test_a_fit_whose_minimum_is_at_infinity_ends_early_and_says_so() -> None:
    curves = CURVES.copy()
    curves[3] = GRID + 0.05 * np.cos(
        5 * GRID
    )  # a*(1 - exp(-b*x)) comes the nearer to it the smaller b and the larger a is
    curves[2] = 1 - np.exp(-GRID) + 0.01 * np.cos(7 * GRID)
    saturated = sp.Eq(y, a * (1 - sp.exp(-b * x)))
    with pytest.warns(FitWarning, match="at infinity"):
        result = fit(saturated, data={x: GRID, y: curves[2:4]}, params={a: 1.0, b: 1.0})
    assert result.success.tolist() == [True, False]
    assert result.iterations[1] < 500


def test_ill_conditioned_fits_have_the_errors_of_single_fits() -> None:
    shifted = sp.Eq(y, a * sp.exp(-b * x) + c)
    grids = GRID / 100  # nearly a straight line: a, b and c are hard to tell apart
    observed = 2 * np.exp(-grids) + 1 + 1e-7 * np.random.default_rng(11).standard_normal((4, 25))
    result = fit(shifted, data={x: grids, y: observed}, params={a: 1.9, b: 1.1, c: 1.1})
    assert result.success.all()
    for k in range(4):
        alone = fit(shifted, data={x: grids, y: observed[k]}, params={a: 1.9, b: 1.1, c: 1.1})
        np.testing.assert_allclose(result[k].stderr[b], alone.stderr[b], rtol=1e-6)


@pytest.mark.parametrize(
    "option",
    [
        {"method": "slsqp"},
        {"multistart": 3},
        {"batch_size": 8},
        {"epochs": 3},
        {"callbacks": [print]},
        {"progress": True},
        {"dtype": "float32"},
        {"patience": 3},
    ],
)
def test_options_of_a_single_fit_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="single fit"):
        fit(DECAY, data={x: GRID, y: CURVES}, params=START, **option)


def test_what_is_no_sum_of_squares_is_refused() -> None:
    cost = sp.Sum(sp.exp(a * X[i]) - a * Y[i], (i, 0, n - 1))
    with pytest.raises(ArgumentError, match="sums of squares"):
        fit(cost, data={X: GRID, Y: np.abs(CURVES)}, params={a: 0.1})


def test_a_sum_of_squares_in_index_notation_has_batches_too() -> None:
    cost = sp.Sum((Y[i] - a * sp.exp(-b * X[i]) - c) ** 2, (i, 0, n - 1))
    result = fit(cost, data={X: GRID, Y: CURVES}, params=START)
    alone = fit(cost, data={X: GRID, Y: CURVES[6]}, params=START)
    np.testing.assert_allclose(result[6].params[b], alone.params[b], rtol=1e-8)
    np.testing.assert_allclose(result[6].stderr[b], alone.stderr[b], rtol=1e-7)


def test_vector_parameters_have_their_axes_behind_those_of_the_batch() -> None:
    j, k = sp.symbols("j k", integer=True)
    D, w = sp.IndexedBase("D"), sp.IndexedBase("w")
    design = np.random.default_rng(11).standard_normal((30, 3))
    observed = np.tanh(np.einsum("nk,bk->bn", design, np.random.default_rng(11).standard_normal((4, 3)))) + 0.01
    cost = sp.Sum((Y[i] - sp.tanh(sp.Sum(D[i, j] * w[j], (j, 0, k - 1)))) ** 2, (i, 0, n - 1))
    result = fit(cost, data={D: design, Y: observed}, params={w: np.zeros(3)})
    alone = fit(cost, data={D: design, Y: observed[2]}, params={w: np.zeros(3)})
    assert result.params[w].shape == (4, 3)
    np.testing.assert_allclose(result[2].params[w], alone.params[w], rtol=1e-8)
    np.testing.assert_allclose(result[2].params["w[1]"], alone.params["w[1]"], rtol=1e-8)


def test_weights_by_fit_count(decays: Any) -> None:
    spread = np.where(np.arange(25) % 2, 0.01, 0.03) * np.ones((12, 1))
    result = fit(DECAY, data={x: GRID, y: CURVES}, params=START, sigma=spread)
    alone = fit(DECAY, data={x: GRID, y: CURVES[8]}, params=START, sigma=spread[8])
    np.testing.assert_allclose(result[8].params[a], alone.params[a], rtol=1e-8)
    np.testing.assert_allclose(result[8].stderr[a], alone.stderr[a], rtol=1e-6)
    assert not np.allclose(theta(result), theta(decays), rtol=1e-6)


def test_predictions_frames_and_summaries(decays: Any) -> None:
    fitted = decays.predict()
    assert fitted.shape == (12, 25)
    np.testing.assert_allclose(np.square(CURVES - fitted).sum(1), decays.cost, rtol=1e-10)
    p, q, r = theta(decays).T
    np.testing.assert_allclose(decays.predict({x: [0.0, 9.0]})[:, 1], p * np.exp(-9 * q) + r, rtol=1e-12)
    frame = decays.to_frame()
    assert list(frame.columns[:2]) == ["a", "a_stderr"]
    np.testing.assert_allclose(frame["b"], q)
    assert frame["success"].all()
    text = decays.summary()
    assert "12 independent fits" in text
    assert "all converged" in text
    with pytest.raises(ArgumentError, match="x"):
        decays.predict({})


def test_few_observations_are_a_data_error() -> None:
    with pytest.raises(DataError, match="3 parameters"):
        fit(DECAY, data={x: GRID[:2], y: CURVES[:, :2]}, params=START)


def test_intervals_correlations_and_t_values_are_those_of_single_fits(decays: Any) -> None:
    alone = fit(DECAY, data={x: GRID, y: CURVES[4]}, params=START)
    low, high = decays.conf_int(0.9)
    due = alone.conf_int(0.9)
    for k, p in enumerate((a, b, c)):
        np.testing.assert_allclose([low[p][4], high[p][4]], np.asarray(due[p]).ravel(), rtol=1e-7)
        np.testing.assert_allclose(decays.t_values[p][4], alone.t_values[p], rtol=1e-7)
        np.testing.assert_allclose(decays.correlation[4, k], alone.correlation[k], rtol=1e-6)
    with pytest.raises(ArgumentError, match="level"):
        decays.conf_int(95)


def test_places_and_iteration(decays: Any) -> None:
    assert decays[-1].params[a] == decays[11].params[a]
    assert [one.params[b] for one in decays] == decays.params[b].tolist()
    with pytest.raises(IndexError):
        decays[12]
    two = fit(DECAY, data={x: GRID, y: CURVES.reshape(3, 4, 25)}, params=START)
    assert [one.params[b] for one in two] == two.params[b].ravel().tolist()
    assert two[-1, -2].cost == two.cost[2, 2]


@pytest.mark.parametrize("data", [True, False])
def test_batches_are_saved_and_loaded(decays: Any, tmp_path: Any, data: bool) -> None:
    decays.save(tmp_path / "decays.fit", data=data)
    for found in (sym2tf.load_fit(tmp_path / "decays.fit"), type(decays).load(tmp_path / "decays.fit")):
        assert np.array_equal(theta(found), theta(decays))
        assert np.array_equal(found.covariance, decays.covariance)
        assert np.array_equal(found.residual_std, decays.residual_std)
        assert found.conf_int()[0][b].tolist() == decays.conf_int()[0][b].tolist()
        assert found.summary() == decays.summary()
        assert np.array_equal(found.predict({x: [0.0, 1.0]}), decays.predict({x: [0.0, 1.0]}))
        assert found[3].message == "converged"
    with pytest.raises(PersistenceError, match="FitResult"):
        FitResult.load(tmp_path / "decays.fit")
