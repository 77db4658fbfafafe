"""Peak memory of a rank: of the device's allocator, and the resident set as the kernel reports it."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch

MIB = 1 << 20
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CGROUPS = Path("/sys/fs/cgroup")
CONTAINER = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def resident_mib() -> float | None:
    """Return the present resident set in MiB; None if unknown."""
    return _status_mib("VmRSS")


def free_bytes(device: torch.device) -> float:
    """Return the free memory of a device or, for the CPU, of the host or of what its container leaves."""
    if device.type != "cpu":
        free: int = torch.get_device_module(device).mem_get_info(device)[0]
        return free
    return min(psutil.virtual_memory().available, *_left_by_container(), math.inf)


def _left_by_container() -> list[int]:
    """Return the bytes that a limit of this process's container leaves, by cgroups v2 and v1; none without a limit."""
    found = []
    for most, used in CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            found.append(int((CGROUPS / most).read_text()) - int((CGROUPS / used).read_text()))
    return found


def peaks_mib() -> tuple[float | None, float | None]:
    """Return the peaks since the last reset in MiB.

    They are (largest of the devices' allocators, resident set); None if unknown.
    """
    try:
        accelerator = torch.accelerator.current_accelerator()
        module = torch.get_device_module(accelerator)
        devices = range(module.device_count()) if accelerator and module.is_initialized() else ()
        allocated = max((module.max_memory_allocated(device) / MIB for device in devices), default=None)
    except RuntimeError:  # the device itself has failed
        allocated = None
    return allocated, _status_mib("VmHWM")


class PeakMemory:
    """Peaks of the window, separate from those of the whole process.

    ``reset`` after warm-up, ``read`` after the window.

    ``devices`` are the rank's accelerators: none on the CPU, several under ``dp``, of which the largest peak counts.
    """

    def __init__(self, devices: Sequence[torch.device], rss_at_start: float | None) -> None:
        self._devices, self._rss_at_start = devices, rss_at_start
        self._resets_rss = False
        self._life: dict[str, float | None] = {}
        self._build_peak_rss: float | None = None

    def built(self) -> None:
        """Keep the peak of the resident set until now, as the model has just been built."""
        self._build_peak_rss = _status_mib("VmHWM")

    def reset(self, trim: bool = True) -> None:
        """Reset the peaks, if ``trim`` is set after memory that is not used any more was returned to the system."""
        self._life = self._now()
        for device in self._devices:
            module = torch.get_device_module(device)
            module.synchronize(device)
            if trim:
                module.empty_cache()
            module.reset_peak_memory_stats(device)
            module.reset_accumulated_memory_stats(device)  # retries of the allocator
        try:
            if trim:
                ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory: hundreds of MiB after warm-up
            CLEAR_REFS.write_text("5")  # proc(5): reset the peak resident set
            self._resets_rss = True
        except (OSError, AttributeError):
            pass  # not Linux, or a container that forbids it: the window's peak stays unknown

    def read(self) -> dict[str, float | None]:
        """Return MiB by column name; None if unknown."""
        window = self._now()
        peak_rss = window["rss"] if self._resets_rss else None
        growth = peak_rss - self._rss_at_start if peak_rss and self._rss_at_start else None
        return {
            "peak_allocated_mib": window["allocated"],
            "peak_reserved_mib": window["reserved"],
            "peak_rss_mib": peak_rss,
            "rss_growth_mib": growth,
            "build_peak_rss_mib": self._build_peak_rss,
            "life_peak_allocated_mib": _larger(window["allocated"], self._life.get("allocated")),
            "life_peak_rss_mib": _larger(window["rss"], self._life.get("rss")),
            "alloc_retries": self._largest(_retries),
            "device_used_mib": self._largest(_used_mib),
        }

    def _now(self) -> dict[str, float | None]:
        return {
            "allocated": self._largest(lambda d: torch.get_device_module(d).max_memory_allocated(d) / MIB),
            "reserved": self._largest(lambda d: torch.get_device_module(d).max_memory_reserved(d) / MIB),
            "rss": _status_mib("VmHWM"),
        }

    def _largest(self, of: Callable[[torch.device], float]) -> float | None:
        return max(map(of, self._devices), default=None)


def _used_mib(device: torch.device) -> float:
    free, total = torch.get_device_module(device).mem_get_info(device)
    return float(total - free) / MIB


def _retries(device: torch.device) -> float:
    stats: dict[str, int] = torch.get_device_module(device).memory_stats(device)
    return stats.get("num_alloc_retries", 0)


def _larger(a: float | None, b: float | None) -> float | None:
    return max((x for x in (a, b) if x is not None), default=None)


def _status_mib(field: str) -> float | None:
    """Return a field of /proc/self/status in MiB; None if unknown."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":")), None)
