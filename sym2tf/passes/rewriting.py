"""The rewrite engine: rebuilds a graph bottom-up and simplifies every node as it is made.

One rebuild flattens nested sums and products that have no other user, folds constants, collects like terms and
powers, and applies the rules; what a rule puts in place of a node is made in the same way. The rebuild is repeated
until it changes nothing, which is usually the second time, so that the result is a fixed point. Everything is
iterative in the depth of the graph and linear in its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sym2tf.errors import ShapeError
from sym2tf.ir.graph import Builder, Graph, Node
from sym2tf.ir.op import Op
from sym2tf.ir.types import TensorType
from sym2tf.ops.arithmetic import add, mul, pow_
from sym2tf.ops.indexing import broadcast, expand
from sym2tf.ops.leaves import Exact, const
from sym2tf.ops.values import Value, apply, constant, with_kind, with_rank, with_shape
from sym2tf.passes.facts import Facts, facts_of, facts_of_number
from sym2tf.passes.folding import fold, merged_numbers, power_form, product_form, split_product, sum_form
from sym2tf.passes.patterns import CHOICES, Attribute, Bindings, Number, Pattern, Rule, Term, Wild, match

ROUNDS = 16
NESTING = 48  # simplifications inside one another, such as a rule on the right side of a rule
FUEL = 256  # rules that may fire for one node of the source, besides a few for each of its operands
FUEL_PER_NODE = 16  # rules that may fire in all rounds together, for each node of the source


def rewrite(graph: Graph, rules: Sequence[Rule], *, collect: bool = True) -> tuple[Graph, Counter[str]]:
    """The graph with constants folded and `rules` applied until nothing changes.

    Args:
        graph: any valid graph.
        rules: tried in this order at every node.
        collect: also collect like terms and powers, which is right in exact arithmetic but, like any other order of
            summation, can change last digits, and infinities.

    Returns:
        The new graph, and how often each rule and each built-in simplification was applied. Nodes that survive keep
        their origin and stage; new ones take those of the node they replace.
    """
    table = _by_root(rules)
    source = _Source.of(graph)
    total: Counter[str] = Counter()
    budget = FUEL + FUEL_PER_NODE * len(source.nodes)
    for _ in range(ROUNDS):
        rewriter = Rewriter(table, collect=collect, budget=budget)
        result = rewriter.rebuild(source)
        total += rewriter.fired
        budget = rewriter.budget
        if result.same_as(source):
            break
        source = result
    builder = Builder()
    builder.nodes, builder.operands = source.nodes, source.operands  # each distinct node stands there once
    return builder.build(source.inputs, source.outputs, graph.info), total


@dataclass
class _Source:
    """A graph as lists, operands before users, without nodes that nothing needs."""

    nodes: list[Node]
    operands: list[tuple[int, ...]]
    inputs: list[int]
    outputs: dict[str, int]

    @staticmethod
    def of(graph: Graph) -> _Source:
        position = {v: k for k, v in enumerate(graph.order)}
        nodes = [graph[v] for v in graph.order]
        operands = [tuple(position[u] for u in graph.operands(v)) for v in graph.order]
        outputs = {name: position[v] for name, v in graph.outputs.items()}
        return _Source.alive(nodes, operands, [position[v] for v in graph.inputs], outputs)

    @staticmethod
    def alive(
        nodes: list[Node], operands: list[tuple[int, ...]], inputs: list[int], outputs: Mapping[str, int]
    ) -> _Source:
        needed = bytearray(len(nodes))
        for v in (*inputs, *outputs.values()):
            needed[v] = 1
        for v in range(len(nodes) - 1, -1, -1):
            if needed[v]:
                for u in operands[v]:
                    needed[u] = 1
        place, kept = [0] * len(nodes), [v for v in range(len(nodes)) if needed[v]]
        for k, v in enumerate(kept):
            place[v] = k
        return _Source(
            [nodes[v] for v in kept],
            [tuple([place[u] for u in operands[v]]) for v in kept],
            [place[v] for v in inputs],
            {name: place[v] for name, v in outputs.items()},
        )

    def use_counts(self) -> list[int]:
        uses = [0] * len(self.nodes)
        for operands in self.operands:
            for u in operands:
                uses[u] += 1
        for v in self.outputs.values():
            uses[v] += 1
        return uses

    def same_as(self, other: _Source) -> bool:
        return (
            self.operands == other.operands
            and self.outputs == other.outputs
            and all(a is b or a == b for a, b in zip(self.nodes, other.nodes, strict=True))
        )


class Rewriter(Builder):
    """A builder that simplifies every node it is asked for; it may hand out another node of the same type."""

    def __init__(self, rules: Mapping[Op, Sequence[Rule]], *, collect: bool = True, budget: int = FUEL) -> None:
        super().__init__()
        self.rules = rules
        self.collect = collect
        self.fired: Counter[str] = Counter()
        self.constants: list[Exact | None] = []  # per node: the number that it holds everywhere
        self.coefficients: list[tuple[Fraction, tuple[int, ...]] | None] = []  # per node: c and rest of a c*rest
        self.facts: list[Facts] = []
        self.private = bytearray()  # per node: whether it stands for a node of the source that has one user
        self._made: dict[Hashable, int] = {}
        self._nesting = 0
        self._muted = 0
        self.budget = budget  # rules that may still fire
        self._fuel = FUEL

    # Building

    def rebuild(self, source: _Source) -> _Source:
        """`source` with every node simplified, operands first."""
        uses = source.use_counts()
        absorbed = _absorbed(source, uses)
        where = [-1] * len(source.nodes)
        for v, node in enumerate(source.nodes):
            if absorbed[v]:
                continue
            operands = source.operands[v]
            if any(absorbed[u] for u in operands):
                operands = _leaves(source, v, absorbed)
                self.count("flatten")
            self._fuel = FUEL + 4 * len(operands)
            self.origin, self.stage = node.origin, node.stage
            newest = len(self.nodes)
            made = self.add(node.op, [where[u] for u in operands], node.attributes)
            where[v] = made
            self.private[made] = uses[v] == 1 and made >= newest  # an older node stands for other ones already
        outputs = {name: where[v] for name, v in source.outputs.items()}
        return _Source.alive(self.nodes, self.operands, [where[v] for v in source.inputs], outputs)

    def add(
        self,
        op: Op,
        operands: Iterable[int] = (),
        attributes: Mapping[str, Any] | None = None,
        *,
        origin: Any = None,
        stage: str | None = None,
    ) -> int:
        """The node for `op` on `operands`, simplified; its type is the one that `op` infers."""
        operands = tuple(sorted(operands)) if op.commutative else tuple(operands)
        attributes = attributes or {}
        key = (op, operands, *((k, type(a), a) for k, a in attributes.items()))
        v = self._made.get(key)
        if v is None:
            if not operands or self._nesting >= NESTING:
                v = self._plain(op, operands, attributes)
            else:
                self._nesting += 1
                try:
                    v = self._simplified(op, operands, attributes)
                finally:
                    self._nesting -= 1
            self._made[key] = v
        return v

    def number(self, value: Exact, type: TensorType) -> int:
        """An exact constant of the kind and rank of `type`."""
        return with_rank(constant(self, value, type.kind), type.rank).id

    def count(self, name: str) -> None:
        """Note that a simplification was made, unless only a comparison asked for it."""
        if not self._muted:
            self.fired[name] += 1

    def instantiate(self, pattern: Pattern, bindings: Bindings) -> int | None:
        """The node that `pattern` stands for, to compare with; None where the types do not allow it."""
        self._muted += 1
        try:
            return self._term(pattern, bindings).id
        except ShapeError:
            return None
        finally:
            self._muted -= 1

    def some_of(self, op: Op, operands: tuple[int, ...]) -> int:
        """The node of `op` on some of the operands of a node that there is: nothing is left to simplify in it."""
        return self._plain(op, tuple(sorted(operands)) if op.commutative else operands, {})

    def _plain(self, op: Op, operands: tuple[int, ...], attributes: Mapping[str, Any]) -> int:
        v = super().add(op, operands, attributes)
        if v == len(self.constants):
            node = self.nodes[v]
            self.private.append(0)
            value = node.attributes["value"] if op is const else None
            if op is expand or op is broadcast:
                value = self.constants[operands[0]]
            self.constants.append(value)
            self.coefficients.append(split_product(self, operands, node.type) if op is mul else None)
            self.facts.append(
                facts_of(node, [self.facts[u] for u in operands], [self.constants[u] for u in operands])
                if value is None
                else facts_of_number(value)
            )
        return v

    # Simplifying

    def _simplified(self, op: Op, operands: tuple[int, ...], attributes: Mapping[str, Any]) -> int:
        due = op.infer(*(self.nodes[u].type for u in operands), **attributes)
        if op.elementwise and op.arity is not None:
            values = [self.constants[u] for u in operands]
            if None not in values:
                folded = fold(op, values, attributes)  # type: ignore[arg-type]
                if folded is not None:
                    self.count("fold constants")
                    return self._fitted(self.number(folded, due), due)
        if op is add:
            operands = sum_form(self, operands, due)
        elif op is mul:
            operands = product_form(self, operands, due)
        elif op is pow_:
            power = power_form(self, *operands)
            if power is not None:
                return self._fitted(power, due)
        elif op.associative:
            operands = merged_numbers(self, op, operands, due)
        if op.associative:
            if len(operands) == 1:
                return self._fitted(operands[0], due)
            rules = self.rules.get(op)
            if rules:
                reduced = self._reduce(op, operands, due, rules)
                if reduced is not None:
                    return self._fitted(self.add(op, reduced) if len(reduced) > 1 else reduced[0], due)
            return self._fitted(self._plain(op, tuple(sorted(operands)), attributes), due)
        for rule in self.rules.get(op, ()):
            for bindings in self._matches(rule, op, operands, attributes):
                v = self._right(rule, bindings, due)
                if v is not None:
                    return self._fitted(v, due)
        return self._plain(op, operands, attributes)

    def _fitted(self, v: int, due: TensorType) -> int:
        type_ = self.nodes[v].type
        if type_ == due:
            return v
        return with_shape(with_kind(Value(self, v), due.kind), due.shape).id

    def _matches(
        self, rule: Rule, op: Op, operands: tuple[int, ...], attributes: Mapping[str, Any]
    ) -> Iterator[Bindings]:
        v = self._plain(op, operands, attributes)
        for bindings in match(self, rule.left, v, {}):
            if self._holds(rule, bindings) and (not rule.single_use or self._stands_alone(rule, bindings)):
                yield bindings

    def _holds(self, rule: Rule, bindings: Bindings) -> bool:
        return rule.where is None or rule.where(**self._chosen(rule.where_names, bindings))

    def _stands_alone(self, rule: Rule, bindings: Bindings) -> bool:
        """Whether nothing else uses the operations that the rule would replace, as many levels deep as it asks."""
        level: list[Pattern] = list(rule.left.operands)
        for _ in range(rule.single_use):
            terms = [part for part in level if isinstance(part, Term)]
            for part in terms:
                v = self.instantiate(part, bindings)
                if v is None or not self.private[v]:
                    return False
            level = [inner for part in terms for inner in part.operands]
        return True

    def _right(self, rule: Rule, bindings: Bindings, due: TensorType) -> int | None:
        """What `rule` puts in place of its left side, of the kind and rank of `due`; None where it does not apply."""
        if self._fuel <= 0 or self.budget <= 0:
            return None
        if isinstance(rule.right, Pattern):
            right = self._term(rule.right, bindings)
        else:
            made = rule.right(**self._chosen(rule.right_names, bindings))
            if made is None:
                return None
            right = made if isinstance(made, Value) else constant(self, made)
        if right.type.kind > due.kind or right.type.rank > due.rank:
            return None
        self._fuel -= 1
        self.budget -= 1
        self.count(rule.name)
        return with_kind(with_rank(right, due.rank), due.kind).id

    def _chosen(self, names: Iterable[str], bindings: Bindings) -> dict[str, Any]:
        return {
            name: bound.value if isinstance(bound, Attribute) else Value(self, bound)
            for name, bound in ((name, bindings[name]) for name in names)
        }

    def _term(self, pattern: Pattern, bindings: Bindings) -> Value:
        if isinstance(pattern, Wild):
            return Value(self, bindings[pattern.name])
        if isinstance(pattern, Number):
            return constant(self, pattern.value)
        assert isinstance(pattern, Term)
        attributes = {k: bindings[a.name].value if isinstance(a, Wild) else a for k, a in pattern.attributes.items()}
        return apply(self, pattern.op, [self._term(p, bindings) for p in pattern.operands], attributes)

    # N-ary nodes

    def _reduce(
        self, op: Op, operands: tuple[int, ...], due: TensorType, rules: Sequence[Rule]
    ) -> tuple[int, ...] | None:
        """The operands after rules on some of them at a time, or None if no rule applies; linear in their number."""
        ops = {self.nodes[u].op for u in operands}
        rules = [r for r in rules if len(r.left.operands) <= len(operands) and r.required <= ops]
        if not rules:
            return None
        pool = _Pool(self, operands)
        stack = list(dict.fromkeys(operands))  # the newest first, so that nested branches collapse from inside
        changed = False
        while stack and self._fuel > 0:
            v = stack.pop()
            while pool.present[v]:
                made = self._reduce_at(pool, v, due, rules)
                if made is None:
                    break
                changed = True
                for u in self.operands[made] if self.nodes[made].op is op and made not in operands else (made,):
                    pool.put(u)
                    stack.append(u)
        return tuple(pool.present.elements()) if changed else None

    def _reduce_at(self, pool: _Pool, v: int, due: TensorType, rules: Sequence[Rule]) -> int | None:
        for rule in rules:
            anchor, others, costly = rule.plan
            if isinstance(anchor, Term) and anchor.op is not self.nodes[v].op:
                continue
            if costly[0] and not self.private[v]:
                continue
            for bound in match(self, anchor, v, {}):
                for bindings, used in self._partners(pool, others, bound, (v,)):
                    if not all(self.private[u] for u, must in zip(used, costly, strict=True) if must):
                        continue
                    if not self._holds(rule, bindings):
                        continue
                    if rule.single_use > 1 and not self._stands_alone(rule, bindings):
                        continue
                    newest = len(self.nodes)
                    made = self._right(rule, bindings, due)
                    if made is not None:
                        if made >= newest:
                            self.private[made] = 1
                        for u in used:
                            pool.take(u)
                        return made
        return None

    def _partners(
        self, pool: _Pool, parts: tuple[Pattern, ...], bindings: Bindings, used: tuple[int, ...]
    ) -> Iterator[tuple[Bindings, tuple[int, ...]]]:
        if not parts:
            yield bindings, used
            return
        tried = 0
        for u in pool.candidates(parts[0], bindings):
            if pool.present[u] <= used.count(u):
                continue
            for bound in match(self, parts[0], u, bindings):
                yield from self._partners(pool, parts[1:], bound, (*used, u))
            tried += 1
            if tried >= CHOICES:
                return


class _Pool:
    """The operands of an n-ary node while rules take some out and put others in; indexed for partners."""

    def __init__(self, rewriter: Rewriter, operands: Iterable[int]) -> None:
        self.rewriter = rewriter
        self.present: Counter[int] = Counter()
        self.by_op: dict[Op, list[int]] = {}
        self.by_operand: dict[tuple[Op, int], list[int]] = {}
        self.numbers: list[int] = []
        for v in operands:
            self.put(v)

    def put(self, v: int) -> None:
        self.present[v] += 1
        if self.present[v] > 1:
            return
        op = self.rewriter.nodes[v].op
        self.by_op.setdefault(op, []).append(v)
        if self.rewriter.constants[v] is not None:
            self.numbers.append(v)
        for u in set(self.rewriter.operands[v]):
            self.by_operand.setdefault((op, u), []).append(v)

    def take(self, v: int) -> None:
        self.present[v] -= 1

    def candidates(self, part: Pattern, bindings: Bindings) -> Iterator[int]:
        """Operands that may match `part`: a bounded number where the bindings leave a choice."""
        if isinstance(part, Number):
            return self._alive(self.numbers)
        if isinstance(part, Wild):
            bound = bindings.get(part.name)
            return self._alive(list(self.present)) if bound is None else iter((bound,))
        assert isinstance(part, Term)
        if part.names <= bindings.keys():
            v = self.rewriter.instantiate(part, bindings)
            return iter(() if v is None else (v,))
        for inner in part.operands:
            known = isinstance(inner, Wild) and inner.name in bindings
            if known or (isinstance(inner, Term) and inner.names and inner.names <= bindings.keys()):
                u = self.rewriter.instantiate(inner, bindings)
                return self._alive(self.by_operand.get((part.op, -1 if u is None else u), []))
        return self._alive(self.by_op.get(part.op, []))

    def _alive(self, listed: list[int]) -> Iterator[int]:
        while listed and not self.present[listed[-1]]:
            listed.pop()
        return reversed(listed[-4 * CHOICES :])


def _by_root(rules: Sequence[Rule]) -> dict[Op, list[Rule]]:
    table: dict[Op, list[Rule]] = {}
    for rule in rules:
        table.setdefault(rule.left.op, []).append(rule)
    return table


def _absorbed(source: _Source, uses: Sequence[int]) -> bytearray:
    """Which nodes are operands of one node only, of the same associative operation: they dissolve in it."""
    absorbed = bytearray(len(source.nodes))
    for v, node in enumerate(source.nodes):
        if node.op.associative:
            for u in source.operands[v]:
                if uses[u] == 1 and source.nodes[u].op is node.op and source.nodes[u].type.kind == node.type.kind:
                    absorbed[u] = 1
    return absorbed


def _leaves(source: _Source, v: int, absorbed: bytearray) -> tuple[int, ...]:
    found: list[int] = []
    stack = list(source.operands[v])
    while stack:
        u = stack.pop()
        if absorbed[u]:
            stack.extend(source.operands[u])
        else:
            found.append(u)
    return tuple(found)
