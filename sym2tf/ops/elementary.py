"""Rows for the elementary functions, and for their combinations that keep digits (softplus, log1p, ...)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from sym2tf.ir.op import Op, TFOp
from sym2tf.lazy import lazy
from sym2tf.nn import activations
from sym2tf.ops.arithmetic import log
from sym2tf.ops.guards import when
from sym2tf.ops.logic import less, not_equal, select

scipy_special = lazy("scipy.special")  # a fifth of a second, and only the reference backend needs it

MINUS_HALF = Fraction(-1, 2)


def _one(
    name: str, symbol: Any, tf: TFOp, vjp: Any, *, numpy: Any, mp: Any, sample: Any = (-3.0, 3.0), **more: Any
) -> Op:
    return Op(name=name, sympy=symbol, numpy=numpy, mpmath=mp, tf=tf, vjp=vjp, sample=(sample,), **more)


exp = _one("exp", sp.exp, TFOp("Exp", "tf.exp"), lambda g, y, x: (g * y,), numpy=np.exp, mp=mpmath.exp)
sin: Op = _one("sin", sp.sin, TFOp("Sin", "tf.sin"), lambda g, y, x: (g * cos(x),),
           numpy=np.sin, mp=mpmath.sin, sample=(-10.0, 10.0))
cos: Op = _one("cos", sp.cos, TFOp("Cos", "tf.cos"), lambda g, y, x: (-g * sin(x),),
           numpy=np.cos, mp=mpmath.cos, sample=(-10.0, 10.0))
tan = _one("tan", sp.tan, TFOp("Tan", "tf.tan"), lambda g, y, x: (g * (1 + y * y),),
           numpy=np.tan, mp=mpmath.tan, sample=(-1.5, 1.5))
asin = _one("asin", sp.asin, TFOp("Asin", "tf.asin"), lambda g, y, x: (g * (1 - x * x) ** MINUS_HALF,),
            numpy=np.arcsin, mp=mpmath.asin, sample=(-0.99, 0.99))
acos = _one("acos", sp.acos, TFOp("Acos", "tf.acos"), lambda g, y, x: (-g * (1 - x * x) ** MINUS_HALF,),
            numpy=np.arccos, mp=mpmath.acos, sample=(-0.99, 0.99))
atan = _one("atan", sp.atan, TFOp("Atan", "tf.atan"), lambda g, y, x: (g / (1 + x * x),),
            numpy=np.arctan, mp=mpmath.atan, sample=(-10.0, 10.0))
sinh: Op = _one("sinh", sp.sinh, TFOp("Sinh", "tf.sinh"), lambda g, y, x: (g * cosh(x),), numpy=np.sinh,
    mp=mpmath.sinh)
cosh: Op = _one("cosh", sp.cosh, TFOp("Cosh", "tf.cosh"), lambda g, y, x: (g * sinh(x),), numpy=np.cosh,
    mp=mpmath.cosh)
tanh = _one("tanh", sp.tanh, TFOp("Tanh", "tf.tanh"), lambda g, y, x: (g * (1 - y**2),),
            numpy=np.tanh, mp=mpmath.tanh)
asinh = _one("asinh", sp.asinh, TFOp("Asinh", "tf.asinh"), lambda g, y, x: (g * (1 + x * x) ** MINUS_HALF,),
             numpy=np.arcsinh, mp=mpmath.asinh, sample=(-10.0, 10.0))
acosh = _one("acosh", sp.acosh, TFOp("Acosh", "tf.acosh"),
             lambda g, y, x: (g * (x - 1) ** MINUS_HALF * (x + 1) ** MINUS_HALF,),
             numpy=np.arccosh, mp=mpmath.acosh, sample=(1.05, 10.0))
atanh = _one("atanh", sp.atanh, TFOp("Atanh", "tf.atanh"), lambda g, y, x: (g / (1 - x * x),),
             numpy=np.arctanh, mp=mpmath.atanh, sample=(-0.95, 0.95))
atan2 = Op(
    name="atan2", arity=2, sympy=sp.atan2, numpy=np.arctan2, mpmath=lambda y, x: _mp_atan2(y, x),
    tf=TFOp("Atan2", "tf.atan2"),
    vjp=lambda g, z, y, x: (g * x / (x * x + y * y), -g * y / (x * x + y * y)),
)

# Combinations that keep the digits which the separate steps would lose ----------------------------

log1p = _one("log1p", None, TFOp("Log1p", "tf.math.log1p"), lambda g, y, x: (g / (1 + x),),
             numpy=np.log1p, mp=mpmath.log1p, sample=(-0.9, 5.0))
expm1 = _one("expm1", None, TFOp("Expm1", "", form=lambda e, x: e.call("expm1", x)), lambda g, y, x: (g * exp(x),),
             numpy=np.expm1, mp=mpmath.expm1)
sigmoid: Op = _one("sigmoid", activations.sigmoid, TFOp("Sigmoid", "tf.sigmoid"),
               lambda g, y, x: (g * (y * sigmoid(-x)),),
               numpy=lambda x: scipy_special.expit(x), mp=lambda x: 1 / (1 + mpmath.exp(-x)),
               sample=(-30.0, 30.0))
softplus = _one("softplus", activations.softplus, TFOp("Softplus", "", form=lambda e, x: e.call("softplus", x)),
                lambda g, y, x: (g * sigmoid(x),),
                numpy=lambda x: np.logaddexp(0, x), mp=lambda x: mpmath.log1p(mpmath.exp(x)),
                sample=(-30.0, 30.0))

# A row and not a select, for the reason that relu is one: no guard on the way back
elu = Op(
    name="elu", arity=2, sympy=activations.elu, numpy=lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
    mpmath=lambda x, a: x if x > 0 else a * mpmath.expm1(x),
    tf=TFOp("", "", form=lambda e, x, a: e.call(
        "tf.where", e.infix("<", 0.0, x), x, e.infix("*", a, e.call("expm1", e.call("tf.minimum", x, 0.0))))),
    vjp=lambda g, y, x, a: (g * select(less(0, x), 1, a * exp(x)), g * select(less(0, x), 0, expm1(x))),
    sample=((-5.0, 5.0), (0.2, 2.0)),
)

# One row and not its formula, because max and abs have corners where the function and its derivatives are smooth
logaddexp = Op(
    name="logaddexp", arity=2, commutative=True, numpy=np.logaddexp,
    mpmath=lambda x, y: _mp_logaddexp(x, y),
    tf=TFOp("", "", form=lambda e, x, y: e.call("logaddexp", x, y)),
    vjp=lambda g, z, x, y: (g * sigmoid(x - y), g * sigmoid(y - x)), sample=((-30.0, 30.0), (-30.0, 30.0)),
    doc="log(exp(x) + exp(y)) without overflow.",
)

# x*log(x) and its derivatives have a limit on one side of 0 at most: the seam belongs to the user's Piecewise
xlogy = Op(
    name="xlogy", arity=2, numpy=lambda x, y: scipy_special.xlogy(x, y),
    mpmath=lambda x, y: mpmath.mpf(0) if x == 0 and not mpmath.isnan(y) else x * mpmath.log(y),
    tf=TFOp("Xlogy", "tf.math.xlogy"),
    vjp=lambda g, z, x, y: (when(not_equal(x, 0), g * log(y)), when(not_equal(x, 0), g * x / y)),
    sample=((0.05, 3.0), (0.05, 3.0)),
)

def _mp_logaddexp(x: Any, y: Any) -> Any:
    high, low = (x, y) if x >= y else (y, x)
    if mpmath.isnan(x) or mpmath.isnan(y) or mpmath.isinf(high) or mpmath.isinf(low):
        return mpmath.nan if mpmath.isnan(x) or mpmath.isnan(y) else high
    return high + mpmath.log1p(mpmath.exp(low - high))


def _mp_atan2(y: Any, x: Any) -> Any:
    if mpmath.isnan(y) or mpmath.isnan(x):
        return mpmath.nan
    if mpmath.isinf(y) and mpmath.isinf(x):
        return mpmath.atan2(mpmath.sign(y), mpmath.sign(x))
    return mpmath.atan2(y, x)


ROWS = (
    exp, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, asinh, acosh, atanh, atan2,
    log1p, expm1, sigmoid, softplus, elu, logaddexp, xlogy,
)
