"""The state of one lowering: the builder, the inputs met so far, index scopes, and everything that went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import sympy as sp

from sym2tf.errors import ShapeError, Unsupported
from sym2tf.frontend.describe import describe
from sym2tf.ir.dims import Dim, Size, size_symbol
from sym2tf.ir.graph import Builder
from sym2tf.ir.op import Op
from sym2tf.ir.types import TensorType
from sym2tf.ops.indexing import expand
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, apply, constant


class Affine(NamedTuple):
    """Multiples of indices by integers or sizes, plus a size: a subscript or a bound such as `2*i - j + n - 1`."""

    indices: Mapping[Index, Size]
    rest: Size


_NOTHING = Affine({}, 0)


class Data(NamedTuple):
    """A bound that depends on the values of data, such as `start[k]`: an integer expression, and where it stands."""

    expr: Any
    scope: Scope


@dataclass(frozen=True, eq=False)
class Index:
    """A summation index or a free index, with its range; an axis of the values that use it.

    Where the range depends on outer indices or on data, `start` and `extent` are those of the smallest range that
    holds all of them; `lower` and `upper` say which values count.

    Attributes:
        symbol: what the user wrote.
        start: the first value.
        extent: the number of values.
        order: where its axis stands: free indices first, by name or as the user asked; bound ones after.
        depth: depth of the scope that binds it; 0 for free indices.
        lower: the first value that counts, where it is not `start`.
        upper: the last value that counts, where it is not the last one.
        offset: what is added to the index where its symbol stands: `(j, i, i + 2)` counts from 0 to 2, offset `i`.
        level: 0 for a range that depends on no other index, else one more than those that it depends on.
    """

    symbol: Any
    start: Size
    extent: Size
    order: tuple[Any, ...]
    depth: int
    lower: Affine | Data | None = None
    upper: Affine | Data | None = None
    offset: Affine = _NOTHING
    level: int = 0

    @cached_property
    def last(self) -> Size:
        """The last value of the range."""
        return self.start + self.extent - 1

    @property
    def dependent(self) -> bool:
        """Whether not all values of the range count everywhere."""
        return self.lower is not None or self.upper is not None


@dataclass(eq=False)
class Scope:
    """The indices bound by one `Sum` or `Product`, inside those of the enclosing ones."""

    parent: Scope | None = None
    indices: dict[Any, Index] = field(default_factory=dict)
    elements: dict[Any, Any] = field(default_factory=dict)  # symbol -> the matrix whose every element it is
    shadows: bool = False  # an index hides one of the same symbol further out, so that nothing out there can be shared

    @property
    def depth(self) -> int:
        """0 for the outermost scope."""
        return 0 if self.parent is None else self.parent.depth + 1

    def find(self, symbol: Any) -> Index | None:
        """The index that `symbol` means here, if any."""
        scope: Scope | None = self
        while scope is not None:
            if symbol in scope.indices:
                return scope.indices[symbol]
            if symbol in scope.elements:
                return None
            scope = scope.parent
        return None

    def element(self, symbol: Any) -> tuple[Any, Scope] | None:
        """The matrix expression whose every element `symbol` means here, and the scope that says so, if any."""
        for scope in self.outward():
            if symbol in scope.elements:
                return scope.elements[symbol], scope
            if symbol in scope.indices:
                return None
        return None

    def binds(self, symbol: Any) -> bool:
        """Whether `symbol` means an index or an element here."""
        return any(symbol in scope.indices or symbol in scope.elements for scope in self.outward())

    def outward(self) -> Iterable[Scope]:
        """This scope and the enclosing ones."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


@dataclass(frozen=True)
class Lowered:
    """A value whose first core axes stand for indices, in the order of `Index.order`; the others are tensor axes.

    A scalar expression has no tensor axes, a matrix expression two, an array expression as many as its rank.

    Attributes:
        value: the graph value.
        axes: one index per core axis that is no tensor axis.
        depth: depth of the innermost scope that it uses, so that it can be shared by all scopes inside that one.
    """

    value: Value
    axes: tuple[Index, ...] = ()
    depth: int = 0

    @property
    def tail(self) -> int:
        """The number of tensor axes."""
        return self.value.type.rank - len(self.axes)


class Window(NamedTuple):
    """What a value was gathered from at subscripts such as `i + j`.

    Attributes:
        value: the data.
        names: their axes; None for those of the subscripts.
        places: the subscripts, by axis: each is a multiple of one index, plus one of another, plus a size.
        depth: of the value that was gathered.
    """

    value: Value
    names: tuple[Index | None, ...]
    places: Mapping[int, Affine]
    depth: int


