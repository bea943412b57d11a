"""Linear least squares with digits kept: one QR factorisation, refined with sums in extended precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import mpmath
import numpy as np

from sym2tf.errors import SingularProblemError

Array = np.ndarray[Any, Any]

# Columns that are equal but for the rounding of the data give a smallest singular value of a few eps; the
# factor is a margin. NIST's Filip, the worst problem that is still one (ratio 5e-11 after scaling), is far above it.
RANK_TOLERANCE = 32 * np.finfo(np.float64).eps
LOST_FOR = 1e-12
"""Condition x eps from which a solution from rounded data may miss the twelfth digit, and is computed exactly."""
WARNED_FOR = 1e-6
"""Condition x eps from which a solution that could not be computed exactly is warned about."""
STEPS_AT_BOUNDS = 10_000  # of SciPy's solver of bounded problems, which stops after as many as there are parameters
WIDE_LIMIT = 100_000_000  # rows x columns^2 up to which sums are in long double: about two seconds
OBJECT_LIMIT = 200_000  # the same where long double is no longer than double, and mpmath stands in
STEPS = 3  # the first reaches the digits of a double, the second those of a long double


@dataclass(frozen=True)
class LinearSolution:
    """The minimiser of |t - A theta|, with what inference needs.

    Attributes:
        theta: (p,).
        residual: (rows,), t - A theta.
        inverse_root: (p, p), F with F F^T = (A^T A)^-1; unlike that product it stays within range.
        condition: ratio of the singular values of A with its columns scaled to unit length.
        extended: whether sums were in extended precision.
    """

    theta: Array
    residual: Array
    inverse_root: Array
    condition: float
    extended: bool


def solve_least_squares(A: Array, t: Array, names: tuple[str, ...]) -> LinearSolution:
    """Minimise |t - A theta|.

    With A = QR and X = R^-1, the columns of B = A X, computed in extended precision, are nearly orthonormal
    whatever
    the condition of A. So theta = X z, where z minimises |t - B z| and is refined with extended residuals,
    and
    (A^T A)^-1 = X (B^T B)^-1 X^T, both to the digits that the data carry. Scales are powers of two: they
    round nothing.

    Args:
        A: (rows, p).
        t: (rows,).
        names: of the columns, for the error.

    Raises:
        SingularProblemError: A has not full rank; names the combinations that are not determined.
    """
    found, unit = _orthogonal(A, names), power_of_two(np.abs(t).max(initial=0))
    B, wide = found.B, found.wide
    t_wide, gram = wide(t / unit), wide(found.gram)
    z = wide(np.zeros(len(found.gram)))
    for _ in range(STEPS):
        z = z + gram @ (B.T @ (t_wide - B @ z))
    theta = (found.X @ z).astype(np.float64) * (unit / found.scale)
    residual = (t_wide - B @ z).astype(np.float64) * unit
    return LinearSolution(theta, residual, found.inverse_root, found.condition, found.extended)


class _Orthogonal(NamedTuple):
    """A matrix A with scaled columns times X, which makes them nearly orthonormal.

    Attributes:
        scale: (p,), powers of two by which columns were divided.
        X: (p, p), in extended precision like B.
        B: (rows, p), A X / scale.
        gram: (p, p), the inverse of B^T B.
        condition: of A with columns of unit length.
        wide: the conversion to extended precision.
        extended: whether it is one.
    """

    scale: Array
    X: Array
    B: Array
    gram: Array
    condition: float
    wide: Any
    extended: bool

    @property
    def inverse_root(self) -> Array:
        """F with F F^T = (A^T A)^-1."""
        root = self.X @ self.wide(np.linalg.cholesky(self.gram))
        return np.asarray(root.astype(np.float64) / self.scale[:, None])


def _orthogonal(A: Array, names: tuple[str, ...]) -> _Orthogonal:
    scale = power_of_two(np.abs(A).max(axis=0, initial=0))
    scale = scale * power_of_two(np.sqrt(np.square(A / scale).sum(axis=0)))
    A = A / scale
    R: Array = np.asarray(np.linalg.qr(A, mode="r"))
    condition = require_rank(R, scale, names)
    wide, extended = _wide(A.shape[0] * A.shape[1] ** 2)
    X = wide(np.linalg.solve(R, np.eye(len(R))))
    B = wide(A) @ X
    rounded = B.astype(np.float64)  # good enough for a matrix that is nearly the unit matrix
    return _Orthogonal(scale, X, B, np.linalg.inv(rounded.T @ rounded), condition, wide, extended)


def inverse_root_of(J: Array, names: tuple[str, ...]) -> tuple[Array, float]:
    """F with F F^T = (J^T J)^-1, and the condition number of J with scaled columns.

    Raises:
        SingularProblemError: J has not full rank.
    """
    found = _orthogonal(J, names)
    return found.inverse_root, found.condition


def require_rank(R: Array, scale: Array, names: tuple[str, ...]) -> float:
    """The condition number of a scaled triangular (or any square) factor whose columns belong to `names`.

    Raises:
        SingularProblemError: a singular value is below `RANK_TOLERANCE` x columns x the largest.
    """
    lengths = np.sqrt(np.square(R).sum(axis=0))
    unit = np.where(lengths > 0, lengths, 1.0)
    _, values, V = np.linalg.svd(R / unit)
    lost = values <= RANK_TOLERANCE * len(names) * values[0]
    if len(V) > len(values):
        lost = np.concatenate([lost, np.ones(len(V) - len(values), bool)])
    if lost.any() or values[0] == 0:
        raise SingularProblemError(undetermined(V[lost] / (unit * scale), unit * scale, names))
    return float(values[0] / values[-1])


def undetermined(directions: Array, scale: Array, names: tuple[str, ...]) -> str:
    """Words for the null space of a design matrix.

    Args:
        directions: (d, p), a basis of it.
        scale: (p,), the lengths of the columns, by which components are judged.
        names: of the parameters.
    """
    basis = _reduced(np.atleast_2d(directions), scale)
    sentences = []
    for direction in basis:
        nonzero = [k for k in range(len(names)) if direction[k]]
        if len(nonzero) == 1:
            sentences.append(f"{names[nonzero[0]]} has no influence on the cost")
            continue
        change = ", ".join(f"{names[k]} by {direction[k]:+.6g}" for k in nonzero)
        text = f"changing {change} at once changes nothing"
        if len(nonzero) == 2:
            i, j = nonzero
            kept = _combination([1.0, -direction[i] / direction[j]], [names[i], names[j]])
            text += f" (only {kept} is determined)"
        sentences.append(text)
    combinations = ", ".join(
        _combination([d[k] for k in np.flatnonzero(d)], [names[k] for k in np.flatnonzero(d)]) for d in basis
    )
    return f"the data do not determine {combinations}: {'; '.join(sentences)}"


def power_of_two(numbers: Any) -> Any:
    """The power of two next above each positive number; 1 for zero."""
    _, exponent = np.frexp(numbers)
    return np.where(np.asarray(numbers) > 0, np.ldexp(1.0, np.clip(exponent, -1000, 1000)), 1.0)


def _reduced(directions: Array, scale: Array) -> Array:
    """A basis of the same space with many zeros: reduced row echelon form, the first entry of each 1."""
    rows = directions * scale
    for done in range(len(rows)):
        rest = np.abs(rows[done:])
        i, j = (int(k) for k in np.unravel_index(np.argmax(rest), rest.shape))
        rows[[done, done + i]] = rows[[done + i, done]]
        rows[done] /= rows[done, j]
        for k in range(len(rows)):
            if k != done:
                rows[k] -= rows[k, j] * rows[done]
    rows[np.abs(rows) < 1e-9] = 0
    rows = rows / scale
    return np.array([row / row[np.flatnonzero(row)[0]] for row in rows])


def _combination(coefficients: Any, names: Any) -> str:
    text = ""
    for c, name in zip(coefficients, names, strict=True):
        size = abs(round(c, 9))
        text += (" - " if c < 0 else " + ") if text else ("-" if c < 0 else "")
        text += name if abs(size - 1) < 1e-9 else f"{abs(c):.6g}*{name}"
    return text


def _wide(work: int) -> tuple[Any, bool]:
    """A conversion to extended precision, and whether it is one, for `work` multiplications."""
    if np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant:
        if work <= WIDE_LIMIT:
            return lambda x: np.asarray(x, dtype=np.longdouble), True
    elif work <= OBJECT_LIMIT:
        return lambda x: np.vectorize(mpmath.mpf, otypes=[object])(x), True
    return lambda x: np.asarray(x, dtype=np.float64), False
