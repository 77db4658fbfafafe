"""Checks before a run whether the machine is idle and has enough memory and disk space; warns if not."""

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

GPU_USED_SHARE = 0.05  # More than a desktop takes.
MEMORY_SHARE, MEMORY_MIB = 0.1, 1024.0
DISK_MIB = 1024.0
BUSY_SHARE, BUSY_PROCESSORS = 0.1, 0.5
BUSY_SECONDS = 0.3
NAMED = 3  # How many of the busiest programs a warning names.
NAMED_FROM = 0.05  # Processors; programs below do not disturb a measurement.

THREAD_VARIABLES = ("MKL_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_DYNAMIC")

SHM = Path("/dev/shm")

Load = tuple[str, float]  # A program's name, and how many processors it keeps busy.


@dataclass(frozen=True)
class GpuLook:
    """The state of a GPU before the run. ``index``: its place among the visible GPUs; ``memory_mib``: as in ``Gpu``.

    ``used_mib``: memory of all processes, graphics included; None if NVML cannot tell. ``processes``: (pid, MiB) of
    other processes that compute on it, with None for MiB if NVML cannot tell.
    """

    index: int
    uuid: str
    memory_mib: float
    used_mib: float | None = None
    processes: tuple[tuple[int, float | None], ...] = ()


@dataclass(frozen=True)
class Look:
    """The state of the machine before a run; None for what could not be read, which gives no warning.

    ``processors``: those that this process may run on. ``cpu_quota``: how many it may keep busy at a time.
    ``busy_processors``: how many of ``processors`` other programs keep busy. Memory is that of the cgroup if it is less
    than the host's. ``variables``: those of THREAD_VARIABLES that are set. This is number ``node`` of nodes that take
    as many ranks as ``places`` says; empty for one node.
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
    node: int = 0
    places: tuple[int, ...] = ()

    @property
    def usable_processors(self) -> int | None:
        """Number of threads that can run at once: the processors, or the quota (rounded up) if it is smaller."""
        limits = [self.processors, None if self.cpu_quota is None else math.ceil(self.cpu_quota)]
        return min((limit for limit in limits if limit is not None), default=None)


def look(machine: Machine, folder: Path | None = None) -> Look:
    """Return the state of the machine, and of the disk of ``folder`` (existing or not) if any; takes BUSY_SECONDS.

    Raises nothing: what cannot be read is None. Call it before any rank is started.
    """
    ours = _or_none(_own_pids) or {os.getpid()}
    allowed = _or_none(lambda: os.sched_getaffinity(0))
    groups = proc("self/cgroup")
    busy, busiest = _or_none(lambda: _load(allowed or set(), ours)) or (None, ())
    total, available = _or_none(lambda: memory_mib(groups)) or (None, None)
    return Look(
        processors=len(allowed) if allowed else None,
        cpu_quota=_or_none(lambda: cpu_quota(groups)),
        busy_processors=busy,
        busiest=busiest,
        memory_total_mib=total,
        memory_available_mib=available,
        disk_free_mib=_or_none(lambda: _free_mib(folder) if folder else None),
        shm_free_mib=_or_none(lambda: _free_mib(SHM) if SHM.is_dir() else None),
        gpus=_or_none(lambda: _gpus(machine, ours)) or (),
        variables={name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    )


# -- warnings, by pure functions ------------------------------------------------------------------------------------


def run_warnings(look: Look) -> list[str]:
    """Return a line for each thing that slows launches down or ends them, with what to do."""
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
        "runs out sooner; stop what uses it (see nvidia-smi), or exclude it with CUDA_VISIBLE_DEVICES"
    )


def _memory_warning(look: Look) -> str:
    total, available = look.memory_total_mib, look.memory_available_mib
    if total is None or available is None or available >= max(MEMORY_SHARE * total, MEMORY_MIB):
        return ""
    return (
        f"{available:,.0f} of {total:,.0f} MiB of host memory are available: ranks may swap, which makes "
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
    # Of all allowed processors: with a quota the ranks may run on any of them.
    if busy is None or processors is None or busy <= max(BUSY_SHARE * processors, BUSY_PROCESSORS):
        return ""
    names = listed([f"{name} ({share:.1f})" for name, share in look.busiest])
    return (
        f"other programs keep {busy:.1f} of {counted(processors, 'processor')} busy"
        f"{f', mostly {names}' if names else ''}: they take time from the ranks, so steps are slower and uneven; "
        "stop them, or wait until they end"
    )


def counted(number: int, what: str) -> str:
    """Return a number with its noun: ``1 rank``, ``2 ranks``."""
    return f"{number} {what}{'s' * (number != 1)}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Join words as a list in a sentence: ``a, b and c``."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# -- reading the state ----------------------------------------------------------------------------------------------


def _or_none(read: Callable[[], T]) -> T | None:
    """Return None instead of raising: a check that fails must not end the run."""
    try:
        return read()
    except Exception:
        return None


def _own_pids() -> set[int]:
    """Return the ids of this process and its descendants, which do not count as other programs."""
    process = psutil.Process()
    return {process.pid, *(child.pid for child in process.children(recursive=True))}


def available_mib() -> float:
    """Return the host memory that is available to this process, in MiB."""
    return memory_mib(proc("self/cgroup"))[1]


def memory_mib(membership: str) -> tuple[float, float]:
    """Return (total, available) host memory in MiB, by the cgroups in ``membership`` or the host if that has less."""
    host = psutil.virtual_memory()
    limited = _or_none(lambda: memory_limit(membership))
    limit, left = limited or (math.inf, math.inf)
    return min(host.total / 2**20, limit), min(host.available / 2**20, left)


def _free_mib(folder: Path) -> float | None:
    """Return the free space of the folder's disk in MiB; None if the file system has no size."""
    real = Path(os.path.realpath(folder))
    there = next(path for path in (real, *real.parents) if os.path.exists(path))
    usage = shutil.disk_usage(there)
    return usage.free / 2**20 if usage.total else None


