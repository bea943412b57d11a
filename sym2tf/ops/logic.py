"""Rows for comparisons, Boolean algebra and selection."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.errors import ShapeError
from sym2tf.ir.op import Op, TFOp, elementwise_type
from sym2tf.ir.types import Kind, TensorType, broadcast_shapes
from sym2tf.ops.guards import when


def _boolean(*operands: TensorType) -> TensorType:
    return elementwise_type(*operands, kind=Kind.BOOLEAN)


def _comparison(name: str, symbol: Any, ufunc: Any, raw: str, infix: str, *, commutative: bool = False) -> Op:
    call = {"==": "tf.equal", "!=": "tf.not_equal"}.get(infix, "")  # on tensors == may compare identity
    return Op(
        name=name, arity=2, infer=_boolean, commutative=commutative, sympy=symbol, numpy=ufunc,
        mpmath=ufunc, tf=TFOp(raw, call or f"tf.{raw.lower()}", infix="" if call else infix),
        vjp=lambda g, y, a, b: (None, None), label=infix,
    )


less = _comparison("less", sp.StrictLessThan, np.less, "Less", "<")
less_equal = _comparison("less_equal", sp.LessThan, np.less_equal, "LessEqual", "<=")
equal = _comparison("equal", sp.Eq, np.equal, "Equal", "==", commutative=True)
not_equal = _comparison("not_equal", sp.Ne, np.not_equal, "NotEqual", "!=", commutative=True)

and_ = Op(
    name="and", arity=None, infer=_boolean, commutative=True, associative=True, promotes=False, sympy=sp.And,
    numpy=lambda *xs: reduce(np.logical_and, xs), mpmath=lambda *xs: all(xs),
    tf=TFOp("LogicalAnd", "tf.logical_and", infix="&"), vjp=lambda g, y, *xs: (None,) * len(xs),
)
or_ = Op(
    name="or", arity=None, infer=_boolean, commutative=True, associative=True, promotes=False, sympy=sp.Or,
    numpy=lambda *xs: reduce(np.logical_or, xs), mpmath=lambda *xs: any(xs),
    tf=TFOp("LogicalOr", "tf.logical_or", infix="|"), vjp=lambda g, y, *xs: (None,) * len(xs),
)
xor = Op(
    name="xor", arity=None, infer=_boolean, commutative=True, associative=True, promotes=False, sympy=sp.Xor,
    numpy=lambda *xs: reduce(np.logical_xor, xs), mpmath=lambda *xs: sum(map(bool, xs)) % 2 == 1,
    tf=TFOp("NotEqual", "tf.math.logical_xor", infix="^"), vjp=lambda g, y, *xs: (None,) * len(xs),
)
not_ = Op(
    name="not", infer=_boolean, promotes=False, sympy=sp.Not, numpy=np.logical_not, mpmath=lambda x: not x,
    tf=TFOp("LogicalNot", "tf.logical_not"), vjp=lambda g, y, x: (None,),
)


def _select_type(condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
    if condition.kind is not Kind.BOOLEAN:
        raise ShapeError(f"the condition of a select is {condition}, not boolean")
    return TensorType(max(a.kind, b.kind), broadcast_shapes(t.shape for t in (condition, a, b)))


select = Op(
    name="select", arity=3, infer=_select_type, promotes=(1, 2),
    numpy=lambda c, a, b: np.where(c, a, b), mpmath=lambda c, a, b: a if c else b,
    tf=TFOp("SelectV2", "tf.where"),
    vjp=lambda g, y, c, a, b: (None, when(c, g), when(not_(c), g)),
    doc="`a` where the condition holds, else `b`. The branch not taken never matters, whatever it holds.",
)

COMPARISONS = (less, less_equal, equal, not_equal)
ROWS = (*COMPARISONS, and_, or_, xor, not_, select)
