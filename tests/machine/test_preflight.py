"""Whether a machine fits a run: warnings from facts, cgroups as trees of files, and a look at this very machine."""

from __future__ import annotations

import ctypes
import dataclasses
import math
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import fake_nvml
import psutil
import pynvml
import pytest
from plain_case import PLAIN

from bench.machine.gpus import Gpu, Machine
from bench.machine.preflight import GpuLook, Look, cpu_quota, look, memory_limit, run_warnings, strangers_load
from bench.plan.case import Case
from bench.runner.machine_warnings import case_warnings, known_parameters, state_mib

MIB = 2**20
ROOMY = Look(
    processors=16,
    busy_processors=0.2,
    busiest=(("sshd", 0.2),),
    memory_total_mib=64_000.0,
    memory_available_mib=60_000.0,
    disk_free_mib=500_000.0,
    shm_free_mib=32_000.0,
    gpus=(GpuLook(0, "GPU-aaaa-1", 81920.0, used_mib=500.0),),
)


def but(**changes: Any) -> Look:
    return dataclasses.replace(ROOMY, **changes)


def case(**changes: Any) -> Case:
    return dataclasses.replace(PLAIN, **changes)


# -- of a run ---------------------------------------------------------------------------------------------------


def test_a_machine_that_fits_gives_no_warning() -> None:
    assert run_warnings(ROOMY) == []


def test_what_is_not_known_gives_no_warning() -> None:
    assert run_warnings(Look()) == []
    assert case_warnings(case(num_workers=64), Look()) == []


def test_every_warning_of_a_run_is_given_gpus_first() -> None:
    gpus = (GpuLook(0, "GPU-aaaa-1", 1000.0, 51.0), GpuLook(1, "GPU-bbbb-2", 1000.0, 51.0))
    bad = but(gpus=gpus, memory_available_mib=1.0, disk_free_mib=1.0, busy_processors=9.0)
    assert [warning.split()[0] for warning in run_warnings(bad)] == ["GPU", "GPU", "1", "1", "other"]


GPU_END = (
    "; steps may be slower and uneven, and memory runs out sooner; "
    "stop what uses it (see nvidia-smi), or exclude it with CUDA_VISIBLE_DEVICES"
)


@pytest.mark.parametrize(
    ("used", "processes", "uses"),
    [
        (4096.0, (), ""),  # 5 % of 81920 MiB, exactly
        (4097.0, (), "4,097 of 81,920 MiB are taken"),
        (None, ((4711, 3072.0),), "process 4711 (3,072 MiB) computes on it"),
        (3500.0, ((4711, 3072.0),), "process 4711 (3,072 MiB) computes on it"),
        (None, ((4711, 3072.0), (12, None)), "processes 4711 (3,072 MiB) and 12 compute on it"),
        (
            40000.0,
            ((1, None), (2, None), (3, 5.0)),
            "processes 1, 2 and 3 (5 MiB) compute on it and 40,000 of 81,920 MiB are taken",
        ),
    ],
)
def test_gpus_that_others_use(used: float | None, processes: tuple[tuple[int, float | None], ...], uses: str) -> None:
    found = run_warnings(but(gpus=(GpuLook(3, "GPU-aaaa-1", 81920.0, used, processes),)))
    assert found == ([f"GPU 3 (GPU-aaaa-1) is in use already: {uses}{GPU_END}"] if uses else [])


def test_a_gpu_that_shares_the_memory_of_the_cpu_has_no_share_of_it() -> None:
    assert run_warnings(but(gpus=(GpuLook(0, "GPU-aaaa-1", math.nan, used_mib=9000.0),))) == []


@pytest.mark.parametrize(
    ("total", "available", "numbers"),
    [
        (64_000.0, 6_400.0, ""),  # a tenth
        (64_000.0, 6_399.0, "6,399 of 64,000"),
        (4_000.0, 1_024.0, ""),  # 1 GiB
        (4_000.0, 1_023.0, "1,023 of 4,000"),
        (64_000.0, None, ""),
        (None, 10.0, ""),
    ],
)
def test_memory(total: float | None, available: float | None, numbers: str) -> None:
    warning = (
        f"{numbers} MiB of host memory are available: ranks may swap, which makes steps slower, or be killed; "
        "end other programs, or run with fewer ranks and DataLoader workers"
    )
    found = run_warnings(but(memory_total_mib=total, memory_available_mib=available))
    assert found == ([warning] if numbers else [])


