"""The picture of a fit: data, curve and bands over a single regressor, else fitted against observed values.

Figures are made without pyplot, which opens windows and keeps state.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sym2tf.errors import ArgumentError, FitError
from sym2tf.fit.evaluation.residuals import run
from sym2tf.fit.inference.prediction import band, predict
from sym2tf.fit.inference.quality import sides
from sym2tf.fit.statement.classify import Model
from sym2tf.fit.statement.equations import label
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.wording import kind_of
from sym2tf.ir.subgraphs import extract
from sym2tf.lazy import lazy

if TYPE_CHECKING:
    from sym2tf.fit.result import FitResult

figures = lazy("matplotlib.figure")
backend = lazy("matplotlib.backends.backend_agg")

Array = np.ndarray[Any, Any]

# Okabe and Ito, Color Universal Design (2008): told apart by colour-blind readers
POINTS, CURVE, BAND, MARK = "#0072b2", "#d55e00", "#f0c060", "#000000"
CURVE_POINTS = 400
TITLE_LINES = 3
LABEL = 45  # characters of a label that stand beside an axis
ACROSS = 3  # panels in a row
MANY = 2000  # points above which they are drawn small and faint
LEVEL = 0.95


def figure(result: FitResult, path: Any = None) -> Any:
    """The figure, a panel for each equation; saved too where a path is given.

    Raises:
        FitError: the model cannot be told from the cost, or a file that cannot be written.
        ArgumentError: a path whose suffix names no format.
    """
    models = result.structure.models
    if not models:
        raise FitError(f"plot needs the model: {result.no_model}")
    columns = min(len(models), ACROSS)
    rows = math.ceil(len(models) / columns)
    made = canvas(path, (6.4 if columns == 1 else 4.6 * columns, 4.4 if rows == 1 else 3.7 * rows))
    for k, model in enumerate(models):
        axes = made.add_subplot(rows, columns, k + 1)
        name = regressor(result.statement, model)
        if name is None:
            _fitted_against_observed(axes, result, model)
        else:
            _curve(axes, result, k, model, name)
        plain(axes)
        axes.legend(frameon=False, fontsize=9)
    titled(made, title_parts(result))
    return saved(made, path)


def canvas(path: Any, size: tuple[float, float]) -> Any:
    """An empty figure, once `path` is known to name a format of pictures.

    Raises:
        ArgumentError: it does not.
    """
    made = figures.Figure(figsize=size, layout="constrained")
    drawn = backend.FigureCanvasAgg(made)
    if path is not None:
        _require_format(path, sorted(drawn.get_supported_filetypes()))
    return made


def saved(made: Any, path: Any) -> Any:
    """The figure, written to `path` unless that is None.

    Raises:
        FitError: a file that cannot be written.
    """
    if path is not None:
        try:
            made.savefig(path, dpi=150)
        except OSError as error:
            raise FitError(f"cannot write {os.fspath(path)!r}: {error.strerror or error}") from error
    return made


def plain(axes: Any) -> None:
    """What all panels share: a faint grid, no frame on the right and on top."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def titled(made: Any, parts: Sequence[str]) -> None:
    """The title of a figure from parts that are put in as few lines as fit."""

    def fits(line: str) -> bool:
        text = made.text(0, 0, literal(line), fontsize=9)
        width = text.get_window_extent(made.canvas.get_renderer()).width
        text.remove()
        return bool(width <= 0.96 * made.bbox.width)

    made.suptitle(literal("\n".join(_lines(parts, fits))), fontsize=9)


def literal(text: str) -> str:
    """`text` as it is: matplotlib takes what stands between dollars for mathematics."""
    return text.replace("$", r"\$")


def shortened(text: str) -> str:
    """A label that fits beside an axis."""
    return literal(text if len(text) <= LABEL else text[: LABEL - 1] + "…")


def scatter(axes: Any, x: Array, y: Array, **options: Any) -> None:
    """Points that can still be told apart where there are many."""
    many = len(x) > MANY
    axes.scatter(x, y, s=4 if many else 16, color=POINTS, alpha=0.25 if many else 0.6, linewidths=0, **options)


def regressor(problem: Problem, model: Model) -> str | None:
    """The one array that a model needs, if it has one axis as the observations have."""
    graph, data = model.prediction, problem.data
    inputs = [graph[v].attributes["name"] for v in graph.inputs]
    arrays = [n for n in inputs if n in data and data[n].ndim]
    if len(arrays) != 1 or data[arrays[0]].ndim != 1:
        return None
    observed = model.graph.outputs["observed"]
    shared = model.graph[observed].type.shape == graph[graph.outputs["model"]].type.shape
    return arrays[0] if shared and graph[graph.outputs["model"]].type.rank == 1 else None


