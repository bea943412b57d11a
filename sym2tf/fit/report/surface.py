"""The cost over two parameters as a picture: contours, the path of the solver, the minimum, a confidence region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sym2tf.backends.numpy import program
from sym2tf.errors import ArgumentError
from sym2tf.fit.evaluation.residuals import inputs_of
from sym2tf.fit.report.plotting import CURVE, LEVEL, canvas, plain, saved, shortened, titled
from sym2tf.fit.statement.problem import Problem
from sym2tf.ir.subgraphs import extract
from sym2tf.lazy import lazy

if TYPE_CHECKING:
    from sym2tf.fit.result import FitResult

colors = lazy("matplotlib.colors")
scipy_special = lazy("scipy.special")

Array = np.ndarray[Any, Any]

POINTS = 81  # of the grid in each direction; odd, so that the estimates stand on it
ERRORS = 4.0  # standard errors to each side
NEAR = 40.0  # half-widths of that within which a step of the path widens the picture
CONTOURS = 16
LEAST = 1e-4  # of the highest cost above the lowest, that the contours resolve
ELEMENTS = 4_000_000  # of intermediate arrays, as many as the grid points evaluated at once allow


def surface_figure(result: FitResult, first: Any, second: Any, path: Any = None) -> Any:
    """Filled contours of the cost over two parameters, all others held at their estimates.

    Args:
        result: the fit.
        first: a free parameter or an element of one, by symbol or name, such as `"w[0]"`.
        second: another.
        path: where to save it as well.

    Raises:
        ArgumentError: no such parameter, or twice the same one; a path whose suffix names no format.
    """
    i, j = _place(result, first), _place(result, second)
    if i == j:
        raise ArgumentError(f"plot_surface takes two parameters, got {result.names[i]} twice")
    made = canvas(path, (6.8, 5.2))
    steps = np.array([s.theta[[i, j]] for s in result.history]).reshape(-1, 2)
    x, y = (_range(result, k, steps[:, c]) for c, k in enumerate((i, j)))
    cost = costs_over(result.statement, result.estimates, (i, j), x, y)
    axes = made.add_subplot()
    _contours(made, axes, x, y, cost, result.cost if not result.statement.maximize else -abs(result.cost))
    _overlay(axes, result, (i, j), steps)
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.set_xlabel(shortened(result.names[i]))
    axes.set_ylabel(shortened(result.names[j]))
    plain(axes)
    axes.grid(visible=False)
    others = len(result.names) - 2
    held = [] if not others else [f"{others} other parameter{'s' * (others > 1)} held at the estimates"]
    titled(made, ["cost above the lowest", *held])
    return saved(made, path)


def costs_over(problem: Problem, theta: Array, places: tuple[int, int], x: Array, y: Array) -> Array:
    """(len(y), len(x)), the cost where two elements of `theta` are those of a grid.

    The graph is evaluated over a leading axis of parameter values, a part of the grid at a time.
    """
    graph = extract(problem.graph, {"out": problem.graph.outputs["out"]})
    compute = program(graph)
    grid = np.tile(theta, (len(y) * len(x), 1))
    grid[:, places[0]] = np.tile(x, len(y))
    grid[:, places[1]] = np.repeat(y, len(x))
    widest = max([1, *(a.size for a in problem.data.values())])
    step = max(1, ELEMENTS // widest)
    found = []
    with np.errstate(all="ignore"):
        for k in range(0, len(grid), step):
            part = grid[k : k + step]
            value = compute(inputs_of(graph, problem, problem.unpacked(part)), problem.bound)["out"]
            found.append(np.broadcast_to(value, (len(part),)))
    return np.concatenate(found).reshape(len(y), len(x))


def _place(result: FitResult, key: Any) -> int:
    name = str(key).replace(" ", "")
    if name not in result.names:
        raise ArgumentError(f"{key} is no free parameter of this fit; they are {', '.join(result.names)}")
    return result.names.index(name)


def _range(result: FitResult, k: int, steps: Array) -> Array:
    """The values of one parameter: a few standard errors about the estimate, and the path where it is not far off."""
    middle = result.estimates[k]
    errors = result.standard_errors
    half = ERRORS * errors[k] if errors is not None and errors[k] > 0 else 0.0
    if half == 0:
        half = max(np.abs(steps - middle).max(initial=0.0) * 1.1, 0.25 * abs(middle)) or 1.0
    near = steps[np.abs(steps - middle) <= NEAR * half]
    reach = max(half, 1.1 * np.abs(near - middle).max(initial=0.0))
    lower, upper = result.statement.packed("lower")[k], result.statement.packed("upper")[k]
    return np.linspace(max(middle - reach, lower), min(middle + reach, upper), POINTS)


def _contours(made: Any, axes: Any, x: Array, y: Array, cost: Array, lowest: float) -> None:
    above = np.ma.masked_invalid(cost - min(lowest, np.nanmin(cost, initial=np.inf)))
    highest = float(above.max())
    if not highest > 0:  # flat: nothing to draw contours of
        return
    levels = np.geomspace(LEAST * highest, highest, CONTOURS)
    shown = np.ma.maximum(above, levels[0])
    filled = axes.contourf(x, y, shown, levels=levels, norm=colors.LogNorm(levels[0], levels[-1]), cmap="cividis")
    axes.contour(x, y, shown, levels=levels, colors="white", linewidths=0.4, alpha=0.6)
    bar = made.colorbar(filled, ax=axes, format="%.1e")
    bar.set_label("cost above the lowest")


def _overlay(axes: Any, result: FitResult, places: tuple[int, int], steps: Array) -> None:
    """The path, the estimates and their joint confidence region."""
    i, j = places
    if len(steps) > 1:
        axes.plot(*steps.T, color="white", linewidth=1.5, marker="o", markersize=4, markeredgecolor="black",
                  markeredgewidth=0.6, label="path of the solver")  # fmt: skip
    region = confidence_region(result, i, j)
    if region is not None:
        axes.plot(*region, color="#56b4e9", linewidth=1.8, linestyle="--", label="95 % confidence region")
    axes.plot(result.estimates[i], result.estimates[j], color=CURVE, marker="*", markersize=11, linestyle="none",
              markeredgecolor="white", markeredgewidth=0.8, label="estimates")  # fmt: skip
    legend = axes.legend(fontsize=8, loc="best", framealpha=0.85, facecolor="#444444", labelcolor="white")
    legend.set_zorder(10)


def confidence_region(result: FitResult, i: int, j: int) -> Array | None:
    """(2, points), the ellipse that holds two parameters jointly with 95 %; None without covariance.

    Its square radius is 2 F(2, df), or the quantile of chi squared where the variance is known (Seber and Wild 1989,
    section 5.1).
    """
    covariance = result.covariance
    if covariance is None:
        return None
    block = covariance[np.ix_([i, j], [i, j])]
    values, vectors = np.linalg.eigh(block)
    if not (np.isfinite(block).all() and values[0] > 0):
        return None
    freedom = result.degrees_of_freedom
    if result.inference.normal or freedom is None:
        square = -2 * np.log(1 - LEVEL)
    else:
        square = 2 * float(scipy_special.fdtri(2, freedom, LEVEL))
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.sqrt(square) * np.stack([np.cos(angle), np.sin(angle)])
    return np.asarray(result.estimates[[i, j]][:, None] + vectors @ (np.sqrt(values)[:, None] * circle))
