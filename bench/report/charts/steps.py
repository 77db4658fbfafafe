"""Charts of the distribution of step times in each launch, beside the other launches of the case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.analysis.answers import Answers
from bench.analysis.step_noise import FENCE
from bench.analysis.summary import GROUP
from bench.report.charts.bars import case_lines
from bench.report.charts.canvas import Key, chart_settings, draw_segments
from bench.report.charts.chart import Chart
from bench.report.charts.questions import Question, case_key, failure_words, launch_counts, one_line
from bench.report.charts.rows import draw_rows
from bench.report.charts.style import SENTINELS, Colours
from bench.report.format import number

CASES_A_PAGE = 25
LANES = 20  # Launches of a case that are drawn.
LOGARITHMIC_FROM = 5  # Ratio of the largest to the smallest value from which on x is logarithmic.
TIMES = {"p05_ms": "p05", "median_ms": "median", "p95_ms": "p95", "largest_ms": "largest outlier"}


def steps(answers: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield the charts of each question with step times; the unit is the median step time of the case."""
    launches = {case_key(of): rows for of, rows in answers.noise.groupby(list(GROUP), sort=False, dropna=False)}
    for question in questions:
        cases = question.cases
        medians: dict[Any, float] = cases["step_ms"].to_dict()
        each = {
            at: _in_medians(launches[one], medians[at])
            for at, one in zip(cases.index, map(case_key, cases[list(GROUP)].itertuples(index=False)), strict=True)
            if one in launches and medians[at] > 0
        }
        if not each:
            continue
        drawn = pd.concat(each.values())[list(TIMES.values())].to_numpy(float)
        ends = float(np.nanmin(drawn)), float(np.nanmax(drawn))
        for page in question.pages(CASES_A_PAGE):
            yield _chart(page, {at: rows for at, rows in each.items() if at in page.cases.index}, ends)


def _in_medians(rows: pd.DataFrame, median: float) -> pd.DataFrame:
    """Return TIMES of each launch divided by the case's median, with id, steps, outliers and median of the launch."""
    times = (rows[list(TIMES)].astype(float) / median).rename(columns=TIMES)
    return times.join(rows[["launch_id", "steps", "outliers", "median_ms"]])


def _chart(question: Question, each: dict[Any, pd.DataFrame], ends: tuple[float, float]) -> Chart:
    cases = question.cases
    sentences = [
        f"Step times over the launches of {len(cases)} cases of {question.subject}, in times the case's median step."
    ]
    far = {at: (rows["median"].max() / rows["median"].min(), len(rows)) for at, rows in each.items() if len(rows) > 1}
    if far:
        most = max(far, key=far.__getitem__)
        sentences.append(f"Medians of launches differ most for {cases['label'][most]}: {number(far[most][0])} times.")
    largest = {at: rows["largest outlier"].max() for at, rows in each.items() if rows["outliers"].sum()}
    if largest:
        at = max(largest, key=lambda case: float(largest[case]))
        total = sum(int(rows["outliers"].sum()) for rows in each.values())
        sentences.append(f"{total} outliers; the largest, {number(largest[at])} times, is of {cases['label'][at]}.")
    else:
        sentences.append("No outliers.")
    logarithmic = ends[1] > LOGARITHMIC_FROM * ends[0]
    some = {at: _sample_of_launches(rows) for at, rows in each.items()}
    left_out = any(len(some[at]) < len(rows) for at, rows in each.items())
    which = f", of which {LANES} are drawn, evenly from the fastest to the slowest" if left_out else ""
    note = (
        f"A line is a launch ({launch_counts(cases)} of each case{which}): from the 5th to the 95th percentile of its "
        f"steps, with its median and its largest outlier (a step more than {FENCE:g} interquartile ranges above the "
        "upper quartile). Values are multiples of the case's median step, which is at the right."
        + (" The axis is logarithmic." if logarithmic else " The axis does not start at zero.")
    )
    missing = failure_words(cases)
    return Chart(
        name=question.name("steps"),
        title=question.title("Step times over launches", "times the case's median"),
        alt=" ".join(filter(None, (*sentences, missing))),
        note=" ".join(filter(None, (note, missing))),
        data=_data(cases, some),
        figure=partial(_figure, question, some, ends, logarithmic),
    )


