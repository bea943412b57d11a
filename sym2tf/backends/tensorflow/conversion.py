"""What callers may pass as an argument, as tensors of the dtype that a program was generated for."""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.backends.constants import dtype_of
from sym2tf.backends.numpy import fractions_in
from sym2tf.errors import ArgumentError, DtypeError
from sym2tf.ir.types import Kind
from sym2tf.lazy import lazy

tf = lazy("tensorflow")


class Converter:
    """Converts the values of one parameter."""

    def __init__(self, name: str, kind: Kind, dtype: str) -> None:
        self.name = name
        self.kind = kind
        self.dtype = tf.as_dtype(dtype_of(kind, dtype))
        self.numpy = self.dtype.as_numpy_dtype

    def __call__(self, value: Any) -> Any:
        """The tensor.

        Raises:
            DtypeError: a complex value for a real parameter, a number that the dtype cannot hold.
            ArgumentError: something that is no number or array of numbers.
        """
        if type(value) is float and self.kind is Kind.REAL:
            return tf.constant(value, self.dtype)
        if isinstance(value, tf.Variable):
            value = tf.convert_to_tensor(value)
        if tf.is_tensor(value):
            return self._tensor(value)
        if isinstance(value, list | tuple) and any(map(_holds_tensors, value)):
            return self._tensor(self._stacked(value))  # not through NumPy, so that a tape sees the parts
        return self._array(value)

    def _tensor(self, value: Any) -> Any:
        if isinstance(value, tf.RaggedTensor | tf.SparseTensor):
            raise ArgumentError(f"{self.name} must be dense, got a {type(value).__name__}: convert it to a tensor")
        value = tf.convert_to_tensor(value)
        if value.dtype == self.dtype:
            return value
        self._refuse(value.dtype.is_complex, value.dtype.is_bool, value.dtype.name)
        if not (value.dtype.is_floating or value.dtype.is_integer or value.dtype.is_bool):
            raise ArgumentError(f"{self.name} must be numbers, got a tensor of {value.dtype.name}")
        if (value.dtype.is_integer or self.kind is Kind.INTEGER) and hasattr(value, "numpy"):
            return self._array(value.numpy())  # compares with what the dtype can hold
        if value.dtype.is_floating and self.kind is Kind.INTEGER:
            raise DtypeError(f"{self.name} is an integer, got {value.dtype.name}: cast it where you make it")
        return tf.cast(value, self.dtype)

    def _array(self, value: Any) -> Any:
        if isinstance(value, np.ma.MaskedArray) and value.mask is not np.ma.nomask and np.any(value.mask):
            raise ArgumentError(f"{self.name} has masked elements: fill or drop them")
        array = self._plain(value)
        if array.dtype == object and array.size:
            array = self._objects(array)
        if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
            raise ArgumentError(f"{self.name} must be numbers, got {type(value).__name__} of dtype {array.dtype}")
        self._refuse(array.dtype.kind == "c", array.dtype.kind == "b", array.dtype.name)
        if array.dtype.kind in "iu" and self.kind is Kind.REAL and array.size:
            largest = max(abs(int(array.min())), abs(int(array.max())))
            if largest > float(self.dtype.max):
                raise DtypeError(f"{self.name} has the integer {largest}, which {self.dtype.name} cannot hold")
        if self.kind is Kind.INTEGER and array.dtype.kind not in "iub":
            self._refuse_fractions(array)
        with np.errstate(over="ignore"):  # a float beyond the range is infinity, as in any IEEE conversion
            return tf.convert_to_tensor(array.astype(self.numpy, copy=False))

    def _refuse_fractions(self, array: Any) -> None:
        """Floats that are integers are welcome, as files of numbers hold them; others would be cut off in silence."""
        wrong = fractions_in(array)
        if wrong.size:
            raise DtypeError(f"{self.name} is an integer, got {wrong.flat[0]}")

    def _stacked(self, value: Any) -> Any:
        try:
            return _stacked(value)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError):
            kind = type(value).__name__
            raise ArgumentError(f"{self.name} must be numbers in a regular array, got an uneven {kind}") from None

    def _plain(self, value: Any) -> Any:
        try:
            return np.asarray(value)
        except (TypeError, ValueError):
            raise ArgumentError(f"{self.name} must be numbers in a regular array, got {type(value).__name__}") from None

    def _objects(self, array: Any) -> Any:
        """Python integers beyond 64 bits, Fractions, SymPy numbers."""
        try:
            if any(item is None or isinstance(item, str) for item in array.flat):
                raise TypeError
            limit = float(self.dtype.max) if self.kind is Kind.REAL else float("inf")
            if any(isinstance(item, int) and abs(item) > limit for item in array.flat):
                raise OverflowError
            return array.astype(np.float64)
        except OverflowError:
            raise DtypeError(f"{self.name} has a number that {self.dtype.name} cannot hold") from None
        except (TypeError, ValueError):
            raise ArgumentError(f"{self.name} must be numbers, got {type(array.flat[0]).__name__} among them") from None

    def _refuse(self, is_complex: bool, is_bool: bool, dtype: str) -> None:
        if is_complex:
            raise DtypeError(f"{self.name} is real, got {dtype}")
        if self.kind is Kind.BOOLEAN and not is_bool:
            raise DtypeError(f"{self.name} is a condition, got {dtype}")


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_tensors, value))
    return bool(tf.is_tensor(value)) or isinstance(value, tf.Variable)


def _stacked(value: Any) -> Any:
    """A nest of tensors and numbers as one tensor; a TypeError or ValueError says that it is not regular."""
    parts = [_stacked(v) if isinstance(v, list | tuple) else tf.convert_to_tensor(v) for v in value]
    floating = [p.dtype for p in parts if p.dtype.is_floating]
    dtype = max(floating, key=lambda d: d.size) if floating else parts[0].dtype
    return tf.stack([p if p.dtype == dtype else tf.cast(p, dtype) for p in parts])
