"""Hessians and gradients of losses with matrices, against GradientTape and JAX.

The Hessians are those of S. Laue, M. Mitterreiter, J. Giesen, "Computing Higher Order Derivatives of Matrix and Tensor
Expressions" (NeurIPS 2018): logistic regression, matrix factorisation, a two-layer network. Everybody gets the same
data and has the same loss, and all agree before they are timed. Losses are compiled from index notation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
import tensorflow as tf

from benchmarks.contenders import in_graph
from benchmarks.harness import Table, Timings, agree, duration, progress, ratio_text, take_turns
from sym2tf.compiled import compile

jax.config.update("jax_enable_x64", True)

i, j, k = sp.symbols("i j k", integer=True)
n, m, d, r = sp.symbols("n m d r", integer=True, positive=True)
X, Y, U, V, T, w, v = map(sp.IndexedBase, ("X", "Y", "U", "V", "T", "w", "v"))

GAIN = {"logistic regression": 1 / 1.5, "matrix factorisation": 1 / 50}  # ours over the better TensorFlow one
SLACK = 1.10  # against JAX, and of gradients against the tape


class Loss(NamedTuple):
    """A loss in SymPy, TensorFlow and JAX.

    Attributes:
        expr: with indices.
        args: in the order of the functions; the first is what the derivative is by.
        function: of arrays of `xp`, TensorFlow's or JAX's namespace below.
        shapes: of the arguments, given n (data) and d (unknowns in a row).
    """

    expr: Any
    args: tuple[Any, ...]
    function: Callable[..., Any]
    shapes: Callable[[int, int], Sequence[tuple[int, ...]]]


class Namespace(NamedTuple):
    """The few functions that the losses need."""

    mv: Callable[..., Any]
    mm: Callable[..., Any]
    total: Callable[..., Any]
    softplus: Callable[..., Any]
    tanh: Callable[..., Any]


TENSORFLOW = Namespace(
    tf.linalg.matvec, lambda a, b: tf.matmul(a, b, transpose_b=True), tf.reduce_sum, tf.math.softplus, tf.tanh
)
JAX = Namespace(lambda a, b: a @ b, lambda a, b: a @ b.T, jnp.sum, jax.nn.softplus, jnp.tanh)
HIDDEN = 10

_scores = sp.Sum(X[i, j] * w[j], (j, 0, d - 1))
_hidden = sp.tanh(sp.Sum(X[i, j] * U[k, j], (j, 0, d - 1)))
LOSSES = {
    "least squares": Loss(
        sp.Sum((_scores - Y[i]) ** 2, (i, 0, n - 1)),
        (w, X, Y),
        lambda xp, w, X, Y: xp.total((xp.mv(X, w) - Y) ** 2),
        lambda n, d: [(d,), (n, d), (n,)],
    ),
    "logistic regression": Loss(
        sp.Sum(sp.log(1 + sp.exp(-Y[i] * _scores)), (i, 0, n - 1)),
        (w, X, Y),
        lambda xp, w, X, Y: xp.total(xp.softplus(-Y * xp.mv(X, w))),
        lambda n, d: [(d,), (n, d), (n,)],
    ),
    "matrix factorisation": Loss(
        sp.Sum((T[i, j] - sp.Sum(U[i, k] * V[j, k], (k, 0, r - 1))) ** 2, (i, 0, n - 1), (j, 0, m - 1)),
        (U, V, T),
        lambda xp, U, V, T: xp.total((T - xp.mm(U, V)) ** 2),
        lambda n, d: [(n, d), (n, d), (n, n)],
    ),
    "two-layer network": Loss(
        sp.Sum((Y[i] - sp.Sum(v[k] * _hidden, (k, 0, r - 1))) ** 2, (i, 0, n - 1)),
        (U, v, X, Y),
        lambda xp, U, v, X, Y: xp.total((Y - xp.mv(xp.tanh(xp.mm(X, U)), v)) ** 2),
        lambda n, d: [(HIDDEN, d), (HIDDEN,), (n, d), (n,)],
    ),
}
HESSIANS = {
    "logistic regression": ((2_000, 200), (10_000, 100)),
    "matrix factorisation": ((150, 5), (200, 10)),
    "two-layer network": ((1_000, 30), (5_000, 20)),
}
ROWS, COLUMNS = 100_000, 100  # of the data of the gradients


def run(quick: bool = False) -> Iterator[Table]:
    """The table of Hessians."""
    table = Table("Hessians: time of one call", [])
    names: list[str] = []
    for name, cases in HESSIANS.items():
        for size in cases[:1] if quick else cases:
            progress(f"hessian of {name}, {size}")
            calls, nodes, seconds = _hessians(name, *size)
            timings = take_turns(calls, rounds=7 if quick else 15)
            names = list(calls)
            table.rows.append(_hessian_row(table, name, size, timings, nodes, seconds))
    table.head = ["loss", "n, d", "nodes", "compile", *names, "sym2tf / best TensorFlow", "sym2tf / JAX"]
    table.notes.append(
        "Tape: `GradientTape.jacobian` of `gradient`. Compile: from the SymPy expression to the graph of the Hessian. "
        "The factorisation is timed as factors, whose product is the Hessian, against the full array of the others."
    )
    yield table


def run_gradients(quick: bool = False) -> Iterator[Table]:
    """The table of values with gradients at 100,000 rows."""
    table = Table(f"Gradients: time of one call at {ROWS:,} by {COLUMNS}", [])
    names: list[str] = []
    for name in ("least squares", "logistic regression", "two-layer network"):
        progress(f"gradient of {name}")
        loss = LOSSES[name]
        values = _values(loss, ROWS // 10 if quick else ROWS, COLUMNS)
        ours = compile(loss.expr, args=loss.args).value_and_gradient(loss.args[0])
        plain = partial(loss.function, TENSORFLOW)

        def tape(x: Any, *rest: Any, plain: Callable[..., Any] = plain) -> list[Any]:
            with tf.GradientTape() as watched:
                watched.watch(x)
                y = plain(x, *rest)
            return [y, watched.gradient(y, x)]

        theirs = jax.jit(jax.value_and_grad(partial(loss.function, JAX)))
        calls = _calls({"sym2tf": ours, "tape": in_graph(tape), "tape XLA": in_graph(tape, jit=True)}, theirs, values)
        timings = take_turns(calls, rounds=9 if quick else 21, slice_s=0.1)
        names = list(calls)
        row = [name, *(duration(timings.median(x)) for x in names)]
        ratio = timings.ratio("sym2tf", "tape")
        text = ratio_text(timings, "sym2tf", "tape")
        row.append(table.verdict(f"gradient of {name}", ratio, SLACK, text))
        table.rows.append(row)
    table.head = ["loss", *names, "sym2tf / tape"]
    yield table


def _hessian_row(
    table: Table, name: str, size: tuple[int, int], timings: Timings, nodes: int, seconds: float
) -> list[str]:
    names = list(timings.seconds)
    best = timings.best([x for x in names if x.startswith("tape")])
    row = [
        name,
        f"{size[0]:,}, {size[1]}",
        str(nodes),
        duration(seconds),
        *(duration(timings.median(x)) for x in names),
    ]
    what = f"hessian of {name} at {size}"
    row.append(
        table.verdict(what, timings.ratio("sym2tf", best), GAIN.get(name, SLACK), ratio_text(timings, "sym2tf", best))
    )
    row.append(
        table.verdict(f"{what}, JAX", timings.ratio("sym2tf", "JAX"), SLACK, ratio_text(timings, "sym2tf", "JAX"))
    )
    return row


def _hessians(name: str, rows: int, columns: int) -> tuple[dict[str, Callable[[], Any]], int, float]:
    """Each contender on the same data, the nodes of our graph, and the seconds to make it."""
    loss = LOSSES[name]
    values = _values(loss, rows, columns)
    start = time.perf_counter()
    function = compile(loss.expr, args=loss.args)
    ours = function.hessian(loss.args[0])
    seconds = time.perf_counter() - start
    full: Any = ours
    if name == "matrix factorisation":
        ours = function.hessian(loss.args[0], compressed=True)
    plain = partial(loss.function, TENSORFLOW)

    def tape(x: Any, *rest: Any) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = plain(x, *rest)
            slope = inner.gradient(y, x)
        return outer.jacobian(slope, x)

    theirs = jax.jit(jax.hessian(partial(loss.function, JAX)))
    functions = {"sym2tf": full, "tape": in_graph(tape), "tape XLA": in_graph(tape, jit=True)}
    calls = _calls(functions, theirs, values)
    if ours is not full:
        calls["sym2tf"] = partial(ours, *map(tf.constant, values))
    return calls, len(full.graph), seconds


def _values(loss: Loss, rows: int, columns: int) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [0.3 * rng.normal(size=shape) for shape in loss.shapes(rows, columns)]


def _calls(
    functions: Mapping[str, Callable[..., Any]], theirs: Callable[..., Any], values: Sequence[np.ndarray]
) -> dict[str, Callable[[], Any]]:
    """Calls of all, JAX last, after they have agreed."""
    tensors = [tf.constant(x) for x in values]
    arrays = [jnp.asarray(x) for x in values]
    calls: dict[str, Callable[[], Any]] = {name: partial(f, *tensors) for name, f in functions.items()}
    calls["JAX"] = lambda: jax.block_until_ready(theirs(*arrays))
    answers = {name: call() for name, call in calls.items()}
    agree({name: [np.asarray(x) for x in (a if isinstance(a, list | tuple) else [a])] for name, a in answers.items()})
    return calls
