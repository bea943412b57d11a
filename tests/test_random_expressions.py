"""Two thousand random expressions against mpmath at 200 digits: value and gradient, through every stage but TensorFlow.

TensorFlow itself runs a part of them, many in one trace. What may go wrong with a number is judged as `sym2tf.check`
does: by the conditioning of the formula and by what the plain formula loses in NumPy.
"""

from __future__ import annotations

import random

import mpmath
import numpy as np
import pytest
import sympy as sp

import sym2tf
from sym2tf.autodiff import derivatives
from sym2tf.backends.mpmath import evaluate as exactly
from sym2tf.backends.numpy import evaluate as plainly
from sym2tf.errors import DtypeError, UnsupportedExpressionError
from sym2tf.passes.pipeline import optimize, stabilize

COUNT, CHUNK = 2000, 100
LARGEST = 1e300  # beyond it intermediate results overflow
DIGITS = 200  # 1 - tanh(200)**2 is 1e-174, not 0
x, y = sp.symbols("x y", real=True)
i, n = sp.symbols("i n", integer=True)
DATA = sp.IndexedBase("d")
UNARY = (
    sp.sin, sp.cos, sp.tan, sp.exp, sp.log, sp.sqrt, sp.tanh, sp.sinh, sp.cosh, sp.atan, sp.asin, sp.acos, sp.asinh,
    sp.Abs, sp.sign, sp.floor, sp.ceiling, sp.erf, lambda e: e**2, lambda e: e**3, lambda e: 1 / e, lambda e: -e,
    lambda e: e ** sp.Rational(3, 2), lambda e: sp.log(1 + sp.exp(e)), lambda e: 1 / (1 + sp.exp(-e)),
    lambda e: sp.exp(e) - 1, lambda e: 1 - sp.cos(e), lambda e: sp.log(1 + e),
)  # fmt: skip
BINARY = (
    sp.Add, sp.Mul, sp.Add, sp.Mul, lambda a, c: a - c, lambda a, c: a / c, sp.Max, sp.Min, sp.atan2, sp.Mod,
    lambda a, c: sp.Piecewise((a, x > 0), (c, True)), lambda a, c: sp.Piecewise((a, sp.And(a < c, y > -1)), (c, True)),
    lambda a, c: sp.Abs(a) ** c, lambda a, c: a + 2 * c, lambda a, c: a * a + c,
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 3, 10, sp.Rational(1, 2), sp.Rational(-2, 3), sp.Float(0.1), sp.Float(1e-8), sp.pi, sp.sqrt(2))
POINTS = {
    "x": np.array([0.3, -1.7, 0.0, 1.0, 25.0, 1e-6]), "y": np.array([-0.4, 0.9, 2.0, 0.0, -3.5, 1e3]),
    "d": np.tile([0.5, -1.2, 2.0], (6, 1)),
}  # fmt: skip


def expression(rng: random.Random, depth: int) -> sp.Expr:
    if depth == 0 or rng.random() < 0.1:
        return rng.choice([x, y, x, y, sp.sympify(rng.choice(NUMBERS))])
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(UNARY)(expression(rng, depth - 1))
    if kind < 0.95:
        return rng.choice(BINARY)(expression(rng, depth - 1), expression(rng, depth - 1))
    body = rng.choice([DATA[i] * x, sp.exp(-DATA[i]) + y, (DATA[i] - x) ** 2, sp.Max(DATA[i], x), i * DATA[i]])
    return (sp.Sum if rng.random() < 0.7 else sp.Product)(body, (i, 0, n - 1))


def sensible(expr: sp.Basic) -> bool:
    bad = (sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I)
    return not expr.has(*bad) and not expr.has(sp.re, sp.im, sp.arg, sp.Subs, sp.AccumBounds)


def random_graphs(chunk: int):
    rng = random.Random(f"sym2tf {chunk}")
    made = 0
    while made < CHUNK:
        try:
            expr = expression(rng, rng.randint(1, 5))
        except (ZeroDivisionError, TypeError, ValueError):  # SymPy refuses Mod(a, 0) and complex numbers
            continue
        if not sensible(expr):
            continue
        try:
            graph = sym2tf.lower(expr)
        except UnsupportedExpressionError:  # SymPy made something of it that is out of scope
            continue
        made += 1
        yield expr, graph


