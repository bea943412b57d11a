"""Masks of monomials: what is zero where a condition does not hold, when the condition has letters that are summed.

A select under a sum would make the whole product, only to throw most of it away or add it up. The factors are masked
instead, before they meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sym2tf.ir.types import Kind
from sym2tf.ops.contraction import reduce_any
from sym2tf.ops.indexing import expand
from sym2tf.ops.leaves import const, input_
from sym2tf.ops.logic import and_
from sym2tf.passes.monomials import UNIT, Factor
from sym2tf.passes.products import Products, without_units


def independent(products: Products, masks: Iterable[Factor]) -> list[Factor]:
    """Masks taken apart into their conjuncts, without those that hold wherever another one does."""
    found: dict[Factor, None] = {}
    stack = list(masks)
    while stack:
        v, letters = stack.pop()
        node = products.builder.nodes[v]
        if node.op is expand:
            at = len(letters) + node.attributes["axis"]
            stack.append((products.builder.operands[v][0], (*letters[:at], *letters[at + 1 :])))
        elif node.op is and_:
            for u in products.builder.operands[v]:
                shape = products.builder.nodes[u].type.shape
                stack.append((u, tuple(UNIT if d == 1 else x for x, d in zip(letters, shape, strict=True))))
        else:
            found[v, letters] = None
    weaker = set()
    for v, letters in found:
        if products.builder.nodes[v].op is reduce_any:
            (u,) = products.builder.operands[v]
            gone = products.builder.nodes[v].attributes["axes"]
            for w, own in found:
                left = tuple(x for k, x in enumerate(own) if k - len(own) not in gone)
                if w == u and left == letters:
                    weaker.add((v, letters))
    return [mask for mask in found if mask not in weaker]


def masked(products: Products, factors: Sequence[Factor], mask: Factor, kind: Kind) -> list[Factor]:
    """Factors that are zero where a mask does not hold that has summed letters: their product need not be made.

    Those that have no other letters are masked as one. The others are masked too, with what the mask says of their
    letters, so that no NaN meets a zero.
    """
    own = frozenset(mask[1]).difference((UNIT,))
    target = without_units(mask[1])
    numbers = [f for f in factors if products.builder.nodes[f[0]].op is const]
    inside = [f for f in factors if f not in numbers and own.issuperset({*f[1]} - {UNIT})]
    found = list(numbers)
    inner = products.whole(inside, tuple(x for x in target if any(x in f[1] for f in inside))) if inside else None
    found.append(products.selected(mask, inner or (products.number(1, kind), ()), target))
    for factor in factors:
        if factor in numbers or factor in inside:
            continue
        v, letters = products.distinct(factor)
        common = own.intersection(letters)
        if common and common < own and products.builder.nodes[v].op is input_:
            found.append((v, letters))  # data: finite, or of no use anyway
            continue
        missing = tuple(k - len(mask[1]) for k, letter in enumerate(mask[1]) if letter not in common)
        guard = mask
        if missing:
            reduced = products.builder.add(reduce_any, [mask[0]], {"axes": missing})
            guard = reduced, tuple(letter for letter in mask[1] if letter in common)
        found.append(products.selected(guard, (v, letters), without_units(letters)))
    products.fired["mask inside a sum"] += 1
    return found
