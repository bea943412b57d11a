"""Elementwise operations before new axes and broadcasts instead of after them: fewer elements are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder, Node
from sym2tf.ops.indexing import broadcast, expand, squeeze
from sym2tf.ops.leaves import const

Axes = frozenset[int]  # negative


class Elementwise:
    """Adds elementwise operations to `builder`, each on as few elements as it needs."""

    def __init__(self, builder: Builder, fired: Counter[str], *, exact: bool) -> None:
        self.builder = builder
        self.fired = fired
        self.exact = exact

    def add(self, node: Node, operands: Sequence[int]) -> tuple[int, list[int]]:
        """`node` on `operands`: the new node, and the axes of length 1 that it still lacks.

        These are numbered in the result and stand in the order in which to add them.
        """
        operands = self.without_broadcasts(operands)
        axes = self.common(operands)
        if axes:
            operands = [self.drop(u, axes) for u in operands]
            self.fired["before new axes"] += 1
        if node.op.associative and node.op.commutative and not self.exact and len(operands) > 2:
            operands = self.grouped(node, operands)
        made = self.builder.add(node.op, operands, node.attributes, origin=node.origin, stage=node.stage)
        return made, sorted(axes, reverse=True)

    def common(self, operands: Iterable[int]) -> Axes:
        """The axes that every operand was given; a number was given all of its own."""
        known = [self.new_axes(u) for u in operands]
        return frozenset.intersection(*known)

    def new_axes(self, v: int) -> Axes:
        """The axes of length 1 that `expand` nodes have made, as axes of `v`."""
        left = list(range(-len(self.shape(v)), 0))
        found = set()
        while self.builder.nodes[v].op is expand:
            found.add(left.pop(self.builder.nodes[v].attributes["axis"]))
            (v,) = self.builder.operands[v]
        return frozenset(found)

    def grouped(self, node: Node, operands: Sequence[int]) -> list[int]:
        """Operands of a sum, those with the same new axes made one."""
        groups: dict[Axes, list[int]] = {}
        for u in operands:  # numbers stay outside, where rules and signs see them
            groups.setdefault(frozenset() if self.is_number(u) else self.new_axes(u), []).append(u)
        kept = groups.pop(frozenset(), [])
        for same in groups.values():
            if len(same) == 1:
                kept.append(same[0])
                continue
            made, axes = self.add(replace(node, origin=None), same)
            for axis in axes:
                made = self.builder.add(expand, [made], {"axis": axis}, stage=node.stage)
            kept.append(made)
        return kept

    def without_broadcasts(self, operands: Sequence[int]) -> Sequence[int]:
        """The operands of an elementwise operation, those not stretched that another one stretches anyway."""
        if not any(self.builder.nodes[u].op is broadcast for u in operands):
            return operands
        kept = list(operands)
        for k, u in enumerate(operands):
            inner = self.builder.operands[u][0] if self.builder.nodes[u].op is broadcast else None
            if inner is None or len(self.shape(inner)) != len(self.shape(u)):
                continue
            others = frozenset().union(*(self.long_axes(w) for j, w in enumerate(kept) if j != k))
            if self.long_axes(u) <= others | self.long_axes(inner):
                kept[k] = inner
                self.fired["drop a broadcast"] += 1
        return kept

    def drop(self, v: int, axes: Iterable[int]) -> int:
        """`v` without `axes`, all of length 1; an axis that an `expand` has made is simply not made."""
        due, outer = set(axes), list[int]()
        while due:
            node = self.builder.nodes[v]
            if node.op is not expand:
                for axis in sorted(due):  # from the left: the axes to the right keep their numbers
                    v = self.builder.add(squeeze, [v], {"axis": axis})
                break
            axis = node.attributes["axis"]
            (v,) = self.builder.operands[v]
            if axis in due:
                due.remove(axis)
            else:
                outer.append(axis + sum(1 for a in due if a > axis))
            due = {a + 1 if a < axis else a for a in due}
        for axis in reversed(outer):
            v = self.builder.add(expand, [v], {"axis": axis})
        return v

    def is_number(self, v: int) -> bool:
        """Whether `v` is a constant, with new axes or without."""
        while self.builder.nodes[v].op is expand:
            (v,) = self.builder.operands[v]
        return self.builder.nodes[v].op is const

    def long_axes(self, v: int) -> Axes:
        """The core axes along which `v` is longer than 1."""
        shape = self.shape(v)
        return frozenset(k - len(shape) for k, d in enumerate(shape) if d != 1)

    def shape(self, v: int) -> tuple[Size, ...]:
        """The core shape of a node."""
        return self.builder.nodes[v].type.shape
