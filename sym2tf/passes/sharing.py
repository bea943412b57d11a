"""Finds partial sums and products that several n-ary nodes have in common, and computes each once.

Equal nodes are one node already (the builder hash-conses, commutative operands in canonical order). What is
left is `a + b` inside both `c + a + b` and `a + b + d`. Three steps, all on the *rows* of one operation, a
row being the multiset of operands of one node:

1. a row used by one node of the same operation alone is merged into it;
2. operands that stand in exactly the same rows are one group (one hash of the list of rows: linear);
3. pairs that stand in two rows or more are extracted, the most frequent first, as in Paar's algorithm for
   shared linear programs (C. Paar, ISIT 1997). Pairs are looked for among `WINDOW` neighbours only,
   operands of similar rows being neighbours, so that a sum of 50 000 terms costs 50 000 times a constant.

No step adds operations: what stands in m rows saves (m - 1) times its length less 1. Only operands of one
core shape are paired: `(A*s)*t` on a large `A` and small `s`, `t` costs two large products, `A*(s*t)` only
one.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import combinations

from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.op import Op
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.leaves import NUMBERS, const
from sym2tf.ops.logic import and_, or_
from sym2tf.ops.piecewise_linear import max_, min_
from sym2tf.passes.counting import constant_value, use_counts

WINDOW = 24
ROUNDS = 8
EXACT_OPS = (and_, or_, max_, min_)
Rows = dict[int, list[int]]  # node -> its operands
NAMES = {add: "shared partial sum", mul: "shared partial product"}


def share(graph: Graph, *, exact: bool = False) -> tuple[Graph, Counter[str]]:
    """`graph` with its shared partial sums and products found, and how many there were.

    Args:
        graph: any valid graph.
        exact: leave sums and products of numbers alone, whose grouping changes the last digit.
    """
    fired: Counter[str] = Counter()
    ops = EXACT_OPS if exact else (add, mul, *EXACT_OPS)
    for _ in range(ROUNDS):  # each lowers the count of operations; nearly always the second finds nothing
        rows, found = _rows(graph, ops)
        tables = {op: _Table(graph, op) for op in rows}
        for op, table in tables.items():
            table.fill(rows[op])
            table.group()
            table.extract_pairs()
            if table.parts:
                found[NAMES.get(op, f"shared partial {op.name}")] += len(table.parts)
        if not found:
            break
        graph = _rebuild(graph, tables)
        fired += found
    return graph, fired


def _rows(graph: Graph, ops: Iterable[Op]) -> tuple[dict[Op, Rows], Counter[str]]:
    """The operands of every node of each operation; what only one of its own kind uses is merged there.

    Not what has fewer elements, nor what is constant: the machine pass groups these on purpose.
    """
    rows: dict[Op, Rows] = {op: {} for op in ops}
    uses = use_counts(graph)
    merged: Counter[str] = Counter()
    constants: set[int] = set()
    for v in graph.order:
        node, operands = graph[v], graph.operands(v)
        if node.op is const or node.op in NUMBERS or (operands and constants.issuperset(operands)):
            constants.add(v)
        of_kind = rows.get(node.op)
        if of_kind is None:
            continue
        row: list[int] = []
        for u in operands:
            inner = of_kind.get(u) if uses[u] == 1 and u not in constants else None
            if inner is None or graph[u].type != node.type:
                row.append(u)
                continue
            del of_kind[u]
            merged["flatten"] += 1
            if len(inner) > len(row):  # extend the longer list: a chain of n sums costs n, not n squared
                row, inner = inner, row
            row += inner
        of_kind[v] = row
    return {op: of_kind for op, of_kind in rows.items() if of_kind}, merged


@dataclass
class _Table:
    """The rows of one operation. Items are numbers: operands first (k-th copies apart), then groups."""

    graph: Graph
    op: Op
    leaves: list[int] = field(default_factory=list)  # item -> node, for items that are operands
    parts: dict[int, tuple[int, ...]] = field(default_factory=dict)  # item -> items, for groups
    shapes: list[Hashable] = field(default_factory=list)  # item -> core shape
    members: list[list[int]] = field(default_factory=list)  # item -> rows that hold it
    rows: dict[int, dict[int, None]] = field(default_factory=dict)  # node -> items, an ordered set
    full: Counter[int] = field(default_factory=Counter)  # node -> items that have its own core shape

    def fill(self, rows: Rows) -> None:
        """Number the operands of all rows."""
        number: dict[tuple[int, int], int] = {}
        for v, operands in rows.items():
            copies: Counter[int] = Counter()
            items = self.rows[v] = {}
            for u in operands:
                key = (u, copies[u])
                copies[u] += 1
                item = number.get(key)
                if item is None:
                    item = number[key] = len(self.leaves)
                    self.leaves.append(u)
                    self.shapes.append(self.graph[u].type.shape)
                    self.members.append([])
                self.members[item].append(v)
                items[item] = None
                self.full[v] += self.shapes[item] == self.graph[v].type.shape

    def shared_items(self) -> list[int]:
        """The items that stand in more than one row; not a sign, which subtraction gives for nothing."""
        return [item for item, rows in enumerate(self.members) if len(rows) > 1 and not self._is_sign(item)]

    def _is_sign(self, item: int) -> bool:
        is_leaf = self.op is mul and item < len(self.leaves)
        return is_leaf and constant_value(self.graph, self.leaves[item]) == -1

    def group(self) -> None:
        """Make one item of all items that stand in exactly the same rows."""
        classes: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for item in self.shared_items():
            classes[tuple(self.members[item])].append(item)
        for rows, items in classes.items():
            by_shape: defaultdict[Hashable, list[int]] = defaultdict(list)
            for item in items:
                by_shape[self.shapes[item]].append(item)
            merged = [self._join(same, rows) if len(same) > 1 else same[0] for same in by_shape.values()]
            if len(merged) > 1 and all(self._saves_full_size(v, merged) for v in rows):
                self._join(merged, rows)

    def _saves_full_size(self, v: int, group: list[int]) -> bool:
        """Whether row `v` is the group alone, or holds more of its own full size outside of it."""
        full = self.graph[v].type.shape
        inside = sum(self.shapes[item] == full for item in group)
        return len(self.rows[v]) == len(group) or self.full[v] > inside

    def _join(self, items: list[int], rows: Iterable[int]) -> int:
        joined = self._new(tuple(items))
        for v in rows:
            row, full = self.rows[v], self.graph[v].type.shape
            for item in items:
                del row[item]
                self.full[v] -= self.shapes[item] == full
            row[joined] = None
            self.full[v] += self.shapes[joined] == full
            self.members[joined].append(v)
        for item in items:
            self.members[item] = []
        return joined

    def _new(self, parts: tuple[int, ...]) -> int:
        item = len(self.shapes)
        self.parts[item] = parts
        shapes = {self.shapes[part] for part in parts}
        self.shapes.append(shapes.pop() if len(shapes) == 1 else ("mixed", item))
        self.members.append([])
        return item

    def extract_pairs(self) -> None:
        """Replace pairs that stand in several rows by one item, the most frequent pair first."""
        ranked = sorted(self.shared_items(), key=lambda item: (self.members[item], item))
        rank = {item: k for k, item in enumerate(ranked)}
        cells: list[set[int]] = []  # the items of one row that are of one shape and near each other in rank
        owners: list[int] = []
        for v, items in self.rows.items():
            known = [item for item in items if item in rank]
            wide = len(known) > WINDOW
            places: defaultdict[Hashable, set[int]] = defaultdict(set)
            for item in known:
                places[self.shapes[item], rank[item] // WINDOW if wide else 0].add(item)
            cells += [cell for cell in places.values() if len(cell) > 1]
            owners += [v] * (len(cells) - len(owners))
        before = [set(cell) for cell in cells]
        _greedy(cells, self._new)
        for v, old, now in zip(owners, before, cells, strict=True):
            for item in sorted(old - now):
                del self.rows[v][item]
            self.rows[v].update(dict.fromkeys(sorted(now - old)))


def _greedy(cells: list[set[int]], new: Callable[[tuple[int, ...]], int]) -> None:
    """Extract pairs from `cells` in place until no pair stands in two of them."""
    counts: Counter[tuple[int, int]] = Counter()
    for cell in cells:
        counts.update(combinations(sorted(cell), 2))
    holders: dict[tuple[int, int], set[int]] = {pair: set() for pair, count in counts.items() if count > 1}
    for k, cell in enumerate(cells):
        for pair in combinations(sorted(cell), 2):
            if pair in holders:  # most pairs stand in one row only
                holders[pair].add(k)
    heap = [(-len(where), pair) for pair, where in holders.items()]
    heapq.heapify(heap)
    while heap:
        count, pair = heapq.heappop(heap)
        where = holders[pair]
        if len(where) != -count:  # grown smaller since it was pushed
            if len(where) > 1:
                heapq.heappush(heap, (-len(where), pair))
            continue
        del holders[pair]
        joined, fresh = new(pair), defaultdict[int, set[int]](set)
        for k in where:
            cell = cells[k]
            cell.difference_update(pair)
            for other in cell:
                for item in pair:
                    holders.get((min(item, other), max(item, other)), set()).discard(k)
                fresh[other].add(k)
            cell.add(joined)
        for other, among in fresh.items():
            if len(among) > 1:
                holders[other, joined] = among
                heapq.heappush(heap, (-len(among), (other, joined)))


def _rebuild(graph: Graph, tables: dict[Op, _Table]) -> Graph:
    builder, where = Builder(), dict[int, int]()
    makers = {op: _Maker(builder, where, table) for op, table in tables.items()}
    for v in graph.order:
        op = graph[v].op
        if op not in makers:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
        elif v in tables[op].rows:  # otherwise it was merged into its only user
            where[v] = makers[op].row(graph, v)
    return builder.build(
        [where[v] for v in graph.inputs], {name: where[v] for name, v in graph.outputs.items()}, graph.info
    )


class _Maker:
    """Adds the rows and groups of one table to a new graph, each group once and when a row first needs it."""

    def __init__(self, builder: Builder, where: dict[int, int], table: _Table) -> None:
        self.builder = builder
        self.where = where
        self.table = table
        self.made: dict[int, int] = {}
        uses: Counter[int] = Counter()
        for items in (*table.rows.values(), *table.parts.values()):
            uses.update(iter(items))
        self.inlined = {item for item in table.parts if uses[item] == 1}

    def row(self, graph: Graph, v: int) -> int:
        """The new node for row `v`; a row that is one group is that group."""
        node = graph[v]
        items = self._flat(self.table.rows[v])
        operands = [self._item(item, node.stage) for item in items]
        if len(operands) == 1:
            return operands[0]
        return self.builder.add(node.op, operands, node.attributes, origin=node.origin, stage=node.stage)

    def _item(self, item: int, stage: str) -> int:
        """The node for an item; the groups it needs are made in the order of their numbers, parts first."""
        if item not in self.table.parts:
            return self.where[self.table.leaves[item]]
        due, stack = {item}, [item]
        while stack:
            for part in self._flat(self.table.parts[stack.pop()]):
                if part in self.table.parts and part not in self.made and part not in due:
                    due.add(part)
                    stack.append(part)
        for group in sorted(due):
            if group not in self.made:
                operands = [
                    self.made[part] if part in self.made else self.where[self.table.leaves[part]]
                    for part in self._flat(self.table.parts[group])
                ]
                self.made[group] = self.builder.add(self.table.op, operands, stage=stage)
        return self.made[item]

    def _flat(self, items: Iterable[int]) -> list[int]:
        """`items`, with the groups that nothing else uses replaced by their parts."""
        flat, stack = [], list(items)
        while stack:
            item = stack.pop()
            if item in self.inlined:
                stack += self.table.parts[item]
            else:
                flat.append(item)
        return flat
