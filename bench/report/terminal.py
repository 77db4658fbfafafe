"""Tables on a terminal: the summary of a run, and a whole report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import pandas as pd
from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from bench.analysis.comms import CommsAnswers
from bench.analysis.frames import launches
from bench.analysis.order import apart
from bench.analysis.summary import GROUP, summarise
from bench.analysis.tradeoff import host_memory
from bench.report import tables
from bench.report.comms import comms_sentences, comms_tables
from bench.report.format import by_reason, case_or_cases, number
from bench.report.wide_tables import print_table
from bench.store.code_versions import with_codes
from bench.store.columns import LaunchRow
from bench.store.counting_rows import counted
from bench.store.environments import with_environments

COLOURS = {"ok": "green", "skipped": "yellow"}
BAR = 12  # Characters of the longest bar.
FOLDED = ("case", "reason", "remark", "marks", "choice")
NOT_ON_TERMINALS = ("environments", "commands")  # `bench results show` and the CSV files have them.


_ALWAYS = ("samples/s", "spread", "step p50 ms")
_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("samples/s", "samples_per_s", lambda row: number(row["samples_per_s"])),
    ("spread", "spread", lambda row: f"{row['spread']:.1%}"),
    ("tokens/s", "tokens_per_s", lambda row: number(row["tokens_per_s"])),
    ("step p50 ms", "step_ms", lambda row: number(row["step_ms"])),
    ("wait", "data_wait_share", lambda row: f"{row['data_wait_share']:.1%}"),
    ("exposed comm", "exposed_comm_share", lambda row: f"{row['exposed_comm_share']:.1%}"),
    ("MFU", "mfu", lambda row: f"{row['mfu']:.1%}"),
    ("MFU ach.", "mfu_achievable", lambda row: f"{row['mfu_achievable']:.1%}"),
    ("J/sample", "joules_per_sample", lambda row: number(row["joules_per_sample"])),
    ("save s", "save_blocked_s", lambda row: number(row["save_blocked_s"])),
    ("goodput", "goodput", lambda row: f"{row['goodput']:.1%}"),
    ("compile s", "compile_s", lambda row: number(row["compile_s"])),
    ("GPU MiB", "peak_allocated_mib", lambda row: number(row["peak_allocated_mib"])),
    ("RSS MiB", "peak_rss_mib", lambda row: number(row["peak_rss_mib"])),
    ("host MiB", "peak_host_mib", lambda row: number(row["peak_host_mib"])),
    ("marks", "marks", lambda row: str(row["marks"])),
)


def summary_table(summary: pd.DataFrame) -> Table:
    """Return a table with one row for each case; unknown values are dashes, and columns without a value are left out.

    The columns of _ALWAYS are kept.
    """
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("case", overflow="fold")
    table.add_column("status", no_wrap=True)
    left_out = _hidden_memory(summary)
    columns = [
        (title, name, show)
        for title, name, show in _COLUMNS
        if title in _ALWAYS or (name != left_out and summary[name].notna().any())
    ]
    for title, _, _ in columns:
        table.add_column(title, justify="right", no_wrap=title not in FOLDED, overflow="fold")
    for name, (_, row) in zip(_names(summary), summary.iterrows(), strict=True):
        cells = ["—" if pd.isna(row[name]) else show(row) for _, name, show in columns]
        label = Text(tables.status_words(row.to_dict()), COLOURS.get(str(row["status"]), "red"))
        table.add_row(Text(name), label, *cells)
    return table


def _hidden_memory(summary: pd.DataFrame) -> str:
    """Return the measure of host memory that is not shown.

    Memory with DataLoader workers is shown only if cases have different numbers of them.
    """
    measured = summary[summary["ok"] > 0]
    first = host_memory(measured)[0]
    with_workers = first == "peak_host_mib" and len(measured) > 0 and measured[first].notna().all()
    return "peak_rss_mib" if with_workers else "peak_host_mib"


def print_rows(rows: Sequence[LaunchRow], console: Console) -> None:
    """Print the summary of a run's rows; rows that a later launch replaced do not count."""
    print_summary(summarise(with_codes(with_environments(launches(counted(rows))))), console)


def print_comms(answers: CommsAnswers, console: Console) -> None:
    """Print the tables of collectives, and below them what was found."""
    print_report((), comms_tables(answers), console)
    for sentence in comms_sentences(answers):
        console.print(Text(f"• {sentence}"), soft_wrap=True)


def print_summary(summary: pd.DataFrame, console: Console) -> None:
    """Print the table, and below it each reason why cases are not ok."""
    print_table(summary_table(summary), console)
    bad = summary["status"] != "ok"
    reasons = summary["status"].astype("str") + ": " + summary["reason"].fillna("no reason is known").astype("str")
    named = [(name, reason) for name, reason, told in zip(_names(summary), reasons, bad, strict=True) if told]
    for names, reason in by_reason(named):
        status, _, why = reason.partition(": ")
        console.print(Text(f"{status}: {case_or_cases(names)}: {why}"), soft_wrap=True)


def _names(summary: pd.DataFrame) -> list[str]:
    """Return the case ids, with what distinguishes cases that have the same id."""
    return [f"{name}{more}" for name, more in zip(summary["case_id"], apart(summary), strict=True)]


def print_report(sentences: Sequence[str], found: Sequence[tables.Table], console: Console) -> None:
    """Print the headline and the tables, except NOT_ON_TERMINALS; the bars of throughput are scaled by workload."""
    for sentence in sentences:
        console.print(Text(f"• {sentence}"))
    for table in found:
        if table.name == "slow_ranks":
            table = _with_slow(table)
        if table.name not in NOT_ON_TERMINALS and len(table.frame):
            console.print(Text(f"\n{table.title}", "bold"))
            print_table(_brief_table(table), console)
            console.print(Text(table.note, "dim"))


def _with_slow(table: tables.Table) -> tables.Table:
    """Return the table of ranks with those cases only in which one is slow."""
    of_case = table.frame.groupby(list(GROUP), sort=False, dropna=False)["slow"]
    return replace(table, frame=table.frame[of_case.transform(lambda slow: slow.notna().any()).astype(bool)])


def _brief_table(table: tables.Table) -> Table:
    """Return the brief columns of a table; the summary also has a bar after the throughput."""
    shown = Table(show_edge=False, pad_edge=False)
    columns = [(i, column) for i, column in enumerate(table.columns) if column.brief]
    bars = _bars(table.frame) if table.name == "summary" else None
    for _, column in columns:
        justify: Literal["right", "left"] = "right" if column.numeric else "left"
        shown.add_column(column.title, justify=justify, no_wrap=column.title not in FOLDED, overflow="fold")
        if bars and column.title == "samples/s":
            shown.add_column("", no_wrap=True, width=BAR)
    for row, cells in enumerate(table.cells()):
        line: list[RenderableType] = []
        for place, column in columns:
            colour = COLOURS.get(cells[place], "red") if column.title == "status" else ""
            line.append(Text(cells[place], colour))
            if bars and column.title == "samples/s":
                line.append(bars[row])
        shown.add_row(*line)
    return shown


def _bars(cases: pd.DataFrame) -> list[RenderableType]:
    rates = cases["samples_per_s"].astype("float64")
    longest = rates.groupby(cases["workload"]).transform("max")
    return ["" if pd.isna(share) else Bar(1, 0, share, width=BAR) for share in rates / longest]
