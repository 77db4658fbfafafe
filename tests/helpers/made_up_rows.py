"""Rows of launches.csv as no machine made them: every column is there, and tests give those they are about."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from plain_case import PLAIN

from bench.plan.options import AXES
from bench.store.cells import cell
from bench.store.columns import LAUNCHES, SCHEMA, LaunchRow

RUN = "20260101-120000-00aa"
CASE = {name: getattr(PLAIN, name, None) for name in AXES}
KNOWN = {
    **{"schema": SCHEMA, "run_id": RUN, "launch_id": "0000-a", "role": "measure", "session": 0},
    **{"order": 0, "block": 0, "status": "ok", "launch_s": 10.0, "oversubscribe": False, "command": "bench run a"},
    **{"samples_per_s": 100.0, "work_key": "work", "env_key": "env", "hostname": "here"},
}


def launch(**known: Any) -> LaunchRow:
    """A row of ``bench run``. The case is called `a`, and by the axes that are given: `a-seed=1`."""
    case_id = "-".join(["a", *(f"{name}={value}" for name, value in known.items() if name in AXES)])
    return LaunchRow.of({**CASE, **KNOWN, "case_id": case_id, **known})


def session(rates: Sequence[float], **known: Any) -> list[LaunchRow]:
    """A launch for each throughput, each in a block of its own."""
    return [launch(samples_per_s=rate, block=block, order=block, **known) for block, rate in enumerate(rates)]


def block(number: int, rates: Sequence[float], order: str = "ABBA", **known: Any) -> list[LaunchRow]:
    """A block of ``bench ab``, as long as there are throughputs."""
    pair = {"pair": "a", "stage": 1, "block": number, **known}
    return [
        launch(**{**pair, "side": side, "turn": turn, "samples_per_s": rate})
        for turn, (side, rate) in enumerate(zip(order, rates, strict=False))
    ]


def blocks(ratios: Iterable[float], first: int = 0, **known: Any) -> list[LaunchRow]:
    """A whole block for each ratio of throughput, B over A: A has 100."""
    return [
        row for n, ratio in enumerate(ratios, first) for row in block(n, [100, 100 * ratio, 100 * ratio, 100], **known)
    ]


def write(
    folder: Path, rows: Iterable[LaunchRow], columns: Iterable[str] = tuple(LAUNCHES), name: str = "launches.csv"
) -> Path:
    """A file of rows, with these columns only."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = list(columns)
        writer.writerow(names)
        writer.writerows([cell(getattr(row, column), LAUNCHES[column]) for column in names] for row in rows)
    return folder / name
