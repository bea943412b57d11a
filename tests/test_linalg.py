"""Linear algebra: what the rows compute, what is known of matrices, and which algorithms that chooses.

`test_rows.py` compares each row with mpmath, differences and the tape on small regular matrices; here stand the rest.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from sympy.assumptions import assuming

import sym2tf
from sym2tf.autodiff.derivatives import gradient, jacobian, jvp, vjp
from sym2tf.backends.mpmath import evaluate as evaluate_mpmath
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.tensorflow import direct
from sym2tf.errors import ArgumentError, DtypeError, JitError, ShapeError, SingularMatrixError
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.lazy import lazy
from sym2tf.ops import OPS
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.assembly import diag
from sym2tf.ops.indexing import transpose
from sym2tf.ops.leaves import input_
from sym2tf.ops.linalg import inverse, product, swapped
from sym2tf.ops.values import Value, apply
from sym2tf.passes.contraction import contract
from sym2tf.passes.linalg import choose_algorithms
from sym2tf.passes.matrix_facts import (
    DEFINITE,
    DIAGONAL,
    INVERTIBLE,
    LOWER,
    NOTHING,
    ORTHOGONAL,
    SEMIDEFINITE,
    SYMMETRIC,
    UPPER,
    WORDS,
    Fact,
    closed,
    matrix_facts,
)
from sym2tf.passes.pipeline import optimize, stabilize
from sym2tf.sampling import as_assumed

tf = lazy("tensorflow")

N, K = sp.symbols("n k", integer=True, positive=True)
A, B, C = (sp.MatrixSymbol(name, N, N) for name in "ABC")
X = sp.MatrixSymbol("X", K, N)
v, w = sp.MatrixSymbol("v", N, 1), sp.MatrixSymbol("w", K, 1)
lam = sp.Symbol("lam", positive=True)
Q = sp.Q


def graph_of(name: str, *shapes: tuple[int, ...], **attributes: Any) -> Graph:
    """A graph with inputs `a0`, `a1`, ... and the output `y` that is one row of them."""
    builder = Builder()
    inputs = [new_input(builder, f"a{k}", shape).id for k, shape in enumerate(shapes)]
    y = apply(builder, OPS[name], [Value(builder, u) for u in inputs], attributes)
    return builder.build(inputs, {"y": y.id}).validate()


def new_input(builder: Builder, name: str, shape: Any, **attributes: Any) -> Value:
    type_ = TensorType(Kind.REAL, shape)
    return Value(builder, builder.add(input_, (), {"name": name, "symbol": name, "type": type_, **attributes}))


def of_rank(n: int, rank: int, seed: int = 0) -> np.ndarray:
    """An integer matrix of a given rank, so that it is exactly singular."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-3, 4, (n, rank)) @ rng.integers(-3, 4, (rank, n)) if rank < n else np.eye(n)).astype(float)


def regular(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, n)) + 3 * np.eye(n)


def definite(n: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, n))
    return x @ x.T + np.eye(n)


def difference(graph: Graph, points: dict[str, Any], direction: dict[str, Any], name: str) -> Any:
    """The derivative of an output along a direction, by central differences in 60 digits."""
    step, sides = mpmath.mpf(10) ** -20, []
    with mpmath.workdps(70):
        for sign in (1, -1):
            moved = {k: np.vectorize(mpmath.mpf, otypes=[object])(p) for k, p in points.items()}
            for k, d in direction.items():
                moved[k] = moved[k] + sign * step * d
            sides.append(evaluate_mpmath(graph, moved, digits=60)[name])
        return (sides[0] - sides[1]) / (2 * step)


def close(a: Any, b: Any, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=tolerance, atol=tolerance)


# Values


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("name", ["inverse", "det", "cofactor", "logabsdet", "cholesky", "eigh_values", "svd_values"])
def test_rows_of_one_matrix_are_accurate_at_every_size(name: str, n: int, dtype: str) -> None:
    graph = graph_of(name, (n, n))
    a = np.stack([definite(n, seed) for seed in range(3)]).astype(dtype)
    due = evaluate_mpmath(graph, {"a0": a.astype(float)})["y"].astype(float)
    answer = evaluate(graph, {"a0": a}, dtype=dtype)["y"]
    condition = np.linalg.cond(a.astype(float)).max()
    error = np.abs(answer - due).max() / max(1.0, np.abs(due).max())
    assert error <= 4 * n * condition * np.finfo(dtype).eps


@pytest.mark.parametrize("n", [4, 8, 12])
def test_errors_on_ill_conditioned_matrices_stay_below_the_condition_number(n: int) -> None:
    hilbert = 1 / (np.arange(n)[:, None] + np.arange(n) + 1)
    b = np.ones((n, 1))
    graph = graph_of("solve", (n, n), (n, 1), adjoint=False)
    due = evaluate_mpmath(graph, {"a0": hilbert, "a1": b})["y"].astype(float)
    answer = evaluate(graph, {"a0": hilbert, "a1": b})["y"]
    error = np.abs(answer - due).max() / np.abs(due).max()
    assert error <= np.linalg.cond(hilbert) * np.finfo(float).eps  # 2e-13 at n = 4, 2e-7 at 8, 0.3 at 12


