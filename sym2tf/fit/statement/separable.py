"""A cost as a sum over observations plus terms without data: what a mini-batch of rows says about the whole.

The cost is `rest + Sum_k c_k*S_k`, where every `S_k` sums over the observations and `c_k` and `rest` hold no data that
vary with them. On B of the N observations it is estimated by `rest + (N/B)*Sum_k c_k*S_k(batch)`, with N for every `n`
that stands as a number, as in `1/n`. If every observation is as likely to be in the batch, the expectation of that, and
of its gradient, is the cost and its gradient (Bottou, Curtis, Nocedal, SIAM Review 60, 2018, section 3): a sum is
scaled up, a mean stays a mean, a penalty stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, SizeError
from sym2tf.fit.statement.problem import Problem
from sym2tf.frontend.describe import describe
from sym2tf.ir.dims import size_names, size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import sum_
from sym2tf.ops.leaves import input_, iota, size
from sym2tf.ops.values import Value, constant, with_shape
from sym2tf.passes.degree import degrees
from sym2tf.passes.pipeline import prune

Array = np.ndarray[Any, Any]

SAMPLE = 4  # observations on which it is tested that a sum over observations is one


@dataclass(frozen=True)
class Separable:
    """A cost that can be computed on some of the observations.

    Attributes:
        graph: output `"out"`, `share*rest + scale*Sum_k c_k*S_k(batch)`; inputs are those of the problem, `total`,
            perhaps `rows`, then `scale` and `share`.
        parts: outputs `"data"` (`Sum_k c_k*S_k`) and `"rest"`; inputs are those of the problem, `total`, and perhaps
            `rows`.
        observations: the size that counts the observations.
        axes: of every array by observation, by input name, which axis of it they are; negative.
        scale, share, total: names of inputs: factors, and the number of all observations.
        rows: name of the input of numbers of rows, where the cost uses these as numbers (`t[i] = i`); else None.
    """

    graph: Graph
    parts: Graph
    observations: str
    axes: Mapping[str, int]
    scale: str
    share: str
    total: str
    rows: str | None

    def number(self, data: Mapping[str, Array]) -> int:
        """How many observations some data hold."""
        name, axis = next(iter(self.axes.items()))
        return int(np.shape(data[name])[axis])

    def rows_of(self, data: Mapping[str, Array], rows: Any) -> dict[str, Array]:
        """`data` with only some rows; numbers of rows are added where the cost uses them."""
        found = {name: taken(a, rows, self.axes[name]) if name in self.axes else a for name, a in data.items()}
        if self.rows is not None:
            found[self.rows] = np.arange(self.number(data))[rows]
        return found


def separate(problem: Problem) -> Separable:
    """The cost of a problem as a sum over observations.

    The size that counts them is the one on which most data depend, of those over which the cost is a sum.

    Raises:
        ArgumentError: the cost is no such sum; says why.
    """
    counts = _counts(problem)
    reasons = []
    for name in counts:
        try:
            return _separated(problem, name)
        except _NotSeparableError as error:
            reasons.append(str(error))
    why = reasons[0] if reasons else "no axis of the data has a symbol as its length, and belongs to data alone"
    raise ArgumentError(
        f"mini-batches need a cost that is a sum (or mean) over observations, apart from terms without data: {why}. "
        "Leave out batch_size and method to fit all data at once"
    )


class _NotSeparableError(Exception):
    """Why a cost is no sum over the axes of one size."""


def _counts(problem: Problem) -> list[str]:
    """The sizes that may count observations, the likeliest first: leading axes, much data."""
    graph = problem.graph
    unknown = {u.name for u in problem.unknowns}
    weight: dict[str, tuple[int, int]] = {}
    for v in graph.inputs:
        name, shape = graph[v].attributes["name"], graph[v].type.shape
        for k, d in enumerate(shape):
            for own in size_names(d) if name not in unknown else ():
                leading, elements = weight.get(own, (0, 0))
                weight[own] = leading + (k == 0), elements + problem.data[name].size
    of_unknowns = {s for v in graph.inputs if graph[v].attributes["name"] in unknown
                   for d in graph[v].type.shape for s in size_names(d)}  # fmt: skip
    return sorted(set(weight) - of_unknowns, key=lambda s: weight[s], reverse=True)


def _separated(problem: Problem, observations: str) -> Separable:
    axes = _axes(problem.graph, observations)
    reasons = []
    for numbered in (False, True):  # a range is a position within the batch, or the number of a row in all data
        built = _Split(problem.graph, observations, axes, numbered=numbered)
        reasons = _broken(problem, built)
        if not reasons or not built.ranges:
            break
    if reasons:
        raise _NotSeparableError(reasons[0])
    return built.finished()


def _axes(graph: Graph, observations: str) -> dict[str, int]:
    length = size_symbol(observations)
    axes: dict[str, int] = {}
    for v in graph.inputs:
        name, shape = graph[v].attributes["name"], graph[v].type.shape
        places = [k - len(shape) for k, d in enumerate(shape) if observations in size_names(d)]
        if len(places) > 1:
            raise _NotSeparableError(f"{name} has {observations} on {len(places)} axes, so it couples observations")
        if places and shape[places[0]] != length:
            raise _NotSeparableError(
                f"{name} has {shape[places[0]]} elements for {observations} observations, so neighbours are coupled"
            )
        if places:
            axes[name] = places[0]
    return axes


class _Split:
    """A graph that is cut at its sums over observations."""

    def __init__(self, graph: Graph, observations: str, axes: Mapping[str, int], *, numbered: bool) -> None:
        self.observations, self.axes, self.numbered = observations, axes, numbered
        self.names = {graph[v].attributes["name"] for v in graph.inputs}
        self.total = _free_name(f"all_{observations}", self.names)
        self.scale, self.share = _free_name("scale", self.names), _free_name("share", self.names)
        self.rows_name = _free_name("row", self.names)
        length = size_symbol(observations)
        self.ranges = [v for v in graph.order if graph[v].op is iota and graph[v].attributes["size"] == length]
        self.graph = self._with_total(graph)
        self.cuts = [v for v in self.graph.order if sums_over(self.graph, v, length)]
        self.above = self._above()

    @property
    def rows(self) -> str | None:
        """The input of numbers of rows, if there is one."""
        return self.rows_name if self.numbered and self.ranges else None

    def _with_total(self, graph: Graph) -> Graph:
        """`graph` with the number of all observations where their count is a number, and row numbers for ranges."""
        builder = Builder()
        where: dict[int, int] = {}
        rows: list[int] = []
        attributes = {"name": self.total, "symbol": None, "type": TensorType(Kind.INTEGER)}
        all_rows = Value(builder, builder.add(input_, (), attributes))
        for v in graph.order:
            node = graph[v]
            if node.op is size and self.observations in size_names(node.attributes["size"]):
                where[v] = self._counted(builder, node.attributes["size"], all_rows).id
            elif v in self.ranges and self.numbered:
                type_ = TensorType(Kind.INTEGER, (size_symbol(self.observations),))
                rows = [builder.add(input_, (), {"name": self.rows_name, "symbol": None, "type": type_})]
                where[v] = (Value(builder, rows[0]) + node.attributes["start"]).id
            else:
                where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
        out = {"out": where[graph.outputs["out"]]}
        return prune(builder.build([*(where[v] for v in graph.inputs), all_rows.id, *rows], out, _info(graph)))[0]

    def _counted(self, builder: Builder, length: Any, all_rows: Value) -> Value:
        """A length as a number, with the number of all observations for the size that counts them."""
        total: Any = 0
        for monomial, coefficient in length.terms:
            term: Any = constant(builder, coefficient, Kind.INTEGER)
            for name in monomial:
                own = Value(builder, builder.add(size, (), {"size": size_symbol(name)}))
                term = term * (all_rows if name == self.observations else own)
            total = term + total
        return total

    def _above(self) -> Graph:
        """The graph of what is made of the sums, which are its inputs; an affine function of them without data."""
        graph, builder = self.graph, Builder()
        where: dict[int, int] = {}
        tainted: dict[int, str] = {}
        beyond: set[int] = set()
        stand_ins = []
        for v in graph.order:
            node, operands = graph[v], graph.operands(v)
            below = [u for u in operands if u in beyond]
            if v in self.cuts:
                if below:
                    raise _NotSeparableError(f"{_text(graph, v)} holds another sum over {self.observations}")
                attributes = {"name": f"sum {v}", "symbol": None, "type": TensorType(Kind.REAL, node.type.shape)}
                where[v] = builder.add(input_, (), attributes)
                stand_ins.append(where[v])
                beyond.add(v)
                continue
            where[v] = builder.copy_node(graph, v, [where[u] for u in operands])
            if below:
                beyond.add(v)
            held = next((tainted[u] for u in operands if u in tainted), None)
            if node.op is input_ and node.attributes["name"] in (*self.axes, self.rows):
                held = node.attributes["name"]
            if held is not None:
                tainted[v] = held
        out = graph.outputs["out"]
        if out in tainted:
            how = "outside of a sum over" if self.cuts else "without a sum over"
            raise _NotSeparableError(f"{tainted[out]} is used {how} {self.observations}")
        above = builder.build([*(where[v] for v in graph.inputs), *stand_ins], {"out": where[out]}, _info(graph))
        by_sums = degrees(above, stand_ins)
        if by_sums[where[out]] > 1:
            bent = next(v for v in above.order if by_sums[v] > 1)
            raise _NotSeparableError(f"{_text(above, bent)} is no sum over {self.observations} but a function of one")
        return above

    def finished(self) -> Separable:
        """The graphs of the cost on a batch."""
        parts = self._assembled(scaled=False)
        return Separable(
            self._assembled(scaled=True), parts, self.observations, self.axes,
            self.scale, self.share, self.total, self.rows,
        )  # fmt: skip

    def sums(self) -> Graph:
        """The sums over observations alone."""
        builder = Builder()
        where = builder.include(self.graph)
        outputs = {str(k): where[v] for k, v in enumerate(self.cuts)}
        return builder.build([where[v] for v in self.graph.inputs], outputs, _info(self.graph))

    def _assembled(self, *, scaled: bool) -> Graph:
        graph, builder = self.graph, Builder()
        where = builder.include(graph)
        count = len(graph.inputs)
        own = [where[v] for v in graph.inputs]
        zeros = [with_shape(constant(builder, 0, Kind.REAL), builder.nodes[where[v]].type.shape).id for v in self.cuts]
        tangents = derivatives.jvp(self.above, self.above.inputs[count:])
        along = [where[v] for v in self.cuts]
        (data,) = _inlined(builder, tangents, [*own, *zeros, *along])
        (rest,) = _inlined(builder, self.above, [*own, *zeros])
        names = [graph[v].attributes["name"] for v in graph.inputs]
        if not scaled:
            outputs = {"data": data.id, "rest": rest.id}
            return builder.build(own, outputs, {**_info(graph), "args": tuple(names), "outputs": tuple(outputs)})
        scale, share = (
            Value(builder, builder.add(input_, (), {"name": n, "symbol": None, "type": TensorType(Kind.REAL)}))
            for n in (self.scale, self.share)
        )
        out = scale * data + share * rest
        info = {**_info(graph), "args": (*names, self.scale, self.share), "outputs": "out"}
        return builder.build([*own, scale.id, share.id], {"out": out.id}, info)


def _inlined(builder: Builder, graph: Graph, inputs: Sequence[int]) -> list[Value]:
    """The outputs of `graph`, as scalars, with nodes of `builder` in place of its inputs."""
    where = dict(zip(graph.inputs, inputs, strict=True))
    for v in graph.order:
        if v not in where:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    found = [Value(builder, where[v]) for v in graph.outputs.values()]
    return [sum_(x, axes=tuple(range(-x.type.rank, 0))) if x.type.rank else x for x in found]


def _info(graph: Graph) -> dict[str, Any]:
    return {key: graph.info[key] for key in ("sizes", "reaches", "extents", "firsts") if key in graph.info}


def _free_name(wish: str, taken: Iterable[str]) -> str:
    while wish in taken:
        wish += "_"
    return wish


def _text(graph: Graph, v: int) -> str:
    """A node as the user wrote it."""
    origin = graph[v].origin
    return graph[v].op.name if origin is None else describe(origin)


def sums_over(graph: Graph, v: int, length: Any) -> bool:
    """Whether a node adds up what stands along an axis of this length."""
    node, types = graph[v], [graph[u].type for u in graph.operands(v)]
    if node.op is sum_:
        return any(types[0].shape[axis] == length for axis in node.attributes["axes"])
    if node.op is einsum:
        letters = zip(node.attributes["inputs"], types, strict=True)
        found = {c for word, t in letters for c, d in zip(word, t.shape, strict=True) if d == length}
        return bool(found - set(node.attributes["output"]))
    return False


def _broken(problem: Problem, split: _Split) -> list[str]:
    """The sums that are not additive: tested on some observations, at the start and beside it."""
    data = problem.data
    name, axis = next(iter(split.axes.items()))
    count = problem.bound.get(split.observations, data[name].shape[axis])
    chosen = np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).astype(int))
    if len(chosen) < 2:
        return []
    graph = split.sums()
    start = problem.packed("initial")
    drawn = start + np.random.default_rng(0).normal(size=start.shape) * np.maximum(np.abs(start), 1) / 2
    beside = np.clip(drawn, problem.packed("lower"), problem.packed("upper"))
    for theta in (start, beside):
        values = {**data, **problem.fixed, **problem.unpacked(theta)}

        def sums_at(rows: Array, values: Mapping[str, Array] = values) -> list[Array]:
            given = {n: taken(a, rows, split.axes[n]) if n in split.axes else a for n, a in values.items()}
            given |= {split.rows_name: rows, split.total: np.asarray(count)}
            sizes = {**problem.sizes, split.observations: len(rows)}
            with np.errstate(all="ignore"):
                found = evaluate(graph, {graph[v].attributes["name"]: given[graph[v].attributes["name"]]
                                         for v in graph.inputs}, sizes)  # fmt: skip
            return list(found.values())

        try:
            singles = [sums_at(chosen[k : k + 1]) for k in range(len(chosen))]
            whole = sums_at(chosen)
        except (IndexError, SizeError) as error:
            return [f"{problem.cost} cannot be computed for single observations ({error})"]
        for v, total, parts in zip(split.cuts, whole, zip(*singles, strict=True), strict=True):
            size_ = sum(np.abs(part) for part in parts)
            with np.errstate(all="ignore"):
                wrong = np.abs(total - sum(parts)) > 1e-9 * size_
            if np.any(wrong):
                return [f"in {_text(split.graph, v)} a term depends on other observations than its own"]
    return []


def taken(array: Array, rows: Any, axis: int) -> Array:
    """Some rows of an array, whose axis of observations is `axis`, negative; a slice of rows is no copy."""
    return np.asarray(array)[(..., rows, *(slice(None),) * (-axis - 1))]
