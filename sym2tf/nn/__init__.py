"""Neural networks from their formulas: activations, losses and normalisation as ordinary SymPy expressions."""

from sym2tf.nn.activations import elu, gelu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from sym2tf.nn.layers import batch_normalization, dropout, mean, variance
from sym2tf.nn.losses import (
    bce,
    cce,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mae,
    mse,
    msle,
    poisson,
    squared_hinge,
)

__all__ = [
    "batch_normalization",
    "bce",
    "cce",
    "dropout",
    "elu",
    "gelu",
    "hinge",
    "huber",
    "kl_divergence",
    "leaky_relu",
    "log_cosh",
    "log_softmax",
    "mae",
    "mean",
    "mse",
    "msle",
    "poisson",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "squared_hinge",
    "tanh",
    "variance",
]
