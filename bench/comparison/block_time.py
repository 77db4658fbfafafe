"""Estimates how long a block of a comparison will take, from earlier launches of its cases on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from bench.plan.plan import Protocol
from bench.runner.estimate import launch_seconds
from bench.stats.ab_gate import OF_A_SIDE
from bench.store.columns import LaunchRow


def seconds_a_block(
    case_ids: Mapping[str, str], rows: Sequence[LaunchRow], protocol: Protocol, duet: bool
) -> float | None:
    """Return the seconds of a block, by the case_ids of its sides; None if a side has no launch in ``rows``.

    A block has servers of its own, and its first launch waits for their start: that is known from earlier blocks only,
    so that it is missing where there are none. A duet takes as long as both sides of an earlier duet took, or as a
    launch of each.
    """
    sides = [[row for row in rows if row.case_id == case_id] for case_id in case_ids.values()]
    if duet and all(any(row.bursts for row in side) for side in sides):
        return max(median(row.launch_s or 0.0 for row in side if row.bursts) for side in sides)
    alone = [[row for row in side if not row.bursts] for side in sides]
    each = [launch_seconds(side, protocol) for side in alone]
    if None in each:
        return None
    start = max(0.0, *(_start(side) for side in alone))
    return start + (1 if duet else OF_A_SIDE) * sum(seconds for seconds in each if seconds is not None)


def _start(rows: Sequence[LaunchRow]) -> float:
    """Return by how much the first launch of a block takes longer than the others; 0 if there is no block."""
    first = [row.launch_s or 0.0 for row in rows if row.turn == 0]
    others = [row.launch_s or 0.0 for row in rows if row.turn]
    return median(first) - median(others) if first and others else 0.0
