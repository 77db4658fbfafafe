"""Intervals of throughput: of the median of a case's launches, of the ratio of two medians, and of a mean of logs."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping, Sequence
from statistics import fmean, median, variance
from typing import Any, NamedTuple

import pandas as pd
from scipy.special import stdtrit  # t's quantile; scipy.stats takes half a second to import

CONFIDENCE = 0.95
LARGEST = math.log(sys.float_info.max)
# How many ranges an interval of so few launches extends beyond the smallest and the largest. It then contains a normal
# distribution's median 95 times of 100 (for two launches it is Student's t interval).
REACH = {2: 5.853102368087, 3: 0.85, 4: 0.25, 5: 0.04}
LEAST_HELD = 0.925  # least coverage of the inner of two order statistics for an interval that comes close to it
MOST_INWARD = 0.45  # else at most this share of the way to it: never across the middle of the gap between two speeds


class Place(NamedTuple):
    """A bound at the order statistic ``rank`` (from 1), moved inward by ``weight`` of the way to the next one."""

    rank: int
    weight: float


def of_median(values: pd.Series) -> tuple[float, float]:
    """Return the 95 % interval of the median of some launches' throughput; NaN for fewer than two."""
    low, high = of_median_log([math.log(value) for value in values.dropna() if value > 0])
    return exp(low), exp(high)


def of_median_log(logs: Sequence[float]) -> tuple[float, float]:
    """Return the same for logs, by their order statistics: the coverage of the sign test, for any distribution.

    For six or more the bounds are between two order statistics, at Hettmansperger and Sheather's interpolation (1986)
    for 95 %. Fewer values have no such interval of 95 %: theirs extends beyond the smallest and the largest by REACH
    ranges.
    """
    ordered, n = sorted(logs), len(logs)
    if n < 2:
        return math.nan, math.nan
    if n in REACH:
        reach = REACH[n] * (ordered[-1] - ordered[0])
        return ordered[0] - reach, ordered[-1] + reach
    rank, weight = place(n)
    low, high = ordered[rank - 1], ordered[n - rank]
    return low + weight * (ordered[rank] - low), high - weight * (high - ordered[n - rank - 1])


@functools.cache
def place(n: int) -> Place:
    """Return where the lower bound of ``n`` (6 or more) sorted values is; the upper one is as far from the other end.

    With B binomial (n, 1/2), the order statistics ``rank`` from both ends contain the median with 1 - 2 P(B < rank).
    """
    below, rank = 0.5**n, 1  # below is P(B < rank)
    while 2 * (more := below + math.comb(n, rank) * 0.5**n) <= 1 - CONFIDENCE:
        below, rank = more, rank + 1
    outer, inner = 1 - 2 * below, 1 - 2 * more
    share = (outer - CONFIDENCE) / (outer - inner)
    weight = (n - rank) * share / (rank + (n - 2 * rank) * share)
    return Place(rank, weight if inner >= LEAST_HELD else min(weight, MOST_INWARD))


def of_ratio(a: Mapping[Any, float], b: Mapping[Any, float]) -> tuple[float, float, str]:
    """Return the 95 % interval of the ratio of two cases' medians, and how it was made; NaN if unknown.

    ``a`` and ``b`` have throughputs by (run_id, block). If they share two blocks or more, it is ``paired``: the
    interval of the median of their ratios, in which the machine's drift cancels, widened to contain the ratio of the
    medians. Else it is ``unpaired``: the intervals of both medians are combined (Zou & Donner 2008: the distance of
    each end is the root of the sum of squares of the two distances).
    """
    log_a, log_b = ({block: math.log(rate) for block, rate in side.items()} for side in (a, b))
    ratios = [log_a[block] - log_b[block] for block in log_a if block in log_b]
    if len(ratios) < 2 and min(len(log_a), len(log_b)) < 2:
        return math.nan, math.nan, ""
    own = log_median(a) - log_median(b)
    if len(ratios) > 1:
        low, high = of_median_log(ratios)
        return exp(min(low, own)), exp(max(high, own)), "paired"
    (low_a, high_a), (low_b, high_b) = map(of_median_log, (list(log_a.values()), list(log_b.values())))
    middle_a, middle_b = log_median(a), log_median(b)
    below = math.hypot(middle_a - low_a, high_b - middle_b)
    above = math.hypot(high_a - middle_a, middle_b - low_b)
    return exp(own - below), exp(own + above), "unpaired"


def log_median(side: Mapping[Any, float]) -> float:
    """Return the log of the median of a case's throughputs."""
    return math.log(median(side.values()))


def of_mean_log(logs: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the geometric mean from its logs, by Student's t; NaN for fewer than two."""
    if len(logs) < 2:
        return math.nan, math.nan
    half = float(stdtrit(len(logs) - 1, 0.5 + CONFIDENCE / 2)) * math.sqrt(variance(logs) / len(logs))
    return exp(fmean(logs) - half), exp(fmean(logs) + half)


def exp(log: float) -> float:
    """Return e to the power of a log, infinity on overflow."""
    return math.inf if log > LARGEST else math.exp(log)
