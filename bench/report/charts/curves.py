"""Speed-up over devices, drawn: log-log, the ideal line, and below it what has no speed-up."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from bench.report.charts.canvas import KEY, SMALL, WIDTH, Key, Sheet, cut, drawing, plain, segments, text_width
from bench.report.charts.scaling import Scaling
from bench.report.charts.style import LINES, MARKERS, Colours, status_colour

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
