"""Identities of matrix calculus from the literature: SymPy expression, NumPy value, and the derivative in print.

Nothing here is computed by sym2tf: `value` and `derivative` are NumPy functions of the inputs by name, written down
from the sources, unbatched. A scalar (or 1 x 1) function has the gradient in the shape of its variable; other functions
have the Jacobian, axes of the function first. Assumed structure (symmetric, triangular, ...) says what is drawn; it
does not change a derivative, which is that of a matrix of independent elements.

Sources: Cookbook = Petersen and Pedersen, The Matrix Cookbook (2012), by equation; M&N = Magnus and Neudecker, Matrix
Differential Calculus (3rd edition, 2007), by chapter; Dwyer = Some applications of matrix derivatives in multivariate
analysis (JASA 62, 1967); Minka = Old and New Matrix Algebra Useful for Statistics (2000); Giles = An extended
collection of matrix derivative results (2008); Wikipedia = Matrix calculus; site = the documented inputs of
matrixcalculus.org; the names of other entries say what every textbook has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
import sympy as sp
from sympy import (
    Determinant,
    HadamardPower,
    HadamardProduct,
    Identity,
    KroneckerProduct,
    MatrixSymbol,
    OneMatrix,
    Trace,
)
from sympy.codegen.matrix_nodes import MatrixSolve
from sympy.matrices.expressions.factorizations import EigenValues, LofCholesky, RofQR, SofSVD
from sympy.matrices.expressions.matexpr import MatrixElement

inv, det, tr, eye, exp, log = np.linalg.inv, np.linalg.det, np.trace, np.eye, np.exp, np.log

n, m, k = sp.symbols("n m k", integer=True, positive=True)  # m > n, so that X (m x n) has full column rank
i, j, q = sp.symbols("i j q", integer=True)
s, t = sp.symbols("s t", positive=True)
e = sp.Symbol("e")


@dataclass(frozen=True, eq=False)
class Case:
    """One identity.

    Attributes:
        name: what it is and where it comes from.
        expr: the function.
        wrt: the variable.
        value: the function again, in NumPy.
        derivative: gradient or Jacobian, as printed.
        draw: how inputs are drawn, by name; `"general"` where nothing is said.
        hessian: whether second derivatives exist and are to be checked.
    """

    name: str
    expr: Any
    wrt: Any
    value: Callable[..., Any]
    derivative: Callable[..., Any]
    draw: dict[str, str] = field(default_factory=dict)
    hessian: bool = True


def square(names: str) -> list[Any]:
    return [MatrixSymbol(name, n, n) for name in names.split()]


def column(names: str, rows: Any = n) -> list[Any]:
    return [MatrixSymbol(name, rows, 1) for name in names.split()]


def total(matrix: Any) -> Any:
    """The sum of all elements, 1 x 1."""
    return OneMatrix(1, matrix.rows) * matrix * OneMatrix(matrix.cols, 1)


def sq(x: Any) -> Any:
    """The sum of the squares of all elements, in NumPy."""
    return np.sum(x * x)


def cell(x: Any) -> Any:
    """As a 1 x 1 matrix, in NumPy."""
    return np.reshape(x, (1, 1))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def softmax(x: Any) -> Any:
    return exp(x) / exp(x).sum(-1, keepdims=True)


def mp(x: Any, power: int) -> Any:
    return np.linalg.matrix_power(x, power)


def pinv_of(x: Any) -> Any:
    return inv(x.T @ x) @ x.T


a, b, c, d, x, y, z, u, v, w, mu = column("a b c d x y z u v w mu")
A, B, C, D, X, Y, Z, P, Q, S, W, R, K = square("A B C D X Y Z P Q S W R K")
Xm = MatrixSymbol("X", m, n)
Ym = MatrixSymbol("Y", m, n)
Am, Bm, Cm, Um = (MatrixSymbol(name, m, m) for name in "ABCU")
Amn, Bmn = MatrixSymbol("A", m, n), MatrixSymbol("B", m, n)
ym, gm, hm = column("y g h", m)
In, Im = Identity(n), Identity(m)
one_m = OneMatrix(m, 1)
PD = "positive definite"
INV = "invertible"
SYM = "symmetric"

LINEAR = (
    Case("Cookbook 69: x'a", x.T * a, x, lambda x, a: x.T @ a, lambda x, a: a),
    Case("Cookbook 69: a'x", a.T * x, x, lambda x, a: a.T @ x, lambda x, a: a),
    Case("Cookbook 70: a'Xb", a.T * X * b, X, lambda X, a, b: a.T @ X @ b, lambda X, a, b: a @ b.T),
    Case("Cookbook 71: a'X'b", a.T * X.T * b, X, lambda X, a, b: a.T @ X.T @ b, lambda X, a, b: b @ a.T),
    Case("Cookbook 72: a'Xa", a.T * X * a, X, lambda X, a: a.T @ X @ a, lambda X, a: a @ a.T),
    Case("Cookbook 72: a'X'a", a.T * X.T * a, X, lambda X, a: a.T @ X.T @ a, lambda X, a: a @ a.T),
    Case("Cookbook 73: X", X, X, lambda X: X, lambda X: np.einsum("ik,jl->ijkl", eye(len(X)), eye(len(X)))),
    Case(
        "Cookbook 74: XA", X * A, X, lambda X, A: X @ A,
        lambda X, A: np.einsum("im,nj->ijmn", eye(len(X)), A),
    ),
    Case(
        "Cookbook 75: X'A", X.T * A, X, lambda X, A: X.T @ A,
        lambda X, A: np.einsum("in,mj->ijmn", eye(len(X)), A),
    ),
    Case(
        "Cookbook 76: the sum of all products of two elements",
        sp.Sum(X[i, j], (i, 0, n - 1), (j, 0, n - 1)) ** 2, X,
        lambda X: X.sum() ** 2, lambda X: np.full_like(X, 2 * X.sum()),
    ),
    Case("Wikipedia: Ax by x", A * x, x, lambda A, x: A @ x, lambda A, x: A[:, None, :, None]),
    Case("Wikipedia: x'A by x", x.T * A, x, lambda A, x: x.T @ A, lambda A, x: A.T[None, :, :, None]),
    Case(
        "M&N 9.5: AXB", Am * Xm * B, Xm, lambda A, B, X: A @ X @ B, lambda A, B, X: np.einsum("im,nj->ijmn", A, B)
    ),
    Case(
        "M&N 9.5: AX'B", A * Xm.T * Bm, Xm, lambda A, B, X: A @ X.T @ B,
        lambda A, B, X: np.einsum("in,mj->ijmn", A, B),
    ),
    Case("Dwyer: one element of AXB", (A * X * B)[0, 1], X, lambda A, B, X: (A @ X @ B)[0, 1],
         lambda A, B, X: np.outer(A[0], B[:, 1])),
    Case("one element", X[1, 0], X, lambda X: X[1, 0], lambda X: np.eye(1, X.size, len(X)).reshape(X.shape)),
    Case("sum of all elements", total(Xm), Xm, lambda X: cell(X.sum()), lambda X: np.ones_like(X)),
    Case(
        "the mean of the rows", Xm.T * one_m / m, Xm, lambda X: X.mean(0)[:, None],
        lambda X: np.einsum("ij,m->imj", eye(X.shape[1]), np.full(len(X), 1 / len(X)))[:, None],
    ),
)  # fmt: skip

QUADRATIC = (
    Case("Cookbook 77: b'X'Xc", b.T * Xm.T * Xm * c, Xm, lambda X, b, c: b.T @ X.T @ X @ c,
         lambda X, b, c: X @ (b @ c.T + c @ b.T)),
    Case("Cookbook 78: (Bx+b)'C(Dx+d)", (B * x + b).T * C * (D * x + d), x,
         lambda x, B, C, D, b, d: (B @ x + b).T @ C @ (D @ x + d),
         lambda x, B, C, D, b, d: B.T @ C @ (D @ x + d) + D.T @ C.T @ (B @ x + b)),
    Case("Cookbook 79: X'BX", X.T * B * X, X, lambda X, B: X.T @ B @ X,
         lambda X, B: np.einsum("lj,ki->klij", eye(len(X)), X.T @ B) + np.einsum("kj,il->klij", eye(len(X)), B @ X)),
    Case("Cookbook 81: x'Bx", x.T * B * x, x, lambda x, B: x.T @ B @ x, lambda x, B: (B + B.T) @ x),
    Case("Cookbook 82: b'X'DXc", b.T * Xm.T * Um * Xm * c, Xm, lambda X, U, b, c: b.T @ X.T @ U @ X @ c,
         lambda X, U, b, c: U.T @ X @ b @ c.T + U @ X @ c @ b.T),
    Case("Cookbook 83: (Xb+c)'D(Xb+c)", (Xm * b + gm).T * Um * (Xm * b + gm), Xm,
         lambda X, b, g, U: (X @ b + g).T @ U @ (X @ b + g), lambda X, b, g, U: (U + U.T) @ (X @ b + g) @ b.T),
    Case("Cookbook 84: (x-As)'W(x-As) by s", (gm - Amn * x).T * Um * (gm - Amn * x), x,
         lambda x, A, U, g: (g - A @ x).T @ U @ (g - A @ x), lambda x, A, U, g: -2 * A.T @ U @ (g - A @ x), {"U": SYM}),
    Case("Cookbook 85: (x-s)'W(x-s) by x", (x - y).T * W * (x - y), x, lambda x, y, W: (x - y).T @ W @ (x - y),
         lambda x, y, W: 2 * W @ (x - y), {"W": SYM}),
    Case("Cookbook 86: (x-s)'W(x-s) by s", (x - y).T * W * (x - y), y, lambda x, y, W: (x - y).T @ W @ (x - y),
         lambda x, y, W: -2 * W @ (x - y), {"W": SYM}),
    Case("Cookbook 87: (x-As)'W(x-As) by x", (gm - Amn * x).T * Um * (gm - Amn * x), gm,
         lambda x, A, U, g: (g - A @ x).T @ U @ (g - A @ x), lambda x, A, U, g: 2 * U @ (g - A @ x), {"U": SYM}),
    Case("Cookbook 88: (x-As)'W(x-As) by A", (gm - Amn * x).T * Um * (gm - Amn * x), Amn,
         lambda x, A, U, g: (g - A @ x).T @ U @ (g - A @ x), lambda x, A, U, g: -2 * U @ (g - A @ x) @ x.T, {"U": SYM}),
    Case("Cookbook 91: a'X^3 b", a.T * X**3 * b, X, lambda X, a, b: a.T @ X @ X @ X @ b,
         lambda X, a, b: sum(mp(X, r).T @ a @ b.T @ mp(X, 2 - r).T for r in range(3))),
    Case("Cookbook 92: a'(X^2)'X^2 b", a.T * (X**2).T * X**2 * b, X, lambda X, a, b: a.T @ mp(X, 2).T @ mp(X, 2) @ b,
         lambda X, a, b: sum(mp(X, r).T @ mp(X, 2) @ (a @ b.T + b @ a.T) @ mp(X, 1 - r).T for r in range(2))),
    Case("Cookbook 97: x'Ax + b'x", x.T * A * x + b.T * x, x, lambda x, A, b: x.T @ A @ x + b.T @ x,
         lambda x, A, b: (A + A.T) @ x + b),
    Case("Wikipedia: a'x x'b", a.T * x * x.T * b, x, lambda x, a, b: a.T @ x @ x.T @ b,
         lambda x, a, b: (a @ b.T + b @ a.T) @ x),
    Case("Wikipedia: (Ax+b)'C(Dx+d), rectangular", (Amn * x + gm).T * Um * (Bmn * x + hm), x,
         lambda x, A, B, U, g, h: (A @ x + g).T @ U @ (B @ x + h),
         lambda x, A, B, U, g, h: B.T @ U.T @ (A @ x + g) + A.T @ U @ (B @ x + h)),
    Case("Wikipedia: x'x x", x * (x.T * x), x, lambda x: x @ x.T @ x,
         lambda x: (sq(x) * eye(len(x)) + 2 * x @ x.T)[:, None, :, None]),
    Case("M&N: XX'", Xm * Xm.T, Xm, lambda X: X @ X.T,
         lambda X: np.einsum("im,jn->ijmn", eye(len(X)), X) + np.einsum("jm,in->ijmn", eye(len(X)), X)),
    Case("M&N: X'X", Xm.T * Xm, Xm, lambda X: X.T @ X, lambda X: np.einsum("in,mj->ijmn", eye(X.shape[1]), X)
         + np.einsum("jn,mi->ijmn", eye(X.shape[1]), X)),
    Case("M&N: X^2", X**2, X, lambda X: X @ X,
         lambda X: np.einsum("im,nj->ijmn", eye(len(X)), X) + np.einsum("im,nj->ijmn", X, eye(len(X)))),
    Case("M&N: XAX", X * A * X, X, lambda X, A: X @ A @ X,
         lambda X, A: np.einsum("im,nj->ijmn", eye(len(X)), A @ X) + np.einsum("im,nj->ijmn", X @ A, eye(len(X)))),
)  # fmt: skip

TRACES = (
    Case("Cookbook 99: tr X", Trace(X), X, lambda X: tr(X), lambda X: eye(len(X))),
    Case("Cookbook 100: tr XA", Trace(X * A), X, lambda X, A: tr(X @ A),
         lambda X, A: A.T),
    Case("Cookbook 101: tr AXB", Trace(A * X * B), X, lambda X, A, B: tr(A @ X @ B), lambda X, A, B: A.T @ B.T),
    Case("Cookbook 102: tr AX'B", Trace(Amn * Xm.T * Bm), Xm, lambda X, A, B: tr(A @ X.T @ B),
         lambda X, A, B: B @ A),
    Case("Cookbook 103: tr X'A", Trace(Xm.T * Amn), Xm, lambda X, A: tr(X.T @ A), lambda X, A: A),
    Case("Cookbook 104: tr AX'", Trace(Amn * Xm.T), Xm, lambda X, A: tr(A @ X.T), lambda X, A: A),
    Case("Cookbook 105: tr of a Kronecker product", Trace(KroneckerProduct(Am, X)), X, lambda X, A: tr(np.kron(A, X)),
         lambda X, A: tr(A) * eye(len(X))),
    Case("Cookbook 106: tr X^2", Trace(X**2), X, lambda X: tr(X @ X), lambda X: 2 * X.T),
    Case("Cookbook 107: tr X^2 B", Trace(X**2 * B), X, lambda X, B: tr(X @ X @ B), lambda X, B: (X @ B + B @ X).T),
    Case("Cookbook 108: tr X'BX", Trace(Xm.T * Bm * Xm), Xm, lambda X, B: tr(X.T @ B @ X),
         lambda X, B: B @ X + B.T @ X),
    Case("Cookbook 109: tr BXX'", Trace(Bm * Xm * Xm.T), Xm, lambda X, B: tr(B @ X @ X.T),
         lambda X, B: B @ X + B.T @ X),
    Case("Cookbook 110: tr XX'B", Trace(Xm * Xm.T * Bm), Xm, lambda X, B: tr(X @ X.T @ B),
         lambda X, B: B @ X + B.T @ X),
    Case("Cookbook 111: tr XBX'", Trace(Xm * B * Xm.T), Xm, lambda X, B: tr(X @ B @ X.T), lambda X, B: X @ (B.T + B)),
    Case("Cookbook 112: tr BX'X", Trace(B * Xm.T * Xm), Xm, lambda X, B: tr(B @ X.T @ X), lambda X, B: X @ (B.T + B)),
    Case("Cookbook 113: tr X'XB", Trace(Xm.T * Xm * B), Xm, lambda X, B: tr(X.T @ X @ B), lambda X, B: X @ (B.T + B)),
    Case("Cookbook 114: tr AXBX", Trace(A * X * B * X), X, lambda X, A, B: tr(A @ X @ B @ X),
         lambda X, A, B: A.T @ X.T @ B.T + B.T @ X.T @ A.T),
    Case("Cookbook 115: tr X'X", Trace(Xm.T * Xm), Xm, lambda X: tr(X.T @ X), lambda X: 2 * X),
    Case("Cookbook 115: tr XX'", Trace(Xm * Xm.T), Xm, lambda X: tr(X @ X.T), lambda X: 2 * X),
    Case("Cookbook 116: tr B'X'CXB", Trace(B.T * Xm.T * Cm * Xm * B), Xm, lambda X, B, C: tr(B.T @ X.T @ C @ X @ B),
         lambda X, B, C: C.T @ X @ B @ B.T + C @ X @ B @ B.T),
    Case("Cookbook 117: tr X'BXC", Trace(Xm.T * Bm * Xm * C), Xm, lambda X, B, C: tr(X.T @ B @ X @ C),
         lambda X, B, C: B @ X @ C + B.T @ X @ C.T),
    Case("Cookbook 118: tr AXBX'C", Trace(Am * Xm * B * Xm.T * Cm), Xm, lambda X, A, B, C: tr(A @ X @ B @ X.T @ C),
         lambda X, A, B, C: A.T @ C.T @ X @ B.T + C @ A @ X @ B),
    Case("Cookbook 119: tr (AXB+C)(AXB+C)'", Trace((A * X * B + C) * (A * X * B + C).T), X,
         lambda X, A, B, C: sq(A @ X @ B + C), lambda X, A, B, C: 2 * A.T @ (A @ X @ B + C) @ B.T),
    Case("Cookbook 120: tr of X kron X", Trace(KroneckerProduct(X, X)), X, lambda X: tr(np.kron(X, X)),
         lambda X: 2 * tr(X) * eye(len(X))),
    Case("Cookbook 121: tr X^4", Trace(X**4), X, lambda X: tr(mp(X, 4)), lambda X: 4 * mp(X, 3).T),
    Case("Cookbook 122: tr AX^3", Trace(A * X**3), X, lambda X, A: tr(A @ mp(X, 3)),
         lambda X, A: sum(mp(X, r) @ A @ mp(X, 2 - r) for r in range(3)).T),
    Case("Cookbook 123: tr B'X'CXX'CXB", Trace(B.T * Xm.T * Cm * Xm * Xm.T * Cm * Xm * B), Xm,
         lambda X, B, C: tr(B.T @ X.T @ C @ X @ X.T @ C @ X @ B),
         lambda X, B, C: C @ X @ X.T @ C @ X @ B @ B.T + C.T @ X @ B @ B.T @ X.T @ C.T @ X
         + C @ X @ B @ B.T @ X.T @ C @ X + C.T @ X @ X.T @ C.T @ X @ B @ B.T),
    Case("Cookbook 124: tr AX^-1 B", Trace(A * X**-1 * B), X, lambda X, A, B: tr(A @ inv(X) @ B),
         lambda X, A, B: -(inv(X) @ B @ A @ inv(X)).T, {"X": INV}),
    Case("Cookbook 125: tr (X'CX)^-1 A", Trace((Xm.T * Cm * Xm) ** -1 * A), Xm,
         lambda X, A, C: tr(inv(X.T @ C @ X) @ A),
         lambda X, A, C: -(C @ X @ inv(X.T @ C @ X)) @ (A + A.T) @ inv(X.T @ C @ X), {"C": PD}),
    Case("Cookbook 126: tr (X'CX)^-1 X'BX", Trace((Xm.T * Cm * Xm) ** -1 * (Xm.T * Bm * Xm)), Xm,
         lambda X, B, C: tr(inv(X.T @ C @ X) @ X.T @ B @ X),
         lambda X, B, C: -2 * C @ X @ inv(X.T @ C @ X) @ X.T @ B @ X @ inv(X.T @ C @ X)
         + 2 * B @ X @ inv(X.T @ C @ X), {"C": PD, "B": SYM}),
    Case("Cookbook 127: tr (A+X'CX)^-1 X'BX", Trace((A + Xm.T * Cm * Xm) ** -1 * (Xm.T * Bm * Xm)), Xm,
         lambda X, A, B, C: tr(inv(A + X.T @ C @ X) @ X.T @ B @ X),
         lambda X, A, B, C: -2 * C @ X @ inv(A + X.T @ C @ X) @ X.T @ B @ X @ inv(A + X.T @ C @ X)
         + 2 * B @ X @ inv(A + X.T @ C @ X), {"A": PD, "C": PD, "B": SYM}),
    Case("M&N: tr X squared", Trace(X) ** 2, X, lambda X: tr(X) ** 2, lambda X: 2 * tr(X) * eye(len(X))),
    Case("M&N: tr (X'X)^2", Trace((Xm.T * Xm) ** 2), Xm, lambda X: tr(mp(X.T @ X, 2)), lambda X: 4 * X @ X.T @ X),
    Case("M&N: tr A(X o B)", Trace(A * HadamardProduct(X, B)), X, lambda X, A, B: tr(A @ (X * B)),
         lambda X, A, B: A.T * B),
    Case("Minka: tr of a product with a diagonal", Trace(A * sp.DiagMatrix(x)), x,
         lambda x, A: tr(A @ np.diag(x[:, 0])),
         lambda x, A: np.diag(A)[:, None]),
    Case("exp of a trace", sp.exp(Trace(A * X)), X, lambda X, A: exp(tr(A @ X)), lambda X, A: exp(tr(A @ X)) * A.T,
         {"A": "small"}),
    Case("ratio of traces", Trace(A * X) / Trace(X.T * X), X, lambda X, A: tr(A @ X) / sq(X),
         lambda X, A: A.T / sq(X) - 2 * tr(A @ X) / sq(X) ** 2 * X),
)  # fmt: skip

DETERMINANTS = (
    Case("Cookbook 46: det Y(t) by t", Determinant(A + e * B), e, lambda A, B, e: det(A + e * B),
         lambda A, B, e: det(A + e * B) * tr(inv(A + e * B) @ B), {"A": INV, "B": "small"}),
    Case("Cookbook 49: det X", Determinant(X), X, lambda X: det(X), lambda X: det(X) * inv(X).T, {"X": INV}),
    Case("Cookbook 51: det AXB", Determinant(A * X * B), X, lambda X, A, B: det(A @ X @ B),
         lambda X, A, B: det(A @ X @ B) * inv(X).T, {"X": INV, "A": INV, "B": INV}),
    Case("Cookbook 52: det X'AX, X square", Determinant(X.T * A * X), X, lambda X, A: det(X.T @ A @ X),
         lambda X, A: 2 * det(X.T @ A @ X) * inv(X).T, {"X": INV, "A": INV}),
    Case("Cookbook 53: det X'AX, A symmetric", Determinant(Xm.T * Am * Xm), Xm, lambda X, A: det(X.T @ A @ X),
         lambda X, A: 2 * det(X.T @ A @ X) * A @ X @ inv(X.T @ A @ X), {"A": PD}),
    Case("Cookbook 54: det X'AX", Determinant(Xm.T * Am * Xm), Xm, lambda X, A: det(X.T @ A @ X),
         lambda X, A: det(X.T @ A @ X) * (A @ X @ inv(X.T @ A @ X) + A.T @ X @ inv(X.T @ A.T @ X)), {"A": INV}),
    Case("Cookbook 55: log det X'X", sp.log(Determinant(Xm.T * Xm)), Xm, lambda X: log(det(X.T @ X)),
         lambda X: 2 * pinv_of(X).T),
    Case("Cookbook 57: log |det X|", sp.log(sp.Abs(Determinant(X))), X, lambda X: log(abs(det(X))),
         lambda X: inv(X).T, {"X": INV}),
    Case("log det X", sp.log(Determinant(X)), X, lambda X: log(det(X)), lambda X: inv(X).T, {"X": PD}),
    Case("Cookbook 58: det X^3", Determinant(X**3), X, lambda X: det(X) ** 3, lambda X: 3 * det(X) ** 3 * inv(X).T,
         {"X": INV}),
    Case("det X squared", Determinant(X) ** 2, X, lambda X: det(X) ** 2, lambda X: 2 * det(X) ** 2 * inv(X).T,
         {"X": INV}),
    Case("Cookbook 62: det X^-1", Determinant(X**-1), X, lambda X: 1 / det(X), lambda X: -inv(X).T / det(X),
         {"X": INV}),
    Case("M&N: det X'X", Determinant(Xm.T * Xm), Xm, lambda X: det(X.T @ X), lambda X: 2 * det(X.T @ X) * pinv_of(X).T),
    Case("M&N: log det X'AX", sp.log(Determinant(Xm.T * Am * Xm)), Xm, lambda X, A: log(det(X.T @ A @ X)),
         lambda X, A: 2 * A @ X @ inv(X.T @ A @ X), {"A": PD}),
    Case("Dwyer: det(A + XBX')", Determinant(Am + Xm * B * Xm.T), Xm, lambda X, A, B: det(A + X @ B @ X.T),
         lambda X, A, B: 2 * det(A + X @ B @ X.T) * inv(A + X @ B @ X.T) @ X @ B, {"A": PD, "B": PD}),
    Case("Minka: log det(I + X'X)", sp.log(Determinant(In + Xm.T * Xm)), Xm,
         lambda X: log(det(eye(X.shape[1]) + X.T @ X)),
         lambda X: 2 * X @ inv(eye(X.shape[1]) + X.T @ X)),
    Case("log det of a triangular matrix", sp.log(Determinant(X)), X, lambda X: log(det(X)), lambda X: inv(X).T,
         {"X": "lower triangular"}),
    Case("log det of a product with its transpose", sp.log(Determinant(X * X.T)), X, lambda X: log(det(X @ X.T)),
         lambda X: 2 * inv(X).T, {"X": INV}),
    Case("log det A + x x'", sp.log(Determinant(A + x * x.T)), x, lambda A, x: log(det(A + x @ x.T)),
         lambda A, x: 2 * inv(A) @ x / (1 + x.T @ inv(A) @ x), {"A": PD}),
    Case("log det(A diag(x) + B)", sp.log(Determinant(A * sp.DiagMatrix(x) * A.T + B)), x,
         lambda A, B, x: log(det(A @ np.diag(x[:, 0]) @ A.T + B)),
         lambda A, B, x: np.diag(A.T @ inv(A @ np.diag(x[:, 0]) @ A.T + B) @ A)[:, None], {"B": PD, "x": "positive"}),
)  # fmt: skip

INVERSES = (
    Case("Cookbook 59: Y(t)^-1 by t", (A + e * B) ** -1, e, lambda A, B, e: inv(A + e * B),
         lambda A, B, e: -inv(A + e * B) @ B @ inv(A + e * B), {"A": INV, "B": "small"}),
    Case("Cookbook 60: X^-1", X**-1, X, lambda X: inv(X), lambda X: -np.einsum("km,nl->klmn", inv(X), inv(X)),
         {"X": INV}),
    Case("Cookbook 61: a'X^-1 b", a.T * X**-1 * b, X, lambda X, a, b: a.T @ inv(X) @ b,
         lambda X, a, b: -inv(X).T @ a @ b.T @ inv(X).T, {"X": INV}),
    Case("Cookbook 64: tr (X+A)^-1", Trace((X + A) ** -1), X, lambda X, A: tr(inv(X + A)),
         lambda X, A: -(inv(X + A) @ inv(X + A)).T, {"X": INV, "A": "small"}),
    Case("Giles: A^-1 B by A", A**-1 * B, A, lambda A, B: inv(A) @ B,
         lambda A, B: -np.einsum("km,nl->klmn", inv(A), inv(A) @ B), {"A": INV}),
    Case("Giles: A^-1 B by B", A**-1 * B, B, lambda A, B: inv(A) @ B,
         lambda A, B: np.einsum("km,ln->klmn", inv(A), eye(len(A))), {"A": INV}),
    Case("Giles: B A^-1 by A", B * A**-1, A, lambda A, B: B @ inv(A),
         lambda A, B: -np.einsum("km,nl->klmn", B @ inv(A), inv(A)), {"A": INV}),
    Case("M&N: x'(X'X)^-1 x", x.T * (Xm.T * Xm) ** -1 * x, Xm, lambda X, x: x.T @ inv(X.T @ X) @ x,
         lambda X, x: -2 * X @ inv(X.T @ X) @ x @ x.T @ inv(X.T @ X)),
    Case("M&N: projection residual y'(I - X(X'X)^-1 X')y", gm.T * (Im - Xm * (Xm.T * Xm) ** -1 * Xm.T) * gm, gm,
         lambda X, g: g.T @ g - g.T @ X @ pinv_of(X) @ g, lambda X, g: 2 * (g - X @ pinv_of(X) @ g)),
    Case("projection residual by X", gm.T * (Im - Xm * (Xm.T * Xm) ** -1 * Xm.T) * gm, Xm,
         lambda X, g: g.T @ g - g.T @ X @ pinv_of(X) @ g,
         lambda X, g: -2 * (g - X @ pinv_of(X) @ g) @ (pinv_of(X) @ g).T),
    Case("x'A^-1 x by A, A positive definite", x.T * A**-1 * x, A, lambda A, x: x.T @ inv(A) @ x,
         lambda A, x: -inv(A) @ x @ x.T @ inv(A), {"A": PD}),
    Case("x'A^-1 x by x, A lower triangular", x.T * A**-1 * x, x, lambda A, x: x.T @ inv(A) @ x,
         lambda A, x: (inv(A) + inv(A).T) @ x, {"A": "lower triangular"}),
    Case("tr X^-2", Trace(X**-2), X, lambda X: tr(inv(X) @ inv(X)), lambda X: -2 * (inv(X) @ inv(X) @ inv(X)).T,
         {"X": INV}),
    Case("the resolvent a'(I - tX)^-1 b", a.T * (In - e * X) ** -1 * b, X,
         lambda X, a, b, e: a.T @ inv(eye(len(X)) - e * X) @ b,
         lambda X, a, b, e: e * inv(eye(len(X)) - e * X).T @ a @ b.T @ inv(eye(len(X)) - e * X).T, {"X": "small"}),
)  # fmt: skip

NORMS = (
    Case("Cookbook 129: ||x - a||", sp.sqrt(Trace((x - a).T * (x - a))), x, lambda x, a: np.sqrt(sq(x - a)),
         lambda x, a: (x - a) / np.sqrt(sq(x - a))),
    Case("Cookbook 130: (x - a)/||x - a||", (x - a) / sp.sqrt(Trace((x - a).T * (x - a))), x,
         lambda x, a: (x - a) / np.sqrt(sq(x - a)),
         lambda x, a: (eye(len(x)) / sq(x - a) ** 0.5 - (x - a) @ (x - a).T / sq(x - a) ** 1.5)[:, None, :, None]),
    Case("Cookbook 131: ||x||^2", x.T * x, x, lambda x: x.T @ x, lambda x: 2 * x),
    Case("Cookbook 132: the squared Frobenius norm", Trace(Xm * Xm.T), Xm, lambda X: sq(X), lambda X: 2 * X),
    Case("the Frobenius norm", sp.sqrt(Trace(Xm * Xm.T)), Xm, lambda X: np.sqrt(sq(X)), lambda X: X / np.sqrt(sq(X))),
    Case("the Frobenius norm of AXB - C", sp.sqrt(Trace((A * X * B - C).T * (A * X * B - C))), X,
         lambda X, A, B, C: np.sqrt(sq(A @ X @ B - C)),
         lambda X, A, B, C: A.T @ (A @ X @ B - C) @ B.T / np.sqrt(sq(A @ X @ B - C))),
    Case("the norm of an index expression", sp.sqrt(sp.Sum(x[i, 0] ** 2, (i, 0, n - 1))), x,
         lambda x: np.sqrt(sq(x)), lambda x: x / np.sqrt(sq(x))),
    Case("the 4-norm", sp.Sum(x[i, 0] ** 4, (i, 0, n - 1)) ** sp.Rational(1, 4), x, lambda x: (x**4).sum() ** 0.25,
         lambda x: x**3 * (x**4).sum() ** -0.75),
    Case("the 1-norm", total(Xm.applyfunc(sp.Abs)), Xm, lambda X: cell(abs(X).sum()), lambda X: np.sign(X), {}, False),
    Case("cosine similarity", (x.T * y) / sp.sqrt(Trace(x.T * x) * Trace(y.T * y)), x,
         lambda x, y: x.T @ y / np.sqrt(sq(x) * sq(y)),
         lambda x, y: y / np.sqrt(sq(x) * sq(y)) - (x.T @ y) * x / np.sqrt(sq(x) ** 3 * sq(y))),
    Case("the Rayleigh quotient", (x.T * A * x) / Trace(x.T * x), x, lambda x, A: x.T @ A @ x / sq(x),
         lambda x, A: ((A + A.T) @ x - 2 * (x.T @ A @ x) / sq(x) * x) / sq(x)),
    Case("the generalised Rayleigh quotient", Trace(x.T * A * x) / Trace(x.T * B * x), x,
         lambda x, A, B: tr(x.T @ A @ x) / tr(x.T @ B @ x),
         lambda x, A, B: 2 * (A @ x - tr(x.T @ A @ x) / tr(x.T @ B @ x) * B @ x) / tr(x.T @ B @ x),
         {"A": SYM, "B": PD}),
)  # fmt: skip

STRUCTURED = (
    Case("Cookbook 138: tr AX, X symmetric by its parameters", Trace(A * (X + X.T)), X, lambda X, A: tr(A @ (X + X.T)),
         lambda X, A: A + A.T),
    Case("Cookbook 141: log det X, X symmetric by its parameters", sp.log(Determinant(X + X.T)), X,
         lambda X: log(det(X + X.T)), lambda X: 2 * inv(X + X.T), {"X": PD}),
    Case("Cookbook 142: tr AX at a symmetric X", Trace(A * X), X, lambda X, A: tr(A @ X), lambda X, A: A.T, {"X": SYM}),
    Case("Cookbook 143: log det at a symmetric X", sp.log(Determinant(X)), X, lambda X: log(det(X)),
         lambda X: inv(X), {"X": PD}),
    Case("a diagonal matrix", a.T * sp.DiagMatrix(x) * b, x, lambda x, a, b: a.T @ (x * b), lambda x, a, b: a * b),
    Case("a diagonal matrix between squares", Trace(A * sp.DiagMatrix(x) * B * sp.DiagMatrix(x)), x,
         lambda x, A, B: tr(A @ np.diag(x[:, 0]) @ B @ np.diag(x[:, 0])), lambda x, A, B: (A * B.T + A.T * B) @ x),
    Case("the diagonal of a matrix", a.T * sp.DiagonalOf(X * A), X, lambda X, A, a: a.T @ np.diag(X @ A)[:, None],
         lambda X, A, a: a * A.T),
    Case("block matrix", Trace(sp.BlockMatrix([[X, A], [B, X.T]]) ** 2), X,
         lambda X, A, B: tr(X @ X) + 2 * tr(A @ B) + tr(X @ X), lambda X, A, B: 4 * X.T),
    Case("determinant of a block matrix", sp.log(Determinant(sp.BlockMatrix([[X, x], [x.T, OneMatrix(1, 1) * t]]))), x,
         lambda X, x, t: log(det(np.block([[X, x], [x.T, cell(t)]]))),
         lambda X, x, t: -2 * inv(X) @ x / (t - x.T @ inv(X) @ x), {"X": PD, "x": "small"}),
)  # fmt: skip

PRODUCTS = (
    Case("M&N: X kron A", KroneckerProduct(X, A), X, lambda X, A: np.kron(X, A),
         lambda X, A: np.einsum("im,jn,kl->ikjlmn", eye(len(X)), eye(len(X)), A)
         .reshape(len(X) ** 2, len(X) ** 2, *X.shape)),
    Case("M&N: A kron X", KroneckerProduct(Amn, X), X, lambda X, A: np.kron(A, X),
         lambda X, A: np.einsum("ij,km,ln->ikjlmn", A, eye(len(X)), eye(len(X))).reshape(
             A.shape[0] * len(X), A.shape[1] * len(X), *X.shape)),
    Case("M&N: tr C(A kron X) by X", Trace(KroneckerProduct(A, X) * KroneckerProduct(B, C)), X,
         lambda X, A, B, C: tr(np.kron(A, X) @ np.kron(B, C)), lambda X, A, B, C: tr(A @ B) * C.T),
    Case("log det of a Kronecker product", sp.log(Determinant(KroneckerProduct(A, X))), X,
         lambda X, A: log(det(np.kron(A, X))), lambda X, A: len(X) * inv(X).T, {"A": PD, "X": PD}),
    Case("M&N: X o X", HadamardProduct(Xm, Xm), Xm, lambda X: X * X,
         lambda X: np.einsum("im,jn,ij->ijmn", eye(len(X)), eye(X.shape[1]), 2 * X)),
    Case("Hadamard: a'(X o A)b", a.T * HadamardProduct(X, A) * b, X, lambda X, A, a, b: a.T @ (X * A) @ b,
         lambda X, A, a, b: A * (a @ b.T)),
    Case("Hadamard power", total(HadamardPower(Xm, 3)), Xm, lambda X: cell((X**3).sum()), lambda X: 3 * X**2),
    Case("Hadamard inverse", total(HadamardPower(Xm, -1)), Xm, lambda X: cell((1 / X).sum()), lambda X: -(X**-2),
         {"X": "positive"}),
    Case("Hadamard: ||(Y - X) o A||^2", Trace(HadamardProduct(Amn, Ym - Xm).T * HadamardProduct(Amn, Ym - Xm)), Xm,
         lambda X, Y, A: sq(A * (Y - X)), lambda X, Y, A: -2 * A * A * (Y - X)),
    Case("x'(A o xx')x", x.T * HadamardProduct(A, x * x.T) * x, x, lambda x, A: x.T @ (A * (x @ x.T)) @ x,
         lambda x, A: 2 * x * ((A + A.T) @ (x * x))),
    Case("elementwise exp", total(Xm.applyfunc(sp.exp)), Xm, lambda X: cell(exp(X).sum()), lambda X: exp(X)),
    Case("elementwise of a product", total((Xm * A).applyfunc(sp.sin)), Xm, lambda X, A: cell(np.sin(X @ A).sum()),
         lambda X, A: np.cos(X @ A) @ A.T),
    Case("Wikipedia: A f(x)", A * x.applyfunc(sp.tanh), x, lambda A, x: A @ np.tanh(x),
         lambda A, x: (A * (1 - np.tanh(x.T) ** 2))[:, None, :, None]),
    Case("dot product", sp.Sum(x[i, 0] * y[i, 0], (i, 0, n - 1)), x, lambda x, y: (x * y).sum(), lambda x, y: y),
    Case("a cubic form in indices", sp.Sum(A[i, j] * x[i, 0] * x[j, 0] ** 2, (i, 0, n - 1), (j, 0, n - 1)), x,
         lambda x, A: (x.T @ A @ (x * x))[0, 0], lambda x, A: A @ (x * x) + 2 * x * (A.T @ x)),
)  # fmt: skip

_res = Xm - one_m * mu.T  # data in rows, less their mean
_kernel = s**2 * A + t**2 * In

STATISTICS = (
    Case("Gaussian log-likelihood by the mean", -Trace(_res * S**-1 * _res.T) / 2 - m * sp.log(Determinant(S)) / 2, mu,
         lambda X, mu, S: -tr((X - mu.T) @ inv(S) @ (X - mu.T).T) / 2 - len(X) * log(det(S)) / 2,
         lambda X, mu, S: inv(S) @ (X - mu.T).sum(0)[:, None], {"S": PD}),
    Case("Dwyer: Gaussian log-likelihood by the covariance",
         -Trace(_res * S**-1 * _res.T) / 2 - m * sp.log(Determinant(S)) / 2, S,
         lambda X, mu, S: -tr((X - mu.T) @ inv(S) @ (X - mu.T).T) / 2 - len(X) * log(det(S)) / 2,
         lambda X, mu, S: (inv(S) @ (X - mu.T).T @ (X - mu.T) @ inv(S) - len(X) * inv(S)) / 2, {"S": PD}),
    Case("Minka: Gaussian log-likelihood by the precision",
         m * sp.log(Determinant(P)) / 2 - Trace(_res * P * _res.T) / 2, P,
         lambda X, mu, P: len(X) * log(det(P)) / 2 - tr((X - mu.T) @ P @ (X - mu.T).T) / 2,
         lambda X, mu, P: len(X) * inv(P) / 2 - (X - mu.T).T @ (X - mu.T) / 2, {"P": PD}),
    Case("Gaussian log-likelihood, sum over the data by indices",
         -sp.Sum((Xm[q, i] - mu[i, 0]) * P[i, j] * (Xm[q, j] - mu[j, 0]), (i, 0, n - 1), (j, 0, n - 1), (q, 0, m - 1))
         / 2, mu, lambda X, mu, P: -tr((X - mu.T) @ P @ (X - mu.T).T) / 2,
         lambda X, mu, P: (P + P.T) @ (X - mu.T).sum(0)[:, None] / 2),
    Case("Mahalanobis distance", (x - mu).T * S**-1 * (x - mu), x, lambda x, mu, S: (x - mu).T @ inv(S) @ (x - mu),
         lambda x, mu, S: 2 * inv(S) @ (x - mu), {"S": PD}),
    Case("Mahalanobis distance by the covariance", (x - mu).T * S**-1 * (x - mu), S,
         lambda x, mu, S: (x - mu).T @ inv(S) @ (x - mu),
         lambda x, mu, S: -inv(S) @ (x - mu) @ (x - mu).T @ inv(S), {"S": PD}),
    Case("KL of two Gaussians by the first mean", _kl := (
         Trace(B**-1 * A) + Trace((y - x).T * B**-1 * (y - x)) - n
         + sp.log(Determinant(B)) - sp.log(Determinant(A))) / 2,
         x, lambda A, B, x, y: kl(A, B, x, y), lambda A, B, x, y: inv(B) @ (x - y), {"A": PD, "B": PD}),
    Case("KL of two Gaussians by the first covariance", _kl, A, lambda A, B, x, y: kl(A, B, x, y),
         lambda A, B, x, y: (inv(B) - inv(A)) / 2, {"A": PD, "B": PD}),
    Case("KL of two Gaussians by the second covariance", _kl, B, lambda A, B, x, y: kl(A, B, x, y),
         lambda A, B, x, y: (inv(B) - inv(B) @ (A + (y - x) @ (y - x).T) @ inv(B)) / 2, {"A": PD, "B": PD}),
    Case("GP marginal likelihood by the amplitude",
         y.T * _kernel**-1 * y + sp.log(Determinant(_kernel)) * Identity(1), s,
         lambda A, s, t, y: y.T @ inv(s**2 * A + t**2 * eye(len(A))) @ y + log(det(s**2 * A + t**2 * eye(len(A)))),
         lambda A, s, t, y: 2 * s * tr(
             (inv(s**2 * A + t**2 * eye(len(A)))
              - inv(s**2 * A + t**2 * eye(len(A))) @ y @ y.T @ inv(s**2 * A + t**2 * eye(len(A)))) @ A), {"A": PD}),
    Case("GP marginal likelihood by the kernel matrix", Trace(y.T * K**-1 * y) / 2 + sp.log(Determinant(K)) / 2, K,
         lambda K, y: tr(y.T @ inv(K) @ y) / 2 + log(det(K)) / 2,
         lambda K, y: (inv(K) - inv(K) @ y @ y.T @ inv(K)) / 2, {"K": PD}),
    Case("Wishart log-density", (t - n - 1) / 2 * sp.log(Determinant(X)) - Trace(B**-1 * X) / 2, X,
         lambda X, B, t: (t - len(X) - 1) / 2 * log(det(X)) - tr(inv(B) @ X) / 2,
         lambda X, B, t: (t - len(X) - 1) / 2 * inv(X) - inv(B) / 2, {"X": PD, "B": PD}),
    Case("matrix normal density", Trace(B**-1 * (Xm - Ym).T * Um**-1 * (Xm - Ym)), Xm,
         lambda X, Y, B, U: tr(inv(B) @ (X - Y).T @ inv(U) @ (X - Y)),
         lambda X, Y, B, U: 2 * inv(U) @ (X - Y) @ inv(B), {"B": PD, "U": PD}),
    Case("Student log-density", -(t + n) / 2 * sp.log(1 + Trace((x - mu).T * S**-1 * (x - mu)) / t), x,
         lambda x, mu, S, t: -(t + len(x)) / 2 * log(1 + tr((x - mu).T @ inv(S) @ (x - mu)) / t),
         lambda x, mu, S, t: -(t + len(x)) / (t + tr((x - mu).T @ inv(S) @ (x - mu))) * inv(S) @ (x - mu), {"S": PD}),
    Case("entropy of a Gaussian", sp.log(Determinant(2 * sp.pi * sp.E * S)) / 2, S,
         lambda S: log(det(2 * np.pi * np.e * S)) / 2, lambda S: inv(S) / 2, {"S": PD}),
    Case("Bhattacharyya distance of covariances",
         sp.log(Determinant((A + B) / 2)) / 2 - sp.log(Determinant(A) * Determinant(B)) / 4, A,
         lambda A, B: log(det((A + B) / 2)) / 2 - log(det(A) * det(B)) / 4,
         lambda A, B: inv(A + B) / 2 - inv(A) / 4, {"A": PD, "B": PD}),
    Case("Stein loss", Trace(X * A**-1) - sp.log(Determinant(X * A**-1)) - n, X,
         lambda X, A: tr(X @ inv(A)) - log(det(X @ inv(A))) - len(X), lambda X, A: inv(A) - inv(X), {"A": PD, "X": PD}),
    Case("factor analysis by the loadings",
         sp.log(Determinant(Xm * Xm.T + Um)) + Trace((Xm * Xm.T + Um) ** -1 * Am), Xm,
         lambda X, U, A: log(det(X @ X.T + U)) + tr(inv(X @ X.T + U) @ A),
         lambda X, U, A: 2 * (inv(X @ X.T + U) - inv(X @ X.T + U) @ A @ inv(X @ X.T + U)) @ X, {"U": PD, "A": PD}),
    Case("canonical correlation of two directions",
         (x.T * A * y) / sp.sqrt(Trace(x.T * B * x) * Trace(y.T * C * y)), x,
         lambda x, y, A, B, C: x.T @ A @ y / np.sqrt(tr(x.T @ B @ x) * tr(y.T @ C @ y)),
         lambda x, y, A, B, C: (A @ y - tr(x.T @ A @ y) / tr(x.T @ B @ x) * B @ x)
         / np.sqrt(tr(x.T @ B @ x) * tr(y.T @ C @ y)), {"B": PD, "C": PD}),
    Case("sample covariance", Trace(A * Xm.T * (Im - OneMatrix(m, m) / m) * Xm), Xm,
         lambda X, A: tr(A @ (X - X.mean(0)).T @ (X - X.mean(0))), lambda X, A: (X - X.mean(0)) @ (A + A.T)),
)  # fmt: skip


def kl(A: Any, B: Any, x: Any, y: Any) -> Any:
    return (tr(inv(B) @ A) + tr((y - x).T @ inv(B) @ (y - x)) - len(A) + log(det(B)) - log(det(A))) / 2


def row_dot(data: Any, weights: Any, row: Any) -> Any:
    """Element `row` of data * weights, as a sum."""
    return sp.Sum(data[row, j] * weights[j, 0], (j, 0, n - 1))


H, F = MatrixSymbol("H", k, n), MatrixSymbol("F", m, k)  # factors of an m x n matrix: F*H
L = MatrixSymbol("L", n, k)
T = MatrixSymbol("T", m, k)
_score = Xm * L
_logit = Xm * w
_quad = (x - y).T * A.T * A * (x - y)

LEARNING = (
    Case("least squares", (Xm * w - gm).T * (Xm * w - gm), w, lambda X, w, g: (X @ w - g).T @ (X @ w - g),
         lambda X, w, g: 2 * X.T @ (X @ w - g)),
    Case("least squares by the data", (Xm * w - gm).T * (Xm * w - gm), Xm, lambda X, w, g: (X @ w - g).T @ (X @ w - g),
         lambda X, w, g: 2 * (X @ w - g) @ w.T),
    Case("least squares by indices", sp.Sum((row_dot(Xm, w, i) - gm[i, 0]) ** 2, (i, 0, m - 1)) / m, w,
         lambda X, w, g: sq(X @ w - g) / len(X), lambda X, w, g: 2 * X.T @ (X @ w - g) / len(X)),
    Case("ridge regression", Trace((Xm * w - gm).T * (Xm * w - gm)) + s * Trace(w.T * w), w,
         lambda X, w, g, s: sq(X @ w - g) + s * sq(w), lambda X, w, g, s: 2 * X.T @ (X @ w - g) + 2 * s * w),
    Case("ridge regression by its weight", Trace((Xm * w - gm).T * (Xm * w - gm)) + s * Trace(w.T * w), s,
         lambda X, w, g, s: sq(X @ w - g) + s * sq(w), lambda X, w, g, s: sq(w)),
    Case("weighted least squares", (Xm * w - gm).T * Um * (Xm * w - gm), w,
         lambda X, w, g, U: (X @ w - g).T @ U @ (X @ w - g), lambda X, w, g, U: 2 * X.T @ U @ (X @ w - g), {"U": SYM}),
    Case("multivariate regression", Trace((Xm * L - T).T * (Xm * L - T)), L, lambda X, L, T: sq(X @ L - T),
         lambda X, L, T: 2 * X.T @ (X @ L - T)),
    Case("logistic loss, labels -1 and 1", sp.Sum(sp.log(1 + sp.exp(-gm[i, 0] * row_dot(Xm, w, i))), (i, 0, m - 1)), w,
         lambda X, w, g: log(1 + exp(-g * (X @ w))).sum(), lambda X, w, g: -X.T @ (g * sigmoid(-g * (X @ w))),
         {"g": "labels"}),
    Case("logistic loss, labels 0 and 1", total(_logit.applyfunc(lambda z: sp.log(1 + sp.exp(z)))) - gm.T * _logit, w,
         lambda X, w, g: cell(log(1 + exp(X @ w)).sum()) - g.T @ X @ w, lambda X, w, g: X.T @ (sigmoid(X @ w) - g)),
    Case("logistic loss with ridge",
         total(_logit.applyfunc(lambda z: sp.log(1 + sp.exp(z)))) - gm.T * _logit + s * w.T * w,
         w, lambda X, w, g, s: cell(log(1 + exp(X @ w)).sum()) - g.T @ X @ w + s * w.T @ w,
         lambda X, w, g, s: X.T @ (sigmoid(X @ w) - g) + 2 * s * w),
    Case("softmax cross-entropy",
         sp.Sum(sp.log(sp.Sum(sp.exp(_score[i, q]), (q, 0, k - 1))), (i, 0, m - 1)) - Trace(T.T * _score), L,
         lambda X, L, T: log(exp(X @ L).sum(1)).sum() - (T * (X @ L)).sum(),
         lambda X, L, T: X.T @ (softmax(X @ L) - T), {"T": "one-hot"}),
    Case("hinge loss", sp.Sum(sp.Max(0, 1 - gm[i, 0] * row_dot(Xm, w, i)), (i, 0, m - 1)), w,
         lambda X, w, g: np.maximum(0, 1 - g * (X @ w)).sum(),
         lambda X, w, g: -X.T @ (g * (1 - g * (X @ w) > 0)), {"g": "labels"}, False),
    Case("SVM with squared hinge",
         Trace(w.T * w) / 2 + s * sp.Sum(sp.Max(0, 1 - gm[i, 0] * row_dot(Xm, w, i)) ** 2, (i, 0, m - 1)), w,
         lambda X, w, g, s: sq(w) / 2 + s * (np.maximum(0, 1 - g * (X @ w)) ** 2).sum(),
         lambda X, w, g, s: w - 2 * s * X.T @ (g * np.maximum(0, 1 - g * (X @ w))), {"g": "labels"}),
    Case("PCA: reconstruction error", Trace((Xm - Xm * L * L.T).T * (Xm - Xm * L * L.T)), L,
         lambda X, L: sq(X - X @ L @ L.T),
         lambda X, L: -2 * (X.T @ (X - X @ L @ L.T) + (X - X @ L @ L.T).T @ X) @ L),
    Case("PCA: explained variance", Trace(L.T * S * L), L, lambda L, S: tr(L.T @ S @ L), lambda L, S: 2 * S @ L,
         {"S": PD}),
    Case("matrix factorisation by the first factor", Trace((Xm - F * H).T * (Xm - F * H)), F,
         lambda X, F, H: sq(X - F @ H), lambda X, F, H: -2 * (X - F @ H) @ H.T),
    Case("matrix factorisation by the second factor", Trace((Xm - F * H).T * (Xm - F * H)), H,
         lambda X, F, H: sq(X - F @ H), lambda X, F, H: -2 * F.T @ (X - F @ H)),
    Case("matrix factorisation, masked, with ridge",
         Trace(HadamardProduct(Amn, Xm - F * H).T * HadamardProduct(Amn, Xm - F * H)) + s * Trace(F.T * F), F,
         lambda X, A, F, H, s: sq(A * (X - F @ H)) + s * sq(F),
         lambda X, A, F, H, s: -2 * (A * A * (X - F @ H)) @ H.T + 2 * s * F),
    Case("NMF with the Kullback-Leibler divergence",
         total(F * H - HadamardProduct(Xm, (F * H).applyfunc(sp.log))), F,
         lambda X, F, H: cell((F @ H - X * log(F @ H)).sum()), lambda X, F, H: (1 - X / (F @ H)) @ H.T,
         {"F": "positive", "H": "positive", "X": "positive"}),
    Case("metric learning by the map", _quad, A, lambda A, x, y: (x - y).T @ A.T @ A @ (x - y),
         lambda A, x, y: 2 * A @ (x - y) @ (x - y).T),
    Case("metric learning by the metric", (x - y).T * X * (x - y) - s * sp.log(Determinant(X)) * Identity(1), X,
         lambda X, x, y, s: (x - y).T @ X @ (x - y) - s * log(det(X)),
         lambda X, x, y, s: (x - y) @ (x - y).T - s * inv(X), {"X": PD}),
    Case("triplet loss", sp.Max(0, Trace(_quad) - Trace((x - z).T * A.T * A * (x - z)) + 1), A,
         lambda A, x, y, z: max(0, sq(A @ (x - y)) - sq(A @ (x - z)) + 1),
         lambda A, x, y, z: (sq(A @ (x - y)) - sq(A @ (x - z)) + 1 > 0) * 2 * A
         @ ((x - y) @ (x - y).T - (x - z) @ (x - z).T)),
    Case("Poisson regression", total(_logit.applyfunc(sp.exp)) - gm.T * _logit, w,
         lambda X, w, g: cell(exp(X @ w).sum()) - g.T @ X @ w, lambda X, w, g: X.T @ (exp(X @ w) - g)),
    Case("two-layer network by the inner weights",
         Trace((gm - (Xm * L).applyfunc(sp.tanh) * MatrixSymbol("v", k, 1)).T
               * (gm - (Xm * L).applyfunc(sp.tanh) * MatrixSymbol("v", k, 1))), L,
         lambda X, L, g, v: sq(g - np.tanh(X @ L) @ v),
         lambda X, L, g, v: -2 * X.T @ ((g - np.tanh(X @ L) @ v) @ v.T * (1 - np.tanh(X @ L) ** 2))),
    Case("two-layer network by the outer weights",
         Trace((gm - (Xm * L).applyfunc(sp.tanh) * MatrixSymbol("v", k, 1)).T
               * (gm - (Xm * L).applyfunc(sp.tanh) * MatrixSymbol("v", k, 1))), MatrixSymbol("v", k, 1),
         lambda X, L, g, v: sq(g - np.tanh(X @ L) @ v),
         lambda X, L, g, v: -2 * np.tanh(X @ L).T @ (g - np.tanh(X @ L) @ v)),
    Case("linear autoencoder", Trace((Xm - Xm * L * H).T * (Xm - Xm * L * H)), L, lambda X, L, H: sq(X - X @ L @ H),
         lambda X, L, H: -2 * X.T @ (X - X @ L @ H) @ H.T),
    Case("kernel ridge regression", (gm - Um * hm).T * (gm - Um * hm) + s * hm.T * Um * hm, hm,
         lambda g, U, h, s: sq(g - U @ h) + s * h.T @ U @ h, lambda g, U, h, s: -2 * U @ (g - U @ h) + 2 * s * U @ h,
         {"U": PD}),
    Case("independent components", sp.log(sp.Abs(Determinant(W))) * Identity(1)
         - total((Xm * W.T).applyfunc(lambda z: sp.log(sp.cosh(z)))),
         W, lambda X, W: cell(log(abs(det(W))) - log(np.cosh(X @ W.T)).sum()),
         lambda X, W: inv(W).T - np.tanh(X @ W.T).T @ X, {"W": INV}),
    Case("Procrustes", Trace((Xm * R - Ym).T * (Xm * R - Ym)), R, lambda X, R, Y: sq(X @ R - Y),
         lambda X, R, Y: 2 * X.T @ (X @ R - Y)),
    Case("graph Laplacian", Trace(Xm.T * (sp.DiagMatrix(Um * one_m) - Um) * Xm), Um,
         lambda X, U: tr(X.T @ (np.diag(U.sum(1)) - U) @ X),
         lambda X, U: np.repeat((X * X).sum(1)[:, None], len(X), 1) - X @ X.T),
    Case("determinantal point process", sp.log(Determinant(A)) - sp.log(Determinant(A + In)), A,
         lambda A: log(det(A)) - log(det(A + eye(len(A)))), lambda A: inv(A) - inv(A + eye(len(A))), {"A": PD}),
    Case("log-sum-exp of scores by the query",
         sp.log(sp.Sum(sp.exp(row_dot(Xm, x, i)), (i, 0, m - 1))), x,
         lambda X, x: log(exp(X @ x).sum()), lambda X, x: X.T @ softmax((X @ x).T).T),
    Case("softmax-weighted mean", sp.Sum(gm[q, 0] * sp.exp(row_dot(Xm, x, q)), (q, 0, m - 1))
         / sp.Sum(sp.exp(row_dot(Xm, x, i)), (i, 0, m - 1)), x,
         lambda X, x, g: (softmax((X @ x).T) @ g)[0, 0],
         lambda X, x, g: X.T @ ((g - softmax((X @ x).T) @ g) * softmax((X @ x).T).T)),
    Case("Huber loss", sp.Sum(sp.sqrt(1 + (row_dot(Xm, w, i) - gm[i, 0]) ** 2) - 1, (i, 0, m - 1)), w,
         lambda X, w, g: (np.sqrt(1 + (X @ w - g) ** 2) - 1).sum(),
         lambda X, w, g: X.T @ ((X @ w - g) / np.sqrt(1 + (X @ w - g) ** 2))),
    Case("Gaussian kernel of two vectors", sp.exp(-Trace((x - y).T * (x - y)) / (2 * s**2)), x,
         lambda x, y, s: exp(-sq(x - y) / (2 * s**2)),
         lambda x, y, s: -(x - y) / s**2 * exp(-sq(x - y) / (2 * s**2))),
)  # fmt: skip

_lyapunov = A * X + X * A.T + Q
_sylvester = A * X + X * B - C
_gain = (R + B.T * P * B) ** -1 * B.T * P * A
_closed = (A - B * K).T * P * (A - B * K) + Q + K.T * R * K

CONTROL = (
    Case("Lyapunov residual", Trace(_lyapunov.T * _lyapunov), X, lambda A, X, Q: sq(A @ X + X @ A.T + Q),
         lambda A, X, Q: 2 * (A.T @ (A @ X + X @ A.T + Q) + (A @ X + X @ A.T + Q) @ A)),
    Case("Lyapunov residual by the system", Trace(_lyapunov.T * _lyapunov), A, lambda A, X, Q: sq(A @ X + X @ A.T + Q),
         lambda A, X, Q: 2 * ((A @ X + X @ A.T + Q) @ X.T + (A @ X + X @ A.T + Q).T @ X)),
    Case("Sylvester residual", Trace(_sylvester.T * _sylvester), X, lambda A, B, C, X: sq(A @ X + X @ B - C),
         lambda A, B, C, X: 2 * (A.T @ (A @ X + X @ B - C) + (A @ X + X @ B - C) @ B.T)),
    Case("LQR: cost of one step by the input", x.T * Q * x + u.T * R * u + (A * x + B * u).T * P * (A * x + B * u), u,
         lambda A, B, P, Q, R, x, u: x.T @ Q @ x + u.T @ R @ u + (A @ x + B @ u).T @ P @ (A @ x + B @ u),
         lambda A, B, P, Q, R, x, u: (R + R.T) @ u + B.T @ (P + P.T) @ (A @ x + B @ u)),
    Case("LQR: cost of one step by the feedback", x.T * _closed * x, K,
         lambda A, B, K, P, Q, R, x: x.T @ ((A - B @ K).T @ P @ (A - B @ K) + Q + K.T @ R @ K) @ x,
         lambda A, B, K, P, Q, R, x: 2 * (R @ K - B.T @ P @ (A - B @ K)) @ x @ x.T, {"P": SYM, "R": SYM}),
    Case("Kalman: covariance after the update by the gain",
         Trace((In - K * C) * P * (In - K * C).T + K * R * K.T), K,
         lambda C, K, P, R: tr((eye(len(P)) - K @ C) @ P @ (eye(len(P)) - K @ C).T + K @ R @ K.T),
         lambda C, K, P, R: 2 * (K @ R - (eye(len(P)) - K @ C) @ P @ C.T), {"P": SYM, "R": SYM}),
    Case("Kalman: innovation likelihood by the noise",
         Trace(y.T * (C * P * C.T + R) ** -1 * y) + sp.log(Determinant(C * P * C.T + R)), R,
         lambda C, P, R, y: tr(y.T @ inv(C @ P @ C.T + R) @ y) + log(det(C @ P @ C.T + R)),
         lambda C, P, R, y: inv(C @ P @ C.T + R) - inv(C @ P @ C.T + R) @ y @ y.T @ inv(C @ P @ C.T + R),
         {"P": PD, "R": PD}),
    Case("Riccati step: trace by the cost-to-go", Trace(Q + A.T * P * A - A.T * P * B * _gain), P,
         lambda A, B, P, Q, R: tr(Q + A.T @ P @ A - A.T @ P @ B @ gain(A, B, P, R)),
         lambda A, B, P, Q, R: (A - B @ gain(A, B, P, R)) @ (A - B @ gain(A, B, P, R)).T, {"P": PD, "R": PD}),
    Case("Riccati step by the input cost", Trace(A.T * P * A - A.T * P * B * _gain), R,
         lambda A, B, P, R: tr(A.T @ P @ A - A.T @ P @ B @ gain(A, B, P, R)),
         lambda A, B, P, R: gain(A, B, P, R) @ gain(A, B, P, R).T, {"P": PD, "R": PD}),
    Case("quadratic cost over two steps", (A * A * x + A * B * u).T * Q * (A * A * x + A * B * u), u,
         lambda A, B, Q, x, u: (A @ A @ x + A @ B @ u).T @ Q @ (A @ A @ x + A @ B @ u),
         lambda A, B, Q, x, u: B.T @ A.T @ (Q + Q.T) @ (A @ A @ x + A @ B @ u)),
)  # fmt: skip


def gain(A: Any, B: Any, P: Any, R: Any) -> Any:
    return inv(R + B.T @ P @ B) @ B.T @ P @ A


def inverse_root_gradient(X: Any, a: Any) -> Any:
    """Of a'X^(-1/2)a with respect to X: -Y, where Y solves the Sylvester equation of the differential."""
    root = scipy.linalg.sqrtm(X)
    return -scipy.linalg.solve_sylvester(root, root, inv(root) @ a @ a.T @ inv(root))


