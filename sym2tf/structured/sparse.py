"""A Jacobian or Hessian as index pattern and values.

Rows number the elements of an output, columns those of an input, both in row-major order of their core axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sym2tf.autodiff.sparse_plan import Plan, make_plan
from sym2tf.autodiff.sweeps import Mode, Sweeps, sweeps
from sym2tf.backends.tensorflow.sparse import sparse_tensor
from sym2tf.errors import ShapeError
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy
from sym2tf.passes.pipeline import optimize
from sym2tf.structured.source import Function, Situation, Sizing, Source
from sym2tf.trees import map_nest

scipy_sparse = lazy("scipy.sparse")

KEPT = 8  # plans for different sizes or index data


class SparseDerivative:
    """A Jacobian or Hessian as index pattern and values: `f.jacobian(sparse=True)`, `f.hessian(sparse=True)`.

    Call it with the arguments of the function. The pattern holds for all values of the arguments; it depends on sizes,
    and on integer data that are used as subscripts. It never lacks an entry; it may have one that is always zero.
    """

    def __init__(self, function: Function, source: Source, nest: Any, kind: str) -> None:
        self._function, self._source, self._nest, self.kind = function, source, nest, kind
        self._sizing = Sizing(function.lowered, source.info(function.lowered))
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
        plan = self._planned(self._situation(args, kwargs))
        return map_nest(lambda name, path: plan.patterns[name], self._nest)

    def sweeps(self, /, *args: Any, **kwargs: Any) -> int:
        """How many directional derivatives a call computes; for the same arguments as `pattern`.

        As many as the smaller side has elements where the whole derivative is computed.
        """
        return self._planned(self._situation(args, kwargs)).count

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
        plan = self._planned(self._sizing.of_values(values, given))
        if not plan.patterns:  # nothing to differentiate, or nothing to differentiate by
            return np.zeros(0), plan
        graph, program = self._program(plan.mode, plan.single, plan.picked)
        named = dict(values) | given
        if graph.palette is not None and graph.colours is not None:
            named |= {graph.palette: np.arange(plan.count), graph.colours: plan.colours}
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

    def _situation(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Situation:
        """Sizes and subscript data, from the arguments of a call or from sizes alone."""
        if args or any(name not in self._sizing.names for name in kwargs):
            return self._sizing.of_values(*self._function.bound(args, kwargs))
        return self._sizing.of_sizes(kwargs)

    def _planned(self, situation: Situation) -> Plan:
        key = situation.key
        plan = self._plans.get(key)
        if plan is None:
            graph, wrt = self._analysed
            plan = make_plan(graph, wrt, situation.sizes, situation.data, symmetric=self._source.symmetric)
            while len(self._plans) >= KEPT:
                self._plans.pop(next(iter(self._plans)), None)
            self._plans[key] = plan
        return plan
