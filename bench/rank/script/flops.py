"""FLOPs of one step of a script, counted in its warm-up."""

from __future__ import annotations

import contextlib

from bench.messages.rank_record import ScriptFlops
from bench.rank.flops import FlopCounter, counting
from bench.rank.private import inside_compiled_code

COMPILED = "those of a step that is compiled as a whole"


class StepFlops:
    """Counts from the end of one step to the end of the next: call ``next_step`` at both."""

    def __init__(self) -> None:
        self._counter: FlopCounter | None = None
        self._stack = contextlib.ExitStack()
        self.done = False

    def next_step(self) -> None:
        """Begin to count, or end it."""
        if self._counter is None and inside_compiled_code():
            self.done = True  # a dispatch mode that begins there misses operations
        elif self._counter is None:
            self._counter = FlopCounter()
            self._stack.enter_context(counting(self._counter))
        else:
            self.stop()

    def stop(self) -> None:
        """End the count if it has begun."""
        if self._counter and not self.done:
            self._stack.close()
            self.done = True

    def record(self) -> ScriptFlops:
        """Return the count."""
        if self._counter is None:
            return ScriptFlops(0, [COMPILED])
        return ScriptFlops(self._counter.flops, list(self._counter.unknown))
