"""Which part of a cost made it NaN or infinite, in the words of who wrote it.

The graph of the cost is evaluated node by node, and the way back from the cost is followed over what is not finite
to the first node whose operands all are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import DifferentiationError
from sym2tf.fit.evaluation.residuals import inputs_of
from sym2tf.fit.statement.problem import Problem
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph
from sym2tf.ir.subgraphs import extract
from sym2tf.ops.indexing import expand
from sym2tf.ops.leaves import input_
from sym2tf.ops.logic import select
from sym2tf.passes.pipeline import stabilize

Array = np.ndarray[Any, Any]

AT_ONCE = 20_000_000  # elements of all nodes together up to which they are computed in one go
OBSERVATION = "observation"  # the index of the axis that plain symbols have in an equation
SHOWN = 6  # parameters and data that a message names


def explain(problem: Problem, theta: Array) -> str:
    """Where the cost, or else its gradient, is not finite; empty where all is finite.

    As in `log(a - x[i]) is NaN: its argument a - x[i] is -0.5 at i=3, with a=1.5, x[3]=2`.

    Args:
        problem: whose cost; the data may be those of one batch.
        theta: the free parameters, flat.
    """
    cost = stabilize(extract(problem.graph, {"out": problem.graph.outputs["out"]}))
    found = _blamed(cost, problem, theta)
    if found:
        return found
    free = {u.name for u in problem.free}
    wrt = [v for v in cost.inputs if cost[v].attributes["name"] in free]
    try:
        return _blamed(derivatives.gradient(cost, wrt), problem, theta)
    except DifferentiationError:
        return ""


def _blamed(graph: Graph, problem: Problem, theta: Array) -> str:
    values = _Values(graph, problem, theta)
    for v in graph.outputs.values():
        wrong = ~np.isfinite(values[v])
        if wrong.any():
            return _message(problem, theta, values, *_origin(values, v, wrong))
    return ""


class _Values:
    """The nodes of a graph as numbers, few at a time where the data are large."""

    def __init__(self, graph: Graph, problem: Problem, theta: Array) -> None:
        self.graph, self._problem, self._theta = graph, problem, problem.unpacked(theta)
        largest = max((a.size for a in problem.data.values()), default=1)
        self._known: dict[int, Array] = {}
        if largest * len(graph) <= AT_ONCE:
            self._compute(graph.order)

    def __getitem__(self, v: int) -> Array:
        if v not in self._known:
            self._known.clear()
            self._compute([v])
        return self._known[v]

    def _compute(self, nodes: Iterable[int]) -> None:
        names = {str(v): v for v in nodes}
        part = extract(self.graph, names)
        found = evaluate(part, inputs_of(part, self._problem, self._theta), self._bound(part))
        self._known |= {names[name]: value for name, value in found.items()}

    def _bound(self, part: Graph) -> dict[str, int]:
        needed = part.size_names()
        return {name: size for name, size in self._problem.bound.items() if name in needed}


def _origin(values: _Values, v: int, wrong: Array) -> tuple[int, Array]:
    """The node that `v` owes its values that are not finite to, and which of its own are not."""
    while True:
        for u, matters in _uses(values, v, wrong):
            odd = ~np.isfinite(values[u])
            if matters is not None:
                odd = odd & matters
            if odd.any():
                v, wrong = u, odd
                break
        else:
            return v, wrong


def _uses(values: _Values, v: int, wrong: Array) -> Iterator[tuple[int, Array | None]]:
    """The operands of `v`, each with the elements of it that matter for those of `v` that are wrong; None for all."""
    graph = values.graph
    operands = graph.operands(v)
    if graph[v].op is select:
        condition, a, b = operands
        taken = np.broadcast_to(values[condition], wrong.shape)
        yield a, _shrunk(wrong & taken, values[a].shape)
        yield b, _shrunk(wrong & ~taken, values[b].shape)
        return
    for u in operands:
        yield u, _shrunk(wrong, values[u].shape) if graph[v].op.elementwise else None


def _shrunk(mask: Array, shape: tuple[int, ...]) -> Array:
    """What a mask says of an operand that was stretched to the mask's shape."""
    extra = mask.ndim - len(shape)
    found = mask.any(axis=tuple(range(extra)))
    stretched: Any = tuple(k for k, length in enumerate(shape) if length == 1 and found.shape[k] != 1)
    return np.asarray(found.any(axis=stretched, keepdims=True))


