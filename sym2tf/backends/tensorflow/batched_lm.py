"""Levenberg-Marquardt for many small least-squares problems at once on a device of TensorFlow.

A step of all fits is one call of TensorFlow, float32 leading the way for float64; fits that are done leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from sym2tf.backends.levenberg_marquardt import (
    RUNNING,
    TOLERANCES,
    UNDEFINED,
    Arrays,
    Measure,
    State,
    begun,
    judged,
    proposed,
    running,
    settled,
)
from sym2tf.backends.tensorflow.direct import run
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy

tf = lazy("tensorflow")

Array = np.ndarray[Any, Any]

ROUGH = 12  # iterations in float32 after which float64 takes over
COMPACT = 0.6  # part of the batch that still goes on, below which the others leave it
FEW = 200  # fits for which nothing is gained by that


@dataclass(frozen=True)
class Model:
    """Residuals of one problem as graphs.

    Attributes:
        graph: outputs are the residuals, then their derivatives by each parameter: residuals outside, parameters
            inside; cores are those of the residual, then those of the parameter.
        blocks: how many outputs are residuals.
        parameters: name and core shape of each.
        sizes: numbers for the sizes.
    """

    graph: Graph
    blocks: int
    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    sizes: Mapping[str, int]


class Data(NamedTuple):
    """The inputs of the graph that are no parameters, as tensors.

    Attributes:
        batched: with an axis of fits in front of the core.
        shared: without.
        root: (fits, rows) or (1, rows), the roots of the weights; None where all are 1.
        measure: of the fits; a magnitude that is not known is NaN, and that of the residuals at the start is taken.
    """

    batched: Mapping[str, Any]
    shared: Mapping[str, Any]
    root: Any
    measure: Measure


class Stepper:
    """Steps of all fits of a batch as a `tf.function` of one dtype; keeps its trace."""

    def __init__(self, model: Model, dtype: str, *, bounded: bool) -> None:
        self.model, self.dtype, self.tolerances, self.bounded = model, dtype, TOLERANCES[dtype], bounded
        self.count = sum(prod(shape) for _, shape in model.parameters)
        graph = model.graph
        self.needed = {graph[v].attributes["name"] for v in graph.inputs}
        self.shapes = [
            tuple(evaluate_size(d, model.sizes) for d in graph[v].type.shape) for v in graph.outputs.values()
        ]
        self._traced: dict[Any, Any] = {}

    def products(self, *arguments: Any) -> Any:
        """`(p+1, p+1, fits)` at theta: products of the columns of the Jacobian and, last, the residuals."""
        return self._concrete(self._products, arguments)(*arguments)

    def advance(self, *arguments: Any) -> State:
        """The state after steps, until few enough fits go on; see `_advance`."""
        answer: State = self._concrete(self._advance, arguments)(*arguments)
        return answer

    def _concrete(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """A function traced once for any number of fits."""
        specs = tuple(_specification(x, -1 if not isinstance(x, Data) else 0) for x in arguments)
        key = function.__name__, *tf.nest.flatten(specs)
        if key not in self._traced:
            self._traced[key] = tf.function(function, autograph=False).get_concrete_function(*specs)
        return self._traced[key]

    def _products(self, theta: Any, data: Data) -> Any:
        inputs, at = {**data.batched, **data.shared}, 0
        for name, shape in self.model.parameters:
            stop = at + prod(shape)
            inputs[name] = tf.reshape(tf.transpose(theta[at:stop]), (-1, *shape)) if shape else theta[at]
            at = stop
        inputs = {name: value for name, value in inputs.items() if name in self.needed}
        found = list(run(self.model.graph, inputs, self.model.sizes, self.dtype).values())
        fits, blocks, each = tf.shape(theta)[1], self.model.blocks, len(self.model.parameters)
        parts = []
        for k in range(blocks):
            derivatives = range(blocks + k * each, blocks + (k + 1) * each)
            columns = [self._columns(found[o], self.shapes[o], self.shapes[k], fits) for o in (*derivatives, k)]
            parts.append(tf.concat(columns, 1))
        design = parts[0] if blocks == 1 else tf.concat(parts, 2)
        if data.root is not None:
            design = design * data.root[:, None, :]
        return tf.transpose(tf.matmul(design, design, transpose_b=True), (1, 2, 0))

    def _columns(self, value: Any, shape: tuple[int, ...], rows: tuple[int, ...], fits: Any) -> Any:
        """`(fits, width, rows)`: a residual (width 1), or its derivative by a parameter of `width` elements."""
        width = prod(shape[len(rows) :])
        full = tf.broadcast_to(value, tf.concat([[fits], tf.constant(shape, tf.int32)], 0))
        columns = tf.reshape(full, (fits, prod(rows), width))
        return tf.transpose(columns, (0, 2, 1)) if width > 1 else tf.reshape(columns, (fits, 1, prod(rows)))

    def _advance(self, state: State, low: Any, high: Any, data: Data, most: Any, least: Any) -> State:
        """Steps until no more than `least` fits go on, each for at most `most` iterations."""
        xp, due = tensors(), self.tolerances
        bounds = (low, high) if self.bounded else None

        def go_on(*parts: Any) -> Any:
            return tf.reduce_sum(tf.cast(running(State(*parts), most), tf.int32)) > least

        def body(*parts: Any) -> Any:
            state = State(*parts)
            proposal = proposed(xp, state, bounds, data.measure, due)
            state = settled(xp, state, proposal, most)
            return tuple(judged(xp, state, proposal, self._products(proposal.trial, data), data.measure, most, due))

        return State(*tf.while_loop(go_on, body, tuple(state)))


def _specification(argument: Any, axis: int) -> Any:
    """The shapes and dtypes of tensors, with any number of fits along an axis."""

    def one(tensor: Any) -> Any:
        if tensor is None:
            return None
        shape = tensor.shape.as_list()
        if shape:
            shape[axis] = None
        return tf.TensorSpec(shape, tensor.dtype)

    return tf.nest.map_structure(one, argument)


def tensors() -> Arrays:
    """TensorFlow as the library of arrays of a step."""
    return Arrays(
        tf.where,
        tf.maximum,
        tf.clip_by_value,
        tf.sqrt,
        tf.abs,
        tf.math.is_finite,
        tf.reduce_sum,
        tf.reduce_all,
        tf.stack,
        tf.concat,
        tf.zeros_like,
    )


def on(device: str | None) -> AbstractContextManager[Any]:
    """The context in which tensors are on a device of TensorFlow; None for the one that it chooses."""
    return tf.device(device) if device else nullcontext()


def constant(array: Array) -> Any:
    """An array as a tensor."""
    return tf.constant(array)


def levenberg_marquardt(
    steppers: Sequence[Stepper], theta: Array, low: Array, high: Array, data: Data, most: int, damping: float
) -> State:
    """The minima of all fits, as arrays.

    Args:
        steppers: of the dtypes in turn: each goes on where the one before has ended; the last one's word counts.
        theta: (p, fits), where to start.
        low: (p, 1), bounds.
        high: (p, 1), bounds.
        data: in float64.
        most: iterations.
        damping: at the start.
    """
    state = begun(theta, damping, 0, None, None)
    for stepper in steppers:
        limit = most if stepper is steppers[-1] else min(most, ROUGH)
        found = _phase(stepper, state, (low, high), _as_dtype(data, stepper.dtype), limit)
        usable = np.isfinite(found.products).all((0, 1)) & np.isfinite(found.theta).all(0)
        inside = np.where(usable, np.clip(found.theta.astype(np.float64), low, high), state.theta)
        again = np.where(usable, np.minimum(found.damping, damping), damping).astype(np.float64)
        state = begun(inside, again, found.iterations, found.products, found.ended)
    return state._replace(ended=np.where(usable, found.ended, UNDEFINED))


def _phase(stepper: Stepper, begin: State, bounds: tuple[Array, Array], data: Data, most: int) -> State:
    """Steps from where `begin` is until every fit has ended or has had its iterations; as arrays."""
    kind = tf.as_dtype(stepper.dtype)
    low, high = (tf.constant(bound, kind) for bound in bounds)
    theta, damping, factor, scale, mark = (tf.constant(part, kind) for part in (*begin[:4], begin.mark))
    products = stepper.products(theta, data)
    undefined = tf.reduce_any(~tf.math.is_finite(products), (0, 1))
    ended = tf.where(undefined, UNDEFINED, RUNNING)
    none = tf.zeros_like(ended)
    state = State(theta, damping, factor, scale, products, ended, tf.constant(begin.iterations), none, mark)
    freedom, magnitude = data.measure
    known = tf.where(tf.math.is_nan(magnitude), products[-1, -1], magnitude)
    data = data._replace(measure=Measure(freedom, known))
    results: State | None = None
    active, limit = np.arange(begin.theta.shape[1]), tf.constant(most)
    while True:
        least = int(COMPACT * len(active)) if len(active) > FEW else 0
        state = stepper.advance(state, low, high, data, limit, tf.constant(least))
        if results is None:
            results = State(*map(np.array, state))
        else:
            for whole, part in zip(results, state, strict=True):
                whole[..., active] = part.numpy()
        keep = np.flatnonzero(running(state, limit).numpy())
        if not len(keep):
            return results
        active = active[keep]
        state, data = _picked(state, data, keep)


def _picked(state: State, data: Data, keep: Array) -> tuple[State, Data]:
    """The fits at the places `keep` alone."""

    def pick(x: Any) -> Any:
        return tf.gather(x, keep)

    root = data.root if data.root is None or data.root.shape[0] == 1 else pick(data.root)
    batched = {name: pick(x) for name, x in data.batched.items()}
    few = State(*(tf.gather(x, keep, axis=-1) for x in state))
    return few, Data(batched, data.shared, root, Measure(*map(pick, data.measure)))


def _as_dtype(data: Data, dtype: str) -> Data:
    def convert(x: Any) -> Any:
        return tf.cast(x, dtype) if x is not None and x.dtype.is_floating else x

    batched, shared = ({name: convert(x) for name, x in part.items()} for part in (data.batched, data.shared))
    return Data(batched, shared, convert(data.root), Measure(*map(convert, data.measure)))
