"""Sums of values that stand in different places of one tensor become one `stack` or `concat`.

The derivative by an argument of which single elements are used, `x[0]` and `x[1]` or the angles of a robot in one
vector, is a sum with one padded term for each of them: as many tensors of the full size as there are elements. The
terms do not overlap, so putting them side by side is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import add
from sym2tf.ops.assembly import concat, stack
from sym2tf.ops.indexing import expand, pad
from sym2tf.ops.values import Value, apply, constant, with_shape


class _Placed(NamedTuple):
    """A value, and the elements of an axis that it fills."""

    start: int
    length: int
    value: Value


def assemble(graph: Graph) -> tuple[Graph, Counter[str]]:
    """`graph` with such sums put together; the other terms of a sum stay."""
    builder, where, fired = Builder(), dict[int, int](), Counter[str]()
    for v in graph.order:
        if graph[v].op is add and sum(graph[u].op is pad for u in graph.operands(v)) > 1:
            where[v] = _sum(graph, builder, v, where, fired)
        else:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    if not fired:
        return graph, fired
    outputs = {name: where[v] for name, v in graph.outputs.items()}
    return builder.build([where[v] for v in graph.inputs], outputs, graph.info), fired


def _sum(graph: Graph, builder: Builder, v: int, where: dict[int, int], fired: Counter[str]) -> int:
    """A sum with the terms that lie side by side, along one axis, put together."""
    shape = graph[v].type.shape
    by_axis: dict[int, list[_Placed]] = {}
    rest = []
    for u in graph.operands(v):
        placed = _place(graph, builder, u, where) if graph[u].type.shape == shape else None
        if placed is None:
            rest.append(where[u])
        else:
            by_axis.setdefault(graph[u].attributes["axis"], []).append(placed)
    builder.origin, builder.stage = graph[v].origin, graph[v].stage
    for axis, parts in by_axis.items():
        parts.sort(key=lambda p: p.start)
        apart = all(a.start + a.length <= b.start for a, b in pairwise(parts))
        if len(parts) > 1 and apart:
            fired["padded terms side by side"] += len(parts)
            rest.append(_side_by_side(builder, parts, axis, shape[axis]).id)
        else:
            rest += [_padded(p.value, axis, p.start, shape[axis]).id for p in parts]
    return rest[0] if len(rest) == 1 else builder.add(add, rest)


def _place(graph: Graph, builder: Builder, u: int, where: dict[int, int]) -> _Placed | None:
    """What a padded term holds and where, if these are numbers."""
    if graph[u].op is not pad or graph[u].type.kind is not Kind.REAL:
        return None
    (x,) = graph.operands(u)
    start, length = graph[u].attributes["before"], graph[x].type.shape[graph[u].attributes["axis"]]
    if not isinstance(start, int) or not isinstance(length, int):
        return None
    return _Placed(start, length, Value(builder, where[x]))


def _side_by_side(builder: Builder, parts: Sequence[_Placed], axis: int, size: Size) -> Value:
    """The parts along `axis`, with zeros between them and at the ends."""
    segments: list[Value] = []
    run: list[Value] = []
    end = parts[0].start
    for part in parts:
        if part.start > end:
            segments += [_joined(builder, run, axis), _zeros(part.value, axis, part.start - end)]
            run = []
        run.append(part.value)
        end = part.start + part.length
    segments.append(_joined(builder, run, axis))
    whole = segments[0] if len(segments) == 1 else apply(builder, concat, segments, {"axis": axis})
    return _padded(whole, axis, parts[0].start, size)


def _joined(builder: Builder, run: Sequence[Value], axis: int) -> Value:
    """Values one after the other: where each has a new axis of length 1 there, a stack of what they were without it."""
    if len(run) == 1:
        return run[0]
    inner = [_unexpanded(x, axis) for x in run]
    if all(x is not None for x in inner):
        return _stacked(builder, [x for x in inner if x is not None], axis)
    return apply(builder, concat, run, {"axis": axis})


def _stacked(builder: Builder, xs: Sequence[Value], axis: int) -> Value:
    """A stack, with axes of length 1 that all of its parts have got made once."""
    for new in range(-1, -xs[0].type.rank - 1, -1):
        inner = [_unexpanded(x, new) for x in xs]
        if all(x is not None for x in inner):
            place = new if new > axis else new - 1  # in the result
            whole = _stacked(builder, [x for x in inner if x is not None], axis + (place > axis))
            return apply(builder, expand, [whole], {"axis": place})
    return apply(builder, stack, xs, {"axis": axis})


def _unexpanded(x: Value, axis: int) -> Value | None:
    """What `x` was made of by `expand` along `axis`, through axes made after that; None if it was not."""
    node = x.node
    if node.op is not expand:
        return None
    (operand,) = (Value(x.builder, u) for u in x.builder.operands[x.id])
    made: int = node.attributes["axis"]
    if made == axis:
        return operand
    inner = _unexpanded(operand, axis + (made > axis))
    return None if inner is None else apply(x.builder, expand, [inner], {"axis": made + (axis > made)})


def _padded(x: Value, axis: int, before: Size, size: Size) -> Value:
    after = size - before - x.shape[axis]
    if before == 0 and after == 0:
        return x
    padded: Value = pad(x, axis=axis, before=before, after=after)
    return padded


def _zeros(like: Value, axis: int, length: int) -> Value:
    at = like.type.rank + axis
    shape = (*like.shape[:at], length, *like.shape[at + 1 :])
    return with_shape(constant(like.builder, 0, Kind.REAL), shape)
