"""The order in which the factors of a contraction meet.

opt_einsum (D. G. A. Smith, J. Gray, JOSS 3, 2018) finds the order of fewest operations: exhaustively for few factors,
greedily for many. It does not know that two factors may be the same tensor. A monomial that is its own mirror image,
as the Gauss-Newton part of a Hessian is, `J(i, a)*J(i, b)` with `J` a product itself, is therefore also tried with one
half computed once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from opt_einsum import paths

from sym2tf.passes.monomials import UNIT, Factor, Letters

Sets = Sequence[frozenset[int]]
Path = Sequence[Sequence[int]]  # positions of the factors taken at each step; the result is put last
Lengths = Mapping[int, int]  # letter -> about how many elements


class Halves(NamedTuple):
    """A monomial that is `half` times its mirror image times `rest`.

    Attributes:
        half: factors.
        letters: of the product of these, in order.
        mirror: letters of the half to those of its image; a letter that is its own image is missing.
        rest: factors that are their own image.
    """

    half: Sequence[Factor]
    letters: Letters
    mirror: Mapping[int, int]
    rest: Sequence[Factor]


def order_of(inputs: Sets, output: Iterable[int], lengths: Lengths) -> Path:
    """The steps of fewest operations; the same for the same arguments."""
    if len(inputs) < 3:
        return [(0, 1)] if len(inputs) == 2 else []
    path: Path = paths.auto(list(inputs), frozenset(output), lengths)
    return path


def cost(inputs: Sets, output: Iterable[int], lengths: Lengths) -> int:
    """The number of operations that the best order takes."""
    parts, kept, total = list(inputs), frozenset(output), 0
    for step in order_of(inputs, kept, lengths):
        taken = [parts.pop(k) for k in sorted(step, reverse=True)]
        joined = frozenset().union(*taken)
        total += math.prod(lengths[letter] for letter in joined)
        parts.append(joined & kept.union(*parts))
    return total


def halves(factors: Sequence[Factor], order: Letters, lengths: Lengths) -> Halves | None:
    """The mirror image in a monomial, where computing one half once takes no more operations than any order.

    Args:
        factors: with different letters, none twice in one factor.
        order: the letters that are not summed, as the result has them.
        lengths: of the axes.
    """
    place = {letter: k for k, letter in enumerate(order)}
    seen: dict[int, list[Letters]] = {}
    for v, letters in factors:
        seen.setdefault(v, []).append(letters)
    if sum(len(twice) == 2 for twice in seen.values()) < 2 or any(len(same) > 2 for same in seen.values()):
        return None
    mirror: dict[int, int] = {}
    half: list[Factor] = []
    rest: list[Factor] = []
    for v, same in seen.items():
        if len(same) == 1:
            rest.append((v, same[0]))
            continue
        left, right = sorted(same, key=lambda letters: [place.get(letter, len(place)) for letter in letters])
        half.append((v, left))
        for a, b in zip(left, right, strict=True):
            if mirror.setdefault(a, b) != b or mirror.setdefault(b, a) != a:
                return None
    if any(mirror.get(letter, letter) != letter for _, letters in rest for letter in letters):
        return None
    whole = _sets(factors)
    own = frozenset().union(*_sets(half))
    outside = frozenset(order).union(*_sets(rest), (mirror[letter] for letter in own if letter != UNIT))
    shared = sorted(own & outside, key=lambda letter: (letter in place, place.get(letter, 0), letter))
    image = frozenset(mirror[letter] for letter in shared)
    once = cost(_sets(half), shared, lengths) + cost([*_sets(rest), frozenset(shared), image], order, lengths)
    if once > cost(whole, order, lengths):
        return None
    return Halves(half, tuple(shared), mirror, rest)


def _sets(factors: Iterable[Factor]) -> list[frozenset[int]]:
    return [frozenset(letters).difference((UNIT,)) for _, letters in factors]
