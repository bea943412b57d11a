"""Factors of matrices. Functions of matrices such as `exp(A)` are in `handlers`, where those of numbers are."""

from __future__ import annotations

from typing import Any

from sympy.matrices.expressions.factorizations import (
    EigenValues,
    EigenVectors,
    LofCholesky,
    QofQR,
    RofQR,
    SofSVD,
    UofCholesky,
    UofSVD,
    VofSVD,
)

from sym2tf.frontend.context import Context, Lowered, Scope
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.patterned import on_diagonal
from sym2tf.frontend.tensors import swapped
from sym2tf.ops import decompositions
from sym2tf.ops.linalg import cholesky


def _factor(row: Any, *, diagonal: bool = False, transposed: bool = False) -> Handler:
    """The handler of a factor that is one row; `diagonal`: the row gives the diagonal of the factor."""

    def build(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
        found = Lowered(row(xs[0].value), xs[0].axes, xs[0].depth)
        if diagonal:
            return on_diagonal(context, found)
        return swapped(found) if transposed else found

    return Handler(build)


HANDLERS: dict[Any, Handler] = {
    LofCholesky: _factor(cholesky),
    UofCholesky: _factor(cholesky, transposed=True),
    QofQR: _factor(decompositions.qr_q),
    RofQR: _factor(decompositions.qr_r),
    EigenValues: _factor(decompositions.eigh_values, diagonal=True),
    EigenVectors: _factor(decompositions.eigh_vectors),
    UofSVD: _factor(decompositions.svd_left),
    SofSVD: _factor(decompositions.svd_values, diagonal=True),
    VofSVD: _factor(decompositions.svd_right),
}
