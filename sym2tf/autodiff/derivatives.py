"""Gradients, Jacobians, Hessians and products with them, each a graph made from a graph.

Every function keeps the inputs of the graph in place (products append theirs after them) and names its outputs
`(output name, k, ...)`-style through `name_of`, one for each output and each of `wrt`, outputs outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_lowercase

from sym2tf.autodiff.forward import tangents
from sym2tf.autodiff.removable import resolve_removable
from sym2tf.autodiff.reverse import cotangents
from sym2tf.collection import collection_paused
from sym2tf.errors import DifferentiationError
from sym2tf.ir.dims import Size, evaluate_size, size_names
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.assembly import eye, reshape, stack
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import transpose
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, apply, constant, with_rank, with_shape

Wrt = Sequence[int]  # input nodes of the graph

NOMINAL = 64  # elements along an axis whose length is a symbol


@collection_paused()
def gradient(graph: Graph, wrt: Wrt, *, values: bool = False) -> Graph:
    """The gradient of each (scalar) output with respect to each of `wrt`, in the shape of the input.

    Args:
        graph: every output has a core of one element.
        wrt: input nodes of the graph.
        values: keep the outputs of `graph` too; they share what they have in common with the derivatives.

    Raises:
        DifferentiationError: an output is not scalar, or an operation has no derivative.
    """
    work = _Work(graph)
    for name, target in work.targets.items():
        if any(d != 1 for d in target.shape):
            raise DifferentiationError(
                f"gradient needs scalar outputs; {name} has core shape ({', '.join(map(str, target.shape))}): "
                "use jacobian"
            )
    answers = {}
    for name, target in work.targets.items():
        seed = with_rank(work.number(1), target.type.rank)
        for k, answer in enumerate(work.pull_back([target], [seed], wrt)):
            answers[name_of(name, k)] = answer
    return work.finish(answers, values=values, labels=work.labels(wrt))


@collection_paused()
def jacobian(graph: Graph, wrt: Wrt, *, values: bool = False, forward: bool | None = None) -> Graph:
    """The derivative of every element of each output by every element of each of `wrt`.

    Core shape: that of the output, then that of the input. Forward or reverse mode, whichever starts from fewer
    elements unless `forward` says; forward over reverse, then, for a Hessian.

    Raises:
        DifferentiationError: an operation has no derivative.
    """
    work = _Work(graph)
    if forward is None:
        forward = _elements(work.value(v) for v in wrt) <= _elements(work.targets.values())
    answers = _jacobian_forward(work, wrt) if forward else _jacobian_reverse(work, wrt)
    return work.finish(answers, values=values, labels=work.labels(wrt))


@collection_paused()
def hessian(graph: Graph, wrt: Wrt) -> Graph:
    """The second derivatives of each (scalar) output by each pair out of `wrt`; core shape of one, then of the other.

    Raises:
        DifferentiationError: an output is not scalar, or an operation has no derivative.
    """
    first = gradient(graph, wrt)
    again = [first.inputs[graph.inputs.index(v)] for v in wrt]
    work = _Work(first)
    blocks: dict[str, Value] = {}
    numbers = [not work.value(v).shape for v in again]
    for j, v in enumerate(again):
        x = work.value(v)
        # The Hessian is symmetric: of two blocks of tensors that hold the same numbers one is derived, and the axes of
        # the sweep, which stand in front, may stay there.
        rows = [k for k in range(len(again)) if k >= j or (numbers[j] and numbers[k])]
        columns = [(name, k) for name in graph.outputs for k in rows]
        targets = [work.targets[name_of(name, k)] for name, k in columns]
        found = work.push_forward(targets, [v], [_identity(work.builder, x.shape)])
        for (name, k), block in zip(columns, found, strict=True):
            if j != k or numbers[j]:
                blocks[name_of(name, k, j)] = _front_to_back(block, x.type.rank)
            if not (numbers[j] and numbers[k]):
                blocks[name_of(name, j, k)] = block
    answers = {name_of(name, k): blocks[name_of(name, k)] for name in work.targets for k in range(len(again))}
    return work.finish(answers, values=False, labels=work.labels(again))


@collection_paused()
def jvp(graph: Graph, wrt: Wrt, *, values: bool = False, front: tuple[Size, ...] = ()) -> Graph:
    """Each output's derivative along tangents, which are new inputs after the old ones, one for each of `wrt`.

    Axes in `front` of the tangents stand in front of the answers too: that many directions at once.
    """
    work = _Work(graph)
    seeds = [
        work.new_input(f"{_input_name(graph, v)}_tangent", TensorType(Kind.REAL, (*front, *graph[v].type.shape)))
        for v in wrt
    ]
    answers = work.push_forward(list(work.targets.values()), wrt, seeds)
    return work.finish(dict(zip(work.targets, answers, strict=True)), values=values)


@collection_paused()
def vjp(graph: Graph, wrt: Wrt, *, values: bool = False, front: tuple[Size, ...] = ()) -> Graph:
    """The cotangent of each of `wrt` from those of the outputs, which are new inputs after the old ones.

    Axes in `front` of the cotangents stand in front of the answers too: that many sweeps at once.
    """
    work = _Work(graph)
    seeds = [
        work.new_input(f"{name}_cotangent", TensorType(Kind.REAL, (*front, *t.shape)))
        for name, t in work.targets.items()
    ]
    answers = work.pull_back(list(work.targets.values()), seeds, wrt)
    return work.finish({name_of("", k): a for k, a in enumerate(answers)}, values=values)


@collection_paused()
def hvp(graph: Graph, wrt: Wrt) -> Graph:
    """The Hessian of each (scalar) output times a vector, which is new inputs after the old ones.

    Forward over reverse: one more sweep than the gradient, and no Hessian.
    """
    first = gradient(graph, wrt)
    return jvp(first, [first.inputs[graph.inputs.index(v)] for v in wrt])


def name_of(output: str, *positions: int) -> str:
    """The name of a derivative: the output's, and the position in `wrt` for each order of differentiation."""
    return output + "".join(f"/{k}" for k in positions)


