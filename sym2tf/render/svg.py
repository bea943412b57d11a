"""Graphviz's SVG -> the SVG handed out: emphasis by line, fonts that every system has, readable tooltips."""

from __future__ import annotations

from xml.etree import ElementTree

from sym2tf.render.dot import FONT, Drawing, Role

FAMILY = f"'{FONT}', Verdana, Geneva, Helvetica, Arial, sans-serif"
_NAMESPACE = "{http://www.w3.org/2000/svg}"


def finish_svg(svg: bytes, drawing: Drawing) -> str:
    """The picture with each line of a label in the size, weight and colour of its role."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
        if element.tag == "text":
            element.set("font-family", FAMILY)
    root.set("xmlns", _NAMESPACE.strip("{}"))
    root.set("role", "img")
    for group in list(root.iter("g")):  # listed first: the loop puts a title in front
        title = group.find("title")
        if title is None:
            continue
        _emphasise(group, drawing, title.text or "")
        if group.get("class") == "graph":
            group.remove(title)
            label = ElementTree.Element("title")
            label.text = drawing.title or "computation graph"
            root.insert(0, label)
        elif group.get("class") == "edge":
            group.remove(title)
        else:
            title.text = drawing.tooltips.get(title.text or "", "")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _emphasise(group: ElementTree.Element, drawing: Drawing, name: str) -> None:
    texts = group.findall("text")
    lines = drawing.lines.get(name, ())
    if len(texts) != len(lines):
        return
    for text, line in zip(texts, lines, strict=True):
        role: Role = line.role
        text.text = line.text
        text.set("font-size", f"{role.size:g}")
        text.set("fill", role.color)
        if role.bold:
            text.set("font-weight", "bold")
