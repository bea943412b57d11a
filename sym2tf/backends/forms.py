"""A value of a graph as a matrix expression, with the axes that are its rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.matrices.expressions.matexpr import MatrixElement

from sym2tf.backends.chains import collected, multiplied, single, transposed
from sym2tf.errors import GraphError


@dataclass(frozen=True)
class Form:
    """A value as a matrix expression: its element at core indices `i` is `expression[i[rows], i[columns]]`.

    An axis that is None has the subscript 0; a value with neither is the scalar `expression`.
    """

    expression: Any
    rows: int | None = None
    columns: int | None = None

    @property
    def scalar(self) -> bool:
        """Whether the expression is a number and no matrix."""
        return self.rows is None and self.columns is None


class NoMatrixFormError(GraphError):
    """A value that no matrix expression says."""


def in_shape(form: Form, shape: Sequence[Any]) -> Any:
    """A form as a matrix with exactly this shape."""
    if form.scalar:
        return (
            _one_by_one(form.expression)
            if tuple(shape) == (1, 1)
            else multiplied(form.expression, sp.OneMatrix(*shape))
        )
    return transposed(form.expression) if form.rows in (1, None) and form.columns in (0, None) else form.expression


def _one_by_one(number: Any) -> Any:
    """A number as a matrix of one row and one column: sums of `(x.T*y)[0, 0]` without the subscripts."""
    terms = []
    for term in sp.Add.make_args(number):
        whole = [f for f in sp.Mul.make_args(term) if isinstance(f, MatrixElement) and f.parent.shape == (1, 1)]
        rest = sp.Mul(*(f for f in sp.Mul.make_args(term) if f not in whole[:1]))
        terms.append(multiplied(rest, whole[0].parent if whole else sp.OneMatrix(1, 1)))
    return collected(terms)


def over(matrix: Any, number: Any) -> Any:
    """A matrix, or a number, divided by a number."""
    return multiplied(1 / number, matrix) if getattr(matrix, "is_Matrix", False) else matrix / number


def placed(matrix: Any, axes: Sequence[int]) -> Form:
    """A matrix whose axes are the core axes 0 and 1, of which only `axes` are longer than 1."""
    if not axes:
        return Form(single(matrix))
    return Form(matrix, 0 if 0 in axes else None, 1 if 1 in axes else None)
