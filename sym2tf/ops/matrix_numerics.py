"""What the rows of linear algebra compute with: NumPy and SciPy on batches of floats, mpmath on object arrays.

Both take matrices on the last two axes behind any batch axes. Where a result does not exist (the inverse of a singular
matrix, say) it is NaN for that matrix alone, so that one of a batch does not spoil the others. Decompositions are made
unique by a convention of signs, so that all backends agree.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mpmath
import numpy as np

from sym2tf.lazy import lazy

scipy_linalg = lazy("scipy.linalg")  # a fifth of a second, and only the reference backend needs it

Array = np.ndarray[Any, Any]
Numeric = Callable[..., Any]

DECISIVE = 0.5  # the first component at least this large, relative to the largest, gives a singular vector its sign


def reference(floats: Numeric, precise: Numeric, *, results: int = 2) -> Numeric:
    """The reference implementation of a row.

    Args:
        floats: on arrays of floats of any batch shape; a `LinAlgError` sends it to one matrix after the other.
        precise: on one `mpmath.matrix` for each operand; returns an `mpmath.matrix`, a list or a number.
        results: core rank of the result.
    """

    def compute(*arrays: Any, **attributes: Any) -> Any:
        if any(np.asarray(a).dtype == object for a in arrays):
            return _each(partial(_on_mpmath, partial(precise, **attributes), results), arrays)
        widened = [a.astype(np.float32) if a.dtype == np.float16 else a for a in map(np.asarray, arrays)]
        try:
            return floats(*widened, **attributes)
        except np.linalg.LinAlgError:
            return _each(partial(_surviving, partial(floats, **attributes)), widened)

    return compute


def _each(function: Numeric, arrays: Sequence[Array]) -> Array:
    """`function` on one matrix of each operand after the other; batch axes broadcast."""
    batch = np.broadcast_shapes(*(a.shape[:-2] for a in arrays))
    flat = [np.broadcast_to(a, (*batch, *a.shape[-2:])).reshape(math.prod(batch), *a.shape[-2:]) for a in arrays]
    results = [function(*matrices) for matrices in zip(*flat, strict=True)]
    if not results:  # an empty batch: the shape of the result is that for any matrices
        return np.empty((*batch, *np.shape(function(*(np.ones(a.shape[-2:]) for a in arrays)))), arrays[0].dtype)
    stacked: Array = np.stack(results)
    return stacked.reshape((*batch, *stacked.shape[1:]))


def _surviving(floats: Numeric, *matrices: Array) -> Array:
    try:
        return np.asarray(floats(*matrices))
    except np.linalg.LinAlgError:
        generic = [np.eye(*m.shape, dtype=m.dtype) for m in matrices]
        return np.full_like(floats(*generic), np.nan)


def _on_mpmath(precise: Numeric, rank: int, *matrices: Array) -> Array:
    """`precise` on mpmath matrices; NaN where it fails, as it does for a singular matrix."""
    try:
        finite = all(mpmath.isfinite(x) for m in matrices for x in m.flat)
        value = precise(*map(to_mpmath, matrices)) if finite else None
    except (ZeroDivisionError, ValueError, mpmath.libmp.NoConvergence):
        value = None
    if value is None:
        generic = precise(*(mpmath.eye(max(m.shape))[: m.shape[0], : m.shape[1]] for m in matrices))
        return np.full_like(_objects(generic, rank), mpmath.nan)
    return _objects(value, rank)


def to_mpmath(a: Array) -> Any:
    """An object array as an `mpmath.matrix`."""
    rows, columns = a.shape
    made = mpmath.matrix(rows, columns)
    for i in range(rows):
        for j in range(columns):
            made[i, j] = a[i, j]
    return made


def _objects(value: Any, rank: int) -> Array:
    if rank == 0:
        result = np.empty((), object)
        result[()] = value
        return result
    if rank == 1:
        return np.array([*value, None], object)[:-1]
    result = np.empty((value.rows, value.cols), object)
    for i in range(value.rows):
        for j in range(value.cols):
            result[i, j] = value[i, j]
    return result


# Systems of equations and determinants


def _np_solve(a: Array, b: Array, *, adjoint: bool) -> Any:
    return np.linalg.solve(np.swapaxes(a, -1, -2) if adjoint else a, b)


def _mp_solve(a: Any, b: Any, *, adjoint: bool = False) -> Any:
    factors, rows, _ = _mp_lu(a.T if adjoint else a)
    n = a.rows
    x = _mp_matrix(n, b.cols, lambda i, j: b[rows[i], j])
    for j in range(b.cols):
        for i in range(n):
            x[i, j] -= mpmath.fsum(factors[i, k] * x[k, j] for k in range(i))
        for i in reversed(range(n)):
            x[i, j] = (x[i, j] - mpmath.fsum(factors[i, k] * x[k, j] for k in range(i + 1, n))) / factors[i, i]
    return x


def _mp_det(a: Any) -> Any:
    factors, _, sign = _mp_lu(a)
    return sign * mpmath.fprod(factors[k, k] for k in range(a.rows))


def _np_triangular(a: Array, b: Array, *, lower: bool, adjoint: bool) -> Any:
    kept = np.tril(a) if lower else np.triu(a)
    return _each(lambda m, c: scipy_linalg.solve_triangular(m, c, lower=lower, trans=int(adjoint)), [kept, b])


def _mp_triangular(a: Any, b: Any, *, lower: bool = True, adjoint: bool = False) -> Any:
    kept = _mp_matrix(a.rows, a.cols, lambda i, j: a[i, j] if (j <= i if lower else j >= i) else mpmath.mpf(0))
    return _mp_solve(kept, b, adjoint=adjoint)


def _mp_matrix(rows: int, columns: int, element: Callable[[int, int], Any]) -> Any:
    made = mpmath.matrix(rows, columns)
    for i in range(rows):
        for j in range(columns):
            made[i, j] = element(i, j)
    return made


def _np_lu(a: Array) -> tuple[Array, Array]:
    """The factors of one matrix, and the order of its rows."""
    with warnings.catch_warnings():  # a singular matrix has factors too
        warnings.simplefilter("ignore")
        factors, swaps = scipy_linalg.lu_factor(a, check_finite=False)
    rows = np.arange(len(a))
    for k, other in enumerate(swaps):
        rows[[k, other]] = rows[[other, k]]
    return factors, rows


def _mp_lu(a: Any) -> tuple[Any, list[int], int]:
    """As `_np_lu`, by Gaussian elimination with partial pivoting; and the sign of the permutation."""
    factors, n, sign = a.copy(), a.rows, 1
    rows = list(range(n))
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(factors[i, k]))
        if pivot != k:
            sign = -sign
            rows[k], rows[pivot] = rows[pivot], rows[k]
            for j in range(n):
                factors[k, j], factors[pivot, j] = factors[pivot, j], factors[k, j]
        for i in range(k + 1, n):
            factors[i, k] = factors[i, k] / factors[k, k] if factors[k, k] else mpmath.mpf(0)
            for j in range(k + 1, n):
                factors[i, j] -= factors[i, k] * factors[k, j]
    return factors, rows, sign


def solve_factored(a: Array, lu: Array, rows: Array, b: Array, *, adjoint: bool) -> Any:
    """The solution of a x = b, or a^T x = b, from the factors of `a`."""
    if a.dtype == object:
        return solve(a, b, adjoint=adjoint)
    one = np.eye(lu.shape[-1], dtype=lu.dtype)
    unit = np.tril(lu, -1) + one
    batch = np.broadcast_shapes(rows.shape[:-1], b.shape[:-2])
    order = np.broadcast_to(rows, (*batch, rows.shape[-1]))[..., None]
    full = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    if not adjoint:
        half = triangular_solve(unit, np.take_along_axis(full, order, -2), lower=True, adjoint=False)
        return triangular_solve(lu, half, lower=False, adjoint=False)
    half = triangular_solve(lu, full, lower=False, adjoint=True)
    solved = triangular_solve(unit, half, lower=True, adjoint=True)
    return np.take_along_axis(solved, np.argsort(order, -2), -2)


def _np_logdet(a: Array) -> Any:
    sign, size = np.linalg.slogdet(a)
    return np.where(sign < 0, np.asarray(np.nan, size.dtype), size)


def _mp_log(x: Any) -> Any:
    return mpmath.nan if x < 0 else mpmath.log(x) if x else -mpmath.inf


def _np_cholesky(a: Array, *, trust: bool = False) -> Any:
    return np.linalg.cholesky(a if trust else (a + np.swapaxes(a, -1, -2)) / 2)


def _np_cofactor(a: Array) -> Any:
    largest = np.max(np.abs(a), -1, initial=0)  # rows of one size: singular values are as accurate as the largest
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1).astype(a.dtype)
    u, s, vh = np.linalg.svd(a / scale[..., None])
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vh))
    return ((u * (sign[..., None] * _others(s))[..., None, :]) @ vh) * _others(scale)[..., None]


def _np_cofactor_slope(a: Array, t: Array) -> Any:
    u, s, vh = np.linalg.svd(a)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vh))[..., None, None]
    rest = _others_of_two(s)
    m = np.swapaxes(u, -1, -2) @ t @ np.swapaxes(vh, -1, -2)
    diagonal = np.einsum("...ij,...jj->...i", rest, m)
    return sign * (u @ (diagonal[..., None] * np.eye(s.shape[-1], dtype=s.dtype) - rest * np.swapaxes(m, -1, -2)) @ vh)


def _others(s: Array) -> Array:
    """The product of all elements of the last axis but one."""
    n = s.shape[-1]
    kept = np.where(np.eye(n, dtype=bool), np.asarray(1, s.dtype), s[..., None, :])
    return np.asarray(np.prod(kept, -1))


def _others_of_two(s: Array) -> Array:
    """(i, j): the product of all elements of the last axis but i and j; 0 where i is j."""
    n = s.shape[-1]
    eye = np.eye(n, dtype=bool)
    gone = eye[:, None, :] | eye[None, :, :]
    return np.where(eye, np.asarray(0, s.dtype), np.prod(np.where(gone, 1, s[..., None, None, :]), -1)).astype(s.dtype)


def _mp_minor(a: Any, rows: Sequence[int], columns: Sequence[int]) -> Any:
    """The determinant of what is left without some rows and columns."""
    kept = [i for i in range(a.rows) if i not in rows]
    left = [j for j in range(a.cols) if j not in columns]
    if not kept:
        return mpmath.mpf(1)
    return _mp_det(_mp_matrix(len(kept), len(left), lambda i, j: a[kept[i], left[j]]))


def _mp_cofactor(a: Any) -> Any:
    return _mp_matrix(a.rows, a.cols, lambda i, j: (-1) ** (i + j) * _mp_minor(a, [i], [j]))


def _mp_cofactor_slope(a: Any, t: Any) -> Any:
    """The derivative of each minor along `t`, by minors of the minors."""

    def element(i: int, j: int) -> Any:
        total = mpmath.mpf(0)
        for row in range(a.rows):
            for column in range(a.cols):
                if row != i and column != j:
                    parity = i + j + row + column + (row > i) + (column > j)
                    total += (-1) ** parity * t[row, column] * _mp_minor(a, [i, row], [j, column])
        return total

    return _mp_matrix(a.rows, a.cols, element)


def _mp_symmetric(a: Any) -> Any:
    return (a + a.T) / 2


inverse = reference(np.linalg.inv, lambda a: _mp_solve(a, mpmath.eye(a.rows)))
solve = reference(_np_solve, _mp_solve)
triangular_solve = reference(_np_triangular, _mp_triangular)
lu_factor = reference(lambda a: _each(lambda m: _np_lu(m)[0], [a]), lambda a: _mp_lu(a)[0])
lu_rows = reference(lambda a: _each(lambda m: _np_lu(m)[1], [a]), lambda a: _mp_lu(a)[1], results=1)
det = reference(np.linalg.det, _mp_det, results=0)
logabsdet = reference(lambda a: np.linalg.slogdet(a)[1], lambda a: _mp_log(abs(_mp_det(a))), results=0)
logdet = reference(_np_logdet, lambda a: _mp_log(_mp_det(a)), results=0)
cholesky = reference(_np_cholesky, lambda a, *, trust=False: mpmath.cholesky(_mp_symmetric(a)))
cofactor = reference(_np_cofactor, _mp_cofactor)
cofactor_slope = reference(_np_cofactor_slope, _mp_cofactor_slope)

# Decompositions


def signs(vectors: Array) -> Array:
    """+1 or -1 for each column: the sign of its first component that is not small."""
    size = np.abs(vectors)
    first = np.argmax(size >= DECISIVE * size.max(-2, keepdims=True), -2)[..., None, :]
    chosen = np.take_along_axis(vectors, first, -2)
    return np.where(chosen < 0, -1, 1).astype(vectors.dtype)


def _mp_signs(vectors: Any) -> list[int]:
    found = []
    for j in range(vectors.cols):
        column = [vectors[i, j] for i in range(vectors.rows)]
        largest = max(map(abs, column))
        found.append(-1 if next(x for x in column if abs(x) >= DECISIVE * largest) < 0 else 1)
    return found


def _mp_scaled(vectors: Any, factors: Sequence[Any]) -> Any:
    return _mp_matrix(vectors.rows, vectors.cols, lambda i, j: vectors[i, j] * factors[j])


def _np_eigh(a: Array) -> Any:
    values, vectors = np.linalg.eigh((a + np.swapaxes(a, -1, -2)) / 2)
    return values, vectors * signs(vectors)


def _mp_eigh_vectors(a: Any) -> Any:
    vectors = mpmath.eigsy(_mp_symmetric(a))[1]
    return _mp_scaled(vectors, _mp_signs(vectors))


def _np_svd(a: Array) -> tuple[Any, Any, Any]:
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    sign = signs(u)
    return u * sign, s, np.swapaxes(vh, -1, -2) * sign


def _mp_svd(a: Any) -> tuple[Any, Any, Any]:
    u, s, v = mpmath.svd_r(a)
    sign = _mp_signs(u)
    return _mp_scaled(u, sign), s, _mp_scaled(v.T, sign)


def _np_qr(a: Array) -> tuple[Any, Any]:
    q, r = np.linalg.qr(a)
    sign = np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0, -1, 1).astype(a.dtype)
    return q * sign[..., None, :], r * sign[..., :, None]


def _mp_qr(a: Any) -> tuple[Any, Any]:
    q, r = mpmath.qr(a, mode="skinny")
    sign = [-1 if r[j, j] < 0 else 1 for j in range(r.cols)]
    return _mp_scaled(q, sign), _mp_scaled(r.T, sign).T


eigh_values = reference(
    lambda a, *, alone=False: np.linalg.eigvalsh((a + np.swapaxes(a, -1, -2)) / 2),
    lambda a, *, alone=False: sorted(mpmath.eigsy(_mp_symmetric(a), eigvals_only=True)), results=1,
)
eigh_vectors = reference(lambda a: _np_eigh(a)[1], _mp_eigh_vectors)
svd_values = reference(
    lambda a, *, alone=False: np.linalg.svd(a, compute_uv=False),
    lambda a, *, alone=False: list(_mp_svd(a)[1]), results=1,
)
svd_left = reference(lambda a: _np_svd(a)[0], lambda a: _mp_svd(a)[0])
svd_right = reference(lambda a: _np_svd(a)[2], lambda a: _mp_svd(a)[2])
qr_q = reference(lambda a: _np_qr(a)[0], lambda a: _mp_qr(a)[0])
qr_r = reference(lambda a: _np_qr(a)[1], lambda a: _mp_qr(a)[1])

# Functions of a matrix


def _real_or_nan(value: Any) -> Any:
    """The principal value where it is real; the imaginary part of a logarithm that is not has norm pi at least."""
    if not np.iscomplexobj(value):
        return value
    scale = max(1.0, float(np.linalg.norm(value.real)))
    return value.real if np.linalg.norm(value.imag) < 1e-6 * scale else np.full_like(value.real, np.nan)


def _one_by_one(function: Callable[[], Numeric]) -> Numeric:
    def of_one(m: Array) -> Array:
        if not np.isfinite(m).all():
            return np.full_like(m, np.nan)
        with warnings.catch_warnings():  # SciPy's guess of the error of logm is coarse: it takes expm for exact
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.asarray(_real_or_nan(function()(m.astype(np.float64)))).astype(m.dtype)

    return lambda a: _each(of_one, [a])


# Coefficients of the diagonal Pade approximant of degree 13, and the norm up to which it is exact to rounding in
# float64: N. Higham, The scaling and squaring method for the matrix exponential revisited (2005), table 2.3.
PADE = (
    *(64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600),
    *(670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1),
)
PADE_NORM = 5.371920351148152


def _np_expm(a: Array) -> Array:
    """By scaling and squaring; SciPy 1.17 loses three digits here."""
    norm = np.abs(a).sum(-2).max(initial=0.0)
    squarings = max(0, math.ceil(math.log2(norm / PADE_NORM))) if 0 < norm < np.inf else 0
    a = a / 2.0**squarings
    b, one = PADE, np.eye(a.shape[-1], dtype=a.dtype)
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    odd = a @ (a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * one)
    even = a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * one
    answer = np.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        answer = answer @ answer
    return np.asarray(answer)


def _mp_real(value: Any) -> Any:
    tiny = mpmath.ldexp(1, -mpmath.mp.prec // 2) * max(1, mpmath.mnorm(value, "f"))
    if any(abs(mpmath.im(value[i, j])) > tiny for i in range(value.rows) for j in range(value.cols)):
        return value.apply(lambda x: mpmath.nan)
    return value.apply(mpmath.re)


def _mp_sqrtm(a: Any) -> Any:
    # its tests of convergence are absolute, so the norm is brought near 1, by an even power of 2
    size = mpmath.mnorm(a, "f")
    half = math.floor(mpmath.log(size, 4)) if size else 0
    return _mp_real(mpmath.sqrtm(a * mpmath.ldexp(1, -2 * half), _may_rotate=2)) * mpmath.ldexp(1, half)


expm = reference(_np_expm, lambda a: mpmath.expm(a, method="taylor"))
logm = reference(_one_by_one(lambda: scipy_linalg.logm), lambda a: _mp_real(mpmath.logm(a)))
sqrtm = reference(_one_by_one(lambda: scipy_linalg.sqrtm), _mp_sqrtm)
