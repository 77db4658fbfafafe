"""From the events of torch's profiler to the communication and computation of each step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.messages.step_profile import BY_PROFILE, StepProfile
from bench.rank.profiling.intervals import Interval, length, overlap, within

STEP = "stepbench step"  # the range around each profiled step
GLOO = "gloo:"  # prefix of the host's events that last while a thread of Gloo works on a collective
# Prefixes of the device's events that communicate: kernels of NCCL and RCCL, and copies between devices.
DEVICE_COMMUNICATION = ("nccl", "Memcpy PtoP")
NO_COMPUTATION = ("Memcpy", "Memset")  # copies and fills by the device are neither
# Namespaces of the host's events that enclose others, or start a collective or wait for one.
NO_OPERATORS = ("autograd", "c10d", "_c10d_functional", "gloo", "nccl", "FSDP")


def step_profile(events: Iterable[Any], on_accelerator: bool, communicates: bool) -> StepProfile:
    """Return the communication and computation of each range STEP among the events of a profile.

    On an accelerator the computation is that of its kernels, on the CPU that of its operators; what the host does
    between operators is no computation. If the ranks communicate but no collective is seen, or if nothing is seen to
    compute, nothing is known, and the note says so.
    """
    events = list(events)
    steps = sorted(_interval(event) for event in events if event.name == STEP and _on_host(event))
    communication = [_interval(event) for event in events if _communicates(event)]
    computation = [_interval(event) for event in events if _computes(event, on_accelerator)]
    if not steps or not computation:
        return StepProfile(BY_PROFILE, note="torch's profiler saw no computation")
    if communicates and not communication:
        return StepProfile(BY_PROFILE, note="torch's profiler saw no collective; --profile ablation does without it")
    return _of_steps(steps, communication, computation)


def _of_steps(
    steps: Sequence[Interval], communication: Sequence[Interval], computation: Sequence[Interval]
) -> StepProfile:
    both = [(within(communication, step), within(computation, step)) for step in steps]
    return StepProfile(
        BY_PROFILE,
        steps_ns=[_ns(end - start) for start, end in steps],
        comm_ns=[_ns(length(one)) for one, _ in both],
        compute_ns=[_ns(length(other)) for _, other in both],
        overlap_ns=[_ns(overlap(one, other)) for one, other in both],
    )


def _communicates(event: Any) -> bool:
    if _on_host(event):
        return bool(event.name.startswith(GLOO))
    return not event.is_user_annotation and event.name.startswith(DEVICE_COMMUNICATION)


def _computes(event: Any, on_accelerator: bool) -> bool:
    if event.is_user_annotation or event.is_async:
        return False
    if on_accelerator:
        return not _on_host(event) and not event.name.startswith((*DEVICE_COMMUNICATION, *NO_COMPUTATION))
    namespace, separator, _ = event.name.partition("::")
    return _on_host(event) and bool(separator) and namespace not in NO_OPERATORS


def _on_host(event: Any) -> bool:
    return bool(event.device_type.name == "CPU")


def _interval(event: Any) -> Interval:
    """Return when an event started and ended, in microseconds of the profile's clock."""
    return event.time_range.start, event.time_range.end


def _ns(microseconds: float) -> int:
    return round(1000 * microseconds)
