"""Laurent series in one small variable d, with graph values for coefficients: one rule for each operation.

The recurrences are the classical ones (Griewank and Walther, Evaluating Derivatives, 2nd edition, section
13.2); whatever has an algebraic derivative is integrated from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from sym2tf.autodiff.coefficients import ONE, ZERO, Coefficient, NoSeriesError, Ring, as_number, number
from sym2tf.ir.op import Op
from sym2tf.ops import arithmetic as ar
from sym2tf.ops import elementary as el
from sym2tf.ops import logic, piecewise_linear, special
from sym2tf.ops.leaves import pi
from sym2tf.ops.values import apply

HALF = Fraction(1, 2)


class Series(NamedTuple):
    """`sum(terms[k] * d**(low + k)) + O(d**(low + len(terms)))`."""

    low: int
    terms: tuple[Coefficient, ...]

    @property
    def end(self) -> int:
        """The first power that is not known."""
        return self.low + len(self.terms)


class Algebra:
    """Arithmetic on series up to `order`; `singular` tells whether a singular function was met on the way.

    With `root` the series are in powers of t = sqrt(d), which is never negative.
    """

    def __init__(self, ring: Ring, order: int, *, root: bool = False) -> None:
        self.ring = ring
        self.order = order
        self.root = root
        self.singular = False

    def constant(self, coefficient: Coefficient) -> Series:
        """A series that does not depend on d."""
        return Series(0, (coefficient, *(ZERO,) * (self.order - 1)))

    def number(self, value: Fraction | int) -> Series:
        return self.constant(number(value))

    def variable(self, point: Coefficient) -> Series:
        """`point + d`."""
        start = (point, ZERO, ONE) if self.root else (point, ONE)
        return Series(0, start + (ZERO,) * (self.order - len(start)))

    def add(self, *xs: Series) -> Series:
        low, end = min(x.low for x in xs), min(x.end for x in xs)
        if end <= low:
            raise NoSeriesError("no term of the sum is known")
        columns = [[x.terms[k - x.low] for x in xs if k >= x.low] for k in range(low, end)]
        return Series(low, tuple(self.ring.sum(column) for column in columns))

    def scale(self, x: Series, factor: Fraction | int) -> Series:
        return Series(x.low, tuple(self.ring.scale(c, factor) for c in x.terms))

    def mul(self, *xs: Series) -> Series:
        product = xs[0]
        for x in xs[1:]:
            product = self._product(product, x)
        return product

    def _product(self, a: Series, b: Series) -> Series:
        length = min(len(a.terms), len(b.terms))
        columns: list[list[Coefficient]] = [[] for _ in range(length)]
        right = [(j, q) for j, q in enumerate(b.terms[:length]) if q]
        for i, p in enumerate(a.terms[:length]):
            for j, q in right if p else ():
                if i + j < length:
                    columns[i + j].append(self.ring.product(p, q))
        return Series(a.low + b.low, tuple(self.ring.sum(c) for c in columns))

    def leading(self, x: Series) -> Series:
        """The same series, from its first term that is not zero.

        Raises:
            NoSeriesError: all known terms are zero.
        """
        for k, c in enumerate(x.terms):
            if c:
                return Series(x.low + k, x.terms[k:])
        raise NoSeriesError("zero as far as it is known")

    def regular(self, x: Series) -> list[Coefficient]:
        """The terms from d**0 on.

        Raises:
            NoSeriesError: there are negative powers, or nothing is known.
        """
        if any(x.terms[: max(0, -x.low)]) or x.end <= 0:
            raise NoSeriesError("a pole")
        return [ZERO] * x.low + list(x.terms[max(0, -x.low) :])

    def power(self, x: Series, exponent: Fraction) -> Series:
        if exponent.denominator == 1 and 0 <= exponent <= 8:
            return self.mul(self.number(1), *(x,) * int(exponent))
        x = self.leading(x)
        low = x.low * exponent
        one = exponent.denominator == 1 or (low.denominator == 1 and self.same_sides(x.low, int(low)))
        if x.low and not one:
            raise NoSeriesError("a root of d")
        self.singular = self.singular or x.low != 0
        ring, inverse = self.ring, self.ring.power(x.terms[0], Fraction(-1))
        ratio = [ring.product(c, inverse) for c in x.terms]
        terms: list[Coefficient] = [ring.power(x.terms[0], exponent)]
        for n in range(1, len(ratio)):
            parts = [
                ring.scale(ring.product(ratio[k], terms[n - k]), k * exponent - (n - k))
                for k in range(1, n + 1)
                if ratio[k] and terms[n - k]
            ]
            terms.append(ring.scale(ring.sum(parts), Fraction(1, n)))
        return Series(int(low), tuple(terms))

    def same_sides(self, low: int, root: int) -> bool:
        """Whether a root of order d**root, of what is of order d**low, is one series on all of its domain.

        `sqrt(d**2)` is `abs(d)`, which has two; `sqrt(d)` lives on one side only, where t is.
        """
        if self.root:
            return low % 4 != 0 or root % 4 == 0
        return low % 2 == 0 and root % 2 == 0

    def changes_sign(self, low: int) -> bool:
        """Whether something of order d**low does, at the point."""
        return low % 4 == 2 if self.root else low % 2 == 1

    def derivative(self, x: Sequence[Coefficient]) -> list[Coefficient]:
        return [self.ring.scale(c, k) for k, c in enumerate(x)][1:]

    def integrate(self, start: Coefficient, slope: Callable[[Series], Series], x: Series) -> Series:
        """`f(x)` where `f' = slope` and `f` has the value `start` at the leading term."""
        inner = self.regular(x)
        change = self.derivative(inner)
        if not any(change):
            return Series(0, (start, *(ZERO,) * (len(inner) - 1)))
        rate = self.regular(self.mul(slope(Series(0, tuple(inner))), Series(0, tuple(change))))
        return Series(0, (start, *(self.ring.scale(c, Fraction(1, k)) for k, c in enumerate(rate, 1))))

    def quadratic(self, op: Op, x: Series, a: int, b: int, c: int) -> Series:
        """`y = op(x)` where `y' = a + b*y + c*y**2` by x: exp, tan, tanh, the logistic function."""
        ring, inner = self.ring, self.regular(x)
        change = self.derivative(inner)
        y, slope = [ring.function(op, inner[0])], list[Coefficient]()
        for n in range(len(change)):
            squares = [ring.product(y[i], y[n - i]) for i in range(n + 1)] if c else []
            slope.append(
                ring.sum([number(a) if n == 0 else ZERO, ring.scale(y[n], b), ring.scale(ring.sum(squares), c)])
            )
            total = ring.sum(ring.product(slope[k], change[n - k]) for k in range(n + 1) if change[n - k])
            y.append(ring.scale(total, Fraction(1, n + 1)))
        return Series(0, tuple(y))

    def pair(self, first: Op, second: Op, sign: int, x: Series) -> tuple[Series, Series]:
        """`s, c = first(x), second(x)` where `s' = c`, `c' = sign*s`: circular or hyperbolic."""
        ring, inner = self.ring, self.regular(x)
        change = self.derivative(inner)
        s, c = [ring.function(first, inner[0])], [ring.function(second, inner[0])]
        for n in range(len(change)):
            steps = [(k, change[n - k]) for k in range(n + 1) if change[n - k]]
            due_s = ring.sum([ring.product(c[k], step) for k, step in steps])
            due_c = ring.sum([ring.product(s[k], step) for k, step in steps])
            s.append(ring.scale(due_s, Fraction(1, n + 1)))
            c.append(ring.scale(due_c, Fraction(sign, n + 1)))
        return Series(0, tuple(s)), Series(0, tuple(c))

    def exp(self, x: Series) -> Series:
        return self.quadratic(el.exp, x, 0, 1, 0)

    def log(self, x: Series) -> Series:
        start = self.ring.function(ar.log, self.regular(x)[0])
        return self.integrate(start, lambda t: self.power(t, Fraction(-1)), x)

    def side(self, x: Series) -> int:
        """The sign of x on both sides of the point.

        Raises:
            NoSeriesError: it differs, or is not known.
        """
        x = self.leading(x)
        value = as_number(x.terms[0])
        if value is None or self.changes_sign(x.low):
            raise NoSeriesError("the sign changes at the point, or is not known")
        return 1 if value > 0 else -1


Rule = Callable[..., Series]  # (algebra, *operands, **attributes) -> series


def _pow(a: Algebra, x: Series, e: Series) -> Series:
    exponent = as_number(e.terms[0]) if e.low == 0 and not any(e.terms[1:]) else None
    if exponent is not None and abs(exponent) < 1024:
        return a.power(x, exponent)
    if not any(e.terms[1:]) and not any(x.terms[1:]) and e.low == x.low == 0:
        power = apply(a.ring.builder, ar.pow_, (a.ring.value(x.terms[0]), a.ring.value(e.terms[0])))
        if a.ring.is_bound(x.terms[0]) or a.ring.is_bound(e.terms[0]):
            raise NoSeriesError("a power that may be singular at the point")
        return a.constant(a.ring.atom(power))
    return a.exp(a.mul(e, a.log(x)))


def _integrated(op: Op, slope: Callable[[Algebra, Series], Series]) -> Rule:
    return lambda a, x: a.integrate(a.ring.function(op, a.regular(x)[0]), lambda t: slope(a, t), x)


def _root(a: Algebra, inside: Series, exponent: Fraction = -HALF) -> Series:
    return a.power(inside, exponent)


def _square_plus(a: Algebra, x: Series, sign: int, constant: int) -> Series:
    return a.add(a.number(constant), a.scale(a.mul(x, x), sign))


def _gauss(a: Algebra, x: Series, factor: int) -> Series:
    circle = a.ring.atom(apply(a.ring.builder, pi, ()))
    return a.mul(a.constant(a.ring.scale(a.ring.power(circle, -HALF), factor)), a.exp(a.scale(a.mul(x, x), -1)))


def _sided(a: Algebra, keep: bool, xs: Sequence[Series]) -> Series:
    """The largest (`keep`) or smallest of series whose order near the point is known."""
    best = xs[0]
    for x in xs[1:]:
        above = a.side(a.add(x, a.scale(best, -1))) > 0
        best = x if above == keep else best
    return best


RULES: dict[Op, Rule] = {
    ar.add: lambda a, *xs: a.add(*xs),
    ar.mul: lambda a, *xs: a.mul(*xs),
    ar.pow_: _pow,
    ar.log: lambda a, x: a.log(x),
    ar.neg: lambda a, x: a.scale(x, -1),
    ar.sub: lambda a, x, y: a.add(x, a.scale(y, -1)),
    ar.div: lambda a, x, y: a.mul(x, a.power(y, Fraction(-1))),
    ar.reciprocal: lambda a, x: a.power(x, Fraction(-1)),
    ar.square: lambda a, x: a.mul(x, x),
    ar.sqrt: lambda a, x: a.power(x, HALF),
    el.exp: lambda a, x: a.exp(x),
    el.expm1: lambda a, x: a.quadratic(el.expm1, x, 1, 1, 0),
    el.sin: lambda a, x: a.pair(el.sin, el.cos, -1, x)[0],
    el.cos: lambda a, x: a.pair(el.sin, el.cos, -1, x)[1],
    el.sinh: lambda a, x: a.pair(el.sinh, el.cosh, 1, x)[0],
    el.cosh: lambda a, x: a.pair(el.sinh, el.cosh, 1, x)[1],
    el.tan: lambda a, x: a.quadratic(el.tan, x, 1, 0, 1),
    el.tanh: lambda a, x: a.quadratic(el.tanh, x, 1, 0, -1),
    el.sigmoid: lambda a, x: a.quadratic(el.sigmoid, x, 0, 1, -1),
    el.asin: _integrated(el.asin, lambda a, t: _root(a, _square_plus(a, t, -1, 1))),
    el.acos: _integrated(el.acos, lambda a, t: a.scale(_root(a, _square_plus(a, t, -1, 1)), -1)),
    el.atan: _integrated(el.atan, lambda a, t: a.power(_square_plus(a, t, 1, 1), Fraction(-1))),
    el.asinh: _integrated(el.asinh, lambda a, t: _root(a, _square_plus(a, t, 1, 1))),
    el.acosh: _integrated(el.acosh, lambda a, t: _root(a, _square_plus(a, t, 1, -1))),
    el.atanh: _integrated(el.atanh, lambda a, t: a.power(_square_plus(a, t, -1, 1), Fraction(-1))),
    el.log1p: _integrated(el.log1p, lambda a, t: a.power(a.add(a.number(1), t), Fraction(-1))),
    el.softplus: _integrated(el.softplus, lambda a, t: a.quadratic(el.sigmoid, t, 0, 1, -1)),
    el.logaddexp: lambda a, x, y: a.log(a.add(a.exp(x), a.exp(y))),
    el.xlogy: lambda a, x, y: a.mul(x, a.log(y)),
    special.erf: _integrated(special.erf, lambda a, t: _gauss(a, t, 2)),
    special.erfc: _integrated(special.erfc, lambda a, t: _gauss(a, t, -2)),
    piecewise_linear.abs_: lambda a, x: a.scale(x, a.side(x)),
    piecewise_linear.sign: lambda a, x: a.number(a.side(x)),
    piecewise_linear.max_: lambda a, *xs: _sided(a, True, xs),
    piecewise_linear.min_: lambda a, *xs: _sided(a, False, xs),
}


def _differ(a: Algebra, x: Series, y: Series) -> bool:
    if as_number(a.leading(a.add(x, a.scale(y, -1))).terms[0]) is None:
        raise NoSeriesError("whether they are equal depends on other values")
    return True


def _below(a: Algebra, x: Series, y: Series) -> bool:
    return a.side(a.add(y, a.scale(x, -1))) > 0


# Comparisons that depend on d, on both sides of the point but not at it
COMPARISONS: dict[Op, Callable[[Algebra, Series, Series], bool]] = {
    logic.equal: lambda a, x, y: not _differ(a, x, y),
    logic.not_equal: _differ,
    logic.less: _below,
    logic.less_equal: _below,
}
