"""`sym2tf.sklearn.ExpressionRegressor` among scikit-learn's own tools."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import sympy as sp
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sym2tf.errors import ArgumentError, DataError
from sym2tf.sklearn import ExpressionRegressor

i, j, n, k = sp.symbols("i j n k", integer=True)
a, b, u, v, penalty = sp.symbols("a b u v penalty")
X, Y, w = sp.IndexedBase("X"), sp.IndexedBase("Y"), sp.IndexedBase("w")
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(60, 2))
TARGET = 2 * np.exp(-0.5 * TABLE[:, 0]) + TABLE[:, 1] + 0.1 * RNG.normal(size=60)

CURVE = ExpressionRegressor(a * sp.exp(-b * u) + v, features=[u, v], start={a: 1.0, b: 1.0})
LINEAR = ExpressionRegressor(sp.Sum(X[i, j] * w[j], (j, 0, k - 1)) + b, features=X)
SQUARES = sp.Sum((Y[i] - sp.Sum(X[i, j] * w[j], (j, 0, k - 1)) - b) ** 2, (i, 0, n - 1))
RIDGE = ExpressionRegressor(
    SQUARES + penalty * sp.Sum(w[j] ** 2, (j, 0, k - 1)), target=Y, features=X, constants={penalty: 1.0}
)


def too_few_rows(estimator: Any) -> dict[str, str]:
    """Least squares refuses more parameters than rows, where scikit-learn's own take the solution of least norm."""
    return dict.fromkeys(
        ("check_sample_weight_equivalence_on_dense_data", "check_fit2d_1sample"), "more parameters than rows"
    )


@parametrize_with_checks([LINEAR], expected_failed_checks=too_few_rows)
def test_scikit_learn_takes_it_for_an_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_curve_is_fitted_predicted_and_scored() -> None:
    found = clone(CURVE).fit(TABLE, TARGET)
    due, covariance = scipy.optimize.curve_fit(
        lambda t, p, q: p * np.exp(-q * t[0]) + t[1], TABLE.T, TARGET, (1, 1), ftol=1e-14
    )
    np.testing.assert_allclose(found.result_.estimates, due, rtol=1e-7)
    np.testing.assert_allclose(found.result_.covariance, covariance, rtol=1e-5)
    values, errors = found.predict(TABLE, return_std=True)
    np.testing.assert_allclose(values, due[0] * np.exp(-due[1] * TABLE[:, 0]) + TABLE[:, 1], rtol=1e-7)
    slopes = np.column_stack([np.exp(-due[1] * TABLE[:, 0]), -due[0] * TABLE[:, 0] * np.exp(-due[1] * TABLE[:, 0])])
    np.testing.assert_allclose(errors, np.sqrt(np.einsum("ki,ij,kj->k", slopes, covariance, slopes)), rtol=1e-4)
    residual = TARGET - values
    assert found.score(TABLE, TARGET) == pytest.approx(1 - residual @ residual / (60 * TARGET.var()), rel=1e-12)


def test_an_equation_and_a_matrix_of_features_are_models_too() -> None:
    rows, columns = sp.symbols("rows columns", integer=True, positive=True)
    A, c = sp.MatrixSymbol("A", rows, columns), sp.MatrixSymbol("c", columns, 1)
    due = LinearRegression(fit_intercept=False).fit(TABLE, TARGET)
    found = ExpressionRegressor(A * c, features=A).fit(TABLE, TARGET)
    np.testing.assert_allclose(found.result_.params[c].ravel(), due.coef_, rtol=1e-12)
    np.testing.assert_allclose(found.predict(TABLE), due.predict(TABLE), rtol=1e-12)
    y = sp.Symbol("y")
    again = ExpressionRegressor(sp.Eq(y, a * u + b * v), features=[u, v]).fit(TABLE, TARGET)
    np.testing.assert_allclose(again.result_.estimates, due.coef_, rtol=1e-12)


