"""What all charts are drawn on: a sheet one column wide, measured in points, so that its text is read on a phone."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from bench.report.charts.style import Colours

WIDTH, INCH = 353.0, 72.0  # points: a phone's column, so that a point is about a pixel there
TEXT, SMALL = 10.0, 9.5  # points
LEGEND_LINE, KEY = 16.0, 20.0  # of the legend: a line's height, the width of a symbol with its gap
RC: Any = {
    **{"svg.fonttype": "none", "svg.hashsalt": "stepbench", "text.parse_math": False, "path.simplify": False},
    **{"font.family": ["DejaVu Sans"], "font.size": TEXT, "hatch.linewidth": 0.8, "axes.unicode_minus": True},
}


@contextmanager
def drawing() -> Iterator[None]:
    """Settings for making and for writing a figure, whatever the user's own are."""
    with warnings.catch_warnings(), matplotlib.style.context("default"), matplotlib.rc_context(RC):
        warnings.filterwarnings("ignore", "Glyph")  # a character that this font lacks; the reader's may have it
        yield


@dataclass(frozen=True)
class Key:
    """An entry of a legend; ``kind`` is patch, frame, tick, whisker, or line with or without a marker."""

    text: str
    kind: str
    colour: str
    hatch: str = ""
    marker: str = ""
    line: str = "-"


class Sheet:
    """A figure with its legend on top. ``height`` is what is below it; all lengths in points, y downwards."""

    def __init__(self, colours: Colours, height: float, legend: Sequence[Key] = ()) -> None:
        flow = list(_flow(legend))
        self.colours = colours
        self.top = (flow[-1][1] + LEGEND_LINE + 4) if flow else 0.0
        self.height = self.top + height
        self.figure = Figure(figsize=(WIDTH / INCH, self.height / INCH), facecolor="none", edgecolor="none")
        self.page = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(self.height, 0))
        self.page.set_axis_off()
        for (x, y), key in zip(flow, legend, strict=True):
            self._key(x, y + LEGEND_LINE / 2, key)

    def axes(self, top: float, height: float, left: float, right: float) -> Axes:
        """An empty plot with thin spines at the left and the bottom."""
        place = (left / WIDTH, 1 - (self.top + top + height) / self.height)
        axes = self.figure.add_axes((*place, (WIDTH - left - right) / WIDTH, height / self.height), facecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set(color=self.colours["faint"], linewidth=0.8)
        axes.tick_params(labelsize=SMALL, colors=self.colours["muted"], width=0.8, length=3, which="both")
        axes.minorticks_off()
        axes.xaxis.label.set(size=SMALL, color=self.colours["ink"])
        axes.yaxis.label.set(size=SMALL, color=self.colours["ink"])
        return axes

    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = "ink",
        at: str = "left",
        size: float = TEXT,
        bold: bool = False,
    ) -> None:
        """Text whose baseline begins, has its middle or ends at a point; y from below the legend."""
        weight = "bold" if bold else "normal"
        self.page.text(
            x, self.top + y, text, color=self.colours[colour], ha=at, va="baseline", size=size, weight=weight
        )

    def _key(self, x: float, y: float, key: Key) -> None:
        page, colour = self.page, self.colours[key.colour]
        if key.kind == "patch":
            page.add_patch(Rectangle((x, y - 5), 14, 10, hatch=key.hatch, **filled(self.colours, key.colour)))
        elif key.kind == "frame":
            page.add_patch(Rectangle((x, y - 5), 14, 10, fill=False, edgecolor=colour, linestyle=key.line,
                                     linewidth=2.6 if key.line == "-" else 1.2))  # fmt: skip
        elif key.kind == "whisker":
            segments(
                page, [((x, y), (x + 14, y)), ((x, y - 3), (x, y + 3)), ((x + 14, y - 3), (x + 14, y + 3))], colour
            )
        elif key.kind == "tick":
            segments(page, [((x + 7, y - 4), (x + 7, y + 4))], colour, 1.6)
        else:
            ends = [x, x + 7, x + 14] if key.line else [x + 7]
            look = dot(self.colours, colour) if key.marker == "." else {"marker": key.marker or None, "markersize": 6}
            page.plot(
                ends, [y] * len(ends), linestyle=key.line or "none", color=colour, markevery=[len(ends) // 2], **look
            )
        page.text(x + KEY, y + 3.6, key.text, color=self.colours["ink"], size=SMALL)


def filled(colours: Colours, name: str) -> dict[str, Any]:
    """A bar: its hatch is of the paper's colour, its edge is none."""
    return {"facecolor": colours[name], "edgecolor": colours["paper"], "linewidth": 0}


def dot(colours: Colours, colour: str) -> dict[str, Any]:
    """A launch, seen on bars of any colour."""
    return {"marker": "o", "markersize": 4, "markerfacecolor": colours["paper"], "markeredgecolor": colour, "mew": 0.9}


def segments(
    axes: Axes, lines: Sequence[tuple[tuple[float, float], tuple[float, float]]], colour: str, width: float = 1.2,
    halo: str | None = None, zorder: float = 3,
) -> None:  # fmt: skip
    """Many straight lines as one element; with a halo they are seen on bars of any colour."""
    if not lines:
        return
    codes = [Path.MOVETO, Path.LINETO] * len(lines)
    path = Path(np.array(list(itertools.chain.from_iterable(lines)), float), codes)
    for line_colour, line_width in ((halo, width + 2.2), (colour, width)):
        if line_colour:
            axes.add_patch(PathPatch(path, fill=False, edgecolor=line_colour, linewidth=line_width, zorder=zorder))


def _flow(legend: Sequence[Key]) -> Iterator[tuple[float, float]]:
    x = y = 0.0
    for key in legend:
        width = KEY + text_width(key.text, SMALL) + 14
        if x and x + width - 14 > WIDTH:
            x, y = 0.0, y + LEGEND_LINE
        yield x, y
        x += width


@functools.lru_cache(10_000)
def text_width(text: str, size: float = TEXT, bold: bool = False) -> float:
    """Points that a text takes in this font, which is wider than most that pages are set in."""
    font = FontProperties(family=["DejaVu Sans"], size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def cut(text: str, width: float, size: float = TEXT) -> str:
    """As much of the text as there is room for, and … if that is not all."""
    if text_width(text[:200], size) <= width and len(text) <= 200:
        return text
    low, high = 0, min(len(text), 200)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle] + "…", size) <= width else (low, middle - 1)
    return text[:low].rstrip() + "…"


