"""Temporary folders of this process, and those that killed processes have left behind.

The maker of a folder locks a file in it for as long as it lives; if the lock is free, the folder was left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

OWNER = ".owner"
_held: dict[Path, int] = {}


def make(prefix: str, where: str | None = None) -> Path:
    """Make a new folder in ``where`` (TMPDIR by default) that is locked until ``remove`` or the end of this process."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        try:
            lock = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with contextlib.suppress(OSError):  # a file system without locks; the folder never counts as left behind
            fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / OWNER).exists():  # else another process removed it as left behind before it was locked
            _held[folder] = lock
            return folder
        os.close(lock)


def remove(folder: Path) -> None:
    """Remove a folder with its contents, and release its lock if this process holds it."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _held.pop(folder, None)) is not None:
        os.close(lock)


def left_behind(prefix: str, where: str | None = None) -> list[Path]:
    """Return the folders of this user with this prefix in ``where`` that are no longer locked.

    They are locked from now on, until ``remove``: a process that is just about to lock one as its own must wait.
    """
    files = Path(where or tempfile.gettempdir()).glob(f"{prefix}*/{OWNER}")
    own = [file.parent for file in files if "-" not in file.parent.name.removeprefix(prefix)]
    found = []
    for folder in own:
        if folder not in _held and (lock := _locked(folder / OWNER)) is not None:
            _held[folder] = lock
            found.append(folder)
    return found


def _locked(file: Path) -> int | None:
    """Return a descriptor that locks a file of this user; None if another process holds it."""
    try:
        lock = os.open(file, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_uid == os.getuid():
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
