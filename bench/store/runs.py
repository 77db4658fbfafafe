"""The runs in a folder of results: which there are, which one is meant, and what each holds."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import ResultsError, near
from bench.store.columns import FILES
from bench.store.counting_rows import latest
from bench.store.reader import read_launches
from bench.store.writer import LOCK

LATEST = "latest"
SHOWN = 5  # ids in a message
SHOWN_OF_A_ROW = ("case_id", "order", "status", "hostname", "role", "block")


@dataclass(frozen=True)
class Run:
    """A run in a few words.

    ``run_id`` is the name of its folder, and ``started`` (UTC) the time in it, None if it was given another name.
    ``cases`` counts distinct ones, ``launches`` fresh starts, ``statuses`` the rows that count: of a launch that was
    repeated the last. ``hostname`` joins distinct ones by `;`. ``bytes`` is the size of all files. ``trouble`` says
    what of launches.csv could not be read, and is None if all could; where nothing could, the counts are None.
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
    """All runs in a folder of results, the newest first; those whose rows cannot be read as well."""
    return [look(folder) for folder in folders(out)]


def folders(out: Path) -> list[Path]:
    """The folders of all runs, the newest first by the time in their names; those without one last.

    ResultsError if the folder of results cannot be looked into; if it does not exist, it holds no runs.
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
    """The folder of the run that is called so: by its id, ``latest``, or a path to its folder or to a CSV file in it.

    An id comes before a path. ResultsError if there is no such run; it names those that there are.
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
    """What a run holds, as far as its launches.csv can be read."""
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
    """Whether a run is being written now: whoever writes holds the lock. Older runs have no such file."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: nobody can hold one
        return False
    finally:
        os.close(descriptor)  # which gives the lock back
    return False


def _no_such_run(out: Path, name: str, there: list[str]) -> ResultsError:
    allowed = f"a run's id, {LATEST}, or a path to its folder or to a CSV file in it"
    if there:
        more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
        hint = f"Runs in {out / 'runs'}: {', '.join(there[:SHOWN])}{more}."
        hint += f" {meant}" if (meant := near(name, [*there, LATEST])) else ""
    else:
        hint = f"There are no runs in {out / 'runs'}; name another folder with --out."
    return ResultsError(option="run", given=name, allowed=allowed, hint=hint)


def _started(folder: Path) -> datetime | None:
    try:
        return datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _size(folder: Path) -> int:
    """Of all files, in bytes; what vanishes meanwhile counts nothing."""
    total = 0
    for where, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(where, file)).st_size
            except OSError:
                continue
    return total
