"""What a new user tries in an afternoon: words that are understood, warnings that come in time, objects that travel."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf.errors import (
    ArgumentError,
    DtypeError,
    OpaqueWarning,
    RenderError,
    ShapeError,
    SizeError,
    UnsupportedExpressionError,
    UnusedDataWarning,
)
from sym2tf.frontend.describe import describe
from sym2tf.ir.op import Op
from sym2tf.ops import OPS
from sym2tf.trees import leaves

x, y, z = sp.symbols("x y z")
i, n = sp.symbols("i n", integer=True)
X, Y = sp.IndexedBase("X"), sp.IndexedBase("Y")
q = sp.Function("q")


# Symbols that an expression binds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        sp.Integral(sp.exp(-x * y), (y, 0, 1)),
        sp.Integral(sp.exp(-x), x),
        sp.Integral(sp.Sum(X[i] * y, (i, 0, n - 1)), (y, 0, n)),
        sp.Limit(sp.sin(x * y) / y, y, 0),
        sp.Subs(sp.Derivative(q(y), y), y, x),
        sp.Derivative(sp.sin(x * y), y),
        sp.Lambda(x, x + y),
        sp.Contains(x, sp.ImageSet(sp.Lambda(y, y**2), sp.S.Integers)),
    ],
    ids=lambda e: type(e).__name__,
)
def test_expressions_that_bind_symbols_are_refused_by_name(expression):
    with pytest.raises(UnsupportedExpressionError) as caught:
        sym2tf.lower(1 + z * expression if isinstance(expression, sp.Expr) else expression)
    assert [item.expression for item in caught.value.items] == [str(expression)]


def test_the_symbol_of_a_set_by_condition_is_no_argument():
    members = sp.ConditionSet(y, y > z, sp.S.Reals)
    assert sym2tf.lower(sp.Contains(x, members)).info["args"] == ("x", "z")


# Pickles and copies -------------------------------------------------------------------------------------------------


def answers(pickled: bytes, *arguments: object) -> list[float]:
    """What a pickled function gives, as numbers; runs in a fresh process."""
    function = pickle.loads(pickled)
    return [float(v) for v in leaves(function(*arguments))]


def test_a_pickled_function_gives_the_same_answers_in_a_fresh_process():
    data = [0.5, -1.0, 2.0]
    f = sym2tf.compile({"loss": sp.Sum((X[i] * x - q(y)) ** 2, (i, 0, n - 1)), "e": sp.exp(-x)}, args=(x, q(y), X))
    g = f.gradient([x, X[1]])
    expected = [[float(v) for v in leaves(h(1.5, 2.0, data))] for h in (f, f.value_and_gradient(x))]  # traced by now
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = [
            pool.submit(answers, pickle.dumps(h), 1.5, 2.0, data).result(100) for h in (f, f.value_and_gradient(x))
        ]
    assert found == expected
    again = pickle.loads(pickle.dumps(g))
    assert (again.source, repr(again), again.report.fired) == (g.source, repr(g), g.report.fired)


def test_a_pickled_graph_is_the_same_graph():
    graph = sym2tf.differentiate(sym2tf.lower(sp.Sum(sp.exp(-X[i] * x), (i, 0, n - 1))), "x")
    again = pickle.loads(pickle.dumps(graph)).validate()
    assert (again.order, again.inputs, again.outputs, again.info) == (
        graph.order,
        graph.inputs,
        graph.outputs,
        graph.info,
    )
    assert [again[v] for v in again.order] == [graph[v] for v in graph.order]
    assert [again.operands(v) for v in again.order] == [graph.operands(v) for v in graph.order]
    assert [again[v].origin for v in again.order] == [graph[v].origin for v in graph.order]


def test_a_graph_of_any_depth_can_be_pickled():
    expression = x
    for _ in range(3000):
        expression = sp.sin(expression, evaluate=False)
    f = sym2tf.compile(expression)
    again = pickle.loads(pickle.dumps(f))
    assert again.graph.counts() == f.graph.counts()
    assert again.expr is None, "too deep to be pickled"


def test_copies_of_what_never_changes_are_the_thing_itself():
    f = sym2tf.compile(sp.sin(x))
    for thing in (f, f.graph, OPS["sin"]):
        assert copy.copy(thing) is thing
        assert copy.deepcopy(thing) is thing


def test_an_operation_travels_by_name():
    assert pickle.loads(pickle.dumps(OPS["sin"])) is OPS["sin"]
    with pytest.raises(ArgumentError, match=r"the operation mine cannot be pickled: it is not in sym2tf\.ops\.OPS"):
        pickle.dumps(Op(name="mine"))


def test_a_pickled_fit_predicts_the_same():
    w, b = sp.symbols("w b")
    xs = np.linspace(0, 1, 8)
    fit = sym2tf.fit(sp.Eq(y, w * x + b), data={x: xs, y: 2 * xs + np.sin(9 * xs)}, params={w: 0, b: 0})
    again = pickle.loads(pickle.dumps(fit))
    assert again.summary() == fit.summary()
    assert again.params[w] == fit.params["w"]
    np.testing.assert_array_equal(again.predict({x: [2.0, 3.0]}), fit.predict({x: [2.0, 3.0]}))


# Elements and lengths -----------------------------------------------------------------------------------------------


def test_elements_beyond_the_data_are_an_error_that_says_how_many_are_needed():
    f = sym2tf.compile(sp.Sum(X[i] ** 2, (i, 0, n - 1)))
    with pytest.raises(SizeError, match="X has length 3 on core axis -1, but at least 10 elements are needed"):
        f.gradient(X[9])([1.0, 2.0, 3.0])
    assert f.gradient(X[2])([1.0, 2.0, 3.0]) == 6
    with pytest.raises(ShapeError, match="element -1 of an axis of length n: elements count from 0 to n-1"):
        f.gradient(X[-1])


def test_negative_subscripts_are_refused_with_the_first_and_last_element():
    hint = r"indices are zero-based, the first element is \[0\] and the last one \[n - 1\]"
    with pytest.raises(UnsupportedExpressionError, match=r"X\[-1\]: the subscript -1 is negative: " + hint):
        sym2tf.compile(X[-1])
    with pytest.raises(UnsupportedExpressionError, match=r"X\[i - 1\]: the subscript i - 1 starts at -1, negative: "):
        sym2tf.compile(X[i] - X[i - 1])


def test_a_symbol_that_only_stands_for_the_end_of_data_is_their_length():
    f = sym2tf.compile(X[n - 1] - X[0])
    assert (f.arguments, f.signature, f.sizes) == (("X",), "(n)->()", {"n": False})
    assert f([1.0, 5.0, 9.0]) == 8
    assert f([1.0, 5.0, 9.0], n=2) == 4
    assert f.gradient(X)([1.0, 5.0, 9.0]).numpy().tolist() == [-1, 0, 1]
    with pytest.raises(SizeError, match="at least 1 element is needed"):
        f([])


def test_where_only_elements_are_used_the_data_may_be_longer():
    f = sym2tf.compile(X[0] + 2 * X[1])
    assert f([1.0, 2.0, 3.0]) == 5
    assert f([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]).numpy().tolist() == [5, 2]
    assert f.gradient(X)([1.0, 2.0, 3.0]).numpy().tolist() == [1, 2, 0]
    with pytest.raises(SizeError, match="X has length 1 on core axis -1, but at least 2 elements are needed"):
        f([1.0])
    with pytest.raises(SizeError, match="X has length 4 on core axis -1, but 3 elements are needed"):
        sym2tf.compile(sp.Sum(X[i], (i, 0, 2)))([1.0, 2.0, 3.0, 4.0])


def test_an_element_beyond_a_given_prefix_is_refused():
    f = sym2tf.compile(sp.Sum(X[i], (i, 0, n - 1)) + X[2])
    assert f([1.0, 5.0, 9.0]) == 24
    with pytest.raises(SizeError, match="X has length 2 on core axis -1, but at least 3 elements are needed"):
        f([1.0, 5.0, 9.0], n=2)


def test_a_size_is_never_given_in_vain():
    m = sp.Symbol("m", integer=True)
    f = sym2tf.compile(sp.Sum(X[i], (i, 0, n - 1)) + sp.Sum(X[i], (i, 0, m - 1)))
    assert f([1.0, 5.0], n=2, m=2) == 12
    with pytest.raises(SizeError, match="n = 1 cannot be given here, where X has other ranges too"):
        f([1.0, 5.0], n=1, m=2)


def test_one_element_too_few_hints_at_counting_from_zero():
    f = sym2tf.compile(sp.Sum(X[i], (i, 0, n)))
    with pytest.raises(SizeError, match=r"n\+1 = 4 elements are needed .*indices count from zero: n elements are"):
        f([1.0, 5.0, 9.0], n=3)


# Sums that count from one -------------------------------------------------------------------------------------------


def test_a_sum_that_drops_the_first_datum_warns_at_the_user_line():
    message = r"^X\[0\] is never used: the sum starts at i = 1 and indices count from zero; write \(i, 0, n - 1\)$"
    with pytest.warns(UnusedDataWarning, match=message) as caught:
        f = sym2tf.compile(sp.Sum(X[i] ** 2, (i, 1, n)))
    assert [w.filename for w in caught] == [__file__]
    f.gradient(X)  # and only then
    with pytest.warns(UnusedDataWarning, match=r"^Y\[0\] to Y\[1\] are never used on axis 1: the sum starts at i = 2"):
        sym2tf.lower(sp.Sum(Y[0, i], (i, 2, 2 * n)))


@pytest.mark.parametrize(
    "expression",
    [
        sp.Sum(X[i], (i, 0, n - 1)),
        sp.Sum((X[i] - x * X[i - 1]) ** 2, (i, 1, n - 1)),
        sp.Sum(X[i], (i, 1, n - 1)) + X[0],
        sp.Sum(X[i - 1], (i, 1, n)),
        sp.Sum(X[i], (i, 1, 3)),
        sp.Sum(Y[i] - X[i + 1], (i, 0, n - 2)),
        sp.Sum(X[i], (i, y, n)),
        X[3] * X[n - 1],
    ],
    ids=str,
)
def test_sums_that_use_all_data_or_say_otherwise_do_not_warn(expression):
    sym2tf.lower(expression)


# Stages on expressions, and mathematics back ------------------------------------------------------------------------


def test_every_stage_takes_an_expression_a_graph_or_a_function():
    f = sym2tf.compile(x * y)
    for thing in (x * y, sym2tf.lower(x * y), f):
        assert sym2tf.to_sympy(thing) == x * y
        assert sym2tf.to_sympy(sym2tf.optimize(thing)) == x * y
        assert sym2tf.to_sympy(sym2tf.differentiate(thing)) == (y, x)
        assert "x * y" in sym2tf.generate(thing)
    with pytest.raises(ArgumentError, match=r"use sym2tf\.parse"):
        sym2tf.optimize("x*y")


def test_mathematics_comes_back_in_the_structure_of_a_call():
    f = sym2tf.compile({"a": x**2, "b": [x * y]})
    assert sym2tf.to_sympy(f) == {"a": x**2, "b": [x * y]}
    assert sym2tf.to_sympy(f.gradient([x, y])) == {"a": (2 * x, 0), "b": [(y, x)]}
    assert sym2tf.to_sympy(f.gradient(x)) == {"a": 2 * x, "b": [y]}
    value, gradient = sym2tf.to_sympy(sym2tf.compile(x**2).value_and_gradient(x))
    assert (value, gradient) == (x**2, 2 * x)


# Calling and asking -------------------------------------------------------------------------------------------------


def test_one_mapping_by_symbol_or_name_is_a_call():
    f = sym2tf.compile(sp.Sum(X[i] * x - y, (i, 0, n - 1)))
    due = f([1.0, 2.0], 3.0, 1.0)
    assert f({X: [1.0, 2.0], x: 3.0, y: 1.0}) == due
    assert f({"X": [1.0, 2.0, 5.0], "x": 3.0, y: 1.0, n: 2}) == due
    assert f({X: [1.0, 2.0], x: 3.0}, y=1.0) == due
    with pytest.raises(ArgumentError, match="f has no argument 'z'; it takes X, x, y"):
        f({X: [1.0], x: 1, y: 1, z: 1})
    with pytest.raises(ArgumentError, match="f got x twice"):
        f({x: 1, "x": 2, X: [1.0], y: 0})
    with pytest.raises(ArgumentError, match="f lacks y"):
        f({X: [1.0], x: 1})
    g = sym2tf.compile(x * y, args=[{"x": x, "y": y}])
    assert g({"x": 2.0, "y": 3.0}) == 6, "an argument that is itself a mapping"


def test_a_symbol_may_be_called_self():
    self = sp.Symbol("self")
    assert sym2tf.compile(2 * self)(self=3.0) == 6


def test_derivatives_take_several_variables_one_by_one():
    f = sym2tf.compile(x**2 * y)
    assert [float(v) for v in f.gradient(y, x)(2.0, 3.0)] == [4, 12]
    assert [float(v) for v in f.gradient(wrt=[y, x])(2.0, 3.0)] == [4, 12]
    assert float(f.gradient(x)(2.0, 3.0)) == 12
    assert float(f.jvp(x, y)(2.0, 3.0, 1.0, 0.0)) == 12
    for wrong in ({x, y}, sp.Matrix([x, y]), x + y):
        with pytest.raises(ArgumentError, match=r"wrt: .* give an input, or a list or tuple of inputs"):
            f.gradient(wrong)
    with pytest.raises(ArgumentError, match="wrt is given by position and by name"):
        f.gradient(x, wrt=y)


def test_arguments_can_be_named_by_text_and_listed_by_mistake_with_a_hint():
    f = sym2tf.compile(x - y, ["y", x])
    assert f.arguments == ("y", "x")
    assert float(f(1.0, 3.0)) == 2
    assert sym2tf.compile(X[0], args="X").arguments == ("X",)
    with pytest.raises(ArgumentError, match=r"args names 'w', which the expression does not contain; it has x, y"):
        sym2tf.compile(x - y, ["x", "y", "w"])
    with pytest.raises(ArgumentError, match=r"give the arguments as one list, args=\[y, x\]"):
        sym2tf.compile(x - y, y, x)


def test_numbers_in_names_count_as_numbers():
    names = ["x1", "x2", "x10", "x10a", "x010", "w"]
    f = sym2tf.compile(sp.Add(*sp.symbols(names)))
    assert f.arguments == ("w", "x1", "x2", "x010", "x10", "x10a")


# What one sees ------------------------------------------------------------------------------------------------------


def test_a_long_expression_shows_its_beginning():
    cost = sp.Add(*(a * sp.sin(a) for a in sp.symbols("x0:40")))
    f = sym2tf.compile(cost)
    assert ": x0*sin(x0) + x1*sin(x1) + " in repr(f)
    assert "..." in repr(f)
    assert '"""gradient of x0*sin(x0) + ' in f.gradient().source.replace("'''", '"""')
    deep = x
    for _ in range(5000):
        deep = sp.sin(deep, evaluate=False)
    assert describe(deep, 20) == "sin(sin(sin(sin(s..."
    assert describe(sp.Mul(*(a + 1 for a in sp.symbols("x0:40"))), 30).startswith("(x0 + 1)*(x1 + 1)*")
    assert describe(sp.Eq(y, cost), 30) == "Eq(y, x0*sin(x0) + x1*sin(x..."


