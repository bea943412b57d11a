"""Rows that reduce axes: einsum, product, extremes, log-sum-exp and softmax.

`sum` stands with the data movements, to which it is dual.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np

from sym2tf.errors import ShapeError
from sym2tf.ir.dims import Size, broadcast_sizes
from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import Kind, TensorType
from sym2tf.lazy import lazy
from sym2tf.ops.arithmetic import cast
from sym2tf.ops.assembly import eye
from sym2tf.ops.guards import Guarded, when
from sym2tf.ops.indexing import expand, reduced, restore, sum_
from sym2tf.ops.leaves import iota
from sym2tf.ops.logic import equal, select
from sym2tf.ops.values import ones_like, with_shape

scipy_special = lazy("scipy.special")  # a fifth of a second, and only the reference backend needs it


def _reduction(
    name: str, numpy: Any, raw: str, call: str, vjp: Any, *, label: str, kind: Kind | None = None,
    xla: str | None = None,
) -> Op:
    def jvp(tangents: tuple[Any, ...], y: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
        partial = vjp(ones_like(y), y, x, axes=axes)[0]
        value = tangents[0] * (partial.value if isinstance(partial, Guarded) else partial)
        return sum_(select(partial.guard, value, 0) if isinstance(partial, Guarded) else value, axes=axes)

    return Op(
        name=name, elementwise=False, numpy=numpy, label=label, vjp=vjp, jvp=jvp,
        infer=lambda x, *, axes: TensorType(x.kind if kind is None else kind, reduced(x.shape, axes)),
        tf=TFOp(raw, call, form=lambda e, x, *, axes: e.call(call, x, axis=e.shape(axes)), xla=xla),
        support=lambda g, y, x, *, axes: (restore(g, axes),),
    )


def _extreme_vjp(g: Any, y: Any, x: Any, *, axes: tuple[int, ...]) -> tuple[Any, ...]:
    won = equal(x, restore(y, axes))
    count = sum_(cast(won, kind=Kind.REAL), axes=axes)
    return (when(won, restore(g / count, axes)),)


def _np_extreme(function: Any, nothing: float) -> Any:
    def extreme(x: Any, *, axes: tuple[int, ...]) -> Any:
        empty = any(np.shape(x)[axis] == 0 for axis in axes)
        return np.full(np.sum(x, axis=axes).shape, nothing) if empty else function(x, axis=axes)

    return extreme


reduce_max = _reduction("reduce_max", _np_extreme(np.max, -np.inf), "Max", "tf.reduce_max",
                        _extreme_vjp, label="max")
reduce_min = _reduction("reduce_min", _np_extreme(np.min, np.inf), "Min", "tf.reduce_min",
                        _extreme_vjp, label="min")
reduce_any = _reduction("reduce_any", lambda x, *, axes: np.any(x, axis=axes), "Any", "tf.reduce_any",
                        lambda g, y, x, *, axes: (None,), label="any", kind=Kind.BOOLEAN)


def _np_logsumexp(x: Any, *, axes: tuple[int, ...]) -> Any:
    if np.asarray(x).dtype == object:
        return _np_log_object(np.sum(np.frompyfunc(mpmath.exp, 1, 1)(x), axis=axes))
    return scipy_special.logsumexp(x, axis=axes)


def _np_log_object(x: Any) -> Any:
    return np.frompyfunc(mpmath.log, 1, 1)(x)


def _np_softmax(x: Any, *, axes: tuple[int, ...]) -> Any:
    x = np.asarray(x)
    if x.dtype == object:
        weights = np.frompyfunc(mpmath.exp, 1, 1)(x)
    elif not x.size:
        return x
    else:
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, as in TensorFlow
            weights = np.exp(x - np.max(x, axis=axes, keepdims=True))
    return weights / np.sum(weights, axis=axes, keepdims=True)


def _softmax_form(e: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
    if len(axes) == 1:
        return e.call("tf.nn.softmax", x, axis=axes[0])
    return e.call("softmax_core", x, e.shape(axes))


def _softmax_pushed(t: Any, y: Any, axes: tuple[int, ...]) -> Any:
    """The Jacobian, which is symmetric, times `t`."""
    return y * (t - restore(sum_(t * y, axes=axes), axes))


softmax: Op = Op(
    name="softmax", elementwise=False, infer=lambda x, *, axes: x, numpy=_np_softmax,
    tf=TFOp("Softmax", "tf.nn.softmax", form=_softmax_form),
    vjp=lambda g, y, x, *, axes: (_softmax_pushed(g, y, axes),),
    jvp=lambda tangents, y, x, *, axes: _softmax_pushed(tangents[0], y, axes),
    support=lambda g, y, x, *, axes: (restore(sum_(g, axes=axes), axes),),
    doc="exp(x) / sum(exp(x)) over `axes`, without overflow.",
)
logsumexp = _reduction(
    "logsumexp", _np_logsumexp, "", "tf.reduce_logsumexp",
    lambda g, y, x, *, axes: (restore(g, axes) * softmax(x, axes=axes),), label="log Σ exp",
)


def _diagonal(n: Size, like: Any) -> Any:
    """Whether the last two axes of a value hold the same element; Boolean (n, n)."""
    index = like.apply(iota, (), {"start": 0, "size": n})
    return equal(expand(index, axis=-1), expand(index, axis=-2))


def _without_one(x: Any) -> Any:
    """(..., n) -> (..., n, n) where row i holds x with element i replaced by 1."""
    return select(_diagonal(x.shape[-1], x), 1, expand(x, axis=-2))


def _np_prod_others(x: Any) -> Any:
    one = np.ones_like(x[..., :1])
    before = np.cumprod(np.concatenate([one, x[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([one, x[..., :0:-1]], -1), -1)[..., ::-1]
    return before * after


def _prod_others_vjp(g: Any, y: Any, x: Any) -> tuple[Any, ...]:
    # d y_i / d x_j = product of all factors but i and j: row i of `both`, zero on the diagonal
    both = prod_others(_without_one(x))
    return (sum_(select(_diagonal(x.shape[-1], x), 0, expand(g, axis=-1) * both), axes=(-2,)),)


def _prod_others_jvp(tangents: tuple[Any, ...], y: Any, x: Any) -> Any:
    both = prod_others(_without_one(x))
    return sum_(select(_diagonal(x.shape[-1], x), 0, expand(tangents[0], axis=-2) * both), axes=(-1,))


prod_others = Op(
    name="prod_others", jvp=_prod_others_jvp, infer=lambda x: x, elementwise=False, numpy=_np_prod_others,
    tf=TFOp("", "prod_others", form=lambda e, x: e.call("prod_others", x)), vjp=_prod_others_vjp,
    support=lambda g, y, x: (restore(sum_(g, axes=(-1,)), (-1,)),), label="Π others",
    doc="For each element of the last axis the product of all the others, without dividing: right at zeros.",
)


def _prod_vjp(g: Any, y: Any, x: Any, *, axis: int) -> tuple[Any, ...]:
    if axis != -1:
        raise ShapeError("prod reduces the last axis")
    return (expand(g, axis=-1) * prod_others(x),)


prod = Op(
    name="prod", elementwise=False, numpy=lambda x, *, axis: np.prod(x, axis=axis), label="Π",
    infer=lambda x, *, axis: TensorType(x.kind, reduced(x.shape, (axis,))),
    jvp=lambda tangents, y, x, *, axis: sum_(tangents[0] * prod_others(x), axes=(axis,)),
    tf=TFOp("Prod", "tf.reduce_prod", form=lambda e, x, *, axis: e.call("tf.reduce_prod", x, axis=axis)),
    vjp=_prod_vjp, support=lambda g, y, x, *, axis: (expand(g, axis=axis),),
    doc="The product over the last axis.",
)


def _einsum_type(*operands: TensorType, inputs: tuple[str, ...], output: str) -> TensorType:
    sizes: dict[str, list[Size]] = {}
    for operand, letters in zip(operands, inputs, strict=True):
        if len(letters) != len(operand.shape):
            raise ShapeError(f"einsum subscripts {letters!r} for a value with {len(operand.shape)} core axes")
        for letter, size in zip(letters, operand.shape, strict=True):
            sizes.setdefault(letter, []).append(size)
    kind = max((Kind.INTEGER, *(t.kind for t in operands)))
    return TensorType(kind, tuple(broadcast_sizes(sizes[letter]) for letter in output))


def einsum_equation(inputs: tuple[str, ...], output: str) -> str:
    """The equation for NumPy and TensorFlow, batch axes included."""
    return ",".join("..." + letters for letters in inputs) + "->..." + output


def _np_einsum(*xs: Any, inputs: tuple[str, ...], output: str) -> Any:
    # two large operands go to BLAS, which takes 20 microseconds longer to reach and is many times as quick
    large = len(xs) > 2 or (len(xs) == 2 and min(map(np.size, xs)) > 2000)
    return np.einsum(einsum_equation(inputs, output), *xs, optimize=large)


def _einsum_vjp(g: Any, y: Any, *xs: Any, inputs: tuple[str, ...], output: str) -> tuple[Any, ...]:
    used = set("".join(inputs)) | set(output)
    unused = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in used]
    front, spare = "".join(unused[: len(g.shape) - len(output)]), unused[len(g.shape) - len(output) :]
    cotangents = []
    for k, letters in enumerate(inputs):
        own, diagonals = _distinct(letters, spare)
        rest = [x for j, x in enumerate(xs) if j != k]
        rest += [xs[k].apply(eye, (), {"size": xs[k].shape[own.index(pair[1])]}) for pair in diagonals]
        subscripts = (front + output, *(s for j, s in enumerate(inputs) if j != k), *diagonals)
        known = set("".join(subscripts))
        kept = "".join(c for c in own if c in known)
        partial = einsum(g, *rest, inputs=subscripts, output=front + kept)
        missing = [p - len(own) for p, c in enumerate(own) if c not in known]
        cotangents.append(restore(partial, missing))
    return tuple(cotangents)


def _distinct(letters: str, spare: list[str]) -> tuple[str, list[str]]:
    """`"iji"` as `"ijS"` and the pair `"iS"`: the operand's cotangent has the diagonal that the pair's identity is."""
    own, pairs, fresh = "", list[str](), iter(spare)
    for c in letters:
        new = next(fresh) if c in own else c
        if new != c:
            pairs.append(c + new)
        own += new
    return own, pairs


def _einsum_support(g: Any, y: Any, *xs: Any, inputs: tuple[str, ...], output: str) -> tuple[Any, ...]:
    ones = [with_shape(ones_like(x), x.shape) for x in xs]  # in full length, which diagonals and TensorFlow need
    return _einsum_vjp(g, y, *ones, inputs=inputs, output=output)


def _einsum_jvp(tangents: tuple[Any, ...], y: Any, *xs: Any, inputs: tuple[str, ...], output: str) -> Any:
    used = set("".join(inputs)) | set(output)
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in used]
    total = None
    for k, t in enumerate(tangents):
        if t is None:
            continue
        front = "".join(free[: len(t.shape) - len(inputs[k])])
        subscripts = tuple(front + s if j == k else s for j, s in enumerate(inputs))
        operands = [t if j == k else x for j, x in enumerate(xs)]
        term = einsum(*operands, inputs=subscripts, output=front + output)
        total = term if total is None else total + term
    return total


einsum = Op(
    name="einsum", arity=None, infer=_einsum_type, elementwise=False,
    numpy=_np_einsum,
    tf=TFOp("Einsum", "tf.einsum", form=lambda e, *xs, inputs, output: e.call(
        "tf.einsum", einsum_equation(inputs, output), *xs)),
    vjp=_einsum_vjp, jvp=_einsum_jvp, support=_einsum_support,
    doc="A product summed over the letters that `output` lacks. Made by the optimiser from `sum` of `mul`. "
    "A letter that occurs twice in one operand takes its diagonal; none occurs twice in `output`.",
)

ROWS = (reduce_max, reduce_min, reduce_any, softmax, logsumexp, prod, prod_others, einsum)
