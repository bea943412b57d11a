"""The problem that a fit solves: a cost as a graph, arrays, parameters. `state` makes it of what the user states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sym2tf.fit.statement.data import PastBatches, Stream
from sym2tf.fit.statement.equations import Equation, Spread
from sym2tf.fit.statement.parameters import Unknown, unpacked
from sym2tf.fit.statement.relations import Constraint
from sym2tf.fit.statement.ties import Tie
from sym2tf.ir.graph import Graph
from sym2tf.losses import Loss

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Problem:
    """A cost as a graph, the arrays of its data, and its parameters.

    Attributes:
        cost: what the user gave: an expression, an equation, or a tuple of several equations.
        graph: lowered, not optimised; inputs are data and parameters; output `"out"` is the cost. For an equation
            `"observed"` and `"model"` are its sides, `"difference"` is observed - model, and `"residual"` is that in
            units of sigma; for the second equation they are `"observed 1"`, ...
        data: by input name, float64; int64 what stands in subscripts. Of a stream its first batch.
        unknowns: the parameters in the order in which the user gave them; without those that are tied.
        sizes: numbers for size symbols that the user gave.
        bound: every size as a number.
        symbols: input name -> what the user wrote.
        implicit: the user listed no parameters, so that every symbol without data is one.
        starts_given: the user said where to start; otherwise every parameter starts at 0.
        maximize: the user's cost is to be maximised: the output `"out"` is its negative.
        batch: the lengths of the axes of data in front of those that the cost uses: as many independent fits.
        equations: `(observed, model)` of each equation; none for a cost.
        loss: of the residuals of equations; None where it is the square, and for a cost.
        spreads: how precise the observations are, by the number of their equation, where it is stated.
        ties: parameters that are expressions in `unknowns`.
        constraints: relations that the parameters must obey.
        stream: where further batches come from; None where the data are at hand as a whole.
    """

    cost: Any
    graph: Graph
    data: Mapping[str, Array]
    unknowns: tuple[Unknown, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    bound: Mapping[str, int] = field(default_factory=dict)
    symbols: Mapping[str, Any] = field(default_factory=dict)
    implicit: bool = False
    starts_given: bool = True
    maximize: bool = False
    batch: tuple[int, ...] = ()
    equations: tuple[Equation, ...] = ()
    loss: Loss | None = None
    spreads: Mapping[int, Spread] = field(default_factory=dict)
    ties: Mapping[str, Tie] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    stream: Stream | PastBatches | None = None

    @cached_property
    def free(self) -> tuple[Unknown, ...]:
        """The parameters to estimate."""
        return tuple([u for u in self.unknowns if not u.fixed])

    @property
    def fixed(self) -> dict[str, Array]:
        """The values of the others."""
        return {u.name: u.initial for u in self.unknowns if u.fixed}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The elements of the free parameters."""
        return tuple(name for u in self.free for name in u.names)

    @cached_property
    def bounded(self) -> bool:
        """Whether a free parameter has a finite bound."""
        return any(np.isfinite(u.lower).any() or np.isfinite(u.upper).any() for u in self.free)

    @cached_property
    def limits(self) -> tuple[Array, Array]:
        """The bounds of the free parameters as flat vectors, read-only."""
        low, high = self.packed("lower"), self.packed("upper")
        low.flags.writeable = high.flags.writeable = False
        return low, high

    @property
    def hint(self) -> str:
        """What to look at where the data do not determine the parameters: a symbol taken for one by mistake."""
        if not self.implicit:
            return ""
        data = f"data has {', '.join(self.data)}" if self.data else "there are no data"
        names = ", ".join(u.name for u in self.unknowns)
        return f" (params was left out, so all symbols without data are parameters: {names}; {data})"

    def unpacked(self, theta: Array) -> dict[str, Array]:
        """The free parameters as arrays, from the flat vector of all their elements (last axis)."""
        return unpacked(self.free, theta)

    def packed(self, attribute: str) -> Array:
        """`initial`, `lower` or `upper` of the free parameters as one flat vector."""
        return np.concatenate([getattr(u, attribute).ravel() for u in self.free])

    def with_numbers(self, data: Mapping[str, Array], unknowns: tuple[Unknown, ...]) -> Problem:
        """The same statement about other numbers: data and parameters of the same names and shapes."""
        answer, pairs = object.__new__(Problem), list(zip(unknowns, self.unknowns, strict=True))
        vars(answer).update(vars(self), data=data, unknowns=unknowns)
        stale = ["free"]  # of what is remembered
        if any(u.lower is not v.lower or u.upper is not v.upper for u, v in pairs):
            stale += ["bounded", "limits"]
        if any(u.fixed != v.fixed for u, v in pairs):  # bounds without room between them hold a parameter
            stale += ["names", "bounded", "limits"]
        for name in stale:
            vars(answer).pop(name, None)
        return answer
