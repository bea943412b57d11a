"""What is known about values: on which sides of zero they can be, and whether they are integers.

It follows from the signs of the operands. Rules ask for it where they hold only on part of the real line.

Facts are about the exact value where it is defined: `exp(x)` is positive although a float underflows to 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from sym2tf.ir.graph import Node
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind
from sym2tf.ops import (
    arithmetic,
    contraction,
    elementary,
    gathering,
    indexing,
    leaves,
    logic,
    piecewise_linear,
    special,
)
from sym2tf.ops.leaves import Exact

Facts = int  # a set of the flags below; more flags say more

NONE = 0
NONNEGATIVE = 1
NONPOSITIVE = 2
NONZERO = 4
INTEGER_VALUED = 8
POSITIVE = NONNEGATIVE | NONZERO
NEGATIVE = NONPOSITIVE | NONZERO
SIGN = NONNEGATIVE | NONPOSITIVE | NONZERO

Rule = Callable[[Node, Sequence[Facts], Sequence[Exact | None]], Facts]


def facts_of(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    """The facts about `node`, given those about its operands and which of them are exact constants."""
    known = INTEGER_VALUED if node.type.kind <= Kind.INTEGER else NONE
    rule = _RULES.get(node.op)
    return known if rule is None else known | rule(node, operands, constants)


def facts_of_number(value: Exact) -> Facts:
    """The facts about an exact constant; none about NaN."""
    if isinstance(value, bool) or value != value:
        return NONE
    known = INTEGER_VALUED if isinstance(value, Fraction) and value.denominator == 1 else NONE
    if value == 0:
        return known | NONNEGATIVE | NONPOSITIVE
    return known | (POSITIVE if value > 0 else NEGATIVE)


def number(value: Any) -> Exact | None:
    """The exact constant that a graph value is, also where it is stretched to a larger shape."""
    found: Exact | None = value.builder.constants[value.id]
    return found


def constant(value: Any) -> bool:
    """Whether a value is an exact finite number."""
    return isinstance(number(value), Fraction)


def varying(value: Any) -> bool:
    """Whether a value is no exact constant."""
    return number(value) is None


def negative_number(value: Any) -> bool:
    """Whether a value is an exact number below 0."""
    x = number(value)
    return isinstance(x, Fraction) and x < 0


def nonnegative(value: Any) -> bool:
    """Whether a value that is no constant is known to be at least 0."""
    return varying(value) and known(value, NONNEGATIVE)


def nonpositive(value: Any) -> bool:
    """Whether a value that is no constant is known to be at most 0."""
    return varying(value) and known(value, NONPOSITIVE)


def positive(value: Any) -> bool:
    """Whether a value that is no constant is known to be above 0."""
    return varying(value) and known(value, POSITIVE)


def negative(value: Any) -> bool:
    """Whether a value that is no constant is known to be below 0."""
    return varying(value) and known(value, NEGATIVE)


def nonzero(value: Any) -> bool:
    """Whether a value that is no constant is known not to be 0."""
    return varying(value) and known(value, NONZERO)


def integer(value: Any) -> bool:
    """Whether a value is known to be an integer."""
    return known(value, INTEGER_VALUED)


def known(value: Any, facts: Facts) -> bool:
    """Whether all of `facts` hold for a value."""
    return value.builder.facts[value.id] & facts == facts


def _symbol(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    symbol: Any = node.attributes.get("symbol")
    known = NONE
    for name, fact in (
        ("is_nonnegative", NONNEGATIVE),
        ("is_nonpositive", NONPOSITIVE),
        ("is_nonzero", NONZERO),
        ("is_integer", INTEGER_VALUED),
    ):
        if getattr(symbol, name, None) is True:
            known |= fact
    return known


def _sum(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    common, some = NONNEGATIVE | NONPOSITIVE | INTEGER_VALUED, NONE
    for facts in operands:
        common &= facts
        some |= facts
    return common | (some & NONZERO if common & (NONNEGATIVE | NONPOSITIVE) else NONE)


def _product(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    negative, signed = False, True
    common = NONZERO | INTEGER_VALUED
    for facts in operands:
        common &= facts
        signed = signed and bool(facts & (NONNEGATIVE | NONPOSITIVE))
        negative ^= bool(facts & NONPOSITIVE)
    return common | ((NONPOSITIVE if negative else NONNEGATIVE) if signed else NONE)


def _power(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    base, exponent = operands[0], constants[1]
    known = NONE
    if isinstance(exponent, Fraction):
        if exponent.denominator != 1 or exponent.numerator % 2 == 0:
            known |= NONNEGATIVE  # where it is defined
        else:
            known |= base & (NONNEGATIVE | NONPOSITIVE)
        known |= NONZERO if exponent < 0 else base & NONZERO
        if exponent.denominator == 1 and exponent >= 0:
            known |= base & INTEGER_VALUED
    elif base & NONNEGATIVE:
        known |= NONNEGATIVE | (base & NONZERO)
    return known


def _sum_of_some(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    return operands[0] & (NONNEGATIVE | NONPOSITIVE | INTEGER_VALUED)  # the sum of nothing is 0


def _same(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    return operands[0]


def _signs(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    return operands[0] & SIGN


def _always(facts: Facts) -> Rule:
    return lambda node, operands, constants: facts


def _maximum(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    some, common = NONE, SIGN | INTEGER_VALUED
    for facts in operands:
        common &= facts
        some |= facts & NONNEGATIVE
    positive = any(facts & POSITIVE == POSITIVE for facts in operands)
    return common | some | (POSITIVE if positive else NONE)


def _minimum(node: Node, operands: Sequence[Facts], constants: Sequence[Exact | None]) -> Facts:
    some, common = NONE, SIGN | INTEGER_VALUED
    for facts in operands:
        common &= facts
        some |= facts & NONPOSITIVE
    negative = any(facts & NEGATIVE == NEGATIVE for facts in operands)
    return common | some | (NEGATIVE if negative else NONE)


_RULES: dict[Op, Rule] = {
    leaves.input_: _symbol,
    leaves.const: lambda node, operands, constants: facts_of_number(node.attributes["value"]),
    leaves.size: _always(NONNEGATIVE),
    **{number: _always(POSITIVE) for number in leaves.NUMBERS},
    arithmetic.add: _sum,
    arithmetic.mul: _product,
    arithmetic.pow_: _power,
    arithmetic.cast: _same,
    logic.select: lambda node, operands, constants: operands[1] & operands[2],
    piecewise_linear.abs_: lambda node, operands, constants: NONNEGATIVE | (operands[0] & (NONZERO | INTEGER_VALUED)),
    piecewise_linear.relu: lambda node, operands, constants: NONNEGATIVE | (operands[0] & INTEGER_VALUED),
    piecewise_linear.sign: lambda node, operands, constants: (operands[0] & SIGN) | INTEGER_VALUED,
    piecewise_linear.floor: lambda node, operands, constants: (
        INTEGER_VALUED
        | (operands[0] & NONNEGATIVE)
        | (NEGATIVE if operands[0] & NEGATIVE == NEGATIVE else operands[0] & NONPOSITIVE)
    ),
    piecewise_linear.ceiling: lambda node, operands, constants: (
        INTEGER_VALUED
        | (operands[0] & NONPOSITIVE)
        | (POSITIVE if operands[0] & POSITIVE == POSITIVE else operands[0] & NONNEGATIVE)
    ),
    piecewise_linear.max_: _maximum,
    piecewise_linear.min_: _minimum,
    elementary.exp: _always(POSITIVE),
    elementary.cosh: _always(POSITIVE),
    elementary.sigmoid: _always(POSITIVE),
    elementary.softplus: _always(POSITIVE),
    elementary.acos: _always(NONNEGATIVE),
    elementary.acosh: _always(NONNEGATIVE),
    special.erfc: _always(POSITIVE),
    **dict.fromkeys(
        (
            elementary.sinh,
            elementary.tanh,
            elementary.asinh,
            elementary.atan,
            elementary.asin,
            elementary.atanh,
            elementary.expm1,
            elementary.log1p,
            special.erf,
        ),
        _signs,
    ),
    indexing.expand: _same,
    indexing.squeeze: _same,
    indexing.broadcast: _same,
    indexing.transpose: _same,
    indexing.slice_: _same,
    gathering.gather: _same,
    gathering.stride: _same,
    gathering.one_hot: _always(NONNEGATIVE | INTEGER_VALUED),
    gathering.dilate: lambda node, operands, constants: operands[0] & ~NONZERO,
    gathering.scatter_add: _sum_of_some,
    gathering.cumsum: _sum_of_some,
    indexing.pad: lambda node, operands, constants: operands[0] & ~NONZERO,
    indexing.sum_: _sum_of_some,
    contraction.reduce_max: _same,
    contraction.reduce_min: _same,
}
