"""The order of the passes, and the report of what each of them did."""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sym2tf.collection import collection_paused
from sym2tf.errors import ArgumentError
from sym2tf.ir.graph import Builder, Graph
from sym2tf.passes.assembly import assemble
from sym2tf.passes.contraction import contract, same_operations
from sym2tf.passes.emission import ORDERED
from sym2tf.passes.guards import without_guards
from sym2tf.passes.linalg import choose_algorithms, has_linear_algebra
from sym2tf.passes.machine import choose_machine_operations
from sym2tf.passes.picking import pick
from sym2tf.passes.rewriting import rewrite
from sym2tf.passes.rules import EXACT, REAL, STABLE
from sym2tf.passes.sharing import share

Level = Literal["exact", "real", "stable"]
LEVELS: tuple[Level, ...] = ("exact", "real", "stable")
RULES = {"exact": EXACT, "real": (*EXACT, *REAL), "stable": (*EXACT, *REAL, *STABLE)}
ROUNDS = 4


class Pass(NamedTuple):
    """A named step: valid graph in, valid graph and what it did out; the graph that came in is untouched."""

    name: str
    function: Callable[[Graph, str], tuple[Graph, Counter[str]]]


@dataclass(frozen=True)
class PassRecord:
    """What one pass did."""

    name: str
    nodes_before: int
    nodes_after: int
    seconds: float
    fired: Counter[str]


@dataclass(frozen=True, repr=False)
class Report:
    """What every pass did, in order."""

    records: tuple[PassRecord, ...] = field(default_factory=tuple)

    @property
    def seconds(self) -> float:
        """The time that all passes took."""
        return sum(record.seconds for record in self.records)

    @property
    def fired(self) -> Counter[str]:
        """How often each rule was applied, by all passes together."""
        return sum((record.fired for record in self.records), Counter[str]())

    @property
    def ordered(self) -> bool:
        """Whether factors of a contraction met in an order that other sizes may change."""
        return ORDERED in self.fired

    def __iter__(self) -> Iterator[PassRecord]:
        return iter(self.records)

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(row[k]) for row in cells) for k in range(4)]
        lines = []
        for name, *numbers, fired in cells:
            aligned = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
            lines.append("  ".join((name.ljust(widths[0]), *aligned, fired)).rstrip())
        lines.insert(1, "-" * max(map(len, lines)))
        lines.insert(-1, lines[1])
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *body = ([html.escape(cell) for cell in row] for row in self._cells())
        rows = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
        rows += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
        return "<table>\n" + "\n".join(rows) + "\n</table>"

    def _cells(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("pass", "before", "after", "ms", "what it did")]
        rows += map(_row, self.records)
        if self.records:
            first, last = self.records[0], self.records[-1]
            total = PassRecord("total", first.nodes_before, last.nodes_after, self.seconds, Counter())
        else:
            total = PassRecord("total", 0, 0, 0.0, Counter())
        return [*rows, _row(total)]


@collection_paused()
def optimize(
    graph: Graph, *, level: str = "stable", jit: bool = False, sizes: Mapping[str, int] | None = None
) -> tuple[Graph, Report]:
    """The graph made small and quick, and the report of how.

    Args:
        graph: any valid graph.
        level: `"exact"` only does what is equal for every float, NaN, infinities and signed zeros included;
            `"real"` also what is equal in exact arithmetic; `"stable"` (the default) also takes forms
            that are more accurate than what they replace, and no new cancellation.
        jit: choose nothing that XLA cannot compile.
        sizes: about how long axes are whose length is a symbol; the order of contractions depends on it, and nothing
            else does. `Report.ordered` says whether there was a choice.

    Raises:
        ArgumentError: an unknown level.
    """
    if level not in LEVELS:
        raise ArgumentError(f"level is {level!r}; it must be one of {', '.join(map(repr, LEVELS))}")
    records: list[PassRecord] = []

    def run(step: Pass) -> Counter[str]:
        nonlocal graph
        start, before = time.perf_counter(), len(graph)
        graph, fired = step.function(graph, level)
        records.append(PassRecord(step.name, before, len(graph), time.perf_counter() - start, fired))
        return fired

    contraction = Pass(
        "contraction", lambda g, level: contract(g, exact=level == "exact", split=level == "real", sizes=sizes)
    )
    algorithms = Pass("linear algebra", lambda g, level: choose_algorithms(g, exact=level == "exact", jit=jit))
    run(PRUNE)
    run(PICK)
    run(REWRITE)
    if level != "exact" and run(ASSEMBLE):  # a sum makes 0 of -0.0
        run(REWRITE)
    for _ in range(ROUNDS):
        before = graph
        if not run(contraction) or (run(REWRITE) and same_operations(before, graph)):
            break  # what one of them does the other may undo
    for _ in range(ROUNDS):
        if not has_linear_algebra(graph) or not run(algorithms):
            break
        run(contraction)
        run(REWRITE)
    run(SHARE)
    for _ in range(ROUNDS):
        run(MACHINE)
        if not any(name.startswith("shared") for name in run(SHARE)):
            break
    return graph, Report(tuple(records))