def _message(problem: Problem, theta: Array, values: _Values, v: int, wrong: Array) -> str:
    node = values.graph[v]
    at = tuple(int(k) for k in np.argwhere(wrong)[0])
    value = values[v][at]
    what = "NaN" if np.isnan(value) else "infinite"
    subject = f"({node.op.name})" if node.origin is None else describe(node.origin)
    if node.stage == "derivative":
        subject = f"the derivative of {subject}"
    shown, causes = set(), []
    for u in values.graph.operands(v):
        source = _source(values.graph, u)
        other = values.graph[source]
        if not _tells(node, other) or not node.op.elementwise:
            continue
        text = describe(other.origin)
        if other.op is input_ and other.type.rank:
            text += str(list(at))
        shown.add(text)
        causes.append((text, _element(values[u], at)))
    text = f"{subject} is {what}"
    if len(causes) == 1:
        text += f": its argument {causes[0][0]} is {causes[0][1]:.6g}"
    elif causes:
        text += ": " + " and ".join(f"{name} is {number:.6g}" for name, number in causes[:SHOWN])
    indices = _indices(problem, node.origin, at)
    where = [f"{symbol} {place}" if symbol == OBSERVATION else f"{symbol}={place}" for symbol, place in indices.items()]
    if where:
        text += f" at {', '.join(where)}"
    elif at:
        text += f" at {at[0]}" if len(at) == 1 else f" at {at}"
    known = [f"{n}={x:.6g}" for n, x in _numbers(problem, theta, node.origin, indices) if n not in shown]
    return text + (f", with {', '.join(known[:SHOWN])}" if known else "")


def _source(graph: Graph, v: int) -> int:
    while graph[v].op is expand:
        (v,) = graph.operands(v)
    return v


def _tells(node: Any, operand: Any) -> bool:
    """Whether the value of an operand tells a reader something: it is no constant, and has a text of its own."""
    if operand.origin is None or operand.stage == "derivative" or operand.origin == node.origin:
        return operand.op is input_
    return bool(getattr(operand.origin, "free_symbols", None))


def _element(array: Array, at: Sequence[int]) -> float:
    """The element of an operand that was stretched to the shape in which `at` counts."""
    own = at[len(at) - array.ndim :]
    return float(array[tuple(0 if length == 1 else k for k, length in zip(own, array.shape, strict=True))])


def _indices(problem: Problem, origin: Any, at: Sequence[int]) -> dict[Any, int]:
    """The indices in `origin` with their values at a place; empty where the axes are not those of indices."""
    if not isinstance(origin, sp.Basic):
        return {}
    first = _first_values(problem)
    subscripts = [s for e in origin.atoms(sp.Indexed) for index in e.indices for s in index.free_symbols]
    inner = {limit[0] for total in origin.atoms(sp.Sum, sp.Product) for limit in total.limits}
    used = [s for s in first if s in subscripts and s not in inner]
    if not used and len(at) == 1 and not inner and not subscripts:
        return {OBSERVATION: at[0]} if "n_observations" in problem.bound else {}
    if len(used) != len(at) or any(first[s] is None for s in used):
        return {}
    return {s: k + (first[s] or 0) for s, k in zip(used, at, strict=True)}


def _first_values(problem: Problem) -> dict[Any, int | None]:
    """The indices of the cost in the order of their axes (free ones by name, then bound ones) with their first values.

    None stands for those that are no numbers.
    """
    free: set[Any] = set()
    bound: dict[Any, int | None] = {}
    pending, seen = [problem.cost], set()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            pending += [*part.keys(), *part.values()]
            continue
        if isinstance(part, sp.Sum | sp.Product):
            for symbol, low, *_ in part.limits:
                bound.setdefault(symbol, int(low) if getattr(low, "is_Integer", False) else None)
        if isinstance(part, sp.Indexed):
            free |= {s for index in part.indices for s in index.free_symbols if isinstance(s, sp.Symbol)}
        pending += reversed(getattr(part, "args", ()))
    names: dict[Any, int | None] = {s: 0 for s in sorted(free - bound.keys(), key=str) if str(s) not in problem.bound}
    return names | bound


def _numbers(problem: Problem, theta: Array, origin: Any, indices: Mapping[Any, int]) -> Iterator[tuple[str, float]]:
    """Parameters that are numbers, and elements of data, that stand in `origin`."""
    if not isinstance(origin, sp.Basic):
        return
    fitted = problem.unpacked(theta)
    arrays = {**problem.data, **problem.fixed, **fitted}
    names = {symbol: name for name, symbol in problem.symbols.items()}
    for symbol in sorted(origin.free_symbols, key=str):
        array = arrays.get(names.get(symbol, ""))
        if array is not None and not array.ndim:
            yield names[symbol], float(array)
        elif array is not None and array.ndim == 1 and OBSERVATION in indices:
            yield names[symbol], float(array[indices[OBSERVATION]])
    for element in sorted(origin.atoms(sp.Indexed), key=str):
        name = names.get(element.base, str(element.base))
        array = arrays.get(name)
        places = [
            index.xreplace({s: sp.Integer(k) for s, k in indices.items() if isinstance(s, sp.Basic)})
            for index in element.indices
        ]
        if array is None or not all(p.is_Integer for p in places) or len(places) != array.ndim:
            continue
        place = tuple(int(p) for p in places)
        if all(0 <= k < length for k, length in zip(place, array.shape, strict=True)):
            yield f"{name}[{', '.join(map(str, place))}]", float(array[place])
