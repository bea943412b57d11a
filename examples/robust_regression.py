"""A line through data with outliers: least squares beside Huber's loss, from one model.

    python examples/robust_regression.py [--data FILE] [--out FOLDER]

By default life expectancy against the logarithm of income in 142 countries; `--data` takes a table with a header
(tab or comma separated) whose last two columns are x and y.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import sympy as sp

import sym2tf

GAPMINDER = Path(__file__).parent / "data" / "gapminder_2007.csv"


def read_columns(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The last two columns of a table."""
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines(), delimiter="\t" if "\t" in text else ","))
    columns = np.array([[float(cell) for cell in row[-2:]] for row in rows[1:]])
    return columns[:, 0], columns[:, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=GAPMINDER)
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    xs, ys = read_columns(options.data)
    if options.data == GAPMINDER:
        xs = np.log10(xs)

    x, y, slope, intercept = sp.symbols("x y slope intercept")
    line = sp.Eq(y, intercept + slope * x)
    data = {x: xs, y: ys}
    squares = sym2tf.fit(line, data, params=[intercept, slope])
    print(squares.summary())

    # Huber's loss is quadratic up to delta and linear beyond. Outliers are told by the spread of the residuals, so the
    # loss is in units of sigma, estimated from their median absolute deviation.
    residuals = squares.residuals
    sigma = float(np.median(np.abs(residuals - np.median(residuals)))) / 0.6745
    huber = sym2tf.fit(line, data, params=squares.params, loss="huber", sigma=sigma)
    print(huber.summary())
    for name in (intercept, slope):
        print(f"{name}: least squares {squares.params[name]:.6f}, Huber {huber.params[name]:.6f}")

    for fit, name in ((squares, "least_squares"), (huber, "huber")):
        path = options.out / f"{name}.png"
        fit.plot(path)
        print(path)
    path = options.out / "residuals.png"
    squares.plot_residuals(path)
    print(path)


if __name__ == "__main__":
    main()
