"""What happens while a fit runs: stops, progress, checkpoints that survive a kill, and where a NaN came from."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

from sym2tf import Parameter, fit
from sym2tf.errors import ArgumentError, DataError, FitError, FitWarning
from sym2tf.fit import api, supervision
from sym2tf.fit.evaluation import nonfinite
from sym2tf.fit.evaluation.nonfinite import explain
from sym2tf.fit.options import Options
from sym2tf.fit.process import checkpoint as checkpoints
from sym2tf.fit.process import journal, progress
from sym2tf.fit.process.checkpoint import Checkpoint, identity, load_state, save_state
from sym2tf.fit.process.journal import Journal
from sym2tf.fit.process.monitor import Monitor, Step, StopFit
from sym2tf.fit.process.progress import ProgressLine, progress_line
from sym2tf.fit.statement.state import state
from sym2tf.lazy import lazy
from tests.killed_fits import CASES

tf = lazy("tensorflow")

DRIVER = Path(__file__).parent / "killed_fits.py"

x, y, z, W = (sp.IndexedBase(name) for name in ("x", "y", "z", "w"))
i, j, n = sp.symbols("i j n", integer=True)
a, b, c, u, v = sp.symbols("a b c u v")

XS = np.linspace(0.0, 4.0, 40)
NOISE = np.random.default_rng(0).standard_normal(40)
YS = 2.5 * np.exp(-1.3 * XS) + 0.5 + 0.05 * NOISE
DATA = {x: XS, y: YS}
MODEL = a * sp.exp(-b * x[i]) + c
START = {a: 1.0, b: 0.3, c: 0.0}
DECAY = sp.Sum((y[i] - MODEL) ** 2, (i, 0, n - 1))
ROBUST = sp.Sum(sp.sqrt(1 + (y[i] - MODEL) ** 2) - 1, (i, 0, n - 1))


def decay(**options: Any) -> Any:
    return fit(DECAY, DATA, START, **options)


# History and callbacks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [DECAY, ROBUST])
def test_the_history_is_the_falling_path_from_the_start_to_the_result(cost: Any) -> None:
    result = fit(cost, DATA, START)
    costs = [step.cost for step in result.history]
    assert len(costs) > 4
    assert costs[:-1] == sorted(costs[:-1], reverse=True)
    assert np.array_equal(result.history[0].theta, [1.0, 0.3, 0.0])
    assert np.array_equal(result.history[-1].theta, result.estimates)
    assert [step.iteration for step in result.history] == list(range(len(costs)))
    assert [step.seconds for step in result.history] == sorted(step.seconds for step in result.history)
    for step in result.history:
        p, q, r = step.theta
        residual = YS - p * np.exp(-q * XS) - r
        due = residual @ residual if cost is DECAY else np.sum(np.sqrt(1 + residual**2) - 1)
        assert step.cost == pytest.approx(due, rel=1e-12)


def test_the_history_of_a_direct_solution_ends_with_it() -> None:
    line = sp.Sum((y[i] - a * x[i] - b) ** 2, (i, 0, n - 1))
    result = fit(line, DATA, [a, b])
    assert np.array_equal(result.history[-1].theta, result.estimates)
    assert result.history[-1].cost == result.cost


def test_callbacks_get_the_steps_of_the_history() -> None:
    seen: list[Step] = []
    result = decay(callbacks=[seen.append])
    assert seen == list(result.history[: len(seen)])
    assert len(seen) >= len(result.history) - 1


def test_what_callbacks_return_by_the_way_does_not_stop_the_fit() -> None:
    text = io.StringIO()
    result = decay(callbacks=lambda step: text.write(f"{step.cost}\n"))
    assert result.success
    assert text.getvalue()


def stopping(step: Step) -> None:
    if step.iteration == 3:
        raise StopIteration


@pytest.mark.parametrize("callback", [lambda s: s.iteration == 3, lambda s: np.bool_(s.iteration == 3), stopping])
@pytest.mark.parametrize("cost", [DECAY, ROBUST])
def test_a_callback_stops_the_fit_at_the_best_point(cost: Any, callback: Any) -> None:
    result = fit(cost, DATA, START, callbacks=callback)
    assert not result.success
    assert "stopped by a callback after 4 steps" in result.message
    assert len(result.history) == 4
    assert np.array_equal(result.estimates, result.history[-1].theta)
    assert result.stderr is None
    assert result.stderr_reason
    assert "NOT CONVERGED" in repr(result)
    assert result.summary()


def test_an_exception_in_a_callback_passes_on() -> None:
    def broken(step: Step) -> None:
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        decay(callbacks=broken)


def test_a_callback_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ArgumentError, match="callbacks are functions of a Step"):
        decay(callbacks=["print"])


# Ctrl-C --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [DECAY, ROBUST])
def test_ctrl_c_returns_the_best_point_so_far(cost: Any) -> None:
    def press(step: Step) -> None:
        if step.iteration == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.warns(FitWarning, match=r"interrupted by Ctrl-C after \d+ evaluations"):
        result = fit(cost, DATA, START, callbacks=press)
    assert not result.success
    assert result.stderr is None
    assert np.array_equal(result.estimates, result.history[4].theta)
    assert result.cost == pytest.approx(result.history[4].cost)


def test_a_fit_that_is_stopped_where_a_constraint_is_violated_says_so() -> None:
    def stop(step: Step) -> bool:
        return step.iteration == 1

    result = fit(ROBUST, DATA, START, constraints=[a**2 + c**2 <= 1], callbacks=stop)
    assert result.params[a] ** 2 + result.params[c] ** 2 > 1 + 1e-6
    assert "there a**2 + c**2 <= 1 does not hold" in result.message


def test_ctrl_c_before_the_first_evaluation_passes_through() -> None:
    monitor = Monitor(Options())

    def compute() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        monitor.ask("cost", np.zeros(1), compute)
    assert monitor.best is None


def test_ctrl_c_after_the_minimum_returns_it_without_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    plain = decay()
    monkeypatch.setattr(api, "infer", pressed)
    result = decay()
    assert result.success
    assert np.array_equal(result.estimates, plain.estimates)
    assert result.stderr is None
    assert "Ctrl-C was pressed" in result.stderr_reason
    assert result.summary()
    with pytest.raises(KeyboardInterrupt):
        decay(callbacks=lambda step: signal.raise_signal(signal.SIGINT))


def test_a_second_ctrl_c_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def press(step: Step) -> None:
        if step.iteration == 2:
            monkeypatch.setattr(supervision, "Objective", again)
            raise KeyboardInterrupt

    def again(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decay(callbacks=press)


# Early stopping ------------------------------------------------------------------------------------------------------

POLYNOMIAL = sum((W[k] * x[i] ** k for k in range(9)), sp.Integer(0))
OVERFIT = sp.Sum(sp.sqrt(1 + (y[i] - POLYNOMIAL) ** 2) - 1, (i, 0, n - 1))
NARROW = {x: np.linspace(-1, 1, 12), y: np.sin(3 * np.linspace(-1, 1, 12)) + 0.3 * NOISE[:12]}
OTHERS = {x: np.linspace(-0.97, 0.97, 30), y: np.sin(3 * np.linspace(-0.97, 0.97, 30))}


def test_validation_data_are_followed_and_change_nothing_without_patience() -> None:
    plain = fit(OVERFIT, NARROW, {W: np.zeros(9)})
    watched = fit(OVERFIT, NARROW, {W: np.zeros(9)}, validation=OTHERS)
    assert np.array_equal(plain.estimates, watched.estimates)
    for step in watched.history:
        residual = OTHERS[y] - np.polynomial.polynomial.polyval(OTHERS[x], step.theta)
        assert step.validation == pytest.approx(np.sum(np.sqrt(1 + residual**2) - 1), rel=1e-10)


def test_patience_stops_where_the_validation_cost_was_least() -> None:
    full = fit(OVERFIT, NARROW, {W: np.zeros(9)}, validation=OTHERS)
    costs = [step.validation for step in full.history]
    least = int(np.argmin(costs))
    assert least < len(costs) - 3, "the example must overfit"
    stopped = fit(OVERFIT, NARROW, {W: np.zeros(9)}, validation=OTHERS, patience=2)
    assert "stopped early" in stopped.message
    assert len(stopped.history) < len(full.history)
    best = min(stopped.history, key=lambda step: step.validation)
    assert np.array_equal(stopped.estimates, best.theta)
    assert stopped.success
    assert stopped.stderr is None


def test_a_sum_of_squares_that_is_stopped_early_has_no_standard_errors() -> None:
    curve = sp.Sum((y[i] - a * sp.exp(b * x[i])) ** 2, (i, 0, n - 1))
    result = fit(curve, DATA, {a: 1.0, b: -0.1}, validation={x: XS[:5], y: 0 * YS[:5]}, patience=1)
    assert result.success
    assert "stopped early" in result.message
    assert result.stderr is None
    assert "stopped before it reached the minimum" in result.stderr_reason
    with pytest.raises(FitError, match="the fit was stopped"):
        result.bootstrap(samples=10)


def test_a_fit_that_converges_before_patience_ends_is_no_other() -> None:
    plain = decay()
    watched = decay(validation={x: XS[::3], y: YS[::3]}, patience=5)
    assert np.array_equal(plain.estimates, watched.estimates)
    assert watched.stderr is not None


def test_patience_asks_for_validation_data() -> None:
    with pytest.raises(ArgumentError, match="patience needs validation"):
        decay(patience=3)


def test_epochs_without_mini_batches_are_refused() -> None:
    with pytest.raises(ArgumentError, match="give batch_size as well"):
        decay(epochs=3)


def test_validation_data_are_checked_like_data() -> None:
    with pytest.raises(DataError, match="not finite"):
        decay(validation={x: XS, y: np.where(XS > 1, np.nan, 1.0)})
    k, m = sp.symbols("k m", integer=True)
    wide = sp.Sum((y[i] - sp.Sum(z[i, k] * W[k], (k, 0, m - 1))) ** 2, (i, 0, n - 1))
    other = {y: YS[:9], z: NOISE[:18].reshape(9, 2)}
    with pytest.raises(DataError, match="with the validation data the parameters are"):
        fit(wide, {y: YS, z: NOISE.reshape(40, 1)}, [W], validation=other)


@pytest.mark.parametrize("cost", [DECAY, sp.Eq(v, a * sp.exp(-b * u) + c)])
def test_a_fraction_of_the_observations_is_set_aside_by_the_seed(cost: Any) -> None:
    data = DATA if cost is DECAY else {u: XS, v: YS}
    result = fit(cost, data, START, validation=0.25, seed=3)
    aside = np.sort(np.random.default_rng(3).permutation(40)[:10])
    kept = np.setdiff1d(np.arange(40), aside)
    alone = fit(DECAY, {x: XS[kept], y: YS[kept]}, START)
    assert np.allclose(result.estimates, alone.estimates, rtol=1e-9)
    assert np.allclose(result.standard_errors, alone.standard_errors, rtol=1e-9)
    p, q, r = result.estimates
    residual = (YS - p * np.exp(-q * XS) - r)[aside]
    assert result.history[-1].validation == pytest.approx(residual @ residual, rel=1e-9)
    assert np.array_equal(result.estimates, fit(cost, data, START, validation=0.25, seed=3).estimates)
    assert not np.array_equal(result.estimates, fit(cost, data, START, validation=0.25, seed=4).estimates)


def test_standard_deviations_go_with_their_observations() -> None:
    sigma = 0.02 + 0.01 * np.arange(40)
    equation = sp.Eq(v, a * sp.exp(-b * u) + c)
    result = fit(equation, {u: XS, v: YS}, START, sigma=sigma, validation=0.5, seed=1)
    kept = np.sort(np.random.default_rng(1).permutation(40)[20:])
    alone = fit(equation, {u: XS[kept], v: YS[kept]}, START, sigma=sigma[kept])
    assert np.allclose(result.estimates, alone.estimates, rtol=1e-9)
    assert np.allclose(result.standard_errors, alone.standard_errors, rtol=1e-9)


def test_rows_of_a_matrix_are_observations_and_its_columns_are_not() -> None:
    rows, columns = sp.symbols("rows columns", integer=True, positive=True)
    X, w, t = sp.MatrixSymbol("X", rows, columns), sp.MatrixSymbol("w", columns, 1), sp.MatrixSymbol("t", rows, 1)
    xs = NOISE.reshape(20, 2)
    ts = xs @ [[1.0], [2.0]] + 0.1 * np.cos(np.arange(20.0))[:, None]
    result = fit(sp.Eq(t, X * w), {X: xs, t: ts}, [w], validation=0.3)
    kept = np.sort(np.random.default_rng(0).permutation(20)[6:])
    assert np.allclose(result.estimates, np.linalg.lstsq(xs[kept], ts[kept].ravel(), rcond=None)[0])


@pytest.mark.parametrize(
    ("cost", "data", "due"),
    [
        (sp.Sum((x[i + 1] - a * x[i]) ** 2, (i, 0, n - 2)), {x: XS}, "would tear neighbours along n apart"),
        (sp.Sum((y[i] - a * i) ** 2, (i, 0, n - 1)), {y: YS}, "or forget their places"),
        (sp.Sum((z[i, j] - a) ** 2, (i, 0, n - 1), (j, 0, v - 1)), {z: NOISE.reshape(8, 5)}, "the axes n, v"),
        (sp.Sum((y[i] - a * W[i]) ** 2 + W[i] ** 2, (i, 0, n - 1)), {y: YS}, "no axis that is only one of data"),
    ],
)
def test_a_fraction_that_makes_no_sense_is_refused(cost: Any, data: Any, due: str) -> None:
    params = {a: 1.0} | ({W: np.ones(40)} if cost.has(W) else {})
    with pytest.raises(ArgumentError, match=due):
        fit(cost, data, params, validation=0.2)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_lies_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ArgumentError, match="a fraction between 0 and 1"):
        decay(validation=fraction)


@pytest.mark.parametrize("trembling", [0.0, 1e-12])
def test_a_validation_cost_that_trembles_in_the_last_digits_costs_no_patience(trembling: float) -> None:
    costs = iter([3.0, 2.0, 2.0 + 2 * trembling, 2.0 - trembling, 2.0 + trembling, 1.0])
    monitor = Monitor(Options(patience=1), validate=lambda theta: next(costs))
    for k in range(6):
        monitor.iterated(np.array([float(k)]), 10.0 - k)
    assert monitor.history[-1].validation == 1.0


def test_patience_counts_steps_without_a_better_validation_cost() -> None:
    costs = iter([5.0, 4.0, 4.5, 3.0, 3.5, 3.2, 3.1])
    monitor = Monitor(Options(patience=3), validate=lambda theta: next(costs))
    for k in range(6):
        monitor.iterated(np.array([float(k)]), 10.0 - k)
    with pytest.raises(StopFit) as stop:
        monitor.iterated(np.array([6.0]), 4.0)
    assert stop.value.theta == [3.0]
    assert len(monitor.history) == 7


def test_the_history_of_what_is_maximised_rises() -> None:
    monitor = Monitor(Options(), maximize=True)
    monitor.iterated(np.zeros(1), -1.0)
    monitor.iterated(np.ones(1), -2.0)
    assert [step.cost for step in monitor.history] == [1.0, 2.0]
    assert monitor.best is not None
    assert monitor.best[1] == -2.0


# The progress line ---------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def step_at(iteration: int) -> Step:
    return Step(iteration, 0.5, 1e-3, np.zeros(1), 0.0, 0.25)


def test_nothing_is_written_in_the_first_half_second(clock: list[float]) -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    for k in range(50):
        clock[0] = 0.0099 * k
        line(step_at(k))
        line.tick(k)
    line.close()
    assert stream.getvalue() == ""


def test_a_terminal_shows_one_line_that_changes_ten_times_a_second(clock: list[float]) -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    for k in range(100):
        clock[0] = 0.02 * k
        line(step_at(k))
        line.tick(k)
    line.close()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert 10 <= text.count("\r") <= 17
    assert "iteration 99  cost 0.5  validation 0.25  gradient 1.00e-03" in text


def test_a_log_gets_whole_lines_seldom(clock: list[float]) -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    for k in range(110):
        clock[0] = 0.1 * k
        line(step_at(k))
    line.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert "\r" not in stream.getvalue()
    assert lines[-1].startswith("fit  iteration 109")


@pytest.mark.parametrize(
    ("wanted", "terminal", "shown"),
    [(None, False, False), (None, True, True), (False, True, False), (True, False, True), (True, True, True)],
)
def test_the_line_is_shown_on_a_terminal_or_when_told(
    wanted: bool | None, terminal: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    assert (progress_line(wanted) is not None) == shown


def test_there_is_no_line_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert progress_line(True) is None


def test_a_quick_fit_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    decay()
    assert capfd.readouterr().err == ""
    decay(progress=True)
    assert "iteration" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"seed": 1.5}, "seed must be an integer >= 0"),
        ({"progress": "yes"}, "progress must be True, False or None"),
        ({"checkpoint": 5}, "checkpoint must be the path of a folder"),
        ({"tensorboard": True}, "tensorboard must be the path of a folder"),
        ({"patience": 0}, "patience must be a positive integer"),
        ({"validation": 0.2, "data": {x: XS[:1], y: YS[:1]}}, "more than 1 observation"),
        ({"validation": "nothing.csv"}, "nothing.csv"),
    ],
)
def test_options_of_the_wrong_sort_are_named(options: dict[str, Any], due: str) -> None:
    arguments: dict[str, Any] = {"cost": DECAY, "data": DATA, "params": START} | options
    with pytest.raises((ArgumentError, DataError), match=due):
        fit(**arguments)


# What is not finite --------------------------------------------------------------------------------------------------

FIVE = np.array([0.0, 0.5, 1, 2, 3])
ONES = np.ones(5)
SQUARES = {x: FIVE, y: ONES}


def over(term: Any, low: int = 0) -> Any:
    return sp.Sum((y[i - low] - term) ** 2, (i, low, n - 1 + low))


@pytest.mark.parametrize(
    ("cost", "data", "theta", "due"),
    [
        (
            over(sp.log(a - x[i])),
            SQUARES,
            {a: 1.5},
            "log(a - x[i]) is NaN: its argument a - x[i] is -0.5 at i=3, with a=1.5, x[3]=2",
        ),
        (
            over(b * sp.log(a - x[i - 1]), 1),
            SQUARES,
            {a: 1.5, b: 1.0},
            "log(a - x[i - 1]) is NaN: its argument a - x[i - 1] is -0.5 at i=4, with a=1.5, x[3]=2",
        ),
        (
            sp.Eq(v, b * sp.log(a - u)),
            {u: FIVE, v: ONES},
            {a: 1.5, b: 1.0},
            "log(a - u) is NaN: its argument a - u is -0.5 at observation 3, with a=1.5, u=2",
        ),
        (
            over(b * sp.exp(a * x[i])),
            SQUARES,
            {a: 500.0, b: 1.0},
            "exp(a*x[i]) is infinite: its argument a*x[i] is 1000 at i=3, with a=500, x[3]=2",
        ),
        (over(b / x[i]), SQUARES, {b: 1.0}, "1/x[i] is infinite: its argument x[0] is 0 at i=0"),
        (over(a**b * x[i]), SQUARES, {a: -2.0, b: 0.5}, "a**b is NaN: a is -2 and b is 0.5"),
        (over(sp.sqrt(a) * x[i]), SQUARES, {a: 0.0}, "the derivative of sqrt(a) is infinite: its argument a is 0"),
        (
            over(sp.log(W[0] + W[1] * x[i])),
            SQUARES,
            {W: np.array([1.0, -1.0])},
            "log(w[0] + w[1]*x[i]) is infinite: its argument w[0] + w[1]*x[i] is 0 at i=2, with w[0]=1, w[1]=-1, "
            "x[2]=1",
        ),
        (
            sp.Sum(sp.log(z[i, j] - a), (i, 0, n - 1), (j, 0, 1)),
            {z: np.array([[2.0, 1.0], [3.0, 0.5]])},
            {a: 0.7},
            "log(-a + z[i, j]) is NaN: its argument -a + z[i, j] is -0.2 at i=1, j=1, with a=0.7, z[1, 1]=0.5",
        ),
        (
            over(sp.Piecewise((sp.log(x[i] - a), x[i] > a), (sp.sqrt(x[i] - b), True))),
            SQUARES,
            {a: 1.0, b: 0.25},
            "sqrt(-b + x[i]) is NaN: its argument -b + x[i] is -0.25 at i=0, with b=0.25, x[0]=0",
        ),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_not_finite_is_named(
    cost: Any, data: Any, theta: dict[Any, Any], due: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(nonfinite, "AT_ONCE", 0)
    problem = state(cost, data, theta)
    assert explain(problem, problem.packed("initial")) == due


def test_nothing_is_named_where_all_is_finite() -> None:
    guarded = over(sp.Piecewise((sp.log(x[i] - a), x[i] > a), (0, True)))
    problem = state(guarded, SQUARES, {a: 1.0})
    assert explain(problem, np.array([1.0])) == ""
    saturated = state(over(1 / (1 + sp.exp(a * x[i]))), SQUARES, {a: 1.0})
    assert explain(saturated, np.array([-1e4])) == ""


@pytest.mark.parametrize("term", [sp.log(a - x[i]) * b, sp.log(a - x[i]) + b**3])
def test_a_start_where_the_cost_is_not_defined_is_refused_with_the_cause(term: Any) -> None:
    with pytest.raises(FitError, match=r"because log\(a - x\[i\]\) is NaN: its argument a - x\[i\] is -0.5 at i=3"):
        fit(over(term), SQUARES, {a: 1.5, b: 1.0})


# Journals ------------------------------------------------------------------------------------------------------------


def asked(path: Path, count: int, *, computed: list[int] | None = None) -> list[Any]:
    """The answers to `count` questions; `computed` takes down those that no file could answer."""
    book = Journal(path)
    found = []
    for k in range(count):

        def compute(k: int = k) -> Any:
            if computed is not None:
                computed.append(k)
            rng = np.random.default_rng(k)
            return (np.float64(k), rng.random((3, k + 1)), np.asfortranarray(rng.random((4, 2))), np.arange(k))

        found.append(book.answer("cost", np.array([k / 3]), compute))
    book.close()
    return found


def same(first: list[Any], second: list[Any]) -> bool:
    return all(
        len(p) == len(q)
        and all(
            s.dtype == t.dtype and s.shape == t.shape and s.tobytes() == t.tobytes() and s.strides == t.strides
            for s, t in zip(p, q, strict=True)
        )
        for p, q in zip(first, second, strict=True)
    )


def test_a_journal_answers_what_it_was_told_in_every_bit_and_in_the_same_layout(tmp_path: Path) -> None:
    first = asked(tmp_path / "j", 7)
    computed: list[int] = []
    second = asked(tmp_path / "j", 9, computed=computed)
    assert computed == [7, 8]
    assert same(first, second[:7])
    assert all(part.flags.writeable for answer in second for part in answer)


def test_the_same_question_asked_twice_may_have_two_answers(tmp_path: Path) -> None:
    for _ in range(2):
        book = Journal(tmp_path / "j")
        answers = [book.answer("cost", np.zeros(1), lambda k=k: (np.array(k),))[0] for k in range(3)]
        other = book.answer("hessian", np.zeros(1), lambda: (np.array(9),))[0]
        book.close()
        assert [int(answer) for answer in answers] == [0, 1, 2]
        assert int(other) == 9
    assert book.known == 4


@pytest.mark.parametrize("lost", [1, 7, 12, 40, 200, 10_000])
def test_a_torn_end_is_cut_off_in_silence(lost: int, tmp_path: Path) -> None:
    first = asked(tmp_path / "j", 7)
    data = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(data[: max(len(data) - lost, 5)])
    computed: list[int] = []
    assert same(first, asked(tmp_path / "j", 7, computed=computed))
    assert computed == list(range(computed[0], 7))
    assert (tmp_path / "j").read_bytes() == data


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_damaged_record_is_told_and_computed_again(place: float, tmp_path: Path) -> None:
    first = asked(tmp_path / "j", 7)
    data = bytearray((tmp_path / "j").read_bytes())
    at = data.find(first[int(place * 7)][1].tobytes())  # in the middle of a record
    data[at + 3] ^= 0x40
    (tmp_path / "j").write_bytes(data)
    with pytest.warns(FitWarning, match=rf"is damaged after {int(place * 7)} answers?: the rest is computed again"):
        again = asked(tmp_path / "j", 7)
    assert same(first, again)


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("notes of somebody", encoding="utf-8")
    with pytest.raises(FitError, match="is no journal of a fit"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_text(encoding="utf-8") == "notes of somebody"


def test_large_answers_that_are_quick_to_compute_are_not_kept(tmp_path: Path) -> None:
    book = Journal(tmp_path / "j")
    book.answer("jacobian", np.zeros(1), lambda: (np.zeros(journal.ALWAYS_KEPT),))
    book.answer("cost", np.zeros(1), lambda: (np.zeros(3),))
    book.close()
    assert (tmp_path / "j").stat().st_size < 1000


def test_a_full_disk_is_told_and_does_not_end_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = decay()

    def full(file: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    real = os.write
    monkeypatch.setattr(journal.os, "write", lambda file, data: real(file, data) if file <= 2 else full(file, data))
    (tmp_path / "answers.journal").write_bytes(journal.MAGIC)
    with pytest.warns(FitWarning, match=r"no longer kept up: .* \(No space left on device\)"):
        kept = decay(checkpoint=tmp_path)
    assert np.array_equal(plain.estimates, kept.estimates)


# Checkpoints ---------------------------------------------------------------------------------------------------------


def test_a_fit_with_a_checkpoint_is_the_same_fit(tmp_path: Path) -> None:
    plain, kept = decay(), decay(checkpoint=tmp_path / "new" / "folder")
    assert np.array_equal(plain.estimates, kept.estimates)
    assert np.array_equal(plain.standard_errors, kept.standard_errors)
    assert [s.cost for s in plain.history] == [s.cost for s in kept.history]


def test_a_finished_fit_computes_nothing_when_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decay(checkpoint=tmp_path)

    def never(*_: Any) -> Any:
        raise AssertionError("an answer was computed")

    monkeypatch.setattr(journal, "_in_one_piece", never)
    again = decay(checkpoint=tmp_path)
    assert np.array_equal(first.estimates, again.estimates)
    assert first.summary().split("compile")[0] == again.summary().split("compile")[0]


def test_a_fit_that_gave_up_goes_on_when_it_is_given_more_iterations(tmp_path: Path) -> None:
    with pytest.warns(FitWarning, match="limit of iterations"):
        fit(ROBUST, DATA, START, max_iterations=3, checkpoint=tmp_path)
    assert np.array_equal(fit(ROBUST, DATA, START, checkpoint=tmp_path).estimates, fit(ROBUST, DATA, START).estimates)


def test_callbacks_are_called_for_the_replayed_steps_too(tmp_path: Path) -> None:
    decay(checkpoint=tmp_path)
    seen: list[Step] = []
    decay(checkpoint=tmp_path, callbacks=[seen.append])
    assert len(seen) > 4


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"cost": ROBUST}, "the cost"),
        ({"data": {x: XS, y: YS + 1e-9}}, "the array y"),
        ({"data": {x: XS[:-1], y: YS[:-1]}}, "the array x, the array y, sizes"),
        ({"params": {a: 1.0, b: 0.3}, "data": {**DATA, c: 0.5}}, "parameters, the array c"),
    ],
)
def test_the_folder_of_another_problem_is_refused(changed: dict[str, Any], named: str, tmp_path: Path) -> None:
    decay(checkpoint=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    statement = {"cost": DECAY, "data": DATA, "params": START} | changed
    with pytest.raises(FitError, match="belongs to another fit") as error:
        fit(**statement, checkpoint=tmp_path)
    assert set(named.split(", ")) <= set(str(error.value).partition("(")[2].partition(" differ")[0].split(", "))
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_the_folder_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decay(checkpoint=tmp_path)
    versions = checkpoints._versions()
    monkeypatch.setattr(checkpoints, "_versions", lambda: versions | {"scipy": "0.0.1"})
    with pytest.raises(FitError, match="the version of scipy"):
        decay(checkpoint=tmp_path)


def test_a_damaged_identity_is_named(tmp_path: Path) -> None:
    decay(checkpoint=tmp_path)
    (tmp_path / checkpoints.IDENTITY).write_text('{"the cost": ', encoding="utf-8")
    with pytest.raises(FitError, match=r"problem\.json is damaged"):
        decay(checkpoint=tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FitError, match=r"the checkpoint folder .* cannot be used"):
        decay(checkpoint=tmp_path / "file" / "inside")
    with pytest.raises(FitError, match=r"the checkpoint folder .* cannot be used"):
        decay(checkpoint=tmp_path / "file")


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoints.os, "open", denied)  # root may write anywhere, so that a real folder proves nothing
    with pytest.raises(FitError, match=r"cannot be used: Permission denied"):
        decay(checkpoint=tmp_path)


def test_a_folder_is_for_one_fit_at_a_time(tmp_path: Path) -> None:
    parts = identity({}, {})
    with (
        Checkpoint(tmp_path, parts),
        pytest.raises(FitError, match="another fit is working in the checkpoint folder"),
    ):
        Checkpoint(tmp_path, parts)
    Checkpoint(tmp_path, parts).close()


def test_a_folder_is_for_one_process_at_a_time_and_free_after_it_dies(tmp_path: Path) -> None:
    parts = identity({}, {})
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=_hold, args=(tmp_path, parts, ready))
    other.start()
    assert ready.wait(60)
    with pytest.raises(FitError, match="another fit is working"):
        Checkpoint(tmp_path, parts)
    other.kill()
    other.join()
    Checkpoint(tmp_path, parts).close()


def _hold(folder: Path, parts: dict[str, str], ready: Any) -> None:
    with Checkpoint(folder, parts):
        ready.set()
        time.sleep(60)


def test_a_failed_fit_lets_the_folder_go(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(FitError, match="start values"):
            fit(over(sp.log(a - x[i]) * b), SQUARES, {a: 1.5, b: 1.0}, checkpoint=tmp_path)


def test_the_identity_tells_layouts_dtypes_and_huge_numbers_apart() -> None:
    huge = state(sp.Sum((y[i] - a - 10**5000 * b) ** 2, (i, 0, n - 1)), {y: YS}, [a, b]).graph
    huger = state(sp.Sum((y[i] - a - 10**5001 * b) ** 2, (i, 0, n - 1)), {y: YS}, [a, b]).graph
    found = [
        identity({"g": huge}, {"x": np.arange(6.0)}),
        identity({"g": huger}, {"x": np.arange(6.0)}),
        identity({"g": huge}, {"x": np.arange(6.0).reshape(2, 3)}),
        identity({"g": huge}, {"x": np.arange(6)}),
        identity({"g": huge}, {"x": np.arange(0.0)}),
        identity({"g": huge}, {"x": np.array(6.0)}),
        identity({"g": huge}, {"x": np.arange(6.0)}, batch_size=3),
    ]
    assert len({json.dumps(parts) for parts in found}) == len(found)
    assert found[0] == identity({"g": huge}, {"x": np.arange(12.0)[::2] / 2})


# States --------------------------------------------------------------------------------------------------------------


def test_the_last_two_states_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    for epoch in range(12):
        save_state(tmp_path, {"w": np.arange(3.0) * epoch, "n": np.array(epoch)}, {"epoch": epoch, "rng": "1" * 40})
    arrays, meta = load_state(tmp_path) or ({}, {})
    assert meta == {"epoch": 11, "rng": "1" * 40}
    assert np.array_equal(arrays["w"], [0.0, 11.0, 22.0])
    assert set(arrays) == {"w", "n"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_state_falls_back_on_the_one_before(damage: str, tmp_path: Path) -> None:
    for epoch in range(2):
        save_state(tmp_path, {"w": np.full(1000, float(epoch))}, {"epoch": epoch})
    newest = max(tmp_path.glob("*.npz"))
    data = newest.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    newest.write_bytes({"cut": data[:middle], "empty": b"", "flipped": flipped, "text": b"no archive"}[damage])
    with pytest.warns(FitWarning, match=r"state-\d+\.npz is damaged"):
        found = load_state(tmp_path)
    assert found is not None
    assert found[1] == {"epoch": 0}
    save_state(tmp_path, {"w": np.full(1000, 7.0)}, {"epoch": 7})
    assert (load_state(tmp_path) or ({}, {}))[1] == {"epoch": 7}


def test_a_state_that_was_being_written_when_the_process_died_is_no_state(tmp_path: Path) -> None:
    save_state(tmp_path, {"w": np.ones(2)}, {"epoch": 0})
    (tmp_path / "state-00000001.npz.part").write_bytes(b"PK half")
    found = load_state(tmp_path)
    assert found is not None
    assert found[1] == {"epoch": 0}


# Kills ---------------------------------------------------------------------------------------------------------------


def resumed(cases: Iterable[str], folder: Path, kills: int, seed: int, hashes: str) -> Any:
    environment = {**os.environ, "PYTHONHASHSEED": hashes}
    command = [sys.executable, str(DRIVER), str(folder), str(kills), str(seed), *cases]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """What fits give that are killed four times, by one process for all, since its imports take longer than they."""
    folder = tmp_path_factory.mktemp("killed")
    return folder, resumed(CASES, folder, kills=4, seed=7, hashes="1")


NEEDS = {"lm": "Levenberg-Marquardt", "trust-exact": "trust-exact", "l-bfgs-b": "L-BFGS-B", "slsqp": "SLSQP"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fits to be killed are forks")
@pytest.mark.parametrize("case", CASES)
def test_a_fit_that_is_killed_again_and_again_gives_the_same_bits(case: str, killed: tuple[Path, Any]) -> None:
    found = killed[1][case]
    assert NEEDS.get(case, "") in found["whole"]["solver"]
    assert found["killed"] > 0
    again = {k: v for k, v in found["again"].items() if k != "computed"}
    assert again == found["whole"] == {k: v for k, v in found["resumed"].items() if k != "computed"}
    assert found["again"]["computed"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fits to be killed are forks")
def test_a_fit_is_resumed_by_a_process_that_orders_its_sets_otherwise(killed: tuple[Path, Any]) -> None:
    folder, first = killed
    second = resumed(["lm"], folder, kills=0, seed=0, hashes="2")["lm"]
    assert second["resumed"]["computed"] == 0
    assert first["lm"]["whole"] == second["whole"]
    assert {**second["resumed"], "computed": 0} == {**first["lm"]["whole"], "computed": 0}


# TensorBoard ---------------------------------------------------------------------------------------------------------


def test_event_files_hold_cost_gradient_validation_and_histograms(tmp_path: Path) -> None:
    result = fit(OVERFIT, NARROW, {W: np.zeros(9)}, validation=OTHERS, tensorboard=tmp_path)
    scalars: dict[str, list[tuple[int, float]]] = {}
    histograms: dict[str, list[tuple[int, np.ndarray]]] = {}
    (file,) = tmp_path.iterdir()
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            numbers = tf.make_ndarray(value.tensor)
            kept = scalars if numbers.ndim == 0 else histograms
            kept.setdefault(value.tag, []).append((event.step, numbers))
    steps = list(range(len(result.history)))
    assert set(scalars) == {"cost", "gradient norm", "validation cost"}
    assert [k for k, _ in scalars["cost"]] == steps
    assert np.allclose([v for _, v in scalars["cost"]], [s.cost for s in result.history], rtol=1e-6)
    assert np.allclose([v for _, v in scalars["validation cost"]], [s.validation for s in result.history], rtol=1e-6)
    ((_, last),) = [pair for pair in histograms["parameters/w"] if pair[0] == steps[-1]]
    assert last[:, 2].sum() == 9
    assert last[0, 0] == pytest.approx(result.estimates.min(), rel=1e-6)
    assert last[-1, 1] == pytest.approx(result.estimates.max(), rel=1e-6)


def test_scalar_parameters_are_scalars_in_the_event_file(tmp_path: Path) -> None:
    result = decay(tensorboard=tmp_path)
    tags = {}
    (file,) = tmp_path.iterdir()
    for record in tf.data.TFRecordDataset(str(file)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            tags[value.tag] = float(tf.make_ndarray(value.tensor))
    assert tags["parameters/b"] == pytest.approx(result.params[b], rel=1e-6)


# Warm starts ---------------------------------------------------------------------------------------------------------


def test_a_fit_starts_where_another_one_ended() -> None:
    first = decay()
    again = decay_from(first)
    assert np.array_equal(again.history[0].theta, first.estimates)
    assert again.evaluations < first.evaluations
    assert np.allclose(again.estimates, first.estimates, rtol=1e-9)


def decay_from(result: Any, cost: Any = DECAY) -> Any:
    return fit(cost, {x: XS, y: YS + 1e-9}, result)


def test_a_warm_start_keeps_bounds_fixed_values_and_ties() -> None:
    free = sp.Sum((y[i] - W[0] * sp.exp(-b * x[i]) - W[1]) ** 2, (i, 0, n - 1))
    params = {W: Parameter(np.array([1.0, 0.0]), bounds=(-1, 2)), b: Parameter(1.2, fixed=True)}
    first = fit(free, DATA, params)
    again = fit(free, DATA, first)
    assert first.at_bounds == again.at_bounds == ("w[0]",)
    assert again.params[b] == 1.2
    tied = fit(DECAY, DATA, {a: 1.0, b: 0.3, c: a / 5})
    assert fit(DECAY, DATA, tied).params[c] == pytest.approx(tied.params[a] / 5, rel=1e-12)


def test_a_warm_start_for_another_cost_names_what_it_lacks() -> None:
    with pytest.raises(ArgumentError, match="params has c, which the cost does not contain"):
        decay_from(decay(), sp.Sum((y[i] - a * sp.exp(-b * x[i])) ** 2, (i, 0, n - 1)))


# Seeds ---------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_another_one_other_starts() -> None:
    cost = sp.Sum((y[i] - sp.sin(a * x[i])) ** 2, (i, 0, n - 1))
    first, second, other = (fit(cost, DATA, {a: 1.0}, multistart=4, seed=seed) for seed in (1, 1, 2))
    assert [s.theta.tobytes() for s in first.history] == [s.theta.tobytes() for s in second.history]
    assert first.evaluations == second.evaluations
    assert (first.evaluations, [s.cost for s in first.history]) != (other.evaluations, [s.cost for s in other.history])
