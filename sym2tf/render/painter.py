"""Graphviz's JSON output -> PNG and PDF, painted with matplotlib's canvases and never with pyplot.

The JSON holds the drawing operations of the xdot language (https://graphviz.org/docs/outputs/canon/#xdot);
the texts come from the `Drawing`, in the sizes and weights of their roles.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sym2tf.errors import RenderError
from sym2tf.lazy import lazy
from sym2tf.render.dot import FONT, Drawing, Line, Role

agg = lazy("matplotlib.backends.backend_agg")
pdf = lazy("matplotlib.backends.backend_pdf")
figure = lazy("matplotlib.figure")
font_manager = lazy("matplotlib.font_manager")
patches = lazy("matplotlib.patches")
paths = lazy("matplotlib.path")
transforms = lazy("matplotlib.transforms")

DPI = 144.0
LEAST_DPI = 40.0  # below, nothing can be read
MOST_PIXELS = 64e6
LONGEST_SIDE = 65_000  # pixels; Agg ends at 65 535
LONGEST_PAGE = 14_400.0  # points; what PDF readers accept
PADDING = 8.0  # points that a text keeps from the two borders of its box together
MEASURED_AT = 100.0  # size and dpi/0.72 of measuring: large, so that hinting does not matter

# Fonts for scripts that DejaVu lacks, of the common systems; those that are installed are used.
FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans",
    "Noto Sans Symbols2",
    "Arial Unicode MS",
    "Hiragino Sans",
    "Microsoft YaHei",
    "MS Gothic",
    "Segoe UI Symbol",
    "WenQuanYi Zen Hei",
)


def paint(layout: bytes, drawing: Drawing, format: str, *, background: str = "white") -> bytes:
    """The picture as PNG or PDF.

    Args:
        layout: Graphviz's output in the format `json`.
        drawing: where the layout comes from.
        format: `"png"` or `"pdf"`.
        background: any colour of matplotlib.

    Raises:
        RenderError: the picture is too large for pixels that could be read.
    """
    sheet = json.loads(layout)
    left, bottom, right, top = (float(number) for number in sheet["bb"].split(","))
    margin = 72 * float(sheet.get("pad", "0.15"))
    width, height = right - left + 2 * margin, top - bottom + 2 * margin
    scale = 1.0 if format == "png" else min(1.0, LONGEST_PAGE / max(width, height))
    dpi = _dpi(width, height) if format == "png" else 72.0
    inches = transforms.Affine2D().translate(margin - left, margin - bottom).scale(scale / 72)
    page = figure.Figure((scale * width / 72, scale * height / 72), dpi, layout="none", facecolor=background)
    points = inches + page.dpi_scale_trans
    _paint_sheet(page, sheet, drawing, points, scale, right - left)
    stream = io.BytesIO()
    if format == "png":
        agg.FigureCanvasAgg(page).print_png(stream, metadata={"Title": drawing.title or "computation graph"})
    else:
        metadata = {"Title": drawing.title or "computation graph", "Creator": "sym2tf", "CreationDate": None}
        pdf.FigureCanvasPdf(page).print_pdf(stream, metadata=metadata)
    return stream.getvalue()


def _dpi(width: float, height: float) -> float:
    """Dots per inch for a picture of `width` by `height` points."""
    dpi = min(DPI, 72 * LONGEST_SIDE / max(width, height), 72 * (MOST_PIXELS / (width * height)) ** 0.5)
    if dpi < LEAST_DPI:
        raise RenderError(
            f"a picture of {width / 72:.0f} x {height / 72:.0f} inches is too large for PNG: nothing in it "
            "could be read; write SVG or PDF, or draw fewer nodes"
        )
    return dpi


def _paint_sheet(
    page: Any, sheet: Mapping[str, Any], drawing: Drawing, points: Any, scale: float, width: float
) -> None:
    for edge in sheet.get("edges", ()):
        for operations in ("_draw_", "_hdraw_"):
            _paint_shapes(page, edge.get(operations, ()), points, scale)
        texts = [op for op in edge.get("_ldraw_", ()) if op["op"] == "T"]
        own = [Line(op["text"], Role(9, edge.get("fontcolor", "#7e7e7e"))) for op in texts]
        _paint_texts(page, texts, own, [1e9] * len(texts), points, scale)
    for node in sheet.get("objects", ()):
        if "pos" not in node:  # a cluster
            continue
        _paint_shapes(page, node.get("_draw_", ()), points, scale)
        texts = [op for op in node.get("_ldraw_", ()) if op["op"] == "T"]
        lines = drawing.lines[node["name"]]
        _paint_texts(page, texts, lines, _room(node, len(texts)), points, scale)
    title = [op for op in sheet.get("_ldraw_", ()) if op["op"] == "T"]
    _paint_texts(page, title, drawing.lines.get(sheet["name"], ()), [width] * len(title), points, scale)


def _room(node: Mapping[str, Any], count: int) -> list[float]:
    """The width in points that each text of a node may take."""
    whole = 72 * float(node["width"])
    if "rects" not in node:
        return [(0.86 * whole if node["shape"] == "ellipse" else whole) - PADDING] * count
    cells = [[float(number) for number in cell.split(",")] for cell in node["rects"].split()]
    widths = [right - left for left, _, right, _ in cells]
    return [width - PADDING / 2 for width in [*widths[:-1], *[widths[-1]] * (count - len(widths) + 1)]]


def _paint_shapes(page: Any, operations: Iterable[Mapping[str, Any]], points: Any, scale: float) -> None:
    pen, fill, width, dashed = "#000000", "none", 1.0, False
    for operation in operations:
        kind = operation["op"]
        if kind == "c":
            pen = operation["color"]
        elif kind == "C":
            fill = operation["color"]
        elif kind == "S" and operation["style"].startswith("setlinewidth"):
            width = float(operation["style"][13:-1])
        elif kind == "S" and operation["style"] in ("dashed", "solid"):
            dashed = operation["style"] == "dashed"
        elif kind in _OUTLINES:
            line = (0, (3.2, 2.0)) if dashed and kind != "L" else "solid"
            patch = patches.PathPatch(
                _OUTLINES[kind](operation),
                transform=points,
                facecolor=fill if kind in "PEB" else "none",
                edgecolor=pen,
                linewidth=scale * width,
                linestyle=line,
                capstyle="butt",
                joinstyle="round",
            )
            page.add_artist(patch)


def _ellipse(operation: Mapping[str, Any]) -> Any:
    x, y, a, b = operation["rect"]
    return transforms.Affine2D().scale(a, b).translate(x, y).transform_path(paths.Path.unit_circle())


def _polygon(operation: Mapping[str, Any]) -> Any:
    corners = operation["points"]
    return paths.Path([*corners, corners[0]], closed=True)


def _bezier(operation: Mapping[str, Any]) -> Any:
    codes = [paths.Path.MOVETO, *[paths.Path.CURVE4] * (len(operation["points"]) - 1)]
    return paths.Path(operation["points"], codes)


def _polyline(operation: Mapping[str, Any]) -> Any:
    return paths.Path(operation["points"])


# xdot operations that draw; the capital letters are filled
_OUTLINES = {
    "E": _ellipse,
    "e": _ellipse,
    "P": _polygon,
    "p": _polygon,
    "B": _bezier,
    "b": _bezier,
    "L": _polyline,
}


def _paint_texts(
    page: Any,
    operations: Sequence[Mapping[str, Any]],
    lines: Sequence[Line],
    room: Sequence[float],
    points: Any,
    scale: float,
) -> None:
    if len(operations) != len(lines):
        raise RenderError(f"the layout has {len(operations)} texts where {len(lines)} are due: {lines}")
    for operation, line, width in zip(operations, lines, room, strict=True):
        text = "".join(char if _covered(char) else f"\\u{ord(char):04x}" for char in line.text)
        size = line.role.size * min(1.0, width / max(_width(text, line.role), 1e-9))
        x, y = operation["pt"]
        page.text(
            x,
            y,
            text,
            transform=points,
            color=line.role.color,
            fontfamily=list(_families()),
            fontsize=scale * size,
            fontweight="bold" if line.role.bold else "normal",
            fontstyle="normal",
            fontvariant="normal",
            fontstretch="normal",
            parse_math=False,
            usetex=False,
            verticalalignment="baseline",
            horizontalalignment={"l": "left", "r": "right"}.get(operation["align"], "center"),
        )


@functools.cache
def _families() -> tuple[str, ...]:
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return (FONT, *(name for name in FALLBACKS if name in installed))


@functools.cache
def _fonts() -> tuple[Any, ...]:
    found = (font_manager.findfont(name) for name in _families())
    return tuple(font_manager.get_font(path) for path in found)


@functools.cache
def _covered(char: str) -> bool:
    return any(font.get_char_index(ord(char)) for font in _fonts())


@functools.lru_cache(maxsize=10_000)
def _width(text: str, role: Role) -> float:
    """The width of `text` in points."""
    properties = font_manager.FontProperties(
        family=list(_families()), size=MEASURED_AT, weight="bold" if role.bold else "normal"
    )
    width, _, _ = agg.RendererAgg(1, 1, 72).get_text_width_height_descent(text, properties, False)
    return float(width) * role.size / MEASURED_AT
