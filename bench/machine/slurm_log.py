"""Why Slurm ends the job that this process is in: its log says so, the signal does not."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

LOG = "STEPBENCH_SLURM_LOG"  # set in the script of a job
LAST = 1 << 16  # bytes that are read
FRESH = timedelta(seconds=60)  # the log has also earlier starts of the job
ENDED = re.compile(r"^slurmstepd\S*: error: \*\*\* JOB \d+ ON \S+ CANCELLED AT (\S+)(?: DUE TO ([A-Z ]+))?", re.M)


def why_ended(environment: Mapping[str, str] = os.environ, now: datetime | None = None) -> str:
    """Return Slurm's reason in its own words, such as ``node failure``, and ``cancelled`` if it gives none.

    An empty text: the job goes on, there is none, or its log does not say.
    """
    text = ""
    with contextlib.suppress(KeyError, OSError), Path(environment[LOG]).open("rb") as stream:
        stream.seek(max(stream.seek(0, os.SEEK_END) - LAST, 0))
        text = stream.read(LAST).decode(errors="replace")
    for at, reason in reversed(ENDED.findall(text)):
        with contextlib.suppress(ValueError):
            if abs((now or datetime.now()) - datetime.fromisoformat(at)) < FRESH:
                return reason.strip().lower() or "cancelled"
    return ""
