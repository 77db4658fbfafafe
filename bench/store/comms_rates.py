"""Collectives as launches with a rate each, so that comparisons treat them as they treat training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.plan.comms import COLLECTIVES, COMMS, size_text
from bench.store.columns import LaunchRow
from bench.store.reader import read

UNIT = "calls/s"


def is_comms(row: LaunchRow) -> bool:
    """Return whether a launch measured collectives, or is a rate of one of them."""
    return str(row.workload).partition(":")[0] == COMMS


def refuse_comms(run: str, rows: Iterable[LaunchRow]) -> None:
    """Raise UsageError for a run of collectives, where a launch must have one figure of its own."""
    if any(map(is_comms, rows)):
        raise UsageError(
            f"{run} is a run of bench comms, whose launches have a figure for each collective and size",
            option="run",
            given=run,
            hint="Compare it with another one: bench compare A B.",
        )


def with_rates(launches: Iterable[LaunchRow], rows: Iterable[Mapping[str, Any]]) -> list[LaunchRow]:
    """Return the launches, and for each that measured collectives a row for each of its ``rows`` of comms.csv.

    Such a row has its collective, size, type and group as ``workload``, by which it is compared with others, and calls
    per second as ``samples_per_s``. A launch without rows, as one that could not start, stays as it is.
    """
    by_launch: dict[tuple[object, object], list[Mapping[str, Any]]] = {}
    for row in rows:
        by_launch.setdefault((row["run_id"], row["launch_id"]), []).append(row)
    found: list[LaunchRow] = []
    for launch in launches:
        own = by_launch.get((launch.run_id, launch.launch_id), ()) if is_comms(launch) else ()
        found += [_rate(launch, row) for row in own if row["collective"]] or [launch]
    return found


def is_rate(row: LaunchRow) -> bool:
    """Return whether a row is the rate of one collective."""
    return is_comms(row) and str(row.workload).partition(":")[2].partition(":")[0] in COLLECTIVES


def beside_rates(folder: Path, launches: Sequence[LaunchRow], warn: Callable[[str], None]) -> list[LaunchRow]:
    """Return the launches of a run, and after them the rates of those that measured collectives."""
    file = folder / "comms.csv"
    if not any(map(is_comms, launches)) or not os.path.lexists(file):
        return [*launches]
    return [*launches, *filter(is_rate, with_rates(launches, read(file, warn)))]


def figures(rows: Sequence[LaunchRow]) -> list[LaunchRow]:
    """Return the rows that have a figure of their own: without launches whose rates are among the rows."""
    measured = {(row.run_id, row.launch_id) for row in rows if is_rate(row)}
    return [row for row in rows if is_rate(row) or (row.run_id, row.launch_id) not in measured]


def _rate(launch: LaunchRow, row: Mapping[str, Any]) -> LaunchRow:
    words = _words(row)
    return launch.but(
        case_id="-".join([*words, f"x{launch.gpus}", str(launch.device)]),
        workload=":".join([COMMS, *words]),
        status=row["status"],
        reason=row["reason"],
        samples_per_s=1e6 / row["time_us"] if row["time_us"] else None,
    )


def _words(row: Mapping[str, Any]) -> Sequence[str]:
    size = size_text(row["size_bytes"]) if row["size_bytes"] else ""
    return [str(one) for one in (row["collective"], size, row["dtype"], row["group"], row["group_ranks"]) if one]
