"""Launches whose distribution is known: what the rates of intervals and tests are counted on.

Each gives logs of throughput as an array of any shape, all independent, and knows their median: that is what a report's
figure estimates, and what its interval is to hold. Deviations are about 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
Shape = tuple[int, ...]
SPREAD = 0.01
SLOW, WITHIN = 0.2, 0.005  # how much slower the second speed is, and the deviation within either: logs


@dataclass(frozen=True)
class LaunchNoise:
    """``words`` say what launches are made of, ``median`` is that of the log of throughput."""

    words: str
    median: float
    draw: Callable[[np.random.Generator, Shape], Floats]


def two_speeds(slow: float) -> LaunchNoise:
    """A share ``slow`` of the launches is slower by SLOW. Where both speeds are equally frequent any number between them
    is a median; the middle is taken."""

    def draw(random: np.random.Generator, shape: Shape) -> Floats:
        return WITHIN * random.standard_normal(shape) - SLOW * (random.random(shape) < slow)

    middle = -SLOW / 2 if slow == 0.5 else _median_of_two(slow)
    return LaunchNoise(f"two speeds, {SLOW:.0%} apart; {slow:.0%} of the launches slow", middle, draw)


def _median_of_two(slow: float) -> float:
    """The root of slow Φ((x + SLOW) / WITHIN) + (1 - slow) Φ(x / WITHIN) = 1/2; the gap between them is 40 deviations."""
    fast = slow < 0.5
    median = WITHIN * float(ndtri((0.5 - slow) / (1 - slow) if fast else 0.5 / slow)) - (0 if fast else SLOW)
    assert math.isclose(slow * ndtr((median + SLOW) / WITHIN) + (1 - slow) * ndtr(median / WITHIN), 0.5)
    return median


LAUNCHES: Mapping[str, LaunchNoise] = {
    "normal": LaunchNoise("normal", 0.0, lambda random, shape: SPREAD * random.standard_normal(shape)),
    "heavy-tailed": LaunchNoise(
        "Student's t with 3 degrees of freedom", 0.0, lambda random, shape: SPREAD * random.standard_t(3, shape)
    ),
    "skewed": LaunchNoise(
        "never faster than undisturbed, slower by an exponential time",
        -SPREAD * math.log(2),
        lambda random, shape: -SPREAD * random.exponential(size=shape),
    ),
    "two-speed 20%": two_speeds(0.2),
    "two-speed 30%": two_speeds(0.3),
    "two-speed 50%": two_speeds(0.5),
}
