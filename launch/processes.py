"""Ends trees of processes: first by SIGTERM, a little later by SIGKILL."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

GRACE_S = 1.0  # between SIGTERM and SIGKILL
PATIENCE_S = 10.0  # on a busy machine a killed process may need time to free a GPU's memory
POLL_S = 0.01


def end(find: Callable[[], Iterable[psutil.Process]], grace_s: float = GRACE_S) -> bool:
    """Terminate the processes that ``find`` returns, and kill those that remain after ``grace_s``.

    Return whether all ended.

    ``find`` is called repeatedly, as processes may start others while they end. It is called once more when it returns
    none: during the search a process may have ended whose children had not been visited yet.
    """
    asked: set[psutil.Process] = set()
    begun = time.monotonic()
    found_nothing = 0
    while found_nothing < 2:
        alive = [process for process in find() if not _is_zombie(process)]
        found_nothing = 0 if alive else found_nothing + 1
        waited = time.monotonic() - begun
        if alive and waited > grace_s + PATIENCE_S:
            return False
        for process in alive:
            with contextlib.suppress(psutil.Error):
                if waited > grace_s:
                    process.kill()
                elif process not in asked:
                    process.terminate()
        asked.update(alive)
        time.sleep(POLL_S)
    return True


def descendants(pid: int, spared: Iterable[int] = ()) -> list[psutil.Process]:
    """Return all processes below ``pid`` except those of ``spared``; none if it has ended."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    keep = set(spared)
    return [process for process in found if process.pid not in keep]


def processes_with_tmpdir(folder: Path) -> list[psutil.Process]:
    """Return all processes whose environment has ``folder`` as TMPDIR, wherever they are in the process tree."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(folder):
                found.append(process)
    return found


def is_resource_tracker(process: psutil.Process) -> bool:
    """Return whether a process is multiprocessing's tracker, which unlinks semaphores and ends after all others."""
    with contextlib.suppress(psutil.Error):
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    return False


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
