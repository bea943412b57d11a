"""Random index expressions against an interpreter that loops: whatever the notation says, the graph computes."""

from __future__ import annotations

import itertools
import math
import operator
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy as sp

from sym2tf.autodiff.derivatives import jvp, vjp
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.tensorflow import direct
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind
from sym2tf.lazy import lazy
from sym2tf.notation import MaxOver, MinOver
from sym2tf.passes.pipeline import optimize, stabilize

tf = lazy("tensorflow")

N, M = 5, 3
n, m = sp.symbols("n m", integer=True, positive=True)
x, y = (sp.IndexedBase(name, shape=(n,)) for name in "xy")
w = sp.IndexedBase("w", shape=(m,))
A, B = sp.IndexedBase("A", shape=(n, n)), sp.IndexedBase("B", shape=(n, m))
g, h, start, stop = (sp.IndexedBase(name, shape=(n,)) for name in ("g", "h", "start", "stop"))
scale = sp.Symbol("c", real=True)
LENGTHS = {"x": (N,), "y": (N,), "w": (M,), "A": (N, N), "B": (N, M)}


# The interpreter: a SymPy tree, the values of its indices, and loops


def interpret(expr: Any, known: dict[Any, int], data: dict[str, Any]) -> Any:
    """The number that `expr` is where indices have the values `known`."""
    if isinstance(expr, sp.Sum | sp.Product | MaxOver | MinOver):
        terms = list(_terms(expr.function, list(expr.limits), known, data))
        return _REDUCE[type(expr)](terms)
    if isinstance(expr, sp.Indexed):
        at = tuple(interpret(s, known, data) for s in expr.indices)
        values = data[str(expr.base.label)]
        if any(not 0 <= k < length for k, length in zip(at, values.shape, strict=True)):
            raise IndexError(f"{expr} at {at}")
        return values[at].item()
    if isinstance(expr, sp.Symbol):
        return known[expr] if expr in known else data[str(expr)]
    if isinstance(expr, sp.Piecewise):
        return next((interpret(b.expr, known, data) for b in expr.args if interpret(b.cond, known, data)), math.nan)
    if isinstance(expr, sp.Rational):
        return expr.p if expr.q == 1 else expr.p / expr.q
    if expr in (sp.true, sp.false):
        return bool(expr)
    if isinstance(expr, sp.floor):  # exactly: the argument is a fraction of integers
        above, below = sp.fraction(sp.together(expr.args[0]))
        return interpret(above, known, data) // interpret(below, known, data)
    return _FUNCTIONS[type(expr)](*(interpret(a, known, data) for a in expr.args))


def _terms(body: Any, limits: list[Any], known: dict[Any, int], data: dict[str, Any]) -> Any:
    if not limits:
        yield interpret(body, known, data)
        return
    *inner, (index, low, high) = limits
    for k in range(interpret(low, known, data), interpret(high, known, data) + 1):
        yield from _terms(body, inner, {**known, index: k}, data)


_REDUCE: dict[Any, Callable[[list[Any]], Any]] = {
    sp.Sum: sum,
    sp.Product: math.prod,
    MaxOver: lambda terms: max(terms, default=-math.inf),
    MinOver: lambda terms: min(terms, default=math.inf),
}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    sp.Add: lambda *xs: sum(xs),
    sp.Mul: lambda *xs: math.prod(xs),
    sp.Pow: operator.pow,
    sp.sin: math.sin,
    sp.tanh: math.tanh,
    sp.exp: math.exp,
    sp.Max: max,
    sp.Min: min,
    sp.Mod: operator.mod,
    sp.KroneckerDelta: lambda a, b: int(a == b),
    sp.StrictLessThan: operator.lt,
    sp.LessThan: operator.le,
    sp.StrictGreaterThan: operator.gt,
    sp.GreaterThan: operator.ge,
    sp.Eq: operator.eq,
    sp.Ne: operator.ne,
    sp.And: lambda *xs: all(xs),
    sp.Or: lambda *xs: any(xs),
    sp.Not: operator.not_,
}


# The generator


@dataclass(frozen=True)
class Known:
    """An index in scope, and the subscripts made of it that stay inside axes of length n and of length m."""

    symbol: Any
    long: tuple[Any, ...]
    short: tuple[Any, ...] = ()
    kind: str = "other"


def whole(s: Any) -> Known:
    return Known(s, (s, s, n - 1 - s, g[s], sp.Mod(s + 1, n), sp.floor(s / 2), g[n - 1 - s], g[g[s]]), (h[s],), "n")


