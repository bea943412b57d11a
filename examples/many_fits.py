"""A thousand exponential decays fitted at once: data with a leading axis are independent fits.

python examples/many_fits.py [--fits 1000] [--out FOLDER]

Each comes with its own standard errors, whose distribution shows whether they are right.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import sympy as sp

import sym2tf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    times = np.linspace(0, 5, 50)
    amplitudes, rates = rng.uniform(1, 3, options.fits), rng.uniform(0.5, 2, options.fits)
    curves = amplitudes[:, None] * np.exp(-rates[:, None] * times) + 0.3
    curves += 0.02 * rng.normal(size=curves.shape)

    t, y, amplitude, rate, offset = sp.symbols("t y amplitude rate offset")
    start = time.perf_counter()
    fits = sym2tf.fit(
        sp.Eq(y, amplitude * sp.exp(-rate * t) + offset),
        data={t: times, y: curves},  # the last axis is the observations; t is shared
        params={amplitude: 1, rate: 1, offset: 0},
    )
    seconds = time.perf_counter() - start
    print(fits.summary())
    print(f"\n{fits.success.sum()} of {options.fits} fits converged, in {seconds:.1f} s")
    pulls = (fits.params[rate] - rates) / fits.stderr[rate]
    print(f"(estimated - true rate)/stderr has mean {pulls.mean():.3f} and standard deviation {pulls.std():.3f}")
    path = options.out / "many_fits.csv"
    fits.to_frame().to_csv(path)
    print(path)


if __name__ == "__main__":
    main()
