"""How the lengths of data bind the sizes of an expression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sym2tf.errors import SizeError
from sym2tf.ir.dims import Size, evaluate_size, linear_in_one, size_names, substitute_size
from sym2tf.ir.graph import Graph


@dataclass(frozen=True)
class Axis:
    """One core axis of an input and the length that the expression needs there."""

    input: str
    axis: int  # negative
    length: Size
    exact: bool = True  # False: the data may be longer


class Binding:
    """The plan by which shapes give sizes, made once for a graph."""

    def __init__(self, graph: Graph) -> None:
        self.axes = [
            Axis(graph[v].attributes["name"], k - graph[v].type.rank, d)
            for v in graph.inputs
            for k, d in enumerate(graph[v].type.shape)
        ]
        reaches = graph.info.get("reaches", ())
        self.axes += [Axis(name, axis, length, exact=False) for name, axis, length in reaches]
        self.extents: tuple[Size, ...] = graph.info.get("extents", ())
        self.firsts: tuple[Size, ...] = graph.info.get("firsts", ())
        self.names = sorted(graph.size_names() | frozenset(graph.info.get("sizes", ())))
        self.used = self.with_origins(graph.size_names())

    @cached_property
    def sources(self) -> dict[str, tuple[Axis, int, Size]]:
        """For each size that data can bind: `(axis, slope, offset)` with length = slope*size + offset.

        An offset holds only sizes that stand before it: `x[i + j]` has `n_i + m - 1` elements, where other data say m.
        """
        found: dict[str, tuple[Axis, int, Size]] = {}
        for axis in self.axes:
            linear = linear_in_one(axis.length)
            if linear is not None and linear[0] not in found and linear[1] > 0:
                found[linear[0]] = (axis, linear[1], linear[2])
        count = -1
        while count < len(found):
            count = len(found)
            for axis in self.axes:
                if len(size_names(axis.length) - found.keys()) == 1:
                    (name,) = size_names(axis.length) - found.keys()
                    offset = substitute_size(axis.length, {name: 0})
                    linear = linear_in_one(axis.length - offset)
                    if linear is not None and linear[1] > 0:
                        found[name] = (axis, linear[1], offset)
        return found

    def with_origins(self, names: Iterable[str]) -> frozenset[str]:
        """Sizes, and those by which data bind them."""
        used = set(names)
        for name, (_, _, offset) in reversed(self.sources.items()):
            if name in used:
                used |= size_names(offset)
        return frozenset(used)

    @property
    def required(self) -> list[str]:
        """The sizes that must be given because no data determine them."""
        return [name for name in self.names if name not in self.sources and name in self.used]

    def bind(self, shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, int]) -> dict[str, int]:
        """Every size as a number.

        Args:
            shapes: the shape of each input, batch axes included.
            given: sizes that the user gave; smaller than the data allow means a prefix.

        Raises:
            SizeError: data contradict each other or a given size, or a size is not determined.
        """
        sizes = dict(given)
        for name, (axis, slope, offset) in self.sources.items():
            if name not in sizes:
                length = shapes[axis.input][axis.axis]
                sizes[name], rest = divmod(length - evaluate_size(offset, sizes), slope)
                if rest or sizes[name] < 0:
                    raise SizeError(f"{axis.input} has length {length}, which is not {axis.length} for any {name} >= 0")
        missing = [name for name in self.required if name not in sizes]
        if missing:
            raise SizeError(f"no data determine {', '.join(missing)}: pass {missing[0]}=... by keyword")
        lengths: dict[tuple[str, int], int] = {}  # in use: a given size may cut the data to a prefix
        for axis in self.axes:
            place = axis.input, axis.axis
            self._compare(axis, lengths.get(place, shapes[axis.input][axis.axis]), sizes, given)
            lengths.setdefault(place, evaluate_size(axis.length, sizes))
        for extent in self.extents:
            if size_names(extent) <= set(sizes) and evaluate_size(extent, sizes) < 0:
                values = ", ".join(f"{name} = {sizes[name]}" for name in sorted(size_names(extent)))
                raise SizeError(f"{extent} terms or elements are needed, a negative number with {values}")
        for first in self.firsts:
            if size_names(first) <= set(sizes) and evaluate_size(first, sizes) < 0:
                values = ", ".join(f"{name} = {sizes[name]}" for name in sorted(size_names(first)))
                raise SizeError(f"a subscript reaches {first}, below zero with {values}: indices count from zero")
        return sizes

    def _compare(self, axis: Axis, length: int, sizes: Mapping[str, int], given: Mapping[str, int]) -> None:
        due = evaluate_size(axis.length, sizes)
        prefix = not axis.exact or bool(size_names(axis.length) & set(given))
        if length == due or (prefix and length > due):
            return
        reasons = []
        for name in sorted(size_names(axis.length)):
            if name in given:
                reasons.append(f"{name} = {sizes[name]} was given")
            elif name in self.sources:
                source = self.sources[name][0]
                reasons.append(
                    f"{name} = {sizes[name]} from the length {evaluate_size(source.length, sizes)} of {source.input}"
                )
        if due == length + 1 and length in {sizes[name] for name in size_names(axis.length)}:
            reasons.append("indices count from zero: n elements are i = 0 to n - 1")
        because = f" ({'; '.join(reasons)})" if reasons else ""
        formula = "" if isinstance(axis.length, int) else f"{axis.length} = "
        least = "at least " if prefix else ""
        elements = "element is" if due == 1 else "elements are"
        raise SizeError(
            f"{axis.input} has length {length} on core axis {axis.axis}, but {least}{formula}{due} {elements} needed"
            f"{because}"
        )
