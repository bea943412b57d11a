"""Rows for functions with corners and steps, and the conventions for their derivatives there.

Where the derivative does not exist, sym2tf takes, and the tests pin:

- `abs` at 0: 0. `sign`, `floor`, `ceiling` at a step: 0. `mod` at a wrap: that of the piece it belongs to.
- `max` and `min` at a tie: if a constant is among the tied operands, the derivative is 0, so that `Max(x, 0)`
  has the derivative of a ReLU; otherwise the tied operands share equally.
- `relu`, `leaky_relu` at 0: that of the left side, as in TensorFlow.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import Kind
from sym2tf.nn import activations
from sym2tf.ops.arithmetic import add, cast, integer_type
from sym2tf.ops.guards import when
from sym2tf.ops.logic import and_, equal, less, select


def _extremum_vjp(above: Any) -> Any:
    """Cotangents of a maximum (`above(a, b)`: a > b) or a minimum."""

    def vjp(g: Any, y: Any, *xs: Any) -> tuple[Any, ...]:
        fixed = [x for x in xs if x.constant is not None]
        free = [x for x in xs if x.constant is None]
        ties = [cast(equal(x, y), kind=Kind.REAL) for x in free]
        share = g if len(free) == 1 else g / add(*ties)

        def cotangent(x: Any) -> Any:
            won = equal(x, y)
            for bound in fixed:
                won = above(x, bound) if len(xs) == 2 else and_(won, above(x, bound))
            return when(won, share)

        return tuple(None if x.constant is not None else cotangent(x) for x in xs)

    return vjp


max_ = Op(
    name="max", arity=None, infer=integer_type, commutative=True, associative=True, sympy=sp.Max,
    numpy=lambda *xs: reduce(np.maximum, xs),
    mpmath=lambda *xs: mpmath.nan if any(map(mpmath.isnan, xs)) else max(xs),
    tf=TFOp("Maximum", "tf.maximum"), vjp=_extremum_vjp(lambda a, b: less(b, a)),
)
min_ = Op(
    name="min", arity=None, infer=integer_type, commutative=True, associative=True, sympy=sp.Min,
    numpy=lambda *xs: reduce(np.minimum, xs),
    mpmath=lambda *xs: mpmath.nan if any(map(mpmath.isnan, xs)) else min(xs),
    tf=TFOp("Minimum", "tf.minimum"), vjp=_extremum_vjp(lambda a, b: less(a, b)),
)
# A row and not max(x, 0), because a unit that is off sends back a plain zero: no guard, which would have to be applied
# behind each product further down and so keep it from being a contraction. Its slope is read off its own operand, so
# that what is lost is only a derivative where the loss itself has met an infinity.
relu = Op(
    name="relu", sympy=activations.relu, numpy=lambda x: np.maximum(x, 0),
    mpmath=lambda x: mpmath.nan if mpmath.isnan(x) else max(x, mpmath.mpf(0)),
    tf=TFOp("Relu", "tf.nn.relu"), vjp=lambda g, y, x: (select(less(0, x), g, 0),),
)
leaky_relu = Op(
    name="leaky_relu", arity=2, sympy=activations.leaky_relu, numpy=lambda x, a: np.where(x > 0, x, a * x),
    mpmath=lambda x, a: x if x > 0 else a * x,
    tf=TFOp("", "", form=lambda e, x, a: e.call("tf.where", e.infix("<", 0.0, x), x, e.infix("*", a, x))),
    vjp=lambda g, y, x, a: (g * select(less(0, x), 1, a), select(less(0, x), 0, g * x)),
    sample=((-3.0, 3.0), (0.05, 0.5)),
)
abs_ = Op(
    name="abs", infer=integer_type, sympy=sp.Abs, numpy=np.abs, mpmath=abs, tf=TFOp("Abs", "tf.abs"),
    vjp=lambda g, y, x: (g * sign(x),), label="|x|",
)
sign: Op = Op(
    name="sign", infer=integer_type, sympy=sp.sign, numpy=np.sign, mpmath=mpmath.sign,
    tf=TFOp("Sign", "tf.sign"),
    vjp=lambda g, y, x: (None,),
)
floor = Op(
    name="floor", sympy=sp.floor, numpy=np.floor, mpmath=mpmath.floor, tf=TFOp("Floor", "tf.floor"),
    vjp=lambda g, y, x: (None,),
)
ceiling = Op(
    name="ceiling", sympy=sp.ceiling, numpy=np.ceil, mpmath=mpmath.ceil, tf=TFOp("Ceil", "tf.math.ceil"),
    vjp=lambda g, y, x: (None,),
)
mod = Op(
    name="mod", arity=2, sympy=sp.Mod, numpy=np.mod,
    mpmath=lambda a, b: _mp_mod(a, b),
    tf=TFOp("FloorMod", "tf.math.floormod"), vjp=lambda g, y, a, b: (g, -g * floor(a / b)),
    sample=((-3.0, 3.0), (0.5, 3.0)),
)


def _mp_mod(a: Any, b: Any) -> Any:
    if b == 0 or mpmath.isnan(b) or not mpmath.isfinite(a):
        return mpmath.nan
    if mpmath.isinf(b):
        return a if a == 0 or (a > 0) == (b > 0) else b
    return a % b


ROWS = (max_, min_, relu, leaky_relu, abs_, sign, floor, ceiling, mod)