def test_disk() -> None:
    assert run_warnings(but(disk_free_mib=1024.0)) == []
    assert run_warnings(but(disk_free_mib=1023.0)) == [
        "1,023 MiB are free on the disk of the results: if it fills up, the run stops and later rows are lost; make room, or write to another disk (--out)"
    ]


@pytest.mark.parametrize(
    ("processors", "busy", "warns"),
    [(2, 0.5, False), (2, 0.6, True), (1, 0.6, True), (16, 1.6, False), (16, 1.7, True), (None, 5.0, False)],
)
def test_how_much_load_by_others_is_too_much(processors: int | None, busy: float, warns: bool) -> None:
    assert len(run_warnings(but(processors=processors, busy_processors=busy))) == warns


@pytest.mark.parametrize(
    ("processors", "busiest", "words"),
    [
        (2, (), "2 processors busy"),
        (1, (), "1 processor busy"),
        (2, (("cc1plus", 0.84),), "2 processors busy, mostly cc1plus (0.8)"),
        (
            4,
            (("cc1plus", 0.84), ("X", 0.1), ("tar", 0.06)),
            "4 processors busy, mostly cc1plus (0.8), X (0.1) and tar (0.1)",
        ),
    ],
)
def test_load_by_others(processors: int, busiest: tuple[tuple[str, float], ...], words: str) -> None:
    assert run_warnings(but(processors=processors, busy_processors=0.94, busiest=busiest)) == [
        f"other programs keep 0.9 of {words}: they take time from the ranks, so steps are slower and uneven; stop them, or wait until they end"
    ]


def test_load_is_compared_with_processors_that_a_quota_may_be_spent_on() -> None:
    assert run_warnings(but(cpu_quota=2.0, busy_processors=1.6)) == []
    assert len(run_warnings(but(cpu_quota=2.0, busy_processors=1.7))) == 1


# -- of a case --------------------------------------------------------------------------------------------------


def threads(words: str, lower: str) -> list[str]:
    return [f"{words}: they take turns, so steps are slower and uneven; lower {lower}"]


@pytest.mark.parametrize(
    ("changes", "processors", "words", "lower"),
    [
        ({}, 2, "", ""),  # the defaults: two ranks, resident data
        ({}, 1, "2 ranks x 1 OMP thread = 2 threads on 1 processor", "--gpus"),
        ({"num_workers": 0}, 2, "", ""),
        ({"num_workers": 2}, 6, "", ""),
        (
            {"num_workers": 2},
            2,
            "2 ranks x (1 OMP thread + 2 workers) = 6 threads on 2 processors",
            "--num-workers or --gpus",
        ),
        (
            {"num_workers": 1, "omp_num_threads": 2},
            5,
            "2 ranks x (2 OMP threads + 1 worker) = 6 threads on 5 processors",
            "--omp-num-threads, --num-workers or --gpus",
        ),
        ({"strategy": "single", "gpus": 8, "omp_num_threads": 4}, 4, "", ""),  # one rank, whatever was asked
        (
            {"strategy": "single", "gpus": 8, "omp_num_threads": 4},
            2,
            "1 rank x 4 OMP threads = 4 threads on 2 processors",
            "--omp-num-threads",
        ),
        (
            {"strategy": "dp", "device": "cuda", "gpus": 8, "num_workers": 3},
            3,
            "1 rank x (1 OMP thread + 3 workers) = 4 threads on 3 processors",
            "--num-workers",
        ),
        (
            {"device": "cuda", "gpus": 8, "num_workers": 2},
            16,
            "8 ranks x (1 OMP thread + 2 workers) = 24 threads on 16 processors",
            "--num-workers or --gpus",
        ),
    ],
)
def test_threads_of_a_case(changes: dict[str, Any], processors: int, words: str, lower: str) -> None:
    found = case_warnings(case(**changes), but(processors=processors))
    assert found == (threads(words, lower) if words else [])


