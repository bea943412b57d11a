"""The table of operations: every row, by family. Adding an operation is adding a row to one file."""

from __future__ import annotations

from sym2tf.ir.op import Op
from sym2tf.ops import (
    arithmetic,
    assembly,
    contraction,
    correlation,
    decompositions,
    elementary,
    gathering,
    indexing,
    leaves,
    linalg,
    logic,
    piecewise_linear,
    special,
)

FAMILIES: dict[str, tuple[Op, ...]] = {
    "leaves": leaves.ROWS,
    "logic": logic.ROWS,
    "arithmetic": arithmetic.ROWS,
    "elementary": elementary.ROWS,
    "piecewise_linear": piecewise_linear.ROWS,
    "special": special.ROWS,
    "indexing": indexing.ROWS,
    "assembly": assembly.ROWS,
    "gathering": gathering.ROWS,
    "contraction": contraction.ROWS,
    "correlation": correlation.ROWS,
    "linalg": linalg.ROWS,
    "decompositions": decompositions.ROWS,
}
OPS: dict[str, Op] = {op.name: op for rows in FAMILIES.values() for op in rows}
BY_SYMPY: dict[object, Op] = {op.sympy: op for op in OPS.values() if op.sympy is not None}
