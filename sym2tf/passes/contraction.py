"""Brings products and sums over axes into normal form, contracts them in the best order, and drops unit tensors.

`Sum(c*x[i])` becomes `c*Sum(x[i])`, `Sum(x[i]*y[j], i, j)` a product of two sums, `Sum(A[i, j]*x[j], j)` a
matrix-vector product, a sum of sums one sum, a sum over an axis of length 1 no sum at all, `A*B*v` two matrix-vector
products, `Trace(A*B)` the sum of an elementwise product, `A**-1*b` the solution of a system.

Nodes are read in order. A product, a sum or a movement of axes is not made at once but held as a monomial
(`monomials`) until something else needs its value; then `emission` makes the nodes. What several nodes use is made
where it stands, except what would be larger than its parts: outer products and unit tensors are handed on as they
are, since a sum further on may make them vanish. A sum of terms of which some hold a unit tensor is held as terms, and
contracted term by term. Terms with the same unit tensor are one term.

No other sum is split, because the terms may cancel: `Sum(x[i] - m)` is not `Sum(x[i]) - n*m`, which loses every digit
when m is the mean, and `Sum((y[i] - w*x[i] - b)**2)` is never multiplied out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder, Graph, Node
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, cast, mul
from sym2tf.ops.assembly import diag, eye
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import broadcast, expand, squeeze, sum_, transpose
from sym2tf.ops.leaves import const
from sym2tf.ops.logic import not_, select
from sym2tf.ops.values import Value
from sym2tf.passes.counting import use_counts
from sym2tf.passes.elementwise import Elementwise
from sym2tf.passes.emission import Emitter
from sym2tf.passes.monomials import (
    UNIT,
    Alphabet,
    Monomial,
    atom,
    contraction,
    diagonal,
    expanded,
    squeezed,
    stretched,
    summed,
    transposed,
    unit_tensor,
)

LONGEST = 48  # factors of a monomial that grows: longer ones are made, so that chains cost linear time
MOST_TERMS = 8
TRIGGERS = frozenset((sum_, broadcast, expand, squeeze, transpose, einsum, eye, diag))


def contract(
    graph: Graph, *, exact: bool = False, split: bool = False, sizes: Mapping[str, int] | None = None
) -> tuple[Graph, Counter[str]]:
    """`graph` with its sums of products in normal form; how often each step was taken.

    Args:
        graph: any valid graph.
        exact: only drop sums over axes of length 1 and unit tensors; everything else changes the order of a summation.
        split: also split a constant off a sum where the two may cancel: quicker, right in exact arithmetic.
        sizes: about how long axes are, for sizes that are symbols.
    """
    if not any(graph[v].op in TRIGGERS for v in graph.order):
        return graph, Counter()
    contractor = Contractor(graph, exact=exact, split=split, sizes=sizes or {})
    contractor.read()
    where = contractor.where
    result = contractor.builder.build(
        [contractor.made(where[v]) for v in graph.inputs],
        {name: contractor.made(where[v]) for name, v in graph.outputs.items()},
        graph.info,
    )
    if _same(graph, result):
        return graph, Counter()
    return result, contractor.fired or Counter({"axes moved": 1})


@dataclass
class Form:
    """A value that is not made yet: a sum of monomials, all with the same axes.

    Attributes:
        terms: at least one; several only where one of them holds a unit tensor.
        node: the record of the node that it stands for.
        made: the node of the new graph, once something has needed it.
    """

    terms: tuple[Monomial, ...]
    node: Node
    made: int = -1

    @property
    def has_eye(self) -> bool:
        """Whether a unit tensor is in it."""
        return any(m.eyes for m in self.terms)


class Contractor:
    """Reads a graph into a builder; `where` says for each node the new node, or its form."""

    def __init__(self, graph: Graph, *, exact: bool, split: bool, sizes: Mapping[str, int]) -> None:
        self.graph = graph
        self.exact = exact
        self.split = split
        self.builder = Builder()
        self.alphabet = Alphabet()
        self.fired: Counter[str] = Counter()
        self.emitter = Emitter(self.builder, self.alphabet, sizes, self.fired)
        self.elementwise = Elementwise(self.builder, self.fired, exact=exact)
        self.where: dict[int, int | Form] = {}
        self.uses = use_counts(graph)
        self.shared: set[int] = set()  # nodes of the new graph that several nodes of the old one use

    def read(self) -> None:
        """Takes every node in."""
        for v in self.graph.order:
            node = self.graph[v]
            operands = [self.where[u] for u in self.graph.operands(v)]
            self.builder.stage, self.builder.origin = node.stage, node.origin
            reader = _READERS.get(node.op)
            found = None if reader is None else reader(self, node, operands)
            if found is None:
                found = self.plain(node, [self.made(x) for x in operands])
            elif self.uses[v] > 1:
                found = self.settled(found)
            self.where[v] = found
            if self.uses[v] > 1 and isinstance(found, int):
                self.shared.add(found)

    def plain(self, node: Node, operands: list[int]) -> int | Form:
        """A node as it is, on operands that are made."""
        if not node.op.elementwise or not operands:
            return self.builder.add(node.op, operands, node.attributes, origin=node.origin, stage=node.stage)
        v, axes = self.elementwise.add(node, operands)
        if not axes:
            return v
        m = self.atom(v)
        for axis in axes:
            m = expanded(m, axis)
        return Form((m,), node)

    # Forms

    def atom(self, v: int) -> Monomial:
        """Node `v` as a monomial."""
        return atom(v, self.builder.nodes[v].type.shape, self.alphabet)

    def terms(self, x: int | Form) -> tuple[Monomial, ...]:
        """The terms of a value; a form that has become long is made."""
        if isinstance(x, Form) and (x.has_eye or all(len(m.factors) <= LONGEST for m in x.terms)):
            return x.terms
        return (self.atom(self.made(x)),)

    def term(self, x: int | Form) -> Monomial:
        """A value without unit tensors as one term."""
        if isinstance(x, Form) and len(x.terms) == 1:
            return self.terms(x)[0]
        return self.atom(self.made(x))

    def made(self, x: int | Form) -> int:
        """The node that holds a value."""
        if isinstance(x, int):
            return x
        if x.made < 0:
            stage, origin = self.builder.stage, self.builder.origin
            self.builder.stage, self.builder.origin = x.node.stage, x.node.origin
            values = [self.emitter.value(m, x.node.type.kind) for m in x.terms]
            x.made = values[0] if len(values) == 1 else self.builder.add(add, values)
            self.builder.stage, self.builder.origin = stage, origin
        return x.made

    def settled(self, x: int | Form) -> int | Form:
        """A value that several nodes use: made, but for unit tensors and what is larger than its parts."""
        if isinstance(x, int):
            return x
        return replace(x, terms=tuple(self.compressed(m, x.node.type.kind) for m in x.terms))

    def compressed(self, m: Monomial, kind: Kind) -> Monomial:
        """A monomial without sums, and with one factor where another has all its letters."""
        if len(m.factors) == 1 and m.count == 1 and len(set(m.factors[0][1])) == len(m.factors[0][1]):
            (factor,) = m.factors
            if set(factor[1]) - {UNIT} <= set(m.output):
                return m
        have = {letter for _, letters in m.factors for letter in letters}
        order = tuple(letter for letter in m.output if letter != UNIT and letter in have)
        if not m.factors and m.count == 1:
            return m
        factors = self.emitter.contracted(m.factors, order, m.count, kind)
        groups, numbers = self.emitter.grouped(factors, order)
        whole = [
            self.emitter.group(own, members, order, numbers if k == 0 else ())
            for k, (own, members) in enumerate(groups)
        ] or [(self.emitter.product(numbers, 0), ())]
        return replace(m, factors=tuple(whole), count=1)

    def form(self, terms: Iterable[Monomial], node: Node) -> int | Form:
        """A sum of terms: those without unit tensors, and those with equal ones, taken together."""
        groups: dict[Hashable, list[Monomial]] = {}
        for m in terms:
            position = {letter: k for k, letter in enumerate(m.output)}
            groups.setdefault(frozenset((position[a], position[b]) for a, b in m.eyes), []).append(m)
        if len(groups) > MOST_TERMS:
            values = [self.emitter.value(m, node.type.kind) for same in groups.values() for m in same]
            return self.builder.add(add, values)
        merged = [self.merged(same, node) for same in groups.values()]
        return Form(tuple(merged), node)

    def merged(self, terms: Sequence[Monomial], node: Node) -> Monomial:
        """The sum of terms that have the same unit tensors."""
        first = terms[0]
        if len(terms) == 1:
            return first
        partners = {b for _, b in first.eyes}
        parts = []
        for m in terms:  # without the unit tensors and the axes that only these have
            own = {b for _, b in m.eyes}
            reduced = replace(m, output=tuple(x for x in m.output if x not in own or x == UNIT), eyes=())
            have = {letter for _, letters in m.factors for letter in letters}
            short = tuple(x if x in have else UNIT for x in reduced.output)
            parts.append(self.emitter.value(replace(reduced, output=short), node.type.kind))
        v, axes = self.elementwise.add(Node(add, {}, node.type, stage=node.stage), parts)
        shape = self.builder.nodes[v].type.shape
        kept = [x for x in first.output if x not in partners or x == UNIT]
        here = [x for k, x in enumerate(kept) if k - len(kept) not in axes]
        letters = tuple(UNIT if d == 1 else x for x, d in zip(here, shape, strict=True))
        return replace(first, factors=((v, letters),), count=1)

    def lengthened(self, m: Monomial, shape: Sequence[Size]) -> Monomial:
        """A term with every axis in the full length of the value."""
        return stretched(m, shape, self.alphabet)

    # Readers

    def movement(self, change: Callable[[Monomial], Monomial], node: Node, x: int | Form) -> Form:
        """An operation that acts on each term alone."""
        return Form(tuple(change(m) for m in self.terms(x)), node)

    def sum(self, node: Node, operands: Sequence[int | Form]) -> int | Form | None:
        """A sum over axes."""
        (x,), axes = operands, node.attributes["axes"]
        shape = self.shape(x)
        short = [a for a in axes if shape[a] == 1]
        if short:
            self.fired["sum over an axis of length 1"] += 1
        if self.exact and not self.has_eye(x):
            m = self.term(x)
            for axis in sorted(short):  # from the left: the axes to the right keep their numbers
                m = squeezed(m, axis)
            rest = tuple(a + sum(1 for g in short if g > a) for a in axes if a not in short)
            v = self.emitter.value(m, node.type.kind) if short else self.made(x)
            return self.builder.add(sum_, [v], {"axes": rest}) if rest else Form((m,), node)
        if self.split and isinstance(x, int) and self.builder.nodes[x].op is add:
            terms = self.split_sum(x, axes, node)
            if terms is not None:
                return terms
        found = [summed(m, axes, self.alphabet) for m in self.terms(x)]
        if any(m.count != 1 for m in found):
            self.fired["sum of equal terms"] += 1
        return self.form(found, node)

    def split_sum(self, x: int, axes: tuple[int, ...], node: Node) -> int | None:
        """The sum of a sum, the terms that are the same along all axes taken out; None where there are none."""
        terms = [(u, self.builder.nodes[u].type.shape) for u in self.builder.operands[x]]
        fixed = [u for u, shape in terms if all(shape[a] == 1 for a in axes)]
        full = self.builder.nodes[x].type.shape
        rest = [u for u, shape in terms if u not in fixed]
        if not fixed or not rest or x in self.shared:
            return None
        self.fired["constant term out of a sum"] += 1
        parts = [fixed, rest]
        values = []
        for part in parts:
            v = part[0] if len(part) == 1 else self.builder.add(add, part)
            m = summed(self.lengthened(self.seen(v), full), axes, self.alphabet)
            values.append(self.emitter.value(m, node.type.kind))
        return self.builder.add(add, values)

    def seen(self, v: int) -> Monomial:
        """A node as a monomial, through the new axes that it was given."""
        axes = []
        while self.builder.nodes[v].op is expand:
            axes.append(self.builder.nodes[v].attributes["axis"])
            (v,) = self.builder.operands[v]
        m = self.atom(v)
        for axis in reversed(axes):
            m = expanded(m, axis)
        return m

    def product(self, node: Node, operands: Sequence[int | Form]) -> int | Form | None:
        """A product of values, each term with each."""
        if node.type.kind < Kind.REAL:
            return None
        if not any(self.has_eye(x) for x in operands) and (self.exact or not node.type.rank):
            return None
        axes = range(node.type.rank)
        return self.multiplied(node, operands, [axes] * len(operands), axes)

    def einsum(self, node: Node, operands: Sequence[int | Form]) -> Form | int | None:
        """A contraction."""
        if self.exact and not any(self.has_eye(x) for x in operands):
            return None
        return self.multiplied(node, operands, node.attributes["inputs"], node.attributes["output"])

    def multiplied(
        self,
        node: Node,
        operands: Sequence[int | Form],
        labels: Sequence[Sequence[Hashable]],
        output: Sequence[Hashable],
    ) -> int | Form:
        """The contraction of each choice of one term from every operand."""
        choices: list[list[Monomial]] = [[]]
        for x in operands:
            terms = self.terms(x)
            if len(terms) * len(choices) > MOST_TERMS:
                terms = (self.atom(self.made(x)),)
            choices = [[*chosen, m] for chosen in choices for m in terms]
        found = [contraction(chosen, labels, output, self.alphabet) for chosen in choices]
        return self.form((self.lengthened(m, node.type.shape) for m in found), node)

    def total(self, node: Node, operands: Sequence[int | Form]) -> int | Form | None:
        """A sum of values, of which some hold unit tensors; one monomial each."""
        if not any(self.has_eye(x) for x in operands):
            return None
        terms = [m for x in operands for m in self.terms(x)]
        return self.form((self.lengthened(m, node.type.shape) for m in terms), node)

    def select(self, node: Node, operands: Sequence[int | Form]) -> int | Form | None:
        """`select(c, I*a, b)`: the unit tensor stays outside, and each branch is a term of its own."""
        condition, *branches = operands
        if not any(self.has_eye(x) for x in branches):
            return None
        terms: list[Monomial] = []
        for x, taken in zip(branches, (True, False), strict=True):
            for m in self.terms(x):
                masked = self.masked(condition, self.lengthened(m, node.type.shape), taken, node)
                if masked is None:
                    return None
                terms += masked
        return self.form(terms, node)

    def masked(self, condition: int | Form, m: Monomial, taken: bool, node: Node) -> list[Monomial] | None:
        """A term where a condition holds (or does not), zero elsewhere; None where the condition has both letters."""
        if any(self.is_zero(v) for v, _ in m.factors):
            return []
        c = self.term(condition)
        inner = {UNIT: UNIT} | {b: a for a, b in m.eyes}
        letter = {old: inner.get(new, new) for old, new in zip(c.output, m.output, strict=True) if old != UNIT}
        ((v, letters),) = c.factors if len(c.factors) == 1 else ((-1, ()),)
        named = tuple(letter.get(x, UNIT) for x in letters)
        if v < 0 or len({x for x in named if x != UNIT}) < sum(x != UNIT for x in named):
            return None
        have = {x for _, own in m.factors for x in own}.union(named)
        order = tuple(x for x in m.output if x != UNIT and x in have)
        inside = replace(m, output=order, eyes=())
        kept = tuple(x for x in order if any(x in own for _, own in m.factors))
        value = Value(self.builder, self.emitter.value(replace(inside, output=kept), node.type.kind))
        value = Value(self.builder, self.emitter.placed((value.id, kept), order))
        guard = Value(self.builder, self.emitter.placed((v, named), order))
        if not taken:
            guard = not_(guard)
        return [replace(m, factors=((select(guard, value, 0).id, order),), count=1)]

    def cast(self, node: Node, operands: Sequence[int | Form]) -> Form | None:
        """To a larger kind: each factor."""
        if not self.has_eye(operands[0]):
            return None
        terms = []
        for m in self.terms(operands[0]):
            factors = tuple((self.builder.add(cast, [v], node.attributes), own) for v, own in m.factors)
            terms.append(replace(m, factors=factors))
        return Form(tuple(terms), node)

    def is_zero(self, v: int) -> bool:
        """Whether a node is the number 0."""
        node = self.builder.nodes[v]
        return node.op is const and node.attributes["value"] == 0

    def has_eye(self, x: int | Form) -> bool:
        """Whether a unit tensor is in a value."""
        return isinstance(x, Form) and x.has_eye

    def shape(self, x: int | Form) -> tuple[Size, ...]:
        """The core shape of a value."""
        return self.builder.nodes[x].type.shape if isinstance(x, int) else x.node.type.shape


def _same(g: Graph, h: Graph) -> bool:
    """Whether two graphs compute their outputs by the same operations."""
    known: dict[Hashable, int] = {}
    found = []
    for graph in (g, h):
        place: dict[int, int] = {}
        for v in graph.order:
            node, operands = graph[v], [place[u] for u in graph.operands(v)]
            if node.op.commutative:
                operands.sort()
            attributes = tuple(sorted((k, type(a), a) for k, a in node.attributes.items()))
            place[v] = known.setdefault((node.op, tuple(operands), attributes), len(known))
        found.append([place[v] for v in graph.outputs.values()])
    return found[0] == found[1] and len(g) == len(h)


Reader = Callable[[Contractor, Node, Sequence[int | Form]], "int | Form | None"]

_READERS: dict[Op, Reader] = {
    sum_: Contractor.sum,
    mul: Contractor.product,
    einsum: Contractor.einsum,
    add: Contractor.total,
    select: Contractor.select,
    cast: Contractor.cast,
    eye: lambda self, node, xs: Form((unit_tensor(node.attributes["size"], self.alphabet),), node),
    diag: lambda self, node, xs: self.movement(lambda m: diagonal(m, self.alphabet), node, xs[0]),
    expand: lambda self, node, xs: self.movement(lambda m: expanded(m, node.attributes["axis"]), node, xs[0]),
    squeeze: lambda self, node, xs: self.movement(lambda m: squeezed(m, node.attributes["axis"]), node, xs[0]),
    transpose: lambda self, node, xs: self.movement(lambda m: transposed(m, node.attributes["axes"]), node, xs[0]),
    broadcast: lambda self, node, xs: self.movement(
        lambda m: stretched(m, node.attributes["shape"], self.alphabet), node, xs[0]
    ),
}
