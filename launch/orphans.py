"""Ends a process when its parent has died, so that no rank trains without supervision."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import threading
import time
from pathlib import Path

from launch.processes import end, is_resource_tracker, processes_with_tmpdir

PR_SET_PDEATHSIG = 1  # prctl(2)
LOOK_SECONDS = 0.5


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent dies (exactly: the thread of the parent that started it)."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died just before
        os.kill(os.getpid(), signal.SIGKILL)


def end_without_guard() -> threading.Thread:
    """Start a thread that does the guard's work if the guard dies, and then ends this process.

    The guard is the parent, and TMPDIR is the private folder that it would have removed. If the main thread finishes
    because all other processes have ended, it must join this thread, so that the process does not end before the work
    is done.
    """
    arguments = (os.getppid(), Path(os.environ["TMPDIR"]))
    thread = threading.Thread(target=_wait_and_end, args=arguments, daemon=True)
    thread.start()
    return thread


def _wait_and_end(guard: int, tmp: Path) -> None:
    while os.getppid() == guard:
        time.sleep(LOOK_SECONDS)
    # The resource tracker unlinks semaphores and ends by itself once no process, this one included, holds its pipe.
    end(lambda: [p for p in processes_with_tmpdir(tmp) if p.pid != os.getpid() and not is_resource_tracker(p)])
    shutil.rmtree(tmp, ignore_errors=True)
    os._exit(1)
