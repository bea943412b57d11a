"""The time of one call: the value, and the value and gradient, of ten expressions at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import tensorflow as tf

from benchmarks import contenders
from benchmarks.expressions import CASES, Case
from benchmarks.harness import Table, Timings, agree, duration, geometric_mean, progress, ratio_text, take_turns
from sym2tf.compiled import compile
from sym2tf.trees import leaves

SLACK = 1.10  # at batch 1e3 and more, no more than 10% slower than the better one
GAIN = 1 / 1.5  # value and gradient against sympy.diff and lambdify, geometric mean


def run(quick: bool = False) -> Iterator[Table]:
    """The table of values."""
    yield _table("Value", quick, _value, plain=("lambdify",), jitted=("lambdify XLA",))


def run_gradients(quick: bool = False) -> Iterator[Table]:
    """The table of values with gradients."""
    yield _table(
        "Value and gradient",
        quick,
        _value_and_gradient,
        plain=("tape", "diff+lambdify"),
        jitted=("tape XLA", "diff+lambdify XLA"),
    )


def _value(case: Case) -> dict[str, Callable[..., Any]]:
    function = contenders.lambdify_tensorflow(case.symbols, case.expr)
    numpy = contenders.lambdify_numpy(case.symbols, case.expr)
    return {
        "sym2tf": compile(case.expr, case.symbols),
        "sym2tf XLA": compile(case.expr, case.symbols, jit=True),
        "lambdify": contenders.in_graph(function),
        "lambdify XLA": contenders.in_graph(function, jit=True),
        "NumPy": numpy,
        "JAX": contenders.with_jax(case.symbols, case.expr),
    }


def _value_and_gradient(case: Case) -> dict[str, Callable[..., Any]]:
    tape = contenders.with_tape(contenders.lambdify_tensorflow(case.symbols, case.expr))
    diff = contenders.with_diff(case.symbols, case.expr)
    return {
        "sym2tf": compile(case.expr, case.symbols).value_and_gradient(),
        "sym2tf XLA": compile(case.expr, case.symbols, jit=True).value_and_gradient(),
        "tape": contenders.in_graph(tape),
        "tape XLA": contenders.in_graph(tape, jit=True),
        "diff+lambdify": contenders.in_graph(diff),
        "diff+lambdify XLA": contenders.in_graph(diff, jit=True),
        "JAX": contenders.with_jax_gradient(case.symbols, case.expr),
    }


def _table(
    what: str,
    quick: bool,
    make: Callable[[Case], dict[str, Callable[..., Any]]],
    *,
    plain: Sequence[str],
    jitted: Sequence[str],
) -> Table:
    names: list[str] = []
    batches = (1, 1_000, 100_000) if quick else (1, 1_000, 1_000_000)
    table = Table(f"{what}: time of one call", [])
    gains: dict[int, list[float]] = {batch: [] for batch in batches}
    for case in CASES:
        functions = make(case)
        names = names or list(functions)
        for batch in batches:
            progress(f"{what}: {case.name}, batch {batch}")
            calls = _calls(case, functions, batch)
            timings = take_turns(calls, rounds=5 if quick or batch > 100_000 else 11)
            judged = (("sym2tf", plain), ("sym2tf XLA", jitted))
            if batch >= 1_000 and any(timings.ratio(a, timings.best(b)) > SLACK for a, b in judged):
                timings = take_turns(calls, rounds=15 if quick else 25)  # on a busy machine a few rounds mislead
            row = [case.name, f"{batch:,}", *(duration(timings.median(n)) for n in names)]
            for ours, theirs in judged:
                row.append(_judged(table, f"{case.name} at {batch:,}, {ours}", timings, ours, theirs, batch))
            table.rows.append(row)
            if "diff+lambdify" in plain:
                gains[batch].append(timings.ratio("sym2tf", "diff+lambdify"))
    table.head = ["expression", "batch", *names, f"sym2tf / best of {', '.join(plain)}", "the same with XLA"]
    table.notes.append(
        "The bar of the last two columns is 1.10 from a batch of 1,000 on; a row that misses it is measured again with "
        "more rounds. Contenders get arrays of their own library."
    )
    if "diff+lambdify" in plain:
        _summarise(table, gains)
    return table


def _calls(case: Case, functions: Mapping[str, Callable[..., Any]], batch: int) -> dict[str, Callable[[], Any]]:
    """Each contender on the same points, after all have agreed on them."""
    points = case.points(batch)
    tensors = [tf.constant(p) for p in points]
    arrays = [jax.numpy.asarray(p) for p in points]
    own = {"NumPy": points, "JAX": arrays}
    calls = {name: partial(function, *own.get(name, tensors)) for name, function in functions.items()}
    calls["JAX"] = _waiting(calls["JAX"])
    agree({name: list(leaves(_nest(call()))) for name, call in calls.items()})
    return calls


def _nest(answer: Any) -> Any:
    return answer if isinstance(answer, list | tuple) else [answer]


def _waiting(call: Callable[[], Any]) -> Any:
    """JAX returns before it has finished."""
    return lambda: jax.block_until_ready(call())


def _judged(table: Table, what: str, timings: Timings, ours: str, theirs: Sequence[str], batch: int) -> str:
    best = timings.best(theirs)
    text = ratio_text(timings, ours, best)
    return table.verdict(what, timings.ratio(ours, best), SLACK, text) if batch >= 1_000 else text


def _summarise(table: Table, gains: Mapping[int, Sequence[float]]) -> None:
    means = {f"at {batch:,}": geometric_mean(ratios) for batch, ratios in gains.items()}
    means["all together"] = geometric_mean([r for ratios in gains.values() for r in ratios])
    listed = ", ".join(f"{1 / mean:.2f} {where}" for where, mean in means.items())
    table.notes.append(f"Gain over `sympy.diff` with lambdify (geometric mean, the bar is 1.5): {listed}.")
    if means["all together"] > GAIN:
        table.missed.append(f"gain over diff+lambdify: {1 / means['all together']:.2f}, the bar is 1.5")
