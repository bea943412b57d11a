"""Linear regression over a stream of rows that are never in memory at once.

    python examples/streams.py [--out FOLDER] [--rows N]

The rows are made as they are needed and forgotten after; one pass of a QR factorisation is all that a linear model
takes. By default a million rows; `--rows 100000000` needs as much memory, and a minute or two.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

import sym2tf

n, k = sp.symbols("n k", integer=True, positive=True)
X, w, y = sp.MatrixSymbol("X", n, k), sp.MatrixSymbol("w", k, 1), sp.MatrixSymbol("y", n, 1)
WEIGHTS = np.arange(1.0, 11.0)[:, None]
BATCH = 10_000


def batches(rows: int) -> Iterator[dict[Any, np.ndarray]]:
    """Rows whose first column is 1, and what is observed there, with errors of standard deviation 0.5."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, BATCH):
        columns = rng.normal(size=(min(BATCH, rows - start), len(WEIGHTS)))
        columns[:, 0] = 1
        yield {X: columns, y: columns @ WEIGHTS + 0.5 * rng.normal(size=(len(columns), 1))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("output"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    tracemalloc.start()  # sees the arrays of NumPy
    fit = sym2tf.fit(sp.Eq(y, X * w), data=batches(options.rows), params=[w])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(fit.summary())
    off = np.abs((fit.params[w] - WEIGHTS) / fit.stderr[w]).max()
    print(f"{options.rows} rows; the largest error is {off:.1f} standard errors")
    print(
        f"memory: at most {peak / 1e6:.0f} MB at once, of {options.rows * (len(WEIGHTS) + 1) * 8 / 1e6:.0f} MB of data"
    )

    path = options.out / "stream.fit"
    fit.save(path)
    print(path)


if __name__ == "__main__":
    main()
