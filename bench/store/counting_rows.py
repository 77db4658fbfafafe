"""Which rows of a file count: launches may have been repeated, and skipped cases may have run later."""

from __future__ import annotations

from collections.abc import Iterable

from bench.store.columns import LaunchRow

Key = tuple[str, int | None]
PLACE = ("run_id", "case_id", "role", "pair", "side", "stage", "block", "turn")


def counted(rows: Iterable[LaunchRow]) -> list[LaunchRow]:
    """Return the rows that count, in their order: the last row of each place in a run.

    Rows of a case that could not run do not count if the case was launched later. Rows without a place always count:
    probes, and launches in files without the column ``block``.
    """
    given = list(rows)
    last = {_place(row, number): number for number, row in enumerate(given)}
    launched = {_case(row) for row in given if row.role == "measure" and row.block is not None}
    kept = (given[number] for number in sorted(last.values()))
    return [row for row in kept if not _could_not_run(row) or _case(row) not in launched]


def latest(rows: Iterable[LaunchRow]) -> dict[Key, LaunchRow]:
    """Return the measured rows of a run that count, by (case_id, block)."""
    return {(str(row.case_id), row.block): row for row in counted(rows) if row.role == "measure"}


def _place(row: LaunchRow, number: int) -> object:
    return tuple(getattr(row, name) for name in PLACE) if row.block is not None or _could_not_run(row) else number


def _could_not_run(row: LaunchRow) -> bool:
    return row.role == "measure" and row.block is None and row.status != "ok"


def _case(row: LaunchRow) -> tuple[str | None, ...]:
    return row.run_id, row.case_id, row.pair, row.side
