"""The gradients of losses of machine learning and statistics, raised to SymPy: right, and short enough to read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction
from sympy.matrices.expressions.matexpr import MatrixElement

import sym2tf
from sym2tf.backends.mpmath import evaluate as evaluate_mpmath
from sym2tf.backends.numpy import evaluate
from sym2tf.backends.sympy import raise_to_sympy
from sym2tf.frontend.lower import lower

n, k, m, p = sp.symbols("n k m p", integer=True, positive=True)
i, j = sp.symbols("i j", integer=True)
s, lam, nu = sp.symbols("s lam nu", positive=True)
t = sp.Symbol("t", real=True)
SIZES = {n: 4, k: 2, m: 3, p: 2}

X = sp.MatrixSymbol("X", n, k)
w, v = sp.MatrixSymbol("w", k, 1), sp.MatrixSymbol("v", k, 1)
y, x, mu = (sp.MatrixSymbol(name, n, 1) for name in ("y", "x", "mu"))
A, B, K, S, L = (sp.MatrixSymbol(name, n, n) for name in "ABKSL")
U, V, M = sp.MatrixSymbol("U", n, k), sp.MatrixSymbol("V", m, k), sp.MatrixSymbol("M", n, m)
W, T = sp.MatrixSymbol("W", k, m), sp.MatrixSymbol("T", n, m)
W1, W2 = sp.MatrixSymbol("W1", m, k), sp.MatrixSymbol("W2", 1, m)
ones = sp.OneMatrix(n, 1)


def element(matrix: Any) -> Any:
    return MatrixElement(matrix, 0, 0)


def applied(function: Any, matrix: Any) -> Any:
    return matrix.applyfunc(sp.Lambda(t, function(t)))


def total(column: Any) -> Any:
    return element(ones.T * column)


def norm2(matrix: Any) -> Any:
    return sp.Trace(matrix.T * matrix)


def softplus(z: Any) -> Any:
    return sp.log(1 + sp.exp(z))


def sigmoid(z: Any) -> Any:
    return 1 / (1 + sp.exp(-z))


@dataclass(frozen=True)
class Loss:
    """A loss, what to differentiate by, and the largest allowed number of operations in the gradient."""

    name: str
    value: Any
    wrt: Any
    operations: int
    positive: tuple[Any, ...] = ()  # matrices that have to be positive definite

    def __str__(self) -> str:
        return self.name


residual = X * w - y
logits = X * W
row_sums = applied(sp.exp, logits) * sp.OneMatrix(m, 1)
LOSSES = [
    Loss("least squares", residual.T * residual, w, 6),
    Loss("mean squared error", element(residual.T * residual) / n, w, 8),
    Loss("least squares by the data", residual.T * residual, X, 6),
    Loss("least squares by the target", residual.T * residual, y, 5),
    Loss("weighted least squares", residual.T * sp.DiagMatrix(x) * residual, w, 9),
    Loss("generalised least squares", residual.T * S * residual, w, 9),
    Loss("ridge", residual.T * residual + lam * w.T * w, w, 10),
    Loss("ridge by its weight", element(residual.T * residual + lam * w.T * w), lam, 4),
    Loss("logistic", total(applied(softplus, X * w)) - element(y.T * X * w), w, 8),
    Loss(
        "cross-entropy written out",
        -element(y.T * applied(lambda z: sp.log(sigmoid(z)), X * w))
        - element((ones - y).T * applied(lambda z: sp.log(1 - sigmoid(z)), X * w)),
        w,
        8,
    ),
    Loss("logistic with labels of both signs", total(applied(softplus, -sp.HadamardProduct(y, X * w))), w, 11),
    Loss("probit", -total(applied(lambda z: sp.log((1 + sp.erf(z)) / 2), X * w)), w, 15),
    Loss("Poisson regression", total(applied(sp.exp, X * w)) - element(y.T * X * w), w, 6),
    Loss(
        "Huber",
        total(applied(lambda z: sp.Piecewise((z**2 / 2, abs(z) < s), (s * abs(z) - s**2 / 2, True)), residual)),
        w,
        16,
    ),
    Loss("hinge", total(applied(lambda z: sp.Max(0, 1 - z), sp.HadamardProduct(y, X * w))), w, 14),
    Loss("squared hinge", total(applied(lambda z: sp.Max(0, 1 - z) ** 2, sp.HadamardProduct(y, X * w))), w, 14),
    Loss("log-cosh", total(applied(lambda z: sp.log(sp.cosh(z)), residual)), w, 8),
    Loss("Student t regression", total(applied(lambda z: sp.log(1 + z**2 / nu), residual)) * (nu + 1) / 2, w, 16),
    Loss("softmax regression", total(applied(sp.log, row_sums)) - sp.Trace(T.T * logits), W, 13),
    Loss("matrix factorisation, left", norm2(U * V.T - M), U, 7),
    Loss("matrix factorisation, right", norm2(U * V.T - M), V, 8),
    Loss("masked factorisation", norm2(sp.HadamardProduct(T, U * V.T - M)), U, 11),
    Loss("PCA reconstruction", norm2(X - X * w * w.T), w, 24),
    Loss("Rayleigh quotient", element(x.T * A * x) / element(x.T * x), x, 18),
    Loss("quadratic form", x.T * A * x, x, 4),
    Loss("quadratic form by its matrix", x.T * A * x, A, 3),
    Loss("bilinear form", element(x.T * A * y), A, 3),
    Loss("Mahalanobis distance", (x - mu).T * A**-1 * (x - mu), mu, 11, (A,)),
    Loss("Mahalanobis distance by the covariance", (x - mu).T * A**-1 * (x - mu), A, 14, (A,)),
    Loss("log-determinant", sp.log(sp.Determinant(A)), A, 3, (A,)),
    Loss("determinant", sp.Determinant(A), A, 5, (A,)),
    Loss("D-optimal design", sp.log(sp.Determinant(X.T * X)), X, 10),
    Loss("Gaussian process", element(y.T * K**-1 * y) / 2 + sp.log(sp.Determinant(K)) / 2, K, 16, (K,)),
    Loss("Gaussian process by the targets", element(y.T * K**-1 * y) / 2, y, 9, (K,)),
    Loss(
        "KL of Gaussians by a covariance",
        (sp.Trace(B**-1 * A) + element((x - mu).T * B**-1 * (x - mu)) - sp.log(sp.Determinant(A))) / 2,
        A,
        10,
        (A, B),
    ),
    Loss(
        "KL of Gaussians by a mean",
        (sp.Trace(B**-1 * A) + element((x - mu).T * B**-1 * (x - mu)) - sp.log(sp.Determinant(A))) / 2,
        mu,
        12,
        (A, B),
    ),
    Loss("graphical lasso, smooth part", sp.Trace(S * K) - sp.log(sp.Determinant(K)), K, 6, (K,)),
    Loss("trace of a product", sp.Trace(A * B), A, 1),
    Loss("trace of three factors", sp.Trace(A.T * B * A), A, 5),
    Loss("trace of an inverse", sp.Trace(A**-1 * B), A, 10, (A,)),
    Loss("trace of a power", sp.Trace(A**3), A, 5),
    Loss("Frobenius norm", sp.sqrt(norm2(A - B)), A, 9),
    Loss("Sylvester residual", norm2(A * L - L * B), L, 16),
    Loss("orthogonality", norm2(X.T * X - sp.Identity(k)), X, 9),
    Loss("two-layer network", element((W2 * applied(sp.tanh, W1 * w) - sp.OneMatrix(1, 1)) ** 2), W1, 26),
    Loss("softmax of scores", sp.log(total(applied(sp.exp, A * x))), x, 12),
    Loss("Gaussian kernel", sp.exp(-element((x - y).T * (x - y)) / s), x, 14),
    Loss("entropy", total(applied(lambda z: z * sp.log(z), applied(sp.exp, x))), x, 10),
    Loss("ratio of quadratic forms", sp.log(element(x.T * A * x)), x, 10, (A,)),
]


@cache
def compiled(loss: Loss) -> Any:
    return sym2tf.compile(loss.value)


@cache
def gradient_of(loss: Loss) -> Any:
    return compiled(loss).gradient_expr(loss.wrt)


def point(loss: Loss, seed: int = 0) -> dict[str, Any]:
    """A value for each input of a loss."""
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    graph = compiled(loss).lowered
    for node in (graph[u] for u in graph.inputs):
        symbol = node.attributes["symbol"]
        shape = tuple(int(d.subs(SIZES)) for d in symbol.shape) if getattr(symbol, "is_Matrix", False) else ()
        value = rng.uniform(0.3, 1.5, shape) if symbol in (s, lam, nu) else rng.normal(size=shape)
        values[node.attributes["name"]] = value @ value.T + np.eye(shape[0]) if symbol in loss.positive else value
    return values


def by_differences(loss: Loss, at: dict[str, Any]) -> Any:
    """The gradient by central differences in 40 digits."""
    graph, name = compiled(loss).lowered, str(loss.wrt)
    found = np.zeros(np.shape(at[name]))
    step = mpmath.mpf(10) ** -12
    for place in np.ndindex(*found.shape):
        sides = []
        with mpmath.workdps(40):
            for sign in (1, -1):
                moved = np.array(at[name], dtype=object)
                moved[place] = mpmath.mpf(float(moved[place])) + sign * step
                (value,) = evaluate_mpmath(graph, at | {name: moved}, digits=40).values()
                sides.append(value.reshape(())[()])
            found[place] = float((sides[0] - sides[1]) / (2 * step))
    return found


def by_sympy(expression: Any, at: dict[str, Any]) -> Any:
    """A matrix expression with explicit matrices put in, computed by SymPy alone."""
    expression = expression.subs(SIZES)
    symbols = expression.atoms(sp.MatrixSymbol) | {a for a in expression.free_symbols if isinstance(a, sp.Symbol)}
    given = {a: sp.Matrix(at[a.name]) if a.is_Matrix else float(at[a.name]) for a in symbols if a.name in at}
    explicit = expression.subs({a: value for a, value in given.items() if not a.is_Matrix})
    explicit = explicit.xreplace({a: sp.ImmutableMatrix(value) for a, value in given.items() if a.is_Matrix}).doit()
    explicit = explicit.as_explicit() if explicit.is_Matrix else sp.Matrix([[explicit]])
    return np.array(explicit.evalf(20).tolist(), dtype=float)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gradients_are_right_and_short(loss: Loss) -> None:
    expression = gradient_of(loss)
    at = point(loss)
    due = by_differences(loss, at)
    graph = lower(expression)
    used = {graph[u].attributes["name"] for u in graph.inputs}
    sizes = {size.name: number for size, number in SIZES.items() if size.name in graph.size_names()}
    (answer,) = evaluate(graph, {name: value for name, value in at.items() if name in used}, sizes).values()
    assert answer.shape == due.shape
    np.testing.assert_allclose(answer, due, rtol=1e-9, atol=1e-9)
    assert sp.count_ops(expression) <= loss.operations, expression


@pytest.mark.parametrize("loss", [x for x in LOSSES if not x.positive], ids=str)
def test_sympy_alone_computes_the_same_from_the_expression(loss: Loss) -> None:
    at = point(loss, seed=1)
    due = by_differences(loss, at)
    np.testing.assert_allclose(by_sympy(gradient_of(loss), at), due.reshape(due.shape or (1, 1)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_losses_and_gradients_come_back_from_their_graphs_before_and_after_optimisation(loss: Loss) -> None:
    f = compiled(loss)
    at = point(loss, seed=2)
    for graph in (f.lowered, f.graph, f.gradient(loss.wrt).graph):
        (due,) = evaluate(graph, at).values()
        (expression,) = raise_to_sympy(graph).values()
        again = lower(expression)
        used = {again[u].attributes["name"] for u in again.inputs}
        sizes = {size.name: number for size, number in SIZES.items() if size.name in again.size_names()}
        (answer,) = evaluate(again, {name: value for name, value in at.items() if name in used}, sizes).values()
        np.testing.assert_allclose(answer.reshape(due.shape), due, rtol=1e-10, atol=1e-12)


def test_the_gradients_of_the_textbooks_read_as_there() -> None:
    assert sym2tf.compile(residual.T * residual).gradient_expr(w) == 2 * X.T * residual
    assert sym2tf.compile(sp.log(sp.Determinant(A))).gradient_expr(A) == A.T**-1
    assert sym2tf.compile(x.T * A * x).gradient_expr(x) == (A + A.T) * x
    assert sym2tf.compile(sp.Trace(A * B)).gradient_expr(A) == B.T
    logistic = sym2tf.compile(total(applied(softplus, X * w)) - element(y.T * X * w)).gradient_expr(w)
    (function,) = logistic.atoms(ElementwiseApplyFunction)
    assert logistic == X.T * (function - y)
    assert function.expr == X * w
    assert sp.simplify(sp.expand_func(function.function(t)) - sigmoid(t)) == 0


a, b, c, q = (sp.IndexedBase(name) for name in "abcq")
INDEXED = [
    Loss("line", sp.Sum((a[i] - s * b[i]) ** 2, (i, 0, n - 1)) / n, s, 9),
    Loss("line by its data", sp.Sum((a[i] - s * b[i]) ** 2, (i, 0, n - 1)) / n, b, 9),
    Loss("regression", sp.Sum((a[i] - sp.Sum(q[i, j] * b[j], (j, 0, k - 1))) ** 2, (i, 0, n - 1)), b, 9),
    Loss("logistic by indices", sp.Sum(softplus(b[i]) - a[i] * b[i], (i, 0, n - 1)), b, 6),
    Loss("differences", sp.Sum((a[i + 1] - a[i]) ** 2, (i, 0, n - 2)), a, 60),
    Loss("log-sum-exp", sp.log(sp.Sum(sp.exp(a[i]), (i, 0, n - 1))), a, 5),
    Loss("product", sp.Product(a[i], (i, 0, n - 1)), a, 8),
    Loss(
        "Huber by indices",
        sp.Sum(
            sp.Piecewise(((a[i] - s) ** 2 / 2, abs(a[i] - s) < 1), (abs(a[i] - s) - sp.Rational(1, 2), True)),
            (i, 0, n - 1),
        ),
        s,
        24,
    ),
    Loss("running sums", sp.Sum(sp.Sum(a[j], (j, 0, i)) ** 2, (i, 0, n - 1)), a, 12),
]


def worked_out(expression: Any) -> Any:
    """Sums with numbers as bounds written out, the outermost first: SymPy gives up where an inner bound is an index."""
    while expression.has(sp.Sum):
        sums = {}
        for found in expression.atoms(sp.Sum):
            *inner, (index, first, last) = found.limits
            if first.is_Integer and last.is_Integer:
                body = sp.Sum(found.function, *inner) if inner else found.function
                sums[found] = sp.Add(*(body.subs(index, at) for at in range(int(first), int(last) + 1)))
        expression = expression.xreplace(sums)
    return expression.doit()


@pytest.mark.parametrize("loss", INDEXED, ids=str)
def test_gradients_in_index_form_are_right_and_short(loss: Loss) -> None:
    expression = gradient_of(loss)
    rng = np.random.default_rng(3)
    graph = compiled(loss).lowered
    at = {}
    for node in (graph[u] for u in graph.inputs):
        shape = {0: (), 1: (4,), 2: (4, 4)}[node.type.rank]
        at[node.attributes["name"]] = rng.uniform(0.5, 2, shape)
    due = by_differences(loss, at)
    elements = {}
    for name, value in at.items():
        base = sp.Symbol(name, positive=True) if not np.ndim(value) else sp.IndexedBase(name)
        places = np.ndindex(*np.shape(value))
        elements |= {base[tuple(map(sp.Integer, place))] if place else base: value[place] for place in places}
    free = sorted({f for f in expression.free_symbols if f in (i, sp.Symbol("i", integer=True))}, key=str)
    for place in np.ndindex(*due.shape):
        sizes = dict.fromkeys((n, k), 4)
        here = worked_out(expression.subs(sizes).subs(dict(zip(free, place, strict=False)))).subs(elements)
        assert abs(float(here) - due[place]) < 1e-9 * (1 + abs(due[place]))
    assert sp.count_ops(expression) <= loss.operations, expression


def test_several_variables_give_a_tuple_and_structures_stay() -> None:
    f = sym2tf.compile({"loss": residual.T * residual})
    by_w, by_y = f.gradient_expr(w, y)["loss"]
    assert by_w == 2 * X.T * residual
    assert by_y.shape == (n, 1)
    assert f.gradient_expr("w") == f.gradient_expr(wrt=w) == {"loss": by_w}


def test_the_page_on_derivatives_runs() -> None:
    page = (Path(__file__).parent.parent / "docs" / "derivatives.md").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "derivatives.md", "exec"), namespace)


def test_what_cannot_be_differentiated_or_read_is_a_typed_error() -> None:
    with pytest.raises(sym2tf.errors.DifferentiationError, match="scalar"):
        sym2tf.compile(X * w).gradient_expr(w)
    with pytest.raises(sym2tf.errors.ArgumentError, match="no input"):
        sym2tf.compile(residual.T * residual).gradient_expr("q")