def wrap(text: str, width: float, size: float = TEXT, most: int = 10, bold: bool = False) -> list[str]:
    """Lines of whole words, a longer word cut; of more than ``most`` the last ends in …"""
    lines = [""]
    for word in text.split(" "):  # not at no-break spaces
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size, bold) <= width:
            lines[-1] = longer
        elif len(lines) == most:
            lines[-1] = cut(lines[-1] + " " + word + "…", width, size)
            break
        else:
            lines.append(cut(word, width, size))
    return [line for line in lines if line]


def caption(figure: Figure, title: str, note: str, colours: Colours) -> None:
    """Makes room for a title above a sheet and its note below, for where no page says them."""
    edge, line = 12.0, 13.0
    above, below = wrap(title, WIDTH, TEXT + 1, 4, True), wrap(note, WIDTH, SMALL)
    head, foot = edge + 16 * len(above) + 8, edge + line * len(below) + 8
    width, height = (float(inches) * INCH for inches in figure.get_size_inches())
    wide, high = width + 2 * edge, head + height + foot
    figure.set_size_inches(wide / INCH, high / INCH)
    for axes in figure.axes:
        place = axes.get_position()
        left, bottom = edge + place.x0 * width, foot + place.y0 * height
        axes.set_position((left / wide, bottom / high, place.width * width / wide, place.height * height / high))
    for number, words in enumerate(above):
        y = 1 - (edge + 16 * number + 10) / high
        figure.text(edge / wide, y, words, size=TEXT + 1, weight="bold", color=colours["ink"])
    for number, words in enumerate(below):
        figure.text(edge / wide, (foot - 8 - line * (number + 1)) / high, words, size=SMALL, color=colours["muted"])


def plain(value: float) -> str:
    """A tick's number without exponent, thousands separated."""
    return f"{value:,.10g}"
