"""What `sym2tf fit` does: text from the command line and columns of a file -> a call of `sym2tf.fit` -> JSON."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any

import numpy as np
import sympy as sp

import sym2tf
from sym2tf.datafile import DataFile, read_data_file
from sym2tf.errors import ArgumentError, DataError
from sym2tf.frontend.lower import lower

Bounds = tuple[float | None, float | None]


def fitted(cost: sp.Basic, options: argparse.Namespace) -> sym2tf.FitResult:
    """The fit that the options ask for.

    Raises:
        ArgumentError, DataError, FitError: what was asked for does not fit together, or cannot be done; says which
            option is meant.
    """
    starts = None if options.params is None else start_values(options.params)
    table = read_data_file(options.data)
    data = columns(cost, table, dict(options.column), starts)
    given = {
        "loss": None if options.loss is None else loss_named(options.loss),
        "sigma": None if options.sigma is None else _sigma(options.sigma, table),
        "absolute_sigma": options.absolute_sigma,
        "likelihood": options.likelihood,
        "maximize": options.maximize,
        "method": options.method,
    }
    parameters = _parameters(cost, data, starts, options.bounds, options.fixed)
    result: Any = sym2tf.fit(
        cost, data, parameters, **{k: v for k, v in given.items() if v is not None and v is not False}
    )
    return result if options.robust is None else result.robust(options.robust)


def names_in(text: str) -> list[str]:
    """The parts between commas that stand in no brackets."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def _parameters(
    cost: sp.Basic, data: dict[str, Any], starts: dict[str, float] | None, bounds: str | None, fixed: str | None
) -> Any:
    """What `--params`, `--bounds` and `--fixed` say about each parameter."""
    limits = {} if bounds is None else bounds_in(bounds)
    kept = {} if fixed is None else fixed_in(fixed)
    if not limits and not kept:
        return starts
    names = list(starts) if starts is not None else [n for n in _inputs(cost) if n not in data]
    for option, chosen in (("--bounds", limits), ("--fixed", kept)):
        unknown = [n for n in chosen if n not in names]
        if unknown:
            raise ArgumentError(f"{option}: {unknown[0]} is no parameter; they are {', '.join(names)}")
    found = {}
    for name in names:
        said: dict[str, Any] = {} if starts is None else {"initial": starts[name]}
        if name in kept:
            said |= {"fixed": True} | ({} if kept[name] is None else {"initial": kept[name]})
        if name in limits and name not in kept:
            said["bounds"] = limits[name]
        found[name] = sym2tf.Parameter(**said)
    return found


def bounds_in(text: str) -> dict[str, Bounds]:
    """`a=0:10,b=:5` as `{"a": (0, 10), "b": (None, 5)}`."""
    found: dict[str, Bounds] = {}
    for part in names_in(text):
        name, equals, ends = (x.strip() for x in part.partition("="))
        low, colon, high = (x.strip() for x in ends.partition(":"))
        if not (equals and colon and name):
            raise ArgumentError(f"--bounds: {part!r} is not of the form a=LOW:HIGH, where either end may be left out")
        if name in found:
            raise ArgumentError(f"--bounds gives {name} twice")
        found[name] = tuple(_number("--bounds", end, part) if end else None for end in (low, high))  # type: ignore[assignment]
    return found


def fixed_in(text: str) -> dict[str, float | None]:
    """`a=1,b` as `{"a": 1, "b": None}`."""
    found: dict[str, float | None] = {}
    for part in names_in(text):
        name, _, number = (x.strip() for x in part.partition("="))
        if name in found:
            raise ArgumentError(f"--fixed gives {name} twice")
        found[name] = _number("--fixed", number, part) if number else None
    return found


def loss_named(text: str) -> Any:
    """`huber`, or `huber(2)` with its scale.

    Raises:
        ArgumentError: no such loss, or no number in its brackets.
    """
    name, bracket, scale = text.strip().partition("(")
    if name not in sym2tf.losses.LOSSES:
        raise ArgumentError(f"--loss: there is no {name!r}; there are {', '.join(sym2tf.losses.LOSSES)}")
    if not bracket:
        return name
    return sym2tf.losses.LOSSES[name](_number("--loss", scale.removesuffix(")"), text))


