"""Chooses algorithms of linear algebra by what is known of the matrices: a table of rules.

A positive definite matrix is factored once (Cholesky), and its factor shared by systems, inverse and determinant; a
triangular one needs no factoring, a diagonal one is divided by, an orthogonal one transposed. The rules hold where the
facts do (see `matrix_facts`): nothing looks at the data.

Measured (TensorFlow 2.21, two CPU cores, float64, `tf.function`, microseconds, matrices of 200 and of 600 rows):

                    200     600                               200     600
    solve           677    8555     by Cholesky               444    3579
    inverse        1028   20311     by Cholesky               790   13878
    log |det|       439   13123     by Cholesky               494    3186
    two systems     835   15870     by one LU factor          537    6501
    eigh           4107   77329     eigenvalues alone        1740   25407
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sym2tf.ir.graph import Builder, Graph, Node
from sym2tf.ir.op import Op
from sym2tf.ops.arithmetic import log
from sym2tf.ops.assembly import diag, identity
from sym2tf.ops.contraction import prod
from sym2tf.ops.decompositions import (
    eigh_values,
    eigh_vectors,
    expm,
    logm,
    sqrtm,
    svd_left,
    svd_right,
    svd_values,
)
from sym2tf.ops.elementary import exp
from sym2tf.ops.indexing import expand, sum_, transpose
from sym2tf.ops.linalg import (
    aligned,
    cholesky,
    cofactor,
    det,
    inverse,
    logabsdet,
    logdet,
    lu_factor,
    lu_rows,
    product,
    solve,
    solve_factored,
    swapped,
    triangular_solve,
)
from sym2tf.ops.piecewise_linear import abs_, sign
from sym2tf.ops.values import Value, with_shape
from sym2tf.passes.matrix_facts import (
    DEFINITE,
    DIAGONAL,
    INVERTIBLE,
    LOWER,
    ORTHOGONAL,
    SYMMETRIC,
    UPPER,
    Fact,
    matrix_facts,
)

Build = Callable[..., Any]  # (operands..., **attributes) -> value
HALF = Fraction(1, 2)
SMALLEST_SHARED = 64  # rows from which on a shared LU factor pays for the calls that it takes


@dataclass(frozen=True)
class Choice:
    """One rule: how `op` is computed where all of `facts` hold for its first operand.

    Attributes:
        name: in the report.
        op: the row that it replaces.
        facts: what must be known.
        build: makes the value from the operands and attributes of the row.
    """

    name: str
    op: Op
    facts: Fact
    build: Build


def choose_algorithms(graph: Graph, *, exact: bool = False, jit: bool = False) -> tuple[Graph, Counter[str]]:
    """`graph` with the rows of linear algebra replaced by quicker ones; how often each rule was applied.

    Args:
        graph: any valid graph; best after contraction, which makes systems of equations of inverses.
        exact: change nothing: another algorithm rounds differently.
        jit: make no LU factors, for which XLA has no kernel.
    """
    if exact or not has_linear_algebra(graph):
        return graph, Counter()
    rows = [v for v in graph.order if graph[v].op in _BY_OP or graph[v].op in ALONE]
    facts = matrix_facts(graph, about=[graph.operands(v)[0] for v in rows])
    whole = _Whole(graph, facts, {} if jit else LU_CHOICES)
    choices = {v: choice for v in rows if (choice := whole.choice(v)) is not None}
    if not choices:
        return graph, Counter()
    builder, where = Builder(), dict[int, int]()
    for v in graph.order:
        node, operands = graph[v], graph.operands(v)
        builder.stage, builder.origin = node.stage, node.origin
        choice = choices.get(v)
        if choice is None:
            where[v] = builder.copy_node(graph, v, [where[u] for u in operands])
            continue
        made = choice.build(*(Value(builder, where[u]) for u in operands), **node.attributes)
        where[v] = with_shape(made, node.type.shape).id
    builder.origin = None
    outputs = {name: where[v] for name, v in graph.outputs.items()}
    fired = Counter(choice.name for choice in choices.values())
    return builder.build([where[v] for v in graph.inputs], outputs, graph.info), fired


def has_linear_algebra(graph: Graph) -> bool:
    """Whether a rule might apply: most graphs hold no such rows, and are not looked at further."""
    return any(graph[v].op in _BY_OP or graph[v].op in ALONE for v in graph.order)


class _Whole:
    """What a choice depends on besides the matrix: who else uses it."""

    def __init__(self, graph: Graph, facts: Mapping[int, Fact], by_lu: Mapping[Op, Choice]) -> None:
        self.graph, self.facts, self.by_lu = graph, facts, by_lu
        self.factored: Counter[int] = Counter()  # how many rows would use LU factors of a matrix
        self.vectors: set[int] = set()  # matrices of which singular vectors or eigenvectors are computed
        for v in graph.order:
            op, operands = graph[v].op, graph.operands(v)
            if op in by_lu and self.by_facts(v) is None:
                self.factored[operands[0]] += 1
            if op in VECTORS:
                self.vectors.add(operands[0])

    def by_facts(self, v: int) -> Choice | None:
        """The first rule whose facts hold."""
        operands = self.graph.operands(v)
        facts = self.facts.get(operands[0], Fact.NOTHING) if operands else Fact.NOTHING
        return next((c for c in _BY_OP.get(self.graph[v].op, ()) if facts & c.facts == c.facts), None)

    def choice(self, v: int) -> Choice | None:
        """The rule that applies to node `v`."""
        node, operands = self.graph[v], self.graph.operands(v)
        if operands and self.graph[operands[0]].op is transpose and _swaps(self.graph[operands[0]]):
            turned = TURNED.get(node.op)
            if turned is not None:
                return turned
        found = self.by_facts(v)
        if found is not None or not operands:
            return found
        matrix = operands[0]
        rows = self.graph[matrix].type.shape[-1] if node.op in self.by_lu else 0
        if self.factored[matrix] > 1 and (not isinstance(rows, int) or rows >= SMALLEST_SHARED):
            return self.by_lu.get(node.op)
        alone = matrix not in self.vectors and not node.attributes.get("alone")
        return ALONE.get(node.op) if alone else None


def _swaps(node: Node) -> bool:
    """Whether a movement of axes transposes matrices."""
    return node.attributes["axes"] == (-1, -2)


# What the rules build


def _turned(a: Any) -> Any:
    """The matrix that `a` is the transpose of."""
    return Value(a.builder, a.builder.operands[a.id][0])


def _diagonal(a: Any) -> Any:
    return product("aa->a", a)


def _unit(a: Any) -> Any:
    return with_shape(identity(a, a.shape[-1]), a.shape)


def _triangular(lower: bool) -> Build:
    return lambda a, b, *, adjoint=False, **_: triangular_solve(a, b, lower=lower, adjoint=adjoint)


def _by_diagonal(a: Any, b: Any, **attributes: Any) -> Any:
    return b / expand(_diagonal(a), axis=-1)


def _by_cholesky(a: Any, b: Any, **attributes: Any) -> Any:
    factor = cholesky(a, trust=True)
    half = triangular_solve(factor, b, lower=True, adjoint=False)
    return triangular_solve(factor, half, lower=True, adjoint=True)


def _by_lu(a: Any, b: Any, *, adjoint: bool) -> Any:
    return solve_factored(a, lu_factor(a), lu_rows(a), b, adjoint=adjoint)


def _logabsdet_by_lu(a: Any) -> Any:
    return sum_(log(abs_(_diagonal(lu_factor(a)))), axes=(-1,))


def _by_transpose(a: Any, b: Any, *, adjoint: bool) -> Any:
    return product("ab,bc->ac" if adjoint else "ba,bc->ac", *aligned(a, b))


def _inverse_by_cholesky(a: Any) -> Any:
    half = triangular_solve(cholesky(a, trust=True), _unit(a), lower=True, adjoint=False)
    return product("ka,kb->ab", half, half)


def _log_sign(diagonal: Any) -> Any:
    """0, -inf or NaN: the logarithm of the sign of a product."""
    return log(prod(sign(diagonal), axis=-1))


def _spectral(function: Callable[[Any], Any]) -> Build:
    def build(a: Any) -> Any:
        vectors = eigh_vectors(a)
        return product("ai,i,bi->ab", vectors, function(eigh_values(a)), vectors)

    return build


DETERMINANTS = (det, logdet, logabsdet)
CHOICES = (
    Choice("inverse of an orthogonal matrix is its transpose", inverse, ORTHOGONAL, swapped),
    Choice("inverse of a diagonal matrix by division", inverse, DIAGONAL, lambda a: diag(1 / _diagonal(a))),
    Choice("inverse by Cholesky", inverse, DEFINITE, _inverse_by_cholesky),
    Choice("inverse of a lower triangular matrix", inverse, LOWER, lambda a: _triangular(True)(a, _unit(a))),
    Choice("inverse of an upper triangular matrix", inverse, UPPER, lambda a: _triangular(False)(a, _unit(a))),
    Choice("orthogonal system by transpose", solve, ORTHOGONAL, _by_transpose),
    Choice("diagonal system by division", solve, DIAGONAL, _by_diagonal),
    Choice("system by Cholesky", solve, DEFINITE, _by_cholesky),
    Choice("lower triangular system", solve, LOWER, _triangular(True)),
    Choice("upper triangular system", solve, UPPER, _triangular(False)),
    Choice("diagonal system by division", triangular_solve, DIAGONAL, _by_diagonal),
    Choice("determinant of a lower triangular matrix", det, LOWER, lambda a: prod(_diagonal(a), axis=-1)),
    Choice("determinant of an upper triangular matrix", det, UPPER, lambda a: prod(_diagonal(a), axis=-1)),
    Choice("determinant by Cholesky", det, DEFINITE, lambda a: prod(_diagonal(cholesky(a, trust=True)), axis=-1) ** 2),
    *(
        Choice(f"log determinant of {word} triangular matrix", row, fact, build)
        for word, fact in (("a lower", LOWER), ("an upper", UPPER))
        for row, build in (
            (logabsdet, lambda a: sum_(log(abs_(_diagonal(a))), axes=(-1,))),
            (logdet, lambda a: sum_(log(abs_(_diagonal(a))), axes=(-1,)) + _log_sign(_diagonal(a))),
        )
    ),
    *(
        Choice(
            "log determinant by Cholesky",
            row,
            DEFINITE,
            lambda a: 2 * sum_(log(_diagonal(cholesky(a, trust=True))), axes=(-1,)),
        )
        for row in (logdet, logabsdet)
    ),
    Choice("cofactors of an invertible matrix", cofactor, INVERTIBLE, lambda a: product(",ba->ab", det(a), inverse(a))),
    Choice("Cholesky factor of a diagonal matrix", cholesky, DIAGONAL, lambda a: diag(_diagonal(a) ** HALF)),
    Choice("exponential of a symmetric matrix by eigenvalues", expm, SYMMETRIC, _spectral(exp)),
    Choice("logarithm of a symmetric matrix by eigenvalues", logm, SYMMETRIC, _spectral(log)),
    Choice("square root of a symmetric matrix by eigenvalues", sqrtm, SYMMETRIC, _spectral(lambda x: x**HALF)),
)
TURNED = {
    c.op: c
    for c in (
        *(
            Choice("determinant of a transpose", op, Fact.NOTHING, lambda a, op=op: op(_turned(a)))
            for op in DETERMINANTS
        ),
        Choice("inverse of a transpose", inverse, Fact.NOTHING, lambda a: swapped(inverse(_turned(a)))),
        Choice(
            "system of a transpose",
            solve,
            Fact.NOTHING,
            lambda a, b, *, adjoint: solve(_turned(a), b, adjoint=not adjoint),
        ),
        Choice(
            "system of a transpose",
            triangular_solve,
            Fact.NOTHING,
            lambda a, b, *, lower, adjoint: triangular_solve(_turned(a), b, lower=not lower, adjoint=not adjoint),
        ),
    )
}
LU_CHOICES = {
    c.op: c
    for c in (
        Choice("one LU factor for several systems", solve, Fact.NOTHING, _by_lu),
        Choice("inverse from a shared LU factor", inverse, Fact.NOTHING, lambda a: _by_lu(a, _unit(a), adjoint=False)),
        Choice("log |det| from a shared LU factor", logabsdet, Fact.NOTHING, _logabsdet_by_lu),
    )
}
ALONE = {
    op: Choice(f"{op.label} alone", op, Fact.NOTHING, lambda a, op=op, **attributes: op(a, alone=True))
    for op in (eigh_values, svd_values)
}
VECTORS = (eigh_vectors, svd_left, svd_right)
_BY_OP: dict[Op, tuple[Choice, ...]] = {
    op: tuple(c for c in CHOICES if c.op is op) for op in dict.fromkeys(c.op for c in CHOICES)
}