def by_eigenvalues(X: Any, slopes: Callable[[Any, Any], Any]) -> Any:
    """The Jacobian of a function of a symmetric matrix (Daleckii and Krein): `slopes` are its divided differences."""
    values, vectors = np.linalg.eigh(X)
    differences = slopes(values[:, None], values[None, :])
    return np.einsum("ka,ab,lb,ia,jb->klij", vectors, differences, vectors, vectors, vectors)


def slope_of_log(p: Any, q: Any) -> Any:
    near = abs(p - q) < 1e-12
    return np.where(near, 1 / p, (log(p) - log(q)) / np.where(near, 1, p - q))


def along_each_element(X: Any, derivative: Callable[[Any, Any], Any]) -> Any:
    """A Jacobian from directional derivatives."""
    columns = [derivative(X, e.reshape(X.shape)) for e in eye(X.size)]
    return np.moveaxis(np.reshape(columns, (*X.shape, *X.shape)), (0, 1), (2, 3))


def eigenvector(X: Any, which: int) -> Any:
    return np.linalg.eigh(X)[1][:, which : which + 1]


def svd(X: Any) -> Any:
    return np.linalg.svd(X, full_matrices=False)


FUNCTIONS = (
    Case("Cookbook 65: the sum of eigenvalues", Trace(EigenValues(X)), X, lambda X: tr(X), lambda X: eye(len(X)),
         {"X": SYM}),
    Case("Cookbook 66: the product of eigenvalues", sp.Product(MatrixElement(EigenValues(X), i, i), (i, 0, n - 1)), X,
         lambda X: det(X), lambda X: det(X) * inv(X), {"X": "regular symmetric"}),
    Case("Cookbook 67: the smallest eigenvalue", MatrixElement(EigenValues(X), 0, 0), X,
         lambda X: np.linalg.eigvalsh(X)[0],
         lambda X: eigenvector(X, 0) @ eigenvector(X, 0).T, {"X": "regular symmetric"}),
    Case("M&N 9.8: the largest eigenvalue", MatrixElement(EigenValues(X), n - 1, n - 1), X,
         lambda X: np.linalg.eigvalsh(X)[-1],
         lambda X: eigenvector(X, len(X) - 1) @ eigenvector(X, len(X) - 1).T,
         {"X": "regular symmetric"}),
    Case("the sum of squared eigenvalues", Trace(EigenValues(X) ** 2), X, lambda X: sq(X), lambda X: 2 * X, {"X": SYM}),
    Case("log det from eigenvalues", sp.Sum(sp.log(MatrixElement(EigenValues(X), i, i)), (i, 0, n - 1)), X,
         lambda X: log(det(X)),
         lambda X: inv(X), {"X": PD}),
    Case("the nuclear norm", Trace(SofSVD(X)), X, lambda X: svd(X)[1].sum(), lambda X: svd(X)[0] @ svd(X)[2],
         {"X": INV}),
    Case("the spectral norm", MatrixElement(SofSVD(X), 0, 0), X, lambda X: svd(X)[1][0],
         lambda X: svd(X)[0][:, :1] @ svd(X)[2][:1], {"X": INV}),
    Case("Giles: log det from a Cholesky factor",
         2 * sp.Sum(sp.log(MatrixElement(LofCholesky(X), i, i)), (i, 0, n - 1)), X,
         lambda X: log(det(X)), lambda X: inv(X), {"X": PD}),
    Case("log det X'X from a QR factor", sp.Sum(sp.log(sp.Abs(MatrixElement(RofQR(X), i, i))), (i, 0, n - 1)), X,
         lambda X: log(abs(det(X))), lambda X: inv(X).T, {"X": INV}),
    Case("exp X", sp.exp(X), X, lambda X: scipy.linalg.expm(X),
         lambda X: along_each_element(X, lambda x, e: scipy.linalg.expm_frechet(x, e, compute_expm=False)), {}, False),
    Case("log X at a symmetric X", sp.log(X), X,
         lambda X: scipy.linalg.logm(X), lambda X: by_eigenvalues(X, slope_of_log), {"X": PD}, False),
    Case("X^(1/2) at a symmetric X", X ** sp.Rational(1, 2), X, lambda X: scipy.linalg.sqrtm(X),
         lambda X: by_eigenvalues(X, lambda p, q: 1 / (np.sqrt(p) + np.sqrt(q))), {"X": PD}),
    Case("tr X^(1/2)", Trace(X ** sp.Rational(1, 2)), X, lambda X: tr(scipy.linalg.sqrtm(X)),
         lambda X: inv(scipy.linalg.sqrtm(X)) / 2, {"X": PD}),
    Case("a'X^(-1/2) b", a.T * X ** sp.Rational(-1, 2) * a, X, lambda X, a: a.T @ inv(scipy.linalg.sqrtm(X)) @ a,
         lambda X, a: inverse_root_gradient(X, a), {"X": PD}),
    Case("a linear system as MatrixSolve", a.T * MatrixSolve(A, b), A, lambda A, a, b: a.T @ np.linalg.solve(A, b),
         lambda A, a, b: -inv(A).T @ a @ b.T @ inv(A).T, {"A": INV}),
)  # fmt: skip

