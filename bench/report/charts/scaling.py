"""Line charts of speed-up over the number of devices, with the ideal line; both axes are logarithmic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from bench.analysis.answers import Answers
from bench.analysis.scaling import SUSPICIOUS
from bench.analysis.summary import GROUP
from bench.plan.options import AXES
from bench.report.charts.canvas import (
    KEY,
    SMALL,
    WIDTH,
    Key,
    Sheet,
    chart_settings,
    draw_segments,
    text_width,
    tick_label,
    truncate,
)
from bench.report.charts.chart import Chart
from bench.report.charts.questions import (
    DEVICES,
    Question,
    environment_words,
    launch_counts,
    one_line,
    short_name,
    slug,
    with_labels,
)
from bench.report.charts.style import LINES, MARKERS, SENTINELS, SERIES, Colours, status_colour
from bench.report.format import number

MODES = {
    "weak": "the batch of each device stays the same",
    "strong": "the global batch stays the same, and each device has less of it",
}
POINT = ["gpus", "speedup", "speedup_low", "speedup_high", "efficiency", "samples_per_s", "launches"]


@dataclass(frozen=True)
class Scaling:
    """The data of a chart.

    ``series`` has the points of each label, its base first, with columns POINT. ``missing`` has the cases without a
    speed-up, with columns ``gpus``, ``label``, ``status`` and ``refused``.
    """

    series: dict[str, pd.DataFrame]
    missing: pd.DataFrame
    devices: str


def scaling(answers: Answers, _: Sequence[Question] = ()) -> Iterator[Chart]:
    """Yield charts of each workload, environment and mode that has a speed-up, with at most SERIES lines each."""
    for (workload, letter), rows in _cases(answers).groupby(["workload", "environment"], sort=False, dropna=False):
        lost = rows[rows["mode"].isna()]
        for mode in MODES:
            own = rows[rows["mode"] == mode]
            grown = _grown(own)
            if grown.empty:
                continue
            missing = pd.concat([own[own["speedup"].isna()], lost])
            lost = lost.iloc[:0]  # Cases without a mode are listed once.
            where = environment_words(letter, answers.summary, "-")
            stem = slug("scaling", mode, str(workload), *where)
            subject = ", ".join([short_name(workload), *environment_words(letter, answers.summary)])
            lines = _series(grown, mode)
            yield from _charts(stem, f"{mode.capitalize()} scaling of {subject}", mode, grown, missing, lines)


def scaling_of_sides(answers: Mapping[str, Answers]) -> Iterator[Chart]:
    """Yield charts of each workload and mode of which both sides, by name, have a speed-up; each by its own base."""
    cases = {side: _cases(found) for side, found in answers.items()}
    workloads = dict.fromkeys(name for rows in cases.values() for name in rows["workload"].dropna())
    for workload, mode in itertools.product(workloads, MODES):
        own = {side: rows[(rows["workload"] == workload) & (rows["mode"] == mode)] for side, rows in cases.items()}
        grown = {side: _grown(rows) for side, rows in own.items()}
        if any(rows.empty for rows in grown.values()):
            continue
        lines = {f"{side} {label}": points for side, rows in grown.items() for label, points in _of_side(rows, mode)}
        title = f"{mode.capitalize()} scaling of {short_name(workload)} on both sides"
        every = pd.concat(grown.values(), ignore_index=True)
        yield from _charts(slug("scaling", mode, str(workload)), title, mode, every, every.iloc[:0], lines)


def _of_side(grown: pd.DataFrame, mode: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the lines of a side with their labels, which name the environment if it has several."""
    several = grown["environment"].nunique() > 1
    for letter, rows in grown.groupby("environment", sort=False):
        for label, points in _series(rows, mode).items():
            yield (f"{label} (environment {letter})" if several else label), points


def _cases(answers: Answers) -> pd.DataFrame:
    more = [name for name in (*AXES, "status", "reason", "ok") if name not in answers.scaling]
    return answers.scaling.merge(answers.summary[[*GROUP, *more]], on=list(GROUP), how="left")


def _grown(cases: pd.DataFrame) -> pd.DataFrame:
    return cases[cases["gpus"] > cases["base_gpus"]]


def _charts(
    stem: str, title: str, mode: str, grown: pd.DataFrame, missing: pd.DataFrame, series: dict[str, pd.DataFrame]
) -> Iterator[Chart]:
    missing = with_labels(missing, ("strategy", "gpus", "precision")) if len(missing) else missing.assign(label="")
    missing = missing.assign(status=missing["status"].where(missing["ok"] == 0, "no base"))
    lines = list(series.items())
    devices = DEVICES.get(str(grown["device"].iloc[0]), "device") + "s"
    parts = range(0, len(lines), SERIES)
    for part, start in enumerate(parts, 1):
        of = Scaling(dict(lines[start : start + SERIES]), missing if part == 1 else missing.iloc[:0], devices)
        many = len(parts) > 1
        yield Chart(
            name=f"{stem}-{part}" if many else stem,
            title=f"{title}, speed-up in times the base" + (f" ({part} of {len(parts)})" if many else ""),
            alt=_alt(of, title),
            note=_note(of, mode, grown),
            data=_data(of),
            figure=partial(_figure, of),
        )


