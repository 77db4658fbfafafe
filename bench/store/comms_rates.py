"""Collectives as launches with a rate each, so that comparisons treat them as they treat training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.errors import UsageError
from bench.plan.comms import COMMS, size_text
from bench.store.columns import LaunchRow

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
