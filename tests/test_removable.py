"""Branches guarded by Eq or Ne with a point: the derivatives there are the limits of the other branch."""

import math
import time
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp

from sym2tf.autodiff.coefficients import NoSeriesError, Ring, number, rational_power
from sym2tf.autodiff.derivatives import gradient, hvp, jvp
from sym2tf.autodiff.removable import resolve_removable
from sym2tf.backends import mpmath as judge
from sym2tf.backends.numpy import evaluate
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import cast, log
from sym2tf.ops.elementary import cos, sin
from sym2tf.ops.leaves import input_, pi
from sym2tf.ops.logic import less, not_equal, select
from sym2tf.ops.values import Value

x, y, a, b = sp.symbols("x y a b", real=True)
HALF = sp.Rational(1, 2)
DISTANCES = (0, 1e-12, -1e-12, 1e-8, -1e-8, 1e-5, -1e-5, 1e-3, -1e-3, 0.03, -0.03, 0.1, -0.1)
OTHERS = {"a": 0.7, "b": 1.25}


def seam(branch, value, condition=None):
    condition = sp.Ne(x, 0) if condition is None else condition
    return lower(sp.Piecewise((branch, condition), (value, True)), args=[x, a, b])


def derivative(graph, order, mode=gradient):
    for _ in range(order):
        graph = mode(graph, [graph.inputs[0]])
    return graph


def run(graph, at, others=OTHERS):
    names = [graph[v].attributes["name"] for v in graph.inputs]
    tangents = {name: 1.0 for name in names if "tangent" in name}
    (answer,) = evaluate(graph, {"x": at, **others, **tangents}).values()
    return answer


def limit(graph, at, order, others=OTHERS):
    """The derivative of the branch off the point, by differences in 160 digits."""
    step = mpmath.mpf(10) ** -30

    def value(t):
        (answer,) = judge.evaluate(graph, {"x": t, **others}, digits=160).values()
        return answer[()]

    with mpmath.workdps(160):
        nodes = [mpmath.mpf(at) + (14 * k - 7 * order + 2) * step / 14 for k in range(order + 1)]
        weights = [(-1) ** (order - k) * math.comb(order, k) for k in range(order + 1)]
        total = mpmath.fsum(w * value(t) for w, t in zip(weights, nodes, strict=True))
        return total / step**order


REMOVABLE = {
    "sin(x)/x": (sp.sin(x) / x, 1, None),
    "(1-cos x)/x^2": ((1 - sp.cos(x)) / x**2, HALF, None),
    "x/(e^x-1)": (x / (sp.exp(x) - 1), 1, None),
    "log(1+x)/x": (sp.log(1 + x) / x, 1, None),
    "(sqrt(1+x)-1)/x": ((sp.sqrt(1 + x) - 1) / x, HALF, None),
    "tan(x)/x": (sp.tan(x) / x, 1, None),
    "atan(x)/x": (sp.atan(x) / x, 1, None),
    "asin(x)/x": (sp.asin(x) / x, 1, None),
    "sinh(x)/x": (sp.sinh(x) / x, 1, None),
    "tanh(x)/x": (sp.tanh(x) / x, 1, None),
    "asinh(x)/x": (sp.asinh(x) / x, 1, None),
    "erf(x)/x": (sp.erf(x) / x, 2 / sp.sqrt(sp.pi), None),
    "(x-sin x)/x^3": ((x - sp.sin(x)) / x**3, sp.Rational(1, 6), None),
    "1/x-1/sin x": (1 / x - 1 / sp.sin(x), 0, None),
    "(1+x)^(1/x)": ((1 + x) ** (1 / x), sp.E, None),
    "sin(1000x)/x": (sp.sin(1000 * x) / x, 1000, None),
    "log(x)/(x-1)": (sp.log(x) / (x - 1), 1, sp.Ne(x, 1)),
    "(x^5-32)/(x-2)": ((x**5 - 32) / (x - 2), 80, sp.Ne(x, 2)),
    "sin(ax)/x": (sp.sin(a * x) / x, a, None),
    "(e^ax-e^bx)/x": ((sp.exp(a * x) - sp.exp(b * x)) / x, a - b, None),
    "(a^x-1)/x": ((a**x - 1) / x, sp.log(a), None),
    "(1-cos ax)/x^2": ((1 - sp.cos(a * x)) / x**2, a**2 / 2, None),
    "sin(2x)/(2x), Ne(2x, 0)": (sp.sin(2 * x) / (2 * x), 1, sp.Ne(2 * x, 0)),
    "sin(x-a)/(x-a)": (sp.sin(x - a) / (x - a), 1, sp.Ne(x - a, 0)),
    "(sin x-sin a)/(x-a)": ((sp.sin(x) - sp.sin(a)) / (x - a), sp.cos(a), sp.Ne(x, a)),
    "(log x-log a)/(x-a)": ((sp.log(x) - sp.log(a)) / (x - a), 1 / a, sp.Ne(x, a)),
    "sin(x^2)/x^2, Ne(x^2, 0)": (sp.sin(x**2) / x**2, 1, sp.Ne(x**2, 0)),
    "the value depends on x": (sp.sin(x) / x, sp.cos(x), None),
    "an Abs whose sign is known": (sp.Abs(1 + sp.sin(x)) / x - 1 / x, 1, None),
    "a branch on a parameter": (sp.Piecewise((sp.sin(x), a > 0), (x, True)) / x, 1, None),
    "nested": (sp.Piecewise((sp.sin(x) / x, sp.Ne(x, 0)), (1, True)) * a / x - a / x, 0, None),
}


