"""The entry point of every rank: its log, its record and its report of a failure."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch

from bench.messages.heartbeat import STAGE, Heartbeat
from bench.messages.rank_record import Failure, RankRecord
from bench.messages.sampling import MEASURED, await_sample, tell
from bench.messages.spec import Spec
from bench.rank.build import PATIENCE_S, Training, build, place
from bench.rank.code import ImportedCode
from bench.rank.measure import measure
from bench.rank.memory import peaks_mib, resident_mib
from bench.rank.observe import observe
from bench.rank.software import device_facts, imported, software
from bench.rank.state import state_of
from bench.untrusted.rank_files import NonsenseError

# Trainings are kept until the process ends: destroying a Gloo process group joins threads with the GIL held while one
# of them may wait for the GIL to free a tensor (2.11), or aborts the process (2.15). A rank ends by os._exit.
KEPT: list[Training] = []
# Out-of-memory messages without an exception type of their own: of CPU allocators, CUDA, its libraries and NCCL.
OUT_OF_MEMORY = (
    *("can't allocate memory", "not enough memory", "Cannot allocate memory"),
    *("out of memory", "_ALLOC_FAILED", "_ALLOCATION_FAILED"),  # cuBLAS, cuFFT, cuSOLVER, cuDNN
)
OBSERVING_SECONDS, OBSERVING_STEPS = 20.0, 10  # limit of the step after the window
PRELOADED = os.getpid()  # the process that imported this module: with the launch server, the fork server


def run(spec_path: str) -> None:
    """Train as ``spec.json`` says and leave ``rank<N>.json`` beside it."""
    spec = Spec.read(spec_path)
    rss_at_start = resident_mib()
    with recorded(spec) as (record, heartbeat):
        heartbeat.enter(STAGE["building"])
        devices = place(spec)
        device, uuids = device_facts(devices)
        record = dataclasses.replace(record, device=device, device_uuids=uuids, software=software())
        record.write(spec.folder)  # known even if the model does not fit
        code = ImportedCode(spec.target)
        training = build(spec, devices, code.update)
        code.update()
        record = dataclasses.replace(record, code=code.sources)
        record.write(spec.folder)  # known even if the launch fails
        measurement = measure(training, spec, heartbeat, rss_at_start)
        heartbeat.enter(STAGE["ending"])
        KEPT.append(training)
        code.update()
        sources = imported(spec.watched)
        record = dataclasses.replace(record, measurement=measurement, sources=sources, code=code.sources)
        record.write(spec.folder)  # kept even if the step after the window fails
        tell(spec.scratch, launch := Path(spec.folder).name, record.rank, MEASURED)
        await_sample(spec.scratch, launch)
        add_observations(training, record, spec.folder, max(measurement.steps_ns) / 1e9)
        heartbeat.enter(STAGE["done"])  # the launch is complete, even if this process fails now
        training.batches.close()


def add_observations(training: Training, record: RankRecord, folder: str, slowest_step_s: float) -> None:
    """Add this rank's state and its observations of one more step to the record.

    If a rank fails in that step, its peers wait for it, with NCCL forever. After some multiple of its slowest step each
    peer ends itself with exit code 0; all that it measured is recorded.
    """
    patience = threading.Timer(OBSERVING_SECONDS + OBSERVING_STEPS * slowest_step_s, os._exit, (0,))
    patience.daemon = True
    patience.start()
    try:
        record = dataclasses.replace(record, state=state_of(training))
        record.write(folder)
        dataclasses.replace(record, observed=observe(training)).write(folder)
    except Exception:
        traceback.print_exc()
        print("the step after the window failed: not everything that took effect is known")
    finally:
        patience.cancel()


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
        _give_up(error, record, folder, heartbeat)


def last_seconds(spec: Spec) -> int:
    """Return after how many seconds a rank ends itself.

    In a duet it may also wait for as long as the other side trains.
    """
    return math.ceil(spec.timeout_s * (2 if spec.turns else 1) + PATIENCE_S)


def _give_up(error: BaseException, record: RankRecord, folder: Path, heartbeat: Heartbeat | None) -> NoReturn:
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
        return Failure(kind, message, time_ns, *peaks_mib())
    except BaseException:
        return Failure(kind, message, time_ns)


def _log_to(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _kind(error: BaseException) -> str:
    text = str(error)
    out_of_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)
    )
    return "oom" if out_of_memory else "crashed"
