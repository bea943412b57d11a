"""Forward mode: tangents of some nodes from tangents of inputs, by one sweep over the graph.

Most rows need no rule of their own for it: an elementwise operation has a diagonal Jacobian, so its reverse rule
applied to a tangent is the tangent's contribution; a linear one is applied to the tangent itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from sym2tf.autodiff.partials import (
    Partial,
    accumulate,
    any_element,
    as_weight,
    from_weight,
    guarded,
    mask,
    scalar_guard,
)
from sym2tf.autodiff.reverse import depends_on, needed_by
from sym2tf.errors import DifferentiationError
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import Kind
from sym2tf.ops.contraction import reduce_any
from sym2tf.ops.gathering import cumsum
from sym2tf.ops.indexing import sum_
from sym2tf.ops.values import Value, with_rank, with_shape


def tangents(
    builder: Builder, targets: Sequence[Value], wrt: Sequence[Value], seeds: Sequence[Value]
) -> list[Value | None]:
    """Jacobian-vector products, as new nodes in the same builder.

    Args:
        builder: holds the graph; its nodes are numbered operands first.
        targets: the values that are differentiated.
        wrt: inputs.
        seeds: the tangent of each input: its core shape, possibly with extra axes in front.

    Returns:
        For each target its tangent, in its core shape behind the extra axes of the seeds; None where it is zero.

    Raises:
        DifferentiationError: an operation on the way has no derivative.
    """
    limit = 1 + max((v.id for v in (*targets, *wrt)), default=-1)
    active = depends_on(builder, (v.id for v in wrt), limit)
    needed = needed_by(builder, (v.id for v in targets), limit)
    known: dict[int, Partial] = {v.id: Partial(seed, None) for v, seed in zip(wrt, seeds, strict=True)}
    for v in range(limit):
        if v in known or not (active[v] and needed[v]) or builder.nodes[v].type.kind < Kind.REAL:
            continue
        builder.origin = builder.nodes[v].origin
        pushed = _push_forward(builder, v, [known.get(u) for u in builder.operands[v]])
        if pushed is not None:
            known[v] = pushed
    builder.origin = None
    answers: list[Value | None] = []
    for target in targets:
        partial = known.get(target.id)
        answers.append(None if partial is None else with_shape(mask(partial), target.shape))
    return answers


def _push_forward(builder: Builder, v: int, incoming: Sequence[Partial | None]) -> Partial | None:
    """The tangent of node `v` from those of its operands (None: zero)."""
    if all(partial is None for partial in incoming):
        return None
    node = builder.nodes[v]
    op, attributes = node.op, node.attributes
    y, xs = Value(builder, v), [Value(builder, u) for u in builder.operands[v]]
    if op.elementwise and op.linear and op.arity is None:
        return accumulate([p for p in incoming if p is not None])
    if op.elementwise and op.jvp is None:
        return _diagonal(y, xs, incoming)
    groups: dict[int | None, list[Partial | None]] = {}
    for k, partial in enumerate(incoming):
        if partial is not None:
            value, guard = partial
            if not op.elementwise:
                value, guard = _movable(partial, xs[k])
            key = None if guard is None else guard.id
            groups.setdefault(key, [None] * len(xs))[k] = Partial(value, guard)
    pushed = []
    for group in groups.values():
        values = tuple(None if p is None else p.value for p in group)
        guard = next(p.guard for p in group if p is not None)
        if op.jvp is not None:
            value = op.jvp(values, y, *xs, **attributes)
        elif op.linear:
            value = op(*values, **attributes)
        else:
            raise DifferentiationError(f"{op.name} has no forward derivative rule (in {node.origin or 'the graph'})")
        pushed.append(Partial(value, _moved(guard, y)))
    return accumulate(pushed)


def _diagonal(y: Value, xs: Sequence[Value], incoming: Sequence[Partial | None]) -> Partial | None:
    """Elementwise operations: the reverse rule applied to each tangent."""
    node = y.node
    if node.op.vjp is None:
        raise DifferentiationError(f"{node.op.name} has no derivative rule (in {node.origin or 'the graph'})")
    pushed = []
    for k, partial in enumerate(incoming):
        if partial is None:
            continue
        t = with_rank(partial.value, y.type.rank)
        answer = node.op.vjp(t, y, *xs, **node.attributes)[k]
        if answer is not None:
            pushed.append(guarded(answer, partial.guard))
    return accumulate(pushed) if pushed else None


def _movable(partial: Partial, x: Value) -> Partial:
    """A tangent in the full shape of its operand, fit for operations that move or mix elements."""
    guard = partial.guard
    value = with_rank(partial.value, x.type.rank)
    if guard is not None:
        common = scalar_guard(guard)
        if common is None:
            value, guard = mask(Partial(value, guard)), with_shape(guard, x.shape)
        else:
            guard = common
    return Partial(with_shape(value, x.shape), guard)


def _moved(guard: Value | None, y: Value) -> Value | None:
    """The guard of a result, from that of its operands."""
    op, attributes = y.node.op, y.node.attributes
    if guard is None or op.elementwise or guard.type.rank == 0:
        return guard
    moved: Value
    if op is sum_ or (not op.linear and "axes" in attributes):
        moved = reduce_any(guard, axes=attributes["axes"])
    elif op is cumsum:
        moved = from_weight(op(as_weight(guard, y.shape), **attributes))
    elif op.linear:
        moved = op(guard, **attributes)
    else:
        moved = any_element(guard)
    return moved
