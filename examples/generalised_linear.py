"""Logistic and Poisson regression, each stated as its log-likelihood.

    python examples/generalised_linear.py [--out FOLDER]

The data come with statsmodels: whether students' grades improved (Spector and Mazzeo, 1980), and the number of
executions in 17 states of the USA (Gill, 2001). The estimates and standard errors are those of statsmodels' GLM.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import statsmodels.api as sm
import sympy as sp

import sym2tf

n, k = sp.symbols("n k", integer=True, positive=True)
X, y, w = sp.MatrixSymbol("X", n, k), sp.MatrixSymbol("y", n, 1), sp.MatrixSymbol("w", k, 1)
i = sp.Symbol("i", integer=True)
score = (X * w)[i, 0]  # the linear predictor of observation i

LOG_LIKELIHOODS = {
    "logistic": sp.Sum(y[i, 0] * score - sp.log(1 + sp.exp(score)), (i, 0, n - 1)),
    "poisson": sp.Sum(y[i, 0] * score - sp.exp(score) - sp.loggamma(y[i, 0] + 1), (i, 0, n - 1)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    students, executions = sm.datasets.spector.load(), sm.datasets.cpunish.load()
    problems = {
        "logistic": (students, sm.families.Binomial()),
        "poisson": (executions, sm.families.Poisson()),
    }
    for name, (table, family) in problems.items():
        regressors = sm.add_constant(np.asarray(table.exog, float))
        counts = np.asarray(table.endog, float)
        fit = sym2tf.fit(
            LOG_LIKELIHOODS[name],
            data={X: regressors, y: counts[:, None]},
            params=[w],
            likelihood=True,
            maximize=True,
        )
        print(fit.summary())
        reference = sm.GLM(counts, regressors, family=family).fit(tol=1e-14)
        far = np.abs(fit.estimates / reference.params - 1).max()
        print(f"{name}: largest relative difference to statsmodels: {far:.1e}, of standard errors ", end="")
        print(f"{np.abs(fit.standard_errors / reference.bse - 1).max():.1e}\n")
        path = options.out / f"{name}.txt"
        path.write_text(fit.summary(), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
