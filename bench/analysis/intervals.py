"""Intervals by Student's t on the logs of throughput: one number a launch, or one a block of two compared cases."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import Any

import pandas as pd
from scipy.special import stdtrit  # t's quantile; scipy.stats takes half a second to import

CONFIDENCE = 0.95
LARGEST = math.log(sys.float_info.max)


def of_mean(values: pd.Series) -> tuple[float, float]:
    """Interval of the geometric mean of some launches; NaN for fewer than two.

    mean ± t(0.975, n - 1) s / sqrt(n) on the logs.
    """
    return of_mean_log([math.log(value) for value in values.dropna() if value > 0])


def of_ratio(a: Mapping[Any, float], b: Mapping[Any, float]) -> tuple[float, float, str]:
    """Interval of the mean log ratio of two cases, exponentiated, and how it was made; NaN where it is unknown.

    ``a`` and ``b`` hold throughputs by (run_id, block). ``paired``: where they share two blocks or more, by t on the
    log ratios of those, in which the machine's drift cancels. Else ``unpaired``: Welch's t on the logs (Welch 1947).
    """
    log_a, log_b = ({block: math.log(rate) for block, rate in side.items()} for side in (a, b))
    ratios = [log_a[block] - log_b[block] for block in log_a if block in log_b]
    if len(ratios) > 1:
        return *of_mean_log(ratios), "paired"
    if min(len(log_a), len(log_b)) < 2:
        return math.nan, math.nan, ""
    errors = [variance(logs.values()) / len(logs) for logs in (log_a, log_b)]
    parts = sum(error**2 / (len(logs) - 1) for error, logs in zip(errors, (log_a, log_b), strict=True))
    freedom = sum(errors) ** 2 / parts if parts else 1.0
    return *_around(fmean(log_a.values()) - fmean(log_b.values()), freedom, math.sqrt(sum(errors))), "unpaired"


def of_mean_log(logs: Sequence[float]) -> tuple[float, float]:
    """The same of logs, NaN for fewer than two."""
    if len(logs) < 2:
        return math.nan, math.nan
    return _around(fmean(logs), len(logs) - 1, math.sqrt(variance(logs) / len(logs)))


def _around(mean: float, freedom: float, error: float) -> tuple[float, float]:
    half = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error
    return exp(mean - half), exp(mean + half)


def exp(log: float) -> float:
    return math.inf if log > LARGEST else math.exp(log)
