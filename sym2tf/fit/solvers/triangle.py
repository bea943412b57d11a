"""The triangular factor of a tall matrix that arrives in blocks of rows: least squares in one pass and constant memory.

Blocks are put under the factor of the rows before them and factored with it (Golub and Van Loan, Matrix Computations,
4th ed., section 6.5.3; as sequential TSQR: Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34, 2012). What is
like the rows before it takes a shorter way, which loses no more digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.lazy import lazy

blas = lazy("scipy.linalg.blas")
lapack = lazy("scipy.linalg.lapack")

Array = np.ndarray[Any, Any]

FEW = 2_048
"""Rows that BLAS is given at once: so few that it takes one thread, and that they stay in the cache. Measured for 12
columns, ns a row, on two cores alone / with four more processes: QR 39 / 110 at 2^11 rows, 30 / 2500 at 2^15, where
threads wait for each other; a triangular solve and a Gram matrix 26 / 39 at 2^11 rows."""
MANY = 32 * FEW  # rows from one Cholesky factorisation to the next
LIKE = 100.0
"""Condition number up to which a Gram matrix is factored by Cholesky, which loses so many times the rounding error."""
SINGULAR = 1e-12


def absorbed(factor: Array, block: Array) -> Array:
    """The factor (m, m), upper triangular, of rows with the factor (m, m) and of more rows (rows, m).

    It is the same for any order and grouping of the rows, but for the signs of its own rows and for rounding. The last
    column may be a combination of the others.
    """
    for start in range(0, len(block), MANY):
        part = block[start : start + MANY]
        if not factor.any():
            factor, part = _stacked(factor, part[:FEW]), part[FEW:]
        shorter = _through_gram(factor, part) if len(part) else factor
        factor = _stacked(factor, part) if shorter is None else shorter
    return factor


def _stacked(factor: Array, block: Array) -> Array:
    """By QR factorisations of the factor on top of a few rows."""
    m = len(factor)
    for start in range(0, len(block), FEW):
        part = block[start : start + FEW]
        stacked = np.empty((m + len(part), m), order="F")
        stacked[:m], stacked[m:] = factor, part
        packed, _, _, info = lapack.dgeqrf(stacked, overwrite_a=1)
        assert info == 0
        factor = np.triu(packed[:m])
    return factor


def _through_gram(factor: Array, block: Array) -> Array | None:
    """By the Gram matrix of the rows in the basis of those before them; None where they are too different.

    With the factor R of the rows before, B = A R^-1 are the new rows A in coordinates in which the old ones are
    orthonormal, however ill-conditioned R is. If the new ones are like them, I + B^T B is well conditioned, its
    Cholesky factor U is found without loss, and U R is the new factor. A Gram matrix of A itself would square the
    condition of A.
    """
    m = len(factor)
    R, image, rest = factor[:-1, :-1], factor[:-1, -1], factor[-1, -1]
    if (np.abs(np.diagonal(R)) <= SINGULAR * np.sqrt(np.square(R / _largest(R)).sum(axis=0)) * _largest(R)).any():
        return None
    R, gram = np.asfortranarray(R), np.zeros((m, m))
    for start in range(0, len(block), FEW):
        part = block[start : start + FEW]
        B = np.empty((len(part), m), order="F")
        B[:, :-1] = blas.dtrsm(1.0, R, part[:, :-1], side=1)
        B[:, -1] = part[:, -1]
        gram += B.T @ B
    G = gram[:-1, :-1] + np.eye(m - 1)
    if not np.isfinite(gram).all():
        return None
    scale = np.sqrt(np.diagonal(G))
    values = np.linalg.eigvalsh(G / np.outer(scale, scale))
    if not values[0] * LIKE > values[-1]:
        return None
    U = np.linalg.cholesky(G).T
    found = np.zeros((m, m))
    found[:-1, :-1] = np.triu(U @ R)
    found[:-1, -1] = lapack.dtrtrs(U, image + gram[:-1, -1], trans=1)[0]
    left = rest**2 + gram[-1, -1] + image @ image - found[:-1, -1] @ found[:-1, -1]
    found[-1, -1] = np.sqrt(max(left, 0.0))
    return found


def _largest(R: Array) -> Array:
    """Of each column, so that squares stay within range."""
    largest = np.abs(R).max(axis=0)
    return np.where(largest > 0, largest, 1.0)