@pytest.mark.parametrize("name", REMOVABLE)
def test_derivatives_at_the_seam_and_near_it_are_those_of_the_branch_off_it(name):
    branch, value, condition = REMOVABLE[name]
    graph = seam(branch, value, condition)
    condition = sp.Ne(x, 0) if condition is None else condition
    (root,) = set(sp.solve(condition.lhs - condition.rhs, x))
    point = float(root.subs(a, OTHERS["a"]))
    with mpmath.workdps(60):
        worst = [0.0] * 4
        for order in range(4):
            derived = resolve_removable(graph) if order == 0 else derivative(graph, order)
            for distance in DISTANCES:
                at = point + distance
                due = limit(graph, at, order)
                error = abs(run(derived, at) - due) / max(1, abs(due))
                worst[order] = max(worst[order], float(error))
    # the closed form takes over at the edge of the polynomial, where it has lost a few digits for each order
    assert worst[0] < 2e-14
    assert worst[1] < 2e-12
    assert worst[2] < 1e-10
    assert worst[3] < 1e-8


def test_point_of_parameters_is_read_from_the_condition_not_from_the_branch():
    graph = seam((sp.sin(x) - sp.sin(a)) / (x - a), sp.cos(a), sp.Ne(x, a))
    by_a = gradient(graph, [graph.inputs[1]])
    assert run(by_a, 0.7) == pytest.approx(-np.sin(0.7) / 2, rel=1e-14)


@pytest.mark.parametrize(
    "expr",
    [
        sp.Piecewise((sp.sin(x) / x, sp.Ne(x, 0)), (1, True)),
        sp.Piecewise((1, sp.Eq(x, 0)), (sp.sin(x) / x, True)),
        sp.Piecewise((1, sp.Not(sp.Ne(x, 0), evaluate=False)), (sp.sin(x) / x, True)),
    ],
)
def test_all_spellings_of_the_guard_give_value_slope_and_curvature(expr):
    graph = lower(expr, args=[x])
    for order, due in enumerate((1, 0, -1 / 3, 0, 1 / 5)):
        derived = derivative(graph, order) if order else resolve_removable(graph)
        assert run(derived, 0.0, {}) == pytest.approx(due, abs=1e-15)


def test_forward_mode_and_hessian_vector_products_are_right_at_the_seam():
    graph = seam(sp.sin(x) / x, 1)
    assert run(hvp(graph, [graph.inputs[0]]), 0.0) == pytest.approx(-1 / 3, rel=1e-15)
    once = jvp(graph, [graph.inputs[0]])
    assert run(once, 0.0) == 0
    assert run(jvp(once, [once.inputs[0]]), 0.0) == pytest.approx(-1 / 3, rel=1e-15)


def test_value_of_the_user_stays_and_derivatives_are_the_limits():
    graph = seam(x**2, 5)
    assert run(resolve_removable(graph), 0.0) == 5
    assert [run(derivative(graph, k), 0.0) for k in (1, 2, 3)] == [0, 2, 0]
    graph = seam(sp.sin(x) / x, 3)
    assert run(resolve_removable(graph), 0.0) == 3
    assert run(derivative(graph, 2), 0.0) == pytest.approx(-1 / 3, rel=1e-15)
    assert run(derivative(graph, 2), 1e-9) == pytest.approx(-1 / 3, rel=1e-15)