@pytest.mark.parametrize(
    ("processors", "quota", "words"),
    [
        (16, 2.0, ""),
        (16, 1.2, ""),  # rounded up
        (16, 1.0, "1 processor (a CPU quota of 1)"),
        (16, 0.5, "1 processor (a CPU quota of 0.5)"),
        (1, 4.0, "1 processor"),
        (None, 0.5, "1 processor (a CPU quota of 0.5)"),
        (None, None, ""),
    ],
)
def test_a_quota_counts_where_it_is_less_than_the_processors(
    processors: int | None, quota: float | None, words: str
) -> None:
    found = case_warnings(PLAIN, but(processors=processors, cpu_quota=quota))
    assert found == (threads(f"2 ranks x 1 OMP thread = 2 threads on {words}", "--gpus") if words else [])


@pytest.mark.parametrize(
    ("gpus", "num_workers", "free", "words"),
    [
        (2, 2, 256.0, None),  # 64 MiB for each of four
        (2, 2, 64.0, ("64 MiB are free in /dev/shm for the batches of 4 DataLoader workers", "256 MiB")),
        (1, 1, 64.0, None),
        (1, 1, 63.4, ("63 MiB are free in /dev/shm for the batches of 1 DataLoader worker", "64 MiB")),
        (8, 4, 1024.0, ("1,024 MiB are free in /dev/shm for the batches of 32 DataLoader workers", "2,048 MiB")),
        (2, 0, 0.0, None),
        (2, None, 0.0, None),
        (2, 2, None, None),
    ],
)
def test_shared_memory_for_workers(
    gpus: int, num_workers: int | None, free: float | None, words: tuple[str, str] | None
) -> None:
    found = case_warnings(case(gpus=gpus, num_workers=num_workers), but(processors=1000, shm_free_mib=free))
    assert found == (
        [
            f"{words[0]}: a worker without space is killed by a bus error, and the launch fails; "
            f"make it {words[1]} or more (docker run --shm-size), or lower --num-workers"
        ]
        if words
        else []
    )


# -- cgroups ----------------------------------------------------------------------------------------------------