def _sigma(text: str, table: DataFile) -> Any:
    """A column of the file, or one number for all rows."""
    if table.has(text):
        return table.column(text)
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"--sigma: {table.path} has no column {text!r}, and that is no number; the columns are "
            f"{', '.join(map(repr, table.header))}"
        ) from None


def _number(option: str, text: str, part: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{option}: {text!r} is not a number, in {part!r}") from None


def _inputs(cost: sp.Basic) -> dict[str, Any]:
    """What a cost needs values for: name -> symbol."""
    graph = lower((cost.lhs, cost.rhs) if isinstance(cost, sp.Eq) else cost)
    return {graph[v].attributes["name"]: graph[v].attributes["symbol"] for v in graph.inputs}


def columns(cost: sp.Basic, table: DataFile, chosen: dict[str, str], params: dict[str, float] | None) -> dict[str, Any]:
    """The data of a cost by name: the columns that `--column` chooses, or else those of the same name."""
    inputs = _inputs(cost)
    unknown = [n for n in chosen if n not in inputs]
    if unknown:
        raise ArgumentError(f"--column: the cost has no symbol {unknown[0]}; it has {', '.join(inputs)}")
    both = [n for n in chosen if n in (params or {})]
    if both:
        raise ArgumentError(f"{both[0]} is in --column and in --params: it can be only one of them")
    if params is None:
        tensors = {n for n, symbol in inputs.items() if isinstance(symbol, sp.IndexedBase)}
        needed = [n for n in inputs if n in chosen or table.has(n) or n in tensors]
    else:
        needed = [n for n in inputs if n not in params]
    lacking = [n for n in needed if n not in chosen and not table.has(n)]
    if lacking:
        raise DataError(
            f"{table.path}: no column for {', '.join(lacking)}; the columns are "
            f"{', '.join(map(repr, table.header))}: choose one with --column {lacking[0]}=NAME"
            + (f", or estimate {lacking[0]} with --params" if params is not None else "")
        )
    if not needed:
        raise DataError(f"{table.path}: no column has the name of a symbol in the cost: {', '.join(inputs)}")
    return {n: table.column(chosen.get(n, n)) for n in needed}


def start_values(text: str) -> dict[str, float]:
    """`w=0,b=1.5` or `w,b`, which start at 0."""
    values: dict[str, float] = {}
    for part in names_in(text):
        name, _, number = (x.strip() for x in part.partition("="))
        if name in values:
            raise ArgumentError(f"--params gives {name} twice")
        values[name] = _number("--params", number or "0", part)
    return values


def pair(text: str) -> tuple[str, str]:
    """`symbol=column`, for argparse."""
    name, equals, column = text.partition("=")
    if not (equals and name.strip() and column.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form symbol=column")
    return name.strip(), column.strip()


def as_json(result: sym2tf.FitResult) -> dict[str, Any]:
    """The facts of a fit; numbers that JSON cannot write are null."""
    estimates = {name: {"estimate": x, "stderr": s} for name, x, s in result.rows()}
    covariance = None if result.covariance is None else np.asarray(result.covariance).tolist()
    facts = {
        "params": estimates, "names": list(result.names), "covariance": covariance,
        "cost": result.cost, "r_squared": result.r_squared, "residual_std": result.residual_std,
        "adj_r_squared": result.adj_r_squared, "log_likelihood": result.log_likelihood,
        "aic": result.aic, "bic": result.bic, "observations": result.observations,
        "degrees_of_freedom": result.degrees_of_freedom,
        "success": result.success, "message": result.message, "problem": str(result.problem),
        "solver": result.solver, "iterations": result.iterations, "evaluations": result.evaluations,
        "gradient_norm": result.gradient_norm, "condition": result.condition,
        "at_bounds": list(result.at_bounds), "stderr_reason": result.stderr_reason,
        "r_squared_reason": result.r_squared_reason,
    }  # fmt: skip
    return {key: finite(value) for key, value in facts.items()}


def finite(value: Any) -> Any:
    """What JSON can write: None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(x) for key, x in value.items()}
    if isinstance(value, list):
        return [finite(x) for x in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
