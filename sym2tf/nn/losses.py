"""Losses as expressions: the mean, over the indices that the limits name, of what one element costs.

One convention for all: target first, prediction second, then limits as in `Sum`. Without limits the answer is the loss
of one element; of matrices it is the mean over all elements, without limits. Formulas are those of Keras, whose
clipping of probabilities away from 0 and 1 is left out: `from_logits=True` needs none.

    mse(y[i], p[i], (i, 0, n - 1))                        Sum((p[i] - y[i])**2, (i, 0, n - 1))/n
    cce(t[i, k], p[i, k], (k, 0, K - 1), (i, 0, n - 1))   classes first, then what the mean is taken over
    mse(Y, X*W)                                           matrix symbols and expressions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp
from sympy.matrices.expressions.matexpr import MatrixElement

from sym2tf.errors import ArgumentError, ShapeError
from sym2tf.nn.activations import log_softmax, relu, softplus
from sym2tf.nn.limits import Limit, checked, count, expression

Pointwise = Callable[[Any, Any], Any]


def mse(target: Any, prediction: Any, *limits: Any) -> Any:
    """Mean squared error, (prediction - target)**2.

    Args:
        target: an expression, or a matrix of the shape of `prediction`.
        prediction: the same.
        limits: `(index, first, last)` for each index that the mean is taken over; for matrices none.

    Raises:
        ShapeError: matrices of different shapes.
        ArgumentError: limits that are none, or limits for matrices, or a matrix and a scalar.
    """
    return _mean("mse", lambda t, p: (p - t) ** 2, target, prediction, limits)


def mae(target: Any, prediction: Any, *limits: Any) -> Any:
    """Mean absolute error, Abs(prediction - target); arguments and errors as for `mse`."""
    return _mean("mae", lambda t, p: sp.Abs(p - t), target, prediction, limits)


def msle(target: Any, prediction: Any, *limits: Any) -> Any:
    """Mean squared logarithmic error, (log(1 + prediction) - log(1 + target))**2; arguments and errors as for `mse`.

    Keras cuts negative arguments off at 0; here they cost what the formula says.
    """
    return _mean("msle", lambda t, p: (sp.log(1 + p) - sp.log(1 + t)) ** 2, target, prediction, limits)


def bce(target: Any, prediction: Any, *limits: Any, from_logits: bool = False) -> Any:
    """Binary cross-entropy, -target*log(p) - (1 - target)*log(1 - p); arguments and errors as for `mse`.

    Args:
        target: probability of the class 1, usually 0 or 1.
        prediction: the probability p, or with `from_logits` the logit z of p = sigmoid(z). The loss is then
            softplus(z) - target*z, which neither overflows nor loses digits.
        limits: as for `mse`.
        from_logits: what `prediction` is.
    """
    if from_logits:
        return _mean("bce", lambda t, z: softplus(z) - t * z, target, prediction, limits)
    return _mean("bce", lambda t, p: -t * sp.log(p) - (1 - t) * sp.log(1 - p), target, prediction, limits)


def cce(target: Any, prediction: Any, *limits: Any, from_logits: bool = False) -> Any:
    """Categorical cross-entropy, -Sum(target*log(p)) over the classes.

    Args:
        target: probabilities of the classes, usually one-hot.
        prediction: the probabilities p, which sum to 1, or with `from_logits` the logits z of p = softmax(z). The loss
            is then -Sum(target*(z - log(Sum(exp(z))))), compiled so that it does not overflow.
        limits: the first is that of the classes, the mean is taken over the others. Matrices have their classes in the
            columns.
        from_logits: what `prediction` is.

    Raises:
        ShapeError: matrices of different shapes.
        ArgumentError: no limit for the classes, limits that are none, or limits for matrices.
    """
    target, prediction, limits, over = _classes("cce", target, prediction, limits)
    logarithm = log_softmax(prediction, limits[0]) if from_logits else sp.log(prediction)
    return _averaged(-sp.Sum(target * logarithm, limits[0]), over)


def kl_divergence(target: Any, prediction: Any, *limits: Any) -> Any:
    """Kullback-Leibler divergence, Sum(target*log(target/p)) over the classes; arguments and errors as for `cce`."""
    target, prediction, limits, over = _classes("kl_divergence", target, prediction, limits)
    return _averaged(sp.Sum(target * (sp.log(target) - sp.log(prediction)), limits[0]), over)


def huber(target: Any, prediction: Any, *limits: Any, delta: Any = 1) -> Any:
    """Huber's loss: r**2/2 for a residual r up to `delta`, linear beyond. Huber 1964; arguments and errors as `mse`."""

    def loss(t: Any, p: Any) -> Any:
        r = p - t
        return sp.Piecewise((r**2 / 2, sp.Abs(r) <= delta), (delta * (sp.Abs(r) - delta / sp.S(2)), True))

    return _mean("huber", loss, target, prediction, limits)


