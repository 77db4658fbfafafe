"""What a process does when the one that started it has died, so that no rank trains on without a supervisor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import threading
import time
from pathlib import Path

from launch.processes import end, is_resource_tracker, with_tmp

PR_SET_PDEATHSIG = 1  # prctl(2)
LOOK_SECONDS = 0.5


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies: its parent's thread that started it, to be exact."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died just before
        os.kill(os.getpid(), signal.SIGKILL)


def end_without_guard() -> threading.Thread:
    """Start a thread that, once our guard has died, does what the guard would have done, and ends this process.

    The guard is our parent, and TMPDIR is the private folder that it was to remove. Who has nothing more to do as
    everybody else is gone must join the thread, lest the process ends before it has done its work.
    """
    arguments = (os.getppid(), Path(os.environ["TMPDIR"]))
    thread = threading.Thread(target=_wait_and_end, args=arguments, daemon=True)
    thread.start()
    return thread


def _wait_and_end(guard: int, tmp: Path) -> None:
    while os.getppid() == guard:
        time.sleep(LOOK_SECONDS)
    # The resource tracker unlinks semaphores and ends by itself as soon as nobody, we included, holds its pipe.
    end(lambda: [p for p in with_tmp(tmp) if p.pid != os.getpid() and not is_resource_tracker(p)])
    shutil.rmtree(tmp, ignore_errors=True)
    os._exit(1)
