"""Reverse mode: cotangents of some nodes from cotangents of others, by one sweep over the graph backwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sym2tf.autodiff.partials import (
    Partial,
    accumulate,
    any_element,
    as_weight,
    fold_onto,
    from_weight,
    guarded,
    mask,
    scalar_guard,
)
from sym2tf.errors import DifferentiationError
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import Kind
from sym2tf.ops.values import Value, with_rank, with_shape


def depends_on(builder: Builder, sources: Iterable[int], limit: int) -> bytearray:
    """For each node below `limit`, whether it depends on one of `sources`."""
    reached = bytearray(limit)
    for v in sources:
        reached[v] = 1
    for v in range(limit):
        if not reached[v] and any(reached[u] for u in builder.operands[v]):
            reached[v] = 1
    return reached


def needed_by(builder: Builder, targets: Iterable[int], limit: int) -> bytearray:
    """For each node below `limit`, whether one of `targets` depends on it."""
    needed = bytearray(limit)
    for v in targets:
        needed[v] = 1
    for v in range(limit - 1, -1, -1):
        if needed[v]:
            for u in builder.operands[v]:
                needed[u] = 1
    return needed


def cotangents(
    builder: Builder, targets: Sequence[Value], seeds: Sequence[Value], wrt: Sequence[Value]
) -> list[Value | None]:
    """Vector-Jacobian products, as new nodes in the same builder.

    Args:
        builder: holds the graph; its nodes are numbered operands first.
        targets: the values that are differentiated.
        seeds: the cotangent of each target: its core shape, possibly with extra axes in front.
        wrt: inputs.

    Returns:
        For each of `wrt` its cotangent, in its core shape behind the extra axes of the seeds; None where it is zero.

    Raises:
        DifferentiationError: an operation on the way has no derivative.
    """
    limit = 1 + max((v.id for v in (*targets, *wrt)), default=-1)
    active = depends_on(builder, (v.id for v in wrt), limit)
    needed = needed_by(builder, (v.id for v in targets), limit)
    pending: dict[int, list[Partial]] = {}
    for target, seed in zip(targets, seeds, strict=True):
        if active[target.id]:
            pending.setdefault(target.id, []).append(Partial(seed, None))
    sources = {v.id for v in wrt}
    answers: dict[int, Value] = {}
    for v in range(limit - 1, -1, -1):
        if v not in pending or not (active[v] and needed[v]):
            continue
        total = accumulate(pending.pop(v))
        if v in sources:
            shape = builder.nodes[v].type.shape
            answers[v] = with_shape(mask(total), shape)
            continue
        builder.origin = builder.nodes[v].origin
        for u, partial in _pull_back(builder, v, total, active):
            pending.setdefault(u, []).append(partial)
    builder.origin = None
    return [answers.get(v.id) for v in wrt]


def _pull_back(builder: Builder, v: int, total: Partial, active: bytearray) -> list[tuple[int, Partial]]:
    """The partials that node `v` sends to its operands."""
    node, operands = builder.nodes[v], builder.operands[v]
    if node.op.vjp is None:
        raise DifferentiationError(f"{node.op.name} has no derivative rule (in {node.origin or 'the graph'})")
    y, xs = Value(builder, v), [Value(builder, u) for u in operands]
    shape = node.type.shape
    g, guard = with_rank(total.value, len(shape)), total.guard
    supports: Sequence[Value | None] = [guard] * len(xs)
    if not node.op.elementwise:
        if guard is not None:
            common = scalar_guard(guard)
            supports = [common] * len(xs)
            if common is None:
                g = mask(Partial(g, guard))
                supports = _move_support(v, guard, xs, y)
        g = with_shape(g, shape)
    answers = node.op.vjp(g, y, *xs, **node.attributes)
    sent = []
    for x, answer, support in zip(xs, answers, supports, strict=True):
        if answer is None or not active[x.id] or x.type.kind < Kind.REAL:
            continue
        partial = guarded(answer, support)
        if node.op.elementwise:
            partial = fold_onto(partial, shape, x.shape)
        sent.append((x.id, partial))
    return sent


def _move_support(v: int, guard: Value, xs: Sequence[Value], y: Value) -> list[Value | None]:
    """Where a guard that differs between elements goes, through an operation that is not elementwise."""
    node = y.builder.nodes[v]
    rule = node.op.vjp if node.op.linear else node.op.support
    if rule is None:
        return [any_element(guard)] * len(xs)
    weights = rule(as_weight(guard, node.type.shape), y, *xs, **node.attributes)
    return [None if w is None else from_weight(w) for w in weights]
