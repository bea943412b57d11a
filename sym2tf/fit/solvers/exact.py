"""Linear least squares in exact rational arithmetic: for problems that magnify the rounding of a double.

The residuals themselves are evaluated exactly, from data read as the decimals that they are written in
(`backends.exact.shortest_decimal`), the normal equations are solved in integers, and estimates, residuals and the
factor of the covariance are each rounded once.
"""

from __future__ import annotations

from math import lcm
from typing import Any

import mpmath
import numpy as np
from sympy import QQ
from sympy.polys.matrices import DomainMatrix

from sym2tf.backends import exact
from sym2tf.errors import ResourceLimitError, SingularProblemError
from sym2tf.fit.evaluation.residuals import inputs_of
from sym2tf.fit.solvers.linear import LinearSolution, undetermined
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]

AUTOMATIC_WORK = 300_000
"""Operations on rationals that a fit does of its own accord: about half a second."""
LARGEST_WORK = 100_000_000
"""Operations that it does when told to: minutes."""
LONGEST_BITS = 2_000
"""Of a common denominator. Beyond, the elements of a column are rounded to that many binary places of the largest one,
which is hundreds of digits: weights such as 1/sigma[i]**2 have a denominator of their own in each row."""


def work_of(problem: Problem, structure: Structure, rows: int) -> int:
    """How many operations on rationals an exact solution takes."""
    assert structure.residuals is not None
    count = len(problem.names)
    return rows * (count + 1) * (len(structure.residuals.order) + count) + 4 * count**4


def solve_exactly(problem: Problem, structure: Structure, rows: int, *, weighted: bool, limit: int) -> LinearSolution:
    """Minimise the sum of squares of a linear problem; every number is the nearest double to the exact one.

    The residuals are those of the cost, without weights; the factor is that of (J^T W J)^-1, W without what all rows
    share.

    Args:
        problem: what is stated.
        structure: residuals linear in the parameters.
        rows: of all residuals.
        weighted: the weights differ from row to row.
        limit: of the operations.

    Raises:
        GraphError: a residual that holds what cannot be computed exactly.
        ResourceLimitError: it takes more operations than `limit`.
        SingularProblemError: the columns are dependent, exactly; names the combinations.
    """
    work = work_of(problem, structure, rows)
    if work > limit:
        raise ResourceLimitError(f"{rows} rows and {len(problem.names)} parameters are too many for exact arithmetic")
    A, t, w = _design(problem, structure)
    columns = [_integers(column) for column in (*A.T, t)]
    a = np.array([numbers for numbers, _ in columns[:-1]], object).T
    u, f = columns[-1]
    d = [denominator for _, denominator in columns[:-1]]
    v, g = _integers(w) if weighted else (np.ones_like(u), 1)
    wa = a * v[:, None]
    N, c = wa.T @ a, wa.T @ u
    M = _eliminated(np.concatenate([N, c[:, None], np.eye(len(N), dtype=int).astype(object)], axis=1))
    minors = [1, *np.diagonal(M)]
    if 0 in minors:
        raise SingularProblemError(_dependent(N, d, problem.names))
    T, last = _back_substituted(M), minors[-1]
    theta = np.array([_quotient(T[k] * d[k], last * f) for k in range(len(T))])
    residual = np.array([_quotient(x, last * f) for x in u * last - a @ T])
    F = _inverse_root(M, minors, d, g)
    return LinearSolution(theta, residual, F, _condition(M, minors), extended=True)


def _design(problem: Problem, structure: Structure) -> tuple[Array, Array, Array]:
    """J negated (rows, p), the residuals at 0, and the weights, as rationals."""
    assert structure.residuals is not None
    assert structure.weights is not None
    count = len(problem.names)
    points = problem.unpacked(np.vstack([np.zeros((1, count)), np.eye(count)]))
    graph = structure.residuals
    found = exact.evaluate(graph, inputs_of(graph, problem, points), problem.bound)
    r = np.concatenate([found[name].reshape(count + 1, -1) for name in graph.outputs], axis=1)
    graph = structure.weights
    given = exact.evaluate(graph, inputs_of(graph, problem, {}), problem.bound)
    return (r[0] - r[1:]).T, r[0], np.concatenate([given[name].ravel() for name in graph.outputs])


