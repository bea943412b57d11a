"""What remains in memory after many functions were compiled, called, and dropped."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import psutil
import sympy as sp
from sympy.core.cache import clear_cache

from benchmarks.harness import Table, progress
from sym2tf.compiled import compile

BAR = 100.0  # MB after 2,000 functions
FUNCTIONS = 2_000
WARM = 100


def run(quick: bool = False) -> Iterator[Table]:
    """The table of memory left; a quick run extrapolates from a tenth of the functions."""
    count = FUNCTIONS // 10 if quick else FUNCTIONS
    table = Table("Memory", ["what", "functions", "seconds", "MB left", "MB left for 2,000"])
    _compile_and_drop(0, WARM)
    before = _resident()
    start = time.perf_counter()
    _compile_and_drop(WARM, count)
    seconds = time.perf_counter() - start
    left = _resident() - before
    scaled = left * FUNCTIONS / count
    table.rows.append(
        [
            "compiled, called, dropped",
            f"{count:,}",
            f"{seconds:.1f}",
            f"{left:.1f}",
            table.verdict("memory left", scaled, BAR, f"{scaled:.1f}"),
        ]
    )
    table.notes.append(f"After {WARM} functions to warm up; SymPy's own cache is cleared; the bar is 100 MB.")
    yield table


def _compile_and_drop(first: int, count: int) -> None:
    x, y = sp.symbols("x y")
    for k in range(first, first + count):
        compile(sp.sin(x * (k + 2)) * sp.exp(-(y**2)) + k)(0.5, 1.0)
        if k % 200 == 0:
            progress(f"memory: {k} functions")
    clear_cache()
    gc.collect()


def _resident() -> float:
    """Resident memory in MB."""
    return float(psutil.Process().memory_info().rss) / 1e6
