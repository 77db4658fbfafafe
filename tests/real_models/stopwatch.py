"""A stopwatch of the workload's own: the time at which each call of loss() or step() begins.

``stopwatch.py:Watched:of=vae.Vae:label=vae`` is the workload ``Vae`` of ``vae.py`` with it, and ``of=torchvision`` that
adapter, with its options. The file ``LABEL-RANK`` in the folder $STOPWATCH has the times in nanoseconds, as 64-bit
numbers. It is mapped to memory: a step is not interrupted by a call of the system, and an exit loses nothing.
"""

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Any

from find import workload_of

MOST = 4096  # calls


class Watched:
    """Another workload, of which each call is noted."""

    def __new__(cls, of: str, label: str, **options: Any) -> Any:
        workload = workload_of(of, **options)
        if folder := os.environ.get("STOPWATCH"):
            method = "step" if hasattr(workload, "step") else "loss"
            file = Path(folder) / f"{label}-{os.environ['RANK']}"
            setattr(workload, method, _noted(getattr(workload, method), file))
        return workload


def _noted(method: Any, file: Path) -> Any:
    file.write_bytes(bytes(8 * MOST))  # the calls in which bench has counted FLOPs are gone
    with file.open("r+b") as stream:
        laps = mmap.mmap(stream.fileno(), 0)
    offsets = iter(range(0, 8 * MOST, 8))

    def noting(*arguments: Any) -> Any:
        struct.pack_into("<q", laps, next(offsets), time.perf_counter_ns())
        return method(*arguments)

    return noting


def times(file: Path) -> list[int]:
    """Return what a file has."""
    return [ns for (ns,) in struct.iter_unpack("<q", file.read_bytes()) if ns]
