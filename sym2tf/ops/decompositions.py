"""Rows for factors of a matrix: symmetric eigenproblem, singular values, QR; and for functions of a matrix.

A decomposition has one row for each of its factors. Signs are fixed by a convention (see `matrix_numerics.signs`), so
that every backend gives the same factors. Derivatives of eigenvectors and singular vectors exist only where the values
they belong to are distinct; elsewhere they are infinite or NaN.

Sources: M. Giles (2008), as in `linalg`; J. Townsend, Differentiating the singular value decomposition (2016);
M. Seeger, A. Hetzel, Z. Dai, E. Meissner, N. Lawrence, Auto-differentiating linear algebra (2017), for QR (as its
transpose, LQ); N. Higham, Functions of matrices (2008), theorem 3.6, for functions of a matrix.
"""

from __future__ import annotations

from typing import Any

from sym2tf.errors import ShapeError
from sym2tf.ir.dims import Dim, Size
from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops import matrix_numerics as numerics
from sym2tf.ops.assembly import concat
from sym2tf.ops.indexing import expand, slice_
from sym2tf.ops.leaves import iota
from sym2tf.ops.linalg import (
    DTYPES,
    NO_XLA,
    by_columns,
    diagonal_part,
    everywhere,
    lower_part,
    matrix_shape,
    product,
    shape_text,
    square,
    swapped,
    symmetric_part,
    triangular_solve,
)
from sym2tf.ops.logic import equal, select
from sym2tf.ops.values import constant, with_shape

_FEW_DIGITS = "XLA's vectors are accurate to seven digits only"


def _factor(
    name: str, infer: Any, numpy: Any, raw: str, vjp: Any, jvp: Any, *, label: str, doc: str, form: Any = None,
    xla: str | None = None,
) -> Op:
    def spread(g: Any, y: Any, a: Any, **attributes: Any) -> tuple[Any]:
        return (everywhere(g if y.type.rank == a.type.rank else expand(g, axis=-1)),)

    return Op(
        name=name, infer=infer, elementwise=False, promotes=Kind.REAL, numpy=numpy, vjp=vjp, jvp=jvp,
        tf=TFOp(raw, f"{name}_core", dtypes=DTYPES, form=form, xla=xla), support=spread, label=label, doc=doc,
    )


def _values(name: str, infer: Any, numpy: Any, raw: str, vjp: Any, jvp: Any, *, label: str, doc: str) -> Op:
    """A row for the values of a decomposition; TensorFlow shares the decomposition with the rows for its vectors.

    With `alone` nobody needs the vectors, which saves two thirds of the work.
    """
    return _factor(
        name, infer, numpy, raw, lambda g, y, a, *, alone=False: vjp(g, y, a),
        lambda tangents, y, a, *, alone=False: jvp(tangents, y, a), label=label, doc=doc,
        form=lambda e, a, *, alone=False: e.call(f"{name}_{'alone' if alone else 'core'}", a),
    )


# Symmetric eigenproblem


def _reciprocal_gaps(values: Any) -> Any:
    """(i, j): 1 / (x_j - x_i), and 0 where i is j."""
    index = values.apply(iota, (), {"start": 0, "size": values.shape[-1]})
    same = equal(expand(index, axis=-1), expand(index, axis=-2))
    gaps = expand(values, axis=-2) - expand(values, axis=-1)
    return select(same, 0, 1 / select(same, 1, gaps))


def _eigh_vectors_vjp(g: Any, y: Any, a: Any) -> tuple[Any]:
    rotation = _reciprocal_gaps(eigh_values(a)) * product("ab,ac->bc", y, g)
    return (symmetric_part(product("ab,bc,dc->ad", y, rotation, y)),)


def _eigh_vectors_jvp(tangents: tuple[Any, ...], y: Any, a: Any) -> Any:
    turned = product("ab,ac,cd->bd", y, symmetric_part(tangents[0]), y)
    return product("ab,bc->ac", y, _reciprocal_gaps(eigh_values(a)) * turned)


def _eigh_values_vjp(g: Any, y: Any, a: Any) -> tuple[Any]:
    vectors = eigh_vectors(a)
    return (product("ai,i,bi->ab", vectors, g, vectors),)


def _eigh_values_jvp(tangents: tuple[Any, ...], y: Any, a: Any) -> Any:
    vectors = eigh_vectors(a)
    return product("ai,ab,bi->i", vectors, tangents[0], vectors)


