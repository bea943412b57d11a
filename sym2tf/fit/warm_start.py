"""A fit as the start of another one."""

from __future__ import annotations

from typing import Any

import numpy as np

from sym2tf.fit.result import FitResult
from sym2tf.fit.statement.parameters import Parameter


def started_from(result: FitResult) -> dict[Any, Any]:
    """`params` for a fit that starts where another one ended, with the same bounds, fixed values and ties."""
    problem = result.statement
    values = problem.unpacked(result.estimates)
    stated: dict[Any, Any] = {}
    for u in problem.unknowns:
        value = values.get(u.name, u.initial)
        bounded = not u.implied and bool(np.isfinite(u.lower).any() or np.isfinite(u.upper).any())
        bounds = (u.lower, u.upper) if bounded else None
        stated[u.symbol] = Parameter(value if u.initial.shape else float(value), bounds=bounds, fixed=u.fixed)
    return stated | {tie.symbol: tie.expression for tie in problem.ties.values()}
