"""Why a script has no window, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plan.options import LEAST_WARMUP_STEPS

if TYPE_CHECKING:
    from bench.rank.script.observer import Observer

WITHOUT_STEPS = 10  # times as many backward passes as steps are asked for: then no optimizer will come


class ScriptError(RuntimeError):
    """A script cannot be measured."""


def words(observer: Observer | None, code: int | None, warmup_steps: int, steps: int) -> str:
    """Return why there is no measurement of a script that ended with an exit code; without one, of a block of code."""
    warmup = max(warmup_steps, LEAST_WARMUP_STEPS)
    ended = "the block ended" if code is None else f"the script ended (exit code {code})"
    longer = "train longer, or lower steps" if code is None else "lengthen it with --args, or lower --steps"
    if observer is None or not (observer.batches or observer.backwards or observer.done):
        return f"{ended} without training: no DataLoader, backward pass or optimizer of torch was used"
    if not observer.done:
        return f"{ended}, and {no_steps(observer.batches, observer.backwards)}"
    return (
        f"{ended} after {observer.done} steps; {max(warmup, observer.needed)} of warm-up and {steps} measured are "
        f"needed: {longer}"
    )


def no_steps(batches: int, backwards: int) -> str:
    """Return what to do for a script whose steps are not seen."""
    return (
        f"no optimizer step was seen in {batches} batches and {backwards} backward passes: the script's optimizer is "
        "not torch's; add `from stepbench import step; step(samples=…)` at the end of each step"
    )