# /proc/self/cgroup of systemd's v1, of Docker's v2, and of v1 with an empty v2 beside it
V1 = "5:memory:/slurm/job_7/step_0\n4:cpu,cpuacct:/slurm/job_7\n3:cpuset:/slurm\n1:name=systemd:/a:b\n"
V2 = "0::/user.slice/job.scope\n"
HYBRID = "4:memory:/slurm/job_7/step_0\n1:cpu:/\n0::/\n"
V1_UNLIMITED = "9223372036854771712"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        (V2, {}, None),
        (V2, {"user.slice/job.scope/cpu.max": "max 100000"}, None),
        (V2, {"user.slice/job.scope/cpu.max": "150000 100000"}, 1.5),
        (V2, {"user.slice/job.scope/cpu.max": "max 100000", "user.slice/cpu.max": "50000 100000"}, 0.5),
        (V2, {"user.slice/job.scope/cpu.max": "400000 100000", "user.slice/cpu.max": "500000 200000"}, 2.5),
        (V2, {"user.slice/job.scope/cpu.max": "200000 100000", "user.slice/cpu.max": "800000 100000"}, 2.0),
        (V2, {"user.slice/other.scope/cpu.max": "10000 100000"}, None),
        ("0::/\n", {"cpu.max": "300000 100000"}, 3.0),  # a container with a namespace of its own
        ("0::/docker/abc\n", {"cpu.max": "300000 100000"}, 3.0),  # and without
        ("0::/../job\n", {"cpu.max": "300000 100000", "../job/cpu.max": "100000 100000"}, 3.0),  # that is no cgroup
        (V1, {"cpu/slurm/job_7/cpu.cfs_quota_us": "-1", "cpu/slurm/job_7/cpu.cfs_period_us": "100000"}, None),
        (V1, {"cpu/slurm/job_7/cpu.cfs_quota_us": "250000", "cpu/slurm/job_7/cpu.cfs_period_us": "100000"}, 2.5),
        (V1, {"cpu,cpuacct/slurm/cpu.cfs_quota_us": "50000", "cpu,cpuacct/slurm/cpu.cfs_period_us": "50000"}, 1.0),
        (V1, {"cpu/slurm/job_7/cpu.cfs_quota_us": "250000"}, None),  # of an unknown period
        (V1, {"memory/slurm/cpu.cfs_quota_us": "50000", "memory/slurm/cpu.cfs_period_us": "50000"}, None),
        (HYBRID, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ("", {"cpu.max": "300000 100000"}, None),
    ],
)
def test_cpu_quota(tmp_path: Path, membership: str, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(membership, tree(tmp_path / "cgroup", files)) == quota


JOB_V1 = "memory/slurm/job_7/step_0/memory"
JOB_V2 = "user.slice/job.scope/memory"


def mib(number: int) -> str:
    return str(number * MIB)


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        (V2, {}, None),
        (V2, {f"{JOB_V2}.max": "max", f"{JOB_V2}.current": mib(10)}, None),
        (V2, {f"{JOB_V2}.max": mib(4000), f"{JOB_V2}.current": mib(1000)}, (4000, 3000)),
        (V2, {f"{JOB_V2}.max": "max", f"{JOB_V2}.high": mib(3000), f"{JOB_V2}.current": mib(1000)}, (3000, 2000)),
        (
            V2,
            {
                f"{JOB_V2}.max": mib(4000),
                f"{JOB_V2}.current": mib(3500),
                f"{JOB_V2}.stat": f"anon 9\ninactive_file {mib(300)}\nactive_file {mib(200)}",
            },
            (4000, 1000),
        ),
        (V2, {f"{JOB_V2}.max": mib(4000), f"{JOB_V2}.current": mib(4500)}, (4000, 0)),
        (V2, {f"{JOB_V2}.max": mib(4000)}, (4000, 4000)),
        # the job may have 4000, but all of its user 3000, of which a neighbour holds most
        (
            V2,
            {
                f"{JOB_V2}.max": mib(4000),
                f"{JOB_V2}.current": mib(100),
                "user.slice/memory.max": mib(3000),
                "user.slice/memory.current": mib(2900),
            },
            (3000, 100),
        ),
        # the user may have plenty, the job not
        (
            V2,
            {
                f"{JOB_V2}.max": mib(1000),
                f"{JOB_V2}.current": mib(900),
                "user.slice/memory.max": mib(9000),
                "user.slice/memory.current": mib(1900),
            },
            (1000, 100),
        ),
        (V1, {f"{JOB_V1}.limit_in_bytes": V1_UNLIMITED, f"{JOB_V1}.usage_in_bytes": mib(10)}, None),
        (V1, {f"{JOB_V1}.limit_in_bytes": mib(2000), f"{JOB_V1}.usage_in_bytes": mib(500)}, (2000, 1500)),
        (
            V1,
            {
                f"{JOB_V1}.limit_in_bytes": V1_UNLIMITED,
                "memory/slurm/memory.limit_in_bytes": mib(800),
                "memory/slurm/memory.usage_in_bytes": mib(700),
            },
            (800, 100),
        ),
        # v1 has a group's own, and those of all below it
        (
            V1,
            {
                f"{JOB_V1}.limit_in_bytes": mib(2000),
                f"{JOB_V1}.usage_in_bytes": mib(500),
                f"{JOB_V1}.stat": f"active_file 0\ntotal_active_file {mib(40)}\ninactive_file 0\ntotal_inactive_file {mib(60)}",
            },
            (2000, 1600),
        ),
        (
            HYBRID,
            {f"{JOB_V1}.limit_in_bytes": mib(2000), f"{JOB_V1}.usage_in_bytes": mib(500)},
            (2000, 1500),
        ),
        (
            "5:memory:/docker/abc\n",
            {"memory/memory.limit_in_bytes": mib(64), "memory/memory.usage_in_bytes": mib(4)},
            (64, 60),
        ),
        ("", {}, None),
    ],
)
def test_memory_limit(
    tmp_path: Path, membership: str, files: dict[str, str], limit: tuple[float, float] | None
) -> None:
    assert memory_limit(membership, tree(tmp_path, files)) == limit


