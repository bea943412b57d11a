"""Tells whether two values are the same function of their axes, in whatever order these stand.

`exp(z[i, k])` has the axes (i, k) or (k, i), as the sum around it was written; that in `Sum(exp(z[i, j]), (j, 0, m-1))`
may have the other order. With a name for every axis, data movement only renames, and what is left can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder, Node
from sym2tf.ops.contraction import einsum, logsumexp, reduce_max, reduce_min, softmax
from sym2tf.ops.indexing import broadcast, expand, pad, slice_, squeeze, sum_, transpose
from sym2tf.ops.leaves import iota

MOST = 2000  # nodes that one comparison looks at

Names = tuple[Any, ...]  # a name for each core axis; None along axes of length 1, and where a value is constant
Below = tuple[int, Names]


def alike(builder: Builder, one: Below, other: Below) -> bool:
    """Whether two values, each with names for its axes, are built alike from the same leaves.

    Summed axes are taken in the order in which they stand. The lengths of slices are not looked at: those of the named
    axes are for the caller to compare. Values that are too large, or hold an operation without a rule, are not alike.
    """
    keys: dict[Below, int] = {}
    numbers: dict[Hashable, int] = {}  # what stands there -> a number that all values alike share
    roots = [(v, _long(builder, v, names)) for v, names in (one, other)]
    stack, looked = list(roots), 0
    while stack:
        at = stack[-1]
        if at in keys:
            stack.pop()
            continue
        looked += 1
        parts = _parts(builder, *at) if looked <= MOST else None
        if parts is None:
            return False
        head, below = parts
        missing = [b for b in below if b not in keys]
        if missing:
            stack += missing
            continue
        operands = [keys[b] for b in below]
        if builder.nodes[at[0]].op.commutative:
            operands.sort()
        keys[at] = numbers.setdefault((head, *operands), len(numbers)) if head is not None else operands[0]
    return keys[roots[0]] == keys[roots[1]]


def peeled(builder: Builder, v: int) -> tuple[int, tuple[int | None, ...], list[int]]:
    """What `v` moves: the value below all movements, for each axis of `v` its axis there or None, and the movements."""
    axes: tuple[int | None, ...] = tuple(range(builder.nodes[v].type.rank))
    path = []
    while builder.nodes[v].op in (expand, squeeze, broadcast, transpose):
        path.append(v)
        (u,) = builder.operands[v]
        below = tuple(range(builder.nodes[u].type.rank))
        source = _moved(builder.nodes[v], builder.nodes[u], below)
        axes = tuple(None if k is None else source[k] for k in axes)
        v = u
    return v, axes, path


def _long(builder: Builder, v: int, names: Sequence[Any]) -> Names:
    shape = builder.nodes[v].type.shape
    return tuple(None if d == 1 else name for d, name in zip(shape, names, strict=True))


def _parts(builder: Builder, v: int, names: Names) -> tuple[Hashable, list[Below]] | None:
    """What stands at `v`, and the operands with names for their axes; a movement has no head."""
    node, operands = builder.nodes[v], builder.operands[v]
    if node.op in (expand, squeeze, broadcast, transpose):
        (u,) = operands
        source = names_below(node, builder.nodes[u], names)
        return None, [(u, _long(builder, u, source))]
    if node.op.elementwise and operands:
        attributes = tuple(sorted(node.attributes.items()))
        return (node.op, attributes), [(u, _long(builder, u, names)) for u in operands]
    rule = _RULES.get(node.op)
    if rule is not None:
        return rule(builder, v, names)
    return ((v, names), []) if not operands else None


def names_below(node: Node, operand: Node, names: Sequence[Any]) -> list[Any]:
    """Names for the axes of what is moved, from those of the movement `node`; None for axes that it loses."""
    source: list[Any] = [None] * operand.type.rank
    for name, k in zip(names, _moved(node, operand, tuple(range(operand.type.rank))), strict=True):
        if k is not None:
            source[k] = name
    return source


def _moved(node: Node, operand: Node, below: tuple[int, ...]) -> tuple[int | None, ...]:
    """For each axis of a movement the axis of its operand, None for one that the operand lacks or has not stretched."""
    rank = node.type.rank
    if node.op is expand:
        at = rank + node.attributes["axis"]
        return (*below[:at], None, *below[at:])
    if node.op is squeeze:
        at = rank + 1 + node.attributes["axis"]
        return (*below[:at], *below[at + 1 :])
    if node.op is transpose:
        axes = node.attributes["axes"]
        keep = rank - len(axes)
        return (*below[:keep], *(below[a] for a in axes))
    front: tuple[int | None, ...] = (None,) * (rank - len(below))
    stretched = zip(below, operand.type.shape, node.type.shape[len(front) :], strict=True)
    return front + tuple(None if d != due else k for k, d, due in stretched)


def _reduction(builder: Builder, v: int, names: Names) -> tuple[Hashable, list[Below]]:
    node, (u,) = builder.nodes[v], builder.operands[v]
    shape, axes = builder.nodes[u].type.shape, node.attributes["axes"]
    level = 1 + max((name[1] for name in names if isinstance(name, tuple)), default=0)
    kept, inner = iter(names), list[Any]()
    for k in range(-len(shape), 0):
        inner.append(("bound", level, axes.index(k)) if k in axes else next(kept))
    return (node.op, level, tuple(shape[a] for a in axes)), [(u, _long(builder, u, inner))]


def _softmax(builder: Builder, v: int, names: Names) -> tuple[Hashable, list[Below]]:
    node = builder.nodes[v]
    along = frozenset(names[a] for a in node.attributes["axes"])
    return (node.op, along), [(builder.operands[v][0], names)]


def _einsum(builder: Builder, v: int, names: Names) -> tuple[Hashable, list[Below]]:
    node, operands = builder.nodes[v], builder.operands[v]
    level = 1 + max((name[1] for name in names if isinstance(name, tuple)), default=0)
    name_of: dict[str, Any] = dict(zip(node.attributes["output"], names, strict=True))
    lengths: list[Size] = []
    for u, letters in zip(operands, node.attributes["inputs"], strict=True):
        for letter, d in zip(letters, builder.nodes[u].type.shape, strict=True):
            if letter not in name_of:
                name_of[letter] = ("bound", level, len(lengths))
                lengths.append(d)
    below = [
        (u, _long(builder, u, [name_of[c] for c in letters]))
        for u, letters in zip(operands, node.attributes["inputs"], strict=True)
    ]
    return (node.op, level, tuple(lengths)), below


def _along(builder: Builder, v: int, names: Names) -> tuple[Hashable, list[Below]]:
    """A slice or a pad, along one axis; the length of a slice is that of its axis."""
    node, (u,) = builder.nodes[v], builder.operands[v]
    axis, shape = node.attributes["axis"], builder.nodes[u].type.shape
    inner = list(names)
    if inner[axis] is None and shape[axis] != 1:
        inner[axis] = "fixed"  # one element of the operand
    if node.op is slice_ and node.attributes["start"] == 0:
        return None, [(u, _long(builder, u, inner))]
    rest = tuple(sorted((k, a) for k, a in node.attributes.items() if k not in ("axis", "size")))
    return (node.op, names[axis], rest), [(u, _long(builder, u, inner))]


_RULES: dict[Any, Callable[[Builder, int, Names], tuple[Hashable, list[Below]]]] = {
    **dict.fromkeys((sum_, reduce_max, reduce_min, logsumexp), _reduction),
    softmax: _softmax,
    einsum: _einsum,
    slice_: _along,
    pad: _along,
    iota: lambda builder, v, names: ((iota, builder.nodes[v].attributes["start"], names), []),
}
