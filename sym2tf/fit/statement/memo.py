"""What depends on a formula alone is made once, however often the formula is fitted.

Lowering, derivatives, optimisation and the text of kernels depend on what is written, not on the data, and cost a
hundred times more than a small fit itself. The lowered graphs of the last `FORMULAS` formulas are kept; everything
further down is kept on the graph that it is made from and goes with it. Graphs never change, so nothing can grow
stale, and of two threads that make the same thing one wins.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

import sympy as sp

from sym2tf.frontend.describe import is_small
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Graph

T = TypeVar("T")

FORMULAS = 64
SMALL = 2_000  # parts of an expression up to which it is compared with others, and not only recognised itself
VARIANTS = 16  # of one thing made from one graph, such as a kernel for data of one length

_lock = threading.Lock()
_formulas: OrderedDict[Hashable, tuple[Any, Graph]] = OrderedDict()
_objects: OrderedDict[Hashable, tuple[Any, Graph]] = OrderedDict()  # what they stand for, so that an id stays taken


def lowered(formula: Any) -> Graph:
    """The lowered graph of an expression or of a mapping from output names to expressions; equal ones share one."""
    parts = tuple(formula.items()) if isinstance(formula, Mapping) else (("out", formula),)
    if not all(isinstance(part, sp.Basic) for _, part in parts):
        return lower(formula)  # it may change, as a matrix can
    by_id = tuple((name, id(part)) for name, part in parts)
    found = _recalled(_objects, by_id)
    if found is not None:
        return found
    small = all(is_small(part, SMALL) for _, part in parts)
    by_value = tuple((name, type(part), part) if small else (name, id(part)) for name, part in parts)
    graph = _recalled(_formulas, by_value)
    graph = _kept(_formulas, by_value, formula, lower(formula) if graph is None else graph)
    return _kept(_objects, by_id, formula, graph)


def _recalled(store: OrderedDict[Hashable, tuple[Any, Graph]], key: Hashable) -> Graph | None:
    with _lock:
        found = store.get(key)
        if found is not None:
            store.move_to_end(key)
    return None if found is None else found[1]


def _kept(store: OrderedDict[Hashable, tuple[Any, Graph]], key: Hashable, formula: Any, graph: Graph) -> Graph:
    with _lock:
        _, graph = store.setdefault(key, (formula, graph))
        while len(store) > FORMULAS:
            store.popitem(last=False)
    return graph


def made(graph: Graph, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` makes from `graph`, made once for each `key`; the last `VARIANTS` keys of one first element stay."""
    store: dict[Hashable, dict[Hashable, Any]] = vars(graph).setdefault("_made", {})
    kind = key[0] if isinstance(key, tuple) else key
    variants = store.setdefault(kind, {})
    if key not in variants:
        value = make()
        with _lock:
            variants.setdefault(key, value)
            while len(variants) > VARIANTS:
                del variants[next(iter(variants))]
            return cast(T, variants.get(key, value))
    return cast(T, variants[key])
