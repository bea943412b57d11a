"""Short texts for SymPy expressions of any depth: SymPy's own printers overflow the stack on deep ones."""

from __future__ import annotations

from typing import Any

import sympy as sp

_NODES = 60
_CHARACTERS = 80
_EXPONENT = 10**4


def is_small(expr: Any, limit: int = _NODES, *, ordered: bool = True) -> bool:
    """Whether printing `expr` (with its terms ordered) is quick: at most `limit` nodes as a tree, no huge numbers."""
    stack, count = [expr], 0
    while stack:
        node = stack.pop()
        count += 1
        if count > limit or _is_long(node) or (ordered and _is_absurd(node)):
            return False
        stack.extend(getattr(node, "args", ()))
    return True


def describe(expr: Any, limit: int = _CHARACTERS) -> str:
    """`expr` as text, shortened to one line of `limit` characters."""
    if _is_long(expr):
        what = "an integer" if isinstance(expr, sp.Integer) else "a fraction"
        return f"{what} of {max(expr.p.bit_length(), expr.q.bit_length())} bits"
    if not is_small(expr, ordered=False):
        return f"{type(expr).__name__}(...)"
    text = " ".join((str(expr) if is_small(expr) else sp.sstr(expr, order="none")).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _is_long(node: Any) -> bool:
    return isinstance(node, sp.Rational) and max(node.p.bit_length(), node.q.bit_length()) > 512


def _is_absurd(node: Any) -> bool:
    """Whether it is a power of numbers that SymPy, asked for the order in which to print terms, would work out."""
    if not (isinstance(node, sp.Pow) and isinstance(node.base, sp.Rational)):
        return False
    if isinstance(node.exp, sp.Rational):
        return abs(node.exp.p) > _EXPONENT
    return not node.exp.free_symbols
