"""FLOPs of one step of a script, counted in its warm-up."""

from __future__ import annotations

import contextlib
from typing import Any

from bench.messages.rank_record import ScriptFlops
from bench.rank.flops import FlopCounter


class StepFlops:
    """Counts from the end of one step to the end of the next: call ``next_step`` at both."""

    def __init__(self) -> None:
        self._counter: FlopCounter | None = None
        self._stack = contextlib.ExitStack()
        self.done = False

    def next_step(self) -> None:
        """Begin to count, or end it."""
        if self._counter is None:
            self._counter = FlopCounter()
            self._stack.enter_context(self._counter)
        else:
            self.stop()

    def stop(self) -> None:
        """End the count if it has begun."""
        if self._counter and not self.done:
            self._stack.close()
            self.done = True

    def record(self) -> ScriptFlops:
        """Return the count."""
        counter: Any = self._counter
        if not self.done:
            return ScriptFlops(0, ["the step that was to be counted"])
        return ScriptFlops(counter.flops, list(counter.unknown))
