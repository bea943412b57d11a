"""The derivative drivers: both modes agree with differences, and branches that are not taken never matter."""

import math
import time
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sym2tf.autodiff.derivatives import gradient, hessian, hvp, jacobian, jvp, vjp
from sym2tf.backends import mpmath as judge
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import DifferentiationError
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add, log, mul
from sym2tf.ops.contraction import einsum, logsumexp, prod, reduce_max
from sym2tf.ops.elementary import cos, exp, sin, tanh
from sym2tf.ops.indexing import broadcast, expand, pad, slice_, sum_, transpose
from sym2tf.ops.leaves import input_
from sym2tf.ops.logic import and_, equal, less, not_equal, select
from sym2tf.ops.piecewise_linear import abs_, floor, max_, min_, sign
from sym2tf.ops.values import Value

N, M = size_symbol("n"), size_symbol("m")


def variables(**shapes):
    builder = Builder()
    made = []
    for name, shape in shapes.items():
        type_ = TensorType(Kind.REAL, shape)
        made.append(Value(builder, builder.add(input_, (), {"name": name, "symbol": None, "type": type_})))
    return made


def graph_of(inputs, *outputs):
    named = {f"f{k}" if k else "f": value.id for k, value in enumerate(outputs)}
    return inputs[0].builder.build([v.id for v in inputs], named).validate()


def values(graph, *data):
    names = [graph[v].attributes["name"] for v in graph.inputs]
    return list(evaluate(graph, dict(zip(names, data, strict=True))).values())


def wrt(graph, *places):
    return [graph.inputs[k] for k in places or range(len(graph.inputs))]


def scalar_derivatives(graph, at, orders=3):
    """Derivatives of f(x) to the given order: in reverse mode, and forward along 1."""
    reverse, forward, found = graph, graph, []
    for _ in range(orders):
        reverse = gradient(reverse, wrt(reverse, 0)).validate()
        forward = jvp(forward, wrt(forward, 0)).validate()
        ones = [1.0] * (len(forward.inputs) - 1)
        found.append((float(values(reverse, at)[0]), float(values(forward, at, *ones)[0])))
    return found


def function(build):
    """The graph of f(x) for scalar x."""
    (x,) = variables(x=())
    return graph_of([x], build(x))


@mpmath.workdps(60)
def differences(graph, data, place):
    """d f / d input by central differences in 60 digits, in the shape of the input; f scalar."""
    names = [graph[v].attributes["name"] for v in graph.inputs]
    step = mpmath.mpf(10) ** -20
    base = [np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(d, float)) for d in data]
    answer = np.empty(base[place].shape)
    for index in np.ndindex(base[place].shape):
        ends = []
        for direction in (1, -1):
            moved = [b.copy() for b in base]
            moved[place][index] += direction * step
            (value,) = judge.evaluate(graph, dict(zip(names, moved, strict=True)), digits=60).values()
            ends.append(value[()])
        answer[index] = float((ends[0] - ends[1]) / (2 * step))
    return answer


# Reverse, forward, differences -------------------------------------------------------------------


def regression():
    w, x, y = inputs = variables(w=(), x=(N,), y=(N,))
    residual = y - tanh(expand(w, axis=-1) * x) * exp(-x)
    return graph_of(inputs, sum_(residual * residual, axes=(-1,)))


def matrix_form():
    a, b = inputs = variables(a=(2, 3), b=(3,))
    product = einsum(a, b, inputs=("ij", "j"), output="i")
    return graph_of(inputs, sum_(sin(product) * transpose(product, axes=(-1,)), axes=(-1,)))


def shifted():
    (x,) = inputs = variables(x=(N,))
    rest = slice_(x, axis=-1, start=1, size=N - 1) - slice_(x, axis=-1, start=0, size=N - 1)
    padded = pad(cos(rest), axis=-1, before=0, after=1)
    return graph_of(inputs, logsumexp(padded * x, axes=(-1,)) + reduce_max(x * x, axes=(-1,)) + prod(x, axis=-1))


def mixed_shapes():
    a, x = inputs = variables(a=(), x=(2, 3))
    wide = broadcast(expand(expand(a, axis=-1), axis=-1), shape=(2, 3))
    column = sum_(x, axes=(-1,))
    return graph_of(inputs, sum_(wide * x * expand(exp(column), axis=-1), axes=(-2, -1)) * a)