def test_derivatives_by_parameters_hold_at_the_seam():
    graph = seam(sp.sin(a * x) / x, a)
    by_x = gradient(graph, [graph.inputs[0]])
    both = gradient(by_x, [by_x.inputs[1]])
    for at in (0.0, 1e-9, 1e-3):
        assert run(gradient(graph, [graph.inputs[1]]), at) == pytest.approx(np.cos(0.7 * at), rel=1e-14)
        assert run(both, at) == pytest.approx(-0.7 * np.sin(0.7 * at), abs=1e-15)
    assert run(gradient(graph, [graph.inputs[1]]), 0.0, {"a": 0.0, "b": 0.0}) == 1


def test_radial_functions_are_smooth_at_the_origin():
    r = sp.sqrt(x**2 + y**2)
    for condition in (sp.Ne(r, 0), sp.Ne(x**2 + y**2, 0)):
        graph = lower(sp.Piecewise((sp.sin(r) / r, condition), (1, True)), args=[x, y])
        inputs = graph.inputs[:1]
        second = gradient(gradient(graph, inputs), inputs)
        (first,) = evaluate(gradient(graph, inputs), {"x": 0.0, "y": 0.0}).values()
        (curvature,) = evaluate(second, {"x": 0.0, "y": 0.0}).values()
        assert first == 0
        assert curvature == pytest.approx(-1 / 3, rel=1e-15)


def test_seams_differ_between_the_elements_of_a_data_axis():
    xs, w, (i, n) = sp.IndexedBase("x"), sp.Symbol("w"), sp.symbols("i n", integer=True)
    term = sp.Piecewise((sp.sin(w * xs[i]) / xs[i], sp.Ne(xs[i], 0)), (w, True))
    graph = lower(sp.Sum(term, (i, 0, n - 1)), args=[w, xs])
    data = np.array([0.0, 1e-9, 0.5, -2.0, 0.0])
    by_w = evaluate(gradient(graph, [graph.inputs[0]]), {"w": 1.5, "x": data})
    np.testing.assert_allclose(next(iter(by_w.values())), np.cos(1.5 * data).sum(), rtol=1e-14)
    by_x = next(iter(evaluate(gradient(graph, [graph.inputs[1]]), {"w": 1.5, "x": data}).values()))
    far = lambda t: (1.5 * t * np.cos(1.5 * t) - np.sin(1.5 * t)) / t**2
    due = [-(1.5**3) * t / 3 if abs(t) < 1e-8 else far(t) for t in data]
    np.testing.assert_allclose(by_x, due, rtol=1e-13, atol=1e-22)


@pytest.mark.parametrize("branch", [1 / x, sp.log(x), sp.Abs(x) / x, x * sp.log(x), sp.sqrt(x), sp.exp(1 / x)])
def test_branches_without_a_series_are_left_as_they_are(branch):
    graph = seam(branch, 0)
    assert resolve_removable(graph) is graph
    assert run(derivative(graph, 1), 0.0) == 0


@pytest.mark.parametrize("expr", [sp.sin(x) / x, sp.Piecewise((sp.log(x), x > 0), (0, True)), sp.Max(x, 0)])
def test_graphs_without_such_seams_come_back_as_they_are(expr):
    graph = lower(expr, args=[x])
    assert resolve_removable(graph) is graph


def test_polynomial_is_never_used_beyond_its_validity():
    graph = seam(sp.sin(1000 * x) / x, 1000)
    for at in (1e-4, 1e-3, 3e-3, 1e-2, 1.0):
        assert run(resolve_removable(graph), at) == pytest.approx(np.sin(1000 * at) / at, rel=1e-13)
    graph = seam(sp.sin(a * x) / x, a)
    for slope in (1e-6, 1.0, 1e6):
        for at in (1e-7, 1e-3, 0.3, 2.0):
            due = np.sin(slope * at) / at
            got = run(resolve_removable(graph), at, {"a": slope, "b": 0.0})
            assert got == pytest.approx(due, rel=1e-9 if slope * at > 1e3 else 1e-13)


def test_resolved_graphs_are_valid_and_resolving_twice_changes_nothing():
    graph = seam((sp.exp(a * x) - sp.exp(b * x)) / x, a - b)
    once = resolve_removable(graph).validate()
    assert resolve_removable(once) is once
    assert [once[v].attributes["name"] for v in once.inputs] == ["x", "a", "b"]


def test_the_graph_grows_by_a_bounded_polynomial():
    graph = seam(sp.sin(x) / x, 1)
    assert len(resolve_removable(graph)) < len(graph) + 60
    many = seam(sum(sp.cos(sp.Rational(k, 7) * x + b) * a**k for k in range(12)) / x, 0)
    assert len(resolve_removable(many)) < 20 * len(many)


