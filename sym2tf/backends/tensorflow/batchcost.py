"""A cost and its gradient on some of the observations: on one device, or on replicas that share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.backends.tensorflow.minibatch import Layout
from sym2tf.backends.tensorflow.placement import per_replica, resident
from sym2tf.lazy import lazy

tf = lazy("tensorflow")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BatchFunction:
    """`share*rest + scale*(sum over the rows of a batch)`, with its gradient.

    Attributes:
        function: `(*arguments, **sizes) -> (cost, gradients)`.
        arguments: their names, in order.
        free: of those the parameters, in order.
        shapes: of the parameters.
        shared: the data that all batches share.
        sizes: that no batch determines.
        layout: of all inputs.
        scale, share, total: names of arguments: factors, and the number of all observations.
    """

    function: Callable[..., tuple[Any, Sequence[Any]]]
    arguments: tuple[str, ...]
    free: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    shared: Mapping[str, Array]
    sizes: Mapping[str, int]
    layout: Layout
    scale: str
    share: str
    total: str

    def flat(self) -> Callable[[Mapping[str, Any], Any, int], Any]:
        """Cost and gradient as one vector, on part of a batch, which brings scale, share, total; see `per_replica`."""

        def evaluated(inputs: Mapping[str, Any], theta: Sequence[Any], replicas: int) -> Any:
            shared = {n: self.layout.tensor(n, a) for n, a in self.shared.items()}
            values = {**shared, **inputs, **dict(zip(self.free, theta, strict=True))}
            values[self.share] = inputs[self.share] / replicas
            value, gradient = self.function(*(values[n] for n in self.arguments), **self.sizes)
            return tf.concat([tf.reshape(value, [1]), *(tf.reshape(g, [-1]) for g in gradient)], 0)

        return evaluated

    def on_batches(
        self, count: int | None, strategy: Any, *, mean: bool
    ) -> Callable[[Mapping[str, Any], Sequence[Any]], tuple[Any, list[Any]]]:
        """`(batch, parameters) -> (cost, gradients)`, an estimate of the whole cost.

        Args:
            count: of all observations; None where the batch is all there is.
            strategy: whose replicas share each batch, or None.
            mean: the cost is divided by the number of observations.
        """
        shared = per_replica(strategy, self.flat(), self.layout.axes)
        counted, axis = next(iter(self.layout.axes.items()))
        dtype = self.layout.dtype

        def evaluated(batch: Mapping[str, Any], parameters: Sequence[Any]) -> tuple[Any, list[Any]]:
            rows = tf.shape(batch[counted], out_type=tf.int64)[axis]
            whole = rows if count is None else tf.constant(count, tf.int64)
            factor = 1 / whole if mean else tf.constant(1.0, tf.float64)
            scale, share = tf.cast(whole / rows * factor, dtype), tf.cast(factor, dtype)
            found = shared({**batch, self.scale: scale, self.share: share, self.total: whole}, list(parameters))
            value, *gradient = tf.split(found, [1, *(int(np.prod(s)) for s in self.shapes)])
            return tf.reshape(value, []), [tf.reshape(g, s) for g, s in zip(gradient, self.shapes, strict=True)]

        return evaluated

    def on_block(
        self, block: Mapping[str, Array], parameters: Sequence[Array], count: int, scale: float, share: float
    ) -> tuple[float, Array]:
        """`share*rest + scale*(sum over the rows of a block)` and its gradient, flat.

        Args:
            block: arrays by observation.
            parameters: in order.
            count: of all observations.
            scale: of what is added up over observations.
            share: of the rest.
        """
        values = {**self.shared, **block, **dict(zip(self.free, parameters, strict=True))}
        values |= {self.scale: np.asarray(scale), self.share: np.asarray(share), self.total: np.asarray(count)}
        arguments = (self.layout.tensor(n, values[n]) for n in self.arguments)
        value, gradient = self.function(*arguments, **self.sizes)
        return float(value), np.concatenate([np.ravel(g).astype(np.float64) for g in gradient])

    def resident(
        self, data: Mapping[str, Array], count: int, device: str | None, strategy: Any
    ) -> Callable[[Array], tuple[float, Array]]:
        """Cost and gradient at flat parameters over all data, which stay on the device or the replicas.

        Args:
            data: by observation.
            count: of observations.
            device: where, without a strategy.
            strategy: whose replicas share the observations, or None.
        """
        flat, sizes = self.flat(), [int(np.prod(s)) for s in self.shapes]
        dtype = self.layout.dtype

        def parted(inputs: Mapping[str, Any], theta: Any, replicas: int) -> Any:
            one = tf.constant(1.0, dtype)
            parts = [tf.reshape(p, s) for p, s in zip(tf.split(theta, sizes), self.shapes, strict=True)]
            return flat(
                {**inputs, self.scale: one, self.share: one, self.total: tf.constant(count, tf.int64)}, parts, replicas
            )

        held = {n: self.layout.array(n, a) for n, a in data.items()}
        at = resident(strategy, parted, held, self.layout.axes, device)

        def evaluated(theta: Array) -> tuple[float, Array]:
            found = at(theta.astype(dtype))
            return float(found[0]), found[1:]

        return evaluated
