"""The triangular factor of a tall matrix that arrives in blocks of rows: least squares in one pass and constant memory.

Each block is put under the factor of the rows before it and factored with it, which loses no more digits than a QR
factorisation of the whole (Golub and Van Loan, Matrix Computations, 4th ed., section 6.5.3; as sequential TSQR: Demmel,
Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34, 2012).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.lazy import lazy

lapack = lazy("scipy.linalg.lapack")

Array = np.ndarray[Any, Any]

ROWS_AT_ONCE = 32_768
"""Rows of a block that are factored together. Measured for 11 columns, ns a row: LAPACK's QR in place 40 at 2^11 rows,
30 at 2^15, 27 at 10^5; NumPy's, with its copies, 120; the Gram matrix alone, which squares the condition, 16."""


def absorbed(factor: Array, block: Array) -> Array:
    """The factor (m, m), upper triangular, of rows with the factor (m, m) and of more rows (rows, m).

    It is the same for any order and grouping of the rows, but for the signs of its own rows and for rounding.
    """
    m = len(factor)
    for start in range(0, len(block), ROWS_AT_ONCE):
        part = block[start : start + ROWS_AT_ONCE]
        stacked = np.empty((m + len(part), m), order="F")
        stacked[:m], stacked[m:] = factor, part
        packed, _, _, info = lapack.dgeqrf(stacked, overwrite_a=1)
        if info:
            raise ValueError(f"dgeqrf: argument {-info} is illegal")  # pragma: no cover
        factor = np.triu(packed[:m])
    return factor
