"""What a run leaves behind: its processes, temporary folders and shared memory; and how to wait for their end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

GONE_WITHIN_S = 10.0


def wait_for(what: Callable[[], object], seconds: float = GONE_WITHIN_S, why: str = "waited in vain") -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def marked(marker: str) -> list[psutil.Process]:
    """Every living process that has ``marker`` as BENCH_TEST in its environment, wherever it hangs in the tree."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("BENCH_TEST") == marker:
                found.append(process)
        except psutil.Error:
            continue
    return alive(found)


def traces(tmp: Path) -> set[str]:
    """All there is in shared memory that no living process uses, and in ``tmp``, the TMPDIR of whatever is tested."""
    shm = {f"/dev/shm/{name}" for name in os.listdir("/dev/shm")} if os.path.isdir("/dev/shm") else set()
    return shm - (in_use() if shm else set()) | {str(path) for path in tmp.iterdir()}


def in_use() -> set[str]:
    """The files in shared memory that a living process has mapped: others than what is tested run on this machine."""
    found: set[str] = set()
    for process in psutil.process_iter():
        try:
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        except OSError:
            continue
        found |= {line[line.index("/dev/shm/") :] for line in maps.splitlines() if "/dev/shm/" in line}
    return found
