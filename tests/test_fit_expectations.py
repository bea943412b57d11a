"""What users of SciPy, statsmodels and lmfit expect of a fit: counts, words, silence, standard errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import sympy as sp
from scipy.optimize import minimize

from sym2tf import Parameter, fit, losses, optimizers
from sym2tf.errors import ArgumentError, DataError, FitError, FitWarning, SingularProblemError
from sym2tf.fit.evaluation.norms import length_of
from sym2tf.fit.solvers import last_pass, one_pass
from sym2tf.fit.solvers.quiet import quietly

n, k = sp.symbols("n k", integer=True, positive=True)
i = sp.Symbol("i", integer=True)
X, Y, W = sp.MatrixSymbol("X", n, k), sp.MatrixSymbol("y", n, 1), sp.MatrixSymbol("w", k, 1)
SCORE = (X * W)[i, 0]
LOGISTIC = sp.Sum(sp.log(1 + sp.exp(SCORE)) - Y[i, 0] * SCORE, (i, 0, n - 1))


def _binary() -> dict[Any, Any]:
    rng = np.random.default_rng(3)
    design = np.column_stack([np.ones(60), rng.normal(size=60)])
    return {X: design, Y: (rng.random((60, 1)) < 0.5).astype(float)}


# Observations that are elements of matrices ---------------------------------------------------------


def test_observations_of_a_likelihood_may_be_elements_of_matrices() -> None:
    result = fit(LOGISTIC, _binary(), [W], likelihood=True)
    assert result.observations == 60
    assert result.bic == pytest.approx(2 * result.cost + 2 * np.log(60), rel=1e-12)
    assert "no BIC" not in result.summary()


def test_a_matrix_by_observation_without_data_is_no_parameter() -> None:
    data = _binary()
    with pytest.raises(
        DataError, match="y has no data, yet is subscripted by i like X, so it is data and no parameter"
    ):
        fit(LOGISTIC, {X: data[X]})


def test_a_matrix_by_features_is_a_parameter_without_being_listed() -> None:
    assert fit(LOGISTIC, _binary(), likelihood=True).names == ("w[0,0]", "w[1,0]")


def test_a_mean_over_elements_of_matrices_is_no_likelihood() -> None:
    with pytest.raises(ArgumentError, match="divided by n: leave that out"):
        fit(LOGISTIC / n, _binary(), [W], likelihood=True)


# What a summary says was minimised ------------------------------------------------------------------

x, y, a, b = sp.symbols("x y a b")
LINE_X = np.linspace(0.0, 3.0, 30)
LINE_Y = 1 + 2 * LINE_X + np.random.default_rng(0).normal(size=30)


def test_a_summary_says_that_a_maximum_is_one() -> None:
    data = _binary()
    most, least = fit(-LOGISTIC, data, [W], likelihood=True, maximize=True), fit(LOGISTIC, data, [W], likelihood=True)
    assert f"maximum:     {most.cost:.10g} of -1*Sum(" in most.summary()
    assert f"cost:        {least.cost:.10g} = Sum(" in least.summary()
    assert most.cost == pytest.approx(-least.cost, rel=1e-12)


def test_a_summary_names_the_losses() -> None:
    assert (
        "= sum of huber(2) losses of y - (a + b*x)"
        in fit({y: a + b * x}, {x: LINE_X, y: LINE_Y}, [a, b], loss=losses.huber(2)).summary()
    )


# Silence, and constraints that do not matter --------------------------------------------------------


@pytest.mark.parametrize("method", ["trust-constr", "slsqp"])
def test_scipy_does_not_warn_through_a_fit(method: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = fit(
            a**4 + (b - 1) ** 2, None, {a: 1, b: 0}, constraints=[a + b <= 5, b >= 0], method=method, max_iterations=300
        )
    assert result.params[b] == pytest.approx(1, abs=1e-6)
    assert [w for w in said if "scipy" in w.filename] == []


def test_within_a_search_only_what_points_into_scipy_is_kept_back() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with quietly():
            warnings.warn("a callback of the user's", RuntimeWarning, stacklevel=1)
            warnings.warn_explicit("steep", RuntimeWarning, "linesearch.py", 1, "scipy.optimize._linesearch")
            warnings.warn_explicit("delta_grad == 0.0. Check", UserWarning, "h.py", 1, "scipy.optimize._hessian")
            warnings.warn_explicit("something else", UserWarning, "h.py", 1, "scipy.optimize._hessian")
    assert [str(w.message) for w in said] == ["a callback of the user's", "something else"]


def test_constraints_that_hold_with_room_cost_next_to_nothing() -> None:
    data, model = {x: LINE_X, y: 3 * np.exp(-LINE_X) + 0.01 * np.sin(9 * LINE_X)}, {y: a * sp.exp(-b * x)}
    free = fit(model, data, {a: 1, b: 0.5})
    held = fit(model, data, {a: 1, b: 0.5}, constraints=[a >= b, a * b <= 50])
    np.testing.assert_allclose(held.estimates, free.estimates, rtol=1e-10)
    np.testing.assert_allclose(held.standard_errors, free.standard_errors, rtol=1e-8)
    assert "the constraints hold with room at the minimum without them" in held.solver
    assert held.evaluations <= free.evaluations + 3


def test_constraints_that_matter_are_not_forgotten() -> None:
    data, model = {x: LINE_X, y: 3 * np.exp(-LINE_X) + 0.01 * np.sin(9 * LINE_X)}, {y: a * sp.exp(-b * x)}
    held = fit(model, data, {a: 1, b: 0.5}, constraints=[a <= 2 * b])
    assert held.params[a] == pytest.approx(2 * held.params[b], rel=1e-9)
    assert "SLSQP" in held.solver


# Medians and quantiles ------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "tolerance"), [(0.5, 1e-5), (0.3, 0.03), (0.9, 0.03)])
def test_standard_errors_of_quantiles_are_those_of_statsmodels(level: float, tolerance: float) -> None:
    # for levels other than a half, statsmodels goes by the sign of residuals that are zero but for rounding
    rng = np.random.default_rng(0)
    xs = np.linspace(0, 3, 200)
    ys = 1 + 2 * xs + rng.normal(size=200) * (1 + xs)
    due = sm.QuantReg(ys, sm.add_constant(xs)).fit(q=level, p_tol=1e-10, max_iter=5000)
    result = fit({y: a + b * x}, {x: xs, y: ys}, [a, b], loss="absolute" if level == 0.5 else losses.quantile(level))
    np.testing.assert_allclose(result.estimates, due.params, rtol=1e-5)
    np.testing.assert_allclose(result.standard_errors, due.bse, rtol=tolerance)
    assert "QuantReg" in result.summary()


CURVES = [
    (a * sp.exp(b * x), lambda t: 2 * np.exp(0.5 * t)),
    (a * (1 - sp.exp(-b * x)), lambda t: 5 * (1 - np.exp(-0.8 * t))),
    (a * x / (b + x), lambda t: 4 * t / (t + 0.7)),
]


@pytest.mark.parametrize(("model", "true"), CURVES, ids=lambda m: str(m) if isinstance(m, sp.Expr) else "")
@pytest.mark.parametrize("level", [0.5, 0.8])
def test_quantiles_of_nonlinear_models_are_minima(model: sp.Expr, true: Any, level: float) -> None:
    xs = np.linspace(0, 3, 120)
    ys = true(xs) + 0.3 * np.random.default_rng(1).standard_t(2, size=120)
    result = fit({y: model}, {x: xs, y: ys}, {a: 1, b: 1}, loss=losses.quantile(level))
    assert result.success
    assert "no step within the trust region lowers the cost" in result.message
    curve = sp.lambdify((a, b, x), model)

    def cost(theta: np.ndarray[Any, Any]) -> float:
        e = ys - curve(*theta, xs)
        return float(np.where(e > 0, level * e, (level - 1) * e).sum())

    found = minimize(cost, result.estimates * 1.05, method="Nelder-Mead", options={"xatol": 1e-11, "fatol": 1e-12})
    assert result.cost == pytest.approx(cost(result.estimates), rel=1e-12)
    assert result.cost <= found.fun * (1 + 1e-12)
    assert result.stderr is not None


def test_a_median_that_goes_through_all_points_has_no_standard_errors() -> None:
    result = fit({y: a + b * x}, {x: LINE_X, y: 1 + 2 * LINE_X}, [a, b], loss="absolute")
    assert result.stderr is None
    assert "bootstrap" in result.stderr_reason


def test_residuals_that_are_not_defined_at_the_start_are_named() -> None:
    with pytest.raises(FitError, match="at the start values"):
        fit({y: a * sp.log(b) + x}, {x: LINE_X, y: LINE_Y}, {a: 1, b: 0}, loss="absolute")


# Newton's method for any smooth cost ----------------------------------------------------------------


def test_newton_takes_several_steps_where_the_cost_is_not_quadratic() -> None:
    result = fit((a - 1) ** 4 + (b - a) ** 2 + sp.exp(b), None, {a: 0, b: 0}, method="newton")
    due = minimize(
        lambda q: (q[0] - 1) ** 4 + (q[1] - q[0]) ** 2 + np.exp(q[1]), [0, 0], method="BFGS", options={"gtol": 1e-9}
    )
    assert result.success
    np.testing.assert_allclose(result.estimates, due.x, rtol=1e-6)
    assert "Newton's method" in result.solver


def test_newton_does_not_know_bounds() -> None:
    with pytest.raises(ArgumentError, match="method='newton' does not fit here: the parameters have bounds"):
        fit((a - 1) ** 4 + (b - a) ** 2, None, {a: Parameter(0, bounds=(0, 1)), b: 0}, method="newton")


# Limits of models, and of floats --------------------------------------------------------------------


def test_a_search_that_runs_away_says_where_to() -> None:
    model, data = {y: a * (1 - sp.exp(-b * x))}, {x: LINE_X, y: 2 * LINE_X}
    with pytest.raises(FitError, match=r"no minimum: the cost still falls as b .* goes to 0 and a .* grows") as said:
        fit(model, data, {a: 1, b: 1})
    assert not isinstance(said.value, SingularProblemError)


def test_what_the_data_do_not_determine_is_still_named() -> None:
    with pytest.raises(SingularProblemError, match="do not determine"):
        fit({y: a * b * sp.exp(-x)}, {x: LINE_X, y: 2 * np.exp(-LINE_X) + 0.1}, {a: 1, b: 1})


@pytest.mark.parametrize("size", [1e140, 1e-140])
def test_norms_of_huge_gradients_are_numbers(size: float) -> None:
    ys = 3 * np.exp(-LINE_X) * (1 + 0.01 * np.sin(9 * LINE_X))
    small = fit({y: a * sp.exp(-b * x)}, {x: LINE_X, y: ys}, {a: 1, b: 0.5})
    large = fit({y: a * sp.exp(-b * x)}, {x: LINE_X, y: ys * size}, {a: size, b: 0.5})
    assert large.success
    assert 0 < large.gradient_norm < np.inf
    assert "inf" not in large.message
    np.testing.assert_allclose(large.estimates / [size, 1], small.estimates, rtol=1e-9)


@pytest.mark.parametrize(
    ("vector", "due"),
    [([3e200, 4e200], 5e200), ([3e-200, -4e-200], 5e-200), ([0.0], 0.0), ([], 0.0), ([1.0, np.inf], np.inf)],
)
def test_lengths_do_not_overflow(vector: list[float], due: float) -> None:
    assert length_of(np.array(vector)) == pytest.approx(due, rel=1e-15)


# Standard errors after mini-batches -----------------------------------------------------------------


def _decay(rows: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(2)
    xs = rng.uniform(0, 3, rows)
    return {"x": xs, "y": 3 * np.exp(-0.7 * xs) + 0.1 * rng.normal(size=rows)}


def test_a_stream_that_can_be_repeated_has_standard_errors_of_nonlinear_models() -> None:
    data, model = _decay(600), {y: a * sp.exp(-b * x)}
    whole = fit(model, data, {a: 1, b: 1})
    start = {a: whole.params[a], b: whole.params[b]}

    def batches() -> Any:
        return ({name: part[k : k + 100] for name, part in data.items()} for k in range(0, 600, 100))

    options = {"method": optimizers.gradient_descent(1e-9)}
    result = fit(model, batches, start, **options)
    np.testing.assert_allclose(result.standard_errors, whole.standard_errors, rtol=1e-6)
    np.testing.assert_allclose(result.residual_std, whole.residual_std, rtol=1e-8)
    assert result.observations == 600
    assert "standard errors from the minimum" in result.message
    with pytest.warns(FitWarning, match="standard errors from the minimum still"):
        far = fit(model, batches, {a: 1, b: 1}, **options)
    assert not far.success
    assert fit(model, batches(), start, **options).stderr is None


def test_many_rows_by_mini_batches_need_no_jacobian_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = _decay(600), {y: a * sp.exp(-b * x)}
    whole = fit(model, data, {a: 1, b: 1})
    monkeypatch.setattr(last_pass, "IN_BLOCKS_FROM", 1000)
    monkeypatch.setattr(one_pass, "BLOCK", 64)
    start = {a: whole.params[a], b: whole.params[b]}
    result = fit(model, data, start, batch_size=50, method=optimizers.gradient_descent(1e-9))
    np.testing.assert_allclose(result.standard_errors, whole.standard_errors, rtol=1e-6)
    assert result.success
    assert result.solution.J is None
