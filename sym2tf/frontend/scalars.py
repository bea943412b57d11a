"""Scalars: numbers, symbols, arithmetic, functions, relations, Boolean algebra and Piecewise."""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.codegen import cfunctions
from sympy.core.function import AppliedUndef
from sympy.logic.boolalg import BooleanFalse, BooleanTrue

from sym2tf.errors import ShapeError
from sym2tf.frontend.binders import BINDERS
from sym2tf.frontend.context import Affine, Context, Lowered, Scope
from sym2tf.frontend.handlers import (
    STAND_IN,
    Handler,
    StandIn,
    elementwise,
    of_matrices,
    require_one_shape,
    rewritten,
    stand_in,
)
from sym2tf.frontend.numbers import exact_number
from sym2tf.frontend.subscripts import affine_value
from sym2tf.frontend.tensors import declarations, shape_text
from sym2tf.frontend.walk import binds_symbols
from sym2tf.ir.types import Kind
from sym2tf.nn.activations import ACTIVATIONS
from sym2tf.ops import BY_SYMPY
from sym2tf.ops.arithmetic import pow_
from sym2tf.ops.contraction import reduce_any
from sym2tf.ops.elementary import exp, expm1, log1p
from sym2tf.ops.leaves import size
from sym2tf.ops.logic import equal, less, less_equal, not_, not_equal, select, xor
from sym2tf.ops.special import digamma, polygamma
from sym2tf.ops.values import apply


