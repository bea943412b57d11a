"""Products of factors with letters, read as chains of matrix products: what a matrix is that several make up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sym2tf.passes.monomials import UNIT, Factor, Letters


class Link(NamedTuple):
    """A matrix in a chain of products."""

    node: int
    letters: Letters
    forward: bool


@dataclass(frozen=True)
class Chain:
    """A product of matrices from the row to the column of the result.

    Attributes:
        links: the matrices in order.
        letters: of the result's row, of what is summed between two matrices each, and of the result's column.
        weights: vectors along these letters.
        around: all other factors, which are numbers as far as the matrix is concerned.
    """

    links: tuple[Link, ...]
    letters: tuple[int, ...]
    weights: Mapping[int, list[Factor]]
    around: tuple[Factor, ...]


def matrix_chain(factors: Sequence[Factor], row: int, column: int, front: frozenset[int]) -> Chain | None:
    """The factors as a chain of matrix products; None where they are none."""
    at: dict[int, list[Factor]] = {}
    cores: dict[Factor, tuple[int, ...]] = {}
    for factor in factors:
        core = tuple(x for x in factor[1] if x not in front and x != UNIT)
        cores[factor] = core
        if len(core) > 2 or len(set(core)) < len(core) or (len(core) == 2 and factor[1][-2:] != core):
            return None
        for x in core:
            at.setdefault(x, []).append(factor)
    links, letters = list[Link](), [row]
    used = set[Factor]()
    while letters[-1] != column:
        here = letters[-1]
        onward = [f for f in at.get(here, ()) if len(cores[f]) == 2 and f not in used]
        if len(onward) != 1 or factors.count(onward[0]) > 1:
            return None
        (factor,) = onward
        used.add(factor)
        first, second = cores[factor]
        letters.append(second if here == first else first)
        links.append(Link(*factor, here == first))
        if len(set(letters)) < len(letters):
            return None
    if not links or any(
        len(cores[f]) == 2 and f not in used and not set(letters).isdisjoint(cores[f]) for f in factors
    ):
        return None
    weights: dict[int, list[Factor]] = {}
    around = []
    for factor in factors:
        core = cores[factor]
        if len(core) == 1 and core[0] in letters:
            weights.setdefault(core[0], []).append(factor)
        elif factor not in used:
            around.append(factor)
    return Chain(tuple(links), tuple(letters), weights, tuple(around))


def is_gram(inside: Sequence[Factor], row: int, column: int) -> bool:
    """Whether two factors are one and the same, once with the row and once with the column of the result."""
    if len(inside) != 2:
        return False
    (u, left), (v, right) = inside
    turn = {row: column, column: row}
    once = {left.count(row), left.count(column)} == {0, 1}
    return u == v and once and tuple(turn.get(x, x) for x in left) == right
