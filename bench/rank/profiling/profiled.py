"""A few steps after the window under torch's profiler: part of no statistic."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function, supported_activities

from bench.messages.step_profile import StepProfile
from bench.rank.build import Training
from bench.rank.extra_step import take_step
from bench.rank.profiling.events import STEP, step_profile
from bench.rank.work.device import ACTIVITIES

STEPS = 5  # an odd number, so that one of them is the median


def profiled(training: Training, moved: Callable[[], None], trace: Path | None) -> StepProfile:
    """Take one step and then STEPS more under torch's profiler; return how they communicated and computed.

    ``moved`` is called after each. ``trace`` is where to leave the Chrome trace, a ``.json.gz``.
    """
    with profile(activities=[ProfilerActivity.CPU, *_of_device(training)]) as seen:
        take_whole_step(training)  # the profiler's own start is in this one
        moved()
        for _ in range(STEPS):
            with record_function(STEP):
                take_whole_step(training)
            moved()
    if trace:
        partial = trace.with_name(f"partial-{trace.name}")
        seen.export_chrome_trace(str(partial))
        os.replace(partial, trace)
        moved()
    communicates = training.distributed and training.case.world_size > 1
    return step_profile(seen.events(), training.case.on_accelerator, communicates)


def take_whole_step(training: Training) -> None:
    """Take a step, and wait until the devices have done it."""
    take_step(training, lambda _: None)
    training.synchronize()


def _of_device(training: Training) -> list[ProfilerActivity]:
    activity = ACTIVITIES.get(training.device.type)
    return [activity] if activity in supported_activities() else []  # type: ignore[list-item]
