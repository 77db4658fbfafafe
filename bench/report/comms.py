"""Collectives for people: tables of their times and bandwidths, and findings in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.analysis.comms import CommsAnswers
from bench.plan.comms import size_text
from bench.report.format import number
from bench.report.tables import (
    Column,
    Row,
    Table,
    count_column,
    figure_column,
    range_column,
    text_column,
    without_empty,
)

SIZES_NOTE = (
    "Each iteration counts with its slowest rank; time is the median over iterations, then over the launches that were "
    "ok, and the interval that of this median. Bandwidths are those of nccl-tests in GB/s (10^9 bytes): algbw is "
    "message / time, busbw is algbw times the factor of the collective, such as 2 (n - 1) / n of an all-reduce over n "
    "ranks. Spread is (largest - smallest) / median of the launches."
)
MODELS_NOTE = (
    "t = α + bytes / β, fitted to the times of all sizes of each launch by the least squares of relative errors: "
    "geometric means over launches, with 95 % intervals by t on their logs. The misfit is by how much a size differs "
    "from the model at most: where it is large, the collective changes its algorithm between sizes, and α and β "
    "describe none of them well."
)
NOTABLE = 0.1  # A process group is slow if its time is that much above the median of its kind.


def comms_tables(answers: CommsAnswers) -> list[Table]:
    """Return the tables that have rows, without the columns that have no value or, if they only distinguish, one."""
    found = [
        Table("collectives", "Collectives", MODELS_NOTE, _columns(answers.models, MODELS), answers.models),
        Table("sizes", "Collectives by size", SIZES_NOTE, _columns(answers.sizes, SIZES), answers.sizes),
    ]
    return [without_empty(table) for table in found if len(table.frame)]


def _size(name: str) -> Column:
    return Column("size", lambda row: "" if row[name] is None else size_text(int(row[name])), name)


def _interval(title: str, name: str, scale: float = 1) -> Column:
    return range_column(title, name, lambda value: number(value / scale))


def _group(row: Row) -> str:
    return f"{row['group']} {row['group_ranks']}".strip()


GROUP = (
    text_column("collective", "collective"),
    Column("ranks", _group, "group_ranks", numeric=False),
    text_column("type", "dtype"),
)
# Columns that are shown only if they distinguish rows.
DISTINGUISHING = (
    text_column("environment", "environment"),
    count_column("of", "gpus"),
    text_column("on each node", "nproc_per_node"),
    text_column("device", "device"),
    text_column("backend", "backend"),
    text_column("variables", "env"),
    count_column("OMP threads", "omp_num_threads"),
    text_column("NUMA binding", "numa_binding"),
)
SIZES = (
    *GROUP,
    _size("size_bytes"),
    figure_column("time µs", "time_us"),
    _interval("95 % interval", "time_us"),
    figure_column("algbw GB/s", "algbw_gb_per_s"),
    figure_column("busbw GB/s", "busbw_gb_per_s"),
    Column("spread", lambda row: "" if row["spread"] is None else f"{row['spread']:.1%}", "spread"),
    count_column("launches", "ok", brief=False),
    Column("right", lambda row: {True: "yes", False: "no"}.get(row["correct"], ""), "correct", numeric=False),
    Column("remark", lambda row: "" if row["status"] == "ok" else f"{row['status']}: {row['reason']}", numeric=False),
)
MODELS = (
    *GROUP,
    figure_column("latency µs", "latency_us"),
    Column("at", lambda row: size_text(int(row["least_bytes"])), "least_bytes"),
    figure_column("busbw GB/s", "busbw_gb_per_s"),
    Column("at ", lambda row: size_text(int(row["best_bytes"])), "best_bytes"),
    figure_column("α µs", "alpha_us"),
    _interval("α 95 %", "alpha_us"),
    figure_column("β GB/s", "beta", scale=1e3),
    _interval("β 95 %", "beta", 1e3),
    Column("misfit", lambda row: "" if row["misfit"] is None else f"{row['misfit']:.0%}", "misfit"),
)


def _columns(frame: pd.DataFrame, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    several = [one for one in DISTINGUISHING if one.sort and frame[one.sort].nunique(dropna=False) > 1]
    return (*columns[: len(GROUP)], *several, *columns[len(GROUP) :])


# -- sentences -----------------------------------------------------------------------------------------------------


def comms_sentences(answers: CommsAnswers) -> list[str]:
    """Return the findings: latency and bandwidth of each collective, slow groups of ranks, and what failed."""
    models = answers.models
    whole = models[models["group"] == "all"]
    shown = whole if len(whole) else models[models["group_ranks"] == models["group_ranks"].min()]
    return [
        *(_of_model(row) for row in shown.to_dict("records")),
        *_slow_groups(answers.sizes),
        *_not_ok(answers.sizes),
        *(f"{row['case_id']}: {row['status']}: {row['reason']}." for row in answers.failures.to_dict("records")),
    ]


def _of_model(row: dict[Any, Any]) -> str:
    ranks = f"{row['group_size']} ranks ({_group(row)}, {row['backend']}, {row['dtype']})"
    latency = f"{number(row['latency_us'])} µs at {size_text(int(row['least_bytes']))}"
    best = f"{number(row['busbw_gb_per_s'])} GB/s bus bandwidth at {size_text(int(row['best_bytes']))}"
    said = f"{row['collective']} over {ranks}: {latency}, {best}"
    if pd.isna(row["beta"]):
        return f"{said}."
    model = f"t = {number(row['alpha_us'])} µs + bytes / ({number(row['beta'] / 1e3)} GB/s)"
    return f"{said}; {model}, within {row['misfit']:.0%}."


def _slow_groups(sizes: pd.DataFrame) -> Iterator[str]:
    """Yield which process groups are slower than the median of three or more of their kind, at the largest size."""
    ok = sizes[(sizes["ok"] > 0) & sizes["size_bytes"].notna()]
    of = [
        "environment",
        "device",
        "backend",
        "gpus",
        "nproc_per_node",
        "env",
        "group",
        "collective",
        "dtype",
        "group_size",
    ]
    for _, alike in ok.groupby(of, sort=False, dropna=False):
        largest = alike[alike["size_bytes"] == alike["size_bytes"].max()]
        middle = largest["time_us"].median()
        for row in largest[largest["time_us"] > (1 + NOTABLE) * middle].to_dict("records") if len(largest) > 2 else ():
            yield (
                f"{row['collective']} of {size_text(int(row['size_bytes']))} over ranks {row['group_ranks']} takes "
                f"{row['time_us'] / middle - 1:.0%} longer than the median of {len(largest)} groups ({row['group']})."
            )


def _not_ok(sizes: pd.DataFrame) -> Iterator[str]:
    bad = sizes[sizes["status"] != "ok"]
    for (status, reason), rows in bad.groupby(["status", "reason"], sort=False, dropna=False):
        names = ", ".join(dict.fromkeys(str(name) for name in rows["collective"] if name)) or "collectives"
        groups = ", ".join(dict.fromkeys(rows["group"]))
        yield f"{status}: {names} ({groups}), {len(rows)} rows: {reason}."
