"""The judge: evaluates a graph in high precision, on object arrays of mpmath numbers.

Zero has no sign here and nothing overflows: what a formula means over the reals, with inf and NaN where IEEE
arithmetic has them. Complex values are outside the domain and become NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from sym2tf.backends.sizes import at_sizes, check_names, input_types
from sym2tf.errors import GraphError
from sym2tf.ir.dims import evaluate_size, resolved
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind
from sym2tf.ops.assembly import table
from sym2tf.ops.leaves import const, input_, size

GUARD_DIGITS = 10
# Beyond 2**MAX_MAGNITUDE a periodic or exponential function would need that many bits of pi or of log(2).
MAX_MAGNITUDE = 1 << 14
_CHEAP_AT_ANY_SIZE = {
    *("add", "mul", "pow", "log", "cast", "neg", "sub", "div", "reciprocal", "square", "sqrt"),
    *("log1p", "softplus", "xlogy", "asinh", "acosh", "atan", "atan2"),
    *("abs", "sign", "floor", "ceiling", "max", "min"),
    *("less", "less_equal", "equal", "not_equal", "and", "or", "xor", "not", "select"),
}


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
    *,
    digits: int = 50,
    through: Callable[[Node, Any], Any] | None = None,
) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of `graph` as object arrays (of mpf, int or bool) of the full batch and core shape.

    Args:
        graph: any graph.
        inputs: a scalar or array for each input by name; floats are taken as the exact numbers that they are.
        sizes: numbers for size symbols, where the shapes of the inputs do not give them.
        digits: decimal digits to work with; ten more are kept on the way.
        through: what every node's value goes through before others use it; to see what rounding would do, say.

    Raises:
        ArgumentError: missing or unknown inputs.
        ShapeError, SizeError: shapes that do not fit the graph or each other.
    """
    types = input_types(graph)
    check_names(types, inputs)
    with mpmath.workdps(digits + GUARD_DIGITS), np.errstate(all="ignore"):
        objects = {name: to_objects(inputs[name], type.kind) for name, type in types.items()}
        arrays, bound, batch = at_sizes(graph, objects, sizes or {})
        values = _run(graph, arrays, bound, through or _unchanged)
        result = {}
        for name, v in graph.outputs.items():
            core = tuple(evaluate_size(d, bound) for d in graph[v].type.shape)
            result[name] = np.broadcast_to(values[v], (*batch, *core)).copy()
    return result


def to_objects(value: Any, kind: Kind) -> np.ndarray[Any, Any]:
    """An array of Python numbers of `kind` (mpf, int or bool), in at least the working precision."""
    array = np.asarray(value)
    if array.dtype.kind == "V" or array.dtype.name == "bfloat16":
        array = array.astype(np.float64)
    return _vectorised(_CONVERT[kind], 1)(array.astype(object))


def scalar_function(op: Op, *, strict: bool = False) -> Callable[..., Any]:
    """`op` on mpmath scalars over the reals: NaN where it is complex or undefined, infinite at poles.

    With `strict`, numbers that are too large to compute with are an `OverflowError`; otherwise they count as infinite.
    """
    function = op.mpmath
    if function is None:
        raise GraphError(f"the row {op.name} has no scalar implementation")
    bounded = op.name not in _CHEAP_AT_ANY_SIZE

    def on_reals(*operands: Any, **attributes: Any) -> Any:
        try:
            within = [_bounded(x) for x in operands] if bounded else operands
            if strict and any(a is not b for a, b in zip(within, operands, strict=True)):
                raise OverflowError(f"{op.name} of a number beyond 2**{MAX_MAGNITUDE}")
            value = function(*within, **attributes)
        except ZeroDivisionError:
            return mpmath.inf
        except OverflowError:
            if strict:
                raise
            return mpmath.nan
        except (ValueError, mpmath.libmp.ComplexResult):
            return mpmath.nan
        if isinstance(value, mpmath.mpc):
            return value.real if value.imag == 0 else mpmath.nan
        return value

    return on_reals


def number(value: Fraction | float | bool, kind: Kind) -> Any:
    """An exact constant as an mpmath number (or an int, or a bool) in the working precision."""
    return _CONVERT[kind](value)


def _to_mpf(value: Any) -> Any:
    if isinstance(value, mpmath.mpf):
        return value
    if isinstance(value, Fraction):
        return mpmath.fdiv(value.numerator, value.denominator)
    if isinstance(value, bool | np.bool_ | np.integer):
        return mpmath.mpf(int(value))
    return mpmath.mpf(value)


_CONVERT: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: bool,
    Kind.INTEGER: int,
    Kind.REAL: _to_mpf,
    Kind.COMPLEX: mpmath.mpmathify,
}


def _bounded(x: Any) -> Any:
    if isinstance(x, mpmath.mpf) and x._mpf_[2] + x._mpf_[3] > MAX_MAGNITUDE and mpmath.isfinite(x):
        return mpmath.sign(x) * mpmath.inf
    return x


def _vectorised(function: Callable[..., Any], operands: int) -> Callable[..., np.ndarray[Any, Any]]:
    ufunc = np.frompyfunc(function, operands, 1)

    def on_arrays(*arrays: Any) -> np.ndarray[Any, Any]:
        result = np.empty((), object)
        value = ufunc(*arrays)
        if isinstance(value, np.ndarray):
            return value
        result[()] = value
        return result

    return on_arrays


def _unchanged(node: Node, values: Any) -> Any:
    return values


def _run(
    graph: Graph, arrays: Mapping[str, Any], sizes: Mapping[str, int], through: Callable[[Node, Any], Any]
) -> dict[int, Any]:
    uses = {v: graph.nx.out_degree(v) for v in graph.nx}
    kept = set(graph.outputs.values())
    values: dict[int, Any] = {}
    for v in graph.order:
        operands = graph.operands(v)
        values[v] = through(graph[v], _node(graph[v], [values[u] for u in operands], arrays, sizes))
        for u in operands:
            uses[u] -= 1
            if not uses[u] and u not in kept:
                values.pop(u, None)
    return values


def _node(node: Node, operands: list[Any], arrays: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    op, kind = node.op, node.type.kind
    if op is input_:
        return arrays[node.attributes["name"]]
    if op is const:
        return _scalar(number(node.attributes["value"], kind))
    if op is size:
        return _scalar(evaluate_size(node.attributes["size"], sizes))
    if op is table:
        return to_objects(np.array(node.attributes["values"], object).reshape(node.attributes["shape"]), kind)
    attributes = resolved(node.attributes, sizes)
    if op.mpmath is not None:
        function = scalar_function(op)
        call = (lambda *xs: function(*xs, **attributes)) if attributes else function
        values = _vectorised(call, len(operands))(*operands) if operands else _scalar(call())
        return to_objects(values, kind) if kind is Kind.INTEGER else values  # mpmath adds integers to an mpf
    if op.numpy is None:
        raise GraphError(f"the row {op.name} can be evaluated neither by mpmath nor by NumPy")
    result = np.asarray(op.numpy(*operands, **attributes), dtype=object)
    # sums of nothing and padding bring in the integer 0, whose quotients would be floats
    moves_only = op.linear and op.name not in ("pad", "dilate", "cumsum") and result.size
    return result if moves_only or (kind is Kind.INTEGER and not operands) else to_objects(result, kind)


def _scalar(value: Any) -> np.ndarray[Any, Any]:
    result = np.empty((), object)
    result[()] = value
    return result
