"""The inputs and sizes of a graph, found by symbol or by name as users refer to them, and the data for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.errors import ArgumentError
from sym2tf.fit.statement.arrays import integers, numbers
from sym2tf.fit.statement.data import Stream, Table
from sym2tf.fit.statement.sizes import size_of
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind

Array = np.ndarray[Any, Any]


class Inputs:
    """What a statement may refer to.

    Attributes:
        nodes: name -> input node.
        names: of the inputs, in their order.
        symbols: name -> what the user wrote.
        sizes: symbols and names of sizes -> name.
        equations: whether there is a model of something, rather than a cost.
    """

    def __init__(self, graph: Graph, only: Collection[int] | None = None) -> None:
        """All inputs of `graph`, or those of its nodes in `only`."""
        chosen = [v for v in graph.inputs if only is None or v in only]
        self.nodes = {graph[v].attributes["name"]: v for v in chosen}
        self.names = list(self.nodes)
        self.symbols = {name: graph[v].attributes["symbol"] for name, v in self.nodes.items()}
        self._keys: dict[Any, str] = {s: name for name, s in self.symbols.items()}
        self._keys |= {name: name for name in self.names}
        self.equations = "model" in graph.outputs
        self.sizes: dict[Any, str] = {}
        for name, symbol in graph.info.get("sizes", {}).items():
            self.sizes |= {symbol: name, name: name}

    def find(self, key: Any) -> str | None:
        """The name of the input that `key` means: a symbol, a base or an element of it, or a name; None if none."""
        try:
            base = key.base if isinstance(key, sp.Indexed) and key not in self._keys else key
            return self._keys.get(base)
        except TypeError:  # not hashable
            return None

    def require(self, key: Any, where: str) -> str:
        """The name of the input that `key` means.

        Raises:
            ArgumentError: there is none; says so of `where`, and what is there.
        """
        name = self.find(key)
        if name is not None:
            return name
        text = describe(key) if isinstance(key, sp.Basic) else repr(key)
        same = self.symbols.get(str(key))
        if same is not None:
            raise ArgumentError(
                f"{where} has {text}, which is {_sort(key)}; the {text} of the cost is {_sort(same)}: "
                "use that very object, or its name as text"
            )
        if isinstance(key, int | float):
            raise ArgumentError(f"{where} has {text}, a number without a name: write {where}={{symbol: {text}, ...}}")
        raise ArgumentError(
            f"{where} has {text}, which the cost does not contain; it contains {', '.join(self.names) or 'no symbols'}"
            + ("" if self.equations or where != "data" else f". A model of {text} is stated as Eq({text}, model)")
        )


def _sort(thing: Any) -> str:
    assumptions = getattr(thing, "_assumptions_orig", None)
    told = f" with the assumptions {assumptions}" if assumptions else ""
    return f"a {type(thing).__name__}{told}"


class Columns:
    """The columns of the data, which are read where the statement needs them."""

    def __init__(self, source: Table | Stream) -> None:
        if isinstance(source, Stream):
            source = Table(list(source.first), source.first.__getitem__, closed=source.closed)
        self.table = source
        self._taken: set[Any] = set()

    def __call__(self, name: str) -> Any:
        """The column that sigma or weights name."""
        if name not in self.table.keys:
            raise ArgumentError(f"sigma names the column {name!r}; {self.table.source} has {listed(self.table.keys)}")
        self._taken.add(name)
        return self.table.get(name)

    def read(
        self, graph: Graph, known: Inputs, listed: Iterable[str | None]
    ) -> tuple[dict[str, int], dict[str, Array]]:
        """Sizes, and arrays by input name.

        Args:
            graph: of the statement.
            known: what it may refer to.
            listed: the parameters, which a file may have columns for as well.

        Raises:
            ArgumentError: a key that the statement does not have, or two for one symbol.
            DataError: what is no finite number.
        """
        nodes, parameters = Inputs(graph).nodes, set(listed)
        sizes: dict[str, int] = {}
        arrays: dict[str, Array] = {}
        closed = self.table.closed
        for key in self.table.keys:
            if closed and key in known.sizes:
                sizes[known.sizes[key]] = size_of(key, self.table.get(key))
                continue
            name = known.find(key)
            if name is None and closed and key not in self._taken:
                known.require(key, "data")
            if name is None or name not in nodes or (not closed and name in parameters):
                continue
            if name in arrays:
                raise ArgumentError(f"data gives {name} twice, by symbol and by name")
            arrays[name] = typed(graph[nodes[name]], self.table.get(key))
        return sizes, arrays


def typed(node: Node, value: Any) -> Array:
    """The array of an input: integers where it stands in a subscript."""
    name = node.attributes["name"]
    array = numbers(name, value)
    return integers(name, array) if node.type.kind is Kind.INTEGER else array


def listed(names: Iterable[Any]) -> str:
    """The first of many names, for errors."""
    shown = list(map(str, names))
    return ", ".join(shown[:20]) + (", ..." if len(shown) > 20 else "") or "none"
