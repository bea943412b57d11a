"""Graph -> DOT text, and what the painters of its layout need to know besides.

Labels are plain or record labels, never HTML-like ones: the WebAssembly engine drops those silently. Node
names are ours (n0, n1, ... in graph order; o0, ... for outputs), so no text of the user's is ever a name;
equal graphs give equal text.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sym2tf.errors import RenderError
from sym2tf.ir.graph import Graph
from sym2tf.render.labels import (
    attributes_text,
    leaf_text,
    operation_text,
    port_text,
    shorten,
    type_text,
    visible,
)

# matplotlib ships it, browsers have it or Verdana (which is as wide), and Graphviz knows its metrics
FONT = "DejaVu Sans"
INK = "#1a1a1a"
MID_GREY = "#7e7e7e"  # contrast 4.1 on white and on #1e1e1e: the best that one colour can have on both
PARALLEL = 4  # that many equal edges or more are drawn as one, with their number
EDGES_PER_NODE = 4  # the limit on edges is this multiple of the limit on nodes
SMALL_GRAPH = 400  # nodes; above, edges are straight lines, which are quicker to lay out


@dataclass(frozen=True)
class Role:
    """How one line of a label is set."""

    size: float
    color: str = INK
    bold: bool = False


OPERATION = Role(11, bold=True)
DETAIL = Role(9)
TYPE = Role(9, "#4a4a4a")
PORT = Role(9)
TITLE = Role(13, MID_GREY, bold=True)
LEGEND = Role(8)


@dataclass(frozen=True)
class Line:
    """One line of a label, as people see it."""

    text: str
    role: Role


@dataclass(frozen=True)
class Style:
    """How one kind of node is drawn: light fills, for dark text, so that any background will do."""

    shape: str
    style: str
    border: str
    fill: str
    peripheries: int = 1


# Colours of Okabe and Ito, told apart by the colour-blind; shape and border say the same again.
STYLES = {
    "primal": Style("box", "filled", "#0072B2", "#DCECF8"),
    "derivative": Style("box", "rounded,filled,dashed", "#D55E00", "#FFEFD9"),
    "input": Style("ellipse", "filled", "#009E73", "#DDF4EA"),
    "output": Style("ellipse", "filled", "#B0568C", "#FAE6F1", peripheries=2),
    "constant": Style("box", "filled", "#7e7e7e", "#F0F0F0"),
}
LEGEND_TEXT = {"primal": "forward", "derivative": "derivative"}
GRAPH_NAME = "sym2tf"


@dataclass(frozen=True)
class Drawing:
    """A graph ready for layout.

    Attributes:
        source: the DOT text.
        lines: the lines of each label, in reading order, by the name of its node (or of the graph).
        tooltips: the whole text of each label, by the name of its node.
        title: the title, as people see it, or "".
    """

    source: str
    lines: Mapping[str, tuple[Line, ...]]
    tooltips: Mapping[str, str]
    title: str = ""


@dataclass
class _Sheet:
    statements: list[str] = field(default_factory=list)
    lines: dict[str, tuple[Line, ...]] = field(default_factory=dict)
    tooltips: dict[str, str] = field(default_factory=dict)

    def node(self, name: str, kind: str, lines: Sequence[Line], ports: Sequence[Line] = (), **more: str) -> None:
        style = STYLES[kind]
        lines, ports = ([Line(visible(line.text), line.role) for line in given] for given in (lines, ports))
        shown = [Line(shorten(line.text), line.role) for line in lines]
        self.lines[name] = (*ports, *shown)
        self.tooltips[name] = "\n".join(line.text for line in lines)
        label = "\\n".join(escape(line.text, record=bool(ports)) for line in shown)
        if ports:
            cells = "|".join(f"<p{k}> {escape(port.text, record=True)}" for k, port in enumerate(ports))
            label = f"{{{{{cells}}}|{label}}}"
        attributes = {
            "label": label,
            "class": kind,
            "shape": "record" if ports else style.shape,
            "style": style.style,
            "color": style.border,
            "fillcolor": style.fill,
            "width": _inches(shown, ports, style.shape),
        }
        if style.shape == "ellipse":
            attributes["margin"] = "0.03,0.0"  # Graphviz puts the ellipse around the box of the label
        if style.peripheries > 1:
            attributes["peripheries"] = str(style.peripheries)
        self.statements.append(f"  {name} [{_attributes({**attributes, **more})}];")


def draw(
    graph: Graph,
    *,
    dtype: str = "float64",
    title: str | None = None,
    outputs: Iterable[str] | None = None,
    max_nodes: int = 2000,
) -> Drawing:
    """The DOT text of `graph` and the labels in it.

    Constants, named numbers and sizes stand in the labels of their users; one has a node of its own only
    where it is an output. An operation has numbered ports where its operands have an order and several of
    them are not constant.

    Args:
        graph: what to draw.
        dtype: the dtype that real values will have; it is shown in the nodes.
        title: a line above the picture.
        outputs: names of the outputs to draw, with what they need and nothing else; all by default.
        max_nodes: a larger picture is refused: layout would take minutes and nobody could read it.

    Raises:
        RenderError: too many nodes or edges, or no such output.
        DtypeError: an unknown dtype.
    """
    wanted = _wanted_outputs(graph, outputs)
    kept = _needed(graph, wanted) if outputs is not None else set(graph.order)
    inlined = _inlined(graph)
    shown = [v for v in graph.order if v in kept and (v not in inlined or v in wanted.values())]
    edges = {v: _edges(graph, v, inlined) for v in shown}
    _refuse_large(len(shown) + len(wanted), sum(map(len, edges.values())), max_nodes)

    sheet = _Sheet()
    names = {v: f"n{k}" for k, v in enumerate(shown)}
    for v in shown:
        _draw_node(sheet, graph, v, names[v], inlined, dtype)
    for v in shown:
        sheet.statements += [f"  {names[u]} -> {names[v]}{rest};" for u, rest in edges[v]]
    for k, (output, v) in enumerate(wanted.items()):
        label = graph.info.get("labels", {}).get(output, output)
        lines = [Line(label, OPERATION), Line(type_text(graph[v].type, dtype), TYPE)]
        sheet.node(f"o{k}", "output", lines)
        sheet.statements.append(f"  {names[v]} -> o{k};")
    stages = {graph[v].stage for v in shown if graph[v].op.name != "input" and v not in inlined}
    if len(stages) > 1:
        _draw_legend(sheet)
    seen_title = visible(title) if title else ""
    if seen_title:
        sheet.lines[GRAPH_NAME] = (Line(seen_title, TITLE),)
    body = [*_preamble(seen_title, len(shown)), *sheet.statements]
    source = "\n".join([f"digraph {GRAPH_NAME} {{", *body, "}", ""])
    return Drawing(source, sheet.lines, sheet.tooltips, seen_title)


def escape(text: str, *, record: bool = False) -> str:
    """`text` for a double-quoted DOT label.

    Backslashes, quotes and HTML entities have a meaning there; in a record also braces, bars, angle
    brackets and spaces.
    """
    special = '\\"{}|<> ' if record else '\\"'
    return "".join(f"\\{char}" if char in special else char for char in text.replace("&", "&amp;"))


def _wanted_outputs(graph: Graph, outputs: Iterable[str] | None) -> dict[str, int]:
    if outputs is None:
        return graph.outputs
    names = [outputs] if isinstance(outputs, str) else list(outputs)
    unknown = [name for name in names if name not in graph.outputs]
    if unknown:
        raise RenderError(f"no output {', '.join(map(repr, unknown))}; there are {_listed(graph.outputs)}")
    return {name: graph.outputs[name] for name in names}


def _listed(names: Iterable[str]) -> str:
    texts = [repr(name) for name in names]
    return ", ".join(texts[:10]) + (f" and {len(texts) - 10} more" if len(texts) > 10 else "")


def _needed(graph: Graph, outputs: Mapping[str, int]) -> set[int]:
    needed = set(outputs.values())
    for v in reversed(graph.order):
        if v in needed:
            needed.update(graph.operands(v))
    return needed


def _inlined(graph: Graph) -> dict[int, str]:
    """The text of every node that stands in its users' labels; new axes and casts of constants included."""
    texts: dict[int, str] = {}
    for v in graph.order:
        node = graph[v]
        text = leaf_text(node.op, node.attributes)
        if text is None and node.op.name in ("expand", "squeeze", "cast"):
            text = texts.get(graph.operands(v)[0])
        if text is not None:
            texts[v] = text
    return texts


