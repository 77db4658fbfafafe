"""The number of steps in a window: pure functions of the times of its slowest rank.

A window is never discarded for its length: keeping only the long ones would select slow ones. A window shorter than
``min_seconds`` goes on instead. Its number of steps depends on the times of earlier steps but never on later ones, so
that by Wald's identity (Wald 1944, "On cumulative sums of random variables") the expected time of a window is the
expected number of its steps times the mean time of a step.
"""

from __future__ import annotations

import math

LEAST_STEPS = 2  # in a window: fewer have no spread
AIM_BEYOND = 1.05  # a window is planned for this multiple of ``min_seconds``, so that few windows need more steps


def window_steps(asked: int, step_ns: float, min_seconds: float, max_seconds: float) -> int:
    """Return the number of steps in a window, from the time of a step in warm-up on the slowest rank.

    It is ``asked``, or more to fill ``min_seconds``, limited to what fits into ``max_seconds`` (0: no limit), but at
    least LEAST_STEPS.
    """
    step_ns = max(step_ns, 1)
    wanted = max(asked, math.ceil(min_seconds * AIM_BEYOND * 1e9 / step_ns))
    return max(LEAST_STEPS, min(wanted, int(max_seconds * 1e9 / step_ns))) if max_seconds else wanted


def more_steps(steps: int, window_ns: float, min_seconds: float) -> int:
    """Return how many more steps a window needs after ``steps`` steps in ``window_ns`` on its slowest rank."""
    left_ns = min_seconds * 1e9 - window_ns
    return math.ceil(left_ns * AIM_BEYOND * steps / max(window_ns, 1)) if left_ns > 0 else 0


def warmup_steps_left(steps: int, step_ns: float, max_seconds: float) -> int:
    """Return how many of ``steps`` optional warm-up steps fit into half of ``max_seconds`` (0: no limit).

    ``step_ns`` is the time of the first step, which is the longest.
    """
    return min(steps, int(max_seconds / 2 * 1e9 / max(step_ns, 1))) if max_seconds else steps