def _series(grown: pd.DataFrame, mode: str) -> dict[str, pd.DataFrame]:
    """Return the points of each line, its base first, by a label of the axes in which the lines differ."""
    of = ["strategy", "base_case_id"]
    firsts = grown.drop_duplicates(of).assign(gpus=None)
    if mode == "strong":
        batches = firsts["global_batch"].nunique() > 1
        firsts = with_labels(firsts.assign(batch_size=None))
        firsts["label"] += firsts["global_batch"].map(" global batch {}".format) if batches else ""
    else:
        firsts = with_labels(firsts)
    names = {(row["strategy"], row["base_case_id"]): row["label"] for _, row in firsts.iterrows()}
    found = {}
    for _, rows in grown.groupby(of, sort=False):
        first = rows.iloc[0]
        base = {"gpus": first["base_gpus"], "speedup": 1.0, "efficiency": 1.0, "launches": None}
        base["samples_per_s"] = first["base_samples_per_s"]
        points = pd.DataFrame([base, *rows.sort_values("gpus")[POINT].to_dict("records")], columns=POINT)
        found[names[first["strategy"], first["base_case_id"]]] = points.astype({"gpus": "int64"})
    return found


def _alt(of: Scaling, title: str) -> str:
    ends = [
        f"{label}: {number(end['speedup'])} times the base on {end['gpus']:.0f} {of.devices} "
        f"({end['efficiency']:.0%} of ideal)"
        for label, points in of.series.items()
        for end in [points.iloc[-1]]
    ]
    lost = "; ".join(f"{row['label']} ({row['status']})" for _, row in of.missing.iterrows())
    text = f"Line chart with logarithmic axes: {title}, speed-up over {of.devices} against the ideal line. "
    return text + "; ".join(ends) + "." + (f" Without a speed-up: {lost}." if lost else "")


def _note(of: Scaling, mode: str, grown: pd.DataFrame) -> str:
    counts = launch_counts(grown.assign(ok=grown["launches"]))
    sentences = [
        f"{mode.capitalize()} scaling: {MODES[mode]}. A point is the median throughput of {counts}, divided by that of "
        "the base: the same case on the fewest devices. A whisker is the 95\u00a0% interval of the ratio. Both axes "
        "are logarithmic; on the ideal line, N times the devices are N times as fast. Percentages beside the names are "
        "efficiencies on the most devices."
    ]
    flagged = [
        f"{label} on {point['gpus']:.0f} {of.devices} ({point['efficiency']:.0%})"
        for label, points in of.series.items()
        for _, point in points[points["efficiency"] > SUSPICIOUS].iterrows()
    ]
    if flagged:
        sentences.append(f"More than ideal, which is suspicious: {'; '.join(flagged)}.")
    lost = [f"{row['label']} ({one_line(row['refused'])})" for _, row in of.missing.iterrows()]
    if lost:
        sentences.append(f"Without a speed-up: {'; '.join(lost)}.")
    return " ".join(sentences)


def _data(of: Scaling) -> pd.DataFrame:
    names: Sequence[str] = (
        *(of.devices, "speed-up, times the base", "95 % from, times", "95 % to, times", "efficiency, share of ideal"),
        *("median, samples/s", "launches ok"),
    )
    drawn = [
        points[POINT].set_axis(list(names), axis=1).assign(series=label, status="ok")
        for label, points in of.series.items()
    ]
    lost = of.missing[["gpus", "label", "status", "refused"]]
    lost = lost.set_axis([of.devices, "series", "status", "reason"], axis=1)
    found = pd.concat([*drawn, *([lost] if len(lost) else [])], ignore_index=True)
    return found[["series", *names, "status", *(["reason"] if "reason" in found else [])]]


def _figure(of: Scaling, colours: Colours = SENTINELS) -> Figure:
    return draw(of, colours)


# -- drawing --------------------------------------------------------------------------------------------------------

LONGEST_WHISKER = 2**0.4  # Factor below the lowest point; whiskers that go further down are clipped.
HEAD, PLOT, LEFT, RIGHT, FOOT, STRIP = 18.0, 280.0, 34.0, 14.0, 36.0, 14.0  # Points.
CAP = 3.0


