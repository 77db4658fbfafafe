"""Lists the runs in a folder of results, finds a run by name, and summarizes it."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import ResultsError, did_you_mean
from bench.store.columns import FILES
from bench.store.counting_rows import latest
from bench.store.reader import read_launches
from bench.store.writer import LOCK

LATEST = "latest"
SHOWN = 5  # Ids in an error message.
SHOWN_OF_A_ROW = ("case_id", "order", "status", "hostname", "role", "block")


@dataclass(frozen=True)
class Run:
    """A summary of a run.

    ``run_id``: the name of its folder. ``started``: the time (UTC) in that name, None if the folder was renamed.
    ``cases``: number of distinct cases. ``statuses``: number of rows by status; of a repeated launch the last counts.
    ``hostname``: distinct names, joined by ``;``. ``bytes``: size of all files. ``busy``: whether it is being written.
    ``trouble``: why launches.csv could not be read, None if it could; the numbers are None if nothing could be read.
    """

    run_id: str
    folder: Path
    started: datetime | None
    cases: int | None = None
    launches: int | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    hostname: str = ""
    bytes: int = 0
    busy: bool = False
    trouble: str | None = None


def runs(out: Path) -> list[Run]:
    """Return all runs in a folder of results, the newest first, also those whose rows cannot be read."""
    return [look(folder) for folder in folders(out)]


def folders(out: Path) -> list[Path]:
    """Return the folders of all runs, the newest first by the time in their names; those without a time last.

    ResultsError if the folder of results cannot be read; if it does not exist, there are no runs.
    """
    try:
        inside = [path for path in (out / "runs").iterdir() if path.is_dir() and not path.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResultsError(
            f"cannot read {out / 'runs'}: {error.strerror}", given=str(out), hint="Name another folder with --out."
        ) from None
    return sorted(inside, key=lambda folder: (_started(folder) or datetime.min.replace(tzinfo=UTC), folder.name))[::-1]


def find(out: Path, name: str) -> Path:
    """Return the folder of a run by its id, ``latest``, or a path to its folder or to a CSV file in it.

    An id has precedence over a path. ResultsError, with the existing runs, if there is no such run.
    """
    there = {folder.name: folder for folder in folders(out)}
    if name in there:
        return there[name]
    if name == LATEST and there:
        return next(iter(there.values()))
    path = Path(name)
    if path.name in FILES and os.path.lexists(path):
        return path.parent
    if name and any(os.path.lexists(path / file) for file in FILES):
        return path
    raise _no_such_run(out, name, list(there))


def look(folder: Path) -> Run:
    """Return the summary of a run, as far as its launches.csv can be read."""
    known: dict[str, Any] = {"run_id": folder.name, "folder": folder, "started": _started(folder)}
    known |= {"bytes": _size(folder), "busy": busy(folder)}
    torn: list[str] = []
    try:
        rows = read_launches(folder / "launches.csv", torn.append, only=SHOWN_OF_A_ROW)
    except ResultsError as error:
        return Run(**known, trouble=str(error))
    return Run(
        **known,
        cases=len({row.case_id for row in rows}),
        launches=sum(row.order is not None for row in rows),
        statuses=dict(Counter(str(row.status) for row in latest(rows).values()).most_common()),
        hostname=";".join(dict.fromkeys(row.hostname for row in rows if row.hostname)),
        trouble=next(iter(torn), None),
    )


def busy(folder: Path) -> bool:
    """Return whether a run is being written now: its writer holds the lock. Runs of older versions have no lock."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # A file system without locks.
        return False
    finally:
        os.close(descriptor)  # This releases the lock.
    return False


def _no_such_run(out: Path, name: str, there: list[str]) -> ResultsError:
    allowed = f"a run's id, {LATEST}, or a path to its folder or to a CSV file in it"
    if there:
        more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
        hint = f"Runs in {out / 'runs'}: {', '.join(there[:SHOWN])}{more}."
        hint += f" {meant}" if (meant := did_you_mean(name, [*there, LATEST])) else ""
    else:
        hint = f"There are no runs in {out / 'runs'}; name another folder with --out."
    return ResultsError(option="run", given=name, allowed=allowed, hint=hint)


def _started(folder: Path) -> datetime | None:
    try:
        return datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _size(folder: Path) -> int:
    """Return the size of all files in bytes; files that vanish meanwhile do not count."""
    total = 0
    for where, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(where, file)).st_size
            except OSError:
                continue
    return total
