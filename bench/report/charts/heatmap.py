"""Heat maps: throughput over OMP_NUM_THREADS and DataLoader workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.colors import Colormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.answers import Answers
from bench.analysis.summary import GROUP
from bench.plan.options import AXES
from bench.report.charts.canvas import SMALL, WIDTH, Key, Sheet, chart_settings
from bench.report.charts.chart import Chart
from bench.report.charts.questions import (
    Question,
    device_words,
    environment_words,
    failure_words,
    ok_of_launches,
    short_name,
    slug,
    with_labels,
)
from bench.report.charts.style import SENTINELS, Colours, contrast, status_colour
from bench.report.format import number

TUNED = {"omp_num_threads": "OMP_NUM_THREADS", "num_workers": "workers", "prefetch_factor": "prefetch"}


def heatmap(answers: Answers, _: Sequence[Question] = ()) -> Iterator[Chart]:
    """Yield a chart for each group of cases that differ in the tuned settings only, and do the same work."""
    if answers.tuning.empty:
        return
    more = [name for name in (*AXES, "code", "ok", "failed", "launches", "reason") if name not in answers.tuning]
    cases = answers.tuning.merge(answers.summary[[*GROUP, *more]], on=list(GROUP), how="left")
    groups = [rows for _, rows in cases.groupby(["group", "work_key"], sort=False, dropna=False)]
    groups = [rows for rows in groups if rows["samples_per_s"].notna().any()]
    if not groups:
        return
    # Label a group by the axes in which the groups differ, apart from the tuned ones.
    untuned: dict[str, Any] = dict.fromkeys(TUNED)
    fixed = pd.concat([rows.iloc[:1] for rows in groups]).assign(**untuned)
    for rows, name in zip(groups, with_labels(fixed)["label"], strict=True):
        yield _chart(rows.reset_index(drop=True), name, answers.summary)


def _chart(cases: pd.DataFrame, label: str, summary: pd.DataFrame) -> Chart:
    first = cases.iloc[0]
    cases = cases.assign(label=[_words(case) for _, case in cases.iterrows()])
    where, apart = (environment_words(first["environment"], summary, between) for between in (" ", "-"))
    subject = ", ".join(
        [f"{short_name(first['workload'])}, {short_name(label)}", device_words(first["gpus"], first["device"]), *where]
    )
    missing = failure_words(cases)
    return Chart(
        name=slug("heatmap", str(first["workload"]), f"x{first['gpus']}", label, *apart),
        title=f"Throughput by OMP threads and workers of {subject}, samples/s",
        alt=" ".join(filter(None, (_alt(cases, subject), missing))),
        note=" ".join(filter(None, (_note(cases), missing))),
        data=_data(cases),
        figure=partial(_figure, cases),
    )


def _alt(cases: pd.DataFrame, subject: str) -> str:
    known = cases[cases["samples_per_s"].notna()].sort_values("samples_per_s")
    sentences = [f"Heat map of throughput in samples/s of {subject}, over OMP_NUM_THREADS and DataLoader workers."]
    for _, case in known.iterrows():
        rate = f"{case['label']} with {number(case['samples_per_s'])} samples/s"
        if case["best"]:
            sentences.append(f"Best: {rate}.")
        elif case["default"]:
            sentences.append(
                f"Default: {rate}" + ("." if pd.isna(case["loss"]) else f", {case['loss']:.1%} less than the best.")
            )
    slowest = known.iloc[0]
    return " ".join([*sentences, f"Slowest: {slowest['label']} with {number(slowest['samples_per_s'])}."])


def _words(case: pd.Series) -> str:
    """``OMP 2, 4 workers, prefetch 2``."""
    prefetch = "" if pd.isna(case["prefetch_factor"]) else f", prefetch {case['prefetch_factor']}"
    omp, workers = ("unset" if pd.isna(case[name]) else case[name] for name in ("omp_num_threads", "num_workers"))
    return f"OMP {omp}, {workers} workers{prefetch}"


def _note(cases: pd.DataFrame) -> str:
    counts = cases.loc[cases["ok"] > 0, "ok"]
    few, many = counts.min(), counts.max()
    note = (
        f"A number is the median of {few if few == many else f'{few} to {many}'} launches, in samples/s; lighter cells "
        "are faster. A thick frame marks the best case with every launch ok, a dashed frame the default; — was not run."
    )
    if cases["prefetch_factor"].nunique() > 1 and (cases["num_workers"] == 0).any():
        note += " Without workers nothing is prefetched, so that column is the same in each map."
    return note


def _data(cases: pd.DataFrame) -> pd.DataFrame:
    marks = ["; ".join(word for word in ("best", "default") if case[word]) for _, case in cases.iterrows()]
    names = {**TUNED, "status": "status", "samples_per_s": "median, samples/s", "loss": "loss to the best, share"}
    found = cases[list(names)].rename(columns=names)
    return found.assign(launches=[ok_of_launches(case) or f"{case['ok']}" for _, case in cases.iterrows()], mark=marks)


def _figure(cases: pd.DataFrame, colours: Colours = SENTINELS) -> Figure:
    return draw(cases, colours)


# -- drawing --------------------------------------------------------------------------------------------------------

CELL, HEAD, LEFT, GAP, WIDEST = 30.0, 46.0, 62.0, 14.0, 62.0  # Points.
ACROSS = 6  # Columns of a map.
DARK, LIGHT = "#000000", "#ffffff"  # Text on a cell. Cells have the same colours in both themes.


@dataclass(frozen=True)
class Part:
    """One of the maps: its cases, and the number of workers of each column."""

    title: str
    cases: pd.DataFrame
    workers: list[int | None]


def draw(cases: pd.DataFrame, colours: Colours) -> Figure:
    """Draw all maps of a group, with the same colour scale."""
    parts = list(_parts(cases))
    threads = _values(cases["omp_num_threads"])
    height = len(parts) * (HEAD + CELL * len(threads) + GAP)
    rates = cases["samples_per_s"].dropna()
    scale, colour_map = Normalize(rates.min(), rates.max()), matplotlib.colormaps["cividis"]
    legend = [Key("best", "frame", "ink"), Key("default", "frame", "ink", line="--")]
    with chart_settings():
        sheet = Sheet(colours, height, legend)
        for place, part in enumerate(parts):
            top = place * (HEAD + CELL * len(threads) + GAP)
            _map(sheet, part, threads, top, scale, colour_map)
        return sheet.figure


def _parts(cases: pd.DataFrame) -> Iterator[Part]:
    factors = _values(cases["prefetch_factor"].dropna()) or [None]
    for factor in factors:
        idle = cases["prefetch_factor"].isna()
        own = cases[idle] if factor is None else cases[idle | (cases["prefetch_factor"] == factor)]
        workers = _values(own["num_workers"])
        for start in range(0, len(workers), ACROSS):
            words = "" if factor is None else f"prefetch factor {factor}"
            yield Part(words, own, workers[start : start + ACROSS])


def _values(column: pd.Series) -> list[int | None]:
    """Return the values of a column in ascending order, after None if any value is unset."""
    known = sorted(int(value) for value in column.dropna().unique())
    return [*([None] if column.isna().any() else []), *known]


def _map(
    sheet: Sheet, part: Part, threads: list[int | None], top: float, scale: Normalize, colour_map: Colormap
) -> None:
    wide = min(WIDEST, (WIDTH - LEFT - 2) / len(part.workers))
    sheet.text(0, top + 12, part.title, bold=True)
    sheet.text(LEFT + wide * len(part.workers) / 2, top + 28, "DataLoader workers", size=SMALL, at="center")
    sheet.text(0, top + 42, "OMP threads", size=SMALL)
    for column, workers in enumerate(part.workers):
        sheet.text(LEFT + wide * (column + 0.5), top + 42, _name(workers), "muted", at="center", size=SMALL)
    for row, omp in enumerate(threads):
        y = top + HEAD + CELL * row
        sheet.text(LEFT - 8, y + CELL / 2 + 3.5, _name(omp), "muted", at="right", size=SMALL)
        for column, workers in enumerate(part.workers):
            found = part.cases[
                _equals(part.cases["omp_num_threads"], omp) & _equals(part.cases["num_workers"], workers)
            ]
            place = (LEFT + wide * column + 2, sheet.top + y + 2, wide - 4, CELL - 4)
            if found.empty:
                sheet.text(place[0] + place[2] / 2, y + CELL / 2 + 3.5, "—", "muted", at="center")
            else:
                _cell(sheet, place, found.iloc[0], scale, colour_map)


def _cell(
    sheet: Sheet, place: tuple[float, float, float, float], case: pd.Series, scale: Normalize, colour_map: Colormap
) -> None:
    left, top, width, height = place
    middle: dict[str, Any] = {"ha": "center", "va": "baseline", "x": left + width / 2}
    rate, status = case["samples_per_s"], str(case["status"])
    fill = to_hex(colour_map(scale(rate))) if rate == rate else "none"
    edge = sheet.colours["faint"] if fill == "none" else "none"
    sheet.page.add_patch(Rectangle((left, top), width, height, facecolor=fill, edgecolor=edge, linewidth=0.8))
    if fill == "none":
        ink = sheet.colours[status_colour(status)]
        sheet.page.text(y=top + height / 2 + 3.5, s=status, color=ink, size=SMALL, weight="bold", **middle)
    else:
        ink = DARK if contrast(DARK, fill) > contrast(LIGHT, fill) else LIGHT
        some = f"{case['ok']} of {case['launches']} ok" if case["ok"] < case["launches"] else ""
        sheet.page.text(y=top + height / 2 + (-1 if some else 3.5), s=number(rate), color=ink, weight="bold", **middle)
        if some:
            sheet.page.text(y=top + height - 3.5, s=some, color=ink, size=SMALL, **middle)
    if case["best"]:
        around = Rectangle((left - 1, top - 1), width + 2, height + 2, fill=False)
        sheet.page.add_patch(around)
        around.set(edgecolor=sheet.colours["ink"], linewidth=2.6)
    if case["default"]:
        inside = Rectangle((left + 2.5, top + 2.5), width - 5, height - 5, fill=False)
        sheet.page.add_patch(inside)
        inside.set(edgecolor=ink, linewidth=1.2, linestyle=(0, (3, 2)))


def _equals(column: pd.Series, value: int | None) -> pd.Series:
    return column.isna() if value is None else (column == value).fillna(False).astype(bool)


def _name(value: int | None) -> str:
    return "unset" if value is None else str(value)
