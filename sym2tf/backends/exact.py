"""Runs a graph in exact rational arithmetic, on object arrays of SymPy's rationals (gmpy2's where it is installed).

What rounding costs can so be taken out of a computation altogether, as a least-squares problem with nearly dependent
columns needs it. Functions that lead out of the rationals (`exp`, `sqrt`) are computed to `DIGITS` decimal digits.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import Any

import mpmath
import numpy as np
from sympy import QQ

from sym2tf.backends.mpmath import scalar_function
from sym2tf.backends.sizes import at_sizes, check_names, input_types
from sym2tf.errors import GraphError
from sym2tf.ir.dims import evaluate_size, resolved
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops.assembly import table
from sym2tf.ops.leaves import const, input_, size

Array = np.ndarray[Any, Any]

DIGITS = 60
"""Of what is no rational operation: far more than the 16 of a double and twice those that a condition of 1e20 takes."""
LARGEST_EXPONENT = 4096  # of an integer power; beyond, numbers would fill the memory before anything is solved

Rational = type(QQ(1))
UNDEFINED = math.nan


def _power(x: Any, e: Any) -> Any:
    if e.denominator == 1 and abs(e.numerator) <= LARGEST_EXPONENT:
        return x ** int(e.numerator)
    return _inexact("pow")(x, e)


def _remainder(a: Any, b: Any) -> Any:
    return a - b * ((a / b).numerator // (a / b).denominator)


EXACT: dict[str, Callable[..., Any]] = {
    "add": lambda *xs: reduce(operator.add, xs),
    "mul": lambda *xs: reduce(operator.mul, xs),
    "pow": _power,
    "neg": operator.neg,
    "sub": operator.sub,
    "div": operator.truediv,
    "reciprocal": lambda x: QQ(1) / x,
    "square": lambda x: x * x,
    "cast": lambda x, *, kind: QQ(int(x)) if isinstance(x, bool | np.bool_) else x,
    "abs": abs,
    "sign": lambda x: QQ((x > 0) - (x < 0)),
    "floor": lambda x: QQ(x.numerator // x.denominator),
    "ceiling": lambda x: QQ(-(-x.numerator // x.denominator)),
    "mod": _remainder,
    "max": lambda *xs: max(xs),
    "min": lambda *xs: min(xs),
    "relu": lambda x: max(x, QQ(0)),
    "leaky_relu": lambda x, a: x if x > 0 else a * x,
    "less": operator.lt,
    "less_equal": operator.le,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "and": lambda *xs: all(xs),
    "or": lambda *xs: any(xs),
    "xor": lambda *xs: sum(map(bool, xs)) % 2 == 1,
    "not": lambda x: not x,
    "select": lambda c, a, b: a if c else b,
}
"""Row name -> function of rationals and bools. Rows that only move and add elements run as they are in NumPy."""

MOVES = ("einsum", "gather", "scatter_add", "prod", "prod_others", "eye", "range", "one_hot", "correlate")
"""Rows that are not `linear` but work on arrays of any numbers by sums and products alone."""


def evaluate(graph: Graph, inputs: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
    """The outputs of `graph` as object arrays of rationals, of the full batch and core shape.

    Args:
        graph: any graph.
        inputs: an array for each input by name: of rationals, or of floats, which are read by `shortest_decimal`.
        sizes: numbers for size symbols, where the shapes of the inputs do not give them.

    Raises:
        GraphError: a row that cannot be computed exactly, named, or a value that is not finite.
        ArgumentError: missing or unknown inputs.
        ShapeError, SizeError: shapes that do not fit the graph or each other.
    """
    types = input_types(graph)
    check_names(types, inputs)
    arrays, bound, batch = at_sizes(graph, {name: rationals(inputs[name]) for name in types}, sizes or {})
    values: dict[int, Array] = {}
    for v in graph.order:
        values[v] = _node(graph[v], [values[u] for u in graph.operands(v)], arrays, bound)
    result = {}
    for name, v in graph.outputs.items():
        if not all(isinstance(x, Rational | bool) for x in values[v].flat):
            raise GraphError(f"{name} has elements that are not defined")
        core = tuple(evaluate_size(d, bound) for d in graph[v].type.shape)
        result[name] = np.broadcast_to(values[v], (*batch, *core))
    return result


def shortest_decimal(number: float) -> Any:
    """The decimal number with the fewest digits that reads back as this float, as a rational.

    Data are written in decimals: whoever has 0.1 in a table means one tenth, and not the float nearest to it,
    0.1000000000000000055. The difference, at most half a unit in the last place, is below what a float can say, so a
    float that comes from a computation is met as well by the one as by the other; but where a problem magnifies it,
    as the polynomial of degree 10 in NIST's Filip does by 10^10, only the first gives the answer to what was asked.
    """
    if number == int(number) if math.isfinite(number) else False:
        if abs(number) < 2**53:
            return QQ(int(number))
    elif not math.isfinite(number):
        raise GraphError(f"{number} is no rational number")
    return QQ(*Decimal(repr(number)).as_integer_ratio())


def rationals(numbers: Any) -> Array:
    """An object array of rationals from floats, integers, fractions, bools (which stay) or rationals."""
    array = np.asarray(numbers)
    result = np.empty(array.shape, object)
    flat = array.ravel().tolist() if array.dtype != object else list(array.flat)
    result.ravel()[:] = [_rational(x) for x in flat] if result.ndim else None
    if not result.ndim:
        result[()] = _rational(flat[0])
    return result


def _rational(x: Any) -> Any:
    if isinstance(x, Rational | bool):
        return x
    if isinstance(x, float):
        return UNDEFINED if math.isnan(x) else shortest_decimal(x)
    if isinstance(x, np.bool_):
        return bool(x)
    if isinstance(x, int | np.integer):
        return QQ(int(x))
    if isinstance(x, Fraction):
        return QQ(x.numerator, x.denominator)
    return _from_mpf(x)


def _from_mpf(x: Any) -> Any:
    if isinstance(x, bool):
        return x
    if not isinstance(x, mpmath.mpf) or not mpmath.isfinite(x):
        return UNDEFINED
    sign, mantissa, exponent, _ = x._mpf_
    whole = -int(mantissa) if sign else int(mantissa)
    return QQ(whole << exponent) if exponent >= 0 else QQ(whole, 1 << -exponent)


def _inexact(name: str, function: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A function of mpmath numbers as one of rationals, to `DIGITS` digits."""
    compute = function if function is not None else mpmath.power

    def to_mpf(x: Any) -> Any:
        return x if isinstance(x, bool) else mpmath.fdiv(int(x.numerator), int(x.denominator))

    def run(*xs: Any, **attributes: Any) -> Any:
        with mpmath.workdps(DIGITS + 10):
            return _from_mpf(compute(*map(to_mpf, xs), **attributes))

    run.__name__ = name
    return run


