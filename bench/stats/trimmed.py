"""The paired test of all verdicts: Student's t on the trimmed mean of the blocks' log ratios.

Single launches are off by up to 200 %, which a mean does not tolerate: under the noise models of
``docs/certificate.md`` the plain t-test finds a slowdown of 3 % in seven gates of ten, however many blocks it has.
Without the smallest and the largest fifth it is found in almost all, nearly at the requested level (0.6 to 0.7 %
instead of 0.5 %, for normal noise).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

SHARE = 0.2  # share of the blocks that is trimmed at each end
LEAST_BLOCKS = 5  # the fewest of which one is trimmed at each end

Floats = NDArray[np.float64]


class Trimmed(NamedTuple):
    """The trimmed mean of some blocks, its standard error and the degrees of freedom. Arrays of one shape."""

    mean: Floats
    error: Floats
    freedom: int

    def p_above(self, bound: float = 0.0) -> Floats:
        """Return the one-sided p value of a true mean of ``bound`` or less: small if it is above."""
        return _tail(self.mean - bound, self.error, self.freedom)

    def p_below(self, bound: float = 0.0) -> Floats:
        """Return the one-sided p value of a true mean of ``bound`` or more: small if it is below."""
        return _tail(bound - self.mean, self.error, self.freedom)

    def interval(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Return the bounds of the true mean."""
        half = stdtrit(self.freedom, 0.5 + confidence / 2) * self.error
        return self.mean - half, self.mean + half


def trimmed(blocks: ArrayLike) -> Trimmed:
    """Return the one-sample trimmed t of the last axis of ``blocks`` (one number for each block).

    With g = floor(0.2 n) left out at each end and h = n - 2 g, the error is sqrt(SSD_w / (h (h - 1))) with h - 1
    degrees of freedom, where SSD_w is the sum of squared deviations of the winsorised sample (Tukey & McLaughlin 1963;
    Yuen 1974). ``scipy.stats.ttest_ind(blocks, zeros, equal_var=False, trim=0.2)`` is the same for one row. Raise
    ValueError for fewer than LEAST_BLOCKS.
    """
    values = np.asarray(blocks, dtype=float)
    n, g, h = _sizes(values.shape[-1])
    ordered = np.sort(values, axis=-1)
    winsorised = np.clip(values, ordered[..., [g]], ordered[..., [n - g - 1]])
    squares = ((winsorised - winsorised.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    return Trimmed(ordered[..., g : n - g].mean(axis=-1), np.sqrt(squares / (h * (h - 1))), h - 1)


def untrimmed(blocks: ArrayLike) -> Trimmed:
    """Return Student's t of the last axis of ``blocks``, without trimming."""
    values = np.asarray(blocks, dtype=float)
    n = values.shape[-1]
    return Trimmed(values.mean(axis=-1), values.std(axis=-1, ddof=1) / math.sqrt(n), n - 1)


def spread(blocks: ArrayLike) -> Floats:
    """Return the standard deviation of a normal distribution with the winsorised variance of ``blocks``."""
    n = np.asarray(blocks).shape[-1]
    return trimmed(blocks).error / error_of(1.0, n)


def error_of(deviation: float | Floats, blocks: int) -> Floats:
    """Return the error of ``trimmed`` for so many blocks of a normal distribution with this deviation.

    The winsorised variance of a standard normal distribution is the integral of x² between -z and z, and z² for the
    rest, where z cuts off the trimmed share.
    """
    n, g, h = _sizes(blocks)
    z = -float(ndtri(g / n))
    inside = 1 - 2 * g / n - 2 * z * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(deviation) * math.sqrt((inside + 2 * g / n * z**2) * (n - 1) / (h * (h - 1)))


def _sizes(blocks: int) -> tuple[int, int, int]:
    """Return how many blocks there are, how many are trimmed at each end, and how many are left."""
    if blocks < LEAST_BLOCKS:
        raise ValueError(f"{blocks} blocks; a trimmed mean needs {LEAST_BLOCKS}")
    g = math.floor(SHARE * blocks)
    return blocks, g, blocks - 2 * g


def _tail(distance: Floats, error: Floats, freedom: int) -> Floats:
    """Return P(T > distance / error); 0, 0.5 or 1 for blocks that are all equal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(distance == 0, 0.0, distance / error)
    return np.asarray(stdtr(freedom, -t))
