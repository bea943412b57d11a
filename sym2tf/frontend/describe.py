"""Short texts for SymPy expressions of any depth: SymPy's own printers overflow the stack on deep ones."""

from __future__ import annotations

from typing import Any

import sympy as sp

_NODES = 60
_CHARACTERS = 80


def is_small(expr: Any, limit: int = _NODES) -> bool:
    """Whether printing `expr` is quick: at most `limit` nodes counted as a tree, and no huge numbers."""
    stack, count = [expr], 0
    while stack:
        node = stack.pop()
        count += 1
        if count > limit or (isinstance(node, sp.Integer) and node.p.bit_length() > 512):
            return False
        stack.extend(getattr(node, "args", ()))
    return True


def describe(expr: Any, limit: int = _CHARACTERS) -> str:
    """`expr` as text, shortened to one line of `limit` characters."""
    if isinstance(expr, sp.Integer) and expr.p.bit_length() > 512:
        return f"an integer of {expr.p.bit_length()} bits"
    if not is_small(expr):
        return f"{type(expr).__name__}(...)"
    text = " ".join(str(expr).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
