"""The picture of a fit: data and curve where there is one regressor, else fitted against observed values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sym2tf.lazy import lazy

if TYPE_CHECKING:
    from sym2tf.fit.result import FitResult

figures = lazy("matplotlib.figure")
backend = lazy("matplotlib.backends.backend_agg")

POINTS, CURVE = "#0072b2", "#d55e00"  # Okabe and Ito: told apart by colour-blind readers
CURVE_POINTS = 400


def figure(result: FitResult, path: Any = None) -> Any:
    """The figure, saved too where a path is given; without pyplot, which opens windows and keeps state."""
    made = figures.Figure(figsize=(6.4, 4.4), layout="constrained")
    backend.FigureCanvasAgg(made)
    axes = made.add_subplot()
    regressor = _regressor(result)
    if regressor is None:
        _fitted_against_observed(axes, result)
    else:
        _curve(axes, result, regressor)
    axes.set_title(_title(result), fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    if path is not None:
        made.savefig(path, dpi=150)
    return made


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
    axes.set_xlabel(name.replace("$", r"\$"))
    axes.set_ylabel(result.model.observed.replace("$", r"\$"))


def _fitted_against_observed(axes: Any, result: FitResult) -> None:
    assert result.model is not None
    assert result.observed is not None
    observed, fitted = result.observed.ravel(), result.predict().ravel()
    ends = [min(observed.min(), fitted.min()), max(observed.max(), fitted.max())]
    axes.plot(ends, ends, color=CURVE, linewidth=1.5, label="fitted = observed")
    axes.scatter(observed, fitted, s=16, color=POINTS, alpha=0.6, linewidths=0, label="data")
    axes.set_xlabel(f"{result.model.observed}, observed".replace("$", r"\$"))
    axes.set_ylabel(f"{result.model.observed}, fitted".replace("$", r"\$"))


def _title(result: FitResult) -> str:
    parts = [f"{n} = {x:.5g}" + (f" ± {s:.2g}" if s is not None else "") for n, x, s in result.rows()[:4]]
    if len(result.names) > 4:
        parts.append("…")
    if result.r_squared is not None:
        parts.append(f"R² = {result.r_squared:.4f}")
    text = ",  ".join(parts).replace("$", r"\$")
    return text if result.success else f"NOT CONVERGED: {text}"
