"""Signals while a Python program has something measured: what runs is recorded first, then the program gets them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from bench import interrupts
from bench.errors import Interrupted


@contextlib.contextmanager
def recorded_first() -> Iterator[None]:
    """Inside, SIGINT, SIGTERM and SIGHUP end what is measured; afterwards the program's own handlers get them.

    In another thread than the main one, where Python allows no handlers, a signal goes where it always does. Only one
    measurement at a time is looked after.
    """
    try:
        with interrupts.handled(), interrupts.deferred():
            yield
    except Interrupted as interrupt:
        signal.raise_signal(interrupt.number)
        raise KeyboardInterrupt from None  # the handler let it pass