def test_a_derivative_that_cannot_see_a_dependence_warns():
    f = sym2tf.compile(q(x) * x)
    message = r"^q\(x\) is an argument of its own: its dependence on x is not differentiated$"
    with pytest.warns(OpaqueWarning, match=message) as caught:
        g = f.gradient(x)
    assert [w.filename for w in caught] == [__file__]
    assert float(g({q(x): 3.0, x: 2.0})) == 3
    assert float(f.gradient(q(x))({q(x): 3.0, x: 2.0})) == 2, "and no warning"
    sym2tf.compile(q(x).diff(x) * q(x) * y).gradient()


def test_the_representation_says_which_of_two_arguments_was_renamed():
    f = sym2tf.compile(sp.Symbol("x") * sp.IndexedBase("x")[0])
    assert "f(x_1 = IndexedBase(Symbol('x')), x)" in repr(f)


def test_the_representation_says_what_stands_in_an_explicit_matrix():
    q = sp.Matrix(sp.symbols("q1 q2"))
    assert "f(q = Matrix([[q1], [q2]]))" in repr(sym2tf.compile(q[0] * q[1], args=[q]))


def test_a_function_answers_to_what_python_asks_of_functions():
    f = sym2tf.compile(sp.Sum(X[i] * x, (i, 0, n - 1)), name="total")
    assert f.__name__ == "total"
    assert str(inspect.signature(f)) == "(X, x, *, n=None)"
    assert str(inspect.signature(sym2tf.compile(q(sp.Symbol("t t")) + sp.Symbol("a b")))) == "(argument_0, q, /)"
    assert "expr" in str(inspect.signature(sym2tf.CompiledFunction))
    assert f"{f:>200}" == repr(f).rjust(200)
    assert set(dir(sym2tf)) == {*sym2tf.__all__, "__version__"}
    assert repr(f.report) == str(f.report)


