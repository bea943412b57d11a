"""Activations as SymPy functions: they print by name, differentiate, evaluate and compile like `sin`.

Every one takes a scalar expression, or acts on each element of a matrix, a matrix expression or an array. What it
stands for in SymPy's own functions is its `definition`; `expand_func` writes that out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import sympy as sp
from sympy.matrices.expressions.matexpr import MatrixElement
from sympy.tensor.array.expressions import ArrayElementwiseApplyFunc
from sympy.tensor.array.expressions.array_expressions import _ArrayExpr

from sym2tf.errors import ArgumentError
from sym2tf.nn.limits import checked, expression

LEAK = sp.Rational(1, 5)  # the slope that TensorFlow and Keras give leaky_relu


class Activation(sp.Function):
    """A function of one real argument, and of constants after it.

    Subclasses say what it is in SymPy's own functions (`definition`) and what its derivatives are (`slopes`, one for
    each argument).
    """

    nargs = 1
    definition: Callable[..., Any]
    slopes: Callable[..., tuple[Any, ...]]

    def __new__(cls, x: Any, *constants: Any, **options: Any) -> Any:
        return _elementwise(lambda e: super(Activation, cls).__new__(cls, e, *constants, **options), x)

    def fdiff(self, argindex: int = 1) -> Any:
        """The derivative by argument number `argindex`, which counts from 1."""
        return type(self).slopes(*self.args)[argindex - 1]

    def _eval_expand_func(self, **hints: Any) -> Any:
        return type(self).definition(*self.args)

    def _eval_rewrite(self, rule: Any, args: Any, **hints: Any) -> Any:
        """The definition, where it is written in `rule`."""
        written = type(self).definition(*(sp.Dummy() for _ in args))
        return type(self).definition(*args) if rule is None or written.has(rule) else None

    def _eval_evalf(self, prec: int) -> Any:
        return type(self).definition(*self.args)._eval_evalf(prec)

    def _eval_is_extended_real(self) -> bool | None:
        return True if all(a.is_extended_real for a in self.args) else None

    def _eval_is_finite(self) -> bool | None:
        return True if all(a.is_finite and a.is_extended_real for a in self.args) else None


class sigmoid(Activation):  # noqa: N801  written as the field does
    """The logistic function 1/(1 + exp(-x))."""

    definition = staticmethod(lambda x: 1 / (1 + sp.exp(-x)))
    slopes = staticmethod(lambda x: (sigmoid(x) * sigmoid(-x),))

    @classmethod
    def eval(cls, x: Any) -> Any:
        """The values at 0 and at the ends of the line."""
        return {sp.S.Zero: sp.S.Half, sp.oo: sp.S.One, -sp.oo: sp.S.Zero}.get(x)

    def _eval_is_extended_positive(self) -> bool | None:
        return True if self.args[0].is_real else None


class softplus(Activation):  # noqa: N801
    """log(1 + exp(x)), a smooth `relu`; compiled so that it does not overflow."""

    definition = staticmethod(lambda x: sp.log(1 + sp.exp(x)))
    slopes = staticmethod(lambda x: (sigmoid(x),))

    def _eval_evalf(self, prec: int) -> Any:
        exponential = sp.exp(self.args[0])._eval_evalf(prec)
        if not exponential.is_Float:
            return None
        with mpmath.workprec(prec):
            return sp.Float._new(mpmath.log1p(exponential._to_mpmath(prec))._mpf_, prec)  # which 1 + tiny would lose

    @classmethod
    def eval(cls, x: Any) -> Any:
        """The values at 0 and at the ends of the line."""
        return {sp.S.Zero: sp.log(2), sp.oo: sp.oo, -sp.oo: sp.S.Zero}.get(x)

    def _eval_is_extended_positive(self) -> bool | None:
        return True if self.args[0].is_real else None


class relu(Activation):  # noqa: N801
    """max(x, 0); its derivative at 0 is 0, as in TensorFlow."""

    definition = staticmethod(lambda x: sp.Max(x, 0, evaluate=False))
    slopes = staticmethod(lambda x: (sp.Heaviside(x, 0),))

    @classmethod
    def eval(cls, x: Any) -> Any:
        """The value at a number."""
        return sp.Max(x, 0) if x.is_Number else None

    def _eval_is_extended_nonnegative(self) -> bool | None:
        return True if self.args[0].is_extended_real else None


class leaky_relu(Activation):  # noqa: N801
    """x for positive x, else alpha*x; alpha = 1/5 as in TensorFlow, and the derivative at 0 is alpha."""

    nargs = 2
    definition = staticmethod(lambda x, alpha: sp.Piecewise((x, x > 0), (alpha * x, True)))
    slopes = staticmethod(lambda x, alpha: (sp.Piecewise((1, x > 0), (alpha, True)), -relu(-x)))

    def __new__(cls, x: Any, alpha: Any = LEAK, **options: Any) -> Any:
        return super().__new__(cls, x, alpha, **options)


class elu(Activation):  # noqa: N801
    """x for positive x, else alpha*(exp(x) - 1). Clevert, Unterthiner, Hochreiter 2016."""

    nargs = 2
    definition = staticmethod(lambda x, alpha: sp.Piecewise((x, x > 0), (alpha * (sp.exp(x) - 1), True)))
    slopes = staticmethod(
        lambda x, alpha: (
            sp.Piecewise((1, x > 0), (alpha * sp.exp(x), True)),
            sp.Piecewise((0, x > 0), (sp.exp(x) - 1, True)),
        )
    )

    def __new__(cls, x: Any, alpha: Any = sp.S.One, **options: Any) -> Any:
        return super().__new__(cls, x, alpha, **options)


class silu(Activation):  # noqa: N801
    """x*sigmoid(x), also called swish."""

    definition = staticmethod(lambda x: x * sigmoid(x))
    slopes = staticmethod(lambda x: (sigmoid(x) + x * sigmoid(x) * sigmoid(-x),))


class gelu(Activation):  # noqa: N801
    """x times the normal distribution function of x. Hendrycks, Gimpel 2016.

    `gelu(x, approximate=True)` is their approximation with tanh, written with the sigmoid that it equals.
    """

    definition = staticmethod(lambda x: x * _normal_cdf(x))
    slopes = staticmethod(lambda x: (_normal_cdf(x) + x * sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi),))

    def __new__(cls, x: Any, *, approximate: bool = False, **options: Any) -> Any:
        return _elementwise(_gelu_by_tanh, x) if approximate else super().__new__(cls, x, **options)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, SymPy's own, of each element."""
    return _elementwise(sp.tanh, x)