def test_one_singular_matrix_does_not_spoil_the_others_of_a_batch() -> None:
    batch = np.stack([regular(3), of_rank(3, 2), regular(3, 1)])
    for name, failing in [("inverse", [1]), ("solve", [1])]:
        shapes = [(3, 3), (3, 1)] if name == "solve" else [(3, 3)]
        attributes = {"adjoint": False} if name == "solve" else {}
        graph = graph_of(name, *shapes, **attributes)
        points = {"a0": np.round(batch, 3), "a1": np.ones((3, 1))} if name == "solve" else {"a0": np.round(batch, 3)}
        points["a0"][1] = np.zeros((3, 3))
        for answer in (evaluate(graph, points)["y"], evaluate_mpmath(graph, points)["y"].astype(float)):
            assert [bool(np.isnan(y).all()) for y in answer] == [k in failing for k in range(3)]


def test_outside_its_domain_a_row_is_nan() -> None:
    negative = np.diag([-1.0, 2.0])
    rotation = np.array([[0.0, -1.0], [1.0, 0.0]])
    for name, a, due in [
        ("cholesky", negative, np.nan),
        ("logdet", negative, np.nan),
        ("logm", negative, np.nan),
        ("sqrtm", negative, np.nan),
        ("logdet", np.zeros((2, 2)), -np.inf),
        ("logabsdet", np.zeros((2, 2)), -np.inf),
        ("eigh_values", negative * np.nan, np.nan),
        ("svd_values", np.full((2, 2), np.inf), np.nan),
    ]:
        graph = graph_of(name, (2, 2))
        answers = [evaluate(graph, {"a0": a})["y"], evaluate_mpmath(graph, {"a0": a})["y"].astype(float)]
        answers.append(direct.run(graph, {"a0": tf.constant(a)})["y"].numpy())
        for answer in answers:
            lower_part = np.tril(answer) if answer.ndim == 2 else answer
            assert np.isnan(lower_part).any() if np.isnan(due) else (answer == due).all(), (name, answer)
    assert np.isfinite(evaluate(graph_of("logm", (2, 2)), {"a0": rotation})["y"]).all()


def test_signs_of_vectors_do_not_hang_on_rounding() -> None:
    """Components of equal size: the first decides, whatever the last digits are."""
    a = np.array([[2.0, 1.0], [1.0, 2.0]])
    graph = graph_of("eigh_vectors", (2, 2))
    due = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    close(evaluate(graph, {"a0": a})["y"], due, 1e-14)
    close(evaluate_mpmath(graph, {"a0": a})["y"], due, 1e-14)
    close(direct.run(graph, {"a0": tf.constant(a)})["y"], due, 1e-14)


def test_factors_make_up_the_matrix() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(4, 3))

    def factor(name: str) -> Any:
        return evaluate(graph_of(name, (4, 3)), {"a0": a})["y"]

    close(factor("svd_left") * factor("svd_values") @ factor("svd_right").T, a, 1e-13)
    close(factor("qr_q") @ factor("qr_r"), a, 1e-13)
    assert (np.diag(factor("qr_r")) > 0).all()


def test_functions_of_a_matrix_undo_each_other() -> None:
    a = definite(4) / 3
    root = evaluate(graph_of("sqrtm", (4, 4)), {"a0": a})["y"]
    close(root @ root, a, 1e-12)
    logarithm = evaluate(graph_of("logm", (4, 4)), {"a0": a})["y"]
    close(evaluate(graph_of("expm", (4, 4)), {"a0": logarithm})["y"], a, 1e-12)


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 700.0])
def test_the_exponential_of_a_matrix_is_accurate_for_every_norm(size: float) -> None:
    a = size * np.array([[0.3, -0.9, 0.1], [0.2, -0.5, 0.4], [-0.7, 0.6, 0.1]])
    graph = graph_of("expm", (3, 3))
    due = evaluate_mpmath(graph, {"a0": a})["y"].astype(float)
    error = np.abs(evaluate(graph, {"a0": a})["y"] - due).max() / np.abs(due).max()
    assert error <= 1e-15 * max(10.0, 10 * size)  # the condition of the problem grows with the norm


# In TensorFlow


@pytest.mark.parametrize("name", ["solve", "triangular_solve", "solve_factored"])
@pytest.mark.parametrize("batches", [((), (2, 3)), ((2,), ()), ((3, 1), (2,)), ((2,), (2,))], ids=str)
@pytest.mark.parametrize("adjoint", [False, True])
def test_systems_broadcast_batch_axes(name: str, batches: Any, adjoint: bool) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(*batches[0], 3, 3)) + 3 * np.eye(3)
    b = rng.normal(size=(*batches[1], 3, 2))
    matrix = np.tril(a) if name == "triangular_solve" else a
    due = np.linalg.solve(np.swapaxes(matrix, -1, -2) if adjoint else matrix, b)
    if name == "solve_factored":
        graph = factored_graph(adjoint)
    else:
        extra = {"lower": True} if name == "triangular_solve" else {}
        graph = graph_of(name, (3, 3), (3, 2), adjoint=adjoint, **extra)
    points = {"a0": a, "a1": b}
    close(evaluate(graph, points)["y"], due, 1e-12)
    close(direct.run(graph, {k: tf.constant(p) for k, p in points.items()})["y"], due, 1e-12)


