"""A stopwatch of the workload's own: the time at which each call of loss() or step() begins, written at once.

``stopwatch.py:Watched:of=vae.Vae`` is the workload ``Vae`` of ``vae.py`` with it, and ``of=torchvision`` that adapter,
with its options. A file ``LABEL-RANK`` in the folder $STOPWATCH has a line for each call.
"""

import os
import time
from typing import Any

from find import workload_of


class Watched:
    """Another workload, of which each call is noted."""

    def __new__(cls, of: str, label: str, **options: Any) -> Any:
        workload = workload_of(of, **options)
        if folder := os.environ.get("STOPWATCH"):
            method = "step" if hasattr(workload, "step") else "loss"
            file = f"{folder}/{label}-{os.environ['RANK']}"
            setattr(workload, method, _noted(getattr(workload, method), file))
        return workload


def _noted(method: Any, file: str) -> Any:
    laps = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)  # bench has counted FLOPs before

    def noting(*arguments: Any) -> Any:
        os.write(laps, f"{time.perf_counter_ns()}\n".encode())
        return method(*arguments)

    return noting