def test_a_picture_can_be_saved(tmp_path):
    picture = sym2tf.render(x + y)
    path = picture.save(tmp_path / "graph.svg")
    assert path.read_text(encoding="utf-8") == picture.data
    with pytest.raises(RenderError, match=r"is png by its suffix and svg"):
        picture.save(tmp_path / "graph.png")


def test_calls_that_do_not_fit_are_told_in_plain_words():
    f = sym2tf.compile(sp.Sum(X[i] ** 2, (i, 0, n - 1)))
    with pytest.raises(ShapeError, match=r"^X needs 1 core axis of length n, got a number$"):
        f(1.0)
    g = sym2tf.compile(sp.Sum(Y[i, 0] * x, (i, 0, n - 1)))
    with pytest.raises(ShapeError, match=r"^Y needs 2 core axes of lengths n, Y_length, got an array of shape \(3,\)$"):
        g([1.0, 2.0, 3.0], 1.0)
    with pytest.raises(ArgumentError, match=r"^f takes 1 positional argument \(X; .* n \(optional\)\), got 2$"):
        f(1.0, 2.0)
    for ragged in ([[1.0], [2.0, 3.0]], [tf.constant([1.0]), tf.constant([2.0, 3.0])], tf.ragged.constant([[1.0], []])):
        with pytest.raises(ArgumentError, match=r"^X must be"):
            f(ragged)


def test_a_constant_that_does_not_fit_is_named():
    with pytest.raises(DtypeError, match=r"^float64 cannot hold the constant 1.0e\+400, in "):
        sym2tf.compile(10**400 * x).source  # noqa: B018  the source is where constants are rounded
