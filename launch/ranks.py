"""The first thing that runs in a rank, whoever started it: find the entry by its name and call it."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Sequence


def call(entry: str, argument: str) -> None:
    """Import ``package.module`` of ``package.module:function`` and call the function with ``argument``."""
    # Under the launch server the default would be forkserver: a DataLoader then takes 2 s to start instead of 0.05.
    multiprocessing.set_start_method("fork", force=True)
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)(argument)


def main(argv: Sequence[str]) -> None:
    call(*argv)


if __name__ == "__main__":
    main(sys.argv[1:])
