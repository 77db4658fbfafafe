"""Whether the machine fits a run, looked at before anything is started: facts, and what they mean in words."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from bench.machine.cgroups import cpu_quota, memory_limit
from bench.machine.environment import proc
from bench.machine.gpus import Gpu, Machine, nvml

T = TypeVar("T")

GPU_USED_SHARE = 0.05  # a desktop's windows take less
MEMORY_SHARE, MEMORY_MIB = 0.1, 1024.0
DISK_MIB = 1024.0
BUSY_SHARE, BUSY_PROCESSORS = 0.1, 0.5
BUSY_SECONDS = 0.3
NAMED = 3  # of the busiest programs
NAMED_FROM = 0.05  # processors; who takes less disturbs nobody

THREAD_VARIABLES = ("MKL_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_DYNAMIC")

SHM = Path("/dev/shm")

Load = tuple[str, float]  # a program's name, and the processors that it keeps busy


@dataclass(frozen=True)
class GpuLook:
    """A GPU before the run. ``index`` is its place among the visible ones; ``memory_mib`` is as ``Gpu`` has it.

    ``used_mib`` is what all processes hold, graphics as well; None where NVML does not say. ``processes`` are those of
    others that compute on it: (pid, MiB), with None for MiB that NVML does not tell.
    """

    index: int
    uuid: str
    memory_mib: float
    used_mib: float | None = None
    processes: tuple[tuple[int, float | None], ...] = ()


@dataclass(frozen=True)
class Look:
    """What was found before anything was started; None is what could not be read, and gives no warning.

    ``processors`` are those that this process may run on, ``cpu_quota`` how many of them it may keep busy at a time;
    ``busy_processors`` are those of them that others keep busy. Memory is what this process may have: a cgroup's where
    that is less than the host's. ``variables`` are those of THREAD_VARIABLES that are set.
    """

    processors: int | None = None
    cpu_quota: float | None = None
    busy_processors: float | None = None
    busiest: tuple[Load, ...] = ()
    memory_total_mib: float | None = None
    memory_available_mib: float | None = None
    disk_free_mib: float | None = None
    shm_free_mib: float | None = None
    gpus: tuple[GpuLook, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def usable_processors(self) -> int | None:
        """How many threads can run at once: the processors, or the quota (rounded up) if that is less."""
        limits = [self.processors, None if self.cpu_quota is None else math.ceil(self.cpu_quota)]
        return min((limit for limit in limits if limit is not None), default=None)


def look(machine: Machine, folder: Path) -> Look:
    """The machine as it is now, with the disk that ``folder`` (there or not yet) is on. Takes BUSY_SECONDS.

    Raises nothing: what cannot be read is None. Call it before any rank is started.
    """
    ours = _known(_own_pids) or {os.getpid()}
    allowed = _known(lambda: os.sched_getaffinity(0))
    groups = proc("self/cgroup")
    busy, busiest = _known(lambda: _load(allowed or set(), ours)) or (None, ())
    total, available = _known(lambda: memory_mib(groups)) or (None, None)
    return Look(
        processors=len(allowed) if allowed else None,
        cpu_quota=_known(lambda: cpu_quota(groups)),
        busy_processors=busy,
        busiest=busiest,
        memory_total_mib=total,
        memory_available_mib=available,
        disk_free_mib=_known(lambda: _free_mib(folder)),
        shm_free_mib=_known(lambda: _free_mib(SHM) if SHM.is_dir() else None),
        gpus=_known(lambda: _gpus(machine, ours)) or (),
        variables={name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    )


# -- what the facts mean, in words: pure functions ------------------------------------------------------------------


def run_warnings(look: Look) -> list[str]:
    """What will make any case's numbers worse, or end its launches; a line each, with what to do."""
    of_gpus = [_gpu_warning(gpu) for gpu in look.gpus]
    found = [*of_gpus, _memory_warning(look), _disk_warning(look), _load_warning(look)]
    return [warning for warning in found if warning]


def _gpu_warning(gpu: GpuLook) -> str:
    uses = []
    if gpu.processes:
        names = [f"{pid} ({mib:,.0f} MiB)" if mib else str(pid) for pid, mib in gpu.processes]
        uses.append(f"process{'es' * (len(names) > 1)} {listed(names)} compute{'s' * (len(names) == 1)} on it")
    if gpu.used_mib is not None and gpu.used_mib > GPU_USED_SHARE * gpu.memory_mib:
        uses.append(f"{gpu.used_mib:,.0f} of {gpu.memory_mib:,.0f} MiB are taken")
    if not uses:
        return ""
    return (
        f"GPU {gpu.index} ({gpu.uuid}) is in use already: {listed(uses)}; steps may be slower and uneven, and memory "
        "runs out sooner; stop what uses it (see nvidia-smi), or leave it out by CUDA_VISIBLE_DEVICES"
    )


