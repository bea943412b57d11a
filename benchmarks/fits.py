"""Fits against `curve_fit`, lmfit, statsmodels and iminuit: small problems, large ones, and many at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import iminuit
import lmfit
import numpy as np
import statsmodels.api as sm
import sympy as sp
from iminuit.cost import LeastSquares
from scipy.optimize import curve_fit

from benchmarks import nist
from benchmarks.harness import Table, Timings, duration, progress, ratio_text, take_turns, take_turns_once
from sym2tf.fit.api import fit
from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.statement.classify import classify
from sym2tf.fit.statement.state import state

Array = np.ndarray[Any, Any]
Call = Callable[[], Any]

SMALL_BAR = 2.0  # times the best of the others, after the first call
LARGE_BAR = 1 / 3  # of the time of curve_fit
BATCH_BAR = 1 / 50  # of the time of a loop of curve_fit
PEERS = ("curve_fit", "curve_fit, exact Jacobian", "lmfit", "iminuit")

t, v = sp.symbols("t v")
P = sp.symbols("p1:6")
FIVE = P[0] * sp.exp(-P[1] * t) + P[2] * sp.exp(-P[3] * t) + P[4]
FIVE_TRUE, FIVE_START = (2.0, 0.7, 1.0, 3.0, 0.5), (1.5, 0.5, 1.5, 4.0, 0.0)


def run(quick: bool = False) -> Iterator[Table]:
    """The tables, from small to large."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # covariances that the others cannot estimate
        yield _small(quick)
        yield _linear(quick)
        yield _large(quick)
        yield _many(quick)
        yield _hoisting(quick)


def _peers(
    expression: Any, symbols: tuple[Any, ...], variable: Any, xs: Array, ys: Array, start: Any
) -> dict[str, Call]:
    """The same least squares by others, with the model as NumPy code by lambdify."""
    model = sp.lambdify([variable, *symbols], expression, "numpy")
    slopes = sp.lambdify([variable, *symbols], [expression.diff(s) for s in symbols], "numpy")
    start = np.asarray(start, float)

    def jacobian(x: Array, *theta: float) -> Array:
        return np.stack([np.broadcast_to(column, x.shape) for column in slopes(x, *theta)], axis=-1)

    by_lmfit = lmfit.Model(model, independent_vars=[str(variable)])
    named = dict(zip(map(str, symbols), start, strict=True))

    def by_iminuit() -> Any:
        search = iminuit.Minuit(LeastSquares(xs, ys, 1.0, model), *start)
        return search.migrad()

    return {
        "curve_fit": lambda: curve_fit(model, xs, ys, start, maxfev=10_000),
        "curve_fit, exact Jacobian": lambda: curve_fit(model, xs, ys, start, jac=jacobian, maxfev=10_000),
        "lmfit": lambda: by_lmfit.fit(ys, **{str(variable): xs}, **named),
        "iminuit": by_iminuit,
    }


def _small(quick: bool) -> Table:
    head = ["problem", "n", "p", "sym2tf, first call", "sym2tf", *PEERS, "sym2tf / best of the others"]
    table = Table("Small fits: NIST's nonlinear problems from the second start", head)
    total = dict.fromkeys(("first", "sym2tf", *PEERS), 0.0)
    names = list(nist.MODELS)[:4] if quick else nist.MODELS
    for name in names:
        progress(f"fits: {name}")
        problem = nist.read(name)
        expression, symbols = nist.MODELS[name](t), problem.symbols
        equation = sp.Eq(v, expression)
        params = dict(zip(symbols, problem.starts[1], strict=True))
        data = {t: problem.x, v: problem.y}
        ours = lambda equation=equation, data=data, params=params: fit(equation, data, params)
        began = time.perf_counter()
        ours()
        first = time.perf_counter() - began
        calls: dict[str, Call] = {"sym2tf": ours}
        peers = _peers(expression, symbols, t, problem.x, problem.y, problem.starts[1])
        calls |= {peer: call for peer, call in peers.items() if _works(call)}
        timings = take_turns(calls, rounds=5 if quick else 9)
        best = timings.best([peer for peer in calls if peer != "sym2tf"])
        text = ratio_text(timings, "sym2tf", best)
        judged = table.verdict(name, timings.ratio("sym2tf", best), SMALL_BAR, f"{text} of {best}")
        row = [duration(timings.median(c)) if c in calls else "fails" for c in ("sym2tf", *PEERS)]
        table.rows.append([name, str(len(problem.x)), str(len(symbols)), duration(first), *row, judged])
        total["first"] += first
        for contender in calls:
            total[contender] += timings.median(contender)
    _sum_up(table, total)
    return table


