"""Signals during a measurement in a Python program: the launch is recorded first, then the program gets the signal."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from bench import interrupts
from bench.errors import Interrupted


@contextlib.contextmanager
def recorded_first() -> Iterator[None]:
    """End the measurement on SIGINT, SIGTERM or SIGHUP, and then send the signal to the program's own handlers.

    Does nothing outside of the main thread, where Python allows no handlers. Handles one measurement at a time.
    """
    try:
        with interrupts.handled(), interrupts.deferred():
            yield
    except Interrupted as interrupt:
        signal.raise_signal(interrupt.number)
        raise KeyboardInterrupt from None  # The program's handler ignored it.
