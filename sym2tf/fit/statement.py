"""What the user states (a cost or an equation, data, parameters) checked and turned into a `Problem`.

Everything that can be wrong with a statement is found here, before anything is computed, and named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.backends.numpy import fractions_in
from sym2tf.errors import ArgumentError, DataError, ShapeError, SizeError
from sym2tf.fit.observations import with_observation_axis
from sym2tf.fit.parameters import Parameter, Unknown, decided
from sym2tf.fit.roles import require_data
from sym2tf.fit.wording import counted, kind_of
from sym2tf.frontend.describe import describe
from sym2tf.frontend.lower import lower
from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import linear_in_one
from sym2tf.ir.graph import Builder, Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.ops.arithmetic import mul
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import sum_
from sym2tf.ops.values import Value
from sym2tf.passes.pipeline import in_normal_form

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Problem:
    """A cost as a graph, the arrays of its data, and its parameters.

    Attributes:
        cost: what the user gave.
        graph: lowered, not optimised; inputs are data and parameters; output `"out"` is the cost, and for an
            equation
            `"observed"` and `"model"` are its sides.
        data: by input name, float64; int64 what stands in subscripts.
        unknowns: the parameters in the order in which the user gave them.
        sizes: numbers for size symbols that the user gave.
        bound: every size as a number.
        symbols: input name -> what the user wrote.
        implicit: the user listed no parameters, so that every symbol without data is one.
        starts_given: the user said where to start; otherwise every parameter starts at 0.
        maximize: the user's cost is to be maximised: the output `"out"` is its negative.
        batch: the lengths of the axes of data in front of those that the cost uses: as many independent fits.
        starts: start values by fit, for the parameters where the user gave them so: batch axes in front of the shape.
    """

    cost: Any
    graph: Graph
    data: Mapping[str, Array]
    unknowns: tuple[Unknown, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    bound: Mapping[str, int] = field(default_factory=dict)
    symbols: Mapping[str, Any] = field(default_factory=dict)
    implicit: bool = False
    starts_given: bool = True
    maximize: bool = False
    batch: tuple[int, ...] = ()
    starts: Mapping[str, Array] = field(default_factory=dict)

    @property
    def free(self) -> tuple[Unknown, ...]:
        """The parameters to estimate."""
        return tuple(u for u in self.unknowns if not u.fixed)

    @property
    def fixed(self) -> dict[str, Array]:
        """The values of the others."""
        return {u.name: u.initial for u in self.unknowns if u.fixed}

    @property
    def names(self) -> tuple[str, ...]:
        """The elements of the free parameters."""
        return tuple(name for u in self.free for name in u.names)

    @property
    def bounded(self) -> bool:
        """Whether a free parameter has a finite bound."""
        return any(np.isfinite(u.lower).any() or np.isfinite(u.upper).any() for u in self.free)

    @property
    def hint(self) -> str:
        """What to look at where the data do not determine the parameters: a symbol taken for one by mistake."""
        if not self.implicit:
            return ""
        data = f"data has {', '.join(self.data)}" if self.data else "there are no data"
        names = ", ".join(u.name for u in self.unknowns)
        return f" (params was left out, so all symbols without data are parameters: {names}; {data})"

    def unpacked(self, theta: Array) -> dict[str, Array]:
        """The free parameters as arrays, from the flat vector of all their elements (last axis)."""
        values, at = {}, 0
        for u in self.free:
            values[u.name] = theta[..., at : at + u.initial.size].reshape((*theta.shape[:-1], *u.initial.shape))
            at += u.initial.size
        return values

    def packed(self, attribute: str) -> Array:
        """`initial`, `lower` or `upper` of the free parameters as one flat vector."""
        return np.concatenate([getattr(u, attribute).ravel() for u in self.free])


def state(
    cost: Any,
    data: Any,
    params: Any,
    *,
    loss: Any = None,
    sigma: Any = None,
    weights: Any = None,
    constraints: Any = (),
    maximize: bool = False,
) -> Problem:
    """The problem that the user states.

    Raises:
        ArgumentError: symbols that are unknown, unused, stated twice, or of the wrong sort; a cost that is
            not scalar.
        DataError: data that are missing, not numbers, not finite, empty, or of lengths that differ.
    """
    if loss is not None or sigma is not None or weights is not None or constraints != () or maximize:
        raise ArgumentError("loss, sigma, weights, constraints and maximize come within the hour")
    graph = _lowered(cost)
    if any(_may_be_square(graph, v) for v in graph.order):
        graph = in_normal_form(graph)
    data = _mapping(data)
    known = _Known(graph)
    sizes = {known.sizes[k]: _size(k, data[k]) for k in data if k in known.sizes}
    arrays: dict[str, Array] = {}
    kinds = {graph[v].attributes["name"]: graph[v].type.kind for v in graph.inputs}
    for key, value in data.items():
        if key not in known.sizes:
            name = known.input(key, "data")
            if name in arrays:
                raise ArgumentError(f"data gives {name} twice, by symbol and by name")
            numbers = _numbers(name, value)
            arrays[name] = _integers(name, numbers) if kinds[name] is Kind.INTEGER else numbers
    if params is None:
        require_data(cost, known.symbols, known.sizes, arrays)
    stated = _stated(params, known, arrays)
    missing = [n for n in known.names if n not in arrays and n not in stated]
    if missing:
        noun = "symbol" if len(missing) == 1 else "symbols"
        raise ArgumentError(
            f"the cost has the {noun} {', '.join(missing)}, for which there is neither data nor a parameter: "
            "give data={...} or params={...} for it"
        )
    if not stated:
        raise ArgumentError("the cost has no parameters: every symbol in it is data")
    graph = _with_observations(graph, known, arrays)
    bound = _sizes_from(graph, arrays, stated, sizes)
    unknowns = tuple(decided(_node(graph, name), p, bound) for name, p in stated.items())
    bound = _checked_sizes(graph, arrays, unknowns, sizes)
    problem = Problem(
        cost,
        _scalar(graph, cost),
        arrays,
        unknowns,
        sizes,
        bound,
        known.symbols,
        implicit=params is None,
        starts_given=isinstance(params, Mapping),
    )
    if not problem.free:
        raise ArgumentError("every parameter is fixed: there is nothing to fit")
    return problem


class _Known:
    """The inputs and sizes of a graph, to be found by symbol or by name."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = {graph[v].attributes["name"]: v for v in graph.inputs}
        self.names = list(self.nodes)
        self.symbols = {name: graph[v].attributes["symbol"] for name, v in self.nodes.items()}
        self._keys: dict[Any, str] = {s: name for name, s in self.symbols.items()}
        self._keys |= {name: name for name in self.names}
        self.sizes: dict[Any, str] = {}
        for name, symbol in graph.info.get("sizes", {}).items():
            self.sizes |= {symbol: name, name: name}

    def input(self, key: Any, where: str) -> str:
        base = key.base if isinstance(key, sp.Indexed) and key not in self._keys else key
        try:
            name = self._keys.get(base)
        except TypeError:
            name = None
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


