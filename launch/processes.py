"""How a tree of processes is ended: asked first, killed a little later."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

GRACE_S = 1.0  # between SIGTERM and SIGKILL
PATIENCE_S = 10.0  # a killed process may still have to give back a GPU's memory, on a machine that is busy
POLL_S = 0.01


def end(find: Callable[[], Iterable[psutil.Process]], grace_s: float = GRACE_S) -> bool:
    """TERM what ``find`` finds, and KILL what is still there ``grace_s`` later, or came since; True if nothing is left.

    ``find`` is asked again and again, as processes that are being ended may start others; and once more when it finds
    nothing: while it looked, a process may have ended whose children it had not come to.
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
    """All processes below ``pid``, less those of ``spared``; none if it is gone."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    keep = set(spared)
    return [process for process in found if process.pid not in keep]


def with_tmp(folder: Path) -> list[psutil.Process]:
    """All processes whose environment names ``folder`` as its TMPDIR, wherever they hang in the tree."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(folder):
                found.append(process)
    return found


def is_resource_tracker(process: psutil.Process) -> bool:
    """multiprocessing's tracker: once everything else is dead it unlinks the semaphores and ends by itself."""
    with contextlib.suppress(psutil.Error):
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    return False


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
