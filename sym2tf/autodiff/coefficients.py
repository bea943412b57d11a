"""The coefficients of a power series: exact polynomials in graph values, so that what cancels is seen to.

A `Coefficient` is a sum of rational multiples of monomials; a monomial is a product of rational powers of
atoms, which are nodes of the graph that a builder is making. `sin(y)` is an atom, `y - y` is the empty sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import sympy as sp

from sym2tf.ir.graph import Builder
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.elementary import cos, cosh, exp, expm1, log1p, sigmoid, sin, sinh
from sym2tf.ops.leaves import const, euler, input_, pi, size
from sym2tf.ops.values import Value, apply, constant

Monomial = tuple[tuple[int, Fraction], ...]  # (node, exponent), by node
Coefficient = Mapping[Monomial, Fraction]  # no zeros; empty is exactly zero

ZERO: Coefficient = {}
ONE: Coefficient = {(): Fraction(1)}

MOST_TERMS = 12  # a longer sum becomes one atom, so that products stay cheap
MOST_BITS = 4096  # nor are larger numbers computed exactly
ENTIRE = frozenset({exp, expm1, sin, cos, sinh, cosh})  # analytic wherever their operand is
AT_ZERO = {sigmoid: Fraction(1, 2), log1p: Fraction(0), expm1: Fraction(0)}  # what SymPy has no function for


class NoSeriesError(Exception):
    """There is no Laurent series at this point, or none that can be proved."""


class Ring:
    """Arithmetic on coefficients over the nodes of one builder.

    `bound` holds the atoms that depend on what the series variable is made of (the x in a series in x**2):
    they may only enter through functions without singularities, which could lie at the very point.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.bound: set[int] = set()

    def atom(self, value: Value, *, bound: bool = False) -> Coefficient:
        """A graph value as a coefficient."""
        if value.node.op is const and isinstance(value.constant, Fraction):
            return number(value.constant)
        if bound:
            self.bound.add(value.id)
        return {((value.id, Fraction(1)),): Fraction(1)}

    def value(self, coefficient: Coefficient) -> Value:
        """A coefficient as a graph value."""
        terms = []
        for monomial, factor in coefficient.items():
            number_first = factor != 1 or not monomial
            factors: list[Any] = [constant(self.builder, factor, Kind.REAL)] if number_first else []
            for v, exponent in monomial:
                base = Value(self.builder, v)
                factors.append(base if exponent == 1 else base**exponent)
            terms.append(factors[0] if len(factors) == 1 else mul(*factors))
        if not terms:
            return constant(self.builder, 0, Kind.REAL)
        total: Value = terms[0] if len(terms) == 1 else add(*terms)
        return total

    def sum(self, parts: Iterable[Coefficient]) -> Coefficient:
        """The sum; zero terms vanish."""
        total: dict[Monomial, Fraction] = {}
        for part in parts:
            for monomial, factor in part.items():
                total[monomial] = total.get(monomial, Fraction(0)) + factor
        return {monomial: factor for monomial, factor in total.items() if factor}

    def product(self, a: Coefficient, b: Coefficient) -> Coefficient:
        """The product; one with too many terms becomes an atom."""
        if not a or not b:
            return ZERO
        total: dict[Monomial, Fraction] = {}
        for m, p in a.items():
            for n, q in b.items():
                key = _join(m, n)
                total[key] = total.get(key, Fraction(0)) + p * q
        kept = {monomial: factor for monomial, factor in total.items() if factor}
        if len(kept) > MOST_TERMS:
            return self.atom(self.value(kept), bound=self.is_bound(kept))
        return kept

    def scale(self, a: Coefficient, factor: Fraction | int) -> Coefficient:
        """A rational multiple."""
        return {monomial: p * factor for monomial, p in a.items()} if factor else ZERO

    def power(self, a: Coefficient, exponent: Fraction) -> Coefficient:
        """`a**exponent`; for a sum, or a root of a product, an atom.

        Raises:
            NoSeriesError: the power of zero does not exist, or may be singular at the point.
        """
        natural = exponent.denominator == 1 and exponent >= 0
        if not a:
            if exponent > 0:
                return ZERO
            raise NoSeriesError("a power of zero")
        if self.is_bound(a) and not natural:
            raise NoSeriesError("a power that may be singular at the point")
        if len(a) == 1:
            ((monomial, factor),) = a.items()
            root = rational_power(factor, exponent)
            if root is not None and (exponent.denominator == 1 or not monomial):
                return {tuple((v, e * exponent) for v, e in monomial if exponent): root}
            if factor == 1 and len(monomial) == 1 and monomial[0][1] == 1:
                return {((monomial[0][0], exponent),): Fraction(1)}
        elif natural and exponent <= 4:
            total = ONE
            for _ in range(int(exponent)):
                total = self.product(total, a)
            return total
        return self.atom(self.value(a) ** exponent, bound=self.is_bound(a))

    def function(self, op: Op, a: Coefficient) -> Coefficient:
        """A function of one operand: exact where SymPy knows the value to be rational or a multiple of pi.

        Raises:
            NoSeriesError: it has a pole there, or may be singular at the point.
        """
        bound = self.is_bound(a)
        if bound and op not in ENTIRE:
            raise NoSeriesError(f"{op.name} may be singular at the point")
        known = self._exact(op, a)
        return self.atom(apply(self.builder, op, (self.value(a),)), bound=bound) if known is None else known

    def is_bound(self, a: Coefficient) -> bool:
        """Whether an atom of `bound` occurs."""
        return bool(self.bound) and any(v in self.bound for monomial in a for v, _ in monomial)

    def is_constant(self, a: Coefficient) -> bool:
        """Whether no atom depends on an input or a size: a number, exact or not."""
        pending = [v for monomial in a for v, _ in monomial]
        seen = set(pending)
        while pending and len(seen) < 64:
            v = pending.pop()
            if self.builder.nodes[v].op in (input_, size):
                return False
            fresh = [u for u in self.builder.operands[v] if u not in seen]
            seen.update(fresh)
            pending.extend(fresh)
        return not pending

    def _exact(self, op: Op, a: Coefficient) -> Coefficient | None:
        if not a and op in AT_ZERO:
            return number(AT_ZERO[op])
        circle = apply(self.builder, pi, ()).id
        turn: Monomial = ((circle, Fraction(1)),)
        if len(a) > 1 or any(m not in ((), turn) or _bits(q) > 64 for m, q in a.items()) or op.sympy is None:
            return None
        argument: Any = sp.Integer(0)
        for monomial, factor in a.items():
            argument += sp.Rational(factor.numerator, factor.denominator) * (sp.pi if monomial else 1)
        if op is exp and argument.is_Rational and argument:
            e = apply(self.builder, euler, ()).id
            return {((e, Fraction(argument.p, argument.q)),): Fraction(1)}
        answer = op.sympy(argument)
        if answer.is_finite is False:
            raise NoSeriesError(f"{op.name} has a pole at {argument}")
        if answer.is_Rational:
            return number(Fraction(int(answer.p), int(answer.q)))
        turns = answer / sp.pi
        if turns.is_Rational:
            return {turn: Fraction(int(turns.p), int(turns.q))}
        return None


def number(value: Fraction | int) -> Coefficient:
    """An exact number as a coefficient."""
    return {(): Fraction(value)} if value else ZERO


def as_number(a: Coefficient) -> Fraction | None:
    """The exact number that a coefficient is, or None."""
    if not a:
        return Fraction(0)
    return a.get(()) if len(a) == 1 else None


def rational_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """`base**exponent` where it is rational and not enormous, else None."""
    if base == 1 or exponent == 1:
        return base
    p, q = exponent.numerator, exponent.denominator
    if base == 0 or _bits(base) * abs(p) > MOST_BITS:
        return None
    if q == 1:
        return base**p
    if base < 0 or q > 64:
        return None
    roots = [sp.integer_nthroot(part, q) for part in (base.numerator, base.denominator)]
    if not all(is_exact for _, is_exact in roots):
        return None
    return Fraction(int(roots[0][0]), int(roots[1][0])) ** p


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _join(m: Monomial, n: Monomial) -> Monomial:
    if not m or not n:
        return m or n
    exponents = dict(m)
    for v, e in n:
        exponents[v] = exponents.get(v, Fraction(0)) + e
    return tuple(sorted((v, e) for v, e in exponents.items() if e))
