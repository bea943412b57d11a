"""Elementwise operations before new axes, broadcasts and transpositions instead of after them.

Fewer elements are computed, and the transposed value, which others may use as it is, is computed once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder, Node
from sym2tf.ir.op import Op
from sym2tf.ops.indexing import broadcast, expand, squeeze, transpose
from sym2tf.ops.leaves import const

Axes = frozenset[int]  # negative
Move = tuple[Op, Mapping[str, Any]]  # a movement of axes and its attributes


class Elementwise:
    """Adds elementwise operations to `builder`, each on as few elements as it needs."""

    def __init__(self, builder: Builder, fired: Counter[str], *, exact: bool) -> None:
        self.builder = builder
        self.fired = fired
        self.exact = exact

    def add(self, node: Node, operands: Sequence[int]) -> tuple[int, list[Move]]:
        """`node` on `operands`: the new node, and the movements of axes that it still lacks, in order."""
        operands = self.without_broadcasts(operands)
        axes = self.common(operands)
        if axes:
            operands = [self.drop(u, axes) for u in operands]
            self.fired["before new axes"] += 1
        moves: list[Move] = [(expand, {"axis": axis}) for axis in sorted(axes, reverse=True)]
        moved = [u for u in operands if any(d != 1 for d in self.shape(u))]
        turned = {self.turn(u) for u in moved}
        if len(turned) == 1 and None not in turned:
            (order,) = turned
            operands = [self.builder.operands[u][0] if u in moved else u for u in operands]
            moves.insert(0, (transpose, {"axes": order}))
            self.fired["before a transposition"] += 1
        if node.op.associative and node.op.commutative and not self.exact and len(operands) > 2:
            operands = self.grouped(node, operands)
        made = self.builder.add(node.op, operands, node.attributes, origin=node.origin, stage=node.stage)
        return made, moves

    def turn(self, v: int) -> tuple[int, ...] | None:
        """The order of axes if `v` transposes all of its axes."""
        node = self.builder.nodes[v]
        axes: tuple[int, ...] | None = node.attributes["axes"] if node.op is transpose else None
        return axes if axes is not None and len(axes) == len(self.shape(v)) else None

    def common(self, operands: Sequence[int]) -> Axes:
        """The axes that an operand was given and along which no other is longer; a number was given all of its own."""
        given = [self.new_axes(u) for u in operands if not self.is_number(u)]
        known = [self.new_axes(u) for u in operands]
        short = frozenset.intersection(*(_short(self.shape(u)) for u in operands))
        return short & frozenset().union(*(given or known))

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
            made, moves = self.add(replace(node, origin=None), same)
            for op, attributes in moves:
                made = self.builder.add(op, [made], attributes, stage=node.stage)
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


def _short(shape: Sequence[Size]) -> Axes:
    """The axes of length 1."""
    return frozenset(k - len(shape) for k, d in enumerate(shape) if d == 1)
