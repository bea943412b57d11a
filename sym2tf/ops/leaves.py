"""Rows without operands: inputs, exact constants, named numbers, sizes and ranges."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import Kind, TensorType

Exact = Fraction | float | bool  # a float only where no fraction can stand: inf, -inf, nan, -0.0


def exact(number: Any) -> Exact:
    """A Python or NumPy number as the value of a `const` node: nothing is rounded."""
    if isinstance(number, bool | np.bool_):
        return bool(number)
    if isinstance(number, float | np.floating):
        number = float(number)
        if math.isnan(number):
            return math.nan  # one object, so that equal keys are found
        if math.isinf(number) or (number == 0 and math.copysign(1, number) < 0):
            return number
    return Fraction(number)


def kind_of(value: Exact) -> Kind:
    """The smallest kind that holds an exact constant."""
    if isinstance(value, bool):
        return Kind.BOOLEAN
    return Kind.INTEGER if isinstance(value, Fraction) and value.denominator == 1 else Kind.REAL


input_ = Op(
    name="input",
    arity=0,
    infer=lambda *, name, symbol, type, known=frozenset(): type,
    doc="An argument. `name` is unique in the graph, `symbol` the SymPy object it stands for, `known` what the user "
    "assumes of it (`frontend.assumptions` lists the words); absent where that is nothing.",
)

const = Op(
    name="const",
    arity=0,
    infer=lambda *, value, kind: TensorType(kind),
    doc="An exact scalar: a Fraction, a bool, or one of the floats that are no fraction.",
)

size = Op(
    name="size",
    arity=0,
    infer=lambda *, size: TensorType(Kind.INTEGER),
    doc="The length of an axis, as a number.",
)

iota = Op(
    name="range",
    arity=0,
    infer=lambda *, start, size: TensorType(Kind.INTEGER, (size,)),
    numpy=lambda *, start, size: np.arange(start, start + size, dtype=np.int64),
    tf=TFOp("Range", "tf.range", form=lambda e, *, start, size: e.call(
        "tf.range", e.size(start), e.size(start + size), dtype=e.dtype(Kind.INTEGER))),
    doc="The integers start, ..., start + size - 1.",
)


def _number(name: str, symbol: Any, value: Any) -> Op:
    return Op(name=name, arity=0, infer=lambda: TensorType(Kind.REAL), sympy=symbol, mpmath=value)


pi = _number("pi", sp.pi, lambda: +mpmath.mp.pi)
euler = _number("e", sp.E, lambda: +mpmath.mp.e)
euler_gamma = _number("euler_gamma", sp.EulerGamma, lambda: +mpmath.mp.euler)
golden_ratio = _number("golden_ratio", sp.GoldenRatio, lambda: +mpmath.mp.phi)
catalan = _number("catalan", sp.Catalan, lambda: +mpmath.mp.catalan)
tribonacci = _number("tribonacci", sp.TribonacciConstant, lambda: mpmath.mpf(
    1 + mpmath.cbrt(19 + 3 * mpmath.sqrt(33)) + mpmath.cbrt(19 - 3 * mpmath.sqrt(33))) / 3)

NUMBERS = (pi, euler, euler_gamma, golden_ratio, catalan, tribonacci)
ROWS = (input_, const, size, iota, *NUMBERS)
