"""Spans of time, each of one part of a step, on the host's clock and, on an accelerator, on the device's."""

from __future__ import annotations

import time
from typing import Any


class Timeline:
    """Consecutive spans. ``mark`` ends one and says to which part it belonged.

    With a device module, such as ``torch.cuda``, each mark is also an event on the device's current stream, which the
    host does not wait for.
    """

    def __init__(self, module: Any = None) -> None:
        self._module = module
        self._times = [time.perf_counter_ns()]
        self._events = [self._event()] if module else []
        self.parts: list[str] = []

    def __len__(self) -> int:
        return len(self.parts)

    def mark(self, part: str) -> None:
        """End a span of ``part``; the next one begins."""
        self.parts.append(part)
        self._times.append(time.perf_counter_ns())
        if self._module:
            self._events.append(self._event())

    def elapsed_ns(self) -> int:
        """Return the nanoseconds from the start to the last mark, on the host."""
        return self._times[-1] - self._times[0]

    def host_ns(self) -> list[int]:
        """Return the nanoseconds of each span on the host."""
        return [after - before for before, after in zip(self._times, self._times[1:], strict=False)]

    def device_ns(self) -> list[int]:
        """Return the nanoseconds of each span on the device, which must have finished; on the CPU the host's."""
        if not self._module:
            return self.host_ns()
        pairs = zip(self._events, self._events[1:], strict=False)
        return [round(before.elapsed_time(after) * 1e6) for before, after in pairs]

    def _event(self) -> Any:
        event = self._module.Event(enable_timing=True)
        event.record()
        return event
