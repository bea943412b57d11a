"""Takes outputs apart into the factors that they are contracted from, so that a large tensor need not be made.

The Hessian of a matrix factorisation by one of its factors is `2*V.T*V` times a unit tensor, that of a logistic loss
with ridge `X.T*diag(s)*X` plus a diagonal: a few small tensors hold what would fill a large one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sym2tf.ir.dims import Size, evaluate_size
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, mul
from sym2tf.passes.contraction import Contractor
from sym2tf.passes.monomials import MOVEMENTS, UNIT, Factor, Letters, Monomial, Pair, stretched
from sym2tf.passes.monomials import contraction as contracted
from sym2tf.passes.pipeline import in_normal_form, prune

MOST_TERMS = 16  # of one output; beyond that it is one tensor


class Term(NamedTuple):
    """The product of factors and unit tensors, summed over every letter that `output` lacks.

    Attributes:
        factors: names of outputs of the graph, each with one letter for each of its core axes, all different.
        output: the letters of the axes of the whole; `UNIT` for one of length 1. A letter that nothing else has
            stretches the axis.
        units: pairs of letters of the output that must be equal; only the first of the two is in a factor.
        lengths: of the axes with each letter.
    """

    factors: tuple[tuple[str, Letters], ...]
    output: Letters
    units: tuple[Pair, ...]
    lengths: Mapping[int, Size]


class Factored(NamedTuple):
    """A graph whose outputs are factors, and the terms of each output that it had."""

    graph: Graph
    terms: dict[str, tuple[Term, ...]]


def simplified(graph: Graph, *, level: str) -> Graph:
    """A graph after the rules and contraction."""
    return in_normal_form(prune(graph)[0], level=level, careful=True)


def factored(graph: Graph, sizes: Mapping[str, int]) -> Factored:
    """The factors of every output of a graph, which rules and contraction have simplified.

    A term is one factor, besides its unit tensors, where that is no larger than the factors are together.

    Args:
        graph: after `simplified`; inputs stay as they are.
        sizes: numbers for sizes, by which that is decided; the graph that comes out works for all.
    """
    contractor = Contractor(graph, exact=False, split=False, careful=True, sizes=sizes)
    contractor.read()
    emitter = _Factors(contractor, sizes)
    terms = _terms_of_outputs(contractor)
    found = {name: tuple(emitter.terms(terms[v], graph[v])) for name, v in graph.outputs.items()}
    inputs = [contractor.made(contractor.where[v]) for v in graph.inputs]
    return Factored(contractor.builder.build(inputs, emitter.outputs, graph.info), found)


def _terms_of_outputs(contractor: Contractor) -> dict[int, tuple[Monomial, ...]]:
    """For each output its terms: sums at the top of the graph are taken apart, whatever is in them."""
    graph, alphabet = contractor.graph, contractor.alphabet
    outputs = set(graph.outputs.values())
    outer = set(outputs)
    for v in reversed(graph.order):
        if v in outer and graph[v].op in (*MOVEMENTS, add, mul):
            outer.update(graph.operands(v))
    known: dict[int, tuple[Monomial, ...]] = {}
    for v in graph.order:
        if v not in outer:
            continue
        node, operands = graph[v], graph.operands(v)
        found: Iterable[Monomial] | None = None
        if node.op is add:
            found = [stretched(m, node.type.shape, alphabet) for u in operands for m in known[u]]
        elif node.op is mul and sum(len(known[u]) > 1 for u in operands) == 1:
            found = _products(contractor, v, [known[u] for u in operands])
        elif node.op in MOVEMENTS:
            found = [MOVEMENTS[node.op](m, node.attributes, alphabet) for m in known[operands[0]]]
        found = None if found is None else tuple(found)
        if found is None or len(found) > MOST_TERMS:
            found = contractor.terms(contractor.where[v])
        known[v] = found
    return {v: known[v] for v in outputs}


def _products(contractor: Contractor, v: int, operands: Sequence[Sequence[Monomial]]) -> list[Monomial]:
    """A product of which one operand has several terms."""
    shape = contractor.graph[v].type.shape
    axes = range(len(shape))
    (several,) = [terms for terms in operands if len(terms) > 1]
    products = []
    for m in several:
        chosen = [m if terms is several else terms[0] for terms in operands]
        whole = contracted(chosen, [axes] * len(chosen), axes, contractor.alphabet)
        products.append(stretched(whole, shape, contractor.alphabet))
    return products


class _Factors:
    """Makes the factors of monomials, and names them.

    Attributes:
        outputs: the node of each factor by its name.
    """

    def __init__(self, contractor: Contractor, sizes: Mapping[str, int]) -> None:
        self.contractor, self.sizes = contractor, sizes
        self.outputs: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def terms(self, monomials: Sequence[Monomial], node: Node) -> Iterator[Term]:
        """The terms of a node; those that are one factor, and have the same unit tensors, are one."""
        groups: dict[frozenset[tuple[int, int]], list[Monomial]] = {}
        for m in monomials:
            if self._is_small(m):
                place = {letter: k for k, letter in enumerate(m.output)}
                groups.setdefault(frozenset((place[a], place[b]) for a, b in m.eyes), []).append(m)
            else:
                yield self.term(m, node.type.kind)
        record = replace(node, op=add, attributes={})
        for same in groups.values():
            yield self.term(self.contractor.merged(same, record), node.type.kind)

    def term(self, m: Monomial, kind: Kind) -> Term:
        """The term that a monomial of values of `kind` is."""
        emitter, alphabet = self.contractor.emitter, self.contractor.alphabet
        order = _kept(m)
        if self._is_small(m):
            whole = emitter.contracted(m.factors, order, m.count, kind)
            factors = [emitter.products.whole(whole, order)] if whole else []
        else:
            numbers = [(emitter.products.number(m.count, kind), ())] if m.count != 1 else []
            factors = [*numbers, *self._apart(m)]
        used = {letter for _, letters in factors for letter in letters}.union(m.output)
        named = tuple((self._name(v), letters) for v, letters in factors)
        return Term(named, m.output, m.eyes, {letter: alphabet.sizes[letter] for letter in sorted(used)})

    def _is_small(self, m: Monomial) -> bool:
        """Whether the product, without its unit tensors, is no larger than its factors."""
        return self._elements(_kept(m)) <= sum(self._elements(set(letters)) for _, letters in m.factors)

    def _apart(self, m: Monomial) -> list[Factor]:
        """The factors with those multiplied that have the same letters; axes of length 1 dropped."""
        emitter = self.contractor.emitter
        groups: dict[frozenset[int], list[Factor]] = {}
        for factor in m.factors:
            v, letters = emitter.products.unit_free(emitter.products.distinct(factor))
            groups.setdefault(frozenset(letters), []).append((v, letters))
        return [emitter.products.whole(same, same[0][1]) for same in groups.values()]

    def _elements(self, letters: Iterable[int]) -> int:
        total = 1
        for letter in letters:
            total *= evaluate_size(self.contractor.alphabet.sizes[letter], self.sizes)
        return total

    def _name(self, v: int) -> str:
        if v not in self._names:
            self._names[v] = f"factor{len(self._names)}"
            self.outputs[self._names[v]] = v
        return self._names[v]


def _kept(m: Monomial) -> Letters:
    """The letters of the output that factors have."""
    have = {letter for _, letters in m.factors for letter in letters}
    return tuple(letter for letter in m.output if letter != UNIT and letter in have)