def factored_graph(adjoint: bool, n: int = 3, columns: int = 2) -> Graph:
    builder = Builder()
    a, b = new_input(builder, "a0", (n, n)), new_input(builder, "a1", (n, columns))
    y = OPS["solve_factored"](a, OPS["lu_factor"](a), OPS["lu_rows"](a), b, adjoint=adjoint)
    return builder.build([a.id, b.id], {"y": y.id}).validate()


@pytest.mark.parametrize("adjoint", [False, True])
def test_a_system_from_its_factors_has_the_derivatives_of_the_system(adjoint: bool) -> None:
    rng = np.random.default_rng(1)
    plain, factored = graph_of("solve", (3, 3), (3, 2), adjoint=adjoint), factored_graph(adjoint)
    points = {"a0": regular(3), "a1": rng.normal(size=(3, 2))}
    for derive in (jvp, vjp):
        one, other = (derive(g, list(g.inputs)) for g in (plain, factored))
        extra = {
            one[u].attributes["name"]: rng.normal(size=tuple(one[u].type.shape)) for u in one.inputs[len(points) :]
        }
        due, answer = evaluate(one, points | extra), evaluate(other, points | extra)
        for name in due:
            close(answer[name], due[name], 1e-12)


def test_compiled_functions_of_matrices_agree_with_numpy() -> None:
    a, b = definite(4), np.random.default_rng(0).normal(size=(4, 1))
    form = (v.T * A.I * v)[0, 0] + sp.log(sp.Determinant(A))
    f = sym2tf.compile(form, args=[A, v], assume=Q.positive_definite(A))
    inv = np.linalg.inv(a)
    close(f(a, b), (b.T @ inv @ b)[0, 0] + np.linalg.slogdet(a)[1], 1e-12)
    in_a, in_v = f.gradient()(a, b)
    close(in_a, inv.T - inv.T @ b @ b.T @ inv.T, 1e-12)
    close(in_v, 2 * inv @ b, 1e-12)
    batch = np.stack([definite(4, seed) for seed in range(3)])
    close(f(batch, b), [f(one, b) for one in batch], 1e-12)


def test_a_dtype_without_kernels_is_refused_by_name() -> None:
    f = sym2tf.compile(A.I, dtype="float16")
    with pytest.raises(DtypeError, match=r"no float16 kernel for inverse \(it has float64, float32\)"):
        f(np.eye(3))


@pytest.mark.parametrize("expression", [A.I * v, A.I, A.I * v + A.I * A.T * v], ids=str)
def test_singular_matrices_are_told_with_the_expression(expression: Any) -> None:
    f = sym2tf.compile(expression)
    data = (np.zeros((3, 3)), np.ones((3, 1)))[: len(f.arguments)]
    with pytest.raises(SingularMatrixError, match=r"a matrix to be inverted is exactly singular, in .*A\*\*\(-1\)"):
        f(*data)


# Derivatives where they are delicate


@pytest.mark.parametrize(("n", "rank"), [(2, 1), (3, 2), (3, 1), (4, 3), (3, 0), (1, 0)])
def test_the_determinant_has_two_derivatives_at_singular_matrices(n: int, rank: int) -> None:
    graph = graph_of("det", (n, n))
    a = of_rank(n, rank) if rank else np.zeros((n, n))
    rng = np.random.default_rng(5)
    direction = rng.normal(size=(n, n))
    first = gradient(graph, list(graph.inputs))
    (in_float,) = evaluate(first, {"a0": a}).values()
    (due,) = evaluate_mpmath(first, {"a0": a}).values()
    close(difference(graph, {"a0": a}, {"a0": direction}, "y"), np.sum(due * direction), 1e-12)
    close(in_float, due, 1e-12 * max(1.0, float(np.abs(due).max())))
    second = jvp(first, [first.inputs[0]])
    tangent = second[second.inputs[1]].attributes["name"]
    (slope,) = evaluate_mpmath(second, {"a0": a, tangent: direction}).values()
    close(slope, difference(first, {"a0": a}, {"a0": direction}, next(iter(first.outputs))), 1e-12)
    (slope_in_float,) = evaluate(second, {"a0": a, tangent: direction}).values()
    close(slope_in_float, slope, 1e-11)


def test_the_third_derivative_of_a_determinant_needs_an_invertible_matrix() -> None:
    graph = graph_of("det", (2, 2))
    third = graph
    names = []
    for _ in range(3):
        third = jvp(third, [third.inputs[0]])
        names.append(third[third.inputs[-1]].attributes["name"])
    directions = {name: np.eye(2) * (k + 1) for k, name in enumerate(names)}
    (regular_value,) = evaluate(third, {"a0": regular(2), **directions}).values()
    assert abs(regular_value) < 1e-12  # a quadratic polynomial
    (singular_value,) = evaluate(third, {"a0": np.zeros((2, 2)), **directions}).values()
    assert np.isnan(singular_value)


