"""Raises a graph element by element: a tensor becomes its element at symbolic indices.

An element is demanded once, from the outputs downwards; `index_rules` says what each operation makes of its indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy as sp
from sympy.concrete.expr_with_limits import ExprWithLimits

from sym2tf.errors import GraphError
from sym2tf.frontend.describe import describe
from sym2tf.ir.dims import Dim, Size
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops.logic import select

Rule = Callable[["Raising", int, Node, "Indices"], tuple[list["Demand"], Callable[..., Any]]]
Indices = tuple[Any, ...]
Limits = Sequence[tuple[Any, Any, Any]]  # (index, first, last) of each reduced axis
Demand = tuple[int, Indices]  # the element of a node at indices

# What an operation that SymPy has no name for means in terms of those that it knows.
DEFINITIONS: dict[str, Callable[..., Any]] = {
    "neg": lambda x: -x,
    "sub": lambda a, b: a - b,
    "div": lambda a, b: a / b,
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x**2,
    "log1p": lambda x: sp.log(1 + x),
    "expm1": lambda x: sp.exp(x) - 1,
    "logaddexp": lambda x, y: sp.log(sp.exp(x) + sp.exp(y)),
    "xlogy": lambda x, y: x * sp.log(y),
}


@dataclass
class Raising:
    """The elements demanded for one output, and its free indices.

    Attributes:
        graph: what is raised.
        rules: by the name of an operation, for those that are not elementwise.
        named: nodes that have a name (with subscripts, where they have core axes) instead of being raised.
        letters: index symbols, the first of them for the free indices.
        heights: how many axes are reduced below each node.
    """

    graph: Graph
    rules: Mapping[str, Rule]
    named: Mapping[int, Any]
    letters: list[Any]
    heights: Mapping[int, int]
    free: Indices = ()
    known: dict[Demand, Any] = field(default_factory=dict)

    def element(self, root: int, at: Indices | None = None) -> Any:
        """The element of node `root` at its free indices, or `at` other ones."""
        shape = self.graph[root].type.shape
        self.free = tuple(self.letters[: len(shape)]) if at is None else at
        demand = (root, clipped(shape, self.free))
        stack = [demand]
        while stack:
            v, at = stack[-1]
            if (v, at) in self.known:
                stack.pop()
                continue
            if v in self.named:
                self.known[v, at] = self.named[v][at] if at else self.named[v]
                continue
            needed, build = self.rule(v, at)
            missing = [d for d in needed if d not in self.known]
            if missing:
                stack.extend(missing)
            else:
                self.known[v, at] = build(*(self.known[d] for d in needed))
        return self.known[demand]

    def rule(self, v: int, at: Indices) -> tuple[list[Demand], Callable[..., Any]]:
        """What the element of `v` at indices is made of, and how."""
        node = self.graph[v]
        if node.op is select:
            return self.branches(v, at)
        rule = self.rules.get(node.op.name)
        if rule is not None:
            return rule(self, v, node, at)
        if node.op.elementwise:
            return self.demands(v, at), function_of(node)
        raise GraphError(f"the operation {node.op.name} cannot be raised to SymPy")

    def demands(self, v: int, at: Indices) -> list[Demand]:
        """Every operand of an elementwise operation at the same indices."""
        return [self.demand(u, at) for u in self.graph.operands(v)]

    def demand(self, u: int, at: Indices) -> Demand:
        """Node `u` at indices; an axis of length 1 has only the index 0."""
        return u, clipped(self.graph[u].type.shape, at)

    def branches(self, v: int, at: Indices) -> tuple[list[Demand], Callable[..., Any]]:
        """A chain of selections as one Piecewise."""
        needed: list[Demand] = []
        current = v, at
        while self.graph[current[0]].op is select and current[0] not in self.named:
            condition, then, otherwise = self.demands(*current)
            needed += [then, condition]
            current = otherwise
        logical = self.graph[v].type.kind is Kind.BOOLEAN

        def build(*parts: Any) -> Any:
            return piecewise(zip(parts[:-1:2], parts[1:-1:2], strict=True), parts[-1], logical=logical)

        return [*needed, current], build

    def summation_indices(self, v: int, count: int) -> tuple[Any, ...]:
        """Indices for `count` axes that `v` reduces; no reduction inside of it has them."""
        return tuple(self.letters[len(self.free) + self.heights[v] - k] for k in range(count, 0, -1))

    def size(self, size: Size) -> Any:
        """A size as a SymPy polynomial."""
        if not isinstance(size, Dim):
            return sp.Integer(size)
        symbols = self.graph.info.get("sizes", {})
        names = symbols if isinstance(symbols, Mapping) else {}
        terms = [
            sp.Mul(coefficient, *(names.get(name) or sp.Symbol(name, integer=True) for name in monomial))
            for monomial, coefficient in size.terms
        ]
        return sp.Add(*terms)


def clipped(shape: tuple[Size, ...], at: Indices) -> Indices:
    """Indices of a value of some shape: along axes of length 1 there is only 0."""
    return tuple(sp.S.Zero if size == 1 else index for size, index in zip(shape, at, strict=True))


def function_of(node: Node) -> Callable[..., Any]:
    """What an elementwise operation is called in SymPy."""
    definition = DEFINITIONS.get(node.op.name)
    if definition is not None:
        return definition
    if node.op.sympy is not None:
        named: Callable[..., Any] = node.op.sympy
        return named
    unnamed: Callable[..., Any] = sp.Function(node.op.name)
    return unnamed


def piecewise(branches: Iterable[tuple[Any, Any]], otherwise: Any, *, logical: bool = False) -> Any:
    """A Piecewise of `(value, condition)`, `ITE` if the values are conditions; as simple as what is known allows."""
    kept = []
    for value, condition in branches:
        _refuse_cases_under_sums(condition)
        if condition == sp.true:
            otherwise = value
            break
        if condition != sp.false:
            kept.append((value, condition))
    if logical:
        result = otherwise
        for value, condition in reversed(kept):
            result = sp.ITE(condition, value, result)
        return result
    return sp.Piecewise(*kept, (otherwise, True), evaluate=False) if kept else otherwise


def _refuse_cases_under_sums(condition: Any) -> None:
    """SymPy takes a Piecewise out of a Sum in a condition, and the index with it.

    Raises:
        GraphError: there is one.
    """
    for found in condition.atoms(ExprWithLimits) if isinstance(condition, sp.Basic) else ():
        if found.function.has(sp.Piecewise):
            raise GraphError(f"SymPy cannot hold a Piecewise under the Sum of a condition: {describe(condition)}")


# Names of indices


def taken_names(graph: Graph) -> Iterator[Any]:
    """Whatever an index or a replacement must not be called."""
    for v in graph.inputs:
        yield graph[v].attributes["name"]
        symbol = graph[v].attributes["symbol"]
        yield symbol if isinstance(symbol, str) else getattr(symbol, "name", symbol)
    yield from graph.size_names()


def index_symbols(graph: Graph, heights: Mapping[int, int]) -> list[Any]:
    """Index symbols enough for any node and the reductions below it; none prints like another name."""
    taken = {str(name) for name in taken_names(graph)}
    count = max((graph[v].type.rank for v in graph.order), default=0) + max(heights.values(), default=0)
    letters = [c for c in "ijklmpqrstuvabcdefgh" if c not in taken]
    k = 0
    while len(letters) < count:
        if f"i{k}" not in taken:
            letters.append(f"i{k}")
        k += 1
    return [sp.Symbol(letter, integer=True) for letter in letters]


def reduction_heights(graph: Graph) -> dict[int, int]:
    """For each node, how many axes are reduced on the way from the inputs to it, at most."""
    heights: dict[int, int] = {}
    for v in graph.order:
        heights[v] = max((heights[u] for u in graph.operands(v)), default=0) + _reduced_axes(graph[v])
    return heights


def _reduced_axes(node: Node) -> int:
    """How many summation indices the raised form of a node takes."""
    attributes = node.attributes
    if node.op.name == "einsum":
        return len(set("".join(attributes["inputs"])) - set(attributes["output"]))
    if node.op.name in ("prod", "prod_others", "cumsum"):
        return 1
    if node.op.name == "scatter_add":
        return int(attributes["rank"])
    if node.op.name == "correlate":
        return int(attributes["dims"]) + 1
    over = node.op.name in ("sum", "logsumexp", "softmax") or node.op.name.startswith("reduce_")
    return len(attributes["axes"]) if over else 0
