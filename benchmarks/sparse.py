"""Sparse Jacobians and Hessians against dense ones, and against one gradient, the least that there is to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
import tensorflow as tf

from benchmarks.harness import Table, duration, progress, ratio_text, take_turns
from sym2tf.compiled import CompiledFunction, compile
from sym2tf.structured.sparse import SparseDerivative

DENSE = 3_000  # variables beyond which a dense matrix is not made: 72 MB here, 80 GB at the largest
BAR = 1.0  # never slower than dense from 1,000 variables on
SWEEPS = 10.0  # values of a matrix of few colours within that many gradients
STRUCTURE = 5.0  # seconds for the pattern and the colours at 100,000 variables


@dataclass(frozen=True)
class Case:
    """A function of a vector x, and which derivative of it is sparse."""

    name: str
    expr: Any
    order: int

    def derivative(self, f: CompiledFunction, *, sparse: bool) -> CompiledFunction | SparseDerivative:
        """The derivative by x."""
        make: Callable[..., Any] = f.jacobian if self.order == 1 else f.hessian
        made: CompiledFunction | SparseDerivative = make("x", sparse=True) if sparse else make("x")
        return made


def cases() -> Iterator[Case]:
    """A chain, an arrow, a separable sum, and a nonlinear diffusion on a line."""
    n = sp.Symbol("n", integer=True)
    i, x = sp.Idx("i"), sp.IndexedBase("x")
    yield Case(
        "Rosenbrock chain, Hessian", sp.Sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2, (i, 0, n - 2)), 2
    )
    yield Case("arrow, Hessian", sp.Sum((x[i + 1] * x[0] - 1) ** 2 + sp.cosh(x[i + 1]), (i, 0, n - 2)), 2)
    yield Case("separable sum, Hessian", sp.Sum(sp.exp(x[i]) * sp.sin(x[i]), (i, 0, n - 1)), 2)
    yield Case("diffusion with reaction, Jacobian", x[i] - 2 * x[i + 1] + x[i + 2] + sp.exp(-(x[i + 1] ** 2)), 1)


def run(quick: bool = False) -> Iterator[Table]:
    """One row for each case and size."""
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000)
    head = ["derivative", "variables", "entries", "colours", "pattern and colours", "sparse", "dense", "sparse / dense"]
    table = Table("Sparse derivatives: time of one call", [*head, "sparse / gradient"])
    for case in cases():
        f = compile(case.expr)
        sparse, dense = case.derivative(f, sparse=True), case.derivative(f, sparse=False)
        assert isinstance(sparse, SparseDerivative)
        gradient = (
            f if case.order == 2 else compile(sp.Sum(case.expr**2, (sp.Idx("i"), 0, sp.Symbol("n") - 3)))
        ).gradient("x")
        sparse.pattern(np.zeros(8))  # what is done once for all sizes
        for size in sizes:
            progress(f"sparse: {case.name}, {size:,} variables")
            table.rows.append(_row(table, case.name, size, sparse, dense, gradient, quick))
    table.notes.append(
        f"Dense derivatives are made up to {DENSE:,} variables. Pattern and colours are found once for each size; the "
        f"bar is {STRUCTURE:g} s. The bar against dense is {BAR:g}, against the gradient {SWEEPS:g}."
    )
    yield table


def _row(
    table: Table,
    name: str,
    size: int,
    sparse: SparseDerivative,
    dense: Any,
    gradient: CompiledFunction,
    quick: bool,
) -> list[str]:
    x = tf.constant(np.random.default_rng(0).normal(size=size))
    start = time.perf_counter()
    pattern = sparse.pattern(x)
    seconds = time.perf_counter() - start
    calls: dict[str, Callable[[], Any]] = {"sparse": lambda: sparse(x), "gradient": lambda: gradient(x)}
    if size <= DENSE:
        whole = np.asarray(dense(x))
        assert np.allclose(sparse.to_scipy(x).toarray(), whole.reshape(pattern.shape), rtol=1e-9, atol=1e-9), name
        calls["dense"] = lambda: dense(x)
    timings = take_turns(calls, rounds=5 if quick else 11)
    what = f"{name} at {size:,}"
    found = table.verdict(f"{what}, structure", seconds, STRUCTURE, duration(seconds))
    against = timings.ratio("sparse", "gradient")
    row = [
        name,
        f"{size:,}",
        f"{len(pattern.rows):,}",
        str(sparse.sweeps(x)),
        found,
        duration(timings.median("sparse")),
    ]
    if "dense" in calls:
        ratio = timings.ratio("sparse", "dense")
        row += [
            duration(timings.median("dense")),
            table.verdict(what, ratio, BAR, ratio_text(timings, "sparse", "dense")),
        ]
    else:
        row += ["", ""]
    return [*row, table.verdict(f"{what}, gradients", against, SWEEPS, ratio_text(timings, "sparse", "gradient"))]
