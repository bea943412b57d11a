"""What many independent fits return: arrays over the batch axes of the data, and which of the fits failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from sym2tf.backends.levenberg_marquardt import CONVERGED, RUNAWAY, RUNNING, STALLED, UNDEFINED
from sym2tf.backends.numpy import program
from sym2tf.errors import ArgumentError, DataError, FitError, ShapeError
from sym2tf.fit.inference.estimates import ByParameter
from sym2tf.fit.inference.intervals import require_level
from sym2tf.fit.options import Options
from sym2tf.fit.report import persistence
from sym2tf.fit.solvers.sidebyside import Ends
from sym2tf.fit.statement.classify import Structure
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted, kind_of
from sym2tf.lazy import lazy

pd = lazy("pandas")
special = lazy("scipy.special")

Array = np.ndarray[Any, Any]

MESSAGES = {
    CONVERGED: "converged",
    RUNNING: "not converged: the limit of iterations is reached",
    STALLED: "not converged: no step lowers the cost, but the gradient is not zero",
    RUNAWAY: "not converged: the cost hardly falls any more but the parameters still move, as where its minimum is at "
    "infinity: try another start, or bounds",
    UNDEFINED: "not solved: the cost or a derivative is not finite at the start",
}
SINGULAR = "not solved: the data do not determine the parameters"
SHOWN = 8  # failures that a message names


class Jacobians(Protocol):
    """What gives the uncertainty of the fits when it is asked for."""

    freedom: Array
    no_variance: str

    @property
    def shared(self) -> Array:
        """(fits or 1), the root of the weight that all rows of a fit share, 1 where they differ."""
        ...

    def inverses(self, ends: Ends) -> Array:
        """(fits, p, p), (J^T W J)^-1."""
        ...


@dataclass(frozen=True)
class SingleFit:
    """One fit out of a batch.

    Attributes:
        params, stderr: by parameter; `stderr` is NaN where there is none.
        covariance: (p, p), in the order of `names`.
        cost: at the estimates.
        success, message: whether and how it converged.
        iterations: what it took.
    """

    params: ByParameter
    stderr: ByParameter
    covariance: Array
    cost: float
    success: bool
    message: str
    iterations: int


@dataclass(frozen=True, repr=False, eq=False)
class BatchFitResult:
    """Independent fits of one formula, one for each place along the batch axes of the data.

    Every array has the batch axes in front. `result[k]` is one fit, `result[i, j]` over two batch axes.

    Attributes:
        statement: the problem.
        batch: the lengths of the batch axes.
        params: the estimates by symbol or name, (batch..., shape...); NaN where a fit had no solution.
        stderr, covariance: computed when first asked for; NaN where a fit failed or a parameter is at a bound, and
            everywhere where `stderr_reason` says why.
        cost, iterations, success: (batch...).
        failed: the places of the fits that have not converged, (failures, axes).
        solver: how they were solved.
        compile_seconds, run_seconds: for setting up, and for solving.
        structure, options, ends, jacobians: the class of the problem, the options of `fit`, where the fits ended as
            flat arrays, and what gives their uncertainty.
    """

    statement: Problem = field(repr=False)
    structure: Structure = field(repr=False)
    options: Options = field(repr=False)
    ends: Ends = field(repr=False)
    solver: str
    compile_seconds: float
    run_seconds: float
    jacobians: Jacobians | None = field(default=None, repr=False)  # None after `load`, which brings what they gave

    @property
    def batch(self) -> tuple[int, ...]:
        return self.statement.batch

    @property
    def names(self) -> tuple[str, ...]:
        """The free parameters, element by element: the order of `covariance`."""
        return self.statement.names

    @cached_property
    def params(self) -> ByParameter:
        return self._by_parameter(self.ends.theta, lambda u: u.initial if u.starts is None else u.starts)

    @cached_property
    def stderr(self) -> ByParameter:
        errors = np.sqrt(np.diagonal(self.covariance.reshape(-1, *self.covariance.shape[-2:]), axis1=1, axis2=2))
        return self._by_parameter(errors, lambda u: np.zeros(u.initial.shape))

    @cached_property
    def covariance(self) -> Array:
        """(batch..., p, p): s^2 (J^T W J)^-1, without s^2 where `absolute_sigma` says so."""
        inverse = self._jacobians.inverses(self.ends)
        freedom = self._jacobians.freedom
        with np.errstate(all="ignore"):
            variance = np.where(freedom > 0, self.ends.cost / freedom, np.nan)
        if self.options.absolute_sigma:
            variance = np.ones_like(variance)
        low, high = self.statement.packed("lower"), self.statement.packed("upper")
        if self._jacobians.no_variance:
            variance = np.full_like(variance, np.nan)
        none = (self.ends.state != CONVERGED) | ((self.ends.theta <= low) | (self.ends.theta >= high)).any(1)
        spread = np.where(none, np.nan, variance)[:, None, None] * inverse
        return spread.reshape(*self.batch, *spread.shape[1:])

    @cached_property
    def stderr_reason(self) -> str:
        """Why no fit has standard errors; empty if those that have converged have."""
        return self._jacobians.no_variance

    @property
    def cost(self) -> Array:
        return self.ends.cost.reshape(self.batch)

    @property
    def iterations(self) -> Array:
        return self.ends.iterations.reshape(self.batch)

    @property
    def success(self) -> Array:
        return np.asarray(self.ends.state == CONVERGED).reshape(self.batch)

    @property
    def failed(self) -> Array:
        return np.argwhere(~self.success)

    @cached_property
    def correlation(self) -> Array:
        """(batch..., p, p)."""
        errors = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        with np.errstate(all="ignore"):
            return np.asarray(self.covariance / (errors[..., :, None] * errors[..., None, :]))

    @cached_property
    def t_values(self) -> ByParameter:
        """Estimates over standard errors."""
        with np.errstate(all="ignore"):
            return self._by_parameter(self.ends.theta / self._errors, lambda u: np.full(u.initial.shape, np.nan))

    def conf_int(self, level: float = 0.95) -> tuple[ByParameter, ByParameter]:
        """Wald intervals, lower and upper ends by parameter: Student's t, normal where `absolute_sigma` says so.

        Raises:
            ArgumentError: a level that is not between 0 and 1.
        """
        tail = (1 + require_level(level)) / 2
        freedom = np.maximum(self.freedom, 1)[:, None]
        factor = special.ndtri(tail) if self.options.absolute_sigma else special.stdtrit(freedom, tail)
        theta, half = self.ends.theta, factor * self._errors
        lower, upper = (
            self._by_parameter(end, lambda u: u.initial if u.starts is None else u.starts)
            for end in (theta - half, theta + half)
        )
        return lower, upper

    @cached_property
    def freedom(self) -> Array:
        """(fits,), observations less parameters."""
        return np.broadcast_to(self._jacobians.freedom, self.ends.state.shape).copy()

    @property
    def _jacobians(self) -> Jacobians:
        assert self.jacobians is not None
        return self.jacobians

    @property
    def _errors(self) -> Array:
        """(fits, p)."""
        flat = self.covariance.reshape(-1, *self.covariance.shape[-2:])
        return np.asarray(np.sqrt(np.diagonal(flat, axis1=1, axis2=2)))

    @cached_property
    def residual_std(self) -> Array:
        """(batch...), in units of the residuals where they share a weight; NaN without degrees of freedom."""
        with np.errstate(all="ignore"):
            s = np.sqrt(np.where(self._jacobians.freedom > 0, self.ends.cost / self._jacobians.freedom, np.nan))
        return np.asarray(s / self._jacobians.shared).reshape(self.batch)

    def __len__(self) -> int:
        return self.batch[0]

    def __iter__(self) -> Iterator[SingleFit]:
        """The fits one by one; of several batch axes the last one runs fastest."""
        return (self[tuple(map(int, place))] for place in np.ndindex(self.batch))

    def __getitem__(self, place: int | tuple[int, ...]) -> SingleFit:
        index = place if isinstance(place, tuple) else (place,)
        if len(index) != len(self.batch):
            raise IndexError(f"a fit has its place along {counted(len(self.batch), 'axis', 'axes')}, got {place!r}")
        k = int(np.ravel_multi_index([range(n)[i] for i, n in zip(index, self.batch, strict=True)], self.batch))
        at = np.unravel_index(k, self.batch)

        def one(values: ByParameter) -> ByParameter:
            by_name = {u.symbol: (u.name, values[u.name][at]) for u in self.statement.unknowns}
            return ByParameter(by_name)

        return SingleFit(
            one(self.params),
            one(self.stderr),
            self.covariance[at],
            float(self.ends.cost[k]),
            bool(self.ends.state[k] == CONVERGED),
            self.message(k),
            int(self.ends.iterations[k]),
        )

    def message(self, k: int) -> str:
        """How fit `k`, counted along all batch axes, ended."""
        linear = self.structure.kind == "linear least squares"
        state = int(self.ends.state[k])
        return SINGULAR if linear and state == STALLED else MESSAGES[state]

    def failures(self) -> str:
        """Which fits failed, and how, in words; empty if none did."""
        bad = np.flatnonzero(self.ends.state != CONVERGED)
        if not len(bad):
            return ""
        places = [tuple(map(int, np.unravel_index(k, self.batch))) for k in bad[:SHOWN]]
        named = ", ".join(str(p[0]) if len(p) == 1 else str(p) for p in places) + (", ..." if len(bad) > SHOWN else "")
        reasons = "; ".join(dict.fromkeys(self.message(int(k)) for k in bad))
        return f"{len(bad)} of {counted(len(self.ends.state), 'fit')} failed (at {named}): {reasons}"

    def __repr__(self) -> str:
        state = self.failures() or "all converged"
        return f"<BatchFitResult of {counted(len(self.ends.state), 'fit')}: {', '.join(self.names)}; {state}>"

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """The fits as text: how many converged, and how the estimates are spread over them."""
        good = self.ends.theta[self.ends.state == CONVERGED]
        lines = [
            f"{counted(len(self.ends.state), 'independent fit')} over {self.batch}, {self.structure.kind}",
            self.solver,
            self.failures() or "all converged",
            "",
            f"{'parameter':<12}{'min':>14}{'median':>14}{'max':>14}",
        ]
        for k, name in enumerate(self.names):
            numbers = (good[:, k].min(), np.median(good[:, k]), good[:, k].max()) if len(good) else (np.nan,) * 3
            lines.append(f"{name:<12}" + "".join(f"{x:>14.6g}" for x in numbers))
        return "\n".join(lines)

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row for each fit: estimates, standard errors (`a_stderr`), cost, success, iterations.

        Over several batch axes the rows have a `MultiIndex`.
        """
        flat = self.covariance.reshape(-1, len(self.names), len(self.names))
        errors = np.sqrt(np.diagonal(flat, axis1=1, axis2=2))
        columns: dict[str, Array] = {}
        for k, name in enumerate(self.names):
            columns[name], columns[f"{name}_stderr"] = self.ends.theta[:, k], errors[:, k]
        columns |= {"cost": self.ends.cost, "success": self.success.ravel(), "iterations": self.ends.iterations}
        places = list(np.ndindex(self.batch))
        several = len(self.batch) > 1
        return pd.DataFrame(columns, index=pd.MultiIndex.from_tuples(places) if several else range(len(places)))

    def predict(self, data: Any = None) -> Array:
        """The fitted models at the data of the fits, or at others: (batch..., observations).

        Args:
            data: by symbol or name, what the model needs; arrays without batch axes serve all fits.

        Raises:
            FitError: the model cannot be told from the cost.
            ArgumentError, DataError: missing or unfit data.
        """
        model = self.structure.model
        if model is None:
            raise FitError(f"predict needs the model: {self.structure.no_model}")
        if data is not None and not hasattr(data, "keys"):
            raise ArgumentError(f"data is {kind_of(data)}; give a mapping from symbols or names to arrays")
        graph, problem = model.prediction, self.statement
        names = {symbol: name for name, symbol in problem.symbols.items()}
        given = {
            names.get(k, str(k)): np.asarray(data[k], np.float64) for k in (data.keys() if data is not None else ())
        }
        given = given if data is not None else dict(problem.data)
        known = {**{n: a for n, a in problem.data.items() if not a.ndim}, **given}
        known |= {u.name: np.asarray(self.params[u.name]) for u in problem.unknowns}
        needed = [graph[v].attributes["name"] for v in graph.inputs]
        missing = [n for n in needed if n not in known]
        if missing:
            raise ArgumentError(f"predict lacks data for {', '.join(missing)}, which the model needs")
        compute = made(graph, "program", lambda: program(graph))
        sizes = problem.sizes if data is None else {}
        try:
            return compute({n: known[n] for n in needed}, {k: v for k, v in sizes.items() if k in graph.size_names()})[
                "model"
            ]
        except ShapeError as error:
            raise DataError(str(error)) from error

    def save(self, path: Any, *, data: bool = True) -> None:
        """Write everything to a file, from which `BatchFitResult.load` or `sym2tf.load_fit` makes an equal result.

        Args:
            path: where to.
            data: whether the data go with it; without them `predict` takes other data only.

        Raises:
            PersistenceError: something in it cannot be saved, or the file cannot be written.
        """
        persistence.save(self, path, data=data, derived=("covariance", "residual_std", "freedom", "stderr_reason"))

    @classmethod
    def load(cls, path: Any) -> BatchFitResult:
        """The fits in a file. Nothing in it is executed: a file from anywhere can be no more than refused.

        Raises:
            PersistenceError: no such file, or one that is no saved batch of fits.
        """
        found: BatchFitResult = persistence.load(path, {cls.__name__: cls})
        return found

    def _by_parameter(self, flat: Array, fixed: Callable[[Any], Array]) -> ByParameter:
        values = self.statement.unpacked(flat)

        def of(u: Any) -> Array:
            value = values[u.name] if u.name in values else fixed(u)
            return np.broadcast_to(
                value.reshape(*self.batch, *u.initial.shape) if u.name in values else value,
                (*self.batch, *u.initial.shape),
            )

        return ByParameter({u.symbol: (u.name, of(u)) for u in self.statement.unknowns})
