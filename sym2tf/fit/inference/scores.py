"""What each observation adds to a cost that is a sum over observations, and the derivative of that: its score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sym2tf.errors import FitError
from sym2tf.fit.evaluation.residuals import evaluators
from sym2tf.fit.statement.problem import Problem
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ops.arithmetic import add, mul
from sym2tf.ops.indexing import sum_
from sym2tf.ops.values import Value
from sym2tf.passes.degree import degrees

Array = np.ndarray[Any, Any]
Function = Callable[[Array], Array]


def contributions(problem: Problem, observations: int | None) -> tuple[Function, Function]:
    """Functions of theta: what each observation adds to the cost, (N,), and its derivative, (N, p).

    The outermost sums over observations are taken apart. What the cost holds beside them, such as N*log(sigma), is
    shared out evenly.

    Raises:
        FitError: the cost is no sum over observations that can be told apart; says why.
    """
    if observations is None:
        raise FitError("the number of observations cannot be told from the cost, so it cannot be taken apart")
    graph = problem.graph
    builder = Builder()
    where = builder.include(graph)
    outputs, layout = {}, []
    for k, (node, factors, summed) in enumerate(_terms(problem, graph)):
        value = Value(builder, where[node])
        for factor in factors:
            value = value * Value(builder, where[factor])
        outputs[str(k)] = value.id
        shape = tuple(evaluate_size(d, problem.bound) for d in graph[node].type.shape)
        layout.append((shape, _axis(shape, summed, observations)))
    parts = builder.build([where[v] for v in graph.inputs], outputs, graph.info)
    values, jacobian = evaluators(parts, problem)
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape, _ in layout)])

    def per_observation(rows: Array) -> Array:
        """(all rows, ...) -> (N, ...), the terms added up."""
        total = np.zeros((observations, *rows.shape[1:]))
        for (shape, axis), start, stop in zip(layout, ends[:-1], ends[1:], strict=True):
            block = rows[start:stop].reshape(*shape, *rows.shape[1:])
            if axis is None:
                total += block.sum(axis=tuple(range(len(shape)))) / observations
            else:
                rest = tuple(a for a in range(len(shape)) if a != axis)
                total += block.sum(axis=rest)
        return total

    return lambda theta: per_observation(values(theta)), lambda theta: per_observation(jacobian(theta))


def _axis(shape: tuple[int, ...], summed: bool, observations: int) -> int | None:
    """The axis of observations of a term; None for one that is shared out."""
    if not summed:
        return None
    if observations not in shape:
        raise FitError(f"a sum in the cost runs over {shape} terms, not over the {observations} observations")
    return shape.index(observations)


def _terms(problem: Problem, graph: Graph) -> list[tuple[int, tuple[int, ...], bool]]:
    """`(node, factors, whether it was summed)`: the cost is the sum over all of node*factors, up to a constant."""
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    degree = degrees(graph, [nodes[u.name] for u in problem.free if u.name in nodes])
    arrays = [v for name, v in nodes.items() if name in problem.data and problem.data[name].ndim]
    by_row = degrees(graph, arrays)
    found = []
    pending: list[tuple[int, tuple[int, ...]]] = [(graph.outputs["out"], ())]
    while pending:
        v, factors = pending.pop()
        if not any(degree[u] > 0 for u in (v, *factors)):
            continue
        operands, scalar = graph.operands(v), not graph[v].type.rank
        observed = [u for u in operands if by_row[u] > 0]
        if graph[v].op is add and scalar:
            pending += [(u, factors) for u in operands]
        elif graph[v].op is mul and scalar and len(observed) == 1:
            rest = list(operands)
            rest.remove(observed[0])
            pending.append((observed[0], (*factors, *rest)))
        elif graph[v].op is sum_:
            inner = operands[0]
            while graph[inner].op is sum_:
                (inner,) = graph.operands(inner)
            found.append((inner, factors, True))
        elif by_row[v] > 0:
            raise FitError(
                "the cost is no plain sum over the observations, so what each of them adds cannot be told: write it as "
                "Sum(..., (i, 0, n-1))"
            )
        else:
            found.append((v, factors, False))
    return found
