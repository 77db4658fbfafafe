"""Line charts of a figure over the sessions of a history, with what changed between them and change points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.analysis.trend import Change, Mark, Point, Series, Session, Trend
from bench.report.charts.canvas import SMALL, WIDTH, Key, Sheet, chart_settings, draw_segments, text_width, tick_label
from bench.report.charts.chart import Chart
from bench.report.charts.questions import one_line, slug
from bench.report.charts.style import MARKERS, SENTINELS, SERIES, Colours, status_colour
from bench.report.format import UNKNOWN, number
from bench.store.columns import LAUNCHES

NAMES = {
    "samples_per_s": "Throughput",
    "tokens_per_s": "Throughput",
    "step_ms": "Step time",
    "peak_allocated_mib": "Peak memory of tensors",
    "peak_reserved_mib": "Peak memory of the allocator",
    "peak_rss_mib": "Peak resident memory",
    "peak_host_mib": "Peak host memory",
    "operations": "Operations of a step",
    "collective_bytes": "Messages of a step",
    "activation_bytes": "Activations of a step",
}


@dataclass(frozen=True)
class Drawn:
    """The data of a chart: a series, its marks, and all sessions."""

    series: Series
    marks: Sequence[Mark]
    sessions: Sequence[Session]

    @property
    def environments(self) -> list[str]:
        """Letters of the environments of the sessions with a figure."""
        return list(dict.fromkeys(point.environment for point in self.series.points if known(point)))


def trends(found: Trend) -> Iterator[Chart]:
    """Yield a chart of each series, with unique names."""
    for place, series in enumerate(found.series):
        drawn = Drawn(series, found.marks[series.case_id], found.sessions)
        yield Chart(
            name=slug("trend", series.metric.replace("_", "-"), series.label, str(place)),
            title=f"{_name(series.metric)} of {one_line(series.label)}{_unit(series.metric)}",
            alt=_alt(drawn),
            note=_note(drawn),
            data=_data(drawn),
            figure=partial(_figure, drawn),
        )


def metric_words(metric: str) -> str:
    """Return the name of a metric and its unit."""
    return f"{_name(metric)}{_unit(metric)}"


def _name(metric: str) -> str:
    return NAMES.get(metric, metric)


def _unit(metric: str) -> str:
    """Return the unit of a metric after a comma; an empty text if it has none, or its name says it."""
    unit = LAUNCHES[metric].unit
    return f", {unit}" if unit and unit not in _name(metric).lower() else ""


def known(point: Point) -> bool:
    """Return whether a session has a figure."""
    return not math.isnan(point.value)


def change_words(change: Change) -> str:
    """Return a change as a percentage, or as both figures if there is none or it is too small."""
    if math.isnan(change.ratio) or abs(change.ratio - 1) < 0.0005:
        return f"{number(change.before)} → {number(change.after)}"
    return f"{change.ratio - 1:+.1%}"


def date(session: Session) -> str:
    """Return the day of a session, or the id of its run if it has no time."""
    return session.started_at[:10] or session.run_id


def when(session: Session) -> str:
    """Return the time of a session to the minute; empty if it is not known."""
    return session.started_at[:16].replace("T", " ")


# -- texts ---------------------------------------------------------------------------------------------------------


def _alt(of: Drawn) -> str:
    points = [point for point in of.series.points if known(point)]
    first, last = points[0], points[-1]
    text = (
        f"Line chart of {metric_words(of.series.metric)} over {len(points)} sessions: {number(first.value)} on "
        f"{date(of.sessions[first.session])}, {number(last.value)} on {date(of.sessions[last.session])}."
    )
    said = [f"{change_words(one)} on {date(of.sessions[one.session])}" for one in of.series.changes]
    return text + (f" Change points: {'; '.join(said)}." if said else " No change point.")


def _note(of: Drawn) -> str:
    sentences = ["A point is the median over the launches of a session, a whisker its 95\u00a0% interval."]
    sentences.append("The axis does not begin at zero.")
    if len(of.environments) > 1:
        sentences.append("Each environment has its own line; a dashed line is where a new one begins.")
    lost = [point for point in of.series.points if not known(point)]
    if lost:
        ends = "; ".join(f"{date(of.sessions[one.session])} ({one.status})" for one in lost[-5:])
        sentences.append(f"Sessions without a figure ({len(lost)}, marked ×), the latest: {ends}.")
    return " ".join(sentences)


def _data(of: Drawn) -> pd.DataFrame:
    marks, changes = _words_by_session(of.marks), {one.session: change_words(one) for one in of.series.changes}
    unit = LAUNCHES[of.series.metric].unit or of.series.metric
    rows = [
        {
            "session": of.sessions[point.session].run_id,
            "began": when(of.sessions[point.session]),
            f"median, {unit}": point.value,
            f"95 % from, {unit}": point.low,
            f"95 % to, {unit}": point.high,
            "launches ok": point.launches,
            "status": point.status,
            "environment": point.environment,
            "changed before it": marks.get(point.session, ""),
            "change point": changes.get(point.session, ""),
        }
        for point in of.series.points
    ]
    return pd.DataFrame(rows)


def _words_by_session(marks: Sequence[Mark]) -> dict[int, str]:
    groups = itertools.groupby(marks, lambda mark: mark.session)
    return {session: "; ".join(mark.words for mark in inside) for session, inside in groups}


def _figure(of: Drawn, colours: Colours = SENTINELS) -> Figure:
    return draw(of, colours)


# -- drawing -------------------------------------------------------------------------------------------------------

HEAD, PLOT, LEFT, RIGHT, FOOT = 30.0, 150.0, 50.0, 14.0, 24.0  # Points.
ABOVE = 0.6  # Whiskers end at this share of the range of points above and below it.
TICKS = 4  # Dates at the axis.
CODE = 7.0  # Points: height of the mark of a change of code.


def draw(of: Drawn, colours: Colours) -> Figure:
    """Draw a line for each environment over the sessions, in which a session without a figure is a gap."""
    with chart_settings():
        sheet = Sheet(colours, HEAD + PLOT + FOOT, _legend(of))
        sheet.text(0, 10, LAUNCHES[of.series.metric].unit or of.series.metric, size=SMALL)
        axes = sheet.axes(HEAD, PLOT, LEFT, RIGHT)
        _scales(axes, of, colours)
        _marks(axes, of, colours)
        for place, letter in enumerate(of.environments):
            _line(axes, of, letter, colours[f"series-{place % SERIES + 1}"], MARKERS[place % SERIES], colours)
        low, high = axes.get_ylim()
        for point in (point for point in of.series.points if not known(point)):
            axes.text(point.session, low + (high - low) * 0.02, "×", ha="center", va="bottom", weight="bold",
                      color=colours[status_colour(point.status)], size=SMALL)  # fmt: skip
        _labels(sheet, axes, of)
        return sheet.figure


def _legend(of: Drawn) -> list[Key]:
    several = len(of.environments) > 1
    keys = [
        Key(
            f"environment {letter}" if several else "median",
            "line",
            f"series-{n % SERIES + 1}",
            "",
            MARKERS[n % SERIES],
        )
        for n, letter in enumerate(of.environments[:SERIES])
    ]
    keys.append(Key("95\u00a0% interval", "whisker", "muted"))
    kinds = {mark.kind for mark in of.marks}
    if kinds & {"environment", "work"}:
        keys.append(Key("environment or work changed", "line", "muted", line="--"))
    if kinds & {"code", "tool"}:
        keys.append(Key("code or stepbench changed", "tick", "ink"))
    if of.series.changes:
        keys.append(Key("change point (advice)", "line", "bad", line=":"))
    return keys


def _scales(axes: Axes, of: Drawn, colours: Colours) -> None:
    points = [point for point in of.series.points if known(point)]
    values = [point.value for point in points]
    smallest, largest = min(values), max(values)
    margin = (largest - smallest) * ABOVE or abs(largest) * 0.05 or 1.0
    low = min(values + [point.low for point in points if point.low >= smallest - margin])
    high = max(values + [point.high for point in points if point.high <= largest + margin])
    spare = (high - low) * 0.12 or margin
    axes.set_ylim(low - spare, high + spare)
    axes.set_xlim(-0.6, max(len(of.sessions) - 0.4, 0.6))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=LAUNCHES[of.series.metric].kind == "int"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    count = min(TICKS, len(of.sessions))
    places = sorted({round(n * (len(of.sessions) - 1) / max(count - 1, 1)) for n in range(count)})
    axes.set_xticks([float(place) for place in places], [date(of.sessions[place])[:10] for place in places])
    if len(places) > 1:  # The outer ones stay within the chart.
        first, *_, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    axes.grid(axis="y", color=colours["grid"], linewidth=0.8)
    axes.set_axisbelow(True)


def _line(axes: Axes, of: Drawn, letter: str, colour: str, marker: str, colours: Colours) -> None:
    """Draw the sessions of an environment, interrupted where one of its sessions has no figure."""
    own = [point for point in of.series.points if point.environment == letter]
    size = 4.0 if len(of.sessions) <= 60 else 2.5
    look: dict[str, Any] = {"markersize": size, "markeredgecolor": colours["paper"], "markeredgewidth": 0.4}
    places, values = [point.session for point in own], [point.value for point in own]
    axes.plot(places, values, "-", color=colour, marker=marker, linewidth=1.2, zorder=4, **look)
    low, high = axes.get_ylim()
    whiskers = [
        ((point.session, max(point.low, low)), (point.session, min(point.high, high)))
        for point in own
        if not math.isnan(point.low)
    ]
    draw_segments(axes, whiskers, colours["muted"], 0.8, zorder=3)


def _marks(axes: Axes, of: Drawn, colours: Colours) -> None:
    """Draw vertical lines before the sessions where something changed; a drift is marked at its last session."""
    low, high = axes.get_ylim()
    for kinds, style in ((("environment", "work"), "--"), (("code", "tool"), "")):
        places = sorted({mark.session - 0.5 for mark in of.marks if mark.kind in kinds})
        if style:
            axes.vlines(places, low, high, color=colours["muted"], linestyle=style, linewidth=1, zorder=2)
        else:
            top = low + (high - low) * CODE / PLOT
            draw_segments(axes, [((x, low), (x, top)) for x in places], colours["ink"], 1.2, zorder=5)
    places = [_place(one) for one in of.series.changes]
    axes.vlines(places, low, high, color=colours["bad"], linestyle=":", linewidth=1.6, zorder=5)


def _place(change: Change) -> float:
    return change.session - (0 if change.kind == "drift" else 0.5)


def _labels(sheet: Sheet, axes: Axes, of: Drawn) -> None:
    """Write the change at each change point, and the letter of each new environment, where there is room."""
    texts = [(_place(one), change_words(one), "bad") for one in of.series.changes]
    letters = {point.session: point.environment for point in of.series.points}
    texts += [
        (mark.session - 0.5, letters.get(mark.session, UNKNOWN), "muted")
        for mark in of.marks
        if mark.kind == "environment"
    ]
    left, right = axes.get_xlim()
    taken: list[tuple[float, float]] = []
    for place, words, colour in texts:
        half = text_width(words, SMALL, colour == "bad") / 2
        x = LEFT + (place - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        x = min(max(x, half), WIDTH - half)
        if all(x + half + 3 < begin or x - half - 3 > end for begin, end in taken):
            sheet.text(x, HEAD - 4, words, colour, at="center", size=SMALL, bold=colour == "bad")
            taken.append((x - half, x + half))
