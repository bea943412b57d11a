"""Graphs that compute the entries of a sparse derivative: a few directional derivatives, and a gather from them.

Which columns share a direction, and where each entry then stands, are integer inputs of the graph, so that one graph
serves every size of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from sym2tf.autodiff.derivatives import Wrt, jacobian, jvp, vjp
from sym2tf.collection import collection_paused
from sym2tf.ir.dims import Size, size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import cast
from sym2tf.ops.assembly import concat, reshape, stack
from sym2tf.ops.gathering import gathered
from sym2tf.ops.indexing import expand, slice_
from sym2tf.ops.leaves import input_
from sym2tf.ops.logic import equal
from sym2tf.ops.values import Value, constant, with_shape

Mode = Literal["columns", "rows", "dense"]
OUTPUT = "entries"


class Sweeps(NamedTuple):
    """The graph, whose one output is the vector of entries, and the names of the inputs that it has got in addition.

    Attributes:
        graph: inputs as before, then those of the plan.
        palette: all colours, in order; None where one direction is enough.
        colours: the colour of each element of the inputs (mode `columns`) or outputs (`rows`), one after the other.
        places: for each entry where it stands in the answers, flat; None where they are the entries.
    """

    graph: Graph
    palette: str | None
    colours: str | None
    places: str | None


@collection_paused()
def sweeps(graph: Graph, wrt: Wrt, mode: Mode, *, single: bool = False, picked: bool = True) -> Sweeps:
    """The entries of the Jacobian of all outputs by all of `wrt`.

    The answers that are picked from are, flat, of shape `(colours, output elements)` in mode `columns`, `(colours,
    input elements)` in mode `rows`, and for `dense` the blocks one after the other, outputs outside.

    Args:
        graph: what is differentiated.
        wrt: input nodes of it.
        mode: by directional derivatives, by pulling back, or by the whole Jacobian.
        single: one direction, all of ones.
        picked: gather the entries; otherwise the answers are the entries.

    Raises:
        DifferentiationError: an operation has no derivative.
    """
    names = _Names(graph)
    number: Size = size_symbol(names.size("colours"))
    front = () if single else (number,)
    base = _DERIVATIVES[mode](graph, wrt, front)
    builder = Builder(stage="derivative")
    added: list[int] = []

    def new_input(name: str, shape: tuple[Size, ...]) -> tuple[str, Value]:
        name = names.input(name)
        attributes = {"name": name, "symbol": None, "type": TensorType(Kind.INTEGER, shape)}
        added.append(builder.add(input_, (), attributes))
        return name, Value(builder, added[-1])

    seeds = base.inputs[len(graph.inputs) :]
    palette = colours = None
    where: dict[int, int] = {}
    if seeds and single:
        where = {v: with_shape(constant(builder, 1, Kind.REAL), base[v].type.shape).id for v in seeds}
    elif seeds:
        shapes = [base[v].type.shape[1:] for v in seeds]
        palette, listed = new_input("palette", (number,))
        total: Size = 0
        for shape in shapes:
            total = total + _count(shape)
        colours, colour = new_input("colours", (total,))
        where = dict(zip(seeds, [seed.id for seed in _seeds(listed, colour, shapes)], strict=True))
    for v in base.order:
        if v not in where:
            where[v] = builder.copy_node(base, v, [where[u] for u in base.operands(v)])
    answers = _flat([Value(builder, where[v]) for v in base.outputs.values()], front if mode != "dense" else ())
    places = None
    if picked:
        places, index = new_input("places", (size_symbol(names.size("entries")),))
        answers = gathered(answers, index)
    inputs = [where[v] for v in base.inputs[: len(graph.inputs)]]
    labels = {**base.info.get("labels", {}), OUTPUT: "entries"}
    made = builder.build([*inputs, *added], {OUTPUT: answers.id}, {**base.info, "labels": labels})
    return Sweeps(made, palette, colours, places)


_DERIVATIVES: dict[Mode, Callable[[Graph, Wrt, tuple[Size, ...]], Graph]] = {
    "columns": lambda graph, wrt, front: jvp(graph, wrt, front=front),
    "rows": lambda graph, wrt, front: vjp(graph, wrt, front=front),
    "dense": lambda graph, wrt, front: jacobian(graph, wrt),
}


class _Names:
    """Names that neither inputs nor sizes of a graph have yet."""

    def __init__(self, graph: Graph) -> None:
        self.inputs = {graph[v].attributes["name"] for v in graph.inputs}
        self.sizes = {*graph.size_names(), *graph.info.get("sizes", ()), *self.inputs}

    def input(self, name: str) -> str:
        return _fresh(name, self.inputs)

    def size(self, name: str) -> str:
        return _fresh(name, self.sizes)


def _fresh(name: str, taken: set[str]) -> str:
    found, k = name, 1
    while found in taken:
        found, k = f"{name}_{k}", k + 1
    taken.add(found)
    return found


def _seeds(palette: Value, colours: Value, shapes: Sequence[tuple[Size, ...]]) -> list[Value]:
    """For each shape ones where an element has the colour: `(number of colours, *shape)`."""
    every: Value = cast(equal(expand(palette, axis=-1), expand(colours, axis=-2)), kind=Kind.REAL)
    seeds = []
    start: Size = 0
    for shape in shapes:
        count = _count(shape)
        part: Value = every if len(shapes) == 1 else slice_(every, axis=-1, start=start, size=count)
        seeds.append(part if len(shape) == 1 else reshape(part, rank=1, shape=shape))
        start = start + count
    return seeds


def _flat(answers: Sequence[Value], front: tuple[Size, ...]) -> Value:
    """Answers side by side behind the axes in `front`, and all in one row."""
    if len(answers) > 1 and all(a.type.rank == len(front) for a in answers):
        whole: Value = stack(*answers, axis=-1)
    else:
        parts = [_in_a_row(a, a.type.rank - len(front)) for a in answers]
        whole = parts[0] if len(parts) == 1 else concat(*parts, axis=-1)
    return _in_a_row(whole, whole.type.rank)


def _in_a_row(value: Value, rank: int) -> Value:
    """The last `rank` axes as one."""
    row: Value = (
        value if rank == 1 else reshape(value, rank=rank, shape=(_count(value.shape[value.type.rank - rank :]),))
    )
    return row


def _count(shape: Sequence[Size]) -> Size:
    total: Size = 1
    for d in shape:
        total = total * d
    return total
