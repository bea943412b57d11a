"""SymPy numbers as exact constants."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import sympy as sp

from sym2tf.errors import ResourceLimitError
from sym2tf.ops.leaves import Exact

_MAX_BITS = 1 << 20  # a float64 has an exponent range of 2098 bits; beyond this it is a bomb, not a number


def exact_number(number: Any) -> Exact | None:
    """The value of a SymPy number that is rational, a Float, or special; None for irrational ones.

    Raises:
        ResourceLimitError: a Float with an exponent that no machine format comes near.
    """
    if isinstance(number, sp.Rational):
        return Fraction(number.p, number.q)
    if isinstance(number, sp.Float):
        sign, mantissa, exponent, _ = number._mpf_
        if not mantissa:
            return float(number) if exponent else Fraction(0)
        if abs(exponent) > _MAX_BITS:
            raise ResourceLimitError(f"the number has an exponent of 2**{exponent}")
        value = Fraction(int(mantissa)) * Fraction(2) ** exponent
        return -value if sign else value
    specials: dict[Any, float] = {sp.oo: float("inf"), -sp.oo: -float("inf"), sp.nan: float("nan")}
    return specials.get(number)
