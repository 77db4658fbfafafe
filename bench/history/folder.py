"""A history in a folder: a file for each session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.errors import ResultsError
from bench.history.sessions import Kept, SessionFile, check_same, session_names
from bench.untrusted.files import read_bytes


def add(folder: Path, session: SessionFile) -> bool:
    """Add a session, and return whether it is new.

    UsageError if the folder has other rows of the run; ResultsError if it cannot be written.
    """
    file = folder / session.name
    if os.path.lexists(file):
        check_same(str(folder), session, read_bytes(file))
        return False
    partial = folder / f".{session.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(session.content)
        os.replace(partial, file)
    except OSError as error:
        raise ResultsError(f"cannot write {file}: {error.strerror}", hint="Choose another --folder.") from None
    return True


def kept(folder: Path, last: int, warn: Callable[[str], None]) -> Kept:
    """Return the paths and contents of the ``last`` sessions; ResultsError if there is none.

    A file that cannot be read is left out with a warning.
    """
    try:
        names = session_names(entry.name for entry in os.scandir(folder))
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise ResultsError(f"cannot read {folder}: {error.strerror}", hint="Choose another --folder.") from None
    if not names:
        raise ResultsError(
            f"{folder} has no session of a history",
            option="--folder",
            given=str(folder),
            hint="Add a run: bench history add latest. A history on a branch needs --branch.",
        )
    return Kept(_read(folder, names[-last:], warn), max(len(names) - last, 0))


def _read(folder: Path, names: Iterable[str], warn: Callable[[str], None]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        try:
            content = read_bytes(folder / name)
        except ResultsError as error:
            warn(f"a session is left out: {error}")
            continue
        yield str(folder / name), content
