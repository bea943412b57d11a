"""Functions of what is picked, instead of what is picked of functions.

`Sum(KroneckerDelta(h[i], k)*log(B[i, k]), ...)` takes the logarithm of one element in each row, and not of all of `B`:
gathers, slices and strides go below elementwise operations that nobody else needs. The same numbers come out, and a
derivative is zero, not 0/0, at elements that nobody looks at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from sym2tf.ir.dims import Dim, Size, evaluate_size, size_names
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ops.assembly import reshape
from sym2tf.ops.gathering import gather, stride
from sym2tf.ops.indexing import expand, slice_, squeeze, transpose
from sym2tf.passes.counting import use_counts

LONGEST = 32  # nodes that are passed at once, so that a graph of choices of choices takes linear time
NOMINAL = 64  # elements along an axis whose length is a symbol
PICKS = frozenset((gather, slice_, stride))
MOVES = PICKS | {reshape, squeeze, transpose}


def pick(graph: Graph) -> tuple[Graph, Counter[str]]:
    """`graph` with elementwise operations of one tensor after the choice of its elements; how often that was done."""
    if not any(graph[v].op in PICKS for v in graph.order):
        return graph, Counter()
    uses = use_counts(graph)
    builder, where, fired = Builder(), dict[int, int](), 0
    for v in graph.order:
        passed = _passed(graph, v, uses)
        if not passed:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
            continue
        fired += 1
        made = where[_tensor(graph, passed[-1])]
        for u in [w for w in reversed(passed) if graph[w].op in MOVES]:
            made = builder.copy_node(graph, u, [made, *(where[w] for w in graph.operands(u)[1:])])
        for u in [w for w in reversed(passed) if graph[w].op not in MOVES]:
            made = _applied(graph, builder, u, made, where)
        where[v] = made
    if not fired:
        return graph, Counter()
    outputs = {name: where[v] for name, v in graph.outputs.items()}
    found = builder.build([where[v] for v in graph.inputs], outputs, graph.info)
    return found, Counter({"function of what is picked": fired})


def _passed(graph: Graph, v: int, uses: Mapping[int, int]) -> list[int]:
    """A choice of elements, the elementwise operations under it and the movements between them, if there are any.

    The last one is elementwise. Only `v` needs the others.
    """
    if graph[v].op not in PICKS or not _fewer(graph, v):
        return []
    passed, functions = [v], 1
    u = graph.operands(v)[0]
    while uses[u] == 1 and len(passed) < LONGEST:
        inner = _tensor(graph, u)
        if inner < 0:
            break
        passed.append(u)
        if graph[u].op not in MOVES:
            functions = len(passed)
        u = inner
    return passed[:functions] if functions > 1 else []


def _tensor(graph: Graph, v: int) -> int:
    """The operand whose elements are those of `v`, the others being numbers; -1 where there is no such operand."""
    node, operands = graph[v], graph.operands(v)
    if node.op in MOVES:
        return operands[0]
    if not node.op.elementwise:
        return -1
    tensors = {u for u in operands if _is_tensor(graph, u)}
    tensor = tensors.pop() if len(tensors) == 1 else -1
    return tensor if tensor >= 0 and graph[tensor].type.shape == node.type.shape else -1


def _is_tensor(graph: Graph, v: int) -> bool:
    return any(d != 1 for d in graph[v].type.shape)


def _applied(graph: Graph, builder: Builder, v: int, made: int, where: dict[int, int]) -> int:
    """The elementwise operation `v` on other elements, `made`, of its tensor."""
    operands = [made if _is_tensor(graph, u) else _number(builder, where[u], made) for u in graph.operands(v)]
    return builder.copy_node(graph, v, operands)


def _number(builder: Builder, v: int, like: int) -> int:
    """A value of one element with as many axes as `like`."""
    due = builder.nodes[like].type.rank
    while builder.nodes[v].op is expand and builder.nodes[v].type.rank > due:
        (v,) = builder.operands[v]
    while builder.nodes[v].type.rank > due:
        v = builder.add(squeeze, [v], {"axis": -1})
    while builder.nodes[v].type.rank < due:
        v = builder.add(expand, [v], {"axis": -1})
    return v


def _fewer(graph: Graph, v: int) -> bool:
    """Whether a choice has fewer elements, about, than what it chooses from."""
    return _elements(graph[v].type.shape) < _elements(graph[graph.operands(v)[0]].type.shape)


def _elements(shape: Sequence[Size]) -> int:
    """About how many elements there are."""
    return math.prod(
        evaluate_size(d, dict.fromkeys(size_names(d), NOMINAL)) if isinstance(d, Dim) else d for d in shape
    )
