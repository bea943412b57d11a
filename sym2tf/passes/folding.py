"""Exact arithmetic on constants, and the canonical forms of sums, products and powers that follow from it.

Constants stay fractions; what would be irrational, or longer than `MAX_BITS`, stays a node. The floats that are no
fraction (inf, nan, -0.0) follow IEEE 754.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol

from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind, TensorType, broadcast_shapes
from sym2tf.ops import elementary, logic, piecewise_linear, special
from sym2tf.ops.arithmetic import add, cast, log, mul, pow_
from sym2tf.ops.leaves import Exact, exact
from sym2tf.passes.facts import NONNEGATIVE, Facts
from sym2tf.passes.patterns import Growing

MAX_BITS = 4096
MAX_ROOT = 64
FEW = 16  # terms of a sum that a minus sign is multiplied into

Attributes = Mapping[str, Any]
Rest = tuple[int, ...]


class Canonical(Growing, Protocol):
    """What the canonical forms need of a rewriter."""

    collect: bool
    coefficients: list[tuple[Fraction, Rest] | None]
    facts: list[Facts]

    def number(self, value: Exact, type: TensorType) -> int:
        """An exact constant of the kind and rank of `type`."""
        ...

    def add(self, op: Op, operands: Sequence[int] = (), attributes: Attributes | None = None) -> int:
        """The node for `op` on `operands`, simplified."""
        ...

    def count(self, name: str) -> None:
        """Note that a simplification was made."""
        ...


# Constants --------------------------------------------------------------------------------------------------------


def fold(op: Op, values: Sequence[Exact], attributes: Attributes) -> Exact | None:
    """`op` of exact constants where that is exact again and not absurdly long, else None."""
    rule = _FOLDS.get(op)
    if rule is None or any(isinstance(x, Fraction) and _bits(x) > MAX_BITS for x in values):
        return None
    result = rule(values, attributes)
    if isinstance(result, Fraction) and _bits(result) > MAX_BITS:
        return None
    return result


def exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """`base**exponent` where that is a fraction of moderate length, else None (also where it is undefined)."""
    if exponent == 0 or base == 1:
        return Fraction(1)
    if base == 0:
        return Fraction(0) if exponent > 0 else None
    if abs(exponent) * max(_bits(base), 1) > 2 * MAX_BITS and abs(base) != 1:
        return None
    if exponent.denominator == 1:
        return base**exponent.numerator
    if base < 0 or exponent.denominator > MAX_ROOT:
        return None
    top = _root(base.numerator, exponent.denominator)
    bottom = _root(base.denominator, exponent.denominator)
    return None if top is None or bottom is None else Fraction(top, bottom) ** exponent.numerator


def _root(number: int, degree: int) -> int | None:
    """The integer whose `degree`-th power is `number`, or None; Newton's iteration on integers."""
    if number < 2:
        return number
    x = 1 << -(-number.bit_length() // degree)
    while True:
        y = ((degree - 1) * x + number // x ** (degree - 1)) // degree
        if y >= x:
            return x if x**degree == number else None
        x = y


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length() - 1


def _fold_add(values: Sequence[Exact], attributes: Attributes) -> Exact | None:
    special = [x for x in values if isinstance(x, float)]
    if any(x != x for x in special) or {math.inf, -math.inf} <= set(special):
        return math.nan
    infinite = [x for x in special if math.isinf(x)]
    if infinite:
        return infinite[0]
    fractions = [x for x in values if not isinstance(x, float)]
    return sum(fractions, Fraction(0)) if fractions else -0.0


def _fold_mul(values: Sequence[Exact], attributes: Attributes) -> Exact | None:
    if not any(isinstance(x, float) for x in values):
        product = Fraction(1)
        for x in values:
            product *= Fraction(x)
            if _bits(product) > MAX_BITS:
                return None
        return product
    # Only sign, zero, inf and nan matter when one factor is none of the ordinary numbers.
    return exact(math.prod(x if isinstance(x, float) else float((x > 0) - (x < 0)) for x in values))


def _fold_pow(values: Sequence[Exact], attributes: Attributes) -> Exact | None:
    base, exponent = values
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        return exact_power(base, exponent)
    try:
        result = exact(math.pow(base, exponent))
    except (OverflowError, ValueError):
        return None
    return result if isinstance(result, float) or result in (0, 1) else None


def _fold_extreme(best: Callable[..., Any]) -> Callable[[Sequence[Exact], Attributes], Exact]:
    def rule(values: Sequence[Exact], attributes: Attributes) -> Exact:
        return math.nan if any(x != x for x in values) else best(values)

    return rule


def _fold_mod(values: Sequence[Exact], attributes: Attributes) -> Exact | None:
    a, b = values
    return a % b if isinstance(a, Fraction) and isinstance(b, Fraction) and b != 0 else None


def _fold_cast(values: Sequence[Exact], attributes: Attributes) -> Exact | None:
    (x,) = values
    return Fraction(int(x)) if isinstance(x, bool) and attributes["kind"] is not Kind.BOOLEAN else x


def _rounded(to: Callable[[Any], int]) -> Callable[[Sequence[Exact], Attributes], Exact]:
    return lambda values, attributes: Fraction(to(values[0])) if isinstance(values[0], Fraction) else values[0]


def _at(point: int, value: Fraction) -> Callable[[Sequence[Exact], Attributes], Exact | None]:
    def rule(values: Sequence[Exact], attributes: Attributes) -> Exact | None:
        x = values[0]
        return value if isinstance(x, Fraction) and x == point else None

    return rule


_FOLDS: dict[Op, Callable[[Sequence[Exact], Attributes], Exact | None]] = {
    add: _fold_add,
    mul: _fold_mul,
    pow_: _fold_pow,
    cast: _fold_cast,
    logic.less: lambda x, attributes: x[0] < x[1],
    logic.less_equal: lambda x, attributes: x[0] <= x[1],
    logic.equal: lambda x, attributes: x[0] == x[1],
    logic.not_equal: lambda x, attributes: x[0] != x[1],
    logic.and_: lambda x, attributes: all(x),
    logic.or_: lambda x, attributes: any(x),
    logic.xor: lambda x, attributes: sum(map(bool, x)) % 2 == 1,
    logic.not_: lambda x, attributes: not x[0],
    piecewise_linear.max_: _fold_extreme(max),
    piecewise_linear.min_: _fold_extreme(min),
    piecewise_linear.abs_: lambda x, attributes: exact(abs(x[0])),
    piecewise_linear.sign: lambda x, attributes: (
        Fraction((x[0] > 0) - (x[0] < 0)) if x[0] == x[0] and (isinstance(x[0], Fraction) or x[0]) else x[0]
    ),
    piecewise_linear.floor: _rounded(math.floor),
    piecewise_linear.ceiling: _rounded(math.ceil),
    piecewise_linear.mod: _fold_mod,
    **{
        op: _at(0, Fraction(0))
        for op in (
            elementary.sin,
            elementary.tan,
            elementary.asin,
            elementary.atan,
            elementary.sinh,
            elementary.tanh,
            elementary.asinh,
            elementary.atanh,
            elementary.log1p,
            elementary.expm1,
            special.erf,
        )
    },
    **{op: _at(0, Fraction(1)) for op in (elementary.exp, elementary.cos, elementary.cosh, special.erfc)},
    **{op: _at(1, Fraction(0)) for op in (log, elementary.acos, elementary.acosh)},
    elementary.sigmoid: _at(0, Fraction(1, 2)),
}


# Canonical forms --------------------------------------------------------------------------------------------------


def split_product(graph: Growing, operands: Rest, type: TensorType) -> tuple[Fraction, Rest] | None:
    """`(c, rest)` of a product of a fraction c and other operands that have the product's own shape, else None."""
    numbers = [u for u in operands if isinstance(graph.constants[u], Fraction)]
    if len(numbers) != 1 or len(operands) < 2:
        return None
    rest = tuple(u for u in operands if u != numbers[0])
    coefficient = graph.constants[numbers[0]]
    if broadcast_shapes(graph.nodes[u].type.shape for u in rest) != type.shape:
        return None
    return (coefficient, rest) if isinstance(coefficient, Fraction) and _bits(coefficient) <= MAX_BITS else None


def merged_numbers(graph: Canonical, op: Op, operands: Rest, due: TensorType) -> Rest:
    """Operands of an n-ary operation with its exact constants made into one."""
    numbers = [u for u in operands if graph.constants[u] is not None]
    if len(numbers) < 2:
        return operands
    value = fold(op, [v for v in (graph.constants[u] for u in numbers) if v is not None], {})
    if value is None:
        return operands
    graph.count("fold constants")
    return (graph.number(value, due), *(u for u in operands if graph.constants[u] is None))


def sum_form(graph: Canonical, operands: Rest, due: TensorType) -> Rest:
    """Operands of a sum with its constants added up and, on request, like terms collected: a*x + b*x is (a+b)*x."""
    operands = merged_numbers(graph, add, operands, due)
    if len(operands) > 1:
        zero = [u for u in operands if _adds_nothing(graph, u)]
        if zero:
            graph.count("fold constants")
            operands = tuple(u for u in operands if u not in zero) or (zero[0],)
    return _like_terms(graph, operands, due) if graph.collect else operands


def _adds_nothing(graph: Canonical, v: int) -> bool:
    """-0.0 never changes what it is added to; 0 changes -0.0."""
    value = graph.constants[v]
    return value is not None and value == 0 and (graph.collect or isinstance(value, float))


def _like_terms(graph: Canonical, operands: Rest, due: TensorType) -> Rest:
    terms: dict[Rest, list[int]] = {}
    for v in operands:
        pair = graph.coefficients[v]
        terms.setdefault((v,) if pair is None else pair[1], []).append(v)
    if len(terms) == len(operands):
        return operands
    graph.count("collect like terms")
    kept = []
    for rest, alike in terms.items():
        if len(alike) == 1:
            kept.append(alike[0])
            continue
        coefficient = sum(
            (pair[0] if pair else Fraction(1) for pair in map(graph.coefficients.__getitem__, alike)),
            Fraction(0),
        )
        if coefficient:
            kept.append(_scaled(graph, coefficient, rest))
    return tuple(kept) if kept else (graph.number(Fraction(0), due),)


def product_form(graph: Canonical, operands: Rest, due: TensorType) -> Rest:
    """Operands of a product with one numeric coefficient and, on request, like powers collected."""
    if graph.collect:
        operands = _inner_coefficients(graph, operands)
    operands = merged_numbers(graph, mul, operands, due)
    number = next((u for u in operands if graph.constants[u] is not None), None)
    value = None if number is None else graph.constants[number]
    if isinstance(value, Fraction) and len(operands) > 1:
        if value == 0 and graph.collect:
            graph.count("fold constants")
            return (graph.number(Fraction(0), due),)
        if value == 1:
            graph.count("fold constants")
            operands = tuple(u for u in operands if u != number)
        elif value == -1 and graph.collect and len(operands) == 2:
            (other,) = (u for u in operands if u != number)
            negated = _negated_sum(graph, other)
            if negated is not None:
                graph.count("negate a sum")
                return (negated,)
    if not graph.collect or due.kind < Kind.REAL:  # the power of an integer would be real, which subscripts must not be
        return operands
    return _like_powers(graph, operands, due)


def _inner_coefficients(graph: Canonical, operands: Rest) -> Rest:
    """2 * (3*x) as 2 * 3 * x also where 3*x has other users."""
    found = [u for u in operands if _is_scaled(graph, u)]
    if not found or len(operands) == 1:
        return operands
    result: list[int] = []
    for u in operands:
        result += graph.operands[u] if _is_scaled(graph, u) else (u,)
    if sum(graph.constants[u] is not None for u in operands) + len(found) < 2:
        return operands  # it would only move the coefficient
    graph.count("fold constants")
    return tuple(result)


def _is_scaled(graph: Canonical, v: int) -> bool:
    pair = graph.coefficients[v]
    return pair is not None and len(pair[1]) == 1


def _like_powers(graph: Canonical, operands: Rest, due: TensorType) -> Rest:
    """x**a * x**b as x**(a+b) for fractions a and b.

    They are equal wherever the left side is defined on the real line: for negative x both exponents are integers
    there, and at 0 both are positive.
    """
    bases: dict[int, list[int]] = {}
    for v in operands:
        bases.setdefault(_power_of(graph, v)[0], []).append(v)
    if len(bases) == len(operands):
        return operands
    graph.count("collect like powers")
    kept = []
    for base, alike in bases.items():
        exponent = sum((_power_of(graph, v)[1] for v in alike), Fraction(0))
        if len(alike) == 1:
            kept.append(alike[0])
        elif exponent == 1:
            kept.append(base)
        elif exponent:
            kept.append(graph.add(pow_, (base, graph.number(exponent, graph.nodes[base].type))))
    return tuple(kept) if kept else (graph.number(Fraction(1), due),)


def power_form(graph: Canonical, base: int, exponent: int) -> int | None:
    """A power of a power, or of a product with a numeric coefficient, with the numbers taken together; None if none.

    (x**a)**b is x**(a*b) wherever the left side is defined, unless a is an even integer and b is none: then it is
    |x|**(a*b). A coefficient comes out of integer powers, and of any power where its own power is a fraction.
    """
    e = graph.constants[exponent]
    if not isinstance(e, Fraction) or not graph.collect:
        return None
    node = graph.nodes[base]
    if node.op is pow_:
        root, inner = _power_of(graph, base)
        if root == base:
            return None
        if inner.denominator == 1 and inner.numerator % 2 == 0 and e.denominator != 1:
            root = root if graph.facts[root] & NONNEGATIVE else graph.add(piecewise_linear.abs_, (root,))
        graph.count("power of a power")
        return graph.add(pow_, (root, graph.number(inner * e, graph.nodes[root].type)))
    pair = graph.coefficients[base]
    if pair is not None and (pair[0] > 0 or e.denominator == 1):
        outside = exact_power(pair[0], e)
        if outside is not None and _bits(outside) <= MAX_BITS:
            graph.count("coefficient out of a power")
            rest = pair[1][0] if len(pair[1]) == 1 else graph.add(mul, pair[1])
            power = graph.add(pow_, (rest, graph.number(e, graph.nodes[rest].type)))
            return graph.add(mul, (graph.number(outside, node.type), power))
    return None


def _power_of(graph: Canonical, v: int) -> tuple[int, Fraction]:
    if graph.nodes[v].op is pow_:
        base, exponent = graph.operands[v]
        e = graph.constants[exponent]
        if isinstance(e, Fraction) and graph.nodes[base].type == graph.nodes[v].type and _bits(e) <= MAX_BITS:
            return base, e
    return v, Fraction(1)


def _scaled(graph: Canonical, coefficient: Fraction, rest: Rest) -> int:
    if coefficient == 1:
        return rest[0] if len(rest) == 1 else graph.add(mul, rest)
    return graph.add(mul, (graph.number(coefficient, graph.nodes[rest[0]].type), *rest))


def _negated_sum(graph: Canonical, v: int) -> int | None:
    """-(-a - b) as a + b: a minus sign in front of a short sum whose terms are all negative goes into it."""
    terms = graph.operands[v]
    if graph.nodes[v].op is not add or len(terms) > FEW:
        return None
    negated = []
    for u in terms:
        number, pair = graph.constants[u], graph.coefficients[u]
        if isinstance(number, Fraction) and number < 0:
            negated.append(graph.number(-number, graph.nodes[u].type))
        elif pair is not None and pair[0] < 0:
            negated.append(_scaled(graph, -pair[0], pair[1]))
        else:
            return None
    return graph.add(add, negated)
