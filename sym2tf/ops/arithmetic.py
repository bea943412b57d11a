"""Rows for arithmetic.

`add`, `mul` and `pow` are all the arithmetic that lowering, derivatives and rules speak. The rest (`sub`,
`div`, `neg`, `square`, `sqrt`, ...) are machine operations, put in by the last pass because they are quicker
or rounder.
"""

from __future__ import annotations

import operator
from functools import reduce
from itertools import accumulate
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from sym2tf.ir.op import Op, TFOp, elementwise_type
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.guards import when
from sym2tf.ops.logic import not_equal, or_


def integer_type(*operands: TensorType) -> TensorType:
    """Elementwise, and integers stay integers."""
    return elementwise_type(*operands, kind=max((Kind.INTEGER, *(t.kind for t in operands))))


def others(xs: tuple[Any, ...]) -> list[Any]:
    """For each factor the product of all the others, without dividing: right at zeros, 3n multiplications."""
    left = [None, *accumulate(xs[:-1], operator.mul)]
    right = [*reversed(list(accumulate(reversed(xs[1:]), lambda a, b: b * a))), None]
    return [b if a is None else a if b is None else a * b for a, b in zip(left, right, strict=True)]


def _mul_jvp(tangents: tuple[Any, ...], y: Any, *xs: Any) -> Any:
    return add(*(t * rest for t, rest in zip(tangents, others(xs), strict=True) if t is not None))


def _pow_vjp(g: Any, y: Any, x: Any, e: Any) -> tuple[Any, ...]:
    if e.constant == 0:
        return None, None  # x**0 is 1 everywhere: 0 * x**-1 would be NaN at 0
    if e.constant is not None:
        return g * (e * x ** (e.constant - 1)), None
    base = g * (e * x ** (e - 1))
    exponent = g * (y * log(x))
    if x.constant is not None:
        return None, exponent
    # 0 * 0**-1 is the one case that the formula gets wrong; at e = 0 alone the guard would hide the mixed derivative
    return when(or_(not_equal(e, 0), not_equal(x, 0)), base), when(not_equal(x, 0), exponent)


add = Op(
    name="add", arity=None, infer=integer_type, linear=True, commutative=True, associative=True, sympy=sp.Add,
    numpy=lambda *xs: reduce(operator.add, xs), mpmath=lambda *xs: mpmath.fsum(xs),
    tf=TFOp("AddV2", "tf.add", infix="+"), vjp=lambda g, y, *xs: (g,) * len(xs), label="+",
)
mul = Op(
    name="mul", arity=None, infer=integer_type, commutative=True, associative=True, sympy=sp.Mul,
    numpy=lambda *xs: reduce(operator.mul, xs), mpmath=lambda *xs: mpmath.fprod(xs),
    tf=TFOp("Mul", "tf.multiply", infix="*"),
    vjp=lambda g, y, *xs: tuple(g * rest for rest in others(xs)) if len(xs) > 1 else (g,),
    jvp=_mul_jvp, label="×",
)


def _np_pow(x: Any, e: Any) -> Any:
    return np.power(x, e)


def _mp_pow(x: Any, e: Any) -> Any:
    x, e = mpmath.mpmathify(x), mpmath.mpmathify(e)
    if e == 0 or x == 1:
        return mpmath.mpf(1)
    if mpmath.isnan(x) or mpmath.isnan(e):
        return mpmath.nan
    if x == 0 and e < 0:
        return mpmath.inf
    if mpmath.isinf(e):  # as IEEE 754 has it, which mpmath has not
        return mpmath.mpf(1) if abs(x) == 1 else mpmath.inf if (abs(x) > 1) == (e > 0) else mpmath.mpf(0)
    if mpmath.isinf(x):
        size = mpmath.inf if e > 0 else mpmath.mpf(0)
        return -size if x < 0 and e == mpmath.floor(e) and mpmath.fmod(e, 2) == 1 else size
    return mpmath.power(x, e)


pow_ = Op(
    name="pow", arity=2, sympy=sp.Pow, numpy=_np_pow, mpmath=_mp_pow, tf=TFOp("Pow", "tf.pow", infix="**"),
    vjp=_pow_vjp, sample=((0.1, 3.0), (-3.0, 3.0)), label="^",
    doc="At x = 0 the derivative by the exponent is taken as 0, its limit for positive exponents.",
)
log = Op(
    name="log", sympy=sp.log, numpy=np.log, mpmath=mpmath.log, tf=TFOp("Log", "tf.math.log"),
    vjp=lambda g, y, x: (g / x,), sample=((0.05, 5.0),),
)
cast = Op(
    name="cast", infer=lambda x, *, kind: TensorType(kind, x.shape), linear=True, promotes=False,
    numpy=None, mpmath=lambda x, *, kind: mpmath.mpf(int(x)) if isinstance(x, bool | np.bool_) else x,
    tf=TFOp("Cast", "tf.cast", form=lambda e, x, *, kind: e.call("tf.cast", x, e.dtype(kind))),
    vjp=lambda g, y, x, *, kind: (g if x.type.kind >= Kind.REAL else None,),
    doc="To a larger kind; integers and conditions carry no derivative.",
)

# Machine operations -------------------------------------------------------------------------------

neg = Op(
    name="neg", infer=integer_type, numpy=np.negative, mpmath=operator.neg, tf=TFOp("Neg", "tf.negative"),
    vjp=lambda g, y, x: (-g,), label="−",
)
sub = Op(
    name="sub", arity=2, infer=integer_type, numpy=np.subtract, mpmath=operator.sub,
    tf=TFOp("Sub", "tf.subtract", infix="-"), vjp=lambda g, y, a, b: (g, -g), label="−",
)
div = Op(
    name="div", arity=2, numpy=np.true_divide, mpmath=lambda a, b: _divide(a, b),
    tf=TFOp("RealDiv", "tf.divide", infix="/"), vjp=lambda g, y, a, b: (g / b, -g * y / b), label="÷",
    sample=((-3.0, 3.0), (0.1, 3.0)),
)
reciprocal = Op(
    name="reciprocal", numpy=lambda x: 1 / x, mpmath=lambda x: _divide(1, x),
    tf=TFOp("Reciprocal", "tf.math.reciprocal", form=lambda e, x: e.infix("/", 1.0, x)),
    vjp=lambda g, y, x: (-g * (y * y),), label="1/x", sample=((0.1, 3.0),),
)
square = Op(
    name="square", infer=integer_type, numpy=np.square, mpmath=lambda x: x * x, tf=TFOp("Square", "tf.square"),
    vjp=lambda g, y, x: (g * 2 * x,), label="x²",
)
sqrt = Op(
    name="sqrt", sympy=sp.sqrt, numpy=np.sqrt, mpmath=mpmath.sqrt, tf=TFOp("Sqrt", "tf.sqrt"),
    vjp=lambda g, y, x: (g / (2 * y),), label="√", sample=((0.05, 5.0),),
)


def _divide(a: Any, b: Any) -> Any:
    if b == 0:
        return mpmath.nan if a == 0 or mpmath.isnan(a) else mpmath.inf * mpmath.sign(a)
    return mpmath.fdiv(a, b)


MACHINE = (neg, sub, div, reciprocal, square, sqrt)
ROWS = (add, mul, pow_, log, cast, *MACHINE)

