"""Proportional set sizes of processes of known sizes, and the handshake between a rank and ``bench run``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.messages import sampling
from bench.messages.rank_record import RankRecord
from bench.messages.sampling import MEASURED, MEASURING, await_sample, tell
from bench.runner.host_memory import HostMemory, pss_mib

# A process with 90 MiB less than at its peak, and a child with 40 MiB of its own; both share 60.
FAMILY = """
import mmap, os, sys, time
shared = mmap.mmap(-1, 60 << 20)
for _ in range(60):
    shared.write(b"x" * (1 << 20))
if not os.fork():
    own = mmap.mmap(-1, 40 << 20, flags=mmap.MAP_PRIVATE)
    for _ in range(40):
        own.write(b"x" * (1 << 20))
    open("child", "w").close()
    time.sleep(100)
gone = mmap.mmap(-1, 90 << 20, flags=mmap.MAP_PRIVATE)
for _ in range(90):
    gone.write(b"x" * (1 << 20))
gone.close()
open("parent", "w").close()
time.sleep(100)
"""
LAUNCH = "0000-case"


@pytest.fixture
def family(tmp_path: Path) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-S", "-c", FAMILY], cwd=tmp_path, start_new_session=True)
    while not ((tmp_path / "child").exists() and (tmp_path / "parent").exists()):
        assert process.poll() is None
        time.sleep(0.01)
    yield process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def launch(folder: Path, pids: list[int]) -> Path:
    own = folder / LAUNCH
    own.mkdir()
    for rank, pid in enumerate(pids):
        RankRecord(rank, rank, "here", pid, True).write(own)
    return own


def test_a_family_counts_shared_pages_once(tmp_path: Path, family: int) -> None:
    bare = subprocess.Popen([sys.executable, "-S", "-c", "import mmap, time; time.sleep(100)"])
    time.sleep(0.5)
    python = pss_mib(bare.pid)
    bare.kill()
    bare.wait()
    with HostMemory(launch(tmp_path, [family]), tmp_path, [0], 2, alone=True) as host:
        tell(tmp_path, LAUNCH, 0, MEASURING)
        tell(tmp_path, LAUNCH, 0, MEASURED)
        await_sample(tmp_path, LAUNCH)
    # 60 shared by two, 40 of the child's own, 90 that were given back: 60 + 40 + 90
    assert host.peaks_mib() == {0: pytest.approx(190 + python, abs=25)}


def test_a_rank_waits_until_all_have_measured_and_were_sampled(tmp_path: Path, family: int) -> None:
    with HostMemory(launch(tmp_path, [family, family]), tmp_path, [0, 1], 2, alone=True) as host:
        for rank in range(2):
            tell(tmp_path, LAUNCH, rank, MEASURING)
        tell(tmp_path, LAUNCH, 0, MEASURED)
        waiting = threading.Thread(target=await_sample, args=(tmp_path, LAUNCH))
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        assert host.peaks_mib() == {}
        tell(tmp_path, LAUNCH, 1, MEASURED)
        waiting.join()
    assert len(host.peaks_mib()) == 2


def test_nobody_who_samples_is_not_waited_for_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PATIENCE_S", 0.2)
    began = time.monotonic()
    await_sample(tmp_path, LAUNCH)
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("alone", [True, False])
def test_a_long_window_is_sampled_and_never_that_of_a_duet(tmp_path: Path, family: int, alone: bool) -> None:
    with HostMemory(launch(tmp_path, [family]), tmp_path, [0], 0, alone) as host:
        tell(tmp_path, LAUNCH, 0, MEASURING)
        deadline = time.monotonic() + (10 if alone else 0.5)
        while not host.peaks_mib() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(host.peaks_mib()) == alone


def test_what_cannot_be_read_is_unknown(tmp_path: Path, family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second rank's process id belongs to no process; then the kernel or container hides the file."""
    with HostMemory(launch(tmp_path, [family, 2**22 + 1]), tmp_path, [0, 1], 2, alone=True) as host:
        for rank in range(2):
            tell(tmp_path, LAUNCH, rank, MEASURING)
            tell(tmp_path, LAUNCH, rank, MEASURED)
        await_sample(tmp_path, LAUNCH)
    assert list(host.peaks_mib()) == [0]