def test_a_piecewise_of_many_points_is_resolved_in_linear_time_for_each_point():
    pieces = [(k, sp.Eq(x, k)) for k in range(120)]
    graph = lower(sp.Piecewise(*pieces, (x**2, True)), args=[x])
    start = time.perf_counter()
    derived = derivative(graph, 1)
    assert time.perf_counter() - start < 10
    assert [run(derived, float(k), {}) for k in (0, 5, 119)] == [0, 10, 238]
    assert run(derived, 0.5, {}) == 1


def test_a_large_branch_still_has_its_first_derivatives():
    branch = sp.sin(x)
    for k in range(200):
        branch = branch + sp.sin(x / (k + 2)) * sp.cos(x) / 1000
    graph = seam(branch / x, 1)
    due = 1 + sum(1 / (k + 2) for k in range(200)) / 1000
    start = time.perf_counter()
    resolved = resolve_removable(graph)
    assert time.perf_counter() - start < 10
    assert run(derivative(graph, 1), 0.0) == pytest.approx(0, abs=1e-15)
    assert run(resolved, 1e-9) == pytest.approx(due, rel=1e-12)


def test_deep_branches_are_walked_without_recursion():
    builder = Builder()
    real = TensorType(Kind.REAL)
    at = Value(builder, builder.add(input_, (), {"name": "x", "symbol": None, "type": real}))
    deep = at
    for _ in range(1500):
        deep = sin(deep)
    filled = select(not_equal(at, 0), deep / at, 1)
    graph = builder.build([at.id], {"f": filled.id})
    assert run(derivative(graph, 1), 0.0, {}) == 0
    assert run(derivative(graph, 2), 0.0, {}) == pytest.approx(-1500 / 3, rel=1e-12)


def test_conditions_used_as_numbers_are_decided_beside_the_point():
    builder = Builder()
    real = TensorType(Kind.REAL)
    at = Value(builder, builder.add(input_, (), {"name": "x", "symbol": None, "type": real}))
    weight = cast(less(at, 1), kind=Kind.REAL) + cast(not_equal(at, 0), kind=Kind.REAL)
    graph = builder.build([at.id], {"f": select(not_equal(at, 0), weight * sin(at) / at, 2).id})
    assert [run(derivative(graph, k), 0.0, {}) for k in (1, 2)] == [0, pytest.approx(-2 / 3)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_dtype_is_right_near_the_seam(dtype):
    second = derivative(seam(sp.sin(x) / x, 1), 2)
    for at in (0.0, 1e-8, 1e-3, -0.1):
        (answer,) = evaluate(second, {"x": at, **OTHERS}, dtype=dtype).values()
        due = -1 / 3 + at**2 / 10 - at**4 / 168 + at**6 / 6480
        assert answer == pytest.approx(due, rel=1e-6 if dtype == "float32" else 1e-11)


def test_coefficients_cancel_exactly_and_fold_exactly():
    builder = Builder()
    ring = Ring(builder)
    real = TensorType(Kind.REAL)
    at = Value(builder, builder.add(input_, (), {"name": "x", "symbol": None, "type": real}))
    atom = ring.atom(at)
    total = ring.sum([atom, number(3)])
    assert ring.sum([atom, ring.scale(atom, -1)]) == {}
    assert ring.product(atom, ring.power(atom, Fraction(-1))) == number(1)
    assert ring.product(total, total) == ring.power(total, Fraction(2))
    assert ring.function(sin, number(0)) == {}
    assert ring.function(cos, ring.atom(Value(builder, builder.add(pi)))) == number(-1)
    assert ring.function(cos, atom) == ring.atom(cos(at))
    with pytest.raises(NoSeriesError, match="pole"):
        ring.function(log, number(0))
    with pytest.raises(NoSeriesError, match="zero"):
        ring.power({}, Fraction(-1))


@pytest.mark.parametrize(
    ("base", "exponent", "due"),
    [
        (Fraction(4, 9), Fraction(1, 2), Fraction(2, 3)),
        (Fraction(8), Fraction(-2, 3), Fraction(1, 4)),
        (Fraction(2), Fraction(1, 2), None),
        (Fraction(-8), Fraction(1, 3), None),
        (Fraction(10), Fraction(10**9), None),
    ],
)
def test_rational_powers_are_exact_and_never_enormous(base, exponent, due):
    assert rational_power(base, exponent) == due
