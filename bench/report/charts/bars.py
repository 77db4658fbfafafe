"""One bar a case, from zero: its launches as dots, its interval as a whisker, colour and hatch by an axis."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.order import word
from bench.report.charts.canvas import Key, dot, drawing, filled
from bench.report.charts.measured import Measured
from bench.report.charts.questions import count, printable
from bench.report.charts.rows import Line, clipped, rows
from bench.report.charts.style import HATCHES, SERIES, Colours, places
from bench.report.format import number

BAR, WHISKER, DOTS = 13.0, -2.5, 3.5  # points: a bar's height, and where in it those are


def draw(of: Measured, colours: Colours) -> Figure:
    """The bars of one page."""
    cases = of.question.cases
    place = places(of.by, cases[of.by])
    legend = [
        Key(word(of.by, name), "patch", f"series-{n % SERIES + 1}", HATCHES[n % SERIES])
        for name, n in place.items()
        if len(place) > 1  # one colour alone needs no name
    ]
    legend.append(Key("one launch", "line", "ink", marker=".", line=""))
    if of.low.notna().any():
        legend.append(Key("95\u00a0% interval", "whisker", "ink"))
    with drawing():
        drawn = rows(colours, lines(cases, of.median), legend, (0, of.limit), of.unit)
        ys = [y for (y,) in drawn.lanes]
        for by, value, y in zip(cases[of.by], of.median, ys, strict=True):
            if value == value:
                at = place[str(by)] % SERIES
                bar(drawn.axes, 0, y, value, HATCHES[at], filled(colours, f"series-{at + 1}"))
        whiskers = [(*ends, y + WHISKER) for *ends, y in zip(of.low, of.high, ys, strict=True) if ends[0] == ends[0]]
        clipped(drawn, whiskers, (0, of.limit), colours["ink"], colours["paper"])
        dots = [(x, y + DOTS) for some, y in zip(of.launches, ys, strict=True) for x in some]
        drawn.axes.plot(
            [x for x, _ in dots],
            [y for _, y in dots],
            linestyle="none",
            **dot(colours, colours["ink"]),
            clip_on=False,
            zorder=4,
        )
        return drawn.sheet.figure


def bar(axes: Axes, left: float, y: float, width: float, hatch: str, look: dict[str, Any]) -> None:
    """What ``barh`` draws, in a tenth of the time; ``y`` is its middle."""
    axes.add_artist(Rectangle((left, y - BAR / 2), width, BAR, hatch=hatch, **look))


def lines(cases: pd.DataFrame, values: pd.Series) -> list[Line]:
    """What is written of each case: its number and how many launches it is of, or why there is none."""
    group = cases["strategy"].str.partition(":")[0]
    new = (group != group.shift()).to_list()
    found: list[Line] = []
    for (_, case), value, apart in zip(cases.iterrows(), values, new, strict=True):
        if not pd.isna(value):
            line = Line(case["label"], " · ".join(filter(None, (number(value), count(case)))), apart=apart)
        elif case["ok"]:
            line = Line(case["label"], status="unknown", apart=apart)
        else:
            line = Line(case["label"], "", str(case["status"]), printable(case["reason"]), apart=apart)
        found.append(line)
    return found
