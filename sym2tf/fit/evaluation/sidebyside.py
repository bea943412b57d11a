"""Products of the Jacobians of many small fits, in blocks of fits that stay in the cache.

The fits stand along the last axis, where each element is computed from its own row and its own fit alone: long loops
for NumPy, and nothing of a Jacobian is kept. Other formulas are computed fit by fit in front, as the reference backend
does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from sym2tf.backends.numpy import program
from sym2tf.backends.numpy_source import kernel
from sym2tf.fit.statement.memo import made
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.ops.indexing import broadcast, expand
from sym2tf.ops.leaves import input_, size

Array = np.ndarray[Any, Any]
Columns = Callable[[Array, Mapping[str, Any]], list[list[Array]]]

BLOCK = 50_000
"""Residuals at once, 400 KB for each column. 10 000 fits of 50 points, ms of two cores: 129 in blocks of 12 500, 115 of
25 000, 110 of 50 000, 123 of 100 000."""
FEWEST = 64  # fits for which their axis is worth being the last one


class Products:
    """Products of the columns of the Jacobian and, last, the residuals, with each other, at parameters of every fit."""

    def __init__(
        self,
        graph: Graph,
        blocks: int,
        parameters: Sequence[tuple[str, tuple[int, ...]]],
        sizes: Mapping[str, int],
        data: Mapping[str, Array],
        root: Array | None,
        fits: int,
    ) -> None:
        """Which of the two ways it is computed shows in `last`.

        Args:
            graph: outputs are the residuals, then their derivatives by each parameter.
            blocks: how many outputs are residuals.
            parameters: name and core shape of each.
            sizes: numbers for the sizes.
            data: the inputs that are no parameters, with an axis of fits in front or without.
            root: (fits, rows) or (1, rows), the roots of the weights; None where all are 1.
            fits: how many.
        """
        self.graph, self.blocks, self.parameters, self.sizes = graph, blocks, tuple(parameters), dict(sizes)
        self.names = [graph[v].attributes["name"] for v in graph.inputs]
        ranks = {graph[v].attributes["name"]: graph[v].type.rank for v in graph.inputs}
        self.shapes = [tuple(evaluate_size(d, sizes) for d in graph[v].type.shape) for v in graph.outputs.values()]
        self.rows = sum(prod(shape) for shape in self.shapes[:blocks])
        self.last = fits >= FEWEST and not any(shape for _, shape in parameters) and is_flat(graph)
        self.batched = {n: a for n, a in data.items() if a.ndim > ranks[n]}
        self.shared = {n: a for n, a in data.items() if n not in self.batched}
        self.root = root
        if self.last:
            self.batched = {n: np.ascontiguousarray(a.T) for n, a in self.batched.items()}
            self.shared = {n: a[:, None] if a.ndim else a[()] for n, a in self.shared.items()}
            self.root = None if root is None else np.ascontiguousarray(root.T)

    def picked(self, keep: Array) -> Products:
        """For the fits at the places `keep` alone."""
        axis = -1 if self.last else 0
        few = object.__new__(Products)
        vars(few).update(vars(self))
        few.batched = {n: a.take(keep, axis) for n, a in self.batched.items()}
        if self.root is not None and self.root.shape[axis] > 1:
            few.root = self.root.take(keep, axis)
        return few

    def at(self, theta: Array) -> Array:
        """(p+1, p+1, fits) at parameters (p, fits)."""
        p, fits = theta.shape
        found = np.empty((p + 1, p + 1, fits))
        step = max(1, BLOCK // self.rows)
        for start in range(0, fits, step):
            part = slice(start, min(start + step, fits))
            (self._last if self.last else self._first)(theta[:, part], part, found[:, :, part])
        return found

    def _last(self, theta: Array, part: slice, found: Array) -> None:
        """The products of a block, where the fits are the last axis."""
        call = made(self.graph, ("kernel", *sorted(self.sizes.items())), lambda: kernel(self.graph, self.sizes))
        given = dict(zip((name for name, _ in self.parameters), theta, strict=True))
        given |= {n: a[..., part] for n, a in self.batched.items()}
        outputs = call(*(given[n] if n in given else self.shared[n] for n in self.names))
        each, fits, at = len(self.parameters), theta.shape[1], 0
        found[...] = 0
        for k in range(self.blocks):
            shape = (*(self.shapes[k] or (1,)), fits)
            own = outputs[self.blocks + k * each : self.blocks + (k + 1) * each]
            columns = [x if np.shape(x)[:-1] == shape[:1] else np.broadcast_to(x, shape) for x in (*own, outputs[k])]
            if self.root is not None:
                root = self.root[at : at + shape[0], part if self.root.shape[1] > 1 else slice(None)]
                columns = [x * root for x in columns]
            at += shape[0]
            for i, x in enumerate(columns):
                for j, y in enumerate(columns[: i + 1]):
                    found[i, j] += np.einsum("rf,rf->f", x, y)
        for i in range(len(found)):
            found[:i, i] = found[i, :i]

    def _first(self, theta: Array, part: slice, found: Array) -> None:
        """The products of a block, where the fits are the first axis."""
        fits, at = theta.shape[1], 0
        given = {**self.shared, **{n: a[part] for n, a in self.batched.items()}}
        for name, shape in self.parameters:
            stop = at + prod(shape)
            given[name] = theta[at:stop].T.reshape(fits, *shape)
            at = stop
        compute = made(self.graph, "program", lambda: program(self.graph))
        outputs = list(compute({n: given[n] for n in self.names}, self.sizes).values())
        each, parts = len(self.parameters), []
        for k in range(self.blocks):
            rows = prod(self.shapes[k])
            own = (*range(self.blocks + k * each, self.blocks + (k + 1) * each), k)
            parts.append(
                np.concatenate(
                    [
                        np.broadcast_to(outputs[o], (fits, *self.shapes[o])).reshape(fits, rows, -1).swapaxes(1, 2)
                        for o in own
                    ],
                    1,
                )
            )
        design = np.concatenate(parts, 2)
        if self.root is not None:
            design = design * self.root[part if len(self.root) > 1 else slice(None)][:, None, :]
        found[...] = (design @ design.swapaxes(1, 2)).transpose(1, 2, 0)


def is_flat(graph: Graph) -> bool:
    """Whether all values are numbers, or stand along one axis, and every element is computed from its own place."""
    shapes = {graph[v].type.shape for v in graph.order} - {(), (1,)}
    if len(shapes) > 1 or any(len(shape) > 1 for shape in shapes):
        return False
    numbers: set[int] = set()  # and what is stretched of them, which a kernel leaves as it is
    for v in graph.order:
        node, operands = graph[v], graph.operands(v)
        of_numbers = bool(operands) and numbers.issuperset(operands)
        if not node.type.rank or (of_numbers and (node.op.elementwise or node.op in (expand, broadcast))):
            numbers.add(v)
        if not (node.op is input_ or node.op is size or node.op.elementwise or v in numbers):
            return False
        if not node.type.rank and any(graph[u].type.rank for u in operands):
            return False
    return True
