"""A graph raised back to SymPy says the mathematics that it computes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sympy as sp

from sym2tf.autodiff.derivatives import gradient, hessian, jacobian
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.sympy import raise_shared, raise_to_sympy
from sym2tf.errors import ResourceLimitError
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops import OPS
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, apply

a, b, w = sp.symbols("a b w")
i, j, k, n, m = sp.symbols("i j k n m", integer=True)
x, y = sp.IndexedBase("x"), sp.IndexedBase("y")
A = sp.IndexedBase("A")
COST = sp.Sum((y[i] - w * x[i] - b) ** 2, (i, 0, n - 1)) / n


def raised(graph: Graph) -> Any:
    (expression,) = raise_to_sympy(graph).values()
    return expression


@pytest.mark.parametrize(
    "expression",
    [
        a + 2 * b,
        a**b - sp.sqrt(2) * a / 3,
        sp.exp(-(a**2)) * sp.sin(b) + sp.pi,
        sp.Max(a, b, sp.Rational(1, 2)) + abs(a) * sp.sign(b),
        sp.Piecewise((a * sp.log(a), a > 0), (b, a < -1), (0, True)),
        sp.Piecewise((1, (a > 0) & (b > 0)), (2, sp.Ne(a, b)), (3, True)),
        sp.floor(a) + sp.Mod(a, b) + sp.atan2(a, b),
        COST,
        sp.Sum(x[i + 1] - x[i], (i, 0, n - 2)),
        sp.Sum(x[i] * A[i, j] * y[j], (j, 0, m - 1), (i, 0, n - 1)),
        sp.Product(x[i], (i, 0, n - 1)),
        sp.log(sp.Sum(sp.exp(x[i]), (i, 0, n - 1))),
    ],
    ids=str,
)
def test_what_was_lowered_is_raised_to_the_same_mathematics(expression: Any) -> None:
    difference = raised(lower(expression)) - expression
    if difference != 0:  # equal up to the names of indices: sums of definite length show it
        difference = difference.subs({n: 3, m: 2}).doit()
    assert sp.simplify(difference) == 0


def test_the_gradient_of_the_course_example_reads_as_on_paper() -> None:
    graph = lower(COST, args=(x, y, w, b))
    by_w, by_b = raise_to_sympy(gradient(graph, graph.inputs[2:])).values()
    residual = y[i] - w * x[i] - b
    assert by_w == -2 * sp.Sum(x[i] * residual, (i, 0, n - 1)) / n
    assert by_b == -2 * sp.Sum(residual, (i, 0, n - 1)) / n


def test_second_derivatives_and_free_indices_are_raised() -> None:
    graph = lower(COST, args=(x, y, w, b))
    second = list(raise_to_sympy(hessian(graph, graph.inputs[2:])).values())
    cross = 2 * sp.Sum(x[i], (i, 0, n - 1)) / n
    assert second == [2 * sp.Sum(x[i] ** 2, (i, 0, n - 1)) / n, cross, cross, 2]
    (by_y,) = raise_to_sympy(gradient(graph, [graph.inputs[1]])).values()
    assert sp.simplify(by_y - 2 * (y[i] - w * x[i] - b) / n) == 0


def test_a_jacobian_is_its_element_at_two_free_indices() -> None:
    graph = lower(x[i] ** 2, args=(x,))
    element = raised(jacobian(graph, [graph.inputs[0]]))
    assert element.subs({i: 1, j: 1}) == 2 * x[1]
    assert element.subs({i: 1, j: 2}) == 0


def test_indices_do_not_print_like_symbols_of_the_expression() -> None:
    letter = sp.Symbol("i")
    expression = raised(lower(letter * sp.Sum(x[k], (k, 0, n - 1))))
    (total,) = expression.atoms(sp.Sum)
    assert {v.name for v in total.variables}.isdisjoint({"i", "n", "x"})
    assert expression.subs(letter, 1).has(sp.Sum)


def inputs(builder: Builder, *shapes: tuple[int, ...]) -> list[Value]:
    names = "uvz"
    return [
        Value(
            builder,
            builder.add(input_, (), {"name": c, "symbol": sp.Symbol(c), "type": TensorType(Kind.REAL, s)}),
        )
        for c, s in zip(names, shapes, strict=False)
    ]


@pytest.mark.parametrize("name", ["neg", "reciprocal", "square", "sqrt", "log1p", "expm1", "sigmoid", "softplus"])
def test_machine_operations_are_raised_to_their_definitions(name: str) -> None:
    builder = Builder()
    (u,) = inputs(builder, ())
    graph = builder.build([u.id], {"y": apply(builder, OPS[name], [u]).id})
    value = raised(graph).subs(sp.Symbol("u"), sp.Rational(3, 7)).evalf(20)
    assert abs(float(value) - evaluate(graph, {"u": 3 / 7})["y"]) < 1e-15


@pytest.mark.parametrize(
    ("name", "shapes", "attributes"),
    [
        ("einsum", ((2, 3), (3, 2)), {"inputs": ("ij", "jk"), "output": "ik"}),
        ("einsum", ((2, 3),), {"inputs": ("ij",), "output": "j"}),
        ("transpose", ((2, 3),), {"axes": (-1, -2)}),
        ("pad", ((3,),), {"axis": -1, "before": 1, "after": 2}),
        ("slice", ((4, 2),), {"axis": -2, "start": 1, "size": 2}),
        ("sum", ((2, 3),), {"axes": (-2,)}),
        ("sum", ((2, 3),), {"axes": (-2, -1)}),
        ("prod", ((2, 3),), {"axis": -1}),
        ("prod_others", ((3,),), {}),
        ("logsumexp", ((2, 3),), {"axes": (-1,)}),
        ("broadcast", ((2, 1),), {"shape": (3,)}),
    ],
)
def test_every_element_of_a_tensor_is_what_its_raised_form_says(
    name: str, shapes: tuple[tuple[int, ...], ...], attributes: dict[str, Any]
) -> None:
    builder = Builder()
    operands = inputs(builder, *shapes)
    graph = builder.build([v.id for v in operands], {"y": apply(builder, OPS[name], operands, attributes).id})
    given = {}
    elements = {}
    for c, shape in zip("uvz", shapes, strict=False):
        array = sp.Array(range(1, sp.prod(shape) + 1), shape)
        given[c] = array.tolist()
        elements |= {sp.IndexedBase(c)[at]: value / 4 for at, value in _items(array)}
        given[c] = [[float(v) / 4 for v in row] if isinstance(row, list) else float(row) / 4 for row in given[c]]
    answer = evaluate(graph, given)["y"]
    expression = raised(graph)
    for at in sp.utilities.iterables.cartes(*map(range, answer.shape)):
        value = expression.subs(dict(zip((i, j, k), at, strict=False))).doit().subs(elements)
        assert abs(float(value) - answer[at]) < 1e-12


def _items(array: Any) -> Any:
    return ((at, array[at]) for at in sp.utilities.iterables.cartes(*map(range, array.shape)))


def deep(levels: int) -> Graph:
    builder = Builder()
    (u,) = inputs(builder, ())
    value: Any = u
    for _ in range(levels):
        value = OPS["sin"](value) * OPS["cos"](value)
    return builder.build([u.id], {"y": value.id})


def test_a_graph_that_would_explode_is_refused_and_raised_with_named_parts() -> None:
    graph = deep(60)
    with pytest.raises(ResourceLimitError, match="raise_shared"):
        raise_to_sympy(graph)
    replacements, outputs = raise_shared(graph)
    assert len(replacements) < 130
    expression, number = outputs["y"], {sp.Symbol("u"): sp.Float(0.5, 30)}
    for symbol, part in replacements:
        number[symbol] = part.subs(number)
    assert abs(float(expression.subs(number)) - evaluate(graph, {"u": 0.5})["y"]) < 1e-15


def test_a_deep_graph_is_raised_without_recursion_in_linear_time() -> None:
    started = time.perf_counter()
    replacements, _ = raise_shared(deep(3000))
    assert len(replacements) >= 3000 - 1
    assert time.perf_counter() - started < 20


def test_a_piecewise_of_many_branches_is_one_piecewise() -> None:
    branches = sp.Piecewise(*((sp.Integer(c), a < c) for c in range(200)), (a, True), evaluate=False)
    expression = raised(lower(branches))
    assert isinstance(expression, sp.Piecewise)
    assert len(expression.args) == 201
    assert expression.subs(a, sp.Rational(201, 2)) == 101
