"""A nonlinear growth curve with confidence and prediction bands: the population of the United States.

    python examples/growth_curve.py [--out FOLDER]

Population in millions at the censuses of 1790 to 1990 (U.S. Census Bureau, as counted at the time; up to 1950 without
Alaska and Hawaii), the textbook example of the logistic curve (Verhulst 1838, Pearl and Reed 1920).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import sympy as sp

import sym2tf

YEARS = np.arange(1790, 2000, 10)
MILLIONS = np.array(
    [
        *(3.929, 5.308, 7.240, 9.638, 12.866, 17.069, 23.192, 31.443, 38.558, 50.156, 62.948),
        *(75.995, 91.972, 105.711, 122.775, 131.669, 150.697, 179.323, 203.212, 226.546, 248.710),
    ]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    year, population = sp.symbols("year population")
    limit, midpoint, time = sp.symbols("limit midpoint time", positive=True)
    model = limit / (1 + sp.exp((midpoint - year) / time))
    fit = sym2tf.fit(
        sp.Eq(population, model),
        data={year: YEARS, population: MILLIONS},
        params={limit: 400, midpoint: 1950, time: 50},
    )
    print(fit.summary())
    print("\nfitted curve:", fit.expr)
    low, high = fit.conf_int(method="profile")[limit]
    print(f"limit: {fit.params[limit]:.1f} million, 95% profile-likelihood interval {low:.1f} to {high:.1f}")
    ahead = fit.predict({year: [2000.0, 2020.0]}, interval="prediction")
    for when, value, lower, upper in zip((2000, 2020), ahead.value, ahead.lower, ahead.upper, strict=True):
        print(f"{when}: {value:.1f} million, 95% prediction interval {lower:.1f} to {upper:.1f}")
    print("counted: 281.4 in 2000, 331.4 in 2020")

    for name, draw in (("growth", fit.plot), ("growth_residuals", fit.plot_residuals), ("path", fit.plot_history)):
        path = options.out / f"{name}.png"
        draw(path)
        print(path)
    path = options.out / "growth_surface.png"
    fit.plot_surface(limit, time, path)
    print(path)


if __name__ == "__main__":
    main()
