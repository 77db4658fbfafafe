"""Cases one under another: a line of words, and below it a bar or what else there is to see of the case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.report.charts.canvas import SMALL, TEXT, WIDTH, Key, Sheet, cut, plain, segments, text_width
from bench.report.charts.style import Colours, status_colour

LANE, WORDS, GAP, APART = 15.0, 13.0, 8.0, 8.0  # points: a bar, the line above it, and what is between cases and groups
LEFT, RIGHT = 3.0, 20.0  # of the plot; half a tick's label has its place there
AXIS = 32.0  # ticks and their label
TALL = 500.0  # a plot this high has its axis at the top as well
ARROW = 6.0


@dataclass(frozen=True)
class Line:
    """What is written of a case: its label, at the right its number, and instead of a bar what became of it."""

    label: str
    value: str = ""
    status: str = ""
    reason: str = ""
    lanes: int = 1
    apart: bool = False


@dataclass(frozen=True)
class Rows:
    """Where they are: ``lanes`` of each case are the y of their middles, in points as are the axes'."""

    sheet: Sheet
    axes: Axes
    lanes: list[list[float]]


def rows(
    colours: Colours, lines: Sequence[Line], legend: Sequence[Key], limits: tuple[float, float], unit: str,
    lane: float = LANE, ticks: Sequence[float] | None = None,
) -> Rows:  # fmt: skip
    """An empty chart of these cases. ``limits`` of x; logarithmic with ``ticks`` of its own where those are given."""
    lanes, bottom = _places(lines, lane)
    head = AXIS if bottom > TALL else 0.0
    sheet = Sheet(colours, head + bottom + AXIS, legend)
    axes = sheet.axes(head, bottom, LEFT, RIGHT)
    axes.set(xlim=limits, ylim=(bottom, 0), yticks=[], xlabel=unit, xscale="linear" if ticks is None else "log")
    axes.set_xlim(limits)
    seen = [float(x) for x in (MaxNLocator(5).tick_values(*limits) if ticks is None else ticks) if _within(x, limits)]
    axes.set_xticks(seen, [plain(tick) for tick in seen])
    axes.minorticks_off()
    if head:
        axes.tick_params(axis="x", top=True, labeltop=True)
        axes.spines["top"].set(visible=True, color=colours["faint"], linewidth=0.8)
        sheet.text((WIDTH + LEFT - RIGHT) / 2, 10, unit, at="center", size=SMALL)
    free = [(ys[0] - lane / 2, ys[-1] + lane / 2) for line, ys in zip(lines, lanes, strict=True) if not line.status]
    segments(axes, [((x, low), (x, high)) for low, high in free for x in seen], colours["grid"], 0.8, zorder=0.5)
    if limits[0] == 0:
        segments(axes, [((0, low), (0, high)) for low, high in free], colours["faint"], 1, zorder=2)
    axes.spines["left"].set_visible(False)
    for line, ys in zip(lines, lanes, strict=True):
        _words(sheet, line, head + ys[0] - lane / 2, lane)
    return Rows(sheet, axes, lanes)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def clipped(
    of: Rows, intervals: Sequence[tuple[float, float, float]], limits: tuple[float, float], colour: str, halo: str
) -> None:
    """Whiskers (low, high, y). One that goes on beyond the plot ends in an arrow there."""
    lines: list[tuple[tuple[float, float], tuple[float, float]]] = []
    point = (limits[1] - limits[0]) / (WIDTH - LEFT - RIGHT)
    for low, high, y in intervals:
        left, right = max(low, limits[0]), min(high, limits[1])
        lines.append(((left, y), (right, y)))
        for end, inside, way in ((left, low == left, 1), (right, high == right, -1)):
            if inside:
                lines.append(((end, y - 3), (end, y + 3)))
            else:
                lines += [((end, y), (end + way * ARROW * point, y + rise)) for rise in (-4, 4)]
    segments(of.axes, lines, colour, 1.2, halo)


def _places(lines: Sequence[Line], lane: float) -> tuple[list[list[float]], float]:
    y = 4.0
    lanes: list[list[float]] = []
    for line in lines:
        y += WORDS + (APART if line.apart and lanes else 0)
        lanes.append([y + lane * (number + 0.5) for number in range(line.lanes)])
        y += lane * line.lanes + GAP
    return lanes, y


def _words(sheet: Sheet, line: Line, top: float, lane: float) -> None:
    room = WIDTH - LEFT - 2 - (text_width(line.value, TEXT, True) + 8 if line.value else 0)
    sheet.text(LEFT - 1, top - 3, cut(line.label, room))
    if line.value:
        sheet.text(WIDTH - 2, top - 3, line.value, at="right", bold=True)
    if line.status:
        sheet.text(
            LEFT - 1, top + lane / 2 + 3.5, f"× {line.status}", status_colour(line.status), bold=True, size=SMALL
        )
        start = LEFT + text_width(f"× {line.status}", SMALL, True) + 6
        sheet.text(start, top + lane / 2 + 3.5, cut(line.reason, WIDTH - start - 2, SMALL), "muted", size=SMALL)
