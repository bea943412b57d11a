"""The way to the first value: lowering or printing, tracing, the first call; small expressions and a large system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import sympy as sp
import tensorflow as tf
from sympy.core.cache import clear_cache
from sympy.physics.mechanics.models import n_link_pendulum_on_cart

from benchmarks import contenders
from benchmarks.expressions import CASES, Case
from benchmarks.harness import Table, agree, duration, progress, ratio_text, take_turns, take_turns_once
from sym2tf.compiled import compile
from sym2tf.trees import leaves

LINKS = 12


def run(quick: bool = False) -> Iterator[Table]:
    """The table of first calls."""
    table = Table(
        "First call: from the expression to the first value",
        ["expression", "what", "sym2tf", "lambdify", "sym2tf / lambdify"],
    )
    for case in CASES:
        progress(f"first call: {case.name}")
        points = [tf.constant(p) for p in case.points(3)]
        for what, ways in (("value", _values(case)), ("value and gradient", _gradients(case))):
            agree({name: list(leaves(_nest(way()(*points)))) for name, way in ways.items()})
            calls = {name: _first_call(way, points) for name, way in ways.items()}
            timings = take_turns_once(calls, rounds=3 if quick else 7)
            table.rows.append(
                [case.name, what, *(duration(timings.median(n)) for n in ways), ratio_text(timings, *ways)]
            )
    table.notes.append("SymPy's cache is cleared before each run. For the gradient, lambdify follows `sympy.diff`.")
    yield table


def _values(case: Case) -> dict[str, Callable[[], Any]]:
    return {
        "sym2tf": lambda: compile(case.expr, case.symbols),
        "lambdify": lambda: contenders.in_graph(contenders.lambdify_tensorflow(case.symbols, case.expr)),
    }


def _gradients(case: Case) -> dict[str, Callable[[], Any]]:
    return {
        "sym2tf": lambda: compile(case.expr, case.symbols).value_and_gradient(),
        "lambdify": lambda: contenders.in_graph(contenders.with_diff(case.symbols, case.expr)),
    }


def _nest(answer: Any) -> Any:
    return answer if isinstance(answer, list | tuple) else [answer]


def _first_call(make: Callable[[], Any], points: list[Any]) -> Callable[[], Any]:
    def call() -> Any:
        clear_cache()
        return make()(*points)

    return call


def pendulum() -> tuple[list[Any], list[Any]]:
    """Arguments and outputs of a pendulum with twelve links on a cart: mass matrix and forcing, 702 expressions."""
    system = n_link_pendulum_on_cart(LINKS)
    outputs = [*system.mass_matrix_full, *system.forcing_full]
    # coordinates and speeds are functions of time; both contenders get plain symbols
    functions = sorted(set().union(*(e.atoms(sp.core.function.AppliedUndef) for e in outputs)), key=str)
    plain = {f: sp.Symbol(f.func.__name__) for f in functions}
    outputs = [e.xreplace(plain) for e in outputs]
    symbols = sorted(set().union(*(e.free_symbols for e in outputs)), key=str)
    return symbols, outputs


def run_pendulum(quick: bool = False) -> Iterator[Table]:
    """The table of the pendulum."""
    symbols, outputs = pendulum()
    table = Table(
        f"The {LINKS}-link pendulum on a cart: {len(outputs)} outputs, {sum(map(sp.count_ops, outputs)):,} operations",
        ["what", "sym2tf", "lambdify, cse=True", "sym2tf / lambdify", "bar"],
    )
    points = np.random.default_rng(20260115).uniform(0.5, 1.5, (len(symbols), 10_000))
    one = [tf.constant(p[0]) for p in points]
    many = [tf.constant(p) for p in points]
    made: dict[str, Any] = {}

    def first(name: str, make: Callable[[], Any]) -> Callable[[], None]:
        def call() -> None:
            progress(f"pendulum: first call, {name}")
            clear_cache()
            made[name] = make()
            made[name](*one)

        return call

    ways: Mapping[str, Callable[[], Any]] = {
        "sym2tf": lambda: compile(outputs, symbols),
        "lambdify": lambda: contenders.in_graph(contenders.lambdify_tensorflow(symbols, outputs)),
    }
    timings = take_turns_once({name: first(name, make) for name, make in ways.items()}, rounds=1 if quick else 3)
    agree({name: [np.broadcast_to(a, ()) for a in function(*one)] for name, function in made.items()})
    table.rows.append(_judged(table, "first call", timings, 1.0))
    for what, where, bar, rounds in (("one point", one, None, 11), ("a batch of 10,000", many, 0.5, 3 if quick else 7)):
        progress(f"pendulum: {what}")
        timings = take_turns({name: lambda f=f, w=where: f(*w) for name, f in made.items()}, rounds=rounds)
        table.rows.append(_judged(table, what, timings, bar))
    yield table


def _judged(table: Table, what: str, timings: Any, bar: float | None) -> list[str]:
    text = ratio_text(timings, "sym2tf", "lambdify")
    if bar is not None:
        text = table.verdict(f"pendulum, {what}", timings.ratio("sym2tf", "lambdify"), bar, text)
    medians = (duration(timings.median(n)) for n in ("sym2tf", "lambdify"))
    return [what, *medians, text, "" if bar is None else f"{bar:g}"]
