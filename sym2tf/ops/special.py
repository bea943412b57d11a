"""Rows for special functions; the first few, with room for the rest."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from sym2tf.ir.op import Op, TFOp
from sym2tf.lazy import lazy
from sym2tf.ops.elementary import exp
from sym2tf.ops.leaves import pi

scipy_special = lazy("scipy.special")  # a fifth of a second, and only the reference backend needs it

_LGAMMA_XLA = "XLA's lgamma is wrong by 10^7 units in the last place near 1 and 2"
_NOT_BFLOAT16 = ("float16", "float32", "float64")

erf = Op(
    name="erf", sympy=sp.erf, numpy=lambda x: scipy_special.erf(x), mpmath=lambda x: mpmath.erf(_near(x)),
    # TensorFlow squares the argument: NaN from 1e155 on, although erf is 1 in float64 from 6 on
    tf=TFOp("Erf", "tf.math.erf", form=lambda e, x: e.call(
        "tf.math.erf", e.call("tf.maximum", e.call("tf.minimum", x, 30.0), -30.0))),
    vjp=lambda g, y, x: (g * (2 * exp(-x * x) * x.apply(pi, (), {}) ** -0.5),),
)
erfc = Op(
    name="erfc", sympy=sp.erfc, numpy=lambda x: scipy_special.erfc(x), mpmath=lambda x: mpmath.erfc(_near(x)),
    tf=TFOp("Erfc", "tf.math.erfc"),
    vjp=lambda g, y, x: (g * (-2 * exp(-x * x) * x.apply(pi, (), {}) ** -0.5),),
)
lgamma = Op(
    name="lgamma", sympy=sp.loggamma, numpy=lambda x: scipy_special.gammaln(x),
    mpmath=lambda x: _mp_lgamma(x),
    tf=TFOp("Lgamma", "tf.math.lgamma", dtypes=_NOT_BFLOAT16, xla=_LGAMMA_XLA), vjp=lambda g, y,
    x: (g * digamma(x),), sample=((0.05, 8.0),),
)
digamma: Op = Op(
    name="digamma", sympy=sp.digamma, numpy=lambda x: scipy_special.digamma(x),
    mpmath=lambda x: mpmath.nan if _pole(x) else mpmath.digamma(x),
    tf=TFOp("Digamma", "tf.math.digamma", dtypes=_NOT_BFLOAT16), sample=((0.3, 8.0),),
    vjp=lambda g, y, x: (g * polygamma(1, x),),
)
polygamma: Op = Op(
    name="polygamma", arity=2, sympy=sp.polygamma, numpy=lambda n, x: scipy_special.polygamma(np.int64(n), x),
    mpmath=lambda n,
    x: mpmath.inf if _pole(x) else mpmath.polygamma(int(n), x) if x != mpmath.inf else mpmath.mpf(0),
    tf=TFOp("Polygamma", "tf.math.polygamma", dtypes=("float32", "float64")),
    vjp=lambda g, y, n, x: (None, g * polygamma(n + 1, x)), sample=(1, (0.3, 8.0)),
)


def _pole(x: Any) -> bool:
    number = float(x)
    return number <= 0 and number == math.floor(number)


def _near(x: Any) -> Any:
    """`x`, or infinity where mpmath would take for ever to find that erf has its limit."""
    return mpmath.sign(x) * mpmath.inf if abs(x) > 10**6 else x


def _mp_lgamma(x: Any) -> Any:
    if mpmath.isinf(x) or _pole(x):
        return mpmath.inf
    return mpmath.re(mpmath.loggamma(x)) if x > 100 else mpmath.log(abs(mpmath.gamma(x)))


ROWS = (erf, erfc, lgamma, digamma, polygamma)
