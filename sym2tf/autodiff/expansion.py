"""Expands the nodes of a graph in powers of the distance to the point where a branch is guarded."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from sym2tf.autodiff.coefficients import ZERO, Coefficient, NoSeriesError, Ring, as_number
from sym2tf.autodiff.series import COMPARISONS, RULES, Algebra, Series
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add, cast, mul, pow_
from sym2tf.ops.indexing import broadcast, expand, slice_, squeeze, transpose
from sym2tf.ops.leaves import const, input_
from sym2tf.ops.logic import and_, not_, or_, select
from sym2tf.ops.values import Value, with_kind, with_shape

LARGE = 300  # operations; what is larger is expanded to a low order only
BUDGET = 200_000  # steps for one graph
MOVEMENTS = frozenset({expand, squeeze, broadcast, slice_, transpose})
ALGEBRAIC = frozenset({const, add, mul, pow_, expand, broadcast, cast})  # what constants are resolved into


class Seam(NamedTuple):
    """A select that is guarded by equality with a point, and the variable in which the point is one."""

    off: int  # the branch taken off the point
    at: int  # the branch taken at it
    holds: bool  # whether the condition holds at the point
    variable: int
    slope: Fraction  # the guard is: slope*variable + sum of rest == 0
    rest: tuple[tuple[Fraction, int], ...]


class Rebuild:
    """A graph that is being rebuilt in a builder, and what its nodes depend on."""

    def __init__(self, graph: Graph, variables: set[int]) -> None:
        self.graph = graph
        self.builder = Builder()
        self.where: dict[int, int] = {}
        self.steps = 0
        self.depends = dependence(graph, variables)
        # A variable that is no input itself leaves the inputs that it is made of in the series.
        self.inputs_of = {
            v: frozenset(u for u in graph.ancestors(v) if graph[u].op is input_ and not is_leaf(graph, v))
            for v in variables
        }
        bound = {u for inputs in self.inputs_of.values() for u in inputs}
        self.bound = dependence(graph, bound) if bound else {}


class Expansion:
    """Series of nodes in d = variable - point, or in its square root, to one order."""

    def __init__(self, work: Rebuild, seam: Seam, order: int, *, root: bool) -> None:
        self.work, self.seam = work, seam
        self.ring = Ring(work.builder)
        self.root = root
        self.algebra = Algebra(self.ring, 2 * order if root else order, root=root)
        self.own = own_bit(work.depends, seam.variable)
        self.bound = 0
        for u in work.inputs_of[seam.variable]:
            self.bound |= own_bit(work.bound, u)
        self.known: dict[int, Series | bool | None] = {}  # None: a condition that does not depend on d
        self.singular: dict[int, bool] = {}
        parts = [self.ring.scale(self.constant(u), -factor / seam.slope) for factor, u in seam.rest]
        self.point = self.ring.sum(parts)
        self.known[seam.variable] = self.algebra.variable(self.point)

    def distance(self) -> Value:
        """The variable minus the point, as a graph value."""
        x = Value(self.work.builder, self.work.where[self.seam.variable])
        return x - self.ring.value(self.point) if self.point else x

    def terms(self, v: int) -> tuple[list[Coefficient], bool]:
        """The coefficients of d**0, d**1, ..., and whether the node has a singularity to be removed.

        Raises:
            NoSeriesError: there are negative powers, or fractional ones.
        """
        series, singular = self.series(v)
        found = self.algebra.regular(series)
        if not self.root:
            return found, singular
        if any(found[1::2]):
            raise NoSeriesError("fractional powers")
        return found[::2], singular

    def size(self, root: int) -> int:
        """How many nodes below `root` depend on the variable; more than `LARGE` are not counted."""
        seen, pending = {root}, [root]
        while pending and len(seen) <= LARGE:
            for u in self.work.graph.operands(pending.pop()):
                if u not in seen and self.work.depends[u] & self.own:
                    seen.add(u)
                    pending.append(u)
        return len(seen)

    def constant(self, v: int) -> Coefficient:
        """A node that does not depend on the variable."""
        return self.algebra.regular(self.series(v)[0])[0]

    def series(self, root: int) -> tuple[Series, bool]:
        """The series of a node, and whether a singular function was met below it.

        Raises:
            NoSeriesError: there is none.
        """
        pending = [root]
        while pending:
            v = pending[-1]
            needed = () if v in self.known else self._needed(v)
            missing = [u for u in needed if u not in self.known]
            if missing:
                pending.extend(missing)
                continue
            pending.pop()
            if v not in self.known:
                self.work.steps += 1
                if self.work.steps > BUDGET:
                    raise NoSeriesError("the graph has too many branches")
                self.algebra.singular = any(self.singular.get(u, False) for u in needed)
                self.known[v] = self._compute(v)
                self.singular[v] = self.algebra.singular
        found = self.known[root]
        if not isinstance(found, Series):
            raise NoSeriesError("a condition")
        return found, self.singular.get(root, False)

    def _depends(self, v: int) -> bool:
        return bool(self.work.depends[v] & self.own) or bool(self.bound and self.work.bound[v] & self.bound)

    def _needed(self, v: int) -> tuple[int, ...]:
        graph = self.work.graph
        operands = graph.operands(v)
        op = graph[v].op
        if not self._depends(v):
            resolved = op in ALGEBRAIC and len(operands) <= 16
            return operands if resolved and len(self.known) < LARGE else ()
        if op is select:
            condition = operands[0]
            if condition not in self.known:
                return (condition,)
            taken = self.known[condition]
            if isinstance(taken, bool):
                return (condition, operands[1 if taken else 2])
        return operands

    def _compute(self, v: int) -> Series | bool | None:
        work, ring, algebra = self.work, self.ring, self.algebra
        node, operands = work.graph[v], work.graph.operands(v)
        if node.type.kind is Kind.BOOLEAN:
            return self._decide(v)
        if not self._depends(v):
            if operands and all(u in self.known for u in operands):
                try:
                    return self._apply(v)
                except NoSeriesError:
                    pass  # 0**(-1) among the constants: the node itself says what it is
            return algebra.constant(ring.atom(with_kind(Value(work.builder, work.where[v]), Kind.REAL)))
        if node.op is input_:
            return algebra.constant(ring.atom(Value(work.builder, work.where[v]), bound=True))
        return self._apply(v)

    def _apply(self, v: int) -> Series | None:
        node, operands = self.work.graph[v], self.work.graph.operands(v)
        if node.op is select:
            return self._select(operands)
        if not node.op.elementwise or node.op is cast:
            return self._move(v)
        if node.op not in RULES:
            raise NoSeriesError(f"no series rule for {node.op.name}")
        found = RULES[node.op](self.algebra, *(self.known[u] for u in operands), **node.attributes)
        if not found.terms:
            raise NoSeriesError("no term is known")
        return found

    def _select(self, operands: tuple[int, ...]) -> Series | None:
        taken = self.known[operands[0]]
        if isinstance(taken, bool):
            chosen = self.known[operands[1 if taken else 2]]
            assert isinstance(chosen, Series)
            return chosen
        a, b = self.known[operands[1]], self.known[operands[2]]
        assert isinstance(a, Series)
        assert isinstance(b, Series)
        low, end = min(a.low, b.low), min(a.end, b.end)
        if self._depends(operands[0]) or end <= low:
            raise NoSeriesError("which branch is near the point is not known")
        condition = Value(self.work.builder, self.work.where[operands[0]])
        terms = []
        for k in range(low, end):
            p, q = (x.terms[k - x.low] if k >= x.low else ZERO for x in (a, b))
            bound = self.ring.is_bound(p) or self.ring.is_bound(q)
            value = select(condition, self.ring.value(p), self.ring.value(q))
            terms.append(p if p == q else self.ring.atom(value, bound=bound))
        return Series(low, tuple(terms))

    def _move(self, v: int) -> Series:
        """Linear operations that are not elementwise act on each coefficient; d must be a scalar then."""
        graph, ring = self.work.graph, self.ring
        node, (u,) = graph[v], graph.operands(v)
        found = self.known[u]
        if isinstance(found, bool):  # a condition cast to a number
            return self.algebra.number(int(found))
        if found is None:
            raise NoSeriesError("a condition on other values")
        if moves_nothing(graph, v) or node.op is cast:
            return found
        if not node.op.linear or graph[self.seam.variable].type.rank:
            raise NoSeriesError(f"no series rule for {node.op.name}")
        terms = []
        for c in found.terms:
            if not c or (node.op in MOVEMENTS and as_number(c) is not None):
                terms.append(c)
            else:
                value = node.op(with_shape(ring.value(c), graph[u].type.shape), **node.attributes)
                terms.append(ring.atom(value, bound=ring.is_bound(c)))
        return Series(found.low, tuple(terms))

    def _decide(self, v: int) -> bool | None:
        """A condition near the point, but not at it; None if it does not depend on d."""
        graph = self.work.graph
        op, operands = graph[v].op, graph.operands(v)
        if not self._depends(v):
            return None
        values = [self.known[u] for u in operands]
        if op in COMPARISONS:
            a, b = values
            assert isinstance(a, Series)
            assert isinstance(b, Series)
            return COMPARISONS[op](self.algebra, a, b)
        decided = [value for value in values if isinstance(value, bool)]
        if op is and_ and not all(decided):
            return False
        if op is or_ and any(decided):
            return True
        if len(decided) < len(values):
            raise NoSeriesError("the condition depends on other values")
        if op is not_:
            return not decided[0]
        if op in (and_, or_, expand, broadcast):
            return decided[0] if op in (expand, broadcast) else op is and_
        raise NoSeriesError(f"no rule for the condition {op.name}")


def moves_nothing(graph: Graph, v: int) -> bool:
    """New axes in front and broadcasts: elementwise operations would do the same by themselves."""
    node = graph[v]
    return node.op is broadcast or (node.op is expand and node.attributes["axis"] == -node.type.rank)


def is_leaf(graph: Graph, v: int) -> bool:
    """Whether a node is an input or a part of one."""
    while graph[v].op in MOVEMENTS:
        (v,) = graph.operands(v)
    return graph[v].op is input_


def dependence(graph: Graph, variables: Iterable[int]) -> dict[int, int]:
    """For every node a bit set of the variables it depends on; `-1 - v` holds the bit of variable v itself.

    Variables that depend on no real input (subscripts, say) have none.
    """
    bits = {v: 1 << k for k, v in enumerate(sorted(variables), 1)}
    depends: dict[int, int] = {}
    for v in graph.order:
        node = graph[v]
        found = 1 if node.op is input_ and node.type.kind is Kind.REAL else 0
        for u in graph.operands(v):
            found |= depends[u]
        if v in bits and found & 1:
            depends[-1 - v] = bits[v]
            found |= bits[v]
        depends[v] = found
    return depends


def own_bit(depends: dict[int, int], v: int) -> int:
    """The bit of variable `v`; none if it depends on no real input."""
    return depends.get(-1 - v, 0)
