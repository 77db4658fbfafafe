"""The first thing that runs in a rank, whoever started it: find the entry by its name and call it."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence


def call(entry: str, argument: str) -> None:
    """Import ``package.module`` of ``package.module:function`` and call the function with ``argument``."""
    # torchrun gives every rank a session. Linux schedules by session (sched_autogroup), so that ranks which share one
    # have less of the processor each: 4 % of FSDP's throughput on two cores.
    with contextlib.suppress(PermissionError):  # it leads one already
        os.setsid()
    # Under the launch server the default would be forkserver: a DataLoader then takes 2 s to start instead of 0.05.
    multiprocessing.set_start_method("fork", force=True)
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)(argument)


def nothing() -> None:
    """What the launch server calls in a first child, to see that one can be forked."""


def main(argv: Sequence[str]) -> None:
    """A rank of torchrun's. Like a forked one it ends without the interpreter's teardown, in which torch may abort."""
    call(*argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
