"""A chart as an SVG element for the page, with the page's colours and unique ids; or as a file of its own."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bench.report.charts.chart import Chart
from bench.report.charts.style import SENTINELS, THEMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
VARIABLES = {value: f"var(--{name})" for name, value in SENTINELS.items()}
_HEX = re.compile("#[0-9a-f]{6}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONG = re.compile(r"-?\d+\.\d{3,}")
ElementTree.register_namespace("", SVG[1:-1])
ElementTree.register_namespace("xlink", XLINK[1:-1])


def svg(chart: Chart) -> str:
    """Return one ``<svg>`` element without XML declaration, metadata or fixed size; its colours are CSS variables.

    It has the chart's title and alt text and the page's font, and all its ids begin with the chart's name.
    """
    root = _cleaned(chart, chart.figure())
    del root.attrib["height"]
    root.attrib |= {"width": "100%", "class": "chart"}
    for node in root.iter():
        _recolour(node, VARIABLES)
        if "style" in node.attrib:
            node.set("style", re.sub("font-family:[^;]*;? ?", "", node.attrib["style"]))
    return ElementTree.tostring(root, encoding="unicode")


def standalone(chart: Chart, theme: str) -> str:
    """Return a whole SVG file in the colours of a theme, with background, title and note."""
    from bench.report.charts.canvas import add_caption, chart_settings

    with chart_settings():
        figure = chart.figure()
        add_caption(figure, chart.title, chart.note, SENTINELS)
    root = _cleaned(chart, figure)
    for node in root.iter():
        _recolour(node, {SENTINELS[name]: value for name, value in THEMES[theme].items()})
    paper = ElementTree.Element(SVG + "rect", {"width": "100%", "height": "100%", "fill": THEMES[theme]["paper"]})
    root.insert(2, paper)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _cleaned(chart: Chart, figure: Figure) -> ElementTree.Element:
    """Return matplotlib's SVG without invisible content (two thirds of it), with own ids, title and description."""
    root = _written(figure)
    for node in root.iter():
        for child in list(node):
            if child.tag in (SVG + "metadata", SVG + "style") or _invisible(child.get("style", "")):
                node.remove(child)
        node.tail = None
        if node.tag != SVG + "text":
            node.text = None
        _round_numbers(node)
    _own_ids(root, chart.name)
    root.attrib |= {"role": "img", "aria-labelledby": f"{chart.name}-title {chart.name}-alt"}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # From the removed style element.
    for place, (tag, end, text) in enumerate((("title", "title", chart.title), ("desc", "alt", chart.alt))):
        words = ElementTree.Element(SVG + tag, {"id": f"{chart.name}-{end}"})
        words.text = text
        root.insert(place, words)
    return root


def _written(figure: Figure) -> ElementTree.Element:
    from bench.report.charts.canvas import chart_settings

    stream = io.BytesIO()
    with chart_settings():
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return ElementTree.fromstring(stream.getvalue())


def _invisible(style: str) -> bool:
    """Return whether a style draws nothing: a patch without edge, or the line of a plot that has only markers."""
    return style == "fill: none" or ("fill: none" in style and "stroke-opacity: 0;" in style)


def _round_numbers(node: ElementTree.Element) -> None:
    """Round all lengths to hundredths of a point."""
    if node.get("transform", "").startswith("rotate(-0 "):
        del node.attrib["transform"]
    for name in {"d", "x", "y", "width", "height", "transform"} & node.attrib.keys():
        value = _LONG.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), node.attrib[name])
        node.set(name, " ".join(value.split()))


def _own_ids(root: ElementTree.Element, name: str) -> None:
    nodes = list(root.iter())
    used = {found for node in nodes for value in node.attrib.values() for found in _REFERENCE.findall(value)}
    used |= {node.attrib[XLINK + "href"].removeprefix("#") for node in nodes if XLINK + "href" in node.attrib}
    for node in nodes:
        if node.get("id") in used:
            node.set("id", f"{name}-{node.get('id')}")
        else:
            node.attrib.pop("id", None)
        for attribute, value in node.attrib.items():
            if attribute == XLINK + "href":
                node.set(attribute, f"#{name}-{value.removeprefix('#')}")
            elif attribute != "id":
                node.set(attribute, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _recolour(node: ElementTree.Element, colours: Mapping[str, str]) -> None:
    """Replace colours in style attributes only: the name of a case may look like a colour."""
    for name, value in node.attrib.items():
        if name in ("style", "fill", "stroke"):
            node.set(name, _HEX.sub(lambda found: colours.get(found[0], found[0]), value))
