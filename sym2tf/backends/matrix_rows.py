"""What SymPy calls the rows of linear algebra, for raising graphs to matrix expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import sympy as sp
from sympy.matrices.expressions.factorizations import (
    EigenValues,
    EigenVectors,
    LofCholesky,
    QofQR,
    RofQR,
    SofSVD,
    UofSVD,
    VofSVD,
)

from sym2tf.backends.chains import collected, multiplied, single, transposed
from sym2tf.backends.forms import Form, NoMatrixFormError, in_shape, placed
from sym2tf.backends.index_form import Raising
from sym2tf.ir.graph import Graph, Node


class Matrices(Protocol):
    """What is being raised."""

    graph: Graph
    elements: Raising

    def long(self, v: int) -> tuple[int, ...]:
        """The core axes of a node that are not of length 1."""


Rule = Callable[[Matrices, int, Node, Sequence[Form]], Form]


def _square(m: Matrices, u: int, x: Form) -> Any:
    """The operand as a square matrix, axes -2 and -1 its rows and columns."""
    shape = m.graph[u].type.shape
    if len(shape) != 2:
        raise NoMatrixFormError(f"linear algebra on a value with {len(shape)} axes")
    return in_shape(x, [m.elements.size(d) for d in shape])


def matrices_of(graph: Graph, v: int) -> list[int]:
    """The operands of a row that its SymPy form is made of: not the factors that were computed of one of them."""
    operands = graph.operands(v)
    return [operands[0], operands[-1]] if graph[v].op.name == "solve_factored" else list(operands)


def _matrix(notation: Callable[..., Any]) -> Rule:
    def build(m: Matrices, v: int, node: Node, xs: Sequence[Form]) -> Form:
        operands = [_square(m, u, x) for u, x in zip(matrices_of(m.graph, v), xs, strict=True)]
        return placed(notation(*operands, **node.attributes), m.long(v))

    return build


def _number(notation: Callable[..., Any]) -> Rule:
    return lambda m, v, node, xs: Form(notation(_square(m, m.graph.operands(v)[0], xs[0])))


def _vector(notation: Callable[..., Any]) -> Rule:
    """A row whose SymPy form is the diagonal matrix of it."""

    def build(m: Matrices, v: int, node: Node, xs: Sequence[Form]) -> Form:
        found = sp.DiagonalOf(notation(_square(m, m.graph.operands(v)[0], xs[0])))
        return Form(found, 0) if m.long(v) else Form(single(found))

    return build


def _solution(a: Any, b: Any, *, adjoint: bool = False, **_: Any) -> Any:
    return multiplied(_inverse(transposed(a) if adjoint else a), b)


def _slope_of_cofactor(a: Any, t: Any) -> Any:
    """Jacobi's formula and the derivative of the inverse; the row itself is right for singular matrices too."""
    inverse = _inverse(transposed(a))
    along = sp.Trace(multiplied(_inverse(a), t))
    terms = [multiplied(along, inverse), multiplied(sp.S.NegativeOne, inverse, transposed(t), inverse)]
    return multiplied(sp.Determinant(a), collected(terms))


def _inverse(a: Any) -> Any:
    return sp.Inverse(a).doit(deep=False) if a.shape == (1, 1) else a**-1


ROWS: dict[str, Rule] = {
    "eye": lambda m, v, node, xs: placed(sp.Identity(m.elements.size(node.attributes["size"])), m.long(v)),
    "inverse": _matrix(_inverse),
    "solve": _matrix(_solution),
    "solve_factored": _matrix(_solution),
    "triangular_solve": _matrix(_solution),
    "cofactor_slope": _matrix(_slope_of_cofactor),
    "cofactor": _matrix(lambda a: multiplied(sp.Determinant(a), _inverse(transposed(a)))),
    "det": _number(sp.Determinant),
    "logdet": _number(lambda a: sp.log(sp.Determinant(a))),
    "logabsdet": _number(lambda a: sp.log(sp.Abs(sp.Determinant(a)))),
    "cholesky": _matrix(LofCholesky),
    "qr_q": _matrix(QofQR),
    "qr_r": _matrix(RofQR),
    "eigh_values": _vector(EigenValues),
    "eigh_vectors": _matrix(EigenVectors),
    "svd_values": _vector(SofSVD),
    "svd_left": _matrix(UofSVD),
    "svd_right": _matrix(VofSVD),
    "sqrtm": _matrix(lambda a: a ** sp.Rational(1, 2)),
}
LINEAR_ALGEBRA = frozenset(ROWS) - {"eye"}
