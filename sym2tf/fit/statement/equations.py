"""What is to be minimised, as a graph: the cost as it stands, or the losses of equations, all residuals added up.

It is made in two steps, since the shapes of plain symbols are those of their data: `lowered` has the sides of the
equations and everything else that stands in a statement as outputs of one graph, `with_total` adds the cost to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import sympy as sp

from sym2tf.errors import ArgumentError
from sym2tf.fit.wording import kind_of
from sym2tf.frontend.describe import describe
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind as ValueKind
from sym2tf.ir.types import TensorType
from sym2tf.losses import Loss, residual
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import expand, sum_
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value
from sym2tf.passes.inlining import inline

Array = np.ndarray[Any, Any]
Equation = tuple[Any, Any]  # observed, model
Kind = Literal["sigma", "weights", "covariance"]


@dataclass(frozen=True)
class Spread:
    """How precise the observations of an equation are.

    Attributes:
        kind: `"sigma"`, standard deviations; `"weights"`, 1/sigma^2; `"covariance"`, of which `array` is the
            inverse Cholesky factor.
        expression: in data; None where there is an array.
        array: a number, an array like the observations, or (n, n); None where there is an expression.
        name: of the input that holds the array.
    """

    kind: Kind
    expression: Any = None
    array: Array | None = None
    name: str = ""


def equations_of(cost: Any) -> tuple[Equation, ...]:
    """The equations of a statement, as pairs of sides; none where it is a cost.

    Raises:
        ArgumentError: neither a cost nor equations.
    """
    if isinstance(cost, sp.Eq):
        return ((cost.lhs, cost.rhs),)
    if isinstance(cost, Mapping):
        if not cost:
            raise ArgumentError("the mapping from what is observed to models is empty")
        text = next((side for pair in cost.items() for side in pair if isinstance(side, str)), None)
        if text is not None:
            raise ArgumentError(f"{text!r} is text, not an expression: use sym2tf.parse({text!r})")
        return tuple((sp.sympify(left), sp.sympify(right)) for left, right in cost.items())
    if cost in (sp.true, sp.false):
        raise ArgumentError(
            f"the equation is {cost}, whatever the parameters are: its sides hold no data or are equal, or "
            "stand around Python's ==, which compares formulas: write Eq(y, model)"
        )
    if isinstance(cost, sp.logic.boolalg.Boolean) and not isinstance(cost, sp.Symbol):
        raise ArgumentError(f"{describe(cost)} is no cost: give a scalar expression or Eq(y, model)")
    if isinstance(cost, list | tuple):
        raise ArgumentError("a cost is one expression; several terms are added up. Equations are {y: model, ...}")
    if not isinstance(cost, sp.Basic | sp.MatrixBase | str | int | float):
        raise ArgumentError(f"the cost is {kind_of(cost)}; give a scalar expression, Eq(y, model) or {{y: model}}")
    return ()


def label(side: str, number: int) -> str:
    """The name of an output of the equation with that number: `model`, `model 1`, `model 2`, ..."""
    return f"{side} {number}" if number else side


def lowered(roots: Mapping[str, Any]) -> Graph:
    """One graph of labelled expressions; `info["free"]` has the free indices of each."""
    graph = lower(list(roots.values()))
    outputs = dict(zip(roots, graph.outputs.values(), strict=True))
    free = dict(zip(roots, graph.info["indices"], strict=True))
    return Graph(graph.nx, graph.inputs, outputs, {**graph.info, "outputs": tuple(roots), "free": free})


def sides(equations: Sequence[Equation]) -> dict[str, Any]:
    """The sides of equations by the names of their outputs."""
    return {
        label(side, k): expression
        for k, equation in enumerate(equations)
        for side, expression in zip(("observed", "model"), equation, strict=True)
    }


def with_total(
    graph: Graph,
    cost: Any,
    equations: Sequence[Equation],
    loss: Loss | None,
    spreads: Mapping[int, Spread],
    *,
    maximize: bool,
) -> Graph:
    """`graph` with the cost as output `"out"`.

    For each equation it has, beside its sides, the outputs `"difference"`, observed - model, and `"residual"`, which
    is that over sigma: (n, ...), of the shape of what is observed.

    Raises:
        ArgumentError: a cost that is not scalar; sides or standard deviations whose axes do not fit.
    """
    if not equations:
        _require_scalar(graph, cost)
    builder = Builder()
    where = builder.include(graph)
    outputs = {name: where[v] for name, v in graph.outputs.items()}
    inputs = [where[v] for v in graph.inputs]
    if not equations:
        value = Value(builder, where[graph.outputs["out"]])
        outputs["out"] = (-value).id if maximize else value.id
        return builder.build(inputs, outputs, graph.info)
    rule = None if loss is None or loss.is_square else lower(loss.expression, args=(residual, *_extra(loss)))
    free, terms = graph.info["free"], []
    for k in range(len(equations)):
        observed, model = (Value(builder, outputs[label(side, k)]) for side in ("observed", "model"))
        indices = free[label("observed", k)] or free[label("model", k)]  # Eq(0, ...) has none on the left
        model = _aligned(model, free[label("model", k)], observed, indices, "the model")
        difference = _value(observed - model)
        spread, scale = spreads.get(k), None
        if spread is not None and spread.array is None:
            name = label(spread.kind, k)
            scale = _aligned(Value(builder, outputs[name]), free[name], difference, indices, spread.kind)
        elif spread is not None:
            scale = _input(builder, spread, difference)
            inputs.append(scale.id)
        whitened = _whitened(difference, spread, scale)
        if rule is None:
            each = _squares(difference, whitened, spread, scale)
        else:
            each = inline(builder, rule, _bound(rule, whitened, builder, graph, where))["out"]
        terms.append(_sum(each))
        outputs |= {label("difference", k): difference.id, label("residual", k): whitened.id}
    total = terms[0]
    for term in terms[1:]:
        total = _value(total + term)
    outputs["out"] = total.id
    return builder.build(inputs, outputs, graph.info)


def _extra(loss: Loss) -> list[Any]:
    return sorted(loss.symbols, key=str)


def _bound(rule: Graph, whitened: Value, builder: Builder, graph: Graph, where: Mapping[int, int]) -> dict[int, Value]:
    """What the inputs of a loss stand for: the residual, and symbols of the statement."""
    nodes = {graph[v].attributes["symbol"]: v for v in graph.inputs}
    bound = {}
    for v in rule.inputs:
        symbol = rule[v].attributes["symbol"]
        bound[v] = whitened if symbol == residual else Value(builder, where[nodes[symbol]])
    return bound


def _require_scalar(graph: Graph, cost: Any) -> None:
    type_ = graph[graph.outputs["out"]].type
    if type_.kind < ValueKind.REAL:
        raise ArgumentError(f"{describe(cost)} is a condition, not a cost")
    if any(d != 1 for d in type_.shape):
        free = ", ".join(map(str, type_.shape))
        raise ArgumentError(
            f"the cost is not scalar: it has core shape ({free}), because an index in {describe(cost)} is bound by "
            "no Sum; write Sum(..., (i, 0, n-1)) or state Eq(y[i], model)"
        )


def _aligned(value: Value, own: Sequence[Any], observed: Value, whole: Sequence[Any], what: str) -> Value:
    """`value` with its axes where those of `observed` are: index by index, then the axes of tensors.

    Args:
        value: whose first axes stand for the indices `own`.
        own: free indices of it.
        observed: whose first axes stand for the indices `whole`.
        whole: free indices of what is observed.
        what: it is, for errors.
    """
    foreign = [index for index in own if index not in whole]
    if foreign:
        raise ArgumentError(
            f"{what} has the free index {foreign[0]}, which what is observed has not: bind it by a Sum, or give it to "
            "what is observed"
        )
    tensor = value.type.rank - len(own)
    due = observed.type.rank - len(whole)
    if due and tensor not in (0, due):
        raise ArgumentError(
            f"{what} has the shape ({', '.join(map(str, value.shape))}), "
            f"what is observed has ({', '.join(map(str, observed.shape))})"
        )
    if (not own and not tensor) or not (whole or due):
        return value  # a number, or beside one
    for position, index in enumerate(whole):
        if index not in own:
            value = expand(value, axis=position - value.type.rank - 1)
    for _ in range(due - tensor):
        value = expand(value, axis=-1)
    return value


def _input(builder: Builder, spread: Spread, difference: Value) -> Value:
    """A new input for the array of a spread, in the shape of the residuals."""
    assert spread.array is not None
    shape = difference.shape if spread.array.ndim else ()
    if spread.kind == "covariance":
        lengths = [d for d in difference.shape if d != 1]
        if len(lengths) != 1:
            shown = ", ".join(map(str, difference.shape))
            raise ArgumentError(
                f"a covariance matrix is of observations along one axis; these have the shape ({shown})"
            )
        shape = (lengths[0], lengths[0])
    attributes = {"name": spread.name, "symbol": sp.Symbol(spread.name), "type": TensorType(ValueKind.REAL, shape)}
    return Value(builder, builder.add(input_, (), attributes))


def _whitened(difference: Value, spread: Spread | None, scale: Value | None) -> Value:
    """Residuals in units of their standard deviation, and uncorrelated."""
    if spread is None or scale is None:
        return difference
    if spread.kind == "sigma":
        return _value(difference / scale)
    if spread.kind == "weights":
        return _value(difference * scale ** Fraction(1, 2))
    letters = "ab"[-difference.type.rank :] if difference.shape[-1] != 1 else "bc"
    return _value(einsum(scale, difference, inputs=("xb", letters), output=letters.replace("b", "x")))


def _squares(difference: Value, whitened: Value, spread: Spread | None, scale: Value | None) -> Value:
    """The squares whose sum is the cost: with the weights outside, so that residuals keep their units."""
    if spread is None or spread.kind == "covariance":
        return _value(whitened**2)
    assert scale is not None
    return _value((scale ** (-2) if spread.kind == "sigma" else scale) * difference**2)


def _sum(value: Value) -> Value:
    return _value(sum_(value, axes=tuple(range(-value.type.rank, 0)))) if value.shape else value


def _value(value: Any) -> Value:
    """The operators of values are typed loosely."""
    assert isinstance(value, Value)
    return value
