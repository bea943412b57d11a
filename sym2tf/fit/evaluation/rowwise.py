"""Sums over rows of what is computed row by row, in blocks that fit into the cache, by all cores.

Where each residual depends on its own row of the data alone, nothing of the length of the data need be kept: blocks
of rows give products of the Jacobian with itself and the residuals, which are (p+1) x (p+1), and these are added up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy_source import Kernel, kernel
from sym2tf.fit.evaluation.functions import Evaluation
from sym2tf.fit.statement.memo import made
from sym2tf.fit.statement.problem import Problem
from sym2tf.ir.dims import Dim, Size, linear_in_one, size_names
from sym2tf.ir.graph import Graph
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import broadcast, expand, sum_
from sym2tf.ops.leaves import input_
from sym2tf.passes.pipeline import stabilize

Array = np.ndarray[Any, Any]

BLOCK = 16_384
"""Rows at once. Products for two exponentials and five parameters at 10^6 rows, ms on one busy core: 45 in blocks of
2 048, 27 of 8 192, 17 of 16 384, 16 of 65 536."""


class RowProducts:
    """Products of the columns of a Jacobian and, last, the residuals, with each other, as a function of theta."""

    def __init__(self, residuals: Graph, problem: Problem, root: Array | None, *, every: int = 1) -> None:
        """The sums over every `every`-th row."""
        stable = made(residuals, "stable", lambda: stabilize(residuals))
        names = [u.name for u in problem.free]
        whole = made(stable, ("with slopes", *names), lambda: _with_slopes(stable, names))
        self._evaluation = Evaluation(whole, problem)
        self._rest = self._evaluation.plan.rest
        self._root, self._widths = root, [u.initial.size for u in problem.free]
        self._axis = row_axis(self._rest)
        self._bound = dict(problem.bound)
        self.count = sum(self._widths)
        self._kernels: dict[int, Kernel] = {}
        inputs = [self._rest[v].type.shape for v in self._rest.inputs]
        self._along = [k for k, shape in enumerate(inputs) if shape and shape[0] == self._axis]
        if every > 1:
            for k in self._along:
                array = self._evaluation.arguments[k]
                self._evaluation.arguments[k] = np.ascontiguousarray(array[::every])
            self._root = None if root is None else root[::every]
        self.rows = -(-self._evaluation.shapes[0][0] // every)

    @property
    def usable(self) -> bool:
        """Whether the rows are independent of each other."""
        return self._axis is not None and len(self._evaluation.shapes) == 1 + len(self._widths)

    def at(self, theta: Array) -> Array:
        """(p+1, p+1), of the weighted columns."""
        return np.add.reduce(self._by_blocks(theta, _products))

    def triangle(self, theta: Array) -> Array:
        """(p+1, p+1), the triangular factor of the Jacobian and, last, the residuals: more digits than the products."""
        parts = self._by_blocks(theta, lambda columns: np.linalg.qr(columns.T, mode="r"))
        return np.asarray(np.linalg.qr(np.concatenate(parts), mode="r"))

    def _by_blocks(self, theta: Array, reduce: Any) -> list[Array]:
        assert self._axis is not None
        arguments = self._evaluation.bound_to(theta)
        starts = range(0, self.rows, BLOCK)
        for start in (0, starts[-1]):
            self._kernel(min(BLOCK, self.rows - start))

        def block(start: int) -> Array:
            stop = min(start + BLOCK, self.rows)
            own = arguments.copy()
            for k in self._along:
                own[k] = own[k][start:stop]
            with np.errstate(all="ignore"):
                columns = self._columns(self._kernels[stop - start](*own), stop - start)
                if self._root is not None:
                    columns *= self._root[start:stop]
                return np.asarray(reduce(columns))

        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as pool:
            return list(pool.map(block, starts))

    def _kernel(self, rows: int) -> Kernel:
        if rows not in self._kernels:
            assert self._axis is not None
            (name,) = size_names(self._axis)
            sizes = {**self._bound, name: rows}
            self._kernels[rows] = made(
                self._rest, ("kernel", *sorted(sizes.items())), lambda: kernel(self._rest, sizes)
            )
        return self._kernels[rows]

    def _columns(self, found: tuple[Any, ...], rows: int) -> Array:
        """(p+1, rows): the derivatives by each parameter, then the residuals."""
        columns = np.empty((self.count + 1, rows))
        at = 0
        for width, value, shape in zip(self._widths, found[1:], self._evaluation.shapes[1:], strict=True):
            if len(shape) == 1:
                columns[at] = value
            else:
                columns[at : at + width] = np.broadcast_to(value, (rows, *shape[1:])).reshape(rows, width).T
            at += width
        columns[at] = np.reshape(found[0], -1) if np.ndim(found[0]) else found[0]
        return columns


def _products(columns: Array) -> Array:
    return columns @ columns.T


def _with_slopes(graph: Graph, names: list[str]) -> Graph:
    nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
    return derivatives.jacobian(graph, [nodes[n] for n in names if n in nodes], values=True, forward=True)


def row_axis(graph: Graph) -> Dim | None:
    """The length of the first axis of all outputs, where every element along it is computed from its own row alone."""
    first = graph[next(iter(graph.outputs.values()))].type
    axis = first.shape[0] if first.rank and prod(1 if d == 1 else 2 for d in first.shape[1:]) == 1 else None
    if not isinstance(axis, Dim) or linear_in_one(axis) is None or linear_in_one(axis)[1:] != (1, 0):  # type: ignore[index]
        return None
    (name,) = size_names(axis)
    return axis if all(_keeps_rows(graph, v, axis, name) for v in graph.order) else None


def _keeps_rows(graph: Graph, v: int, axis: Dim, name: str) -> bool:
    node, operands = graph[v], graph.operands(v)

    def along(shape: tuple[Size, ...]) -> bool:
        return bool(shape) and shape[0] == axis

    shape = node.type.shape
    if any(name in size_names(d) for d in (shape[1:] if along(shape) else shape)):
        return False
    long = [u for u in operands if along(graph[u].type.shape)]
    if not along(shape):
        return not long and not _mentions(node.attributes, name)
    if node.op is input_ or node.op is broadcast:
        return True
    if node.op.elementwise:
        return all(graph[u].type.rank == node.type.rank for u in long)
    if node.op is einsum:
        inputs, output = node.attributes["inputs"], node.attributes["output"]
        letters = {inputs[k][0] for k, u in enumerate(operands) if u in long}
        return letters == {output[0]}
    return node.op in (expand, sum_) and bool(long)


def _mentions(attributes: Mapping[str, Any], name: str) -> bool:
    items = [item for a in attributes.values() for item in (a if isinstance(a, tuple) else (a,))]
    return any(isinstance(item, Dim) and name in size_names(item) for item in items)