# -- load -------------------------------------------------------------------------------------------------------


def test_load_counts_the_processors_we_may_use_less_our_own_processes() -> None:
    percents = [100.0, 50.0, 100.0, 100.0]
    shares = [(31, "python", 0.4), (7, "python", 0.5), (8, "cc1plus", 0.6)]
    busy, busiest = strangers_load(percents, shares, allowed={0, 1}, ours={30, 31})
    assert busy == pytest.approx(1.1)  # 1.5 processors, of which 0.4 are ours
    assert busiest == (("cc1plus", 0.6), ("python", 0.5))


def test_programs_of_one_name_count_together_and_three_are_named() -> None:
    shares = [(1, "a", 0.25), (2, "b", 0.3), (3, "a", 0.25), (4, "c", 0.2), (5, "d", 0.1)]
    assert strangers_load([85.0], shares, {0}, set())[1] == (("a", 0.5), ("b", 0.3), ("c", 0.2))
    assert strangers_load([85.0], [(1, "a", 0.5), (2, "b", 0.04)], {0}, set())[1] == (("a", 0.5),)


def test_load_is_never_negative_and_takes_processors_that_are_not_listed_for_idle() -> None:
    assert strangers_load([10.0], [(1, "ours", 0.2)], {0}, {1}) == (0.0, ())
    assert strangers_load([10.0, 20.0], [], {1, 2, 99}, set()) == (0.2, ())


# -- a look at this machine -------------------------------------------------------------------------------------

GPUS = (Gpu("GPU-aaaa-1", "Tesla T4", 15360.0, (7, 5)), Gpu("GPU-bbbb-2", "Tesla T4", 15360.0, (7, 5)))
Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")
STARTS_ANOTHER = """
import subprocess, sys
other = subprocess.Popen([sys.executable, "-c", "input()"])
print(other.pid, flush=True)
other.wait()
"""


class WithMemory(fake_nvml.Library):
    """Its processes are (pid, bytes); None bytes are what NVML does not know."""

    def _processes(self, handle: Any, count: Any, out: Any) -> int:
        room, listed = count[0], self._device(handle).now("processes")
        if isinstance(listed, fake_nvml.Error):
            return listed.code
        count[0] = len(listed)
        if room < len(listed):
            return fake_nvml.INSUFFICIENT_SIZE
        for index, (pid, size) in enumerate(listed):
            out[index].pid = pid
            out[index].usedGpuMemory = ctypes.c_ulonglong(-1).value if size is None else size
        return fake_nvml.SUCCESS


def test_facts_of_this_machine(tmp_path: Path) -> None:
    found = look(Machine(), tmp_path / "results" / "not yet there")
    assert found.processors == len(os.sched_getaffinity(0))
    assert found.busy_processors is not None
    assert 0 <= found.busy_processors <= found.processors
    assert len(found.busiest) <= 3
    assert found.memory_total_mib is not None
    assert found.memory_available_mib is not None
    assert 0 < found.memory_available_mib < found.memory_total_mib <= psutil.virtual_memory().total / MIB
    assert found.disk_free_mib is not None
    assert 0 < found.disk_free_mib < psutil.disk_usage(str(tmp_path)).total / MIB
    assert found.gpus == ()


@pytest.mark.parametrize(
    ("limit", "memory"),
    [
        (None, (16000.0, 9000.0)),
        ((4000.0, 3000.0), (4000.0, 3000.0)),
        ((4000.0, 4000.0), (4000.0, 4000.0)),
        ((12000.0, 11000.0), (12000.0, 9000.0)),  # what the group may still have, the host has not
        ((32000.0, 500.0), (16000.0, 500.0)),
    ],
)
def test_memory_is_what_host_and_cgroup_both_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: tuple[float, float] | None, memory: tuple[float, float]
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(16000 * MIB, 9000 * MIB))
    monkeypatch.setattr("bench.machine.preflight.memory_limit", lambda membership: limit)
    found = look(Machine(), tmp_path)
    assert (found.memory_total_mib, found.memory_available_mib) == memory


