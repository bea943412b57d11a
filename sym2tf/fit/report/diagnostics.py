"""Pictures of how a fit went: its residuals, and the path of its solver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sym2tf.errors import FitError
from sym2tf.fit.inference.quality import sides
from sym2tf.fit.report.plotting import CURVE, MARK, POINTS, canvas, plain, saved, scatter, title_parts, titled
from sym2tf.lazy import lazy

if TYPE_CHECKING:
    from sym2tf.fit.result import FitResult

scipy_special = lazy("scipy.special")
ticker = lazy("matplotlib.ticker")

Array = np.ndarray[Any, Any]

OUTLIER = 3.0  # standardised residuals beyond this are labelled,
LABELLED = 5  # at most so many
FLAT = 1e-300


def residual_figure(result: FitResult, path: Any = None) -> Any:
    """Residuals against fitted values, their normal quantiles, their distribution, and their spread.

    Residuals are in units of their own standard errors where these are known (internally studentised, Belsley, Kuh and
    Welsch 1980), else in units of their root mean square. Those beyond 3 bear the number of their row.

    Raises:
        FitError: there are no residuals.
        ArgumentError: a path whose suffix names no format.
    """
    fitted, residual, units = _standardized(result)
    made = canvas(path, (9.2, 7.0))
    panels = made.subplots(2, 2)
    far = np.argsort(-np.abs(residual), kind="stable")[:LABELLED]
    far = far[np.abs(residual[far]) > OUTLIER]
    rows = [str(k) for k in far]
    _against_fitted(panels[0, 0], fitted, residual, units)
    quantiles = _normal_quantiles(residual)
    _quantiles(panels[0, 1], quantiles, residual, units)
    _histogram(panels[1, 0], residual, units)
    root = np.sqrt(np.abs(residual))
    scatter(panels[1, 1], fitted, root)
    panels[1, 1].set(xlabel="fitted value", ylabel="√ |residual|", title="scale and location", ylim=(0, None))
    for axes, x, y in (
        (panels[0, 0], fitted, residual),
        (panels[0, 1], quantiles, residual),
        (panels[1, 1], fitted, root),
    ):
        _labelled(axes, x[far], y[far], rows)
    for axes in panels.ravel():
        plain(axes)
        axes.title.set_fontsize(10)
    titled(made, title_parts(result))
    return saved(made, path)


def history_figure(result: FitResult, path: Any = None) -> Any:
    """Cost and norm of the gradient step by step, with the cost on validation data where there are any.

    Raises:
        FitError: the solver took no steps that were recorded.
        ArgumentError: a path whose suffix names no format.
    """
    steps = result.history
    if not steps:
        raise FitError(f"there is no history to plot: {result.message}")
    made = canvas(path, (6.4, 5.4))
    norms = np.array([np.nan if s.gradient_norm is None else s.gradient_norm for s in steps])
    told = np.isfinite(norms) & (norms > 0)  # some steps ask for values alone
    known = bool(told.any())
    panels = np.atleast_1d(made.subplots(1 + known, 1, sharex=True))
    at = np.array([s.iteration for s in steps])
    _costs(panels[0], at, steps)
    if known:
        panels[1].plot(at[told], norms[told], color=POINTS, marker="o", markersize=4, linewidth=1.5)
        panels[1].set_yscale("log")
        panels[1].set_ylabel("norm of the gradient")
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    for axes in panels:
        plain(axes)
    state = "converged" if result.success else "NOT CONVERGED"
    titled(made, [f"{state} after {result.iterations} iterations", f"cost {result.cost:.6g}"])
    return saved(made, path)


def _costs(axes: Any, at: Array, steps: Any) -> None:
    """On a log axis; costs that are not all positive are drawn above the lowest of them."""
    curves = {"training": np.array([s.cost for s in steps])}
    validation = np.array([np.nan if s.validation is None else s.validation for s in steps])
    if np.isfinite(validation).any():
        curves["validation"] = validation
    everything = np.concatenate(list(curves.values()))
    lowest = float(np.nanmin(everything))
    name = "cost"
    if lowest <= 0:
        curves = {k: np.where(v > lowest, v - lowest, np.nan) for k, v in curves.items()}
        name = "cost above the lowest"
    for (label, values), color, marker in zip(curves.items(), (POINTS, CURVE), "os", strict=False):
        axes.plot(at, values, color=color, marker=marker, markersize=4, linewidth=1.5, label=label)
    if any(np.isfinite(v).any() and np.nanmax(v) > FLAT for v in curves.values()):
        axes.set_yscale("log")
    axes.set_ylabel(name)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)


def _standardized(result: FitResult) -> tuple[Array, Array, str]:
    """Fitted values, residuals, and what the latter are measured in; both flat, several equations one after another."""
    models = result.structure.models
    at, freedom = result.linearisation, result.degrees_of_freedom
    if not models and at is None:
        raise FitError(f"plot_residuals needs residuals: {result.no_model}")
    if models:
        pairs = [sides(result.statement, model, result.estimates) for model in models]
        residual = np.concatenate([(observed - model).ravel() for observed, model in pairs])
        fitted = np.concatenate([model.ravel() for _, model in pairs])
    else:
        assert at is not None
        residual = at.residual
        fitted = np.arange(len(residual), dtype=np.float64)
    if at is not None and freedom is not None and freedom > 0 and len(at.residual) == len(residual):
        found = result.influence.standardized
        if np.isfinite(found).all():
            return fitted, found, "standardised residual"
    scale = float(np.sqrt(np.mean(np.square(residual))))
    return fitted, residual / (scale if scale > 0 else 1.0), "residual / root mean square"


def _against_fitted(axes: Any, fitted: Array, residual: Array, units: str) -> None:
    scatter(axes, fitted, residual)
    axes.axhline(0, color=CURVE, linewidth=1.5)
    axes.set(xlabel="fitted value", ylabel=units, title="residuals against fitted values")


def _normal_quantiles(residual: Array) -> Array:
    """The quantile of a standard normal that belongs to the rank of each residual (Blom 1958)."""
    ranks = np.empty(len(residual))
    ranks[np.argsort(residual, kind="stable")] = np.arange(1, len(residual) + 1)
    return np.asarray(scipy_special.ndtri((ranks - 0.375) / (len(residual) + 0.25)))


def _quantiles(axes: Any, normal: Array, residual: Array, units: str) -> None:
    scatter(axes, normal, residual)
    ends = np.array([normal.min(), normal.max()])
    axes.plot(ends, ends, color=CURVE, linewidth=1.5)
    axes.set(xlabel="quantile of the normal distribution", ylabel=units, title="normal Q-Q")


def _histogram(axes: Any, residual: Array, units: str) -> None:
    axes.hist(residual, bins="auto" if len(np.unique(residual)) > 1 else 1, density=True, color=POINTS, alpha=0.6)
    grid = np.linspace(min(residual.min(), -OUTLIER), max(residual.max(), OUTLIER), 200)
    axes.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color=CURVE, linewidth=1.5, label="standard normal")
    axes.set(xlabel=units, ylabel="density", title="distribution")
    axes.legend(frameon=False, fontsize=9)


def _labelled(axes: Any, x: Array, y: Array, rows: list[str]) -> None:
    """The number of its row beside each point, on the side where there is room."""
    if not rows:
        return
    middle = float(np.mean(axes.get_xlim()))
    for px, py, row in zip(x, y, rows, strict=True):
        right = px <= middle
        axes.annotate(
            row, (px, py), xytext=(5 if right else -5, 0), textcoords="offset points", fontsize=8, color=MARK,
            ha="left" if right else "right", va="center",
        )  # fmt: skip