def _sample_of_launches(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the launches of a case, or LANES of them at even distances in the order of their medians.

    The fastest, the slowest and the one with the largest outlier are among them. Their order is that of the rows.
    """
    if len(rows) <= LANES:
        return rows
    by_median = rows["median"].argsort(kind="stable").to_numpy()
    places = by_median[np.linspace(0, len(rows) - 1, LANES).round().astype(int)]
    if rows["largest outlier"].notna().any():
        farthest = int(rows["largest outlier"].argmax())
        if farthest not in places:
            places[LANES // 2] = farthest
    return rows.iloc[np.sort(places)]


def _data(cases: pd.DataFrame, each: dict[Any, pd.DataFrame]) -> pd.DataFrame:
    tables = []
    for at, case in cases.iterrows():
        of = {"case": case["label"], "status": case["status"], "median of the case, ms": case["step_ms"]}
        if at in each:
            rows = each[at].rename(columns={**{name: f"{name}, times" for name in TIMES.values()}})
            rows = rows.rename(columns={"launch_id": "launch", "median_ms": "median, ms"})
            tables.append(rows.assign(launch=rows["launch"].map(one_line), **of))
        else:
            tables.append(pd.DataFrame([of]))
    found = pd.concat([table.astype(object) for table in tables], ignore_index=True)
    first = ["case", "status", "median of the case, ms", "launch", "median, ms"]
    return found[[*first, *(name for name in found if name not in first)]]


def _figure(
    question: Question, each: dict[Any, pd.DataFrame], ends: tuple[float, float], logarithmic: bool,
    colours: Colours = SENTINELS,
) -> Figure:  # fmt: skip
    return draw(question, each, ends, logarithmic, colours)


# -- drawing --------------------------------------------------------------------------------------------------------

LANE, TICK = 8.0, 3.0  # Points: height of a launch, and half the height of its median's tick.
TICKS = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]


def draw(
    question: Question, each: Mapping[object, pd.DataFrame], ends: tuple[float, float], logarithmic: bool,
    colours: Colours,
) -> Figure:  # fmt: skip
    """Draw the launches of ``each`` case, by its index; x is in multiples of the case's median, between ``ends``."""
    low, high = ends
    room = 0.03 * (high - low) or 0.03
    limits = (low / 1.05, high * 1.05) if logarithmic else (low - room, high + room)
    ticks = [tick for tick in TICKS if limits[0] <= tick <= limits[1]] if logarithmic else None
    legend = [Key("5th to 95th percentile of a launch's steps", "line", "series-1"), Key("its median", "tick", "ink"),
              Key("its largest outlier", "line", "series-2", marker="D", line="")]  # fmt: skip
    words = [
        replace(line, value=f"{line.value} ms" if line.value else "", lanes=len(each.get(at, ())) or 1)
        for at, line in zip(question.cases.index, case_lines(question.cases, _medians(question, each)), strict=True)
    ]
    unit = "step time in times the case's median" + (" (logarithmic)" if logarithmic else "")
    with chart_settings():
        drawn = draw_rows(colours, words, legend, limits, unit, LANE, ticks)
        lanes = [
            (y, launch)
            for at, ys in zip(question.cases.index, drawn.lanes, strict=True)
            for y, (_, launch) in zip(ys, each[at].iterrows() if at in each else (), strict=False)
        ]
        spans = [((launch["p05"], y), (launch["p95"], y)) for y, launch in lanes]
        draw_segments(drawn.axes, spans, colours["series-1"], 2.6)
        ones = [
            ((1, ys[0] - LANE / 2), (1, ys[-1] + LANE / 2))
            for ys, line in zip(drawn.lanes, words, strict=True)
            if line.value
        ]
        draw_segments(drawn.axes, ones, colours["faint"], 0.9, zorder=2)
        medians = [((launch["median"], y - TICK), (launch["median"], y + TICK)) for y, launch in lanes]
        draw_segments(drawn.axes, medians, colours["ink"], 1.6, colours["paper"])
        far = [(launch["largest outlier"], y) for y, launch in lanes if launch["outliers"]]
        drawn.axes.plot([x for x, _ in far], [y for _, y in far], linestyle="none", marker="D",
                        markersize=4, color=colours["series-2"], markeredgewidth=0, zorder=5)  # fmt: skip
        return drawn.sheet.figure


def _medians(question: Question, each: Mapping[object, pd.DataFrame]) -> pd.Series:
    steps = question.cases["step_ms"].items()
    return pd.Series([value if at in each else float("nan") for at, value in steps], question.cases.index)
