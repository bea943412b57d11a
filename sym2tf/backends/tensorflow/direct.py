"""Runs a graph by calling TensorFlow at once, operation by operation, without source or tracing in between.

It reads the same `TFOp` rows as the generator of source does; the tests of the rows compare its answers with
the reference backends.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from sym2tf.backends.constants import constant_nodes, constant_values, dtype_of, rounded_numbers
from sym2tf.backends.sizes import check_names, input_types
from sym2tf.backends.tensorflow import prelude
from sym2tf.errors import GraphError
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind
from sym2tf.lazy import lazy
from sym2tf.ops.leaves import Exact, input_, size

tf = lazy("tensorflow")

INFIX: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "<": operator.lt,
    "<=": operator.le,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}


class DirectEmitter:
    """Implements `sym2tf.ir.op.Emitter` by calling TensorFlow; sizes are numbers."""

    def __init__(self, dtype: str, sizes: Mapping[str, int] | None = None) -> None:
        self.dtype_name = dtype
        self.sizes = dict(sizes or {})

    def call(self, function: str, *args: Any, **keywords: Any) -> Any:
        """A function of TensorFlow (`"tf.math.log"`) or of the prelude (`"pad_axis"`)."""
        first, *rest = function.split(".")
        found = reduce(getattr, rest, tf) if first == "tf" else getattr(prelude, function)
        return found(*args, **keywords)

    def infix(self, symbol: str, left: Any, right: Any) -> Any:
        """A Python operator on tensors."""
        return INFIX[symbol](left, right)

    def subscript(self, value: Any, axis: int, start: Any, stop: Any) -> Any:
        """The elements from `start` to before `stop` of one axis (negative)."""
        return value[(..., slice(start, stop), *(slice(None),) * (-axis - 1))]

    def size(self, size: Any) -> Any:
        """The number that a size polynomial is."""
        return evaluate_size(size, self.sizes)

    def dtype(self, kind: Kind) -> Any:
        """The TensorFlow dtype of values of `kind`."""
        return tf.as_dtype(dtype_of(kind, self.dtype_name))

    def shape(self, sizes: tuple[Any, ...]) -> Any:
        """Several sizes, or axes, as numbers."""
        return [self.size(size) for size in sizes]

    def numbers(self, values: tuple[Exact, ...], kind: Kind) -> Any:
        """Exact numbers, rounded."""
        return rounded_numbers(values, kind, self.dtype_name)


def emit(emitter: Any, op: Op, operands: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """`op` on operands in the terms of `emitter`; n-ary operations become chains of binary ones."""
    row = op.tf
    if row is None:
        raise GraphError(f"the row {op.name} names no TensorFlow operation")
    if row.form is not None:
        return row.form(emitter, *operands, **attributes)

    def apply(*xs: Any) -> Any:
        return emitter.infix(row.infix, *xs) if row.infix else emitter.call(row.call, *xs)

    return reduce(apply, operands) if op.arity is None else apply(*operands)


def run(
    graph: Graph, inputs: Mapping[str, Any], sizes: Mapping[str, int] | None = None, dtype: str = "float64"
) -> dict[str, Any]:
    """The outputs of `graph` as tensors; unlike compiled functions, not broadcast to the full batch shape.

    Args:
        graph: any graph.
        inputs: a tensor of the right dtype for each input by name.
        sizes: numbers for the size symbols of the graph.
        dtype: of reals.
    """
    check_names(input_types(graph), inputs)
    emitter = DirectEmitter(dtype, sizes)
    values: dict[int, Any] = {
        v: tf.constant(value, emitter.dtype(graph[v].type.kind)) for v, value in constant_values(graph, dtype).items()
    }
    constants = constant_nodes(graph)
    for v in graph.order:
        node = graph[v]
        if v in constants:
            continue
        if node.op is input_:
            values[v] = inputs[node.attributes["name"]]
        elif node.op is size:
            values[v] = tf.constant(emitter.size(node.attributes["size"]), tf.int64)
        else:
            values[v] = emit(emitter, node.op, [values[u] for u in graph.operands(v)], node.attributes)
    return {name: values[v] for name, v in graph.outputs.items()}
