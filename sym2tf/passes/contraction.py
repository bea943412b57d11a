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
from sym2tf.ops.contraction import einsum, reduce_any, reduce_max, reduce_min
from sym2tf.ops.indexing import broadcast, expand, squeeze, sum_, transpose
from sym2tf.ops.leaves import const
from sym2tf.ops.logic import not_, select
from sym2tf.passes.counting import use_counts
from sym2tf.passes.elementwise import Elementwise, Move
from sym2tf.passes.emission import Emitter
from sym2tf.passes.monomials import (
    MOVEMENTS,
    UNIT,
    Alphabet,
    Monomial,
    atom,
    contraction,
    diagonal,
    normal,
    squeezed,
    stretched,
    summed,
    unit_tensor,
)

LONGEST = 48  # factors of a monomial that grows: longer ones are made, so that chains cost linear time
MOST_TERMS = 8
TRIGGERS = frozenset((sum_, broadcast, expand, squeeze, transpose, einsum, eye, diag))


def contract(
    graph: Graph,
    *,
    exact: bool = False,
    split: bool = False,
    careful: bool = True,
    sizes: Mapping[str, int] | None = None,
) -> tuple[Graph, Counter[str]]:
    """`graph` with its sums of products in normal form; how often each step was taken.

    Args:
        graph: any valid graph.
        exact: only drop sums over axes of length 1 and unit tensors; everything else changes the order of a summation.
        careful: masked sums make no use of what is not finite where they do not need it; not in graphs to be read.
        split: also split a constant off a sum where the two may cancel: quicker, right in exact arithmetic.
        sizes: about how long axes are, for sizes that are symbols.
    """
    if not any(graph[v].op in TRIGGERS for v in graph.order):
        return graph, Counter()
    contractor = Contractor(graph, exact=exact, split=split, careful=careful, sizes=sizes or {})
    contractor.read()
    where = contractor.where
    result = contractor.builder.build(
        [contractor.made(where[v]) for v in graph.inputs],
        {name: contractor.made(where[v]) for name, v in graph.outputs.items()},
        graph.info,
    )
    if same_operations(graph, result):
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

    def __init__(self, graph: Graph, *, exact: bool, split: bool, careful: bool, sizes: Mapping[str, int]) -> None:
        self.graph = graph
        self.exact = exact
        self.split = split
        self.builder = Builder()
        self.alphabet = Alphabet()
        self.fired: Counter[str] = Counter()
        self.emitter = Emitter(self.builder, self.alphabet, sizes, self.fired, careful=careful)
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
        v, moves = self.elementwise.add(node, operands)
        return Form((self.moved(v, moves),), node) if moves else v

    def moved(self, v: int, moves: Iterable[Move]) -> Monomial:
        """A node with its axes moved."""
        m = self.atom(v)
        for op, attributes in moves:
            m = MOVEMENTS[op](m, attributes, self.alphabet)
        return m

    # Forms

    def atom(self, v: int) -> Monomial:
        """Node `v` as a monomial."""
        return atom(v, self.builder.nodes[v].type.shape, self.alphabet)

    def terms(self, x: int | Form) -> tuple[Monomial, ...]:
        """The terms of a value, without masks."""
        kind = self.builder.nodes[x].type.kind if isinstance(x, int) else x.node.type.kind
        return tuple(self.compressed(m, kind) if m.masks else m for m in self.held(x))

    def held(self, x: int | Form) -> tuple[Monomial, ...]:
        """The terms of a value; a form that has become long is made."""
        if isinstance(x, Form) and (x.has_eye or all(len(m.factors) <= LONGEST for m in x.terms)):
            return x.terms
        return (self.atom(self.made(x)),)

    def term(self, x: int | Form) -> Monomial:
        """A value without unit tensors as one term."""
        if isinstance(x, Form) and len(x.terms) == 1:
            return self.held(x)[0]
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
        if len(m.factors) == 1 and m.count == 1 and not m.masks:
            (factor,) = m.factors
            if len(set(factor[1])) == len(factor[1]) and set(factor[1]) - {UNIT} <= set(m.output):
                return m
        have = m.letters
        order = tuple(letter for letter in m.output if letter != UNIT and letter in have)
        if not m.factors and not m.masks and m.count == 1:
            return m
        factors = self.emitter.unsummed(m, order, kind)
        groups, numbers = self.emitter.products.grouped(factors, order)
        whole = [
            self.emitter.products.group(own, members, order, numbers if k == 0 else ())
            for k, (own, members) in enumerate(groups)
        ] or [(self.emitter.products.product(numbers, 0), ())]
        return replace(m, factors=tuple(whole), masks=(), count=1)

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
            short = tuple(x if x in m.letters else UNIT for x in reduced.output)
            parts.append(self.emitter.value(replace(reduced, output=short), node.type.kind))
        whole = self.moved(*self.elementwise.add(Node(add, {}, node.type, stage=node.stage), parts))
        kept = [x for x in first.output if x not in partners or x == UNIT]
        names = dict(zip(whole.output, kept, strict=True)) | {UNIT: UNIT}
        ((v, letters),) = whole.factors
        named = tuple(names[letter] for letter in letters)
        return replace(first, factors=((v, named),), masks=(), count=1)

    def lengthened(self, m: Monomial, shape: Sequence[Size]) -> Monomial:
        """A term with every axis in the full length of the value."""
        return stretched(m, shape, self.alphabet)

    # Readers

    def movement(self, node: Node, operands: Sequence[int | Form]) -> Form:
        """A movement of axes acts on each term alone."""
        (x,) = operands
        return Form(tuple(MOVEMENTS[node.op](m, node.attributes, self.alphabet) for m in self.held(x)), node)

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
        found = [summed(m, axes, self.alphabet) for m in self.held(x)]
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
        moves: list[Move] = []
        while self.builder.nodes[v].op is expand:
            moves.insert(0, (expand, self.builder.nodes[v].attributes))
            (v,) = self.builder.operands[v]
        return self.moved(v, moves)

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
            terms = self.held(x)
            if len(terms) * len(choices) > MOST_TERMS:
                terms = (self.atom(self.made(x)),)
            choices = [[*chosen, m] for chosen in choices for m in terms]
        found = [contraction(chosen, labels, output, self.alphabet) for chosen in choices]
        return self.form((self.lengthened(m, node.type.shape) for m in found), node)

    def total(self, node: Node, operands: Sequence[int | Form]) -> int | Form | None:
        """A sum of values, of which some hold unit tensors; one monomial each."""
        if not any(self.has_eye(x) for x in operands):
            return None
        terms = [m for x in operands for m in self.held(x)]
        return self.form((self.lengthened(m, node.type.shape) for m in terms), node)

    def select(self, node: Node, operands: Sequence[int | Form]) -> int | Form | None:
        """`select(c, a, 0)` is the product `a` with a mask; with unit tensors each branch is a term of its own."""
        condition, *branches = operands
        if not any(self.has_eye(x) for x in branches):
            product = any(isinstance(x, Form) and x.made < 0 and len(x.terms[0].factors) > 1 for x in branches)
            if self.exact or not product or not any(self.is_number(x, 0) for x in branches):
                return None
        terms: list[Monomial] = []
        for x, taken in zip(branches, (True, False), strict=True):
            for m in () if self.is_number(x, 0) else self.held(x):
                masked = self.masked(condition, self.lengthened(m, node.type.shape), taken)
                if masked is None:
                    return None
                terms.append(masked)
        return self.form(terms, node) if terms else None

    def masked(self, condition: int | Form, m: Monomial, taken: bool) -> Monomial | None:
        """A term where a condition holds (or does not), zero elsewhere; None where it needs a diagonal of that."""
        c = self.term(condition)
        if len(c.factors) != 1 or not c.letters <= {UNIT, *c.output}:
            c = self.atom(self.made(condition))
        ((v, own),) = c.factors
        letter = {old: new for old, new in zip(c.output, m.output, strict=True) if old != UNIT}
        letters = tuple(letter.get(x, UNIT) for x in own)
        guard = v if taken else self.builder.add(not_, [v])
        masked = normal(replace(m, masks=(*m.masks, (guard, letters))), (), self.alphabet)
        named = [x for x in masked.masks[-1][1] if x != UNIT]
        return masked if len(set(named)) == len(named) else None

    def any(self, node: Node, operands: Sequence[int | Form]) -> int | Form | None:
        """A reduction that equal elements do not change: over the axes along which they differ."""
        (x,) = operands
        if not isinstance(x, Form) or len(x.terms[0].factors) != 1 or x.terms[0].masks or x.has_eye:
            return None
        (m,) = x.terms
        over = {axis + len(m.output) for axis in node.attributes["axes"]}
        kept = tuple(letter for k, letter in enumerate(m.output) if k not in over)
        ((v, letters),) = m.factors
        if not set(letters) <= {UNIT, *m.output} or len(set(letters)) < len(letters):
            return None
        axes = tuple(k - len(letters) for k, x in enumerate(letters) if x == UNIT or x not in kept)
        if all(letters[axis] == UNIT for axis in axes):
            return replace(x, terms=(replace(m, output=kept),), node=node, made=-1)
        left = tuple(x for x in letters if x != UNIT and x in kept)
        v = self.builder.add(node.op, [v], {"axes": axes})
        return Form((replace(m, factors=((v, left),), output=kept),), node)

    def cast(self, node: Node, operands: Sequence[int | Form]) -> Form | None:
        """To a larger kind: each factor."""
        if not self.has_eye(operands[0]):
            return None
        terms = []
        for m in self.held(operands[0]):
            factors = tuple((self.builder.add(cast, [v], node.attributes), own) for v, own in m.factors)
            terms.append(replace(m, factors=factors))
        return Form(tuple(terms), node)

    def is_number(self, x: int | Form, number: int) -> bool:
        """Whether a value is a number in every element."""
        m = self.term(x) if isinstance(x, int) or not x.has_eye else None
        if m is None or len(m.factors) != 1 or m.masks or m.count != 1:
            return False
        node = self.builder.nodes[m.factors[0][0]]
        return node.op is const and node.attributes["value"] == number

    def has_eye(self, x: int | Form) -> bool:
        """Whether a unit tensor is in a value."""
        return isinstance(x, Form) and x.has_eye

    def shape(self, x: int | Form) -> tuple[Size, ...]:
        """The core shape of a value."""
        return self.builder.nodes[x].type.shape if isinstance(x, int) else x.node.type.shape


def same_operations(g: Graph, h: Graph) -> bool:
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
    reduce_any: Contractor.any,
    reduce_max: Contractor.any,
    reduce_min: Contractor.any,
    **dict.fromkeys(MOVEMENTS, Contractor.movement),
    eye: lambda self, node, xs: Form((unit_tensor(node.attributes["size"], self.alphabet),), node),
    diag: lambda self, node, xs: Form(tuple(diagonal(m, self.alphabet) for m in self.held(xs[0])), node),
}
