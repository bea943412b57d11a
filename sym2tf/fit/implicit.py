"""Which symbols may be parameters where the user lists none: not those that are observed or belong to observations.

Without `params` every symbol that is not data is a parameter. A forgotten array would then be estimated, one number
for each observation, so some symbols are never parameters unless they are listed:

- what stands on the left side of an equation, if no symbol there has data;
- an indexed base all of whose subscripts run over observations. An index runs over observations where it belongs to
  an outermost sum (or, in an equation, to no sum) and is the first such index in a subscript of data: `i` in
  `Sum((y[i] - Sum(X[i, j]*w[j], (j, 0, k - 1)))**2, (i, 0, n - 1))`, so that `y` and `X` are data. `w` is subscripted
  by `j`, which counts features, and may be a parameter, as may `W[j, c]` beside `Y[i, c]`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sympy as sp

from sym2tf.errors import DataError
from sym2tf.frontend.scan import children, is_leaf, limits

Index = tuple[int | None, Any]  # the outermost sum that binds it, by identity (None: nothing does), and its symbol


def require_data(cost: Any, symbols: Mapping[str, Any], sizes: Collection[Any], data: Collection[str]) -> None:
    """Refuse to take for a parameter what can only be data.

    Args:
        cost: an expression or an equation.
        symbols: of its inputs, by name.
        sizes: the symbols that are sizes.
        data: the names of those that have data.

    Raises:
        DataError: names what is observed but has no data.
    """
    names = {symbol: name for name, symbol in symbols.items()}
    told = f"data has {', '.join(data)}" if data else "there are no data"
    if isinstance(cost, sp.Eq):
        left = [names[leaf] for leaf in _leaves(cost.lhs) if leaf in names]
        if left and not set(left) & set(data):
            verb = "is" if len(left) == 1 else "are"
            has = "has" if len(left) == 1 else "have"
            raise DataError(
                f"{', '.join(left)} {verb} observed in the equation but {has} no data; {told}. "
                "List the parameters in params if this is meant"
            )
    found = list(_subscripted(cost, set(sizes)))
    observed: dict[Index, str] = {}
    for base, indices in found:
        outer = [index for index in indices if index is not None]
        if outer and names.get(base) in data:
            observed.setdefault(outer[0], names[base])
    for name, base in symbols.items():
        uses = [indices for other, indices in found if other == base and indices]
        shared = [next((index for index in indices if index in observed), None) for indices in uses]
        if name not in data and shared and None not in shared:
            first = shared[0]
            assert first is not None
            raise DataError(
                f"{name} has no data, yet is subscripted by {first[1]} like {observed[first]}, so it is data and no "
                f"parameter; {told}. List it in params to estimate one number for each observation"
            )


def _leaves(expr: Any) -> list[Any]:
    """Symbols and bases below `expr`, in the order in which they are met."""
    stack, found = [expr], dict[Any, None]()
    while stack:
        node = stack.pop()
        if isinstance(node, sp.Indexed):
            found[node.base] = None
        elif is_leaf(node):
            found[node] = None
        else:
            stack.extend(reversed(list(children(node))))
    return list(found)


def _subscripted(cost: Any, sizes: Collection[Any]) -> Iterator[tuple[Any, list[Index | None]]]:
    """`(base, indices)` of every element: for each subscript that varies its index, None where an inner sum has it."""
    scopes: list[dict[Any, Index | None]] = [{}]  # the first is outside of all sums
    stack, seen = [(cost, 0)], set()
    while stack:
        expr, scope = stack.pop()
        if (id(expr), scope) in seen:
            continue
        seen.add((id(expr), scope))
        if isinstance(expr, sp.Sum | sp.Product):
            own = {symbol: None if scope else (id(expr), symbol) for symbol, _, _ in limits(expr)}
            scopes.append({**scopes[scope], **own})
            stack.append((expr.function, len(scopes) - 1))
        elif isinstance(expr, sp.Indexed):
            yield expr.base, list(_indices(expr, scopes[scope], sizes))
        else:
            stack.extend((child, scope) for child in children(expr))


def _indices(expr: Any, bound: Mapping[Any, Index | None], sizes: Collection[Any]) -> Iterator[Index | None]:
    for subscript in expr.indices:
        varying = sorted((s for s in sp.sympify(subscript).free_symbols if s not in sizes), key=str)
        if varying:
            inner = any(s in bound and bound[s] is None for s in varying)
            yield None if inner else next((bound[s] for s in varying if s in bound), (None, varying[0]))
