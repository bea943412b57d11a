"""Losses of one residual as formulas: what `fit(Eq(y, model), loss=...)` adds up over the observations.

A `Loss` is an expression in `residual`, which stands for (observed - model)/sigma. Those with a scale are residual**2
where residuals are small beside it, so that costs can be compared with a sum of squares; SciPy's `least_squares` has
the same formulas. Scales are in units of sigma, or of the observations where there is none; they are numbers, or
symbols, which then need data or are estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from sym2tf.errors import ArgumentError

residual = sp.Symbol("residual", real=True)


@dataclass(frozen=True)
class Loss:
    """The loss of one residual.

    Attributes:
        name: for reports, such as `huber(1.345)`.
        expression: in `residual`.
    """

    name: str
    expression: Any

    def __post_init__(self) -> None:
        if not isinstance(self.expression, sp.Expr) or residual not in self.expression.free_symbols:
            raise ArgumentError(
                f"the loss {self.name} is {self.expression}; it must be an expression in sym2tf.losses.residual"
            )

    @property
    def is_square(self) -> bool:
        """Whether this is least squares."""
        return bool(self.expression == residual**2)

    @property
    def symbols(self) -> frozenset[Any]:
        """What else than the residual stands in it."""
        return frozenset(self.expression.free_symbols - {residual})


def least_squares() -> Loss:
    """residual**2. Legendre 1805."""
    return Loss("least_squares", residual**2)


def huber(delta: Any = 1.345) -> Loss:
    """Quadratic up to `delta`, linear beyond. Huber 1964; 1.345 is 95 % efficient at Gaussian errors with sigma 1."""
    d = _scale(delta)
    below, above = -2 * d * residual - d**2, 2 * d * residual - d**2
    branches = [(below, residual < -d), (above, residual > d), (residual**2, True)]
    return Loss(_named("huber", delta), sp.Piecewise(*branches))


def soft_l1(scale: Any = 1) -> Loss:
    """2*scale**2*(sqrt(1 + (residual/scale)**2) - 1): smooth between square and absolute value. Charbonnier 1994."""
    c = _scale(scale)
    return Loss(_named("soft_l1", scale), 2 * c**2 * (sp.sqrt(1 + (residual / c) ** 2) - 1))


def log_cosh(scale: Any = 1) -> Loss:
    """2*scale**2*log(cosh(residual/scale)): smooth between square and absolute value."""
    c = _scale(scale)
    softplus = sp.log(1 + sp.exp(2 * residual / c))  # which does not overflow where the optimiser knows it
    return Loss(_named("log_cosh", scale), 2 * c**2 * (softplus - residual / c - sp.log(2)))


def cauchy(scale: Any = 1) -> Loss:
    """scale**2*log(1 + (residual/scale)**2). Black, Anandan 1996; 2.385 is 95 % efficient. It is not convex."""
    c = _scale(scale)
    return Loss(_named("cauchy", scale), c**2 * sp.log(1 + (residual / c) ** 2))


def arctan(scale: Any = 1) -> Loss:
    """scale**2*atan((residual/scale)**2), which no residual takes beyond a bound. It is not convex."""
    c = _scale(scale)
    return Loss(_named("arctan", scale), c**2 * sp.atan((residual / c) ** 2))


def tukey(c: Any = 4.685) -> Loss:
    """Tukey's biweight, constant beyond `c`. Beaton, Tukey 1974; 4.685 is 95 % efficient. It is not convex."""
    c_ = _scale(c)
    inside = c_**2 / 3 * (1 - (1 - (residual / c_) ** 2) ** 3)
    return Loss(_named("tukey", c), sp.Piecewise((inside, residual**2 <= c_**2), (c_**2 / 3, True)))


def absolute() -> Loss:
    """The absolute value, for a median. Boscovich 1757."""
    return Loss("absolute", sp.Abs(residual))


def quantile(level: Any = 0.5) -> Loss:
    """level*residual above the model and (level - 1)*residual below it: a regression quantile. Koenker, Bassett 1978.

    Raises:
        ArgumentError: a level that is not between 0 and 1.
    """
    q = _number(level)
    if q.is_number and not 0 < q < 1:
        raise ArgumentError(f"the level of a quantile is between 0 and 1, got {level}")
    return Loss(_named("quantile", level), sp.Piecewise((q * residual, residual >= 0), ((q - 1) * residual, True)))


def student_t(df: Any = 4, scale: Any = 1) -> Loss:
    """Minus twice the log-density of Student's t, without its constant. Lange, Little, Taylor 1989. It is not convex.

    Args:
        df: degrees of freedom.
        scale: of the distribution.
    """
    nu, c = _scale(df), _scale(scale)
    return Loss(f"student_t({df}, {scale})", (nu + 1) * sp.log(1 + (residual / c) ** 2 / nu))


LOSSES: Mapping[str, Callable[..., Loss]] = {
    "least_squares": least_squares,
    "huber": huber,
    "soft_l1": soft_l1,
    "log_cosh": log_cosh,
    "cauchy": cauchy,
    "arctan": arctan,
    "tukey": tukey,
    "absolute": absolute,
    "quantile": quantile,
    "student_t": student_t,
}


def loss_of(thing: Any) -> Loss:
    """The loss that the user means: a `Loss`, a name, a SymPy `Lambda`, or a function from symbol to expression.

    Raises:
        ArgumentError: an unknown name, or what makes no expression in the residual.
    """
    if isinstance(thing, Loss):
        return thing
    if isinstance(thing, str):
        if thing not in LOSSES:
            raise ArgumentError(f"the losses are {', '.join(LOSSES)}; got {thing!r}")
        return LOSSES[thing]()
    if thing in LOSSES.values():  # the function itself, which would take the residual for its scale
        made: Loss = thing()
        return made
    if isinstance(thing, sp.Lambda) and len(thing.signature) != 1:
        raise ArgumentError(f"a loss is a function of one residual, {thing} takes {len(thing.signature)}")
    if not callable(thing):
        raise ArgumentError(
            f"a loss is a name ({', '.join(LOSSES)}), a record of sym2tf.losses, a SymPy Lambda or a function from the "
            f"residual to an expression; got {thing!r}"
        )
    expression = thing(residual)
    name = str(thing) if isinstance(thing, sp.Lambda) else getattr(thing, "__name__", type(thing).__name__)
    return Loss(name, expression)


def _named(name: str, scale: Any) -> str:
    return f"{name}({scale})"


def _scale(value: Any) -> Any:
    """A positive number, or an expression."""
    number = _number(value)
    if number.is_number and not number > 0:
        raise ArgumentError(f"the scale of a loss is positive, got {value}")
    return number


def _number(value: Any) -> Any:
    """A number or an expression; floats keep every bit."""
    try:
        number = sp.sympify(value, strict=True)
    except (sp.SympifyError, TypeError):
        number = None
    if not isinstance(number, sp.Expr) or number.is_extended_real is False or number.has(residual, sp.oo, sp.nan):
        raise ArgumentError(f"the scale of a loss is a number or an expression, got {value!r}")
    return number