def draw(of: Scaling, colours: Colours) -> Figure:
    """Draw a line for each series; cases without a speed-up are a × below the plot, at their number of devices."""
    # Colour, marker and dashes of each line.
    looks = [(f"series-{n + 1}", MARKERS[n], LINES[n % len(LINES)]) for n in range(len(of.series))]
    legend = [Key(_legend_text(*series), "line", colour, marker=marker, line=line)
              for series, (colour, marker, line) in zip(of.series.items(), looks, strict=True)]  # fmt: skip
    legend.append(Key("95\u00a0% interval", "whisker", "ink"))
    below = (len(of.missing) + 1) * STRIP + 4 if len(of.missing) else 0
    with chart_settings():
        sheet = Sheet(colours, HEAD + PLOT + FOOT + below, legend)
        sheet.text(0, 10, "speed-up, times the base (logarithmic)", size=SMALL)
        axes = sheet.axes(HEAD, PLOT, LEFT, RIGHT)
        points = pd.concat(of.series.values())
        _scales(axes, of, points, colours)
        for base in sorted({int(series["gpus"].iloc[0]) for series in of.series.values()}):
            _ideal(axes, base, colours)
        for n, (series, (colour, marker, line)) in enumerate(zip(of.series.values(), looks, strict=True)):
            size = 5 + 5 * (1 - n / len(of.series))  # Different sizes: points in the same place remain visible.
            axes.plot(series["gpus"], series["speedup"], line, color=colours[colour], marker=marker, markersize=size,
                      linewidth=1.6, markeredgecolor=colours["paper"], markeredgewidth=0.7, zorder=4)  # fmt: skip
            _whiskers(axes, series, colours[colour])
        _missing(sheet, axes, of.missing, colours)
        return sheet.figure


def _legend_text(label: str, points: pd.DataFrame) -> str:
    end = points.iloc[-1]
    efficiency = f" · {end['efficiency']:.0%} at {end['gpus']:.0f}"
    return truncate(label, WIDTH - KEY - text_width(efficiency, SMALL), SMALL) + efficiency


def _scales(axes: Axes, of: Scaling, points: pd.DataFrame, colours: Colours) -> None:
    devices = [int(value) for value in (*points["gpus"], *of.missing["gpus"])]
    few, many = min(devices), max(devices)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(few / 2**0.12, many * 2**0.12)
    highest = max(points["speedup"].max(), *(many / series["gpus"].iloc[0] for series in of.series.values()))
    lowest = min(1.0, points["speedup"].min())
    ends = [value for value in points["speedup_low"].dropna() if value > lowest / LONGEST_WHISKER]
    axes.set_ylim(min([lowest, *ends]) / 2**0.15, highest * 2**0.3)
    counts = sorted(set(devices))
    ticks = counts if len(counts) <= 8 else [2**n for n in range(math.ceil(math.log2(few)), int(math.log2(many)) + 1)]
    low, high = axes.get_ylim()
    steps = [2.0**n for n in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    axes.xaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
    axes.yaxis.set_major_locator(FixedLocator(steps))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    axes.minorticks_off()
    axes.grid(color=colours["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{of.devices} (logarithmic)")


def _ideal(axes: Axes, base: int, colours: Colours) -> None:
    end = axes.get_xlim()[1]
    axes.plot([base, end], [1, end / base], color=colours["muted"], linewidth=1.2, zorder=2, label="ideal")
    middle = base * (end / base) ** 0.55
    axes.annotate("ideal" if base == 1 else f"ideal from {base}", (middle, middle / base), (-6, 6), ha="right",
                  textcoords="offset points", color=colours["muted"], size=SMALL)  # fmt: skip


def _whiskers(axes: Axes, series: pd.DataFrame, colour: str) -> None:
    """Draw the whiskers of a line. A whisker that exceeds the plot ends in an arrow there."""
    low_end, high_end = axes.get_ylim()
    left, right = axes.get_xlim()
    sideways = (right / left) ** (CAP / (WIDTH - LEFT - RIGHT))
    up = (high_end / low_end) ** (2 * CAP / PLOT)
    lines = []
    for x, low, high in series[["gpus", "speedup_low", "speedup_high"]].dropna().itertuples(index=False):
        bottom, top = max(low, low_end), min(high, high_end)
        lines.append(((x, bottom), (x, top)))
        for y, inside, back in ((bottom, bottom == low, up), (top, top == high, 1 / up)):
            for side in (sideways, 1 / sideways):
                lines.append(((x, y), (x * side, y if inside else y * back)))
    draw_segments(axes, lines, colour, 1.1, zorder=3)


def _missing(sheet: Sheet, axes: Axes, missing: pd.DataFrame, colours: Colours) -> None:
    if missing.empty:
        return
    left, right = (math.log(end) for end in axes.get_xlim())
    top = HEAD + PLOT + FOOT + 10
    sheet.text(0, top, "without a speed-up, at their number of devices:", "muted", size=SMALL)
    for row, (_, case) in enumerate(missing.iterrows(), 1):
        x = LEFT + (math.log(case["gpus"]) - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        y, colour = top + row * STRIP, status_colour("skipped" if case["status"] == "no base" else case["status"])
        sheet.text(x, y, "×", colour, at="center", bold=True)
        before = x > WIDTH / 2
        words = truncate(f"{case['status']}: {case['label']}", (x if before else WIDTH - x) - 9, SMALL)
        sheet.text(x - 8 if before else x + 8, y, words, colour, at="right" if before else "left", size=SMALL)