@pytest.mark.parametrize("name", ["inverse", "logdet", "eigh_values", "svd_left", "qr_q", "cholesky", "expm"])
def test_jacobians_carry_their_axes_in_front_of_the_matrices(name: str) -> None:
    graph = graph_of(name, (2, 2))
    points = {"a0": definite(2)}
    direction = np.random.default_rng(1).normal(size=(2, 2))
    (full,) = evaluate_mpmath(jacobian(graph, list(graph.inputs)), points).values()
    due = difference(graph, points, {"a0": direction}, "y")
    close(np.tensordot(full, direction, 2), due, 1e-12)


def test_eigenvalues_of_equal_size_have_derivatives_in_symmetric_functions() -> None:
    """The sum of all eigenvalues is smooth where they coincide; single vectors are not."""
    graph = gradient(lower_sum_of_eigenvalues(), [0])
    (answer,) = evaluate(graph, {"a0": np.eye(2)}).values()
    close(answer, np.eye(2), 1e-14)


def lower_sum_of_eigenvalues() -> Graph:
    builder = Builder()
    a = new_input(builder, "a0", (2, 2))
    total = OPS["sum"](OPS["eigh_values"](a), axes=(-1,))
    return builder.build([a.id], {"y": total.id})


# Errors


@pytest.mark.parametrize(
    ("name", "shapes", "words"),
    [
        ("inverse", [(2, 3)], r"inverse needs a square matrix, got one of shape \(2, 3\)"),
        ("det", [(4, 5)], r"determinant needs a square matrix, got one of shape \(4, 5\)"),
        ("cholesky", [(3,)], r"cholesky needs a matrix, got a value of core shape \(3,\)"),
        ("solve", [(3, 3), (2, 1)], r"\(3, 3\) and a right-hand side of shape \(2, 1\) do not agree: 3 columns"),
        ("solve", [(3, 3), (4, 3, 1)], r"different numbers of axes"),
        ("solve", [(2, 3, 3), (4, 3, 1)], r"axes of length 2 and 4"),
        ("triangular_solve", [(2, 3), (3, 1)], r"square matrix, got one of shape \(2, 3\)"),
        ("qr_q", [(2, 3)], r"at least as many rows as columns, got a matrix of shape \(2, 3\)"),
        ("expm", [(2, 3)], r"expm needs a square matrix"),
        ("eigh_vectors", [()], r"eigenvectors needs a matrix"),
    ],
)
def test_wrong_shapes_are_told_with_all_shapes(name: str, shapes: Any, words: str) -> None:
    attributes = {"solve": {"adjoint": False}, "triangular_solve": {"lower": True, "adjoint": False}}.get(name, {})
    with pytest.raises(ShapeError, match=words):
        graph_of(name, *shapes, **attributes)


def test_singular_values_of_unknown_number_are_refused() -> None:
    with pytest.raises(ShapeError, match="which of the two is smaller"):
        graph_of("svd_values", (sym2tf.ir.dims.size_symbol("n"), 3))


