"""Expressions in Keras models: a layer whose weights are parameters of a formula, and losses that are formulas.

Imported when it is first needed (`f.to_keras()`, `sym2tf.keras_loss`). A program that loads a saved model with such
layers imports it itself, `import sym2tf.keras`, so that Keras knows the classes. Derivatives are those of sym2tf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import sympy as sp

from sym2tf.compiled import CompiledFunction, compile
from sym2tf.errors import ArgumentError, DataError
from sym2tf.expression_json import expression_from_json, expression_to_json

FORMAT = 1


@keras.saving.register_keras_serializable(package="sym2tf")
class ExpressionLayer(keras.layers.Layer):
    """A formula as a layer: some of its symbols are weights, the others are the inputs.

    Args:
        expression: one expression; or what `get_config` made of it.
        weights: the symbols or names that are weights, with their initial values, numbers or arrays.
        inputs: the other symbols in the order in which a call takes them; sorted by name by default.
        trainable, dtype, name: as of every layer.

    A call takes one tensor where there is one input, else a list of them or a dict by name. Batch axes stand in front
    of what the formula uses: a plain symbol takes (batch,) or (batch, 1), `x[j]` takes (batch, features).
    """

    def __init__(self, expression: Any, weights: Any, inputs: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self.expression = _expression(expression)
        self.initial = {str(key): np.asarray(value, dtype=np.float64) for key, value in _pairs(weights)}
        self.function = compile(self.expression, dtype=self.compute_dtype)
        names = [str(a) for a in self.function.arguments]
        unknown = [n for n in self.initial if n not in names]
        if unknown:
            raise ArgumentError(
                f"weights has {unknown[0]}, which the formula does not contain; it has {', '.join(names)}"
            )
        rest = [n for n in names if n not in self.initial]
        self.inputs_by_name = rest if inputs is None else [str(key) for key in inputs]
        if sorted(self.inputs_by_name) != sorted(rest):
            raise ArgumentError(
                f"inputs are {', '.join(rest) or 'none'}, got {', '.join(self.inputs_by_name) or 'none'}"
            )
        self._weights_by_name = {
            name: self.add_weight(
                shape=value.shape, initializer=keras.initializers.Constant(value), name=name.replace("/", "_")
            )
            for name, value in self.initial.items()
        }
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The value of the formula."""
        given = self._by_name(inputs)
        return self.function.function({**given, **{n: w.value for n, w in self._weights_by_name.items()}})

    def _by_name(self, inputs: Any) -> dict[str, Any]:
        names = self.inputs_by_name
        if isinstance(inputs, Mapping):
            if set(inputs) != set(names):
                raise DataError(f"this layer takes {', '.join(names)}, got {', '.join(map(str, inputs))}")
            return dict(inputs)
        given = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if len(given) != len(names):
            raise DataError(f"this layer takes {len(names)} inputs ({', '.join(names)}), got {len(given)}")
        return dict(zip(names, given, strict=True))

    @property
    def values(self) -> dict[str, Any]:
        """The weights by name, as NumPy arrays."""
        return {name: w.value.numpy() for name, w in self._weights_by_name.items()}

    def get_config(self) -> dict[str, Any]:
        """What JSON can write; nothing in it is executed when it is read."""
        return {
            **super().get_config(),
            "expression": {"version": FORMAT, **expression_to_json(self.expression)},
            "weights": [[name, value.tolist()] for name, value in self.initial.items()],
            "inputs": list(self.inputs_by_name),
        }


