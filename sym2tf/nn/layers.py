"""What networks are built of besides sums and activations: moments over a batch, normalisation, dropout."""

from __future__ import annotations

from typing import Any

import sympy as sp

from sym2tf.nn.limits import checked, count, expression


def mean(x: Any, *limits: Any) -> Any:
    """The mean over the indices that the limits name, Sum(x)/count.

    Args:
        x: an expression in these indices.
        limits: `(index, first, last)` for each of them.

    Raises:
        ArgumentError: no limits, or some that are none.
    """
    over = checked(limits, "mean", least=1)
    return sp.Sum(expression(x), *over) / count(over)


def variance(x: Any, *limits: Any) -> Any:
    """The mean squared distance from the mean (divided by the count, not by count - 1); arguments as for `mean`."""
    return mean((x - mean(x, *limits)) ** 2, *limits)


def batch_normalization(x: Any, *limits: Any, gamma: Any = 1, beta: Any = 0, epsilon: Any = 1e-3) -> Any:
    """gamma*(x - mean)/sqrt(variance + epsilon) + beta, with the moments of the batch. Ioffe, Szegedy 2015.

    Args:
        x: an expression in the indices of the limits, and others.
        limits: `(index, first, last)` of the observations.
        gamma: scale, usually an element for each feature.
        beta: shift, likewise.
        epsilon: what keeps the root away from 0; 1e-3 as in Keras.

    Raises:
        ArgumentError: no limits, or some that are none.

    Example:
        >>> batch_normalization(x[i, h], (i, 0, n - 1), gamma=g[h], beta=b[h])
    """
    return gamma * (x - mean(x, *limits)) / sp.sqrt(variance(x, *limits) + epsilon) + beta


def dropout(x: Any, mask: Any, rate: Any) -> Any:
    """x*mask/(1 - rate): what is kept is scaled, so that the expectation stays. Srivastava et al. 2014.

    Args:
        x: an expression.
        mask: a symbol or element that is 0 where `x` is dropped and 1 elsewhere; all ones and rate 0 for prediction.
        rate: the probability of a 0, a number or a symbol.
    """
    return expression(x) * mask / (1 - sp.sympify(rate))
