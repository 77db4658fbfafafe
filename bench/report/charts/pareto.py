"""Scatter charts of throughput against memory, with the Pareto front: cases that no other case beats in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.analysis.answers import Answers
from bench.analysis.summary import GROUP
from bench.analysis.tradeoff import MIB_A_GIB
from bench.report.charts.canvas import SMALL, WIDTH, Key, Sheet, chart_settings, text_width, tick_label, truncate
from bench.report.charts.chart import Chart
from bench.report.charts.memory import MEASURES
from bench.report.charts.questions import Question, case_key, failure_words, launch_counts
from bench.report.charts.style import SENTINELS, Colours, status_colour
from bench.report.format import number

SAME_MEMORY = 0.01  # As a share of the largest memory. If all cases need the same memory, there is no chart.


def pareto(answers: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield the chart of each question with cases of different memory; the fastest points of the front come first."""
    chosen = {
        case_key(of): (row["on_front"], row["choice"])
        for of, (_, row) in zip(
            answers.tradeoff[list(GROUP)].itertuples(index=False), answers.tradeoff.iterrows(), strict=True
        )
    }
    for question in questions:
        cases = question.cases
        memory = cases["memory_mib"].dropna()
        if len(memory) < 2 or memory.max() - memory.min() < SAME_MEMORY * memory.max():
            continue
        found = [chosen.get(one, (False, None)) for one in map(case_key, cases[list(GROUP)].itertuples(index=False))]
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
    missing = failure_words(question.cases)
    alt = (
        f"Scatter chart, both axes from zero: throughput in samples/s against memory in GiB of {len(points)} cases of "
        f"{question.subject}. On the Pareto front, the fastest first: {'; '.join(names)}."
    )
    note = (
        f"A point is a case: further right it needs more memory ({MEASURES[measure]}, of the rank with the most), "
        f"further up it is faster; medians of {launch_counts(question.cases)}. No other case beats the cases on the "
        "line in both; only cases with every launch ok are on it."
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
    return draw(points, lost, colours)


# -- drawing --------------------------------------------------------------------------------------------------------

HEAD, PLOT, LEFT, RIGHT, FOOT, LIST = 18.0, 250.0, 46.0, 14.0, 38.0, 15.0  # Points.
NUMBERED = 20  # If there are more points, only those on the front have a number.
ROOM = 1.1  # End of both axes, in times the largest value.
# Places of a number beside its point, the best first: to the right and up, in points.
PLACES = [(6, 4), (-6, 4), (6, -11), (-6, -11), (0, 8), (0, -15), (12, 12), (-12, 12), (12, -19), (-12, -19)]
Box = tuple[float, float, float, float]


def draw(points: pd.DataFrame, lost: pd.DataFrame, colours: Colours) -> Figure:
    """Draw ``points``, in the order of their ``number``; list ``lost``, the cases without throughput or memory."""
    named = points if len(points) <= NUMBERED else points[points["on_front"]]
    legend = [Key("Pareto front", "line", "series-1", marker="o"),
              Key("beaten in one or both", "line", "muted", marker=".", line="")]  # fmt: skip
    with chart_settings():
        sheet = Sheet(
            colours, HEAD + PLOT + FOOT + LIST * (len(named) + len(lost) + (len(named) < len(points))), legend
        )
        sheet.text(0, 10, "samples/s", size=SMALL)
        axes = sheet.axes(HEAD, PLOT, LEFT, RIGHT)
        axes.set(
            xlim=(0, ROOM * points["gib"].max()), ylim=(0, ROOM * points["samples_per_s"].max()), xlabel="memory, GiB"
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
        axes.grid(color=colours["grid"], linewidth=0.8)
        axes.set_axisbelow(True)
        _points(axes, points, colours)
        for row, x, y in _number_places(axes, points, named):
            axes.annotate(str(row["number"]), (row["gib"], row["samples_per_s"]), (x, y), textcoords="offset points",
                          ha="center", size=SMALL, weight="bold" if row["on_front"] else "normal",
                          color=colours["ink" if row["on_front"] else "muted"])  # fmt: skip
        _names(sheet, named, lost, len(points) - len(named))
        return sheet.figure


def _points(axes: Axes, points: pd.DataFrame, colours: Colours) -> None:
    others, front = points[~points["on_front"]], points[points["on_front"]].sort_values("gib")
    axes.plot(others["gib"], others["samples_per_s"], linestyle="none", marker="o", markersize=5.5, markeredgewidth=1.2,
              markerfacecolor=colours["paper"], markeredgecolor=colours["muted"], zorder=3)  # fmt: skip
    if len(front):
        x, y = [*front["gib"], axes.get_xlim()[1]], [*front["samples_per_s"], front["samples_per_s"].iloc[-1]]
        axes.plot(x, y, drawstyle="steps-post", color=colours["series-1"], linewidth=1.6, zorder=4)
        axes.plot(x[:-1], y[:-1], linestyle="none", marker="o", markersize=7, color=colours["series-1"], zorder=5)


def _number_places(axes: Axes, points: pd.DataFrame, named: pd.DataFrame) -> Iterator[tuple[pd.Series, float, float]]:
    """Yield each case and the place of its number, in points from it, which overlaps no point and no other number."""
    across, up = (WIDTH - LEFT - RIGHT) / axes.get_xlim()[1], PLOT / axes.get_ylim()[1]
    taken: list[Box] = [
        (x * across - 4, y * up - 4, x * across + 4, y * up + 4) for x, y in points[["gib", "samples_per_s"]].to_numpy()
    ]
    for _, row in named.iterrows():
        half = text_width(str(row["number"]), SMALL, True) / 2
        x, y = row["gib"] * across, row["samples_per_s"] * up
        spots = [(dx + half * ((dx > 0) - (dx < 0)), dy) for dx, dy in PLACES]
        boxes = [(x + dx - half, y + dy - 1, x + dx + half, y + dy + 8) for dx, dy in spots]
        free = [n for n, box in enumerate(boxes) if not any(_overlap(box, other) for other in taken)]
        best = free[0] if free else 0
        taken.append(boxes[best])
        yield row, *spots[best]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _names(sheet: Sheet, named: pd.DataFrame, lost: pd.DataFrame, others: int) -> None:
    y = HEAD + PLOT + FOOT + 8
    for _, row in named.iterrows():
        ink = "ink" if row["on_front"] else "muted"
        value = f"{number(row['samples_per_s'])} in {number(row['gib'])} GiB"
        sheet.text(14, y, str(row["number"]), ink, "right", SMALL, bold=bool(row["on_front"]))
        words = f"{row['label']}" + (f" · {row['choice']}" if row["choice"] else "")
        sheet.text(20, y, truncate(words, WIDTH - 32 - text_width(value, SMALL), SMALL), ink, size=SMALL)
        sheet.text(WIDTH - 2, y, value, ink, "right", SMALL)
        y += LIST
    if others:
        sheet.text(20, y, f"and {others} cases that are beaten (see the data)", "muted", size=SMALL)
        y += LIST
    for _, case in lost.iterrows():
        status = str(case["status"]) if not case["ok"] else "unknown memory"
        sheet.text(14, y, "×", status_colour(status), "right", bold=True)
        sheet.text(20, y, truncate(f"{status}: {case['label']}", WIDTH - 22, SMALL), status_colour(status), size=SMALL)
        y += LIST
