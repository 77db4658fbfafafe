"""The sheet that all charts are drawn on: as wide as a phone's screen, measured in points, with a legend on top."""

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

WIDTH, INCH = 353.0, 72.0  # Points: the width of a phone's screen, on which a point is about a pixel; and of an inch.
TEXT, SMALL = 10.0, 9.5  # Points: sizes of text.
LEGEND_LINE, KEY = 16.0, 20.0  # Points in the legend: height of a line, width of a symbol with its gap.
RC: Any = {
    **{"svg.fonttype": "none", "svg.hashsalt": "stepbench", "text.parse_math": False, "path.simplify": False},
    **{"font.family": ["DejaVu Sans"], "font.size": TEXT, "hatch.linewidth": 0.8, "axes.unicode_minus": True},
}


@contextmanager
def chart_settings() -> Iterator[None]:
    """Use our matplotlib settings instead of the user's, to make or to write a figure."""
    with warnings.catch_warnings(), matplotlib.style.context("default"), matplotlib.rc_context(RC):
        warnings.filterwarnings("ignore", "Glyph")  # The reader's font may have a character that ours lacks.
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
    """A figure with a legend on top; ``height`` is that of the space below it. Lengths are in points, y downwards."""

    def __init__(self, colours: Colours, height: float, legend: Sequence[Key] = ()) -> None:
        flow = list(_legend_places(legend))
        self.colours = colours
        self.top = (flow[-1][1] + LEGEND_LINE + 4) if flow else 0.0
        self.height = self.top + height
        self.figure = Figure(figsize=(WIDTH / INCH, self.height / INCH), facecolor="none", edgecolor="none")
        self.page = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(self.height, 0))
        self.page.set_axis_off()
        for (x, y), key in zip(flow, legend, strict=True):
            self._key(x, y + LEGEND_LINE / 2, key)

    def axes(self, top: float, height: float, left: float, right: float) -> Axes:
        """Return an empty plot with thin spines at the left and the bottom; ``top`` is from below the legend."""
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
        """Write text at a point of its baseline: its start, middle or end by ``at``. y is from below the legend."""
        weight = "bold" if bold else "normal"
        self.page.text(
            x, self.top + y, text, color=self.colours[colour], ha=at, va="baseline", size=size, weight=weight
        )

    def _key(self, x: float, y: float, key: Key) -> None:
        page, colour = self.page, self.colours[key.colour]
        if key.kind == "patch":
            page.add_patch(Rectangle((x, y - 5), 14, 10, hatch=key.hatch, **bar_style(self.colours, key.colour)))
        elif key.kind == "frame":
            page.add_patch(Rectangle((x, y - 5), 14, 10, fill=False, edgecolor=colour, linestyle=key.line,
                                     linewidth=2.6 if key.line == "-" else 1.2))  # fmt: skip
        elif key.kind == "whisker":
            draw_segments(
                page, [((x, y), (x + 14, y)), ((x, y - 3), (x, y + 3)), ((x + 14, y - 3), (x + 14, y + 3))], colour
            )
        elif key.kind == "tick":
            draw_segments(page, [((x + 7, y - 4), (x + 7, y + 4))], colour, 1.6)
        else:
            ends = [x, x + 7, x + 14] if key.line else [x + 7]
            look = (
                dot_style(self.colours, colour)
                if key.marker == "."
                else {"marker": key.marker or None, "markersize": 6}
            )
            page.plot(
                ends, [y] * len(ends), linestyle=key.line or "none", color=colour, markevery=[len(ends) // 2], **look
            )
        page.text(x + KEY, y + 3.6, key.text, color=self.colours["ink"], size=SMALL)


def bar_style(colours: Colours, name: str) -> dict[str, Any]:
    """Return the style of a bar: its hatch has the colour of the paper, and it has no edge."""
    return {"facecolor": colours[name], "edgecolor": colours["paper"], "linewidth": 0}


def dot_style(colours: Colours, colour: str) -> dict[str, Any]:
    """Return the style of a launch's dot, which is visible on bars of any colour."""
    return {"marker": "o", "markersize": 4, "markerfacecolor": colours["paper"], "markeredgecolor": colour, "mew": 0.9}


def draw_segments(
    axes: Axes, lines: Sequence[tuple[tuple[float, float], tuple[float, float]]], colour: str, width: float = 1.2,
    halo: str | None = None, zorder: float = 3,
) -> None:  # fmt: skip
    """Draw many straight lines as one element; with a halo they are visible on bars of any colour."""
    if not lines:
        return
    codes = [Path.MOVETO, Path.LINETO] * len(lines)
    path = Path(np.array(list(itertools.chain.from_iterable(lines)), float), codes)
    for line_colour, line_width in ((halo, width + 2.2), (colour, width)):
        if line_colour:
            axes.add_patch(PathPatch(path, fill=False, edgecolor=line_colour, linewidth=line_width, zorder=zorder))


def _legend_places(legend: Sequence[Key]) -> Iterator[tuple[float, float]]:
    x = y = 0.0
    for key in legend:
        width = KEY + text_width(key.text, SMALL) + 14
        if x and x + width - 14 > WIDTH:
            x, y = 0.0, y + LEGEND_LINE
        yield x, y
        x += width


@functools.lru_cache(10_000)
def text_width(text: str, size: float = TEXT, bold: bool = False) -> float:
    """Return the width of a text in points, in DejaVu Sans, which is wider than most fonts of browsers."""
    font = FontProperties(family=["DejaVu Sans"], size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def truncate(text: str, width: float, size: float = TEXT) -> str:
    """Return the text, shortened with … if it is wider than ``width`` points."""
    if text_width(text[:200], size) <= width and len(text) <= 200:
        return text
    low, high = 0, min(len(text), 200)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle] + "…", size) <= width else (low, middle - 1)
    return text[:low].rstrip() + "…"


def wrap(text: str, width: float, size: float = TEXT, most: int = 10, bold: bool = False) -> list[str]:
    """Return the text in at most ``most`` lines of at most ``width`` points; whatever does not fit becomes … .

    Lines break at spaces only, and a word that is wider than a line is shortened.
    """
    lines = [""]
    for word in text.split(" "):  # Not at no-break spaces.
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size, bold) <= width:
            lines[-1] = longer
        elif len(lines) == most:
            lines[-1] = truncate(lines[-1] + " " + word + "…", width, size)
            break
        else:
            lines.append(truncate(word, width, size))
    return [line for line in lines if line]


def add_caption(figure: Figure, title: str, note: str, colours: Colours) -> None:
    """Add a title above a sheet and a note below it, for a chart that is a file of its own."""
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


def tick_label(value: float) -> str:
    """Return the number of a tick without exponent, with thousands separated."""
    return f"{value:,.10g}"
