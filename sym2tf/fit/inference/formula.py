"""The fitted numbers put back into the formula that was stated."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]

DIGITS = 17  # every float64 survives


def fitted(problem: Problem, params: Mapping[Any, Any]) -> Any:
    """What was stated, with numbers in place of the parameters: the model of an equation, else the cost.

    Several equations give a dict from what is observed to the fitted model. An array parameter in a sum over its
    subscript makes that sum explicit; sizes in the shape of a parameter are replaced as well.
    """
    if not problem.equations:
        return _substituted(sp.sympify(problem.cost), problem, params)
    models = {left: _substituted(right, problem, params) for left, right in problem.equations}
    return models if len(models) > 1 else next(iter(models.values()))


def _substituted(target: Any, problem: Problem, params: Mapping[Any, Any]) -> Any:
    numbers: dict[Any, Any] = {}
    arrays: dict[Any, Array] = {}
    for symbol, value in params.items():
        if isinstance(symbol, sp.MatrixExpr):
            numbers[symbol] = sp.ImmutableDenseMatrix(*symbol_shape(value), [_float(x) for x in np.ravel(value)])
        elif np.ndim(value) == 0:
            numbers[symbol] = _float(value)
        else:
            base = symbol if isinstance(symbol, sp.IndexedBase) else sp.IndexedBase(symbol)
            arrays[base] = np.asarray(value)
            numbers |= {base[k]: _float(value[k]) for k in np.ndindex(np.shape(value))}
    sizes = _sizes_of_parameters(problem)
    if arrays and _has_running_subscript(target, arrays):
        target = _explicit(target.subs(sizes), arrays)
    if any(isinstance(key, sp.MatrixExpr) for key in numbers):
        numbers |= {key: sp.Integer(value) for key, value in sizes.items()}
    return target.xreplace(numbers)


def symbol_shape(value: Any) -> tuple[int, int]:
    """The shape of a matrix parameter's value."""
    rows, columns = np.shape(value)
    return rows, columns


def _float(x: Any) -> Any:
    return sp.Float(float(x), DIGITS)


def _sizes_of_parameters(problem: Problem) -> dict[Any, int]:
    """The size symbols in the shapes of parameters, as numbers."""
    graph, unknowns = problem.graph, {u.name for u in problem.unknowns}
    used = {
        str(d)
        for v in graph.inputs
        if graph[v].attributes["name"] in unknowns
        for d in graph[v].type.shape
        if not isinstance(d, int)
    }
    symbols = graph.info.get("sizes", {})
    return {s: problem.bound[name] for name, s in symbols.items() if name in used and name in problem.bound}


def _has_running_subscript(target: Any, arrays: Mapping[Any, Array]) -> bool:
    return any(e.base in arrays and not all(k.is_Integer for k in e.indices) for e in target.atoms(sp.Indexed))


def _explicit(target: Any, arrays: Mapping[Any, Array]) -> Any:
    """`target` with every sum written out whose index runs through a parameter, and has numbers for bounds."""
    replaced: dict[Any, Any] = {}
    for total in sorted(target.atoms(sp.Sum), key=lambda s: s.count_ops()):
        running = {k for e in total.function.atoms(sp.Indexed) if e.base in arrays for k in e.indices}
        own = [limit for limit in total.limits if limit[0] in running and _numeric(limit)]
        if not own:
            continue
        rest = [limit for limit in total.limits if limit not in own]
        term = total.function.xreplace(replaced)
        ranges = [range(int(low), int(high) + 1) for _, low, high in own]
        terms = [
            term.xreplace(dict(zip((o[0] for o in own), map(sp.Integer, at), strict=True))) for at in product(*ranges)
        ]
        written = sp.Add(*terms)
        replaced[total] = sp.Sum(written, *rest) if rest else written
    return target.xreplace(replaced)


def _numeric(limit: Any) -> bool:
    return len(limit) == 3 and limit[1].is_Integer and limit[2].is_Integer
