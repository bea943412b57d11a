"""SymPy's array module: array symbols, multilinear expressions as contractions, arrays of entries as stacks.

A chain of contractions, diagonals and permutations of axes, down to the tensor product below it, is one n-ary `einsum`
with a letter for each axis of a factor: the product itself is never formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp
from sympy.tensor.array.array_derivatives import ArrayDerivative
from sympy.tensor.array.arrayop import Flatten
from sympy.tensor.array.expressions import array_expressions as ae

from sym2tf.errors import ShapeError
from sym2tf.frontend.context import Context, Lowered, Scope, aligned
from sym2tf.frontend.elements import ELEMENT, LEAF
from sym2tf.frontend.explicit import assembled, numbers
from sym2tf.frontend.handlers import Handler
from sym2tf.frontend.matrix_parts import matrix_parts
from sym2tf.frontend.tensors import LETTERS, contracted, dimension, ones, same_shape, told
from sym2tf.ir.dims import Size
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.assembly import reshape
from sym2tf.ops.indexing import transpose
from sym2tf.ops.values import with_shape

_MAX_ENTRIES = 10**6  # a node for each


def _named(
    context: Context, factors: Sequence[Lowered], names: Sequence[Sequence[int]], output: Sequence[int]
) -> Lowered:
    """The product of the factors, summed over the names of axes that `output` lacks."""
    tensors = [(x, own) for x, own in zip(factors, names, strict=True) if own]
    plain = [x for x in factors if not x.tail]
    used = dict.fromkeys(name for _, own in tensors for name in own)
    if len(used) > len(LETTERS):
        raise ShapeError(f"a product with {len(used)} different axes, more than {len(LETTERS)}")
    letter = dict(zip(used, LETTERS, strict=False))
    if len(tensors) == 1 and sorted(tensors[0][1]) == sorted(output):
        ((x, own),) = tensors
        axes = tuple(own.index(name) - len(output) for name in output)
        moved = x.value if list(own) == list(output) else transpose(x.value, axes=axes)
        product = [Lowered(moved, x.axes, x.depth)]
    else:
        texts = [(x, "".join(letter[name] for name in own)) for x, own in tensors]
        product = [contracted(context, texts, "".join(letter[name] for name in output))] if tensors else []
    return context.combine(mul, [*plain, *product]) if plain else product[0]


def _tensor_shape(lowered: Lowered) -> tuple[Size, ...]:
    return lowered.value.shape[len(lowered.axes) :]


def _filled(number: int) -> Handler:
    def build(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
        return ones(context, tuple(dimension(context, d) for d in expr.shape), number)

    return Handler(build, children=lambda expr: ())


_AXES = (ae.ArrayContraction, ae.ArrayDiagonal, ae.PermuteDims)


def _chain(expr: Any) -> tuple[list[Any], Sequence[Any]]:
    """The operations on axes above a tensor product, the outermost first, and the factors of the product."""
    chain = []
    while isinstance(expr, _AXES):
        chain.append(expr)
        expr = expr.args[0]
    return chain, expr.args if isinstance(expr, ae.ArrayTensorProduct) else (expr,)


def _contraction(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    names: list[list[int]] = []
    for x in xs:
        start = sum(map(len, names))
        names.append(list(range(start, start + x.tail)))
    axes = [name for own in names for name in own]
    same = dict(zip(axes, axes, strict=True))  # name -> the name that it goes by
    chain, _ = _chain(expr)
    for step in reversed(chain):
        axes = _STEPS[type(step)](step, axes, same)
    return _named(context, xs, [[same[name] for name in own] for own in names], [same[name] for name in axes])


def _join(groups: Sequence[Sequence[Any]], axes: list[int], same: dict[int, int]) -> tuple[list[int], list[int]]:
    """Make the axes of each group one; returns the axes in no group, and one for each group."""
    joined = []
    for group in groups:
        kept, *others = (axes[int(k)] for k in group)
        same.update({name: kept for name, goes_by in same.items() if goes_by in others})
        joined.append(kept)
    inside = {int(k) for group in groups for k in group}
    return [name for k, name in enumerate(axes) if k not in inside], joined


def _contracted(expr: Any, axes: list[int], same: dict[int, int]) -> list[int]:
    return _join(expr.contraction_indices, axes, same)[0]


def _diagonal(expr: Any, axes: list[int], same: dict[int, int]) -> list[int]:
    free, joined = _join(expr.diagonal_indices, axes, same)
    return free + joined


def _permuted(expr: Any, axes: list[int], same: dict[int, int]) -> list[int]:
    return [axes[k] for k in expr.permutation.array_form]


_STEPS = {ae.ArrayContraction: _contracted, ae.ArrayDiagonal: _diagonal, ae.PermuteDims: _permuted}


def _sum(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    same_shape(xs, xs[0].tail)
    return context.combine(add, xs)


def _elementwise(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    array, result = xs
    if len(expr.function.variables) != 1:
        return context.unsupported(expr, None, "only a function of one variable is applied to each element")
    result = Lowered(result.value, result.axes, min(result.depth, scope.depth))
    if result.tail == array.tail:
        return result
    return _stretched(result, _tensor_shape(array))  # a constant function


def _stretched(lowered: Lowered, shape: tuple[Size, ...]) -> Lowered:
    """A scalar as an array that holds it everywhere."""
    value = aligned(lowered, lowered.axes, len(shape))
    front = lowered.value.shape
    return Lowered(with_shape(value, (*front, *shape)), lowered.axes, lowered.depth)


def _reshaped(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    (x,) = xs
    shape = tuple(dimension(context, d) for d in expr.shape)
    return Lowered(reshape(x.value, rank=x.tail, shape=shape), x.axes, x.depth)


def _flat(expr: Any) -> list[Any]:
    return list(map(sp.sympify, Flatten(expr))) if len(expr) else []


def _entries(expr: Any) -> Sequence[Any]:
    """The entries of an array, or nothing where all are plain numbers or where there are too many."""
    if len(expr) > _MAX_ENTRIES:
        return ()
    entries = _flat(expr)
    return () if all(e.is_Number and e.is_extended_real for e in entries) else entries


def _array(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    shape = tuple(map(int, expr.shape))
    if len(expr) > _MAX_ENTRIES:
        return context.unsupported(expr, None, f"an array of {len(expr)} entries: pass large arrays as data")
    if any(x.tail for x in xs):
        return context.unsupported(expr, None, "entries that are arrays: give their elements, or a list of arrays")
    if xs:
        return assembled(context, xs, shape)
    found = numbers(context, _flat(expr), shape) if len(expr) else ones(context, shape)
    return context.unsupported(expr, None, "entries that are no real numbers") if found is None else found


def _derivative(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    advice = "an unevaluated derivative, and SymPy's are wrong for matrices: compile the function, take f.jacobian()"
    return context.unsupported(expr, None, advice)


_CONTRACTION = Handler(_contraction, children=lambda expr: _chain(expr)[1])

_HANDLERS: dict[Any, Handler] = {
    ae.ArraySymbol: LEAF,
    ae.ArrayElement: ELEMENT,
    ae.ZeroArray: _filled(0),
    ae.OneArray: _filled(1),
    ae.ArrayTensorProduct: _CONTRACTION,
    ae.ArrayContraction: _CONTRACTION,
    ae.ArrayDiagonal: _CONTRACTION,
    ae.PermuteDims: _CONTRACTION,
    ae.ArrayAdd: Handler(_sum),
    ae.Reshape: Handler(_reshaped, children=lambda expr: expr.args[:1]),
    ae.ArrayElementwiseApplyFunc: Handler(_elementwise, children=matrix_parts, opens=True, outside=1),
    sp.NDimArray: Handler(_array, children=_entries),
    ArrayDerivative: Handler(_derivative, children=lambda expr: ()),
}
HANDLERS: dict[Any, Handler] = {cls: told(handler) for cls, handler in _HANDLERS.items()}
