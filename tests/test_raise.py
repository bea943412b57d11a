"""A graph raised back to SymPy says the mathematics that it computes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sympy as sp

from sym2tf.autodiff.derivatives import gradient, hessian, jacobian
from sym2tf.backends.index_rules import RULES
from sym2tf.backends.matrix_rows import ROWS
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.sympy import raise_shared, raise_to_sympy
from sym2tf.errors import GraphError, ResourceLimitError
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops import OPS
from sym2tf.ops.gathering import gathered, scattered
from sym2tf.ops.indexing import slice_
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
        ("softmax", ((2, 3),), {"axes": (-1,)}),
        ("softmax", ((2, 3),), {"axes": (-2, -1)}),
        ("reduce_max", ((2, 3),), {"axes": (-1,)}),
        ("reduce_min", ((3,),), {"axes": (-1,)}),
        ("cumsum", ((4,),), {"axis": -1, "reverse": False, "exclusive": False}),
        ("cumsum", ((2, 3),), {"axis": -1, "reverse": True, "exclusive": False}),
        ("cumsum", ((3, 2),), {"axis": -2, "reverse": False, "exclusive": True}),
        ("cumsum", ((4,),), {"axis": -1, "reverse": True, "exclusive": True}),
        ("stride", ((7,),), {"axis": -1, "start": 5, "size": 3, "step": -2}),
        ("dilate", ((3,),), {"axis": -1, "start": 1, "size": 6, "step": 2}),
        ("diag", ((3,),), {}),
        ("stack", ((2,), (2,), (2,)), {"axis": -1}),
        ("stack", ((2, 3), (2, 3)), {"axis": -3}),
        ("concat", ((2, 3), (1, 3)), {"axis": -2}),
        ("concat", ((2,), (3,), (1,)), {"axis": -1}),
        ("reshape", ((2, 3),), {"rank": 2, "shape": (3, 2)}),
        ("reshape", ((6,),), {"rank": 1, "shape": (2, 3)}),
        ("reshape", ((2, 3),), {"rank": 2, "shape": (6,)}),
        ("reshape", ((2, 3),), {"rank": 2, "shape": (2, 1, 3)}),
        ("einsum", ((3, 3),), {"inputs": ("ii",), "output": "i"}),
        ("einsum", ((3, 3),), {"inputs": ("ii",), "output": ""}),
        ("inverse", ((2, 2),), {}),
        ("det", ((2, 2),), {}),
        ("solve", ((2, 2), (2, 3)), {"adjoint": False}),
        ("solve", ((2, 2), (2, 1)), {"adjoint": True}),
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
    expression = raised(graph).replace(lambda e: isinstance(e, sp.FunctionMatrix), lambda e: e.as_explicit())
    for at in sp.utilities.iterables.cartes(*map(range, answer.shape)):
        value = expression.subs(dict(zip((i, j, k), at, strict=False))).doit().subs(elements).doit()
        assert abs(float(value) - answer[at]) < 1e-12


def test_leaves_and_rows_with_indices_are_raised_to_what_they_hold() -> None:
    builder = Builder()
    names = {"u": TensorType(Kind.REAL, (4,)), "v": TensorType(Kind.INTEGER, (3,))}
    u, v = (
        Value(builder, builder.add(input_, (), {"name": c, "symbol": sp.Symbol(c), "type": t}))
        for c, t in names.items()
    )
    part = slice_(u, axis=-1, start=0, size=3)
    outputs = {
        "taken": gathered(u, v, -1),
        "scattered": scattered(part, v, 5, -1),
        "one hot": OPS["one_hot"](v, size=4),
        "divided": OPS["floor_divide"](v, by=2),
        "identity": u.apply(OPS["eye"], (), {"size": 3}),
        "numbers": u.apply(OPS["table"], (), {"values": (1, 5, 2), "shape": (3,), "kind": Kind.INTEGER}),
    }
    graph = builder.build([u.id, v.id], {name: value.id for name, value in outputs.items()})
    at = {"u": [0.5, 1.5, -2.0, 4.0], "v": [3, 0, 3]}
    numbers = {sp.IndexedBase(c)[k]: sp.sympify(x) for c, values in at.items() for k, x in enumerate(values)}
    raised_all = raise_to_sympy(graph)
    for name, answer in evaluate(graph, at).items():
        for place in sp.utilities.iterables.cartes(*map(range, answer.shape)):
            expression = raised_all[name]
            if getattr(expression, "is_Matrix", False):  # of numbers alone
                here = expression[place]
            else:
                here = expression.subs(dict(zip((i, j), place, strict=False))).doit().subs(numbers).subs(numbers)
            assert float(here.doit()) == answer[place], (name, place)


def test_every_row_is_raised_or_refused_by_name() -> None:
    """What has no notation in SymPy is made by optimisation alone, or is a function of a matrix."""
    known = set(RULES) | set(ROWS) | {"input", "const", "select"}
    without = {name for name, op in OPS.items() if name not in known and not op.elementwise}
    assert without == {"expm", "logm", "lu_factor", "lu_rows"}
    builder = Builder()
    (u,) = inputs(builder, (2, 2))
    graph = builder.build([u.id], {"y": OPS["expm"](u).id})
    with pytest.raises(GraphError, match="expm"):
        raise_to_sympy(graph)


def test_a_condition_that_sympy_would_spoil_is_refused() -> None:
    builder = Builder()
    u, v = inputs(builder, (3,), ())
    positive = OPS["reduce_any"](OPS["less"](0, u), axes=(-1,))
    graph = builder.build([u.id, v.id], {"y": apply(builder, OPS["select"], [positive, v, 0]).id})
    with pytest.raises(GraphError, match="under the Sum"):
        raise_to_sympy(graph)


def test_linear_algebra_on_a_stack_of_matrices_is_refused() -> None:
    builder = Builder()
    (u,) = inputs(builder, (3, 2, 2))
    graph = builder.build([u.id], {"y": OPS["inverse"](u).id})
    with pytest.raises(GraphError, match="inverse of many matrices"):
        raise_to_sympy(graph)


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
