"""What every solver is given: the problem, what is known about it, and numbers at any point, each computed once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sym2tf.fit.evaluation.objective import Objective, engine_of
from sym2tf.fit.evaluation.residuals import Residuals
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Monitor
from sym2tf.fit.solvers.linear import power_of_two
from sym2tf.fit.solvers.solution import stopped_by_bounds
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]

NEWTON_LIMIT = 50  # parameters up to which the Hessian is formed
SMALL, LARGE = 1e-100, 1e100  # residuals beyond which their squares may leave the range of floats
REMEMBERED = 16  # costs
KRYLOV_LIMIT = 2_000  # parameters up to which its products with vectors are worth their cost
HESSIAN_ELEMENTS = 50_000_000  # observations x parameters^2 up to which the Hessian is formed in one go


@dataclass(frozen=True)
class Run:
    """Where a search ended.

    Attributes:
        theta: flat, within the bounds.
        iterations: what it took.
        said: what the optimiser says about it.
        success: whether it says that it has converged; whether it has is judged apart.
    """

    theta: Array
    iterations: int
    said: str
    success: bool


class Task:
    """A problem to be solved, within limits; used under `np.errstate`, since a search may go anywhere.

    Attributes:
        problem, structure, residuals, options, monitor: as stated, classified, and asked for.
        low, high: (p,), the bounds of the free parameters that hold in this attempt.
        evaluations: of residuals with their Jacobian, or of the cost with its gradient, so far.
    """

    def __init__(
        self,
        problem: Problem,
        structure: Structure,
        residuals: Residuals | None,
        options: Options,
        monitor: Monitor,
        *,
        implied: bool = True,
    ) -> None:
        self.problem, self.structure, self.residuals = problem, structure, residuals
        self.options, self.monitor = options, monitor
        self.low, self.high = problem.limits
        if not implied:
            loose = np.concatenate([np.full(u.initial.size, u.implied) for u in problem.free])
            self.low, self.high = np.where(loose, -np.inf, self.low), np.where(loose, np.inf, self.high)
        self._unconstrained = False
        self._evaluations = 0
        self._values: tuple[bytes, Array] | None = None
        self._jacobian: tuple[bytes, Array] | None = None
        self._costs: dict[bytes, float] = {}

    @cached_property
    def bounded(self) -> bool:
        """Whether a bound holds in this attempt."""
        if self.low is self.problem.limits[0]:
            return self.problem.bounded
        return bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())

    @cached_property
    def room(self) -> tuple[Array, Array]:
        """The bounds with room between them, which SciPy wants; what it finds is put back within `low` and `high`."""
        return self.low, np.where(self.low == self.high, np.nextafter(self.high, np.inf), self.high)

    @property
    def constrained(self) -> bool:
        """Whether relations between parameters are to hold."""
        return bool(self.problem.constraints) and not self._unconstrained

    @contextmanager
    def without_constraints(self) -> Iterator[None]:
        """Within, the relations between parameters are left out of account."""
        self._unconstrained = True
        try:
            yield
        finally:
            self._unconstrained = False

    @property
    def count(self) -> int:
        """How many numbers are to be estimated."""
        return len(self.low)

    @cached_property
    def size(self) -> int:
        """The most elements that an array of the data has."""
        return max((a.size for a in self.problem.data.values()), default=1)

    @cached_property
    def objective(self) -> Objective:
        """The cost with its derivatives, made when it is first needed: sums of squares often need none."""
        return Objective(self.problem, self.monitor)

    @property
    def evaluations(self) -> int:
        return self._evaluations + (self.objective.evaluations if "objective" in self.__dict__ else 0)

    @property
    def engine(self) -> str:
        """What evaluates: the residuals are NumPy's."""
        return engine_of(self.problem, self.options)

    @cached_property
    def squares(self) -> bool:
        """Whether the cost is a sum of squares whose Jacobian is not too large."""
        if self.residuals is None or self.engine != "NumPy":
            return False
        return len(self.residuals.weights) * len(self.low) <= HESSIAN_ELEMENTS

    def residual(self, theta: Array) -> Array:
        """The residuals (rows,) times the roots of the weights, over `unit`."""
        root = self.root
        r = self.values(theta) if self.unit == 1 else self.values(theta) / self.unit
        return r if root is None else r * root

    def design(self, theta: Array) -> Array:
        """Their Jacobian (rows, p)."""
        root = self.root
        J = self.jacobian(theta) if self.unit == 1 else self.jacobian(theta) / self.unit
        return J if root is None else J * root[:, None]

    @cached_property
    def unit(self) -> float:
        """A power of two over which the squares of residuals stay within the range of floats; mostly 1."""
        largest = np.abs(self.values(self.problem.packed("initial"))).max(initial=0)
        return float(power_of_two(largest)) if 0 < largest < SMALL or LARGE < largest < np.inf else 1.0

    @cached_property
    def root(self) -> Array | None:
        """The square roots of the weights, None where all are the same."""
        assert self.residuals is not None
        return self.residuals.relative_weights

    @property
    def factor(self) -> float:
        """What the sum of the squares of `residual` is to be multiplied with to be the cost."""
        assert self.residuals is not None
        return 1.0 if self.residuals.common is None else self.residuals.common

    def values(self, theta: Array) -> Array:
        """The residuals without weights; remembers the last, since optimisers ask for them in turn with `jacobian`."""
        assert self.residuals is not None
        key = theta.tobytes()
        if self._values is None or self._values[0] != key:
            self._values = key, self.residuals.values(theta.copy())
            self._evaluations += 1
        return self._values[1]

    def jacobian(self, theta: Array) -> Array:
        """Their Jacobian without weights; remembers the last."""
        assert self.residuals is not None
        key = theta.tobytes()
        if self._jacobian is None or self._jacobian[0] != key:
            self._jacobian = key, self.residuals.jacobian(theta.copy())
        return self._jacobian[1]

    def cost(self, theta: Array) -> float:
        """The cost (over `unit` squared), by its residuals where it is their sum of squares; remembers the last few."""
        key = theta.tobytes()
        if key not in self._costs:
            if len(self._costs) > REMEMBERED:
                del self._costs[next(iter(self._costs))]
            self._costs[key] = self._cost(theta)
        return self._costs[key]

    def _cost(self, theta: Array) -> float:
        if self.squares:
            r = self.residual(theta)
            return float(r.dot(r)) * self.factor
        return self.objective.value_and_gradient(theta)[0]

    def gradient(self, theta: Array) -> Array:
        """The gradient of the cost."""
        if self.squares:
            gradient: Array = 2 * self.factor * self.design(theta).T.dot(self.residual(theta))
            return gradient if self.unit == 1 else gradient * self.unit * self.unit
        return self.objective.value_and_gradient(theta)[1]

    @cached_property
    def has_hessian(self) -> bool:
        """Whether the Hessian is formed: there are few parameters, and second derivatives, finite at the start."""
        if self.options.strategy is not None or self.options.dtype != "float64":
            return False  # NumPy would evaluate it, alone and in other digits than the cost
        if len(self.low) > NEWTON_LIMIT or self.size * len(self.low) ** 2 > HESSIAN_ELEMENTS:
            return False
        if not self.objective.prepare_hessian():
            return False
        with np.errstate(all="ignore"):
            return bool(np.isfinite(self.objective.hessian(self.problem.packed("initial"))).all())

    @cached_property
    def has_product(self) -> bool:
        """Whether the cost has second derivatives."""
        return self.objective.prepare_product()

    def active(self, theta: Array, gradient: Array) -> Array:
        """Which parameters a bound stops."""
        return stopped_by_bounds(theta, gradient, self.low, self.high)

    def hessian_at(self, theta: Array) -> Array | None:
        """The Hessian of the cost there; column by column where the data are large, None for many parameters."""
        if self.has_hessian:
            return self.objective.hessian(theta)
        if len(self.low) > NEWTON_LIMIT or not self.options.likelihood:
            return None
        if not self.has_product:
            return None
        columns = [self.objective.hessian_product(theta, e) for e in np.eye(len(self.low))]
        H = np.stack(columns, axis=1)
        return 0.5 * (H + H.T) if np.isfinite(H).all() else None
