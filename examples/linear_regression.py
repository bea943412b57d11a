"""A line through real data, from the symbolic cost to the fitted parameters, with a look at everything on the way.

    python examples/linear_regression.py [--data FILE] [--out FOLDER]

By default life expectancy against the logarithm of income in 142 countries; `--data` takes a table with a header
(tab or comma separated) whose last two columns are x and y.
"""

from __future__ import annotations

import argparse
import csv
import runpy
from pathlib import Path

import numpy as np
import sympy as sp

import sym2tf
from sym2tf.lazy import lazy

tf = lazy("tensorflow")  # imported when it is first used, and without its start-up messages

HERE = Path(__file__).parent
GAPMINDER = HERE / "data" / "gapminder_2007.csv"


def read_table(path: Path) -> tuple[np.ndarray, np.ndarray, str, str]:
    """The last two columns of a table, and their names."""
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines(), delimiter="\t" if "\t" in text else ","))
    columns = np.array([[float(cell) for cell in row[-2:]] for row in rows[1:]])
    return columns[:, 0], columns[:, 1], rows[0][-2], rows[0][-1]


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=GAPMINDER)
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    xs, ys, x_name, y_name = read_table(options.data)
    if options.data == GAPMINDER:
        xs, x_name = np.log10(xs), "log10 of income per person"
    print(f"{y_name} against {x_name}: {len(xs)} observations from {options.data.name}")

    # The cost as mathematics: w and b are parameters, x and y data with n observations.
    w, b = sp.symbols("w b")
    i, n = sp.symbols("i n", integer=True)
    x, y = sp.IndexedBase("x"), sp.IndexedBase("y")
    cost = sp.Sum((y[i] - w * x[i] - b) ** 2, (i, 0, n - 1)) / n

    heading("The cost, and its gradient as mathematics")
    f = sym2tf.compile(cost, args=(w, b, x, y), name="cost")
    gradient = f.gradient([w, b])
    sp.pprint(cost, use_unicode=False)
    for parameter, derivative in zip((w, b), sym2tf.to_sympy(gradient), strict=True):
        print(f"\nd cost / d {parameter} =\n")
        sp.pprint(derivative, use_unicode=False)

    heading("What the compiler did with cost and gradient together")
    both = f.value_and_gradient([w, b])
    print(both.report)

    heading("The fit")
    fit = sym2tf.fit(cost, data={x: xs, y: ys}, params={w: 0, b: 0})
    print(fit.summary())
    print(f"\nslope     w = {fit.params[w]:.8f} +- {fit.stderr[w]:.8f}")
    print(f"intercept b = {fit.params[b]:.8f} +- {fit.stderr[b]:.8f}")
    print(f"R2          = {fit.r_squared:.6f}")

    source = options.out / "cost.py"
    source.write_text(f.source, encoding="utf-8")

    heading("Agreement with TensorFlow's GradientTape")
    # The generated file stands alone: the tape differentiates TensorFlow's operations, not our derivative.
    at = [tf.constant(v, tf.float64) for v in (0.5, -1.0)]
    plain_cost = runpy.run_path(str(source))["cost"]
    with tf.GradientTape() as tape:
        tape.watch(at)
        value = plain_cost(*at, xs, ys)
    taped = tape.gradient(value, at)
    for parameter, ours, theirs in zip((w, b), gradient(*at, xs, ys), taped, strict=True):
        difference = abs(float(ours) - float(theirs)) / abs(float(theirs))
        print(
            f"d cost / d {parameter} at w = 0.5, b = -1: {float(ours):.12g}, tape {float(theirs):.12g}, "
            f"relative difference {difference:.1e}"
        )
    print("at the fitted parameters:", *(f"{float(g):.1e}" for g in gradient(fit.params[w], fit.params[b], xs, ys)))

    heading("Written")
    written = [source]
    for stage in ("lowered", "optimized"):
        for suffix in ("svg", "png"):
            path = options.out / f"gradient_{stage}.{suffix}"
            sym2tf.render(both, path, stage=stage)
            written.append(path)
    path = options.out / "fit.png"
    figure = fit.plot()
    axes = figure.axes[0]
    axes.set_xlabel(x_name.replace("_", " "))
    axes.set_ylabel(y_name.replace("_", " "))
    figure.savefig(path, dpi=150)
    written.append(path)
    for path in written:
        print(path)


if __name__ == "__main__":
    main()