SITE = (  # as the site's documentation prints them; scalars a and b, vectors y, v, x, the others matrices
    Case("site: 0.5*x'*A*x", x.T * A * x / 2, x, lambda x, A: x.T @ A @ x / 2, lambda x, A: (A @ x + A.T @ x) / 2),
    Case("site: A*exp(x)", A * x.applyfunc(sp.exp), x, lambda A, x: A @ exp(x),
         lambda A, x: (A @ np.diag(exp(x[:, 0])))[:, None, :, None]),
    Case("site: (y.*v)'*x", HadamardProduct(y, v).T * x, y, lambda x, y, v: (y * v).T @ x, lambda x, y, v: v * x),
    Case("site: a^b", s**t, s, lambda s, t: s**t, lambda s, t: t * s ** (t - 1)),
    Case("site: norm1(A*x-y)", total((A * x - y).applyfunc(sp.Abs)), x, lambda A, x, y: cell(abs(A @ x - y).sum()),
         lambda A, x, y: A.T @ np.sign(A @ x - y), {}, False),
    Case("site: norm2(A*x-y)^2", (A * x - y).T * (A * x - y), x, lambda A, x, y: (A @ x - y).T @ (A @ x - y),
         lambda A, x, y: 2 * A.T @ (A @ x - y)),
    Case("site: sum(log(exp(-y.*(X*w)) + vector(1)))",
         total((HadamardProduct(-gm, Xm * w).applyfunc(sp.exp) + one_m).applyfunc(sp.log)), w,
         lambda X, w, g: cell(log(exp(-g * (X @ w)) + 1).sum()),
         lambda X, w, g: -X.T @ (g * exp(-g * (X @ w)) / (exp(-g * (X @ w)) + 1)), {"g": "labels"}),
    Case("site: tr(A*X'*B*X*C)", Trace(A * Xm.T * Bm * Xm * C), Xm, lambda X, A, B, C: tr(A @ X.T @ B @ X @ C),
         lambda X, A, B, C: B @ X @ C @ A + B.T @ X @ A.T @ C.T),
    Case("site: log(det(inv(X)))", sp.log(Determinant(X**-1)), X, lambda X: log(det(inv(X))), lambda X: -inv(X).T,
         {"X": PD}),
)  # fmt: skip