eigh_vectors: Op = _factor(
    "eigh_vectors", lambda a: square("eigenvectors", a), numerics.eigh_vectors, "SelfAdjointEigV2",
    _eigh_vectors_vjp, _eigh_vectors_jvp, label="eigenvectors", xla=_FEW_DIGITS,
    doc="Orthonormal eigenvectors of the symmetric part, as columns, in the order of ascending eigenvalues.",
)
eigh_values: Op = _values(
    "eigh_values", lambda a, *, alone=False: TensorType(a.kind, square("eigenvalues", a).shape[:-1]),
    numerics.eigh_values,
    "SelfAdjointEigV2", _eigh_values_vjp, _eigh_values_jvp, label="eigenvalues",
    doc="The eigenvalues of the symmetric part, ascending.",
)

# Singular values


def shorter(rows: Size, columns: Size) -> Size:
    """The smaller of two lengths.

    Raises:
        ShapeError: a length is a symbol, so that nobody knows.
    """
    if rows == columns:
        return rows
    if isinstance(rows, Dim) or isinstance(columns, Dim):
        raise ShapeError(
            f"singular values of a matrix of shape ({rows}, {columns}): which of the two is smaller decides how many "
            "there are; give numbers as dimensions"
        )
    return min(rows, columns)


def _svd_type(a: TensorType, *, keep: int | None) -> TensorType:
    sizes = matrix_shape("singular values", a)
    own = () if keep is None else (sizes[keep],)
    return TensorType(a.kind, (*a.shape[:-2], *own, shorter(*sizes)))


def _square_gaps(s: Any) -> Any:
    """(i, j): 1 / (s_j^2 - s_i^2), and 0 where i is j."""
    return _reciprocal_gaps(s * s)


def _vectors_vjp(g: Any, y: Any, s: Any, other: Any) -> Any:
    """What the cotangent `g` of singular vectors `y` of one side says about the matrix whose `y` are left."""
    mixed = product("ab,ac->bc", y, g)
    inner = _square_gaps(s) * (mixed - swapped(mixed)) * expand(s, axis=-2)
    answer = product("ab,bc,dc->ad", y, inner, other)
    if y.shape[-2] == y.shape[-1]:
        return answer
    outside = g - product("ab,bc->ac", y, mixed)
    return answer + product("ab,b,cb->ac", outside, 1 / s, other)


def _vectors_jvp(t: Any, y: Any, s: Any, other: Any) -> Any:
    """The tangent of singular vectors `y`, for a tangent of the matrix whose `y` are left."""
    moved = product("ab,bc->ac", t, other)
    turned = product("ab,ac->bc", y, moved)
    inner = turned * expand(s, axis=-2) + swapped(turned) * expand(s, axis=-1)
    answer = product("ab,bc->ac", y, _square_gaps(s) * inner)
    if y.shape[-2] == y.shape[-1]:
        return answer
    return answer + (moved - product("ab,bc->ac", y, turned)) * (1 / expand(s, axis=-2))


def _svd_values_vjp(g: Any, y: Any, a: Any) -> tuple[Any]:
    return (product("ai,i,bi->ab", svd_left(a), g, svd_right(a)),)


def _svd_values_jvp(tangents: tuple[Any, ...], y: Any, a: Any) -> Any:
    return product("ai,ab,bi->i", svd_left(a), tangents[0], svd_right(a))


def _svd_left_vjp(g: Any, y: Any, a: Any) -> tuple[Any]:
    return (_vectors_vjp(g, y, svd_values(a), svd_right(a)),)


def _svd_left_jvp(tangents: tuple[Any, ...], y: Any, a: Any) -> Any:
    return _vectors_jvp(tangents[0], y, svd_values(a), svd_right(a))


def _svd_right_vjp(g: Any, y: Any, a: Any) -> tuple[Any]:
    return (swapped(_vectors_vjp(g, y, svd_values(a), svd_left(a))),)


def _svd_right_jvp(tangents: tuple[Any, ...], y: Any, a: Any) -> Any:
    return _vectors_jvp(swapped(tangents[0]), y, svd_values(a), svd_left(a))


svd_values: Op = _values(
    "svd_values", lambda a, *, alone=False: _svd_type(a, keep=None), numerics.svd_values, "Svd",
    _svd_values_vjp, _svd_values_jvp,
    label="singular values", doc="The singular values, descending; as many as the shorter side of the matrix.",
)
svd_left: Op = _factor(
    "svd_left", lambda a: _svd_type(a, keep=0), numerics.svd_left, "Svd", _svd_left_vjp, _svd_left_jvp,
    label="U", xla=_FEW_DIGITS,
    doc="The left singular vectors as columns, one for each singular value.",
)
svd_right: Op = _factor(
    "svd_right", lambda a: _svd_type(a, keep=1), numerics.svd_right, "Svd", _svd_right_vjp, _svd_right_jvp,
    label="V", xla=_FEW_DIGITS,
    doc="The right singular vectors as columns, one for each singular value.",
)