def stabilize(graph: Graph, *, level: Level = "stable") -> Graph:
    """The graph to differentiate: rewritten, so that derivatives start from `logsumexp` and not from what overflows.

    Only the rules run. They keep smooth functions smooth; contractions, sharing and machine operations come after
    differentiation. At level `"exact"` the graph itself.
    """
    return graph if level == "exact" else rewrite(pick(graph)[0], RULES[level])[0]


def normalize(graph: Graph, *, level: Level = "stable") -> Graph:
    """The graph to read: rewritten and contracted as `optimize` does, without what is there for machines only."""
    return in_normal_form(without_guards(prune(graph)[0]), level=level)


def in_normal_form(graph: Graph, *, level: str = "stable", careful: bool = False) -> Graph:
    """The graph with its contractions in normal form, in which `r.T*r` is a sum of squares like any other.

    Machine operations, which hide sums and products, are not chosen. `careful` as for `contract`: the graph is run.
    """
    graph = REWRITE.function(graph, level)[0]
    for _ in range(ROUNDS):
        before = graph
        graph, fired = contract(graph, exact=level == "exact", split=level == "real", careful=careful)
        if not fired:
            break
        graph = REWRITE.function(graph, level)[0]
        if same_operations(before, graph):
            break
    return graph


def prune(graph: Graph, level: str = "stable") -> tuple[Graph, Counter[str]]:
    """`graph` without the nodes that no output needs; inputs stay, since callers pass them."""
    needed = set(graph.inputs) | set(graph.outputs.values())
    for v in reversed(graph.order):
        if v in needed:
            needed.update(graph.operands(v))
    dead = len(graph) - len(needed)
    if not dead:
        return graph, Counter()
    builder, where = Builder(), dict[int, int]()
    for v in graph.order:
        if v in needed:
            where[v] = builder.copy_node(graph, v, [where[u] for u in graph.operands(v)])
    outputs = {name: where[v] for name, v in graph.outputs.items()}
    return builder.build([where[v] for v in graph.inputs], outputs, graph.info), Counter({"dead node": dead})


def _row(record: PassRecord) -> tuple[str, ...]:
    ordered = sorted(record.fired.items(), key=lambda item: (-item[1], item[0]))
    fired = ", ".join(f"{name} {count}" for name, count in ordered)
    return (
        record.name,
        str(record.nodes_before),
        str(record.nodes_after),
        f"{1e3 * record.seconds:.1f}",
        fired,
    )


# Rules first, since they speak only add, mul and pow. Contraction and rules then take turns: each makes work
# for the other. Partial sums are looked for once nothing moves any more, and again in what the machine pass
# grouped.
PRUNE = Pass("prune", prune)
PICK = Pass("picking", lambda graph, level: pick(graph))
REWRITE = Pass("fold and rewrite", lambda g, level: rewrite(g, RULES[level], collect=level != "exact"))
ASSEMBLE = Pass("assembly", lambda graph, level: assemble(graph))
SHARE = Pass("sharing", lambda graph, level: share(graph, exact=level == "exact"))
MACHINE = Pass("machine", lambda g, level: choose_machine_operations(g, exact=level == "exact"))