def test_disk_and_shared_memory_are_those_of_their_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes = {tmp_path: Usage(9 * MIB, 2 * MIB, 7 * MIB), Path("/dev/shm"): Usage(64 * MIB, 0, 64 * MIB)}
    monkeypatch.setattr("shutil.disk_usage", sizes.__getitem__)
    monkeypatch.setattr("bench.machine.preflight.SHM", Path("/dev/shm").resolve())
    found = look(Machine(), tmp_path / "a" / "b")
    assert found.disk_free_mib == 7.0
    assert found.shm_free_mib == (64.0 if Path("/dev/shm").is_dir() else None)


def test_a_file_system_without_a_size_has_nothing_to_run_out_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 0))
    found = look(Machine(), tmp_path)
    assert (found.disk_free_mib, found.shm_free_mib) == (None, None)


@pytest.mark.launch
def test_gpus_and_the_strangers_on_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", STARTS_ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    processes = [
        (os.getpid(), 5 * MIB),
        (4_000_001, 3072 * MIB),
        (child.pid, 5 * MIB),
        (grandchild, 5 * MIB),
        (4_000_002, None),
        (4_000_003, 0),
    ]
    first = fake_nvml.Device("GPU-aaaa-1", facts={"used": 3100 * MIB, "processes": processes})
    second = fake_nvml.Device("GPU-bbbb-2", facts={"used": 0, "processes": []})
    library = WithMemory(second, first)  # NVML's order is not CUDA's
    library.load(monkeypatch)
    try:
        found = look(Machine(GPUS, "550.54.15"), tmp_path)
    finally:
        child.communicate(b"\n")
    strangers = ((4_000_001, 3072.0), (4_000_002, None), (4_000_003, None))
    assert found.gpus == (
        GpuLook(0, "GPU-aaaa-1", 15360.0, 3100.0, strangers),
        GpuLook(1, "GPU-bbbb-2", 15360.0, 0.0),
    )
    assert (library.opened, library.open) == (1, 0)


def test_what_nvml_does_not_say_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lost = fake_nvml.Device("GPU-aaaa-1", handle=fake_nvml.LOST)
    library = fake_nvml.Library(lost, fake_nvml.Device("GPU-bbbb-2")).load(monkeypatch)
    nothing = (GpuLook(0, "GPU-aaaa-1", 15360.0), GpuLook(1, "GPU-bbbb-2", 15360.0))
    assert look(Machine(GPUS, "550.54.15"), tmp_path).gpus == nothing
    library.init = fake_nvml.DRIVER_NOT_LOADED
    assert look(Machine(GPUS), tmp_path).gpus == ()


def test_without_gpus_nvml_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = fake_nvml.Library().load(monkeypatch)
    assert look(Machine(), tmp_path).gpus == ()
    assert library.opened == 0


def test_a_look_does_not_fail_where_nothing_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("no /proc here")

    for name in ("psutil.Process", "psutil.process_iter", "psutil.cpu_percent", "psutil.virtual_memory"):
        monkeypatch.setattr(name, broken)
    for name in ("os.sched_getaffinity", "shutil.disk_usage"):
        monkeypatch.setattr(name, broken)
    monkeypatch.setattr(pynvml, "nvmlInit", broken)
    monkeypatch.setattr("bench.machine.preflight.cpu_quota", broken)
    assert look(Machine(GPUS), Path("results")) == Look()


