"""Writes a run's folder: CSV files to which rows are appended, each in one write."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import itertools
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import ResultsError
from bench.store.cells import cell
from bench.store.columns import FILES, Column, LaunchRow, Row
from bench.store.reader import check_tail, read_launches, whole
from bench.untrusted.files import read_bytes

LOCK, LOCK_TRIES = "lock", 5
UNFINISHED = ".new"  # Suffix of a run's folder until its plan is written.
LEFT_SECONDS = 3600.0  # Unfinished folders older than this are removed.
LEAST_FREE_BYTES = 4 << 20  # Disk space that the records of a launch need.


class Store:
    """The only writer of a run. Appended rows are on the disk, whatever happens next."""

    def __init__(self, folder: Path) -> None:
        self.run_id, self.folder = folder.name, folder
        self._lock = _lock(folder)

    @classmethod
    def create(cls, out: Path, plan: Mapping[str, Any] | None = None) -> Store:
        """Create a run in ``out`` with its ``plan.json``; ResultsError if nothing can be written there.

        The folder appears complete: if the process is killed, there is either no run, or one that can be resumed.
        """
        try:
            made = _new_folder(out)
            (made / "logs").mkdir()
            store = cls(made)
            for name, columns in FILES.items():
                store._write(name, [list(columns)])
            if plan is not None:
                store.plan(plan)
            store.folder = made.with_name(made.name.removeprefix(".").removesuffix(UNFINISHED))
            store.run_id = store.folder.name
            made.rename(store.folder)
            return store
        except OSError as error:
            raise ResultsError(
                f"cannot write results to {out}: {error.strerror}",
                option="--out",
                given=str(out),
                hint="Choose another --out.",
            ) from None

    @classmethod
    def resume(cls, folder: Path, warn: Callable[[str], None]) -> tuple[Store, list[LaunchRow]]:
        """Return the writer of a resumed run, and its launches; an incomplete last row is removed with a warning."""
        store = cls(folder)
        rows = read_launches(folder / "launches.csv", warn)
        try:
            for name, columns in FILES.items():
                store._mend(name, columns, warn)
        except OSError as error:
            raise ResultsError(f"cannot resume {folder}: {error.strerror}") from None
        return store, rows

    def close(self) -> None:
        """Release the run's lock."""
        self._lock.close()

    def launch_folder(self, launch_id: str) -> Path:
        """Create the folder for a launch's records and logs; ResultsError if the disk is full."""
        folder = self.folder / "logs" / launch_id
        try:
            if shutil.disk_usage(self.folder).free < LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            folder.mkdir()
        except OSError as error:
            raise self._stopped(folder, error) from None
        return folder

    def next_order(self) -> int:
        """Return the first position in the run that no launch has, not even one without a row."""
        taken = [name.name.partition("-")[0] for name in (self.folder / "logs").iterdir()]
        return max((int(number) + 1 for number in taken if number.isdecimal()), default=0)

    def new_folder(self, stem: str) -> Path:
        """Create the folder ``stem-0`` in ``logs``, or with the next free number."""
        names = (f"{stem}-{n}" for n in itertools.count())
        return self.launch_folder(next(name for name in names if not (self.folder / "logs" / name).exists()))

    def plan(self, plan: Mapping[str, Any]) -> None:
        """Write ``plan.json`` atomically."""
        partial = self.folder / "plan.partial"
        try:
            with partial.open("w") as stream:
                stream.write(json.dumps(plan, indent=2) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, self.folder / "plan.json")
        except OSError as error:
            raise self._stopped(partial, error) from None

    def append(self, name: str, rows: Iterable[Row]) -> None:
        """Append rows to a file of FILES in one write, flushed to the disk."""
        columns = FILES[name]
        for row in (rows := list(rows)):
            unknown = row.keys() - columns.keys()
            assert not unknown, f"{name} has no columns {sorted(unknown)}"
        try:
            self._write(name, [[cell(row.get(c), column) for c, column in columns.items()] for row in rows])
        except OSError as error:
            raise self._stopped(self.folder / name, error) from None

    def _write(self, name: str, lines: Iterable[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows(lines)  # RFC 4180
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o644)
        before = os.fstat(descriptor).st_size
        try:
            data = text.getvalue().encode(errors="backslashreplace")
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)  # Remove the incomplete row.
            raise
        finally:
            os.close(descriptor)

    def _mend(self, name: str, columns: Mapping[str, Column], warn: Callable[[str], None]) -> None:
        """Remove an incomplete last row; ResultsError if the file has the columns of another version."""
        file = self.folder / name
        content = read_bytes(file) if os.path.lexists(file) else b""
        size = whole(content)
        header = next(csv.reader(io.StringIO(content[:size].decode(errors="replace"), newline="")), None)
        if header is None:
            file.write_bytes(b"")
            self._write(name, [list(columns)])
        elif header != list(columns):
            raise ResultsError(f"{file} has the columns of another version of stepbench", hint="Start a new run.")
        elif size < len(content):
            check_tail(file, content, size)
            warn(f"{file}: its last row was incomplete and was removed")
            os.truncate(file, size)

    def _stopped(self, file: Path, error: OSError) -> ResultsError:
        message, hint = f"cannot write {file}: {error.strerror}", None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"Free some space, then bench run --resume {self.run_id}."
        return ResultsError(message, hint=hint)


def _new_folder(out: Path) -> Path:
    """Create a folder for a run under an unfinished name, and remove old unfinished folders."""
    runs = out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for left in runs.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    while True:
        name = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + secrets.token_hex(2)
        folder = runs / f".{name}{UNFINISHED}"
        with contextlib.suppress(FileExistsError):  # Another run may have the name.
            folder.mkdir()
            if not (runs / name).exists():
                return folder
            folder.rmdir()


def _lock(folder: Path) -> io.TextIOWrapper:
    """Take the run's lock, which is held until it is closed or the process ends; ResultsError if another holds it."""
    try:
        lock = open(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), "a")
    except OSError as error:
        raise ResultsError(f"cannot write to {folder}: {error.strerror}") from None
    for _ in range(LOCK_TRIES):  # `bench results` takes it briefly to see whether it is free.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return lock  # A file system without locks.
        else:
            return lock
    lock.close()
    raise ResultsError(
        f"run {folder.name} is being written by another bench run", hint="Wait until it ends, or stop it."
    )
