"""Does it scale? Speed-up over the number of devices against the ideal line, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
from bench.report.charts.canvas import KEY, SMALL, WIDTH, Key, Sheet, cut, drawing, plain, segments, text_width
from bench.report.charts.chart import Chart
from bench.report.charts.questions import (
    DEVICES,
    Question,
    environment,
    labelled,
    launches_of,
    name_of,
    printable,
    slug,
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
    """``series``: the points of each label, its base first, columns POINT. ``missing``: what has no speed-up, with
    ``gpus``, ``label``, ``status`` and ``refused``."""

    series: dict[str, pd.DataFrame]
    missing: pd.DataFrame
    devices: str


def scaling(answers: Answers, _: Sequence[Question] = ()) -> Iterator[Chart]:
    """For each workload, environment and mode with a speed-up, SERIES lines a chart at most."""
    more = [name for name in (*AXES, "status", "reason", "ok") if name not in answers.scaling]
    cases = answers.scaling.merge(answers.summary[[*GROUP, *more]], on=list(GROUP), how="left")
    for (workload, letter), rows in cases.groupby(["workload", "environment"], sort=False, dropna=False):
        lost = rows[rows["mode"].isna()]
        for mode in MODES:
            own = rows[rows["mode"] == mode]
            grown = own[own["gpus"] > own["base_gpus"]]
            if grown.empty:
                continue
            missing = pd.concat([own[own["speedup"].isna()], lost])
            lost = lost.iloc[:0]  # of no mode: said once
            where = environment(letter, answers.summary, "-")
            stem = slug("scaling", mode, str(workload), *where)
            subject = ", ".join([name_of(workload), *environment(letter, answers.summary)])
            yield from _charts(stem, f"{mode.capitalize()} scaling of {subject}", mode, grown, missing)


def _charts(stem: str, title: str, mode: str, grown: pd.DataFrame, missing: pd.DataFrame) -> Iterator[Chart]:
    missing = labelled(missing, ("strategy", "gpus", "precision")) if len(missing) else missing.assign(label="")
    missing = missing.assign(status=missing["status"].where(missing["ok"] == 0, "no base"))
    lines = list(_series(grown, mode).items())
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
    """Each with its base before it, under the words in which the lines differ."""
    of = ["strategy", "base_case_id"]
    firsts = grown.drop_duplicates(of).assign(gpus=None)
    if mode == "strong":
        batches = firsts["global_batch"].nunique() > 1
        firsts = labelled(firsts.assign(batch_size=None))
        firsts["label"] += firsts["global_batch"].map(" global batch {}".format) if batches else ""
    else:
        firsts = labelled(firsts)
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
    said = f"Line chart with logarithmic axes: {title}, speed-up over {of.devices} against the ideal line. "
    return said + "; ".join(ends) + "." + (f" Without a speed-up: {lost}." if lost else "")


def _note(of: Scaling, mode: str, grown: pd.DataFrame) -> str:
    counts = launches_of(grown.assign(ok=grown["launches"]))
    said = [
        f"{mode.capitalize()}: {MODES[mode]}. A point is the median throughput of {counts} over the base's, the case "
        "of fewest devices that is equal but for them; a whisker the 95\u00a0% interval of the ratio. Both axes are "
        "logarithmic; on the ideal line N times the devices are N times as fast. Percentages beside the names are of "
        "the ideal, at the most devices."
    ]
    flagged = [
        f"{label} on {point['gpus']:.0f} {of.devices} ({point['efficiency']:.0%})"
        for label, points in of.series.items()
        for _, point in points[points["efficiency"] > SUSPICIOUS].iterrows()
    ]
    if flagged:
        said.append(f"More than ideal, which is suspicious: {'; '.join(flagged)}.")
    lost = [f"{row['label']} ({printable(row['refused'])})" for _, row in of.missing.iterrows()]
    if lost:
        said.append(f"Without a speed-up: {'; '.join(lost)}.")
    return " ".join(said)


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


# -- how it is drawn ------------------------------------------------------------------------------------------------

FIT = 2**0.4  # of the highest point: whiskers up to here are drawn in full
HEAD, PLOT, LEFT, RIGHT, FOOT, STRIP = 18.0, 280.0, 34.0, 14.0, 36.0, 14.0  # points
CAP = 3.0


def draw(of: Scaling, colours: Colours) -> Figure:
    """One line a series; what has no speed-up is a × at its number of devices, below the plot."""
    looks = [
        (f"series-{n + 1}", MARKERS[n], LINES[n % len(LINES)]) for n in range(len(of.series))
    ]  # colour, marker and dashes
    legend = [Key(_words(*series), "line", colour, marker=marker, line=line)
              for series, (colour, marker, line) in zip(of.series.items(), looks, strict=True)]  # fmt: skip
    legend.append(Key("95\u00a0% interval", "whisker", "ink"))
    below = (len(of.missing) + 1) * STRIP + 4 if len(of.missing) else 0
    with drawing():
        sheet = Sheet(colours, HEAD + PLOT + FOOT + below, legend)
        sheet.text(0, 10, "speed-up, times the base (logarithmic)", size=SMALL)
        axes = sheet.axes(HEAD, PLOT, LEFT, RIGHT)
        points = pd.concat(of.series.values())
        _scales(axes, of, points, colours)
        for base in sorted({int(series["gpus"].iloc[0]) for series in of.series.values()}):
            _ideal(axes, base, colours)
        for n, (series, (colour, marker, line)) in enumerate(zip(of.series.values(), looks, strict=True)):
            size = 5 + 5 * (1 - n / len(of.series))  # so that points on one another are all seen
            axes.plot(series["gpus"], series["speedup"], line, color=colours[colour], marker=marker, markersize=size,
                      linewidth=1.6, markeredgecolor=colours["paper"], markeredgewidth=0.7, zorder=4)  # fmt: skip
            _whiskers(axes, series, colours[colour])
        _missing(sheet, axes, of.missing, colours)
        return sheet.figure


def _words(label: str, points: pd.DataFrame) -> str:
    end = points.iloc[-1]
    efficiency = f" · {end['efficiency']:.0%} at {end['gpus']:.0f}"
    return cut(label, WIDTH - KEY - text_width(efficiency, SMALL), SMALL) + efficiency


def _scales(axes: Axes, of: Scaling, points: pd.DataFrame, colours: Colours) -> None:
    devices = [int(value) for value in (*points["gpus"], *of.missing["gpus"])]
    few, many = min(devices), max(devices)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(few / 2**0.12, many * 2**0.12)
    highest = max(points["speedup"].max(), *(many / series["gpus"].iloc[0] for series in of.series.values()))
    lowest = min(1.0, points["speedup"].min())
    ends = [value for value in points["speedup_low"].dropna() if value > lowest / FIT]
    axes.set_ylim(min([lowest, *ends]) / 2**0.15, highest * 2**0.3)
    counts = sorted(set(devices))
    ticks = counts if len(counts) <= 8 else [2**n for n in range(math.ceil(math.log2(few)), int(math.log2(many)) + 1)]
    low, high = axes.get_ylim()
    steps = [2.0**n for n in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    axes.xaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
    axes.yaxis.set_major_locator(FixedLocator(steps))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
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
    """One that goes on beyond the plot ends in an arrow there."""
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
    segments(axes, lines, colour, 1.1, zorder=3)


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
        words = cut(f"{case['status']}: {case['label']}", (x if before else WIDTH - x) - 9, SMALL)
        sheet.text(x - 8 if before else x + 8, y, words, colour, at="right" if before else "left", size=SMALL)
