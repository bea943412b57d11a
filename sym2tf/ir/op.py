"""An operation is one row: everything the system knows about it stands together in one `Op`.

This module knows neither SymPy nor TensorFlow; a row only names what it becomes there. An `Op` is
also the function that rules and derivatives call: `sin(x)` on a graph value adds a node, on a pattern it
makes a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sym2tf.errors import ArgumentError
from sym2tf.ir.types import Kind, TensorType, broadcast_shapes
from sym2tf.lazy import lazy

Attributes = Mapping[str, Any]
InferType = Callable[..., TensorType]  # (operand types..., **attributes) -> type


_table = lazy("sym2tf.ops")  # stands above this layer, which needs it for nothing but pickles


def row_named(name: str) -> Op:
    """The row of an operation in the table of all."""
    row: Op = _table.OPS[name]
    return row


class Term(Protocol):
    """What an `Op` can be applied to: a graph value or a pattern."""

    def apply(self, op: Op, operands: tuple[Any, ...], attributes: Attributes) -> Any:
        """The term for `op` on `operands`."""


class Emitter(Protocol):
    """What a `TFOp.form` is written in: one emitter prints source, another can call TensorFlow directly."""

    def call(self, function: str, *args: Any, **keywords: Any) -> Any: ...
    def infix(self, operator: str, left: Any, right: Any) -> Any: ...
    def subscript(self, value: Any, axis: int, start: Any, stop: Any) -> Any: ...
    def size(self, size: Any) -> Any: ...
    def dtype(self, kind: Kind) -> Any: ...
    def shape(self, sizes: tuple[Any, ...]) -> Any: ...
    def numbers(self, values: tuple[Any, ...], kind: Kind) -> Any: ...


@dataclass(frozen=True)
class TFOp:
    """How an operation is called in TensorFlow.

    Attributes:
        raw: the name of the TensorFlow kernel, for direct graph construction.
        call: the public function, as `"tf.sin"`; the operands are its positional arguments.
        infix: a Python operator that does the same on tensors.
        form: for operations with attributes, a function `(emitter, *operands, **attributes)`.
        dtypes: the floating dtypes that have a CPU kernel; empty for all that TensorFlow has.
        xla: the reason why XLA is not to be trusted with it, or None.
    """

    raw: str
    call: str = ""
    infix: str = ""
    form: Callable[..., Any] | None = None
    dtypes: tuple[str, ...] = ()
    xla: str | None = None


def elementwise_type(*operands: TensorType, kind: Kind | None = None) -> TensorType:
    """The type of an elementwise operation: shapes broadcast and the kind promotes, at least to real."""
    kind = max((Kind.REAL, *(t.kind for t in operands))) if kind is None else kind
    return TensorType(kind, broadcast_shapes(t.shape for t in operands))


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """One operation.

    Attributes:
        name: unique, lower case; the label in pictures unless `label` is given.
        arity: number of operands; None for any number.
        infer: type of the result from the operand types and the attributes.
        elementwise: acts on each element alone; operands broadcast, the default rules for tangents and guards
            apply.
        linear: a sum of its operands with coefficients 0 and 1 (data movement, sums): tangents pass
            through it.
        commutative: operands may be sorted.
        associative: `op(op(a, b), c)` is `op(a, b, c)`; such operations are n-ary.
        promotes: operands are cast to the kind of the result (False for conditions, subscripts and casts);
            a tuple of positions casts only these; a kind is the least that the operands are cast to.
        sympy: the SymPy class or function, used to lower calls of it and to raise nodes back.
        numpy: the reference implementation on arrays, attributes as keywords.
        mpmath: the scalar implementation in high precision; None where `numpy` works on arrays of mpmath
            numbers.
        tf: the TensorFlow operation.
        vjp: `(g, y, *operands, **attributes) -> tuple` of cotangents (None: not differentiable in that
            operand).
        jvp: `(tangents, y, *operands, **attributes)` where the default, derived from `vjp`, is not good
            enough; a tangent that is zero is None.
        support: for operations that are neither elementwise nor linear, how the 0/1 support of a cotangent
            moves to the operands; same signature as `vjp`.
        sample: for each operand (or all), the interval that tests and `check` draw from.
        label: what stands in pictures.
    """

    name: str
    arity: int | None = 1
    infer: InferType = elementwise_type
    elementwise: bool = True
    linear: bool = False
    commutative: bool = False
    associative: bool = False
    promotes: bool | tuple[int, ...] | Kind = True
    sympy: Any = None
    numpy: Callable[..., Any] | None = None
    mpmath: Callable[..., Any] | None = None
    tf: TFOp | None = None
    vjp: Callable[..., tuple[Any, ...]] | None = None
    jvp: Callable[..., Any] | None = None
    support: Callable[..., tuple[Any, ...]] | None = None
    sample: tuple[Any, ...] = (-3.0, 3.0)
    label: str = ""
    doc: str = field(default="", compare=False)

    def __call__(self, *operands: Any, **attributes: Any) -> Any:
        """Apply the operation to graph values or patterns; plain numbers among the operands are lifted."""
        for operand in operands:
            apply = getattr(operand, "apply", None)
            if apply is not None:
                return apply(self, operands, attributes)
        raise TypeError(f"{self.name} needs at least one graph value or pattern among its operands")

    def __reduce__(self) -> tuple[Callable[[str], Op], tuple[str]]:
        """For `pickle`: a row holds functions without names, so it travels as its own name."""
        if _table.OPS.get(self.name) is not self:
            raise ArgumentError(f"the operation {self.name} cannot be pickled: it is not in sym2tf.ops.OPS")
        return row_named, (self.name,)

    def __copy__(self) -> Op:
        return self

    def __deepcopy__(self, memo: Any) -> Op:
        return self  # two rows are never the same operation

    def __repr__(self) -> str:
        return f"Op({self.name!r})"
