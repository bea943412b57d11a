"""Random scalar functions that mix matrices, index notation, arrays and branches; each as SymPy and as NumPy."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp
from sympy.tensor.array.expressions import ArrayContraction, ArrayTensorProduct

from sym2tf.notation import MaxOver, MinOver

Data = dict[str, Any]
Pair = tuple[Any, Callable[[Data], Any]]  # an expression, and its value from data

n, m = sp.symbols("n m", integer=True, positive=True)
i, j, k = sp.symbols("i j k", integer=True)
A, B, V = sp.MatrixSymbol("A", n, n), sp.MatrixSymbol("B", n, m), sp.MatrixSymbol("V", n, 1)
x, y = sp.IndexedBase("x", shape=(n,)), sp.IndexedBase("y", shape=(n,))
W = sp.IndexedBase("W", shape=(n, m))
c, t = sp.symbols("c t", real=True)
SIZES = {"n": 3, "m": 2}
I, J, K = (i, 0, n - 1), (j, 0, m - 1), (k, 0, n - 1)  # noqa: E741


def draw(seed: int, sizes: dict[str, int] = SIZES) -> Data:
    """Values of all inputs."""
    rng = np.random.default_rng(seed)
    a, b = sizes["n"], sizes["m"]
    shapes = {"A": (a, a), "B": (a, b), "V": (a, 1), "x": (a,), "y": (a,), "W": (a, b), "c": (), "t": ()}
    return {name: np.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


class Mixture:
    """Makes one random function."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def scalar(self, depth: int) -> Pair:
        """A number."""
        if depth <= 0:
            return self.random.choice(
                [(c, lambda d: d["c"]), (t, lambda d: d["t"]), (sp.Rational(2, 3), lambda d: 2 / 3)]
            )
        return getattr(self, "_" + self.random.choice(_SCALARS))(depth - 1)

    def square(self, depth: int) -> Pair:
        """A matrix of n by n."""
        if depth <= 0:
            outer = (B * B.T, lambda d: d["B"] @ d["B"].T)
            return self.random.choice([(A, lambda d: d["A"]), (A.T, lambda d: d["A"].T), outer])
        return getattr(self, "_" + self.random.choice(_SQUARES))(depth - 1)

    def element(self, depth: int) -> Pair:
        """A function of i: an expression with i free, and the vector of its values."""
        if depth <= 0:
            leaves: list[Pair] = [
                (x[i], lambda d: d["x"]),
                (y[i], lambda d: d["y"]),
                (V[i, 0], lambda d: d["V"][:, 0]),
                (A[i, i], lambda d: np.diagonal(d["A"])),
                (x[n - 1 - i], lambda d: d["x"][::-1]),
                (sp.Sum(W[i, j] ** 2, J), lambda d: (d["W"] ** 2).sum(1)),
                (sp.Sum(A[i, k] * x[k], K), lambda d: d["A"] @ d["x"]),
                (sp.Sum(A[i, k] * y[k], (k, 0, i)), lambda d: np.tril(d["A"]) @ d["y"]),
                (sp.Sum(B[i, j] * W[k, j], J, K), lambda d: d["B"] @ d["W"].sum(0)),
            ]
            return self.random.choice(leaves)
        return getattr(self, "_" + self.random.choice(_ELEMENTS))(depth - 1)

    # Numbers

    def _trace(self, depth: int) -> Pair:
        a, f = self.square(depth)
        return sp.Trace(a), lambda d: np.trace(f(d))

    def _quadratic(self, depth: int) -> Pair:
        a, f = self.square(depth)
        return (V.T * a * V)[0, 0] if self.random.random() < 0.5 else sp.Trace(V.T * a * V), lambda d: (
            d["V"].T @ f(d) @ d["V"]
        )[0, 0]

    def _total(self, depth: int) -> Pair:
        a, f = self.square(depth)
        e, g = self.element(depth)
        return sp.Sum(a[i, k] * e * x[k], I, K), lambda d: g(d) @ f(d) @ d["x"]

    def _logdet(self, depth: int) -> Pair:
        a, f = self.square(depth)
        return (
            sp.log(sp.Determinant(sp.Identity(n) + a.T * a)),
            lambda d: np.linalg.slogdet(np.eye(len(d["x"])) + f(d).T @ f(d))[1],
        )

    def _sum(self, depth: int) -> Pair:
        e, g = self.element(depth)
        return sp.Sum(e, I), lambda d: g(d).sum()

    def _mean_square(self, depth: int) -> Pair:
        e, g = self.element(depth)
        return sp.Sum((y[i] - e) ** 2, I) / n, lambda d: ((d["y"] - g(d)) ** 2).mean() if len(d["y"]) else np.nan

    def _logsumexp(self, depth: int) -> Pair:
        e, g = self.element(depth)
        return sp.log(sp.Sum(sp.exp(e), I)), lambda d: np.log(np.exp(g(d)).sum())

    def _extreme(self, depth: int) -> Pair:
        e, g = self.element(depth)
        kind, function = self.random.choice([(MaxOver, np.max), (MinOver, np.min)])
        return kind(e, I), lambda d: function(g(d))

    def _product(self, depth: int) -> Pair:
        e, g = self.element(depth)
        return sp.Product(1 + sp.tanh(e) / 3, I), lambda d: np.prod(1 + np.tanh(g(d)) / 3)

    def _function(self, depth: int) -> Pair:
        s, f = self.scalar(depth)
        u, h = self.scalar(depth)
        return sp.tanh(s) * u, lambda d: np.tanh(f(d)) * h(d)

    def _branch(self, depth: int) -> Pair:
        s, f = self.scalar(depth)
        u, h = self.scalar(depth)
        return sp.Piecewise((s, c > 0), (u, True)), lambda d: np.where(d["c"] > 0, f(d), h(d))[()]

    def _array(self, depth: int) -> Pair:
        a, f = self.square(depth)
        return (
            ArrayContraction(ArrayTensorProduct(a, A), (0, 2), (1, 3)),
            lambda d: np.einsum("ij,ij->", f(d), d["A"]),
        )

    # Matrices

    def _multiply(self, depth: int) -> Pair:
        (a, f), (b, g) = self.square(depth), self.square(depth)
        return a * b, lambda d: f(d) @ g(d)

    def _add(self, depth: int) -> Pair:
        (a, f), (b, g) = self.square(depth), self.square(depth)
        return a + 2 * b.T, lambda d: f(d) + 2 * g(d).T

    def _scale(self, depth: int) -> Pair:
        (a, f), (s, g) = self.square(depth), self.scalar(depth)
        return s * a, lambda d: g(d) * f(d)

    def _tanh(self, depth: int) -> Pair:
        a, f = self.square(depth)
        return a.applyfunc(sp.tanh), lambda d: np.tanh(f(d))

    def _hadamard(self, depth: int) -> Pair:
        (a, f), (b, g) = self.square(depth), self.square(depth)
        return sp.HadamardProduct(a, b), lambda d: f(d) * g(d)

    def _inverse(self, depth: int) -> Pair:
        a, f = self.square(depth)
        return (
            (4 * sp.Identity(n) + a.applyfunc(sp.sin)).I,
            lambda d: np.linalg.inv(4 * np.eye(len(d["x"])) + np.sin(f(d))),
        )

    def _diagonal(self, depth: int) -> Pair:
        a, f = self.square(depth)
        return sp.DiagMatrix(a * V), lambda d: np.diag((f(d) @ d["V"])[:, 0])

    def _from_elements(self, depth: int) -> Pair:
        e, g = self.element(depth)
        p = sp.Symbol("p", integer=True)
        row = sp.Lambda((i, p), e + x[p])
        return sp.FunctionMatrix(n, n, row), lambda d: g(d)[:, None] + d["x"]

    # Elements

    def _times(self, depth: int) -> Pair:
        (e, f), (u, g) = self.element(depth), self.element(depth)
        return e * u, lambda d: f(d) * g(d)

    def _plus(self, depth: int) -> Pair:
        (e, f), (s, g) = self.element(depth), self.scalar(depth)
        return e + s, lambda d: f(d) + g(d)

    def _sine(self, depth: int) -> Pair:
        e, f = self.element(depth)
        return sp.sin(e), lambda d: np.sin(f(d))

    def _ramp(self, depth: int) -> Pair:
        e, f = self.element(depth)
        return sp.Max(e, 0), lambda d: np.maximum(f(d), 0)

    def _cases(self, depth: int) -> Pair:
        (e, f), (u, g) = self.element(depth), self.element(depth)
        return sp.Piecewise((sp.log(y[i]) * e, y[i] > 0), (u, True)), lambda d: np.where(
            d["y"] > 0, np.log(np.where(d["y"] > 0, d["y"], 1)) * f(d), g(d)
        )

    def _row(self, depth: int) -> Pair:
        a, f = self.square(depth)
        return a[i, 0], lambda d: f(d)[:, 0]


_SCALARS = (
    "trace", "quadratic", "total", "logdet", "sum", "mean_square", "logsumexp", "extreme", "product", "function",
    "branch", "array",
)  # fmt: skip
_SQUARES = ("multiply", "add", "scale", "tanh", "hadamard", "inverse", "diagonal", "from_elements")
_ELEMENTS = ("times", "plus", "sine", "ramp", "cases", "row")


def mixture(seed: int) -> Pair:
    """A random scalar function."""
    made = Mixture(seed)
    return made.scalar(made.random.choice([2, 3, 3, 4]))
