"""Node -> the words in its box: the operation with its constants, its attributes, dtype and shape."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from sym2tf.errors import DtypeError
from sym2tf.ir.dims import Size
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.leaves import Exact

LONGEST_LINE = 32  # characters; the whole text stands in the tooltip
CONSTANTS_SHOWN = 3  # of one commutative node
BLANK = "·"  # the place of the only operand that is not a constant; bracketed where nothing else encloses it

_COMPLEX = {"float16": "complex64", "bfloat16": "complex64", "float32": "complex64", "float64": "complex128"}
_NUMBERS = {"pi": "π", "euler_gamma": "γ", "golden_ratio": "φ", "catalan": "G"}
_OPERAND = re.compile("(?<![a-z])x(?![a-z])")  # in labels of rows, such as x² and |x|; not an input called x
_CONTROL = {"\n": "↵", "\r": "↵", "\t": "⇥"}


def slot(position: int) -> str:
    """The mark of operand `position`, counted from 0: ① to ⑳, then (21)."""
    return chr(0x2460 + position) if position < 20 else f"({position + 1})"


def visible(text: str) -> str:
    r"""`text` with a visible sign for each character that XML forbids or that would move others about.

    Line ends become an arrow, other control characters escapes such as `\x1b`; lone surrogates, direction
    marks and other invisible format characters become U+FFFD. An empty text becomes `‹empty›`.
    """
    return "".join(map(_visible, text)) or "‹empty›"


def _visible(char: str) -> str:
    if char in _CONTROL:
        return _CONTROL[char]
    if char < " ":
        return f"\\x{ord(char):02x}"
    category = unicodedata.category(char)
    if category in ("Zl", "Zp"):
        return "↵"
    return "\ufffd" if category in ("Cc", "Cf", "Cs", "Cn") else char


def shorten(text: str, limit: int = LONGEST_LINE) -> str:
    """`text`, with an ellipsis for its end where it is longer than `limit`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def dtype_text(kind: Kind, dtype: str) -> str:
    """The dtype that values of `kind` get when code is generated for `dtype`.

    Raises:
        DtypeError: `dtype` is none of those that code is generated for.
    """
    if dtype not in _COMPLEX and dtype not in _COMPLEX.values():
        known = ", ".join([*_COMPLEX, *dict.fromkeys(_COMPLEX.values())])
        raise DtypeError(f"unknown dtype {dtype!r}; known are {known}")
    by_kind = {Kind.BOOLEAN: "bool", Kind.INTEGER: "int64", Kind.REAL: dtype}
    return by_kind.get(kind, _COMPLEX.get(dtype, dtype))


def shape_text(shape: Sequence[Size]) -> str:
    """A core shape: `(n, k)`, `()`."""
    return f"({', '.join(map(str, shape))})"


def type_text(type_: TensorType, dtype: str) -> str:
    """Dtype and core shape: `float64 (n, k)`."""
    return f"{dtype_text(type_.kind, dtype)} {shape_text(type_.shape)}"


def constant_text(value: Exact) -> str:
    """An exact constant in at most a dozen characters; `≈` marks those that are shown rounded."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else "−0.0" if value == 0 else "∞" if value > 0 else "−∞"
    return _fraction_text(value).replace("-", "−")


def _fraction_text(value: Fraction) -> str:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) <= 40 and len(str(value)) <= 12:
        return str(value)
    # Logarithms of integers work at any length, where float() overflows and str() refuses beyond 4300 digits.
    size = math.log10(abs(value.numerator)) - math.log10(value.denominator)
    if abs(size) < 300:
        rounded = float(value)
        short = repr(rounded)
        # where the value is that of a float, the user wrote one, and its shortest form is what stood there
        exact = Fraction(rounded) == value or Fraction(short) == value
        return short if exact and len(short) <= 12 else f"≈{rounded:.6g}"
    mantissa, exponent = 10 ** (size % 1), math.floor(size)
    return f"≈{'-' if value < 0 else ''}{mantissa:.4g}e{exponent}"


def leaf_text(op: Op, attributes: Mapping[str, Any]) -> str | None:
    """What stands for a constant, a named number or a size in its user's label; None for other operations."""
    if op.name == "const":
        return constant_text(attributes["value"])
    if op.name == "size":
        return str(attributes["size"])
    return _NUMBERS.get(op.name, op.name) if op.arity == 0 and not attributes else None