# -- threads that variables decide ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "changes", "said"),
    [
        ({"MKL_NUM_THREADS": "1"}, {"omp_num_threads": 2}, "2 may have no effect: MKL_NUM_THREADS=1 overrides it"),
        ({"MKL_NUM_THREADS": "8"}, {}, "1 may have no effect: MKL_NUM_THREADS=8 overrides it"),
        (
            {},
            {"omp_num_threads": 2, "env": "MKL_NUM_THREADS=4"},
            "2 may have no effect: MKL_NUM_THREADS=4 overrides it",
        ),
        ({"OMP_THREAD_LIMIT": "3"}, {"omp_num_threads": 4}, "OMP_THREAD_LIMIT=3 allows no more; unset"),
        ({"OMP_DYNAMIC": "TRUE"}, {"omp_num_threads": 2}, "OMP_DYNAMIC lets OpenMP run fewer"),
    ],
)
def test_variables_that_win_over_the_threads_asked_for(variables: Any, changes: dict[str, Any], said: str) -> None:
    (warning,) = case_warnings(case(**changes), but(variables=variables))
    assert warning.startswith("--omp-num-threads ")
    assert said in warning


@pytest.mark.parametrize(
    ("variables", "changes"),
    [
        ({"MKL_NUM_THREADS": "2", "OMP_THREAD_LIMIT": "2", "OMP_DYNAMIC": "false"}, {"omp_num_threads": 2}),
        ({"MKL_NUM_THREADS": "2"}, {"env": "MKL_NUM_THREADS=1"}),  # the case's own wins over the shell's
        ({"OMP_DYNAMIC": "true", "MKL_NUM_THREADS": "many"}, {}),
    ],
)
def test_variables_that_do_not(variables: Any, changes: dict[str, Any]) -> None:
    assert case_warnings(case(**changes), but(variables=variables)) == []


def test_the_variables_of_the_shell_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    monkeypatch.delenv("OMP_DYNAMIC", raising=False)
    assert look(Machine(), tmp_path).variables == {"MKL_NUM_THREADS": "3"}


# AdamW in float32: 4 values of 4 bytes for each of 2^20 parameters are 16 MiB; SGD 12; bfloat16 half of it.
@pytest.mark.parametrize(
    ("changes", "mib"),
    [
        ({}, 16.0),
        ({"optimizer": "sgd"}, 12.0),
        ({"precision": "amp-bf16"}, 16.0),
        ({"precision": "bf16"}, 8.0),
        ({"strategy": "fsdp", "gpus": 4}, 4.0),
        ({"strategy": "fsdp:replicate=2", "gpus": 4}, 8.0),
        ({"strategy": "zero1", "gpus": 4}, 10.0),  # parameters and gradients 8, a quarter of 8
        ({"strategy": "single", "gpus": 1}, 16.0),
    ],
)
def test_what_a_model_needs_at_least_in_a_rank(changes: dict[str, Any], mib: float) -> None:
    assert state_mib(case(**changes), 2**20) == mib


def test_a_model_that_does_not_fit_the_host() -> None:
    many = 400 * 2**20  # in two ranks 2 * 400 * 16 MiB
    [warning] = case_warnings(case(), but(memory_available_mib=12_799.0), many)
    assert warning.startswith(
        "parameters, gradients and optimizer state take 12,800 MiB on the host, which has 12,799 MiB available"
    )
    assert case_warnings(case(), but(memory_available_mib=12_800.0), many) == []
    assert case_warnings(case(), but(memory_available_mib=None), many) == []
    assert case_warnings(case(strategy="fsdp"), but(memory_available_mib=6_400.0), many) == []


def test_a_model_that_does_not_fit_a_gpu() -> None:
    on_gpus = {"device": "cuda", "gpus": 1}
    [warning] = case_warnings(case(**on_gpus), ROOMY, 5121 * 2**20)  # 81,936 MiB of 81,920
    assert "take 81,936 MiB on a GPU, which has 81,920 MiB available" in warning
    assert case_warnings(case(**on_gpus), ROOMY, 5120 * 2**20) == []
    assert case_warnings(case(**on_gpus), but(gpus=()), 5121 * 2**20) == []  # it is not known how much there is


def test_the_parameters_of_a_built_in_model_are_known_with_its_default_options() -> None:
    assert known_parameters(case(workload="llama-1b")) == 1_235_814_400
    assert known_parameters(case(workload="llama-1b:layers=2")) is None
    assert known_parameters(case(workload="mine.py:Net")) is None
