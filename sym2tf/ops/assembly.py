"""Rows that put tensors together from parts, and the identity matrix: what matrices and arrays are made of."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from sym2tf.errors import ShapeError
from sym2tf.ir.dims import Size
from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.indexing import expand, slice_, squeeze, sum_
from sym2tf.ops.leaves import Exact, iota
from sym2tf.ops.logic import equal, select
from sym2tf.ops.values import Value, constant, with_shape

eye = Op(
    name="eye", arity=0, elementwise=False, infer=lambda *, size: TensorType(Kind.REAL, (size, size)), label="I",
    numpy=lambda *, size: np.eye(size),
    tf=TFOp("", "tf.eye", form=lambda e, *, size: e.call("tf.eye", e.size(size), dtype=e.dtype(Kind.REAL))),
    doc="The identity matrix. In a product under a sum it renames an index and disappears (see passes).",
)


class Numbers(tuple[Exact, ...]):
    """The values of a table, hashed once: they may be many, and every pass looks for equal nodes."""

    @cached_property
    def _hash(self) -> int:
        return tuple.__hash__(self)

    def __hash__(self) -> int:
        return self._hash


table = Op(
    name="table", arity=0, elementwise=False, label="table",
    infer=lambda *, values, shape, kind: TensorType(kind, shape),
    tf=TFOp("Const", "tf.constant", form=lambda e, *, values, shape, kind: e.call(
        "tf.constant", e.numbers(values, kind), e.dtype(kind), e.shape(shape))),
    doc="A tensor of exact numbers, `values` (of class `Numbers`) in row-major order. The backends round it, once, as "
    "they do `const`.",
)


def _promoted(operands: tuple[TensorType, ...]) -> Kind:
    return max(t.kind for t in operands)


def _same_shape(operands: tuple[TensorType, ...]) -> tuple[Size, ...]:
    shapes = {t.shape for t in operands}
    if len(shapes) != 1:
        raise ShapeError(f"parts of different shapes: {', '.join(map(str, operands))}")
    return next(iter(shapes))


def _stack_type(*operands: TensorType, axis: int) -> TensorType:
    shape = _same_shape(operands)
    at = len(shape) + 1 + axis
    return TensorType(_promoted(operands), (*shape[:at], len(operands), *shape[at:]))


def _part(g: Any, axis: int, k: int) -> Any:
    return squeeze(slice_(g, axis=axis, start=k, size=1), axis=axis)


def _full_tangents(tangents: tuple[Any, ...], xs: tuple[Any, ...]) -> list[Any]:
    """Tangents of one leading shape, zeros where there is none."""
    given = [(t, x) for t, x in zip(tangents, xs, strict=True) if t is not None]
    front = max((t.shape[: t.type.rank - x.type.rank] for t, x in given), key=len)
    zero = constant(xs[0].builder, 0, Kind.REAL)
    return [
        with_shape(zero if t is None else t, (*front, *x.shape)) for t, x in zip(tangents, xs, strict=True)
    ]


def _np_stack(*xs: Any, axis: int) -> Any:
    return np.stack(np.broadcast_arrays(*xs), axis)


stack: Op = Op(
    name="stack", arity=None, elementwise=False, linear=True, infer=_stack_type, numpy=_np_stack,
    tf=TFOp("Pack", "tf.stack", form=lambda e, *xs, axis: e.call("stack_core", xs, axis)),
    vjp=lambda g, y, *xs, axis: tuple(_part(g, axis, k) for k in range(len(xs))),
    jvp=lambda tangents, y, *xs, axis: stack(*_full_tangents(tangents, xs), axis=axis),
    doc="Values of one core shape side by side along a new axis, at position `axis` of the result.",
)


def _concat_type(*operands: TensorType, axis: int) -> TensorType:
    first = operands[0].shape
    total: Size = 0
    for t in operands:
        others = [d for k, d in enumerate(t.shape) if k - len(t.shape) != axis]
        if len(t.shape) != len(first) or others != [d for k, d in enumerate(first) if k - len(first) != axis]:
            raise ShapeError(f"parts that do not fit along axis {axis}: {', '.join(map(str, operands))}")
        total = total + t.shape[axis]
    at = len(first) + axis
    return TensorType(_promoted(operands), (*first[:at], total, *first[at + 1 :]))


def _concat_vjp(g: Any, y: Any, *xs: Any, axis: int) -> tuple[Any, ...]:
    parts, start = [], 0
    for x in xs:
        parts.append(slice_(g, axis=axis, start=start, size=x.shape[axis]))
        start = start + x.shape[axis]
    return tuple(parts)


def _np_concat(*xs: Any, axis: int) -> Any:
    rank = max(map(np.ndim, xs))
    xs = tuple(np.reshape(x, (1,) * (rank - np.ndim(x)) + np.shape(x)) for x in xs)
    others = np.broadcast_shapes(*((*x.shape[: axis % rank], 1, *x.shape[axis % rank + 1 :]) for x in xs))
    shapes = [(*others[: axis % rank], x.shape[axis], *others[axis % rank + 1 :]) for x in xs]
    return np.concatenate([np.broadcast_to(x, shape) for x, shape in zip(xs, shapes, strict=True)], axis)


concat: Op = Op(
    name="concat", arity=None, elementwise=False, linear=True, infer=_concat_type, numpy=_np_concat,
    tf=TFOp("ConcatV2", "tf.concat", form=lambda e, *xs, axis: e.call("concat_core", xs, axis)),
    vjp=_concat_vjp,
    jvp=lambda tangents, y, *xs, axis: concat(*_full_tangents(tangents, xs), axis=axis),
    doc="Values one after the other along an axis; their other core axes are equal.",
)


def _reshape_type(x: TensorType, *, rank: int, shape: tuple[Size, ...]) -> TensorType:
    keep = len(x.shape) - rank
    if keep < 0:
        raise ShapeError(f"{rank} axes of a value with {len(x.shape)} core axes")
    before: Size = 1
    after: Size = 1
    for d in x.shape[keep:]:
        before = before * d
    for d in shape:
        after = after * d
    if before != after:
        raise ShapeError(f"{before} elements in {x} do not fill ({', '.join(map(str, shape))})")
    return TensorType(x.kind, (*x.shape[:keep], *shape))


def _reshape_vjp(g: Any, y: Any, x: Any, *, rank: int, shape: tuple[Size, ...]) -> tuple[Any, ...]:
    return (reshape(g, rank=len(shape), shape=x.shape[len(x.shape) - rank :]),)


reshape: Op = Op(
    name="reshape", elementwise=False, linear=True, promotes=False, infer=_reshape_type,
    numpy=lambda x, *, rank, shape: np.reshape(x, (*np.shape(x)[: np.ndim(x) - rank], *shape)),
    tf=TFOp("Reshape", "tf.reshape", form=lambda e, x, *, rank, shape: e.call(
        "reshape_core", x, rank, e.shape(shape))),
    vjp=_reshape_vjp,
    doc="The last `rank` core axes, in row-major order, as axes of lengths `shape`.",
)


def _np_diag(x: Any) -> Any:
    y = np.zeros((*np.shape(x), np.shape(x)[-1]), np.asarray(x).dtype)
    np.einsum("...ii->...i", y)[...] = x
    return y


def _diag_vjp(g: Any, y: Any, x: Any) -> tuple[Any, ...]:
    # the diagonal, by what is defined here: the elements next to it are zeros whatever they hold
    n = g.shape[-1]
    index = g.apply(iota, (), {"start": 0, "size": n})
    return (sum_(select(equal(expand(index, axis=-1), expand(index, axis=-2)), g, 0), axes=(-1,)),)


diag: Op = Op(
    name="diag", elementwise=False, linear=True, promotes=False, numpy=_np_diag, label="diag",
    infer=lambda x: TensorType(x.kind, (*x.shape, x.shape[-1])), vjp=_diag_vjp,
    tf=TFOp("MatrixDiagV3", "tf.linalg.diag", form=lambda e, x: e.call("tf.linalg.diag", x)),
    doc="The elements of the last axis on the diagonal of a matrix, zeros elsewhere. Made by the optimiser.",
)


def identity(like: Value, size: Size) -> Value:
    """The identity matrix in the graph of `like`."""
    return like.apply(eye, (), {"size": size})


ROWS = (eye, table, stack, concat, reshape, diag)
