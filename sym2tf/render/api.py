"""One call from a graph to a picture in memory, in a file, or in a notebook cell."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sym2tf.errors import RenderError
from sym2tf.ir.graph import Graph
from sym2tf.render.dot import draw
from sym2tf.render.engine import lay_out
from sym2tf.render.painter import paint
from sym2tf.render.svg import finish_svg

MIME_TYPES = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "pdf": "application/pdf",
    "dot": "text/vnd.graphviz",
}
FORMATS = tuple(MIME_TYPES)
_SUFFIXES = {f".{format}": format for format in FORMATS} | {".gv": "dot"}


@dataclass(frozen=True)
class Picture:
    """A picture of a graph; a notebook cell that ends in one shows it.

    Attributes:
        format: `"svg"`, `"png"`, `"pdf"` or `"dot"`.
        data: text for SVG and DOT, bytes for PNG and PDF.
        path: the file that it was written to, or None.
    """

    format: str
    data: str | bytes = field(repr=False)
    path: Path | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture as it is; returns where.

        Raises:
            RenderError: a suffix of another format (render again for that), or a file that cannot be written.
        """
        target = Path(path).expanduser()
        _format(target, self.format)
        write_atomically(target, self.data)
        return target

    def _repr_svg_(self) -> str | None:
        return self.data if self.format == "svg" and isinstance(self.data, str) else None

    def _repr_png_(self) -> bytes | None:
        return self.data if self.format == "png" and isinstance(self.data, bytes) else None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str | bytes]:
        return {MIME_TYPES[self.format]: self.data, "text/plain": repr(self)}


def render_graph(
    graph: Graph,
    path: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    dtype: str = "float64",
    title: str | None = None,
    outputs: Iterable[str] | None = None,
    max_nodes: int = 2000,
) -> Picture:
    """Draw `graph`.

    Every node shows its operation with the constants in it, its attributes, dtype and core shape. Forward
    nodes are blue boxes, derivative nodes orange, rounded and dashed; inputs are ellipses, outputs double
    ellipses. Where the order of operands matters they enter through numbered ports. The picture can be read
    on light and dark backgrounds: SVG is transparent, PNG and PDF are white.

    Layout time grows faster than the graph: 0.2 s for 400 nodes, above which edges are straight, some seconds
    for 2 000; a picture of more nodes than `max_nodes` is refused, never cut.

    Args:
        graph: what to draw.
        path: a file to write; its suffix (.svg .png .pdf .dot .gv) decides the format. The folder must
            exist. The file appears whole or not at all.
        format: `"svg"` (the default where there is no path), `"png"`, `"pdf"` or `"dot"`.
        dtype: the dtype of real values, shown in the nodes.
        title: a line above the picture.
        outputs: names of outputs to draw, with only what they need; all by default.
        max_nodes: the most nodes to draw.

    Raises:
        RenderError: an unknown or contradictory format, a file that cannot be written, a graph that is too
            large, no layout engine, or no such output.
        DtypeError: an unknown dtype.
    """
    target = None if path is None else Path(path).expanduser()
    form = _format(target, format)
    drawing = draw(graph, dtype=dtype, title=title, outputs=outputs, max_nodes=max_nodes)
    data: str | bytes
    if form == "dot":
        data = drawing.source
    elif form == "svg":
        data = finish_svg(lay_out(drawing.source, "svg"), drawing)
    else:
        data = paint(lay_out(drawing.source, "json"), drawing, form)
    if target is not None:
        write_atomically(target, data)
    return Picture(form, data, target)


def _format(path: Path | None, format: str | None) -> str:
    known = f"known formats are {', '.join(FORMATS)}, known suffixes {', '.join(_SUFFIXES)}"
    if format is not None and format.lower() not in FORMATS:
        raise RenderError(f"unknown format {format!r}; {known}")
    if path is None:
        return "svg" if format is None else format.lower()
    by_suffix = _SUFFIXES.get(path.suffix.lower())
    if format is None and by_suffix is None:
        raise RenderError(f"the suffix {path.suffix!r} of {str(path)!r} names no format; {known}")
    if format is not None and by_suffix is not None and by_suffix != format.lower():
        raise RenderError(f"{str(path)!r} is {by_suffix} by its suffix and {format} by format=; leave one out")
    return by_suffix or str(format).lower()


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write a file so that it is there whole or as it was before.

    Raises:
        RenderError: the folder does not exist or cannot be written.
    """
    content = data.encode() if isinstance(data, str) else data
    target = path.resolve()  # a link stays a link
    spare = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(spare, "xb") as stream:
            stream.write(content)
        os.replace(spare, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            spare.unlink()
        raise RenderError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
