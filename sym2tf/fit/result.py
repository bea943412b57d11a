"""What a fit returns: estimates with their uncertainty, how they were found, and what to do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, DataError, FitError, ShapeError
from sym2tf.fit import plotting, tables
from sym2tf.fit.classify import Class, Model, Structure
from sym2tf.fit.inference import Inference
from sym2tf.fit.monitor import Step
from sym2tf.fit.options import Options
from sym2tf.fit.solution import Solution
from sym2tf.fit.statement import Problem
from sym2tf.fit.wording import counted, kind_of
from sym2tf.ir.graph import Graph

Array = np.ndarray[Any, Any]


class ByParameter(Mapping[Any, Any]):
    """Numbers or arrays by parameter: by symbol, name or element (`"w[0]"`, `w[0]`); iterates symbols."""

    def __init__(self, values: Mapping[Any, tuple[str, Any]]) -> None:
        self._values = {symbol: value for symbol, (_, value) in values.items()}
        self._by_name = dict(values.values())

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key in self._by_name:
            return self._by_name[key]
        if not isinstance(key, str) and key in self._values:
            return self._values[key]
        base, _, rest = str(key).replace(" ", "").partition("[")
        if base in self._by_name and rest.endswith("]"):
            try:
                return self._by_name[base][tuple(int(k) for k in rest[:-1].split(","))]
            except (ValueError, IndexError, TypeError):
                pass
        raise KeyError(f"{key}: the parameters are {', '.join(self._by_name)}")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {value}" for name, value in self._by_name.items()) + "}"


@dataclass(frozen=True, repr=False, eq=False)
class FitResult:
    """A fit.

    Attributes:
        params: the estimates, fixed parameters included; by symbol or name, arrays for indexed bases.
        stderr: standard errors in the same way (0 for fixed ones); None where there are none, and
            `stderr_reason` says why.
        names: the free parameters, element by element: the order of `covariance`.
        covariance: (p, p).
        estimates, standard_errors: (p,), flat.
        residuals: observed - model in the shape of the data.
        residual_std: the residual standard deviation.
        r_squared: where it means something, else None; `r_squared_reason` says why.
        log_likelihood: minus the cost, where it was declared a negative log-likelihood.
        cost, gradient_norm: at the estimates.
        success, message: whether and how the solver converged.
        iterations, evaluations: what it took.
        solver: its name with the reason for it.
        problem: the class of the problem.
        condition: ratio of extreme singular values (least squares) or eigenvalues (others), scaled to unit
            columns.
        at_bounds: the parameters that stand at a bound.
        compile_seconds, run_seconds: for setting up, and for solving.
    """

    statement: Problem = field(repr=False)
    structure: Structure = field(repr=False)
    solution: Solution = field(repr=False)
    inference: Inference = field(repr=False)
    options: Options = field(repr=False)
    cost: float
    history: tuple[Step, ...]
    compile_seconds: float
    run_seconds: float

    @cached_property
    def params(self) -> ByParameter:
        values = self.statement.unpacked(self.solution.theta)
        return _by_parameter(self.statement, lambda u: values.get(u.name, u.initial))

    @cached_property
    def stderr(self) -> ByParameter | None:
        if self.inference.stderr is None:
            return None
        flat = self.statement.unpacked(self.inference.stderr)
        return _by_parameter(self.statement, lambda u: flat.get(u.name, np.zeros(u.initial.shape)))

    @property
    def stderr_reason(self) -> str:
        return self.inference.no_stderr

    @property
    def names(self) -> tuple[str, ...]:
        return self.statement.names

    @property
    def estimates(self) -> Array:
        return self.solution.theta

    @property
    def standard_errors(self) -> Array | None:
        return self.inference.stderr

    @property
    def covariance(self) -> Array | None:
        return self.inference.covariance

    @property
    def residuals(self) -> Array | None:
        return self.inference.residuals

    @property
    def observed(self) -> Array | None:
        return self.inference.observed

    @property
    def residual_std(self) -> float | None:
        return self.inference.sigma

    @property
    def observations(self) -> int | None:
        return self.inference.observations

    @property
    def degrees_of_freedom(self) -> int | None:
        return self.inference.degrees_of_freedom

    @property
    def r_squared(self) -> float | None:
        return self.inference.r_squared

    @property
    def r_squared_reason(self) -> str:
        return self.inference.no_r_squared

    @property
    def log_likelihood(self) -> float | None:
        return self.inference.log_likelihood

    @property
    def condition(self) -> float | None:
        return self.inference.condition

    @property
    def success(self) -> bool:
        return self.solution.success

    @property
    def message(self) -> str:
        return self.solution.message

    @property
    def iterations(self) -> int:
        return self.solution.iterations

    @property
    def evaluations(self) -> int:
        return self.solution.evaluations

    @property
    def solver(self) -> str:
        return self.solution.solver

    @property
    def problem(self) -> Class:
        return self.structure.kind

    @property
    def at_bounds(self) -> tuple[str, ...]:
        return self.solution.at_bounds

    @property
    def gradient_norm(self) -> float:
        """Of the cost at the estimates, over the parameters that no bound stops."""
        stopped = np.isin(self.names, self.at_bounds)
        return float(np.linalg.norm(self.solution.gradient[~stopped]))

    @property
    def model(self) -> Model | None:
        return self.structure.model

    @property
    def no_model(self) -> str:
        return self.structure.no_model

    def __repr__(self) -> str:
        values = ", ".join(
            f"{n}={tables.number(x)}" + (f" ± {tables.number(s, 3)}" if s is not None else "")
            for n, x, s in self.rows()
        )
        state = "" if self.success else "NOT CONVERGED, "
        return f"<FitResult {values}; {state}{self.problem}>"

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return tables.html_summary(self)

    def rows(self) -> list[tuple[str, float, float | None]]:
        """`(name, estimate, standard error)` of every free element."""
        errors: Any = [None] * len(self.names) if self.standard_errors is None else self.standard_errors
        return [
            (n, float(x), None if s is None else float(s))
            for n, x, s in zip(self.names, self.estimates, errors, strict=True)
        ]

    def summary(self) -> str:
        """The fit as text: parameters, quality of the fit, the solver and how it converged."""
        return tables.text_summary(self)

    @property
    def expr(self) -> Any:
        """The model of an equation, or the cost, with the fitted numbers in place of the parameters."""
        cost = self.statement.cost
        target = cost.rhs if isinstance(cost, sp.Eq) else sp.sympify(cost)
        numbers = {}
        for symbol, value in self.params.items():
            if np.ndim(value) == 0:
                numbers[symbol] = sp.Float(float(value), 17)
            else:
                base = symbol if isinstance(symbol, sp.IndexedBase) else sp.IndexedBase(symbol)
                numbers |= {base[k]: sp.Float(float(value[k]), 17) for k in np.ndindex(value.shape)}
        return target.xreplace(numbers)

    def predict(self, data: Any = None) -> Array:
        """The fitted model at other data, or at those of the fit.

        Args:
            data: by symbol or name, arrays for what the model needs; scalars may be left out and are taken
                from the fit.

        Raises:
            FitError: the model cannot be told from the cost; the message says why.
            ArgumentError, DataError: missing, unknown or unfit data.
        """
        if self.model is None:
            raise FitError(f"predict needs the model: {self.no_model}")
        problem, graph = self.statement, self.model.prediction
        fitted = {name: np.asarray(self.params[name]) for name in (u.name for u in problem.unknowns)}
        if data is None:
            sizes: Mapping[str, int] = problem.bound
            given = dict(problem.data)
        else:
            sizes, given = {}, _given(graph, problem, data)
        needed = [graph[v].attributes["name"] for v in graph.inputs]
        inputs = {n: fitted[n] if n in fitted else given.get(n) for n in needed}
        missing = [n for n, value in inputs.items() if value is None]
        if missing:
            raise ArgumentError(f"predict lacks data for {', '.join(missing)}, which the model needs")
        needs_sizes = graph.size_names()
        try:
            found = evaluate(graph, inputs, {k: v for k, v in sizes.items() if k in needs_sizes})["model"]
        except ShapeError as error:
            raise DataError(str(error)) from error
        if data is None and self.observed is not None:
            return np.broadcast_to(found, self.observed.shape).copy()
        return found[0] if data is not None and _is_one_point(graph, data) else found

    def plot(self, path: Any = None) -> Any:
        """A matplotlib Figure: data and curve over a single regressor, else fitted against observed values.

        Args:
            path: where to save it as well; the suffix says the format.

        Raises:
            FitError: the model cannot be told from the cost, or the file cannot be written.
            ArgumentError: a suffix that names no format of pictures.
        """
        if self.model is None or self.observed is None:
            raise FitError(f"plot needs the model: {self.no_model}")
        return plotting.figure(self, path)


def _given(graph: Graph, problem: Problem, data: Any) -> dict[str, Array]:
    """Data for a prediction by input name; scalars of the fit fill in."""
    if not hasattr(data, "keys"):
        raise ArgumentError(f"data is {kind_of(data)}; give a mapping from symbols or names to arrays")
    types = {graph[v].attributes["name"]: graph[v].type for v in graph.inputs}
    parameters = {u.name for u in problem.unknowns}
    by_symbol = {symbol: name for name, symbol in problem.symbols.items()}
    given = {n: a for n, a in problem.data.items() if n in types and a.ndim == 0}
    for key in data.keys():  # noqa: SIM118  # a DataFrame iterates in its own way
        name = key if isinstance(key, str) else by_symbol.get(key, str(key))
        if name in parameters:
            raise ArgumentError(f"{key} is a parameter: its value comes from the fit")
        if name not in types:
            if name in problem.data:
                continue  # what was observed, or weights: fine to hand over, not needed
            needed = ", ".join(n for n in types if n not in parameters) or "no data"
            raise ArgumentError(f"data has {key}, which the model does not contain; it needs {needed}")
        array = np.asarray(data[key])
        if array.dtype.kind not in "biuf":
            raise DataError(f"{key} does not hold real numbers")
        array = array.astype(np.float64)
        if array.ndim == 0 and _is_observation(problem.symbols[name], types[name].rank):
            array = array.reshape(1)
        if array.ndim < types[name].rank:
            raise DataError(
                f"{key} has {counted(array.ndim, 'axis', 'axes')} (shape {array.shape}), "
                f"the model uses {counted(types[name].rank, 'subscript')}"
            )
        given[name] = array
    length = max((a.shape[0] for n, a in given.items() if a.ndim and _is_observation(problem.symbols[n], 1)), default=1)
    return {
        n: np.repeat(a, length, axis=0) if a.shape == (1,) and _is_observation(problem.symbols[n], 1) else a
        for n, a in given.items()
    }


def _is_observation(symbol: Any, rank: int) -> bool:
    """Whether an input is a scalar symbol that got an axis of observations."""
    return rank > 0 and not isinstance(symbol, sp.IndexedBase)


def _is_one_point(graph: Graph, data: Any) -> bool:
    """Whether a prediction was asked for at numbers, for symbols that had arrays in the fit."""
    ranks = {graph[v].attributes["name"]: graph[v] for v in graph.inputs}
    extended = [k for k, node in ranks.items() if _is_observation(node.attributes["symbol"], node.type.rank)]
    shapes = {str(k): np.ndim(data[k]) for k in data.keys()}  # noqa: SIM118
    return bool(extended) and all(shapes.get(k, 1) == 0 for k in extended)


def _by_parameter(problem: Problem, value: Callable[[Any], Array]) -> ByParameter:
    found = [(u, value(u)) for u in problem.unknowns]
    return ByParameter({u.symbol: (u.name, a.copy() if a.shape else float(a)) for u, a in found})