def _lowered(cost: Any) -> Graph:
    if isinstance(cost, sp.Eq):
        return lower({"observed": cost.lhs, "model": cost.rhs})
    if isinstance(cost, sp.logic.boolalg.Boolean) and not isinstance(cost, sp.Symbol):
        raise ArgumentError(f"{describe(cost)} is no cost: give a scalar expression or Eq(y, model)")
    if isinstance(cost, list | tuple | Mapping):
        raise ArgumentError("a cost is one expression; several terms are added up")
    return lower(cost)


def _may_be_square(graph: Graph, v: int) -> bool:
    """Whether a node may be a square, or a sum of squares, that is written as the product of a value with itself."""
    operands = graph.operands(v)
    return graph[v].op is einsum or (graph[v].op is mul and len(set(operands)) < len(operands))


def _scalar(graph: Graph, cost: Any) -> Graph:
    """`graph` with the output `"out"`; that of an equation is the sum of the squared residuals."""
    if "out" in graph.outputs:
        type_ = graph[graph.outputs["out"]].type
        if type_.kind < Kind.REAL:
            raise ArgumentError(f"{describe(cost)} is a condition, not a cost")
        if any(d != 1 for d in type_.shape):
            free = ", ".join(map(str, type_.shape))
            raise ArgumentError(
                f"the cost is not scalar: it has core shape ({free}), "
                f"because an index in {describe(cost)} is bound by "
                "no Sum; write Sum(..., (i, 0, n-1)) or state Eq(y[i], model)"
            )
        return graph
    builder = Builder()
    where = builder.include(graph)
    observed, model = (Value(builder, where[graph.outputs[side]]) for side in graph_sides(graph))
    cost_value: Any = (observed - model) ** 2
    if cost_value.shape:
        cost_value = sum_(cost_value, axes=tuple(range(-cost_value.type.rank, 0)))
    outputs = {"out": cost_value.id, "observed": observed.id, "model": model.id}
    return builder.build([where[v] for v in graph.inputs], outputs, graph.info)


