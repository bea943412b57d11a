"""The cost as a function of a flat vector of parameters, with derivatives.

NumPy evaluates it, TensorFlow where the data are large.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import program
from sym2tf.backends.tensorflow.placement import on_device
from sym2tf.compiled import CompiledFunction
from sym2tf.errors import DifferentiationError
from sym2tf.fit.evaluation.batchcost import batch_cost, given_sizes
from sym2tf.fit.evaluation.norms import length_of
from sym2tf.fit.evaluation.residuals import inputs_of
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.statement.problem import Problem
from sym2tf.ir.graph import Graph
from sym2tf.ir.subgraphs import extract
from sym2tf.passes.pipeline import optimize, prune, stabilize

Array = np.ndarray[Any, Any]

TENSORFLOW_FROM = 5_000_000
"""Elements of data from which costs are evaluated by TensorFlow, with its threads, instead of NumPy.

Measured on 2 cores, cost and gradient, ms NumPy / TensorFlow: logistic 0.15 / 0.85 at 10^3 rows, 3.5 / 3.5 at 10^5,
39 / 25 at 10^6, 111 / 69 at 3*10^6; exponential decay 0.12 / 1.0, 0.46 / 1.9, 10 / 15, 27 / 36. Importing TensorFlow
costs more than 4 s, which such gains repay at the last sizes only.
"""

OPTIMIZED_FROM = 200_000
"""Elements of data x parameters^2 from which derivatives are optimised before they are first evaluated.

