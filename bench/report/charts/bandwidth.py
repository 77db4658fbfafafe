"""Line charts of bus bandwidth over size, a line for each collective; both axes are logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from bench.analysis.comms import CommsAnswers
from bench.plan.comms import size_text
from bench.report.charts.canvas import SMALL, Key, Sheet, chart_settings, tick_label
from bench.report.charts.chart import Chart
from bench.report.charts.questions import slug
from bench.report.charts.style import LINES, MARKERS, SENTINELS, SERIES, Colours
from bench.report.format import number

SUBJECT = ("environment", "device", "backend", "gpus", "nproc_per_node", "omp_num_threads", "env", "group", "dtype")
Lines = dict[str, pd.DataFrame]


def bandwidth(answers: CommsAnswers) -> list[Chart]:
    """Return the charts, each with at most SERIES lines; sizes that were not measured have no point."""
    ok = answers.sizes[(answers.sizes["ok"] > 0) & answers.sizes["size_bytes"].notna()]
    varying = [name for name in SUBJECT if ok[name].nunique(dropna=False) > 1]
    found: list[Chart] = []
    for key, rows in ok.groupby(list(SUBJECT), sort=False, dropna=False):
        of = {name: str(value) for name, value in zip(SUBJECT, key, strict=True)}
        where = [of[name] for name in varying if name not in ("group", "dtype", "gpus") and of[name]]
        title = f"Bus bandwidth over {of['gpus']} ranks ({', '.join([of['group'], of['dtype'], *where])}), GB/s"
        stem = slug("bandwidth", of["group"], of["dtype"], of["gpus"], *where)
        found += _charts(stem, title, rows)
    return found


def _charts(stem: str, title: str, rows: pd.DataFrame) -> Iterator[Chart]:
    several = rows["group_ranks"].nunique() > 1
    lines = {
        f"{collective} {ranks}" if several else str(collective): of
        for (collective, ranks), of in rows.groupby(["collective", "group_ranks"], sort=False)
    }
    names = list(lines)
    for start in range(0, len(names), SERIES):
        own = {name: lines[name] for name in names[start : start + SERIES]}
        many = len(names) > SERIES
        yield Chart(
            name=f"{stem}-{start // SERIES + 1}" if many else stem,
            title=title,
            alt=f"Line chart with logarithmic axes: {title}, by size. " + "; ".join(map(_end, own, own.values())) + ".",
            note="A point is the median over launches of the median iteration, which counts with its slowest rank. A "
            "whisker is the 95\u00a0% interval of the launches. Both axes are logarithmic. Bus bandwidth is what "
            "nccl-tests define: it can be compared with the bandwidth of the link, however many ranks there are.",
            data=_data(own),
            figure=partial(_figure, own),
        )


def _end(name: str, points: pd.DataFrame) -> str:
    last = points.sort_values("size_bytes").iloc[-1]
    return f"{name}: {number(last['busbw_gb_per_s'])} GB/s at {size_text(int(last['size_bytes']))}"


def _data(lines: Lines) -> pd.DataFrame:
    names = {"size_bytes": "size, bytes", "time_us": "time, µs", "time_us_low": "95 % from, µs"}
    names |= {"time_us_high": "95 % to, µs", "busbw_gb_per_s": "bus bandwidth, GB/s", "ok": "launches ok"}
    drawn = [points[list(names)].rename(columns=names).assign(series=name) for name, points in lines.items()]
    return pd.concat(drawn, ignore_index=True)[["series", *names.values()]]


# -- drawing -------------------------------------------------------------------------------------------------------

HEAD, PLOT, LEFT, RIGHT, FOOT = 18.0, 260.0, 42.0, 14.0, 36.0  # Points.
MOST_TICKS = 7


def _figure(lines: Lines, colours: Colours = SENTINELS) -> Figure:
    looks = [(f"series-{n + 1}", MARKERS[n], LINES[n % len(LINES)]) for n in range(len(lines))]
    legend = [
        Key(name, "line", colour, marker=marker, line=line)
        for name, (colour, marker, line) in zip(lines, looks, strict=True)
    ]
    with chart_settings():
        sheet = Sheet(colours, HEAD + PLOT + FOOT, [*legend, Key("95\u00a0% interval", "whisker", "ink")])
        sheet.text(0, 10, "bus bandwidth, GB/s (logarithmic)", size=SMALL)
        axes = sheet.axes(HEAD, PLOT, LEFT, RIGHT)
        _scales(axes, pd.concat(lines.values()), colours)
        for points, (colour, marker, line) in zip(lines.values(), looks, strict=True):
            _line(axes, points.sort_values("size_bytes"), colours, colours[colour], marker, line)
        return sheet.figure


def _line(axes: Axes, points: pd.DataFrame, colours: Colours, colour: str, marker: str, line: str) -> None:
    x, y = points["size_bytes"].astype("float64"), points["busbw_gb_per_s"].astype("float64")
    axes.plot(x, y, line, color=colour, marker=marker, markersize=5, linewidth=1.6, markeredgecolor=colours["paper"],
              markeredgewidth=0.7, zorder=4)  # fmt: skip
    time = points["time_us"].astype("float64")
    low, high = (y * time / points[name].astype("float64") for name in ("time_us_high", "time_us_low"))
    axes.vlines(x, low.fillna(y), high.fillna(y), color=colour, linewidth=1.1, zorder=3)


def _scales(axes: Axes, points: pd.DataFrame, colours: Colours) -> None:
    sizes, rates = points["size_bytes"].astype("float64"), points["busbw_gb_per_s"].astype("float64")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=10)
    axes.set_xlim(sizes.min() / 2**0.4, sizes.max() * 2**0.4)
    axes.set_ylim(rates.min() / 1.6, rates.max() * 1.6)
    first, last = math.ceil(math.log2(sizes.min())), math.floor(math.log2(sizes.max()))
    step = max(1, -(-(last - first) // MOST_TICKS))
    axes.xaxis.set_major_locator(FixedLocator([2.0**n for n in range(first, last + 1, step)] or [sizes.min()]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size_text(round(value))))
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(FixedLocator(_steps(low, high)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    axes.minorticks_off()
    axes.grid(color=colours["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("size of the message, bytes (logarithmic)")


def _steps(low: float, high: float) -> Sequence[float]:
    """Return 1, 2, 5, 10 … between two bounds, or powers of ten if they are far apart."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 3 else (1,)
    return [one for power in powers for factor in factors if low <= (one := factor * 10.0**power) <= high]