class _Work:
    """A builder that holds the graph and receives the derivative."""

    def __init__(self, graph: Graph) -> None:
        self.graph = resolve_removable(graph)
        self.builder = Builder()
        self.where = self.builder.include(self.graph)
        self.place = dict(zip(graph.inputs, self.graph.inputs, strict=True))
        self.builder.stage = "derivative"
        self.inputs = [self.where[v] for v in self.graph.inputs]
        self.targets = {name: Value(self.builder, self.where[v]) for name, v in self.graph.outputs.items()}
        for name, target in self.targets.items():
            if target.type.kind < Kind.REAL:
                raise DifferentiationError(f"{name} is {target.type.kind}: it has no derivative")

    def value(self, v: int) -> Value:
        """Input `v` of the original graph."""
        return Value(self.builder, self.where[self.place[v]])

    def number(self, number: int) -> Value:
        return constant(self.builder, number, Kind.REAL)

    def new_input(self, name: str, type: TensorType) -> Value:
        taken = {self.builder.nodes[v].attributes["name"] for v in self.inputs}
        name = name.strip("_/").replace("/", "_")
        while name in taken:
            name += "_"
        v = self.builder.add(input_, (), {"name": name, "symbol": None, "type": type})
        self.inputs.append(v)
        return Value(self.builder, v)

    def pull_back(self, targets: list[Value], seeds: list[Value], wrt: Wrt) -> list[Value]:
        """Cotangents in full shape, zeros included."""
        sources = [self.value(v) for v in wrt]
        front = seeds[0].shape[: seeds[0].type.rank - targets[0].type.rank] if seeds else ()
        found = cotangents(self.builder, targets, seeds, sources)
        return [self.full(a, (*front, *x.shape)) for a, x in zip(found, sources, strict=True)]

    def push_forward(self, targets: list[Value], wrt: Wrt, seeds: list[Value]) -> list[Value]:
        """Tangents in full shape, zeros included."""
        sources = [self.value(v) for v in wrt]
        front = seeds[0].shape[: seeds[0].type.rank - sources[0].type.rank] if seeds else ()
        found = tangents(self.builder, targets, sources, seeds)
        return [self.full(a, (*front, *t.shape)) for a, t in zip(found, targets, strict=True)]

    def full(self, answer: Value | None, shape: tuple[Size, ...]) -> Value:
        return with_shape(self.number(0) if answer is None else answer, shape)

    def finish(self, answers: dict[str, Value], *, values: bool, labels: dict[str, str] | None = None) -> Graph:
        outputs = {name: t.id for name, t in self.targets.items()} if values else {}
        names = {name: f"d/{name}" if values else name for name in answers}
        outputs |= {names[name]: answer.id for name, answer in answers.items()}
        labels = {**self.graph.info.get("labels", {}), **{names[k]: v for k, v in (labels or {}).items()}}
        return self.builder.build(self.inputs, outputs, {**self.graph.info, "labels": labels})

    def labels(self, wrt: Wrt) -> dict[str, str]:
        """What people call each derivative, for pictures."""
        known = self.graph.info.get("labels", {})
        return {
            name_of(name, k): f"∂{known.get(name, name)}/∂{_input_name(self.graph, self.place[v])}"
            for name in self.targets
            for k, v in enumerate(wrt)
        }


