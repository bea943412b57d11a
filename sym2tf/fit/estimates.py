"""Numbers by parameter: what the user asks for by symbol, name or element, and what a table shows row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from sym2tf.fit.statement import Problem

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


def by_parameter(problem: Problem, value: Callable[[Any], Array]) -> ByParameter:
    """`value(unknown)` of each parameter; arrays are copied, those without axes become floats."""
    found = [(u, value(u)) for u in problem.unknowns]
    return ByParameter({u.symbol: (u.name, a.copy() if a.shape else float(a)) for u, a in found})


def flat_by_parameter(problem: Problem, flat: Array, fixed: float | None = None) -> ByParameter:
    """A flat vector (p,) over the free parameters by parameter; the fixed ones have their value, or `fixed`."""
    values = problem.unpacked(flat)

    def value(u: Any) -> Array:
        if u.name in values:
            return values[u.name]
        return u.initial if fixed is None else np.full(u.initial.shape, fixed)

    return by_parameter(problem, value)
