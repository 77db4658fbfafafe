"""The page of two sides: the verdicts, where their differences come from, charts, and how the environments differ."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.analysis.two_sides import TwoSides
from bench.report.charts.chart import Chart
from bench.report.charts.scaling import scaling_of_sides
from bench.report.charts.split import splits
from bench.report.gate import COLUMNS, header_lines
from bench.report.html import OTHERS, Sections, page
from bench.report.tables import Column, Table, text_column, without_empty
from bench.report.two_sides import sentences, tables
from bench.stats.verdict import Gate, worst_first
from bench.store.environment_diff import shown

SECTIONS: Sections = (
    ("verdicts", "Verdicts", ()),
    ("split", "Where the difference comes from", ("split",)),
    ("links", "Collectives of both sides", ()),
    ("scaling", "Scaling of both sides", ("scaling",)),
    ("costs", "Price and energy", ()),
    ("differences", "Differences of environment", ()),
    (OTHERS, "More", ()),
)
DIFFERENCES_NOTE = "Those in env_key are known to change speed; others are only recorded."
# What the columns of a gate are sorted by; others are of a side, and sorted by its throughput.
SORTED_BY = {"case": "case", "verdict": "verdict", "throughput (95 %)": "ratio", "memory": "memory_ratio",
             "blocks/launches": "launches", "detectable": "detectable"}  # fmt: skip


def page_of(found: TwoSides, about: Sequence[str]) -> str:
    """Return a whole page that needs no network and no other file; ``about`` are lines below the title."""
    title = f"{_last_part(found.gate.a)} and {_last_part(found.gate.b)}, compared"
    heads = header_lines(dataclasses.replace(found.gate, differences=()))  # They have a table.
    return page(title, about, [*heads, *sentences(found)], page_tables(found), charts(found), SECTIONS)


def _last_part(path: str) -> str:
    return os.path.basename(os.path.normpath(path)) or path


def charts(found: TwoSides) -> list[Chart]:
    """Return the charts: the parts of steps, and scaling where both sides have it."""
    sides = dict(zip("AB", found.answers, strict=False))
    return [*splits(found.splits), *(scaling_of_sides(sides) if sides else ())]


def page_tables(found: TwoSides) -> list[Table]:
    """Return the tables of the page that have rows: the verdicts first, the differences of environment last."""
    rows = [
        {"name": one.name, "a": shown(one.a), "b": shown(one.b), "key": one.in_env_key} for one in found.differences
    ]
    differences = Table("differences", "Differences of environment", DIFFERENCES_NOTE, DIFFERENCES, pd.DataFrame(rows))
    return [*_verdicts(found.gate), *tables(found), *([differences] if rows else [])]


DIFFERENCES = (
    text_column("what", "name"),
    text_column("A", "a"),
    text_column("B", "b"),
    Column("in env_key", lambda row: "yes" if row["key"] else "", "key", numeric=False),
)


def _verdicts(gate: Gate) -> list[Table]:
    """Return the gate's own table with the reasons; none without a case."""
    rows = [{**dataclasses.asdict(one), "itself": one} for one in worst_first(gate.verdicts)]
    units = " or ".join(dict.fromkeys(one.unit for one in gate.verdicts))
    columns = [_column(column.title.format(unit=units), column.show, column.numeric) for column in COLUMNS]
    reason = text_column("reason", "reason")
    return [without_empty(Table("verdicts", "Verdicts", "", (*columns, reason), pd.DataFrame(rows)))] if rows else []


def _column(title: str, show: Any, numeric: bool) -> Column:
    sort = SORTED_BY.get(title, f"samples_per_s_{title[:1].lower()}")
    return Column(title, lambda row: show(row["itself"]), sort, numeric=numeric)
