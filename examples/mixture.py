"""A mixture of two normal distributions by maximum likelihood, from several starts.

python examples/mixture.py [--out FOLDER]

The sample is drawn, so that the answer is known.
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

    rng = np.random.default_rng(2)
    sample = np.concatenate([rng.normal(-1, 0.5, 300), rng.normal(2, 1.0, 700)])

    i, n = sp.symbols("i n", integer=True)
    x, point = sp.IndexedBase("x"), sp.Symbol("point")
    first, second = sp.symbols("first second")
    share = sp.Symbol("share")
    spread_1, spread_2 = sp.symbols("spread_1 spread_2", positive=True)

    def density(at, centre, spread):
        return sp.exp(-(((at - centre) / spread) ** 2) / 2) / (spread * sp.sqrt(2 * sp.pi))

    def mixed(at):
        return share * density(at, first, spread_1) + (1 - share) * density(at, second, spread_2)

    fit = sym2tf.fit(
        sp.Sum(sp.log(mixed(x[i])), (i, 0, n - 1)),
        data={x: sample},
        params={
            share: sym2tf.Parameter(0.5, bounds=(0.01, 0.99)),
            first: sym2tf.Parameter(-2, bounds=(-4, 6)),
            second: sym2tf.Parameter(3, bounds=(-4, 6)),
            spread_1: sym2tf.Parameter(1, bounds=(0.05, 5)),  # towards 0 the likelihood has no maximum
            spread_2: sym2tf.Parameter(1, bounds=(0.05, 5)),
        },
        constraints=[first <= second],  # the two components would else change places
        likelihood=True,
        maximize=True,
        multistart=8,
    )
    print(fit.summary())
    print(f"AIC {fit.aic:.2f}, BIC {fit.bic:.2f}")

    grid = np.linspace(sample.min(), sample.max(), 300)
    curve = sym2tf.compile(mixed(point).subs(dict(fit.params.items())), args=[point])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(sample, bins=50, density=True, color="#0072b2", alpha=0.5, label="sample")
    axes.plot(grid, curve(grid), color="#d55e00", linewidth=2, label="fitted mixture")
    axes.set(xlabel="x", ylabel="density")
    axes.legend(frameon=False)
    path = options.out / "mixture.png"
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    main()
