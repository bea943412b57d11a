"""What somebody meets who comes from curve_fit, lmfit or statsmodels: small tasks, slips, and what the answer says."""

import re

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import sym2tf
from sym2tf.errors import ArgumentError, DataError, FitError, FitWarning, SingularProblemError

x, y, a, b, c = sp.symbols("x y a b c")
LINE = sp.Eq(y, a * x + b)


def points(count=40, seed=5):
    rng = np.random.default_rng(seed)
    xs = np.linspace(0, 10, count)
    return xs, 2 * xs + 1 + 0.3 * rng.normal(size=count)


def test_many_starts_survive_one_whose_curvature_overflows():
    height, decay, speed, phase, t = sp.symbols("height decay speed phase t")
    ts = np.linspace(0, 10, 100)
    observed = 3 * np.exp(-0.2 * ts) * np.cos(5 * ts + 0.3) + 0.1 * np.random.default_rng(5).normal(size=100)
    model = height * sp.exp(-decay * t) * sp.cos(speed * t + phase)
    params = {height: 1, decay: 0.1, speed: 3, phase: 0}
    found = sym2tf.fit(sp.Eq(y, model), {t: ts, y: observed}, params, multistart=40)
    assert found.success
    assert found.residual_std == pytest.approx(0.1, rel=0.2)  # speeds that differ by 2 pi/0.101 say the same of ts
    assert found.params[decay] == pytest.approx(0.2, abs=5 * found.stderr[decay])


SLIPS = [
    (LINE, [1, 0], "write params={symbol: 1, ...}"),
    (LINE, {a: (0, 1), b: 0}, "Parameter(start, bounds=(lower, upper))"),
    (y == a * x + b, {a: 1, b: 0}, "write Eq(y, model)"),
    (a * x + b, {a: 1, b: 0}, "Eq(y, model)"),
]


@pytest.mark.parametrize(("cost", "params", "advice"), SLIPS)
def test_slips_of_those_who_come_from_curve_fit_are_told_what_to_write(cost, params, advice):
    xs, ys = points()
    with pytest.raises(ArgumentError) as caught:
        sym2tf.fit(cost, {x: xs, y: ys}, params)
    assert advice in str(caught.value)


def test_a_start_that_breaks_a_constraint_is_to_be_chosen_anew():
    xs, ys = points()
    with pytest.raises(ArgumentError, match="give start values in params at which it does"):
        sym2tf.fit(LINE, {x: xs, y: ys}, {a: 5, b: 0}, constraints=[a + b <= 3])


def test_missing_numbers_are_to_be_left_out():
    xs, ys = points()
    with pytest.raises(DataError, match="1 value that is not finite: the first is nan at 3; leave out"):
        sym2tf.fit(LINE, {x: xs, y: np.where(np.arange(40) == 3, np.nan, ys)})


def test_a_data_frame_is_a_matrix():
    n, k = sp.symbols("n k", integer=True, positive=True)
    X, w, t = sp.MatrixSymbol("X", n, k), sp.MatrixSymbol("w", k, 1), sp.MatrixSymbol("t", n, 1)
    xs, ys = points()
    frame = pd.DataFrame({"one": np.ones(40), "x": xs})
    found = sym2tf.fit(sp.Eq(t, X * w), {X: frame, t: pd.DataFrame(ys)}, [w])
    assert found.params[w].ravel() == pytest.approx(np.polyfit(xs, ys, 1)[::-1])


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("sigma", [0.3, np.linspace(0.2, 0.4, 40), np.diag(np.linspace(0.2, 0.4, 40) ** 2)])
def test_summaries_say_how_residuals_compare_with_their_standard_deviations(sigma, absolute):
    xs, ys = points()
    found = sym2tf.fit(LINE, {x: xs, y: ys}, sigma=sigma, absolute_sigma=absolute)
    spread = np.sqrt(np.diag(sigma)) if np.ndim(sigma) == 2 else sigma
    square = np.sum(((ys - found.predict()) / spread) ** 2)
    told = re.search(r"reduced χ²: +(\S+)", found.summary())
    assert told is not None
    assert float(told.group(1)) == pytest.approx(square / 38, rel=1e-6)
    assert ("residual std." in found.summary()) is not absolute


def test_without_standard_deviations_there_is_no_reduced_chi_square():
    xs, ys = points()
    for options in ({}, {"weights": np.ones(40)}, {"loss": "huber", "sigma": 0.3}):
        assert "reduced χ²" not in sym2tf.fit(LINE, {x: xs, y: ys}, **options).summary()


def test_summaries_say_that_an_active_constraint_is_taken_for_an_equation():
    xs, ys = points()
    notes = []
    for most in (2.5, 100):
        found = sym2tf.fit(LINE, {x: xs, y: ys}, {a: 1, b: 0}, constraints=[a + b <= most])
        notes.append("holds with equality, which the standard errors take" in " ".join(found.summary().split()))
    assert notes == [True, False]


def test_a_likelihood_is_not_said_to_leave_out_a_variance():
    i, n = sp.symbols("i n", integer=True)
    T, rate = sp.IndexedBase("T"), sp.Symbol("rate", positive=True)
    times = np.random.default_rng(0).exponential(2, 50)
    found = sym2tf.fit(sp.Sum(sp.log(rate) - rate * T[i], (i, 0, n - 1)), {T: times}, likelihood=True, maximize=True)
    assert found.params[rate] == pytest.approx(1 / times.mean())
    assert "variance" not in found.summary()


UNDEFINED = [
    (sp.Eq(sp.log(y), a * x + b), r"log\(y\) is NaN: its argument y\[0\] is -1 at observation 0"),
    (sp.Eq(y, a * sp.log(x) + b), r"log\(x\) is infinite: its argument x\[0\] is 0 at observation 0"),
    (sp.Eq(y, a * sp.sqrt(x - 5) + b), r"sqrt\(x - 5\) is NaN: its argument x - 5 is -5 at observation 0"),
]


@pytest.mark.parametrize(("equation", "reason"), UNDEFINED)
def test_linear_models_that_are_not_defined_at_the_data_say_which_expression(equation, reason):
    with pytest.raises(FitError, match=reason):
        sym2tf.fit(equation, {x: np.linspace(0, 10, 5), y: [-1.0, 2, 3, 4, 5]}, [a, b])


def test_a_peak_that_starts_far_away_is_told_to_start_elsewhere():
    place, width = sp.symbols("place width")
    xs = np.linspace(0, 10, 40)
    peak = sp.Eq(y, a * sp.exp(-((x - place) ** 2) / width**2) + b)
    with pytest.raises(SingularProblemError, match="start elsewhere"):
        sym2tf.fit(peak, {x: xs, y: np.exp(-((xs - 4) ** 2))}, {a: 1, place: 50, width: 1, b: 0})


def test_a_log_likelihood_that_is_minimised_by_mistake_is_told_of_maximize():
    i, n = sp.symbols("i n", integer=True)
    T, rate = sp.IndexedBase("T"), sp.Symbol("rate", positive=True)
    wrong = sp.Sum(sp.log(rate) - rate * T[i], (i, 0, n - 1))
    with pytest.warns(FitWarning, match="maximize=True"):
        sym2tf.fit(wrong, {T: [0.5, 1.0, 3.0]}, {rate: 1}, likelihood=True, max_iterations=60)


def test_a_negative_square_that_is_minimised_by_mistake_is_told_of_maximize():
    with pytest.raises(FitError, match="maximize=True"):
        sym2tf.fit(-((a - 1) ** 2), params={a: 0})
