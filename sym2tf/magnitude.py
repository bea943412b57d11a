"""How large the numbers are that SymPy would compute exactly, found out before it tries.

SymPy evaluates `9**9**9`, `(2*x)**10**9` and `digamma(10**9)` as soon as they are built, and compares a
series by summing it. What reads expressions from text asks here first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sympy as sp

from sym2tf.errors import ResourceLimitError
from sym2tf.notation import MaxOver, MinOver

_BINDERS = (sp.Sum, sp.Product, MaxOver, MinOver)
MAX_BITS = 2048  # of an exact number, twice what float64 reaches; beyond it SymPy's roots take seconds
MAX_INEXACT_BITS = 2**16  # of numbers like exp(1000), which `floor` and comparisons evaluate to so many bits
MAX_COEFFICIENT = 10**6  # beside a symbol in the exponent of an exact number; the symbol may cancel later
MAX_SPECIAL = 100  # SymPy writes digamma and its like at larger numbers out as exact sums and factorials
MAX_COMPARED = 20  # operands of Max and Min that SymPy may compare pairwise
MAX_CLOSED_TERMS = 1000  # of a sum without symbols, which SymPy evaluates whenever it wants to know a sign


def check_number(value: Any) -> None:
    """Raise `ResourceLimitError` if `value` is, or is made directly of, an exact number of too many bits."""
    for number in (value, *value.args) if isinstance(value, sp.Basic) else ():
        if exact_bits(number) > MAX_BITS:
            raise ResourceLimitError(f"an exact number of more than {MAX_BITS} bits")


def check_sum(terms: Iterable[Any]) -> None:
    """Raise `ResourceLimitError` if the common denominator of the terms would be absurd."""
    denominators = {t.q for x in terms if isinstance(t := x.as_coeff_Add()[0], sp.Rational)}
    if sum(q.bit_length() - 1 for q in denominators) > MAX_BITS:
        raise ResourceLimitError("these fractions have no reasonable common denominator")


def check_product(factors: Iterable[Any]) -> None:
    """Raise `ResourceLimitError` if the product of the exact factors would be absurd."""
    if sum(exact_bits(x.as_coeff_Mul()[0]) for x in factors) > 2 * MAX_BITS:
        raise ResourceLimitError("this product is absurdly large or small")


def check_power(base: Any, exponent: Any) -> None:
    """Raise `ResourceLimitError` if `base**exponent`, or a numerical factor of it, would be absurd."""
    factors = [f for f in sp.Mul.make_args(base) if f.is_number and not f.has(*_BINDERS)]
    bits = sum(map(_bits, factors))
    if not bits:
        return
    rational = any(f.has(sp.Rational) for f in factors)
    numbers = [t for t in sp.Add.make_args(exponent) if t.is_number and not t.has(*_BINDERS)]
    if bits * _largest(numbers) > (2 * MAX_BITS if rational else MAX_INEXACT_BITS) or (
        rational and bits * _largest(exponent.atoms(sp.Number)) > MAX_COEFFICIENT
    ):
        raise ResourceLimitError("this power is absurdly large or small")


def check_exponential(z: Any) -> None:
    """The same for `exp(z)`, which SymPy turns into `2**n` where `z` is `n*log(2)`."""
    check_power(sp.E, z)
    for logarithm in z.atoms(sp.log):
        check_power(logarithm.args[0], z)


def check_closed(expression: Any) -> None:
    """Raise `ResourceLimitError` for a sum or product over numbers alone with very many terms."""
    if expression.free_symbols:
        return
    terms = sp.Mul(*(last - first + 1 for _, first, last in expression.limits))
    if not (terms.is_finite and terms.is_comparable and terms <= MAX_CLOSED_TERMS):
        raise ResourceLimitError(f"more than {MAX_CLOSED_TERMS} terms and no data or symbol in them")


def cautious(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, unevaluated where SymPy would sum a series or compare many operands to find out a sign."""

    def build(*operands: Any) -> Any:
        costly = len(operands) > MAX_COMPARED or any(x.has(*_BINDERS) for x in operands)
        return make(*operands, evaluate=False) if costly else make(*operands)

    return build


def cautious_special(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, unevaluated at large numbers, where SymPy writes factorials and harmonic sums out."""

    def build(*operands: Any) -> Any:
        numbers = [x for x in operands if x.is_number]
        costly = any(x.has(*_BINDERS) or not abs(x) < MAX_SPECIAL for x in numbers)
        return make(*operands, evaluate=False) if costly else make(*operands)

    return build


def exact_bits(number: Any) -> int:
    """About how many bits a rational number takes to write down; 0 for 0, 1, -1 and for everything else."""
    if not isinstance(number, sp.Rational) or not number.is_finite:
        return 0
    size: int = max(abs(number.p), number.q).bit_length()
    return size if size > 1 else 0


def _bits(number: Any) -> float:
    """About how many bits the number has; at least 1, but 0 for 0, 1 and -1."""
    if isinstance(number, sp.Rational):
        return exact_bits(number)
    parts = number.evalf(6).as_real_imag()
    return max([1.0, *(abs(float(sp.log(abs(p), 2).evalf(6))) for p in parts if p.is_Float and p)])


def _largest(numbers: Iterable[Any]) -> float:
    sizes = [abs(n.evalf(6)) for n in numbers]
    return max((float(s) if s < 1e300 else 1e300 for s in sizes if s.is_Float), default=0.0)
