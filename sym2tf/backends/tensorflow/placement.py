"""Where TensorFlow computes: a device, or the replicas of a `tf.distribute.Strategy`, which share the observations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, FitError
from sym2tf.lazy import lazy

tf = lazy("tensorflow")

Array = np.ndarray[Any, Any]
Flat = Callable[[Mapping[str, Any], Any, int], Any]  # (inputs, theta, replicas) -> value and gradient, one vector


def require_device(device: str | None, strategy: Any) -> None:
    """Refuse a device that does not exist, and what is no strategy.

    Raises:
        ArgumentError: names the devices that exist.
    """
    if strategy is not None:
        if not isinstance(strategy, tf.distribute.Strategy):
            raise ArgumentError(f"strategy must be a tf.distribute.Strategy, got {strategy!r}")
        if isinstance(strategy, tf.distribute.ParameterServerStrategy):
            raise ArgumentError("a ParameterServerStrategy has no replicas in step: take a mirrored strategy")
        if device is not None:
            raise ArgumentError(f"a strategy places its replicas itself: leave out device={device!r}, or strategy")
    if device is not None:
        known = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
        wanted = str(device).upper().removeprefix("/").removeprefix("DEVICE:")
        if wanted not in known and f"{wanted}:0" not in known:
            raise ArgumentError(f"there is no device {device!r}; this machine has {', '.join(known)}")


def placed(device: str | None) -> contextlib.AbstractContextManager[Any]:
    """A context in which operations are placed on the device."""
    return contextlib.nullcontext() if device is None else tf.device(device)


def on_device(
    function: Callable[..., Any],
    arguments: Sequence[str],
    data: Mapping[str, Array],
    sizes: Mapping[str, int],
    dtype: str,
    device: str | None,
) -> Callable[[Mapping[str, Array]], tuple[Any, list[Any]]]:
    """Value and gradients at the further arguments by name; data are put on the device once.

    Args:
        function: `(*arguments, **sizes) -> (value, gradients)`.
        arguments: their names, in order.
        data: those that stay the same.
        sizes: what goes by name.
        dtype: of real numbers.
        device: where; None leaves that to TensorFlow.
    """
    with placed(device):
        held = {n: tf.constant(a, dtype if a.dtype.kind == "f" else tf.int64) for n, a in data.items()}

    def at(inputs: Mapping[str, Array]) -> tuple[Any, list[Any]]:
        with placed(device):
            value, gradients = function(*(held[n] if n in held else inputs[n] for n in arguments), **sizes)
        return value.numpy(), [g.numpy() for g in gradients]

    return at


def is_alone(strategy: Any) -> bool:
    """Whether a strategy has no further processes."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.cluster_spec().jobs


def is_chief(strategy: Any) -> bool:
    """Whether this process is the one of a strategy that writes files."""
    if is_alone(strategy):
        return True
    resolver = strategy.cluster_resolver
    spec = resolver.cluster_spec()
    first = "chief" if "chief" in spec.jobs else "worker"
    return bool(resolver.task_type == first and resolver.task_id == 0)


@contextlib.contextmanager
def worker_errors(strategy: Any) -> Iterator[None]:
    """Says in our words that a worker of a strategy is gone.

    Raises:
        FitError: the other workers are no longer there.
    """
    if strategy is None:
        yield
        return
    gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError, tf.errors.InternalError)  # fmt: skip
    try:
        yield
    except gone as error:
        raise FitError(
            f"another worker of the strategy is gone ({type(error).__name__}): start all workers again; with the same "
            "checkpoint folder they go on from where it was written last"
        ) from error


def per_replica(strategy: Any, flat: Flat, axes: Mapping[str, int]) -> Callable[[Mapping[str, Any], Any], Any]:
    """`flat` on a batch that the replicas share, its answers added up; `(inputs, theta) -> vector`.

    Args:
        strategy: of which replicas take consecutive parts of the batch, of about equal size; None for a whole.
        flat: value and gradient of some observations as one vector, a term that adds up over them.
        axes: which axis of an input the observations are.
    """
    if strategy is None:
        return lambda inputs, theta: flat(inputs, theta, 1)
    count = strategy.num_replicas_in_sync

    def own(inputs: Mapping[str, Any], theta: Any) -> Any:
        number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        return flat(_share(inputs, axes, number, count), theta, count)

    def whole(inputs: Mapping[str, Any], theta: Any) -> Any:
        answers = strategy.run(own, args=(dict(inputs), theta))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, answers, axis=None)

    return whole


def _share(inputs: Mapping[str, Any], axes: Mapping[str, int], number: Any, count: int) -> dict[str, Any]:
    """What one replica computes with."""
    found = dict(inputs)
    for name, axis in axes.items():
        if name in found:
            length = tf.shape(found[name], out_type=tf.int64)[axis]
            start, stop = number * length // count, (number + 1) * length // count
            found[name] = found[name][(..., slice(start, stop), *(slice(None),) * (-axis - 1))]
    return found


def resident(
    strategy: Any, flat: Flat, inputs: Mapping[str, Array], axes: Mapping[str, int], device: str | None
) -> Callable[[Array], Array]:
    """Value and gradient of all data at theta, as one vector; the data stay where they are computed with.

    Args:
        strategy: whose replicas share the observations, or None.
        flat: as for `per_replica`.
        inputs: the data.
        axes: which axis of an input the observations are.
        device: where, without a strategy.
    """
    if strategy is None:
        with placed(device):
            held: Any = {name: tf.convert_to_tensor(a) for name, a in inputs.items()}
    else:
        count = strategy.num_replicas_in_sync

        def part(context: Any) -> dict[str, Any]:
            return _share({n: tf.convert_to_tensor(a) for n, a in inputs.items()}, axes,
                          int(context.replica_id_in_sync_group), count)  # fmt: skip

        parts = {
            name: strategy.experimental_distribute_values_from_function(lambda context, n=name: part(context)[n])
            for name in inputs
        }
        held = parts

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def evaluated(held: Any, theta: Any) -> Any:
        if strategy is None:
            return flat(held, theta, 1)
        answers = strategy.run(lambda own, at: flat(own, at, count), args=(held, theta))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, answers, axis=None)

    def at(theta: Array) -> Array:
        with worker_errors(strategy), placed(device):
            return np.asarray(evaluated(held, tf.convert_to_tensor(theta)), np.float64)

    return at


def agreed(strategy: Any, arrays: Sequence[Array] | None, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """The arrays that the chief has, in every worker.

    Args:
        strategy: whose workers are to agree; None for one process.
        arrays: those of the chief; None elsewhere.
        shapes: of the arrays, which every worker knows.
    """
    lengths = [int(np.prod(s)) for s in shapes]
    own = np.zeros(sum(lengths)) if arrays is None else np.concatenate([np.ravel(a).astype(np.float64) for a in arrays])
    if strategy is not None:
        # the first replica of the chief gives its numbers, all others zeros
        with worker_errors(strategy):

            def given() -> Any:
                first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
                return tf.where(first, tf.constant(own), tf.zeros_like(own))

            @tf.function(autograph=False)  # type: ignore[untyped-decorator]
            def added() -> Any:
                return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(given), axis=None)

            own = added().numpy()
    ends = np.cumsum(lengths)[:-1]
    return [part.reshape(s) for part, s in zip(np.split(own, ends), shapes, strict=True)]
