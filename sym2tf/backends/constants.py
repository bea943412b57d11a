"""Constant scalars of a graph as numbers of a dtype, each rounded once and correctly from its exact value.

`sqrt(2)/3` stays a sub-graph until code is generated or run. Here it is evaluated with mpmath in growing
precision until the nearest floating-point number is certain (the strategy of Ziv, ACM TOMS 17, 1991).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath

from sym2tf.backends.mpmath import number, scalar_function
from sym2tf.errors import DtypeError
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops.leaves import Exact, const, size

Number = bool | int | float

FIRST_BITS = 128
LAST_BITS = 4096  # more than 2*1074: a value that is zero in truth has underflowed by then
BEYOND = 1 << 15


class Format(NamedTuple):
    """A binary floating-point format: digits of the significand, least and largest exponent of a bit."""

    precision: int
    least: int
    largest: int


FORMATS = {
    "float64": Format(53, -1074, 1023),
    "float32": Format(24, -149, 127),
    "bfloat16": Format(8, -133, 127),
    "float16": Format(11, -24, 15),
    "complex128": Format(53, -1074, 1023),  # of each part
    "complex64": Format(24, -149, 127),
}


def rounded(value: Any, dtype: str) -> Number:
    """The number of `dtype` nearest to an exact value (ties to even), as a Python number that it equals.

    Args:
        value: a Fraction, int, bool, float or mpf; all are exact numbers, or inf and NaN.
        dtype: `"float64"`, `"float32"`, `"bfloat16"`, `"float16"`, `"int64"` or `"bool"`.

    Raises:
        DtypeError: an unknown dtype, or a value that is no integer of 64 bits where one is due.
    """
    if dtype == "bool":
        return bool(value)
    if dtype == "int64":
        return _integer(value)
    if dtype not in FORMATS:
        raise DtypeError(f"unknown dtype {dtype!r}; known are {', '.join(FORMATS)}, int64, bool")
    if isinstance(value, mpmath.mpf | float):
        if mpmath.isnan(value):
            return math.nan
        if mpmath.isinf(value):
            return math.inf if value > 0 else -math.inf
        if value == 0:
            return math.copysign(0.0, value) if isinstance(value, float) else 0.0
    exact = _fraction(value)
    return _nearest(exact, FORMATS[dtype])


def constant_nodes(graph: Graph) -> frozenset[int]:
    """The scalar nodes that depend on no input and on no size."""
    found: set[int] = set()
    for v in graph.order:
        node = graph[v]
        if node.type.rank or (node.op is size and not isinstance(node.attributes["size"], int)):
            continue
        if (
            node.op is const
            or node.op is size
            or (node.op.mpmath is not None and all(u in found for u in graph.operands(v)))
        ):
            found.add(v)
    return frozenset(found)


def constant_values(graph: Graph, dtype: str = "float64") -> dict[int, Number]:
    """Node -> number, of the maximal constant scalars: those that a non-constant node or an output uses.

    Reals are rounded to `dtype`, integers are exact, conditions bools. What the reals lack is NaN.

    Raises:
        DtypeError: an unknown dtype, an integer beyond 64 bits, or a finite number beyond the range of the dtype.
    """
    constants = constant_nodes(graph)
    used = {u for v in graph.nx if v not in constants for u in graph.operands(v)} | set(graph.outputs.values())
    needed = [v for v in graph.order if v in constants and v in used]
    result: dict[int, Number] = {}
    pending = []
    for v in needed:
        node = graph[v]
        if node.op in (const, size):
            exact = node.attributes["value" if node.op is const else "size"]
            result[v] = _held(exact, rounded(exact, dtype_of(node.type.kind, dtype)), node, dtype)
        else:
            pending.append(v)
    result |= _decided(graph, pending, dtype)
    return {v: result[v] for v in needed}


def rounded_numbers(values: Iterable[Exact], kind: Kind, dtype: str) -> list[Number]:
    """Exact numbers as numbers of the dtype of `kind` in a program whose reals are `dtype`.

    Raises:
        DtypeError: a number that the dtype cannot hold.
    """
    due = dtype_of(kind, dtype)
    return [_held(value, rounded(value, due), None, dtype) for value in values]


def dtype_of(kind: Kind, dtype: str) -> str:
    """The dtype of values of `kind` in a program whose reals are `dtype`."""
    return {Kind.BOOLEAN: "bool", Kind.INTEGER: "int64"}.get(kind, dtype)


def _decided(graph: Graph, nodes: Iterable[int], dtype: str) -> dict[int, Number]:
    pending, result = list(nodes), {}
    bits, coarse = FIRST_BITS, _evaluated(graph, pending, FIRST_BITS // 2)
    while pending:
        fine = _evaluated(graph, pending, bits)
        undecided = []
        for v in pending:
            due = dtype_of(graph[v].type.kind, dtype)
            value = _certain(coarse[v], fine[v], bits // 2, due)
            if value is None and bits < LAST_BITS:
                undecided.append(v)
            else:
                result[v] = _held(fine[v], rounded(fine[v], due) if value is None else value, graph[v], dtype)
        pending, coarse, bits = undecided, fine, bits * 2
    return result


def _held(exact: Any, number: Number, node: Node | None, dtype: str) -> Number:
    """`number`, unless it is infinite and the exact value is not."""
    if math.isinf(number) and (isinstance(exact, Fraction | int) or mpmath.isfinite(exact)):
        value = mpmath.mpf(exact.numerator) / exact.denominator if isinstance(exact, Fraction | int) else exact
        text = mpmath.nstr(value, 6)
        origin = None if node is None else node.origin
        origin = origin if isinstance(origin, str | None) else describe(origin)
        raise DtypeError(f"{dtype} cannot hold the constant {text}" + (f", in {origin}" if origin else ""))
    return number


def _certain(coarse: Any, fine: Any, bits: int, dtype: str) -> Number | None:
    """The rounded value when everything within the error of `fine` rounds to it, else None."""
    if dtype not in FORMATS or not mpmath.isfinite(fine) or coarse == fine:
        return rounded(fine, dtype)
    centre = _fraction(fine)
    error = abs(centre - _fraction(coarse)) if mpmath.isfinite(coarse) else abs(centre)
    error = max(error, abs(centre) / (1 << max(bits - 16, 1)))
    low, high = (_nearest(centre + sign * error, FORMATS[dtype]) for sign in (-1, 1))
    return low + 0.0 if low == high else None  # + 0.0: a value that vanishes has no sign


def _evaluated(graph: Graph, nodes: Iterable[int], bits: int) -> dict[int, Any]:
    wanted = list(nodes)
    needed, stack = set(wanted), list(wanted)
    while stack:
        for u in graph.operands(stack.pop()):
            if u not in needed:
                needed.add(u)
                stack.append(u)
    values: dict[int, Any] = {}
    with mpmath.workprec(bits):
        for v in graph.order if needed else ():
            if v not in needed:
                continue
            node = graph[v]
            if node.op is const:
                values[v] = number(node.attributes["value"], node.type.kind)
            elif node.op is size:
                values[v] = node.attributes["size"]
            else:
                operands = [values[u] for u in graph.operands(v)]
                try:
                    values[v] = scalar_function(node.op, strict=True)(*operands, **node.attributes)
                except OverflowError:
                    what = describe(node.origin) if node.origin is not None else node.op.name
                    raise DtypeError(
                        f"the constant {what} is too large to compute with, so no dtype can hold it"
                    ) from None
    return {v: values[v] for v in wanted}


def _integer(value: Any) -> int:
    if isinstance(value, mpmath.mpf | float) and not mpmath.isfinite(value):
        raise DtypeError(f"{value} is not an integer")
    exact = _fraction(value)
    if exact.denominator != 1 or not -(2**63) <= exact.numerator < 2**63:
        raise DtypeError(f"{exact} is not an integer of 64 bits")
    return exact.numerator


def _fraction(value: Any) -> Fraction:
    if isinstance(value, mpmath.mpf):
        sign, mantissa, exponent, bits = value._mpf_
        if abs(exponent + bits) > BEYOND:  # written out it could fill the memory, and it overflows anyway
            mantissa, exponent = 1, BEYOND if exponent > 0 else -BEYOND
        mantissa = -int(mantissa) if sign else int(mantissa)
        return Fraction(mantissa << exponent) if exponent >= 0 else Fraction(mantissa, 1 << -exponent)
    return Fraction(value)


def _nearest(value: Fraction, form: Format) -> float:
    magnitude = abs(value)
    if not magnitude:
        return 0.0
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if _scaled(magnitude, exponent) < 1:
        exponent -= 1
    last = max(exponent - form.precision + 1, form.least)
    digits = round(_scaled(magnitude, last))  # a Fraction rounds exactly, ties to even
    overflows = digits.bit_length() + last > form.largest + 1
    result = math.inf if overflows else math.ldexp(digits, last)
    return -result if value < 0 else result


def _scaled(value: Fraction, exponent: int) -> Fraction:
    """`value / 2**exponent`."""
    return value / (1 << exponent) if exponent >= 0 else value * (1 << -exponent)
