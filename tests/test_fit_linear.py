"""Linear problems: exact arithmetic against mpmath and certified values, streams against the whole, every error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

from sym2tf import Parameter, fit, lower
from sym2tf.backends.exact import evaluate, rationals, shortest_decimal
from sym2tf.errors import ArgumentError, DataError, FitError, FitWarning, GraphError, SingularProblemError
from sym2tf.fit.solvers.triangle import absorbed
from tests.peak_memory import asks_linux, megabytes_printed_by

NIST = Path(__file__).parent.parent.parent / "shared" / "data" / "nist" / "linear"
RNG = np.random.default_rng(4)
i, j, n, k = sp.symbols("i j n k", integer=True)
x, y, w, v, X = map(sp.IndexedBase, ("x", "y", "w", "v", "X"))
a, b, c, p, q, lam = sp.symbols("a b c p q lam")


def over(term: Any) -> Any:
    return sp.Sum(term, (i, 0, n - 1))


def digits(found: Any, due: Any) -> float:
    found, due = np.asarray(found, dtype=float), np.asarray(due, dtype=float)
    return float((-np.log10(np.maximum(np.abs(found - due) / np.abs(due), 1e-16))).min())


# The exact backend --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "due"),
    [
        (0.1, Fraction(1, 10)),
        (-6.860120914, Fraction(-6860120914, 10**9)),
        (3.0, Fraction(3)),
        (1e22, Fraction(10**22)),
        (5e-324, Fraction(5, 10**324)),
        (2.0**53 + 2, Fraction(2**53 + 2)),
    ],
)
def test_a_float_is_read_as_the_shortest_decimal_that_reads_back_as_it(number: float, due: Fraction) -> None:
    found = shortest_decimal(number)
    assert Fraction(int(found.numerator), int(found.denominator)) == due
    assert float(due) == number


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_rational(number: float) -> None:
    with pytest.raises(GraphError, match="no rational number"):
        shortest_decimal(number)


@pytest.mark.parametrize(
    ("expr", "due"),
    [
        (p**3 / q - sp.Rational(1, 3), lambda p, q: p**3 / q - Fraction(1, 3)),
        (p**-2 + q**2, lambda p, q: p**-2 + q**2),
        (sp.Abs(p - q) + sp.Max(p, q) * sp.Min(p, q), lambda p, q: abs(p - q) + p * q),
        (sp.floor(p * 7) + sp.ceiling(q * 7), lambda p, q: Fraction((p * 7).__floor__() + (q * 7).__ceil__())),
        (sp.Piecewise((1 / (p - 5), p > 100), (q, True)), lambda p, q: q),
        (sp.sign(p - q) * sp.Mod(p, 2), lambda p, q: ((p > q) - (p < q)) * (p % 2)),
    ],
)
@pytest.mark.parametrize("point", [(0.3, 0.7), (-2.25, 1.1), (5.0, -0.125)])
def test_rational_operations_are_exact(expr: Any, due: Any, point: tuple[float, float]) -> None:
    graph = lower(expr)
    names = {"p": point[0], "q": point[1]}
    (found,) = evaluate(
        graph, {graph[u].attributes["name"]: names[graph[u].attributes["name"]] for u in graph.inputs}
    ).values()
    value = found[()]
    assert Fraction(int(value.numerator), int(value.denominator)) == due(*(Fraction(repr(t)) for t in point))


def test_sums_slices_and_products_over_indices_are_exact() -> None:
    xs, ws = np.array([[0.1, 0.2], [0.3, 0.4], [0.7, 1.1]]), np.array([0.1, 3.0])
    graph = lower(sp.Sum(X[i, j] * w[j], (j, 0, k - 1)) - X[i, 0])
    (found,) = evaluate(graph, {"X": xs, "w": ws}).values()
    due = [
        Fraction(s) / 10 + 3 * Fraction(t) - Fraction(s) for s, t in (("0.1", "0.2"), ("0.3", "0.4"), ("0.7", "1.1"))
    ]
    assert [Fraction(int(f.numerator), int(f.denominator)) for f in found] == due


def test_functions_out_of_the_rationals_have_sixty_digits() -> None:
    (found,) = evaluate(lower(sp.exp(p) * sp.sqrt(2)), {"p": 0.3}).values()
    with mpmath.workdps(80):
        due = mpmath.exp(mpmath.mpf(3) / 10) * mpmath.sqrt(2)
        value = mpmath.mpf(int(found[()].numerator)) / int(found[()].denominator)
        assert abs(value / due - 1) < mpmath.mpf(10) ** -60


def test_an_undefined_result_is_an_error_of_the_exact_backend() -> None:
    with pytest.raises(GraphError, match="not defined"):
        evaluate(lower(1 / p), {"p": 0.0})
    with pytest.raises(GraphError, match="not defined"):
        evaluate(lower(sp.sqrt(p)), {"p": -1.0})


def test_a_row_without_scalar_rule_is_refused_by_name() -> None:
    A = sp.MatrixSymbol("A", 2, 2)
    with pytest.raises(GraphError, match="inverse cannot be computed in exact arithmetic"):
        evaluate(lower(A.I), {"A": np.eye(2)})


def test_rationals_keep_what_is_exact_already() -> None:
    found = rationals([True, 2, 0.5, Fraction(1, 3)])
    assert found[0] is True
    assert [str(f) for f in found[1:]] == ["2", "1/2", "1/3"]


# Exact least squares ------------------------------------------------------------------------------


def in_high_precision(design: Any, observed: Any, weights: Any = None) -> tuple[list[Any], list[Any]]:
    """Estimates and standard errors by the normal equations with 100 digits, of decimals as they are written."""
    with mpmath.workdps(100):
        A = mpmath.matrix(
            [[mpmath.mpf(repr(float(e))) if not isinstance(e, mpmath.mpf) else e for e in r] for r in design]
        )
        t = mpmath.matrix([mpmath.mpf(repr(float(e))) for e in observed])
        W = mpmath.diag([1] * len(observed) if weights is None else list(weights))
        N = A.T * W * A
        theta = mpmath.lu_solve(N, A.T * W * t)
        r = t - A * theta
        s2 = (r.T * W * r)[0] / (A.rows - A.cols)
        inverse = N**-1
        return list(theta), [mpmath.sqrt(s2 * inverse[m, m]) for m in range(A.cols)]


def powers(values: Any, degree: int) -> list[list[Any]]:
    with mpmath.workdps(100):
        return [[mpmath.mpf(repr(float(t))) ** m for m in range(degree + 1)] for t in values]


def decimals(count: int, places: int = 3) -> np.ndarray[Any, Any]:
    return np.round(RNG.uniform(-9, -3, count), places)


POLYNOMIAL = sp.symbols("b0:9")
POWERS = over((y[i] - sum(t * x[i] ** m for m, t in enumerate(POLYNOMIAL))) ** 2)


def test_an_ill_conditioned_polynomial_keeps_twelve_digits() -> None:
    xs, ys = decimals(40), np.round(RNG.normal(size=40), 4)
    theta, errors = in_high_precision(powers(xs, 8), ys)
    result = fit(POWERS, {x: xs, y: ys}, POLYNOMIAL)
    assert result.solver.startswith("exact rational arithmetic, because the cost is a sum of squares")
    assert result.condition is not None
    assert result.condition > 1e6
    assert digits(result.estimates, theta) > 14
    assert digits(result.standard_errors, errors) > 14
    assert result.success


def narrow_decimals(count: int) -> np.ndarray[Any, Any]:
    return np.round(RNG.uniform(-9, -7, count), 3)


def test_qr_asked_for_says_what_the_condition_costs() -> None:
    xs, ys = narrow_decimals(40), np.round(RNG.normal(size=40), 4)
    with pytest.warns(FitWarning, match="leaves about . digits of the estimates.*method='qr' asks for QR"):
        result = fit(POWERS, {x: xs, y: ys}, POLYNOMIAL, method="qr")
    assert "QR factorisation" in result.solver
    assert digits(result.estimates, in_high_precision(powers(xs, 8), ys)[0]) > 1


def test_weights_and_sigma_are_exact_as_well() -> None:
    xs, ys, sd = decimals(30), np.round(RNG.normal(size=30), 4), np.round(RNG.uniform(0.5, 2, 30), 2)
    with mpmath.workdps(100):
        weights = [1 / mpmath.mpf(repr(float(s))) ** 2 for s in sd]
    theta, errors = in_high_precision(powers(xs, 8), ys, weights)
    model = sum(t * x[i] ** m for m, t in enumerate(POLYNOMIAL))
    for result in (
        fit(over((y[i] - model) ** 2 / v[i] ** 2), {x: xs, y: ys, v: sd}, POLYNOMIAL),
        fit(sp.Eq(y[i], model), {x: xs, y: ys}, POLYNOMIAL, sigma=sd),
    ):
        assert "exact rational" in result.solver
        assert digits(result.estimates, theta) > 13
        assert digits(result.standard_errors, errors) > 13


def test_a_penalty_is_exact_as_well() -> None:
    xs, ys = decimals(30), np.round(RNG.normal(size=30), 4)
    cost = POWERS + sp.Rational(1, 10**6) * sum(t**2 for t in POLYNOMIAL)
    with mpmath.workdps(100):
        A = mpmath.matrix(powers(xs, 8))
        N = A.T * A + mpmath.mpf(10) ** -6 * mpmath.eye(9)
        due = list(mpmath.lu_solve(N, A.T * mpmath.matrix([mpmath.mpf(repr(float(t))) for t in ys])))
    result = fit(cost, {x: xs, y: ys}, POLYNOMIAL, method="exact")
    assert digits(result.estimates, due) > 14


def test_regressors_that_are_no_rational_function_of_the_data_are_computed_to_sixty_digits() -> None:
    ts, ys = np.round(np.linspace(0, 2, 25), 3), np.round(RNG.normal(size=25), 3)
    rates = [sp.Rational(1) + sp.Rational(m, 20) for m in range(5)]
    params = sp.symbols("c0:5")
    cost = over((y[i] - sum(s * sp.exp(-r * x[i]) for s, r in zip(params, rates, strict=True))) ** 2)
    with mpmath.workdps(100):
        design = [[mpmath.exp(-mpmath.mpf(r.p) / r.q * mpmath.mpf(repr(float(t)))) for r in rates] for t in ts]
    result = fit(cost, {x: ts, y: ys}, params)
    assert "exact rational" in result.solver
    assert digits(result.estimates, in_high_precision(design, ys)[0]) > 13


def test_exact_arithmetic_on_request_agrees_with_qr_on_an_easy_problem() -> None:
    xs, ys = RNG.normal(size=20), RNG.normal(size=20)
    exact, qr = (fit(over((y[i] - a - b * x[i]) ** 2), {x: xs, y: ys}, [a, b], method=m) for m in ("exact", "qr"))
    assert "method='exact' asks for it" in exact.solver
    np.testing.assert_allclose(exact.estimates, qr.estimates, rtol=1e-13)
    np.testing.assert_allclose(exact.standard_errors, qr.standard_errors, rtol=1e-13)
    np.testing.assert_allclose(exact.residuals, qr.residuals, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(exact.condition, qr.condition, rtol=1e-12)


def test_extreme_scales_stay_within_range() -> None:
    xs, ys = np.round(RNG.normal(size=20), 3), np.round(RNG.normal(size=20), 3)
    cost = over((y[i] - a - b * x[i]) ** 2)
    plain = fit(cost, {x: xs, y: ys}, [a, b], method="exact")
    scaled = fit(
        cost, {x: [float(f"{t}e150") for t in xs], y: [float(f"{t}e-140") for t in ys]}, [a, b], method="exact"
    )
    np.testing.assert_allclose(scaled.params[b] * 1e290, plain.params[b], rtol=1e-14)
    np.testing.assert_allclose(scaled.params[a] * 1e140, plain.params[a], rtol=1e-14)
    np.testing.assert_allclose(scaled.stderr[b] * 1e290, plain.stderr[b], rtol=1e-13)


def test_exact_arithmetic_names_the_null_space() -> None:
    xs = np.array([0.1, 0.2, 0.3, 0.4])
    data = {x: xs, v: np.array([0.2, 0.4, 0.6, 0.8]), y: xs**2}
    with pytest.raises(SingularProblemError, match=r"a \+ 2\*b|changing a by \+1, b by -0.5"):
        fit(over((y[i] - a * x[i] - b * v[i]) ** 2), data, [a, b], method="exact")


def test_exact_arithmetic_resolves_what_rounding_makes_dependent() -> None:
    # 1e8 and 1e8 + 1e-9 are different decimals, next to each other as floats: QR cannot tell the columns apart
    xs = np.arange(1.0, 7.0)
    near = xs + np.array([0, 1, 0, -1, 0, 1]) * 2.0**-50
    data = {x: xs, v: near, y: xs + np.array([0, 0.1, 0, 0.1, 0, 0])}
    cost = over((y[i] - a * x[i] - b * v[i]) ** 2)
    with pytest.raises(SingularProblemError):
        fit(cost, data, [a, b])
    result = fit(cost, data, [a, b], method="exact")
    theta, _ = in_high_precision(np.column_stack([xs, near]), data[y])
    assert digits(result.estimates, theta) > 13


def test_what_cannot_be_exact_is_refused_when_asked_for() -> None:
    A = sp.MatrixSymbol("A", 2, 2)
    cost = over((y[i] - a - b * x[i] * sp.Trace(A.I)) ** 2)
    with pytest.raises(ArgumentError, match=r"method='exact' is not possible here: .* cannot be computed in exact"):
        fit(cost, {A: np.diag([1.0, 2.0]), x: YS, y: YS}, [a, b], method="exact")


def test_a_condition_without_exact_arithmetic_is_a_warning_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["sym2tf.fit.solvers.direct"], "AUTOMATIC_WORK", 10)
    xs, ys = narrow_decimals(40), np.round(RNG.normal(size=40), 4)
    with pytest.warns(FitWarning, match="not computed exactly: 40 rows and 9 parameters are too many"):
        result = fit(POWERS, {x: xs, y: ys}, POLYNOMIAL)
    assert "QR factorisation" in result.solver


def test_bounds_hold_where_the_free_minimum_is_exact() -> None:
    xs, ys = decimals(40), np.round(RNG.normal(size=40), 4)
    params = {t: Parameter(0, bounds=(-1, 1)) for t in POLYNOMIAL}
    result = fit(POWERS, {x: xs, y: ys}, params, method="exact")
    assert "bounded least squares" in result.solver
    assert (np.abs(result.estimates) <= 1).all()
    assert result.at_bounds


@pytest.mark.parametrize("method", [None, "exact"])
@pytest.mark.parametrize("name", ["norris", "longley", "filip"])
def test_nist_linear_problems_have_twelve_digits(name: str, method: str | None) -> None:
    if not NIST.exists():
        pytest.skip("../shared/data/nist is not there")
    due = json.loads((NIST / "certified.json").read_text())[name]
    table = np.loadtxt(NIST / f"{name}.csv", delimiter=",", skiprows=1)
    params = sp.symbols(f"b0:{len(due['estimate'])}")
    if name == "filip":
        data = {y: table[:, 0], x: table[:, 1]}
        model = sum(t * x[i] ** m for m, t in enumerate(params))
    else:
        regressors = [sp.IndexedBase(f"x{m}") for m in range(1, table.shape[1])]
        data = {y: table[:, 0]} | dict(zip(regressors, table[:, 1:].T, strict=True))
        model = params[0] + sum(t * r[i] for t, r in zip(params[1:], regressors, strict=True))
    result = fit(over((y[i] - model) ** 2), data, params, method=method)
    assert digits(result.estimates, due["estimate"]) >= 12
    assert digits(result.standard_errors, due["standard_deviation"]) >= 12
    assert digits(result.residual_std, due["residual_standard_deviation"]) >= 12
    assert digits(result.r_squared, due["r_squared"]) >= 12


# The triangular factor ----------------------------------------------------------------------------


def signed(M: Any, *lengths: int) -> np.ndarray[Any, Any]:
    """The factor of rows absorbed in pieces of these lengths, with a diagonal that is not negative."""
    factor, at = np.zeros((M.shape[1], M.shape[1])), 0
    for length in lengths or (len(M),):
        factor = absorbed(factor, np.asfortranarray(M[at : at + length]))
        at += length
    signs = np.sign(np.diagonal(factor))
    return factor * np.where(signs == 0, 1, signs)[:, None]


def rows_of_kind(kind: str, count: int = 9_000) -> np.ndarray[Any, Any]:
    M = RNG.normal(size=(count, 6))
    M[:, -1] = 1
    if kind == "scaled":
        M *= 10.0 ** np.array([150, -150, 0, 8, 3, 0])
    if kind == "nearly dependent":
        M[:, 1] = M[:, 0] + 1e-9 * M[:, 1]
    if kind == "drifting":
        M[:, :-1] *= np.linspace(1, 1e6, count)[:, None]
        M[: count // 2, 2] = 0
    if kind == "with intercept":
        M[:, 0] = 3
    return M


@pytest.mark.parametrize("kind", ["plain", "scaled", "nearly dependent", "drifting", "with intercept"])
@pytest.mark.parametrize("lengths", [(), (1, 2, 3, 8_994), (4_500, 4_500), (2_048, 2_048, 4_904), (8_999, 1)])
def test_a_factor_in_pieces_is_that_of_qr_of_the_whole(kind: str, lengths: tuple[int, ...]) -> None:
    M = rows_of_kind(kind)
    scale = np.abs(M).max(axis=0)
    due = np.linalg.qr(M / scale, mode="r")
    found = signed(M, *lengths) / scale
    due = due * np.sign(np.where(np.diagonal(due) == 0, 1, np.diagonal(due)))[:, None]
    # where columns are equal but for 1e-9, rounding is magnified by the inverse of that, in the factor of QR as well
    magnified = 1e-5 if kind == "nearly dependent" else 1e-10
    np.testing.assert_allclose(found[:, :-1], due[:, :-1], rtol=magnified, atol=magnified)
    np.testing.assert_allclose(found[:-1, -1], due[:-1, -1], rtol=magnified, atol=10 * magnified)
    np.testing.assert_allclose((found.T @ found)[:-1], (due.T @ due)[:-1], rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(found[-1, -1] ** 2, due[-1, -1] ** 2, atol=1e-11 * len(M))


def test_a_factor_does_not_depend_on_the_order_of_the_rows() -> None:
    M = rows_of_kind("plain")
    np.testing.assert_allclose(signed(RNG.permutation(M)), signed(M), rtol=1e-9, atol=1e-11)


def test_fewer_rows_than_columns_and_dependent_columns_have_a_factor() -> None:
    M = np.ones((3, 5))
    factor = signed(M)
    np.testing.assert_allclose(factor.T @ factor, M.T @ M, atol=1e-13)


# Streams ------------------------------------------------------------------------------------------


ROWS = 400
XS = RNG.normal(size=(ROWS, 4)) + 2
YS = XS @ [1.0, -2.0, 3.0, 0.5] + 3 + 0.3 * RNG.normal(size=ROWS)
SD = RNG.uniform(0.5, 2, ROWS)
LINE = a + b * p
STATEMENTS: dict[str, tuple[Any, dict[Any, Any], Any, dict[str, Any]]] = {
    "sum": (over((y[i] - c - sp.Sum(X[i, j] * w[j], (j, 0, k - 1))) ** 2), {y: YS, X: XS}, {w: np.zeros(4), c: 0}, {}),
    "mean": (over((y[i] - a - b * X[i, 1]) ** 2) / n, {y: YS, X: XS}, [a, b], {}),
    "no intercept": (over((y[i] - sp.Sum(X[i, j] * w[j], (j, 0, k - 1))) ** 2), {y: YS, X: XS}, {w: np.zeros(4)}, {}),
    "equation": (sp.Eq(q, LINE), {q: YS, p: XS[:, 0]}, [a, b], {}),
    "offset": (sp.Eq(q, LINE + 7 * p**2), {q: YS, p: XS[:, 0]}, [a, b], {}),
    "weighted": (over((y[i] - a - b * X[i, 1]) ** 2 / v[i] ** 2), {y: YS, X: XS, v: SD}, [a, b], {}),
    "weighted mean": (over((y[i] - a - b * X[i, 1]) ** 2 / v[i] ** 2) / n, {y: YS, X: XS, v: SD}, [a, b], {}),
    "sigma": (sp.Eq(q, LINE), {q: YS, p: XS[:, 0], c: SD}, [a, b], {"sigma": c}),
    "absolute": (sp.Eq(q, LINE), {q: YS, p: XS[:, 0], c: SD}, [a, b], {"sigma": c, "absolute_sigma": True}),
    "known": (sp.Eq(q, LINE), {q: YS, p: XS[:, 0]}, [a, b], {"sigma": 0.3, "absolute_sigma": True}),
    "ridge": (
        over((y[i] - sp.Sum(X[i, j] * w[j], (j, 0, k - 1))) ** 2) / n + lam * sp.Sum(w[j] ** 2, (j, 0, k - 1)),
        {y: YS, X: XS, lam: 0.3},
        {w: np.zeros(4)},
        {},
    ),
    "row numbers": (over((y[i] - a - b * i / 100) ** 2), {y: YS}, [a, b], {}),
    "constant": (over((y[i] - a - b * X[i, 1]) ** 2) / n + 7 + over(X[i, 2]) / n, {y: YS, X: XS}, [a, b], {}),
    "bounded": (sp.Eq(q, LINE), {q: YS, p: XS[:, 0]}, {a: Parameter(0, bounds=(0, 1)), b: 0}, {}),
    "fixed": (sp.Eq(q, LINE + c), {q: YS, p: XS[:, 0]}, {a: 0, b: 0, c: Parameter(2, fixed=True)}, {}),
    "matrix": (
        sp.Eq(sp.MatrixSymbol("u", n, 1), sp.MatrixSymbol("Z", n, k) * sp.MatrixSymbol("h", k, 1)),
        {"u": YS[:, None], "Z": XS},
        {"h": np.zeros((4, 1))},
        {},
    ),
}
NUMBERS = ("estimates", "standard_errors", "covariance", "cost", "residual_std", "r_squared", "adj_r_squared",
           "log_likelihood", "aic", "bic", "condition", "observations", "degrees_of_freedom", "at_bounds",
           "stderr_reason", "r_squared_reason")  # fmt: skip


def in_batches(data: dict[Any, Any], lengths: Any) -> Iterator[dict[Any, Any]]:
    at = 0
    for length in lengths:
        yield {key: value[at : at + length] if np.ndim(value) else value for key, value in data.items()}
        at += length


def assert_equal_fits(found: Any, due: Any, rtol: float = 1e-9) -> None:
    for name in NUMBERS:
        one, other = getattr(found, name), getattr(due, name)
        if isinstance(other, str | tuple) or other is None or one is None:
            assert one == other, name
        else:
            np.testing.assert_allclose(one, other, rtol=rtol, err_msg=name)


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("lengths", [(100, 1, 150, 149), (400,), (1,) * 20 + (380,)], ids=["uneven", "one", "singles"])
def test_a_stream_gives_the_fit_of_all_rows(statement: str, lengths: tuple[int, ...]) -> None:
    if statement == "row numbers":
        lengths = (3, *lengths[:-1], lengths[-1] - 3)
    cost, data, params, options = STATEMENTS[statement]
    due = fit(cost, data, params, **options)
    found = fit(cost, in_batches(data, lengths), params, **options)
    assert_equal_fits(found, due)
    assert f"400 rows in {len(lengths)} batch" in found.solver
    assert "because the data come in batches" in found.solver or "and the data come in batches" in found.solver


@pytest.mark.parametrize("statement", STATEMENTS)
def test_long_data_at_hand_are_fitted_in_blocks_to_the_same_result(
    statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost, data, params, options = STATEMENTS[statement]
    due = fit(cost, data, params, **options)
    monkeypatch.setattr(sys.modules["sym2tf.fit.solvers.one_pass"], "IN_BLOCKS_FROM", 1)
    monkeypatch.setattr(sys.modules["sym2tf.fit.solvers.one_pass"], "BLOCK", 150)
    found = fit(cost, data, params, **options)
    assert "400 rows are many for one matrix" in found.solver
    assert_equal_fits(found, due)
    if found.model is not None:
        np.testing.assert_allclose(found.residuals, due.residuals, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.predict(), due.predict(), rtol=1e-9)


def test_rows_that_lack_a_regressor_at_first_are_no_obstacle() -> None:
    late = XS.copy()
    late[:250, 2] = 0
    cost, _, params, _ = STATEMENTS["sum"]
    data = {y: YS, X: late}
    assert_equal_fits(fit(cost, in_batches(data, (100, 100, 100, 100)), params), fit(cost, data, params))


def test_a_stream_is_equivariant_to_shifts_scales_and_the_order_of_rows() -> None:
    cost, data, params, _ = STATEMENTS["sum"]
    plain = fit(cost, in_batches(data, (250, 150)), params)
    order = RNG.permutation(ROWS)
    mixed = fit(cost, in_batches({y: YS[order], X: XS[order]}, (37, 363)), params)
    assert_equal_fits(mixed, plain)
    scale = np.array([1e-6, 1e3, 8, 1e9])
    scaled = fit(cost, in_batches({y: 1e4 * YS, X: XS * scale}, (250, 150)), params)
    np.testing.assert_allclose(scaled.params[w] * scale / 1e4, plain.params[w], rtol=1e-9)
    np.testing.assert_allclose(scaled.stderr[w] * scale / 1e4, plain.stderr[w], rtol=1e-9)
    shifted = fit(cost, in_batches({y: YS + 100, X: XS - 5}, (250, 150)), params)
    np.testing.assert_allclose(shifted.params[w], plain.params[w], rtol=1e-9)
    np.testing.assert_allclose(shifted.r_squared, plain.r_squared, rtol=1e-9)


def test_batches_may_be_empty_or_integers_and_come_from_a_function() -> None:
    ints = np.arange(12)
    data = {p: ints, q: 3 * ints + (ints % 3)}
    empty = {p: ints[:0], q: ints[:0]}
    made = lambda: iter([*in_batches(data, (5,)), empty, {key: value[5:] for key, value in data.items()}])
    assert_equal_fits(fit(sp.Eq(q, LINE), made, [a, b]), fit(sp.Eq(q, LINE), data, [a, b]))


def test_a_stream_is_gone_through_once() -> None:
    drawn = []

    def batches() -> Iterator[dict[Any, Any]]:
        for batch in in_batches({p: XS[:, 0], q: YS}, (100,) * 4):
            drawn.append(len(batch[q]))
            yield batch

    result = fit(sp.Eq(q, LINE), batches(), [a, b])
    assert drawn == [100] * 4
    assert result.success


def test_the_rows_of_a_stream_are_not_kept_and_the_result_says_so() -> None:
    result = fit(sp.Eq(q, LINE), in_batches({p: XS[:, 0], q: YS}, (200, 200)), [a, b])
    assert result.residuals is None
    assert "not kept" in result.residuals_reason
    with pytest.raises(ArgumentError, match="rows of a stream"):
        result.predict()
    with pytest.raises(FitError, match="rows of a stream"):
        _ = result.influence
    np.testing.assert_allclose(result.predict({p: [0.0, 2.0]}), result.params[a] + result.params[b] * np.array([0, 2]))
    assert "400 rows in 2 batches" in result.summary().replace("\n", " ").replace("             ", "")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({p: [1.0, np.nan], q: [1.0, 2.0]}, "batch 1, from row 3: p has 1 value that is not finite.*at 1"),
        ({p: [1.0, 2.0], q: [1.0]}, "batch 1, from row 3: lengths differ: .*p has 2"),
        ({p: [1.0, 2.0]}, "batch 1, from row 3: there is no q"),
        ({p: [1.0], q: ["a"]}, "batch 1, from row 3: q holds text"),
        ({p: [[1.0]], q: [[1.0]]}, r"batch 1, from row 3: p has shape \(1, 1\)"),
        ({p: [1.0], q: [1.0], c: [1.0]}, "batch 1, from row 3: there is c, which the first batch lacks"),
        ([1.0, 2.0], "batch 1 is a list"),
    ],
)
def test_a_batch_that_is_not_like_the_first_is_named(second: Any, message: str) -> None:
    first = {p: [1.0, 2.0, 4.0], q: [1.0, 3.0, 2.0]}
    with pytest.raises(DataError, match=message):
        fit(sp.Eq(q, LINE), iter([first, second]), [a, b])


def test_streams_of_too_few_or_dependent_rows_are_errors() -> None:
    with pytest.raises(DataError, match="2 parameters but only 1 observation"):
        fit(sp.Eq(q, LINE), iter([{p: [1.0], q: [2.0]}]), [a, b])
    constant = {p: np.ones(3), q: np.arange(3.0)}
    with pytest.raises(SingularProblemError, match="a \\+ b"):
        fit(sp.Eq(q, LINE), iter([constant, constant]), [a, b])
    with pytest.raises(FitError, match="batch 1, from row 2: residual 1 or a derivative of it is not finite"):
        fit(sp.Eq(q, a + b / p), iter([{p: [1.0, 2], q: [1.0, 2]}, {p: [1.0, 0.0], q: [1.0, 2]}]), [a, b])
    cost, data, params, _ = STATEMENTS["weighted"]
    with pytest.raises(DataError, match="weight that is not finite"):
        fit(cost, in_batches({**data, v: SD * 0}, (200, 200)), params)


def test_a_first_batch_of_one_row_cannot_show_what_numbers_of_rows_mean() -> None:
    cost, data, params, _ = STATEMENTS["row numbers"]
    with pytest.raises(DataError, match=r"numbers of rows.*lengthen it"):
        fit(cost, in_batches(data, (1, 399)), params)


def test_neighbours_across_batches_cannot_be_coupled() -> None:
    cost = sp.Sum((x[i + 1] - a * x[i] - b) ** 2, (i, 0, n - 2))
    with pytest.raises(ArgumentError, match="sum"):
        fit(cost, in_batches({x: YS}, (200, 200)), [a, b])


def test_a_stream_of_an_ill_conditioned_problem_warns() -> None:
    near = XS[:, 0] + 1e-11 * XS[:, 1]
    cost = STATEMENTS["sum"][0]
    data = {y: YS, X: np.column_stack([XS[:, 0], near])}
    with pytest.warns(FitWarning, match="condition number"):
        fit(cost, in_batches(data, (200, 200)), {w: np.zeros(2), c: 0})


# Streams of problems that are not linear ------------------------------------------------------------


TIMES = RNG.uniform(0, 2, ROWS)
DECAY = 2 * np.exp(-1.3 * TIMES) + 0.05 * RNG.normal(size=ROWS)
CURVES: dict[str, tuple[Any, dict[Any, Any], Any]] = {
    "equation": (sp.Eq(q, a * sp.exp(-b * p)), {p: TIMES, q: DECAY}, {a: 1, b: 1}),
    "mean": (over((y[i] - a * sp.exp(-b * x[i])) ** 2) / n, {x: TIMES, y: DECAY}, {a: 1, b: 1}),
    "weighted": (
        over(((y[i] - a * sp.exp(-b * x[i])) / v[i]) ** 2),
        {x: TIMES, y: DECAY, v: SD},
        {a: 1, b: 1},
    ),
    "bounded": (
        sp.Eq(q, a * sp.exp(-b * p)),
        {p: TIMES, q: DECAY},
        {a: Parameter(1, bounds=(0, 1.8)), b: Parameter(1, bounds=(0, 5))},
    ),
    "penalised": (
        over((y[i] - a * sp.exp(-b * x[i])) ** 2) / n + lam * (b**2 + a**2),
        {x: TIMES, y: DECAY, lam: 0.01},
        {a: 1, b: 1},
    ),
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("method", ["lm", "trf"])
def test_full_passes_over_a_stream_give_the_fit_of_all_rows(curve: str, method: str) -> None:
    cost, data, params = CURVES[curve]
    due = fit(cost, data, params)
    found = fit(cost, lambda: in_batches(data, (100, 1, 150, 149)), params, method=method)
    assert found.success
    assert "one pass over 400 rows in 4 batches for each evaluation" in found.solver
    np.testing.assert_allclose(found.estimates, due.estimates, rtol=1e-6)
    np.testing.assert_allclose(found.cost, due.cost, rtol=1e-10)
    assert (found.standard_errors is None) == (due.standard_errors is None)
    if due.standard_errors is not None:
        np.testing.assert_allclose(found.standard_errors, due.standard_errors, rtol=1e-6)
    assert found.observations == due.observations
    assert found.at_bounds == due.at_bounds


def test_passes_over_a_stream_that_can_be_gone_through_once_are_refused() -> None:
    cost, data, params = CURVES["equation"]
    with pytest.raises(DataError, match="gone through only once"):
        fit(cost, in_batches(data, (200, 200)), params, method="lm")


def test_a_model_that_is_undefined_at_the_start_of_passes_is_an_error() -> None:
    _, data, _ = CURVES["equation"]
    with pytest.raises(FitError, match="batch 0, from row 0: residual 0"):
        fit(sp.Eq(q, a * sp.log(b * p)), lambda: in_batches(data, (200, 200)), {a: 1, b: -1}, method="lm")


@asks_linux
def test_the_memory_of_a_stream_does_not_grow_with_its_rows() -> None:
    program = """
