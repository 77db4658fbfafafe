"""The report as one self-contained HTML page: it needs no network and no other file."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.report.charts.chart import Chart
from bench.report.charts.parallel import svgs
from bench.report.charts.style import css_variables, status_colour
from bench.report.format import UNKNOWN, number
from bench.report.tables import Column, Table
from bench.store.columns import STATUSES

# CSS class of a column -> it has a text with more characters than this. The style sheet wraps these columns.
WIDTHS = {"longest": 96, "longer": 40, "long": 24}
# Each section: its name and anchor, its title if it has no table, and the kinds of its charts (names begin with them).
# Other tables and charts go into OTHERS.
OTHERS = "others"
Sections = tuple[tuple[str, str, tuple[str, ...]], ...]
SECTIONS: Sections = (
    ("environments", "Machine and software", ()),
    ("summary", "Cases", ("models", "throughput", "memory")),
    ("scaling", "Scaling", ("scaling",)),
    ("collectives", "Collectives", ("bandwidth",)),
    ("sizes", "Collectives by size", ()),
    ("tradeoff", "Speed against memory", ("pareto",)),
    ("tuning", "Threads and workers", ("tuning", "heatmap")),
    ("timeline", "Parts of a step, and steps", ("parts", "communication", "steps")),
    (OTHERS, "More charts", ()),
    ("failures", "Failures", ()),
    ("commands", "Commands", ()),
)


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    ``kind`` is a CSS class. ``key`` is the sort key if it is not the text; it is empty if the value is unknown.
    """

    text: str
    kind: str = ""
    key: str | None = None


@dataclass(frozen=True)
class Sentence:
    """A sentence of the headline. ``subject`` is its beginning up to a colon, or empty; it is printed in bold."""

    subject: str
    rest: str


@dataclass(frozen=True)
class Grid:
    """A table for the template: columns as (title, CSS class), and rows of cells."""

    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Picture:
    """A chart for the template, with its data as a table."""

    chart: Chart
    svg: Markup
    data: Grid


@dataclass(frozen=True)
class Section:
    """The content of one section of the page; pictures are grouped by kind."""

    name: str
    title: str
    note: str
    pictures: Sequence[Sequence[Picture]]
    grid: Grid | None


def page(
    title: str,
    about: Sequence[str],
    sentences: Sequence[str],
    tables: Sequence[Table],
    charts: Sequence[Chart],
    sections: Sections = SECTIONS,
) -> str:
    """Return the whole page.

    ``about`` are lines in small print below the title (version, time, runs); ``sentences`` are the headline. Every
    table and chart is included. All text is escaped, except the SVG of charts, in which ``svg`` has escaped it. The
    same input gives the same bytes.
    """
    templates = _templates()
    script = templates.get_template("page.js").render()
    return templates.get_template("page.html.j2").render(
        title=title,
        about=about,
        sentences=[_sentence(text) for text in sentences],
        sections=list(_sections(tables, charts, sections)),
        light=css_variables("light"),
        dark=css_variables("dark"),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("bench", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _sentence(text: str) -> Sentence:
    subject, colon, rest = text.partition(": ")
    short = colon and not {",", ";"} & set(subject)
    return Sentence(subject + ":", " " + rest) if short else Sentence("", text)


def _sections(tables: Sequence[Table], charts: Sequence[Chart], sections: Sections) -> Iterator[Section]:
    named = {name for name, _, _ in sections}
    place = {prefix: name for name, _, prefixes in sections for prefix in prefixes}
    every = _pictures(charts)
    for name, title, _ in sections:
        own = [table for table in tables if table.name == name]
        other = [table for table in tables if table.name not in named] if name == OTHERS else []
        drawn = [one for one in every if place.get(_kind_of(one.chart), OTHERS) == name]
        pictures = [list(kind) for _, kind in itertools.groupby(drawn, lambda picture: _kind_of(picture.chart))]
        if pictures and not own:
            yield Section(name, title, "", pictures, None)
        for table in own + other:
            yield Section(table.name, table.title, table.note, pictures if own else [], _grid(table))


def _kind_of(chart: Chart) -> str:
    return chart.name.partition("-")[0]


def _pictures(charts: Sequence[Chart]) -> list[Picture]:
    # ``svg`` has escaped the text of the drawings, so they are the only markup that the template does not escape.
    return [Picture(chart, Markup(drawn), _data(chart)) for chart, drawn in zip(charts, svgs(charts), strict=True)]


def _grid(table: Table) -> Grid:
    texts = list(table.cells())
    kinds = [
        _kind(column, column_texts)
        for column, column_texts in zip(table.columns, zip(*texts, strict=True), strict=True)
    ]
    rows = [
        [_cell(*one) for one in zip(kinds, cells, keys, strict=True)]
        for cells, keys in zip(texts, table.sort_keys(), strict=True)
    ]
    titles = [column.title for column in table.columns]
    return Grid(f"{table.title}, {len(rows):,} rows", list(zip(titles, kinds, strict=True)), rows)


def _kind(column: Column, texts: Sequence[str]) -> str:
    if column.numeric:
        return "number"
    if column.title in ("status", "command"):
        return column.title
    return _width(texts)


def _width(texts: Sequence[str]) -> str:
    longest = max(map(len, texts), default=0)
    return next((name for name, width in WIDTHS.items() if longest > width), "")


def _cell(kind: str, text: str, key: float | str | None) -> Cell:
    if kind == "status":
        status = str(key)
        kind = status_colour(status) if status in STATUSES and status != "ok" else ""
    if key is None:
        return Cell(text, kind, "")
    if kind == "number":
        return Cell(text, kind, f"{key:.10g}")
    return Cell(text, kind, None if str(key) == text else str(key))


def _data(chart: Chart) -> Grid:
    """Return the data of a chart as a table without sort keys."""
    titles, columns = [], []
    for title, values in chart.data.items():
        texts = [_data_text(value) for value in values]
        kind = "number" if any(map(_is_number, values)) else _width(texts)
        titles.append((str(title), kind))
        columns.append([Cell(text, kind) for text in texts])
    return Grid(f"Data of {chart.title}", titles, list(zip(*columns, strict=True)))


def _data_text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if _is_number(value):
        return number(float(value))
    return UNKNOWN if pd.isna(value) or value == "" else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
