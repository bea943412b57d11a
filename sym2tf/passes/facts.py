"""What is known about the value of a node from the signs of its operands: which sides of zero it can be on, whether
it is an integer. Rules ask for it where they hold only on part of the real line.

Facts are about the exact value where it is defined: `exp(x)` is positive although a float underflows to 0.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from sym2tf.ir.graph import Node
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind
from sym2tf.ops import arithmetic, contraction, elementary, indexing, leaves, logic, piecewise_linear, special
from sym2tf.ops.leaves import Exact


class Facts(enum.IntFlag):
    """A set of facts; more flags say more."""

    NONE = 0
    NONNEGATIVE = 1
    NONPOSITIVE = 2
    NONZERO = 4
    INTEGER = 8
    POSITIVE = 5
    NEGATIVE = 6


SIGN = Facts.NONNEGATIVE | Facts.NONPOSITIVE | Facts.NONZERO
Rule = Callable[[Node, Sequence[Facts], Sequence[Exact | None]], Facts]


def facts_of(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    """The facts about `node`, given those about its operands and which of them are exact constants."""
    known = Facts.INTEGER if node.type.kind <= Kind.INTEGER else Facts.NONE
    rule = _RULES.get(node.op)
    return known if rule is None else known | rule(node, operands, constants)


def facts_of_number(value: Exact) -> Facts:
    """The facts about an exact constant; none about NaN."""
    if isinstance(value, bool) or value != value:
        return Facts.NONE
    known = Facts.INTEGER if isinstance(value, Fraction) and value.denominator == 1 else Facts.NONE
    if value == 0:
        return known | Facts.NONNEGATIVE | Facts.NONPOSITIVE
    return known | (Facts.POSITIVE if value > 0 else Facts.NEGATIVE)


def _symbol(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    symbol: Any = node.attributes.get("symbol")
    known = Facts.NONE
    for name, fact in (
        ("is_nonnegative", Facts.NONNEGATIVE), ("is_nonpositive", Facts.NONPOSITIVE),
        ("is_nonzero", Facts.NONZERO), ("is_integer", Facts.INTEGER),
    ):
        if getattr(symbol, name, None) is True:
            known |= fact
    return known


def _sum(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    common, some = Facts.NONNEGATIVE | Facts.NONPOSITIVE | Facts.INTEGER, Facts.NONE
    for facts in operands:
        common &= facts
        some |= facts
    return common | (some & Facts.NONZERO if common & (Facts.NONNEGATIVE | Facts.NONPOSITIVE) else Facts.NONE)


def _product(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    negative, signed = False, True
    common = Facts.NONZERO | Facts.INTEGER
    for facts in operands:
        common &= facts
        signed = signed and bool(facts & (Facts.NONNEGATIVE | Facts.NONPOSITIVE))
        negative ^= bool(facts & Facts.NONPOSITIVE)
    return common | ((Facts.NONPOSITIVE if negative else Facts.NONNEGATIVE) if signed else Facts.NONE)


def _power(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    base, exponent = operands[0], constants[1]
    known = Facts.NONE
    if isinstance(exponent, Fraction):
        if exponent.denominator != 1 or exponent.numerator % 2 == 0:
            known |= Facts.NONNEGATIVE  # where it is defined
        else:
            known |= base & (Facts.NONNEGATIVE | Facts.NONPOSITIVE)
        known |= Facts.NONZERO if exponent < 0 else base & Facts.NONZERO
        if exponent.denominator == 1 and exponent >= 0:
            known |= base & Facts.INTEGER
    elif base & Facts.NONNEGATIVE:
        known |= Facts.NONNEGATIVE | (base & Facts.NONZERO)
    return known


def _same(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    return operands[0]


def _signs(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    return operands[0] & SIGN


def _always(facts: Facts) -> Rule:
    return lambda node, operands, constants: facts


def _maximum(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    some, common = Facts.NONE, SIGN | Facts.INTEGER
    for facts in operands:
        common &= facts
        some |= facts & Facts.NONNEGATIVE
    positive = any(facts & Facts.POSITIVE == Facts.POSITIVE for facts in operands)
    return common | some | (Facts.POSITIVE if positive else Facts.NONE)


def _minimum(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    some, common = Facts.NONE, SIGN | Facts.INTEGER
    for facts in operands:
        common &= facts
        some |= facts & Facts.NONPOSITIVE
    negative = any(facts & Facts.NEGATIVE == Facts.NEGATIVE for facts in operands)
    return common | some | (Facts.NEGATIVE if negative else Facts.NONE)


_RULES: dict[Op, Rule] = {
    leaves.input_: _symbol,
    leaves.const: lambda node, operands, constants: facts_of_number(node.attributes["value"]),
    leaves.size: _always(Facts.NONNEGATIVE),
    **{number: _always(Facts.POSITIVE) for number in leaves.NUMBERS},
    arithmetic.add: _sum,
    arithmetic.mul: _product,
    arithmetic.pow_: _power,
    arithmetic.cast: _same,
    logic.select: lambda node, operands, constants: operands[1] & operands[2],
    piecewise_linear.abs_: lambda node, operands, constants: (
        Facts.NONNEGATIVE | (operands[0] & (Facts.NONZERO | Facts.INTEGER))),
    piecewise_linear.sign: lambda node, operands, constants: (operands[0] & SIGN) | Facts.INTEGER,
    piecewise_linear.floor: lambda node, operands, constants: (
        Facts.INTEGER | (operands[0] & Facts.NONNEGATIVE)
        | (Facts.NEGATIVE if operands[0] & Facts.NEGATIVE == Facts.NEGATIVE else operands[0] & Facts.NONPOSITIVE)),
    piecewise_linear.ceiling: lambda node, operands, constants: (
        Facts.INTEGER | (operands[0] & Facts.NONPOSITIVE)
        | (Facts.POSITIVE if operands[0] & Facts.POSITIVE == Facts.POSITIVE else operands[0] & Facts.NONNEGATIVE)),
    piecewise_linear.max_: _maximum,
    piecewise_linear.min_: _minimum,
    elementary.exp: _always(Facts.POSITIVE),
    elementary.cosh: _always(Facts.POSITIVE),
    elementary.sigmoid: _always(Facts.POSITIVE),
    elementary.softplus: _always(Facts.POSITIVE),
    elementary.acos: _always(Facts.NONNEGATIVE),
    elementary.acosh: _always(Facts.NONNEGATIVE),
    special.erfc: _always(Facts.POSITIVE),
    **{op: _signs for op in (
        elementary.sinh, elementary.tanh, elementary.asinh, elementary.atan, elementary.asin, elementary.atanh,
        elementary.expm1, elementary.log1p, special.erf)},
    indexing.expand: _same, indexing.squeeze: _same, indexing.broadcast: _same, indexing.transpose: _same,
    indexing.slice_: _same,
    indexing.pad: lambda node, operands, constants: operands[0] & ~Facts.NONZERO,
    indexing.sum_: lambda node, operands, constants: (  # the sum of nothing is 0
        operands[0] & (Facts.NONNEGATIVE | Facts.NONPOSITIVE | Facts.INTEGER)),
    contraction.reduce_max: _same, contraction.reduce_min: _same,
}
