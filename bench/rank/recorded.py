"""What every rank does from its first to its last moment: its log, its record and its report of a failure.

Nothing here imports torch: a script may set variables first that torch reads when it is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from bench.messages.heartbeat import STAGE, Heartbeat
from bench.messages.rank_record import Failure, RankRecord
from bench.messages.spec import Spec
from bench.untrusted.rank_files import NonsenseError

PATIENCE_S = 60  # seconds beyond the launch's time-out
# Out-of-memory messages without an exception type of their own: of CPU allocators, CUDA, its libraries and NCCL.
OUT_OF_MEMORY = (
    *("can't allocate memory", "not enough memory", "Cannot allocate memory"),
    *("out of memory", "_ALLOC_FAILED", "_ALLOCATION_FAILED"),  # cuBLAS, cuFFT, cuSOLVER, cuDNN
)
PRELOADED = os.getpid()  # the process that imported this module: with the launch server, the fork server


@contextlib.contextmanager
def recorded(spec: Spec) -> Iterator[tuple[RankRecord, Heartbeat]]:
    """Send this rank's output to its log, write its record, and end the process at once if the body raises.

    From here on SIGUSR1 and fatal signals write the Python stacks of all threads to the log. SIGALRM ends the process
    long after the launch's time-out, in case ``bench`` is no longer there to do so.
    """
    rank = int(os.environ["RANK"])
    record = RankRecord(
        rank=rank,
        local_rank=int(os.environ["LOCAL_RANK"]),
        host=socket.gethostname(),
        pid=os.getpid(),
        preloaded=os.getpid() != PRELOADED,
    )
    folder, heartbeat = Path(spec.folder), None
    try:
        _log_to(folder / f"rank{rank}.log")
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1)
        signal.alarm(last_seconds(spec))
        heartbeat = Heartbeat(spec.scratch, folder.name, rank)
        record.write(folder)
        yield record, heartbeat
    except BaseException as error:
        give_up(error, record, folder, heartbeat)


def last_seconds(spec: Spec) -> int:
    """Return after how many seconds a rank ends itself.

    In a duet it may also wait for as long as the other side trains.
    """
    return math.ceil(spec.timeout_s * (2 if spec.turns else 1) + PATIENCE_S)


def give_up(error: BaseException, record: RankRecord, folder: Path, heartbeat: Heartbeat | None) -> NoReturn:
    """Report the failure in every way that still works, and end the process at once.

    The peers must see the connection close now, not after the interpreter's shutdown. The disk may be full, descriptors
    or memory may be used up, and the exception's own methods may raise.
    """
    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a DataLoader's handler raises again and again
    if isinstance(error, MemoryError):
        traceback.clear_frames(error.__traceback__)  # free the objects that they hold
    if heartbeat:
        heartbeat.say(Failure("crashed", type(error).__name__, time.time_ns()))  # formatting its text may never end
    failure = failure_of(error)
    if heartbeat:
        heartbeat.say(failure)
        heartbeat.enter(STAGE["failed"])
    with contextlib.suppress(BaseException):
        try:
            known = RankRecord.read(folder, record.rank) or record
        except NonsenseError:
            known = record
        dataclasses.replace(known, failure=failure).write(folder)
    with contextlib.suppress(BaseException):
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def failure_of(error: BaseException) -> Failure:
    """Return the kind, type and text of an exception, even if formatting its text fails."""
    time_ns, name = time.time_ns(), type(error).__name__
    try:
        kind, message = _kind(error), f"{name}: {error}"
    except BaseException as other:
        out_of_memory = isinstance(error, MemoryError)
        kind = "oom" if out_of_memory else "crashed"
        message = f"{name} (its text is unavailable: {type(other).__name__})"
    try:
        return Failure(kind, message, time_ns, *_peaks_mib())
    except BaseException:
        return Failure(kind, message, time_ns)


def _peaks_mib() -> tuple[float | None, float | None]:
    """Return the peaks of memory so far, if torch was imported."""
    if "torch" not in sys.modules:
        return None, None
    from bench.rank.memory import peaks_mib

    return peaks_mib()


def _log_to(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _kind(error: BaseException) -> str:
    text = str(error)
    torch = sys.modules.get("torch")
    kinds = (MemoryError, *([torch.OutOfMemoryError] if torch else []))
    out_of_memory = isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)
    )
    return "oom" if out_of_memory else "crashed"
