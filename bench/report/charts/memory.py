"""Bar charts of memory, by strategy and activation checkpointing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.summary import GROUP
from bench.analysis.tradeoff import MIB_A_GIB
from bench.report.charts.chart import Chart
from bench.report.charts.measured import Measured, axis_end
from bench.report.charts.questions import Question, case_key, failure_words, launch_counts, launches_by_case
from bench.report.charts.style import SENTINELS, Colours
from bench.store.columns import DEVICE_MEMORY, HOST_MEMORY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNIT = "GiB"
MEASURES = {
    "device_used_mib": "device memory in use after the window (CUDA context and NCCL included)",
    "peak_reserved_mib": "peak of the allocator's pool (without CUDA context and NCCL)",
    "peak_allocated_mib": "peak of allocated tensors (without the allocator's reserve, CUDA context and NCCL)",
    "peak_host_mib": "proportional set size of host memory, DataLoader workers included",
    "peak_rss_mib": "peak resident set of host memory",
}
assert set(MEASURES) == {*DEVICE_MEMORY, *HOST_MEMORY}


def memory(answers: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield the charts of each question of which the memory is known."""
    launches = launches_by_case(answers.launches, list(MEASURES))
    for question in questions:
        cases = question.cases
        if cases["memory_mib"].isna().all():
            continue
        measure = cases["memory_measure"].dropna().iloc[0]
        each = [
            [] if one not in launches else (launches[one][measure].dropna().astype(float) / MIB_A_GIB).to_list()
            for one in map(case_key, cases[list(GROUP)].itertuples(index=False))
        ]
        median, unknown = cases["memory_mib"] / MIB_A_GIB, pd.Series(float("nan"), cases.index)
        end = axis_end(median, unknown, each)
        bars = Measured(question, "activation_checkpointing", UNIT, median, unknown, unknown, each, end)
        yield from (_chart(page, MEASURES[measure]) for page in bars.pages())


def _chart(of: Measured, measure: str) -> Chart:
    question = of.question
    missing = failure_words(question.cases)
    alt = f"Bar chart, from zero: memory in {UNIT} of {len(question.cases)} cases of {question.subject}; {measure}."
    note = (
        f"The measure is the {measure}, of the rank with the most. A bar is the median of "
        f"{launch_counts(question.cases)}, a dot is one launch. Shorter is better; 1 GiB is 1024 MiB."
    )
    return Chart(
        name=question.name("memory"),
        title=question.title("Memory per GPU" if question.on_gpus else "Memory per rank", UNIT),
        alt=" ".join(filter(None, (alt, of.range_words("Largest", "Smallest"), missing))),
        note=" ".join(filter(None, (note, missing))),
        data=of.data(),
        figure=partial(_figure, of),
    )


def _figure(of: Measured, colours: Colours = SENTINELS) -> Figure:
    from bench.report.charts.bars import draw

    return draw(of, colours)
