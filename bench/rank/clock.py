"""Clocks that mark the ends of a step's parts without waiting for the device."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from bench.messages.rank_record import PARTS

SCHEDSTAT, OF_ALL_THREADS = "/proc/self/schedstat", "/proc/self/task/*/schedstat"


class Clock(Protocol):
    """Times the parts of steps.

    Call ``start`` once, then ``mark`` at the end of each part (``marks_a_step`` calls in a step), and ``close`` after
    the last step. The durations may be read when the device has finished.
    """

    def start(self) -> None:
        """Begin the first part."""
        ...

    def mark(self, part: str = "") -> None:
        """End ``part``; the next one begins."""
        ...

    def close(self) -> None:
        """Note that all steps so far are enqueued; the host then waits for the device."""
        ...

    def window_ns(self) -> int:
        """Return the nanoseconds from the start until now, when the device has finished; more steps may follow."""
        ...

    def waited_ns(self) -> int:
        """Return how many nanoseconds of the window, outside of all steps, this process waited for a processor."""
        ...

    def parts_ns(self) -> list[int]:
        """Return the nanoseconds of every part of every step, on the device's own timeline."""
        ...

    def host_ns(self) -> list[int]:
        """Return the same as the host saw it: on an accelerator the time to enqueue, except for the data wait."""
        ...


class HostClock:
    """A clock for the CPU, where the host's timeline is the device's.

    The window ends where its last step ends, so that nothing comes between them.
    """

    def __init__(self) -> None:
        self._marks: list[int] = []

    def start(self) -> None:
        """Begin the first part."""
        self._marks = [time.perf_counter_ns()]

    def mark(self, part: str = "") -> None:
        """End a part; the next one begins. Its place among the marks of a step says which it is."""
        self._marks.append(time.perf_counter_ns())

    def close(self) -> None:
        """Do nothing: the CPU has no queue."""
        pass

    def window_ns(self) -> int:
        """Return the nanoseconds from the start to the last mark."""
        return self._marks[-1] - self._marks[0]

    def waited_ns(self) -> int:
        """Return 0: the window has no time outside of its steps."""
        return 0

    def parts_ns(self) -> list[int]:
        """Return the nanoseconds of every part of every step."""
        return [after - before for before, after in zip(self._marks, self._marks[1:], strict=False)]

    def host_ns(self) -> list[int]:
        """Return the same: the host is the device."""
        return self.parts_ns()


class AcceleratorClock(HostClock):
    """A clock for an accelerator: events on the current stream, which the device stamps as it passes them.

    The window is the host's: it begins before the first event and ends when the host has seen that the device has
    finished. If the host has to wait for a processor at either end, the window is longer than its steps.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._module = torch.get_device_module(device)
        self._events: list[Any] = []
        self._at_start_ns = self._before_end_ns = self._at_end_ns = 0  # time that the host waited for a processor

    def start(self) -> None:
        """Begin the first part, on the host and on the device."""
        delay_ns = run_delay_ns()
        super().start()
        self._events = []
        self._record()
        self._at_start_ns = run_delay_ns() - delay_ns

    def close(self) -> None:
        """Note how long the host has waited for a processor so far."""
        self._before_end_ns = run_delay_ns()

    def window_ns(self) -> int:
        """Return the nanoseconds from the start until now by the host's clock."""
        window_ns = time.perf_counter_ns() - self._marks[0]
        self._at_end_ns = run_delay_ns() - self._before_end_ns
        return window_ns

    def waited_ns(self) -> int:
        """Return the nanoseconds that the host waited for a processor at both ends of the window."""
        return self._at_start_ns + self._at_end_ns

    def mark(self, part: str = "") -> None:
        """End a part, on the host and on the device."""
        super().mark(part)
        self._record()

    def _record(self) -> None:
        event = self._module.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def parts_ns(self) -> list[int]:
        """Return the nanoseconds between the events of the device."""
        pairs = zip(self._events, self._events[1:], strict=False)
        return [round(before.elapsed_time(after) * 1e6) for before, after in pairs]

    def host_ns(self) -> list[int]:
        """Return the nanoseconds between the marks of the host."""
        return super().parts_ns()


def run_delay_ns(all_threads: bool = False) -> int:
    """Return how many nanoseconds the main thread of this process has waited for a processor while it could run.

    With ``all_threads`` the sum over the threads that are there. 0 where the kernel does not count it (proc(5),
    schedstat).
    """
    return sum(map(_run_delay_ns, glob.iglob(OF_ALL_THREADS) if all_threads else [SCHEDSTAT]))


def _run_delay_ns(file: str) -> int:
    try:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            return int(os.read(descriptor, 100).split()[1])
        finally:
            os.close(descriptor)
    except (OSError, IndexError, ValueError):
        return 0


def by_part(durations: list[int], micro_batches: int = 1, parts: Sequence[str] = PARTS) -> dict[str, list[int]]:
    """Return the durations between marks as one list for each part: for each step the sum over its micro-batches.

    A micro-batch has all parts except the last one, the optimizer's, which comes once in a step.
    """
    each, marks = len(parts) - 1, marks_a_step(micro_batches, parts)
    steps = [durations[i : i + marks] for i in range(0, len(durations), marks)]
    repeated = {part: [sum(step[i : marks - 1 : each]) for step in steps] for i, part in enumerate(parts[:-1])}
    return {**repeated, parts[-1]: [step[-1] for step in steps]}


def by_step(durations: list[int], micro_batches: int = 1, parts: Sequence[str] = PARTS) -> list[int]:
    """Return the sum of each step's parts. Raise AssertionError if the marks do not fill whole steps."""
    marks = marks_a_step(micro_batches, parts)
    assert len(durations) % marks == 0, f"{len(durations)} marks do not fill steps of {marks} marks"
    return [sum(durations[i : i + marks]) for i in range(0, len(durations), marks)]


def marks_a_step(micro_batches: int, parts: Sequence[str] = PARTS) -> int:
    """Return how often ``mark`` is called in a step."""
    return (len(parts) - 1) * micro_batches + 1