def _memory_warning(look: Look) -> str:
    total, available = look.memory_total_mib, look.memory_available_mib
    if total is None or available is None or available >= max(MEMORY_SHARE * total, MEMORY_MIB):
        return ""
    return (
        f"{available:,.0f} of {total:,.0f} MiB of host memory are left for the run: ranks may swap, which makes "
        "steps slower, or be killed; end other programs, or run with fewer ranks and DataLoader workers"
    )


def _disk_warning(look: Look) -> str:
    if look.disk_free_mib is None or look.disk_free_mib >= DISK_MIB:
        return ""
    return (
        f"{look.disk_free_mib:,.0f} MiB are free on the disk of the results: if it fills up, the run stops and later "
        "rows are lost; make room, or write to another disk (--out)"
    )


def _load_warning(look: Look) -> str:
    busy, processors = look.busy_processors, look.processors
    # of all that we may run on: where a quota allows fewer, they may be any of these
    if busy is None or processors is None or busy <= max(BUSY_SHARE * processors, BUSY_PROCESSORS):
        return ""
    names = listed([f"{name} ({share:.1f})" for name, share in look.busiest])
    return (
        f"others keep {busy:.1f} of {counted(processors, 'processor')} busy before anything is started"
        f"{f', most of all {names}' if names else ''}: they take time from the ranks, so steps are slower and uneven; "
        "stop them, or wait until they are done"
    )


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def listed(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# -- how facts are found --------------------------------------------------------------------------------------------


def _known(read: Callable[[], T]) -> T | None:
    """None where it cannot be read, for whatever reason: a look must not end the run that it is for."""
    try:
        return read()
    except Exception:
        return None


def _own_pids() -> set[int]:
    """This process and those that it started: what they do is no stranger's work."""
    process = psutil.Process()
    return {process.pid, *(child.pid for child in process.children(recursive=True))}


def available_mib() -> float:
    """The host memory that this process may still have, in MiB."""
    return memory_mib(proc("self/cgroup"))[1]


def memory_mib(membership: str) -> tuple[float, float]:
    """(total, available) host memory of this process in MiB: a cgroup's, by the text of its membership, or the host's
    where that has less."""
    host = psutil.virtual_memory()
    limited = _known(lambda: memory_limit(membership))
    limit, left = limited or (math.inf, math.inf)
    return min(host.total / 2**20, limit), min(host.available / 2**20, left)


def _free_mib(folder: Path) -> float | None:
    """Of the disk that the folder, or the nearest one above it that exists, is on; None if that has no size."""
    real = Path(os.path.realpath(folder))
    there = next(path for path in (real, *real.parents) if os.path.exists(path))
    usage = shutil.disk_usage(there)
    return usage.free / 2**20 if usage.total else None


def _load(allowed: Set[int], ours: Set[int]) -> tuple[float | None, tuple[Load, ...]]:
    if not allowed:
        return None, ()
    processes = [process for process in psutil.process_iter() if process.pid != os.getpid()]  # we only wait
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.cpu_percent()  # since when the next call counts
    percents = psutil.cpu_percent(BUSY_SECONDS, percpu=True)
    shares = []
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, or is not ours to look at
            share = process.cpu_percent() / 100
            if share and allowed & set(process.cpu_affinity()):
                shares.append((process.pid, process.name(), share))
    return strangers_load(percents, shares, allowed, ours)


def strangers_load(
    percents: Sequence[float], shares: Iterable[tuple[int, str, float]], allowed: Set[int], ours: Set[int]
) -> tuple[float, tuple[Load, ...]]:
    """(processors of ``allowed`` that others keep busy, the busiest of them by name).

    ``percents`` has how busy each processor is; ``shares`` has (pid, name, processors kept busy), ``ours`` our pids.
    """
    busy = sum(percents[index] for index in allowed if index < len(percents)) / 100
    by_name: dict[str, float] = defaultdict(float)
    for pid, name, share in shares:
        if pid in ours:
            busy -= share
        else:
            by_name[name] += share
    busiest = sorted(by_name.items(), key=lambda load: load[1], reverse=True)[:NAMED]
    return max(busy, 0.0), tuple(load for load in busiest if load[1] >= NAMED_FROM)


def _gpus(machine: Machine, ours: Set[int]) -> tuple[GpuLook, ...]:
    if not machine.gpus:
        return ()
    with nvml() as library:
        return tuple(_gpu(library, index, gpu, ours) for index, gpu in enumerate(machine.gpus))


def _gpu(library: Any, index: int, gpu: Gpu, ours: Set[int]) -> GpuLook:
    handle = _known(lambda: library.nvmlDeviceGetHandleByUUID(gpu.uuid.encode()))
    if handle is None:
        return GpuLook(index, gpu.uuid, gpu.memory_mib)
    # version 2 has the memory that the driver holds in a field of its own
    used = _known(lambda: library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2).used / 2**20)
    listed = _known(lambda: library.nvmlDeviceGetComputeRunningProcesses(handle)) or []
    strangers = [(p.pid, p.usedGpuMemory / 2**20 if p.usedGpuMemory else None) for p in listed if p.pid not in ours]
    return GpuLook(index, gpu.uuid, gpu.memory_mib, used, tuple(strangers))
