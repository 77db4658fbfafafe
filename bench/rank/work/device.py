"""What an accelerator tells of a counted step: where the host waits for it, its peak of memory, and its kernels."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, supported_activities

from bench.messages.counts import ALLOCATED, CountLine, Counts

WAITS = "called a synchronizing"  # of the warnings of CUDA's and ROCm's sync debug mode
ACTIVITIES = {"cuda": ProfilerActivity.CUDA, "xpu": ProfilerActivity.XPU}
NO_KERNELS = ("Memcpy", "Memset")  # names of copies and fills of memory


class DeviceWatch:
    """Notes during a step where the host waits for the accelerator, and the largest memory of its allocator.

    ``part`` is the present part of the step. On the CPU nothing is noted.
    """

    def __init__(self, device: torch.device) -> None:
        self.part = ""
        self._device = device
        self._waits: Counter[str] = Counter()
        self._peak: int | None = None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Note what happens inside. Waits are known on CUDA and ROCm, by ``torch.cuda.set_sync_debug_mode``."""
        if self._device.type == "cpu":
            yield
            return
        module = torch.get_device_module(self._device)
        module.reset_peak_memory_stats(self._device)
        with self._noting_waits() if self._device.type == "cuda" else contextlib.nullcontext():
            yield
        self._peak = module.max_memory_allocated(self._device)

    @contextlib.contextmanager
    def _noting_waits(self) -> Iterator[None]:
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            show = warnings.showwarning

            def note(message: Any, *rest: Any, **named: Any) -> None:
                if WAITS in str(message):
                    self._waits[self.part] += 1
                else:
                    show(message, *rest, **named)

            warnings.simplefilter("always")
            warnings.showwarning = note
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode(before)

    def lines(self) -> Iterator[CountLine]:
        """Yield what was noted."""
        for part, calls in self._waits.items():
            yield CountLine(part, "sync", "the device", calls=calls)
        if self._peak is not None:
            yield CountLine("step", "memory", ALLOCATED, bytes=self._peak)


def with_kernels(counts: Counts, take: Callable[[], object], device: torch.device) -> Counts:
    """Return counts with the number of kernels that a step launches, which ``take`` trains under torch's profiler.

    On the CPU, and where the profiler sees no kernel, the counts are as they were.
    """
    activity = ACTIVITIES.get(device.type)
    if activity is None or activity not in supported_activities():
        return counts
    with profile(activities=[activity]) as profiled:
        take()
        torch.get_device_module(device).synchronize(device)
    if not (launches := launched(profiled.events())):
        return counts
    lines = [*counts.lines, CountLine("step", "kernel", "kernel launches", calls=launches)]
    return dataclasses.replace(counts, lines=sorted(lines, key=lambda line: line.key))


def launched(events: Iterable[Any]) -> int:
    """Return how many of a profile's events are kernels of a device."""
    return sum(
        event.device_type.name != "CPU" and not event.is_user_annotation and not event.name.startswith(NO_KERNELS)
        for event in events
    )