def _node(graph: Graph, name: str) -> Node:
    return next(graph[v] for v in graph.inputs if graph[v].attributes["name"] == name)


def graph_sides(graph: Graph) -> tuple[str, str]:
    """The names of the two outputs of a lowered equation: left side, right side."""
    left, right = graph.outputs
    return left, right


def _mapping(data: Any) -> dict[Any, Any]:
    if data is None:
        return {}
    if isinstance(data, str | os.PathLike):
        raise ArgumentError(
            f"data is {os.fspath(data)!r}; give a mapping from symbols or names to arrays. pandas.read_csv makes one "
            "of a file, and on the command line `sym2tf fit --data` reads it"
        )
    if not hasattr(data, "keys"):
        raise ArgumentError(f"data is {kind_of(data)}; give a mapping from symbols or names to arrays")
    return {key: data[key] for key in data.keys()}  # noqa: SIM118  # a DataFrame iterates in its own way


def _size(key: Any, value: Any) -> int:
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "iuf" or array != np.floor(array) or array < 0:
        raise DataError(f"{key} is a size and must be an integer >= 0, got {value!r}")
    return int(array)


def _numbers(name: str, value: Any) -> Array:
    hidden = int(np.sum(np.ma.getmaskarray(value))) if isinstance(value, np.ma.MaskedArray) else 0
    if hidden:
        raise DataError(
            f"{name} has {counted(hidden, 'masked value')}: leave the rows out, for they would be used as they are"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{name} is not an array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        what = {"c": "complex numbers", "O": "objects", "U": "text", "S": "text", "M": "dates", "m": "time differences"}
        raise DataError(f"{name} holds {what.get(array.dtype.kind, array.dtype)}, not real numbers{_first_odd(array)}")
    if not array.size:
        raise DataError(f"{name} is empty (shape {array.shape})")
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(k) for k in np.argwhere(bad)[0])
        place = first[0] if len(first) == 1 else first
        count = int(bad.sum())
        verb = "value that is" if count == 1 else "values that are"
        raise DataError(f"{name} has {count} {verb} not finite: the first is {array[first]} at {place}")
    return array


def _integers(name: str, numbers: Array) -> Array:
    """Data that stand in subscripts: a table may hold them as floats."""
    wrong = fractions_in(numbers)
    if wrong.size:
        raise DataError(f"{name} stands in a subscript and must be integers, but holds {wrong.flat[0]}")
    return numbers.astype(np.int64)


def _first_odd(array: Array) -> str:
    """The first element that is no number and where it stands, as from a file with a gap or a unit in it."""
    for place in np.ndindex(array.shape):
        if not isinstance(array[place], int | float | np.number):
            return f": the first is {array[place]!s:.40} at {place[0] if len(place) == 1 else place}"
    return ""