class Generator:
    """Random expressions, all of whose subscripts stay inside the data."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0

    def choose(self, options: Any) -> Any:
        return self.random.choice(list(options))

    def fresh(self) -> Any:
        self.count += 1
        return sp.Symbol(f"i{self.count}", integer=True)

    def limit(self, scope: list[Known]) -> tuple[tuple[Any, Any, Any], Known]:
        """A range, and what it makes possible; it may depend on an index in scope."""
        s = self.fresh()
        ranges: list[tuple[tuple[Any, Any, Any], Known]] = [
            ((s, 0, n - 1), whole(s)),
            ((s, 0, n - 1), whole(s)),
            ((s, 1, n - 2), Known(s, (s, s - 1, s + 1, n - 1 - s, g[s + 1]), (), "inside")),
            ((s, 0, m - 1), Known(s, (s, s + 1, 2 * s, s + n - m), (s, m - 1 - s))),
            ((s, 0, 2), Known(s, (s, 2 * s, 4 - 2 * s), (s,))),
        ]
        outer = [k for k in scope if k.kind in ("n", "inside")]
        if outer and self.random.random() < 0.6:
            t = self.choose(outer).symbol
            ranges = [
                ((s, 0, t), Known(s, (s, t - s, g[s], n - 1 - s), (h[s],), "n")),
                ((s, 0, t - 1), Known(s, (s, s + 1, t - s, t - 1 - s))),
                ((s, t, n - 1), Known(s, (s, s - t, g[s - t]), (h[s],), "n")),
                ((s, t + 1, n - 1), Known(s, (s, s - 1, s - t, s - t - 1))),
                ((s, 0, n - 1 - t), Known(s, (s, s + t, g[s + t]))),
                ((s, 0, g[t]), Known(s, (s, g[t] - s))),
                ((s, start[t], stop[t] - 1), Known(s, (s, s - start[t]))),
            ]
            ranges += [
                ((s, g[t], n - 1), Known(s, (s, s - g[t]))),
                ((s, start[t], t), Known(s, (s, t - s, s - start[t]))),
            ]
            if any(k.symbol is t and k.kind == "inside" for k in outer):
                window = Known(s, (t + s - 1, t + s - 1, t - s + 1), (s, s, m - 1 - s))
                ranges.append(((s, t - 1, t + 1), Known(s, (s, g[s], s - t + 1))))
                ranges += [((s, 0, 2), window), ((s, 0, m - 1), window), ((s, 0, 2), window)]
        return self.choose(ranges)

    def subscript(self, scope: list[Known], *, short: bool = False) -> Any:
        options = [s for k in scope for s in (k.short if short else k.long)]
        if not options or self.random.random() < 0.1:
            return self.choose([0, 1, m - 1] if short else [0, 2, n - 1])
        return self.choose(options)

    def element(self, scope: list[Known]) -> Any:
        base = self.choose([x, x, y, w, A, A, B])
        return base[tuple(self.subscript(scope, short=length == M) for length in LENGTHS[str(base.label)])]

    def delta(self, scope: list[Known]) -> Any:
        symbols = [k.symbol for k in scope]
        others = [*symbols, 1, *(s + 1 for s in symbols), *(g[k.symbol] for k in scope if k.kind == "n")]
        return sp.KroneckerDelta(self.choose(others), self.choose(symbols))

    def condition(self, scope: list[Known]) -> Any:
        symbols = [k.symbol for k in scope]
        relation = self.choose([sp.Lt, sp.Le, sp.Eq, sp.Ne])
        return relation(self.choose(symbols), self.choose([*symbols, 1, 2]))

    def expression(self, scope: list[Known], depth: int) -> Any:
        if depth <= 0:
            atoms: list[Callable[[], Any]] = [lambda: self.element(scope)] * 6 + [lambda: scale]
            if scope:
                atoms += [lambda: self.delta(scope), lambda: self.choose(scope).symbol / 4]
            return self.choose(atoms)()
        kinds = ["add", "mul", "mul", "function", "bind", "bind", "window"] + ["piecewise", "delta"] * bool(scope)
        return getattr(self, f"_{self.choose(kinds)}")(scope, depth - 1)

    def _add(self, scope: list[Known], depth: int) -> Any:
        return self.expression(scope, depth) + self.choose([1, -1, sp.Rational(1, 3)]) * self.expression(scope, depth)

    def _mul(self, scope: list[Known], depth: int) -> Any:
        return self.expression(scope, depth) * self.expression(scope, depth)

    def _delta(self, scope: list[Known], depth: int) -> Any:
        return self.delta(scope) * self.expression(scope, depth)

    def _function(self, scope: list[Known], depth: int) -> Any:
        return self.choose([sp.sin, sp.tanh, lambda e: e**2, lambda e: sp.exp(sp.tanh(e))])(
            self.expression(scope, depth)
        )

    def _piecewise(self, scope: list[Known], depth: int) -> Any:
        return sp.Piecewise(
            (self.expression(scope, depth), self.condition(scope)), (self.expression(scope, depth), True)
        )

    def _window(self, scope: list[Known], depth: int) -> Any:
        """A kernel on windows of the data, at every place where it fits, with what else depends on the place."""
        t, s = self.fresh(), self.fresh()
        inner = [*scope, Known(t, (t, t - 1, t + 1, n - 1 - t), (), "inside")]
        place = self.choose([t + s - 1, t + s - 1, t - s + 1, n - 2 - t + s])
        data = self.choose([x[place], y[place], A[place, self.subscript(inner)], A[self.subscript(scope), place]])
        data = self.choose([data, data, sp.tanh(data), data * y[place], data**2])
        kernel = self.choose([w[s], scale * w[m - 1 - s], s / 2 + 1, B[self.subscript(scope), s], w[s] * y[s]])
        more = self.expression(inner, depth)
        if self.random.random() < 0.5:
            return sp.Sum(kernel * data * more, (s, 0, m - 1), (t, 1, n - 2))
        return sp.Sum(sp.tanh(sp.Sum(kernel * data, (s, 0, self.choose([m - 1, 2])))) * more, (t, 1, n - 2))

    def _bind(self, scope: list[Known], depth: int) -> Any:
        limits, inner = [], list(scope)
        for _ in range(self.choose([1, 1, 1, 2])):
            limit, known = self.limit(inner)
            limits.insert(0, limit)  # SymPy writes the innermost first
            inner.append(known)
        body = self.expression(inner, depth)
        kind = self.choose([sp.Sum, sp.Sum, sp.Sum, sp.Sum, sp.Product, MaxOver, MinOver])
        if kind is sp.Product:
            return sp.Product(1 + sp.tanh(body) / 4, *limits)
        if kind in (MaxOver, MinOver):
            return sp.tanh(kind(body, *limits))  # over nothing it is infinite
        return kind(body, *limits)


def case(seed: int) -> tuple[Any, dict[str, Any]]:
    """A random expression, and data."""
    generator = Generator(seed)
    free = [sp.Symbol(name, integer=True) for name in "ab"[: generator.choose([0, 0, 0, 1, 2])]]
    expr = generator.expression([whole(s) for s in free], generator.choose([2, 3, 3, 4]))
    rng = np.random.default_rng(seed)
    data = {name: rng.normal(size=shape) for name, shape in LENGTHS.items()}
    first = rng.integers(0, N + 1, N)
    data |= {"g": rng.integers(0, N, N), "h": rng.integers(0, M, N), "c": rng.normal()}
    data |= {"start": first, "stop": np.minimum(first + rng.integers(0, 3, N), N)}
    return expr, data


def interpreted(expr: Any, graph: Graph, data: dict[str, Any]) -> Any:
    """The output by loops, for every value of the free indices that the graph has as axes."""
    free = sorted(_free(expr), key=str)
    known = {n: N, m: M}
    shape = (N,) * len(free)
    values = [interpret(expr, known | dict(zip(free, at, strict=True)), data) for at in np.ndindex(shape)]
    return np.array(values, float).reshape(shape)


def _free(expr: Any) -> set[Any]:
    return {s for s in expr.free_symbols if isinstance(s, sp.Symbol) and str(s) in ("a", "b")}


def names(graph: Graph) -> list[str]:
    return [graph[v].attributes["name"] for v in graph.inputs]


def ready(seed: int) -> tuple[Any, Graph, dict[str, Any], Any] | None:
    """An expression with its graph, its data and its value; None where no index or no data are left in it."""
    expr, data = case(seed)
    if not expr.atoms(sp.Indexed) or not _free(expr) <= _in_subscripts(expr) or _torn(expr):
        return None
    graph = lower(expr, indices=sorted(_free(expr), key=str)).validate()
    return expr, graph, {name: data[name] for name in names(graph)}, interpreted(expr, graph, data)


def examples(after: int) -> Iterator[tuple[int, Any, Graph, dict[str, Any], Any]]:
    """What `ready` makes of the seeds after `after`, with the seeds; those of which it makes nothing left out."""
    for seed in itertools.count(after + 1):
        made = ready(seed)
        if made is not None:
            yield seed, *made


def differentiable(after: int) -> Iterator[tuple[Graph, list[int], dict[str, Any], Any]]:
    """Those with real inputs, as graphs to be differentiated: graph, real inputs, data, value."""
    for _, _, graph, data, due in examples(after):
        graph = stabilize(graph)
        wrt = [v for v in graph.inputs if graph[v].type.kind >= Kind.REAL]
        if wrt:
            yield graph, wrt, data, due


def _torn(expr: Any) -> bool:
    """Whether SymPy pulled a condition on a bound index out of the sum that binds it, as piecewise_fold does (1.14)."""
    return any(str(s).startswith("i") for s in expr.free_symbols)


def _in_subscripts(expr: Any) -> set[Any]:
    return {s for e in expr.atoms(sp.Indexed) for index in e.indices for s in index.free_symbols}


def given(graph: Graph) -> dict[str, int]:
    """The sizes, which data that are not used cannot say."""
    return {name: M if name == "m" else N for name in graph.info["sizes"]}


COUNT, CHUNK = 1000, 100
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize("chunk", range(COUNT // CHUNK))
def test_random_index_expressions_equal_loops(chunk: int) -> None:
    checked = 0
    for seed in range(chunk * 2 * CHUNK, (chunk + 1) * 2 * CHUNK):
        if checked == CHUNK:
            break
        made = ready(seed)
        if made is None:
            continue
        expr, graph, data, due = made
        answer = evaluate(graph, data, given(graph))["out"]
        np.testing.assert_allclose(answer, due, err_msg=f"seed {seed}: {expr}", **TOLERANCE)
        if seed % 5 == 0:
            answer = evaluate(optimize(graph)[0], data, given(graph))["out"]
            np.testing.assert_allclose(answer, due, err_msg=f"optimised, seed {seed}: {expr}", **TOLERANCE)
        checked += 1
    assert checked == CHUNK


DERIVATIVES, STEP = 120, 1e-6


def test_derivatives_of_random_index_expressions_equal_differences_of_loops() -> None:
    for seed, expr, graph, data, due in itertools.islice(examples(10_000), DERIVATIVES):
        real = [v for v in graph.inputs if graph[v].type.kind is Kind.REAL]
        rng = np.random.default_rng(seed)
        direction = {graph[v].attributes["name"]: rng.normal(size=np.shape(data[names_of(graph, v)])) for v in real}
        sides = [
            interpreted(expr, graph, data | {k: np.asarray(data[k]) + sign * STEP * d for k, d in direction.items()})
            for sign in (1, -1)
        ]
        slope = (sides[0] - sides[1]) / (2 * STEP)
        forward = jvp(graph, real)
        tangents = dict(zip(names(forward)[len(graph.inputs) :], direction.values(), strict=True))
        (answer,) = evaluate(forward, data | tangents, given(forward)).values()
        scale_ = 1 + np.max(np.abs(due))
        np.testing.assert_allclose(answer, slope, rtol=1e-5, atol=1e-7 * scale_, err_msg=f"jvp, seed {seed}: {expr}")
        backward = vjp(graph, real)
        weight = rng.normal(size=due.shape)
        pulled = evaluate(backward, data | {names(backward)[-1]: weight}, given(backward)).values()
        product = sum(np.sum(p * d) for p, d in zip(pulled, direction.values(), strict=True))
        np.testing.assert_allclose(
            product, np.sum(weight * slope), rtol=1e-5, atol=1e-6 * scale_, err_msg=f"vjp, seed {seed}: {expr}"
        )


def names_of(graph: Graph, v: int) -> str:
    name: str = graph[v].attributes["name"]
    return name


def test_random_index_expressions_in_tensorflow_equal_loops() -> None:
    for seed, expr, graph, data, due in itertools.islice(examples(20_000), 30):
        sizes = given(graph)
        tensors = {name: tf.constant(np.asarray(value)) for name, value in data.items()}
        answer = direct.run(optimize(graph)[0], tensors, sizes)["out"]
        np.testing.assert_allclose(answer, due, err_msg=f"seed {seed}: {expr}", **TOLERANCE)