Below, optimising 20 to 350 nodes costs 10 to 100 ms and saves less than 1 ms in each evaluation, of which a fit needs
about 20; the cost itself is always rewritten, so that its derivatives overflow no sooner.
"""
PATIENCE = 100
"""Evaluations of an unoptimised derivative after which it is optimised after all."""

Program = Callable[[Mapping[str, Array], Mapping[str, int]], dict[str, Array]]


def _program(graph: Graph, asked: Callable[[], int], *, small: bool) -> Program:
    """A graph as a function of its inputs and sizes, optimised at once or when it turns out to be needed often.

    What counts is how often it was asked for, not how often it was computed: a fit that is resumed has answers from
    its journal, and must go on with the very operations of one that was never interrupted.
    """
    compute = program(prune(graph)[0] if small else optimize(graph)[0])
    optimized = not small

    def run(inputs: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        nonlocal compute, optimized
        if not optimized and asked() > PATIENCE:
            compute, optimized = program(optimize(graph)[0]), True
        return compute(inputs, sizes)

    return run


class Objective:
    """Cost, gradient and Hessian at flat vectors; counts its evaluations.

    Attributes:
        engine: `"NumPy"` or `"TensorFlow"`.
        evaluations: of the cost (with its gradient).
        graph: of the cost, rewritten but not optimised.
        wrt: the free parameters in it.
    """

    def __init__(self, problem: Problem, monitor: Monitor) -> None:
        self.problem, self.monitor = problem, monitor
        self.evaluations = 0
        self.graph = stabilize(extract(problem.graph, {"out": problem.graph.outputs["out"]}))
        nodes = {self.graph[v].attributes["name"]: v for v in self.graph.inputs}
        self._free = [u.name for u in problem.free]
        self.wrt = [nodes[name] for name in self._free]
        size = _size(problem)
        self._small = size * sum(u.initial.size for u in problem.free) ** 2 < OPTIMIZED_FROM
        self.engine = engine_of(problem, monitor.options)
        self._compute = self._tensorflow() if self.engine == "TensorFlow" else self._numpy()
        self._hessian: Program | None = None
        self._product: Program | None = None
        self._asked: Counter[str] = Counter()
        self._last: tuple[bytes, float, Array] | None = None

    def _program(self, graph: Graph, kind: str) -> Program:
        return _program(graph, lambda: self._asked[kind], small=self._small)

    def _numpy(self) -> Callable[[dict[str, Array]], tuple[Any, list[Any]]]:
        compute = self._program(derivatives.gradient(self.graph, self.wrt, values=True), "cost")
        names = [f"d/{derivatives.name_of('out', k)}" for k in range(len(self._free))]

        def run(inputs: dict[str, Array]) -> tuple[Any, list[Any]]:
            found = compute(inputs, self.problem.bound)
            return found["out"], [found[name] for name in names]

        return run

    def _tensorflow(self) -> Callable[[dict[str, Array]], tuple[Any, list[Any]]]:
        options = self.monitor.options
        if options.strategy is not None:
            return batch_cost(self.problem, options.dtype).on_replicas(options.strategy)
        info = {**self.graph.info, "outputs": "out"}
        graph = Graph(self.graph.nx, self.graph.inputs, self.graph.outputs, info)
        compiled = CompiledFunction(graph, dtype=options.dtype, title="cost", taped=False)
        function = compiled.value_and_gradient(tuple(self._free))
        known = {**self.problem.data, **self.problem.fixed}
        held = {name: known[name] for name in function.arguments if name not in self._free}
        sizes = given_sizes(function, self.problem)
        return on_device(function, function.arguments, held, sizes, options.dtype, options.device)

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """The cost and its gradient; remembers the last point, since optimisers ask for both in turn."""
        key = theta.tobytes()
        if self._last is None or self._last[0] != key:
            self._asked["cost"] += 1
            value, flat = self.monitor.ask("cost", theta, lambda: self._evaluated(theta), _summary)
            self._last = (key, float(value), flat)
            self.evaluations += 1
        return self._last[1], self._last[2]

    def _evaluated(self, theta: Array) -> tuple[Array, Array]:
        value, gradient = self._compute(inputs_of(self.graph, self.problem, self.problem.unpacked(theta)))
        flat = np.concatenate([np.asarray(g, np.float64).ravel() for g in gradient])
        return np.asarray(value, np.float64).reshape(()), flat

    def prepare_hessian(self) -> bool:
        """Make the program of the Hessian; False where there is no second derivative."""
        if self._hessian is None:
            try:
                graph = derivatives.hessian(self.graph, self.wrt)
            except DifferentiationError:
                return False
            self._hessian = self._program(graph, "hessian")
        return True

    def hessian(self, theta: Array) -> Array:
        """The matrix of second derivatives, symmetrised."""
        self._asked["hessian"] += 1
        (H,) = self.monitor.ask("hessian", theta, lambda: (self._second(theta),))
        return H

    def _second(self, theta: Array) -> Array:
        assert self._hessian is not None
        inputs = inputs_of(self.graph, self.problem, self.problem.unpacked(theta))
        found = self._hessian(inputs, self.problem.bound)
        sizes = [u.initial.size for u in self.problem.free]
        rows = [
            [found[derivatives.name_of("out", i, j)].reshape(sizes[i], sizes[j]) for j in range(len(sizes))]
            for i in range(len(sizes))
        ]
        H: Array = np.block(rows)
        return 0.5 * H + 0.5 * H.T

    def prepare_product(self) -> bool:
        """Make the program of products of the Hessian with vectors; False where there is no second derivative."""
        if self._product is None:
            try:
                graph = derivatives.hvp(self.graph, self.wrt)
            except DifferentiationError:
                return False
            self._product = self._program(graph, "product")
        return True

    def hessian_product(self, theta: Array, vector: Array) -> Array:
        """The Hessian times a vector: about two gradients, whatever the number of parameters."""
        self._asked["product"] += 1
        where = np.concatenate([theta, vector])
        (Hv,) = self.monitor.ask("hessian product", where, lambda: (self._multiplied(theta, vector),))
        return Hv

    def _multiplied(self, theta: Array, vector: Array) -> Array:
        assert self._product is not None
        inputs = inputs_of(self.graph, self.problem, self.problem.unpacked(theta))
        tangents = {f"{name}_tangent": v for name, v in self.problem.unpacked(vector).items()}
        found = self._product({**inputs, **tangents}, self.problem.bound)
        names = [derivatives.name_of("out", k) for k in range(len(self._free))]
        return np.concatenate([np.asarray(found[name], np.float64).ravel() for name in names])


def engine_of(problem: Problem, options: Options) -> str:
    """What evaluates the cost: `"NumPy"`, or `"TensorFlow"` where the data are large or an option asks for it."""
    asked = options.device is not None or options.strategy is not None or options.dtype != "float64"
    return "TensorFlow" if asked or _size(problem) >= TENSORFLOW_FROM else "NumPy"


def _size(problem: Problem) -> int:
    return sum(a.size for a in problem.data.values())


def _summary(answer: tuple[Array, ...]) -> tuple[float, float]:
    value, gradient = answer
    with np.errstate(over="ignore"):  # a search may try points where the gradient is longer than any float
        return float(value), length_of(gradient)
