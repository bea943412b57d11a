"""Sums of values that stand in different places of one tensor become one `stack` or `concat`.

The derivative by an argument of which single elements are used, `x[0]` and `x[1]` or the angles of a robot in one
vector, is a sum with one padded term for each of them: as many tensors of the full size as there are elements. The
terms do not overlap, so putting them side by side is the same. Where only an element of that is asked for, it is taken
from its part alone.
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
from sym2tf.ops.indexing import expand, pad, slice_
from sym2tf.ops.values import Value, apply, constant, with_shape


class _Placed(NamedTuple):
    """A value, and the elements of an axis that it fills."""

    start: int
    length: int
    value: Value


def assemble(graph: Graph) -> tuple[Graph, Counter[str]]:
    """`graph` with such sums put together and slices taken from the parts; the other terms of a sum stay."""
    builder, where, fired = Builder(), dict[int, int](), Counter[str]()
    for v in graph.order:
        node, operands = graph[v], graph.operands(v)
        if node.op is add and any(graph[u].op is pad for u in operands):
            where[v] = _sum(graph, builder, v, where, fired)
            continue
        if node.op is slice_:
            builder.origin, builder.stage = node.origin, node.stage
            part = _part(Value(builder, where[operands[0]]), **node.attributes)
            if part is not None:
                fired["slice of an assembly"] += 1
                where[v] = part.id
                continue
        where[v] = builder.copy_node(graph, v, [where[u] for u in operands])
    if not fired:
        return graph, fired
    outputs = {name: where[v] for name, v in graph.outputs.items()}
    return builder.build([where[v] for v in graph.inputs], outputs, graph.info), fired


def _sum(graph: Graph, builder: Builder, v: int, where: dict[int, int], fired: Counter[str]) -> int:
    """A sum with the terms that lie side by side, along one axis, put together."""
    shape = graph[v].type.shape
    by_axis: dict[int, list[_Placed]] = {}
    rest: list[int] = []
    terms = [u for u in graph.operands(v) if not _is_zero(graph, builder, u, where)]
    if len(terms) < len(graph.operands(v)) and any(graph[u].type.shape == shape for u in terms):
        fired["padded zeros"] += len(graph.operands(v)) - len(terms)
    else:
        terms = list(graph.operands(v))
    for u in terms:
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


def _is_zero(graph: Graph, builder: Builder, u: int, where: dict[int, int]) -> bool:
    """Whether a term is a padded zero, such as the shift by which the derivative by an element is taken."""
    return graph[u].op is pad and Value(builder, where[graph.operands(u)[0]]).constant == 0


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


def _zeros(like: Value, axis: int, length: Size) -> Value:
    at = like.type.rank + axis
    shape = (*like.shape[:at], length, *like.shape[at + 1 :])
    return with_shape(constant(like.builder, 0, like.type.kind), shape)


def _part(x: Value, axis: int, start: Size, size: Size) -> Value | None:
    """A slice of what was put together, from the part that holds it; None where that is not known or nothing won."""
    rule = _PARTS.get(x.node.op)
    return None if rule is None else rule(x, axis, start, size)


def _of_expand(x: Value, axis: int, start: Size, size: Size) -> Value | None:
    made: int = x.node.attributes["axis"]
    inner = None if made == axis else _part(_operands(x)[0], axis + (made > axis), start, size)
    return None if inner is None else apply(x.builder, expand, [inner], {"axis": made})


def _of_pad(x: Value, axis: int, start: Size, size: Size) -> Value | None:
    (inner,) = _operands(x)
    before = x.node.attributes["before"]
    if x.node.attributes["axis"] != axis:
        part = _part(inner, axis, start, size)
        return None if part is None else apply(x.builder, pad, [part], x.node.attributes)
    first = start - before
    if _at_least(first, 0) and _at_least(inner.shape[axis] - first - size, 0):
        return _cut(inner, axis, first, size)
    if _at_least(before - start - size, 0) or _at_least(first - inner.shape[axis], 0):
        return _zeros(x, axis, size)
    return None


def _of_stack(x: Value, axis: int, start: Size, size: Size) -> Value | None:
    if x.node.attributes["axis"] != axis or not isinstance(start, int) or not isinstance(size, int):
        return None
    parts = _operands(x)[start : start + size]
    if size == 1:
        return apply(x.builder, expand, parts, {"axis": axis})
    return apply(x.builder, stack, parts, {"axis": axis})


def _of_concat(x: Value, axis: int, start: Size, size: Size) -> Value | None:
    if x.node.attributes["axis"] != axis:
        return None
    for part in _operands(x):
        if _at_least(start, 0) and _at_least(part.shape[axis] - start - size, 0):
            return _cut(part, axis, start, size)
        start = start - part.shape[axis]
    return None


def _cut(x: Value, axis: int, start: Size, size: Size) -> Value:
    if start == 0 and size == x.shape[axis]:
        return x
    part = _part(x, axis, start, size)
    return apply(x.builder, slice_, [x], {"axis": axis, "start": start, "size": size}) if part is None else part


def _at_least(size: Size, least: int) -> bool:
    """Whether a size is known to be that large."""
    return isinstance(size, int) and size >= least


def _operands(x: Value) -> list[Value]:
    return [Value(x.builder, u) for u in x.builder.operands[x.id]]


_PARTS = {expand: _of_expand, pad: _of_pad, stack: _of_stack, concat: _of_concat}
