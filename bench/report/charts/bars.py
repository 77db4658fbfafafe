"""Bar charts: a bar from zero for each case, its launches as dots, its interval as a whisker."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.order import word
from bench.report.charts.canvas import Key, bar_style, chart_settings, dot_style
from bench.report.charts.measured import Measured
from bench.report.charts.questions import ok_of_launches, one_line
from bench.report.charts.rows import Line, draw_rows, draw_whiskers
from bench.report.charts.style import HATCHES, SERIES, Colours, series_numbers
from bench.report.format import number

BAR, WHISKER, DOTS = 13.0, -2.5, 3.5  # Points: height of a bar; offsets of whisker and dots from its middle.


def draw(of: Measured, colours: Colours) -> Figure:
    """Draw the bars of one page; colour and hatch show the axis ``of.by``."""
    cases = of.question.cases
    place = series_numbers(of.by, cases[of.by])
    legend = [
        Key(word(of.by, name), "patch", f"series-{n % SERIES + 1}", HATCHES[n % SERIES])
        for name, n in place.items()
        if len(place) > 1  # A single colour needs no legend.
    ]
    legend.append(Key("one launch", "line", "ink", marker=".", line=""))
    if of.low.notna().any():
        legend.append(Key("95\u00a0% interval", "whisker", "ink"))
    with chart_settings():
        drawn = draw_rows(colours, case_lines(cases, of.median), legend, (0, of.limit), of.unit)
        ys = [y for (y,) in drawn.lanes]
        for by, value, y in zip(cases[of.by], of.median, ys, strict=True):
            if value == value:
                at = place[str(by)] % SERIES
                draw_bar(drawn.axes, 0, y, value, HATCHES[at], bar_style(colours, f"series-{at + 1}"))
        whiskers = [(*ends, y + WHISKER) for *ends, y in zip(of.low, of.high, ys, strict=True) if ends[0] == ends[0]]
        draw_whiskers(drawn, whiskers, (0, of.limit), colours["ink"], colours["paper"])
        dots = [(x, y + DOTS) for some, y in zip(of.launches, ys, strict=True) for x in some]
        drawn.axes.plot(
            [x for x, _ in dots],
            [y for _, y in dots],
            linestyle="none",
            **dot_style(colours, colours["ink"]),
            clip_on=False,
            zorder=4,
        )
        return drawn.sheet.figure


def draw_bar(axes: Axes, left: float, y: float, width: float, hatch: str, look: dict[str, Any]) -> None:
    """Draw a horizontal bar whose middle is at ``y``, ten times as fast as matplotlib's ``barh``."""
    axes.add_artist(Rectangle((left, y - BAR / 2), width, BAR, hatch=hatch, **look))


def case_lines(cases: pd.DataFrame, values: pd.Series) -> list[Line]:
    """Return the text of each case: its value and how many launches were ok, or why it has no value."""
    group = cases["strategy"].str.partition(":")[0]
    new = (group != group.shift()).to_list()
    found: list[Line] = []
    for (_, case), value, apart in zip(cases.iterrows(), values, new, strict=True):
        if not pd.isna(value):
            line = Line(case["label"], " · ".join(filter(None, (number(value), ok_of_launches(case)))), apart=apart)
        elif case["ok"]:
            line = Line(case["label"], status="unknown", apart=apart)
        else:
            line = Line(case["label"], "", str(case["status"]), one_line(case["reason"]), apart=apart)
        found.append(line)
    return found
