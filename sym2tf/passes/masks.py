"""Masks of monomials: what is zero where a condition does not hold, when the condition has letters that are summed.

A select under a sum would make the whole product, only to throw most of it away or add it up. The factors are masked
instead, before they meet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sym2tf.ir.graph import Builder
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import cast
from sym2tf.ops.assembly import eye, table
from sym2tf.ops.contraction import reduce_any
from sym2tf.ops.gathering import one_hot
from sym2tf.ops.indexing import broadcast, expand, slice_, squeeze, transpose
from sym2tf.ops.leaves import const, input_
from sym2tf.ops.logic import and_, less, not_, or_, select, xor
from sym2tf.ops.piecewise_linear import abs_
from sym2tf.ops.values import Value, with_kind
from sym2tf.passes.monomials import UNIT, Factor, Letters
from sym2tf.passes.products import Products, without_units

_CONNECTIVES = frozenset((and_, or_, not_, xor))
_MOVES = frozenset((expand, squeeze, transpose, broadcast, slice_))
_FINITE = frozenset((const, cast, one_hot, eye, table))


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


def is_chosen(builder: Builder, v: int) -> bool:
    """Whether a mask follows from a condition that the user wrote, and not only from where functions have corners."""
    seen, stack = {v}, [v]
    while stack:
        u = stack.pop()
        node, below = builder.nodes[u], builder.operands[u]
        if node.type.kind is Kind.BOOLEAN and node.op.elementwise:
            if node.op not in _CONNECTIVES and node.stage != "derivative":
                return True
        elif node.op.elementwise and node.op is not cast:
            continue  # a value that is compared, and no sum of zeros and ones (`partials.as_weight`)
        below = tuple(w for w in below if w not in seen)
        seen.update(below)
        stack += below
    return False


def masked(products: Products, factors: Sequence[Factor], mask: Factor, kind: Kind) -> list[Factor]:
    """Factors that are zero where a mask does not hold that has summed letters: their product need not be made.

    Those that have no other letters are masked as one. The others are masked too, with what the mask says of their
    letters, so that no NaN meets a zero: what no term needs is never used. What one element of the result needs and
    another one does not meets a zero there; see `spreading`.

    Data stay as they are under the masks that derivatives of `Max`, `Abs` and the like make, which would copy them for
    nothing: where they are not finite, neither is the value.
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
        if common < own and products.builder.nodes[v].op is input_ and not is_chosen(products.builder, mask[0]):
            found.append((v, letters))
            continue
        missing = tuple(k - len(mask[1]) for k, letter in enumerate(mask[1]) if letter not in common)
        guard = mask
        if missing:
            # marked as what `guards` takes away where the graph is read
            reduced = products.builder.add(reduce_any, [mask[0]], {"axes": missing}, stage="derivative")
            guard = reduced, tuple(letter for letter in mask[1] if letter in common)
        order = without_units(letters)
        known = products.placed(guard, order) in _conditions(products.builder, v)
        found.append((v, letters) if known else products.selected(guard, (v, letters), order))
    products.fired["mask inside a sum"] += 1
    return found


def spreading(products: Products, factors: Sequence[Factor], mask: Factor, order: Letters) -> list[Factor]:
    """The factors that `masked` cannot hide from all elements of a sum that do not need them.

    In `Sum(A[i, j]*B[j, k], (j, 0, i))` row 3 of B is hidden from row 0 of the result and used in row 3.
    """
    own = frozenset(mask[1]).difference((UNIT,))
    kept, over = own.intersection(order), own.difference(order)
    return [
        (v, letters)
        for v, letters in factors
        if kept.difference(letters)
        and over.intersection(letters)
        and not own.issuperset({*letters} - {UNIT})
        and not _is_finite(products.builder, v)
    ]


def _is_finite(builder: Builder, v: int) -> bool:
    """Whether a factor is made of zeros and ones, of places, or has lost what is not finite."""
    for condition in _conditions(builder, v):
        if builder.nodes[_unmoved(builder, condition)].op is less:  # `|x| < inf`, see `hidden`
            limit = builder.nodes[_unmoved(builder, builder.operands[_unmoved(builder, condition)][1])]
            if limit.op is const and limit.attributes["value"] == math.inf:
                return True
    node = builder.nodes[_unmoved(builder, v)]
    return node.op in _FINITE or node.type.kind < Kind.REAL


def _conditions(builder: Builder, v: int) -> list[int]:
    """The conditions that must all hold where `v` is not zero, if it is a select."""
    v = _unmoved(builder, v)
    pending, found = [builder.operands[v][0]] if builder.nodes[v].op is select else [], []
    while pending:
        condition = pending.pop()
        if builder.nodes[condition].op is and_:
            pending += builder.operands[condition]
        else:
            found.append(condition)
    return found


def _unmoved(builder: Builder, v: int) -> int:
    """The node of which `v` shows all or some of the elements."""
    while builder.nodes[v].op in _MOVES:
        v = builder.operands[v][0]
    return v


def hidden(products: Products, factor: Factor, masks: Sequence[Factor]) -> tuple[Factor, list[Factor]]:
    """A factor with zeros where it is not finite, and factors whose product is 1 where a term needs such an element."""
    value = Value(products.builder, factor[0])
    finite = less(abs_(value), math.inf)
    weights = [(with_kind(not_(finite), Kind.REAL).id, factor[1])]
    weights += ((with_kind(Value(products.builder, v), Kind.REAL).id, letters) for v, letters in masks)
    return (select(finite, value, 0).id, factor[1]), weights
