"""What sym2tf is compared with: the same mathematics by lambdify, GradientTape and JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import sympy as sp
import tensorflow as tf

jax.config.update("jax_enable_x64", True)


def lambdify_numpy(symbols: Sequence[Any], expr: Any) -> Callable[..., Any]:
    """SymPy's own NumPy function, with SciPy for the error function."""
    return sp.lambdify(symbols, expr, ["scipy", "numpy"], cse=True)


def lambdify_tensorflow(symbols: Sequence[Any], expr: Any) -> Callable[..., Any]:
    """SymPy's own TensorFlow function, without `tf.function`."""
    return sp.lambdify(symbols, _plain(expr), "tensorflow", cse=True)


def in_graph(function: Callable[..., Any], *, jit: bool = False) -> Callable[..., Any]:
    """`function` inside a `tf.function`, with or without XLA."""
    return tf.function(function, autograph=False, jit_compile=True if jit else None)


def with_tape(function: Callable[..., Any]) -> Callable[..., Any]:
    """The value and the gradient by `GradientTape`."""

    def value_and_gradient(*xs: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(xs)
            y = function(*xs)
        return [y, *tape.gradient(y, xs)]

    return value_and_gradient


def with_diff(symbols: Sequence[Any], expr: Any) -> Callable[..., Any]:
    """The value and the gradient by `sympy.diff` followed by lambdify."""
    function: Callable[..., Any] = lambdify_tensorflow(symbols, [expr, *(sp.diff(expr, s) for s in symbols)])
    return function


def with_jax(symbols: Sequence[Any], expr: Any) -> Callable[..., Any]:
    """JAX on SymPy's own JAX function."""
    return jax.jit(sp.lambdify(symbols, expr, [{"erf": jax.scipy.special.erf}, "jax"], cse=True))


def with_jax_gradient(symbols: Sequence[Any], expr: Any) -> Callable[..., Any]:
    """The value and the gradient at each point: the gradient of the sum over the batch is that."""
    function = sp.lambdify(symbols, expr, [{"erf": jax.scipy.special.erf}, "jax"], cse=True)

    def value_and_gradient(*xs: Any) -> list[Any]:
        y, pull_back = jax.vjp(function, *xs)
        return [y, *pull_back(jax.numpy.ones_like(y))]

    return jax.jit(value_and_gradient)


def _plain(expr: Any) -> Any:
    """`expr` with irrational constants as floats: `tf.sqrt(2)` and `math.pi` of a wrong dtype stop lambdify's code."""
    if isinstance(expr, list):
        return [_plain(e) for e in expr]
    constants = {e: e.evalf(17) for e in sp.preorder_traversal(expr) if isinstance(e, sp.Expr) and _irrational(e)}
    return expr.xreplace(constants) if constants else expr


def _irrational(e: Any) -> bool:
    return e.is_number and not e.is_Rational and not e.is_Float and not e.has(sp.S.true, sp.S.false)
