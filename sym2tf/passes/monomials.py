"""The normal form of multilinear values: a product of factors with letters on their axes, summed over letters.

`Sum(A[i, j]*x[j], j)` is the monomial with factors `A(i, j)`, `x(j)` and output `(i)`: what the output lacks is summed.
The form is closed under products, sums over axes, new axes, transposition and broadcasts, and under differentiation
(S. Laue, M. Mitterreiter, J. Giesen, "Computing Higher Order Derivatives of Matrix and Tensor Expressions", NeurIPS
2018), where identity matrices come in. Such a unit tensor is a pair of letters and no factor: where one of the two is
summed, or stands in another factor, it renames the other, and is gone; it stays only where the output holds both.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sym2tf.ir.dims import Size
from sym2tf.ir.op import Op
from sym2tf.ops.indexing import broadcast, expand, squeeze, transpose

Letters = tuple[int, ...]  # one for each axis; `UNIT` for an axis of length 1
Factor = tuple[int, Letters]  # a node and the letters of its core axes
Pair = tuple[int, int]

UNIT = 0


class Alphabet:
    """Hands out letters and knows how long the axes are that carry them."""

    def __init__(self) -> None:
        self.sizes: list[Size] = [1]  # of `UNIT`

    def fresh(self, size: Size) -> int:
        """A letter that no monomial has, for axes of length `size`; `UNIT` for length 1."""
        if size == 1:
            return UNIT
        self.sizes.append(size)
        return len(self.sizes) - 1

    def fresh_for(self, shape: Iterable[Size]) -> Letters:
        """Fresh letters for all axes of a shape."""
        return tuple(self.fresh(d) for d in shape)


@dataclass(frozen=True, slots=True)
class Monomial:
    """`count` times the product of `factors` and `eyes`, summed over every letter that `output` lacks.

    Attributes:
        factors: nodes with letters; a letter twice in one factor takes its diagonal.
        output: one letter for each axis of the value, none twice. A letter that no factor has stretches the axis.
        eyes: pairs of letters that must be equal, both in `output`; the one further left comes first and is the one
            that the factors have.
        count: the number of equal terms that have been summed.
        masks: conditions: where one does not hold, a term is zero, whatever the factors may be.
    """

    factors: tuple[Factor, ...]
    output: Letters
    eyes: tuple[Pair, ...] = ()
    count: Size = 1
    masks: tuple[Factor, ...] = ()

    @property
    def letters(self) -> frozenset[int]:
        """The letters of the factors and masks."""
        return frozenset(letter for _, own in (*self.factors, *self.masks) for letter in own)


def atom(v: int, shape: Sequence[Size], alphabet: Alphabet) -> Monomial:
    """The monomial that is node `v`, of core shape `shape`."""
    letters = alphabet.fresh_for(shape)
    return Monomial(((v, letters),), letters)


def unit_tensor(size: Size, alphabet: Alphabet) -> Monomial:
    """The identity matrix."""
    pair = alphabet.fresh_for((size, size))
    return Monomial((), pair, () if size == 1 else ((pair[0], pair[1]),))


def diagonal(m: Monomial, alphabet: Alphabet) -> Monomial:
    """The values along the last axis of `m` on the diagonal of a matrix, zeros elsewhere."""
    last = m.output[-1]
    if last == UNIT:
        return replace(m, output=(*m.output, UNIT))
    twin = alphabet.fresh(alphabet.sizes[last])
    return normal(replace(m, output=(*m.output, twin), eyes=(*m.eyes, (last, twin))), (), alphabet)


def contraction(
    operands: Sequence[Monomial], labels: Sequence[Sequence[Hashable]], output: Sequence[Hashable], alphabet: Alphabet
) -> Monomial:
    """The product of monomials, axes with one label taken together, summed over the labels that `output` lacks.

    Args:
        operands: monomials; one may stand there twice.
        labels: for each operand one label per axis.
        output: the labels of the result, in order, none twice.
        alphabet: gives the letters.
    """
    letter: dict[Hashable, int] = {}
    factors: list[Factor] = []
    masks: list[Factor] = []
    eyes: list[Pair] = []
    count: Size = 1
    for m, own in zip(operands, labels, strict=True):
        rename: dict[int, int] = {}
        for old, label in zip(m.output, own, strict=True):
            if old != UNIT:
                if label not in letter:
                    letter[label] = alphabet.fresh(alphabet.sizes[old])
                rename[old] = letter[label]
        for _, letters in (*m.factors, *m.masks):
            for old in letters:
                if old != UNIT and old not in rename:
                    rename[old] = alphabet.fresh(alphabet.sizes[old])
        factors += _renamed(m.factors, rename)
        masks += _renamed(m.masks, rename)
        eyes += ((rename[a], rename[b]) for a, b in m.eyes)
        count = count * m.count
    kept = set(output)
    gone = [found for label, found in letter.items() if label not in kept]
    kept_letters = tuple(letter.get(label, UNIT) for label in output)
    return normal(Monomial(tuple(factors), kept_letters, tuple(eyes), count, tuple(masks)), gone, alphabet)


def product(operands: Sequence[Monomial], alphabet: Alphabet) -> Monomial:
    """The elementwise product of monomials with equally many axes."""
    axes = range(len(operands[0].output))
    return contraction(operands, [axes] * len(operands), axes, alphabet)


def summed(m: Monomial, axes: Iterable[int], alphabet: Alphabet) -> Monomial:
    """The sum over `axes`, which are negative."""
    over = {axis + len(m.output) for axis in axes}
    gone = [letter for k, letter in enumerate(m.output) if k in over and letter != UNIT]
    kept = tuple(letter for k, letter in enumerate(m.output) if k not in over)
    return normal(replace(m, output=kept), gone, alphabet)


def expanded(m: Monomial, axis: int) -> Monomial:
    """With a new axis of length 1, at position `axis` (negative) of the result."""
    at = len(m.output) + 1 + axis
    return replace(m, output=(*m.output[:at], UNIT, *m.output[at:]))


def squeezed(m: Monomial, axis: int) -> Monomial:
    """Without an axis of length 1."""
    at = len(m.output) + axis
    return replace(m, output=(*m.output[:at], *m.output[at + 1 :]))


def transposed(m: Monomial, axes: Sequence[int]) -> Monomial:
    """With the last axes in a new order: axis k of these is axis `axes[k]` (negative) of `m`."""
    front = len(m.output) - len(axes)
    output = (*m.output[:front], *(m.output[a] for a in axes))
    position = {letter: k for k, letter in enumerate(output)}
    if all(position[a] < position[b] for a, b in m.eyes):
        return replace(m, output=output)
    return normal(replace(m, output=output), (), None)


def stretched(m: Monomial, shape: Sequence[Size], alphabet: Alphabet) -> Monomial:
    """With the last axes as long as `shape` says."""
    front = len(m.output) - len(shape)
    tail = (alphabet.fresh(d) if letter == UNIT else letter for letter, d in zip(m.output[front:], shape, strict=True))
    return replace(m, output=(*m.output[:front], *tail))


Movement = Callable[[Monomial, Mapping[str, Any], Alphabet], Monomial]

MOVEMENTS: Mapping[Op, Movement] = {
    expand: lambda m, attributes, alphabet: expanded(m, attributes["axis"]),
    squeeze: lambda m, attributes, alphabet: squeezed(m, attributes["axis"]),
    transpose: lambda m, attributes, alphabet: transposed(m, attributes["axes"]),
    broadcast: lambda m, attributes, alphabet: stretched(m, attributes["shape"], alphabet),
}


def normal(m: Monomial, gone: Iterable[int], alphabet: Alphabet | None) -> Monomial:
    """A monomial with its unit tensors eliminated.

    Args:
        m: its unit tensors may stand in any order, and have letters that are summed.
        gone: letters that have just been taken out of the output: those that nothing has count equal terms.
        alphabet: knows the sizes of `gone`.
    """
    position = {letter: k for k, letter in enumerate(m.output) if letter != UNIT}
    rename: dict[int, int] = {}
    kept: list[Pair] = []
    for members in _classes(m.eyes):
        outside = sorted((letter for letter in members if letter in position), key=position.__getitem__)
        name = outside[0] if outside else min(members)
        rename.update(dict.fromkeys(members, name))
        kept += ((name, other) for other in outside[1:])
    if rename:
        factors, masks = tuple(_renamed(m.factors, rename)), tuple(_renamed(m.masks, rename))
        m = replace(m, factors=factors, masks=masks, eyes=tuple(kept))
    lost = {rename.get(letter, letter) for letter in gone}.difference(position)
    if not lost or alphabet is None:
        return m
    count = m.count
    for letter in sorted(lost.difference(m.letters)):
        count = count * alphabet.sizes[letter]
    return replace(m, count=count)


def _renamed(factors: Iterable[Factor], rename: Mapping[int, int]) -> list[Factor]:
    return [(v, tuple([rename.get(letter, letter) for letter in letters])) for v, letters in factors]


def _classes(eyes: Iterable[Pair]) -> list[set[int]]:
    """Letters that unit tensors make equal, together."""
    classes: list[set[int]] = []
    for pair in eyes:
        touching = [c for c in classes if not c.isdisjoint(pair)]
        classes = [c for c in classes if c.isdisjoint(pair)]
        classes.append(set(pair).union(*touching))
    return classes
