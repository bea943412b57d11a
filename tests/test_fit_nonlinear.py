"""Iterative solvers of fits: NIST's certified problems, which solver is chosen and why, and what each must reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import statsmodels.api as sm
import sympy as sp

from benchmarks import nist
from sym2tf import losses
from sym2tf.errors import ArgumentError, FitError, FitWarning, SingularProblemError
from sym2tf.fit.api import fit
from sym2tf.fit.solvers import task as tasks
from sym2tf.fit.solvers.varpro import linear_parameters
from sym2tf.fit.statement.classify import classify
from sym2tf.fit.statement.parameters import Parameter
from sym2tf.fit.statement.state import state

a, b, c, k, m = sp.symbols("a b c k m")
p, q = sp.symbols("p q", positive=True)
i, n = sp.symbols("i n", integer=True)
x, y, W = sp.IndexedBase("x"), sp.IndexedBase("y"), sp.IndexedBase("W")

RNG = np.random.default_rng(4)
TIMES = np.linspace(0, 4, 40)
DECAY = 2 * np.exp(-1.3 * TIMES) + 0.5 + 0.05 * RNG.normal(size=40)
OUTLIERS = DECAY + 3 * (np.arange(40) % 9 == 4)
LINE = 3 * TIMES + 1 + 0.05 * RNG.normal(size=40) + 3 * (np.arange(40) % 9 == 4)
MODEL = a * sp.exp(-k * x[i]) + c
START = {a: 1, k: 1, c: 0}
DATA = {x: TIMES, y: DECAY}


def decay(theta: np.ndarray) -> np.ndarray:
    """The model at `a, k, c`."""
    return theta[0] * np.exp(-theta[1] * TIMES) + theta[2]


def at(result: Any, *symbols: Any) -> np.ndarray:
    return np.array([result.params[s] for s in symbols])


# NIST --------------------------------------------------------------------------------------------


def certified(name: str) -> nist.Certified:
    if not nist.FOLDER.exists():
        pytest.skip("../shared/data/nist is not there")
    return nist.read(name)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", nist.MODELS)
def test_nist_problems_keep_their_digits_by_default_and_without_a_hessian(
    name: str, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = certified(name)
    monkeypatch.setattr(tasks, "Objective", None)  # what makes gradients and Hessians of the whole cost
    result = problem.fit(start)
    assert result.success
    assert min(problem.digits(result)) > 10


EVALUATIONS = {"Lanczos3": 0, "MGH09": 0, "Misra1a": 0, "Misra1b": 0}


@pytest.mark.parametrize("name", ["ENSO", "Gauss1", "Kirby2", "Thurber", *EVALUATIONS])
def test_variable_projection_reaches_the_same_digits(name: str) -> None:
    problem = certified(name)
    found = problem.fit(0, method="varpro")
    assert "variable projection" in found.solver
    assert min(problem.digits(found)) > 10
    if name in EVALUATIONS:
        assert found.evaluations < problem.fit(0, method="lm").evaluations


# Which solver, and why ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (MODEL, "a c"),
        (a * b * x[i] + c, "a c"),
        (a * b * x[i] + a * c + m, "b c m"),
        (sp.exp(a * x[i]), ""),
        (a**2 * x[i] + b, "b"),
        (a / (1 + b * x[i]), "a"),
        (sp.Piecewise((a * x[i], x[i] > 1), (b, True)), "a b"),
    ],
)
def test_the_largest_set_of_jointly_linear_parameters_is_read_off_the_graph(model: Any, names: str) -> None:
    parameters = sorted(model.free_symbols & {a, b, c, k, m}, key=str)
    problem = state(sp.Eq(y[i], model), DATA, dict.fromkeys(parameters, 1))
    assert sorted(linear_parameters(problem, classify(problem))) == names.split()


def test_elements_of_a_vector_count_one_by_one() -> None:
    model = k * sp.Sum(W[m] * x[i] ** m, (m, 0, 2)) + sp.exp(-c * x[i]) + a * k
    problem = state(sp.Eq(y[i], model.subs(m, sp.Symbol("j", integer=True))), DATA, {W: np.ones(3), k: 1, c: 1, a: 1})
    assert linear_parameters(problem, classify(problem)) == ("W", "a")


@pytest.mark.parametrize(
    ("cost", "params", "name", "why"),
    [
        (sp.Eq(y[i], MODEL), START, "Levenberg-Marquardt", "not linear in the parameters"),
        (sp.Eq(y[i], MODEL), None, "variable projection", "linear in a, c, and no start values"),
        (sp.Eq(y[i], MODEL), {**START, k: Parameter(1, bounds=(0, 9))}, "reflective", "bounds"),
        (sp.Sum(sp.cosh(y[i] - MODEL), (i, 0, n - 1)), START, "trust-exact", "smooth"),
        (sp.Sum(sp.cosh(y[i] - MODEL), (i, 0, n - 1)), {**START, c: Parameter(0, bounds=(0, 9))}, "L-BFGS-B", "bounds"),
        (sp.Sum(sp.cosh(y[i] - W[i]), (i, 0, n - 1)), {W: np.zeros(40)}, "trust-exact", "40 parameters"),
    ],
)
def test_the_structure_decides_and_the_result_says_why(cost: Any, params: Any, name: str, why: str) -> None:
    data = DATA if cost.has(x) else {y: DECAY}
    result = fit(cost, data, params)
    assert result.success
    assert name in result.solver
    assert why in result.solver


@pytest.mark.parametrize("method", ["lm", "trf", "varpro", "trust-exact", "trust-krylov", "l-bfgs-b"])
def test_every_method_finds_the_same_minimum_and_is_named(method: str) -> None:
    result = fit(sp.Eq(y[i], MODEL), DATA, START, method=method)
    due, covariance = scipy.optimize.curve_fit(lambda t, *q: decay(np.array(q)), TIMES, DECAY, [1, 1, 0], ftol=1e-14)
    assert result.success
    assert f"method={method!r} asks for it" in result.solver
    np.testing.assert_allclose(at(result, a, k, c), due, rtol=1e-6)
    np.testing.assert_allclose(at(result, a, k, c), at(fit(sp.Eq(y[i], MODEL), DATA, START), a, k, c), rtol=1e-10)
    np.testing.assert_allclose([result.stderr[s] for s in (a, k, c)], np.sqrt(np.diag(covariance)), rtol=1e-4)


QUARTIC = (a - 1) ** 4 + (b - a) ** 2 + sp.exp(b)


@pytest.mark.parametrize(
    ("cost", "params", "method", "words"),
    [
        (QUARTIC, {a: 0, b: 0}, "lm", "no sum of squares. What fits: trust-exact, newton, trust-krylov, l-bfgs-b"),
        (QUARTIC, {a: 0, b: 0}, "slsqp", "there are no constraints"),
        (QUARTIC, {a: Parameter(0, bounds=(0, 1)), b: 0}, "trust-exact", "bounds, which it does not know"),
        (QUARTIC, {a: 0, b: 0}, "simplex", "none of the solvers qr, exact, newton, varpro, lm, trf, trust-exact"),
        (sp.Eq(y[i], MODEL), START, "qr", "residuals that are linear in the parameters"),
        (sp.Eq(y[i], sp.exp(-k * x[i])), {k: 1}, "varpro", "linear in none of the parameters"),
        (sp.Eq(y[i], a * x[i] + c), {a: 0, c: 0}, "varpro", "method='qr'"),
        (sp.Eq(y[i], MODEL), {**START, a: Parameter(1, bounds=(0, 9))}, "varpro", "a, in which .* has bounds"),
        (sp.Eq(y[i], MODEL), {**START, a: Parameter(1, bounds=(0, 9))}, "lm", "bounds"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_with_the_reason(cost: Any, params: Any, method: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        fit(cost, DATA if isinstance(cost, sp.Eq) else None, params, method=method)


def test_a_method_that_does_not_know_constraints_is_refused() -> None:
    for model, method in ((MODEL, "lm"), (MODEL, "l-bfgs-b"), (a * x[i] + k * x[i] ** 2 + c, "qr")):
        with pytest.raises(ArgumentError, match=r"constraints"):
            fit(sp.Eq(y[i], model), DATA, START, method=method, constraints=[a <= 3])


def test_hundreds_of_parameters_take_products_of_the_hessian_with_vectors() -> None:
    j = sp.Symbol("j", integer=True)
    cost = sp.Sum(100 * (W[j + 1] - W[j] ** 2) ** 2 + (1 - W[j]) ** 2 + sp.cosh(W[j] - 1), (j, 0, n - 2))
    start = np.tile([-1.2, 1.0], 100)
    result = fit(cost, None, {W: start})
    assert result.success
    assert "trust-krylov" in result.solver
    np.testing.assert_allclose(result.params[W], 1, rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-200, 1e-5, 1e7, 1e60])
def test_units_of_the_data_do_not_matter_even_near_the_edge_of_the_floats(unit: float) -> None:
    due = fit(sp.Eq(y[i], MODEL), DATA, START)
    result = fit(sp.Eq(y[i], MODEL), {x: TIMES, y: DECAY * unit}, {a: unit, k: 1, c: 0})
    assert result.success
    factor = np.array([unit, 1, unit])
    np.testing.assert_allclose(at(result, a, k, c), at(due, a, k, c) * factor, rtol=1e-10)
    np.testing.assert_allclose([result.stderr[s] for s in (a, k, c)], due.standard_errors * factor, rtol=1e-8)


def test_bounds_without_room_between_them_hold_a_parameter() -> None:
    free = fit(sp.Eq(y[i], MODEL.subs(k, 1)), DATA, [a, c])
    for method in (None, "lm", "l-bfgs-b"):
        result = fit(sp.Eq(y[i], MODEL), DATA, {**START, k: Parameter(1, bounds=(1, 1))}, method=method)
        assert result.success
        assert result.names == ("a", "c")
        assert result.params[k] == 1
        np.testing.assert_allclose(at(result, a, c), at(free, a, c), rtol=1e-9)


# Robust losses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
def test_losses_agree_with_scipy_which_has_the_same_formulas(loss: str) -> None:
    chosen = {"huber": "huber"}.get(loss, loss)
    delta = 1.345 if loss == "huber" else 1.0
    scale = 0.05
    answer = scipy.optimize.least_squares(
        lambda q: (OUTLIERS - decay(q)) / scale,
        [2, 1, 0.5],
        loss=chosen,
        f_scale=delta,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    result = fit(sp.Eq(y[i], MODEL), {x: TIMES, y: OUTLIERS}, {a: 2, k: 1, c: 0.5}, loss=loss, sigma=scale)
    assert result.success
    assert "symbolic loss" in result.solver
    np.testing.assert_allclose(at(result, a, k, c), answer.x, rtol=1e-5)
    np.testing.assert_allclose(result.cost, 2 * answer.cost, rtol=1e-9)


@pytest.mark.parametrize("loss", ["tukey", "student_t", "log_cosh", "cauchy"])
def test_losses_end_where_the_gradient_vanishes_even_far_from_the_start(loss: str) -> None:
    for cost, data, params in (
        (sp.Eq(y[i], MODEL), {x: TIMES, y: OUTLIERS}, START),
        (sp.Eq(y[i], a * x[i] + c), {x: TIMES, y: LINE}, None),
    ):
        result = fit(cost, data, params, loss=loss, sigma=0.05)
        assert result.success
        assert result.gradient_norm < 1e-8
        truth = [2, 0.5] if params is not None else [3, 1]
        np.testing.assert_allclose(at(result, a, c), truth, atol=0.1)


def test_a_loss_of_the_user_is_taken_as_it_is() -> None:
    result = fit(sp.Eq(y[i], a * x[i] + c), {x: TIMES, y: LINE}, loss=lambda r: sp.sqrt(1 + r**2), sigma=0.05)
    due = fit(sp.Eq(y[i], a * x[i] + c), {x: TIMES, y: LINE}, loss="soft_l1", sigma=0.05)
    assert result.success
    np.testing.assert_allclose(at(result, a, c), at(due, a, c), rtol=1e-9)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_regression_quantiles_agree_with_statsmodels(level: float) -> None:
    result = fit(sp.Eq(y[i], a * x[i] + c), {x: TIMES, y: LINE}, loss=losses.quantile(level))
    due = sm.QuantReg(LINE, np.column_stack([TIMES, np.ones(40)])).fit(q=level, p_tol=1e-10, max_iter=10_000)
    assert result.success
    assert "linear programming" in result.solver
    np.testing.assert_allclose(at(result, a, c), due.params, atol=1e-5)
    assert np.sum(np.abs(LINE - at(result, a, c)[0] * TIMES - at(result, a, c)[1]) < 1e-12) == 2


def test_the_least_absolute_deviation_of_a_constant_is_the_median_within_its_bounds() -> None:
    odd = LINE[:39]
    result = fit(sp.Eq(y[i], c), {y: odd}, loss="absolute")
    assert result.params[c] == pytest.approx(np.median(odd), abs=1e-14)
    held = fit(sp.Eq(y[i], c), {y: odd}, {c: Parameter(1, bounds=(0, 2))}, loss="absolute")
    assert held.params[c] == 2
    assert held.at_bounds == ("c",)


def test_a_corner_in_a_cost_is_not_called_converged() -> None:
    with pytest.warns(FitWarning, match="not smooth"):
        result = fit(sp.Sum(sp.Abs(y[i] - MODEL), (i, 0, n - 1)), {x: TIMES, y: OUTLIERS}, START)
    assert not result.success


def test_a_corner_in_a_loss_of_nonlinear_residuals_is_where_the_minimum_is() -> None:
    result = fit(sp.Eq(y[i], MODEL), {x: TIMES, y: OUTLIERS}, START, loss="absolute")
    assert result.success
    assert np.sort(np.abs(result.residuals))[len(START) - 1] < 1e-9 < np.sort(np.abs(result.residuals))[len(START)]


def test_bounds_hold_under_a_loss() -> None:
    data = {x: TIMES, y: LINE}
    result = fit(sp.Eq(y[i], a * x[i] + c), data, {a: Parameter(1, bounds=(0, 2.5)), c: 0}, loss="soft_l1", sigma=0.05)
    assert result.success
    assert result.params[a] == 2.5
    assert result.at_bounds == ("a",)


# Constraints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [None, "slsqp", "trust-constr"])
def test_a_line_through_a_point_agrees_with_the_closed_form(method: str | None) -> None:
    result = fit(
        sp.Eq(y[i], a * x[i] + c), {x: TIMES, y: LINE}, {a: 0, c: 1}, constraints=sp.Eq(a + c, 4), method=method
    )
    A = np.column_stack([TIMES, np.ones(40)])
    kkt = np.block([[2 * A.T @ A, np.ones((2, 1))], [np.ones((1, 2)), np.zeros((1, 1))]])
    due = np.linalg.solve(kkt, [*(2 * A.T @ LINE), 4])
    assert result.success
    np.testing.assert_allclose(at(result, a, c), due[:2], rtol=1e-10)
    assert result.params[a] + result.params[c] == pytest.approx(4, abs=1e-13)
    np.testing.assert_allclose(list(result.multipliers.values()), [-due[2]], rtol=1e-8)


@pytest.mark.parametrize("method", ["slsqp", "trust-constr"])
def test_nonlinear_constraints_are_met_and_multipliers_are_the_price_of_them(method: str) -> None:
    def solved(limit: float) -> Any:
        return fit(sp.Eq(y[i], MODEL), DATA, {a: 1, k: 1, c: 0.1}, constraints=[a * c <= limit], method=method)

    result = solved(0.9)
    assert result.success
    assert result.params[a] * result.params[c] == pytest.approx(0.9, abs=1e-12)
    ((text, price),) = result.multipliers.items()
    assert "<= 0.9" in text
    assert text in result.message
    h = 1e-4
    slope = (solved(0.9 - h).cost - solved(0.9 + h).cost) / (2 * h)
    np.testing.assert_allclose(price, slope, rtol=1e-6)


def test_a_constraint_that_is_not_active_changes_nothing() -> None:
    free = fit(sp.Eq(y[i], MODEL), DATA, START)
    result = fit(sp.Eq(y[i], MODEL), DATA, START, constraints=[a <= 30, a + k >= -1])
    assert result.success
    assert "no constraint holds with equality" in result.message
    assert result.solution.active is None
    np.testing.assert_allclose(result.estimates, free.estimates, rtol=1e-9)


def test_elements_of_a_vector_are_constrained() -> None:
    model = sp.exp(-W[0] * x[i]) + W[1]
    result = fit(sp.Eq(y[i], model), {x: TIMES, y: DECAY / 2}, {W: [1.0, 0.2]}, constraints=[sp.Eq(W[0] + W[1], 1.2)])
    assert result.success
    due = scipy.optimize.minimize_scalar(lambda q: float(np.sum((DECAY / 2 - np.exp(-q * TIMES) - 1.2 + q) ** 2)))
    np.testing.assert_allclose(result.params[W], [due.x, 1.2 - due.x], rtol=1e-6)


def test_bounds_and_constraints_hold_together() -> None:
    result = fit(
        sp.Eq(y[i], MODEL), DATA, {**START, k: Parameter(1, bounds=(0, 1.1))}, constraints=[sp.Eq(a, 4 * c + 0.5)]
    )
    reference = scipy.optimize.minimize(
        lambda v: float(np.sum((DECAY - decay(np.array([4 * v[1] + 0.5, v[0], v[1]]))) ** 2)),
        [1, 0.3],
        bounds=[(0, 1.1), (None, None)],
        tol=1e-14,
    )
    assert result.success
    np.testing.assert_allclose(at(result, k, c), reference.x, rtol=1e-5)
    assert result.at_bounds == (("k",) if reference.x[0] == 1.1 else ())


def test_constraints_that_cannot_be_met_are_said_to_be_violated() -> None:
    with pytest.warns(FitWarning, match=r"the constraint .* is violated by"):
        result = fit(sp.Eq(y[i], a * x[i] + c), DATA, [a, c], constraints=[sp.Eq(a + c, 1), sp.Eq(a + c, 2)])
    assert not result.success


# Bounds that declared signs imply -------------------------------------------------------------------


def test_declared_signs_bind_only_where_the_minimum_would_break_them() -> None:
    model = a * sp.exp(-p * x[i]) + c
    free = fit(sp.Eq(y[i], model), DATA, {a: 1, p: 1, c: 0})
    assert "Levenberg-Marquardt" in free.solver
    assert free.at_bounds == ()
    falling = {x: TIMES, y: np.sin(2 * TIMES) - TIMES / 2 + DECAY / 50}
    growth = fit(sp.Eq(y[i], p * x[i] + a * sp.sin(k * x[i])), falling, {p: 1, a: 1, k: 2})
    assert growth.success
    assert growth.params[p] == 0
    assert growth.at_bounds == ("p",)
    assert "without the bounds of declared signs" in growth.solver


# Many starts -----------------------------------------------------------------------------------------

WAVES = sp.sin(3 * a) + a**2 / 10 + (b - 1) ** 2


def test_many_starts_find_the_lowest_minimum_and_count_all() -> None:
    result = fit(WAVES, params={a: 1, b: 0}, multistart=30)
    grid = np.linspace(-10, 10, 200_001)
    due = grid[np.argmin(np.sin(3 * grid) + grid**2 / 10)]
    np.testing.assert_allclose(result.params[a], due, atol=1e-4)
    minima = result.minima
    assert fit(WAVES, params={a: 1, b: 0}).cost > result.cost
    assert minima[0].cost == pytest.approx(result.cost)
    assert sum(found.times for found in minima) <= 30
    assert [found.cost for found in minima] == sorted(found.cost for found in minima)
    for found in minima:
        np.testing.assert_allclose(3 * np.cos(3 * found.theta[0]) + found.theta[0] / 5, 0, atol=1e-7)
    assert f"to {len(minima)} minima" in result.message


def test_many_starts_are_decided_by_the_seed() -> None:
    first, same, other = (fit(WAVES, params={a: 3, b: 0}, multistart=10, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.estimates, same.estimates)
    assert [(f.cost, f.times) for f in first.minima] == [(f.cost, f.times) for f in same.minima]
    assert first.evaluations == same.evaluations != other.evaluations


def test_starts_lie_within_bounds() -> None:
    seen = []
    params = {a: Parameter(3, bounds=(2.5, 6)), b: Parameter(0, bounds=(None, 0.5))}
    result = fit(WAVES, params=params, multistart=20, callbacks=lambda step: seen.append(step.theta) and False)
    assert 2.5 <= result.params[a] <= 6
    assert result.params[b] == 0.5
    assert all(2.5 <= theta[0] <= 6 and theta[1] <= 0.5 for theta in seen)


def test_starts_that_fail_are_counted_and_only_all_of_them_raise() -> None:
    result = fit(sp.log(a) ** 2 + sp.sin(a), params={a: 2}, multistart=12)
    assert "failed, the first because" in result.message
    with pytest.raises(FitError, match="start values"):
        fit(sp.log(-1 - sp.cosh(a)) ** 2 + a**4, params={a: 2}, multistart=5)


def test_one_start_is_enough_for_a_quadratic_cost() -> None:
    result = fit(sp.Eq(y[i], a * x[i] + c), DATA, [a, c], multistart=5)
    assert "one minimum, whatever the start" in result.message


# What is not determined, and what has not converged ---------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: fit(sp.Eq(y[i], a * b * sp.exp(-k * x[i])), DATA, {a: 1, b: 1, k: 1}),
            r"only a [+-] .*b is determined",
        ),
        (
            lambda: fit(
                sp.Eq(y[i], (a + b) * sp.exp(-k * x[i])), DATA, {a: 1, b: 1, k: Parameter(0.3, bounds=(0, 0.5))}
            ),
            r"only a \+ b is determined",
        ),
        (lambda: fit(sp.cosh(a + b - 1) + sp.cosh(k), params={a: 0, b: 0, k: 1}), r"only a \+ b is determined"),
        (lambda: fit((a * b - 2) ** 4 + sp.cosh(a * b - 2), params={a: 1, b: 1}), "the data do not determine"),
        (
            lambda: fit(
                sp.Eq(y[i], (a + b) * sp.exp(-k * x[i]) + c),
                DATA,
                {a: 1, b: 1, k: 1, c: 0},
                constraints=[sp.Eq(c, 0.4)],
            ),
            r"only a \+ b is determined",
        ),
    ],
)
def test_a_combination_that_is_not_determined_is_named(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(SingularProblemError, match=words):
        call()


def test_a_constraint_can_determine_what_the_data_do_not() -> None:
    model = (a + b) * sp.exp(-k * x[i]) + c
    result = fit(sp.Eq(y[i], model), DATA, {a: 1, b: 1, k: 1, c: 0}, constraints=[sp.Eq(a, b)])
    due = fit(sp.Eq(y[i], MODEL), DATA, START)
    assert result.success
    np.testing.assert_allclose(2 * result.params[a], due.params[a], rtol=1e-8)


def test_the_message_has_the_gradient_norm_and_counts_are_plausible() -> None:
    result = fit(sp.Eq(y[i], MODEL), DATA, START)
    assert result.message.startswith("converged: the gradient norm is ")
    assert result.gradient_norm < 1e-10
    assert 5 < result.evaluations < 25
    assert result.iterations <= result.evaluations


def test_a_start_where_the_cost_is_not_defined_names_what_is_not() -> None:
    with pytest.raises(FitError, match=r"log\(.*\)"):
        fit(sp.Eq(y[i], a * sp.log(b - x[i])), DATA, {a: 1, b: 2})


def test_a_search_goes_on_where_the_first_one_fails() -> None:
    growth = 2 * np.exp(0.9 * TIMES)
    result = fit(sp.Eq(y[i], a * sp.exp(k * x[i]) + c), {x: TIMES, y: growth}, {a: 1, k: -3, c: 1})
    assert result.success
    np.testing.assert_allclose(at(result, a, k), [2, 0.9], rtol=1e-8)
