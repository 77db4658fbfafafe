"""Communication and computation of steps, from made-up events of CUDA and from a real profile of the CPU."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from bench.messages.step_profile import BY_PROFILE, StepProfile
from bench.rank.profiling.events import STEP, step_profile


def event(name: str, start: float, end: float, device: str = "CPU", **rest: Any) -> SimpleNamespace:
    """An event of a profile, in microseconds."""
    span = SimpleNamespace(start=start, end=end)
    kind = SimpleNamespace(name=device)
    return SimpleNamespace(
        **{
            "name": name,
            "time_range": span,
            "device_type": kind,
            "is_user_annotation": False,
            "is_async": False,
            **rest,
        }
    )


def step(start: float, end: float, device: str = "CPU") -> SimpleNamespace:
    return event(STEP, start, end, device, is_user_annotation=True)


def kernel(name: str, start: float, end: float) -> SimpleNamespace:
    return event(name, start, end, "CUDA")


def test_kernels_of_nccl_against_all_others() -> None:
    """Two steps of DDP: the second all-reduce of the first one is not covered by a kernel for 30 µs."""
    events = [
        *[step(0, 200), step(200, 300), step(5, 199, "CUDA")],
        # the host, and what the user named, say nothing of a device
        *[event("aten::addmm", 0, 190), event("c10d::allreduce_", 60, 62), event("nccl:all_reduce", 60, 62)],
        event("nccl:all_reduce", 90, 170, "CUDA", is_user_annotation=True),
        *[kernel("ampere_sgemm_128x64_tn", 10, 60), kernel("void at::native::elementwise_kernel", 60, 120)],
        kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", 90, 110),
        kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", 115, 150),
        *[kernel("Memcpy HtoD (Pinned -> Device)", 120, 150), kernel("Memset (Device)", 130, 131)],
        kernel("void at::native::multi_tensor_apply_kernel", 150, 180),
        *[kernel("ncclKernel_AllGather", 210, 240), kernel("triton_poi_fused_0", 220, 280)],
    ]
    assert step_profile(events, on_accelerator=True, communicates=True) == StepProfile(
        BY_PROFILE,
        steps_ns=[200_000, 100_000],
        comm_ns=[55_000, 30_000],
        compute_ns=[140_000, 60_000],  # 10 to 120 and 150 to 180
        overlap_ns=[25_000, 20_000],  # 90 to 110 and 115 to 120; 220 to 240
    )


def test_copies_between_devices_are_communication() -> None:
    events = [step(0, 50), kernel("Memcpy PtoP (Device -> Device)", 10, 30), kernel("gemm", 20, 40)]
    found = step_profile(events, on_accelerator=True, communicates=True)
    assert (found.comm_ns, found.compute_ns, found.overlap_ns) == ([20_000], [20_000], [10_000])


def test_operators_of_the_host_against_threads_of_gloo() -> None:
    """What encloses operators, such as a node of autograd in which FSDP waits, is no computation."""
    events = [
        step(0, 100),
        *[event("autograd::engine::evaluate_function: AddmmBackward0", 10, 80), event("AddmmBackward0", 10, 75)],
        *[event("aten::mm", 10, 30), event("aten::empty", 11, 12), event("mine::norm", 32, 40)],
        event("FSDP::post_backward_reduce", 40, 80, is_user_annotation=True),
        *[event("c10d::_reduce_scatter_base_", 41, 43), event("_c10d_functional::wait_tensor", 43, 70)],
        *[event("gloo:all_reduce", 25, 35, is_async=True), event("gloo:all_gather", 42, 90, is_async=True)],
        event("aten::_fused_adamw_", 80, 95),
    ]
    assert step_profile(events, on_accelerator=False, communicates=True) == StepProfile(
        BY_PROFILE,
        steps_ns=[100_000],
        comm_ns=[58_000],
        compute_ns=[43_000],  # 10 to 30, 32 to 40 and 80 to 95
        overlap_ns=[18_000],  # 25 to 30, 32 to 35 and 80 to 90
    )


def test_what_is_not_seen_is_unknown() -> None:
    alone = [step(0, 100), event("aten::mm", 10, 30)]
    assert step_profile(alone, on_accelerator=False, communicates=False).comm_ns == [0]  # there is no other rank
    hidden = step_profile(alone, on_accelerator=False, communicates=True)
    assert (hidden.steps_ns, "saw no collective" in hidden.note) == ([], True)
    assert step_profile(alone, on_accelerator=True, communicates=False).note == "torch's profiler saw no computation"


def test_a_real_profile_of_the_cpu() -> None:
    """Operators compute; a pause between them, which has a name, does not."""
    a = torch.ones(200, 200)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(3):
            with record_function(STEP):
                a = a @ a / 200
                with record_function("mine::pause"):
                    time.sleep(0.02)
    found = step_profile(seen.events(), on_accelerator=False, communicates=False)
    assert len(found.steps_ns) == 3
    for whole, computed, communicated in zip(found.steps_ns, found.compute_ns, found.comm_ns, strict=True):
        assert whole >= 20_000_000
        assert 0 < computed <= whole - 20_000_000
        assert communicated == 0