def _jacobian_forward(work: _Work, wrt: Wrt) -> dict[str, Value]:
    columns = []
    for v in wrt:
        x = work.value(v)
        found = work.push_forward(list(work.targets.values()), [v], [_identity(work.builder, x.shape)])
        columns.append([_front_to_back(a, x.type.rank) for a in found])
    return {name_of(name, k): column[row] for row, name in enumerate(work.targets) for k, column in enumerate(columns)}


def _jacobian_reverse(work: _Work, wrt: Wrt) -> dict[str, Value]:
    answers = {}
    for name, target in work.targets.items():
        scalars = _scalars(target)
        if scalars:
            found = _rows(work, target, scalars, wrt)
        else:
            found = work.pull_back([target], [_identity(work.builder, target.shape)], wrt)
        answers.update({name_of(name, k): a for k, a in enumerate(found)})
    return answers


def _rows(work: _Work, target: Value, scalars: Sequence[Value], wrt: Wrt) -> list[Value]:
    """The Jacobian of a tensor put together from scalars: one sweep for each, over what it depends on alone."""
    gradients = {s.id: work.pull_back([s], [work.number(1)], wrt) for s in scalars}
    found = []
    for k, v in enumerate(wrt):
        shape = work.value(v).shape
        rows = stack(*(gradients[s.id][k] for s in scalars), axis=-1 - len(shape))
        found.append(reshape(rows, rank=rows.type.rank, shape=(*target.shape, *shape)))
    return found


def _scalars(target: Value) -> list[Value]:
    """The elements of a tensor that is put together from scalars, row by row; empty for any other."""
    builder = target.builder
    v = builder.operands[target.id][0] if target.node.op is reshape else target.id
    if builder.nodes[v].op is not stack or builder.nodes[v].type.rank != 1:
        return []
    return [Value(builder, u) for u in builder.operands[v]]


def _identity(builder: Builder, shape: tuple[Size, ...]) -> Value:
    """The identity as a tensor of shape `shape + shape`: unit tensors, which the optimiser eliminates."""
    if not shape:
        return constant(builder, 1, Kind.REAL)
    units = [apply(builder, eye, (), {"size": d}) for d in shape]
    rank = len(shape)
    if rank == 1:
        return units[0]
    letters = ascii_lowercase[: 2 * rank]
    inputs = tuple(letters[k] + letters[rank + k] for k in range(rank))
    product: Value = einsum(*units, inputs=inputs, output=letters)
    return product


def _front_to_back(value: Value, rank: int) -> Value:
    """The first `rank` core axes moved behind the others."""
    total = value.type.rank
    if rank in (0, total):
        return value
    moved: Value = transpose(value, axes=tuple(k - total for k in (*range(rank, total), *range(rank))))
    return moved


def _elements(values: Iterable[Value]) -> int:
    """How many numbers values hold, where a size that is a symbol counts as `NOMINAL`."""
    total = 0
    for value in values:
        elements = 1
        for d in value.shape:
            elements *= max(1, evaluate_size(d, dict.fromkeys(size_names(d), NOMINAL)))
        total += elements
    return total


def _input_name(graph: Graph, v: int) -> str:
    name: str = graph[v].attributes["name"]
    return name
