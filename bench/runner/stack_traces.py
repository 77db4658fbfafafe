"""The position of ranks in their code: Python stacks that they write to their logs on a signal."""

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
CHILDREN = 8  # limit of DataLoader workers for each rank
POLL_S = 0.05
_STACK = re.compile(r"^(Current thread|Thread) .*\n((?:  File .*\n)+)", re.MULTILINE)
_FRAME = re.compile(r'  File "(.+)", line (\d+) in (.+)')
_LIBRARIES = (*{f"{sysconfig.get_paths()[name]}/" for name in ("stdlib", "platstdlib")}, "<")
_OURS = tuple(f"{Path(str(package.__file__)).parent}/" for package in (bench, launch))


def take(ranks: Mapping[int, int], logs: Mapping[int, Path]) -> dict[int, str]:
    """Make ranks (rank -> pid) and their children write their stacks to their logs; return where each rank is.

    The position is ``file.py:12 in function``: the innermost frame of the user's code in the rank or a DataLoader
    worker, or empty. A stopped rank is continued for this, as it is to be ended anyway.
    """
    before = {rank: _size(log) for rank, log in logs.items()}
    families = {rank: _family(pid) for rank, pid in ranks.items()}
    # one process of each log at a time, so that lines do not mix
    for members in itertools.zip_longest(*families.values()):
        asked = [_ask(process) for process in members]
        _settle([log for log, heard in zip(logs.values(), asked, strict=True) if heard])
    return {rank: place(_since(log, before[rank])) for rank, log in logs.items()}


def place(stacks: str) -> str:
    """Return the innermost frame of the user's code in faulthandler's ``stacks``, preferably of a main thread."""
    # "Current thread" sorts before "Thread"
    for _, stack in sorted(_STACK.findall(stacks), key=lambda found: str(found[0])):
        for file, line, function in _FRAME.findall(stack):
            if not _is_library(file):
                return f"{Path(file).name}:{line} in {function}"
    return ""


def _family(pid: int) -> list[psutil.Process]:
    """Return a process and some of its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)[:CHILDREN]]
    except psutil.Error:
        return []


def _ask(process: psutil.Process | None) -> bool:
    """Make a process write its stacks; return False if it would not."""
    if process is None or not _listens(process.pid):
        return False
    with contextlib.suppress(psutil.Error, OSError):
        _signal_main_thread(process.pid)
        process.send_signal(signal.SIGCONT)
        return True
    return False


def _signal_main_thread(pid: int) -> None:
    """Send SIGUSR1 to the main thread: in a stopped process any other thread might take it."""
    try:
        ctypes.CDLL(None).tgkill(pid, pid, signal.SIGUSR1)
    except AttributeError:  # glibc before 2.30, musl
        os.kill(pid, signal.SIGUSR1)


def _settle(logs: Sequence[Path]) -> None:
    """Wait until the logs have grown and stopped growing."""
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
    """Return whether a process handles SIGUSR1, which would end it otherwise."""
    return bool(int(status(pid).get("SigCgt", "0"), 16) >> (signal.SIGUSR1 - 1) & 1)


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status; the state is X if there is no such process, and unknown if it cannot be read."""
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