def _works(call: Call) -> bool:
    try:
        call()
    except (RuntimeError, ValueError):
        return False
    return True


def _sum_up(table: Table, total: Mapping[str, float]) -> None:
    table.rows.append(["all together", "", "", *(duration(seconds) for seconds in total.values()), ""])
    best = min((peer for peer in PEERS), key=lambda peer: total[peer])
    ratio = total["sym2tf"] / total[best]
    note = f"All together: {ratio:.2f} times {best}; the bar is {SMALL_BAR:g}, after the first call."
    table.notes.append(table.verdict("all together", ratio, SMALL_BAR, note))


def _linear(quick: bool) -> Table:
    table = Table("Linear fits: a cubic", ["n", "sym2tf", "statsmodels OLS", "lmfit", "sym2tf / best"])
    for count in (100, 10_000) if quick else (100, 10_000, 1_000_000):
        progress(f"fits: linear, {count:,}")
        xs = np.linspace(-1, 1, count)
        ys = 1 + xs - 2 * xs**3 + 0.1 * np.random.default_rng(0).standard_normal(count)
        equation = sp.Eq(v, P[0] + P[1] * t + P[2] * t**2 + P[3] * t**3)
        cubic = lmfit.Model(lambda x, a, b, c, d: a + x * (b + x * (c + x * d)))
        calls: dict[str, Call] = {
            "sym2tf": partial(fit, equation, {t: xs, v: ys}, dict.fromkeys(P[:4], 0.0)),
            "statsmodels OLS": partial(_ols, xs, ys),
            "lmfit": partial(cubic.fit, ys, x=xs, a=0, b=0, c=0, d=0),
        }
        timings = take_turns(calls, rounds=3 if quick or count > 100_000 else 7)
        best = timings.best(["statsmodels OLS", "lmfit"])
        text = f"{ratio_text(timings, 'sym2tf', best)} of {best}"
        table.rows.append([f"{count:,}", *(duration(timings.median(c)) for c in calls), text])
    return table


def _ols(xs: Array, ys: Array) -> Array:
    return np.asarray(sm.OLS(ys, np.vander(xs, 4)).fit().bse)


def _large(quick: bool) -> Table:
    head = ["points", "sym2tf", "curve_fit", "curve_fit, exact Jacobian", "sym2tf / curve_fit", "agreement"]
    table = Table("Large fits: two exponentials and a constant, five parameters", head)
    for count in (1_000_000,) if quick else (1_000_000, 10_000_000):
        progress(f"fits: {count:,} points")
        rng = np.random.default_rng(1)
        xs = np.linspace(0, 5, count)
        true = dict(zip(P, FIVE_TRUE, strict=True))
        ys = sp.lambdify(t, FIVE.subs(true), "numpy")(xs) + 0.05 * rng.standard_normal(count)
        peers = _peers(FIVE, P, t, xs, ys, FIVE_START)
        start = dict(zip(P, FIVE_START, strict=True))
        answers: dict[str, Any] = {}

        def kept(name: str, call: Call, answers: dict[str, Any] = answers) -> Call:
            def keep() -> None:
                answers[name] = call()

            return keep

        calls = {
            "sym2tf": kept("sym2tf", partial(fit, sp.Eq(v, FIVE), {t: xs, v: ys}, start)),
            **{name: kept(name, peers[name]) for name in PEERS[:2]},
        }
        timings = take_turns_once(calls, rounds=3 if count <= 1_000_000 else 1)
        found, due = answers["sym2tf"], answers["curve_fit, exact Jacobian"]
        apart = np.abs(found.estimates / due[0] - 1).max()
        ratio = timings.ratio("sym2tf", "curve_fit")
        text = table.verdict(f"{count:,} points", ratio, LARGE_BAR, f"{ratio:.3f}")
        table.rows.append([f"{count:,}", *(duration(timings.median(c)) for c in calls), text, f"{apart:.1g}"])
    table.notes.append("The whole call of `fit`, the first one included, standard errors too.")
    return table


