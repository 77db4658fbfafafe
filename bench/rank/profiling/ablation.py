"""Steps with their collectives, then without: by how much they are shorter is what a step waited for them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch.distributed as dist

from bench.messages.step_profile import BY_ABLATION, StepProfile
from bench.rank.build import Training
from bench.rank.profiling.profiled import STEPS, take_whole_step

INSEPARABLE = "the collectives of this strategy cannot be taken out of its step"


def ablated(training: Training, moved: Callable[[], None]) -> StepProfile:
    """Take STEPS with collectives and STEPS without, and return their durations. ``moved`` is called after each.

    Replicas differ afterwards, as they no longer exchange gradients: no other step may follow.
    """
    steps = _durations(training, moved)
    if not all(training.strategy.remove_collectives(model, training.case) for model in training.models):
        return StepProfile(BY_ABLATION, note=INSEPARABLE)
    return StepProfile(BY_ABLATION, steps_ns=steps, without_ns=_durations(training, moved))


def _durations(training: Training, moved: Callable[[], None]) -> list[int]:
    """Take one step, which does what only a first step does, and STEPS more; return the nanoseconds of these."""
    found: list[int] = []
    for _ in range(1 + STEPS):
        dist.barrier()
        started = time.perf_counter_ns()
        take_whole_step(training)
        found.append(time.perf_counter_ns() - started)
        moved()
    return found[1:]
