"""Raises a graph back to mathematics, so that people can read what was derived."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import sympy as sp

from sym2tf.backends.forms import NoMatrixFormError
from sym2tf.backends.index_form import taken_names
from sym2tf.backends.index_rules import raising
from sym2tf.backends.matrix_form import element_expression, is_of_matrices, matrix_expression
from sym2tf.errors import ResourceLimitError
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops.leaves import const, input_
from sym2tf.ops.logic import select
from sym2tf.passes.guards import without_guards

MAX_TREE = 20_000  # operations, shared ones counted as often as they would be printed
MAX_ENTRIES = 1000  # of an explicit matrix
MAX_DEPTH = 100  # SymPy recurses over what it builds


def raise_to_sympy(graph: Graph) -> dict[str, Any]:
    """Each output as one SymPy expression.

    Where all tensors in it are matrices, an output is a matrix expression. Otherwise, if it has core axes, it is its
    element at free indices `i`, `j`, ...; sums take the next letters.

    Raises:
        ResourceLimitError: written out, an expression is too large or deep to read; see `raise_shared`.
        GraphError: an operation for which SymPy has no notation.
    """
    graph = without_guards(graph)
    _refuse_large(graph)
    return {name: _raised(graph, v) for name, v in graph.outputs.items()}


def _raised(graph: Graph, v: int) -> Any:
    if _is_written_out(graph, v):
        elements = raising(graph)
        shape = graph[v].type.shape
        return sp.ImmutableMatrix(*shape, lambda i, j: elements.element(v, (sp.Integer(i), sp.Integer(j))))
    if is_of_matrices(graph, v):
        with suppress(NoMatrixFormError):
            return matrix_expression(graph, v)
    return element_expression(graph, v)


def _is_written_out(graph: Graph, v: int) -> bool:
    """Whether output `v` is a matrix of so and so many functions of numbers, which an explicit matrix says best."""
    shape = [d for d in graph[v].type.shape if isinstance(d, int)]
    if graph[v].type.rank != 2 or len(shape) != 2 or shape[0] * shape[1] > MAX_ENTRIES:
        return False
    inputs = [graph[u] for u in graph.ancestors(v) if graph[u].op is input_ and graph[u].type.rank]
    return all(isinstance(n.attributes["symbol"], sp.MatrixBase) for n in inputs)


def raise_shared(graph: Graph) -> tuple[list[tuple[Any, Any]], dict[str, Any]]:
    """The outputs with their shared parts named: `(replacements, outputs)`, as `sympy.cse` gives them.

    A replacement is `(symbol, expression)`; a tensor's is `(base[i, j], element at i, j)`. Parts too
    deep for SymPy are named too.
    """
    taken = {str(name) for name in taken_names(graph)}
    fresh = (f"x{k}" for k in range(len(graph) + len(taken)) if f"x{k}" not in taken)
    named: dict[int, Any] = {}
    replacements = []
    plain = raising(graph, named)
    for v in _worth_naming(graph):
        elements = replace(plain, known={})
        element = elements.element(v)
        name = next(fresh)
        named[v] = sp.IndexedBase(name) if elements.free else sp.Symbol(name)
        replacements.append((named[v][elements.free] if elements.free else named[v], element))
    outputs = {name: replace(plain, known={}).element(v) for name, v in graph.outputs.items()}
    return replacements, outputs


# Sizes and depths


def _refuse_large(graph: Graph) -> None:
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    for v in graph.order:
        operands = graph.operands(v)
        sizes[v] = 1 + sum(sizes[u] for u in operands)
        depths[v] = _depth(graph[v], [depths[u] for u in operands])
    for name, v in graph.outputs.items():
        if sizes[v] > MAX_TREE or depths[v] > MAX_DEPTH:
            raise ResourceLimitError(
                f"written out, output {name!r} has {_short(sizes[v])} operations, {depths[v]} deep; "
                "raise_shared names its shared parts"
            )


def _depth(node: Node, below: Sequence[int]) -> int:
    """How deep the raised expression is: a chain of selections is one Piecewise."""
    if node.op is select:
        return max(1 + below[0], 1 + below[1], below[2])
    return 1 + max(below, default=0)


def _short(number: int) -> str:
    return str(number) if number < 10**9 else f"2^{number.bit_length() - 1} or more"


def _worth_naming(graph: Graph) -> list[int]:
    """Nodes used more than once that are more than a leaf or a movement, and cuts through deep graphs."""
    uses: dict[int, int] = {}
    for v in graph.order:
        for u in graph.operands(v):
            uses[u] = uses.get(u, 0) + 1
    depths: dict[int, int] = {}
    sizes: dict[int, int] = {}
    named = []
    for v in graph.order:
        node, operands = graph[v], graph.operands(v)
        depths[v] = _depth(graph[v], [depths[u] for u in operands])
        sizes[v] = 1 + sum(sizes[u] for u in operands)
        plain = not operands or node.type.kind is Kind.BOOLEAN or node.op is const or node.op is input_
        moves = node.op.linear and node.op.arity == 1 and node.op.name != "sum"
        shared = uses.get(v, 0) > 1 and sizes[v] > 3 and not moves
        if not plain and (shared or depths[v] > MAX_DEPTH // 2 or sizes[v] > MAX_TREE // 10):
            named.append(v)
            depths[v] = sizes[v] = 1
    return named
