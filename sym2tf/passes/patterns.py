"""Patterns and rules: mathematics with wildcards, written with the operators and rows that graph values use.

    a, b, c = wild("a b c")
    Rule("factor", a*b + a*c, a*(b + c))

A wildcard that occurs twice stands for the same node both times (the graph is hash-consed, so this is a comparison
of integers). In an n-ary sum or product at the root of a rule, what the pattern does not name stays outside; below
the root, the last bare wildcard of a sum or product takes all that the other parts leave.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from sym2tf.ir.graph import Node
from sym2tf.ir.op import Attributes, Op
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.leaves import Exact, exact
from sym2tf.ops.values import Arithmetic, Value

Condition = Callable[[Value], bool]
Bindings = dict[str, Any]  # name of a wildcard -> node id, or `Attribute`

WIDEST = 256  # operands of an n-ary node below the root of a pattern; wider ones are not searched
CHOICES = 32  # operands that one part of a pattern tries


@dataclass(frozen=True)
class Attribute:
    """What a wildcard is bound to that stands for an attribute."""

    value: Any


class Pattern(Arithmetic):
    """A wildcard, a number, or an operation on patterns."""

    __slots__ = ()

    def apply(self, op: Op, operands: Sequence[Any], attributes: Attributes) -> Pattern:
        """The pattern `op(*operands)`; nested sums and products become flat, as they are in the graph."""
        return _term(op, [o if isinstance(o, Pattern) else Number(exact(o)) for o in operands], attributes)


@dataclass(frozen=True, eq=False)
class Wild(Pattern):
    """Stands for any one node that meets `condition`, or for any value of an attribute."""

    name: str
    condition: Condition | None = None


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """An exact constant, also where it is stretched to a larger shape."""

    value: Exact


@dataclass(frozen=True, eq=False)
class Term(Pattern):
    """An operation on patterns; a wildcard may stand for the value of an attribute."""

    op: Op
    operands: tuple[Pattern, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all wildcards inside."""
        found = {a.name for a in self.attributes.values() if isinstance(a, Wild)}
        return frozenset(found.union(*(names_of(p) for p in self.operands)))

    @cached_property
    def ordered(self) -> tuple[Pattern, ...]:
        """The operands, the most telling first: numbers, terms with the most structure, bare wildcards last."""
        return tuple(sorted(self.operands, key=_vagueness))


def wild(names: str, condition: Condition | None = None) -> Any:
    """Wildcards with the given names, all under one condition: one name gives a `Wild`, several a tuple."""
    made = tuple(Wild(name, condition) for name in names.split())
    return made[0] if len(made) == 1 else made


@dataclass(frozen=True)
class Rule:
    """`left` may be replaced by `right`.

    Attributes:
        name: unique in its table; reports and tests call the rule by it.
        left: a term.
        right: a number, a pattern with wildcards of `left`, or a function that takes them by name (as graph
            values; wildcards of attributes as plain values) and returns a graph value, a number, or None where the
            rule does not apply.
        where: a further condition on wildcards, which it takes by name.
        single_use: for how many levels below the root of `left` (True: one) the operations may have no other user;
            for rules that would not pay if these had to stay.
    """

    name: str
    left: Any
    right: Any
    where: Callable[..., bool] | None = None
    single_use: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.left, Term):
            raise ValueError(f"rule {self.name!r}: the left side is not an operation on patterns")
        if not isinstance(self.right, Pattern) and not callable(self.right):
            object.__setattr__(self, "right", Number(exact(self.right)))
        asked = names_of(self.right) if isinstance(self.right, Pattern) else frozenset(self.right_names)
        unknown = (asked | frozenset(self.where_names)) - self.left.names
        if unknown:
            raise ValueError(f"rule {self.name!r}: the left side does not bind {', '.join(sorted(unknown))}")

    @cached_property
    def required(self) -> frozenset[Op]:
        """The operations that must stand directly below the root of the left side."""
        return frozenset(part.op for part in self.left.operands if isinstance(part, Term))

    @cached_property
    def plan(self) -> tuple[Pattern, tuple[Pattern, ...], tuple[bool, ...]]:
        """How to search the operands of an n-ary node: the part to begin with, the others, and which must be private.

        It begins with the most telling term; the last column has one entry for each part, in that order.
        """
        parts = self.left.ordered
        at = next((k for k, p in enumerate(parts) if isinstance(p, Term)), len(parts) - 1)
        anchor, others = parts[at], parts[:at] + parts[at + 1 :]
        return anchor, others, tuple(isinstance(p, Term) and bool(self.single_use) for p in (anchor, *others))

    @cached_property
    def right_names(self) -> tuple[str, ...]:
        """The wildcards that a function on the right asks for."""
        return _parameters(self.right) if callable(self.right) else ()

    @cached_property
    def where_names(self) -> tuple[str, ...]:
        """The wildcards that `where` asks for."""
        return _parameters(self.where) if self.where is not None else ()


class Growing(Protocol):
    """What a pattern is matched against: the graph that a rewriter is building."""

    nodes: list[Node]
    operands: list[tuple[int, ...]]
    constants: list[Exact | None]

    def instantiate(self, pattern: Pattern, bindings: Bindings) -> int | None:
        """The node that a pattern with all wildcards bound stands for; None where the types do not allow it."""
        ...

    def some_of(self, op: Op, operands: tuple[int, ...]) -> int:
        """The node of `op` on some of the operands of a node that there is."""
        ...


