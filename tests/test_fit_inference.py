"""What a fit says beyond its estimates, against statsmodels, SciPy, mpmath and closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.api as sm
import sympy as sp

from sym2tf import Parameter, fit, losses
from sym2tf.errors import ArgumentError, FitError

x, y, u = (sp.IndexedBase(name) for name in "xyu")
X, W = sp.IndexedBase("X"), sp.IndexedBase("w")
i, j, k, n = sp.symbols("i j k n", integer=True, positive=True)
a, b, c, t, v = sp.symbols("a b c t v")
RNG = np.random.default_rng(20261122)
TIMES = np.linspace(0, 5, 40)
DECAY = 2.5 * np.exp(-1.3 * TIMES) + 0.5 + 0.05 * RNG.standard_normal(40)
MODEL = a * sp.exp(-b * t) + c
START = {a: 1, b: 1, c: 0}
DESIGN = np.column_stack([np.ones(60), RNG.normal(size=(60, 2))])
OBSERVED = DESIGN @ [1.0, 2.0, -0.5] + (0.3 + 0.3 * np.abs(DESIGN[:, 1])) * RNG.standard_normal(60)
WEIGHTS = RNG.uniform(0.5, 3.0, 60)
PLANE = sp.Eq(y[i], sp.Sum(X[i, j] * W[j], (j, 0, k - 1)))


def plane(**options: Any) -> Any:
    return fit(PLANE, {y: OBSERVED, X: DESIGN}, {W: np.zeros(3)}, **options)


def decay(**options: Any) -> Any:
    return fit(sp.Eq(v, MODEL), {t: TIMES, v: DECAY}, START, **options)


def exponential(q: np.ndarray, *theta: float) -> np.ndarray:
    return theta[0] * np.exp(-theta[1] * q) + theta[2]


OLS = sm.OLS(OBSERVED, DESIGN).fit()
WLS = sm.WLS(OBSERVED, DESIGN, WEIGHTS).fit()


# Linear least squares against statsmodels -------------------------------------------------------


@pytest.mark.parametrize(("due", "weighted"), [(OLS, False), (WLS, True)])
def test_every_number_of_a_linear_fit_is_that_of_statsmodels(due: Any, weighted: bool) -> None:
    result = plane(sigma=1 / np.sqrt(WEIGHTS)) if weighted else plane()
    close = {"rtol": 1e-9}
    np.testing.assert_allclose(result.params[W], due.params, **close)
    np.testing.assert_allclose(result.stderr[W], due.bse, **close)
    np.testing.assert_allclose(result.covariance, due.cov_params(), **close)
    np.testing.assert_allclose(result.t_values[W], due.tvalues, **close)
    np.testing.assert_allclose(result.p_values[W], due.pvalues, rtol=1e-7)
    np.testing.assert_allclose(result.conf_int(0.9), due.conf_int(0.1), **close)
    np.testing.assert_allclose(result.r_squared, due.rsquared, **close)
    np.testing.assert_allclose(result.adj_r_squared, due.rsquared_adj, **close)
    np.testing.assert_allclose(result.log_likelihood, due.llf, **close)
    np.testing.assert_allclose(result.aic, due.aic, **close)
    np.testing.assert_allclose(result.bic, due.bic, **close)
    np.testing.assert_allclose(result.residuals, due.resid, rtol=1e-7)
    np.testing.assert_allclose(result.residual_std, np.sqrt(due.scale), **close)


def test_a_covariance_of_the_observations_is_that_of_generalised_least_squares() -> None:
    distance = np.abs(np.subtract.outer(np.arange(60), np.arange(60)))
    covariance = 0.4 * 0.7**distance
    due = sm.GLS(OBSERVED, DESIGN, covariance).fit()
    result = plane(sigma=covariance)
    np.testing.assert_allclose(result.params[W], due.params, rtol=1e-8)
    np.testing.assert_allclose(result.stderr[W], due.bse, rtol=1e-8)
    np.testing.assert_allclose([result.log_likelihood, result.aic], [due.llf, due.aic], rtol=1e-9)
    np.testing.assert_allclose(result.residuals, due.resid, rtol=1e-7)
    assert result.r_squared is None
    assert "correlated" in result.r_squared_reason
    exact = plane(sigma=covariance, absolute_sigma=True)
    fitted = DESIGN @ exact.params[W]
    density = scipy.stats.multivariate_normal(fitted, covariance).logpdf(OBSERVED)
    np.testing.assert_allclose(exact.log_likelihood, density, rtol=1e-9)


def test_influence_is_that_of_statsmodels() -> None:
    result, due = plane(), OLS.get_influence()
    np.testing.assert_allclose(result.leverage, due.hat_matrix_diag, rtol=1e-9)
    np.testing.assert_allclose(result.influence.standardized, due.resid_studentized_internal, rtol=1e-7)
    np.testing.assert_allclose(result.influence.studentized, due.resid_studentized_external, rtol=1e-7)
    np.testing.assert_allclose(result.influence.cooks_distance, due.cooks_distance[0], rtol=1e-7)
    np.testing.assert_allclose(result.influence.durbin_watson, sm.stats.durbin_watson(OLS.resid), rtol=1e-9)
    np.testing.assert_allclose(result.leverage.sum(), 3, rtol=1e-12)


@pytest.mark.parametrize("kind", ["HC0", "HC1", "HC2", "HC3"])
@pytest.mark.parametrize("weighted", [False, True])
def test_robust_errors_are_those_of_statsmodels(kind: str, weighted: bool) -> None:
    result = (plane(sigma=1 / np.sqrt(WEIGHTS)) if weighted else plane()).robust(kind)
    due = (WLS if weighted else OLS).get_robustcov_results(kind)
    np.testing.assert_allclose(result.covariance, due.cov_params(), rtol=1e-8)
    np.testing.assert_allclose(result.p_values[W], due.pvalues, rtol=1e-6)
    assert kind in result.summary()
    assert result.params[W].tolist() == plane(sigma=1 / np.sqrt(WEIGHTS) if weighted else None).params[W].tolist()


@pytest.mark.parametrize("interval", ["confidence", "prediction"])
def test_bands_of_a_linear_fit_are_those_of_statsmodels(interval: str) -> None:
    new = np.column_stack([np.ones(5), RNG.normal(size=(5, 2))])
    due = OLS.get_prediction(new).summary_frame(alpha=0.1)
    low, high = ("mean_ci_lower", "mean_ci_upper") if interval == "confidence" else ("obs_ci_lower", "obs_ci_upper")
    made = plane().predict({X: new}, interval=interval, level=0.9)
    np.testing.assert_allclose(made.value, due["mean"], rtol=1e-9)
    np.testing.assert_allclose(made.lower, due[low], rtol=1e-9)
    np.testing.assert_allclose(made.upper, due[high], rtol=1e-9)
    np.testing.assert_array_equal(made.value, plane().predict({X: new}))
    there = plane().predict(interval=interval, level=0.9)
    np.testing.assert_allclose(there.lower, OLS.get_prediction().summary_frame(alpha=0.1)[low], rtol=1e-9)


def test_new_data_come_in_the_forms_that_a_fit_takes(tmp_path: Path) -> None:
    result = decay()
    table = pd.DataFrame({"t": [0.5, 1.5], "other": [1, 2]})
    table.to_csv(tmp_path / "new.csv", index=False)
    due = result.predict({t: np.array([0.5, 1.5])})
    np.testing.assert_array_equal(result.predict(table), due)
    np.testing.assert_array_equal(result.predict(tmp_path / "new.csv"), due)
    with pytest.raises(ArgumentError, match="batch"):
        result.predict(iter([{"t": [0.5]}]))


def test_new_observations_have_the_spread_of_the_old_or_one_that_is_given() -> None:
    sigma = 1 / np.sqrt(WEIGHTS)
    result = plane(sigma=sigma)
    with pytest.raises(ArgumentError, match=r"predict\(\.\.\., sigma=\)"):
        result.predict({X: DESIGN}, interval="prediction")
    due = WLS.get_prediction(DESIGN, weights=WEIGHTS).summary_frame()
    np.testing.assert_allclose(
        result.predict({X: DESIGN}, interval="prediction", sigma=sigma).upper, due["obs_ci_upper"], rtol=1e-9
    )
    np.testing.assert_allclose(result.predict(interval="prediction").upper, due["obs_ci_upper"], rtol=1e-9)


# Likelihoods against statsmodels ----------------------------------------------------------------


def test_a_logit_model_of_the_spector_data_is_that_of_statsmodels() -> None:
    data = sm.datasets.spector.load()
    design, labels = sm.add_constant(np.asarray(data.exog)), np.asarray(data.endog)
    eta = sp.Sum(X[i, j] * W[j], (j, 0, k - 1))
    cost = sp.Sum(sp.log(1 + sp.exp(eta)) - y[i] * eta, (i, 0, n - 1))
    result = fit(cost, {X: design, y: labels}, {W: np.zeros(4)}, likelihood=True)
    due = sm.Logit(labels, design).fit(disp=False, tol=1e-13, maxiter=100)
    np.testing.assert_allclose(result.params[W], due.params, rtol=1e-8)
    np.testing.assert_allclose(result.stderr[W], due.bse, rtol=1e-8)
    np.testing.assert_allclose(result.p_values[W], due.pvalues, rtol=1e-7)
    np.testing.assert_allclose(result.conf_int(), due.conf_int(), rtol=1e-8)
    np.testing.assert_allclose([result.log_likelihood, result.aic, result.bic], [due.llf, due.aic, due.bic], rtol=1e-10)
    sandwich = sm.Logit(labels, design).fit(disp=False, tol=1e-13, maxiter=100, cov_type="HC0")
    np.testing.assert_allclose(result.robust("HC0").stderr[W], sandwich.bse, rtol=1e-7)
    with pytest.raises(ArgumentError, match="leverage"):
        result.robust("HC3")


def test_a_poisson_model_of_the_randhie_data_is_that_of_statsmodels() -> None:
    data = sm.datasets.randhie.load()
    design, counts = sm.add_constant(np.asarray(data.exog)[:2000]), np.asarray(data.endog, float)[:2000]
    eta = sp.Sum(X[i, j] * W[j], (j, 0, k - 1))
    cost = sp.Sum(sp.exp(eta) - y[i] * eta, (i, 0, n - 1))
    result = fit(cost, {X: design, y: counts}, {W: np.zeros(design.shape[1])}, likelihood=True)
    due = sm.Poisson(counts, design).fit(disp=False, method="newton", tol=1e-13, maxiter=100)
    np.testing.assert_allclose(result.params[W], due.params, rtol=1e-8)
    np.testing.assert_allclose(result.stderr[W], due.bse, rtol=1e-8)
    constant = scipy.special.gammaln(counts + 1).sum()  # which our cost leaves out
    np.testing.assert_allclose(result.log_likelihood - constant, due.llf, rtol=1e-10)
    sandwich = sm.Poisson(counts, design).fit(disp=False, method="newton", tol=1e-13, maxiter=100, cov_type="HC0")
    np.testing.assert_allclose(result.robust("HC0").stderr[W], sandwich.bse, rtol=1e-7)


def test_maximising_the_log_likelihood_is_minimising_its_negative() -> None:
    term = -((y[i] - a) ** 2) / (2 * sp.exp(2 * b)) - b
    data = {y: OBSERVED}
    up = fit(sp.Sum(term, (i, 0, n - 1)), data, [a, b], likelihood=True, maximize=True)
    down = fit(-sp.Sum(term, (i, 0, n - 1)), data, [a, b], likelihood=True)
    assert up.log_likelihood == pytest.approx(down.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(up.estimates, [OBSERVED.mean(), np.log(OBSERVED.std())], rtol=1e-8)
    np.testing.assert_allclose(up.stderr[a], OBSERVED.std() / np.sqrt(60), rtol=1e-7)
    np.testing.assert_allclose(up.stderr[b], 1 / np.sqrt(120), rtol=1e-7)


def test_scores_share_out_what_stands_beside_the_sum() -> None:
    cost = sp.Sum((y[i] - a) ** 2, (i, 0, n - 1)) / (2 * b**2) + n * sp.log(b)
    start = {a: 1, b: Parameter(1, bounds=(1e-3, None))}
    result = fit(cost, {y: OBSERVED}, start, likelihood=True)
    mean, spread = OBSERVED.mean(), OBSERVED.std()
    e = OBSERVED - mean
    scores = np.column_stack([-e / spread**2, -(e**2) / spread**3 + 1 / spread])
    information = np.diag([60 / spread**2, 2 * 60 / spread**2])
    due = np.linalg.inv(information) @ scores.T @ scores @ np.linalg.inv(information)
    np.testing.assert_allclose(result.robust("HC0").covariance, due, rtol=1e-6, atol=1e-12)


# Losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "norm"),
    [
        (losses.huber(1.345), sm.robust.norms.HuberT(1.345)),
        (losses.tukey(4.685), sm.robust.norms.TukeyBiweight(4.685)),
    ],
)
def test_errors_of_m_estimators_are_those_of_statsmodels(loss: Any, norm: Any) -> None:
    y_ = OBSERVED + 8 * (np.arange(60) % 15 == 0)
    model = sm.RLM(y_, DESIGN, M=norm)
    due = model.fit(update_scale=False, cov="H1", tol=1e-14, maxiter=500, conv="coefs")
    result = fit(PLANE, {y: y_, X: DESIGN}, {W: due.params}, loss=loss, sigma=float(due.scale))
    np.testing.assert_allclose(result.params[W], due.params, rtol=1e-7)
    np.testing.assert_allclose(result.stderr[W], due.bse, rtol=1e-6)
    assert "M-estimator" in result.summary()


def test_an_m_estimate_is_resampled_by_observations() -> None:
    result = plane(loss="soft_l1", sigma=0.3)
    made = result.bootstrap(200)
    assert made.kind == "pairs"
    assert made.failures == 0
    np.testing.assert_allclose(made.stderr, result.standard_errors, rtol=0.6)  # the variances are unequal on purpose
    drawn = np.random.default_rng(0).integers(60, size=60)
    again = fit(PLANE, {y: OBSERVED[drawn], X: DESIGN[drawn]}, {W: np.zeros(3)}, loss="soft_l1", sigma=0.3)
    np.testing.assert_allclose(made.estimates[0], again.estimates, rtol=1e-5)
    for call in (lambda: result.bootstrap(9, kind="residuals"), lambda: result.conf_int(method="profile")):
        with pytest.raises(FitError, match="loss"):
            call()
    with pytest.raises(FitError, match="M-estimator"):
        result.robust()


def test_a_median_of_observations_that_agree_has_no_errors_and_says_so() -> None:
    middle = sp.Symbol("middle")
    result = fit(sp.Eq(v, middle), {v: [1.0] * 7 + [5.0]}, {middle: 0}, loss="absolute")
    assert result.params[middle] == pytest.approx(1)
    assert result.stderr is None
    assert "the density of the residuals" in result.stderr_reason
    assert "the density of the residuals" in result.summary()


# Nonlinear least squares against SciPy ------------------------------------------------------------


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("spread", [None, 0.05, np.linspace(0.02, 0.2, 40)])
def test_covariances_are_those_of_curve_fit(absolute: bool, spread: Any) -> None:
    sigma = None if spread is None else np.broadcast_to(spread, 40)
    theta, due = scipy.optimize.curve_fit(
        exponential, TIMES, DECAY, [1, 1, 0], sigma, absolute_sigma=absolute, ftol=1e-14, xtol=1e-14, gtol=1e-14
    )
    result = decay(sigma=spread, absolute_sigma=absolute)
    np.testing.assert_allclose(result.estimates, theta, rtol=1e-6)
    np.testing.assert_allclose(result.covariance, due, rtol=1e-5)  # curve_fit's Jacobian is one of differences


def test_a_known_spread_makes_the_likelihood_that_of_its_normal_distribution() -> None:
    sigma = np.linspace(0.02, 0.2, 40)
    result = decay(sigma=sigma, absolute_sigma=True)
    due = scipy.stats.norm.logpdf(DECAY, exponential(TIMES, *result.estimates), sigma).sum()
    np.testing.assert_allclose(result.log_likelihood, due, rtol=1e-12)
    half = scipy.stats.norm.ppf(0.975) * result.stderr[a]
    np.testing.assert_allclose(result.conf_int()[a], [result.params[a] - half, result.params[a] + half], rtol=1e-12)
    common = decay(sigma=0.05, absolute_sigma=True)
    due = scipy.stats.norm.logpdf(DECAY, exponential(TIMES, *common.estimates), 0.05).sum()
    np.testing.assert_allclose(common.log_likelihood, due, rtol=1e-12)


def test_an_estimated_spread_makes_the_likelihood_largest() -> None:
    result = decay()
    r = result.residuals
    due = scipy.stats.norm.logpdf(r, 0, np.sqrt(np.mean(r**2))).sum()
    np.testing.assert_allclose(result.log_likelihood, due, rtol=1e-12)
    np.testing.assert_allclose(result.aic, 2 * 3 - 2 * due, rtol=1e-12)
    np.testing.assert_allclose(result.bic, np.log(40) * 3 - 2 * due, rtol=1e-12)


def test_covariance_agrees_with_fifty_digits() -> None:
    result = decay()
    theta = [mpmath.mpf(float(q)) for q in result.estimates]
    with mpmath.workdps(50):
        rows = [[mpmath.exp(-theta[1] * q), -theta[0] * q * mpmath.exp(-theta[1] * q), mpmath.mpf(1)] for q in TIMES]
        J = mpmath.matrix(rows)
        rss = sum((q - theta[0] * row[0] - theta[2]) ** 2 for q, row in zip(DECAY, rows, strict=True))
        due = (J.T * J) ** -1 * (rss / 37)
    np.testing.assert_allclose(result.covariance, np.array(due.tolist(), float), rtol=1e-10)


def test_a_band_is_the_delta_method_and_covers_simulated_curves() -> None:
    result = decay()
    new = np.array([0.3, 1.0, 4.0])
    band = result.predict({t: new}, interval="confidence")
    J = np.column_stack(
        [np.exp(-result.params[b] * new), -result.params[a] * new * np.exp(-result.params[b] * new), np.ones(3)]
    )
    due = np.sqrt(np.diag(J @ result.covariance @ J.T))
    np.testing.assert_allclose(band.stderr, due, rtol=1e-10)
    np.testing.assert_allclose(band.upper - band.value, scipy.stats.t.ppf(0.975, 37) * due, rtol=1e-10)
    draws = np.random.default_rng(0).multivariate_normal(result.estimates, result.covariance, 20000)
    spread = np.array([exponential(new, *draw) for draw in draws]).std(axis=0)
    np.testing.assert_allclose(band.stderr, spread, rtol=0.03)  # of 20 000 draws, and of the curvature of the model
    one = result.predict({t: 1.0}, interval="prediction")
    assert one.value.shape == ()
    np.testing.assert_allclose(one.stderr**2, due[1] ** 2 + result.residual_std**2, rtol=1e-10)


# Profiles ----------------------------------------------------------------------------------------


def test_the_profile_of_a_linear_model_is_its_wald_interval() -> None:
    for result in (plane(), plane(sigma=1 / np.sqrt(WEIGHTS)), plane(sigma=0.5, absolute_sigma=True)):
        np.testing.assert_allclose(result.conf_int(0.9, "profile"), result.conf_int(0.9), rtol=1e-7)


def test_a_profile_ends_where_the_best_of_the_others_is_bad_enough() -> None:
    result = decay()
    ends = result.conf_int(method="profile")
    limit = scipy.stats.f.ppf(0.95, 1, 37)
    for value in ends[b]:
        design = np.column_stack([np.exp(-value * TIMES), np.ones(40)])
        rest = np.linalg.lstsq(design, DECAY, rcond=None)[1][0]
        rss = float(result.residuals @ result.residuals)
        np.testing.assert_allclose((rest - rss) / result.residual_std**2, limit, rtol=1e-6)
    assert not np.allclose(ends, result.conf_int(), rtol=1e-5)


def test_the_profile_of_a_likelihood_ends_at_the_quantile_of_chi_squared() -> None:
    counts = np.array([3.0, 5.0, 1.0, 4.0])
    result = fit(sp.Sum(a - y[i] * sp.log(a), (i, 0, n - 1)), {y: counts}, {a: 1}, likelihood=True)
    low, high = result.conf_int(method="profile")[a]

    def deviance(q: float) -> float:
        return 2 * (4 * q - 13 * np.log(q) - (13 - 13 * np.log(13 / 4)))

    for end in (low, high):
        np.testing.assert_allclose(deviance(end), scipy.stats.chi2.ppf(0.95, 1), rtol=1e-7)
    assert high - 3.25 > 3.25 - low  # which no Wald interval says


def test_an_interval_without_end_is_infinite_and_says_why() -> None:
    times = np.linspace(0, 1, 8)
    observed = np.array([0.1, 0.9, 1.1, 1.0, 0.95, 1.02, 1.01, 0.97])
    result = fit(sp.Eq(v, 1 - sp.exp(-a * t)), {t: times, v: observed}, {a: 5})
    wide = result.conf_int(0.999, "profile")
    assert np.isfinite(wide[a][0])
    assert wide[a][1] == np.inf
    assert "does not rise" in wide.reasons["a", "upper"]
    assert "does not rise" in str(wide)


def test_a_profile_stops_at_a_bound() -> None:
    bounded = {a: 1, b: Parameter(1, bounds=(0, 1.2)), c: 0}
    result = fit(sp.Eq(v, MODEL), {t: TIMES, v: DECAY}, bounded)
    assert result.at_bounds == ("b",)
    assert result.stderr is None
    ends = fit(sp.Eq(v, MODEL), {t: TIMES, v: DECAY}, {**bounded, b: Parameter(1, bounds=(0, 1.36))}).conf_int(
        0.9999, "profile"
    )
    assert ends[b][1] == 1.36
    assert "bound" in ends.reasons["b", "upper"]


# The bootstrap -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["residuals", "pairs"])
def test_a_bootstrap_of_a_linear_model_agrees_with_theory(kind: str) -> None:
    result = plane()
    made = result.bootstrap(2000, kind=kind)
    due = result.stderr[W] if kind == "residuals" else result.robust("HC2").stderr[W]
    np.testing.assert_allclose(made.stderr, due, rtol=0.1)  # of 2000 samples
    np.testing.assert_allclose(made.estimates, result.bootstrap(2000, kind=kind).estimates, rtol=0, atol=0)
    assert not np.array_equal(made.estimates, result.bootstrap(2000, kind=kind, seed=1).estimates)
    assert made.failures == 0


@pytest.mark.parametrize("kind", ["residuals", "pairs"])
def test_a_bootstrap_sample_is_the_fit_of_that_sample(kind: str) -> None:
    result = decay()
    made = result.bootstrap(3, kind=kind, seed=7)
    rng = np.random.default_rng(7)
    r, fitted = result.residuals, result.predict()
    for estimate in made.estimates:
        drawn = rng.integers(40, size=40)
        if kind == "residuals":
            times, observed = TIMES, fitted + ((r - r.mean()) * np.sqrt(40 / 37))[drawn]
        else:
            times, observed = TIMES[drawn], DECAY[drawn]
        again = fit(sp.Eq(v, MODEL), {t: times, v: observed}, START)
        np.testing.assert_allclose(estimate, again.estimates, rtol=1e-6)


def test_a_bootstrap_of_a_likelihood_resamples_observations() -> None:
    term = sp.exp(a + b * x[i]) - y[i] * (a + b * x[i])
    counts = np.random.default_rng(3).poisson(np.exp(0.5 + 0.3 * TIMES)).astype(float)
    result = fit(sp.Sum(term, (i, 0, n - 1)), {x: TIMES, y: counts}, {a: 0, b: 0}, likelihood=True)
    made = result.bootstrap(200)
    np.testing.assert_allclose(made.stderr, result.robust("HC0").standard_errors, rtol=0.25)  # of 200 samples
    drawn = np.random.default_rng(0).integers(40, size=40)
    again = fit(sp.Sum(term, (i, 0, n - 1)), {x: TIMES[drawn], y: counts[drawn]}, {a: 0, b: 0}, likelihood=True)
    np.testing.assert_allclose(made.estimates[0], again.estimates, rtol=1e-4, atol=1e-5)


def test_intervals_of_a_bootstrap_agree_with_scipy() -> None:
    sample = np.random.default_rng(5).exponential(size=50)
    result = fit(sp.Eq(v, a), {v: sample}, {a: 0})
    made = result.bootstrap(4000, kind="pairs")
    for kind, method in (("percentile", "percentile"), ("basic", "basic"), ("bca", "BCa")):
        due = scipy.stats.bootstrap(
            (sample,), np.mean, n_resamples=20000, method=method, rng=np.random.default_rng(1)
        ).confidence_interval
        np.testing.assert_allclose(made.conf_int(kind=kind)[a], due, atol=0.03)  # of 4000 samples
    np.testing.assert_allclose(result.conf_int(method="bootstrap", samples=50)[a], result.bootstrap(50).conf_int()[a])


def test_samples_that_do_not_determine_the_parameters_are_counted() -> None:
    groups = np.repeat([0.0, 1.0], [18, 2])
    observed = 1 + groups + 0.1 * RNG.standard_normal(20)
    made = fit(sp.Eq(v, a + b * t), {t: groups, v: observed}, [a, b]).bootstrap(300, kind="pairs")
    assert 10 < made.failures < 100
    assert len(made.estimates) == 300 - made.failures


# Constraints and ties ----------------------------------------------------------------------------


def test_an_equality_between_coefficients_has_the_errors_of_the_reduced_model() -> None:
    model = a + b * u[i] + c * x[i]
    data = {y: OBSERVED, u: DESIGN[:, 1], x: DESIGN[:, 2]}
    result = fit(sp.Eq(y[i], model), data, {a: 0, b: 0, c: 0}, constraints=[sp.Eq(b + c, 1)])
    design = np.column_stack([np.ones(60), DESIGN[:, 1] - DESIGN[:, 2]])
    due = sm.OLS(OBSERVED - DESIGN[:, 2], design).fit()
    np.testing.assert_allclose(result.estimates[:2], due.params, rtol=1e-6)
    np.testing.assert_allclose(result.stderr[a], due.bse[0], rtol=1e-6)
    np.testing.assert_allclose([result.stderr[b], result.stderr[c]], due.bse[1], rtol=1e-6)
    np.testing.assert_allclose(result.correlation[1, 2], -1, rtol=1e-9)
    assert result.degrees_of_freedom == 58
    np.testing.assert_allclose(result.aic, due.aic, rtol=1e-8)
    np.testing.assert_allclose(result.leverage, due.get_influence().hat_matrix_diag, rtol=1e-6)


def test_an_inequality_counts_only_where_it_holds_with_equality() -> None:
    data = {y: OBSERVED, u: DESIGN[:, 1], x: DESIGN[:, 2]}
    start = {a: 0, b: 0, c: 0}
    free = fit(sp.Eq(y[i], a + b * u[i] + c * x[i]), data, start)
    loose = fit(sp.Eq(y[i], a + b * u[i] + c * x[i]), data, start, constraints=[b + c <= 5])
    np.testing.assert_allclose(loose.standard_errors, free.standard_errors, rtol=1e-6)
    tight = fit(sp.Eq(y[i], a + b * u[i] + c * x[i]), data, start, constraints=[b + c <= 1])
    equal = fit(sp.Eq(y[i], a + b * u[i] + c * x[i]), data, start, constraints=[sp.Eq(b + c, 1)])
    np.testing.assert_allclose(tight.standard_errors, equal.standard_errors, rtol=1e-6)
    assert tight.degrees_of_freedom == 58
    ends = equal.conf_int(method="profile")
    np.testing.assert_allclose(ends, equal.conf_int(), rtol=1e-4)  # SLSQP stops at eight digits of the cost


def test_a_constrained_likelihood_has_the_errors_of_the_reduced_one() -> None:
    counts = np.random.default_rng(3).poisson(np.exp(0.5 + 0.5 * TIMES)).astype(float)

    def cost(p: Any, q: Any) -> Any:
        return sp.Sum(sp.exp(p + q * x[i]) - y[i] * (p + q * x[i]), (i, 0, n - 1))

    data = {x: TIMES, y: counts}
    held = fit(cost(a, b), data, {a: 0.4, b: 0.4}, likelihood=True, constraints=[sp.Eq(a, b)])
    due = fit(cost(a, a), data, {a: 0.4}, likelihood=True)
    np.testing.assert_allclose(held.params[b], due.params[a], rtol=1e-6)
    np.testing.assert_allclose(held.standard_errors, due.standard_errors[[0, 0]], rtol=1e-5)


def test_a_tied_parameter_has_an_error_by_the_delta_method() -> None:
    result = fit(sp.Eq(v, MODEL), {t: TIMES, v: DECAY}, {a: 1, b: 1, c: a**2 / 10})
    assert result.names == ("a", "b")
    np.testing.assert_allclose(result.params[c], result.params[a] ** 2 / 10, rtol=1e-12)
    np.testing.assert_allclose(result.stderr[c], result.params[a] / 5 * result.stderr[a], rtol=1e-10)
    np.testing.assert_allclose(result.t_values[c], result.params[c] / result.stderr[c], rtol=1e-12)
    assert list(result.to_frame().index) == ["a", "b", "c"]
    assert not result.expr.free_symbols - {t}
    tied = next(line for line in result.summary().splitlines() if line.startswith("c "))
    assert f"{result.params[c]:.6g}"[:6] in tied


# Several equations, matrices, expressions --------------------------------------------------------


def test_several_equations_are_predicted_by_what_is_observed() -> None:
    first, second = sp.symbols("first second")
    data = {t: TIMES, first: a_of(1.0), second: a_of(2.0)}
    result = fit({first: a * sp.exp(-b * t), second: 2 * a * sp.exp(-b * t)}, data, {a: 1, b: 1})
    found = result.predict({t: np.array([0.0, 1.0])}, interval="confidence")
    assert set(found) == {"first", "second"}
    np.testing.assert_allclose(found["second"].value, 2 * found["first"].value, rtol=1e-12)
    np.testing.assert_allclose(result.residuals["first"], data[first] - result.predict()["first"], atol=1e-12)
    assert set(result.expr) == {first, second}
    assert result.degrees_of_freedom == 78
    assert result.r_squared is None
    assert result.stderr is not None


def a_of(factor: float) -> np.ndarray:
    return factor * 2.5 * np.exp(-1.3 * TIMES) + 0.02 * np.random.default_rng(int(factor)).standard_normal(40)


def test_equations_of_unequal_spread_are_no_penalty() -> None:
    first, second = sp.symbols("first second")
    data = {t: TIMES, first: a_of(1.0), second: a_of(2.0)}
    result = fit(
        {first: a * sp.exp(-b * t), second: 2 * a * sp.exp(-b * t)}, data, {a: 1, b: 1}, sigma={first: 0.1, second: 0.3}
    )

    def stacked(q: np.ndarray, *theta: float) -> np.ndarray:
        one = theta[0] * np.exp(-theta[1] * q[:40])
        return np.concatenate([one, 2 * one])

    theta, due = scipy.optimize.curve_fit(
        stacked,
        np.tile(TIMES, 2),
        np.concatenate([data[first], data[second]]),
        [1, 1],
        np.repeat([0.1, 0.3], 40),
        ftol=1e-14,
        xtol=1e-14,
        gtol=1e-14,
    )
    np.testing.assert_allclose(result.estimates, theta, rtol=1e-7)
    np.testing.assert_allclose(result.covariance, due, rtol=1e-5)  # curve_fit's Jacobian is one of differences


def test_matrix_parameters_have_errors_intervals_and_a_place_in_the_expression() -> None:
    rows, columns = sp.symbols("rows columns", integer=True, positive=True)
    A, w, z = sp.MatrixSymbol("A", rows, columns), sp.MatrixSymbol("w", columns, 1), sp.MatrixSymbol("z", rows, 1)
    result = fit(sp.Eq(z, A * w), {A: DESIGN, z: OBSERVED[:, None]}, [w])
    np.testing.assert_allclose(result.stderr[w][:, 0], OLS.bse, rtol=1e-9)
    np.testing.assert_allclose(result.conf_int()["w[1,0]"], OLS.conf_int()[1], rtol=1e-9)
    band = result.predict({A: DESIGN[:2]}, interval="confidence")
    np.testing.assert_allclose(band.value[:, 0], OLS.predict(DESIGN[:2]), rtol=1e-9)
    assert w not in result.expr.atoms(sp.MatrixSymbol)
    numbers = result.expr.subs(rows, 2).subs(sp.MatrixSymbol("A", 2, 3), sp.Matrix(DESIGN[:2])).doit()
    np.testing.assert_allclose(np.array(numbers, float)[:, 0], OLS.predict(DESIGN[:2]), rtol=1e-12)


def test_an_array_in_a_sum_over_its_subscript_is_written_out() -> None:
    model = plane().expr
    assert not model.has(W)
    numbers = model.subs({X[i, q]: sp.Float(DESIGN[4, q], 17) for q in range(3)})
    np.testing.assert_allclose(float(numbers), OLS.predict(DESIGN[4:5])[0], rtol=1e-12)


# What cannot be told -----------------------------------------------------------------------------


def test_no_degrees_of_freedom_leave_reasons_and_no_numbers() -> None:
    result = fit(sp.Eq(v, a + b * t), {t: [0.0, 1.0], v: [1.0, 3.0]}, [a, b])
    assert result.stderr is None
    assert result.t_values is None
    assert result.p_values is None
    assert result.correlation is None
    assert result.adj_r_squared is None
    assert "degrees of freedom" in result.stderr_reason
    np.testing.assert_allclose(result.leverage, 1, rtol=1e-12)
    for call in (result.conf_int, lambda: result.predict(interval="confidence"), result.bootstrap):
        with pytest.raises(FitError):
            call()
    with pytest.raises(FitError, match="degrees of freedom"):
        _ = result.influence
    assert result.to_frame()["stderr"].isna().all()
    known = fit(sp.Eq(v, a + b * t), {t: [0.0, 1.0], v: [1.0, 3.0]}, [a, b], sigma=0.1, absolute_sigma=True)
    np.testing.assert_allclose(known.stderr[a], 0.1, rtol=1e-12)


def test_a_perfect_fit_has_errors_of_zero_and_no_likelihood() -> None:
    result = fit(sp.Eq(v, a), {v: np.full(5, 2.0)}, {a: 0})
    assert result.params[a] == 2
    assert result.stderr[a] == 0
    assert result.t_values[a] == np.inf
    assert result.p_values[a] == 0
    assert result.conf_int()[a] == (2, 2)
    assert result.log_likelihood is None
    assert result.aic is None
    assert "zero" in result.log_likelihood_reason
    with pytest.raises(FitError, match="exact"):
        result.conf_int(method="profile")


def test_a_cost_that_is_neither_squares_nor_likelihood_says_so() -> None:
    result = fit((a - 1) ** 4 + (a - 2) ** 2 + sp.exp(a), params={a: 1})
    assert result.stderr is None
    assert result.leverage is None
    assert "likelihood=True" in result.stderr_reason
    assert result.log_likelihood is None
    for call in (
        lambda: result.conf_int(method="profile"),
        result.bootstrap,
        result.robust,
        lambda: result.influence,
        result.predict,
    ):
        with pytest.raises(FitError):
            call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r: r.conf_int(1.5), "between 0 and 1"),
        (lambda r: r.conf_int(method="guess"), "'wald', 'profile' or 'bootstrap'"),
        (lambda r: r.predict(interval="both"), "'confidence' or 'prediction'"),
        (lambda r: r.predict(interval="confidence", level=95), "between 0 and 1"),
        (lambda r: r.predict(interval="prediction", sigma=[1.0, 2.0]), r"sigma has shape \(2,\)"),
        (lambda r: r.predict(interval="prediction", sigma=-1), "not negative"),
        (lambda r: r.robust("HC9"), "HC0, HC1, HC2, HC3"),
        (lambda r: r.bootstrap(1), "samples is an integer, at least 2"),
        (lambda r: r.bootstrap(seed=-1), "seed is an integer"),
        (lambda r: r.bootstrap(kind="blocks"), "'residuals' or 'pairs'"),
        (lambda r: r.bootstrap(10).conf_int(kind="normal"), "'bca', 'percentile' or 'basic'"),
    ],
)
def test_wrong_requests_are_named(call: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        call(decay())


def test_intervals_are_found_by_name_or_symbol() -> None:
    ends = plane().conf_int()
    assert ends[W[1]] == ends["w[1]"]
    with pytest.raises(KeyError, match=r"there are intervals for w\[0\]"):
        _ = ends["q"]


def test_a_row_that_alone_determines_a_parameter_has_no_hc3() -> None:
    lone = np.array([0.0, 0.0, 0.0, 1.0])
    result = fit(sp.Eq(v, a + b * t), {t: lone, v: [1.0, 1.2, 0.9, 3.0]}, [a, b])
    assert np.isfinite(result.robust("HC1").stderr[b])
    with pytest.raises(FitError, match="observation 3"):
        result.robust("HC3")
    assert np.isnan(result.influence.standardized[3])


def test_a_penalty_has_no_robust_errors() -> None:
    cost = sp.Sum((y[i] - a - b * x[i]) ** 2, (i, 0, n - 1)) + 3 * b**2
    result = fit(cost, {y: OBSERVED, x: DESIGN[:, 1]}, [a, b])
    with pytest.raises(FitError, match="penalty"):
        result.robust("HC0")
    with pytest.raises(FitError, match="penalty"):
        result.conf_int(method="profile")
