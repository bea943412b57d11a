"""Graph values with the operators of mathematics: what gradient rules and rewrites are written in.

Subtraction, division and negation are spelled with `add`, `mul` and `pow`, the only arithmetic of the graph
until the pass that chooses machine operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder, Node
from sym2tf.ir.op import Attributes, Op
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add, cast, mul, pow_
from sym2tf.ops.indexing import broadcast, expand
from sym2tf.ops.leaves import Exact, const, exact, kind_of


class Arithmetic:
    """The operators, for graph values and for patterns alike."""

    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return add(self, other)

    def __radd__(self, other: Any) -> Any:
        return add(other, self)

    def __neg__(self) -> Any:
        return mul(-1, self)

    def __sub__(self, other: Any) -> Any:
        return add(self, mul(-1, other) if isinstance(other, Arithmetic) else -other)

    def __rsub__(self, other: Any) -> Any:
        return add(other, mul(-1, self))

    def __mul__(self, other: Any) -> Any:
        return mul(self, other)

    def __rmul__(self, other: Any) -> Any:
        return mul(other, self)

    def __truediv__(self, other: Any) -> Any:
        return mul(self, pow_(other, -1) if isinstance(other, Arithmetic) else Fraction(1) / exact(other))

    def __rtruediv__(self, other: Any) -> Any:
        reciprocal = pow_(self, -1)
        return reciprocal if other == 1 else mul(other, reciprocal)

    def __pow__(self, other: Any) -> Any:
        return pow_(self, other)

    def __rpow__(self, other: Any) -> Any:
        return pow_(other, self)


class Value(Arithmetic):
    """One node of the graph that `builder` is making."""

    __slots__ = ("builder", "id")

    def __init__(self, builder: Builder, id: int) -> None:
        self.builder = builder
        self.id = id

    @property
    def node(self) -> Node:
        """The record behind the value."""
        return self.builder.nodes[self.id]

    @property
    def type(self) -> TensorType:
        """Kind and core shape."""
        return self.node.type

    @property
    def shape(self) -> tuple[Size, ...]:
        """Core shape."""
        return self.node.type.shape

    @property
    def constant(self) -> Exact | None:
        """The exact number that this value is in every element, or None."""
        v = self.id
        while self.builder.nodes[v].op in (expand, broadcast):
            (v,) = self.builder.operands[v]
        node = self.builder.nodes[v]
        return node.attributes["value"] if node.op is const else None

    def apply(self, op: Op, operands: Sequence[Any], attributes: Attributes) -> Value:
        """A new value `op(*operands)` in the same graph."""
        return apply(self.builder, op, operands, attributes)

    def __repr__(self) -> str:
        return f"<{self.node.op.name} {self.id}: {self.type}>"


def constant(builder: Builder, number: Any, kind: Kind | None = None) -> Value:
    """An exact scalar constant; its kind is the smallest that holds it, or the larger `kind` asked for."""
    value = exact(number)
    due = kind_of(value)
    return Value(builder,
        builder.add(const, (), {"value": value, "kind": due if kind is None else max(kind, due)}))


def apply(builder: Builder, op: Op, operands: Sequence[Any], attributes: Attributes | None = None) -> Value:
    """`op(*operands)`, with plain numbers lifted, kinds promoted and core ranks aligned explicitly."""
    attributes = attributes or {}
    values = [o if isinstance(o, Value) else constant(builder, o) for o in operands]
    if op.elementwise and len(values) > 1:
        rank = max(v.type.rank for v in values)
        values = [with_rank(v, rank) for v in values]
    if op.promotes:
        places = op.promotes if isinstance(op.promotes, tuple) else tuple(range(len(values)))
        kind = _operand_kind(op, [values[k].type for k in places], attributes)
        for k in places:
            values[k] = with_kind(values[k], kind)
    return Value(builder, builder.add(op, [v.id for v in values], attributes))


def with_rank(value: Value, rank: int) -> Value:
    """`value` with core axes of length 1 put in front until it has `rank` of them."""
    while value.type.rank < rank:
        value = expand(value, axis=-value.type.rank - 1)
    return value


def with_kind(value: Value, kind: Kind) -> Value:
    """`value` cast to a larger kind; constants are simply constants of that kind."""
    if value.type.kind >= kind:
        return value
    if value.constant is not None:
        return with_shape(constant(value.builder, value.constant, kind), value.shape)
    return cast(value, kind=kind)


def with_shape(value: Value, shape: tuple[Size, ...]) -> Value:
    """`value` broadcast so that its last core axes have exactly `shape`."""
    value = with_rank(value, len(shape))
    trailing = value.shape[value.type.rank - len(shape) :]
    return value if trailing == shape else broadcast(value, shape=shape)


def ones_like(value: Value) -> Value:
    """A real one that broadcasts against `value`."""
    return with_rank(constant(value.builder, 1, Kind.REAL), value.type.rank)


def _operand_kind(op: Op, types: Sequence[TensorType], attributes: Attributes) -> Kind:
    highest = max((t.kind for t in types), default=Kind.REAL)
    if isinstance(op.promotes, Kind):
        return max(highest, op.promotes)
    if not op.elementwise or op.promotes is not True:
        return highest
    result = op.infer(*(TensorType(t.kind) for t in types), **attributes).kind
    return highest if result is Kind.BOOLEAN else max(highest, result)

