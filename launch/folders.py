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
    """Return the folders of this user with this prefix in ``where`` that are no longer locked."""
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
