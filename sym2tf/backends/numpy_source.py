"""A graph as a plain Python function over NumPy, for many calls with arrays of one shape.

`backends.numpy.program` checks and binds shapes on every call, which costs more than the arithmetic where arrays have
a hundred elements. Here everything that shapes decide is decided when the text is made, and a call runs one line for
each operation.
"""

from __future__ import annotations

import itertools
import linecache
import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sym2tf.backends.constants import constant_nodes, constant_values
from sym2tf.backends.numpy import implementation, numpy_dtype
from sym2tf.ir.dims import evaluate_size, resolved
from sym2tf.ir.graph import Graph
from sym2tf.ops.arithmetic import add, cast, div, mul, neg, pow_, reciprocal, square, sub
from sym2tf.ops.assembly import table
from sym2tf.ops.indexing import broadcast, expand
from sym2tf.ops.leaves import input_, size

Array = np.ndarray[Any, Any]
Kernel = Callable[..., tuple[Any, ...]]

INFIX = {add: " + ", mul: "*", sub: " - ", div: "/"}
POWERS = {2: "{0}*{0}", 3: "{0}*{0}*{0}", -1: "1.0/{0}", -2: "1.0/({0}*{0})"}
UNARY = {neg: "-{0}", square: "{0}*{0}", reciprocal: "1.0/{0}"}

_numbers = itertools.count(1)


def kernel(graph: Graph, sizes: Mapping[str, int]) -> Kernel:
    """A function of one array for each input, in order, that returns the outputs, in order.

    Nothing is checked: every argument has the core shape of its input at `sizes`, without batch axes, and is float64,
    int64 or bool as its kind says; a scalar is a NumPy scalar. What does not depend on the place along an axis may
    come back with length 1 there, or as a scalar: it broadcasts to the core shape of the output.

    Args:
        graph: any graph with at least one output.
        sizes: a number for every size in it.
    """
    writer = _Writer(graph, sizes)
    text = writer.text()
    filename = f"<sym2tf kernel {next(_numbers)}>"
    exec(compile(text, filename, "exec"), writer.namespace)  # noqa: S102  text of our own making
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    function: Kernel = writer.namespace["kernel"]
    weakref.finalize(function, linecache.cache.pop, filename, None)
    return function


class _Writer:
    """The lines of a kernel, and the functions and arrays that they name."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int]) -> None:
        self.graph, self.sizes = graph, sizes
        self.namespace: dict[str, Any] = {"__name__": "sym2tf.generated", "nan": math.nan, "inf": math.inf}
        self.constants = constant_nodes(graph)
        self.numbers = constant_values(graph)
        self.names = {v: f"({number!r})" for v, number in self.numbers.items()}
        self.names |= {v: f"x{k}" for k, v in enumerate(graph.inputs)}
        self._named_already: dict[tuple[str, int], str] = {}
        self.loose = self._loose()

    def text(self) -> str:
        """The definition of the function `kernel`."""
        arguments = ", ".join(self.names[v] for v in self.graph.inputs)
        lines = [f"def kernel({arguments}):"]
        computed = [v for v in self.graph.order if v not in self.constants and self.graph[v].op is not input_]
        last = {u: v for v in computed for u in self.graph.operands(v)}
        results = {self._alias(v) for v in self.graph.outputs.values()}
        for v in computed:
            if not self._is_alias(v):
                self.names[v] = f"v{v}"
                lines.append(f"    v{v} = {self._expression(v)}")
            else:
                self.names[v] = self.names[self._alias(v)]
            lines += self._released(v, last, results)
        outputs = "".join(f"{self.names[v]}, " for v in self.graph.outputs.values())
        return "\n".join([*lines, f"    return ({outputs})", ""])

    def _released(self, v: int, last: Mapping[int, int], results: set[int]) -> list[str]:
        """Let go of what `v` was the last to use, unless another name still stands for it."""
        done = [
            u
            for u in dict.fromkeys(self.graph.operands(v))
            if last[u] == v and u not in results and u not in self.constants and self._owns_its_name(u)
        ]
        return [f"    del {', '.join(self.names[u] for u in done)}"] if done else []

    def _owns_its_name(self, v: int) -> bool:
        used_as_alias = any(self._is_alias(u) for u in self.graph.users(v))
        return self.graph[v].op is not input_ and not self._is_alias(v) and not used_as_alias

    def _loose(self) -> set[int]:
        """Values that may have fewer axes than their type says: scalars stretched over axes, and what is made of them.

        Elementwise operations broadcast anyway, which spares the axes.
        """
        found: set[int] = set()
        for v in self.graph.order:
            node, operands = self.graph[v], self.graph.operands(v)
            scalars = [u in found or not self.graph[u].type.rank for u in operands]
            stretched = node.op in (expand, broadcast) and all(scalars)
            combined = node.op.elementwise and node.type.rank and all(scalars) and operands
            if stretched or combined:
                found.add(v)
        return found

    def _is_alias(self, v: int) -> bool:
        return v in self.loose and self.graph[v].op in (expand, broadcast)

    def _alias(self, v: int) -> int:
        while self._is_alias(v):
            (v,) = self.graph.operands(v)
        return v

    def _expression(self, v: int) -> str:
        node, op = self.graph[v], self.graph[v].op
        operands = [self._operand(v, u) for u in self.graph.operands(v)]
        if op in INFIX:
            return INFIX[op].join(operands)
        if op in UNARY:
            return UNARY[op].format(*operands)
        if op is pow_ and (value := self.graph[self.graph.operands(v)[1]].attributes.get("value")) in POWERS:
            return POWERS[value].format(operands[0])
        if op is expand:
            axis = node.attributes["axis"]
            return f"{operands[0]}[..., None{', :' * (-axis - 1)}]"
        if op is size:
            return self._named("n", np.int64(evaluate_size(node.attributes["size"], self.sizes)))
        if op is table:
            return self._named("c", implementation(self.graph, v, "float64")())
        attributes = {} if op is cast else resolved(node.attributes, self.sizes)
        function = implementation(self.graph, v, "float64")
        if not operands:  # a range, a unit matrix: the same in every call
            return self._named("c", function(**attributes))
        more = f", **{self._named('a', attributes)}" if attributes else ""
        return f"{self._named('f', function)}({', '.join(operands)}{more})"

    def _operand(self, user: int, v: int) -> str:
        """The text for `v`, with all its axes where `user` is no elementwise operation."""
        node, by = self.graph[v], self.graph[user].op
        if v in self.numbers and by not in INFIX:
            return self._named("s", numpy_dtype(node.type.kind, "float64").type(self.numbers[v]))
        if v in self.loose and not by.elementwise:
            shape = tuple(evaluate_size(d, self.sizes) for d in node.type.shape)
            return f"{self._named('f', np.broadcast_to)}({self.names[v]}, {shape})"
        return self.names[v]

    def _named(self, letter: str, value: Any) -> str:
        """A name of our own for a value that the text needs."""
        key = letter, id(value)  # the namespace keeps the value, so that no other one gets its id
        if key not in self._named_already:
            self._named_already[key] = name = f"{letter}_{len(self._named_already)}"
            self.namespace[name] = value
        return self._named_already[key]
