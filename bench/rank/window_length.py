"""How many steps a window has: pure functions of what its slowest rank took.

No window is thrown away for its length, as that would choose: only the slow ones of several would be kept. One that is
shorter than ``min_seconds`` goes on instead. The steps it then has depend on how long the earlier ones took, but never
on those that are still to come, so that by Wald's identity (Wald 1944, "On cumulative sums of random variables") the
expected time of a window is the expected number of its steps times the mean time of a step.
"""

from __future__ import annotations

import math

LEAST_STEPS = 2  # of a window: fewer have no spread
AIM_BEYOND = 1.05  # a window is planned for this many times ``min_seconds``, so that most need not go on


def window_steps(asked: int, step_ns: float, min_seconds: float, max_seconds: float) -> int:
    """The steps of a window by what one took in warm-up, at ``step_ns`` on the slowest rank.

    As many as ``asked``, or as fill ``min_seconds``; of those what fits into ``max_seconds`` (0: no limit), but two.
    """
    step_ns = max(step_ns, 1)
    wanted = max(asked, math.ceil(min_seconds * AIM_BEYOND * 1e9 / step_ns))
    return max(LEAST_STEPS, min(wanted, int(max_seconds * 1e9 / step_ns))) if max_seconds else wanted


def more_steps(steps: int, window_ns: float, min_seconds: float) -> int:
    """By how many steps a window of ``steps`` goes on that took its slowest rank ``window_ns``; 0: long enough."""
    left_ns = min_seconds * 1e9 - window_ns
    return math.ceil(left_ns * AIM_BEYOND * steps / max(window_ns, 1)) if left_ns > 0 else 0


def warmup_steps_left(steps: int, step_ns: float, max_seconds: float) -> int:
    """Of ``steps`` that warm-up can do without, those that fit into half of ``max_seconds`` (0: no limit), by the time
    of the first step, which is the longest."""
    return min(steps, int(max_seconds / 2 * 1e9 / max(step_ns, 1))) if max_seconds else steps
