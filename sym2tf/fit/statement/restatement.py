"""The statement of a problem that was stated before, with other numbers: only the numbers are read and checked.

A loop over sets of data states one formula again and again. What a statement makes of it (the graph with its axes, who
is data and who a parameter, the sizes) is the same where formula, keys and shapes are; on the graph everything further
down is kept as well (see `memo`).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from sym2tf.fit.statement.inputs import typed
from sym2tf.fit.statement.parameters import Parameter, Unknown, decided
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.state import state
from sym2tf.ir.graph import Node

Array = np.ndarray[Any, Any]

STATEMENTS = 64  # that are remembered
PLAIN = (np.ndarray, list, tuple, int, float, np.number)
START = (*PLAIN, type(None))
NUMBER = (int, float)  # what has no axes


class _Remembered(NamedTuple):
    """A statement.

    Attributes:
        problem: as it was stated first, without its data.
        data: the input node of each key of the data, in order.
        parameters: the input node of each parameter, in order.
    """

    problem: Problem
    data: tuple[Node, ...]
    parameters: tuple[Node, ...]


_lock = threading.Lock()
_statements: OrderedDict[Hashable, _Remembered] = OrderedDict()


def stated(cost: Any, data: Any, params: Any, **how: Any) -> Problem:
    """What `state` makes of the same arguments.

    Raises:
        ArgumentError, DataError: as `state` does.
    """
    arguments = _plain(cost, data, params, how)
    if arguments is None:
        return state(cost, data, params, **how)
    arrays, parameters = arguments
    shapes = tuple([(key, array.shape) for key, array in arrays.items()])
    kinds = tuple(
        [
            (
                k,
                () if isinstance(p.initial, NUMBER) else np.shape(p.initial),
                p.initial is None,
                p.fixed,
                p.bounds is None,
            )
            for k, p in parameters.items()
        ]
    )
    key = type(cost), cost, shapes, kinds, how["maximize"]
    try:
        with _lock:
            known = _statements.get(key)
            if known is not None:
                _statements.move_to_end(key)
    except RecursionError:  # SymPy hashes and compares expressions recursively
        return state(cost, data, params, **how)
    if known is not None:
        return _with_numbers(known, arrays, parameters)
    problem = state(cost, data, params, **how)
    remembered = _remembered(problem, arrays, parameters)
    if remembered is not None:
        with _lock:
            _statements[key] = remembered
            while len(_statements) > STATEMENTS:
                _statements.popitem(last=False)
    return problem


def _plain(
    cost: Any, data: Any, params: Any, how: Mapping[str, Any]
) -> tuple[dict[Any, Array], dict[Any, Parameter]] | None:
    """The data as arrays and the parameters, if the statement is a plain one: a formula, numbers, and nothing else."""
    if not isinstance(cost, sp.Basic) or type(data) is not dict or type(params) is not dict:
        return None
    if how["constraints"] != () or any(how[name] is not None for name in ("loss", "sigma", "weights")):
        return None
    for value in data.values():
        if type(value) is not np.ndarray and (isinstance(value, np.ma.MaskedArray) or not isinstance(value, PLAIN)):
            return None
    parameters = {key: p if isinstance(p, Parameter) else Parameter(p) for key, p in params.items()}
    for p in parameters.values():
        if p.shape is not None or not isinstance(p.initial, START):
            return None
    try:
        arrays = {key: np.asarray(value) for key, value in data.items()}
        hash(tuple(parameters))
    except (ValueError, TypeError):
        return None
    return (arrays, parameters) if all(a.dtype.kind in "biuf" for a in arrays.values()) else None


def _remembered(
    problem: Problem, arrays: Mapping[Any, Array], parameters: Mapping[Any, Parameter]
) -> _Remembered | None:
    """What to keep of a statement; None where data are more than arrays for inputs (sizes, say) or were rearranged."""
    nodes = {problem.graph[v].attributes["name"]: problem.graph[v] for v in problem.graph.inputs}
    names = {symbol: name for name, symbol in problem.symbols.items()} | {name: name for name in problem.symbols}
    try:
        data = [names[key] for key in arrays]
        unknowns = [names[key] for key in parameters]
    except (KeyError, TypeError):
        return None
    if any(n not in nodes for n in (*data, *unknowns)) or set(data) != set(problem.data) or problem.ties:
        return None
    if any(problem.data[n].shape != a.shape for n, a in zip(data, arrays.values(), strict=True)):
        return None
    if unknowns != [u.name for u in problem.unknowns]:
        return None
    form = replace(problem, data={})
    _ = form.names, form.limits, form.bounded  # which later statements share
    return _Remembered(form, tuple(nodes[n] for n in data), tuple(nodes[n] for n in unknowns))


def _with_numbers(known: _Remembered, arrays: Mapping[Any, Array], parameters: Mapping[Any, Parameter]) -> Problem:
    problem = known.problem
    data = {
        node.attributes["name"]: typed(node, array) for node, array in zip(known.data, arrays.values(), strict=True)
    }
    unknowns = tuple(
        _with_number(u, p) or decided(node, p, problem.bound, problem.batch)
        for u, node, p in zip(problem.unknowns, known.parameters, parameters.values(), strict=True)
    )
    return problem.with_numbers(data, unknowns)


def _with_number(before: Unknown, p: Parameter) -> Unknown | None:
    """A parameter without bounds that starts from another number; None for others, where there is more to check."""
    plain = p.bounds is None and not before.implied and not before.initial.shape and before.starts is None
    if not plain or not isinstance(p.initial, int | float) or not math.isfinite(p.initial):
        return None
    return Unknown(before.symbol, before.name, np.array(float(p.initial)), before.lower, before.upper, before.fixed)
