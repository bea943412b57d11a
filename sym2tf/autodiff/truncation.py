"""The beginning of a power series as a graph value, and where it may stand for the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from sym2tf.autodiff.coefficients import ZERO, Coefficient, Ring, as_number
from sym2tf.ops.arithmetic import add
from sym2tf.ops.logic import and_, equal, less_equal, or_
from sym2tf.ops.piecewise_linear import abs_
from sym2tf.ops.values import Value


def first(terms: list[Coefficient], most: int) -> list[Coefficient]:
    """Up to the given number of terms that are not zero."""
    places = [k for k, c in enumerate(terms) if c]
    return terms if len(places) <= most else terms[: places[most]]


def polynomial(ring: Ring, terms: Sequence[Coefficient], d: Value) -> Value:
    """Horner's scheme; in d**2 where only even or only odd powers occur."""
    places = [k for k, c in enumerate(terms) if c]
    if not places:
        return ring.value(ZERO)
    step = 2 if len(places) > 1 and all((k - places[0]) % 2 == 0 for k in places) else 1
    variable = d if step == 1 else d * d
    total = ring.value(terms[places[-1]])
    for k in range(places[-1] - step, places[0] - 1, -step):
        total = total * variable
        total = total + ring.value(terms[k]) if terms[k] else total
    low = places[0]
    if low >= 2 and low % 2 == 0 and step == 2:
        return total * (variable ** (low // 2) if low > 2 else variable)
    return total if low == 0 else total * (d if low == 1 else d**low)


def near(ring: Ring, terms: Sequence[Coefficient], d: Value) -> Value:
    """Where the polynomial is exact to rounding, and its first derivatives nearly: at the point, around it.

    Each derivative of the first term left out is larger by its degree, over d; the square of the degree in
    the bounds covers the second derivative, to the digits that the closed form keeps at the edge.
    """
    values = [as_number(c) for c in terms]
    numbers = [value for value in values if value is not None]
    places = [k for k, c in enumerate(terms) if c]
    magnitude = abs_(d)
    if len(numbers) == len(terms):
        return less_equal(magnitude, radius(numbers))
    end = len(terms)
    if len(places) < 4 and places[-1] < end // 2:  # a polynomial, as far as one can see
        return less_equal(magnitude, Fraction(1, 64))
    sizes = {k: abs_(ring.value(terms[k])) * (magnitude**k if k else 1) for k in places}
    scale = add(*(sizes[k] for k in places[:3])) if len(places) > 1 else sizes[places[0]]
    # as if the terms left out continued the geometric series that the last ones are in
    ratio = (-53 - 2 * math.log2(end)) / (end - places[0])
    small = [
        less_equal(sizes[k], scale * Fraction(2.0 ** (ratio * (k - places[0])))) for k in places[-3:] if k > places[0]
    ]
    # at the point whatever the coefficients are: beside it they must be finite
    return or_(equal(magnitude, 0), and_(*small) if len(small) > 1 else small[0])


def radius(terms: Sequence[Fraction]) -> Fraction:
    """How far a polynomial with exact coefficients, the beginning of a series, may be used."""
    logs = {k: _log2(c) for k, c in enumerate(terms) if c}
    if not logs:
        return Fraction(1, 64)
    first, end = min(logs), len(terms)
    target = -53 - 2 * math.log2(end)
    growth = max(((size - logs[first]) / (k - first) for k, size in logs.items() if k > first), default=0.0)
    radius = target / (end - first) - growth  # as if all the rest grew like the terms that are known
    last = [k for k in logs if k > max(first, end - 4)]
    if last:
        radius = max(radius, min((target + logs[first] - logs[k]) / (k - first) for k in last))
    return Fraction(2.0 ** min(max(round(radius, 1), -1000.0), 1.0))


def _log2(value: Fraction) -> float:
    return math.log2(abs(value.numerator)) - math.log2(value.denominator)
