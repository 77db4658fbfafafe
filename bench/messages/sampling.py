"""When a rank's host memory is sampled: it and ``bench run`` tell each other by empty files in the scratch folder."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

MEASURING, MEASURED = "measuring", "measured"  # what a rank says
SAMPLED = "sampled"  # the answer
POLL_S = 0.005
PATIENCE_S = 3.0  # of a rank, for its sample


def tell(scratch: str | Path, launch: str, rank: int, what: str) -> None:
    """A rank has come to MEASURING or MEASURED. A disk without room for it costs a figure and no more."""
    with contextlib.suppress(OSError):
        (Path(scratch) / f"{what}-{launch}-{rank}").touch()


def await_sample(scratch: str | Path, launch: str) -> None:
    """Return when this launch has been sampled after its window, or nobody seems to do it."""
    answer, deadline = Path(scratch) / f"{SAMPLED}-{launch}", time.monotonic() + PATIENCE_S
    while not answer.exists() and time.monotonic() < deadline:
        time.sleep(POLL_S)
