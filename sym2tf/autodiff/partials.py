"""Partial derivatives with guards: how branch safety works.

A cotangent or tangent is a `Partial`: a value and a guard. It means `value` where the guard holds and zero elsewhere,
*whatever the value may be there*, NaN included. Selection happens when partials with different guards are added, and
at the very end; never before, because a masked zero times an infinite factor further on is NaN again (`1/x` in a
branch not taken), and never not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, cast, mul
from sym2tf.ops.contraction import reduce_any
from sym2tf.ops.guards import Guarded
from sym2tf.ops.indexing import expand, restore, squeeze, sum_
from sym2tf.ops.leaves import size
from sym2tf.ops.logic import and_, less, or_, select
from sym2tf.ops.values import Value, apply, constant, with_kind, with_rank, with_shape

_WIDEST = 3  # conjuncts of a guard that are kept flat


class Partial(NamedTuple):
    """A cotangent or tangent that counts where `guard` holds (None: everywhere) and is zero elsewhere.

    `value` may have length 1 on axes where the node that it belongs to is longer, and extra axes in front.
    """

    value: Value
    guard: Value | None


def mask(partial: Partial) -> Value:
    """The plain value of a partial: zeros where the guard does not hold."""
    if partial.guard is None:
        return partial.value
    masked: Value = select(partial.guard, partial.value, 0)
    return masked


def accumulate(partials: Sequence[Partial]) -> Partial:
    """The sum of partials; a guard that all share is kept and not applied."""
    groups: dict[int | None, list[Partial]] = {}
    for partial in partials:
        groups.setdefault(None if partial.guard is None else partial.guard.id, []).append(partial)
    sums = [Partial(_sum([p.value for p in group]), group[0].guard) for group in groups.values()]
    if len(sums) == 1:
        return sums[0]
    total = _sum([mask(p) for p in sums])
    guards = [p.guard for p in sums if p.guard is not None]
    return Partial(total, or_(*guards) if len(guards) == len(sums) else None)


def both(guard: Value | None, other: Value | None) -> Value | None:
    """The conjunction of two guards."""
    if guard is None or other is None:
        return other if guard is None else guard
    if guard.id == other.id:
        return guard
    # `c & d & c` is `c & d`: nested branches under one condition keep one guard
    parts = {v.id: v for g in (guard, other) for v in _conjuncts(g)}
    for g in (guard, other):
        if len(parts) == len(_conjuncts(g)):
            return g
    # nested beyond that: the guards of a Piecewise of n branches have n conjuncts, and must not cost n squared
    return and_(*parts.values()) if len(parts) <= _WIDEST else and_(guard, other)


def guarded(answer: Any, guard: Value | None) -> Partial:
    """What a rule returned for one operand, under the guard of the cotangent that it was given."""
    if isinstance(answer, Guarded):
        return Partial(answer.value, both(guard, answer.guard))
    return Partial(answer, guard)


def fold_onto(partial: Partial, result: tuple[Size, ...], operand: tuple[Size, ...]) -> Partial:
    """Un-broadcast: bring the partial of an elementwise operand back to the operand's own shape.

    Args:
        partial: as the rule gave it, in the shape of the result (or with length 1 where it is constant).
        result: core shape of the operation's result.
        operand: core shape of the operand, of equal rank.
    """
    stretched = [k - len(result) for k, d in enumerate(result) if d != 1 and operand[k] == 1]
    if not stretched:
        return partial
    value, guard = with_rank(partial.value, len(result)), partial.guard
    if guard is not None and any(a >= -guard.type.rank and guard.shape[a] != 1 for a in stretched):
        value = mask(Partial(value, guard))
        axes = tuple(a for a in stretched if a >= -guard.type.rank)
        guard = restore(reduce_any(guard, axes=axes), axes)
    summed = tuple(a for a in stretched if value.shape[a] != 1)
    if summed:
        value = restore(sum_(value, axes=summed), summed)
    repeats: Size = 1
    for a in stretched:
        if a not in summed:
            repeats = repeats * result[a]
    if repeats != 1:
        value = mul(value, length(value.builder, repeats))
    return Partial(value, guard)


def length(builder: Builder, repeats: Size) -> Value:
    """The real number of elements that a size stands for."""
    if isinstance(repeats, int):
        return constant(builder, repeats, Kind.REAL)
    return with_kind(apply(builder, size, (), {"size": repeats}), Kind.REAL)


def scalar_guard(guard: Value) -> Value | None:
    """The guard as a scalar if it is the same for every element, else None."""
    if any(d != 1 for d in guard.shape):
        return None
    while guard.type.rank:
        (inner,) = guard.builder.operands[guard.id] if guard.node.op is expand else (None,)
        guard = squeeze(guard, axis=-1) if inner is None else Value(guard.builder, inner)
    return guard


def any_element(guard: Value) -> Value:
    """Whether a guard holds anywhere in the core; a scalar."""
    answer: Value = reduce_any(guard, axes=tuple(range(-guard.type.rank, 0)))
    return answer


def as_weight(guard: Value, shape: tuple[Size, ...]) -> Value:
    """A guard as zeros and ones of the given core shape, so that linear rules can move it."""
    return with_shape(cast(guard, kind=Kind.REAL), shape)


def from_weight(weight: Value) -> Value:
    """Back from `as_weight`: where anything arrived."""
    positive: Value = less(0, weight)
    return positive


def _sum(values: Sequence[Value]) -> Value:
    if len(values) == 1:
        return values[0]
    total: Value = add(*values)
    return total


def _conjuncts(guard: Value) -> Sequence[Value]:
    if guard.node.op is and_:
        return [Value(guard.builder, u) for u in guard.builder.operands[guard.id]]
    return [guard]
