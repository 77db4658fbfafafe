"""Dot charts of throughput: the cases of all workloads on the same number of devices, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench.analysis.answers import Answers
from bench.report.charts.chart import Chart
from bench.report.charts.questions import (
    Question,
    device_words,
    environment_words,
    launch_counts,
    short_name,
    slug,
    with_labels,
)
from bench.report.charts.style import SENTINELS, Colours
from bench.report.format import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNIT = "samples/s"
ROOM = 1.3  # Factor by which the axis extends beyond the slowest and the fastest case.


@dataclass(frozen=True)
class Model:
    """A workload: the medians of all its cases, and the row of its fastest case, with ``label``."""

    name: str
    medians: Sequence[float]
    fastest: pd.Series


def models(answers: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield a chart for each kind and number of devices on which at least two workloads have a throughput."""
    several = answers.summary["environment"].nunique() > 1
    for (letter, device, count), cases in answers.summary.groupby(["environment", "device", "gpus"], sort=False):
        measured = cases[cases["samples_per_s"] > 0]
        found = [_model(str(name), rows) for name, rows in measured.groupby("workload", sort=False)]
        if len(found) > 1:
            where = environment_words(letter, answers.summary) if several else []
            yield _chart(found, ", ".join([device_words(count, device), *where]), slug("models", f"x{count}", *where))


def _model(name: str, cases: pd.DataFrame) -> Model:
    cases = with_labels(cases, ("strategy", "precision"))
    medians = cases["samples_per_s"].astype(float)
    return Model(short_name(name), medians.to_list(), cases.iloc[int(medians.to_numpy().argmax())])


def _chart(found: Sequence[Model], where: str, name: str) -> Chart:
    title = f"Throughput of each workload on {where}, {UNIT}"
    each = "; ".join(f"{model.name} {number(max(model.medians))} ({model.fastest['label']})" for model in found)
    counts = launch_counts(pd.DataFrame([model.fastest for model in found]))
    note = (
        f"A dot is the median of {counts} of a case; the diamond is the workload's fastest case, with its 95\u00a0% "
        "interval. The axis is logarithmic. Samples of different workloads are different amounts of work."
    )
    return Chart(
        name=name,
        title=title,
        alt=f"Dot chart with a logarithmic axis: {title}. The fastest case of each: {each}.",
        note=note,
        data=_data(found),
        figure=partial(_figure, found),
    )


def _data(found: Sequence[Model]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "workload": [model.name for model in found],
            "cases": [len(model.medians) for model in found],
            "fastest case": [model.fastest["label"] for model in found],
            f"median, {UNIT}": [max(model.medians) for model in found],
            f"95 % from, {UNIT}": [model.fastest["samples_per_s_low"] for model in found],
            f"95 % to, {UNIT}": [model.fastest["samples_per_s_high"] for model in found],
            f"slowest case, {UNIT}": [min(model.medians) for model in found],
        }
    )


def _figure(found: Sequence[Model], colours: Colours = SENTINELS) -> Figure:
    return draw(found, colours)


# -- drawing --------------------------------------------------------------------------------------------------------


def draw(found: Sequence[Model], colours: Colours) -> Figure:
    """Draw a row for each workload, with a dot for each of its cases."""
    from bench.report.charts.canvas import Key, chart_settings, dot_style
    from bench.report.charts.rows import Line, draw_rows, draw_whiskers

    limits = _limits(found)
    legend = [
        Key("fastest case", "line", "series-1", marker="D", line=""),
        Key("another case", "line", "ink", marker=".", line=""),
        Key("95\u00a0% interval", "whisker", "ink"),
    ]
    lines = [
        Line(f"{model.name}: {model.fastest['label']}", number(max(model.medians)), apart=False) for model in found
    ]
    with chart_settings():
        drawn = draw_rows(colours, lines, legend, limits, f"{UNIT} (logarithmic)", ticks=ticks(*limits))
        ys = [y for (y,) in drawn.lanes]
        bounds = [(model.fastest["samples_per_s_low"], model.fastest["samples_per_s_high"]) for model in found]
        whiskers = [(float(low), float(high), y) for (low, high), y in zip(bounds, ys, strict=True) if low == low]
        draw_whiskers(drawn, whiskers, limits, colours["ink"], colours["paper"])
        others = [(rate, y) for model, y in zip(found, ys, strict=True) for rate in model.medians]
        drawn.axes.plot([x for x, _ in others], [y for _, y in others], linestyle="none", zorder=4,
                        **dot_style(colours, colours["ink"]))  # fmt: skip
        drawn.axes.plot([max(model.medians) for model in found], ys, linestyle="none", marker="D", markersize=6,
                        color=colours["series-1"], markeredgewidth=0, zorder=5)  # fmt: skip
        return drawn.sheet.figure


def _limits(found: Sequence[Model]) -> tuple[float, float]:
    lows = [*(min(model.medians) for model in found), *(model.fastest["samples_per_s_low"] for model in found)]
    highs = [*(max(model.medians) for model in found), *(model.fastest["samples_per_s_high"] for model in found)]
    low, high = min(x for x in lows if x > 0), max(x for x in highs if x == x)
    return low / ROOM, high * ROOM


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers between the limits of a logarithmic axis: fewer in each decade, the more decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if math.log10(high / low) < 2 else (1, 3) if math.log10(high / low) < 4 else (1,)
    return [digit * 10.0**power for power in decades for digit in digits if low <= digit * 10.0**power <= high]
