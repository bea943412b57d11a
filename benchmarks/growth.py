"""How the time of every stage grows with the size of the graph: the exponent of a power law, 100 to 100,000 nodes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sympy as sp

from benchmarks.harness import Table, duration, exponent, progress
from sym2tf.autodiff import derivatives
from sym2tf.backends.tensorflow.source import generate_source
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.elementary import cos, sin
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value
from sym2tf.passes.pipeline import optimize

BAR = 1.1
SIZES = (100, 1_000, 10_000, 100_000)
ARGUMENTS = 8


def run(quick: bool = False) -> Iterator[Table]:
    """The table of exponents."""
    sizes = SIZES[:-1] if quick else SIZES
    table = Table(
        "Growth: processor time over the number of nodes",
        ["graph", "stage", *(f"{n:,} nodes" for n in sizes), "exponent", "exponent of the last step"],
    )
    for name, (expression, graph) in SHAPES.items():
        found: dict[str, list[float]] = {}
        for size in sizes:
            progress(f"growth: {name}, {size} nodes")
            for stage, seconds in _stages(expression, graph, size).items():
                found.setdefault(stage, []).append(seconds)
        for stage, seconds in found.items():
            slope = exponent(sizes[1:], seconds[1:])
            last = exponent(sizes[-2:], seconds[-2:])
            text = table.verdict(f"{stage} of a {name} graph", slope, BAR, f"{slope:.2f}")
            table.rows.append([name, stage, *map(duration, seconds), text, f"{last:.2f}"])
    table.notes.append("The exponent is fitted from 1,000 nodes on, where fixed costs no longer count; the bar is 1.1.")
    yield table


def _stages(expression: Callable[[int], Any], graph: Callable[[int], Graph], size: int) -> dict[str, float]:
    made: dict[str, Any] = {"expression": expression(size), "graph": graph(size)}
    stages: Mapping[str, Callable[[], Any]] = {
        "lower": lambda: lower(made["expression"]),
        "optimise": lambda: made.update(optimized=optimize(made["graph"])[0]),
        "differentiate": lambda: made.update(gradient=derivatives.gradient(made["graph"], made["graph"].inputs)),
        "optimise the gradient": lambda: optimize(made["gradient"]),
        "source": lambda: generate_source(made["optimized"]),
    }
    return {stage: _timed(call, repeats=5 if size <= 1_000 else 1) for stage, call in stages.items()}


def _timed(call: Callable[[], Any], *, repeats: int) -> float:
    """The least processor time of a few runs, in seconds; other programs on the machine do not count."""
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def _wide_expression(size: int) -> Any:
    x = sp.symbols(f"x:{ARGUMENTS}")
    terms = [sp.sin(sp.Mul(k, x[k % ARGUMENTS], evaluate=False), evaluate=False) for k in range(2, 2 + size // 3)]
    return sp.Add(*terms, evaluate=False)


def _deep_expression(size: int) -> Any:
    x = sp.symbols(f"x:{ARGUMENTS}")
    e = x[0]
    for k in range(size // 2):
        e = sp.Add(x[k % ARGUMENTS], sp.sin(e, evaluate=False), evaluate=False)
    return e


def _inputs(builder: Builder) -> list[Value]:
    real = TensorType(Kind.REAL, ())
    return [
        Value(builder, builder.add(input_, (), {"name": f"x{k}", "symbol": sp.Symbol(f"x{k}"), "type": real}))
        for k in range(ARGUMENTS)
    ]


def _wide_graph(size: int) -> Graph:
    """A sum of size/4 products of two different factors."""
    builder = Builder()
    x = _inputs(builder)
    terms = [sin((2 + k) * x[k % ARGUMENTS]) * cos(x[(k + 1) % ARGUMENTS] + k) for k in range(size // 7)]
    total = terms[0]
    while len(terms) > 1:  # flat sums come from the front end; here the optimiser has to make them so
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + terms[len(terms) & ~1 :]
        total = terms[0]
    return builder.build([v.id for v in x], {"out": total.id}, {"outputs": "out"})


def _deep_graph(size: int) -> Graph:
    """A chain of sines and products."""
    builder = Builder()
    x = _inputs(builder)
    value = x[0]
    for k in range(size // 2):
        value = sin(value) * x[k % ARGUMENTS]
    return builder.build([v.id for v in x], {"out": value.id}, {"outputs": "out"})


SHAPES: Mapping[str, tuple[Callable[[int], Any], Callable[[int], Graph]]] = {
    "wide": (_wide_expression, _wide_graph),
    "deep": (_deep_expression, _deep_graph),
}
