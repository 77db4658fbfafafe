"""Comparisons with the best of several cases: it was chosen for looking fast, and chance alone makes some look slow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from bench.analysis.trimmed import Trimmed, centre

# Of all pairs of a question together, two-sided. Half of the 5 % that are promised: with three launches of three cases
# on a machine of two speeds the pooled spread is off that far (docs/certificate.md).
LEVEL = 0.025
TO_ALIGN = 3  # cases of a block that tell what is common to them: of two it would be half of their difference

Logs = Mapping[Any, float]  # of throughput, by block
Floats = NDArray[np.float64]


def bounds(cases: Sequence[Logs], best: int) -> list[tuple[float, float]]:
    """For each case, bounds of the log of its throughput over the best's that hold for any choice of the best.

    By Tukey's procedure for all pairs with Bonferroni's bound in the place of the studentised range: the difference of
    trimmed means ± t(1 - LEVEL / (K (K - 1))) standard errors, with the winsorised variance of all K cases pooled. It
    bounds every comparison with the best (Hsu 1996, ch. 3 and 5). Two cases that share two blocks or more are compared
    block by block; then the variance is that of launches from which is taken what the cases of a block have in common.
    """
    together = len(cases) * (len(cases) - 1)
    raw = _Pooled([np.array(list(logs.values())) for logs in cases], together)
    aligned = _Pooled(_aligned(cases), together, len(cases) / (len(cases) - 1))
    found = []
    for logs in cases:
        ratios = [log - cases[best][block] for block, log in logs.items() if block in cases[best]]
        if len(ratios) > 1:
            middle = centre(ratios)
            half = aligned.half(2 / (middle.freedom + 1))
        elif min(len(logs), len(cases[best])) > 1:
            one, other = centre(list(logs.values())), centre(list(cases[best].values()))
            middle = one._replace(mean=one.mean - other.mean)
            half = raw.half(1 / (one.freedom + 1) + 1 / (other.freedom + 1))
        else:
            found.append((math.nan, math.nan))
            continue
        found.append((float(middle.mean) - half, float(middle.mean) + half))
    return found


class _Pooled:
    """The winsorised variance of launches, pooled over cases; ``lost`` corrects for what was taken from them."""

    def __init__(self, cases: Sequence[Floats], together: int, lost: float = 1.0) -> None:
        parts: list[Trimmed] = [centre(logs) for logs in cases if len(logs) > 1]
        self.freedom = sum(part.freedom for part in parts) / lost
        squares = sum(float(part.error) ** 2 * (part.freedom + 1) * part.freedom for part in parts)
        self.variance = squares / self.freedom if parts else math.nan
        self.together = together

    def half(self, share: float) -> float:
        """Half of an interval's width, of a difference whose variance is ``share`` times that of a launch."""
        return float(stdtrit(self.freedom, 1 - LEVEL / self.together)) * math.sqrt(self.variance * share)


def _aligned(cases: Sequence[Logs]) -> list[Floats]:
    """Each case's deviations from its own median, less the median of each block's deviations."""
    blocks = list(dict.fromkeys(block for logs in cases for block in logs))
    table = np.array([[logs.get(block, math.nan) for block in blocks] for logs in cases])
    known = ~np.isnan(table)
    rows = known.any(axis=1)
    table[rows] -= np.nanmedian(table[rows], axis=1, keepdims=True)
    common = known.sum(axis=0) >= TO_ALIGN
    table[:, common] -= np.nanmedian(table[:, common], axis=0)
    return [row[there] for row, there in zip(table, known, strict=True)]
