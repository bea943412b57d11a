"""The arguments of a compiled function: which input or size each value of a call is for."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sym2tf.errors import ArgumentError, SizeError
from sym2tf.ir.binding import Binding
from sym2tf.ir.graph import Graph
from sym2tf.trees import leaves, match_nest
from sym2tf.wrt import input_name


class Arguments:
    """What the calls of one function may look like.

    Attributes:
        graph: of the function.
        function: its name, for messages.
        nest: the arguments in order, as names; nests stay nests.
        names: those in the nest, in order.
        inputs: the names of the graph's inputs, in its order.
        symbols: of the sizes, by their names.
        plain: whether the arguments are the inputs, in the same order.
    """

    def __init__(self, graph: Graph, function: str) -> None:
        self.graph, self.function = graph, function
        self.nest: tuple[Any, ...] = tuple(graph.info["args"])
        self.names = list(leaves(self.nest))
        self.inputs = [input_name(graph[v]) for v in graph.inputs]
        self.symbols = dict(graph.info.get("sizes", {}))
        self.plain = self.nest == tuple(self.inputs)
        self._takes_mapping = len(self.nest) == 1 and isinstance(self.nest[0], Mapping)

    @cached_property
    def sizes(self) -> dict[str, bool]:
        """The sizes, and whether each must be given because no data determine it."""
        binding = Binding(self.graph)
        return {name: name in binding.required for name in binding.names}

    def signature(self) -> inspect.Signature:
        """What `inspect.signature` shows; arguments whose names are no identifiers can go by position only."""
        names = [a if isinstance(a, str) else f"argument_{k}" for k, a in enumerate(self.nest)]
        plain = all(n.isidentifier() and not keyword.iskeyword(n) for n in names) and self.plain
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if plain else inspect.Parameter.POSITIONAL_ONLY
        taken = names if plain else [n if n.isidentifier() else f"argument_{k}" for k, n in enumerate(names)]
        parameters = [inspect.Parameter(n, kind) for n in taken]
        for size, required in self.sizes.items():
            default = inspect.Parameter.empty if required else None
            if size not in taken and size.isidentifier():
                parameters.append(inspect.Parameter(size, inspect.Parameter.KEYWORD_ONLY, default=default))
        return inspect.Signature(parameters)

    def in_one_mapping(self, args: Sequence[Any]) -> bool:
        """Whether a call gives its arguments by symbol, as in `f({x: 1})`."""
        return len(args) == 1 and isinstance(args[0], Mapping) and not self._takes_mapping

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, int]]:
        """The values of the inputs in order, and the sizes that were given, from the arguments of a call.

        Raises:
            ArgumentError: missing, unknown or repeated arguments.
            SizeError: a size that is no integer, or negative.
        """
        if self.in_one_mapping(args):
            return self.bind((), self._named(args[0], kwargs))
        count = len(self.nest)
        if len(args) > count:
            raise ArgumentError(
                f"{self.function} takes {count} positional argument{'s' * (count != 1)} ({self._listed()}), "
                f"got {len(args)}"
            )
        found: dict[str, Any] = {}
        for k, value in enumerate(args):
            try:
                found.update((leaf, item) for leaf, item, _ in match_nest(self.nest[k], value, f"[{k}]"))
            except ValueError as error:
                raise ArgumentError(f"{self.function}: {error}") from None
        unknown = [k for k in kwargs if k not in self.names and k not in self.symbols]
        if unknown:
            names = ", ".join(map(repr, unknown))
            raise ArgumentError(f"{self.function} has no argument {names}; it takes {self._listed()}")
        repeated = [k for k in kwargs if k in found]
        if repeated:
            raise ArgumentError(f"{self.function} got {', '.join(repeated)} by position and by name")
        found |= kwargs
        missing = [n for n in self.inputs if n not in found]
        if missing:
            raise ArgumentError(f"{self.function} lacks {', '.join(missing)}; it takes {self._listed()}")
        sizes = {n: _size(n, found[n]) for n in self.symbols if found.get(n) is not None}
        return [found[n] for n in self.inputs], sizes

    def _named(self, values: Mapping[Any, Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Values by symbol or name as keywords."""
        names = {symbol: name for name, symbol in self.symbols.items()}
        names |= {
            node.attributes["symbol"]: input_name(node) for node in map(self.graph.__getitem__, self.graph.inputs)
        }
        found = dict(named)
        for key, value in values.items():
            name = key if isinstance(key, str) else names.get(key, str(key))
            if name in found:
                raise ArgumentError(f"{self.function} got {name} twice")
            found[name] = value
        return found

    def _listed(self) -> str:
        listed = ", ".join(str(a) for a in self.nest)
        sizes = [n if required else f"{n} (optional)" for n, required in self.sizes.items()]
        return listed + (f"; sizes by name: {', '.join(sizes)}" if sizes else "")


def _size(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise SizeError(f"{name} is a size and must be an integer, got {value!r}") from None
    if number != value or number < 0:
        raise SizeError(f"{name} is a size and must be an integer >= 0, got {value!r}")
    return number
