"""Finds how much of a step waits for communication, by steps after the window that are part of no statistic."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from bench.messages.step_profile import BY_ABLATION, BY_PROFILE, TRACE, StepProfile
from bench.plan.options import ABLATION, TRACES
from bench.rank.build import Training
from bench.rank.profiling.ablation import ablated
from bench.rank.profiling.profiled import profiled

ENDED_EARLY = "the rank ended before the profile of its steps"
NO_COLLECTIVES = "dp exchanges within one process, and a fake group exchanges nothing"
COMPILED = "torch's profiler does not see what compiled code computes on the CPU"


def profile_of(training: Training, asked: str, moved: Callable[[], None], folder: str, rank: int) -> StepProfile:
    """Return the profile of a few more steps, as ``--profile`` ``asked``; the reason in its note if there is none.

    Ablation takes the place of a profile where the profiler does not see what computes. ``moved`` is called after each
    step. With TRACES the Chrome trace is left in ``folder``.
    """
    case = training.case
    unseen = case.compile != "off" and not case.on_accelerator
    by_ablation = training.distributed and (asked == ABLATION or unseen)
    method = BY_ABLATION if by_ablation else BY_PROFILE
    if case.fake_ranks or case.spread.name == "dp":
        return StepProfile(method, note=NO_COLLECTIVES)
    if unseen and not by_ablation:
        return StepProfile(method, note=COMPILED)
    trace = Path(folder) / f"rank{rank}{TRACE}" if asked == TRACES else None
    try:
        return ablated(training, moved) if by_ablation else profiled(training, moved, trace)
    except Exception as error:
        traceback.print_exc()
        return StepProfile(method, note=f"the profiled steps failed: {type(error).__name__}")
