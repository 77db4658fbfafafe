"""What an accelerator tells of a counted step, with a fake device module. ``test_cuda.py`` asks a real GPU."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from bench.messages.counts import CountLine, Counts
from bench.rank.work.device import DeviceWatch, launched, with_kernels

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


def test_each_wait_for_the_device_is_counted_in_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str | int] = []
    module = SimpleNamespace(
        reset_peak_memory_stats=lambda device: modes.append("reset"), max_memory_allocated=lambda device: 4096
    )
    monkeypatch.setattr("torch.get_device_module", lambda device: module)
    monkeypatch.setattr("torch.cuda.get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr("torch.cuda.set_sync_debug_mode", modes.append)
    watch = DeviceWatch(GPU)
    with warnings.catch_warnings(record=True) as others, watch.active():
        for part, times in (("forward", 2), ("backward", 1), ("optimizer", 0)):
            watch.part = part
            for _ in range(times):  # the text of c10/cuda/CUDAFunctions.cpp, always from one line
                warnings.warn(
                    "called a synchronizing CUDA operation (Triggered internally at x.cpp:150.)", stacklevel=1
                )
        warnings.warn("something else", stacklevel=1)
    assert modes == ["reset", "warn", 0]
    assert [str(other.message) for other in others] == ["something else"]
    assert list(watch.lines()) == [
        CountLine("forward", "sync", "the device", calls=2),
        CountLine("backward", "sync", "the device", calls=1),
        CountLine("step", "memory", "peak of the device's allocator", bytes=4096),
    ]


def test_a_cpu_has_nothing_to_wait_for() -> None:
    watch, counts = DeviceWatch(CPU), Counts([CountLine("step", "memory", "parameters", bytes=4)])
    with watch.active():
        torch.ones(2).sum().item()
    assert list(watch.lines()) == []
    assert with_kernels(counts, lambda: pytest.fail("no step is needed"), CPU) is counts


def test_kernels_of_a_profile() -> None:
    """Of the host's operations none is a kernel, nor are copies, fills and ranges that the user named."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        torch.ones(2) + 1
    host = profiled.events()
    assert len(host) > 0

    def on_device(name: str, annotation: bool = False) -> SimpleNamespace:
        return SimpleNamespace(device_type=SimpleNamespace(name="CUDA"), name=name, is_user_annotation=annotation)

    kernels = [on_device("ampere_sgemm_32x32_sliced1x4_tn"), on_device("ncclDevKernel_AllReduce_Sum_f32_RING_LL")]
    others = [on_device("Memcpy HtoD (Pinned -> Device)"), on_device("Memset (Device)"), on_device("mine", True)]
    assert launched([*host, *kernels, *others]) == 2
