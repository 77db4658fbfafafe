"""Bar charts of throughput, by strategy and precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.analysis.answers import Answers
from bench.analysis.summary import GROUP
from bench.report.charts.chart import Chart
from bench.report.charts.measured import Measured, axis_end
from bench.report.charts.questions import Question, case_key, failure_words, launch_counts, launches_by_case
from bench.report.charts.style import SENTINELS, Colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNIT = "samples/s"


def throughput(answers: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield the charts of each question that has a throughput."""
    launches = launches_by_case(answers.launches, ["samples_per_s"])
    for question in questions:
        cases = question.cases
        if cases["samples_per_s"].isna().all():
            continue
        each = [
            [] if one not in launches else launches[one]["samples_per_s"].dropna().astype(float).to_list()
            for one in map(case_key, cases[list(GROUP)].itertuples(index=False))
        ]
        low, high = cases["samples_per_s_low"], cases["samples_per_s_high"]
        end = axis_end(cases["samples_per_s"], high, each)
        yield from map(
            _chart, Measured(question, "precision", UNIT, cases["samples_per_s"], low, high, each, end).pages()
        )


def _chart(of: Measured) -> Chart:
    question: Question = of.question
    missing = failure_words(question.cases)
    alt = f"Bar chart, from zero: throughput in {UNIT} of {len(question.cases)} cases of {question.subject}."
    note = (
        f"A bar is the median of {launch_counts(question.cases)}, a dot is one launch, a whisker is the 95\u00a0% "
        "interval of the median, by order statistics. Longer is faster."
    )
    return Chart(
        name=question.name("throughput"),
        title=question.title("Throughput", UNIT),
        alt=" ".join(filter(None, (alt, of.range_words("Fastest", "Slowest"), missing))),
        note=" ".join(filter(None, (note, of.beyond(), missing))),
        data=of.data(),
        figure=partial(_figure, of),
    )


def _figure(of: Measured, colours: Colours = SENTINELS) -> Figure:
    from bench.report.charts.bars import draw

    return draw(of, colours)
