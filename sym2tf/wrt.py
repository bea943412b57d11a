"""What `wrt=` may say, and what it makes of the outputs of a derivative."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from sym2tf.autodiff.derivatives import name_of
from sym2tf.autodiff.elements import Element
from sym2tf.errors import ArgumentError, DifferentiationError, OpaqueWarning, warn
from sym2tf.frontend.describe import describe
from sym2tf.frontend.packed import immutable, places
from sym2tf.frontend.walk import ELEMENTS, TENSORS, base_of, subscripts_of
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.trees import is_nest, leaves, refill


def resolve(wrt: Any, graph: Graph, order: Sequence[str], function: str) -> tuple[list[Element], Any]:
    """Input nodes with subscripts where an element is meant, and the nest of `wrt`.

    Args:
        wrt: an input by symbol or name, an element, or a nest of these; None for all real inputs.
        graph: whose inputs they are.
        order: names of the arguments, for None.
        function: name of the function, for messages.

    Raises:
        ArgumentError: something is no input, or one is named twice.
        DifferentiationError: an input is not real.
    """
    by_name = {input_name(graph[v]): v for v in graph.inputs}
    by_symbol = {graph[v].attributes["symbol"]: v for v in graph.inputs}
    packed = {
        leaf: (v, place)
        for symbol, v in by_symbol.items()
        if isinstance(symbol, sp.MatrixBase)
        for leaf, place in places(symbol).items()
    }
    if wrt is None:
        wrt = tuple(n for n in order if n in by_name and graph[by_name[n]].type.kind >= Kind.REAL)
    found: list[Element] = []
    for leaf in leaves(wrt):
        subscripts: tuple[int, ...] = ()
        v = None
        leaf = immutable(leaf)
        if isinstance(leaf, str):
            v = by_name.get(leaf)
        elif isinstance(leaf, sp.Basic):  # other things may have no hash
            v = by_symbol.get(leaf)
        if v is None and isinstance(leaf, str | sp.Basic):
            v, subscripts = packed.get(leaf, (None, ()))
        if v is None and isinstance(leaf, ELEMENTS) and all(s.is_Integer for s in subscripts_of(leaf)):
            v, subscripts = by_symbol.get(base_of(leaf)), tuple(int(s) for s in subscripts_of(leaf))
        if v is None:
            known = ", ".join(by_name)
            what = f"wrt: {describe(leaf)} is no input of {function}"
            if not isinstance(leaf, (str, sp.Symbol, *ELEMENTS, *TENSORS)):
                raise ArgumentError(f"{what}: give an input, or a list or tuple of inputs, of {known}")
            raise ArgumentError(f"{what}; its inputs are {known}")
        if graph[v].type.kind < Kind.REAL:
            raise DifferentiationError(f"wrt: {leaf} is {graph[v].type.kind}")
        found.append((v, subscripts))
    if len(set(found)) < len(found):
        raise ArgumentError("wrt names an input twice")
    _warn_opaque(by_symbol, [graph[v].attributes["symbol"] for v, _ in found])
    return found, tuple(wrt) if isinstance(wrt, list) else wrt


def chosen(variables: Sequence[Any], wrt: Any) -> Any:
    """What to differentiate by: `f.gradient(x, y)`, `f.gradient([x, y])` and `f.gradient(wrt=[x, y])` are the same."""
    if not variables:
        return wrt
    if wrt is not None:
        raise ArgumentError("wrt is given by position and by name")
    return tuple(variables) if len(variables) > 1 else variables[0]


def numbered(nest: Any, output: str) -> Any:
    """The nest of `wrt` with the names of the derivatives of one output as leaves."""
    names: Iterator[str] = (name_of(output, k) for k in range(sum(1 for _ in leaves(nest))))
    return refill(nest, names) if is_nest(nest) else next(names)


def input_name(node: Node) -> str:
    """The name by which an input is called."""
    name: str = node.attributes["name"]
    return name


def _warn_opaque(symbols: Iterable[Any], wrt: Iterable[Any]) -> None:
    """An applied function is an argument; as a function of a variable the user may have meant to differentiate it."""
    for symbol in symbols:
        if isinstance(symbol, AppliedUndef | sp.Derivative):
            for variable in wrt:
                if isinstance(variable, (sp.Symbol, *TENSORS)) and symbol.has(variable):
                    text = f"{symbol} is an argument of its own: its dependence on {variable} is not differentiated"
                    warn(OpaqueWarning, text)
