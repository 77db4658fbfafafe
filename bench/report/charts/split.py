"""Stacked bar charts of the mean step of two sides: data, exposed communication, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from bench.analysis.case_splits import CaseSplit
from bench.report.charts.bars import draw_bar
from bench.report.charts.canvas import Key, bar_style, chart_settings
from bench.report.charts.chart import Chart
from bench.report.charts.questions import one_line, slug
from bench.report.charts.rows import Line, draw_rows
from bench.report.charts.style import HATCHES, SENTINELS, Colours
from bench.report.format import number
from bench.stats.step_split import PARTS

CASES_A_PAGE = 20


def splits(cases: Sequence[CaseSplit]) -> Iterator[Chart]:
    """Yield charts of the cases whose split is known."""
    known = [case for case in cases if case.split]
    pages = [known[start : start + CASES_A_PAGE] for start in range(0, len(known), CASES_A_PAGE)]
    for page, shown in enumerate(pages, 1):
        yield _chart(shown, f" ({page} of {len(pages)})" if len(pages) > 1 else "")


def _chart(cases: Sequence[CaseSplit], page: str) -> Chart:
    frame = _bars(cases)
    title = f"Parts of a mean step on both sides, ms{page}"
    said = "; ".join(f"{one_line(row['case'])} {number(row['step, ms'])} ms" for _, row in frame.iterrows())
    return Chart(
        name=slug("split", page),
        title=title,
        alt=f"Stacked bar chart, from zero: {title}. {said}.",
        note="Means over launches of the mean step of the window: of each case A's bar is above B's. Exposed "
        "communication is the share of the profiled steps that waits for communication, of the mean step.",
        data=frame,
        figure=partial(_figure, frame),
    )


def _bars(cases: Sequence[CaseSplit]) -> pd.DataFrame:
    """Return a row for each case and side, with the ms of each part."""
    rows = []
    for case in cases:
        for side in "ab":
            ms = {} if case.split is None else {part.name: getattr(part, f"{side}_ms") for part in case.split.parts}
            parts = {f"{name}, ms": ms[name] for name in PARTS}
            rows.append({"case": case.label, "side": side.upper(), **parts, "step, ms": sum(parts.values())})
    return pd.DataFrame(rows)


def _figure(bars: pd.DataFrame, colours: Colours = SENTINELS) -> Figure:
    return draw(bars, colours)


# -- drawing --------------------------------------------------------------------------------------------------------


def draw(bars: pd.DataFrame, colours: Colours) -> Figure:
    """Draw a bar for each row of ``_bars``, its parts one after another; one below 0, by noise, has no length."""
    look = {f"{part}, ms": (f"series-{n + 1}", HATCHES[n]) for n, part in enumerate(PARTS)}
    legend = [Key(part, "patch", *key) for part, key in zip(PARTS, look.values(), strict=True)]
    lines = [
        Line(f"{row['side']}: {one_line(row['case'])}", number(row["step, ms"]), apart=row["side"] == "A")
        for _, row in bars.iterrows()
    ]
    with chart_settings():
        drawn = draw_rows(colours, lines, legend, (0, 1.03 * float(bars["step, ms"].max())), "ms a step")
        for (_, row), (y,) in zip(bars.iterrows(), drawn.lanes, strict=True):
            left = 0.0
            for part, (colour, hatch) in look.items():
                length = max(row[part], 0.0)
                draw_bar(drawn.axes, left, y, length, hatch, bar_style(colours, colour))
                left += length
        return drawn.sheet.figure
