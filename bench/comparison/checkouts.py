"""The folder of a comparison's sides, with git worktrees of the user's repository in it; it goes away with us.

A process beside us waits for our end, however we end, and takes the worktrees out of the repository then.
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
REPOSITORY = "repository"  # a file in the folder: the path of the user's repository
GONE_WITHIN_S = 10.0  # ranks of ours that are being ended may still write to a worktree


@contextlib.contextmanager
def folder_of_sides(top: Path | None, where: str) -> Iterator[Path]:
    """A folder in ``where`` for worktrees of the repository ``top`` and other things of the sides, gone afterwards.

    Those of comparisons that were killed together with who waited for their end are removed as well.
    """
    for left in folders.left_behind(PREFIX, where):
        remove(left)
    folder = folders.make(PREFIX, where)
    if top:
        (folder / REPOSITORY).write_bytes(os.fsencode(top))
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.comparison.checkouts", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        keeper.wait()
        remove(folder)  # the keeper may have been killed


def remove(folder: Path) -> None:
    """Take the worktrees in a folder of sides out of their repository, and remove it."""
    try:
        top = os.fsdecode((folder / REPOSITORY).read_bytes())
    except OSError:
        top = ""
    deadline = time.monotonic() + GONE_WITHIN_S
    while True:
        for worktree in [path for path in _inside(folder) if path.is_dir() and not path.is_symlink()]:
            shutil.rmtree(worktree, ignore_errors=True)
            if top:  # one by one: git worktree prune would also forget those on a disk that is not mounted
                git(top, "worktree", "remove", "--force", "--force", str(worktree))  # a half-made one is locked
        folders.remove(folder)
        if not folder.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.1)


def git(folder: Path | str | None, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder; FileNotFoundError if there is none."""
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=git_environment())


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def main(argv: Sequence[str]) -> None:
    """``FOLDER``: wait until our standard input closes, then remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever signals a group means bench
    sys.stdin.read()
    remove(Path(argv[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
