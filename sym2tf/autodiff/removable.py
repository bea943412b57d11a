"""Removable singularities: branches guarded by `Eq` or `Ne` with a point.

`select(x != p, E, V)` means: E, continued to x = p. There the derivatives are the limits of those of E, but
the closed form of E and of its derivatives is 0/0 at p and loses all digits near it. So E is expanded in
powers of d = x - p, with graph values for coefficients, and the polynomial takes its place at and around p:

- a singular E becomes `select(near, polynomial, E)`, where `near` is so small that what the series leaves out
  is below rounding (for numbers a constant radius, else a comparison of the last terms with the first);
- a regular E stays, with the polynomial at the point alone;
- V stays the value at the point: if it is not provably the limit of E, it replaces the constant term there.

Where E has no series (`1/x`, `x*log(x)`, `abs(x)/x`), the select stays: the branch that is taken counts.

The polynomial has up to 16 terms if they are constant, 10 if they depend on inputs. Regular branches, and
those with more than 300 operations that depend on x, get a short one: it serves derivatives to the fourth
order at the point. A graph whose branches would need more than 200 000 steps in all keeps the rest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from sym2tf.autodiff.coefficients import ZERO, Coefficient, NoSeriesError
from sym2tf.autodiff.expansion import (
    LARGE,
    Expansion,
    Rebuild,
    Seam,
    dependence,
    is_leaf,
    moves_nothing,
    own_bit,
)
from sym2tf.autodiff.truncation import first, near, polynomial
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, cast, mul, pow_
from sym2tf.ops.indexing import broadcast, expand
from sym2tf.ops.leaves import const
from sym2tf.ops.logic import and_, equal, less_equal, not_, not_equal, select
from sym2tf.ops.values import Value, with_shape

PROBE = 8  # the order at which a series is tried first
CONSTANT_ORDER, CONSTANT_TERMS = 26, 16  # of a polynomial whose coefficients are constant
VALUE_ORDER, VALUE_TERMS = 16, 10  # of one whose coefficients depend on inputs
LARGE_ORDER = 5
MOST_AFFINE_TERMS = 16


def resolve_removable(graph: Graph) -> Graph:
    """The graph with removable singularities filled in, equal in value; the graph itself if it has none.

    Only selects of stage `"primal"` count: the driver's own guards are none of the user's seams.
    """
    candidates = [v for v in graph.order if _is_guarded(graph, v)]
    seams = _seams(graph, candidates) if candidates else {}
    if not seams:
        return graph
    resolution = _Resolution(graph, seams)
    work = resolution.work
    changed = False
    for v in graph.order:
        work.where[v] = work.builder.copy_node(graph, v, [work.where[u] for u in graph.operands(v)])
        filled = resolution.fill(v) if v in seams else None
        if filled is not None:
            work.where[v], changed = filled.id, True
    if not changed:
        return graph
    outputs = {name: work.where[v] for name, v in graph.outputs.items()}
    return work.builder.build([work.where[v] for v in graph.inputs], outputs, graph.info)


def _is_guarded(graph: Graph, v: int) -> bool:
    node = graph[v]
    if node.op is not select or node.stage != "primal" or node.type.kind is not Kind.REAL:
        return False
    return _comparison(graph, v) is not None


def _comparison(graph: Graph, v: int) -> tuple[int, bool] | None:
    """The comparison that guards select `v`, and whether the condition of the select holds at the point."""
    condition, holds = graph.operands(v)[0], True
    while graph[condition].op in (not_, expand, broadcast):
        holds ^= graph[condition].op is not_
        (condition,) = graph.operands(condition)
    if graph[condition].op not in (equal, not_equal):
        return None
    return condition, holds ^ (graph[condition].op is not_equal)


def _seams(graph: Graph, candidates: Sequence[int]) -> dict[int, Seam]:
    """The candidates whose guard can be solved for a variable, with the solution."""
    guards = {}
    for v in candidates:
        found = _comparison(graph, v)
        if found is not None:
            a, b = _without_power(graph, *graph.operands(found[0]))
            guards[v] = (a, b), _affine(graph, a, b), found[1]
    variables = {u for sides, terms, _ in guards.values() for u in (*sides, *(w for _, w in terms))}
    depends = dependence(graph, {u for u in variables if graph[u].op is not const})
    seams = {}
    for v, (sides, terms, holds) in guards.items():
        solved = _solve(graph, terms, depends) or _solve_whole(graph, sides, depends)
        if solved is None:
            continue
        (slope, variable), rest = solved
        _, yes, no = graph.operands(v)
        off, at = (no, yes) if holds else (yes, no)
        if (depends[off] | depends[at]) & own_bit(depends, variable):
            seams[v] = Seam(off, at, holds, variable, slope, tuple(rest))
    return seams


def _without_power(graph: Graph, a: int, b: int) -> tuple[int, int]:
    """`u**2 == 0` and `sqrt(u) == 0` say `u == 0`; a constant comes second."""
    if _rational(graph, a) is not None:
        a, b = b, a
    while graph[a].op is pow_ and _rational(graph, b) == 0:
        base, exponent = graph.operands(a)
        if (_rational(graph, exponent) or 0) <= 0:
            break
        a = base
    while moves_nothing(graph, a):
        (a,) = graph.operands(a)
    return a, b


def _affine(graph: Graph, a: int, b: int) -> list[tuple[Fraction, int]]:
    """`a - b` as rational multiples of nodes; none if they would be many."""
    merged: dict[int, Fraction] = {}
    pending = [(Fraction(1), a), (Fraction(-1), b)]
    while pending:
        factor, v = pending.pop()
        node, operands = graph[v], graph.operands(v)
        if node.type.kind is not Kind.REAL or len(pending) + len(merged) + len(operands) > MOST_AFFINE_TERMS:
            return []
        if moves_nothing(graph, v):
            pending.append((factor, operands[0]))
        elif node.op is add:
            pending.extend((factor, u) for u in operands)
        elif node.op is mul and len(operands) == 2 and any(_rational(graph, u) is not None for u in operands):
            c, other = operands if _rational(graph, operands[0]) is not None else operands[::-1]
            pending.append((factor * (_rational(graph, c) or 0), other))
        else:
            merged[v] = merged.get(v, Fraction(0)) + factor
    return [(factor, v) for v, factor in merged.items() if factor]


def _rational(graph: Graph, v: int) -> Fraction | None:
    while moves_nothing(graph, v) or graph[v].op is cast:
        (v,) = graph.operands(v)
    value = graph[v].attributes["value"] if graph[v].op is const else None
    return value if isinstance(value, Fraction) else None


Solution = tuple[tuple[Fraction, int], Sequence[tuple[Fraction, int]]]  # slope and variable, the other terms


def _solve(graph: Graph, terms: Sequence[tuple[Fraction, int]], depends: dict[int, int]) -> Solution | None:
    """An input, or a part of one, on which no other term depends."""
    for k, (_, v) in enumerate(terms):
        own = own_bit(depends, v)
        others = [term for j, term in enumerate(terms) if j != k]
        if own and is_leaf(graph, v) and not any(depends[u] & own for _, u in others):
            return terms[k], others
    return None


def _solve_whole(graph: Graph, sides: tuple[int, int], depends: dict[int, int]) -> Solution | None:
    """One whole side of the comparison, where the other is constant."""
    a, b = sides
    value = _rational(graph, b)
    if value is None or not own_bit(depends, a) or graph[a].type.kind is not Kind.REAL:
        return None
    return (Fraction(1), a), [(Fraction(-1), b)]


class _Resolution:
    """Replaces the selects of a graph while it is rebuilt."""

    def __init__(self, graph: Graph, seams: dict[int, Seam]) -> None:
        self.seams = seams
        self.work = Rebuild(graph, {s.variable for s in seams.values()})
        self.expansions: dict[tuple[object, ...], Expansion] = {}

    def fill(self, v: int) -> Value | None:
        """What stands in the place of select `v`, or None where it stays."""
        builder = self.work.builder
        builder.stage, builder.origin = "derivative", self.work.graph[v].origin
        try:
            for root in (False, True):  # in powers of d, else of its square root: sin(sqrt(d))/sqrt(d)
                try:
                    return self._fill(v, root=root)
                except NoSeriesError:
                    continue
            return None
        finally:
            builder.stage, builder.origin = "primal", None

    def _fill(self, v: int, *, root: bool) -> Value | None:
        seam, graph, own = self.seams[v], self.work.graph, own_bit(self.work.depends, self.seams[v].variable)
        expansion, terms, singular = self._terms(seam, root=root)
        ring = expansion.ring
        if self.work.depends[seam.at] & own:  # only what V is at the point counts
            start = expansion.terms(seam.at)[0][0]
            at = ring.value(start)
        else:
            start = expansion.constant(seam.at)
            at = self._value(seam.at)
            if not any(terms[1:]) and not singular:
                return None  # both branches are constant
        condition, off, d = self._value(graph.operands(v)[0]), self._value(seam.off), expansion.distance()
        if singular:
            around = near(ring, terms, d)
            around = and_(around, less_equal(0, d)) if root else around
            off = select(around, polynomial(ring, terms, d), off)
        if singular and start == terms[0]:
            filled = off
        else:
            at = at + polynomial(ring, [ZERO, *terms[1:]], d) if any(terms[1:]) else at
            filled = select(condition, *((at, off) if seam.holds else (off, at)))
        return with_shape(filled, graph[v].type.shape)

    def _terms(self, seam: Seam, *, root: bool) -> tuple[Expansion, list[Coefficient], bool]:
        """The polynomial of the branch off the point, and whether the branch is singular there."""
        expansion = self._expansion(seam, PROBE, root=root)
        terms, singular = expansion.terms(seam.off)
        if expansion.size(seam.off) > LARGE:
            return expansion, terms[:LARGE_ORDER], singular
        if singular:
            constant = all(expansion.ring.is_constant(c) for c in terms)
            order, most = (CONSTANT_ORDER, CONSTANT_TERMS) if constant else (VALUE_ORDER, VALUE_TERMS)
            lost = PROBE - len(terms)
            expansion = self._expansion(seam, order + lost, root=root)
            terms = first(expansion.terms(seam.off)[0][:order], most)
        return expansion, terms, singular

    def _expansion(self, seam: Seam, order: int, *, root: bool) -> Expansion:
        key = (seam.variable, seam.slope, seam.rest, order, root)
        if key not in self.expansions:
            self.expansions[key] = Expansion(self.work, seam, order, root=root)
        return self.expansions[key]

    def _value(self, v: int) -> Value:
        return Value(self.work.builder, self.work.where[v])
