"""Arguments that are explicit matrices of symbols: one input each, and the symbols are its elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from sym2tf.errors import ArgumentError
from sym2tf.frontend.context import Context, leaf_name
from sym2tf.ir.types import REAL, Kind, TensorType
from sym2tf.ops.indexing import slice_, squeeze
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value


def immutable(thing: Any) -> Any:
    """A mutable matrix as one that can be a key; anything else as it is."""
    return thing.as_immutable() if isinstance(thing, sp.MatrixBase) else thing


def unpacked(arguments: Sequence[Any]) -> list[Any]:
    """The arguments with the elements of matrices in place of these."""
    return [leaf for a in arguments for leaf in (a.flat() if isinstance(a, sp.MatrixBase) else (a,))]


def pack(context: Context, arguments: Sequence[Any]) -> None:
    """Make the input of each matrix among the arguments, and let its elements be parts of it.

    Raises:
        ArgumentError: an element is a size, or is a condition, which stands in no tensor of reals.
    """
    for matrix in arguments:
        if isinstance(matrix, sp.MatrixBase):
            shape = (int(matrix.rows), int(matrix.cols))
            for leaf in matrix.flat():
                if leaf in context.sizes or context.types[leaf] != REAL:
                    what = "a length" if leaf in context.sizes else str(context.types[leaf])
                    raise ArgumentError(f"args: {leaf_name(leaf)} is {what} and cannot be an element of a matrix")
            context.types[matrix] = TensorType(Kind.REAL, shape)
            attributes = {
                "name": context.unique(_name(matrix)),
                "symbol": matrix,
                "type": context.types[matrix],
            }
            whole = Value(context.builder, context.builder.add(input_, (), attributes, origin=matrix))
            context.inputs[matrix] = whole
            for leaf, part in zip(matrix.flat(), _elements(whole), strict=True):
                context.inputs[leaf] = part


def places(matrix: Any) -> dict[Any, tuple[int, int]]:
    """Where each symbol of an explicit matrix stands, by symbol and by name."""
    found = {leaf: divmod(k, int(matrix.cols)) for k, leaf in enumerate(matrix.flat())}
    return {leaf_name(leaf): place for leaf, place in found.items()} | found


def _elements(tensor: Value) -> list[Value]:
    """The elements in row-major order."""
    shape: list[int] = [d for d in tensor.shape if isinstance(d, int)]
    if not shape:
        return [tensor]
    if len(shape) > 1 and shape[-1] == 1:  # all elements share this
        return _elements(squeeze(tensor, axis=-1))
    parts = [tensor] if shape[0] == 1 else [slice_(tensor, axis=-len(shape), start=k, size=1) for k in range(shape[0])]
    return [e for part in parts for e in _elements(squeeze(part, axis=-len(shape)))]


def _name(matrix: Any) -> str:
    """The name of all elements without their numbers, `q` for q_1 and q_2; `matrix` where these differ."""
    names = (str(e.func) if isinstance(e, sp.core.function.AppliedUndef) else leaf_name(e) for e in matrix.flat())
    stems = {name.rstrip("0123456789_") for name in names}
    return stems.pop() if len(stems) == 1 and all(stem.isidentifier() for stem in stems) else "matrix"