def _defined(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, undefined where an operand is or where it has no value: a branch not taken may be."""

    def run(*xs: Any) -> Any:
        try:
            return function(*xs)
        except (TypeError, AttributeError, ZeroDivisionError, ValueError):
            return UNDEFINED

    return run


def _node(node: Node, operands: list[Array], arrays: Mapping[str, Array], sizes: Mapping[str, int]) -> Array:
    op = node.op
    if op is input_:
        return arrays[node.attributes["name"]]
    if op is const:
        return rationals(node.attributes["value"])
    if op is size:
        return rationals(evaluate_size(node.attributes["size"], sizes))
    if op is table:
        return rationals(np.array(node.attributes["values"], object).reshape(node.attributes["shape"]))
    attributes = resolved(node.attributes, sizes)
    scalar = EXACT.get(op.name) or (_inexact(op.name, scalar_function(op)) if op.mpmath is not None else None)
    if scalar is not None and op.name != "einsum":
        call = (lambda *xs: scalar(*xs, **attributes)) if attributes else scalar
        return _elementwise(_defined(call), operands)
    if op.numpy is None or not (op.linear or op.name in MOVES):
        raise GraphError(f"{op.name} cannot be computed in exact arithmetic")
    try:
        result = np.asarray(op.numpy(*operands, **attributes))
    except TypeError:
        raise GraphError(f"{op.name} meets values that are not defined") from None
    return result if node.type.kind is Kind.BOOLEAN or (op.linear and op.name in SAFE) else rationals(result)


SAFE = ("expand", "squeeze", "broadcast", "slice", "transpose", "stack", "concat", "reshape", "stride")
"""Rows whose results hold elements of their operands and nothing else."""


def _elementwise(function: Callable[..., Any], operands: list[Array]) -> Array:
    if not operands:
        return rationals(function())
    value = np.frompyfunc(function, len(operands), 1)(*operands)
    if isinstance(value, np.ndarray):
        return value
    result = np.empty((), object)
    result[()] = value
    return result
