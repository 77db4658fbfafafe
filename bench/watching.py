"""``bench.watch``: measures the training steps of code in this process, such as a notebook's."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.machine.peaks import peak_tflops
from bench.messages.rank_record import Measurement, RankRecord, ScriptRecord
from bench.plan.options import SETTINGS
from bench.rank.memory import resident_mib
from bench.rank.script.ended import words
from bench.rank.script.ending import device_facts, software
from bench.rank.script.observer import Observer, Window
from bench.rank.script.surroundings import Surroundings
from bench.runner.script_steps import metrics, script_steps, verdict


class Watched:
    """What was seen: ``row`` has the columns of ``launches.csv`` that one process can know, after the block."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = {}

    def _repr_html_(self) -> str:
        import pandas as pd

        return pd.DataFrame({"value": self.row}).to_html(na_rep="", border=0)


@contextmanager
def watch(
    *, steps: int = 30, warmup_steps: int = 5, samples_per_step: int | None = None, count_flops: bool = False
) -> Iterator[Watched]:
    """Measure the steps of the training code in the block; it runs to its end, and is not stopped.

    After ``warmup_steps``, ``steps`` steps are measured; what comes later is not watched. If the block has fewer, the
    row is ``invalid`` and its reason says so. ``samples_per_step`` is needed if no DataLoader tells; ``count_flops``
    counts the FLOPs of a step in warm-up. Each process of several measures itself. Raises UsageError for a value that
    is not allowed, and what the block raises.
    """
    given = {"steps": steps, "warmup_steps": warmup_steps, "samples_per_step": samples_per_step}
    for name, value in given.items():
        if value is not None:
            SETTINGS[name].read(value, name)
    seen, process = Watched(), _Process()
    observer = Observer(Window(warmup_steps, steps, count_flops=count_flops), process, resident_mib())
    observer.install(spawns=True)
    marker = _marker()
    marker._marked = observer.marked
    try:
        yield seen
    finally:
        marker._marked = None
        observer.remove()
        seen.row = process.row(samples_per_step) or {
            "status": "invalid",
            "reason": words(observer, None, warmup_steps, steps),
        }


def _marker() -> Any:
    from bench.rank.script.names import alias

    return alias()


class _Process(Surroundings):
    """The surroundings of an observer that is alone in its process."""

    def __init__(self) -> None:
        self._began_at_ns = time.time_ns()
        self._record: RankRecord | None = None

    def measured(self, measurement: Measurement, record: ScriptRecord) -> None:
        """Keep the measurement."""
        rank = int(os.environ.get("RANK", 0))
        name, uuids = device_facts()
        facts = RankRecord(rank, int(os.environ.get("LOCAL_RANK", 0)), socket.gethostname(), os.getpid(), True)
        self._record = dataclasses.replace(
            facts, device=name, device_uuids=uuids, software=software(), measurement=measurement, script=record
        )

    def row(self, samples_per_step: int | None) -> dict[str, Any]:
        """Return the columns of the measurement; empty if there is none."""
        if self._record is None or self._record.script is None:
            return {}
        record, script = self._record, self._record.script
        steps = script_steps({0: record}, samples_per_step)
        row = metrics(steps, [script], self._began_at_ns, 1, peak_tflops(record.device, script.precision))
        return {
            **verdict(steps.faults),
            **row,
            "not_as_asked": "; ".join(steps.marks) or None,
            "device_name": record.device,
            "device_uuids": ";".join(record.device_uuids) or None,
            "hostname": record.host,
            **record.software,
        }