def deviations(problem: Problem, k: int, theta: Array, shape: tuple[int, ...]) -> Array | None:
    """The standard deviations that the user stated for the observations of equation `k`; None where nothing is stated.

    Of an expression they are what the residuals were divided by, which is unknown (NaN) where a residual is 0.
    """
    spread = problem.spreads.get(k)
    if spread is None:
        return None
    if spread.array is None:
        graph = extract(
            problem.graph, {side: problem.graph.outputs[label(side, k)] for side in ("difference", "residual")}
        )
        found = run(graph, problem, problem.unpacked(theta))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.broadcast_to(np.abs(found["difference"] / found["residual"]), shape)
    array = np.asarray(spread.array)
    if spread.kind == "covariance":  # its Cholesky factor
        return np.sqrt(np.square(array).sum(axis=1)).reshape(shape)
    with np.errstate(divide="ignore"):
        return np.broadcast_to(array if spread.kind == "sigma" else 1 / np.sqrt(array), shape)


def _curve(axes: Any, result: FitResult, k: int, model: Model, name: str) -> None:
    problem, theta = result.statement, result.estimates
    x = problem.data[name]
    observed, _ = sides(problem, model, theta)
    errors = deviations(problem, k, theta, observed.shape)
    if errors is not None:
        errors = np.where(np.isfinite(errors), errors, 0.0)
        axes.errorbar(x, observed, errors, fmt="none", ecolor=POINTS, elinewidth=0.8, alpha=0.6, zorder=2)
    scatter(axes, x, observed, label="data" if errors is None else "data ± sigma", zorder=2)
    grid = _grid(x)
    values = np.broadcast_to(predict(problem, model, theta, {name: grid}), grid.shape)
    axes.plot(grid, values, color=CURVE, linewidth=2, label="fit", zorder=3)
    for kind, alpha in _bands(result):
        made = band(problem, model, theta, result.inference, {name: grid}, kind, LEVEL, None)
        low, high = (np.broadcast_to(end, grid.shape) for end in (made.lower, made.upper))
        axes.fill_between(grid, low, high, color=BAND, alpha=alpha, linewidth=0, label=f"95 % {kind}", zorder=1)
    axes.set_xlabel(shortened(name))
    axes.set_ylabel(shortened(model.observed))


def _grid(x: Array) -> Array:
    """Where the curve is drawn: all integers where `x` stands in subscripts."""
    if x.dtype.kind == "i":
        return np.unique(x)
    return np.linspace(x.min(), x.max(), CURVE_POINTS)


def _bands(result: FitResult) -> list[tuple[str, float]]:
    """The bands that this fit can say, with how opaque they are drawn."""
    inference = result.inference
    if inference.covariance is None:
        return []
    equal = inference.at is not None and inference.at.common is not None and not result.statement.spreads
    one = len(result.structure.models) == 1 and not result.options.likelihood
    return [("confidence", 0.55), *([("prediction", 0.2)] if equal and one and inference.sigma is not None else [])]


def _fitted_against_observed(axes: Any, result: FitResult, model: Model) -> None:
    observed, fitted = (side.ravel() for side in sides(result.statement, model, result.estimates))
    ends = [min(observed.min(), fitted.min()), max(observed.max(), fitted.max())]
    axes.plot(ends, ends, color=CURVE, linewidth=1.5, label="fitted = observed")
    scatter(axes, observed, fitted, label="data")
    axes.set_xlabel(f"{shortened(model.observed)}, observed")
    axes.set_ylabel(f"{shortened(model.observed)}, fitted")


def title_parts(result: FitResult) -> list[str]:
    """The estimates, a few, and how good the fit is."""
    parts = [] if result.success else ["NOT CONVERGED"]
    parts += [f"{n} = {x:.5g}" + (f" ± {s:.2g}" if s is not None else "") for n, x, s in result.rows()[:4]]
    if len(result.names) > 4:
        parts.append("…")
    if result.r_squared is not None:
        parts.append(f"R² = {result.r_squared:.4f}")
    return parts


def _lines(parts: Sequence[str], fits: Callable[[str], bool]) -> list[str]:
    """The parts in lines that fit the figure."""
    lines: list[str] = []
    for part in parts:
        if lines and fits(f"{lines[-1]},  {part}"):
            lines[-1] += f",  {part}"
            continue
        while not fits(part):  # a very long name: its end, with the number, says more
            part = "…" + part[max(len(part) // 16, 2) :]
        lines.append(part)
    return lines if len(lines) <= TITLE_LINES else [*lines[: TITLE_LINES - 1], "…"]


def _require_format(path: Any, known: list[str]) -> None:
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"plot takes the path of a file, not {kind_of(path)}")
    suffix = Path(path).suffix
    if suffix[1:].lower() not in known:
        what = f"the suffix {suffix!r} of {os.fspath(path)!r} names" if suffix else f"{os.fspath(path)!r} names"
        raise ArgumentError(f"{what} no format of pictures; known suffixes are {', '.join('.' + k for k in known)}")
