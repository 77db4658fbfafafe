"""What does speed cost in memory? Throughput against memory, and what nothing beats in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.summary import GROUP
from bench.analysis.tradeoff import MIB_A_GIB
from bench.report.charts.chart import Chart
from bench.report.charts.memory import MEASURES
from bench.report.charts.questions import Question, key, launches_of, without
from bench.report.charts.style import SENTINELS, Colours
from bench.report.words import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALIKE = 0.01  # of the largest memory: where all cases need the same to this, no memory buys speed


def pareto(answers: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """For each question with two cases of known, unlike memory: its points, the front's first and fastest first."""
    chosen = {
        key(of): (row["on_front"], row["choice"])
        for of, (_, row) in zip(
            answers.tradeoff[list(GROUP)].itertuples(index=False), answers.tradeoff.iterrows(), strict=True
        )
    }
    for question in questions:
        cases = question.cases
        memory = cases["memory_mib"].dropna()
        if len(memory) < 2 or memory.max() - memory.min() < ALIKE * memory.max():
            continue
        found = [chosen.get(one, (False, None)) for one in map(key, cases[list(GROUP)].itertuples(index=False))]
        points = cases[["label", "samples_per_s", "status", "ok", "launches"]].assign(
            gib=cases["memory_mib"] / MIB_A_GIB,
            on_front=[bool(front) for front, _ in found],
            choice=["" if pd.isna(choice) else choice for _, choice in found],
        )
        points = points[points["gib"].notna() & points["samples_per_s"].notna()]
        points = points.sort_values(["on_front", "samples_per_s"], ascending=False, kind="stable")
        yield _chart(
            question, points.assign(number=range(1, len(points) + 1)), cases.loc[memory.index[0], "memory_measure"]
        )


def _chart(question: Question, points: pd.DataFrame, measure: str) -> Chart:
    front = points[points["on_front"]]
    names = [
        f"{row['number']} {row['label']}, {number(row['samples_per_s'])} samples/s in {number(row['gib'])} GiB"
        + (f" ({row['choice']})" if row["choice"] else "")
        for _, row in front.iterrows()
    ]
    missing = without(question.cases)
    alt = (
        f"Scatter chart, both axes from zero: throughput in samples/s against memory in GiB of {len(points)} cases of "
        f"{question.subject}. On the Pareto front, the fastest first: {'; '.join(names)}."
    )
    note = (
        f"Right is more memory ({MEASURES[measure]}, of the rank with the most), up is faster; medians of "
        f"{launches_of(question.cases)}. On the line is what no other case beats in both; only cases whose every "
        "launch was ok are on it."
    )
    lost = question.cases[~question.cases.index.isin(points.index)]
    columns = {"number": "number", "label": "case", "samples_per_s": "median, samples/s", "gib": "memory, GiB",
               "on_front": "on the front", "choice": "choice", "status": "status"}  # fmt: skip
    table = pd.concat([points, lost[["label", "status"]]]) if len(lost) else points
    return Chart(
        name=question.name("pareto"),
        title=question.title("Throughput against memory", "samples/s and GiB"),
        alt=" ".join(filter(None, (alt, missing))),
        note=" ".join(filter(None, (note, missing))),
        data=table[list(columns)].rename(columns=columns).reset_index(drop=True),
        figure=partial(_figure, points, lost),
    )


def _figure(points: pd.DataFrame, lost: pd.DataFrame, colours: Colours = SENTINELS) -> Figure:
    from bench.report.charts.front import draw

    return draw(points, lost, colours)