@pytest.mark.parametrize(
    ("assume", "error", "words"),
    [
        (Q.prime(A), ArgumentError, r"Q.prime\(A\) is not one that sym2tf uses; it knows Q.symmetric"),
        (Q.symmetric(B), ArgumentError, r"is about B, which is no input; inputs: A, X"),
        (Q.symmetric(A) | Q.diagonal(A), ArgumentError, "is no assumption"),
        ("symmetric", ArgumentError, "'symmetric' is no assumption"),
        (Q.symmetric(X), ShapeError, r"about a square matrix; X has core shape \(k, n\)"),
        (sym2tf.Simplex(A, axis=2), ShapeError, r"A has core shape \(n, n\), without that axis"),
        (sym2tf.OneHot(B), ArgumentError, "which is no input"),
        (Q.symmetric(sp.Matrix([[1, 2], [2, 1]])), ArgumentError, "which is no input"),
    ],
    ids=str,
)
def test_assumptions_that_say_nothing_are_refused(assume: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lower(X * A, assume=assume)


def test_assumptions_stand_on_the_inputs() -> None:
    graph = lower(X * A, assume=[Q.symmetric(A) & Q.invertible(A), sym2tf.Simplex(X, 0), (sym2tf.OneHot(X),)])
    known = {graph[u].attributes["name"]: graph[u].attributes.get("known") for u in graph.inputs}
    assert known == {"A": {"symmetric", "invertible"}, "X": {"simplex:-2", "one_hot:-1"}}
    with assuming(Q.orthogonal(A), Q.symmetric(C)):  # what SymPy holds of other symbols is no error
        graph = lower(X * A)
    assert [graph[u].attributes.get("known") for u in graph.inputs] == [{"orthogonal"}, None]


def test_derivatives_keep_assumptions_of_inputs() -> None:
    f = sym2tf.compile(sp.Trace(A.I), assume=Q.positive_definite(A))
    assert "cholesky" in f.gradient().graph.counts()


# What is known of matrices


@pytest.mark.parametrize(
    ("expr", "assume", "due"),
    [
        (X.T * X, (), SEMIDEFINITE),
        (X.T * X + lam * sp.Identity(N), (), DEFINITE),
        (X.T * sp.DiagMatrix(w) * X, (), SYMMETRIC),
        (v * v.T, (), SEMIDEFINITE),
        (A + A.T, (), SYMMETRIC),
        (A - A.T, (), NOTHING),
        (A * A.T, Q.invertible(A), DEFINITE),
        (A.T * B * A, Q.symmetric(B), SYMMETRIC),
        (A.T * B * A, Q.positive_definite(B), SEMIDEFINITE),
        (A.T * B * A, Q.positive_definite(B) & Q.invertible(A), DEFINITE),
        (A.I, Q.positive_definite(A), DEFINITE),
        (A.T, Q.lower_triangular(A), UPPER),
        (A * B, Q.lower_triangular(A) & Q.lower_triangular(B), LOWER),
        (A * B, Q.symmetric(A) & Q.symmetric(B), NOTHING),
        (A * B, Q.orthogonal(A) & Q.orthogonal(B), ORTHOGONAL),
        (A * B, Q.diagonal(A) & Q.diagonal(B), DIAGONAL),
        (-A, Q.positive_definite(A), SYMMETRIC | INVERTIBLE),
        (lam * A, Q.positive_definite(A), DEFINITE),
        (sp.HadamardProduct(A, B), Q.positive_definite(A) & Q.positive_definite(B), DEFINITE),
        (sp.HadamardProduct(A, B), Q.lower_triangular(A), LOWER),
        (A + B, Q.positive_definite(A) & Q.positive_definite(B), DEFINITE),
        (A + B, Q.positive_definite(A) & Q.symmetric(B), SYMMETRIC),
        (sp.DiagMatrix(v), (), DIAGONAL),
        (sp.Identity(N) * lam, (), DEFINITE | DIAGONAL),
        (sp.Matrix([[2, -1], [-1, 2]]), (), DEFINITE),
        (sp.Matrix([[1, 2], [2, 1]]), (), SYMMETRIC),
        (sp.Matrix([[1, 0], [sp.Rational(1, 3), 0]]), (), LOWER),
        (sp.Matrix([[1, 2], [3, 4]]), (), NOTHING),
    ],
    ids=str,
)
def test_facts_follow_from_how_a_matrix_is_made(expr: Any, assume: Any, due: Fact) -> None:
    graph = lower(expr, assume=assume)
    for made in (graph, contract(graph)[0]):
        assert matrix_facts(made).get(made.outputs["out"], NOTHING) == closed(due)


TESTS: dict[Fact, Callable[[np.ndarray], bool]] = {
    SYMMETRIC: lambda a: np.allclose(a, a.T),
    SEMIDEFINITE: lambda a: np.linalg.eigvalsh(a).min() > -1e-9 * max(1.0, np.abs(a).max()),
    DEFINITE: lambda a: np.linalg.eigvalsh(a).min() > 0,
    ORTHOGONAL: lambda a: np.allclose(a @ a.T, np.eye(len(a))),
    LOWER: lambda a: np.allclose(a, np.tril(a)),
    UPPER: lambda a: np.allclose(a, np.triu(a)),
    DIAGONAL: lambda a: np.allclose(a, np.diag(np.diag(a))),
    INVERTIBLE: lambda a: abs(np.linalg.det(a)) > 0,
}
EXAMPLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "symmetric": lambda x: x + x.T,
    "positive_definite": lambda x: x @ x.T + np.eye(3),
    "orthogonal": lambda x: np.linalg.qr(x)[0],
    "lower_triangular": np.tril,
    "upper_triangular": np.triu,
    "diagonal": lambda x: np.diag(np.diag(x)),
    "invertible": lambda x: x + 4 * np.eye(3),
}
PRODUCTS = ("ab,bc->ac", "ab,cb->ac", "ba,bc->ac", "ab,ab->ab", "ab,ba->ab", "ab->ba", "ab,bc,dc->ad", "aa,ab->ab")