def _load(allowed: Set[int], ours: Set[int]) -> tuple[float | None, tuple[Load, ...]]:
    if not allowed:
        return None, ()
    processes = [process for process in psutil.process_iter() if process.pid != os.getpid()]  # This process is idle.
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.cpu_percent()  # The next call measures from here.
    percents = psutil.cpu_percent(BUSY_SECONDS, percpu=True)
    shares = []
    for process in processes:
        with contextlib.suppress(psutil.Error):  # It ended meanwhile, or is not accessible.
            share = process.cpu_percent() / 100
            if share and allowed & set(process.cpu_affinity()):
                shares.append((process.pid, process.name(), share))
    return strangers_load(percents, shares, allowed, ours)


def strangers_load(
    percents: Sequence[float], shares: Iterable[tuple[int, str, float]], allowed: Set[int], ours: Set[int]
) -> tuple[float, tuple[Load, ...]]:
    """Return (how many of the ``allowed`` processors other programs keep busy, the busiest programs).

    ``percents``: load of each processor. ``shares``: (pid, name, processors kept busy). ``ours``: our own pids.
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
    handle = _or_none(lambda: library.nvmlDeviceGetHandleByUUID(gpu.uuid.encode()))
    if handle is None:
        return GpuLook(index, gpu.uuid, gpu.memory_mib)
    # Version 2 reports the memory of the driver separately.
    used = _or_none(lambda: library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2).used / 2**20)
    listed = _or_none(lambda: library.nvmlDeviceGetComputeRunningProcesses(handle)) or []
    strangers = [(p.pid, p.usedGpuMemory / 2**20 if p.usedGpuMemory else None) for p in listed if p.pid not in ours]
    return GpuLook(index, gpu.uuid, gpu.memory_mib, used, tuple(strangers))