def _stated(params: Any, known: _Known, data: Mapping[str, Array]) -> dict[str, Parameter]:
    """Name -> how to estimate it; without `params` all symbols that are not data."""
    if params is None:
        return {n: Parameter() for n in known.names if n not in data}
    if isinstance(params, str) and params not in known.names:
        words = params.replace(",", " ").split()
        if len(words) > 1:
            raise ArgumentError(f"params is the text {params!r}; give a list: params=[{', '.join(map(repr, words))}]")
    if isinstance(params, sp.Basic | sp.IndexedBase | str):
        params = [params]
    if not isinstance(params, Mapping) and not isinstance(params, Iterable):
        raise ArgumentError(f"params is {kind_of(params)}; give a mapping to start values, or the symbols")
    pairs = params.items() if isinstance(params, Mapping) else ((key, 0.0) for key in params)
    stated: dict[str, Parameter] = {}
    for key, value in pairs:
        if key in known.sizes:
            raise ArgumentError(f"params has {key}, which is a size: it stands in a bound or a shape")
        name = known.input(key, "params")
        if name in data:
            raise ArgumentError(f"{name} is in data and in params: it can be only one of them")
        if name in stated:
            raise ArgumentError(f"params gives {name} twice, by symbol and by name")
        stated[name] = value if isinstance(value, Parameter) else Parameter(value)
    return stated


def _with_observations(graph: Graph, known: _Known, data: Mapping[str, Array]) -> Graph:
    """`graph` where scalar symbols with arrays have an axis of observations: for equations only."""
    extra = {}
    for name, array in data.items():
        rank = graph[known.nodes[name]].type.rank
        if array.ndim < rank:
            raise DataError(
                f"{name} has {counted(array.ndim, 'axis', 'axes')} (shape {array.shape}), "
                f"but the cost uses {counted(rank, 'subscript')}"
            )
        if array.ndim > rank:
            extra[name] = array.ndim - rank
    if not extra:
        return graph
    name = next(iter(extra))
    shape = data[name].shape
    if "out" in graph.outputs:
        form = f"{name}[i] under a Sum" if not graph[known.nodes[name]].type.rank else "further subscripts"
        raise ArgumentError(
            f"{name} has shape {shape}, "
            f"but the cost uses it with {counted(graph[known.nodes[name]].type.rank, 'subscript')}, so it "
            f"would not be scalar: write {form}, or state Eq(y, model)"
        )
    if any(graph[v].type.rank for v in graph.outputs.values()):
        raise ArgumentError(
            f"{name} has shape {shape} but no subscript, in an equation with free indices: write {name}[i] there too"
        )
    deep = [n for n, axes in extra.items() if axes > 1]
    if deep:
        raise ArgumentError(f"{deep[0]} has shape {data[deep[0]].shape}: independent fits over leading axes come later")
    lengths = {n: data[n].shape[0] for n in extra}
    other = next((n for n in lengths if lengths[n] != lengths[name]), None)
    if other is not None:
        raise DataError(
            f"lengths differ: {name} has {counted(lengths[name], 'observation')}, {other} has {lengths[other]}"
        )
    return with_observation_axis(graph, [known.nodes[n] for n in extra])


def _sizes_from(
    graph: Graph, data: Mapping[str, Array], stated: Mapping[str, Parameter], given: Mapping[str, int]
) -> dict[str, int]:
    """The sizes that data, given shapes and array start values determine; contradictions are found later."""
    shapes = {n: a.shape for n, a in data.items()}
    for name, parameter in stated.items():
        shape = parameter.shape if parameter.shape is not None else np.shape(parameter.initial)
        if shape:
            shapes[name] = tuple(shape)
    sizes = dict(given)
    axes = Binding(graph).axes
    for axis in axes:
        linear = linear_in_one(axis.length)
        if linear is None or axis.input not in shapes or -axis.axis > len(shapes[axis.input]):
            continue
        name, slope, offset = linear
        sizes.setdefault(name, (shapes[axis.input][axis.axis] - offset) // slope)
    own = {(a.input, a.axis): a.length for a in axes if a.exact}
    for axis in axes:  # a parameter of which only elements are used has as many as that
        linear = linear_in_one(own[axis.input, axis.axis])
        if not axis.exact and isinstance(axis.length, int) and axis.input in stated and linear is not None:
            sizes.setdefault(linear[0], axis.length)
    return sizes


def _checked_sizes(
    graph: Graph, data: Mapping[str, Array], unknowns: Iterable[Unknown], given: Mapping[str, int]
) -> dict[str, int]:
    shapes = {n: a.shape for n, a in data.items()} | {u.name: u.initial.shape for u in unknowns}
    try:
        return Binding(graph).bind(shapes, given)
    except (SizeError, ShapeError) as error:
        raise DataError(str(error)) from error
