"""What the subscripts of a cost say: which symbols cannot be parameters, and how many observations there are.

Where the user lists no parameters, every symbol that is not data is one. A forgotten array would then be estimated,
one number for each observation, so some symbols are never parameters unless they are listed:

- what stands on the left side of an equation, if no symbol there has data;
- an indexed base, or a matrix, all of whose subscripts run over observations. An index does where it belongs to
  an outermost sum (or, in an equation, to no sum) and is the first such index in a subscript of data: `i` in
  `Sum((y[i] - Sum(X[i, j]*w[j], (j, 0, k - 1)))**2, (i, 0, n - 1))`, so that `y` and `X` are data. `w` is subscripted
  by `j`, which counts features, and may be a parameter, as may `W[j, c]` beside `Y[i, c]`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.errors import DataError
from sym2tf.frontend.binders import limits
from sym2tf.frontend.walk import ELEMENTS, TENSORS, base_of, children, is_leaf, subscripts_of

Array = np.ndarray[Any, Any]
Index = tuple[int, Any]  # the outermost sum that binds it, by identity, and its symbol
UNBOUND, INNER = 0, -1  # instead of a sum: nothing binds it, or a sum inside another does
Uses = list[tuple[Any, list[Index | None]]]  # of every element its base and the index of each subscript that varies


def require_data(
    cost: Any,
    equations: Collection[tuple[Any, Any]],
    symbols: Mapping[str, Any],
    sizes: Collection[Any],
    data: Collection[str],
) -> None:
    """Refuse to take for a parameter what can only be data.

    Args:
        cost: an expression, where there are no equations.
        equations: what is observed, and its model.
        symbols: of its inputs, by name.
        sizes: the symbols that are sizes.
        data: the names of those that have data.

    Raises:
        DataError: names what is observed but has no data.
    """
    names = {symbol: name for name, symbol in symbols.items()}
    told = f"data has {', '.join(data)}" if data else "there are no data"
    for observed, _ in equations:
        left = [names[leaf] for leaf in _leaves(observed) if leaf in names]
        if left and not set(left) & set(data):
            verb = "is" if len(left) == 1 else "are"
            has = "has" if len(left) == 1 else "have"
            raise DataError(
                f"{', '.join(left)} {verb} observed in the equation but {has} no data; {told}. "
                "List the parameters in params if this is meant"
            )
    found, _ = _subscripted([side for equation in equations for side in equation] or [cost], sizes)
    running = {index: name for index, (name, _) in _observed(found, names, data).items()}
    for name, base in symbols.items():
        uses = [indices for other, indices in found if other == base and any(indices)]
        shared = [next((index for index in indices if index in running), None) for indices in uses]
        if name not in data and shared and None not in shared:
            first = shared[0]
            assert first is not None
            raise DataError(
                f"{name} has no data, yet is subscripted by {first[1]} like {running[first]}, so it is data and no "
                f"parameter; {told}. List it in params to estimate one number for each observation"
            )


def count_observations(
    cost: Any, symbols: Mapping[str, Any], sizes: Mapping[Any, int], data: Mapping[str, Array]
) -> int | None:
    """How many observations an expression sums over; None where no outermost sum has data.

    Sums over the same range of the same indices are about the same observations.

    Args:
        cost: an expression.
        symbols: of its inputs, by name.
        sizes: numbers for the symbols that are sizes.
        data: by name.
    """
    found, sums = _subscripted([cost], sizes)
    observed = _observed(found, {symbol: name for name, symbol in symbols.items()}, data)
    ranges: dict[int, dict[Any, int]] = {}
    for (key, symbol), (name, axis) in observed.items():
        if key == UNBOUND:
            continue
        lower, upper = next((low, up) for s, low, up in limits(sums[key]) if s == symbol)
        extent = data[name].shape[axis]
        if lower is not None and (stated := (upper - lower + 1).subs(sizes)).is_Integer:
            extent = int(stated)
        ranges.setdefault(key, {})[symbol] = extent
    return sum(prod(n for _, n in r) for r in {frozenset(r.items()) for r in ranges.values()}) or None


def _observed(found: Uses, names: Mapping[Any, str], data: Collection[str]) -> dict[Index, tuple[str, int]]:
    """The indices that run over observations, each with the name of a base with data and its axis."""
    observed: dict[Index, tuple[str, int]] = {}
    for base, indices in found:
        lead = next(((index, axis) for axis, index in enumerate(indices) if index and index[0] != INNER), None)
        if lead is not None and names.get(base) in data:
            observed.setdefault(lead[0], (names[base], lead[1]))
    return observed


def _leaves(expr: Any) -> list[Any]:
    """Symbols and bases below `expr`, in the order in which they are met."""
    stack, found, seen = [expr], dict[Any, None](), set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, ELEMENTS) and isinstance(base_of(node), TENSORS):
            found[base_of(node)] = None
        elif is_leaf(node):
            found[node] = None
        else:
            stack.extend(reversed(list(children(node))))
    return list(found)


def _subscripted(roots: Iterable[Any], sizes: Collection[Any]) -> tuple[Uses, dict[int, Any]]:
    """Where the bases stand, and the outermost sums by identity."""
    scopes: list[dict[Any, Index]] = [{}]  # the first is outside of all sums
    stack, seen = [(root, 0) for root in roots], set()
    uses: Uses = []
    sums = {}
    while stack:
        expr, scope = stack.pop()
        if (id(expr), scope) in seen:
            continue
        seen.add((id(expr), scope))
        if isinstance(expr, sp.Sum | sp.Product):
            if scope == 0:
                sums[id(expr)] = expr
            own = {symbol: (INNER if scope else id(expr), symbol) for symbol, _, _ in limits(expr)}
            scopes.append({**scopes[scope], **own})
            stack.append((expr.function, len(scopes) - 1))
        elif isinstance(expr, ELEMENTS) and isinstance(base_of(expr), TENSORS):
            indices = [_index(subscript, scopes[scope], sizes) for subscript in subscripts_of(expr)]
            uses.append((base_of(expr), indices))
        else:
            stack.extend((child, scope) for child in children(expr))
    return uses, sums


def _index(subscript: Any, bound: Mapping[Any, Index], sizes: Collection[Any]) -> Index | None:
    """The index that moves a subscript; None for a constant one."""
    varying = sorted((s for s in sp.sympify(subscript).free_symbols if s not in sizes), key=str)
    found = [bound.get(s, (UNBOUND, s)) for s in varying]
    return min(found, key=lambda index: index[0]) if found else None  # one of an inner sum says most