RNG = np.random.default_rng(7)
COSTS = {
    "regression": (regression, (0.4, RNG.normal(size=4), RNG.normal(size=4))),
    "matrix form": (matrix_form, (RNG.normal(size=(2, 3)), RNG.normal(size=3))),
    "shifted data": (shifted, (RNG.normal(size=4),)),
    "mixed shapes": (mixed_shapes, (0.3, RNG.normal(size=(2, 3)))),
}


@pytest.mark.parametrize("name", COSTS)
def test_reverse_equals_forward_equals_differences(name):
    make, data = COSTS[name]
    graph = make()
    reverse = gradient(graph, wrt(graph))
    directions = [np.asarray(RNG.normal(size=np.shape(d))) for d in data]
    found = values(reverse.validate(), *data)
    for place, answer in enumerate(found):
        np.testing.assert_allclose(answer, differences(graph, data, place), rtol=1e-11, atol=1e-12)
    (along,) = values(jvp(graph, wrt(graph)).validate(), *data, *directions)
    np.testing.assert_allclose(along, sum(np.sum(g * d) for g, d in zip(found, directions, strict=True)), rtol=1e-11)
    pulled = values(vjp(graph, wrt(graph)).validate(), *data, 2.0)
    for answer, due in zip(pulled, found, strict=True):
        np.testing.assert_allclose(answer, 2 * due, rtol=1e-13)


@pytest.mark.parametrize("name", COSTS)
def test_hessians_are_symmetric_and_agree_with_products_and_differences(name):
    make, data = COSTS[name]
    graph = make()
    count = len(data)
    blocks = values(hessian(graph, wrt(graph)).validate(), *data)
    directions = [np.asarray(RNG.normal(size=np.shape(d))) for d in data]
    products = values(hvp(graph, wrt(graph)).validate(), *data, *directions)
    for i in range(count):
        total = 0
        for j in range(count):
            block = blocks[i * count + j]
            rank = np.ndim(data[j])
            mirrored = (
                np.moveaxis(blocks[j * count + i], range(np.ndim(data[j])), range(-rank, 0))
                if rank
                else (blocks[j * count + i])
            )
            np.testing.assert_allclose(block, mirrored, rtol=1e-11, atol=1e-12)
            total = total + np.tensordot(block, directions[j], axes=rank)
        np.testing.assert_allclose(products[i], total, rtol=1e-10, atol=1e-11)
    first = gradient(graph, wrt(graph, 0))
    size = np.size(data[0])
    if np.ndim(data[0]) == 0:
        np.testing.assert_allclose(blocks[0], differences(first, data, 0), rtol=1e-10)
    assert blocks[0].size == size * size


@pytest.mark.parametrize("columns", [1, 3])
def test_jacobians_of_vectors_hold_every_partial_in_both_modes(columns):
    x, a = inputs = variables(x=(3,), a=())
    outputs = sin(x) * expand(a, axis=-1), sum_(x * x * x, axes=(-1,)) * a
    graph = graph_of(inputs, *(outputs[:1] if columns == 1 else outputs))
    at, slope = np.array([0.1, -0.4, 2.0]), 1.5
    answers = values(jacobian(graph, wrt(graph)).validate(), at, slope)
    np.testing.assert_allclose(answers[0], np.diag(slope * np.cos(at)), rtol=1e-14)
    np.testing.assert_allclose(answers[1], np.sin(at), rtol=1e-14)
    if columns == 3:
        np.testing.assert_allclose(answers[2], 3 * slope * at**2, rtol=1e-14)
        np.testing.assert_allclose(answers[3], np.sum(at**3), rtol=1e-14)


def test_batches_are_differentiated_point_by_point():
    graph = function(lambda x: sin(x) * x)
    at = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(values(gradient(graph, wrt(graph)), at)[0], np.cos(at) * at + np.sin(at), rtol=1e-14)


def test_unused_inputs_and_constant_outputs_have_zero_derivatives_of_full_shape():
    inputs = variables(x=(3,), y=())
    graph = graph_of(inputs, inputs[1] * inputs[1])
    np.testing.assert_array_equal(values(gradient(graph, wrt(graph)), np.ones(3), 2.0)[0], np.zeros(3))
    assert values(jvp(graph, wrt(graph, 0)), np.ones(3), 2.0, np.ones(3))[0] == 0


# Branches ----------------------------------------------------------------------------------------

