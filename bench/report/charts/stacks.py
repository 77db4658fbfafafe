"""Stacked bars, one a case, from zero."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from bench.report.charts.bars import bar, lines
from bench.report.charts.canvas import Key, drawing, filled
from bench.report.charts.questions import Question
from bench.report.charts.rows import rows
from bench.report.charts.style import HATCHES, Colours


def draw(question: Question, steps: pd.DataFrame, end: float, colours: Colours) -> Figure:
    """The columns of ``steps`` (ms) one after another; what is unknown has no length."""
    look = {part: (f"series-{n + 1}", HATCHES[n]) for n, part in enumerate(steps)}
    legend = [Key(str(part), "patch", *key) for part, key in look.items()]
    total = steps.sum(axis=1, min_count=1)
    with drawing():
        drawn = rows(colours, lines(question.cases, total), legend, (0, end), "ms a step")
        for (_, case), (y,) in zip(steps.iterrows(), drawn.lanes, strict=True):
            left = 0.0
            for part, length in case.dropna().items():
                colour, hatch = look[part]
                bar(drawn.axes, left, y, length, hatch, filled(colours, colour))
                left += length
        return drawn.sheet.figure
