"""SIGINT, SIGTERM and SIGHUP: raised at once where nothing is at stake, kept for later where something is."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from bench.errors import Interrupted

_deferring = False
_pending: int | None = None


def install() -> None:
    """Handle the signals of this process. One that our parent ignores (nohup, a script's &) stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """``install`` for as long as the body runs, if this is the main thread; what came in it is forgotten afterwards."""
    global _pending
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        install()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _pending = None


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
