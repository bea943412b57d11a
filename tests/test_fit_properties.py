"""What must hold of every fit: how it follows its data, that one statement in many forms is one problem, and that
random statements agree with SciPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.api as sm
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sym2tf import Parameter, fit, losses
from sym2tf.errors import ArgumentError

x, y, z, u, v, g = (sp.IndexedBase(name) for name in "xyzuvg")
X, Y, Z = sp.symbols("X Y Z")
i, j, n, m, k = sp.symbols("i j n m k", integer=True, positive=True)
a, b, c, s, penalty = sp.symbols("a b c s penalty")
RNG = np.random.default_rng(20261122)
XS = RNG.uniform(0, 2, 30)
YS = 2 * np.exp(-1.3 * XS) + 0.5 + 0.03 * RNG.normal(size=30)
CURVE, START = a * sp.exp(-b * X) + c, {a: 1, b: 1, c: 0}
DUE = fit(sp.Eq(Y, CURVE), {X: XS, Y: YS}, START)
LINE = y[i] - a - b * x[i]
NAMES = (a, b, c)

seeds = st.integers(0, 2**32 - 1)
units = st.floats(-4, 4).map(lambda e: 10.0**e)


def total(term: Any) -> Any:
    return sp.Sum(term, (i, 0, n - 1))


def in_batches(data: Mapping[Any, Any]) -> Iterator[dict[Any, Any]]:
    """Seven rows at a time; numbers stand in every batch."""
    for row in range(0, 30, 7):
        yield {q: array[row : row + 7] if np.ndim(array) else array for q, array in data.items()}


def numbers(result: Any, names: Any = NAMES) -> tuple[np.ndarray, np.ndarray]:
    return np.array([result.params[q] for q in names]), np.array([result.stderr[q] for q in names])


def require_same(result: Any, due: Any = DUE, *, digits: float = 1e-7, names: Any = NAMES) -> None:
    """Estimates to a ten-millionth of a standard error, and the same standard errors."""
    (found, errors), (expected, spread) = numbers(result, names), numbers(due, names)
    assert np.abs((found - expected) / np.where(spread > 0, spread, 1)).max() < digits
    np.testing.assert_allclose(errors, spread, rtol=1e-6)


# How a fit follows its data -------------------------------------------------------------------------


@given(units, units)
@settings(max_examples=12)
def test_units_of_a_curve_carry_over_to_estimates_errors_and_ratios(p: float, q: float) -> None:
    found = fit(sp.Eq(Y, CURVE), {X: p * XS, Y: q * YS}, {a: q, b: 1 / p, c: 0})
    theta, errors = numbers(found)
    factors = np.array([q, 1 / p, q])
    due, spread = numbers(DUE)
    np.testing.assert_allclose(theta, due * factors, rtol=1e-8)
    np.testing.assert_allclose(errors, spread * factors, rtol=1e-6)
    np.testing.assert_allclose([found.t_values[q] for q in NAMES], [DUE.t_values[q] for q in NAMES], rtol=1e-6)
    np.testing.assert_allclose(found.r_squared or 0, DUE.r_squared or 0, rtol=1e-9)
    np.testing.assert_allclose(found.log_likelihood, DUE.log_likelihood - 30 * np.log(q), rtol=1e-9, atol=1e-6)


@given(st.floats(-3, 3), st.floats(-1, 1))
@settings(max_examples=12)
def test_a_shift_of_what_is_observed_moves_the_constant_and_one_of_the_regressor_the_amplitude(
    up: float, right: float
) -> None:
    found = fit(sp.Eq(Y, CURVE), {X: XS + right, Y: YS + up}, START)
    np.testing.assert_allclose(found.params[b], DUE.params[b], rtol=1e-8)
    np.testing.assert_allclose(found.params[c], DUE.params[c] + up, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.params[a], DUE.params[a] * np.exp(DUE.params[b] * right), rtol=1e-7)
    np.testing.assert_allclose([found.stderr[b], found.cost], [DUE.stderr[b], DUE.cost], rtol=1e-6)


@given(st.permutations(range(30)), st.permutations(NAMES))
@settings(max_examples=10)
def test_the_order_of_rows_and_parameters_does_not_matter(rows: list[int], names: list[Any]) -> None:
    require_same(fit(sp.Eq(Y, CURVE), {X: XS[rows], Y: YS[rows]}, {q: START[q] for q in names}))


@given(st.lists(st.integers(0, 3), min_size=30, max_size=30).filter(lambda w: sum(map(bool, w)) > 6))
@settings(max_examples=10)
def test_weights_are_repetitions_but_for_the_degrees_of_freedom(weights: list[int]) -> None:
    often = np.repeat(np.arange(30), weights)
    twice = fit(sp.Eq(Y, CURVE), {X: XS[often], Y: YS[often]}, DUE.params)
    once = fit(sp.Eq(Y, CURVE), {X: XS, Y: YS}, DUE.params, weights=np.array(weights, float))
    (theta, errors), (due, spread) = numbers(once), numbers(twice)
    used = sum(map(bool, weights))
    assert (once.degrees_of_freedom, twice.degrees_of_freedom) == (used - 3, len(often) - 3)
    assert np.abs((theta - due) / spread).max() < 1e-6
    np.testing.assert_allclose(errors, spread * np.sqrt((len(often) - 3) / (used - 3)), rtol=1e-6)
    np.testing.assert_allclose(once.cost, twice.cost, rtol=1e-9)


# One problem in many forms --------------------------------------------------------------------------

CURVE_AT = a * sp.exp(-b * x[i]) + c
HERE = {x: XS, y: YS}


@pytest.mark.parametrize(
    ("cost", "data"),
    [
        (total((y[i] - CURVE_AT) ** 2), HERE),
        (total((CURVE_AT - y[i]) ** 2) / n, HERE),
        (total(((CURVE_AT - y[i]) / 3) ** 2) / 2, HERE),
        (sp.Eq(y[i], CURVE_AT), HERE),
        (sp.Eq(y[i] - CURVE_AT, 0), HERE),
        (sp.Eq(7 * Y, 7 * CURVE), {X: XS, Y: YS}),
        (
            {y[i]: CURVE_AT, v[j]: a * sp.exp(-b * u[j]) + c},
            {x: XS[:11], y: YS[:11], u: XS[11:], v: YS[11:]},
        ),
        (
            {v[j]: a * sp.exp(-b * u[j]) + c, y[i]: CURVE_AT},
            {x: XS[:11], y: YS[:11], u: XS[11:], v: YS[11:]},
        ),
        (total(LINE**0 * (y[i] - CURVE_AT) ** 2) + penalty * a**2, {**HERE, penalty: 0}),
    ],
    ids=["cost", "mean", "scaled", "indices", "difference", "sevenfold", "split", "split the other way", "penalty 0"],
)
def test_one_curve_stated_in_many_ways_is_one_fit(cost: Any, data: Any) -> None:
    found = fit(cost, data, START)
    require_same(found)
    assert found.degrees_of_freedom == DUE.degrees_of_freedom
    told = not isinstance(cost, dict) and not (isinstance(cost, sp.Eq) and cost.lhs.has(a))  # what is observed
    assert found.r_squared == (pytest.approx(DUE.r_squared) if told else None)


@pytest.mark.parametrize("method", ["lm", "trf", "varpro", "trust-exact", "trust-krylov", "l-bfgs-b", "slsqp"])
def test_every_solver_gives_the_same_answer(method: str) -> None:
    constraints = [a <= 10] if method == "slsqp" else []
    require_same(fit(sp.Eq(Y, CURVE), {X: XS, Y: YS}, START, method=method, constraints=constraints))


@pytest.mark.parametrize("form", ["exact", "newton", "lm", "matrix", "trace", "stream", "stream of a mean", "mapped"])
def test_every_road_to_a_line_ends_there(form: str, tmp_path: Path) -> None:
    due = fit(sp.Eq(Y, a + b * X), {X: XS, Y: YS}, [a, b])
    design, w, t = sp.MatrixSymbol("D", n, k), sp.MatrixSymbol("w", k, 1), sp.MatrixSymbol("t", n, 1)
    matrices = {design: np.column_stack([np.ones(30), XS]), t: YS[:, None]}
    square = (t - design * w).T * (t - design * w)
    if form in ("matrix", "trace"):
        found = fit(square if form == "matrix" else sp.Trace(square), matrices, [w])
    elif form == "stream":
        found = fit(sp.Eq(Y, a + b * X), in_batches({X: XS, Y: YS}), [a, b])
    elif form == "stream of a mean":
        found = fit(total(LINE**2) / n, in_batches(HERE), [a, b])
    elif form == "mapped":
        np.save(tmp_path / "x.npy", XS)
        found = fit(sp.Eq(Y, a + b * X), {X: str(tmp_path / "x.npy"), Y: YS}, [a, b])
    else:
        found = fit(sp.Eq(Y, a + b * X), {X: XS, Y: YS}, [a, b], method=form)
    assert np.abs((found.estimates - due.estimates) / due.standard_errors).max() < 1e-10
    np.testing.assert_allclose(found.standard_errors, due.standard_errors, rtol=1e-12)
    np.testing.assert_allclose([found.r_squared, found.aic], [due.r_squared, due.aic], rtol=1e-11)


@pytest.mark.parametrize("tie", [2 * s, sp.exp(s), s**3])
def test_another_name_for_a_parameter_is_another_way_to_the_same_minimum(tie: Any) -> None:
    found = fit(sp.Eq(Y, CURVE), {X: XS, Y: YS}, {a: tie, s: 0.5, b: 1, c: 0})
    require_same(found, digits=1e-6)
    slope = float(sp.diff(tie, s).subs(s, found.params[s]))
    np.testing.assert_allclose(found.stderr[s], DUE.stderr[a] / slope, rtol=1e-6)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("model", [CURVE, a + b * X + c * X**2])
def test_bounds_that_coincide_fix_a_parameter(model: Any, batch: bool) -> None:
    data = {X: XS, Y: np.stack([YS, 2 * YS]) if batch else YS}
    found, due = (
        fit(sp.Eq(Y, model), data, {a: 1, b: 1, c: held})
        for held in (Parameter(0.5, bounds=(0.5, 0.5)), Parameter(0.5, fixed=True))
    )
    for q in (a, b):
        np.testing.assert_array_equal(found.params[q], due.params[q])
        np.testing.assert_array_equal(found.stderr[q], due.stderr[q])
    np.testing.assert_array_equal(found.params[c], due.params[c])
    if not batch:
        assert (found.degrees_of_freedom, found.aic) == (due.degrees_of_freedom, due.aic)


def test_bounds_that_coincide_for_some_elements_are_refused() -> None:
    w = sp.IndexedBase("w")
    held = Parameter([0.0, 1.0], bounds=([-1.0, 1.0], [1.0, 1.0]))
    with pytest.raises(ArgumentError, match="one value for 1 of its 2 elements"):
        fit(sp.Eq(y[i], w[0] + w[1] * x[i]), HERE, {w: held})


def test_least_squares_as_a_likelihood_has_the_errors_of_a_known_sigma() -> None:
    design = total(LINE**2) / (2 * 0.03**2)
    found = fit(design, HERE, [a, b], likelihood=True)
    due = fit(sp.Eq(Y, a + b * X), {X: XS, Y: YS}, [a, b], sigma=0.03, absolute_sigma=True)
    np.testing.assert_allclose(found.standard_errors, due.standard_errors, rtol=1e-12)
    np.testing.assert_allclose(found.conf_int(), due.conf_int(), rtol=1e-10)


# What is no sum of squares of observations ----------------------------------------------------------


@pytest.mark.parametrize(
    "cost",
    [
        total(LINE**2) + a**2,
        total(LINE**2) + 2 * a**2,
        total(LINE**2) + (a - 1) ** 2 + (b - 1) ** 2,
        total(LINE**2) + total(LINE) ** 2,
        total(LINE**2) + 2 * total((z[i] - a) ** 2),
        total((y[i] - a * x[i]) ** 2 * (x[i] - b) ** 2),
        total((LINE / sp.sqrt(1 + b**2)) ** 2),
        total(LINE**4),
        sp.sqrt(total(LINE**2)),
        sp.log(total(LINE**2)),
        total(LINE**2) - a**2,
        total(sp.Piecewise((LINE**2, LINE < 0), (3 * LINE**2, True))),
        sp.expand(total(sp.expand(LINE**2))),
    ],
)
def test_what_is_no_sum_of_squares_of_observations_claims_no_standard_errors(cost: Any) -> None:
    data = {q: array for q, array in ((x, XS), (y, YS), (z, YS[::-1])) if cost.has(q)}
    found = fit(cost, data, {a: 1, b: 0.5})
    numeric = sp.lambdify((*data, n, a, b), cost)
    np.testing.assert_allclose(found.cost, numeric(*data.values(), 30, *found.estimates), rtol=1e-9)
    assert found.success
    assert found.standard_errors is None
    assert found.stderr_reason


@pytest.mark.parametrize("weight", [0, 1, 2])
def test_a_penalty_is_one_for_tables_streams_and_batches_of_fits(weight: int) -> None:
    cost, data = total(LINE**2) + penalty * a**2, {**HERE, penalty: weight}
    table = fit(cost, data, [a, b])
    stream = fit(cost, in_batches(data), [a, b])
    many = fit(cost, {**data, y: np.stack([YS, 2 * YS])}, [a, b])
    np.testing.assert_allclose(stream.estimates, table.estimates, rtol=1e-12)
    np.testing.assert_allclose([many.params[a][0], many.params[b][0]], table.estimates, rtol=1e-12)
    if weight:
        assert table.standard_errors is stream.standard_errors is table.aic is stream.aic is None
        assert np.isnan(many.covariance).all()
        assert table.stderr_reason == stream.stderr_reason == many.stderr_reason != ""
        return
    due = fit(sp.Eq(Y, a + b * X), {X: XS, Y: YS}, [a, b])
    for found in (table, stream):
        np.testing.assert_allclose(found.standard_errors, due.standard_errors, rtol=1e-12)
        assert (found.observations, found.degrees_of_freedom) == (30, 28)
    np.testing.assert_allclose([many[0].stderr[a], many[0].stderr[b]], due.standard_errors, rtol=1e-12)


def test_sums_of_unlike_weight_are_judged_alike_in_tables_and_streams() -> None:
    for weight in (1, 3):
        cost = total(LINE**2) + weight * total((z[i] - a) ** 2)
        whole = {x: XS, y: YS, z: YS[::-1]}
        table = fit(cost, whole, [a, b])
        stream = fit(cost, in_batches(whole), [a, b])
        np.testing.assert_allclose(stream.estimates, table.estimates, rtol=1e-12)
        assert (table.standard_errors is None) == (stream.standard_errors is None) == (weight == 3)


def test_the_mean_of_squares_has_the_residual_spread_of_their_sum_in_batches_too() -> None:
    data = {x: XS, y: np.stack([YS, 2 * YS])}
    of_sum, of_mean = (fit(cost, data, [a, b]) for cost in (total(LINE**2), total(LINE**2) / n))
    np.testing.assert_allclose(of_mean.residual_std, of_sum.residual_std, rtol=1e-12)
    np.testing.assert_allclose(of_mean.covariance, of_sum.covariance, rtol=1e-10)


# Subscripts and prefixes ----------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=8)
def test_groups_lags_and_prefixes_are_least_squares_on_the_design_they_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(3), rng.integers(0, 3, 27)])
    level = sp.IndexedBase("level")
    found = fit(sp.Eq(y[i], level[g[i]] + b * x[i]), {**HERE, g: group}, {level: np.zeros(3), b: 0})
    due = sm.OLS(YS, np.column_stack([np.eye(3)[group], XS])).fit()
    np.testing.assert_allclose(found.estimates, due.params, rtol=1e-10)
    np.testing.assert_allclose(found.standard_errors, due.bse, rtol=1e-9)
    lagged = fit(sp.Sum((y[i] - a - b * y[i - 1]) ** 2, (i, 1, n - 1)), {y: YS}, [a, b])
    due = sm.OLS(YS[1:], sm.add_constant(YS[:-1])).fit()
    np.testing.assert_allclose(lagged.standard_errors, due.bse, rtol=1e-9)
    count = int(rng.integers(4, 30))
    prefix = fit(total(LINE**2), {**HERE, n: count}, [a, b])
    due = sm.OLS(YS[:count], sm.add_constant(XS[:count])).fit()
    np.testing.assert_allclose(prefix.estimates, due.params, rtol=1e-9)
    np.testing.assert_allclose(prefix.standard_errors, due.bse, rtol=1e-9)


# Random statements against SciPy --------------------------------------------------------------------

MODELS = [
    (a + b * X + c * X**2, (1.0, -2.0, 0.5), (0, 0, 0)),
    (a * sp.sin(X) + b * sp.cos(X) + c * Z, (1.0, 2.0, -1.0), (0, 0, 0)),
    (a * sp.exp(-b * X) + c, (2.0, 1.0, 0.5), (1, 0.7, 0)),
    (a / (1 + sp.exp(-b * (X - c))), (3.0, 2.0, 1.0), (2.5, 1.5, 1.2)),
    (a * sp.sin(b * X + c), (2.0, 1.5, 0.3), (1.5, 1.4, 0.2)),
    (sp.log(a + b * X + sp.exp(c * Z)), (3.0, 2.0, 0.4), (2, 1, 0.1)),
    (sp.sqrt(a**2 + b * X) + c * Z, (1.5, 2.0, 0.4), (1, 1, 0.1)),
    (a**X + b * Z + c, (1.7, 1.0, 0.5), (1.5, 0, 0)),
    (a * sp.tanh(b * X) + c * sp.atan(Z), (2.0, 0.9, 1.0), (1, 0.5, 0)),
]
FUNCTIONS = [
    (sp.lambdify((X, Z, *NAMES), e), [sp.lambdify((X, Z, *NAMES), sp.diff(e, q)) for q in NAMES]) for e, _, _ in MODELS
]


@given(seeds)
@settings(max_examples=60)
def test_random_statements_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    which, rows = int(rng.integers(len(MODELS))), int(rng.integers(12, 50))
    (model, truth, start), (value, slopes) = MODELS[which], FUNCTIONS[which]
    xs, zs, noise = rng.uniform(0.2, 3, rows), rng.normal(size=rows), 10 ** rng.uniform(-2.5, -1)
    spread = noise * rng.uniform(0.5, 2, rows)
    observed = value(xs, zs, *truth) + spread * rng.normal(size=rows)
    absolute, loss = bool(rng.integers(2)), rng.choice(["linear", "linear", "huber", "soft_l1"])
    low, high = np.full(3, -np.inf), np.full(3, np.inf)
    bounded = int(rng.integers(6))
    if bounded < 3:  # beside the truth, so that it is often active
        low[bounded], high[bounded] = truth[bounded] + 0.1, truth[bounded] + 9
    begin = np.clip(start, low, high)
    params = {q: Parameter(t, bounds=(lo, hi)) for q, t, lo, hi in zip(NAMES, begin, low, high, strict=True)}
    data = {X: xs, Y: observed, **({Z: zs} if model.has(Z) else {})}
    chosen = {} if loss == "linear" else {"loss": losses.LOSSES[str(loss)](1.5)}
    found = fit(sp.Eq(Y, model), data, params, sigma=spread, absolute_sigma=absolute, **chosen)

    def residual(theta: np.ndarray) -> np.ndarray:
        return (value(xs, zs, *theta) - observed) / spread

    def jacobian(theta: np.ndarray) -> np.ndarray:
        return np.column_stack([np.broadcast_to(f(xs, zs, *theta), rows) / spread for f in slopes])

    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "x_scale": "jac", "max_nfev": 2000}
    with np.errstate(all="ignore"):
        due = min(
            (
                scipy.optimize.least_squares(
                    residual, np.clip(p, low, high), jacobian, (low, high), loss=loss, f_scale=1.5, **tight
                )
                for p in (begin, truth)
            ),
            key=lambda run: run.cost,
        )
    J = jacobian(found.estimates)
    errors = np.sqrt(np.diag(np.linalg.inv(J.T @ J)))
    assert found.success
    assert ((found.estimates >= low) & (found.estimates <= high)).all()
    assert found.cost <= 2 * due.cost * (1 + 1e-9)
    assert found.cost < 2 * due.cost * (1 - 1e-9) or np.abs((found.estimates - due.x) / errors).max() < 1e-4
    if loss == "linear" and not found.at_bounds:
        scale = 1.0 if absolute else np.sqrt(np.square(residual(found.estimates)).sum() / (rows - 3))
        np.testing.assert_allclose(found.standard_errors, scale * errors, rtol=1e-6)
    else:
        assert loss != "linear" or found.standard_errors is None


# Inference ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "truth"), [(a + b * X, (1.0, 2.0)), (a * sp.exp(-b * X), (2.0, 0.7))])
def test_wald_intervals_cover_the_truth_as_often_as_they_say(model: Any, truth: tuple[float, float]) -> None:
    xs, runs = np.linspace(0, 2, 12), 1000
    curve = np.array(sp.lambdify((X, a, b), model)(xs, *truth))
    noise = np.random.default_rng(5).normal(size=(runs, 12))
    found = fit(sp.Eq(Y, model), {X: xs, Y: curve + 0.1 * noise}, {a: 1, b: 1})
    quantile = scipy.stats.t.ppf(0.975, 10)
    for q, value in zip((a, b), truth, strict=True):
        covered = np.mean(np.abs(found.params[q] - value) <= quantile * found.stderr[q])
        assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)


def test_observations_of_weight_0_are_not_resampled_and_do_not_lengthen_profiles() -> None:
    weights = np.tile([0.0, 1.0, 2.0], 10)
    used = weights > 0
    found = fit(sp.Eq(Y, a + b * X), {X: XS, Y: YS}, [a, b], weights=weights)
    due = fit(sp.Eq(Y, a + b * X), {X: XS[used], Y: YS[used]}, [a, b], weights=weights[used])
    np.testing.assert_allclose(found.bootstrap(400).stderr, due.bootstrap(400).stderr, rtol=1e-9)
    np.testing.assert_allclose(found.bootstrap(400).stderr, found.standard_errors, rtol=0.15)
    np.testing.assert_allclose(found.conf_int(method="profile"), found.conf_int(), rtol=1e-7)


@given(seeds)
@settings(max_examples=12)
def test_the_profile_of_any_line_is_its_wald_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    xs = rng.normal(size=9)
    found = fit(sp.Eq(Y, a + b * X), {X: xs, Y: rng.normal(size=9)}, [a, b], weights=rng.uniform(0.1, 2, 9))
    np.testing.assert_allclose(found.conf_int(method="profile"), found.conf_int(), rtol=1e-6, atol=1e-9)


# Bounds and the edges of the floats -----------------------------------------------------------------


@given(seeds)
@settings(max_examples=25)
def test_a_minimum_at_a_bound_is_one_whatever_the_search_leaves_beside_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    xs, zs = rng.uniform(0.2, 3, 16), rng.normal(size=16)
    observed = 2 * np.tanh(0.9 * xs) + np.arctan(zs) + 0.03 * rng.normal(size=16)
    bound = 0.9 - rng.uniform(0.05, 0.3)
    found = fit(
        sp.Eq(Y, a * sp.tanh(b * X) + c * sp.atan(Z)),
        {X: xs, Y: observed, Z: zs},
        {a: 1, b: Parameter(0.5, bounds=(-9, bound)), c: 0},
        sigma=0.03,
    )
    assert found.success
    assert found.at_bounds == ("b",)
    assert found.params[b] == bound


@pytest.mark.parametrize(
    ("model", "unit", "sigma"),
    [(CURVE, 1e150, None), (CURVE, 1e-150, None), (CURVE, 1.0, 1e-150), (CURVE, 1.0, 1e150), (a + b * X, 1e300, None)],
)
def test_units_at_the_edge_of_the_floats_neither_warn_nor_cost_digits(model: Any, unit: float, sigma: Any) -> None:
    scale = np.array([unit, 1, unit] if model is CURVE else [unit, unit])
    names = NAMES[: len(scale)]
    start = dict(zip(names, np.array([1, 1, 0])[: len(scale)] * scale, strict=True))
    found = fit(sp.Eq(Y, model), {X: XS, Y: unit * YS}, start, sigma=sigma)
    due = fit(sp.Eq(Y, model), {X: XS, Y: YS}, {q: START[q] for q in names})
    np.testing.assert_allclose(found.estimates / scale, due.estimates, rtol=1e-8)
    np.testing.assert_allclose(found.standard_errors / scale, due.standard_errors, rtol=1e-6)


@pytest.mark.parametrize("kind", ["int8", "uint8", "bool", "float16", "float32", "longdouble"])
def test_numbers_of_any_type_are_computed_with_as_doubles(kind: str) -> None:
    raw = (100 + 25 * XS).astype(kind) if kind != "bool" else XS > 1
    found = fit(
        sp.Eq(Y, a + b * (X - 3) ** 2), {X: raw, Y: (50 * YS).astype(kind if kind != "bool" else "int8")}, [a, b]
    )
    exact = raw.astype(float), (50 * YS).astype(kind if kind != "bool" else "int8").astype(float)
    due = sm.OLS(exact[1], sm.add_constant((exact[0] - 3) ** 2)).fit()
    np.testing.assert_allclose(found.estimates, due.params, rtol=1e-8)
