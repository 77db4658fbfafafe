"""The temporary folder of a comparison's sides, with git worktrees of the user's repository.

A separate process waits until this one ends, for whatever reason, and then removes the worktrees from the repository.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.machine.environment import git_environment
from launch import folders

PREFIX = "bench-sides-"
REPOSITORY = "repository"  # File in the folder with the path of the user's repository.
GONE_WITHIN_S = 10.0  # Time for removal, as ranks that are being ended may still write to a worktree.


@contextlib.contextmanager
def folder_of_sides(top: Path | None, where: str) -> Iterator[Path]:
    """Create a folder in ``where`` for worktrees of the repository ``top``, and remove it afterwards.

    Folders left by comparisons that were killed together with their cleanup process are removed as well.
    """
    for left in folders.left_behind(PREFIX, where):
        remove(left)
    folder = folders.make(PREFIX, where)
    if top:
        (folder / REPOSITORY).write_bytes(os.fsencode(top))
    cleaner = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.runner.checkouts", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        assert cleaner.stdin is not None
        cleaner.stdin.close()
        cleaner.wait()
        remove(folder)  # The cleanup process may have been killed.


def remove(folder: Path) -> None:
    """Remove a folder of sides, and its worktrees from their repository."""
    try:
        top = os.fsdecode((folder / REPOSITORY).read_bytes())
    except OSError:
        top = ""
    deadline = time.monotonic() + GONE_WITHIN_S
    while True:
        for worktree in [path for path in _inside(folder) if path.is_dir() and not path.is_symlink()]:
            shutil.rmtree(worktree, ignore_errors=True)
            if top:  # Not git worktree prune, which also removes those on unmounted disks.
                git(top, "worktree", "remove", "--force", "--force", str(worktree))  # Unfinished ones are locked.
        folders.remove(folder)
        if not folder.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.1)


def git(folder: Path | str | None, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder; FileNotFoundError if git is not installed."""
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=git_environment())


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def main(argv: Sequence[str]) -> None:
    """Wait until standard input closes, then remove the folder ``argv[0]``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Signals to the process group are meant for bench.
    sys.stdin.read()
    remove(Path(argv[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
