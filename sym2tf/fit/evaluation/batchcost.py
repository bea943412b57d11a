"""The cost of a problem on some of its observations, to be evaluated by TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from sym2tf.backends.numpy import evaluate
from sym2tf.backends.tensorflow.batchcost import BatchFunction
from sym2tf.backends.tensorflow.minibatch import Layout
from sym2tf.compiled import CompiledFunction
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.separable import Separable, separate, taken
from sym2tf.passes.degree import degrees

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Total:
    """A cost over all data: its value, gradient (flat), and the number of observations."""

    value: float
    gradient: Array
    count: int


@dataclass(frozen=True)
class BatchCost:
    """A separable cost.

    Attributes:
        problem: whose cost it is.
        separable: how it is a sum over observations.
        dtype: in which it is evaluated.
    """

    problem: Problem
    separable: Separable
    dtype: str

    @cached_property
    def function(self) -> BatchFunction:
        """Value and gradient of the cost on a batch."""
        own, problem = self.separable, self.problem
        free = tuple(u.name for u in problem.free)
        compiled = CompiledFunction(own.graph, dtype=self.dtype, name="cost", title="cost of a batch", taped=False)
        function = compiled.value_and_gradient(free)
        sizes = {n: s for n, s in given_sizes(function, problem).items() if n != own.observations}
        return BatchFunction(
            function,
            function.arguments,
            free,
            tuple(u.initial.shape for u in problem.free),
            self._shared,
            sizes,
            self.layout,
            own.scale,
            own.share,
            own.total,
        )

    @cached_property
    def layout(self) -> Layout:
        """What the inputs are."""
        graph, own = self.separable.graph, self.separable
        kinds = {graph[v].attributes["name"]: graph[v].type.kind for v in graph.inputs}
        axes = dict(own.axes) | ({own.rows: -1} if own.rows is not None else {})
        return Layout(kinds, axes, own.rows, self.dtype)

    @property
    def count(self) -> int:
        """The number of observations."""
        return self.problem.bound[self.separable.observations]

    def observed(self, data: Mapping[str, Array]) -> dict[str, Array]:
        """Of data the arrays by observation; what lies beyond the prefix that is asked for is left out."""
        return {n: _prefix(data[n], axis, self.count) for n, axis in self.separable.axes.items()}

    def numbered(self, data: Mapping[str, Array]) -> dict[str, Array]:
        """The same with the numbers of the rows, where the cost uses them."""
        found = self.observed(data)
        return found if self.separable.rows is None else {**found, self.separable.rows: np.arange(self.count)}

    @property
    def _shared(self) -> dict[str, Array]:
        known = {**self.problem.data, **self.problem.fixed}
        names = {self.separable.graph[v].attributes["name"] for v in self.separable.graph.inputs}
        return {n: a for n, a in known.items() if n in names and n not in self.separable.axes}

    @cached_property
    def use_of_count(self) -> Literal["factor", "mean", "needed"]:
        """What the number of all observations does.

        It may only scale the cost, as in a plain sum, cancel, as in a mean, or weigh a sum against other terms.
        """
        own, problem = self.separable, self.problem
        parts = own.parts
        nodes = {parts[v].attributes["name"]: v for v in parts.inputs}
        degree = degrees(parts, [nodes[u.name] for u in problem.free])
        if degree[parts.outputs["rest"]] == 0 and not parts.use_count(nodes[own.total]):
            return "factor"
        start = problem.packed("initial")
        beside = start + np.random.default_rng(0).normal(size=start.shape) * np.maximum(np.abs(start), 1) / 2
        theta = np.clip(beside, problem.packed("lower"), problem.packed("upper"))
        given = {**self._shared, **self.numbered(problem.data), **problem.unpacked(theta)}
        with np.errstate(all="ignore"):
            one, three = (
                evaluate(parts, {k: given.get(k, np.asarray(n)) for k in nodes}, problem.sizes) for n in (1, 3)
            )
        same = np.allclose(one["rest"], three["rest"], rtol=1e-12, atol=0)
        inverse = np.allclose(one["data"], 3 * three["data"], rtol=1e-12, atol=0)
        return "mean" if same and inverse else "needed"

    def on_replicas(self, strategy: Any) -> Callable[[Mapping[str, Array]], tuple[float, list[Array]]]:
        """Cost and gradients over all data at parameters by name, by replicas that share the observations."""
        resident = self.function.resident(self.numbered(self.problem.data), self.count, None, strategy)
        names, shapes = self.function.free, self.function.shapes
        ends = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]

        def at(inputs: Mapping[str, Array]) -> tuple[float, list[Array]]:
            value, flat = resident(np.concatenate([np.ravel(inputs[n]) for n in names]))
            return value, [part.reshape(s) for part, s in zip(np.split(flat, ends), shapes, strict=True)]

        return at

    def blocks(self, data: Mapping[str, Array], rows: int) -> Iterator[dict[str, Array]]:
        """All rows in order, so many at once."""
        whole = self.numbered(data)
        axes = self.layout.axes
        for start in range(0, self.count, rows):
            yield {n: taken(a, slice(start, start + rows), axes[n]) for n, a in whole.items()}

    def total(
        self, theta: Array, blocks: Iterable[Mapping[str, Array]], *, per_row: bool = False, count: int | None = None
    ) -> Total:
        """Cost and gradient over all rows.

        Args:
            theta: flat.
            blocks: of rows, by input name.
            per_row: the sum over observations is divided by their number, which is not known before.
            count: the number of observations, where it is not that of the problem's data.
        """
        given = 1 if per_row else self.count if count is None else count
        parameters = list(self.problem.unpacked(theta).values())
        name, axis = next(iter(self.separable.axes.items()))
        rows, value, gradient = 0, 0.0, np.zeros(len(theta))
        for block in blocks:
            rows += block[name].shape[axis]
            part, slope = self.function.on_block(block, parameters, given, 1.0, 0.0)
            value, gradient = value + part, gradient + slope
        if per_row:
            value, gradient = value / rows, gradient / rows
        rest, slope = self.function.on_block(block, parameters, rows if per_row else given, 0.0, 1.0)
        return Total(value + rest, gradient + slope, rows)


def _prefix(array: Array, axis: int, count: int) -> Array:
    return array if array.shape[axis] == count else taken(array, slice(count), axis)


def given_sizes(function: CompiledFunction, problem: Problem) -> dict[str, int]:
    """The sizes that a function must be given, and those that the user has stated."""
    return {
        n: problem.bound[n]
        for n, required in function.sizes.items()
        if n in problem.bound and (required or n in problem.sizes)
    }


def batch_cost(problem: Problem, dtype: str) -> BatchCost:
    """The cost of a problem by observations.

    Raises:
        ArgumentError: it is no sum over observations.
    """
    return BatchCost(problem, separate(problem), dtype)
