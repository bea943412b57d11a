"""Which elements of the outputs can depend on which elements of the inputs, from the graph and the sizes alone.

One sweep with three facts about every node: the input elements that each of its elements reads, where it is zero
whatever the inputs are, and its value where no real input has a part in it. What is found holds for every value of the
inputs: never too little, possibly too much (`x - x` cancels nothing here). Index data are values, so that a gather
counts as the elements that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from sym2tf.autodiff.incidence import Columns, Incidence, elements_of, nothing, own
from sym2tf.autodiff.reads import (
    EVALUATED,
    FILLING,
    MOVEMENTS,
    READS,
    STEPS,
    Fact,
    Rule,
    choices,
    einsum_lengths,
    elementwise,
    everything,
    mask_of,
    product_of,
)
from sym2tf.ir.dims import evaluate_size, has_sizes, resolved
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind
from sym2tf.ops import arithmetic as ar
from sym2tf.ops import contraction, elementary, indexing, logic, piecewise_linear, special
from sym2tf.ops.leaves import const, input_, size

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
_DTYPES = {Kind.BOOLEAN: bool, Kind.INTEGER: np.int64, Kind.REAL: np.float64, Kind.COMPLEX: np.complex128}


def dependencies(
    graph: Graph, wrt: Sequence[int], sizes: Mapping[str, int], data: Mapping[str, Array]
) -> dict[str, Incidence]:
    """For each output the elements of `wrt`, numbered one input after the other, that each of its elements reads.

    Args:
        graph: any graph.
        wrt: input nodes of it.
        sizes: numbers for all size symbols.
        data: values of integer and Boolean inputs by name; what is missing counts as unknown, and a gather by it as
            reading everything.

    Raises:
        ResourceLimitError: the structure itself would fill the memory.
    """
    columns = Columns(tuple(elements_of(_shape(graph[v], sizes)) for v in wrt))
    places = {v: k for k, v in enumerate(wrt)}
    uses = {u: v for v in graph.order for u in graph.operands(v)}  # the last one
    outputs = set(graph.outputs.values())
    facts: dict[int, Fact] = {}
    with np.errstate(all="ignore"):
        for v in graph.order:
            node = graph[v]
            shape = _shape(node, sizes)
            if v in places:
                facts[v] = Fact(node.op, shape, reads=own(columns, places[v]))
                continue
            operands = graph.operands(v)
            facts[v] = _fact(node, shape, [facts[u] for u in operands], sizes, data)
            for u in set(operands):
                if uses[u] == v and u not in outputs:
                    del facts[u]
    found = {name: facts[v] for name, v in graph.outputs.items()}
    return {k: nothing(elements_of(f.shape), columns) if f.reads is None else f.reads for k, f in found.items()}


def _shape(node: Node, sizes: Mapping[str, int]) -> Shape:
    return tuple(evaluate_size(d, sizes) for d in node.type.shape)


def _fact(node: Node, shape: Shape, xs: list[Fact], sizes: Mapping[str, int], data: Mapping[str, Array]) -> Fact:
    op = node.op
    attributes = resolved(node.attributes, sizes) if has_sizes(node.attributes) else node.attributes
    if all(x.reads is None for x in xs):
        known = _known(node, shape, xs, attributes, data)
        if known is not None:
            return Fact(op, shape, support=_zeros(known, shape), known=known)
        return Fact(op, shape, support=_support(op, xs, attributes, shape))
    if node.type.kind < Kind.REAL or op in STEPS:
        return Fact(op, shape)
    support = _support(op, xs, attributes, shape)
    rule: Rule = READS.get(op, elementwise if op.elementwise else everything)
    reads = rule(xs, attributes, shape)
    if support is not None:
        reads = reads.take(np.where(support.ravel(), np.arange(len(reads)), -1))
    return Fact(op, shape, reads, support)


# Values ---------------------------------------------------------------------------------------------------------


def _known(
    node: Node, shape: Shape, xs: Sequence[Fact], attributes: Mapping[str, Any], data: Mapping[str, Array]
) -> Array | None:
    """The value of a node that no real input has a part in, if it is not too large."""
    op = node.op
    if op is input_:
        return data.get(attributes["name"]) if node.type.kind < Kind.REAL else None
    if op is const:
        value = attributes["value"]
        return np.asarray(float(value) if isinstance(value, Fraction) else value, _DTYPES[node.type.kind])
    if op is size:
        return np.asarray(attributes["size"], np.int64)
    if any(x.known is None for x in xs) or product_of(shape) > EVALUATED:
        return None
    if op is ar.cast:
        return np.asarray(xs[0].known, _DTYPES[attributes["kind"]])
    if op.numpy is None:
        return None
    return np.asarray(op.numpy(*(x.known for x in xs), **attributes))


def _zeros(known: Array, shape: Shape) -> Array | None:
    return None if known.size and known.all() else _ever(known != 0, shape)


def _ever(condition: Array, shape: Shape) -> Array:
    """Whether a condition holds in any element of the batch; of core shape `shape`."""
    batch = tuple(range(condition.ndim - len(shape)))
    answer: Array = np.broadcast_to(condition.any(axis=batch), shape)
    return answer


# Zeros ----------------------------------------------------------------------------------------------------------


def _support(op: Op, xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Array | None:
    """Where a node can be other than zero; None: anywhere."""
    if op in MOVEMENTS:
        fills = op in FILLING
        if not fills and all(x.support is None for x in xs):
            return None
        return np.asarray(op.numpy(*(mask_of(x) for x in xs), **attributes))  # type: ignore[misc]
    rule = SUPPORTS.get(op)
    return None if rule is None else rule(xs, attributes, shape)


def _sum_support(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Array | None:
    if any(x.support is None for x in xs):
        return None
    total = np.zeros(shape, bool)
    for x in xs:
        total |= mask_of(x)
    return total


def _product_support(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Array | None:
    some = [x.support for x in xs if x.support is not None]
    if not some:
        return None
    total = np.ones(shape, bool)
    for support in some:
        total &= support
    return total


def _first_support(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Array | None:
    support = xs[0].support
    return None if support is None else np.broadcast_to(support, shape)


def _choice_support(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Array | None:
    first, second = choices(xs[0], shape)
    support: Array = (first & mask_of(xs[1])) | (second & mask_of(xs[2]))
    return support


def _total_support(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Array | None:
    support = xs[0].support
    return None if support is None else support.any(axis=attributes["axes"])


def _einsum_support(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Array | None:
    if all(x.support is None for x in xs):
        return None
    inputs, output = attributes["inputs"], attributes["output"]
    lengths = einsum_lengths(xs, inputs)
    if product_of(tuple(lengths.values())) > EVALUATED:
        return None
    masks = [mask_of(x).astype(np.float32) for x in xs]
    equation = ",".join(inputs) + "->" + output
    return np.asarray(np.einsum(equation, *masks, optimize=len(masks) > 2) != 0)


_ODD = (  # zero at zero
    *(ar.cast, ar.neg, ar.square, ar.sqrt, elementary.sin, elementary.tan, elementary.asin, elementary.atan),
    *(elementary.sinh, elementary.tanh, elementary.asinh, elementary.atanh, elementary.log1p, elementary.expm1),
    *(special.erf, piecewise_linear.abs_, piecewise_linear.sign),
)
SUPPORTS: dict[Op, Callable[..., Array | None]] = {
    **dict.fromkeys((ar.add, ar.sub), _sum_support),
    **dict.fromkeys(_ODD, _first_support),
    ar.mul: _product_support,
    ar.div: _first_support,
    logic.select: _choice_support,
    indexing.sum_: _total_support,
    contraction.einsum: _einsum_support,
}
