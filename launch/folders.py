"""Temporary folders of our own, and those that somebody has left behind who was killed.

Whoever makes a folder holds a lock on a file in it for as long as it lives: a folder whose lock is free was left.
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
    """A new folder in ``where`` (TMPDIR by default) that is ours until ``remove`` or our death."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        try:
            lock = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with contextlib.suppress(OSError):  # a file system without locks: nobody will take it for left behind
            fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / OWNER).exists():  # else somebody took it for left behind before it was locked
            _held[folder] = lock
            return folder
        os.close(lock)


def remove(folder: Path) -> None:
    """Remove a folder and all in it, and give its lock back if we hold it."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _held.pop(folder, None)) is not None:
        os.close(lock)


def left_behind(prefix: str, where: str | None = None) -> list[Path]:
    """The folders with this prefix in ``where`` that nobody holds any more, of those that this user has made."""
    folders = Path(where or tempfile.gettempdir()).glob(f"{prefix}*/{OWNER}")
    own = [file.parent for file in folders if "-" not in file.parent.name.removeprefix(prefix)]
    return [folder for folder in own if folder not in _held and _is_free(folder / OWNER)]


def _is_free(file: Path) -> bool:
    try:
        lock = os.open(file, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock).st_uid == os.getuid()
    except OSError:
        return False
    finally:
        os.close(lock)
