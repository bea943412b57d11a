"""What a graph computes from some of its inputs alone, taken out and computed once for many values of the others.

In a fit, that is what depends on the data and not on the free parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import TensorType
from sym2tf.ops.leaves import input_


class Split(NamedTuple):
    """A graph in two parts.

    Attributes:
        once: computes what is kept; its inputs are some of the fixed ones.
        rest: the outputs of the whole graph, from the inputs that vary and what is kept: the inputs of that are
            called as the outputs of `once` are, and fixed inputs that are still needed stay inputs.
    """

    once: Graph
    rest: Graph


def split(graph: Graph, fixed: Collection[int], keep: Callable[[TensorType], bool] = lambda type: True) -> Split:
    """`graph` as what depends on the inputs `fixed` alone, and the rest.

    The border is as far up as it can be: the values of fixed inputs that something else uses. Where such a value is
    not to be kept its operands are instead.

    Args:
        graph: any graph.
        fixed: input nodes.
        keep: whether a value of this type may be kept.
    """
    border = _border(graph, fixed, keep)
    names = {v: f"kept {k}" for k, v in enumerate(border)}
    once, rest = Builder(), Builder()
    there: dict[int, int] = {}
    for v in _below(graph, border):
        there[v] = once.copy_node(graph, v, [there[u] for u in graph.operands(v)])
    inputs = [there[v] for v in graph.inputs if v in there]
    first = once.build(inputs, {names[v]: there[v] for v in border}, graph.info)
    here: dict[int, int] = {}
    needed = _needed(graph, set(border))
    for v in graph.order:
        if v in names:
            here[v] = rest.add(input_, (), {"name": names[v], "symbol": None, "type": graph[v].type})
        elif v in needed:
            here[v] = rest.copy_node(graph, v, [here[u] for u in graph.operands(v)])
    arguments = [here[v] for v in graph.inputs if v in here and v not in names] + [here[v] for v in border]
    outputs = {name: here[v] for name, v in graph.outputs.items()}
    info = {**graph.info, "reaches": (), "args": (), "outputs": tuple(outputs)}
    return Split(first, rest.build(arguments, outputs, info))


def _border(graph: Graph, fixed: Collection[int], keep: Callable[[TensorType], bool]) -> list[int]:
    known: set[int] = set()  # depends on fixed inputs at most
    exact: set[int] = set()  # on no input, and a scalar: whoever runs the graph folds it
    for v in graph.order:
        operands = graph.operands(v)
        if v in fixed or (graph[v].op is not input_ and all(u in known for u in operands)):
            known.add(v)
        if graph[v].op is not input_ and not graph[v].type.rank and all(u in exact for u in operands):
            exact.add(v)
    border = []
    needed = set(graph.outputs.values())
    for v in reversed(graph.order):
        if v not in needed or v in exact:
            continue
        if v in known and graph.operands(v) and keep(graph[v].type):
            border.append(v)
        else:
            needed.update(graph.operands(v))
    return sorted(border)


def _needed(graph: Graph, border: Collection[int]) -> set[int]:
    needed = set(graph.outputs.values())
    for v in reversed(graph.order):
        if v in needed and v not in border:
            needed.update(graph.operands(v))
    return needed


def _below(graph: Graph, border: Collection[int]) -> list[int]:
    needed = set(border)
    for v in reversed(graph.order):
        if v in needed:
            needed.update(graph.operands(v))
    return [v for v in graph.order if v in needed]
