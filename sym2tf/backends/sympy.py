"""Raises a graph back to mathematics, so that people can read what was derived.

A tensor becomes its element at symbolic indices: `sum` of a core axis is a `Sum`, a slice shifts subscripts,
and nodes that only move axes vanish. An element is demanded once, from the outputs downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import sympy as sp

from sym2tf.errors import GraphError, ResourceLimitError
from sym2tf.ir.dims import Dim, Size
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops import OPS
from sym2tf.ops.leaves import const, input_
from sym2tf.ops.logic import select

MAX_TREE = 20_000  # operations, shared ones counted as often as they would be printed
MAX_DEPTH = 100  # SymPy recurses over what it builds

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
    "sigmoid": lambda x: 1 / (1 + sp.exp(-x)),
    "softplus": lambda x: sp.log(1 + sp.exp(x)),
    "logaddexp": lambda x, y: sp.log(sp.exp(x) + sp.exp(y)),
    "xlogy": lambda x, y: x * sp.log(y),
}


def raise_to_sympy(graph: Graph) -> dict[str, Any]:
    """Each output as one SymPy expression.

    An output with core axes is its element at free indices `i`, `j`, ...; sums take the next letters.

    Raises:
        ResourceLimitError: written out, an expression is too large or deep to read; see `raise_shared`.
    """
    _refuse_large(graph)
    heights = _reduction_heights(graph)
    letters = _indices(graph, heights)
    return {name: _Raising(graph, {}, letters, heights).element(v) for name, v in graph.outputs.items()}


def raise_shared(graph: Graph) -> tuple[list[tuple[Any, Any]], dict[str, Any]]:
    """The outputs with their shared parts named: `(replacements, outputs)`, as `sympy.cse` gives them.

    A replacement is `(symbol, expression)`; a tensor's is `(base[i, j], element at i, j)`. Parts too
    deep for SymPy are named too.
    """
    taken = {str(name) for name in _names(graph)}
    fresh = (f"x{k}" for k in range(len(graph) + len(taken)) if f"x{k}" not in taken)
    heights = _reduction_heights(graph)
    letters = _indices(graph, heights)
    named: dict[int, Any] = {}
    replacements = []
    for v in _worth_naming(graph):
        raising = _Raising(graph, named, letters, heights)
        element = raising.element(v)
        name = next(fresh)
        named[v] = sp.IndexedBase(name) if raising.free else sp.Symbol(name)
        replacements.append((named[v][raising.free] if raising.free else named[v], element))
    outputs = {name: _Raising(graph, named, letters, heights).element(v) for name, v in graph.outputs.items()}
    return replacements, outputs


@dataclass
class _Raising:
    """The elements demanded for one output, and its free indices."""

    graph: Graph
    named: Mapping[int, Any]
    letters: list[Any]
    heights: Mapping[int, int]
    free: Indices = ()
    known: dict[Demand, Any] = field(default_factory=dict)

    def element(self, root: int) -> Any:
        """The element of node `root` at its free indices."""
        shape = self.graph[root].type.shape
        self.free = tuple(self.letters[: len(shape)])
        demand = (root, _clipped(shape, self.free))
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
        rule = _RULES.get(node.op.name)
        if rule is not None:
            return rule(self, v, node, at)
        if node.op.elementwise:
            return self.demands(v, at), _function(node)
        raise GraphError(f"the operation {node.op.name} cannot be raised to SymPy")

    def demands(self, v: int, at: Indices) -> list[Demand]:
        """Every operand of an elementwise operation at the same indices."""
        return [self.demand(u, at) for u in self.graph.operands(v)]

    def demand(self, u: int, at: Indices) -> Demand:
        """Node `u` at indices; an axis of length 1 has only the index 0."""
        return u, _clipped(self.graph[u].type.shape, at)

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
            return _piecewise(zip(parts[:-1:2], parts[1:-1:2], strict=True), parts[-1], logical=logical)

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


def _clipped(shape: tuple[Size, ...], at: Indices) -> Indices:
    return tuple(sp.S.Zero if size == 1 else index for size, index in zip(shape, at, strict=True))


def _function(node: Node) -> Callable[..., Any]:
    definition = DEFINITIONS.get(node.op.name)
    if definition is not None:
        return definition
    if node.op.sympy is not None:
        return node.op.sympy
    return sp.Function(node.op.name)


def _piecewise(branches: Iterable[tuple[Any, Any]], otherwise: Any, *, logical: bool = False) -> Any:
    kept = []
    for value, condition in branches:
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


# Rules: (raising, v, node, indices) -> what is needed, and the function that puts it together

Rule = Callable[[_Raising, int, Node, Indices], tuple[list[Demand], Callable[..., Any]]]


def _leaf(value: Callable[[_Raising, Node, Indices], Any]) -> Rule:
    return lambda r, v, node, at: ([], lambda: value(r, node, at))


def _moved(index: Callable[[_Raising, Node, Indices], Indices]) -> Rule:
    """A data movement: the element of the operand at other indices."""

    def rule(r: _Raising, v: int, node: Node, at: Indices) -> tuple[list[Demand], Callable[..., Any]]:
        return [r.demand(r.graph.operands(v)[0], index(r, node, at))], lambda x: x

    return rule


def _input(r: _Raising, node: Node, at: Indices) -> Any:
    symbol = node.attributes["symbol"]
    if not isinstance(symbol, sp.Basic):
        symbol = sp.Symbol(node.attributes["name"])
    if not at:
        return symbol
    if isinstance(symbol, sp.IndexedBase) or getattr(symbol, "is_Matrix", False):
        return symbol[at]
    return sp.IndexedBase(str(symbol))[at]


def _const(r: _Raising, node: Node, at: Indices) -> Any:
    value = node.attributes["value"]
    if isinstance(value, bool):
        return sp.true if value else sp.false
    if isinstance(value, Fraction):
        return sp.Rational(value.numerator, value.denominator)
    return sp.S.Zero if value == 0 else sp.sympify(value)


def _without(at: Indices, axis: int) -> Indices:
    place = len(at) + axis
    return at[:place] + at[place + 1 :]


def _inserted(at: Indices, axes: Iterable[int], indices: Iterable[Any]) -> Indices:
    """Indices of an operand: `indices` at `axes` (negative, in the operand), the others between."""
    axes = tuple(axes)
    rank = len(at) + len(axes)
    new, old = dict(zip((rank + axis for axis in axes), indices, strict=True)), iter(at)
    return tuple(new[k] if k in new else next(old) for k in range(rank))


def _shifted(at: Indices, axis: int, offset: Any) -> Indices:
    place = len(at) + axis
    return (*at[:place], at[place] + offset, *at[place + 1 :])


def _permuted(r: _Raising, node: Node, at: Indices) -> Indices:
    axes = node.attributes["axes"]
    front = len(at) - len(axes)
    source = dict(zip(axes, at[front:], strict=True))
    return (*at[:front], *(source[k - len(axes)] for k in range(len(axes))))


def _pad(r: _Raising, v: int, node: Node, at: Indices) -> tuple[list[Demand], Callable[..., Any]]:
    axis, before = node.attributes["axis"], r.size(node.attributes["before"])
    (u,) = r.graph.operands(v)
    index, length = at[len(at) + axis], r.size(r.graph[u].type.shape[axis])
    inside = [sp.Ge(index, before)] * (before != 0) + [sp.Lt(index, before + length)] * (node.attributes["after"] != 0)
    return [r.demand(u, _shifted(at, axis, -before))], lambda x: _piecewise([(x, sp.And(*inside))], sp.S.Zero)


def _reduction(combine: Callable[[Any, Limits], Any]) -> Rule:
    def rule(r: _Raising, v: int, node: Node, at: Indices) -> tuple[list[Demand], Callable[..., Any]]:
        axes = node.attributes["axes"] if "axes" in node.attributes else (node.attributes["axis"],)
        (u,) = r.graph.operands(v)
        shape = r.graph[u].type.shape
        indices = r.summation_indices(v, len(axes))
        limits = [(i, sp.S.Zero, r.size(shape[a]) - 1) for i, a in zip(indices, axes, strict=True) if shape[a] != 1]
        return [r.demand(u, _inserted(at, axes, indices))], lambda x: combine(x, limits)

    return rule


def _einsum(r: _Raising, v: int, node: Node, at: Indices) -> tuple[list[Demand], Callable[..., Any]]:
    inputs, output = node.attributes["inputs"], node.attributes["output"]
    index = dict(zip(output, at, strict=True))
    lengths: dict[str, Any] = {}
    for u, letters in zip(r.graph.operands(v), inputs, strict=True):
        for letter, size in zip(letters, r.graph[u].type.shape, strict=True):
            if lengths.get(letter, 1) == 1:
                lengths[letter] = size
    summed = sorted(set(lengths) - set(output))
    index |= dict(zip(summed, r.summation_indices(v, len(summed)), strict=True))
    limits = [(index[c], sp.S.Zero, r.size(lengths[c]) - 1) for c in summed if lengths[c] != 1]
    needed = [
        r.demand(u, tuple(index[c] for c in letters)) for u, letters in zip(r.graph.operands(v), inputs, strict=True)
    ]
    return needed, lambda *xs: _sum(sp.Mul(*xs), limits)


def _prod_others(r: _Raising, v: int, node: Node, at: Indices) -> tuple[list[Demand], Callable[..., Any]]:
    (u,) = r.graph.operands(v)
    (index,) = r.summation_indices(v, 1)
    limits = [(index, sp.S.Zero, r.size(node.type.shape[-1]) - 1)]
    return [r.demand(u, (*at[:-1], index))], lambda x: sp.Product(
        sp.Piecewise((1, sp.Eq(index, at[-1])), (x, True), evaluate=False), *limits
    )


def _sum(body: Any, limits: Limits) -> Any:
    """The Sum with the factors that depend on none of its indices in front of it."""
    if not limits:
        return body
    bound = {limit[0] for limit in limits}
    factors = [part for factor in sp.Mul.make_args(body) for part in _primitive(factor)]
    inside = [f for f in factors if _depends(f, bound)]
    outside = [f for f in factors if not _depends(f, bound)]
    if not inside:
        return sp.Mul(*outside, *(upper + 1 for _, _, upper in limits))
    return sp.Mul(*outside, sp.Sum(sp.Mul(*inside), *limits), evaluate=True)


def _primitive(factor: Any) -> tuple[Any, ...]:
    """A sum as its rational content and the rest: SymPy had multiplied the 2 of 2*(a + b) in."""
    return factor.primitive() if factor.is_Add else (factor,)


def _depends(expression: Any, symbols: set[Any]) -> bool:
    """Whether one of the symbols occurs; linear in the shared expression, unlike `free_symbols`."""
    seen, stack = {id(expression)}, [expression]
    while stack:
        part = stack.pop()
        if part in symbols if part.is_Atom else False:
            return True
        for argument in part.args:
            if id(argument) not in seen:
                seen.add(id(argument))
                stack.append(argument)
    return False


def _applied(name: str) -> Callable[[Any, Limits], Any]:
    """A function of the body and its ranges, where SymPy has no such reduction."""
    return lambda x, limits: sp.Function(name)(x, *(sp.Tuple(*limit) for limit in limits)) if limits else x


def _any(x: Any, limits: Limits) -> Any:
    return sp.Ne(_sum(_indicator(x), limits), 0) if limits else x


def _indicator(condition: Any) -> Any:
    return _piecewise([(sp.S.One, condition)], sp.S.Zero)


def _cast(r: _Raising, v: int, node: Node, at: Indices) -> tuple[list[Demand], Callable[..., Any]]:
    (u,) = r.graph.operands(v)
    condition = r.graph[u].type.kind is Kind.BOOLEAN and node.type.kind is not Kind.BOOLEAN
    return r.demands(v, at), _indicator if condition else lambda x: x


_RULES: dict[str, Rule] = {
    "input": _leaf(_input),
    "const": _leaf(_const),
    "size": _leaf(lambda r, node, at: r.size(node.attributes["size"])),
    "range": _leaf(lambda r, node, at: at[0] + r.size(node.attributes["start"])),
    **{
        name: _leaf(lambda r, node, at: node.op.sympy)
        for name, op in OPS.items()
        if op.arity == 0 and op.sympy is not None
    },
    "cast": _cast,
    "expand": _moved(lambda r, node, at: _without(at, node.attributes["axis"])),
    "squeeze": _moved(lambda r, node, at: _inserted(at, (node.attributes["axis"],), (sp.S.Zero,))),
    "broadcast": _moved(lambda r, node, at: at),
    "slice": _moved(lambda r, node, at: _shifted(at, node.attributes["axis"], r.size(node.attributes["start"]))),
    "transpose": _moved(_permuted),
    "pad": _pad,
    "sum": _reduction(_sum),
    "prod": _reduction(lambda x, limits: sp.Product(x, *limits) if limits else x),
    "logsumexp": _reduction(lambda x, limits: sp.log(_sum(sp.exp(x), limits))),
    "reduce_max": _reduction(_applied("reduce_max")),
    "reduce_min": _reduction(_applied("reduce_min")),
    "reduce_any": _reduction(_any),
    "einsum": _einsum,
    "prod_others": _prod_others,
}


# Sizes, depths and names


def _names(graph: Graph) -> Iterator[Any]:
    """Whatever an index or a replacement must not be called."""
    for v in graph.inputs:
        yield graph[v].attributes["name"]
        symbol = graph[v].attributes["symbol"]
        yield symbol if isinstance(symbol, str) else getattr(symbol, "name", symbol)
    yield from graph.size_names()


def _indices(graph: Graph, heights: Mapping[int, int]) -> list[Any]:
    """Index symbols enough for any node and the reductions below it; none prints like another name."""
    taken = {str(name) for name in _names(graph)}
    count = max((graph[v].type.rank for v in graph.order), default=0) + max(heights.values(), default=0)
    letters = [c for c in "ijklmpqrstuvabcdefgh" if c not in taken]
    k = 0
    while len(letters) < count:
        if f"i{k}" not in taken:
            letters.append(f"i{k}")
        k += 1
    return [sp.Symbol(letter, integer=True) for letter in letters]


def _reduction_heights(graph: Graph) -> dict[int, int]:
    """For each node, how many axes are reduced on the way from the inputs to it, at most."""
    heights: dict[int, int] = {}
    for v in graph.order:
        heights[v] = max((heights[u] for u in graph.operands(v)), default=0) + _reduced_axes(graph[v])
    return heights


def _reduced_axes(node: Node) -> int:
    attributes = node.attributes
    if node.op.name == "einsum":
        return len(set("".join(attributes["inputs"])) - set(attributes["output"]))
    if node.op.name in ("prod", "prod_others"):
        return 1
    return len(attributes["axes"]) if node.op.name in ("sum", "logsumexp") or node.op.name.startswith("reduce_") else 0


def _refuse_large(graph: Graph) -> None:
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    for v in graph.order:
        operands = graph.operands(v)
        sizes[v] = 1 + sum(sizes[u] for u in operands)
        depths[v] = _depth(graph[v], [depths[u] for u in operands])
    for name, v in graph.outputs.items():
        if sizes[v] > MAX_TREE or depths[v] > MAX_DEPTH:
            raise ResourceLimitError(
                f"written out, output {name!r} has {_short(sizes[v])} operations, {depths[v]} deep; "
                "raise_shared names its shared parts"
            )


def _depth(node: Node, below: Sequence[int]) -> int:
    """How deep the raised expression is: a chain of selections is one Piecewise."""
    if node.op is select:
        return max(1 + below[0], 1 + below[1], below[2])
    return 1 + max(below, default=0)


def _short(number: int) -> str:
    return str(number) if number < 10**9 else f"2^{number.bit_length() - 1} or more"


def _worth_naming(graph: Graph) -> list[int]:
    """Nodes used more than once that are more than a leaf or a movement, and cuts through deep graphs."""
    uses: dict[int, int] = {}
    for v in graph.order:
        for u in graph.operands(v):
            uses[u] = uses.get(u, 0) + 1
    depths: dict[int, int] = {}
    sizes: dict[int, int] = {}
    named = []
    for v in graph.order:
        node, operands = graph[v], graph.operands(v)
        depths[v] = _depth(graph[v], [depths[u] for u in operands])
        sizes[v] = 1 + sum(sizes[u] for u in operands)
        plain = not operands or node.type.kind is Kind.BOOLEAN or node.op is const or node.op is input_
        moves = node.op.linear and node.op.arity == 1 and node.op.name != "sum"
        shared = uses.get(v, 0) > 1 and sizes[v] > 3 and not moves
        if not plain and (shared or depths[v] > MAX_DEPTH // 2 or sizes[v] > MAX_TREE // 10):
            named.append(v)
            depths[v] = sizes[v] = 1
    return named
