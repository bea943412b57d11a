"""The graph: a `networkx.MultiDiGraph` of operations with named outputs, and the builder that makes one.

Nodes are integers; an edge runs from operand to user and its key is the operand position. Node records are
immutable and shared between graphs. Every stage of the compiler takes a `Graph` and returns a new one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sym2tf.errors import GraphError, ShapeError
from sym2tf.ir.dims import Dim, size_names
from sym2tf.ir.op import Op
from sym2tf.ir.pickling import Depths
from sym2tf.ir.types import TensorType
from sym2tf.lazy import lazy

if TYPE_CHECKING:
    import networkx as nx
else:
    nx = lazy("networkx")  # a tenth of a second to import, which `sym2tf --help` need not pay


@dataclass(frozen=True, slots=True)
class Node:
    """One operation in a graph.

    Attributes:
        op: the row.
        attributes: static attributes of the operation (axis, value, name, ...); hashable values.
        type: kind and core shape of the result.
        origin: the SymPy expression it came from, or a short text; only for people to read.
        stage: `"primal"` or `"derivative"`; only for people to read.
    """

    op: Op
    attributes: Mapping[str, Any]
    type: TensorType
    origin: Any = field(default=None, compare=False)
    stage: str = field(default="primal", compare=False)


class Graph:
    """An immutable data-flow graph.

    Attributes:
        nx: the `networkx.MultiDiGraph`; `nx.nodes[v]["node"]` is the `Node`, edge keys are operand positions.
        inputs: input nodes in the order of the arguments, unused ones included.
        outputs: name of each output -> node, in order.
        info: what later stages need to know about the whole (how data bind sizes, say); passes hand it on.
    """

    def __init__(
        self,
        graph: nx.MultiDiGraph,
        inputs: Sequence[int],
        outputs: Mapping[str, int],
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.nx = graph
        self.inputs = tuple(inputs)
        self.outputs = dict(outputs)
        self.info = dict(info or {})

    def __len__(self) -> int:
        return int(self.nx.number_of_nodes())

    def __repr__(self) -> str:
        return f"Graph({len(self)} nodes, {len(self.inputs)} inputs, {len(self.outputs)} outputs)"

    def __copy__(self) -> Graph:
        return self

    def __deepcopy__(self, memo: Any) -> Graph:
        return self  # nothing in it ever changes

    def __getstate__(self) -> dict[str, Any]:
        """For `pickle`: lists in place of the networkx graph, and no origins too deep for it."""
        depths = Depths()
        nodes = [(v, self[v], depths.shallow(self[v].origin)) for v in self.nx]
        return {
            "nodes": [(v, n.op, dict(n.attributes), n.type, origin, n.stage) for v, n, origin in nodes],
            "operands": self._operands,
            "order": self.order,
            "rest": (self.inputs, self.outputs, self.info),
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        graph = nx.MultiDiGraph()
        graph.add_nodes_from((v, {"node": Node(*parts)}) for v, *parts in state["nodes"])
        graph.add_edges_from((u, v, k) for v, operands in state["operands"].items() for k, u in enumerate(operands))
        self.nx = graph
        self.inputs, self.outputs, self.info = state["rest"]
        vars(self).update(_operands=state["operands"], order=state["order"])

    def __getitem__(self, v: int) -> Node:
        node: Node = self.nx.nodes[v]["node"]
        return node

    @cached_property
    def _operands(self) -> dict[int, tuple[int, ...]]:
        incoming: dict[int, list[tuple[int, int]]] = {v: [] for v in self.nx}
        for u, v, position in self.nx.edges(keys=True):
            incoming[v].append((position, u))
        return {v: tuple(u for _, u in sorted(pairs)) for v, pairs in incoming.items()}

    def operands(self, v: int) -> tuple[int, ...]:
        """The operands of `v` in order."""
        return self._operands[v]

    @cached_property
    def order(self) -> tuple[int, ...]:
        """All nodes, operands before users; deterministic."""
        return tuple(nx.topological_sort(self.nx))

    def users(self, v: int) -> list[int]:
        """The distinct nodes that use `v`."""
        return list(self.nx.successors(v))

    def use_count(self, v: int) -> int:
        """How often `v` is used, as an operand or as an output."""
        return int(self.nx.out_degree(v)) + sum(1 for u in self.outputs.values() if u == v)

    def ancestors(self, v: int) -> set[int]:
        """`v` and every node that it depends on."""
        return {v} | nx.ancestors(self.nx, v)

    def size_names(self) -> frozenset[str]:
        """Every size symbol in a type or an attribute."""
        sizes: set[Dim] = set()
        for v in self.nx:
            node = self[v]
            sizes.update(d for d in node.type.shape if isinstance(d, Dim))
            for value in node.attributes.values():
                for item in value if isinstance(value, tuple) else (value,):
                    if isinstance(item, Dim):
                        sizes.add(item)
        return frozenset(name for size in sizes for name in size_names(size))

    def counts(self) -> dict[str, int]:
        """How often each operation occurs, by name, most frequent first."""
        total: dict[str, int] = {}
        for v in self.nx:
            name = self[v].op.name
            total[name] = total.get(name, 0) + 1
        return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))

    def validate(self) -> Graph:
        """Check every invariant and return the graph itself.

        Raises:
            GraphError: the graph has a cycle, an operand position is missing or doubled, a type is not what
                the operation infers, an output or input is not a node, or two nodes are the same operation on
                the same operands.
        """
        if not nx.is_directed_acyclic_graph(self.nx):
            raise GraphError("the graph has a cycle")
        for name, v in [*self.outputs.items(), *((f"input {k}", v) for k, v in enumerate(self.inputs))]:
            if v not in self.nx:
                raise GraphError(f"{name} is not a node of the graph")
        seen: dict[Hashable, int] = {}
        for v in self.order:
            node, operands = self[v], self.operands(v)
            positions = sorted(k for _, _, k in self.nx.in_edges(v, keys=True))
            if positions != list(range(len(positions))):
                raise GraphError(f"{node.op.name} has operand positions {positions}")
            if node.op.arity is not None and len(operands) != node.op.arity:
                raise GraphError(f"{node.op.name} takes {node.op.arity} operands, got {len(operands)}")
            try:
                due = node.op.infer(*(self[u].type for u in operands), **node.attributes)
            except ShapeError as error:
                raise GraphError(f"{node.op.name}: {error}") from error
            if due != node.type:
                raise GraphError(f"{node.op.name} has type {node.type}, its operands give {due}")
            key = _key(node.op, operands, node.attributes)
            if key in seen:
                raise GraphError(f"nodes {seen[key]} and {v} are both {node.op.name} of the same operands")
            seen[key] = v
        return self


class Builder:
    """Adds nodes, each distinct one once (hash-consing), and hands out the finished graph.

    Operands of commutative operations are put in canonical order (the order of creation), so that `a + b` and
    `b + a` are one node.
    """

    def __init__(self, *, stage: str = "primal") -> None:
        self.nodes: list[Node] = []
        self.operands: list[tuple[int, ...]] = []
        self.stage = stage
        self.origin: Any = None
        self._index: dict[Hashable, int] = {}

    def add(
        self,
        op: Op,
        operands: Iterable[int] = (),
        attributes: Mapping[str, Any] | None = None,
        *,
        origin: Any = None,
        stage: str | None = None,
    ) -> int:
        """The node for `op` on `operands`, new or already there."""
        operands = tuple(sorted(operands)) if op.commutative else tuple(operands)
        attributes = attributes or {}
        key = _key(op, operands, attributes)
        v = self._index.get(key)
        if v is None:
            v = len(self.nodes)
            type_ = op.infer(*(self.nodes[u].type for u in operands), **attributes)
            origin = self.origin if origin is None else origin
            self.nodes.append(Node(op, attributes, type_, origin, stage or self.stage))
            self.operands.append(operands)
            self._index[key] = v
        return v

    def copy_node(self, graph: Graph, v: int, operands: Iterable[int]) -> int:
        """Node `v` of another graph, on operands of this one."""
        node = graph[v]
        return self.add(node.op, operands, node.attributes, origin=node.origin, stage=node.stage)

    def include(self, graph: Graph) -> dict[int, int]:
        """Add a whole graph; returns where each of its nodes went."""
        where: dict[int, int] = {}
        for v in graph.order:
            where[v] = self.copy_node(graph, v, (where[u] for u in graph.operands(v)))
        return where

    def build(self, inputs: Sequence[int], outputs: Mapping[str, int], info: Mapping[str, Any] | None = None) -> Graph:
        """The graph of what the outputs need, with the inputs kept even where nothing uses them."""
        alive = bytearray(len(self.nodes))
        for v in (*inputs, *outputs.values()):
            alive[v] = 1
        for v in range(len(self.nodes) - 1, -1, -1):
            if alive[v]:
                for u in self.operands[v]:
                    alive[u] = 1
        graph = nx.MultiDiGraph()
        kept = [v for v in range(len(self.nodes)) if alive[v]]
        graph.add_nodes_from((v, {"node": self.nodes[v]}) for v in kept)
        graph.add_edges_from((u, v, k) for v in kept for k, u in enumerate(self.operands[v]))
        result = Graph(graph, inputs, outputs, info)
        # The order of creation is topological. Keeping it spares every pass two traversals, and a rebuild
        # then leaves the canonical order of operands, which is this order, as it was.
        vars(result).update(_operands={v: self.operands[v] for v in kept}, order=tuple(kept))
        return result


def _key(op: Op, operands: tuple[int, ...], attributes: Mapping[str, Any]) -> Hashable:
    if not attributes:
        return op, operands
    return (
        op,
        operands,
        tuple(sorted((k, type(a), a) for k, a in attributes.items()))
        if len(attributes) > 1
        else next(iter((k, type(a), a) for k, a in attributes.items())),
    )
