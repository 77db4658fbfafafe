"""The number of blocks that a verdict needs, and what a given number can detect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, nctdtr, stdtrit

from bench.stats.trimmed import LEAST_BLOCKS, SHARE, error_of

FIRST_LEVEL = 0.05  # of the first stage, one-sided: selects candidates
LEVEL = 0.005  # of the second stage, one-sided, over all candidates of a suite (Holm)
POWER = 0.98  # of each stage, so that both together find 95 of 100
CANDIDATES = 3  # for which a second stage is planned: the true one, and those by chance
MOST_BLOCKS = 400
CERTAINTY = 0.95  # that the true deviation is at most the one that is planned with


class Blocks(NamedTuple):
    """Blocks of the first stage, and of the second."""

    first: int
    second: int


def power(blocks: int, deviation: float, change: float, level: float) -> float:
    """Return the chance that ``blocks`` show a slowdown by ``change`` at a one-sided level.

    A change of 0.03 is a throughput that falls by 3 %. The result uses the noncentral t distribution with the trimmed
    t's error and degrees of freedom.
    """
    freedom = blocks - 2 * math.floor(SHARE * blocks) - 1
    shift = -math.log1p(-change) / max(float(error_of(deviation, blocks)), 1e-12)
    return 1 - float(nctdtr(freedom, min(shift, 37.0), -stdtrit(freedom, level)))  # scipy returns NaN beyond


def needed(deviation: float, change: float) -> Blocks | None:
    """Return the fewest blocks of both stages that find ``change``; None if MOST_BLOCKS do not."""
    first = _fewest(deviation, change, FIRST_LEVEL)
    second = _fewest(deviation, change, LEVEL / CANDIDATES)
    return Blocks(first, second) if first and second else None


def detectable(deviation: float, blocks: Blocks) -> float:
    """Return the smallest slowdown that the blocks of two stages find, as a share of the throughput."""
    return smallest(deviation, ((blocks.first, FIRST_LEVEL), (blocks.second, LEVEL / CANDIDATES)), POWER)


def smallest(deviation: float, stages: Sequence[tuple[int, float]], chance: float) -> float:
    """Return the smallest slowdown that each stage, of so many blocks at a one-sided level, finds with this chance."""
    low, high = 0.0, 0.999
    while high - low > 1e-5:
        middle = (low + high) / 2
        found = all(power(count, deviation, middle, level) >= chance for count, level in stages)
        low, high = (low, middle) if found else (middle, high)
    return high


def upper(deviation: float, blocks: int) -> float:
    """Return the upper bound of the true deviation, with CERTAINTY by chi-squared, if ``blocks`` gave ``deviation``."""
    return deviation * widening(blocks - 2 * math.floor(SHARE * blocks) - 1)


def widening(freedom: float) -> float:
    """Return the factor from a deviation with so many degrees of freedom to its upper bound."""
    return math.sqrt(freedom / float(chdtri(freedom, CERTAINTY))) if freedom < math.inf else 1.0


def _fewest(deviation: float, change: float, level: float) -> int | None:
    """Search by doubling, then between: power grows with the blocks, except where one more is trimmed."""
    enough = next(
        (
            n
            for n in np.unique(np.geomspace(LEAST_BLOCKS, MOST_BLOCKS, 30).astype(int))
            if _finds(n, deviation, change, level)
        ),
        None,
    )
    if enough is None:
        return None
    return next(n for n in range(LEAST_BLOCKS, int(enough) + 1) if _finds(n, deviation, change, level))


def _finds(blocks: int, deviation: float, change: float, level: float) -> bool:
    return power(int(blocks), deviation, change, level) >= POWER
