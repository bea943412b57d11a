"""Optimisers and learning-rate schedules as formulas: what a step makes of a parameter, elementwise.

An `Optimizer` is a record of expressions in `parameter`, `gradient`, the step counter `t` and its own slots. `t` is the
number of finished steps, 0 in the first one; schedules are expressions in it. Hyperparameters are numbers or symbols:
a symbol becomes an argument of the training step. Formulas and defaults are those of Keras 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import sympy as sp

from sym2tf.errors import ArgumentError

parameter = sp.Symbol("parameter", real=True)
gradient = sp.Symbol("gradient", real=True)
t = sp.Symbol("t", real=True)


@dataclass(frozen=True)
class Optimizer:
    """An update rule.

    Attributes:
        name: of the method.
        update: the new parameter.
        slots: the new value of each slot, a symbol for what is kept from step to step beside the parameter.
        initial: the number that a slot starts with; 0 where it is not named.
    """

    name: str
    update: Any
    slots: Mapping[Any, Any] = field(default_factory=dict)
    initial: Mapping[Any, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [str(s) for s in self.initial if s not in self.slots]
        if unknown:
            raise ArgumentError(f"{self.name}: initial names {', '.join(unknown)}, which is no slot")
        wrong = [s for s in self.slots if not isinstance(s, sp.Symbol) or s in (parameter, gradient, t)]
        if wrong:
            raise ArgumentError(f"{self.name}: a slot is a symbol of its own, got {wrong[0]!r}")

    @property
    def hyperparameters(self) -> tuple[Any, ...]:
        """The symbols that the user must give numbers for, sorted by name."""
        free = set().union(*(sp.sympify(e).free_symbols for e in (self.update, *self.slots.values())))
        return tuple(sorted(free - {parameter, gradient, t, *self.slots}, key=str))


def gradient_descent(learning_rate: Any = 0.01) -> Optimizer:
    """The parameter less learning_rate*gradient. Robbins, Monro 1951."""
    return Optimizer("gradient_descent", parameter - _rate(learning_rate) * gradient)


def momentum(learning_rate: Any = 0.01, decay: Any = 0.9) -> Optimizer:
    """Gradient descent with a velocity, decay*velocity - learning_rate*gradient. Polyak 1964."""
    velocity, moved = _velocity(learning_rate, decay)
    return Optimizer("momentum", parameter + moved, {velocity: moved})


def nesterov(learning_rate: Any = 0.01, decay: Any = 0.9) -> Optimizer:
    """Momentum that looks ahead by one step, in the form of Sutskever, Martens, Dahl, Hinton 2013."""
    velocity, moved = _velocity(learning_rate, decay)
    ahead = _number(decay) * moved - _rate(learning_rate) * gradient
    return Optimizer("nesterov", parameter + ahead, {velocity: moved})


def adagrad(learning_rate: Any = 0.001, epsilon: Any = 1e-7, initial_accumulator: float = 0.1) -> Optimizer:
    """Steps divided by the root of the sum of squared gradients. Duchi, Hazan, Singer 2011."""
    accumulator = sp.Symbol("accumulator", nonnegative=True)
    total = accumulator + gradient**2
    update = parameter - _rate(learning_rate) * gradient / sp.sqrt(total + _number(epsilon))
    return Optimizer("adagrad", update, {accumulator: total}, {accumulator: initial_accumulator})


def adadelta(learning_rate: Any = 0.001, rho: Any = 0.95, epsilon: Any = 1e-7) -> Optimizer:
    """Steps in the units of the parameter: the root mean square of past steps over that of gradients. Zeiler 2012."""
    squares = sp.Symbol("mean_square_gradient", nonnegative=True)
    steps = sp.Symbol("mean_square_step", nonnegative=True)
    rho, epsilon = _number(rho), _number(epsilon)
    averaged = _average(squares, gradient**2, rho)
    moved = -sp.sqrt(steps + epsilon) * gradient / sp.sqrt(averaged + epsilon)
    return Optimizer(
        "adadelta",
        parameter + _rate(learning_rate) * moved,
        {squares: averaged, steps: _average(steps, moved**2, rho)},
    )


def rmsprop(
    learning_rate: Any = 0.001,
    rho: Any = 0.9,
    momentum: Any = 0,
    epsilon: Any = 1e-7,
    centered: bool = False,
) -> Optimizer:
    """Steps divided by the root mean square of gradients. Hinton 2012; `centered` as in Graves 2013.

    Args:
        learning_rate: of the step.
        rho: decay of the averages.
        momentum: decay of a velocity; none for 0.
        epsilon: stands under the root.
        centered: divide by the standard deviation instead, the mean gradient being subtracted.
    """
    squares = sp.Symbol("mean_square_gradient", nonnegative=True)
    rho, decay = _number(rho), _number(momentum)
    slots = {squares: _average(squares, gradient**2, rho)}
    spread = slots[squares]
    if centered:
        mean = sp.Symbol("mean_gradient", real=True)
        slots[mean] = _average(mean, gradient, rho)
        spread = spread - slots[mean] ** 2
    moved = _rate(learning_rate) * gradient / sp.sqrt(spread + _number(epsilon))
    if decay != 0:
        velocity = sp.Symbol("velocity", real=True)
        moved = slots[velocity] = decay * velocity + moved
    return Optimizer("rmsprop", parameter - moved, slots)


def adam(
    learning_rate: Any = 0.001,
    beta_1: Any = 0.9,
    beta_2: Any = 0.999,
    epsilon: Any = 1e-7,
    amsgrad: bool = False,
) -> Optimizer:
    """Adaptive moments with the correction of their bias. Kingma, Ba 2015, in the form at the end of its section 2.

    Args:
        learning_rate: alpha of the paper.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: the paper's epsilon hat, which is added to the root of the uncorrected moment, as Keras does.
        amsgrad: divide by the largest second moment so far. Reddi, Kale, Kumar 2018.
    """
    first, second = sp.Symbol("first_moment", real=True), sp.Symbol("second_moment", nonnegative=True)
    beta_1, beta_2 = _number(beta_1), _number(beta_2)
    slots = {first: _average(first, gradient, beta_1), second: _average(second, gradient**2, beta_2)}
    scale = slots[second]
    if amsgrad:
        largest = sp.Symbol("largest_second_moment", nonnegative=True)
        scale = slots[largest] = sp.Max(largest, scale, evaluate=False)
    rate = _rate(learning_rate) * sp.sqrt(1 - beta_2 ** (t + 1)) / (1 - beta_1 ** (t + 1))
    return Optimizer("adam", parameter - rate * slots[first] / (sp.sqrt(scale) + _number(epsilon)), slots)


def adamw(learning_rate: Any = 0.001, weight_decay: Any = 0.004, **options: Any) -> Optimizer:
    """`adam` with decay of the weights apart from the gradient, parameter*(1 - learning_rate*weight_decay) first.

    Loshchilov, Hutter 2019. `options` are those of `adam`.
    """
    inner = adam(learning_rate, **options)
    decayed = inner.update - _rate(learning_rate) * _number(weight_decay) * parameter
    return Optimizer("adamw", decayed, inner.slots, inner.initial)


# Learning rates -----------------------------------------------------------------------------------------------


def exponential_decay(rate: Any, steps: Any, factor: Any, *, staircase: bool = False) -> Any:
    """rate*factor**(t/steps); `staircase` keeps it constant for `steps` steps at a time."""
    return _number(rate) * _number(factor) ** _progress(steps, staircase)


def inverse_time_decay(rate: Any, steps: Any, factor: Any, *, staircase: bool = False) -> Any:
    """rate/(1 + factor*t/steps)."""
    return _number(rate) / (1 + _number(factor) * _progress(steps, staircase))


def step_decay(rates: Sequence[Any], boundaries: Sequence[Any]) -> Any:
    """The rates one after the other; each boundary is the last `t` of the rate before it.

    Raises:
        ArgumentError: not one rate more than boundaries, or boundaries that do not grow.
    """
    if len(rates) != len(boundaries) + 1:
        raise ArgumentError(f"{len(boundaries)} boundaries part {len(boundaries) + 1} rates, got {len(rates)}")
    if any(sp.sympify(b - a).is_positive is False for a, b in pairwise(boundaries)):
        raise ArgumentError(f"boundaries must grow, got {list(boundaries)}")
    pieces = [(_number(r), t <= b) for r, b in zip(rates[:-1], boundaries, strict=True)]
    return sp.Piecewise(*pieces, (_number(rates[-1]), True))


def cosine_decay(rate: Any, steps: Any, least: Any = 0) -> Any:
    """From `rate` along half a cosine to `least*rate`, reached after `steps` steps. Loshchilov, Hutter 2017."""
    done = sp.Min(t, _number(steps), evaluate=False) / _number(steps)
    least = _number(least)
    return _number(rate) * ((1 - least) * (1 + sp.cos(sp.pi * done)) / 2 + least)


def _progress(steps: Any, staircase: bool) -> Any:
    progress = t / _number(steps)
    return sp.floor(progress) if staircase else progress


def _velocity(learning_rate: Any, decay: Any) -> tuple[Any, Any]:
    velocity = sp.Symbol("velocity", real=True)
    return velocity, _number(decay) * velocity - _rate(learning_rate) * gradient


def _average(old: Any, new: Any, rho: Any) -> Any:
    return rho * old + (1 - rho) * new


def _rate(learning_rate: Any) -> Any:
    rate = _number(learning_rate)
    if rate.has(parameter, gradient):
        raise ArgumentError(f"a learning rate is an expression in the step t, got {rate}")
    return rate


def _number(x: Any) -> Any:
    """A hyperparameter as an expression; floats keep every bit."""
    try:
        return sp.sympify(x, strict=True)
    except (sp.SympifyError, TypeError):
        raise ArgumentError(f"a hyperparameter is a number or an expression, got {x!r}") from None
