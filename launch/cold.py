"""What the ``torchrun`` command runs, with a store for its ranks that only this host can reach.

torchrun would have its store listen on all addresses. The store of this process, at the port that torchrun is told, is
taken in its place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from launch.orphans import end_without_guard
from launch.rendezvous import ADDRESS, hosted


def main(argv: Sequence[str]) -> None:
    """``SECONDS WORD...``: run torchrun with these words; ranks wait for each other that long at the store."""
    guard, ending = os.getppid(), end_without_guard()
    from torch.distributed import run

    store = hosted(float(argv[0]))
    try:
        run.main(["--master-addr", ADDRESS, "--master-port", str(store.port), *argv[1:]])
    finally:
        if os.getppid() != guard:
            ending.join()


if __name__ == "__main__":
    main(sys.argv[1:])
