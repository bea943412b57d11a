"""TensorFlow's own derivative of a generated program: what `check` compares ours with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    watched = [named[name] for name in wrt]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        answer = program.flat(*named.values(), *extra)[output]
    found = tape.gradient(answer, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.cast(g, tf.float64).numpy() for g in found]
