"""The fitted model at data: values, and how certain they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import sympy as sp

from sym2tf.errors import ArgumentError, DataError, FitError, ShapeError, SizeError
from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.inference.estimates import propagated
from sym2tf.fit.inference.intervals import quantile, require_errors
from sym2tf.fit.inference.least_squares import Inference
from sym2tf.fit.statement.arrays import integers
from sym2tf.fit.statement.classify import Model
from sym2tf.fit.statement.data import Stream, Table, read
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import counted, kind_of
from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind

Array = np.ndarray[Any, Any]
Interval = Literal["confidence", "prediction"]


@dataclass(frozen=True)
class Prediction:
    """A fitted model at data, with its band.

    Attributes:
        value: of the model.
        stderr: of the model's value, for `"confidence"`, or of a new observation about it, for `"prediction"`.
        lower, upper: the ends of the interval at each point by itself.
        level: of confidence.
        interval: which of the two.
    """

    value: Array
    stderr: Array = field(repr=False)
    lower: Array
    upper: Array
    level: float
    interval: Interval


def predict(problem: Problem, model: Model, theta: Array, data: Any = None) -> Array:
    """The model at `data`, or at those of the fit (None), where it has the shape of what was observed.

    Raises:
        ArgumentError, DataError: missing, unknown or unfit data.
    """
    table = _table(data)
    there = at_data(problem, model.prediction, table)
    values, _ = evaluators(model.prediction, there)
    return _shaped(values(theta), there, model, table)


def band(
    problem: Problem,
    model: Model,
    theta: Array,
    inference: Inference,
    data: Any,
    interval: Any,
    level: float,
    sigma: Any,
) -> Prediction:
    """The model with an interval at each point.

    The standard error of f(x, theta) is the root of g^T C g with g = df/dtheta and C the covariance of the estimates:
    exact for linear models, else the delta method (Seber and Wild, Nonlinear Regression, 1989, section 5.1). That of a
    new observation adds its variance: `sigma`^2 s^2 where residuals are scaled by s, `sigma`^2 where it is absolute.

    Raises:
        ArgumentError: another `interval`, or a `sigma` that does not fit.
        FitError: there are no standard errors; the message says why.
    """
    if interval not in ("confidence", "prediction"):
        raise ArgumentError(f"interval is None, 'confidence' or 'prediction', got {interval!r}")
    covariance, _ = require_errors(inference, "intervals")
    table = _table(data)
    there = at_data(problem, model.prediction, table)
    values, jacobian = evaluators(model.prediction, there)
    value = _shaped(values(theta), there, model, table)
    variance = _shaped(propagated(jacobian(theta), covariance), there, model, table)
    if interval == "prediction":
        variance = variance + _noise(inference, table, sigma, value)
    error = np.sqrt(variance)
    half = quantile(inference, level) * error
    ends = (np.asarray(value - half), np.asarray(value + half))
    return Prediction(value, np.asarray(error), *ends, level, interval)


def at_data(problem: Problem, graph: Graph, table: Table | None) -> Problem:
    """`problem` with data for one of its graphs.

    Raises:
        ArgumentError, DataError: missing, unknown or unfit data.
    """
    if table is None:
        if problem.stream is not None:
            raise ArgumentError("predict needs data: the rows of a stream are gone through and not kept")
        return problem
    given = _given(graph, problem, table)
    fixed = {u.name: u.initial for u in problem.unknowns}
    needed = [graph[v].attributes["name"] for v in graph.inputs]
    missing = [n for n in needed if n not in given and n not in fixed]
    if missing:
        raise ArgumentError(f"predict lacks data for {', '.join(missing)}, which the model needs")
    shapes = {n: given[n].shape if n in given else fixed[n].shape for n in needed}
    try:
        bound = Binding(graph).bind(shapes, {})
    except (SizeError, ShapeError) as error:
        raise DataError(str(error)) from error
    return replace(problem, data=given, bound=bound)


def _noise(inference: Inference, table: Table | None, sigma: Any, value: Array) -> Any:
    """The variance of new observations."""
    if inference.sigma is None:
        raise FitError("prediction intervals need the variance of the residuals, which this fit does not estimate")
    weights = None if inference.at is None else inference.at
    if sigma is None:
        if weights is None or weights.common is not None:
            return inference.sigma**2
        if table is not None:
            raise ArgumentError(
                "the observations have different weights, so new ones may have any: predict(..., sigma=) gives their "
                "standard deviations on the scale of those of the fit"
            )
        with np.errstate(divide="ignore"):
            return inference.sigma**2 / weights.weights.reshape(value.shape)
    spread = np.asarray(sigma, dtype=np.float64)
    if not np.isfinite(spread).all() or (spread < 0).any():
        raise ArgumentError("sigma holds standard deviations, which are finite and not negative")
    try:
        spread = np.broadcast_to(spread, value.shape)
    except ValueError:
        raise ArgumentError(f"sigma has shape {spread.shape}, the prediction {value.shape}") from None
    return spread**2 * (1.0 if inference.normal else inference.sigma**2)


def _shaped(flat: Array, problem: Problem, model: Model, table: Table | None) -> Array:
    """Flat values of the model in its shape, or in that of the observed."""
    graph = model.prediction
    due = tuple(evaluate_size(d, problem.bound) for d in graph[graph.outputs["model"]].type.shape)
    found = flat.reshape(due)
    if table is None:
        whole = model.graph[model.graph.outputs["observed"]].type.shape
        shape = np.broadcast_shapes(due, tuple(evaluate_size(d, problem.bound) for d in whole))
        return np.broadcast_to(found, shape).copy()
    return np.asarray(found[0]) if _is_one_point(graph, table) else found


def _table(data: Any) -> Table | None:
    """The data of a prediction, in any form that a fit takes but batches; None for those of the fit."""
    table = None if data is None else read(data)
    if isinstance(table, Stream):
        raise ArgumentError(
            f"predict takes data at hand as a whole, not batches ({kind_of(data)}): one batch at a time"
        )
    return table


def _given(graph: Graph, problem: Problem, table: Table) -> dict[str, Array]:
    """Data for a prediction by input name; scalars of the fit fill in."""
    types = {graph[v].attributes["name"]: graph[v].type for v in graph.inputs}
    parameters = {u.name for u in problem.unknowns}
    by_symbol = {symbol: name for name, symbol in problem.symbols.items()}
    given = {n: a for n, a in problem.data.items() if n in types and a.ndim == 0}
    for key in table.keys:
        name = key if isinstance(key, str) else by_symbol.get(key, str(key))
        if not table.closed and name not in types:
            continue  # a further column
        if name in parameters:
            raise ArgumentError(f"{key} is a parameter: its value comes from the fit")
        if name not in types:
            if name in problem.data:
                continue  # what was observed, or weights: fine to hand over, not needed
            needed = ", ".join(n for n in types if n not in parameters) or "no data"
            raise ArgumentError(f"data has {key}, which the model does not contain; it needs {needed}")
        array = np.asarray(table.get(key))
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
        given[name] = integers(str(key), array) if types[name].kind is Kind.INTEGER else array
    length = max((a.shape[0] for n, a in given.items() if a.ndim and _is_observation(problem.symbols[n], 1)), default=1)
    return {
        n: np.repeat(a, length, axis=0) if a.shape == (1,) and _is_observation(problem.symbols[n], 1) else a
        for n, a in given.items()
    }


def _is_observation(symbol: Any, rank: int) -> bool:
    """Whether an input is a scalar symbol that got an axis of observations."""
    return rank > 0 and not isinstance(symbol, sp.IndexedBase | sp.MatrixExpr)


def _is_one_point(graph: Graph, table: Table) -> bool:
    """Whether a prediction was asked for at numbers, for symbols that had arrays in the fit."""
    ranks = {graph[v].attributes["name"]: graph[v] for v in graph.inputs}
    extended = [k for k, node in ranks.items() if _is_observation(node.attributes["symbol"], node.type.rank)]
    shapes: Mapping[str, int] = {str(k): np.ndim(table.get(k)) for k in table.keys}
    return bool(extended) and all(shapes.get(k, 1) == 0 for k in extended)
