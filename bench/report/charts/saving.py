"""Stacked bar charts of what saving and loading a state takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analysis.answers import Answers
from bench.report.charts.chart import Chart
from bench.report.charts.questions import Question, failure_words, launch_counts, one_line
from bench.report.charts.style import SENTINELS, Colours
from bench.report.format import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CASES_A_PAGE = 40
STILL, BESIDE, LOAD = "training stands still", "written while it trains", "loading"


def saving(_: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield the charts of each question with cases that save their state."""
    for question in questions:
        cases = question.cases[question.cases["save_blocked_s"].notna()]
        if cases.empty:
            continue
        still = cases["save_blocked_s"].astype(float)
        beside = cases["save_total_s"].astype(float) - still
        times = pd.DataFrame({STILL: still, BESIDE: beside, LOAD: cases["load_s"].astype(float)})
        end = 1.03 * float(times.sum(axis=1).max())
        for page in Question(question.stem, question.subject, cases).pages(CASES_A_PAGE):
            yield _chart(page, times.loc[page.cases.index], end)


def _chart(question: Question, times: pd.DataFrame, end: float) -> Chart:
    cases, missing = question.cases, failure_words(question.cases)
    labels: dict[Any, str] = cases["label"].to_dict()
    still = times[STILL]
    said = [
        f"{word}: {labels[at]} with {number(seconds)} s."
        for word, at, seconds in (
            ("Longest standstill", still.idxmax(), still.max()),
            ("Shortest", still.idxmin(), still.min()),
        )
    ]
    alt = f"Stacked bar chart, from zero: time to save and load the state of {len(cases)} cases of {question.subject}."
    note = (
        "Time of one save until all of it is on the disk, and of loading it; each is the median of "
        f"{launch_counts(cases)}, of the slowest rank. With dcp-async training goes on while the copy is written."
    )
    table = cases[["label", "status"]].rename(columns={"label": "case"})
    table["reason"] = cases["reason"].map(one_line, na_action="ignore")
    return Chart(
        name=question.name("saving"),
        title=question.title("Saving and loading", "s"),
        alt=" ".join(filter(None, (alt, *said[: len(cases)], missing))),
        note=" ".join(filter(None, (note, missing))),
        data=table.join(times.rename(columns="{}, s".format)),
        figure=partial(_figure, question, times, end),
    )


def _figure(question: Question, times: pd.DataFrame, end: float, colours: Colours = SENTINELS) -> Figure:
    from bench.report.charts.parts import draw

    return draw(question, times, end, colours, "s")
