"""The first code that runs in a rank under every launcher: finds the entry by its name and calls it."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import sys
import traceback
from typing import NoReturn

from launch.orphans import die_with_parent


def call(entry: str, argument: str) -> NoReturn:
    """Import ``package.module`` of ``package.module:function``, call the function with ``argument``, and exit.

    The process ends without the interpreter's shutdown, in which torch may abort, and which would wait for threads,
    child processes and exit handlers that the entry has left behind.
    """
    code = 1
    try:
        die_with_parent()
        # torchrun gives every rank a session. Linux schedules by session (sched_autogroup): ranks that share one get
        # less processor time each, which costs 4 % of FSDP's throughput on two cores.
        with contextlib.suppress(PermissionError):  # already leads a session
            os.setsid()
        # Under the launch server the default would be forkserver, with which a DataLoader starts in 2 s instead of 0.05
        # s.
        multiprocessing.set_start_method("fork", force=True)
        module, _, function = entry.partition(":")
        getattr(importlib.import_module(module), function)(argument)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):  # the log may be closed or unable to grow
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def do_nothing() -> None:
    """Do nothing. The launch server calls this in a first child, to check that it can fork."""


if __name__ == "__main__":
    call(*sys.argv[1:])