class Context:
    """What the handlers of all areas share."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.problems: list[Unsupported] = []
        self.inputs: dict[Any, Value] = {}
        self.types: dict[Any, TensorType] = {}
        self.known: dict[Any, frozenset[str]] = {}  # what the user assumes of leaves
        self.sizes: dict[Any, str] = {}
        self.root = Scope()
        self.scopes: dict[tuple[int, Scope], Scope] = {}
        self.reaches: list[tuple[Any, int, Size]] = []
        self.extents: list[Size] = []
        self.firsts: list[Size] = []
        self.integers: set[Any] = set()  # leaves that are integers: subscripts made of data
        self.deltas: dict[tuple[int, tuple[Index, ...]], Any] = {}  # what the Kronecker deltas so far mean
        self.windows: dict[tuple[int, tuple[Index, ...]], Window] = {}  # values gathered at sums of two indices
        self._names: set[str] = set()
        self._bound = 0
        self._places: dict[Any, int] = {}

    def restart(self, sizes: Mapping[Any, str]) -> None:
        """Forget indices, scopes and problems, and all sizes but these: what a first look around left behind."""
        self.sizes, self._names = dict(sizes), set(sizes.values())
        self.root, self.scopes = Scope(), {}
        self.problems, self.extents, self.firsts = [], [], []

    def unsupported(self, expr: Any, where: Any, advice: str) -> Lowered:
        """Note that `expr` cannot be lowered, and go on with a stand-in, so that one error lists everything."""
        place = "" if where is None or where is expr else describe(where)
        item = Unsupported(describe(expr), place, advice)
        if item not in self.problems:
            self.problems.append(item)
        return self.number(float("nan"))

    def number(self, number: Any) -> Lowered:
        """An exact constant."""
        return Lowered(constant(self.builder, number))

    def unique(self, name: str) -> str:
        """A name that nothing else in this graph has."""
        candidate, k = name, 0
        while candidate in self._names:
            k += 1
            candidate = f"{name}_{k}"
        self._names.add(candidate)
        return candidate

    def size_of(self, symbol: Any) -> Dim:
        """The size symbol that a SymPy symbol in a bound or a shape stands for."""
        if symbol not in self.sizes:
            self.sizes[symbol] = self.unique(str(symbol))
        return size_symbol(self.sizes[symbol])

    def fresh_size(self, name: str) -> Dim:
        """A size that the user did not name: the length of the data on a free index."""
        unique = self.unique(name)
        self.sizes[sp.Symbol(unique, integer=True)] = unique
        return size_symbol(unique)

    def input(self, leaf: Any) -> Value:
        """The input node of a leaf."""
        if leaf not in self.inputs:
            attributes = {"name": self.unique(leaf_name(leaf)), "symbol": leaf, "type": self.types[leaf]}
            if leaf in self.known:
                attributes["known"] = self.known[leaf]
            self.inputs[leaf] = Value(self.builder, self.builder.add(input_, (), attributes, origin=leaf))
        return self.inputs[leaf]

    def bind(self, key: tuple[int, Scope], symbols: Iterable[Any]) -> Scope:
        """A new scope for the `Sum` or `Product` that `key` identifies; its indices are still to be put in."""
        parent = key[1]
        self.scopes[key] = Scope(parent, shadows=any(parent.binds(symbol) for symbol in symbols))
        return self.scopes[key]

    def bound_order(self, symbol: Any) -> tuple[int, int, int]:
        """The place of the next bound index among all.

        A symbol that is bound again keeps the place that it had first: what is written in it twice, as inside and
        outside of a mean, then has its axes in the same order and is one value.
        """
        self._bound += 1
        return 1, self._places.setdefault(symbol, self._bound), self._bound

    def bind_element(self, key: tuple[int, Scope], symbol: Any, matrix: Any) -> Scope:
        """The scope of the function body that `key` identifies, in which `symbol` is every element of a matrix."""
        if key not in self.scopes:
            parent = key[1]
            self.scopes[key] = Scope(parent, elements={symbol: matrix}, shadows=parent.binds(symbol))
        return self.scopes[key]

    def combine(self, op: Op, operands: Iterable[Lowered], **attributes: Any) -> Lowered:
        """An elementwise operation: the axes of the operands are brought into one order.

        Operands without tensor axes are the same for every element of those that have some.
        """
        operands = list(operands)
        tail = max((o.tail for o in operands), default=0)
        axes = common_axes(operands)
        values = [aligned(o, axes, tail) for o in operands] if axes or tail else [o.value for o in operands]
        return Lowered(apply(self.builder, op, values, attributes), axes, depth_of(operands))


def common_axes(operands: Iterable[Lowered]) -> tuple[Index, ...]:
    """The indices of all operands, in order."""
    return tuple(sorted({a for o in operands for a in o.axes}, key=lambda a: a.order))


def depth_of(operands: Iterable[Lowered]) -> int:
    """Depth of the innermost scope that any of the operands uses."""
    return max((o.depth for o in operands), default=0)


def aligned(lowered: Lowered, axes: tuple[Index, ...], tail: int = 0) -> Value:
    """The value with an axis of length 1 for each of `axes` that it lacks and, of a scalar, for `tail` tensor axes."""
    value = lowered.value
    if lowered.tail != tail:
        if lowered.tail:
            raise ShapeError(f"a value with {lowered.tail} tensor axes where {tail} are due")
        for _ in range(tail):
            value = expand(value, axis=-1)
    if lowered.axes == axes:
        return value
    for k in range(-1, -len(axes) - 1, -1):
        if axes[k] not in lowered.axes:
            value = expand(value, axis=k - tail)
    return value


def leaf_name(leaf: Any) -> str:
    """The name by which a leaf is called: that of a symbol or base, the text of an applied function."""
    name = getattr(leaf, "name", None) or getattr(getattr(leaf, "label", None), "name", None)
    return str(name) if name is not None else describe(leaf)
