"""Levenberg-Marquardt for many small least-squares problems at once, one along a leading batch axis each.

Damping is Nielsen's (Damping Parameter in Marquardt's Method, IMM-REP-1999-05), scaling Moré's (The Levenberg-Marquardt
Algorithm, 1978). A step of all fits is one call of TensorFlow; those that are done leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from sym2tf.backends.tensorflow.direct import run
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy

tf = lazy("tensorflow")

Array = np.ndarray[Any, Any]

FIRST_DAMPING = 1e-3
LAST_DAMPING = 1e14  # beyond it a step changes nothing
LEAST_DAMPING = 1e-12
ROUGH = 12  # iterations in float32 after which float64 takes over
COMPACT = 0.6  # part of the batch that still goes on, below which the others leave it
FEW = 200  # fits for which nothing is gained by that


class Tolerances(NamedTuple):
    """What counts as nothing in a dtype.

    Attributes:
        step: of a parameter, relative to it, below which a step is the last one.
        spread: the same relative to its standard error, for parameters that are nearly zero.
        noise: of a sum of squares, relative to it.
        cosine: between residuals and a column of the Jacobian, below which a fit that is stuck is at its minimum.
        rounding: of a residual, relative to what is observed.
    """

    step: float
    spread: float
    noise: float
    cosine: float
    rounding: float


TOLERANCES = {
    "float64": Tolerances(1e-9, 1e-9, 1e-12, 1e-6, 1e-14),
    "float32": Tolerances(1e-3, 1e-3, 1e-5, 1e-2, 1e-6),  # float64 goes on from there
}

RUNNING, CONVERGED, STALLED, UNDEFINED = 0, 1, 2, 3


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


@dataclass(frozen=True)
class Ends:
    """Where the fits ended, one row each.

    Attributes:
        theta: (fits, p).
        cost: (fits,), sums of squares.
        gradient: (fits, p), of the costs.
        iterations: (fits,).
        state: (fits,), one of `CONVERGED`, `STALLED`, `UNDEFINED`, or `RUNNING` at the limit of iterations.
    """

    theta: Array
    cost: Array
    gradient: Array
    iterations: Array
    state: Array


class Data(NamedTuple):
    """The inputs of the graph that are no parameters, as tensors.

    Attributes:
        batched: with an axis of fits in front of the core.
        shared: without.
        root: (fits, rows) or (1, rows), the roots of the weights; None where all are 1.
        freedom: (fits,), observations less parameters, at least 1.
        magnitude: (fits,), the sum of squares of what is observed, by which rounding is judged; NaN for that of the
            residuals at the start.
    """

    batched: Mapping[str, Any]
    shared: Mapping[str, Any]
    root: Any
    freedom: Any
    magnitude: Any


class State(NamedTuple):
    """How far the fits of a batch are.

    Attributes:
        theta: (fits, p).
        damping, factor: (fits,), Nielsen's mu (relative to the scale) and nu.
        scale: (fits, p), the largest squared lengths of the columns of the Jacobian so far.
        products: (fits, p+1, p+1), of the columns of the Jacobian and, last, the residuals, with each other.
        ended: (fits,).
        iterations: (fits,).
    """

    theta: Any
    damping: Any
    factor: Any
    scale: Any
    products: Any
    ended: Any
    iterations: Any


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
        """`(fits, p+1, p+1)` at theta: products of the columns of the Jacobian and, last, the residuals."""
        return self._concrete(self._products, arguments)(*arguments)

    def advance(self, *arguments: Any) -> State:
        """The state after steps, until few enough fits go on; see `_advance`."""
        answer: State = self._concrete(self._advance, arguments)(*arguments)
        return answer

    def _concrete(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """A function traced once for any number of fits."""
        specs = tf.nest.map_structure(
            lambda t: None if t is None else tf.TensorSpec([None, *t.shape[1:]] if t.shape.rank else [], t.dtype),
            arguments,
        )
        key = function.__name__, *tf.nest.flatten(specs)
        if key not in self._traced:
            self._traced[key] = tf.function(function, autograph=False).get_concrete_function(*specs)
        return self._traced[key]

    def _products(self, theta: Any, data: Data) -> Any:
        inputs, at = {**data.batched, **data.shared}, 0
        for name, shape in self.model.parameters:
            stop = at + prod(shape)
            inputs[name] = tf.reshape(theta[:, at:stop], (-1, *shape)) if shape else theta[:, at]
            at = stop
        inputs = {name: value for name, value in inputs.items() if name in self.needed}
        found = list(run(self.model.graph, inputs, self.model.sizes, self.dtype).values())
        fits, blocks, each = tf.shape(theta)[0], self.model.blocks, len(self.model.parameters)
        parts = []
        for k in range(blocks):
            derivatives = range(blocks + k * each, blocks + (k + 1) * each)
            columns = [self._columns(found[o], self.shapes[o], self.shapes[k], fits) for o in (*derivatives, k)]
            parts.append(tf.concat(columns, 1))
        design = parts[0] if blocks == 1 else tf.concat(parts, 2)
        if data.root is not None:
            design = design * data.root[:, None, :]
        return tf.matmul(design, design, transpose_b=True)

    def _columns(self, value: Any, shape: tuple[int, ...], rows: tuple[int, ...], fits: Any) -> Any:
        """`(fits, width, rows)`: a residual (width 1), or its derivative by a parameter of `width` elements."""
        width = prod(shape[len(rows) :])
        full = tf.broadcast_to(value, tf.concat([[fits], tf.constant(shape, tf.int32)], 0))
        columns = tf.reshape(full, (fits, prod(rows), width))
        return tf.transpose(columns, (0, 2, 1)) if width > 1 else tf.reshape(columns, (fits, 1, prod(rows)))

    def _advance(self, state: State, low: Any, high: Any, data: Data, most: Any, least: Any) -> State:
        """Steps until no more than `least` fits go on, each for at most `most` iterations."""

        def go_on(*parts: Any) -> Any:
            return tf.reduce_sum(tf.cast(_running(State(*parts), most), tf.int32)) > least

        def body(*parts: Any) -> Any:
            return tuple(self._step(State(*parts), low, high, data, most))

        return State(*tf.while_loop(go_on, body, tuple(state)))

    def _step(self, state: State, low: Any, high: Any, data: Data, most: Any) -> State:
        """One proposal for each fit that goes on."""
        p, due = self.count, self.tolerances
        theta, damping = state.theta, state.damping
        A, g, cost = state.products[:, :p, :p], state.products[:, :p, p], state.products[:, p, p]
        scale = tf.maximum(state.scale, tf.linalg.diag_part(A))
        lengths = tf.where(scale > 0, scale, tf.ones_like(scale))
        stopped = ((theta <= low) & (g >= 0)) | ((theta >= high) & (g <= 0)) if self.bounded else tf.constant(False)
        rows = tf.unstack(state.products[:, :p], axis=1)
        trial = theta - _solved(rows, damping[:, None] * lengths, stopped if self.bounded else None)
        trial = tf.clip_by_value(trial, low, high) if self.bounded else trial
        way = trial - theta
        there = self._products(trial, data)
        after = there[:, p, p]
        predicted = -tf.reduce_sum(way * (2 * g + tf.reduce_sum(A * way[:, None, :], 2)), 1)
        unclear = predicted <= due.noise * cost + due.rounding**2 * data.magnitude
        # below the noise of sums of squares the slopes at both ends still tell what is gained (trapezoidal rule)
        gained = tf.where(unclear, -tf.reduce_sum(way * (g + there[:, :p, p]), 1), cost - after)
        ratio = gained / tf.maximum(predicted, np.finfo(self.dtype).tiny)
        defined = tf.reduce_all(tf.math.is_finite(there), (1, 2))
        running = _running(state, most)
        taken = running & defined & (ratio > 1e-4)
        rounding = due.rounding * tf.sqrt(data.magnitude)
        spread = (due.spread * tf.sqrt(cost / data.freedom) + rounding)[:, None] / tf.sqrt(lengths)
        short = defined & tf.reduce_all(tf.abs(way) * (1 + damping)[:, None] <= due.step * tf.abs(theta) + spread, 1)
        level = tf.abs(g) <= (due.cosine * tf.sqrt(cost) + rounding)[:, None] * tf.sqrt(lengths)
        minimal = tf.reduce_all(level | stopped, 1)
        stuck = ~taken & (damping > LAST_DAMPING)
        done = tf.reduce_all(stopped | tf.equal(g, 0), 1) | short | (minimal & stuck)
        ended = tf.where(done, CONVERGED, tf.where(stuck, STALLED, RUNNING))
        growth = tf.clip_by_value(1 - (2 * ratio - 1) ** 3, 1 / 3, 2)
        return State(
            tf.where(taken[:, None], trial, theta),
            tf.maximum(damping * tf.where(taken, growth, state.factor), LEAST_DAMPING),
            tf.where(taken, 2 * tf.ones_like(state.factor), 2 * state.factor),
            scale,
            tf.where(taken[:, None, None], there, state.products),
            tf.where(running, ended, state.ended),
            state.iterations + tf.cast(running, state.iterations.dtype),
        )


def on(device: str | None) -> AbstractContextManager[Any]:
    """The context in which tensors are on a device of TensorFlow; None for the one that it chooses."""
    return tf.device(device) if device else nullcontext()


def constant(array: Array) -> Any:
    """An array as a tensor."""
    return tf.constant(array)


def levenberg_marquardt(
    steppers: Sequence[Stepper], theta: Array, low: Array, high: Array, data: Data, most: int
) -> Ends:
    """The minima of all fits.

    Args:
        steppers: of the dtypes in turn: each goes on where the one before has ended; the last one's word counts.
        theta: (fits, p), where to start.
        low: (p,), bounds.
        high: (p,), bounds.
        data: in float64.
        most: iterations.
    """
    fits, count = theta.shape
    ones = np.ones(fits)
    state = State(
        theta, FIRST_DAMPING * ones, 2 * ones, 0 * theta, None, np.zeros(fits, np.int32), np.zeros(fits, np.int32)
    )
    for stepper in steppers:
        limit = most if stepper is steppers[-1] else min(most, ROUGH)
        found = _phase(stepper, state, (low, high), _as_dtype(data, stepper.dtype), limit)
        usable = np.isfinite(found.products).all((1, 2)) & np.isfinite(found.theta).all(1)
        inside = np.clip(found.theta.astype(np.float64), low, high)
        state = State(
            np.where(usable[:, None], inside, state.theta),
            np.where(usable, np.minimum(found.damping, FIRST_DAMPING), FIRST_DAMPING),
            2 * ones,
            0 * theta,
            found.products,
            np.zeros(fits, np.int32),
            found.iterations,
        )
    ended = np.where(usable, found.ended, UNDEFINED)
    products = found.products
    return Ends(state.theta, products[:, count, count], 2 * products[:, :count, count], found.iterations, ended)


def _phase(stepper: Stepper, begin: State, bounds: tuple[Array, Array], data: Data, most: int) -> State:
    """Steps from where `begin` is until every fit has ended or has had its iterations; as arrays."""
    kind = tf.as_dtype(stepper.dtype)
    low, high = (tf.constant(bound, kind) for bound in bounds)
    theta, damping, factor, scale = (tf.constant(part, kind) for part in begin[:4])
    products = stepper.products(theta, data)
    undefined = tf.reduce_any(~tf.math.is_finite(products), (1, 2))
    ended = tf.where(undefined, UNDEFINED, RUNNING)
    state = State(theta, damping, factor, scale, products, ended, tf.constant(begin.iterations))
    known = ~tf.math.is_nan(data.magnitude)
    data = data._replace(magnitude=tf.where(known, data.magnitude, products[:, -1, -1]))
    results: State | None = None
    active, limit = np.arange(len(begin.theta)), tf.constant(most)
    while True:
        least = int(COMPACT * len(active)) if len(active) > FEW else 0
        state = stepper.advance(state, low, high, data, limit, tf.constant(least))
        if results is None:
            results = State(*map(np.array, state))
        else:
            for whole, part in zip(results, state, strict=True):
                whole[active] = part.numpy()
        keep = np.flatnonzero(_running(state, limit).numpy())
        if not len(keep):
            return results
        active = active[keep]
        state, data = _picked(state, data, keep)


def _running(state: State, most: Any) -> Any:
    return tf.equal(state.ended, RUNNING) & (state.iterations < most)


def _picked(state: State, data: Data, keep: Array) -> tuple[State, Data]:
    """The fits at the places `keep` alone."""

    def pick(x: Any) -> Any:
        return tf.gather(x, keep)

    root = data.root if data.root is None or data.root.shape[0] == 1 else pick(data.root)
    batched = {name: pick(x) for name, x in data.batched.items()}
    return State(*map(pick, state)), Data(batched, data.shared, root, pick(data.freedom), pick(data.magnitude))


def _as_dtype(data: Data, dtype: str) -> Data:
    def convert(x: Any) -> Any:
        return tf.cast(x, dtype) if x is not None and x.dtype.is_floating else x

    batched, shared = ({name: convert(x) for name, x in part.items()} for part in (data.batched, data.shared))
    return Data(batched, shared, *map(convert, data[2:]))


def _solved(rows: Sequence[Any], damping: Any, stopped: Any) -> Any:
    """The solutions of damped systems, by elimination of all side by side.

    A damped matrix is positive definite, so no pivots are looked for; where rounding spoils it, the step is no good,
    is refused, and the damping grows.

    Args:
        rows: of the systems, each (fits, p+1) with its right side last.
        damping: (fits, p), what is added to the diagonal.
        stopped: (fits, p), which unknowns are zero; None if none is.
    """
    unit = tf.eye(len(rows), len(rows) + 1, dtype=damping.dtype)
    rows = [row[:, : len(rows) + 1] + damping[:, k : k + 1] * unit[k] for k, row in enumerate(rows)]
    if stopped is not None:
        free = tf.cast(~stopped, damping.dtype)
        wide = tf.concat([free, tf.ones_like(free[:, :1])], 1)
        rows = [row * wide * free[:, k : k + 1] + (1 - free[:, k : k + 1]) * unit[k] for k, row in enumerate(rows)]
    for k in range(len(rows)):  # the columns before k are done with
        pivot = rows[k][:, 1:] / rows[k][:, :1]
        rows = [pivot if i == k else row[:, 1:] - row[:, :1] * pivot for i, row in enumerate(rows)]
    return tf.concat(rows, 1)
