"""`sigma` and `weights` as the user states them: for each equation how precise its observations are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.statement.arrays import numbers
from sym2tf.fit.statement.equations import Equation, Kind, Spread, label
from sym2tf.fit.wording import counted
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy

linalg = lazy("scipy.linalg")

Array = np.ndarray[Any, Any]


def spreads_of(
    equations: Sequence[Equation], sigma: Any, weights: Any, column: Callable[[str], Any]
) -> dict[int, Spread]:
    """The spreads that are stated, by the number of their equation.

    Args:
        equations: of the statement.
        sigma: standard deviations, or None.
        weights: in their place, or None.
        column: the array of a column of the data, where text names one.

    Raises:
        ArgumentError: both are stated, or for no equation, or for an unknown one; arrays for several equations.
        DataError: numbers that are not finite, or not positive.
    """
    if sigma is None and weights is None:
        return {}
    if sigma is not None and weights is not None:
        raise ArgumentError("sigma and weights say the same thing: weights are 1/sigma**2; give one of them")
    kind: Kind = "sigma" if weights is None else "weights"
    given = sigma if weights is None else weights
    if not equations:
        raise ArgumentError(
            f"{kind} belongs to an equation, Eq(y, model) or {{y: model}}; in a cost, divide the residuals by it"
        )
    by_equation: dict[int, Any] = {}
    if isinstance(given, Mapping):
        for key, value in given.items():
            by_equation[_equation(key, equations, kind)] = value
    else:
        if len(equations) > 1 and np.ndim(given) > 0:
            raise ArgumentError(f"there are {len(equations)} equations: give {kind} by what is observed, {{y: ...}}")
        by_equation = dict.fromkeys(range(len(equations)), given)
    return {k: _spread(kind, k, value, equations[k], column) for k, value in by_equation.items()}


def _equation(key: Any, equations: Sequence[Equation], kind: str) -> int:
    """The number of the equation whose left side, or the base of it, is `key`."""
    for k, (left, _) in enumerate(equations):
        base = left.base if isinstance(left, sp.Indexed) else left
        if key in (left, base, str(left), str(base)):
            return k
    shown = ", ".join(describe(left) for left, _ in equations)
    raise ArgumentError(f"{kind} has {key}, which no equation observes; observed are {shown}")


def _spread(kind: Kind, k: int, value: Any, equation: Equation, column: Callable[[str], Any]) -> Spread:
    if isinstance(value, str):
        value = column(value)
    left = equation[0]
    if isinstance(value, sp.IndexedBase) and isinstance(left, sp.Indexed):
        value = value[left.indices]
    if isinstance(value, sp.Basic) and value.free_symbols:
        return Spread(kind, expression=value)
    name = label(kind, k)
    return Spread(kind, array=numbers(name, float(value) if isinstance(value, sp.Basic) else value), name=name)


def settled(graph: Graph, spreads: Mapping[int, Spread], batch: tuple[int, ...]) -> dict[int, Spread]:
    """Spreads whose arrays are checked, in the axes of the observations, and factored where they are covariances.

    Args:
        graph: with the sides of the equations as outputs, observations included.
        spreads: by the number of their equation.
        batch: axes of independent fits.

    Raises:
        DataError: numbers that are not positive, a matrix that is no covariance.
    """
    taken = {graph[v].attributes["name"] for v in graph.inputs}
    found = dict(spreads)
    for k, spread in spreads.items():
        if spread.array is None:
            continue
        shape = max((graph[graph.outputs[label(side, k)]].type.shape for side in ("observed", "model")), key=len)
        name, array = spread.name, spread.array
        while name in taken:
            name += "_"
        taken.add(name)
        line = len([d for d in shape if d != 1]) == 1
        if spread.kind == "sigma" and line and len(shape) < 3 and _is_matrix(array, shape, batch):
            found[k] = Spread("covariance", array=_factor(spread.name, array), name=name)
            continue
        require_positive(spread.kind, spread.name, array)
        if array.ndim == 1 and len(shape) == 2 and line:  # a column of a matrix
            array = array[:, None] if shape[1] == 1 else array[None, :]
        if array.ndim and array.ndim < len(shape):
            raise DataError(
                f"{spread.name} has shape {array.shape}, but the observations have "
                f"{counted(len(shape), 'axis', 'axes')}"
            )
        found[k] = replace(spread, array=array, name=name)
    return found


def require_positive(kind: str, name: str, array: Array) -> None:
    """Raise `DataError` for standard deviations that are not positive, or weights that are negative.

    Their squares must be within the range of floats too.
    """
    bad = array <= 0 if kind == "sigma" else array < 0
    what = "positive" if kind == "sigma" else "zero or more"
    if not bad.any() and kind == "sigma":
        with np.errstate(all="ignore"):
            bad, what = ~np.isfinite(array**-2.0) | (array**-2.0 == 0), "within 1e-154 and 1e154: change the units"
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at {place[0] if len(place) == 1 else place}" if place else ""
        raise DataError(f"{name} must be {what}; it is {array[place]}{where}")


def _is_matrix(array: Array, shape: tuple[Any, ...], batch: tuple[int, ...]) -> bool:
    """Whether an array is a square matrix, beside observations along one line."""
    elementwise = len(batch) + len(shape)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] == 1:
        return False
    return array.ndim == len(batch) + 2 and (len(shape) == 1 or array.ndim == elementwise)


def _factor(name: str, matrix: Array) -> Array:
    """The inverse of the lower Cholesky factor of a covariance matrix: what makes residuals uncorrelated."""
    if not np.allclose(matrix, np.swapaxes(matrix, -1, -2), rtol=1e-8, atol=0):
        raise DataError(f"{name} is a square matrix, so a covariance, but it is not symmetric")
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise DataError(f"{name} is a square matrix, so a covariance, but it is not positive definite") from None
    unit = np.eye(factor.shape[-1])
    return np.stack([linalg.solve_triangular(L, unit, lower=True) for L in factor.reshape(-1, *unit.shape)]).reshape(
        factor.shape
    )
