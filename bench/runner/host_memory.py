"""Host memory of each rank and its descendants, such as DataLoader workers, measured by ``bench run`` on its node.

It is the proportional set size (proc(5), smaps_rollup): a page that N processes share counts as 1/N for each, so that
memory that forked processes share is counted once. Reading it takes the kernel some 10 ms for each process and blocks
its memory calls meanwhile. So ranks are sampled when nothing is timed: after the window, before they end their workers.
By then a rank has freed what a step needs; the difference of its resident set to its peak in the window is added. A
long window is sampled as well, for at most 1 % of a processor's time; but not in a duet, where the other side may be
running.

A rank waits for its sample: the two notify each other by empty files in the launch's scratch folder.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

from bench.messages.rank_record import RankRecord
from bench.messages.sampling import MEASURED, MEASURING, SAMPLED
from bench.runner import stack_traces

PERIOD_S = 0.05
SHARE = 0.01  # of a processor, inside a window
A_PROCESS_S = 0.015  # expected time to sample one process, before the first sample

MIB_A_KIB = 1 / 1024


class HostMemory:
    """Samples a launch's ranks while the body runs.

    ``ranks`` are those of this node, and ``processes`` the expected number of their processes; ``alone`` says that it
    is no duet.
    """

    def __init__(self, folder: Path, scratch: Path, ranks: Sequence[int], processes: int, alone: bool) -> None:
        self._folder, self._scratch, self._ranks, self._alone = folder, scratch, ranks, alone
        self._pids: dict[int, int] = {}
        self._peaks: dict[int, float] = {}
        self._unknown: set[int] = set()
        self._due = float("inf")  # the next sample inside the window
        self._cost_s = processes * A_PROCESS_S
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host memory", daemon=True)

    def __enter__(self) -> HostMemory:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def peaks_mib(self) -> dict[int, float]:
        """Return the largest sample of each rank, without ranks that could not be read completely."""
        return {rank: mib for rank, mib in self._peaks.items() if rank not in self._unknown}

    def _run(self) -> None:
        while not self._all(MEASURING):
            if self._stopping.wait(PERIOD_S):
                return
        self._due = time.monotonic() + self._cost_s / SHARE
        while not self._all(MEASURED):
            if self._alone and time.monotonic() > self._due:
                self._sample()
                self._due = time.monotonic() + self._cost_s / SHARE
            if self._stopping.wait(PERIOD_S):
                return
        self._sample(after_window=True)
        with contextlib.suppress(OSError):
            (self._scratch / f"{SAMPLED}-{self._folder.name}").touch()

    def _all(self, what: str) -> bool:
        names = (f"{what}-{self._folder.name}-{rank}" for rank in self._ranks)
        return all((self._scratch / name).exists() for name in names)

    def _sample(self, after_window: bool = False) -> None:
        began = time.thread_time()
        for rank in self._ranks:
            try:
                mib = _tree_mib(self._pid(rank))
                mib += below_peak_mib(self._pid(rank)) if after_window else 0.0
            except (OSError, ValueError, KeyError, TypeError, psutil.Error):
                self._unknown.add(rank)
            else:
                self._peaks[rank] = max(mib, self._peaks.get(rank, 0.0))
        self._cost_s = time.thread_time() - began

    def _pid(self, rank: int) -> int:
        if rank not in self._pids:
            record = RankRecord.read(self._folder, rank)
            if record is None:
                raise ValueError(f"rank {rank} has left no record")
            self._pids[rank] = record.pid
        return self._pids[rank]


def _tree_mib(pid: int) -> float:
    """Return the MiB of a process and its descendants; those that end meanwhile count 0.

    Raise OSError if unreadable.
    """
    total = pss_mib(pid)
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += pss_mib(child.pid)
    return total


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * MIB_A_KIB


def below_peak_mib(pid: int) -> float:
    """Return by how many MiB the resident set of a process is below its peak; a rank resets the peak after warm-up."""
    status = stack_traces.status(pid)
    peak, now = (int(status[name].split()[0]) for name in ("VmHWM", "VmRSS"))
    return max(peak - now, 0) * MIB_A_KIB
