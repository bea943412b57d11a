"""Dimensions: integers, or small integer polynomials in size symbols, such as `n - 1` or `n*m`.

They are not SymPy objects, because every node of a graph carries some and they are compared and hashed all
the time.
A polynomial that is constant is always the plain `int`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sym2tf.errors import ShapeError

Monomial = tuple[str, ...]  # size names with repetition, sorted: ("n", "n") is n**2, () is the constant


@dataclass(frozen=True, slots=True)
class Dim:
    """A non-constant polynomial in size symbols, as `((monomial, coefficient), ...)` in canonical order."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Size) -> Size:
        return _collect([*_terms(self), *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Size:
        return _collect((m, -c) for m, c in self.terms)

    def __sub__(self, other: Size) -> Size:
        return self + (-other)

    def __rsub__(self, other: Size) -> Size:
        return -self + other

    def __mul__(self, other: Size) -> Size:
        return _collect((tuple(sorted(m + k)), c * d) for m, c in self.terms for k, d in _terms(other))

    __rmul__ = __mul__

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            sign = "-" if coefficient < 0 else "+" if text else ""
            factors = ([] if abs(coefficient) == 1 and monomial else [str(abs(coefficient))]) + list(monomial)
            text += sign + "*".join(factors)
        return text


Size = int | Dim


def size_symbol(name: str) -> Dim:
    """The dimension that is the size symbol `name` itself."""
    return Dim((((name,), 1),))


def size_names(size: Size) -> frozenset[str]:
    """The size symbols that occur in `size`."""
    return frozenset(name for monomial, _ in _terms(size) for name in monomial)


def evaluate_size(size: Size, sizes: Mapping[str, int]) -> int:
    """`size` with numbers in place of its symbols."""
    total = 0
    for monomial, coefficient in _terms(size):
        for name in monomial:
            coefficient *= sizes[name]
        total += coefficient
    return total


def substitute_size(size: Size, sizes: Mapping[str, Size]) -> Size:
    """`size` with the symbols in `sizes` replaced; the others stay."""
    total: Size = 0
    for monomial, coefficient in _terms(size):
        product: Size = coefficient
        for name in monomial:
            product = product * sizes.get(name, size_symbol(name))
        total = total + product
    return total


def linear_in_one(size: Size) -> tuple[str, int, int] | None:
    """`(name, slope, offset)` when `size` is `slope*name + offset` (a length can bind it), else None."""
    if isinstance(size, int):
        return None
    name, slope, offset = None, 0, 0
    for monomial, coefficient in size.terms:
        if not monomial:
            offset = coefficient
        elif len(monomial) == 1 and name is None:
            name, slope = monomial[0], coefficient
        else:
            return None
    return (name, slope, offset) if name is not None else None


def broadcast_sizes(sizes: Iterable[Size]) -> Size:
    """The one size that all others equal or are 1 against.

    Raises:
        ShapeError: two different sizes, neither of which is 1.
    """
    result: Size = 1
    for size in sizes:
        if result == 1:
            result = size
        elif size not in (1, result):
            raise ShapeError(f"axes of length {result} and {size} do not agree")
    return result


def resolved(attributes: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Attributes with numbers in place of size polynomials."""

    def plain(value: Any) -> Any:
        if isinstance(value, Dim):
            return evaluate_size(value, sizes)
        return tuple(map(plain, value)) if isinstance(value, tuple) else value

    return {name: plain(value) for name, value in attributes.items()}


def has_sizes(attributes: Mapping[str, Any]) -> bool:
    """Whether an attribute holds a size symbol, so that its value is known only with the data."""
    values = attributes.values()
    return any(isinstance(item, Dim) for a in values for item in (a if isinstance(a, tuple) else (a,)))


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    return size.terms if isinstance(size, Dim) else (((), size),)


def _collect(terms: Iterable[tuple[Monomial, int]]) -> Size:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = {m: c for m, c in total.items() if c}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    return Dim(tuple(sorted(kept.items(), key=lambda item: (-len(item[0]), item[0]))))