# QR


def _qr_type(a: TensorType) -> TensorType:
    rows, columns = matrix_shape("QR", a)
    if isinstance(rows, int) and isinstance(columns, int) and rows < columns:
        raise ShapeError(f"QR needs at least as many rows as columns, got a matrix of shape {shape_text(a.shape)}")
    return a


def _from_both_triangles(m: Any) -> Any:
    """The symmetric matrix with the lower triangle of `m`."""
    low = lower_part(m)
    return low + swapped(low) - diagonal_part(m)


def _over(b: Any, r: Any, *, adjoint: bool = False) -> Any:
    """The product b r^-1, or b r^-T, for an upper triangular r."""
    solved = by_columns(lambda m, c: triangular_solve(m, c, lower=False, adjoint=not adjoint), r, swapped(b))
    return swapped(solved)


def _qr_q_vjp(g: Any, y: Any, a: Any) -> tuple[Any]:
    middle = -_from_both_triangles(product("ab,ac->bc", g, y))
    return (_over(g + product("ab,bc->ac", y, middle), qr_r(a), adjoint=True),)


def _qr_r_vjp(g: Any, y: Any, a: Any) -> tuple[Any]:
    middle = _from_both_triangles(product("ab,cb->ac", y, lower_part(g, lower=False)))
    return (_over(product("ab,bc->ac", qr_q(a), middle), y, adjoint=True),)


def _qr_tangents(t: Any, q: Any, r: Any) -> tuple[Any, Any]:
    moved = _over(t, r)
    within = product("ab,ac->bc", q, moved)
    below = lower_part(within) - diagonal_part(within)
    upper = within - below + swapped(below)
    return moved - product("ab,bc->ac", q, upper), product("ab,bc->ac", upper, r)


qr_q: Op = _factor(
    "qr_q", _qr_type, numerics.qr_q, "Qr", _qr_q_vjp,
    lambda tangents, y, a: _qr_tangents(tangents[0], y, qr_r(a))[0], label="Q",
    doc="The factor with orthonormal columns of a = Q R, where R has a positive diagonal; a has no fewer rows than "
    "columns.",
)
qr_r: Op = _factor(
    "qr_r", lambda a: TensorType(a.kind, (*_qr_type(a).shape[:-2], a.shape[-1], a.shape[-1])), numerics.qr_r, "Qr",
    _qr_r_vjp, lambda tangents, y, a: _qr_tangents(tangents[0], qr_q(a), y)[1], label="R",
    doc="The upper triangular factor with positive diagonal of a = Q R.",
)

# Functions of a matrix


def _function(name: str, numpy: Any, *, label: str, doc: str, xla: str | None = None) -> Op:
    def along(a: Any, t: Any) -> Any:
        """The derivative along `t`: f of the block matrix ((a, t), (0, a)) holds it in its corner."""
        n = a.shape[-1]
        a = with_shape(a, (*t.shape[:-2], n, n))
        zero = with_shape(constant(a.builder, 0, Kind.REAL), t.shape)
        block = concat(concat(a, t, axis=-1), concat(zero, a, axis=-1), axis=-2)
        return slice_(slice_(row(block), axis=-1, start=n, size=n), axis=-2, start=0, size=n)

    row = _factor(
        name, lambda a: square(name, a), numpy, "", lambda g, y, a: (along(swapped(a), g),),
        lambda tangents, y, a: along(a, tangents[0]), label=label, doc=doc, xla=xla,
    )
    return row


expm = _function("expm", numerics.expm, label="exp", doc="The exponential of a matrix.")
logm = _function(
    "logm", numerics.logm, label="log", xla=NO_XLA,
    doc="The principal logarithm of a matrix; NaN where it is not real (an eigenvalue on the negative axis).",
)
sqrtm = _function(
    "sqrtm", numerics.sqrtm, label="√", xla=NO_XLA,
    doc="The principal square root of a matrix; NaN where it is not real (an eigenvalue on the negative axis).",
)

ROWS = (eigh_values, eigh_vectors, svd_values, svd_left, svd_right, qr_q, qr_r, expm, logm, sqrtm)
