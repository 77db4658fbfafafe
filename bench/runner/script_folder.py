"""The folder that a script runs in: it sees the files of the folder that it was called in, and writes into its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

SMALL = 1 << 20  # bytes of a file that is copied rather than linked
MOST_ENTRIES = 1000  # entries of all folders that are made anew; a larger folder, such as one of data, is linked
LINKED = {".git", "__pycache__", "node_modules"}


def make_folder(home: Path, folder: Path, without: Collection[Path] = ()) -> None:
    """Make ``folder`` with the contents of ``home`` except some, so that new and changed files stay in it.

    Small files are copied, large ones linked; folders are made anew and filled in the same way, as long as they have
    few entries. Raise OSError if it cannot be written.
    """
    folder.mkdir()
    _fill(home, folder, {str(path.resolve()) for path in without}, MOST_ENTRIES)


def _fill(source: Path, target: Path, without: Collection[str], left: int) -> int:
    """Fill a folder. Return how many entries may still be made."""
    entries = sorted(os.scandir(source), key=lambda entry: entry.name)
    left -= len(entries)
    for entry in entries:
        new = target / entry.name
        if os.path.realpath(entry.path) in without:
            continue
        if entry.is_dir() and not _is_linked(entry) and _entries(entry.path) <= left:
            new.mkdir()
            left = _fill(Path(entry.path), new, without, left)
        elif not (left >= 0 and _copied(entry, new)):
            new.symlink_to(entry.path)
    return left


def _copied(entry: os.DirEntry[str], new: Path) -> bool:
    """Copy a small file. Return False for anything else, and for a file that cannot be read."""
    if not entry.is_file() or entry.stat().st_size > SMALL:
        return False
    try:
        shutil.copy2(entry.path, new)
    except OSError:
        new.unlink(missing_ok=True)
        return False
    return True


def _is_linked(entry: os.DirEntry[str]) -> bool:
    environment = os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))
    return entry.is_symlink() or entry.name in LINKED or environment


def _entries(folder: str) -> int:
    try:
        return len(os.listdir(folder))
    except OSError:
        return MOST_ENTRIES + 1
