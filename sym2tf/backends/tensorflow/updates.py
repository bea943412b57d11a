"""What makes a step of a gradient: a Keras optimiser or a rule of ours, on variables that it keeps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError
from sym2tf.lazy import lazy

tf = lazy("tensorflow")
keras = lazy("tensorflow.keras")  # Keras by itself would import TensorFlow, which then writes to the terminal

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Updates:
    """An update rule with its variables.

    Attributes:
        name: of the method.
        apply: moves the parameters, given a gradient for each.
        parameters: TensorFlow variables, in order.
        state: the further variables that it keeps from step to step, in order.
    """

    name: str
    apply: Callable[[Sequence[Any]], None]
    parameters: tuple[Any, ...]
    state: tuple[Any, ...]


def named_optimizers() -> list[str]:
    """The names of Keras' optimisers that can be made without arguments."""
    classes = inspect.getmembers(keras.optimizers, inspect.isclass)
    special = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
    return [name.lower() for name, _ in classes if name not in special]


def described(optimizer: Any) -> str:
    """A Keras optimiser with all its settings, as text; its name says only how many others were made before.

    Raises:
        ArgumentError: it is none.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ArgumentError(
            f"method={optimizer!r} is no solver: give a name, an optimiser of Keras, or one of sym2tf.optimizers"
        )
    settings = {setting: value for setting, value in optimizer.get_config().items() if setting != "name"}
    return f"{type(optimizer).__name__} {settings}"


def keras_updates(method: Any, starts: Sequence[Array], dtype: str) -> Updates:
    """A Keras optimiser on new variables; one that is given is copied, so that it stays as it was.

    Args:
        method: the name of an optimiser, or an object.
        starts: of the parameters.
        dtype: of the variables.

    Raises:
        ArgumentError: Keras has no such optimiser, cannot copy it, or computes with another library.
    """
    if keras.backend.backend() != "tensorflow":
        raise ArgumentError(
            f"Keras computes with {keras.backend.backend()} (KERAS_BACKEND): set it to tensorflow, or use an Optimizer "
            "of sym2tf.optimizers"
        )
    with tf.init_scope():
        optimizer = _copied(method)
        variables = [keras.Variable(start, dtype=dtype) for start in starts]
        optimizer.build(variables)
    state = tuple(v.value for v in optimizer.variables)
    name = f"{type(optimizer).__name__} (Keras)"
    return Updates(name, optimizer.apply, tuple(v.value for v in variables), state)


def _copied(method: Any) -> Any:
    if isinstance(method, str):
        if method.lower() not in named_optimizers():
            raise ArgumentError(f"method={method!r} is no optimiser of Keras; it has {', '.join(named_optimizers())}")
        return keras.optimizers.get(method.lower())
    described(method)
    try:
        return type(method).from_config(method.get_config())
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{type(method).__name__} cannot be copied ({str(error).splitlines()[0]}): a learning-rate schedule or "
            "optimiser of your own needs get_config and keras.saving.register_keras_serializable"
        ) from None


def rule_updates(
    name: str,
    rule: Callable[..., Sequence[Any]],
    slots: Sequence[float],
    starts: Sequence[Array],
    dtype: str,
) -> Updates:
    """A rule as a function, `rule(parameter, gradient, t, *slots) -> (parameter, *slots)`, elementwise, on variables.

    Args:
        name: of the method.
        rule: the formulas.
        slots: what each slot starts with.
        starts: of the parameters.
        dtype: of the variables.
    """
    variables = tuple(tf.Variable(start, dtype=dtype) for start in starts)
    time = tf.Variable(0.0, dtype=dtype)
    kept = [[tf.Variable(np.full(np.shape(s), x), dtype=dtype) for x in slots] for s in starts]

    def apply(gradients: Sequence[Any]) -> None:
        for variable, own, g in zip(variables, kept, gradients, strict=True):
            new, *further = rule(variable, g, time, *own)
            variable.assign(tf.reshape(new, variable.shape))
            for slot, value in zip(own, further, strict=True):
                slot.assign(tf.reshape(value, slot.shape))
        time.assign_add(1)

    return Updates(name, apply, variables, (time, *(slot for own in kept for slot in own)))