def inputs_of(graph):
    return {graph[v].attributes["name"]: POINTS[graph[v].attributes["name"]] for v in graph.inputs}


def wrong(graph, optimized, what: str) -> list[str]:
    """The points at which the optimised graph is worse than rounding, conditioning and the plain formula explain."""
    inputs = inputs_of(graph)
    wiggled = {k: np.nextafter(v, v + np.where(v >= 0, 1, -1)) for k, v in inputs.items()}
    try:
        got, plain, single = plainly(optimized, inputs), plainly(graph, inputs), plainly(graph, inputs, dtype="float32")
    except DtypeError:  # a constant such as exp(exp(1000)) that float64 cannot hold
        return []
    judged = ((graph, inputs), (graph, wiggled), (optimized, inputs))
    true, moved, form = (exactly(g, p, digits=DIGITS) for g, p in judged)
    problems = []
    for name in true:
        rows = zip(*(np.ravel(a[name]) for a in (got, plain, single, true, moved, form)), strict=True)
        for k, (g, p, s, t, m, f) in enumerate(rows):
            if not mpmath.isfinite(t) or abs(t) > LARGEST:
                continue
            with mpmath.workdps(DIGITS):
                exact = abs(mpmath.mpf(f) - t) <= 1e-25 * max(abs(t), 1)
                slack = abs(t) * mpmath.mpf(2) ** -52 * 64 + mpmath.mpf(2) ** -1000
                loss, spread = abs(mpmath.mpf(float(p)) - t), abs(m - t)
                # the plain formula may be right by luck where it cancels; float32 shows that it does
                coarse = abs(mpmath.mpf(float(s)) - t) * mpmath.mpf(2) ** -29
                loss = max(loss, coarse) if mpmath.isfinite(coarse) and mpmath.isfinite(loss) else loss
                near = (
                    not mpmath.isfinite(spread) or not mpmath.isfinite(loss)
                    or abs(mpmath.mpf(float(g)) - t) <= slack + 64 * (loss + spread)
                )  # fmt: skip
            if not exact or not near:
                problems.append(f"{what} {name} point {k}: {g}, plain {p}, exact {mpmath.nstr(t, 17)}")
    return problems


@pytest.mark.parametrize("chunk", range(COUNT // CHUNK))
def test_value_and_gradient_of_random_expressions_agree_with_mpmath(chunk):
    problems = []
    for k, (expr, graph) in enumerate(random_graphs(chunk)):
        optimized, _ = optimize(graph)
        optimized.validate()
        found = wrong(graph, optimized, "value")
        real = [v for v in graph.inputs if graph[v].attributes["name"] in "xy"]
        if real and k % 2 == 0:
            first = derivatives.gradient(graph, real)
            stable = stabilize(graph)
            second, _ = optimize(derivatives.gradient(stable, [stable.inputs[graph.inputs.index(v)] for v in real]))
            found += wrong(first, second.validate(), "gradient")
        problems += [f"{expr}: {p}" for p in found]
    assert not problems, "\n".join(problems)


def test_tensorflow_gives_what_numpy_gives():
    cases = [(e, g) for e, g in random_graphs(0)][:60]
    exprs = [e for e, _ in cases]
    f = sym2tf.compile(exprs, args=(x, y, DATA))
    answers = f(POINTS["x"], POINTS["y"], POINTS["d"])
    for (expr, graph), answer in zip(cases, answers, strict=True):
        (plain,) = plainly(graph, inputs_of(graph)).values()
        (true,) = exactly(graph, inputs_of(graph)).values()
        for got, p, t in zip(np.ravel(answer), np.broadcast_to(plain, (6,)), np.broadcast_to(true, (6,)), strict=True):
            if mpmath.isfinite(t):
                near = abs(mpmath.mpf(float(got)) - t) <= 1e-12 * max(abs(t), 1) + 64 * abs(mpmath.mpf(float(p)) - t)
                assert near or not np.isfinite(p), f"{expr}: {got}, NumPy {p}, exact {t}"
