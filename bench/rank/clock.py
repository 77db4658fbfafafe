"""Clocks that mark the ends of a step's parts without waiting for the device."""

from __future__ import annotations

import os
import time
from typing import Any, Protocol

import torch

from bench.messages.rank_record import PARTS

SCHEDSTAT = "/proc/self/schedstat"


class Clock(Protocol):
    """``start`` once, then one ``mark`` at the end of each part, ``marks_a_step`` a step; read when all is done."""

    def start(self) -> None: ...
    def mark(self) -> None: ...

    def close(self) -> None:
        """All steps so far are enqueued, and the host will wait for the device."""
        ...

    def window_ns(self) -> int:
        """From the start until now, when the device has done all; more steps may follow."""
        ...

    def waited_ns(self) -> int:
        """How much of the window the kernel took from this process outside of all steps, as far as it says."""
        ...

    def parts_ns(self) -> list[int]:
        """The duration of every part of every step, on the device's own timeline."""
        ...

    def host_ns(self) -> list[int]:
        """The same as the host saw it: on an accelerator the time to enqueue, except for the data wait."""
        ...


class HostClock:
    """For the CPU, where the host's timeline is the device's: the window ends where its last step does, so that nothing
    can come between them."""

    def __init__(self) -> None:
        self._marks: list[int] = []

    def start(self) -> None:
        self._marks = [time.perf_counter_ns()]

    def mark(self) -> None:
        self._marks.append(time.perf_counter_ns())

    def close(self) -> None:
        pass

    def window_ns(self) -> int:
        return self._marks[-1] - self._marks[0]

    def waited_ns(self) -> int:
        return 0

    def parts_ns(self) -> list[int]:
        return [after - before for before, after in zip(self._marks, self._marks[1:], strict=False)]

    def host_ns(self) -> list[int]:
        return self.parts_ns()


class AcceleratorClock(HostClock):
    """For an accelerator: events on the current stream, which the device stamps as it passes them.

    The window is the host's: it begins before the first event and ends when the host has seen that the device is done.
    A host that has to wait for a processor there makes the window longer than its steps.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._module = torch.get_device_module(device)
        self._events: list[Any] = []
        self._at_start_ns = self._before_end_ns = self._at_end_ns = 0  # what the host waited for a processor

    def start(self) -> None:
        delay_ns = run_delay_ns()
        super().start()
        self._events = []
        self._record()
        self._at_start_ns = run_delay_ns() - delay_ns

    def close(self) -> None:
        self._before_end_ns = run_delay_ns()

    def window_ns(self) -> int:
        window_ns = time.perf_counter_ns() - self._marks[0]
        self._at_end_ns = run_delay_ns() - self._before_end_ns
        return window_ns

    def waited_ns(self) -> int:
        return self._at_start_ns + self._at_end_ns

    def mark(self) -> None:
        super().mark()
        self._record()

    def _record(self) -> None:
        event = self._module.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def parts_ns(self) -> list[int]:
        pairs = zip(self._events, self._events[1:], strict=False)
        return [round(before.elapsed_time(after) * 1e6) for before, after in pairs]

    def host_ns(self) -> list[int]:
        return super().parts_ns()


def run_delay_ns() -> int:
    """How long this process's main thread has waited for a processor while it could run; 0 where the kernel keeps no
    account (proc(5), schedstat)."""
    try:
        descriptor = os.open(SCHEDSTAT, os.O_RDONLY)
        try:
            return int(os.read(descriptor, 100).split()[1])
        finally:
            os.close(descriptor)
    except (OSError, IndexError, ValueError):
        return 0


def by_part(durations: list[int], micro_batches: int = 1) -> dict[str, list[int]]:
    """A flat list of what ``mark`` ended, as one list a part: of each step the sum over its micro-batches.

    A micro-batch has all parts but the last, the optimizer's, which comes once a step.
    """
    each, marks = len(PARTS) - 1, marks_a_step(micro_batches)
    steps = [durations[i : i + marks] for i in range(0, len(durations), marks)]
    repeated = {part: [sum(step[i : marks - 1 : each]) for step in steps] for i, part in enumerate(PARTS[:-1])}
    return {**repeated, PARTS[-1]: [step[-1] for step in steps]}


def by_step(durations: list[int], micro_batches: int = 1) -> list[int]:
    """The sums of each step's parts. AssertionError for marks that make no whole step: none may be missing."""
    marks = marks_a_step(micro_batches)
    assert len(durations) % marks == 0, f"{len(durations)} marks are no whole steps of {marks}"
    return [sum(durations[i : i + marks]) for i in range(0, len(durations), marks)]


def marks_a_step(micro_batches: int) -> int:
    return (len(PARTS) - 1) * micro_batches + 1