def _ported(graph: Graph, v: int, inlined: Mapping[int, str]) -> bool:
    return not graph[v].op.commutative and sum(u not in inlined for u in graph.operands(v)) > 1


def _refuse_large(nodes: int, edges: int, max_nodes: int) -> None:
    if nodes <= max_nodes and edges <= EDGES_PER_NODE * max_nodes:
        return
    size = f"{nodes} nodes" if nodes > max_nodes else f"{edges} edges"
    limit = max_nodes if nodes > max_nodes else EDGES_PER_NODE * max_nodes
    enough = max(nodes, -(-edges // EDGES_PER_NODE))
    raise RenderError(
        f"a picture with {size} is beyond the limit of {limit}: draw some outputs only (outputs=[...]), or "
        "the optimised graph instead of an earlier stage, or raise the limit "
        f"(max_nodes={enough}); layout takes seconds at 2 000 nodes, minutes from some 5 000 on"
    )


def _draw_node(sheet: _Sheet, graph: Graph, v: int, name: str, inlined: Mapping[int, str], dtype: str) -> None:
    node, operands = graph[v], graph.operands(v)
    type_line = Line(type_text(node.type, dtype), TYPE)
    if node.op.name == "input":
        sheet.node(name, "input", [Line(node.attributes["name"], OPERATION), type_line])
    elif v in inlined:
        sheet.node(name, "constant", [Line(inlined[v], OPERATION), type_line])
    else:
        lines = [Line(operation_text(node.op, [inlined.get(u) for u in operands]), OPERATION)]
        details = attributes_text(node.op, node.attributes)
        lines += [Line(details, DETAIL)] if details else []
        ports = [Line(port_text(node.op, node.attributes, k), PORT) for k, u in enumerate(operands) if u not in inlined]
        kind = "primal" if node.stage == "primal" else "derivative"
        sheet.node(name, kind, [*lines, type_line], ports if _ported(graph, v, inlined) else ())


def _edges(graph: Graph, v: int, inlined: Mapping[int, str]) -> list[tuple[int, str]]:
    """The edges into `v`, as the operand and what follows the name of `v` in DOT."""
    if v in inlined:
        return []
    live = [u for u in graph.operands(v) if u not in inlined]
    if _ported(graph, v, inlined):
        return [(u, f":p{port}:n") for port, u in enumerate(live)]
    return [
        edge
        for u, count in Counter(live).items()
        for edge in ([(u, "")] * count if count < PARALLEL else [(u, f' [label=" {count} times", penwidth="2"]')])
    ]


def _draw_legend(sheet: _Sheet) -> None:
    sheet.statements.append("  subgraph legend {")
    sheet.statements.append('    rank="same";')
    for kind, text in LEGEND_TEXT.items():
        line = Line(text, LEGEND)
        sheet.node(f"legend_{kind}", kind, [line], fontsize="8", height="0.2", margin="0.06,0.03")
    sheet.statements.append(f'    {" -> ".join(f"legend_{kind}" for kind in LEGEND_TEXT)} [style="invis"];')
    sheet.statements.append("  }")


def _preamble(title: str, nodes: int) -> list[str]:
    graph = {"rankdir": "TB", "bgcolor": "transparent", "pad": "0.15", "nodesep": "0.3", "ranksep": "0.35"}
    if title:
        graph |= {"label": escape(title), "labelloc": "t"}
        graph |= {"fontname": FONT, "fontsize": "13", "fontcolor": MID_GREY}
    if nodes > SMALL_GRAPH:
        graph["splines"] = "line"
    node = {"fontname": FONT, "fontsize": "11", "fontcolor": INK, "margin": "0.11,0.055", "height": "0.3"}
    node["penwidth"] = "1.4"
    edge = {"color": MID_GREY, "fontcolor": MID_GREY, "fontname": FONT, "fontsize": "9"}
    edge |= {"arrowsize": "0.65", "penwidth": "1.1"}
    defaults = {"graph": graph, "node": node, "edge": edge}
    return [f"  {what} [{_attributes(values)}];" for what, values in defaults.items()]


def _attributes(values: Mapping[str, str]) -> str:
    return ", ".join(f'{key}="{value}"' for key, value in values.items())


def _inches(lines: Sequence[Line], ports: Sequence[Line], shape: str) -> str:
    """The least width of a node. Graphviz measures the letters of Latin only, and nothing in bold."""
    points = max(text_width(line.text, line.role) for line in lines) + 14
    if ports:
        points = max(points, len(ports) * (max(text_width(port.text, port.role) for port in ports) + 12))
    return f"{points / 72 * (1.2 if shape == 'ellipse' else 1):.2f}"


def text_width(text: str, role: Role) -> float:
    """A generous estimate of the width of `text` in points, in DejaVu Sans."""
    em = 0.0
    for char in text:
        if char in "ijltfrI|.,:;'![]() ":
            em += 0.4
        elif unicodedata.east_asian_width(char) in "WF" or char in "mwMW@%Σ∞≈①②③④⑤⑥⑦⑧⑨…":
            em += 1.0
        else:
            em += 0 if unicodedata.combining(char) else 0.66
    return em * role.size * (1.1 if role.bold else 1.0)
