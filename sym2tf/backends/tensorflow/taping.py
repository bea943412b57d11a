"""TensorFlow's own derivative of a generated program: what `check` compares ours with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sym2tf.backends.tensorflow.runtime import Program
from sym2tf.lazy import lazy

tf = lazy("tensorflow")


def taped_gradient(
    program: Program, values: Sequence[Any], sizes: Mapping[str, int], output: int, wrt: Sequence[str]
) -> list[Any]:
    """The gradient of one scalar output through `GradientTape` over TensorFlow's operations, zeros included.

    Args:
        program: what was generated.
        values: a batch of points for each input, in order.
        sizes: a number for each size that no data determine.
        output: which output.
        wrt: names of inputs.
    """
    tensors = [convert(value) for convert, value in zip(program.converters, values, strict=True)]
    named = dict(zip(program.types, tensors, strict=True))
    extra = [tf.constant(sizes[name], tf.int64) for name in program.source.sizes]
    try:
        return _taped(program, named, extra, output, wrt)
    except LookupError:  # an operation for which TensorFlow has no gradient, such as LU factors
        return [np.full(named[name].shape, np.nan) for name in wrt]
    except tf.errors.InvalidArgumentError:  # what TensorFlow makes of one singular matrix among many
        count = max(len(tensor) for tensor in named.values())
        points = [{name: tensor[k : k + 1] for name, tensor in named.items()} for k in range(count)]
        return [
            np.concatenate(parts)
            for parts in zip(*(_or_nan(program, p, extra, output, wrt) for p in points), strict=True)
        ]


def _taped(program: Program, named: Mapping[str, Any], extra: Sequence[Any], output: int, wrt: Sequence[str]) -> Any:
    watched = [named[name] for name in wrt]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        answer = program.flat(*named.values(), *extra)[output]
    found = tape.gradient(answer, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.cast(g, tf.float64).numpy() for g in found]


def _or_nan(program: Program, named: Mapping[str, Any], extra: Sequence[Any], output: int, wrt: Sequence[str]) -> Any:
    try:
        return _taped(program, named, extra, output, wrt)
    except LookupError:  # an operation for which TensorFlow has no gradient, such as LU factors
        return [np.full(named[name].shape, np.nan) for name in wrt]
    except tf.errors.InvalidArgumentError:
        return [np.full(named[name].shape, np.nan) for name in wrt]