CASES: tuple[Case, ...] = (
    *LINEAR, *QUADRATIC, *TRACES, *DETERMINANTS, *INVERSES, *NORMS, *STRUCTURED, *PRODUCTS, *STATISTICS, *LEARNING,
    *CONTROL, *FUNCTIONS, *SITE,
)  # fmt: skip


# Gradients for which `.diff` of SymPy 1.14 answers something else without a word: 0 for all but the last seven.
SYMPY_IS_WRONG = (
    "Cookbook 76: the sum of all products of two elements", "Dwyer: one element of AXB", "one element",
    "exp of a trace", "Cookbook 55: log det X'X", "Cookbook 57: log |det X|", "log det X", "det X squared",
    "M&N: log det X'AX", "Minka: log det(I + X'X)", "log det of a triangular matrix",
    "log det of a product with its transpose", "log det A + x x'", "log det(A diag(x) + B)",
    "Cookbook 141: log det X, X symmetric by its parameters", "determinant of a block matrix",
    "log det of a Kronecker product", "dot product", "a cubic form in indices", "Gaussian log-likelihood by the mean",
    "Dwyer: Gaussian log-likelihood by the covariance", "Minka: Gaussian log-likelihood by the precision",
    "KL of two Gaussians by the first mean", "KL of two Gaussians by the first covariance",
    "GP marginal likelihood by the kernel matrix", "Wishart log-density", "Student log-density",
    "Bhattacharyya distance of covariances", "Stein loss", "factor analysis by the loadings",
    "least squares by indices", "ridge regression", "logistic loss, labels -1 and 1", "softmax cross-entropy",
    "SVM with squared hinge", "determinantal point process", "Gaussian kernel of two vectors",
    "Kalman: innovation likelihood by the noise", "site: log(det(inv(X)))",
    "ratio of traces", "cosine similarity", "the Rayleigh quotient", "the generalised Rayleigh quotient",
    "canonical correlation of two directions", "metric learning by the metric", "tr X^(1/2)",
)  # fmt: skip


def names_of(case: Case) -> list[str]:
    """The inputs by name, as the NumPy functions take them."""
    return list(inspect.signature(case.value).parameters)
