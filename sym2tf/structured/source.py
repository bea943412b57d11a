"""What a structured derivative is made from: the graph that is differentiated, and the sizes of a call."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from sym2tf.autodiff.derivatives import gradient
from sym2tf.autodiff.elements import without_shifts
from sym2tf.backends.sizes import core_shape, input_types, prefix_slices
from sym2tf.errors import ArgumentError, SizeError
from sym2tf.ir.binding import Binding
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind
from sym2tf.passes.pipeline import Level

Array = np.ndarray[Any, Any]


class Source(NamedTuple):
    """What is differentiated.

    Attributes:
        graph: of the function; for a Hessian of its gradient.
        wrt: input nodes of it.
        shifts: names of the inputs that stand for elements, and are zero in the end.
        reaches: lengths that the elements need; see `Binding`.
        extents: sizes that must not be negative.
        symmetric: the Jacobian of all outputs by all of `wrt` is a Hessian.
    """

    graph: Graph
    wrt: tuple[int, ...]
    shifts: frozenset[str]
    reaches: tuple[Any, ...]
    extents: tuple[Any, ...]
    symmetric: bool = False

    def finished(self, graph: Graph) -> Graph:
        """A derivative without the shifts, and with what the data must have for it."""
        graph = without_shifts(graph, self.shifts)
        return Graph(graph.nx, graph.inputs, graph.outputs, self.info(graph))

    def info(self, graph: Graph) -> dict[str, Any]:
        """What `graph` says about itself, and what the data must have."""
        return {
            **graph.info,
            "reaches": (*graph.info.get("reaches", ()), *self.reaches),
            "extents": (*graph.info.get("extents", ()), *self.extents),
        }

    def gradient(self) -> Source:
        """Its gradient by the same inputs.

        Raises:
            DifferentiationError: an output is not scalar, or an operation has no derivative.
        """
        graph = gradient(self.graph, self.wrt)
        wrt = tuple(graph.inputs[self.graph.inputs.index(v)] for v in self.wrt)
        return self._replace(graph=graph, wrt=wrt, symmetric=len(self.graph.outputs) == 1)


class Function(Protocol):
    """What is needed of the compiled function whose derivative it is."""

    name: str
    title: str
    dtype: str
    level: Level
    lowered: Graph

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]: ...
    def derived(self, graph: Graph, outputs: Any, kind: str) -> Any: ...


class Situation(NamedTuple):
    """What the structure of a derivative depends on.

    Attributes:
        sizes: numbers for all size symbols.
        data: integer and Boolean inputs, by name.
    """

    sizes: dict[str, int]
    data: dict[str, Array]

    @property
    def key(self) -> Hashable:
        """Equal where both are."""
        data = ((k, a.shape, hashlib.blake2b(np.ascontiguousarray(a).tobytes()).digest()) for k, a in self.data.items())
        return tuple(sorted(self.sizes.items())), tuple(data)


@dataclass(frozen=True)
class Sizing:
    """Reads sizes off the arguments of a call.

    Attributes:
        graph: whose inputs the arguments are.
        info: what the data must have.
    """

    graph: Graph
    info: Mapping[str, Any]

    @cached_property
    def binding(self) -> Binding:
        """How lengths of data bind sizes."""
        return Binding(Graph(self.graph.nx, self.graph.inputs, self.graph.outputs, self.info))

    @property
    def names(self) -> Sequence[str]:
        """The size symbols."""
        return self.binding.names

    @cached_property
    def subscripts(self) -> list[str]:
        """The inputs whose values a structure may depend on."""
        inputs = (self.graph[v] for v in self.graph.inputs)
        return [node.attributes["name"] for node in inputs if node.type.kind < Kind.REAL]

    def of_sizes(self, given: Mapping[str, Any]) -> Situation:
        """From sizes alone.

        Raises:
            ArgumentError: the structure depends on integer data.
            SizeError: a size is missing, or is none.
        """
        if self.subscripts:
            raise ArgumentError(f"the pattern depends on {', '.join(self.subscripts)}: give the arguments of a call")
        missing = [name for name in self.names if name in self.binding.used and name not in given]
        if missing:
            raise SizeError(f"the pattern depends on {', '.join(missing)}: give sizes by name, or arguments of a call")
        return Situation({name: _length(name, value) for name, value in given.items()}, {})

    def of_values(self, values: Mapping[str, Any], given: Mapping[str, int]) -> Situation:
        """From the inputs by name, and sizes that were given with them.

        Raises:
            ShapeError, SizeError: data that do not fit, or whose shapes are not known inside a graph.
        """
        types = input_types(self.graph)
        shapes = {name: _shape(name, value) for name, value in values.items()}
        cores = {name: core_shape(name, type, shapes[name]) for name, type in types.items()}
        sizes = self.binding.bind(shapes, given)
        data = {}
        for name in self.subscripts:
            cut = prefix_slices(types[name], cores[name], sizes)
            data[name] = _array(name, values[name])[() if cut is None else cut]
        return Situation(sizes, data)


def one_of(**options: bool) -> str:
    """The option that is asked for.

    Raises:
        ArgumentError: several are.
    """
    asked = [name for name, value in options.items() if value]
    if len(asked) > 1:
        raise ArgumentError(f"a derivative is {' or '.join(asked)}, not both")
    return asked[0]


def _shape(name: str, value: Any) -> tuple[int, ...]:
    shape = getattr(value, "shape", None)
    known = np.shape(value) if shape is None else tuple(shape)
    if None in known:
        raise SizeError(f"the structure depends on the shape of {name}, which is not known yet here")
    return known


def _array(name: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except NotImplementedError:
        raise ArgumentError(f"the structure depends on the values of {name}, which are not known yet here") from None


def _length(name: str, value: Any) -> int:
    if not isinstance(value, int | np.integer) or value < 0:
        raise SizeError(f"{name} is a size and must be an integer >= 0, got {value!r}")
    return int(value)
