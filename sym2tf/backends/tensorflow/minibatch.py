"""Mini-batches through `tf.data`, and steps of an optimiser over them inside one `tf.function`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.backends.constants import dtype_of
from sym2tf.backends.tensorflow.updates import Updates
from sym2tf.ir.types import Kind
from sym2tf.lazy import lazy

tf = lazy("tensorflow")

Array = np.ndarray[Any, Any]
Batch = Mapping[str, Any]

SEEDS = 2**31  # numbers of seeds that the shuffling takes


@dataclass(frozen=True)
class Layout:
    """What the inputs of a cost are.

    Attributes:
        kinds: the kind of each input.
        axes: which axis of an input the observations are.
        rows: the name of the input of numbers of rows, or None.
        dtype: of real numbers.
    """

    kinds: Mapping[str, Kind]
    axes: Mapping[str, int]
    rows: str | None
    dtype: str

    def array(self, name: str, value: Any) -> Array:
        """A value in the dtype of the input."""
        return np.asarray(value).astype(dtype_of(self.kinds[name], self.dtype), copy=False)

    def tensor(self, name: str, value: Any) -> Any:
        """The same as a tensor."""
        return tf.convert_to_tensor(self.array(name, value))


def shuffled(
    layout: Layout, arrays: Mapping[str, Array], count: int, batch_size: int, seed: int, steps: tuple[int, int]
) -> Any:
    """A dataset of batches of shuffled rows, `steps[0]` to `steps[1]` counted over all epochs.

    The order is a function of seed, epoch and place, which needs no memory and can start anywhere.

    Args:
        layout: of the arrays.
        arrays: by observation; memory-mapped ones are read as they are needed, others held by TensorFlow.
        count: of rows.
        batch_size: of rows in a batch, fewer in the last one of an epoch.
        seed: of the shuffling, which is new in each epoch.
        steps: the first, and the one after the last.
    """
    per_epoch = -(-count // batch_size)
    held = {n: layout.tensor(n, a) for n, a in arrays.items() if not isinstance(a, np.memmap)}
    mapped = {n: a for n, a in arrays.items() if n not in held}

    def read(*numbers: Any) -> list[Any]:
        (rows,) = (np.asarray(n) for n in numbers)
        order = np.argsort(rows)  # files like to be read forwards
        back = np.argsort(order)
        return [
            np.take(np.take(a, rows[order], axis=layout.axes[n]), back, axis=layout.axes[n]).astype(
                dtype_of(layout.kinds[n], layout.dtype), copy=False
            )
            for n, a in mapped.items()
        ]

    def batch(step: Any) -> dict[str, Any]:
        epoch, first = step // per_epoch, (step % per_epoch) * batch_size
        places = tf.range(first, tf.minimum(first + batch_size, count), dtype=tf.int64)
        key = tf.stack([tf.constant(seed % SEEDS, tf.int64), epoch])
        rows = tf.random.experimental.index_shuffle(places, key, tf.constant(count - 1, tf.int64))
        found = {n: tf.gather(a, rows, axis=a.shape.rank + layout.axes[n]) for n, a in held.items()}
        if mapped:
            dtypes = [dtype_of(layout.kinds[n], layout.dtype) for n in mapped]
            for (n, a), value in zip(mapped.items(), tf.numpy_function(read, [rows], dtypes), strict=True):
                shape: list[int | None] = list(a.shape)
                shape[layout.axes[n]] = None
                found[n] = tf.ensure_shape(value, shape)
        if layout.rows is not None:
            found[layout.rows] = rows
        return found

    numbers = tf.data.Dataset.range(steps[0], steps[1])
    return numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def streamed(layout: Layout, batches: Callable[[], Iterable[Batch]], like: Batch, skip: int) -> Any:
    """A dataset of the batches of one epoch of a stream, from number `skip` on.

    Args:
        layout: of the arrays.
        batches: goes through the stream.
        like: one of its batches, for the ranks.
        skip: batches to leave out.
    """
    names = [n for n in layout.kinds if n in like]

    def spec(name: str) -> Any:
        shape: list[int | None] = list(np.shape(like[name]))
        if name in layout.axes:
            shape[layout.axes[name]] = None
        return tf.TensorSpec(shape, dtype_of(layout.kinds[name], layout.dtype))

    signature = {n: spec(n) for n in names}
    if layout.rows is not None:
        signature[layout.rows] = tf.TensorSpec([None], tf.int64)

    def generate() -> Iterator[dict[str, Any]]:
        at = 0
        for k, batch in enumerate(batches()):
            first = next(iter(layout.axes))
            rows = np.shape(batch[first])[layout.axes[first]]
            if k >= skip:
                found = {n: np.asarray(batch[n], dtype_of(layout.kinds[n], layout.dtype)) for n in names}
                if layout.rows is not None:
                    found[layout.rows] = np.arange(at, at + rows)
                yield found
            at += rows

    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(tf.data.AUTOTUNE)


@dataclass(frozen=True)
class Training:
    """Parameters on the way down.

    Attributes:
        updates: with the variables.
        total, weight, steps: variables: what the costs of the batches of this epoch add up to, times their rows where
            they are estimates of the whole; these rows; batches so far.
        run: `(iterator, most) -> (steps made, whether all was finite, whether batches are left)`.
    """

    updates: Updates
    total: Any
    weight: Any
    steps: Any
    run: Callable[[Any, int], tuple[int, bool, bool]]

    @property
    def variables(self) -> list[Any]:
        """All that changes."""
        return [*self.updates.parameters, *self.updates.state, self.total, self.weight, self.steps]

    def parameters(self) -> list[Array]:
        """Their values."""
        return [np.asarray(v, np.float64) for v in self.updates.parameters]


def training(
    updates: Updates,
    evaluate: Callable[[Batch, Sequence[Any]], tuple[Any, Sequence[Any]]],
    bounds: Sequence[tuple[Array, Array] | None],
    layout: Layout,
    *,
    summed: bool = False,
) -> Training:
    """The steps of an optimiser.

    Args:
        updates: of the parameters.
        evaluate: cost and gradients on a batch at parameters.
        bounds: of each parameter, or None; it is put back between them after each step.
        layout: of the batches.
        summed: the cost of a batch is the sum over its rows, and no estimate of the whole.
    """
    dtype = updates.parameters[0].dtype
    total, weight, steps = (tf.Variable(0.0, dtype=tf.float64) for _ in range(3))
    counted, axis = next(iter(layout.axes.items()))

    def one(batch: Batch) -> Any:
        value, gradients = evaluate(batch, [tf.convert_to_tensor(p) for p in updates.parameters])
        finite = tf.math.is_finite(value)
        for g in gradients:
            finite = tf.logical_and(finite, tf.reduce_all(tf.math.is_finite(g)))

        def move() -> Any:
            updates.apply([tf.cast(g, dtype) for g in gradients])
            for variable, bound in zip(updates.parameters, bounds, strict=True):
                if bound is not None:
                    low, high = (tf.constant(b, dtype) for b in bound)
                    variable.assign(tf.clip_by_value(variable, low, high))
            rows = tf.cast(tf.shape(batch[counted])[axis], tf.float64)
            total.assign_add(tf.cast(value, tf.float64) * (1.0 if summed else rows))
            weight.assign_add(rows)
            steps.assign_add(1.0)
            return tf.constant(True)

        return tf.cond(finite, move, lambda: tf.constant(False))

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def several(iterator: Any, most: Any) -> Any:
        def body(done: Any, fine: Any, left: Any) -> tuple[Any, Any, Any]:
            optional = iterator.get_next_as_optional()
            there = optional.has_value()
            fine = tf.cond(there, lambda: one(optional.get_value()), lambda: tf.constant(True))
            made = tf.cast(tf.logical_and(there, fine), tf.int64)
            return done + made, fine, there

        start = (tf.constant(0, tf.int64), tf.constant(True), tf.constant(True))
        return tf.while_loop(
            lambda done, fine, left: tf.logical_and(done < most, tf.logical_and(fine, left)),
            body,
            start,
            parallel_iterations=1,
        )

    def run(iterator: Any, most: int) -> tuple[int, bool, bool]:
        # a call of `several` itself would be counted as retracing from fit to fit, and warned of
        traced = several.get_concrete_function(iterator, tf.TensorSpec([], tf.int64))
        done, fine, left = traced(iterator, tf.constant(most, tf.int64))
        return int(done), bool(fine), bool(left)

    return Training(updates, total, weight, steps, run)
