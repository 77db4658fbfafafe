"""The charts of a report. Their data and texts are made before matplotlib draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bench.analysis.answers import Answers
from bench.report.charts.chart import Chart
from bench.report.charts.communication import communication
from bench.report.charts.heatmap import heatmap
from bench.report.charts.memory import memory
from bench.report.charts.models import models
from bench.report.charts.pareto import pareto
from bench.report.charts.parts import parts
from bench.report.charts.questions import Question, questions
from bench.report.charts.ranks import ranks
from bench.report.charts.saving import saving
from bench.report.charts.scaling import scaling
from bench.report.charts.steps import steps
from bench.report.charts.svg import svg
from bench.report.charts.throughput import throughput

__all__ = ["KINDS", "Chart", "charts", "svg"]

# The kinds of charts, in the order of a report.
KINDS: tuple[Callable[[Answers, Sequence[Question]], Iterator[Chart]], ...] = (
    *(models, throughput, memory, scaling, heatmap, parts, communication, ranks, steps, saving, pareto),
)


def charts(answers: Answers) -> list[Chart]:
    """Return every chart that has data, kind by kind, with unique names."""
    found: list[Chart] = []
    names: set[str] = set()
    asked = questions(answers)
    for chart in (chart for kind in KINDS for chart in kind(answers, asked)):
        name, number = chart.name, 1
        while name in names:
            number += 1
            name = f"{chart.name}-{number}"
        names.add(name)
        found.append(replace(chart, name=name))
    return found
