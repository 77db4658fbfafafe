"""Times of a collective, one after the other: by the host's clock, on a GPU by events of the device."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch

from bench.plan.comms import LEAST_ITERS, CommsSpec


def iterations(comms: CommsSpec, once_ns: float) -> int:
    """Return how many iterations are timed if one takes ``once_ns``: as many as fit ``max_seconds``."""
    if not comms.max_seconds or not once_ns:
        return comms.iters
    return max(LEAST_ITERS, min(comms.iters, int(comms.max_seconds * 1e9 / once_ns)))


def timed(call: Callable[[], object], number: int, device: torch.device, by_host: bool = False) -> list[int]:
    """Return the duration of each of ``number`` calls in ns, which follow each other without a pause.

    On a GPU the host enqueues all calls, and waits once in the end. ``by_host``: the call itself waits for the device.
    """
    if device.type == "cpu" or by_host:
        return _by_clock(call, number)
    return _by_events(call, number, device)


def _by_clock(call: Callable[[], object], number: int) -> list[int]:
    times = [time.perf_counter_ns()]
    for _ in range(number):
        call()
        times.append(time.perf_counter_ns())
    return _between(times)


def _by_events(call: Callable[[], object], number: int, device: torch.device) -> list[int]:
    module = torch.get_device_module(device)
    events = [module.Event(enable_timing=True) for _ in range(number + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()  # the call made the current stream wait for its end
    module.synchronize(device)
    return [max(1, round(a.elapsed_time(b) * 1e6)) for a, b in itertools.pairwise(events)]


def _between(times: list[int]) -> list[int]:
    return [max(1, b - a) for a, b in itertools.pairwise(times)]