def random_matrices(seed: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """A random graph of 3 by 3 matrices, and data for which the assumptions about its inputs hold."""
    rng = np.random.default_rng(seed)
    builder, data, values = Builder(), {}, []
    for k, word in enumerate(rng.choice(list(EXAMPLES), 3)):
        values.append(new_input(builder, f"a{k}", (3, 3), known=frozenset({str(word)})))
        data[f"a{k}"] = EXAMPLES[str(word)](rng.normal(size=(3, 3)))
    inputs = [x.id for x in values]

    def pick() -> Any:
        return values[int(rng.integers(len(values)))]

    makers = [
        lambda: add(pick(), pick()),
        lambda: add(x := pick(), swapped(x)),
        lambda: mul(pick(), int(rng.integers(-2, 4))),
        lambda: inverse(pick()),
        lambda: transpose(pick(), axes=(-1, -2)),
        lambda: diag(product("aa->a", pick())),
        lambda: mul(pick(), product("aa->", pick())),
        *[lambda: any_product(str(rng.choice(PRODUCTS)))] * 5,
    ]

    def any_product(equation: str) -> Any:
        count = equation.split("->")[0].count(",") + 1
        chosen = [pick() for _ in range(count)]
        if count > 1 and rng.random() < 0.5:
            chosen[-1] = chosen[0]
        return product(equation, *chosen)

    for k in rng.integers(len(makers), size=6):
        values += (makers[int(k)](),)
    return builder.build(inputs, {f"y{k}": x.id for k, x in enumerate(values)}), data


@pytest.mark.parametrize("seed", range(300))
def test_every_fact_about_a_random_matrix_is_true(seed: int) -> None:
    graph, data = random_matrices(seed)
    facts = matrix_facts(graph)
    answers = evaluate(graph, data)
    for name, u in graph.outputs.items():
        value = answers[name]
        if not np.isfinite(value).all() or np.abs(value).max() > 1e6:
            continue  # the inverse of what is singular or nearly so: facts are about exact values
        for fact, holds in TESTS.items():
            if facts[u] & fact and fact not in (DEFINITE, INVERTIBLE):
                assert holds(value), (name, fact, value)
            elif facts[u] & fact:  # true of exact values; here up to rounding
                assert np.linalg.svd(value)[1].min() > 1e-12 * np.abs(value).max(), (name, fact, value)


@pytest.mark.parametrize("seed", range(60))
def test_algorithms_chosen_for_random_matrices_compute_the_same(seed: int) -> None:
    graph, data = random_matrices(seed)
    chosen, _ = choose_algorithms(graph)
    due, answer = evaluate(graph, data), evaluate(chosen.validate(), data)
    for name, value in due.items():
        if np.isfinite(value).all() and np.abs(value).max() < 1e4:
            np.testing.assert_allclose(answer[name], value, rtol=1e-6, atol=1e-6)


def test_the_facts_of_long_chains_cost_linear_time() -> None:
    builder = Builder()
    a = new_input(builder, "a", (3, 3), known=frozenset({"lower_triangular"}))
    x = a
    for k in range(3000):
        x = product("ab,bc->ac", x, a) if k % 2 else add(x, a)
    graph = builder.build([a.id], {"y": x.id})
    assert matrix_facts(graph)[graph.outputs["y"]] == LOWER


# Algorithms

SYSTEM = (v.T * A.I * v)[0, 0]
LOGDET = sp.log(sp.Determinant(A))


@pytest.mark.parametrize(
    ("expr", "assume", "has", "lacks"),
    [
        (A.I * v, (), "solve", "inverse"),
        (A.I * v, Q.positive_definite(A), "cholesky triangular_solve", "solve inverse"),
        (A.I * v, Q.lower_triangular(A), "triangular_solve", "solve inverse"),
        (A.I * v, Q.upper_triangular(A), "triangular_solve", "solve inverse"),
        (A.T.I * v, Q.lower_triangular(A), "triangular_solve", "solve inverse"),
        (A.I * v, Q.orthogonal(A), "einsum", "solve inverse"),
        (A.I * v, Q.diagonal(A), "div", "solve inverse triangular_solve"),
        (A.I, Q.diagonal(A), "diag", "inverse"),
        (A.I, Q.orthogonal(A), "transpose", "inverse"),
        (A.I, Q.positive_definite(A), "cholesky", "inverse"),
        (A.I, Q.lower_triangular(A), "triangular_solve", "inverse"),
        (LOGDET, (), "logdet", "det log"),
        (sp.log(sp.Abs(sp.Determinant(A))), (), "logabsdet", "det log"),
        (LOGDET, Q.positive_definite(A), "cholesky log", "logdet det"),
        (LOGDET, Q.lower_triangular(A), "log", "logdet det"),
        (sp.Determinant(A), Q.upper_triangular(A), "prod", "det"),
        (sp.Determinant(A), Q.positive_definite(A), "cholesky prod", "det"),
        ((X.T * X + lam * sp.Identity(N)).I * v, (), "cholesky", "solve inverse"),
        (A.I * B * A.I.T * v, (), "lu_factor solve_factored", "solve inverse"),
    ],
    ids=str,
)
def test_what_is_known_chooses_the_algorithm(expr: Any, assume: Any, has: str, lacks: str) -> None:
    graph = lower(expr, assume=assume)
    optimized, _ = optimize(graph)
    counts = optimized.counts()
    assert all(name in counts for name in has.split()), counts
    assert not any(name in counts for name in lacks.split()), counts
    points = sample(graph, assume)
    (due,), (answer,) = evaluate(graph, points).values(), evaluate(optimized, points).values()
    close(answer, due, 1e-9)


def sample(graph: Graph, assume: Any) -> dict[str, np.ndarray]:
    """Data of size 4 that meet the assumptions about inputs; k is 5."""
    rng = np.random.default_rng(0)
    lengths = {"n": 4, "k": 5}
    points = {}
    for u in graph.inputs:
        shape = tuple(lengths[str(d)] if not isinstance(d, int) else d for d in graph[u].type.shape)
        x = rng.normal(size=shape) + (3 * np.eye(4) if shape == (4, 4) else 0)
        (word,) = graph[u].attributes.get("known", ()) or ("invertible",)
        form = EXAMPLES[word] if shape == (4, 4) and word not in ("invertible", "positive_definite") else np.asarray
        points[graph[u].attributes["name"]] = (
            definite(4) if word == "positive_definite" else form(np.abs(x) if not shape else x)
        )
    return points


@pytest.mark.parametrize(
    ("name", "word", "has"),
    [
        ("expm", "symmetric", "eigh_vectors"),
        ("logm", "positive_definite", "eigh_vectors"),
        ("sqrtm", "positive_definite", "eigh_vectors"),
        ("sqrtm", "diagonal", "eigh_vectors"),
        ("cholesky", "diagonal", "diag"),
        ("logdet", "upper_triangular", "prod"),
        ("logabsdet", "lower_triangular", "log"),
        ("cofactor", "invertible", "inverse"),
        ("cofactor", "lower_triangular", "cofactor"),
    ],
)
def test_what_is_known_chooses_how_rows_of_one_matrix_are_computed(name: str, word: str, has: str) -> None:
    builder = Builder()
    a = new_input(builder, "a", (3, 3), known=frozenset({word}))
    graph = builder.build([a.id], {"y": OPS[name](a).id})
    chosen, _ = choose_algorithms(graph)
    assert has in chosen.validate().counts()
    for sign in (1, -1):  # also where there is no answer
        data = {"a": sign * EXAMPLES[word](np.abs(np.random.default_rng(2).normal(size=(3, 3))))}
        due, answer = evaluate(graph, data)["y"], evaluate(chosen, data)["y"]
        assert np.isfinite(answer).all() == np.isfinite(due).all()
        if np.isfinite(due).all():
            np.testing.assert_allclose(answer, due, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_cofactors_are_accurate_for_rows_of_different_sizes(scale: float) -> None:
    a = regular(4) * np.array([[scale], [1.0], [1.0], [1.0]])
    graph = graph_of("cofactor", (4, 4))
    due = evaluate_mpmath(graph, {"a0": a})["y"].astype(float)
    for answer in (evaluate(graph, {"a0": a})["y"], direct.run(graph, {"a0": tf.constant(a)})["y"].numpy()):
        rows = np.abs(answer - due).max(-1) / np.abs(due).max(-1)
        assert rows.max() < 1e-13


def test_xla_is_refused_where_it_has_no_kernel_and_gets_no_lu_factors() -> None:
    with pytest.raises(JitError, match="logdet: XLA has no kernel"):
        sym2tf.compile(LOGDET, jit=True)
    f = sym2tf.compile(A.I * B * A.I.T * v, jit=True)
    assert f.graph.counts()["solve"] == 2
    assert "logdet" not in sym2tf.compile(LOGDET, jit=True, assume=Q.positive_definite(A)).graph.counts()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_lu_factors_make_up_the_matrix_with_its_rows_in_order(n: int) -> None:
    a = np.random.default_rng(n).normal(size=(2, n, n))
    for run in (evaluate, evaluate_mpmath):
        factors = np.asarray(run(graph_of("lu_factor", (n, n)), {"a0": a})["y"], float)
        rows = np.asarray(run(graph_of("lu_rows", (n, n)), {"a0": a})["y"], int)
        low, up = np.tril(factors, -1) + np.eye(n), np.triu(factors)
        close(low @ up, np.take_along_axis(a, rows[..., None], -2), 1e-13)


@pytest.mark.parametrize("more", [None, "symmetric", "lower_triangular", "positive_definite"])
@pytest.mark.parametrize("word", WORDS)
def test_sampled_matrices_are_as_assumed(word: str, more: str | None) -> None:
    known = frozenset({word, more} - {None})
    rng = np.random.default_rng(0)
    due = NOTHING
    for said in known:
        due |= WORDS[said]
    for a in as_assumed(rng.normal(size=(20, 4, 4)), known, rng):
        assert all(holds(a) for fact, holds in TESTS.items() if closed(due) & fact)
        assert not closed(due) & SYMMETRIC or (a == a.T).all()


@pytest.mark.parametrize("axis", [-1, -2])
def test_sampled_parts_of_one_add_up_exactly(axis: int) -> None:
    rng = np.random.default_rng(0)
    parts = as_assumed(rng.normal(size=(5, 3, 4)), frozenset({f"simplex:{axis}"}), rng)
    assert (parts >= 0).all()
    assert (parts.sum(axis) == 1).all()
    chosen = as_assumed(rng.normal(size=(5, 3, 4)), frozenset({f"one_hot:{axis}"}), rng)
    assert (np.sort(chosen, axis).take(-1, axis) == 1).all()
    assert (chosen.sum(axis) == 1).all()


def test_functions_with_assumptions_can_be_pickled() -> None:
    f = pickle.loads(pickle.dumps(sym2tf.compile(A.I * v, assume=Q.positive_definite(A))))
    assert "cholesky" in f.graph.counts()
    assert f.lowered[f.lowered.inputs[0]].attributes["known"] == {"positive_definite"}


def test_check_samples_what_is_assumed() -> None:
    """With other data Cholesky fails where the plain formula has an answer."""
    assert sym2tf.compile(SYSTEM, assume=Q.positive_definite(A)).check(samples=3).ok


@pytest.mark.parametrize("word", ["orthogonal", "diagonal", "positive_definite", "lower_triangular", "symmetric"])
@pytest.mark.parametrize(("front", "behind"), [((1,), (2,)), ((2,), (1,)), ((2,), (2,))], ids=str)
def test_chosen_systems_broadcast_axes_in_front(word: str, front: Any, behind: Any) -> None:
    builder = Builder()
    a = new_input(builder, "a", (*front, 3, 3), known=frozenset({word}))
    b = new_input(builder, "b", (*behind, 3, 2))
    graph = builder.build([a.id, b.id], {"y": OPS["solve"](a, b, adjoint=True).id})
    chosen, fired = choose_algorithms(graph)
    assert bool(fired) == (word != "symmetric")
    rng = np.random.default_rng(0)
    data = {
        "a": np.stack([EXAMPLES[word](rng.normal(size=(3, 3))) for _ in range(front[0])]),
        "b": rng.normal(size=(*behind, 3, 2)),
    }
    due = evaluate(graph, data)["y"]
    close(evaluate(chosen.validate(), data)["y"], due, 1e-10)
    close(direct.run(chosen, {k: tf.constant(d) for k, d in data.items()})["y"], due, 1e-10)


def test_one_cholesky_factor_serves_value_and_gradient() -> None:
    graph = stabilize(lower(SYSTEM + LOGDET, assume=Q.positive_definite(A)))
    both = gradient(graph, list(graph.inputs), values=True)
    counts = optimize(both)[0].counts()
    assert counts["cholesky"] == 1
    assert not {"solve", "inverse", "logdet"} & set(counts)


def test_one_lu_factor_serves_a_system_and_its_gradient() -> None:
    graph = stabilize(lower(SYSTEM**2))
    optimized, report = optimize(gradient(graph, list(graph.inputs), values=True))
    counts = optimized.counts()
    assert counts["lu_factor"] == 1
    assert "solve" not in counts
    assert "one LU factor for several systems" in str(report)


def test_small_matrices_are_factored_anew() -> None:
    a, b = sp.MatrixSymbol("a", 3, 3), sp.MatrixSymbol("b", 3, 1)
    counts = optimize(lower(a.I * a.I.T * b))[0].counts()
    assert counts["solve"] == 2


def test_the_gradient_of_a_log_determinant_is_the_transposed_inverse() -> None:
    graph = stabilize(lower(LOGDET))
    optimized, _ = optimize(gradient(graph, list(graph.inputs)))
    assert {"inverse", "transpose", "input"} == set(optimized.counts())
    (answer,) = evaluate(optimized, {"A": regular(4)}).values()
    close(answer, np.linalg.inv(regular(4)).T, 1e-12)


def test_cofactors_of_an_invertible_matrix_need_no_singular_values() -> None:
    graph = stabilize(lower(sp.Determinant(A) ** 3, assume=Q.invertible(A)))
    optimized, _ = optimize(gradient(graph, list(graph.inputs)))
    assert "cofactor" not in optimized.counts()
    (answer,) = evaluate(optimized, {"A": regular(3)}).values()
    d = np.linalg.det(regular(3))
    close(answer / d**3, 3 * np.linalg.inv(regular(3)).T, 1e-10)


def test_nothing_is_chosen_at_level_exact() -> None:
    graph = lower(A.I, assume=Q.positive_definite(A))
    optimized, report = optimize(graph, level="exact")
    assert "inverse" in optimized.counts()
    assert not report.fired


def test_eigenvalues_are_computed_alone_only_where_nobody_needs_the_vectors() -> None:
    alone = optimize(lower_sum_of_eigenvalues())[0]
    assert [alone[u].attributes for u in alone.order if alone[u].op.name == "eigh_values"] == [{"alone": True}]
    builder = Builder()
    a = new_input(builder, "a", (3, 3))
    values, vectors = OPS["eigh_values"](a), OPS["eigh_vectors"](a)
    both = optimize(builder.build([a.id], {"x": values.id, "y": vectors.id}))[0]
    assert [both[u].attributes for u in both.order if both[u].op.name == "eigh_values"] == [{}]


def test_every_word_about_matrices_is_known_to_the_passes() -> None:
    assert set(WORDS) == set(sym2tf.frontend.assumptions.PREDICATES.values()) == set(EXAMPLES)
