"""The inputs and sizes of a graph, to be found by symbol or by name, as users refer to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sympy as sp

from sym2tf.errors import ArgumentError
from sym2tf.frontend.describe import describe
from sym2tf.ir.graph import Graph


class Inputs:
    """What a statement may refer to.

    Attributes:
        nodes: name -> input node.
        names: of the inputs, in their order.
        symbols: name -> what the user wrote.
        sizes: symbols and names of sizes -> name.
    """

    def __init__(self, graph: Graph, only: Collection[int] | None = None) -> None:
        """All inputs of `graph`, or those of its nodes in `only`."""
        chosen = [v for v in graph.inputs if only is None or v in only]
        self.nodes = {graph[v].attributes["name"]: v for v in chosen}
        self.names = list(self.nodes)
        self.symbols = {name: graph[v].attributes["symbol"] for name, v in self.nodes.items()}
        self._keys: dict[Any, str] = {s: name for name, s in self.symbols.items()}
        self._keys |= {name: name for name in self.names}
        self.sizes: dict[Any, str] = {}
        for name, symbol in graph.info.get("sizes", {}).items():
            self.sizes |= {symbol: name, name: name}

    def find(self, key: Any) -> str | None:
        """The name of the input that `key` means: a symbol, a base or an element of it, or a name; None if it is none.

        Text is a name also where the key of a table is no text.
        """
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
        raise ArgumentError(
            f"{where} has {text}, which the cost does not contain; it contains {', '.join(self.names) or 'no symbols'}"
        )


def _sort(thing: Any) -> str:
    assumptions = getattr(thing, "_assumptions_orig", None)
    told = f" with the assumptions {assumptions}" if assumptions else ""
    return f"a {type(thing).__name__}{told}"