def operation_text(op: Op, operands: Sequence[str | None]) -> str:
    """The operation with its constants in their places; None stands for an operand that an edge brings.

    `+`, `× 2`, `(·) ^ 2`, `① ^ ②`, `①⁻¹②`, `select(①, ②, 0)`, `max(…, 0)`.
    """
    label = op.label or op.name
    if op.arity == 1 and _OPERAND.search(label):
        operand = BLANK if operands[0] is None else operands[0]
        enclosed = label.startswith("|") and operands[0] is None
        return _OPERAND.sub(lambda _: operand if enclosed else f"({operand})", label)
    live = [k for k, text in enumerate(operands) if text is None]
    if op.commutative:
        return _commutative_text(label, [text for text in operands if text is not None], len(live))
    if len(live) == len(operands) and (len(live) < 2 or op.arity is None) and label not in _INVERSES:
        return label
    marks = [slot(k) if len(live) > 1 else BLANK for k in range(len(operands))]
    shown = [mark if text is None else text for mark, text in zip(marks, operands, strict=True)]
    if label in _INVERSES:
        return f"{_bracketed(shown[0], first=True)}⁻¹{shown[-1] if len(shown) > 1 else ''}"
    if len(shown) == 2 and _symbolic(label):
        left, right = (_bracketed(text, first=not k) for k, text in enumerate(shown))
        return f"{left} {label} {right}"
    return f"{label}({', '.join(_elided(shown))})"


def _commutative_text(label: str, constants: Sequence[str], live: int) -> str:
    if not constants:
        return label
    shown = _elided(constants)
    if _symbolic(label):
        text = f" {label} ".join(shown)
        return f"{label} {text}" if live else text
    return f"{label}({', '.join([BLANK if live == 1 else '…'] * bool(live) + shown)})"


def _elided(texts: Sequence[str]) -> list[str]:
    if len(texts) <= CONSTANTS_SHOWN + 1:
        return list(texts)
    return [*texts[:CONSTANTS_SHOWN], f"… {len(texts) - CONSTANTS_SHOWN} more"]


def _symbolic(label: str) -> bool:
    return not any(char.isalnum() for char in label)


def _bracketed(text: str, *, first: bool) -> str:
    return f"({text})" if text == BLANK or "/" in text or (first and text.startswith("−")) else text


def _axes_text(axes: int | Sequence[int]) -> str:
    if isinstance(axes, int):
        return f"axis {axes}".replace("-", "−")
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}".replace("-", "−")


def _range_text(start: Size, size: Size) -> str:
    return f"{start} : {start + size}"


_INVERSES = ("A⁻¹", "A⁻¹b", "L⁻¹b")  # labels of rows; the letters stand for the first and the last operand

# Attributes that read better than key=value: by operation where several belong together, else by name. Those that
# shapes or the choice of an algorithm say already are left out.
_BY_OPERATION: dict[str, Callable[..., str]] = {
    "einsum": lambda inputs, output: f"{', '.join(inputs)} → {output or 'scalar'}",
    "slice": lambda axis, start, size: f"{_range_text(start, size)}, {_axes_text(axis)}",
    "pad": lambda axis, before, after: f"{before} before, {after} after, {_axes_text(axis)}",
    "range": _range_text,
    "cast": lambda kind: f"to {kind}",
    "broadcast": lambda shape: f"to {shape_text(shape)}",
    "reshape": lambda rank, shape: f"to {shape_text(shape)}",
    "table": lambda values, shape, kind: shorten(", ".join(constant_text(v) for v in values[:8]), 20),
}
_BY_ATTRIBUTE: dict[str, Callable[[Any], str]] = {
    "axis": _axes_text,
    "axes": _axes_text,
    "lower": lambda lower: "lower" if lower else "upper",
    "adjoint": lambda adjoint: "transposed" if adjoint else "",
    "reverse": lambda reverse: "reversed" if reverse else "",
    "exclusive": lambda exclusive: "exclusive" if exclusive else "",
    "trust": lambda trust: "",
    "core": lambda core: "",
    "rank": lambda rank: "",
}


def attributes_text(op: Op, attributes: Mapping[str, Any]) -> str:
    """The attributes of an operation, compactly; empty where it has none."""
    together = _BY_OPERATION.get(op.name)
    if together is not None:
        return together(**attributes)
    texts = (
        _BY_ATTRIBUTE[name](value) if name in _BY_ATTRIBUTE else f"{name}={shorten(str(value), 20)}"
        for name, value in attributes.items()
    )
    return ", ".join(text for text in texts if text)


def port_text(op: Op, attributes: Mapping[str, Any], position: int) -> str:
    """What stands in the port of operand `position`: its number, in an einsum with its subscripts."""
    subscripts = attributes["inputs"][position] if op.name == "einsum" else ""
    return f"{slot(position)} {subscripts}".rstrip()
