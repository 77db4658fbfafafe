"""The first thing that runs in a rank, whoever started it: find the entry by its name and call it."""

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

    The process ends without the interpreter's teardown: torch may abort in it, and it waits for whatever the entry has
    left behind, as threads, child processes and exit handlers.
    """
    code = 1
    try:
        die_with_parent()
        # torchrun gives every rank a session. Linux schedules by session (sched_autogroup), so that ranks which share
        # one have less of the processor each: 4 % of FSDP's throughput on two cores.
        with contextlib.suppress(PermissionError):  # it leads one already
            os.setsid()
        # Under the launch server the default would be forkserver: a DataLoader then takes 2 s to start, not 0.05.
        multiprocessing.set_start_method("fork", force=True)
        module, _, function = entry.partition(":")
        getattr(importlib.import_module(module), function)(argument)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):  # a log that cannot grow any more, or that the entry has closed
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def nothing() -> None:
    """What the launch server calls in a first child, to see that one can be forked."""


if __name__ == "__main__":
    call(*sys.argv[1:])