def _number(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    value = exact_number(expr)
    return context.number(value) if value is not None else _named(context, expr, scope, xs)


def _named(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    op = BY_SYMPY.get(expr)
    if op is None:
        return context.unsupported(expr, None, "complex and symbolic infinities are not supported")
    return Lowered(apply(context.builder, op, ()))


def _symbol(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    index = scope.find(expr)
    if index is not None:
        return affine_value(context, Affine({**index.offset.indices, index: 1}, index.offset.rest))
    if expr in context.sizes:
        dim = context.size_of(expr)
        return Lowered(apply(context.builder, size, (), {"size": dim}))
    return _leaf(context, expr, scope, xs)


def _leaf(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    return Lowered(context.input(expr))


def _derivative(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if expr in context.types:
        return _leaf(context, expr, scope, xs)
    return context.unsupported(
        expr, None, "an unevaluated derivative: call .doit(), or compile the function and take f.gradient()"
    )


def _equality(negated: bool) -> Handler:
    def build(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
        if all(x.value.type.kind is Kind.BOOLEAN for x in xs):
            different = context.combine(xor, xs)
            return different if negated else context.combine(not_, [different])
        if all(getattr(side, "is_Matrix", False) for side in expr.args):
            different = _any_different(context, expr, xs)
            return different if negated else context.combine(not_, [different])
        return context.combine(not_equal if negated else equal, xs)

    return Handler(build)


def _any_different(context: Context, expr: Any, xs: list[Lowered]) -> Lowered:
    """Whether two matrices differ in any element."""
    shapes = [x.value.shape[-2:] for x in xs]
    if shapes[0] != shapes[1]:
        listed = " and ".join(map(shape_text, shapes))
        raise ShapeError(f"{declarations(expr)}: matrices of {listed} are compared")
    different = context.combine(not_equal, xs)
    return Lowered(reduce_any(different.value, axes=(-2, -1)), different.axes, different.depth)


def _swapped(op: Any) -> Handler:
    return Handler(lambda context, expr, scope, xs: context.combine(op, xs[::-1]))


def _piecewise(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    values, conditions = xs[::2], xs[1::2]
    answer = context.number(float("nan"))
    for value, condition in zip(reversed(values), reversed(conditions), strict=True):
        certain = condition.value.constant is True
        answer = value if certain else context.combine(select, [condition, value, answer])
    return answer


def _piecewise_children(expr: Any) -> list[Any]:
    return [part for branch in expr.args for part in (branch.expr, branch.cond)]


def _polygamma(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if xs[0].value.constant == 0:
        return context.combine(digamma, xs[1:])
    return context.combine(polygamma, xs)


def _e_power(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if expr.base is sp.E:
        return context.combine(exp, xs[1:])
    require_one_shape(expr, xs)
    result = context.combine(pow_, xs)
    return of_matrices(context, expr, pow_, xs, result) if result.tail else result


def _membership(expr: Any) -> list[Any]:
    """Membership in a set as a relation; nothing where the set has none."""
    element, members = expr.args
    if any(binds_symbols(part) and part.has(*BINDERS) for part in members.atoms(sp.Set)):
        return []  # nobody has looked for indices inside of `ConditionSet(t, t > Sum(...))`
    try:
        return [_bounded(members).as_relational(stand_in(element))]
    except (AttributeError, NotImplementedError):
        return []


def _bounded(members: Any) -> Any:
    """A set whose bounds and elements are stand-ins, as are those of the sets that it is made of."""
    if isinstance(members, sp.Interval):
        start, end, *sides = members.args
        return sp.Interval(stand_in(start), stand_in(end), *sides)
    if isinstance(members, sp.FiniteSet):
        return sp.FiniteSet(*map(stand_in, members.args), evaluate=False)
    return members


def _contains(context: Context, expr: Any, scope: Scope, xs: list[Lowered]) -> Lowered:
    if xs:
        return xs[0]
    context.unsupported(expr, None, "membership in this set is no relation: write one")
    return context.number(False)  # a stand-in that can be a condition


def _heaviside(expr: Any) -> Any:
    x, at_zero = expr.args
    return sp.Piecewise((0, x < 0), (at_zero, sp.Eq(x, 0)), (1, True), evaluate=False)


def _sinc(expr: Any) -> Any:
    x = expr.args[0]
    return sp.Piecewise((sp.sin(x) / x, sp.Ne(x, 0)), (1, True), evaluate=False)


_REALS = {  # on the real line
    sp.re: lambda e: e.args[0],
    sp.im: lambda e: sp.S.Zero,
    sp.conjugate: lambda e: e.args[0],
}
_DEFINED = {  # classes that are other classes written differently
    sp.sec: lambda e: 1 / sp.cos(e.args[0]),
    sp.csc: lambda e: 1 / sp.sin(e.args[0]),
    sp.cot: lambda e: 1 / sp.tan(e.args[0]),
    sp.sech: lambda e: 1 / sp.cosh(e.args[0]),
    sp.csch: lambda e: 1 / sp.sinh(e.args[0]),
    sp.coth: lambda e: 1 / sp.tanh(e.args[0]),
    sp.asec: lambda e: sp.acos(1 / e.args[0]),
    sp.acsc: lambda e: sp.asin(1 / e.args[0]),
    sp.acot: lambda e: sp.atan(1 / e.args[0]),
    sp.asech: lambda e: sp.acosh(1 / e.args[0]),
    sp.acsch: lambda e: sp.asinh(1 / e.args[0]),
    sp.acoth: lambda e: sp.atanh(1 / e.args[0]),
    sp.frac: lambda e: e.args[0] - sp.floor(e.args[0]),
    sp.Heaviside: _heaviside,
    sp.sinc: _sinc,
    sp.ITE: lambda e: sp.Piecewise((e.args[1], e.args[0]), (e.args[2], True), evaluate=False),
    sp.Implies: lambda e: sp.Or(sp.Not(e.args[0]), e.args[1], evaluate=False),
    sp.Equivalent: lambda e: sp.Or(sp.And(*e.args), sp.And(*map(sp.Not, e.args))),
    sp.UnevaluatedExpr: lambda e: e.args[0],
    cfunctions.exp2: lambda e: sp.Pow(2, e.args[0]),
    cfunctions.log2: lambda e: sp.log(e.args[0]) / sp.log(2),
    cfunctions.log10: lambda e: sp.log(e.args[0]) / sp.log(10),
    cfunctions.Sqrt: lambda e: sp.sqrt(e.args[0]),
    cfunctions.Cbrt: lambda e: sp.Pow(e.args[0], sp.Rational(1, 3)),
    cfunctions.hypot: lambda e: sp.sqrt(e.args[0] ** 2 + e.args[1] ** 2),
    cfunctions.fma: lambda e: e.args[0] * e.args[1] + e.args[2],
}
_ACTIVATIONS = {cls: lambda e: type(e).definition(*e.args) for cls in ACTIVATIONS if cls not in BY_SYMPY}
_FUNCTIONS = {cls: op for cls, op in BY_SYMPY.items() if isinstance(cls, type) and cls not in (sp.Eq, sp.Ne)}

HANDLERS: dict[Any, Handler] = {
    sp.Number: Handler(_number, children=lambda expr: ()),
    sp.NumberSymbol: Handler(_named, children=lambda expr: ()),
    sp.core.numbers.NaN: Handler(_number, children=lambda expr: ()),
    sp.core.numbers.Infinity: Handler(_number, children=lambda expr: ()),
    sp.core.numbers.NegativeInfinity: Handler(_number, children=lambda expr: ()),
    BooleanTrue: Handler(lambda c, e, s, xs: c.number(True), children=lambda expr: ()),
    BooleanFalse: Handler(lambda c, e, s, xs: c.number(False), children=lambda expr: ()),
    sp.Symbol: Handler(_symbol, children=lambda expr: ()),
    sp.Idx: Handler(_symbol, children=lambda expr: ()),
    StandIn: STAND_IN,
    AppliedUndef: Handler(_leaf, children=lambda expr: ()),
    sp.Derivative: Handler(_derivative, children=lambda expr: ()),
    **{cls: elementwise(op) for cls, op in _FUNCTIONS.items()},
    sp.Pow: Handler(_e_power),
    sp.Eq: _equality(negated=False),
    sp.Ne: _equality(negated=True),
    sp.StrictGreaterThan: _swapped(less),
    sp.GreaterThan: _swapped(less_equal),
    sp.Piecewise: Handler(_piecewise, children=_piecewise_children),
    sp.polygamma: Handler(_polygamma),
    sp.Contains: Handler(_contains, children=_membership),
    cfunctions.log1p: elementwise(log1p),
    cfunctions.expm1: elementwise(expm1),
    **{cls: rewritten(definition) for cls, definition in (_REALS | _DEFINED | _ACTIVATIONS).items()},
}