def test_columns_of_a_frame_are_symbols_by_name() -> None:
    frame = pd.DataFrame({"v": TABLE[:, 1], "u": TABLE[:, 0]})
    found = ExpressionRegressor(CURVE.model, start={a: 1.0, b: 1.0}).fit(frame, TARGET)
    np.testing.assert_array_equal(found.feature_names_in_, ["v", "u"])
    np.testing.assert_allclose(found.predict(frame), clone(CURVE).fit(TABLE, TARGET).predict(TABLE), rtol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame[["u", "v"]])


def test_weights_are_those_of_linear_regression() -> None:
    weight = RNG.uniform(0.5, 2, 60)
    found = clone(LINEAR).fit(TABLE, TARGET, sample_weight=weight)
    due = LinearRegression().fit(TABLE, TARGET, weight)
    np.testing.assert_allclose(found.result_.params[w], due.coef_, rtol=1e-10)
    with pytest.raises(ArgumentError, match="sample_weight"):
        clone(RIDGE).fit(TABLE, TARGET, sample_weight=weight)


def test_a_penalty_is_a_hyperparameter_for_grid_search() -> None:
    strengths = [0.01, 1.0, 100.0]
    found = GridSearchCV(RIDGE, {"constants__penalty": strengths}).fit(TABLE, TARGET)
    due = GridSearchCV(Ridge(), {"alpha": strengths}).fit(TABLE, TARGET)
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], due.cv_results_["mean_test_score"], rtol=1e-9)
    assert found.best_params_["constants__penalty"] == due.best_params_["alpha"]
    np.testing.assert_allclose(found.best_estimator_.result_.params[w], due.best_estimator_.coef_, rtol=1e-9)


def test_starts_are_searched_and_the_original_is_left_alone() -> None:
    wave = sp.sin(a * u)
    t = np.linspace(0, 6, 80)[:, None]
    start = ExpressionRegressor(wave, features=[u], start={a: 0.3})
    found = GridSearchCV(start, {"start__a": [0.3, 2.9]}).fit(t, np.sin(3.1 * t[:, 0]))
    assert found.best_params_ == {"start__a": 2.9}
    assert found.best_estimator_.result_.params[a] == pytest.approx(3.1)
    assert start.start == {a: 0.3}


def test_pipelines_cross_validation_and_pickles_work() -> None:
    pipe = make_pipeline(StandardScaler(), clone(LINEAR))
    due = make_pipeline(StandardScaler(), LinearRegression())
    np.testing.assert_allclose(cross_val_score(pipe, TABLE, TARGET), cross_val_score(due, TABLE, TARGET), rtol=1e-10)
    assert "ExpressionRegressor" in repr(make_pipeline(StandardScaler(), CURVE))
    found = pickle.loads(pickle.dumps(clone(CURVE).fit(TABLE, TARGET)))
    np.testing.assert_array_equal(found.predict(TABLE), clone(CURVE).fit(TABLE, TARGET).predict(TABLE))


def test_parameters_are_set_by_name() -> None:
    changed = clone(CURVE).set_params(start__a=7, max_iterations=5)
    assert (changed.start, changed.max_iterations) == ({a: 7, b: 1.0}, 5)
    assert changed.get_params()["start__b"] == 1.0
    assert CURVE.start == {a: 1.0, b: 1.0}
    for wrong in ({"start__q": 1}, {"constants__q": 1}, {"nonsense": 1}):
        with pytest.raises(ValueError):
            clone(CURVE).set_params(**wrong)


@pytest.mark.parametrize(
    ("estimator", "error", "words"),
    [
        (ExpressionRegressor(a * u), ArgumentError, "features are missing"),
        (ExpressionRegressor(a * u, features=[u]), DataError, "X has 2 features, but 1 are named"),
        (ExpressionRegressor("a*u", features=[u, v]), ArgumentError, "expression or an equation"),
        (ExpressionRegressor(sp.Eq(Y[i], a), target=Y, features=[u, v]), ArgumentError, "leave target out"),
    ],
)
def test_what_does_not_fit_together_is_an_error(estimator: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        estimator.fit(TABLE, TARGET)


def test_importing_sym2tf_does_not_import_scikit_learn() -> None:
    program = "import sym2tf, sys; print('sklearn' in sys.modules, 'keras' in sys.modules)"
    words = [sys.executable, "-c", program]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent, timeout=60
    )
    assert done.stdout.split() == ["False", "False"]
