"""Stacked bar charts of the parts of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.analysis.answers import Answers
from bench.report.charts.bars import case_lines, draw_bar
from bench.report.charts.canvas import Key, bar_style, chart_settings
from bench.report.charts.chart import Chart
from bench.report.charts.questions import Question, failure_words, launch_counts, one_line
from bench.report.charts.rows import draw_rows
from bench.report.charts.style import HATCHES, SENTINELS, Colours
from bench.report.format import number

CASES_A_PAGE = 40
AFTER = {"copy_ms": "copy", "forward_ms": "forward", "backward_ms": "backward", "optimizer_ms": "optimizer"}
OF_A_PIPELINE = {"bubble_ms": "wait for other stages"}
OF_A_SCRIPT = {
    **{"rest_ms": "copy and forward", "backward_ms": "backward", "optimizer_ms": "optimizer"},
    "outside_ms": "outside of the step",
}
# By whether the cases ran on GPUs: a wait for data on the host is a gap on the timeline of the device.
FIRST = {True: {"device_gap_ms": "gap on the device"}, False: {"data_wait_ms": "wait for data"}}


def parts(_: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield the charts of each question of which the parts of steps are known."""
    for question in questions:
        of_script = question.cases["rest_ms"].notna().any()
        names = {**FIRST[question.on_gpus], **(OF_A_SCRIPT if of_script else AFTER)}
        if question.cases["bubble_ms"].notna().any():
            names |= OF_A_PIPELINE
        steps = question.cases[list(names)].rename(columns=names)
        if steps.isna().all(axis=None):
            continue
        end = 1.03 * float(steps.sum(axis=1).max())
        for page in question.pages(CASES_A_PAGE):
            yield _chart(page, steps.loc[page.cases.index], end)


def _chart(question: Question, steps: pd.DataFrame, end: float) -> Chart:
    total = steps.sum(axis=1, min_count=1)
    known, missing = total.dropna(), failure_words(question.cases)
    alt = f"Stacked bar chart, from zero: parts of a step in ms of {len(steps)} cases of {question.subject}."
    names: dict[Any, str] = question.cases["label"].to_dict()
    ends: list[tuple[str, Any]] = [("Longest", known.idxmax()), ("Shortest", known.idxmin())] if len(known) else []
    for word, at in ends:
        shares = ", ".join(f"{part} {value / known[at]:.0%}" for part, value in steps.loc[at].dropna().items())
        alt += f" {word}: {names[at]} with {number(known[at])} ms: {shares}."
    unknown = [str(part) for part in steps if steps[part].isna().all()]
    kind = "on the device's timeline" if question.on_gpus else "on the host"
    note = (
        f"Mean times of a step's parts {kind}, of the slowest rank; each is the median of "
        f"{launch_counts(question.cases)}. Their sum, at the right, may differ a little from the median step. "
        "Communication that overlaps with other work is part of it."
    )
    table = question.cases[["label", "status"]].rename(columns={"label": "case"})
    table["reason"] = question.cases["reason"].map(one_line, na_action="ignore")
    return Chart(
        name=question.name("parts"),
        title=question.title("Parts of a step", "ms"),
        alt=" ".join(filter(None, (alt, missing))),
        note=" ".join(filter(None, (note, f"Not known here: {', '.join(unknown)}." if unknown else "", missing))),
        data=table.join(steps.rename(columns="{}, ms".format)).assign(**{"sum, ms": total}),
        figure=partial(_figure, question, steps, end),
    )


def _figure(question: Question, steps: pd.DataFrame, end: float, colours: Colours = SENTINELS) -> Figure:
    return draw(question, steps, end, colours)


# -- drawing --------------------------------------------------------------------------------------------------------


def draw(question: Question, steps: pd.DataFrame, end: float, colours: Colours, unit: str = "ms a step") -> Figure:
    """Draw the columns of ``steps``, in ``unit``, one after another; unknown parts have no length."""
    look = {part: (f"series-{n + 1}", HATCHES[n]) for n, part in enumerate(steps)}
    legend = [Key(str(part), "patch", *key) for part, key in look.items()]
    total = steps.sum(axis=1, min_count=1)
    with chart_settings():
        drawn = draw_rows(colours, case_lines(question.cases, total), legend, (0, end), unit)
        for (_, case), (y,) in zip(steps.iterrows(), drawn.lanes, strict=True):
            left = 0.0
            for part, length in case.dropna().items():
                colour, hatch = look[part]
                draw_bar(drawn.axes, left, y, length, hatch, bar_style(colours, colour))
                left += length
        return drawn.sheet.figure
