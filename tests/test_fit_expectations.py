"""What users of SciPy, statsmodels and lmfit expect of a fit: counts, words, silence, standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from sym2tf import fit
from sym2tf.errors import ArgumentError, DataError

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
