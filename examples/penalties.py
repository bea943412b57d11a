"""Ridge and a smooth lasso: a penalty is one more term of the cost, its weight one more number of the data.

python examples/penalties.py [--out FOLDER]

Draws the estimates over the weight of the penalty.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import sympy as sp
from matplotlib.figure import Figure

import sym2tf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 8)) @ (np.eye(8) + 0.6)
    true = np.array([3.0, -2.0, 1.5, 0, 0, 0, 0, 0])
    observed = features @ true + rng.normal(size=60)

    n, k, j = sp.symbols("n k j", integer=True, positive=True)
    X, y, w = sp.MatrixSymbol("X", n, k), sp.MatrixSymbol("y", n, 1), sp.MatrixSymbol("w", k, 1)
    penalty = sp.Symbol("penalty", positive=True)
    squares = ((X * w - y).T * (X * w - y))[0, 0]
    costs = {
        "ridge": squares + penalty * (w.T * w)[0, 0],
        "smooth lasso": squares + penalty * sp.Sum(sp.sqrt(w[j, 0] ** 2 + 1e-6), (j, 0, k - 1)),
    }
    weights = np.geomspace(0.1, 1000, 15)
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (name, cost) in zip(figure.subplots(1, 2, sharey=True), costs.items(), strict=True):
        start, path = np.zeros((8, 1)), []
        for weight in weights:
            fit = sym2tf.fit(cost, {X: features, y: observed[:, None], penalty: weight}, params={w: start})
            start = fit.params[w]
            path.append(start.ravel())
        print(f"{name}: {fit.solver}")
        print("  least penalty:", np.round(path[0], 3))
        print("  penalty about 50:", np.round(path[10], 3))
        axes.semilogx(weights, path)
        axes.set(title=name, xlabel="penalty")
        axes.grid(alpha=0.25)
    exact = np.linalg.solve(features.T @ features + weights[0] * np.eye(8), features.T @ observed)
    ridge = sym2tf.fit(costs["ridge"], {X: features, y: observed[:, None], penalty: weights[0]}, params=[w])
    print(f"ridge against its closed form: largest difference {np.abs(ridge.params[w].ravel() - exact).max():.1e}")
    file = options.out / "penalties.png"
    figure.savefig(file, dpi=120)
    print(file)


if __name__ == "__main__":
    main()
