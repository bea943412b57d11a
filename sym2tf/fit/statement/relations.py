"""Constraints: relations between parameters as graphs of what must be zero, or not negative."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import sympy as sp

from sym2tf.errors import ArgumentError
from sym2tf.fit.wording import kind_of
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph


@dataclass(frozen=True)
class Constraint:
    """A relation that the parameters must obey.

    Attributes:
        text: as the user wrote it.
        kind: of the relation.
        graph: output `"out"`: what must be 0 or, for an inequality, not negative; of any shape, for every element. Its
            inputs are parameters and data; `residuals.linearised` makes numbers of it, with their Jacobian.
    """

    text: str
    kind: Literal["equality", "inequality"]
    graph: Graph = field(repr=False)


def relations_of(constraints: Any) -> list[tuple[str, Literal["equality", "inequality"], Any]]:
    """`(text, kind, expression that must be 0 or not negative)` of each relation.

    Raises:
        ArgumentError: what is no relation, or one that holds or fails whatever the parameters are.
    """
    if isinstance(constraints, sp.Basic | bool):
        constraints = [constraints]
    if not isinstance(constraints, Iterable) or isinstance(constraints, str):
        raise ArgumentError(f"constraints is {kind_of(constraints)}; give relations, such as [a + b <= 1, Eq(a*b, 2)]")
    pending = list(constraints)
    found: list[tuple[str, Literal["equality", "inequality"], Any]] = []
    for k, relation in enumerate(pending):
        if isinstance(relation, sp.And):
            pending += sorted(relation.args, key=str)
            continue
        if relation in (True, False, sp.true, sp.false):
            raise ArgumentError(
                f"constraint {k} is {relation} whatever the parameters are: the assumptions about the symbols, or its "
                "sides, decide it"
            )
        if isinstance(relation, sp.Eq):
            found.append((describe(relation), "equality", relation.lhs - relation.rhs))
        elif isinstance(relation, sp.Le | sp.Lt):
            found.append((describe(relation), "inequality", relation.rhs - relation.lhs))
        elif isinstance(relation, sp.Ge | sp.Gt):
            found.append((describe(relation), "inequality", relation.lhs - relation.rhs))
        else:
            text = describe(relation) if isinstance(relation, sp.Basic) else repr(relation)
            raise ArgumentError(f"constraint {k} is {text}; constraints are made with <=, >= and Eq, joined by And")
    return found
