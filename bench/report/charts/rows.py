"""The layout of charts with one row for each case: a line of text, and below it a bar or other marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.report.charts.canvas import SMALL, TEXT, WIDTH, Key, Sheet, draw_segments, text_width, tick_label, truncate
from bench.report.charts.style import Colours, status_colour

# Points: height of a bar and of the line of text above it, space between cases, and more of it between groups.
LANE, WORDS, GAP, APART = 15.0, 13.0, 8.0, 8.0
LEFT, RIGHT = 3.0, 20.0  # Margins of the plot, where half of a tick's label needs space.
AXIS = 32.0  # Ticks and the axis label.
TALL = 500.0  # A plot of this height has an axis at the top as well.
ARROW = 6.0


@dataclass(frozen=True)
class Line:
    """The text of a case: its label, its value at the right, and its status and reason if it has no value.

    ``lanes`` is the number of bars below it; ``apart`` adds space above it, because a group begins.
    """

    label: str
    value: str = ""
    status: str = ""
    reason: str = ""
    lanes: int = 1
    apart: bool = False


@dataclass(frozen=True)
class Rows:
    """The drawn rows: ``lanes`` has the y of the middle of each bar of each case, in points and in data of ``axes``."""

    sheet: Sheet
    axes: Axes
    lanes: list[list[float]]


def draw_rows(
    colours: Colours, lines: Sequence[Line], legend: Sequence[Key], limits: tuple[float, float], unit: str,
    lane: float = LANE, ticks: Sequence[float] | None = None,
) -> Rows:  # fmt: skip
    """Draw an empty chart of these cases. ``limits`` are those of x, which is logarithmic if ``ticks`` are given."""
    lanes, bottom = _lane_places(lines, lane)
    head = AXIS if bottom > TALL else 0.0
    sheet = Sheet(colours, head + bottom + AXIS, legend)
    axes = sheet.axes(head, bottom, LEFT, RIGHT)
    axes.set(xlim=limits, ylim=(bottom, 0), yticks=[], xlabel=unit, xscale="linear" if ticks is None else "log")
    axes.set_xlim(limits)
    seen = [float(x) for x in (MaxNLocator(5).tick_values(*limits) if ticks is None else ticks) if _within(x, limits)]
    axes.set_xticks(seen, [tick_label(tick) for tick in seen])
    axes.minorticks_off()
    if head:
        axes.tick_params(axis="x", top=True, labeltop=True)
        axes.spines["top"].set(visible=True, color=colours["faint"], linewidth=0.8)
        sheet.text((WIDTH + LEFT - RIGHT) / 2, 10, unit, at="center", size=SMALL)
    free = [(ys[0] - lane / 2, ys[-1] + lane / 2) for line, ys in zip(lines, lanes, strict=True) if not line.status]
    draw_segments(axes, [((x, low), (x, high)) for low, high in free for x in seen], colours["grid"], 0.8, zorder=0.5)
    if limits[0] == 0:
        draw_segments(axes, [((0, low), (0, high)) for low, high in free], colours["faint"], 1, zorder=2)
    axes.spines["left"].set_visible(False)
    for line, ys in zip(lines, lanes, strict=True):
        _write_line(sheet, line, head + ys[0] - lane / 2, lane)
    return Rows(sheet, axes, lanes)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def draw_whiskers(
    of: Rows, intervals: Sequence[tuple[float, float, float]], limits: tuple[float, float], colour: str, halo: str
) -> None:
    """Draw whiskers (low, high, y). A whisker that exceeds the limits ends in an arrow there."""
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
    draw_segments(of.axes, lines, colour, 1.2, halo)


def _lane_places(lines: Sequence[Line], lane: float) -> tuple[list[list[float]], float]:
    y = 4.0
    lanes: list[list[float]] = []
    for line in lines:
        y += WORDS + (APART if line.apart and lanes else 0)
        lanes.append([y + lane * (number + 0.5) for number in range(line.lanes)])
        y += lane * line.lanes + GAP
    return lanes, y


def _write_line(sheet: Sheet, line: Line, top: float, lane: float) -> None:
    room = WIDTH - LEFT - 2 - (text_width(line.value, TEXT, True) + 8 if line.value else 0)
    sheet.text(LEFT - 1, top - 3, truncate(line.label, room))
    if line.value:
        sheet.text(WIDTH - 2, top - 3, line.value, at="right", bold=True)
    if line.status:
        sheet.text(
            LEFT - 1, top + lane / 2 + 3.5, f"× {line.status}", status_colour(line.status), bold=True, size=SMALL
        )
        start = LEFT + text_width(f"× {line.status}", SMALL, True) + 6
        sheet.text(start, top + lane / 2 + 3.5, truncate(line.reason, WIDTH - start - 2, SMALL), "muted", size=SMALL)
