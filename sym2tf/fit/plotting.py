"""The picture of a fit: data and curve where there is one regressor, else fitted against observed values."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sym2tf.errors import ArgumentError, FitError
from sym2tf.fit.wording import kind_of
from sym2tf.lazy import lazy

if TYPE_CHECKING:
    from sym2tf.fit.result import FitResult

figures = lazy("matplotlib.figure")
backend = lazy("matplotlib.backends.backend_agg")

POINTS, CURVE = "#0072b2", "#d55e00"  # Okabe and Ito: told apart by colour-blind readers
CURVE_POINTS = 400
TITLE_LINES = 3
LABEL = 45  # characters of a label that stand beside an axis


def figure(result: FitResult, path: Any = None) -> Any:
    """The figure, saved too where a path is given; without pyplot, which opens windows and keeps state.

    Raises:
        ArgumentError: a path whose suffix names no format.
        FitError: a file that cannot be written.
    """
    made = figures.Figure(figsize=(6.4, 4.4), layout="constrained")
    canvas = backend.FigureCanvasAgg(made)
    if path is not None:
        _require_format(path, sorted(canvas.get_supported_filetypes()))
    axes = made.add_subplot()
    regressor = _regressor(result)
    if regressor is None:
        _fitted_against_observed(axes, result)
    else:
        _curve(axes, result, regressor)

    def fits(line: str) -> bool:
        text = made.text(0, 0, _literal(line), fontsize=9)
        width = text.get_window_extent(canvas.get_renderer()).width
        text.remove()
        return bool(width <= 0.96 * made.bbox.width)

    made.suptitle(_literal("\n".join(_title(result, fits))), fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    if path is not None:
        try:
            made.savefig(path, dpi=150)
        except OSError as error:
            raise FitError(f"cannot write {os.fspath(path)!r}: {error.strerror or error}") from error
    return made


def _require_format(path: Any, known: list[str]) -> None:
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"plot takes the path of a file, not {kind_of(path)}")
    suffix = Path(path).suffix
    if suffix[1:].lower() not in known:
        what = f"the suffix {suffix!r} of {os.fspath(path)!r} names" if suffix else f"{os.fspath(path)!r} names"
        raise ArgumentError(f"{what} no format of pictures; known suffixes are {', '.join('.' + k for k in known)}")


def _literal(text: str) -> str:
    """`text` as it is: matplotlib takes what stands between dollars for mathematics."""
    return text.replace("$", r"\$")


def _label(text: str) -> str:
    return _literal(text if len(text) <= LABEL else text[: LABEL - 1] + "…")


def _regressor(result: FitResult) -> str | None:
    """The one array that the model needs, if it has one axis as the observations have."""
    assert result.model is not None
    graph, data = result.model.prediction, result.statement.data
    names = [graph[v].attributes["name"] for v in graph.inputs]
    arrays = [n for n in names if n in data and data[n].ndim]
    if len(arrays) != 1 or result.observed is None or data[arrays[0]].shape != result.observed.shape:
        return None
    return arrays[0] if result.observed.ndim == 1 else None


def _curve(axes: Any, result: FitResult, name: str) -> None:
    assert result.model is not None
    x = result.statement.data[name]
    axes.scatter(x, result.observed, s=16, color=POINTS, alpha=0.6, linewidths=0, label="data")
    grid = np.linspace(x.min(), x.max(), CURVE_POINTS)
    values = np.broadcast_to(result.predict({name: grid}), grid.shape)
    axes.plot(grid, values, color=CURVE, linewidth=2, label="fit")
    axes.set_xlabel(_label(name))
    axes.set_ylabel(_label(result.model.observed))


def _fitted_against_observed(axes: Any, result: FitResult) -> None:
    assert result.model is not None
    assert result.observed is not None
    observed, fitted = result.observed.ravel(), result.predict().ravel()
    ends = [min(observed.min(), fitted.min()), max(observed.max(), fitted.max())]
    axes.plot(ends, ends, color=CURVE, linewidth=1.5, label="fitted = observed")
    axes.scatter(observed, fitted, s=16, color=POINTS, alpha=0.6, linewidths=0, label="data")
    axes.set_xlabel(f"{_label(result.model.observed)}, observed")
    axes.set_ylabel(f"{_label(result.model.observed)}, fitted")


def _title(result: FitResult, fits: Callable[[str], bool]) -> list[str]:
    """The estimates in lines that fit the figure."""
    parts = [] if result.success else ["NOT CONVERGED"]
    parts += [f"{n} = {x:.5g}" + (f" ± {s:.2g}" if s is not None else "") for n, x, s in result.rows()[:4]]
    if len(result.names) > 4:
        parts.append("…")
    if result.r_squared is not None:
        parts.append(f"R² = {result.r_squared:.4f}")
    lines: list[str] = []
    for part in parts:
        if lines and fits(f"{lines[-1]},  {part}"):
            lines[-1] += f",  {part}"
            continue
        while not fits(part):  # a very long name: its end, with the number, says more
            part = "…" + part[max(len(part) // 16, 2) :]
        lines.append(part)
    return lines if len(lines) <= TITLE_LINES else [*lines[: TITLE_LINES - 1], "…"]
