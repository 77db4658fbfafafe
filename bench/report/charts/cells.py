"""A heat map for each prefetch factor, one below another: threads down, workers across."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.colors import Colormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.report.charts.canvas import SMALL, WIDTH, Key, Sheet, drawing
from bench.report.charts.style import Colours, contrast, status_colour
from bench.report.words import number

CELL, HEAD, LEFT, GAP, WIDEST = 30.0, 46.0, 62.0, 14.0, 62.0  # points
ACROSS = 6  # columns for which there is room
DARK, LIGHT = "#000000", "#ffffff"  # text on a cell, whose colour is the same in both themes


@dataclass(frozen=True)
class Part:
    """One of the maps: its cases, and the workers of its columns."""

    title: str
    cases: pd.DataFrame
    workers: list[int | None]


def draw(cases: pd.DataFrame, colours: Colours) -> Figure:
    """All maps of a group, in one scale of colours."""
    parts = list(_parts(cases))
    threads = _values(cases["omp_num_threads"])
    height = len(parts) * (HEAD + CELL * len(threads) + GAP)
    rates = cases["samples_per_s"].dropna()
    scale, colour_map = Normalize(rates.min(), rates.max()), matplotlib.colormaps["cividis"]
    legend = [Key("best", "frame", "ink"), Key("default", "frame", "ink", line="--")]
    with drawing():
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
    """By size; what is unset comes first, as None."""
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
            found = part.cases[_is(part.cases["omp_num_threads"], omp) & _is(part.cases["num_workers"], workers)]
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
        some = f"{case['ok']} of {case['launches']}" if case["ok"] < case["launches"] else ""
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


def _is(column: pd.Series, value: int | None) -> pd.Series:
    return column.isna() if value is None else (column == value).fillna(False).astype(bool)


def _name(value: int | None) -> str:
    return "unset" if value is None else str(value)