def _integers(numbers: Array) -> tuple[Array, int]:
    """Integers and their common denominator."""
    common = 1
    for x in numbers:
        common = lcm(common, int(x.denominator))
        if common.bit_length() > LONGEST_BITS:
            return _rounded(numbers)
    whole = [int(x.numerator) * (common // int(x.denominator)) for x in numbers]
    return np.array([*whole, None], object)[:-1], common


def _rounded(numbers: Array) -> tuple[Array, int]:
    largest = max(abs(x) for x in numbers)
    shift = LONGEST_BITS - (int(largest.numerator) // int(largest.denominator)).bit_length()
    shift = max(shift, int(largest.denominator).bit_length() - int(largest.numerator).bit_length() + LONGEST_BITS)
    whole = [(int(x.numerator) << shift) // int(x.denominator) for x in numbers]
    return np.array([*whole, None], object)[:-1], 1 << shift


def _eliminated(M: Array) -> Array:
    """Fraction-free forward elimination of integers without exchange of rows, in which every division is exact.

    Row k comes out as minor_{k-1} times that of the elimination with fractions, its pivot as minor_k: Bareiss,
    Sylvester's identity and multistep integer-preserving Gaussian elimination, Math. Comp. 22 (1968). A Gram matrix
    needs no exchange: its leading minors are positive up to the first column that depends on those before it.
    """
    M, previous = M.copy(), 1
    for k in range(len(M) - 1):
        pivot = M[k, k]
        if not pivot:
            return M
        M[k + 1 :] = (M[k + 1 :] * pivot - M[k + 1 :, k, None] * M[k]) // previous
        previous = pivot
    return M


def _back_substituted(M: Array) -> Array:
    """The solution of the eliminated system times its determinant: integers, by Cramer's rule."""
    count = len(M)
    determinant = M[-1, count - 1]
    T = np.zeros(count, object)
    for k in reversed(range(count)):
        T[k] = (determinant * M[k, count] - M[k, k + 1 : count] @ T[k + 1 :]) // M[k, k]
    return T


def _inverse_root(M: Array, minors: list[int], d: list[int], g: int) -> Array:
    """The columns of L^-T D^-1/2 of the Gram matrix L D L^T, with the scales of columns and weights put back."""
    count = len(M)
    F = np.zeros((count, count))
    with mpmath.workdps(30):
        roots = [mpmath.sqrt(mpmath.mpf(m)) for m in minors]
        for k in range(count):
            unit = mpmath.sqrt(g) / (roots[k] * roots[k + 1])
            for j in range(k + 1):
                F[j, k] = float(unit * (M[k, count + 1 + j] * d[j]))
    return F


def _condition(M: Array, minors: list[int]) -> float:
    """Of the triangular factor D^1/2 L^T with columns of unit length."""
    count = len(M)
    with mpmath.workdps(30):
        R = mpmath.matrix(count, count)
        for k in range(count):
            unit = mpmath.sqrt(mpmath.mpf(minors[k])) * mpmath.sqrt(mpmath.mpf(minors[k + 1]))
            for j in range(k, count):
                R[k, j] = mpmath.mpf(M[k, j]) / unit
        lengths = [mpmath.sqrt(mpmath.fsum(R[k, j] ** 2 for k in range(j + 1))) for j in range(count)]
        scaled = np.array([[float(R[k, j] / lengths[j]) for j in range(count)] for k in range(count)])
    values = np.linalg.svd(scaled, compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0 else np.inf


def _dependent(N: Array, d: list[int], names: tuple[str, ...]) -> str:
    """Words for the exact null space of a Gram matrix of the columns times `d`."""
    gram = DomainMatrix([[QQ(int(x)) for x in row] for row in N], N.shape, QQ)
    basis = gram.nullspace().to_list()
    scale = np.array([float(mpmath.sqrt(mpmath.mpf(N[k, k])) / d[k]) for k in range(len(N))])
    directions = np.array(
        [[_quotient(x.numerator * e, x.denominator) for x, e in zip(row, d, strict=True)] for row in basis]
    )
    return undetermined(directions, np.where(scale > 0, scale, 1.0), names)


def _quotient(numerator: int, denominator: int) -> float:
    """The nearest double: Python divides integers of any length with one rounding."""
    try:
        return int(numerator) / int(denominator)
    except OverflowError:
        return float("inf") if (numerator > 0) == (denominator > 0) else float("-inf")
