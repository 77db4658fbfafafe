"""Rounds: the order of the cases within one, and whether there is time for another."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

from bench.case import Case
from bench.record import Row


def shuffled(cases: Iterable[Case], block: int, seed: int) -> list[Case]:
    """The cases in the order of a round: it depends on each case alone, so that a resumed run keeps to it."""
    return sorted(cases, key=lambda case: hashlib.sha256(f"{seed}/{block}/{case.case_id}".encode()).hexdigest())


def spent(rows: Iterable[Row]) -> float:
    """Seconds that launches have taken, probes and earlier sessions of the run included."""
    return float(sum(row["launch_s"] or 0 for row in rows))


def another_fits(rows: Sequence[Row], case_ids: Collection[str], left_s: float) -> bool:
    """Whether a round of these cases is expected to end within ``left_s`` seconds, by the latest launch of each.

    Not if none of those was ok: a budget is there to be spent on numbers.
    """
    latest = {row["case_id"]: row for row in rows if row["role"] == "measure" and row["launch_s"] is not None}
    due = [latest[case_id] for case_id in case_ids if case_id in latest]
    return any(row["status"] == "ok" for row in due) and spent(due) <= left_s
