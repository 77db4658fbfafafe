"""Where ranks stand: their Python stacks, asked for by a signal and found in their logs."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

import bench
import launch
from bench.untrusted.rank_files import NonsenseError, regular

PATIENCE_S = 1.0
CHILDREN = 8  # DataLoader workers of a rank whose stacks are taken
POLL_S = 0.05
_STACK = re.compile(r"^(Current thread|Thread) .*\n((?:  File .*\n)+)", re.MULTILINE)
_FRAME = re.compile(r'  File "(.+)", line (\d+) in (.+)')
_LIBRARIES = (*{f"{sysconfig.get_paths()[name]}/" for name in ("stdlib", "platstdlib")}, "<")
_OURS = tuple(f"{Path(str(package.__file__)).parent}/" for package in (bench, launch))


def take(ranks: Mapping[int, int], logs: Mapping[int, Path]) -> dict[int, str]:
    """Have the ranks (rank -> pid) and their children write their stacks to their logs; where each rank stands.

    A rank's place is ``file.py:12 in function``: the innermost frame of its own or a DataLoader worker's code that is
    neither a library's nor ours, empty if there is none. A stopped rank goes on for this: it is to be ended anyway.
    """
    before = {rank: _size(log) for rank, log in logs.items()}
    families = {rank: _family(pid) for rank, pid in ranks.items()}
    for members in itertools.zip_longest(*families.values()):  # one of a log after the other, or their lines mix
        asked = [_ask(process) for process in members]
        _settle([log for log, heard in zip(logs.values(), asked, strict=True) if heard])
    return {rank: place(_since(log, before[rank])) for rank, log in logs.items()}


def place(stacks: str) -> str:
    """The innermost frame of a person's code in faulthandler's ``stacks``, of a main thread rather than another."""
    for _, stack in sorted(_STACK.findall(stacks), key=lambda found: str(found[0])):  # "Current" before "Thread"
        for file, line, function in _FRAME.findall(stack):
            if not _is_library(file):
                return f"{Path(file).name}:{line} in {function}"
    return ""


def _family(pid: int) -> list[psutil.Process]:
    """A process and those below it, of which the first ones do."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)[:CHILDREN]]
    except psutil.Error:
        return []


def _ask(process: psutil.Process | None) -> bool:
    """Have a process write its stacks; False if it would not."""
    if process is None or not _listens(process.pid):
        return False
    with contextlib.suppress(psutil.Error, OSError):
        _signal_main_thread(process.pid)
        process.send_signal(signal.SIGCONT)
        return True
    return False


def _signal_main_thread(pid: int) -> None:
    """SIGUSR1 for the thread whose stack matters: of a stopped process any other one might take it."""
    try:
        ctypes.CDLL(None).tgkill(pid, pid, signal.SIGUSR1)
    except AttributeError:  # glibc before 2.30, musl
        os.kill(pid, signal.SIGUSR1)


def _settle(logs: Sequence[Path]) -> None:
    """Wait until the logs have grown, and grow no more."""
    deadline = time.monotonic() + PATIENCE_S
    begun = sizes = [_size(log) for log in logs]
    while logs and time.monotonic() < deadline:
        time.sleep(POLL_S)
        now = [_size(log) for log in logs]
        if now == sizes and all(size > before for size, before in zip(now, begun, strict=True)):
            return
        sizes = now


def _since(log: Path, start: int) -> str:
    with contextlib.suppress(NonsenseError), regular(log) as descriptor:
        if descriptor is not None:
            return os.pread(descriptor, 1 << 20, start).decode(errors="replace")
    return ""


def _listens(pid: int) -> bool:
    """Whether a process handles SIGUSR1, which would end it otherwise."""
    return bool(int(status(pid).get("SigCgt", "0"), 16) >> (signal.SIGUSR1 - 1) & 1)


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status; the state is X if there is no such process, and unknown if that cannot be told."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {"State": "X"} if Path("/proc/self").exists() else {}
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _is_library(file: str) -> bool:
    return "site-packages" in file or "dist-packages" in file or file.startswith((*_LIBRARIES, *_OURS))


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