import sys
sys.path.insert(0, ".")
from benchmarks.streams import fit_rows
fit_rows(200_000)
before = peak()
fit_rows(800_000)
print(peak() - before)
"""
    assert megabytes_printed_by(program) < 10  # the rows would take 50 MB more


@asks_linux
def test_mapped_files_are_fitted_without_reading_them_whole(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, ".")
import numpy as np, sympy as sp
from sym2tf import fit
rows = 3_000_000
for name in ("p", "q"):
    file = np.lib.format.open_memmap({str(tmp_path)!r} + "/" + name + ".npy", "w+", "float64", (rows,))
    for at in range(0, rows, 100_000):
        file[at : at + 100_000] = np.random.default_rng(at).normal(size=100_000) + (3 if name == "q" else 0)
    del file
a, b, p, q = sp.symbols("a b p q")
read = lambda name: np.load({str(tmp_path)!r} + "/" + name + ".npy", mmap_mode="r")
fit(sp.Eq(q, a + b * p), {{p: np.arange(9.0), q: np.arange(9.0)}}, [a, b])
before = peak()
result = fit(sp.Eq(q, a + b * p), {{p: read("p"), q: read("q")}}, [a, b])
assert "many for one matrix" in result.solver
assert abs(result.params[a] - 3) < 0.01
print(peak() - before)
"""
    # the pages of the files themselves count as resident, 48 MB; a Jacobian with its copies would be 250 MB more
    assert megabytes_printed_by(program) < 90
