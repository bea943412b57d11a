"""Numbers by parameter: what the user asks for by symbol, name or element, and what a table shows row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.statement.parameters import element_names
from sym2tf.fit.statement.problem import Problem
from sym2tf.ir.dims import evaluate_size

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
                return self._by_name[base][(..., *(int(k) for k in rest[:-1].split(",")))][()]
            except (ValueError, IndexError, TypeError):
                pass
        raise KeyError(f"{key}: the parameters are {', '.join(self._by_name)}")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {value}" for name, value in self._by_name.items()) + "}"


@dataclass(frozen=True)
class Tied:
    """A parameter that is an expression in others.

    Attributes:
        symbol, name: of it.
        value: at the estimates, in its shape.
        stderr: in the same shape; None where the others have none.
    """

    symbol: Any
    name: str
    value: Array
    stderr: Array | None

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each element in C order."""
        return element_names(self.name, self.value.shape)


def tied_estimates(problem: Problem, theta: Array, covariance: Array | None) -> tuple[Tied, ...]:
    """The parameters that are tied, with standard errors by the delta method."""
    found = []
    for tie in problem.ties.values():
        graph = tie.graph
        shape = tuple(evaluate_size(d, problem.bound) for d in graph[graph.outputs["out"]].type.shape)
        values, jacobian = evaluators(graph, problem)
        errors = None
        if covariance is not None:
            errors = np.sqrt(propagated(jacobian(theta), covariance)).reshape(shape)
        found.append(Tied(tie.symbol, tie.name, values(theta).reshape(shape), errors))
    return tuple(found)


def propagated(J: Array, covariance: Array) -> Array:
    """(rows,), the variances of functions of the estimates by the delta method: diag(J C J^T).

    Args:
        J: (rows, p), the derivatives of the functions.
        covariance: (p, p). Where a variance is 0, rounding may make it negative: that is 0.
    """
    variance: Array = np.einsum("ij,jk,ik->i", J, covariance, J).clip(0)
    return variance


def by_parameter(
    problem: Problem, flat: Array, tied: Mapping[str, Array] | None = None, fixed: float | None = None
) -> ByParameter:
    """A flat vector (p,) over the free parameters by parameter, with what belongs to the others.

    Args:
        problem: whose parameters they are.
        flat: (p,).
        tied: by name, for those that are tied.
        fixed: for those that are fixed; their value where it is None.
    """
    values = problem.unpacked(flat)
    found = {}
    for u in problem.unknowns:
        other = u.initial if fixed is None else np.full(u.initial.shape, fixed)
        found[u.symbol] = (u.name, _own(values.get(u.name, other)))
    for name, array in (tied or {}).items():
        found[problem.ties[name].symbol] = (name, _own(array))
    return ByParameter(found)


def _own(array: Array) -> Any:
    """A copy of an array, or a float where it has no axes."""
    return array.copy() if array.shape else float(array)
