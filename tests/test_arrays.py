"""SymPy's array module: each class against NumPy, with fixed and symbolic dimensions, batched and not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from sympy.tensor.array import permutedims, tensorcontraction, tensordiagonal, tensorproduct
from sympy.tensor.array.expressions import (
    ArrayAdd,
    ArrayContraction,
    ArrayDiagonal,
    ArrayElementwiseApplyFunc,
    ArraySymbol,
    ArrayTensorProduct,
    OneArray,
    PermuteDims,
    Reshape,
    ZeroArray,
    convert_array_to_matrix,
    convert_matrix_to_array,
)
from sympy.tensor.array.expressions.array_expressions import ArrayElement

import sym2tf
from sym2tf.backends.mpmath import evaluate as evaluate_exactly
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, ShapeError, SizeError, UnsupportedExpressionError
from sym2tf.ops.contraction import einsum

SIZES = {"n": 4, "m": 2, "k": 5}
n, m, k = sp.symbols("n m k", integer=True, positive=True)
w, z = sp.symbols("w z")
i, j, l = sp.symbols("i j l", integer=True)  # noqa: E741
rng = np.random.default_rng(20261121)


class Symbols:
    """The symbols of one set of dimensions, symbolic or fixed."""

    def __init__(self, n: Any, m: Any, k: Any) -> None:
        self.n, self.m, self.k = n, m, k
        self.a, self.b = ArraySymbol("a", (n, m, 3)), ArraySymbol("b", (m, k))
        self.c, self.v, self.t = ArraySymbol("c", (n, n, m, n)), ArraySymbol("v", (n,)), ArraySymbol("t", (m, n, 3))
        self.p = ArraySymbol("p", (n, m, 3))
        self.A, self.B = sp.MatrixSymbol("A", n, m), sp.MatrixSymbol("B", m, k)
        self.S, self.x = sp.MatrixSymbol("S", n, n), sp.MatrixSymbol("x", n, 1)


DIMENSIONS = {"symbolic": Symbols(n, m, k), "fixed": Symbols(*SIZES.values())}
RANKS = {"a": 3, "b": 2, "c": 4, "v": 1, "t": 3, "p": 3, "A": 2, "B": 2, "S": 2, "x": 2, "w": 0, "y": 1}


def core(equation: str, *arrays: Any) -> Any:
    """`np.einsum` with batch axes in front."""
    inputs, output = equation.split("->")
    return np.einsum(",".join("..." + letters for letters in inputs.split(",")) + "->..." + output, *arrays)


def stacked(rows: list[list[Any]]) -> Any:
    """A matrix of numbers, each with batch axes."""
    flat = np.broadcast_arrays(*(entry for row in rows for entry in row))
    return np.stack(flat, -1).reshape(*flat[0].shape, len(rows), len(rows[0]))


# name -> the expression from the symbols, and what it is in NumPy
EXPRESSIONS: dict[str, tuple[Callable[[Symbols], Any], Callable[..., Any]]] = {
    "symbol": (lambda s: s.a, lambda a: core("abc->abc", a)),
    "vector symbol": (lambda s: s.v, lambda v: core("a->a", v)),
    "element": (lambda s: s.a[1, 0, 2], lambda a: a[..., 1, 0, 2]),
    "element of an expression": (
        lambda s: ArrayElement(PermuteDims(s.a, (2, 0, 1)), (2, 1, 0)),
        lambda a: a[..., 1, 0, 2],
    ),
    "free indices": (lambda s: s.a[i, j, 2], lambda a: a[..., 2]),
    "sum over elements": (
        lambda s: sp.Sum(s.a[i, j, 0] * s.v[i], (i, 0, s.n - 1), (j, 0, s.m - 1)),
        lambda a, v: core("abc,a->c", a, v)[..., 0],
    ),
    "zeros": (lambda s: ZeroArray(s.n, 3), lambda: np.zeros((4, 3))),
    "ones": (lambda s: OneArray(s.n, s.m), lambda: np.ones((4, 2))),
    "product": (lambda s: ArrayTensorProduct(s.a, s.b), lambda a, b: core("abc,de->abcde", a, b)),
    "product of three": (lambda s: ArrayTensorProduct(s.v, s.b, s.v), lambda b, v: core("a,de,f->adef", v, b, v)),
    "product with numbers": (lambda s: ArrayTensorProduct(2, s.v, w), lambda v, w: 2 * v * np.asarray(w)[..., None]),
    "contraction": (
        lambda s: ArrayContraction(ArrayTensorProduct(s.a, s.b), (1, 3)),
        lambda a, b: core("abc,be->ace", a, b),
    ),
    "two contractions": (
        lambda s: ArrayContraction(ArrayTensorProduct(s.a, s.p), (0, 3), (1, 4)),
        lambda a, p: core("abc,abd->cd", a, p),
    ),
    "full contraction": (
        lambda s: ArrayContraction(ArrayTensorProduct(s.a, s.p), (0, 3), (1, 4), (2, 5)),
        lambda a, p: core("abc,abc->", a, p),
    ),
    "contraction within one factor": (lambda s: ArrayContraction(s.c, (0, 3)), lambda c: core("abca->bc", c)),
    "contraction of three axes": (lambda s: ArrayContraction(s.c, (0, 1, 3)), lambda c: core("aaba->b", c)),
    "sum over one axis": (lambda s: ArrayContraction(s.a, (1,)), lambda a: core("abc->ac", a)),
    "one axis of three factors": (
        lambda s: ArrayContraction(ArrayTensorProduct(s.v, s.S, s.v), (0, 1, 3)),
        lambda S, v: core("a,ab,a->b", v, S, v),
    ),
    "contraction of a contraction": (
        lambda s: ArrayContraction(ArrayContraction(ArrayTensorProduct(s.c, s.v), (0, 4)), (0, 2)),
        lambda c, v: core("abcb,a->c", c, v),
    ),
    "diagonal": (
        lambda s: ArrayDiagonal(ArrayTensorProduct(s.a, s.b), (1, 3)),
        lambda a, b: core("abc,be->aceb", a, b),
    ),
    "diagonal of one factor": (lambda s: ArrayDiagonal(s.c, (0, 3)), lambda c: core("abca->bca", c)),
    "two diagonals": (
        lambda s: ArrayDiagonal(ArrayTensorProduct(s.A, s.A), (0, 2), (1, 3)),
        lambda A: core("ab,ab->ab", A, A),
    ),
    "diagonal of three axes": (lambda s: ArrayDiagonal(s.c, (0, 1, 3)), lambda c: core("aaba->ba", c)),
    "contraction of a diagonal": (
        lambda s: ArrayContraction(ArrayDiagonal(ArrayTensorProduct(s.S, s.v, s.v), (0, 2)), (0, 1)),
        lambda S, v: np.einsum("...ba,...b,...a->...b", S, v, v),
    ),
    "permutation": (lambda s: PermuteDims(s.a, (2, 0, 1)), lambda a: core("abc->cab", a)),
    "permutation of a permutation": (
        lambda s: PermuteDims(PermuteDims(s.a, (2, 0, 1)), (1, 0, 2)),
        lambda a: core("abc->acb", a),
    ),
    "permutation of a contraction": (
        lambda s: PermuteDims(ArrayContraction(ArrayTensorProduct(s.a, s.b), (1, 3)), (2, 0, 1)),
        lambda a, b: core("abc,be->eac", a, b),
    ),
    "permutation by letters": (
        lambda s: PermuteDims(s.a, index_order_old="ijk", index_order_new="kij"),
        lambda a: core("abc->cab", a),
    ),
    "sum of arrays": (
        lambda s: ArrayAdd(s.a, PermuteDims(s.t, (1, 0, 2)), OneArray(s.n, s.m, 3)),
        lambda a, t: a + np.swapaxes(t, -3, -2) + 1,
    ),
    "sum with zeros": (lambda s: ArrayAdd(s.a, ZeroArray(s.n, s.m, 3)), lambda a: core("abc->abc", a)),
    "contraction of a sum": (
        lambda s: ArrayContraction(ArrayTensorProduct(ArrayAdd(s.a, s.p), s.b), (1, 3)),
        lambda a, b, p: np.einsum("...abc,...be->...ace", a + p, b),
    ),
    "by elements": (lambda s: ArrayElementwiseApplyFunc(sp.sin, s.a), np.sin),
    "by elements with a parameter": (
        lambda s: ArrayElementwiseApplyFunc(sp.Lambda(z, sp.exp(w * z) + z**2), s.v),
        lambda v, w: np.exp(np.asarray(w)[..., None] * v) + v**2,
    ),
    "by elements to a constant": (
        lambda s: ArrayElementwiseApplyFunc(sp.Lambda(z, w), s.v),
        lambda v, w: np.asarray(w)[..., None] + 0 * v,
    ),
    "by elements of a contraction": (
        lambda s: ArrayElementwiseApplyFunc(sp.tanh, ArrayContraction(ArrayTensorProduct(s.a, s.b), (1, 3))),
        lambda a, b: np.tanh(np.einsum("...abc,...be->...ace", a, b)),
    ),
    "reshaped": (lambda s: Reshape(s.a, (s.n * 3, s.m)), lambda a: a.reshape(*a.shape[:-3], 12, 2)),
    "reshaped to a vector": (lambda s: Reshape(s.S, (s.n**2,)), lambda S: S.reshape(*S.shape[:-2], 16)),
    "arithmetic": (lambda s: 2 * s.a - s.p * sp.sin(s.a) + 1, lambda a, p: 2 * a - p * np.sin(a) + 1),
    "tensorproduct": (lambda s: tensorproduct(s.a, s.b), lambda a, b: core("abc,de->abcde", a, b)),
    "tensorcontraction": (
        lambda s: tensorcontraction(tensorproduct(s.a, s.b), (1, 3)),
        lambda a, b: core("abc,be->ace", a, b),
    ),
    "tensordiagonal": (
        lambda s: tensordiagonal(tensorproduct(s.a, s.b), (1, 3)),
        lambda a, b: core("abc,be->aceb", a, b),
    ),
    "permutedims": (lambda s: permutedims(s.a, (1, 2, 0)), lambda a: core("abc->bca", a)),
    "matrices in a product": (lambda s: ArrayTensorProduct(s.A, s.v), lambda A, v: core("ab,c->abc", A, v)),
    "matrix chain as an array": (
        lambda s: convert_matrix_to_array(s.S * s.A * s.B),
        lambda A, B, S: core("ab,bc,cd->ad", S, A, B),
    ),
    "trace as an array": (
        lambda s: convert_matrix_to_array(sp.Trace(s.S * s.A * s.A.T)),
        lambda A, S: core("ab,bc,ac->", S, A, A),
    ),
    "sum of matrices as an array": (lambda s: convert_matrix_to_array(s.S * s.A + 2 * s.A), lambda S, A: S @ A + 2 * A),
    "Hadamard product as an array": (lambda s: convert_matrix_to_array(sp.HadamardProduct(s.A, s.A)), lambda A: A * A),
    "Kronecker product as an array": (
        lambda s: convert_matrix_to_array(sp.KroneckerProduct(s.A, s.B)),
        lambda A, B: np.einsum("...ab,...cd->...acbd", A, B).reshape(
            *np.broadcast_shapes(A.shape[:-2], B.shape[:-2]), 8, 10
        ),
    ),
    "quadratic form as an array": (
        lambda s: convert_matrix_to_array(s.x.T * s.S * s.x),
        lambda x, S: np.swapaxes(x, -1, -2) @ S @ x,
    ),
    "array as a matrix": (
        lambda s: convert_array_to_matrix(ArrayContraction(ArrayTensorProduct(s.A, s.B), (1, 2))),
        lambda A, B: core("ab,bc->ac", A, B),
    ),
    "inverse in a contraction": (
        lambda s: ArrayContraction(ArrayTensorProduct(s.S**-1, s.A), (1, 2)),
        lambda S, A: np.linalg.inv(S) @ A,
    ),
    "entries": (
        lambda s: sp.Array([[w, 1, s.v[0]], [w**2, 0, sp.sin(w)]]),
        lambda v, w: stacked([[w, 1.0, v[..., 0]], [w**2, 0.0, np.sin(w)]]),
    ),
    "entries of rank three": (
        lambda s: sp.Array([[[w], [2]], [[3], [4]], [[5], [w + 6]]]),
        lambda w: np.stack([w, 2 + 0 * w, 3 + 0 * w, 4 + 0 * w, 5 + 0 * w, w + 6], -1).reshape(*np.shape(w), 3, 2, 1),
    ),
    "entries of rank none": (lambda s: sp.Array(3 * w), lambda w: 3 * w),
    "sparse entries": (
        lambda s: sp.ImmutableSparseNDimArray({(0, 1): w, (1, 2): 7}, (2, 3)),
        lambda w: stacked([[0, w, 0], [0, 0, 7]]),
    ),
    "entries with free indices": (
        lambda s: sp.Array([s.v[i], 2 * s.v[i], w]),
        lambda v, w: np.stack(np.broadcast_arrays(v, 2 * v, np.asarray(w)[..., None]), -1),
    ),
    "entries times a matrix": (
        lambda s: ArrayContraction(ArrayTensorProduct(sp.Array([[1, w, 0], [0, 1, w]]), s.t), (1, 4)),
        lambda w, t: core("ij,kaj->ika", stacked([[1, w, 0], [0, 1, w]]), t),
    ),
}


def data(graph: Any, *, batched: bool) -> dict[str, Any]:
    """Arrays for the inputs of a graph; batched, the first one has another batch shape than the others."""
    rng = np.random.default_rng(len(graph))
    found = {}
    for place, v in enumerate(graph.inputs):
        name, type = graph[v].attributes["name"], graph[v].type
        batch = ((2, 3) if place == 0 else (3,)) if batched else ()
        shape = (*batch, *(SIZES.get(str(d), d) for d in type.shape))
        found[name] = rng.normal(size=shape) + (3 * np.eye(4) if name == "S" else 0)
    return found


def sizes(graph: Any) -> dict[str, int]:
    """Numbers for the sizes that no input shows."""
    shown = {name for v in graph.inputs for d in graph[v].type.shape for name in [str(d)]}
    return {name: SIZES[name] for name in graph.size_names() if name in SIZES and name not in shown}


@pytest.mark.parametrize("batched", [False, True], ids=["one", "batch"])
@pytest.mark.parametrize("dims", DIMENSIONS)
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_values_are_those_of_numpy(name: str, dims: str, batched: bool) -> None:
    make, rule = EXPRESSIONS[name]
    f = sym2tf.compile(make(DIMENSIONS[dims]))
    inputs = data(f.lowered, batched=batched)
    expected = rule(*inputs.values()) if isinstance(rule, np.ufunc) else rule(**inputs)
    for graph in (f.lowered.validate(), f.graph.validate()):
        answer = evaluate(graph, inputs, sizes(graph))["out"]
        np.testing.assert_allclose(answer, expected, rtol=1e-12, atol=1e-12)
        assert answer.shape == np.shape(expected)


SMOOTH = [name for name in EXPRESSIONS if EXPRESSIONS[name][0](DIMENSIONS["symbolic"]).free_symbols - {n, m, k}]


@pytest.mark.parametrize("name", SMOOTH)
def test_jacobians_are_the_slopes_of_values(name: str) -> None:
    f = sym2tf.compile(EXPRESSIONS[name][0](DIMENSIONS["symbolic"]))
    inputs = data(f.lowered, batched=False)
    for variable in inputs:
        direction = np.random.default_rng(1).normal(size=np.shape(inputs[variable]))
        ours = evaluate(f.jacobian(wrt=variable).graph, inputs)
        along = np.tensordot(next(iter(ours.values())), direction, np.ndim(direction))
        with mpmath.workdps(40):
            step = mpmath.mpf("1e-15")
            exact = np.asarray(np.vectorize(mpmath.mpf, otypes=[object])(inputs[variable]))
            ends = [
                evaluate_exactly(f.lowered, inputs | {variable: exact + sign * step * direction}, digits=40)["out"]
                for sign in (1, -1)
            ]
            slope = np.asarray((ends[0] - ends[1]) / (2 * step)).astype(float)
        np.testing.assert_allclose(along, slope, rtol=1e-10, atol=1e-10)


def test_a_contraction_of_a_product_is_one_einsum_and_forms_no_product() -> None:
    s = DIMENSIONS["symbolic"]
    chain = convert_matrix_to_array(s.S * s.S.T * s.A * s.B)
    graph = sym2tf.lower(PermuteDims(chain, (1, 0)))
    assert [graph[v].op for v in graph.order if graph.operands(v)] == [einsum]


def test_an_array_symbol_may_be_declared_as_an_argument_and_so_may_an_element_of_it() -> None:
    a = ArraySymbol("a", (n, 3))
    assert sym2tf.compile(a, args=(w, a)).signature == "(),(n,3)->(n,3)"
    assert sym2tf.compile(a[0, 1] * w, args=(a[0, 1], w)).signature == "(),()->()"
    assert sym2tf.compile(a[0, 1], args=["a"]).signature == "(n,3)->()"


def test_mutable_arrays_are_taken_as_they_are_at_the_moment() -> None:
    dense, sparse = sp.MutableDenseNDimArray([w, 2]), sp.MutableSparseNDimArray({(1,): w}, (3,))
    assert np.array_equal(evaluate(sym2tf.lower(dense), {"w": 5.0})["out"], [5, 2])
    assert np.array_equal(evaluate(sym2tf.lower(sparse), {"w": 5.0})["out"], [0, 5, 0])


def test_an_array_of_numbers_is_one_node_and_an_empty_one_is_empty() -> None:
    graph = sym2tf.lower(sp.Array([[1, sp.Rational(1, 3)], [sp.Float(0.1), 4]]))
    assert len(graph) == 1
    assert np.array_equal(evaluate(graph, {})["out"], [[1, 1 / 3], [0.1, 4]])
    assert evaluate(sym2tf.lower(sp.Array([])), {})["out"].shape == (0,)


def test_conditions_as_entries_stay_conditions() -> None:
    answer = evaluate(sym2tf.lower(sp.Array([w > 0, w < 1])), {"w": 2.0})["out"]
    assert answer.dtype == bool
    assert answer.tolist() == [True, False]


def test_arrays_nest_in_the_output_like_any_expression() -> None:
    f = sym2tf.compile({"one": sp.Array([w, 1]), "two": [OneArray(2, 2), w]})
    answer = evaluate(f.graph, {"w": np.ones(3)})
    assert [value.shape for value in answer.values()] == [(3, 2), (3, 2, 2), (3,)]


def test_a_size_that_only_zeros_know_is_given_by_keyword() -> None:
    graph = sym2tf.lower(OneArray(n, 2))
    assert evaluate(graph, {}, {"n": 3})["out"].shape == (3, 2)
    with pytest.raises(SizeError, match="n"):
        evaluate(graph, {})


@pytest.mark.parametrize(
    ("expr", "shapes"),
    [
        (lambda s: s.a + s.b, ["(n, m, 3)", "(m, k)"]),
        (lambda s: s.a * s.t, ["(n, m, 3)", "(m, n, 3)"]),
        (lambda s: s.a**s.v, ["(n, m, 3)", "(n)"]),
        (lambda s: ArraySymbol("q", (1, 3)) + ArraySymbol("r", (n, 3)), ["(1, 3)", "(n, 3)"]),
    ],
    ids=["sum", "product", "power", "length one"],
)
def test_shapes_that_do_not_agree_are_an_error_that_shows_both(expr: Any, shapes: list[str]) -> None:
    with pytest.raises(ShapeError) as caught:
        sym2tf.lower(expr(DIMENSIONS["symbolic"]))
    assert all(shape in str(caught.value) for shape in shapes)


def test_a_reshape_that_does_not_fill_is_an_error_that_shows_both_shapes() -> None:
    with pytest.raises(ShapeError, match=r"n\*m.*\(n,|does not|do not fill"):
        sym2tf.lower(Reshape(ArraySymbol("a", (n, m)), (n, m + 1)))


def test_unsupported_parts_are_all_listed() -> None:
    a = ArraySymbol("a", (n / 2, 3))
    with pytest.raises(UnsupportedExpressionError) as caught:
        sym2tf.lower([a, ArrayElementwiseApplyFunc(sp.zeta, ArraySymbol("b", (n,)))])
    assert "n/2" in str(caught.value)
    assert "zeta" in str(caught.value)


def test_an_array_of_arrays_and_a_function_of_two_elements_are_refused_with_advice() -> None:
    a = ArraySymbol("a", (n, 3))
    with pytest.raises(UnsupportedExpressionError) as caught:
        sym2tf.lower([sp.Array([a, a]), ArrayElementwiseApplyFunc(sp.Lambda((z, w), z * w), a)])
    assert "entries that are arrays" in str(caught.value)
    assert "function of one variable" in str(caught.value)


def test_data_of_another_shape_are_refused_with_both_lengths() -> None:
    graph = sym2tf.lower(ArrayContraction(ArrayTensorProduct(ArraySymbol("a", (n, 3)), ArraySymbol("b", (n,))), (0, 2)))
    with pytest.raises(SizeError, match=r"4.*5|5.*4"):
        evaluate(graph, {"a": np.ones((4, 3)), "b": np.ones(5)})
    with pytest.raises(ShapeError, match="2 core axes"):
        evaluate(graph, {"a": np.ones(3), "b": np.ones(5)})


def test_subscripts_beyond_a_computed_array_are_refused() -> None:
    total = ArrayAdd(ArraySymbol("a", (n, 2)), ArraySymbol("b", (n, 2)))
    with pytest.raises(ShapeError, match=r"i \+ 1 goes up to n on an axis of length n"):
        sym2tf.lower(sp.Sum(ArrayElement(total, (i + 1, 0)), (i, 0, n - 1)))
    graph = sym2tf.lower(ArrayElement(total, (5, 0)))
    assert evaluate(graph, {"a": np.ones((6, 2)), "b": np.ones((6, 2))})["out"] == 2
    with pytest.raises(SizeError, match="n = 3"):
        evaluate(graph, {"a": np.ones((3, 2)), "b": np.ones((3, 2))})


def test_unsupported_parts_below_an_element_are_all_listed() -> None:
    unknown = ArrayElementwiseApplyFunc(sp.zeta, ArraySymbol("a", (n, 2)))
    with pytest.raises(UnsupportedExpressionError, match="2 sub-expressions"):
        sym2tf.lower(ArrayElement(ArrayAdd(unknown, ArraySymbol("b", (n, 2))), (0, 0)) + sp.Integral(w))


def test_a_product_with_more_axes_than_there_are_letters_is_a_typed_error() -> None:
    with pytest.raises(ShapeError, match="18 different axes"):
        sym2tf.lower(ArrayTensorProduct(*[ArraySymbol(f"a{q}", (2, 2, 2)) for q in range(6)]))


def test_args_that_lack_an_array_are_refused() -> None:
    with pytest.raises(ArgumentError, match="a"):
        sym2tf.lower(ArrayAdd(ArraySymbol("a", (n,)), ArraySymbol("b", (n,))), args=(ArraySymbol("b", (n,)),))


SAMPLE = ["contraction", "one axis of three factors", "permutation of a contraction", "by elements with a parameter",
          "reshaped", "entries", "Kronecker product as an array"]  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_tensorflow_gives_what_numpy_gives(name: str) -> None:
    make, rule = EXPRESSIONS[name]
    f = sym2tf.compile(make(DIMENSIONS["symbolic"]))
    inputs = data(f.lowered, batched=True)
    np.testing.assert_allclose(f(**inputs), rule(**inputs), rtol=1e-12, atol=1e-12)
