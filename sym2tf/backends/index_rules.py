"""What each operation makes of indices: the rules for raising a graph element by element.

A rule takes the raising, the node and the indices of one of its elements, and gives the elements of operands that are
needed, and the function that puts these together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

import sympy as sp

from sym2tf.backends.index_form import (
    Demand,
    Indices,
    Limits,
    Raising,
    Rule,
    index_symbols,
    piecewise,
    reduction_heights,
)
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.notation import MaxOver, MinOver, over_limits
from sym2tf.ops import OPS

Raised = tuple[list[Demand], Callable[..., Any]]


def raising(graph: Graph, named: Mapping[int, Any] | None = None) -> Raising:
    """The raising of a graph; `named` nodes have names, or matrix expressions, instead."""
    heights = reduction_heights(graph)
    return Raising(graph, RULES, {} if named is None else named, index_symbols(graph, heights), heights)


def _leaf(value: Callable[[Raising, Node, Indices], Any]) -> Rule:
    return lambda r, v, node, at: ([], lambda: value(r, node, at))


def _moved(index: Callable[[Raising, Node, Indices], Indices]) -> Rule:
    """A data movement: the element of the operand at other indices."""

    def rule(r: Raising, v: int, node: Node, at: Indices) -> Raised:
        return [r.demand(r.graph.operands(v)[0], index(r, node, at))], lambda x: x

    return rule


def _input(r: Raising, node: Node, at: Indices) -> Any:
    symbol = node.attributes["symbol"]
    if not isinstance(symbol, sp.Basic):
        symbol = sp.Symbol(node.attributes["name"])
    if not at:
        return symbol
    if isinstance(symbol, sp.IndexedBase) or getattr(symbol, "is_Matrix", False):
        return symbol[at]
    return sp.IndexedBase(str(symbol))[at]


def _const(r: Raising, node: Node, at: Indices) -> Any:
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


def _permuted(r: Raising, node: Node, at: Indices) -> Indices:
    axes = node.attributes["axes"]
    front = len(at) - len(axes)
    source = dict(zip(axes, at[front:], strict=True))
    return (*at[:front], *(source[k - len(axes)] for k in range(len(axes))))


def _pad(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    axis, before = node.attributes["axis"], r.size(node.attributes["before"])
    (u,) = r.graph.operands(v)
    index, length = at[len(at) + axis], r.size(r.graph[u].type.shape[axis])
    inside = [sp.Ge(index, before)] * (before != 0) + [sp.Lt(index, before + length)] * (node.attributes["after"] != 0)
    return [r.demand(u, _shifted(at, axis, -before))], lambda x: piecewise([(x, sp.And(*inside))], sp.S.Zero)


def _reduction(combine: Callable[[Any, Limits], Any]) -> Rule:
    def rule(r: Raising, v: int, node: Node, at: Indices) -> Raised:
        axes = node.attributes["axes"] if "axes" in node.attributes else (node.attributes["axis"],)
        (u,) = r.graph.operands(v)
        shape = r.graph[u].type.shape
        indices = r.summation_indices(v, len(axes))
        limits = [(i, sp.S.Zero, r.size(shape[a]) - 1) for i, a in zip(indices, axes, strict=True) if shape[a] != 1]
        return [r.demand(u, _inserted(at, axes, indices))], lambda x: combine(x, limits)

    return rule


def _einsum(r: Raising, v: int, node: Node, at: Indices) -> Raised:
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


def _prod_others(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    (u,) = r.graph.operands(v)
    (index,) = r.summation_indices(v, 1)
    limits = [(index, sp.S.Zero, r.size(node.type.shape[-1]) - 1)]
    return [r.demand(u, (*at[:-1], index))], lambda x: over_limits(
        sp.Product, sp.Piecewise((1, sp.Eq(index, at[-1])), (x, True), evaluate=False), limits
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
    return sp.Mul(*outside, over_limits(sp.Sum, sp.Mul(*inside), limits), evaluate=True)


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


def _extreme(notation: Any) -> Callable[[Any, Limits], Any]:
    return lambda x, limits: over_limits(notation, x, limits) if limits else x


def _any(x: Any, limits: Limits) -> Any:
    return sp.Ne(_sum(_indicator(x), limits), 0) if limits else x


def _indicator(condition: Any) -> Any:
    return piecewise([(sp.S.One, condition)], sp.S.Zero)


def _cast(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    (u,) = r.graph.operands(v)
    condition = r.graph[u].type.kind is Kind.BOOLEAN and node.type.kind is not Kind.BOOLEAN
    return r.demands(v, at), _indicator if condition else lambda x: x


# Parts, places and running sums --------------------------------------------------------------------------------------


def _chosen(at: Any, parts: list[tuple[Any, Any]]) -> Any:
    """The part whose condition holds; the last one needs none."""
    return piecewise(parts[:-1], parts[-1][0])


def _stack(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    operands, axis = r.graph.operands(v), node.attributes["axis"]
    place, rest = at[len(at) + axis], _without(at, axis)
    if place.is_Integer:
        return [r.demand(operands[int(place)], rest)], lambda x: x
    conditions = [sp.Eq(place, k) for k in range(len(operands))]
    return [r.demand(u, rest) for u in operands], lambda *xs: _chosen(at, list(zip(xs, conditions, strict=True)))


def _concat(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    axis, start = node.attributes["axis"], sp.S.Zero
    place = at[len(at) + axis]
    needed, conditions = [], []
    for u in r.graph.operands(v):
        needed.append(r.demand(u, _shifted(at, axis, -start)))
        start += r.size(r.graph[u].type.shape[axis])
        conditions.append(sp.Lt(place, start))
    return needed, lambda *xs: _chosen(at, list(zip(xs, conditions, strict=True)))


def _reshape(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    """The place in row-major order, in the lengths of the operand; lengths that stay keep their index."""
    (u,) = r.graph.operands(v)
    front = len(at) - len(node.attributes["shape"])
    new = [(i, r.size(d)) for i, d in zip(at[front:], node.attributes["shape"], strict=True) if d != 1]
    old = [r.size(d) for d in r.graph[u].type.shape[front:] if d != 1]
    if [d for _, d in new] == old:
        places = [i for i, _ in new]
    else:
        flat = sp.S.Zero
        for index, length in new:
            flat = flat * length + index
        places = []
        for k, length in reversed(list(enumerate(old))):
            places.insert(0, sp.Mod(flat, length) if k else flat)
            flat = sp.floor(flat / length)
    indices = iter(places)
    shape = r.graph[u].type.shape[front:]
    return [(u, (*at[:front], *(sp.S.Zero if d == 1 else next(indices) for d in shape)))], lambda x: x


def _gather(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    x, index = r.graph.operands(v)
    rank, rest = node.attributes["rank"], -node.attributes["axis"] - 1
    first = len(at) - rest - rank
    place = r.demand(index, at[first : first + rank])
    if place not in r.known:
        return [place], lambda i: i
    return [r.demand(x, (*at[:first], r.known[place], *at[first + rank :]))], lambda element: element


def _scatter_add(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    x, index = r.graph.operands(v)
    rank, axis = node.attributes["rank"], len(at) + node.attributes["axis"]
    places = r.summation_indices(v, rank)
    shape = r.graph[index].type.shape
    limits = [(i, sp.S.Zero, r.size(d) - 1) for i, d in zip(places, shape, strict=True) if d != 1]
    needed = [r.demand(x, (*at[:axis], *places, *at[axis + 1 :])), r.demand(index, places)]
    last = r.size(node.attributes["size"]) - 1

    def build(element: Any, place: Any) -> Any:
        element, place = _unclamped(element, place, last)
        return _sum(element * sp.KroneckerDelta(place, at[axis]), limits)

    return needed, build


def _unclamped(element: Any, place: Any, last: Any) -> tuple[Any, Any]:
    """A term and its place, without the mask and the clamp to `last`: a delta alone hides what is outside."""
    inner = [a for a in place.args if a != last] if isinstance(place, sp.Min) else []
    free = [a for a in inner[0].args if a != 0] if len(inner) == 1 and isinstance(inner[0], sp.Max) else []
    if len(free) != 1 or not isinstance(element, sp.Piecewise) or element.args[1:] != ((sp.S.Zero, sp.true),):
        return element, place
    value, condition = element.args[0]
    due = {free[0], last - free[0]}
    rest = []
    for part in sp.And.make_args(condition):
        distance = _distance(part)
        if distance in due:
            due.remove(distance)
        else:
            rest.append(part)
    return (element, place) if due else (piecewise([(value, sp.And(*rest))], sp.S.Zero), free[0])


def _distance(condition: Any) -> Any:
    """What is not negative where an inequality of integers holds."""
    if not isinstance(condition, sp.Ge | sp.Gt | sp.Le | sp.Lt):
        return None
    return sp.expand(condition.gts - condition.lts - int(isinstance(condition, sp.Gt | sp.Lt)))


def _cumsum(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    axis = node.attributes["axis"]
    (u,), (index,) = r.graph.operands(v), r.summation_indices(v, 1)
    place, last = at[len(at) + axis], r.size(node.type.shape[axis]) - 1
    one = int(node.attributes["exclusive"])
    limit = (index, place + one, last) if node.attributes["reverse"] else (index, sp.S.Zero, place - one)
    k = len(at) + axis
    return [r.demand(u, (*at[:k], index, *at[k + 1 :]))], lambda x: _sum(x, [limit])


def _correlate(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    dims = node.attributes["dims"]
    x, k = r.graph.operands(v)
    channel, *offsets = indices = r.summation_indices(v, dims + 1)
    shape = r.graph[k].type.shape
    limits = [(i, sp.S.Zero, r.size(d) - 1) for i, d in zip(indices, shape[-dims - 1 :], strict=True) if d != 1]
    *front, output = at[:-dims]
    offsets = [sp.S.Zero if d == 1 else i for i, d in zip(offsets, shape[-dims:], strict=True)]
    places = (i + j for i, j in zip(at[-dims:], offsets, strict=True))
    needed = [r.demand(k, (*front, output, channel, *offsets)), r.demand(x, (*front, channel, *places))]
    return needed, lambda weight, element: _sum(weight * element, limits)


def _dilate(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    axis, step, start = node.attributes["axis"], node.attributes["step"], r.size(node.attributes["start"])
    (u,) = r.graph.operands(v)
    distance, k = at[len(at) + axis] - start, len(at) + axis
    place = distance / step
    inside = sp.And(
        sp.Eq(sp.Mod(distance, step), 0), sp.Ge(place, 0), sp.Lt(place, r.size(r.graph[u].type.shape[axis]))
    )
    return [r.demand(u, (*at[:k], place, *at[k + 1 :]))], lambda x: piecewise([(x, inside)], sp.S.Zero)


def _strided(r: Raising, node: Node, at: Indices) -> Indices:
    k = len(at) + node.attributes["axis"]
    return (*at[:k], r.size(node.attributes["start"]) + node.attributes["step"] * at[k], *at[k + 1 :])


def _softmax(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    axes, shape = node.attributes["axes"], node.type.shape
    (u,), indices = r.graph.operands(v), r.summation_indices(v, len(node.attributes["axes"]))
    limits = [(i, sp.S.Zero, r.size(shape[a]) - 1) for i, a in zip(indices, axes, strict=True) if shape[a] != 1]
    inner = list(at)
    for index, axis in zip(indices, axes, strict=True):
        inner[axis] = index
    needed = [r.demand(u, at), r.demand(u, tuple(inner))]
    return needed, lambda x, each: sp.exp(x) / _sum(sp.exp(each), limits)


def _diag(r: Raising, v: int, node: Node, at: Indices) -> Raised:
    return [r.demand(r.graph.operands(v)[0], at[:-1])], lambda x: x * sp.KroneckerDelta(at[-2], at[-1])


def _table(r: Raising, node: Node, at: Indices) -> Any:
    values = [
        sp.Rational(x.numerator, x.denominator) if isinstance(x, Fraction) else sp.sympify(x)
        for x in node.attributes["values"]
    ]
    array = sp.ImmutableDenseNDimArray(values, node.attributes["shape"])
    return array[at] if at else values[0]


RULES: dict[str, Rule] = {
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
    "prod": _reduction(lambda x, limits: over_limits(sp.Product, x, limits) if limits else x),
    "logsumexp": _reduction(lambda x, limits: sp.log(_sum(sp.exp(x), limits))),
    "reduce_max": _reduction(_extreme(MaxOver)),
    "reduce_min": _reduction(_extreme(MinOver)),
    "reduce_any": _reduction(_any),
    "einsum": _einsum,
    "eye": _leaf(lambda r, node, at: sp.KroneckerDelta(*at)),
    "diag": _diag,
    "table": _leaf(_table),
    "stack": _stack,
    "concat": _concat,
    "reshape": _reshape,
    "gather": _gather,
    "scatter_add": _scatter_add,
    "one_hot": lambda r, v, node, at: (
        [r.demand(r.graph.operands(v)[0], at[:-1])],
        lambda index: sp.KroneckerDelta(index, at[-1]),
    ),
    "floor_divide": lambda r, v, node, at: (
        r.demands(v, at),
        lambda x: sp.floor(x / r.size(node.attributes["by"])),
    ),
    "cumsum": _cumsum,
    "correlate": _correlate,
    "stride": _moved(_strided),
    "dilate": _dilate,
    "softmax": _softmax,
    "prod_others": _prod_others,
}
