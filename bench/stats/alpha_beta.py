"""The α–β model of a collective: t = α + bytes / β, with a latency α and a bandwidth β (Hockney 1994)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from bench.stats.intervals import exp, of_mean_log

LEAST_SIZES = 3  # Two determine both numbers, and a third can contradict them.


class Fit(NamedTuple):
    """The model of one launch: ``alpha_us`` in µs, ``beta`` in bytes/µs, which is MB/s.

    ``misfit`` is the largest share by which a time differs from the model.
    """

    alpha_us: float
    beta: float
    misfit: float


class Model(NamedTuple):
    """The model over launches: the geometric means of their α and β, with 95 % bounds, NaN for a single launch.

    ``misfit`` is the largest of all launches.
    """

    alpha_us: float
    alpha_us_low: float
    alpha_us_high: float
    beta: float
    beta_low: float
    beta_high: float
    misfit: float
    launches: int


def fit(sizes: Sequence[float], times_us: Sequence[float]) -> Fit | None:
    """Return the model of one launch from its times by size; None for fewer than LEAST_SIZES, or without a solution.

    The least squares are those of relative errors, as times range over several powers of ten: the α and β whose
    (α + bytes / β) / t are closest to 1. There is no solution if α or β would not be above 0.
    """
    if len(set(sizes)) < LEAST_SIZES:
        return None
    times, bytes_ = np.asarray(times_us, float), np.asarray(sizes, float)
    scale = bytes_.max()
    (alpha, slope), *_ = np.linalg.lstsq(np.column_stack([1 / times, bytes_ / scale / times]), np.ones(times.size))
    if alpha <= 0 or slope <= 0:
        return None
    shares = (alpha + slope * bytes_ / scale) / times
    return Fit(float(alpha), float(scale / slope), float(np.abs(shares - 1).max()))


def over_launches(fits: Sequence[Fit]) -> Model | None:
    """Return the model over launches, which are what is repeated; its bounds are by Student's t on the logs."""
    if not fits:
        return None
    alphas, betas = (
        [math.log(value) for value in values] for values in zip(*((f[0], f[1]) for f in fits), strict=True)
    )
    misfit = max(one.misfit for one in fits)
    return Model(
        *(exp(fmean(alphas)), *of_mean_log(alphas)), *(exp(fmean(betas)), *of_mean_log(betas)), misfit, len(fits)
    )