def log_cosh(target: Any, prediction: Any, *limits: Any) -> Any:
    """log(cosh(r)) of the residual r, written r + softplus(-2*r) - log(2), which does not overflow; as `mse`."""
    loss = lambda t, p: (p - t) + softplus(-2 * (p - t)) - sp.log(2)
    return _mean("log_cosh", loss, target, prediction, limits)


def hinge(target: Any, prediction: Any, *limits: Any) -> Any:
    """relu(1 - target*prediction), for targets -1 and 1; arguments and errors as for `mse`."""
    return _mean("hinge", lambda t, p: relu(1 - t * p), target, prediction, limits)


def squared_hinge(target: Any, prediction: Any, *limits: Any) -> Any:
    """relu(1 - target*prediction)**2, for targets -1 and 1; arguments and errors as for `mse`."""
    return _mean("squared_hinge", lambda t, p: relu(1 - t * p) ** 2, target, prediction, limits)


def poisson(target: Any, prediction: Any, *limits: Any) -> Any:
    """Poisson loss, prediction - target*log(prediction): its negative log-likelihood but for a constant; as `mse`."""
    return _mean("poisson", lambda t, p: p - t * sp.log(p), target, prediction, limits)


def _mean(name: str, pointwise: Pointwise, target: Any, prediction: Any, limits: Sequence[Any]) -> Any:
    target, prediction, over = _elements(name, target, prediction, limits)
    return _averaged(pointwise(target, prediction), over)


def _averaged(loss: Any, limits: Sequence[Limit]) -> Any:
    return sp.Sum(loss, *limits) / count(limits) if limits else loss


def _classes(name: str, target: Any, prediction: Any, limits: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Elements, limits with that of the classes in front, and those of the mean."""
    target, prediction, found = _elements(name, target, prediction, limits)
    if not found:
        raise ArgumentError(f"{name} needs limits: first that of the classes, such as (k, 0, K - 1)")
    if not limits:  # of matrices: the columns are the classes
        found = found[::-1]
    return target, prediction, found, found[1:]


def _elements(name: str, target: Any, prediction: Any, limits: Sequence[Any]) -> tuple[Any, Any, tuple[Limit, ...]]:
    """What one element of target and prediction is, and the limits of its indices."""
    matrices = _is_matrix(target), _is_matrix(prediction)
    if not any(matrices):
        return expression(target), expression(prediction), checked(limits, name)
    if not all(matrices):
        raise ArgumentError(f"{name}: the target and the prediction must both be matrices, or both be scalars")
    if limits:
        raise ArgumentError(f"{name} of matrices takes no limits: it is the mean over all their elements")
    rows, columns = target.shape
    if any(sp.sympify(a - b).is_zero is False for a, b in zip(target.shape, prediction.shape, strict=True)):
        raise ShapeError(f"{name}: the target has shape {target.shape}, the prediction {prediction.shape}")
    i, j = sp.Dummy("i", integer=True), sp.Dummy("j", integer=True)
    elements = (MatrixElement(sp.sympify(x), i, j) for x in (target, prediction))
    return *elements, ((i, sp.S.Zero, rows - 1), (j, sp.S.Zero, columns - 1))


def _is_matrix(x: Any) -> bool:
    return isinstance(x, sp.MatrixExpr | sp.MatrixBase)