def _many(quick: bool) -> Table:
    head = [
        "fits",
        "points",
        "model",
        "first call",
        "sym2tf",
        "loop of curve_fit (from 200)",
        "sym2tf / loop",
        "failed",
    ]
    table = Table("Many small fits at once", head)
    rng = np.random.default_rng(2)
    grid = np.linspace(0, 4, 50)
    four = P[0] * sp.exp(-P[1] * t) + P[2] * sp.exp(-P[3] * t)
    decay = P[0] * sp.exp(-P[1] * t) + P[2] + P[3] * t
    for name, model, low, high, start in (
        ("two exponentials", four, (1, 0.2, 1, 2), (3, 0.5, 3, 4), (1, 0.3, 1, 3)),
        ("exponential and line", decay, (1, 0.5, 0, 0.5), (3, 2, 1, 1), (1, 1, 0, 1)),
    ):
        fits = 2_000 if quick else 10_000
        progress(f"fits: {fits:,} of {name}")
        true = rng.uniform(low, high, (fits, 4))
        function = sp.lambdify([t, *P[:4]], model, "numpy")
        curves = function(grid, *true.T[:, :, None]) + 0.01 * rng.standard_normal((fits, 50))
        params = dict(zip(P[:4], start, strict=True))
        ours = lambda m=model, c=curves, p=params: fit(sp.Eq(v, m), {t: grid, v: c}, p)
        began = time.perf_counter()
        result: Any = ours()
        first = time.perf_counter() - began

        def loop(f: Any = function, c: Array = curves, s: Any = start) -> None:
            for curve in c[:200]:
                _works(partial(curve_fit, f, grid, curve, s))

        timings = take_turns({"sym2tf": ours, "loop": loop}, rounds=3 if quick else 7)
        timings = Timings({**timings.seconds, "loop": [s * fits / 200 for s in timings.seconds["loop"]]})
        ratio = timings.ratio("sym2tf", "loop")
        text = table.verdict(name, ratio, BATCH_BAR, f"1/{1 / ratio:.0f}")
        times = [duration(first), duration(timings.median("sym2tf")), duration(timings.median("loop"))]
        table.rows.append([f"{fits:,}", "50", name, *times, text, str(len(result.failed))])
    return table


def _hoisting(quick: bool) -> Table:
    """Residuals with and without the computation of what data alone decide in every call."""
    table = Table("What data alone decide, computed once", ["residual", "n", "once", "every time", "once / every time"])
    features = sum(P[k] * sp.exp(-((t - k) ** 2)) * sp.cos(k * t) for k in range(4)) * (1 + P[4] ** 2)
    for name, model in (("four Gaussians of the data", features), ("two exponentials", FIVE)):
        for count in (1_000, 100_000):
            xs = np.linspace(0, 3, count)
            params = dict.fromkeys(P, 1.0)
            problem = state(sp.Eq(v, model), {t: xs, v: xs}, params)
            structure = classify(problem)
            assert structure.residuals is not None
            once, _ = evaluators(structure.residuals, problem)
            every, _ = evaluators(structure.residuals, problem, once=False)
            theta = np.linspace(0.5, 1.5, len(problem.names))
            np.testing.assert_allclose(once(theta), every(theta), rtol=1e-10)
            calls = {"once": partial(once, theta), "every time": partial(every, theta)}
            timings = take_turns(calls, rounds=5 if quick else 9)
            row = [duration(timings.median(c)) for c in calls]
            table.rows.append([name, f"{count:,}", *row, ratio_text(timings, "once", "every time")])
    return table