def match(graph: Growing, pattern: Pattern, v: int, bindings: Bindings) -> Iterator[Bindings]:
    """All ways (a bounded number) in which `pattern` is node `v`, each as `bindings` with the new wildcards added."""
    return _match_all(graph, ((pattern, v),), bindings)


def names_of(pattern: Any) -> frozenset[str]:
    """The names of the wildcards in a pattern."""
    if isinstance(pattern, Term):
        return pattern.names
    return frozenset((pattern.name,)) if isinstance(pattern, Wild) else frozenset()


def _match_all(graph: Growing, goals: tuple[tuple[Pattern, int], ...], bindings: Bindings) -> Iterator[Bindings]:
    if not goals:
        yield bindings
        return
    (pattern, v), rest = goals[0], goals[1:]
    if isinstance(pattern, Wild):
        bound = _bind(graph, pattern, v, bindings)
        if bound is not None:
            yield from _match_all(graph, rest, bound)
    elif isinstance(pattern, Number):
        if same_number(graph.constants[v], pattern.value):
            yield from _match_all(graph, rest, bindings)
    else:
        assert isinstance(pattern, Term)
        node = graph.nodes[v]
        if node.op is not pattern.op:
            return
        bound = _bind_attributes(pattern.attributes, node.attributes, bindings)
        if bound is None:
            return
        operands = graph.operands[v]
        if node.op.associative:
            if len(pattern.operands) <= len(operands) <= WIDEST:
                for found in _match_parts(graph, node.op, pattern.ordered, operands, bound):
                    yield from _match_all(graph, rest, found)
        elif len(operands) == len(pattern.operands):
            yield from _match_all(graph, (*zip(pattern.operands, operands, strict=True), *rest), bound)
            if node.op.commutative:
                turned = zip(pattern.operands, reversed(operands), strict=True)
                yield from _match_all(graph, (*turned, *rest), bound)


def _match_parts(
    graph: Growing, op: Op, parts: tuple[Pattern, ...], operands: tuple[int, ...], bindings: Bindings
) -> Iterator[Bindings]:
    """`op(*parts)` against `op(*operands)`, every operand used; a wildcard as last part takes what is left."""
    part, others = parts[0], parts[1:]
    if not others:
        if len(operands) == 1:
            yield from _match_all(graph, ((part, operands[0]),), bindings)
        elif isinstance(part, Wild):
            yield from _match_all(graph, ((part, graph.some_of(op, operands)),), bindings)
        return
    tried = 0
    for k in range(len(operands) - 1, -1, -1):  # the newest first: of nested conditions, the innermost
        u = operands[k]
        if not _may_match(graph, part, u, bindings):
            continue
        for bound in _match_all(graph, ((part, u),), bindings):
            yield from _match_parts(graph, op, others, operands[:k] + operands[k + 1 :], bound)
        tried += 1
        if tried >= CHOICES:
            return


def _may_match(graph: Growing, part: Pattern, u: int, bindings: Bindings) -> bool:
    if isinstance(part, Term):
        return graph.nodes[u].op is part.op
    if isinstance(part, Number):
        return graph.constants[u] is not None
    assert isinstance(part, Wild)
    return bindings.get(part.name, u) == u


def _bind(graph: Growing, pattern: Wild, v: int, bindings: Bindings) -> Bindings | None:
    if pattern.name in bindings:
        return bindings if bindings[pattern.name] == v else None
    if pattern.condition is not None and not pattern.condition(Value(graph, v)):  # type: ignore[arg-type]
        return None
    return {**bindings, pattern.name: v}


def _bind_attributes(pattern: Mapping[str, Any], attributes: Attributes, bindings: Bindings) -> Bindings | None:
    for key, due in pattern.items():
        value = attributes[key]
        if not isinstance(due, Wild):
            if value != due:
                return None
        elif due.name not in bindings:
            bindings = {**bindings, due.name: Attribute(value)}
        elif bindings[due.name] != Attribute(value):
            return None
    return bindings


def same_number(a: Exact | None, b: Exact) -> bool:
    """Whether two exact constants are the same; True is not 1 and -0.0 is not 0."""
    return type(a) is type(b) and (a == b or a is b)


def _term(op: Op, operands: list[Pattern], attributes: Attributes) -> Pattern:
    if op.associative:
        operands = [p for o in operands for p in (o.operands if isinstance(o, Term) and o.op is op else (o,))]
    if op in (add, mul):
        assert op.numpy is not None
        numbers = [o.value for o in operands if isinstance(o, Number)]
        if len(numbers) > 1:
            value = op.numpy(*numbers)
            operands = [o for o in operands if not isinstance(o, Number)]
            if not operands or value != (1 if op is mul else 0):
                operands.insert(0, Number(exact(value)))
            if len(operands) == 1:
                return operands[0]
    return Term(op, tuple(operands), dict(attributes))


def _vagueness(pattern: Pattern) -> tuple[int, int]:
    if isinstance(pattern, Number):
        return 0, 0
    if isinstance(pattern, Term):
        return 1, -_size(pattern)
    return 2, 0 if isinstance(pattern, Wild) and pattern.condition is not None else 1


def _size(pattern: Pattern) -> int:
    return 1 + sum(map(_size, pattern.operands)) if isinstance(pattern, Term) else 0


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)
