"""Runs under the ``torchrun`` command, with a store for its ranks that only this host can reach.

torchrun's own store would listen on all addresses. It uses the store of this process instead, whose port it is given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from launch.orphans import end_without_guard
from launch.rendezvous import ADDRESS, host_store


def main(argv: Sequence[str]) -> None:
    """Run torchrun with the arguments ``SECONDS WORD...``; ranks wait for each other at the store for SECONDS."""
    guard, ending = os.getppid(), end_without_guard()
    from torch.distributed import run

    store = host_store(float(argv[0]))
    try:
        run.main(["--master-addr", ADDRESS, "--master-port", str(store.port), *argv[1:]])
    finally:
        if os.getppid() != guard:
            ending.join()


if __name__ == "__main__":
    main(sys.argv[1:])
