"""Linear fits over streams that fit into no memory: seconds, rows a second, and peak memory, which must be flat."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

from benchmarks.harness import Table, progress
from sym2tf.fit.api import fit
from sym2tf.fit.result import FitResult

ROWS = (1_000_000, 10_000_000, 100_000_000)
COLUMNS = 10
BLOCK = 100_000
GROWTH = 1.1  # of the peak of memory, from the shortest stream to the longest
NOISE = 0.5
TRUTH = np.linspace(-1, 1, COLUMNS)


def run(quick: bool = False) -> Iterator[Table]:
    """The table of streams, each fitted in a process of its own; a quick run leaves the longest out."""
    head = ["rows", "columns", "seconds", "of them drawing numbers", "rows a second", "peak MB", "largest error / s.e."]
    table = Table("Linear fits over streams", head)
    peaks: list[float] = []
    for rows in ROWS[:-1] if quick else ROWS:
        progress(f"streams: {rows:,} rows")
        found = _in_a_process(rows)
        peaks.append(found["megabytes"])
        growth = peaks[-1] / peaks[0]
        table.rows.append(
            [
                f"{rows:,}",
                str(COLUMNS),
                f"{found['seconds']:.1f}",
                f"{found['drawing']:.1f}",
                f"{rows / found['seconds']:.3g}",
                table.verdict(f"memory at {rows:,} rows", growth, GROWTH, f"{peaks[-1]:.0f}"),
                f"{found['error']:.2f}",
            ]
        )
    table.notes.append(
        f"An intercept and {COLUMNS} regressors, drawn in batches of {BLOCK:,} rows and never stored; the bar for "
        f"memory is {GROWTH} times that of the shortest stream. The error is of the estimates, in standard errors."
    )
    yield table


def batches(rows: int, drawing: list[float]) -> Iterator[dict[str, Any]]:
    """Rows of a linear model, the same ones every time; the seconds that it takes to draw them go to `drawing`."""
    for k, start in enumerate(range(0, rows, BLOCK)):
        began = time.perf_counter()
        rng = np.random.default_rng([0, k])
        count = min(BLOCK, rows - start)
        X = rng.standard_normal((count, COLUMNS))
        y = X @ TRUTH + 3 + NOISE * rng.standard_normal(count)
        drawing.append(time.perf_counter() - began)
        yield {"X": X, "y": y}


def fit_rows(rows: int) -> dict[str, float]:
    """Fit that many rows in this process: what it takes, and how far off the estimates are."""
    i, j, n, k = sp.symbols("i j n k", integer=True)
    X, y, w = map(sp.IndexedBase, ("X", "y", "w"))
    b = sp.Symbol("b")
    model = b + sp.Sum(X[i, j] * w[j], (j, 0, k - 1))
    drawing: list[float] = []
    start = time.perf_counter()
    result = fit(sp.Sum((y[i] - model) ** 2, (i, 0, n - 1)), batches(rows, drawing), {w: np.zeros(COLUMNS), b: 0})
    seconds = time.perf_counter() - start
    # not `ru_maxrss`: a process starts with that of the one that started it
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    assert isinstance(result, FitResult)
    assert result.observations == rows
    assert result.standard_errors is not None
    error = np.abs(result.estimates - [*TRUTH, 3]) / result.standard_errors
    return {"seconds": seconds, "drawing": sum(drawing), "megabytes": peak, "error": float(error.max())}


def _in_a_process(rows: int) -> dict[str, float]:
    """The same in a process of its own, where nothing before it has raised the peak of memory."""
    command = [sys.executable, "-m", "benchmarks.streams", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    print(json.dumps(fit_rows(int(sys.argv[1]))))