@keras.saving.register_keras_serializable(package="sym2tf")
class ExpressionLoss(keras.losses.Loss):
    """A formula of what is observed and what is predicted as a loss for `Model.compile`.

    Args:
        expression: in plain symbols, which is averaged over the elements as Keras' losses are; or a sum over indices of
            bases, `Sum((y_true[j] - y_pred[j])**2, (j, 0, n - 1))`, for each row of a batch; or what `get_config` made.
        y_true, y_pred: the symbols or bases, by themselves or by name.
        constants: numbers for all other symbols.
        name, reduction: as of every loss.
    """

    def __init__(
        self,
        expression: Any,
        y_true: Any = "y_true",
        y_pred: Any = "y_pred",
        constants: Any = None,
        name: str | None = "expression",
        reduction: str = "sum_over_batch_size",
        **options: Any,
    ) -> None:
        super().__init__(name=name, reduction=reduction, **options)
        self.expression = _expression(expression)
        self.sides = (str(y_true), str(y_pred))
        self.constants = {str(key): float(value) for key, value in _pairs(constants or {})}
        self._functions: dict[str, CompiledFunction] = {}
        names = [str(a) for a in self._function(keras.config.floatx()).arguments]
        lacking = [n for n in names if n not in self.sides and n not in self.constants]
        if lacking or self.sides[1] not in names:
            raise ArgumentError(
                f"a loss is a formula in {self.sides[0]} and {self.sides[1]}, with constants={{...}} for all else; "
                f"this one has {', '.join(names)}"
            )
        unused = [n for n in self.constants if n not in names]
        if unused:
            raise ArgumentError(f"constants has {unused[0]}, which the loss does not contain")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A loss for each element of the batch.

        A single column and a vector are the same numbers, as for Keras' own losses.

        Raises:
            DataError: other numbers of axes, for a formula in plain symbols.
        """
        y_pred = keras.ops.convert_to_tensor(y_pred)
        y_true = keras.ops.cast(y_true, y_pred.dtype)
        elementwise = not self.expression.atoms(sp.IndexedBase, sp.MatrixSymbol)
        if elementwise:
            y_true, y_pred = _of_one_rank(y_true, y_pred)
        function = self._function(keras.backend.standardize_dtype(y_pred.dtype))
        given: dict[str, Any] = dict(zip(self.sides, (y_true, y_pred), strict=True)) | self.constants
        found = function.function({str(a): given[str(a)] for a in function.arguments})
        return keras.ops.mean(found, axis=-1) if elementwise and len(found.shape) > 1 else found

    def _function(self, dtype: str) -> CompiledFunction:
        if dtype not in self._functions:
            self._functions[dtype] = compile(self.expression, dtype=dtype)
        return self._functions[dtype]

    def get_config(self) -> dict[str, Any]:
        """What JSON can write; nothing in it is executed when it is read."""
        return {
            **super().get_config(),
            "expression": {"version": FORMAT, **expression_to_json(self.expression)},
            "y_true": self.sides[0],
            "y_pred": self.sides[1],
            "constants": [[name, value] for name, value in self.constants.items()],
        }


def _of_one_rank(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Both with the axes of the longer one, whose last may be a single column: (rows,) and (rows, 1) are no table."""
    missing = len(y_pred.shape) - len(y_true.shape)
    if not missing or not len(y_true.shape) or not len(y_pred.shape):
        return y_true, y_pred
    longer = y_pred if missing > 0 else y_true
    if abs(missing) > 1 or longer.shape[-1] != 1:
        raise DataError(
            f"y_true has the shape {tuple(y_true.shape)} and y_pred {tuple(y_pred.shape)}: a loss compares element by "
            "element, so give both the same axes"
        )
    if missing > 0:
        return keras.ops.expand_dims(y_true, -1), y_pred
    return y_true, keras.ops.expand_dims(y_pred, -1)


def _expression(given: Any) -> Any:
    """An expression, also from what `get_config` wrote."""
    if isinstance(given, Mapping) and "nodes" in given:
        if given.get("version") != FORMAT:
            raise ArgumentError(f"this expression has version {given.get('version')!r}; this sym2tf reads {FORMAT}")
        return expression_from_json(given)
    if not isinstance(given, sp.Basic | sp.MatrixBase):
        raise ArgumentError(f"a layer or a loss is made of one expression, got {given!r}")
    return given


def _pairs(given: Any) -> Sequence[tuple[Any, Any]]:
    if isinstance(given, Mapping):
        return list(given.items())
    if isinstance(given, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in given):
        return [(key, value) for key, value in given]
    raise ArgumentError(f"symbols come with values, as in {{a: 1.0}}; got {given!r}")
