"""SIGINT, SIGTERM and SIGHUP: raised at once where nothing is at stake, kept for later where something is."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from bench.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_deferring = False
_pending: int | None = None


def install() -> None:
    """Handle the signals of this process. One that our parent ignores (nohup, a script's &) stays ignored."""
    for number in NUMBERS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _handle)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """``install`` for as long as the body runs; afterwards the handlers are what they were, and no signal is pending.

    In another thread than the main one, where Python allows no handlers, nothing is changed.
    """
    global _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)  # what comes meanwhile is delivered when it is taken off
    before = {number: signal.getsignal(number) for number in NUMBERS}
    install()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
        for number, handler in before.items():
            if handler is not None:  # else it was none of Python's
                signal.signal(number, handler)
        _pending = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal only makes ``pending`` say so; Interrupted is raised at the end. Further ones change nothing."""
    global _deferring
    _deferring = True
    try:
        yield
    except Exception:
        check()  # what failed may have failed of it, and says less
        raise
    finally:
        _deferring = False
    check()


def pending() -> int | None:
    """The number of the first signal that came, if one did."""
    return _pending


def name() -> str:
    """Of that signal, as ``SIGTERM``."""
    return signal.Signals(_pending).name if _pending else ""


def check() -> None:
    """Raise Interrupted if a signal came."""
    if _pending is not None:
        raise Interrupted(_pending)


def _handle(number: int, frame: FrameType | None) -> None:
    global _pending
    _pending = _pending or number
    if not _deferring:
        raise Interrupted(number)
