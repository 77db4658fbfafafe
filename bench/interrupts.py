"""SIGINT, SIGTERM and SIGHUP: raised at once, or deferred until a launch is recorded."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from bench.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_deferring = False
_pending: int | None = None


def install() -> None:
    """Install handlers for the signals; those that the parent ignores (nohup, a script's ``&``) stay ignored."""
    for number in NUMBERS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _handle)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Call ``install`` for the body; afterwards restore the handlers and forget pending signals.

    Does nothing outside of the main thread, where Python allows no handlers.
    """
    global _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)  # Delivered when the mask is removed.
    before = {number: signal.getsignal(number) for number in NUMBERS}
    install()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
        for number, handler in before.items():
            if handler is not None:  # None: the handler was not installed from Python.
                signal.signal(number, handler)
        _pending = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defer signals inside the body: ``pending`` returns the first one, and Interrupted is raised at the end."""
    global _deferring
    _deferring = True
    try:
        yield
    except Exception:
        check()  # The signal may be the cause of the failure, and says more.
        raise
    finally:
        _deferring = False
    check()


def pending() -> int | None:
    """Return the number of the first signal that arrived, or None."""
    return _pending


def name() -> str:
    """Return the name of that signal, such as ``SIGTERM``, or an empty text."""
    return signal.Signals(_pending).name if _pending else ""


def check() -> None:
    """Raise Interrupted if a signal is pending."""
    if _pending is not None:
        raise Interrupted(_pending)


def _handle(number: int, frame: FrameType | None) -> None:
    global _pending
    _pending = _pending or number
    if not _deferring:
        raise Interrupted(number)


def request(name: str) -> None:
    """Behave as if this process had received the signal of a name; names of other signals than NUMBERS are ignored."""
    for number in NUMBERS:
        if signal.Signals(number).name == name:
            os.kill(os.getpid(), number)
