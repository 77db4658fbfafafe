"""A session of a history: the launches of a run that count, as one CSV file, which is added and never changed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.errors import ResultsError, UsageError
from bench.store.cells import cell
from bench.store.columns import LAUNCHES, LaunchRow
from bench.store.comms_rates import refuse_comms
from bench.store.counting_rows import counted
from bench.store.environment_diff import variables_of
from bench.store.hardware_facts import hardware_of
from bench.store.reader import read_launches

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SUFFIX = ".csv"


@dataclass(frozen=True)
class SessionFile:
    """The file of a session: its name, by the run's id, and its content with the columns of launches.csv."""

    name: str
    content: bytes

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.name.removesuffix(SUFFIX)


class Kept(NamedTuple):
    """The latest sessions of a history: name and content of each, and the number of earlier ones."""

    files: Iterable[tuple[str, bytes]]
    earlier: int


def session_of(run: str, rows: Sequence[LaunchRow]) -> SessionFile:
    """Return the session of a run; of a comparison that of its side B.

    ``run`` names it in messages. UsageError for a duet, whose sides slow each other down, for an id that is no file
    name, and for rows of several runs; ResultsError if nothing was measured.
    """
    refuse_comms(run, rows)
    kept = in_trend(rows)
    if not kept:
        raise ResultsError(f"{run}: no launch of a case is recorded", option="run", given=run, hint="Add another run.")
    if any(row.bursts is not None for row in kept):
        raise UsageError(
            f"{run} is a duet, whose two sides were up at once: it says how they differ, and not how fast one is",
            option="run",
            given=run,
            hint="Add a run of bench run, or of bench ab without --duet.",
        )
    ids = {row.run_id for row in kept}
    run_id = kept[0].run_id or ""
    if len(ids) > 1 or not RUN_ID.fullmatch(run_id):
        allowed = "rows with one run_id, of 1 to 100 characters of a-z, A-Z, 0-9, '.', '_' and '-'"
        raise UsageError(option=f"{run}: run_id", given=", ".join(map(str, ids)), allowed=allowed)
    return SessionFile(run_id + SUFFIX, _written(kept))


def in_trend(rows: Iterable[LaunchRow]) -> list[LaunchRow]:
    """Return the rows that a trend is made of: those of cases that count, without side A of a comparison."""
    return [row for row in counted(rows) if row.role == "measure" and row.case_id and row.side in (None, "B")]


def check_same(where: str, session: SessionFile, there: bytes) -> None:
    """Raise UsageError if a history has other rows of the run already, such as from before it was resumed."""
    if there == session.content:
        return
    name = Path(session.name)
    before, now = (read_launches(name, lambda _: None, content=content) for content in (there, session.content))
    if _written(before) != _written(now):
        raise UsageError(
            f"{where} has other rows of run {session.run_id} already; what a history has is never changed",
            option="run",
            given=session.run_id,
            hint="Add a run once, when it has ended.",
        )


def read_sessions(
    files: Iterable[tuple[str, bytes]], warn: Callable[[str], None], only: Collection[str] | None = None
) -> list[LaunchRow]:
    """Return the rows of the files of sessions, by their names in messages; a damaged file is left out with a warning.

    ``only``: the columns to read, which is faster.
    """
    rows: list[LaunchRow] = []
    for name, content in files:
        try:
            found = read_launches(Path(name), warn, only, content)
            for row in {row.settings: row for row in found if row.settings}.values():
                variables_of(row.columns())  # Whether they are JSON.
            for row in {row.hardware: row for row in found if row.hardware}.values():
                hardware_of(row.columns())
            rows += found
        except ResultsError as error:
            warn(f"a session is left out: {error}")
    return rows


def session_names(names: Iterable[str]) -> list[str]:
    """Return the names of files of sessions in their order; ids of runs begin with the time."""
    return sorted(name for name in names if name.endswith(SUFFIX) and RUN_ID.fullmatch(name.removesuffix(SUFFIX)))


def _written(rows: Sequence[LaunchRow]) -> bytes:
    """Return the rows as CSV, without columns that are empty in all of them."""
    names = [name for place, name in enumerate(LAUNCHES) if any(row[place] is not None for row in rows)]
    text = io.StringIO()
    lines = [[cell(getattr(row, name), LAUNCHES[name]) for name in names] for row in rows]
    csv.writer(text, lineterminator="\r\n").writerows([names, *lines])
    return text.getvalue().encode(errors="backslashreplace")
