"""An independent stopwatch for the scripts of this folder: the time at the end of each step, written at once."""

from __future__ import annotations

import os
import time

LOG = os.environ.get("STOPWATCH", "")
_file = os.open(f"{LOG}-{os.environ.get('RANK', '0')}", os.O_WRONLY | os.O_CREAT | os.O_APPEND) if LOG else None


def lap(samples: int) -> None:
    """Note the end of a step, and how many samples this rank trained in it."""
    if _file is not None:
        os.write(_file, f"{time.perf_counter_ns()} {samples}\n".encode())
