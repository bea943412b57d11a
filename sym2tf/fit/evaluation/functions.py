"""Graphs of a problem as functions of its flat vector of free parameters, made for being called often.

What depends on the data and the fixed parameters alone is computed once; the rest is a kernel of NumPy calls. Both
are kept with the graph, so that another fit of the same formula finds them.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from sym2tf.backends.numpy_source import Kernel, kernel
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.problem import Problem
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import TensorType
from sym2tf.passes.hoisting import Split, split
from sym2tf.passes.pipeline import optimize, prune

Array = np.ndarray[Any, Any]

KEPT = 4
"""How many times as large as the largest input a value may be to be computed once and kept."""
KEPT_ALWAYS = 100_000  # elements that may be kept in any case
OPTIMIZED_TO = 3_000
"""Nodes up to which a graph is optimised before it is evaluated: 20 to 120 nodes take 3 to 25 ms, once for a formula,
and come out two to four times as quick."""


class Evaluation:
    """A graph at flat vectors of the free parameters.

    Attributes:
        shapes: of the outputs, in their order.
        names: of the outputs.
        key: the names of the free parameters and the sizes: what `plan` depends on beside the graph.
        kept: what was computed once, by the names of the inputs that stand for it.
        call: a function of theta that gives the outputs as they come, inside `np.errstate`; an output that is the
            same along an axis may have length 1 there, or fewer axes.
    """

    def __init__(self, graph: Graph, problem: Problem, *, once: bool = True) -> None:
        """The graph at the data of a problem; `once=False` computes everything in every call, to compare."""
        free = tuple(u.name for u in problem.free)
        bound = tuple(sorted(problem.bound.items()))
        self.key = free, bound
        plan = made(graph, ("evaluation", free, bound, once), lambda: _Plan(graph, problem, once))
        self.plan = plan
        self.names, self.shapes = plan.names, plan.shapes
        given = {**problem.data, **problem.fixed}
        self.kept = plan.keep(given)
        self.arguments: list[Any] = [
            plan.cut(name, given[name]) if name in given else self.kept.get(name) for name in plan.inputs
        ]

    def bound_to(self, theta: Array) -> list[Any]:
        """The arguments of the kernel at `theta`."""
        arguments = self.arguments.copy()
        for place, start, stop, shape in self.plan.places:
            arguments[place] = theta[start] if shape is None else theta[start:stop].reshape(shape)
        return arguments

    def bare(self, theta: Array) -> tuple[Any, ...]:
        """The same as `call`, for whoever has set `np.errstate`, which takes as long as a small formula."""
        return self.plan.run(*self.bound_to(theta))

    def call(self, theta: Array) -> tuple[Any, ...]:
        with np.errstate(all="ignore"):
            return self.bare(theta)

    def full(self, theta: Array) -> list[Array]:
        """The outputs in full shape; read-only where they are stretched."""
        return self.stretched(self.call(theta))

    def stretched(self, found: tuple[Any, ...]) -> list[Array]:
        """Outputs as they come in full shape."""
        return [
            value if np.shape(value) == shape else np.broadcast_to(value, shape)
            for value, shape in zip(found, self.shapes, strict=True)
        ]


class _Plan:
    """What of an evaluation depends on the graph, the names of the parameters and the sizes alone."""

    def __init__(self, graph: Graph, problem: Problem, once: bool) -> None:
        free, sizes = {u.name for u in problem.free}, dict(problem.bound)
        quick = made(graph, "optimized", lambda: _optimized(graph))
        parts = divided(quick, free, sizes) if once else split(quick, (), lambda type: False)
        self.rest = parts.rest
        self.inputs = [parts.rest[v].attributes["name"] for v in parts.rest.inputs]
        self.places = _places(problem, self.inputs)
        self._due = {
            part[v].attributes["name"]: _shape(part[v].type, sizes)
            for part in (parts.rest, parts.once)
            for v in part.inputs
        }
        self._once_inputs = [parts.once[v].attributes["name"] for v in parts.once.inputs]
        self._once: Kernel | None = kernel(parts.once, sizes) if parts.once.outputs else None
        self._once_shapes = {name: _shape(parts.once[v].type, sizes) for name, v in parts.once.outputs.items()}
        self.run = kernel(parts.rest, sizes)
        self.names = tuple(parts.rest.outputs)
        self.shapes = [_shape(parts.rest[v].type, sizes) for v in parts.rest.outputs.values()]

    def keep(self, given: dict[str, Array]) -> dict[str, Array]:
        if self._once is None:
            return {}
        with np.errstate(all="ignore"):
            values = self._once(*(self.cut(name, given[name]) for name in self._once_inputs))
        return {
            name: scalar_or_array(np.broadcast_to(value, shape))
            for (name, shape), value in zip(self._once_shapes.items(), values, strict=True)
        }

    def cut(self, name: str, array: Array) -> Any:
        """An input in the shape that the sizes in use ask for; longer data are cut."""
        due = self._due[name]
        return scalar_or_array(array if array.shape == due else array[tuple(slice(0, d) for d in due)])


def divided(graph: Graph, free: set[str], sizes: dict[str, int]) -> Split:
    """`graph` as what is computed once for data of these sizes, and the rest."""
    fixed = [v for v in graph.inputs if graph[v].attributes["name"] not in free]
    largest = max([prod(_shape(graph[v].type, sizes)) for v in fixed], default=1)

    def keep(type: TensorType) -> bool:
        return prod(_shape(type, sizes)) <= max(KEPT * largest, KEPT_ALWAYS)

    return split(graph, fixed, keep)


def scalar_or_array(array: Array) -> Any:
    """A NumPy scalar where there are no axes: its arithmetic is several times quicker than that of an array."""
    return array if array.shape else array[()]


def _optimized(graph: Graph) -> Graph:
    return optimize(graph)[0] if len(graph) <= OPTIMIZED_TO else prune(graph)[0]


def _shape(type: TensorType, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(evaluate_size(d, sizes) for d in type.shape)


def _places(problem: Problem, inputs: list[str]) -> list[tuple[int, int, int, tuple[int, ...] | None]]:
    """Of each free parameter among the inputs: its place there, where it stands in theta, and its shape if any."""
    found, start = [], 0
    for u in problem.free:
        stop = start + u.initial.size
        if u.name in inputs:
            found.append((inputs.index(u.name), start, stop, u.initial.shape or None))
        start = stop
    return found
