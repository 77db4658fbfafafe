"""Stacked bar charts of the communication and computation of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.analysis.answers import Answers
from bench.analysis.summary import BY_PROFILE
from bench.report.charts.chart import Chart
from bench.report.charts.parts import CASES_A_PAGE, draw
from bench.report.charts.questions import Question, failure_words, launch_counts
from bench.report.charts.style import SENTINELS, Colours
from bench.report.format import number

COMPUTATION, BOTH, EXPOSED, OTHER = "computation", "both at once", "exposed communication", "neither, or unknown"


def communication(_: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield the charts of each question of which it is known how much of a step waits for communication."""
    for question in questions:
        steps = parts_ms(question.cases)
        if steps[EXPOSED].isna().all():
            continue
        end = 1.03 * float(steps.sum(axis=1).max())
        for page in question.pages(CASES_A_PAGE):
            yield _chart(page, steps.loc[page.cases.index], end)


def parts_ms(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the parts of each case's profiled step in ms, which add up to it.

    By ablation only the exposed communication is known, and the rest of the step is OTHER.
    """
    step, exposed = cases["profiled_step_ms"].astype(float), cases["exposed_comm_ms"].astype(float).clip(lower=0)
    both = cases["overlap_ms"].astype(float)
    alone = cases["compute_ms"].astype(float) - both
    other = (step - exposed - both.fillna(0) - alone.fillna(0)).clip(lower=0)
    return pd.DataFrame({COMPUTATION: alone, BOTH: both, EXPOSED: exposed, OTHER: other.where(exposed.notna())})


def _chart(question: Question, steps: pd.DataFrame, end: float) -> Chart:
    cases, missing = question.cases, failure_words(question.cases)
    shares = cases["exposed_comm_share"].astype(float).clip(lower=0).dropna()
    names: dict[Any, str] = cases["label"].to_dict()
    alt = f"Stacked bar chart, from zero: communication and computation of a step in ms of {len(cases)} cases of "
    alt += f"{question.subject}."
    ends: list[tuple[str, Any]] = [("most", shares.idxmax()), ("least", shares.idxmin())] if len(shares) else []
    for word, at in ends:
        alt += f" {names[at]} waits {word}: {number(steps[EXPOSED][at])} ms, {shares[at]:.0%} of its step."
    kind = "kernels of the device" if question.on_gpus else "operators of the host"
    note = (
        f"A step of the critical rank after the window; each part is the median of {launch_counts(cases)}. "
        f"Computation: {kind}. Exposed communication: collectives that no computation covers; they also wait for ranks "
        "that come later."
    )
    if (cases["comm_method"].notna() & (cases["comm_method"] != BY_PROFILE)).any():
        note += " By ablation only the exposed communication is known."
    return Chart(
        name=question.name("communication"),
        title=question.title("Communication of a step", "ms"),
        alt=" ".join(filter(None, (alt, missing))),
        note=" ".join(filter(None, (note, missing))),
        data=cases[["label", "status", "comm_method"]]
        .rename(columns={"label": "case", "comm_method": "method"})
        .join(steps.rename(columns="{}, ms".format))
        .assign(**{"exposed share": cases["exposed_comm_share"]}),
        figure=partial(_figure, question, steps, end),
    )


def _figure(question: Question, steps: pd.DataFrame, end: float, colours: Colours = SENTINELS) -> Figure:
    return draw(question, steps, end, colours)
