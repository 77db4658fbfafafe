"""A lane a launch: where most of its steps are, their median, and the farthest outlier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from bench.report.charts.bars import lines
from bench.report.charts.canvas import Key, drawing, segments
from bench.report.charts.questions import Question
from bench.report.charts.rows import rows
from bench.report.charts.style import Colours

LANE, TICK = 8.0, 3.0  # points: a launch, and half its median's tick
TICKS = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]


def draw(
    question: Question, each: Mapping[object, pd.DataFrame], ends: tuple[float, float], logarithmic: bool,
    colours: Colours,
) -> Figure:  # fmt: skip
    """``each`` has the launches by the case's index; x is in times the case's median, between ``ends``."""
    low, high = ends
    room = 0.03 * (high - low) or 0.03
    limits = (low / 1.05, high * 1.05) if logarithmic else (low - room, high + room)
    ticks = [tick for tick in TICKS if limits[0] <= tick <= limits[1]] if logarithmic else None
    legend = [Key("5th to 95th percentile of a launch's steps", "line", "series-1"), Key("its median", "tick", "ink"),
              Key("its largest outlier", "line", "series-2", marker="D", line="")]  # fmt: skip
    words = [
        replace(line, value=f"{line.value} ms" if line.value else "", lanes=len(each.get(at, ())) or 1)
        for at, line in zip(question.cases.index, lines(question.cases, _medians(question, each)), strict=True)
    ]
    unit = "step time in times the case's median" + (" (logarithmic)" if logarithmic else "")
    with drawing():
        drawn = rows(colours, words, legend, limits, unit, LANE, ticks)
        lanes = [
            (y, launch)
            for at, ys in zip(question.cases.index, drawn.lanes, strict=True)
            for y, (_, launch) in zip(ys, each[at].iterrows() if at in each else (), strict=False)
        ]
        spans = [((launch["p05"], y), (launch["p95"], y)) for y, launch in lanes]
        segments(drawn.axes, spans, colours["series-1"], 2.6)
        ones = [
            ((1, ys[0] - LANE / 2), (1, ys[-1] + LANE / 2))
            for ys, line in zip(drawn.lanes, words, strict=True)
            if line.value
        ]
        segments(drawn.axes, ones, colours["faint"], 0.9, zorder=2)
        medians = [((launch["median"], y - TICK), (launch["median"], y + TICK)) for y, launch in lanes]
        segments(drawn.axes, medians, colours["ink"], 1.6, colours["paper"])
        far = [(launch["largest outlier"], y) for y, launch in lanes if launch["outliers"]]
        drawn.axes.plot([x for x, _ in far], [y for _, y in far], linestyle="none", marker="D",
                        markersize=4, color=colours["series-2"], markeredgewidth=0, zorder=5)  # fmt: skip
        return drawn.sheet.figure


def _medians(question: Question, each: Mapping[object, pd.DataFrame]) -> pd.Series:
    steps = question.cases["step_ms"].items()
    return pd.Series([value if at in each else float("nan") for at, value in steps], question.cases.index)
