"""When host memory is sampled: ranks and ``bench run`` signal each other with empty files in the scratch folder."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

MEASURING, MEASURED = "measuring", "measured"  # Signals of a rank.
SAMPLED = "sampled"  # The answer of ``bench run``.
POLL_S = 0.005
PATIENCE_S = 3.0  # How long a rank waits for the sample.


def tell(scratch: str | Path, launch: str, rank: int, what: str) -> None:
    """Signal that a rank is MEASURING or MEASURED. On a full disk only the sample is lost."""
    with contextlib.suppress(OSError):
        (Path(scratch) / f"{what}-{launch}-{rank}").touch()


def await_sample(scratch: str | Path, launch: str) -> None:
    """Wait until the launch has been sampled after its window, at most PATIENCE_S."""
    answer, deadline = Path(scratch) / f"{SAMPLED}-{launch}", time.monotonic() + PATIENCE_S
    while not answer.exists() and time.monotonic() < deadline:
        time.sleep(POLL_S)
