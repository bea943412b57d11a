"""What users of SciPy, statsmodels and lmfit expect of a fit: counts, words, silence, standard errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sympy as sp

from sym2tf import fit, losses
from sym2tf.errors import ArgumentError, DataError
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