BRANCHES = {  # name: (f, point, first three derivatives)
    "sqrt(select(x>0,x,0)) left": (
        lambda x: select(less(0, x), x, 0) ** Fraction(1, 2),
        -1.0,
        (0, 0, 0),
    ),
    "sqrt(select(x>0,x,0)) right": (
        lambda x: select(less(0, x), x, 0) ** Fraction(1, 2),
        4.0,
        (1 / 4, -1 / 32, 3 / 256),
    ),
    "x*log(x) at 0": (lambda x: select(less(0, x), x * log(x), 0), 0.0, (0, 0, 0)),
    "x*log(x) left": (lambda x: select(less(0, x), x * log(x), 0), -2.0, (0, 0, 0)),
    "x*log(x) right": (lambda x: select(less(0, x), x * log(x), 0), 1.0, (1, 1, -1)),
    "1/x in two branches": (
        lambda x: select(less(0, x), sin(1 / x), 0) + select(less(x, 0), exp(1 / x), 0),
        0.0,
        (0, 0, 0),
    ),
    "1/x shared by branches": (
        lambda x: select(less(0, x), log(1 / x), x) * select(less(x, 0), 1 / x, 2),
        0.0,
        (2, 0, 0),
    ),
    "nested": (
        lambda x: select(less(0, x), select(less(1, x), log(x - 1), x * x), (x + 5) ** Fraction(1, 2)),
        0.5,
        (1, 2, 0),
    ),
    "nested, outside": (
        lambda x: select(less(0, x), select(less(1, x), log(x - 1), 1 / x), exp(x)),
        0.0,
        (1, 1, 1),
    ),
    "overflow": (lambda x: select(less(x, 1), x, exp(exp(x))), 0.5, (1, 0, 0)),
    "overflow taken at 10": (lambda x: select(less(x, 20), x * x, exp(x * 1000)), 10.0, (20, 2, 0)),
    "product with a dead factor": (lambda x: x * x * select(less(0, x), log(x), 3), 0.0, (0, 6, 0)),
    "dead branch times 1/x": (lambda x: select(not_equal(x, 0), 1 / x, 1) * exp(x), 0.0, (1, 1, 1)),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_branches_not_taken_never_matter_to_third_order_in_both_modes(name):
    build, at, due = BRANCHES[name]
    for (reverse, forward), expected in zip(scalar_derivatives(function(build), at), due, strict=True):
        assert reverse == pytest.approx(expected, rel=1e-13, abs=1e-15)
        assert forward == pytest.approx(expected, rel=1e-13, abs=1e-15)


def test_guards_may_differ_between_the_elements_of_an_axis():
    x, w = inputs = variables(x=(N,), w=())
    wide = expand(w, axis=-1)
    graph = graph_of(inputs, sum_(select(less(0, x), log(x) * wide, 0), axes=(-1,)))
    at = np.array([1.0, 0.0, -3.0, 4.0])
    by_x, by_w = values(gradient(graph, wrt(graph)), at, 2.0)
    np.testing.assert_allclose(by_x, [2, 0, 0, 0.5])
    np.testing.assert_allclose(by_w, math.log(4))
    blocks = values(hessian(graph, wrt(graph)), at, 2.0)
    np.testing.assert_allclose(blocks[0], np.diag([-2, 0, 0, -2 / 16]))
    np.testing.assert_allclose(blocks[1], [1, 0, 0, 0.25])
    along = values(jvp(graph, wrt(graph)), at, 2.0, np.ones(4), 1.0)
    np.testing.assert_allclose(along, 2.5 + math.log(4))


@pytest.mark.parametrize(("v", "taken"), [(0.0, False), (0.5, True)])
def test_a_guarded_scalar_used_by_elements_of_data_counts_only_where_one_takes_the_branch(v, taken):
    x, s = inputs = variables(x=(N,), s=())
    w = expand(1 / s, axis=-1)
    graph = graph_of(inputs, sum_(select(less(0, x), x * w, x), axes=(-1,)))
    at = np.array([2.0, -1.0]) if taken else np.array([-2.0, -1.0])
    by_x, by_s = values(gradient(graph, wrt(graph)), at, v)
    np.testing.assert_allclose(by_x, [2.0, 1.0] if taken else [1.0, 1.0])
    np.testing.assert_allclose(by_s, -2.0 / v**2 if taken else 0.0)
    (along,) = values(jvp(graph, wrt(graph)), at, v, np.zeros(2), 1.0)
    np.testing.assert_allclose(along, by_s)
    assert np.isfinite(values(hvp(graph, wrt(graph)), at, v, np.ones(2), 1.0)[1])


REDUCTIONS = {
    "prod": lambda x: prod(log(x), axis=-1),
    "logsumexp": lambda x: logsumexp(log(x), axes=(-1,)),
    "reduce_max": lambda x: reduce_max(1 / x, axes=(-1,)),
    "sum": lambda x: sum_(log(x), axes=(-1,)),
    "einsum": lambda x: einsum(log(x), 1 / x, inputs=("i", "i"), output=""),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_inside_branches_not_taken_never_matter(name):
    x, s = inputs = variables(x=(3,), s=())
    graph = graph_of(inputs, select(less(0, s), REDUCTIONS[name](x), s * s))
    at = np.array([0.0, -1.0, 0.0])
    by_x, by_s = values(gradient(graph, wrt(graph)), at, -1.5)
    np.testing.assert_array_equal(by_x, np.zeros(3))
    assert by_s == -3
    for block, due in zip(values(hessian(graph, wrt(graph)), at, -1.5), (np.zeros((3, 3)), 0, 0, 2), strict=True):
        np.testing.assert_array_equal(block, np.broadcast_to(due, block.shape))
    assert values(jvp(graph, wrt(graph)), at, -1.5, np.ones(3), 1.0)[0] == -3


@pytest.mark.parametrize("name", REDUCTIONS)
def test_elements_outside_a_branch_never_reach_a_reduction(name):
    (x,) = inputs = variables(x=(3,))
    safe = select(less(0, x), x * log(x), 2)
    graph = graph_of(inputs, REDUCTIONS[name](safe + 3))
    at = np.array([0.5, 0.0, -1.0])
    reverse = values(gradient(graph, wrt(graph)), at)[0]
    assert reverse[1:].tolist() == [0, 0]
    np.testing.assert_allclose(values(jvp(graph, wrt(graph)), at, np.ones(3))[0], reverse.sum(), rtol=1e-13)
    curvature = values(hessian(graph, wrt(graph)), at)[0]
    assert np.isfinite(curvature).all()
    assert not curvature[1:].any()


# Conventions and zeros ---------------------------------------------------------------------------

CONVENTIONS = {
    "abs at 0": (abs_, 0.0, 0),
    "sign at 0": (sign, 0.0, 0),
    "floor at a step": (floor, 2.0, 0),
    "max(x, 0) at 0": (lambda x: max_(x, 0), 0.0, 0),
    "max(x, 0) above": (lambda x: max_(x, 0), 1.0, 1),
    "min(x, 0) at 0": (lambda x: min_(x, 0), 0.0, 0),
    "max(x, x^2) at a tie": (lambda x: max_(x, x * x), 1.0, 1.5),
    "min(x, x^2, 3) at a tie": (lambda x: min_(x, x * x, 3), 1.0, 1.5),
    "sqrt(max(x, 0)) at 0": (lambda x: max_(x, 0) ** Fraction(1, 2), 0.0, 0),
    "x^0 at 0": (lambda x: x**0, 0.0, 0),
    "x^1 at 0": (lambda x: x**1, 0.0, 1),
    "x^2 at 0": (lambda x: x**2, 0.0, 0),
    "0^x at 2": (lambda x: (x * 0) ** x, 2.0, 0),
    "2^x at 0": (lambda x: 2**x, 0.0, math.log(2)),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions_at_corners_and_zeros(name):
    build, at, due = CONVENTIONS[name]
    ((reverse, forward),) = scalar_derivatives(function(build), at, 1)
    assert reverse == pytest.approx(due, abs=1e-300)
    assert forward == pytest.approx(due, abs=1e-300)


def test_powers_of_zero_by_both_operands():
    x, e = inputs = variables(x=(), e=())
    graph = graph_of(inputs, x**e)
    assert values(gradient(graph, wrt(graph)), 0.0, 2.0) == [0, 0]
    assert values(gradient(graph, wrt(graph)), 0.0, 1.0) == [1, 0]
    assert values(gradient(graph, wrt(graph)), 0.0, 0.0) == [0, 0]
    by_x, by_e = values(gradient(graph, wrt(graph)), 2.0, 3.0)
    assert by_x == pytest.approx(12)
    assert by_e == pytest.approx(8 * math.log(2))


def test_integer_powers_have_all_derivatives_at_zero():
    for exponent in range(5):
        graph = function(lambda x, e=exponent: x**e)
        for order, pair in enumerate(scalar_derivatives(graph, 0.0, 5), 1):
            assert pair == (math.factorial(exponent) * (order == exponent),) * 2


@pytest.mark.parametrize("zeros", [(), (0,), (0, 2), (0, 1, 2)])
def test_products_with_zero_factors_are_right_to_second_order(zeros):
    at = np.array([2.0, -3.0, 0.5, 1.5])
    at[list(zeros)] = 0
    x = variables(**{f"x{k}": () for k in range(4)})
    n_ary = graph_of(x, mul(*x))
    (vector,) = variables(x=(N,))
    reduced = graph_of([vector], prod(vector, axis=-1))
    without = lambda *skip: np.prod([v for k, v in enumerate(at) if k not in skip])
    due = np.array([without(i) for i in range(4)])
    second = np.array([[0 if i == j else without(i, j) for j in range(4)] for i in range(4)])
    np.testing.assert_array_equal(values(gradient(n_ary, wrt(n_ary)), *at), due)
    np.testing.assert_array_equal(values(gradient(reduced, wrt(reduced)), at)[0], due)
    np.testing.assert_array_equal(np.reshape(values(hessian(n_ary, wrt(n_ary)), *at), (4, 4)), second)
    np.testing.assert_array_equal(values(hessian(reduced, wrt(reduced)), at)[0], second)


def test_lazy_cotangents_are_counted_once_for_every_element_they_stand_for():
    a, x = inputs = variables(a=(), x=(N, M))
    wide = broadcast(expand(expand(a, axis=-1), axis=-1), shape=(N, M))
    graph = graph_of(inputs, sum_(wide, axes=(-2, -1)), sum_(expand(expand(a, axis=-1), axis=-1) + x, axes=(-2, -1)))
    data = np.zeros((3, 5))
    answers = values(gradient(graph, wrt(graph, 0)), 1.0, data)
    assert [float(v) for v in answers] == [15, 15]
    squared = graph_of(inputs, sum_(wide * wide * x, axes=(-2, -1)))
    blocks = values(hessian(squared, wrt(squared)), 0.5, np.ones((3, 5)))
    assert blocks[0] == 30
    np.testing.assert_array_equal(blocks[1], np.ones((3, 5)))
    np.testing.assert_array_equal(blocks[3], np.zeros((3, 5, 3, 5)))


# Size and sharing --------------------------------------------------------------------------------


def chain(levels):
    (x,) = variables(x=())
    e = x
    for _ in range(levels):
        e = sin(e)
    return x.builder.build([x.id], {"f": e.id})


@pytest.mark.parametrize("levels", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_deep_graphs_differentiate_without_recursion(levels):
    graph = chain(levels)
    start = time.perf_counter()
    reverse = gradient(graph, wrt(graph))
    assert time.perf_counter() - start < 40
    assert len(reverse) < 5 * len(graph)


def test_time_grows_linearly_with_depth():
    def seconds(levels):
        graph = chain(levels)
        start = time.process_time()
        gradient(graph, wrt(graph))
        return time.process_time() - start

    seconds(500)
    small, large = min(seconds(1000) for _ in range(3)), seconds(8000)
    assert large < 8 * 3 * small


def test_shared_subexpressions_stay_shared():
    (x,) = variables(x=())
    e = x
    for _ in range(60):
        e = sin(e) * cos(e)
    graph = graph_of([x], e)
    reverse = gradient(graph, wrt(graph))
    forward = jvp(graph, wrt(graph))
    assert len(reverse) < 6 * len(graph)
    assert len(forward) < 6 * len(graph)
    due = differences(graph, (0.3,), 0)
    assert values(reverse, 0.3)[0] == pytest.approx(float(due), rel=1e-13)
    assert values(forward, 0.3, 1.0)[0] == pytest.approx(float(due), rel=1e-13)


def test_values_and_derivatives_share_one_graph():
    graph = regression()
    both = gradient(graph, wrt(graph), values=True)
    assert list(both.outputs) == ["f", "d/f/0", "d/f/1", "d/f/2"]
    assert len(both) <= len(gradient(graph, wrt(graph))) + 2
    data = COSTS["regression"][1]
    np.testing.assert_array_equal(values(both, *data)[0], values(graph, *data)[0])


# Errors ------------------------------------------------------------------------------------------


def test_gradient_of_a_vector_points_to_jacobian():
    (x,) = inputs = variables(x=(3,))
    with pytest.raises(DifferentiationError, match=r"core shape \(3\).*jacobian"):
        gradient(graph_of(inputs, sin(x)), [x.id])


def test_conditions_have_no_derivative():
    (x,) = inputs = variables(x=())
    with pytest.raises(DifferentiationError, match="boolean"):
        gradient(graph_of(inputs, less(x, 1)), [x.id])


def test_operations_without_a_rule_are_named():
    odd = Op(name="odd", numpy=np.sin)
    folded = Op(name="folded", elementwise=False, infer=lambda x: x, vjp=lambda g, y, x: (g,), numpy=np.asarray)
    (x,) = inputs = variables(x=())
    for mode in (gradient, jvp):
        with pytest.raises(DifferentiationError, match="odd"):
            mode(graph_of(inputs, odd(x)), [x.id])
    with pytest.raises(DifferentiationError, match="folded has no forward"):
        jvp(graph_of(inputs, folded(x)), [x.id])


def test_operations_without_a_rule_do_not_matter_off_the_way():
    odd = Op(name="odd", numpy=np.sin)
    x, y = inputs = variables(x=(), y=())
    graph = graph_of(inputs, odd(y) * x)
    assert values(gradient(graph, [x.id]), 1.0, 0.5)[0] == np.sin(0.5)


def test_new_inputs_get_names_of_their_own():
    x, t = inputs = variables(x=(), x_tangent=())
    graph = jvp(graph_of(inputs, x * t), [x.id, t.id])
    names = [graph[v].attributes["name"] for v in graph.inputs]
    assert len(set(names)) == 4
    assert names[:2] == ["x", "x_tangent"]


# Random graphs -----------------------------------------------------------------------------------

UNARY = (
    sin,
    cos,
    exp,
    tanh,
    lambda v: v * v,
    lambda v: -v,
    lambda v: 1 / v,
    lambda v: v ** Fraction(1, 2),
    log,
)
BINARY = (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, max_)
steps = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 8), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
    min_size=2,
    max_size=10,
)
points = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0, 2.0])


