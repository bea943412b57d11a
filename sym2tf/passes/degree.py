"""The degree of every node as a polynomial in chosen inputs: what tells a quadratic cost from others."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations

from sym2tf.ir.graph import Graph
from sym2tf.ops.arithmetic import add, cast, mul, pow_
from sym2tf.ops.contraction import einsum
from sym2tf.ops.correlation import correlate
from sym2tf.ops.gathering import gather, scatter_add
from sym2tf.ops.indexing import broadcast, expand
from sym2tf.ops.leaves import Exact, const
from sym2tf.ops.logic import select

INFINITE = math.inf


def degrees(graph: Graph, inputs: Iterable[int]) -> dict[int, float]:
    """For each node an upper bound of its degree in `inputs`; infinite where it is no polynomial in them.

    The bound is exact unless terms cancel. One forward pass over the graph.
    """
    chosen = set(inputs)
    found: dict[int, float] = {}
    for v in graph.order:
        found[v] = 1 if v in chosen else _degree(graph, v, [found[u] for u in graph.operands(v)])
    return found


def constant_at(graph: Graph, v: int) -> Exact | None:
    """The exact number that `v` is in every element, seen through casts and new axes; else None."""
    while graph[v].op in (expand, broadcast, cast):
        (v,) = graph.operands(v)
    node = graph[v]
    return node.attributes["value"] if node.op is const else None


def _degree(graph: Graph, v: int, operands: list[float]) -> float:
    op = graph[v].op
    highest = max(operands, default=0)
    if highest == 0:
        return 0
    if op is add or op.linear:
        return highest
    if op in (mul, einsum, correlate):
        return sum(operands)
    if op is pow_ and operands[1] == 0:
        exponent = constant_at(graph, graph.operands(v)[1])
        if isinstance(exponent, Fraction) and exponent.denominator == 1 and exponent >= 0:
            return operands[0] * int(exponent)
    if op in (gather, scatter_add):  # the subscripts are integers, on which nothing depends smoothly
        return operands[0]
    if op is select and operands[0] == 0:
        return highest
    return INFINITE


def coupled(graph: Graph, inputs: Iterable[int]) -> set[frozenset[int]]:
    """The pairs of `inputs` on which some node depends as on a product of both; `{v}` for what is not linear in `v`.

    A set of inputs in which no pair is coupled is one in which every output is linear jointly (terms that cancel
    aside), given the others. One forward pass over the graph.
    """
    chosen = set(inputs)
    depends: dict[int, frozenset[int]] = {}
    pairs: set[frozenset[int]] = set()
    for v in graph.order:
        if v in chosen:
            depends[v] = frozenset((v,))
            continue
        operands = [depends[u] for u in graph.operands(v)]
        depends[v] = frozenset().union(*operands)
        factors = _factors(graph, v, operands)
        pairs |= {frozenset((a, b)) for p, q in combinations(factors, 2) for a in p for b in q}
    return pairs


def _factors(graph: Graph, v: int, operands: list[frozenset[int]]) -> list[frozenset[int]]:
    """What is multiplied in a node, as sets of inputs; what is no polynomial counts as a product with itself."""
    moving = [p for p in operands if p]
    if _degree(graph, v, [float(bool(p)) for p in operands]) <= 1:
        return []
    if graph[v].op in (mul, einsum, correlate):
        return moving
    everything: frozenset[int] = frozenset().union(*moving)
    return [everything, everything]
