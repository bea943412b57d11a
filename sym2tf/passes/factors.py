"""A tensor as the factors whose product it is, before the product is made: what a compressed Hessian holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from string import ascii_lowercase
from typing import NamedTuple

from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add
from sym2tf.passes.contraction import Contractor
from sym2tf.passes.monomials import UNIT, Monomial, stretched


class Term(NamedTuple):
    """A product of factors and unit tensors.

    Attributes:
        factors: names of outputs of the graph of factors, each with one letter for each of its axes.
        units: pairs of letters that must be equal: the term is zero where they are not.
    """

    factors: tuple[tuple[str, str], ...]
    units: tuple[str, ...]


class Factored(NamedTuple):
    """A tensor as the sum of terms: `einsum` of the factors and identity matrices of each, to the letters `output`.

    Attributes:
        graph: the factors as outputs, named `"0/0"`, `"0/1"`, ... by term and place.
        terms: at least one. A letter of `output` that a term lacks is an axis along which the term is constant.
        output: one letter for each axis of the tensor.
    """

    graph: Graph
    terms: tuple[Term, ...]
    output: str


def factors(graph: Graph, output: str) -> Factored:
    """An output of a graph as terms of factors, as few and as small as its normal form has them.

    An outer product stays two factors, a unit tensor a pair of letters; whatever is summed over is summed. A tensor
    that is no product is one factor.

    Args:
        graph: any graph, best after the rewrite rules and before the machine operations.
        output: the name of one of its outputs.
    """
    contractor = Contractor(graph, exact=False, split=False, sizes={})
    contractor.read()
    v = graph.outputs[output]
    type_ = graph[v].type
    letters = ascii_lowercase[: type_.rank]
    outputs: dict[str, int] = {}
    terms = list[Term]()
    for m in _terms(contractor, graph, v):
        units = tuple(_named(pair, m, letters) for pair in m.eyes)
        made = list[tuple[str, str]]()
        for factor in m.factors:
            node, own = contractor.emitter.unit_free(factor)
            name = f"{len(terms)}/{len(made)}"
            outputs[name] = node
            made.append((name, _named(own, m, letters)))
        terms.append(Term(tuple(made), units))
    inputs = [contractor.made(contractor.where[u]) for u in graph.inputs]
    return Factored(contractor.builder.build(inputs, outputs, graph.info), tuple(terms), letters)


def _terms(contractor: Contractor, graph: Graph, v: int) -> list[Monomial]:
    """The terms of a node: of the sum that it is, those that are products apart, all others as one."""
    kind, shape = graph[v].type.kind, graph[v].type.shape
    flat, stack = list[int](), [v]
    while stack:
        u = stack.pop()
        if graph[u].op is add and graph[u].type.shape == shape and (u == v or contractor.uses[u] == 1):
            stack += reversed(graph.operands(u))
        else:
            flat.append(u)
    found = [contractor.compressed(m, kind) for u in flat for m in contractor.terms(contractor.where[u])]
    by_units: dict[frozenset[tuple[int, int]], list[Monomial]] = {}
    apart: list[Monomial] = []
    for m in found:
        m = stretched(m, shape, contractor.alphabet)
        if not m.eyes and len(m.factors) > 1:
            apart.append(m)
            continue
        place = {letter: k for k, letter in enumerate(m.output)}
        by_units.setdefault(frozenset((place[a], place[b]) for a, b in m.eyes), []).append(m)
    node = replace(graph[v], op=add, attributes={})
    merged = [contractor.merged(same, node) for same in by_units.values()]
    return [*(_with_factor(contractor, m, kind) for m in merged), *apart]


def _with_factor(contractor: Contractor, m: Monomial, kind: Kind) -> Monomial:
    """A monomial with at least one factor, and no count."""
    if m.factors and m.count == 1:
        return m
    return replace(m, factors=(*m.factors, (contractor.emitter.number(m.count, kind), ())), count=1)


def _named(own: Iterable[int], m: Monomial, letters: str) -> str:
    """Letters of a monomial as those of the axes of its output."""
    place = {letter: k for k, letter in enumerate(m.output) if letter != UNIT}
    return "".join(letters[place[letter]] for letter in own)