def random_graph(recipe):
    inputs = variables(x=(), y=())
    pool = list(inputs)
    for kind, which, i, j, k in recipe:
        a, b, c = (pool[t % len(pool)] for t in (i, j, k))
        if kind == 0:
            pool.append(UNARY[which](a))
        elif kind == 1:
            pool.append(BINARY[which % 4](a, b))
        else:
            pool.append(select(less(c, Fraction(which - 4, 3) + Fraction(1, 97)), a, b))
    return graph_of(inputs, pool[-1])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(recipe=steps, x=points, y=points)
def test_random_graphs_with_selects_agree_with_differences_and_are_finite_where_these_are(recipe, x, y):
    graph = random_graph(recipe)
    step = mpmath.mpf(10) ** -20

    def value(dx, dy):
        (answer,) = judge.evaluate(graph, {"x": mpmath.mpf(x) + dx, "y": mpmath.mpf(y) + dy}, digits=60).values()
        return answer[()]

    reverse = values(gradient(graph, wrt(graph)), x, y)
    for k, (dx, dy) in enumerate(((step, 0), (0, step))):
        with mpmath.workdps(60):
            left, middle, right = value(-dx, -dy), value(0, 0), value(dx, dy)
            if not all(mpmath.isfinite(v) for v in (left, middle, right)):
                continue
            slopes = [(right - middle) / step, (middle - left) / step]
            if abs(slopes[0] - slopes[1]) > 1e-6 * (1 + abs(slopes[0])) or abs(slopes[0]) > 1e6:
                continue  # a seam, a corner or a pole
            due = float((right - left) / (2 * step))
        along = values(jvp(graph, wrt(graph, k)), x, y, 1.0)[0]
        assert reverse[k] == pytest.approx(due, rel=1e-8, abs=1e-8)
        assert along == pytest.approx(due, rel=1e-8, abs=1e-8)


def test_guards_that_hold_together_are_one():
    x, y = inputs = variables(x=(), y=())
    both = and_(less(0, x), less(0, y))
    graph = graph_of(inputs, select(both, log(x) * log(y), 0), select(equal(x, y), x, y))
    assert values(gradient(graph, wrt(graph)), 0.0, 0.0)[:2] == [0, 0]
    assert values(gradient(graph, wrt(graph)), 1.0, math.e)[0] == pytest.approx(1)
    assert add(x, y).type.kind is Kind.REAL
