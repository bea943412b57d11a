"""Rows for special functions; the first few, with room for the rest."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import scipy.special
import sympy as sp

from sym2tf.ir.op import Op, TFOp
from sym2tf.ops.elementary import exp
from sym2tf.ops.leaves import pi

_LGAMMA_XLA = "XLA's lgamma is wrong by 10^7 units in the last place near 1 and 2"

erf = Op(
    name="erf", sympy=sp.erf, numpy=scipy.special.erf, mpmath=mpmath.erf, tf=TFOp("Erf", "tf.math.erf"),
    vjp=lambda g, y, x: (g * (2 * exp(-x * x) * x.apply(pi, (), {}) ** -0.5),),
)
erfc = Op(
    name="erfc", sympy=sp.erfc, numpy=scipy.special.erfc, mpmath=mpmath.erfc, tf=TFOp("Erfc", "tf.math.erfc"),
    vjp=lambda g, y, x: (g * (-2 * exp(-x * x) * x.apply(pi, (), {}) ** -0.5),),
)
lgamma = Op(
    name="lgamma", sympy=sp.loggamma, numpy=scipy.special.gammaln,
    mpmath=lambda x: mpmath.log(abs(mpmath.gamma(x))) if not _pole(x) else mpmath.inf,
    tf=TFOp("Lgamma", "tf.math.lgamma", xla=_LGAMMA_XLA), vjp=lambda g, y, x: (g * digamma(x),), sample=((0.05, 8.0),),
)
digamma = Op(
    name="digamma", sympy=sp.digamma, numpy=scipy.special.digamma,
    mpmath=lambda x: mpmath.nan if _pole(x) else mpmath.digamma(x),
    tf=TFOp("Digamma", "tf.math.digamma"), sample=((0.3, 8.0),),
    vjp=lambda g, y, x: (g * polygamma(1, x),),
)
polygamma = Op(
    name="polygamma", arity=2, sympy=sp.polygamma, numpy=lambda n, x: scipy.special.polygamma(np.int64(n), x),
    mpmath=lambda n, x: mpmath.polygamma(int(n), x),
    tf=TFOp("Polygamma", "tf.math.polygamma", dtypes=("float32", "float64")),
    vjp=lambda g, y, n, x: (None, g * polygamma(n + 1, x)), sample=(1, (0.3, 8.0)),
)


def _pole(x: object) -> bool:
    number = float(x)  # type: ignore[arg-type]
    return number <= 0 and number == math.floor(number)


ROWS = (erf, erfc, lgamma, digamma, polygamma)
