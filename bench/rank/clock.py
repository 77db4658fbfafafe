"""Clocks that mark the ends of a step's parts without waiting for the device."""

from __future__ import annotations

import time
from typing import Protocol

import torch

from bench.messages import PARTS


class Clock(Protocol):
    """``start`` once, then one ``mark`` at the end of each part, ``marks_a_step`` a step; read when all is done."""

    def start(self) -> None: ...
    def mark(self) -> None: ...
    def parts_ns(self) -> list[int]:
        """The duration of every part of every step, on the device's own timeline."""
        ...

    def host_ns(self) -> list[int]:
        """The same as the host saw it: on CUDA the time to enqueue, except for the data wait."""
        ...


class HostClock:
    """For the CPU, where the host's timeline is the device's."""

    def __init__(self) -> None:
        self._marks: list[int] = []

    def start(self) -> None:
        self._marks = [time.perf_counter_ns()]

    def mark(self) -> None:
        self._marks.append(time.perf_counter_ns())

    def parts_ns(self) -> list[int]:
        return [after - before for before, after in zip(self._marks, self._marks[1:], strict=False)]

    def host_ns(self) -> list[int]:
        return self.parts_ns()


class CudaClock(HostClock):
    """For CUDA: events on the current stream, which the device stamps as it passes them."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[torch.cuda.Event] = []

    def start(self) -> None:
        super().start()
        self._events = []
        self._record()

    def mark(self) -> None:
        super().mark()
        self._record()

    def _record(self) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def parts_ns(self) -> list[int]:
        pairs = zip(self._events, self._events[1:], strict=False)
        return [round(before.elapsed_time(after) * 1e6) for before, after in pairs]

    def host_ns(self) -> list[int]:
        return super().parts_ns()


def by_part(durations: list[int], micro_batches: int = 1) -> dict[str, list[int]]:
    """A flat list of what ``mark`` ended, as one list a part: of each step the sum over its micro-batches.

    A micro-batch has all parts but the last, the optimizer's, which comes once a step.
    """
    each, marks = len(PARTS) - 1, marks_a_step(micro_batches)
    steps = [durations[i : i + marks] for i in range(0, len(durations), marks)]
    repeated = {part: [sum(step[i : marks - 1 : each]) for step in steps] for i, part in enumerate(PARTS[:-1])}
    return {**repeated, PARTS[-1]: [step[-1] for step in steps]}


def by_step(durations: list[int], micro_batches: int = 1) -> list[int]:
    """The sums of each step's parts."""
    marks = marks_a_step(micro_batches)
    return [sum(durations[i : i + marks]) for i in range(0, len(durations), marks)]


def marks_a_step(micro_batches: int) -> int:
    return (len(PARTS) - 1) * micro_batches + 1