def softmax(z: Any, *limits: Any, axis: int = -1) -> Any:
    """exp(z) divided by its sum.

    Args:
        z: an expression in the indices of `limits`, or a matrix, explicit or not.
        limits: `(k, first, last)` as in `Sum`, for each index that is summed over; the answer depends on `k` as `z`
            does. For matrices none.
        axis: of a matrix, what is summed over: -1 makes every row sum to 1, 0 every column.

    Raises:
        ArgumentError: no limits for a scalar, limits for a matrix, or limits that are none.

    Example:
        >>> softmax(z[i, k], (k, 0, K - 1))
        exp(z[i, k])/Sum(exp(z[i, k]), (k, 0, K - 1))
    """
    if not _is_matrix(z):
        z, limits = expression(z), checked(limits, "softmax", least=1)
        return sp.exp(z) / sp.Sum(sp.exp(z), *limits)
    _refuse_limits(limits, "softmax")
    return _softmax_of_matrix(z, axis)


def log_softmax(z: Any, *limits: Any) -> Any:
    """The logarithm of `softmax` of a scalar expression, z - log(Sum(exp(z))); compiled so that it does not overflow.

    Args:
        z: an expression in the indices of `limits`.
        limits: as for `softmax`.

    Raises:
        ArgumentError: `z` is no scalar expression, or the limits are none.
    """
    z, limits = expression(z), checked(limits, "log_softmax", least=1)
    return z - sp.log(sp.Sum(sp.exp(z), *limits))


def _normal_cdf(x: Any) -> Any:
    """The normal distribution function; SymPy's own choice, 2 - erfc(x/sqrt(2)), loses the digits of the left tail."""
    return sp.erfc(-x / sp.sqrt(2), evaluate=False) / 2


def _gelu_by_tanh(x: Any) -> Any:
    """(1 + tanh(u))/2 = sigmoid(2*u), which keeps its digits where tanh is near -1."""
    return x * sigmoid(2 * sp.sqrt(2 / sp.pi) * (x + sp.Rational(44715, 10**6) * x**3))


def _is_matrix(x: Any) -> bool:
    return isinstance(x, sp.MatrixExpr | sp.MatrixBase)


def _elementwise(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` of a scalar, or of each element of a matrix or an array."""
    if isinstance(x, sp.MatrixExpr | sp.MatrixBase | sp.NDimArray):
        return x.applyfunc(function)
    if isinstance(x, _ArrayExpr):
        d = sp.Dummy("d")
        return ArrayElementwiseApplyFunc(sp.Lambda(d, function(d)), x)
    return function(expression(x))


def _refuse_limits(limits: Any, name: str) -> None:
    if limits:
        raise ArgumentError(f"{name} of a matrix takes no limits: its axes say what is summed over (axis=)")


def _softmax_of_matrix(z: Any, axis: int) -> Any:
    """Each element's exponential divided by the sum of those in its row (`axis` -1 or 1) or column (0 or -2)."""
    if axis not in (-2, -1, 0, 1):
        raise ArgumentError(f"a matrix has the axes 0 and 1, got axis={axis}")
    by_row = axis in (-1, 1)
    rows, columns = z.shape
    if isinstance(z, sp.MatrixBase):
        e = z.applyfunc(sp.exp)
        sums = [sum(line) for line in (e if by_row else e.T).tolist()]
        return type(e)(rows, columns, lambda i, j: e[i, j] / sums[i if by_row else j])
    i, j = sp.Dummy("i", integer=True), sp.Dummy("j", integer=True)
    over = (j, 0, columns - 1) if by_row else (i, 0, rows - 1)
    return sp.FunctionMatrix(rows, columns, sp.Lambda((i, j), softmax(MatrixElement(z, i, j), over)))


ACTIVATIONS: tuple[type[Activation], ...] = (sigmoid, softplus, relu, leaky_relu, elu, silu, gelu)
