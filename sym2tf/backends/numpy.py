"""The reference backend: runs a graph with NumPy, node by node, and does real work where data are small.

`program` makes the list of steps once; a call then costs little more than the NumPy functions in it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from sym2tf.backends.constants import constant_nodes, constant_values, dtype_of, rounded_numbers
from sym2tf.backends.sizes import (
    batch_shape,
    check_names,
    core_shape,
    input_types,
    prefix_slices,
)
from sym2tf.errors import DtypeError, GraphError
from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import evaluate_size, has_sizes, resolved
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.lazy import lazy
from sym2tf.ops.arithmetic import add, cast, mul, pow_
from sym2tf.ops.assembly import table
from sym2tf.ops.leaves import input_, size

ml_dtypes = lazy("ml_dtypes")

Array = np.ndarray[Any, Any]
Step = tuple[Callable[..., Any], tuple[int, ...], int, tuple[int, ...]]  # function, operands, result, dead operands
Program = Callable[..., dict[str, Array]]

DTYPES = ("float64", "float32", "bfloat16", "float16")


def evaluate(
    graph: Graph, inputs: Mapping[str, Any], sizes: Mapping[str, int] | None = None, dtype: str = "float64"
) -> dict[str, Array]:
    """The outputs of `graph`, each of the full batch shape followed by its core shape.

    Args:
        graph: any graph.
        inputs: an array for each input; leading axes beyond the core are batch axes and broadcast.
        sizes: numbers for size symbols where the data do not say them, or say more than is to be used.
        dtype: of reals: `"float64"`, `"float32"`, `"bfloat16"` or `"float16"`.

    Raises:
        ArgumentError: missing or unknown inputs.
        DtypeError: an unknown dtype, or complex data for a real input.
        ShapeError, SizeError: shapes that do not fit the graph or each other.
    """
    return program(graph, dtype)(inputs, sizes)


def program(graph: Graph, dtype: str = "float64") -> Program:
    """A function `(inputs, sizes=None) -> outputs` that runs `graph`; see `evaluate` for the arguments."""
    if dtype not in DTYPES:
        raise DtypeError(f"the NumPy backend computes in {', '.join(DTYPES)}, not in {dtype!r}")
    types = input_types(graph)
    needed = graph.size_names()
    scalar = not needed and not any(type.rank for type in types.values())
    binding = Binding(graph)

    def bind(shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]) -> dict[str, int]:
        for name, type in types.items():
            core_shape(name, type, shapes[name])
        return binding.bind(shapes, sizes)

    kinds = {name: numpy_dtype(type.kind, dtype) for name, type in types.items()}
    slots = {v: k for k, v in enumerate(graph.order)}
    arguments = [(graph[v].attributes["name"], slots[v]) for v in graph.inputs]
    initial: list[Any] = [None] * len(slots)
    for v, value in constant_values(graph, dtype).items():
        initial[slots[v]] = numpy_dtype(graph[v].type.kind, dtype).type(value)
    steps = _steps(graph, dtype, slots)
    outputs = [(name, slots[v], graph[v].type) for name, v in graph.outputs.items()]
    bound_steps: tuple[dict[str, int], list[Step]] = (
        {},
        [] if needed else [_bind(step, {}) for step in steps],
    )

    def run(inputs: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
        nonlocal bound_steps
        if inputs.keys() != types.keys():
            check_names(types, inputs)
        arrays = {name: _converted(name, inputs[name], due) for name, due in kinds.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        bound = {} if scalar else bind(shapes, sizes or {})
        if sizes:
            for name, type in types.items():
                cut = prefix_slices(type, core_shape(name, type, shapes[name]), bound)
                if cut is not None:
                    arrays[name] = arrays[name][cut]
        batch = batch_shape(types, shapes) if not scalar or any(shapes.values()) else ()
        known, current = bound_steps  # one tuple: another thread may replace it meanwhile
        if known != bound:
            current = [_bind(step, bound) for step in steps]
            bound_steps = (bound, current)
        values = initial.copy()
        for name, slot in arguments:
            values[slot] = arrays[name]
        with np.errstate(all="ignore"):
            for function, operands, slot, done in current:
                values[slot] = function(*[values[k] for k in operands])
                for k in done:
                    values[k] = None
        return {
            name: _full(values[slot], (*batch, *(evaluate_size(d, bound) for d in type.shape)))
            for name, slot, type in outputs
        }

    return run


def numpy_dtype(kind: Kind, dtype: str) -> np.dtype[Any]:
    """The NumPy dtype of values of `kind` in a program whose reals are `dtype`."""
    name = dtype_of(kind, dtype)
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def fractions_in(array: Array) -> Array:
    """The elements of an array of floats that no int64 is: fractions, NaN, infinities, what is too large."""
    numbers = array.astype(np.float64)
    wrong: Array = numbers[~(np.isfinite(numbers) & (numbers == np.trunc(numbers)) & (np.abs(numbers) < 2.0**63))]
    return wrong


def _converted(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    array = np.asarray(value)
    if array.dtype == dtype:
        return array
    if array.dtype.kind == "c" or (dtype.kind == "i" and array.dtype.kind not in "iub"):
        raise DtypeError(f"{name} is {array.dtype}, which {dtype} cannot hold")
    return array.astype(dtype)


def _full(value: Any, shape: tuple[int, ...]) -> Array:
    array: Array = np.asarray(value)
    return array if array.shape == shape and array.flags.owndata else np.broadcast_to(array, shape).copy()


def _steps(graph: Graph, dtype: str, slots: Mapping[int, int]) -> list[tuple[Node, Any, Step]]:
    constants = constant_nodes(graph)
    computed = [v for v in graph.order if v not in constants and graph[v].op is not input_]
    last = {u: v for v in computed for u in graph.operands(v)}
    outputs = set(graph.outputs.values())
    done: dict[int, list[int]] = {}
    for u, v in last.items():
        if u not in outputs and u not in constants:
            done.setdefault(v, []).append(slots[u])
    return [
        (
            graph[v],
            implementation(graph, v, dtype),
            (
                operator.pos,
                tuple(slots[u] for u in graph.operands(v)),
                slots[v],
                tuple(done.get(v, ())),
            ),
        )
        for v in computed
    ]


def _bind(step: tuple[Node, Any, Step], sizes: Mapping[str, int]) -> Step:
    node, function, (_, operands, slot, done) = step
    if node.op is size:
        number = np.int64(evaluate_size(node.attributes["size"], sizes))
        return lambda: number, operands, slot, done
    if node.op is table:
        return function, operands, slot, done
    if node.attributes and node.op is not cast:
        attributes = resolved(node.attributes, sizes) if has_sizes(node.attributes) else node.attributes
        function = partial(function, **attributes)
    return function, operands, slot, done


def implementation(graph: Graph, v: int, dtype: str) -> Callable[..., Any]:
    """The function of the operands that computes `v`; attributes are bound later."""
    node, operands = graph[v], graph.operands(v)
    kind = node.type.kind
    due = numpy_dtype(kind, dtype)
    if node.op is size:
        return np.int64
    if node.op is table:
        shape: tuple[int, ...] = node.attributes["shape"]
        numbers = np.array(rounded_numbers(node.attributes["values"], kind, dtype), due).reshape(shape)
        return lambda: numbers
    if node.op is cast:
        return lambda x: x.astype(due)
    if node.op in (add, mul) and len(operands) == 2:
        function: Any = operator.add if node.op is add else operator.mul
    elif node.op is pow_ and graph[operands[1]].attributes.get("value") == 2:
        function = lambda x, _: x * x
    elif node.op is pow_ and graph[operands[1]].attributes.get("value") == -1:
        one = due.type(1)
        function = lambda x, _: one / x
    elif node.op.numpy is not None:
        function = node.op.numpy
    else:
        raise GraphError(f"the row {node.op.name} has no NumPy implementation")
    if dtype == "bfloat16" and kind in (Kind.REAL, Kind.BOOLEAN):
        return _through_float32(function, due)
    if dtype != "float64" and kind is Kind.REAL:
        return _keeping(function, due)
    return function


def _keeping(function: Callable[..., Any], dtype: np.dtype[Any]) -> Callable[..., Any]:
    """`function` with its result in `dtype`: some of SciPy's know only float64."""

    def kept(*operands: Any, **attributes: Any) -> Any:
        result = function(*operands, **attributes)
        return result if result.dtype == dtype else result.astype(dtype)

    return kept


def _through_float32(function: Callable[..., Any], dtype: np.dtype[Any]) -> Callable[..., Any]:
    """`function` computed in float32 and rounded to bfloat16, as the kernels of TensorFlow do."""

    def computed(*operands: Any, **attributes: Any) -> Any:
        widened = (x.astype(np.float32) if x.dtype.name == "bfloat16" else x for x in operands)
        return np.asarray(function(*widened, **attributes)).astype(dtype)

    return computed
