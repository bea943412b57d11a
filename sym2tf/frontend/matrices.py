"""Matrix algebra: sums, products, powers, traces of matrix expressions.

A matrix has two tensor axes, which stand after the axes of indices. Products become one `einsum` with a letter for each
dimension; transposes are an order of letters, and a trace closes the chain without forming the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import sympy as sp
from sympy.codegen.matrix_nodes import MatrixSolve
from sympy.matrices.expressions.dotproduct import DotProduct
from sympy.matrices.expressions.matexpr import MatrixElement
from sympy.matrices.expressions.special import GenericIdentity, GenericZeroMatrix

from sym2tf.errors import ShapeError
from sym2tf.frontend import explicit, factorizations, patterned
from sym2tf.frontend.context import Context, Lowered, Scope
from sym2tf.frontend.elements import ELEMENT, LEAF
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.tensors import LETTERS, contracted, dimension, identity, ones, same_shape, swapped, told
from sym2tf.ops.arithmetic import add, mul, pow_
from sym2tf.ops.decompositions import sqrtm
from sym2tf.ops.linalg import det, inverse

Factor = tuple[Lowered, bool]  # a matrix, and whether it is transposed


# Products ----------------------------------------------------------------------------------------------------------


def _factors(expr: Any) -> list[tuple[Any, bool]]:
    """The factors of a product, or `expr` itself, each with whether it is transposed; transposes are taken off."""
    found = []
    for factor in expr.args if isinstance(expr, sp.MatMul) else (expr,):
        transposed = False
        while isinstance(factor, sp.Transpose | sp.Adjoint):  # everything is real
            factor, transposed = factor.args[0], not transposed
        if not isinstance(factor, GenericIdentity):
            found.append((factor, transposed))
    return found


def _children_of_product(expr: Any) -> list[Any]:
    return [factor for factor, _ in _factors(expr)]


def _sorted_factors(context: Context, expr: Any, xs: list[Lowered]) -> tuple[list[Lowered], list[Factor]]:
    """The scalar factors of a product and its matrices."""
    scalars: list[Lowered] = []
    matrices: list[Factor] = []
    for (factor, transposed), x in zip(_factors(expr), xs, strict=True):
        if getattr(factor, "is_Matrix", False):
            matrices.append((x, transposed))
        elif x.tail:
            advice = "SymPy takes this matrix for a number and forgets its place in the product: name it as a symbol"
            scalars.append(context.unsupported(factor, expr, advice))
        else:
            scalars.append(x)
    return scalars, matrices


def multiplied(context: Context, factors: Sequence[Factor]) -> Lowered:
    """The product of matrices in one contraction."""
    if len(factors) >= len(LETTERS):
        half = len(factors) // 2
        return multiplied(context, [(multiplied(context, part), False) for part in (factors[:half], factors[half:])])
    if len(factors) == 1:
        return swapped(factors[0][0]) if factors[0][1] else factors[0][0]
    _check_chain(factors)
    return contracted(context, _lettered(factors), LETTERS[0] + LETTERS[len(factors)])


def _lettered(factors: Sequence[Factor], *, closed: bool = False) -> list[tuple[Lowered, str]]:
    letters = LETTERS[: len(factors)] + (LETTERS[0] if closed else LETTERS[len(factors)])
    return [
        (x, letters[k + 1] + letters[k] if transposed else letters[k] + letters[k + 1])
        for k, (x, transposed) in enumerate(factors)
    ]


def _check_chain(factors: Sequence[Factor]) -> None:
    shapes = [x.value.shape[-2:][:: -1 if transposed else 1] for x, transposed in factors]
    for left, right in pairwise(shapes):
        if left[1] != right[0]:
            raise ShapeError(
                f"a matrix of {left[0]} x {left[1]} times one of {right[0]} x {right[1]}: {left[1]} is not {right[0]}"
            )


def _product(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    scalars, matrices = _sorted_factors(context, expr, xs)
    product = multiplied(context, matrices)
    return context.combine(mul, [*scalars, product]) if scalars else product


def _trace(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    scalars, matrices = _sorted_factors(context, expr.arg, xs)
    if len(matrices) >= len(LETTERS):
        matrices = [(multiplied(context, matrices), False)]
    _check_chain([*matrices, matrices[0]])
    trace = contracted(context, _lettered(matrices, closed=True), "")
    return context.combine(mul, [*scalars, trace]) if scalars else trace


def _dot(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    vectors = [(x, "ab" if x.value.shape[-1] == 1 else "ba") for x in xs]
    lengths = [x.value.shape["ab".index(letters[0])] for x, letters in vectors]
    if lengths[0] != lengths[1]:
        raise ShapeError(f"vectors of lengths {lengths[0]} and {lengths[1]}")
    return contracted(context, vectors, "")


def _solution(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return multiplied(context, [(_inverted(xs[0]), False), (xs[1], False)])


# Powers ------------------------------------------------------------------------------------------------------------


def _inverted(x: Lowered) -> Lowered:
    return Lowered(inverse(x.value), x.axes, x.depth)


def _power(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    base, exponent = xs[0], expr.exp
    if base.value.shape[-2:] == (1, 1):
        return context.combine(pow_, xs)
    if not (exponent.is_Rational and exponent.q in (1, 2)):
        return context.unsupported(
            expr, None, "the exponent of a matrix must be an integer or a half: write applyfunc for a power by elements"
        )
    if exponent.q == 2:
        base = Lowered(sqrtm(base.value), base.axes, base.depth)
    if exponent.p < 0:
        base = _inverted(base)
    if exponent.p == 0:
        return identity(context, base.value.shape[-1])
    return _times_itself(context, base, abs(exponent.p))


def _children_of_power(expr: Any) -> tuple[Any, ...]:
    """Of a power of a matrix the base alone; of one of a single number both."""
    return expr.args if expr.base.shape == (1, 1) else (expr.base,)


def _times_itself(context: Context, x: Lowered, times: int) -> Lowered:
    """By squaring: as many products as the exponent has binary digits."""
    _check_chain([(x, False), (x, False)])
    result: Lowered | None = None
    while True:
        if times % 2:
            result = x if result is None else multiplied(context, [(result, False), (x, False)])
        times //= 2
        if not times:
            return x if result is None else result
        x = multiplied(context, [(x, False), (x, False)])


# Sums and the rest -------------------------------------------------------------------------------------------------


def _sum(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    same_shape(xs)
    return context.combine(add, xs)


def _by_elements(op: Any) -> Any:
    def build(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
        same_shape([x for x in xs if x.tail])
        return context.combine(op, xs)

    return build


def _inverse(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return _inverted(xs[0])


def _determinant(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return Lowered(det(xs[0].value), xs[0].axes, xs[0].depth)


def _identity(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return identity(context, dimension(context, expr.shape[0]))


def _shapeless(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return context.unsupported(expr, None, "it has no shape: write Identity(n) or ZeroMatrix(n, m)")


def _filled(number: int) -> Any:
    def build(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
        rows, columns = (dimension(context, d) for d in expr.shape)
        return ones(context, (rows, columns), number)

    return build


def _first(expr: Any) -> Sequence[Any]:
    return (expr.args[0],)


def _none(expr: Any) -> tuple[Any, ...]:
    return ()


_ALGEBRA: dict[Any, Handler] = {
    sp.MatrixSymbol: LEAF,
    MatrixElement: ELEMENT,
    sp.MatMul: Handler(_product, children=_children_of_product),
    sp.MatAdd: Handler(_sum),
    sp.MatPow: Handler(_power, children=_children_of_power),
    sp.Inverse: Handler(_inverse, children=_first),
    sp.Transpose: Handler(_product, children=_children_of_product),
    sp.Adjoint: Handler(_product, children=_children_of_product),
    sp.Determinant: Handler(_determinant),
    sp.Trace: Handler(_trace, children=lambda expr: _children_of_product(expr.arg)),
    DotProduct: Handler(_dot),
    MatrixSolve: Handler(_solution),
    sp.HadamardProduct: Handler(_by_elements(mul)),
    sp.HadamardPower: Handler(_by_elements(pow_)),
    sp.Identity: Handler(_identity, children=_none),
    GenericIdentity: Handler(_shapeless, children=_none),
    GenericZeroMatrix: Handler(_shapeless, children=_none),
    sp.ZeroMatrix: Handler(_filled(0), children=_none),
    sp.OneMatrix: Handler(_filled(1), children=_none),
}
HANDLERS: dict[Any, Handler] = {
    cls: told(handler)
    for cls, handler in (_ALGEBRA | explicit.HANDLERS | patterned.HANDLERS | factorizations.HANDLERS).items()
}
