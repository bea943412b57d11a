"""Jacobians and Hessians as what is in them: index pattern and values of a sparse one.

Rows number the elements of an output, columns those of an input, both in row-major order of their core axes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from sym2tf.autodiff.derivatives import gradient
from sym2tf.autodiff.elements import without_shifts
from sym2tf.autodiff.sparse_plan import Plan, make_plan
from sym2tf.autodiff.sweeps import Mode, Sweeps, sweeps
from sym2tf.backends.sizes import core_shape, input_types, prefix_slices
from sym2tf.backends.tensorflow.sparse import sparse_tensor
from sym2tf.errors import ArgumentError, ShapeError, SizeError
from sym2tf.ir.binding import Binding
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind
from sym2tf.lazy import lazy
from sym2tf.passes.pipeline import Level, optimize
from sym2tf.trees import map_nest

scipy_sparse = lazy("scipy.sparse")

Array = np.ndarray[Any, Any]
KEPT = 8  # plans for different sizes or index data


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
    level: Level
    lowered: Graph

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]: ...
    def derived(self, graph: Graph, outputs: Any, kind: str) -> Any: ...


class SparseDerivative:
    """A Jacobian or Hessian as index pattern and values: `f.jacobian(sparse=True)`, `f.hessian(sparse=True)`.

    Call it with the arguments of the function. The pattern holds for all values of the arguments; it depends on sizes,
    and on integer data that are used as subscripts. It never lacks an entry; it may have one that is always zero.
    """

    def __init__(self, function: Function, source: Source, nest: Any, kind: str) -> None:
        self._function, self._source, self._nest, self.kind = function, source, nest, kind
        self._plans: dict[Any, Plan] = {}
        self._programs: dict[Any, tuple[Sweeps, Any]] = {}

    def __copy__(self) -> SparseDerivative:
        return self

    def __deepcopy__(self, memo: Any) -> SparseDerivative:
        return self  # nothing in it changes once it is made, but for what it remembers

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_plans": {}, "_programs": {}}

    def __repr__(self) -> str:
        return f"<sym2tf sparse {self.kind} of {self._function.name}: {self._function.title}>"

    # Structure --------------------------------------------------------------------------------------------------

    def pattern(self, /, *args: Any, **kwargs: Any) -> Any:
        """The pattern of each block, in the nest that a call returns.

        Args:
            args: the arguments of a call, or nothing.
            kwargs: the same by name; or sizes alone, where no subscripts are data.

        Raises:
            ArgumentError, SizeError, ShapeError: arguments that do not fit.
            ResourceLimitError: the derivative is dense, and too large to list.
        """
        plan = self._planned(*self._situation(args, kwargs))
        return map_nest(lambda name, path: plan.patterns[name], self._nest)

    def sweeps(self, /, *args: Any, **kwargs: Any) -> int:
        """How many directional derivatives a call computes; for the same arguments as `pattern`.

        As many as the smaller side has elements where the whole derivative is computed.
        """
        return self._planned(*self._situation(args, kwargs)).count

    # Values -----------------------------------------------------------------------------------------------------

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The values of each block's entries, in the order of its pattern: tensors of shape `(*batch, entries)`."""
        values, plan = self._values(args, kwargs)
        if isinstance(self._nest, str):
            return values
        return map_nest(lambda name, path: values[..., plan.slices[name]], self._nest)

    def to_scipy(self, /, *args: Any, **kwargs: Any) -> Any:
        """Each block as a `scipy.sparse.csr_array`.

        Raises:
            ShapeError: there are batch axes, which SciPy does not know.
        """
        values, plan = self._values(args, kwargs)
        entries = np.asarray(values)
        if entries.ndim > 1:
            raise ShapeError(f"SciPy holds one matrix; there are batch axes {entries.shape[:-1]}: use to_tf")
        if entries.dtype.kind not in "f" or entries.dtype.itemsize < 4:
            entries = entries.astype(np.float32)  # which SciPy has kernels for

        def matrix(name: str, path: str) -> Any:
            rows, columns, shape = plan.patterns[name]
            starts = np.searchsorted(rows, np.arange(shape[0] + 1))
            return scipy_sparse.csr_array((entries[plan.slices[name]], columns, starts), shape=shape)

        return map_nest(matrix, self._nest)

    def to_tf(self, /, *args: Any, **kwargs: Any) -> Any:
        """Each block as a `tf.sparse.SparseTensor`, batch axes in front."""
        values, plan = self._values(args, kwargs)
        return map_nest(
            lambda name, path: sparse_tensor(*plan.patterns[name], values[..., plan.slices[name]]), self._nest
        )

    def _values(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Plan]:
        values, given = self._function.bound(args, kwargs)
        plan = self._planned(*self._bound(values, given))
        graph, program = self._program(plan.mode, plan.single, plan.picked)
        named = dict(values) | given
        if graph.palette is not None:
            named[graph.palette] = np.arange(plan.count)
        named |= dict(zip(graph.colours, plan.colours, strict=False))  # there are none to give for a single direction
        if graph.places is not None:
            named[graph.places] = plan.places
        return program(**named), plan

    def _program(self, mode: Mode, single: bool, picked: bool) -> tuple[Sweeps, Any]:
        key = mode, single, picked
        if key not in self._programs:
            source = self._source
            made = sweeps(source.graph, source.wrt, mode, single=single, picked=picked)
            graph = source.finished(made.graph)
            (output,) = graph.outputs
            self._programs[key] = made, self._function.derived(graph, output, f"sparse_{self.kind}")
        return self._programs[key]

    # Sizes ------------------------------------------------------------------------------------------------------

    @cached_property
    def _analysed(self) -> tuple[Graph, tuple[int, ...]]:
        """The optimised graph, where sums of products are einsums, and `wrt` in it."""
        source = self._source
        graph, _ = optimize(source.graph, level=self._function.level)
        return graph, tuple(graph.inputs[source.graph.inputs.index(v)] for v in source.wrt)

    def _situation(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, Array]]:
        """Sizes and subscript data, from the arguments of a call or from sizes alone."""
        binding = self._binding
        if args or any(name not in binding.names for name in kwargs):
            return self._bound(*self._function.bound(args, kwargs))
        data = self._subscripts
        if data:
            raise ArgumentError(f"the pattern depends on {', '.join(data)}: give the arguments of a call")
        missing = [name for name in binding.names if name in binding.used and name not in kwargs]
        if missing:
            raise SizeError(
                f"the pattern depends on {', '.join(missing)}: give sizes by name, or the arguments of a call"
            )
        return {name: _length(name, value) for name, value in kwargs.items()}, {}

    @cached_property
    def _binding(self) -> Binding:
        graph = self._function.lowered
        return Binding(Graph(graph.nx, graph.inputs, graph.outputs, self._source.info(graph)))

    @cached_property
    def _subscripts(self) -> list[str]:
        """The inputs whose values the pattern may depend on."""
        graph = self._function.lowered
        return [graph[v].attributes["name"] for v in graph.inputs if graph[v].type.kind < Kind.REAL]

    def _bound(self, values: Mapping[str, Any], given: Mapping[str, int]) -> tuple[dict[str, int], dict[str, Array]]:
        types = input_types(self._function.lowered)
        shapes = {name: _shape(name, value) for name, value in values.items()}
        cores = {name: core_shape(name, type, shapes[name]) for name, type in types.items()}
        sizes = self._binding.bind(shapes, given)
        data = {}
        for name in self._subscripts:
            cut = prefix_slices(types[name], cores[name], sizes)
            data[name] = _array(name, values[name])[() if cut is None else cut]
        return sizes, data

    def _planned(self, sizes: dict[str, int], data: dict[str, Array]) -> Plan:
        key = tuple(sorted(sizes.items())), tuple((name, a.shape, _digest(a)) for name, a in data.items())
        plan = self._plans.get(key)
        if plan is None:
            graph, wrt = self._analysed
            plan = make_plan(graph, wrt, sizes, data, symmetric=self._source.symmetric)
            while len(self._plans) >= KEPT:
                self._plans.pop(next(iter(self._plans)), None)
            self._plans[key] = plan
        return plan


def _digest(array: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()


def _shape(name: str, value: Any) -> tuple[int, ...]:
    shape = getattr(value, "shape", None)
    known = np.shape(value) if shape is None else tuple(shape)
    if None in known:
        raise SizeError(f"the pattern depends on the shape of {name}, which is not known yet here")
    return known


def _array(name: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except NotImplementedError:
        raise ArgumentError(f"the pattern depends on the values of {name}, which are not known yet here") from None


def _length(name: str, value: Any) -> int:
    if not isinstance(value, int | np.integer) or value < 0:
        raise SizeError(f"{name} is a size and must be an integer >= 0, got {value!r}")
    return int(value)
