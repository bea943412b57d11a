"""Short texts for SymPy expressions of any depth: SymPy's own printers overflow the stack on deep ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.matrices.expressions.matexpr import MatrixElement

_NODES = 60
_CHARACTERS = 80
_EXPONENT = 10**4
_NAMES = {sp.Equality: "Eq", sp.Unequality: "Ne"}


def is_small(expr: Any, limit: int = _NODES, *, ordered: bool = True) -> bool:
    """Whether printing `expr` (with its terms ordered) is quick: at most `limit` nodes as a tree, no huge numbers."""
    stack, count = [(expr, False)], 0
    while stack:
        node, is_scale = stack.pop()
        count += 1
        if count > limit or _is_long(node) or (ordered and _is_absurd(node)):
            return False
        if is_scale and isinstance(node, MatrixElement) and not isinstance(node.parent, sp.MatrixSymbol):
            return False  # to see where a minus sign goes, SymPy works out this element of an inverse or a product
        scales = isinstance(node, sp.MatMul)
        parts = getattr(node, "args", ())
        stack.extend((part, (scales and not part.is_Matrix) or (is_scale and not scales)) for part in parts)
    return True


def describe(expr: Any, limit: int = _CHARACTERS) -> str:
    """`expr` as text, shortened to one line of `limit` characters."""
    if _is_long(expr):
        what = "an integer" if isinstance(expr, sp.Integer) else "a fraction"
        return f"{what} of {max(expr.p.bit_length(), expr.q.bit_length())} bits"
    text = " ".join(_text(expr, limit).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _text(expr: Any, room: int) -> str:
    """The beginning of `expr` as text, of `room` characters or somewhat more; each level of recursion takes some."""
    if _is_long(expr):
        return describe(expr)
    if is_small(expr, ordered=False):
        return str(expr) if is_small(expr) else str(sp.sstr(expr, order="none"))
    if isinstance(expr, sp.Add):
        return _joined(" + ", expr.args, room).replace("+ -", "- ")
    if isinstance(expr, sp.Mul):
        return _joined("*", expr.args, room, weak=(sp.Add,))
    if isinstance(expr, sp.Pow):
        return _joined("**", expr.args, room, weak=(sp.Add, sp.Mul, sp.Pow))
    if isinstance(expr, sp.StrictLessThan | sp.LessThan | sp.StrictGreaterThan | sp.GreaterThan):
        return _joined(f" {expr.rel_op} ", expr.args, room)
    name = "" if isinstance(expr, tuple | sp.Tuple | ExprCondPair) else _NAMES.get(type(expr), type(expr).__name__)
    return f"{name}({_joined(', ', expr.args, room - len(name) - 1)})"


def _joined(sign: str, args: Sequence[Any], room: int, weak: tuple[type, ...] = ()) -> str:
    """As many of `args` as there is room for; those that bind less than `sign` in brackets."""
    text = ""
    for k, arg in enumerate(args):
        if len(text) > room:
            return text + "..."
        inner = _text(arg, room - len(text) - 1)
        text += (sign if k else "") + (f"({inner})" if isinstance(arg, weak) else inner)
    return text


def _is_long(node: Any) -> bool:
    return isinstance(node, sp.Rational) and max(node.p.bit_length(), node.q.bit_length()) > 512


def _is_absurd(node: Any) -> bool:
    """Whether it is a power of numbers that SymPy, asked for the order in which to print terms, would work out."""
    if not (isinstance(node, sp.Pow) and isinstance(node.base, sp.Rational)):
        return False
    if isinstance(node.exp, sp.Rational):
        return abs(node.exp.p) > _EXPONENT
    return not node.exp.free_symbols
