"""What ranks query of an accelerator, with a fake device module. Tests marked gpu query a real GPU."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import bench
from bench.rank.memory import PeakMemory, peaks_mib
from bench.rank.recorded import _kind

RANK = Path(bench.__file__).parent / "rank"
MIB = 1 << 20


def test_every_call_of_a_device_is_one_that_cuda_and_xpu_have() -> None:
    calls = re.compile(r"(?:get_device_module\([\w.]+\)|module)\.(\w+)")
    texts = [text for text in (file.read_text() for file in RANK.glob("*.py")) if "get_device_module(" in text]
    names = {name for text in texts for name in calls.findall(text)}
    assert {"Event", "synchronize", "max_memory_allocated", "mem_get_info", "set_device"} <= names
    for module in (torch.cuda, torch.xpu):
        assert [name for name in sorted(names) if not hasattr(module, name)] == []


def test_peaks_of_several_devices_are_those_of_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices, of which the second uses more.

    A reset synchronises, frees unused memory, and then resets the peaks.
    """
    calls: list[tuple[str, object]] = []

    def call(name: str) -> Any:
        return lambda *device: calls.append((name, *device))  # type: ignore[arg-type]

    resets = ("synchronize", "empty_cache", "reset_peak_memory_stats", "reset_accumulated_memory_stats")
    module = SimpleNamespace(
        **{name: call(name) for name in resets},
        max_memory_allocated=lambda device: (1 + device.index) * 10 * MIB,
        max_memory_reserved=lambda device: (1 + device.index) * 16 * MIB,
        memory_stats=lambda device: {"num_alloc_retries": 3} if device.index else {},
        mem_get_info=lambda device: (70 * MIB, 100 * MIB),
    )
    monkeypatch.setattr("torch.get_device_module", lambda device: module)
    devices = [torch.device("cuda", 0), torch.device("cuda", 1)]
    memory = PeakMemory(devices, None)
    memory.reset()
    assert calls == [
        call
        for device in devices
        for call in [(resets[0], device), (resets[1],), *((name, device) for name in resets[2:])]
    ]
    read = memory.read()
    assert (read["peak_allocated_mib"], read["peak_reserved_mib"]) == (20, 32)
    assert (read["alloc_retries"], read["device_used_mib"]) == (3, 30)


@pytest.mark.parametrize(("initialised", "peak"), [(True, 30.0), (False, None)])
def test_a_device_that_was_never_used_has_no_peak(
    monkeypatch: pytest.MonkeyPatch, initialised: bool, peak: float | None
) -> None:
    module = SimpleNamespace(
        is_initialized=lambda: initialised,
        device_count=lambda: 2,
        max_memory_allocated=lambda index: (10, 30)[index] * MIB,
    )
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr("torch.get_device_module", lambda device: module)
    assert peaks_mib()[0] == peak


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_what_has_no_memory_left_says_so_in_many_ways(words: str) -> None:
    assert _kind(RuntimeError(words)) == "oom"
    assert _kind(ValueError(words)) == "crashed"
