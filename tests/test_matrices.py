"""Matrix expressions: each class of SymPy, with fixed and symbolic dimensions, batched or not, against NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import sympy as sp
from sympy.codegen.matrix_nodes import MatrixSolve
from sympy.combinatorics import Permutation
from sympy.matrices.expressions.companion import CompanionMatrix
from sympy.matrices.expressions.dotproduct import DotProduct
from sympy.matrices.expressions.factorizations import LofCholesky, UofCholesky, eig, lu, qr, svd
from sympy.matrices.expressions.fourier import DFT
from sympy.matrices.expressions.permutation import MatrixPermute
from sympy.matrices.expressions.special import GenericIdentity

import sym2tf
from sym2tf.autodiff.derivatives import vjp
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.tensorflow import direct
from sym2tf.errors import ArgumentError, ShapeError, SizeError, UnsupportedExpressionError
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy
from sym2tf.passes.pipeline import optimize, stabilize

tf = lazy("tensorflow")

SYMBOLIC = dict(zip("nmk", sp.symbols("n m k", integer=True, positive=True), strict=True))
FIXED = {"n": 3, "m": 4, "k": 2}
x, y = sp.symbols("x y")
i, j, p = sp.symbols("i j p", integer=True)
ORDER = Permutation([2, 0, 1])


@dataclass(frozen=True)
class Symbols:
    """The matrices of the cases, in dimensions that are numbers or sizes."""

    n: Any
    m: Any
    k: Any

    def __getattr__(self, name: str) -> Any:
        rows, columns = {
            "A": (self.n, self.m),
            "B": (self.m, self.k),
            "C": (self.n, self.m),
            "P": (self.n, self.n),
            "S": (self.n, self.n),
            "b": (self.n, 1),
            "c": (self.n, 1),
            "r": (1, self.m),
            "D": (2 * self.n, self.m + 1),
        }[name]
        return sp.MatrixSymbol(name, rows, columns)


def data(seed: int = 0) -> dict[str, Any]:
    """One matrix for each symbol; P is positive definite, S has no symmetry and is well away from singular."""
    rng = np.random.default_rng(seed)
    square = rng.normal(size=(3, 3))
    shapes = {"A": (3, 4), "B": (4, 2), "C": (3, 4), "b": (3, 1), "c": (3, 1), "r": (1, 4), "D": (6, 5)}
    found: dict[str, Any] = {name: rng.uniform(0.5, 2, shape) for name, shape in shapes.items()}
    found["S"] = rng.normal(size=(3, 3)) / 2 + 3 * np.eye(3)
    found["P"] = square @ square.T + np.eye(3)
    return found | {"x": np.asarray(1.5), "y": np.asarray(0.5)}


Case = tuple[str, Callable[[Symbols], Any], Callable[[Any], Any]]
inv, det = np.linalg.inv, np.linalg.det


def block(*rows: list[Any]) -> Any:
    return np.block(list(rows))


CASES: list[Case] = [
    ("symbol", lambda s: s.A, lambda d: d.A),
    ("sum", lambda s: s.A + s.C, lambda d: d.A + d.C),
    ("difference", lambda s: s.A - 2 * s.C, lambda d: d.A - 2 * d.C),
    ("scaled", lambda s: x * s.A / 3, lambda d: d.x * d.A / 3),
    ("product", lambda s: s.A * s.B, lambda d: d.A @ d.B),
    ("chain", lambda s: s.b.T * s.A * s.B, lambda d: d.b.T @ d.A @ d.B),
    ("scaled product", lambda s: (x + 1) * s.A * s.B * y, lambda d: 2.5 * d.A @ d.B * 0.5),
    ("gram", lambda s: s.A.T * s.A, lambda d: d.A.T @ d.A),
    ("outer", lambda s: s.b * s.c.T, lambda d: d.b @ d.c.T),
    ("transposed product", lambda s: sp.Transpose(sp.MatMul(s.A, s.B)), lambda d: (d.A @ d.B).T),
    ("adjoint", lambda s: s.A.adjoint(), lambda d: d.A.T),
    ("conjugate", lambda s: s.A.conjugate() + s.A, lambda d: 2 * d.A),
    ("quadratic form", lambda s: s.b.T * s.S * s.b, lambda d: d.b.T @ d.S @ d.b),
    ("square", lambda s: s.S**2, lambda d: d.S @ d.S),
    ("seventh power", lambda s: s.S**7, lambda d: np.linalg.matrix_power(d.S, 7)),
    ("power zero", lambda s: sp.MatPow(s.S, 0), lambda d: np.eye(3)),
    ("inverse", lambda s: s.S**-1, lambda d: inv(d.S)),
    ("inverse of a transpose", lambda s: s.S.T.I * s.b, lambda d: inv(d.S.T) @ d.b),
    ("inverse power", lambda s: s.S**-3, lambda d: inv(d.S @ d.S @ d.S)),
    ("solution", lambda s: s.S**-1 * s.b, lambda d: np.linalg.solve(d.S, d.b)),
    ("MatrixSolve", lambda s: MatrixSolve(s.S, s.b), lambda d: np.linalg.solve(d.S, d.b)),
    ("square root", lambda s: s.P ** sp.Rational(1, 2), lambda d: scipy.linalg.sqrtm(d.P)),
    ("power -1/2", lambda s: s.P ** sp.Rational(-1, 2), lambda d: inv(scipy.linalg.sqrtm(d.P))),
    ("power 3/2", lambda s: s.P ** sp.Rational(3, 2), lambda d: d.P @ scipy.linalg.sqrtm(d.P)),
    ("exponential", lambda s: sp.exp(s.S), lambda d: scipy.linalg.expm(d.S)),
    ("logarithm", lambda s: sp.log(s.P), lambda d: scipy.linalg.logm(d.P)),
    ("determinant", lambda s: sp.Determinant(s.S), lambda d: det(d.S)),
    ("log-determinant", lambda s: sp.log(sp.Determinant(s.P)), lambda d: np.log(det(d.P))),
    ("trace", lambda s: sp.Trace(s.S), lambda d: np.trace(d.S)),
    ("trace of a product", lambda s: sp.Trace(2 * s.A * s.C.T), lambda d: 2 * np.sum(d.A * d.C)),
    ("trace of a sum", lambda s: sp.Trace(s.S + s.P * s.S), lambda d: np.trace(d.S + d.P @ d.S)),
    ("norm", lambda s: sp.sqrt(sp.Trace(s.A.T * s.A)), lambda d: np.linalg.norm(d.A)),
    ("length", lambda s: sp.sqrt(s.b.T * s.b), lambda d: np.sqrt(d.b.T @ d.b)),
    ("exp of a form", lambda s: sp.exp(-s.b.T * s.b), lambda d: np.exp(-(d.b.T @ d.b))[0, 0]),
    ("ridge", lambda s: s.A.T * s.A + x * sp.Identity(s.m), lambda d: d.A.T @ d.A + 1.5 * np.eye(4)),
    ("identity in a product", lambda s: sp.MatMul(s.A, sp.Identity(s.m)), lambda d: d.A),
    ("generic identity", lambda s: sp.MatMul(GenericIdentity(), s.S, evaluate=False), lambda d: d.S),
    ("zeros", lambda s: sp.MatAdd(s.A, sp.ZeroMatrix(s.n, s.m), evaluate=False), lambda d: d.A),
    ("ones", lambda s: s.A + sp.OneMatrix(s.n, s.m), lambda d: d.A + 1),
    ("hadamard product", lambda s: sp.hadamard_product(s.A, s.C), lambda d: d.A * d.C),
    ("hadamard square", lambda s: sp.HadamardPower(s.A, 2), lambda d: d.A**2),
    ("hadamard powers", lambda s: sp.HadamardPower(s.A, s.C), lambda d: d.A**d.C),
    ("hadamard exponents", lambda s: sp.HadamardPower(x, s.A), lambda d: 1.5**d.A),
    ("kronecker", lambda s: sp.KroneckerProduct(s.A, s.B), lambda d: np.kron(d.A, d.B)),
    ("kronecker of three", lambda s: sp.KroneckerProduct(s.b, s.r, s.c), lambda d: np.kron(np.kron(d.b, d.r), d.c)),
    ("blocks", lambda s: sp.BlockMatrix([[s.A, s.b], [s.r, sp.Matrix([[x]])]]),
     lambda d: block([d.A, d.b], [d.r, np.array([[1.5]])])),
    ("block diagonal", lambda s: sp.BlockDiagMatrix(s.A, s.S),
     lambda d: scipy.linalg.block_diag(d.A, d.S)),
    ("product of blocks", lambda s: sp.BlockMatrix([[s.A, s.S]]) * sp.BlockMatrix([[s.A.T], [s.S]]),
     lambda d: d.A @ d.A.T + d.S @ d.S),
    ("DiagMatrix", lambda s: sp.DiagMatrix(s.b) * s.A, lambda d: d.b * d.A),
    ("DiagMatrix of a row", lambda s: sp.DiagMatrix(s.r), lambda d: np.diag(d.r[0])),
    ("DiagonalMatrix", lambda s: sp.DiagonalMatrix(s.S), lambda d: np.diag(np.diag(d.S))),
    ("DiagonalOf", lambda s: sp.DiagonalOf(s.S), lambda d: np.diag(d.S)[:, None]),
    ("DotProduct", lambda s: DotProduct(s.b, s.c), lambda d: (d.b.T @ d.c)[0, 0]),
    ("DotProduct with a row", lambda s: DotProduct(s.b.T, s.c), lambda d: (d.b.T @ d.c)[0, 0]),
    ("element", lambda s: s.A[1, 2] ** 2, lambda d: d.A[1, 2] ** 2),
    ("last element", lambda s: s.A[s.n - 1, s.m - 1], lambda d: d.A[-1, -1]),
    ("element of a product", lambda s: (s.A * s.B)[1, 0], lambda d: (d.A @ d.B)[1, 0]),
    ("element of an inverse", lambda s: (s.S**-1)[0, 1], lambda d: inv(d.S)[0, 1]),
    ("free indices", lambda s: s.A[i, j] + s.C[i, j] * s.b[i, 0], lambda d: d.A + d.C * d.b),
    ("free index of an inverse", lambda s: (s.S**-1)[i, 0], lambda d: inv(d.S)[:, 0]),
    ("sum over elements", lambda s: sp.Sum(s.A[i, j] ** 2, (i, 0, s.n - 1), (j, 0, s.m - 1)),
     lambda d: np.sum(d.A**2)),
    ("sum over a diagonal", lambda s: sp.Sum(s.S[i, i] * s.b[i, 0], (i, 0, s.n - 1)),
     lambda d: np.sum(np.diag(d.S) * d.b[:, 0])),
    ("sum of matrices", lambda s: sp.Sum(s.b[i, 0] * s.S, (i, 0, s.n - 1)), lambda d: d.b.sum() * d.S),
    ("slice", lambda s: s.A[1:, :2] * x, lambda d: 1.5 * d.A[1:, :2]),
    ("slice of sizes", lambda s: s.D[s.n :, 1 : s.m], lambda d: d.D[3:, 1:4]),
    ("row", lambda s: s.A[1, :], lambda d: d.A[1:2]),
    ("column", lambda s: s.A[:, s.m - 1], lambda d: d.A[:, -1:]),
    ("every second row", lambda s: s.D[::2, :], lambda d: d.D[::2]),
    ("applyfunc", lambda s: s.A.applyfunc(sp.sin), lambda d: np.sin(d.A)),
    ("applyfunc of a lambda", lambda s: (s.A * s.B).applyfunc(lambda e: x * e**2 + sp.exp(-e)),
     lambda d: 1.5 * (d.A @ d.B) ** 2 + np.exp(-(d.A @ d.B))),
    ("applyfunc twice", lambda s: s.A.applyfunc(sp.exp).applyfunc(sp.log) + s.A.applyfunc(sp.exp),
     lambda d: d.A + np.exp(d.A)),
    ("applyfunc inside a product", lambda s: s.b.T * (s.A * s.r.T).applyfunc(sp.tanh),
     lambda d: d.b.T @ np.tanh(d.A @ d.r.T)),
    ("applyfunc of a constant", lambda s: s.A.applyfunc(sp.Lambda(p, x)), lambda d: np.full((3, 4), 1.5)),
    ("applyfunc with a trace", lambda s: s.S.applyfunc(lambda e: e / sp.Trace(s.S)), lambda d: d.S / np.trace(d.S)),
    ("FunctionMatrix", lambda s: sp.FunctionMatrix(s.n, s.m, sp.Lambda((i, j), x + i * j)) + s.A,
     lambda d: d.A + 1.5 + np.outer(np.arange(3), np.arange(4))),
    ("FunctionMatrix of elements", lambda s: sp.FunctionMatrix(s.n, s.n, sp.Lambda((i, j), s.b[i, 0] - s.b[j, 0])),
     lambda d: d.b - d.b.T),
    ("FunctionMatrix of columns", lambda s: sp.FunctionMatrix(s.n, s.n, sp.Lambda((i, j), s.b[j, 0])) * s.S,
     lambda d: np.tile(d.b.T, (3, 1)) @ d.S),
    ("Cholesky", lambda s: LofCholesky(s.P) - UofCholesky(s.P), lambda d: 2 * np.tril(np.linalg.cholesky(d.P))
     - np.linalg.cholesky(d.P) - np.linalg.cholesky(d.P).T),
    ("QR", lambda s: sp.MatMul(*qr(s.S)), lambda d: d.S),
    ("eigenvalues", lambda s: eig(s.P)[0], lambda d: np.diag(np.linalg.eigvalsh(d.P))),
    ("spectrum", lambda s: eig(s.P)[1] * eig(s.P)[0] * eig(s.P)[1].T, lambda d: d.P),
    ("singular values", lambda s: sp.Trace(svd(s.S)[1]), lambda d: np.linalg.svd(d.S)[1].sum()),
    ("branches", lambda s: sp.Piecewise((s.A, x > 1), (s.C, True)), lambda d: d.A),
    ("scalar times element", lambda s: sp.exp(s.A[0, 0]) * s.A, lambda d: np.exp(d.A[0, 0]) * d.A),
]  # fmt: skip

# With symbols in explicit matrices, whose dimensions are always numbers.
EXPLICIT: list[Case] = [
    ("entries", lambda s: sp.Matrix([[x, 1], [sp.pi, x * y], [sp.sqrt(2), sp.Rational(1, 3)]]),
     lambda d: np.array([[1.5, 1], [np.pi, 0.75], [np.sqrt(2), 1 / 3]])),
    ("functions", lambda s: sp.Matrix([sp.sin(x), sp.erf(y), sp.Max(x, y)]).T,
     lambda d: np.array([[np.sin(1.5), scipy.special.erf(0.5), 1.5]])),
    ("numbers", lambda s: sp.Matrix([[1, 0.1], [sp.Rational(2, 3), -4]]), lambda d: np.array([[1, 0.1], [2 / 3, -4]])),
    ("identity", lambda s: sp.eye(3) * s.A, lambda d: d.A),
    ("no numbers", lambda s: sp.zeros(2, 3), lambda d: np.zeros((2, 3))),
    ("mixed", lambda s: sp.Matrix([[x, 0, 1], [0, y, 2]]) * s.A, lambda d: np.array([[1.5, 0, 1], [0, 0.5, 2]]) @ d.A),
    ("sum", lambda s: s.S + sp.diag(x, y, 1), lambda d: d.S + np.diag([1.5, 0.5, 1])),
    ("sparse", lambda s: sp.SparseMatrix(3, 3, {(0, 1): x, (2, 2): 5}) * s.b,
     lambda d: np.array([[0, 1.5, 0], [0, 0, 0], [0, 0, 5]]) @ d.b),
    ("single", lambda s: sp.Matrix([[x]]), lambda d: np.array([[1.5]])),
    ("mutable", lambda s: sp.MutableDenseMatrix([[x, y]]), lambda d: np.array([[1.5, 0.5]])),
    ("elements of symbols", lambda s: sp.Matrix([[s.A[0, 0], s.A[1, 1]], [sp.Trace(s.S), 1]]),
     lambda d: np.array([[d.A[0, 0], d.A[1, 1]], [np.trace(d.S), 1]])),
    ("free index inside", lambda s: sp.Matrix([[s.b[i, 0], 1], [x, s.b[i, 0] ** 2]]),
     lambda d: np.array([[[b, 1], [1.5, b**2]] for b in d.b[:, 0]])),
    ("determinant", lambda s: sp.Determinant(sp.Matrix([[x, 1], [2, y]])), lambda d: 0.75 - 2),
    ("as_explicit", lambda s: sp.MatrixSymbol("S", 3, 3).as_explicit().det(), lambda d: det(d.S)),
    ("solution", lambda s: sp.Matrix([[x, 1], [2, y]]).LUsolve(sp.Matrix([1, 2])),
     lambda d: np.linalg.solve([[1.5, 1], [2, 0.5]], [[1], [2]])),
    ("inverse times", lambda s: sp.Inverse(sp.Matrix([[x, 1], [2, y]])) * s.A[:2, :],
     lambda d: np.linalg.solve([[1.5, 1], [2, 0.5]], d.A[:2])),
    ("norm", lambda s: sp.Matrix([x, y, 2]).norm(), lambda d: np.sqrt(1.5**2 + 0.25 + 4)),
    ("cross", lambda s: sp.Matrix([x, y, 2]).cross(sp.Matrix([y, 1, x])),
     lambda d: np.cross([1.5, 0.5, 2], [0.5, 1, 1.5])[:, None]),
    ("permutation", lambda s: sp.PermutationMatrix(ORDER) * s.S, lambda d: d.S[ORDER.array_form]),
    ("permuted rows", lambda s: MatrixPermute(s.S, ORDER), lambda d: d.S[ORDER.array_form]),
    ("permuted columns", lambda s: MatrixPermute(s.S, ORDER, 1), lambda d: d.S @ explicit_permutation(1)),
    ("companion", lambda s: CompanionMatrix(sp.Poly(p**3 + x * p**2 + y * p - 2, p)),
     lambda d: np.array([[0, 0, 2], [1, 0, -0.5], [0, 1, -1.5]])),
    ("long diagonal", lambda s: sp.DiagonalMatrix(sp.MatrixSymbol("A", 3, 4)), lambda d: np.eye(3, 4) * d.A),
    ("diagonal of a wide one", lambda s: sp.DiagonalOf(sp.MatrixSymbol("A", 3, 4)), lambda d: np.diag(d.A)[:, None]),
    ("steps backwards", lambda s: sp.MatrixSymbol("A", 3, 4)[:, 3:0:-1], lambda d: d.A[:, 3:0:-1]),
    ("function of subscripts", lambda s: sp.Matrix(2, 3, lambda a, b: x**a + b), lambda d: np.array(
        [[1, 2, 3], [1.5, 2.5, 3.5]])),
    ("singular values of a wide one", lambda s: svd(sp.MatrixSymbol("A", 3, 4))[1], lambda d: np.diag(
        np.linalg.svd(d.A)[1])),
]  # fmt: skip


def explicit_permutation(axis: int) -> Any:
    """The matrix by which SymPy says that a permutation along an axis multiplies."""
    symbol = sp.MatrixSymbol("S", 3, 3)
    moved = MatrixPermute(symbol, ORDER, axis).as_explicit()
    return np.array([[float(moved[0, c] == symbol[0, r]) for c in range(3)] for r in range(3)])


class Data:
    """Data by attribute."""

    def __init__(self, values: dict[str, Any]) -> None:
        vars(self).update(values)


PAIRS = [(case, dims) for case in CASES for dims in (SYMBOLIC, FIXED)] + [(case, FIXED) for case in EXPLICIT]
IDS = [f"{case[0]}-{'symbolic' if dims is SYMBOLIC else 'fixed'}" for case, dims in PAIRS]


def graph_of(case: Case, dims: dict[str, Any]) -> Graph:
    return lower(case[1](Symbols(**dims))).validate()


def inputs_of(graph: Graph, values: dict[str, Any]) -> dict[str, Any]:
    names = [graph[v].attributes["name"] for v in graph.inputs]
    return {name: values[name] for name in names}


def sizes_of(graph: Graph) -> dict[str, int]:
    """The sizes that no data determine."""
    return {name: FIXED[name] for name in graph.size_names()}


@pytest.mark.parametrize(("case", "dims"), PAIRS, ids=IDS)
def test_value_equals_that_of_numpy_for_one_point_and_for_a_batch(case: Case, dims: dict[str, Any]) -> None:
    graph = graph_of(case, dims)
    batch = [data(seed) for seed in range(3)]
    due = np.stack([case[2](Data(values)) for values in batch])
    one = evaluate(graph, inputs_of(graph, batch[0]), sizes_of(graph))["out"]
    assert one.shape == due[0].shape
    np.testing.assert_allclose(one, due[0], rtol=1e-11, atol=1e-12)
    stacked = {name: np.stack([values[name] for values in batch]) for name in batch[0]}
    many = evaluate(graph, inputs_of(graph, stacked), sizes_of(graph))["out"]
    due = due if graph.inputs else due[0]
    np.testing.assert_allclose(many, due, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("case", "dims"), PAIRS, ids=IDS)
def test_optimised_graph_gives_the_same_in_tensorflow(case: Case, dims: dict[str, Any]) -> None:
    graph = optimize(graph_of(case, dims))[0].validate()
    tensors = {name: tf.constant(value) for name, value in inputs_of(graph, data()).items()}
    answer = np.asarray(direct.run(graph, tensors, sizes_of(graph))["out"])
    np.testing.assert_allclose(
        np.broadcast_to(answer, np.shape(case[2](Data(data())))), case[2](Data(data())), 1e-9, 1e-11
    )


DIFFERENTIABLE = [
    pytest.param(case, dims, id=name)
    for (case, dims), name in zip(PAIRS, IDS, strict=True)
    if dims is FIXED and name not in ("numbers-fixed", "no numbers-fixed")
]


@pytest.mark.parametrize(("case", "dims"), DIFFERENTIABLE)
def test_derivative_equals_differences(case: Case, dims: dict[str, Any]) -> None:
    graph = stabilize(graph_of(case, dims))
    values = inputs_of(graph, data())
    rng = np.random.default_rng(7)
    direction = {name: rng.normal(size=value.shape) for name, value in values.items()}
    if "P" in direction:  # rows that see only its symmetric part have no other derivative
        direction["P"] = direction["P"] + direction["P"].T
    step = 1e-6
    ends = [
        evaluate(graph, {name: value + sign * step * direction[name] for name, value in values.items()})["out"]
        for sign in (1, -1)
    ]
    difference = (ends[0] - ends[1]) / (2 * step)
    backward = vjp(graph, list(graph.inputs)).validate()
    weight = rng.normal(size=difference.shape)
    answers = evaluate(backward, values | {"out_cotangent": weight})
    found = sum(np.sum(g * direction[name]) for g, name in zip(answers.values(), values, strict=True))
    scale = max(1.0, float(np.sum(np.abs(weight * difference))))
    assert abs(found - np.sum(weight * difference)) < 1e-6 * scale


# What is built -----------------------------------------------------------------------------------------------------


def counts(expr: Any) -> dict[str, int]:
    return lower(expr).counts()


def test_a_chain_of_products_is_one_contraction_and_its_transposes_are_letters() -> None:
    s = Symbols(**SYMBOLIC)
    assert counts(s.b.T * s.A * s.C.T * s.S.T * s.b) == {"input": 4, "einsum": 1}
    assert counts(sp.Trace(s.A * s.B * s.B.T * s.C.T)) == {"input": 3, "einsum": 1}


def test_a_matrix_of_numbers_is_one_node() -> None:
    rng = np.random.default_rng(0)
    graph = lower(sp.Matrix(rng.normal(size=(60, 50))))
    assert graph.counts() == {"table": 1}
    assert lower(sp.eye(40)).counts() == {"eye": 1}
    assert len(lower(sp.zeros(40, 30))) <= 4


def test_numbers_of_a_matrix_are_exact() -> None:
    third = sp.Matrix([[sp.Rational(1, 3), 0.1], [2, 10**20]])
    due = np.array([[1 / 3, 0.1], [2, 1e20]])
    np.testing.assert_array_equal(evaluate(lower(third), {})["out"], due)
    np.testing.assert_array_equal(evaluate(lower(third), {}, dtype="float32")["out"], due.astype(np.float32))


def test_structures_may_hold_matrices() -> None:
    s = Symbols(**SYMBOLIC)
    graph = lower({"loss": sp.Trace(s.S), "pair": [sp.Matrix([[x, y]]), s.S.T]})
    answers = evaluate(graph, {"S": np.eye(2), "x": 1.0, "y": 2.0})
    assert {name: a.shape for name, a in answers.items()} == {
        "['loss']": (),
        "['pair'][0]": (1, 2),
        "['pair'][1]": (2, 2),
    }


def test_one_by_one_results_stay_matrices_and_count_as_numbers() -> None:
    s = Symbols(**SYMBOLIC)
    f = sym2tf.compile(s.b.T * s.P * s.b)
    assert f.signature == "(n,n),(n,1)->(1,1)"
    values = data()
    given = {"P": values["P"], "b": values["b"]}
    gradient = evaluate(f.gradient(s.b).graph, given)["out/0"]
    np.testing.assert_allclose(gradient, 2 * values["P"] @ values["b"], rtol=1e-12)
    hessian = evaluate(f.hessian(s.b).graph, given)
    (found,) = hessian.values()
    np.testing.assert_allclose(np.squeeze(found), 2 * values["P"], rtol=1e-12)


def test_matrices_are_equal_where_all_elements_are() -> None:
    s = Symbols(**SYMBOLIC)
    graph = lower([sp.Eq(s.S, s.S.T), sp.Ne(s.S, s.S.T)])
    batch = np.array([np.eye(2), [[1, 2], [3, 4]]])
    equal, different = evaluate(graph, {"S": batch}).values()
    assert equal.tolist() == [True, False]
    assert different.tolist() == [False, True]


def test_a_single_element_is_a_number_to_functions() -> None:
    single = sp.MatrixSymbol("s", 1, 1)
    for expr, due in (
        (sp.sin(single) + x, np.sin(2) + 1.5),
        (single * x + single, [[5.0]]),
        (sp.sqrt(single), [[2**0.5]]),
    ):
        answer = evaluate(lower(expr), inputs_of(lower(expr), {"s": np.array([[2.0]]), "x": 1.5}))["out"]
        np.testing.assert_allclose(answer, due, rtol=1e-14)
        assert answer.shape == np.shape(due)


def test_arguments_are_named_as_text_or_by_symbol_and_may_be_unused() -> None:
    s = Symbols(**SYMBOLIC)
    assert sym2tf.compile(s.A * s.B, args=["B", "A", s.C]).signature == "(m,k),(n,m),(n,m)->(n,k)"
    with pytest.raises(ArgumentError, match="it has A, B"):
        sym2tf.compile(s.A * s.B, args=["A", "Z"])


def test_an_element_can_be_an_argument_and_a_variable() -> None:
    s = Symbols(**SYMBOLIC)
    f = sym2tf.compile(s.A[0, 0] ** 2 * s.A[1, 2], args=[s.A[0, 0], s.A[1, 2]])
    assert f.signature == "(),()->()"
    g = sym2tf.compile(sp.Trace(s.A * s.C.T)).gradient(s.A[0, 1])
    assert evaluate(g.graph, {"A": data()["A"], "C": data()["C"]})["out/0"] == data()["C"][0, 1]


def test_shared_parts_are_lowered_once_however_deep() -> None:
    s = Symbols(**SYMBOLIC)
    matrix = s.S
    for _ in range(60):
        matrix = sp.MatAdd(matrix, matrix.applyfunc(sp.sin))
    assert lower(matrix).counts() == {"input": 1, "sin": 60, "add": 60}


def test_matrix_expressions_may_be_deeper_than_python_recurses() -> None:
    matrix = sp.MatrixSymbol("A", 3, 3)
    expr = matrix
    for _ in range(260):
        expr = sp.MatMul(sp.MatAdd(expr, matrix), matrix)
    assert lower(expr).counts() == {"input": 1, "add": 260, "einsum": 260}


def test_sums_over_data_may_stand_in_an_explicit_matrix() -> None:
    base, target = sp.IndexedBase("u"), sp.IndexedBase("v")
    n = SYMBOLIC["n"]
    total = sp.Sum(base[i], (i, 0, n - 1))
    normal = sp.Matrix([[n, total], [total, sp.Sum(base[i] ** 2, (i, 0, n - 1))]])
    right = sp.Matrix([sp.Sum(target[i], (i, 0, n - 1)), sp.Sum(base[i] * target[i], (i, 0, n - 1))])
    points = {"u": np.array([1.0, 2.0, 4.0]), "v": np.array([3.0, 5.0, 9.0])}
    for expr in (sp.Inverse(normal) * right, normal.LUsolve(right)):
        np.testing.assert_allclose(evaluate(lower(expr), points)["out"], [[1], [2]], rtol=1e-12)


# Packed arguments --------------------------------------------------------------------------------------------------


def test_a_matrix_of_symbols_is_one_argument() -> None:
    q, rates, t = sp.Matrix(sp.symbols("q1:4")), sp.Matrix([sp.symbols("v1:4")]), sp.Symbol("t")
    expr = sp.Matrix([sp.sin(q[0]) * rates[1], q[2] ** 2 * t])
    f = sym2tf.compile(expr, args=[q, rates, t])
    assert f.signature == "(3,1),(1,3),()->(2,1)"
    assert f.arguments == ("q", "v", "t")
    values = {"q": np.array([[0.1], [0.2], [0.3]]), "v": np.array([[1.0, 2.0, 3.0]]), "t": 2.0}
    np.testing.assert_allclose(evaluate(f.graph, values)["out"], [[2 * np.sin(0.1)], [0.18]], rtol=1e-14)
    jacobian = evaluate(f.jacobian(q).graph, values)["out/0"][:, 0, :, 0]
    np.testing.assert_allclose(jacobian, [[2 * np.cos(0.1), 0, 0], [0, 0, 1.2]], rtol=1e-14)
    one = sym2tf.compile(expr[0], args=[q, rates, t]).gradient(q[0])
    np.testing.assert_allclose(evaluate(one.graph, values)["out/0"], 2 * np.cos(0.1), rtol=1e-14)


def test_a_matrix_of_functions_of_time_is_one_argument() -> None:
    t = sp.Symbol("t")
    q = sp.Matrix([sp.Function("q1")(t), sp.Function("q2")(t)])
    f = sym2tf.compile(q.dot(q.diff(t)), args=[q, q.diff(t)])
    assert f.signature == "(2,1),(2,1)->()"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([sp.Matrix([x, x])], "more than once"),
        ([sp.Matrix([x, y]), x], "more than once"),
        ([sp.Matrix([x, 2 * y])], "arguments are symbols"),
        ([sp.Matrix([x])], "args lacks y"),
    ],
)
def test_matrices_that_cannot_be_arguments(args: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lower(x * y, args=args)


def test_a_length_or_a_condition_is_no_element_of_an_argument() -> None:
    s = Symbols(**SYMBOLIC)
    with pytest.raises(ArgumentError, match="n is a length"):
        lower(sp.Trace(s.S) * x, args=[sp.Matrix([x, s.n]), s.S])
    with pytest.raises(ArgumentError, match="y is boolean"):
        lower(sp.Piecewise((x, y), (0, True)), args=[sp.Matrix([x, y])])


# Errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: s.A * sp.MatrixSymbol("Z", s.k, s.n), r"A\*Z \(A is n x m, Z is k x n\).*m is not k"),
        (lambda s: s.A + sp.MatrixSymbol("Z", s.n, s.k), r"Z is n x k.*n x m and n x k do not agree"),
        (lambda s: sp.HadamardProduct(s.A, sp.MatrixSymbol("Z", s.n, s.k)), "do not agree"),
        (lambda s: s.A + s.A.T, "n x m and m x n do not agree"),
        (lambda s: sp.exp(s.A), r"exp\(A\).* square one, got n x m"),
        (lambda s: sp.Eq(s.A, s.A.T, evaluate=False), "n x m and m x n are compared"),
        (lambda s: sp.Sum((s.S**-1)[i, 0], (i, 0, s.n)), "the subscript i goes up to n on an axis of length n"),
        (lambda s: sp.Sum(sp.Matrix([[1, 2], [3, 4]])[i, 0], (i, 0, 2)), "up to 2 on an axis of length 2"),
        (lambda s: sp.DiagonalOf(s.A), "which of n and m is the smaller"),
        (lambda s: sp.DiagMatrix(s.A), "made of a vector, not of n x m"),
        (lambda s: s.D[: s.m + 1 : 2, :], "in steps of 2"),
        (lambda s: sp.Trace(sp.MatMul(s.A, sp.MatrixSymbol("Z", s.m, s.k), s.r.T)), "k is not m"),
    ],
)
def test_shapes_that_do_not_agree_are_named_with_their_symbols(make: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        lower(make(Symbols(**SYMBOLIC)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: sp.sin(s.A), r"applyfunc"),
        (lambda s: s.S**x, "integer or a half"),
        (lambda s: s.S ** sp.Rational(1, 3), "integer or a half"),
        (lambda s: DFT(4), "complex"),
        (lambda s: lu(s.S)[0], "order of the rows"),
        (lambda s: sp.Derivative(sp.Trace(s.S * s.S), s.S), "gradient"),
        (lambda s: sp.Matrix([[x, sp.I]]), "complex"),
        (lambda s: sp.Matrix([[1, sp.I]]), "complex"),
        (lambda s: sp.Sum(sp.Trace(s.S[i : i + 2, :2]), (i, 0, 1)), "moves with an index"),
        (lambda s: GenericIdentity(), "write Identity"),
        (lambda s: sp.MatrixSymbol("Z", s.n / 2, 1), "dimension n/2"),
        (lambda s: sp.Permanent(s.S), "not supported"),
        (lambda s: sp.Add(x, s.S, evaluate=False), "a number is never added to a matrix"),
        (lambda s: sp.Product(s.S, (i, 0, 2)), "write the factors"),
    ],
)
def test_what_is_not_supported_says_what_to_do(make: Any, message: str) -> None:
    with pytest.raises(UnsupportedExpressionError, match=message):
        lower(make(Symbols(**SYMBOLIC)))


def test_one_error_lists_everything_in_a_product() -> None:
    s = Symbols(**SYMBOLIC)
    with pytest.raises(UnsupportedExpressionError) as caught:
        lower(s.A.T * s.S**x * sp.Identity(s.n) * DFT(s.n) * s.S ** sp.Rational(1, 3) * s.A)
    assert len(caught.value.items) == 3


def test_data_that_contradict_the_dimensions_are_named() -> None:
    s = Symbols(**SYMBOLIC)
    graph = lower(s.A * s.B)
    with pytest.raises(SizeError, match=r"B has length 3 .*m = 4 from the length 4 of A"):
        evaluate(graph, {"A": np.ones((3, 4)), "B": np.ones((3, 2))})
    with pytest.raises(ShapeError):
        evaluate(graph, {"A": np.ones(4), "B": np.ones((4, 2))})
    with pytest.raises(SizeError, match=r"2\*n"):
        evaluate(lower(s.D), {"D": np.ones((5, 2))})


def test_compiled_functions_take_batches_of_matrices() -> None:
    s = Symbols(**SYMBOLIC)
    f = sym2tf.compile({"form": s.b.T * s.S**-1 * s.b, "sum": sp.Matrix([[x, 1]]) * s.S[:2, :]}, name="batched")
    batch = [data(seed) for seed in range(3)]
    stacked = {name: np.stack([values[name] for values in batch]) for name in ("S", "b")}
    answer = f(**stacked, x=1.5)
    due = [values["b"].T @ inv(values["S"]) @ values["b"] for values in batch]
    np.testing.assert_allclose(answer["form"], due, rtol=1e-12)
    np.testing.assert_allclose(answer["sum"], [[[1.5, 1]] @ values["S"][:2] for values in batch], rtol=1e-12)
    assert "tf.einsum" in f.source or "tf.matmul" in f.source or "tf.linalg" in f.source


def test_every_python_block_of_the_page_on_matrices_runs_in_order() -> None:
    page = (Path(__file__).parent.parent / "docs" / "matrices.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 4
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "matrices.md", "exec"), namespace)
