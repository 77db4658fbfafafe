"""Comparisons with the best of several cases, which was chosen for being fast and may be so by chance."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from scipy.special import stdtrit

from bench.stats.trimmed import SHARE

# For all pairs of a question together, two-sided. Half of the promised 5 %: with three launches of three cases on a
# machine with two speeds the pooled spread is off by that much (docs/certificate.md).
LEVEL = 0.025
TO_ALIGN = 3  # least cases in a block to find what they have in common: with two it would be half of their difference

Logs = Mapping[Any, float]  # of throughput, by block


class Centre(NamedTuple):
    """The trimmed mean of some values, the sum of squares of the winsorised ones, and the number that was left."""

    mean: float
    squares: float
    left: int


def bounds(cases: Sequence[Logs], best: int) -> list[tuple[float, float]]:
    """Return for each case bounds of the log of its throughput over the best's that hold for any choice of the best.

    This is Tukey's procedure for all pairs, with Bonferroni's bound in place of the studentised range: the difference
    of trimmed means ± t(1 - LEVEL / (K (K - 1))) standard errors, with the winsorised variance pooled over all K cases.
    It bounds every comparison with the best (Hsu 1996, ch. 3 and 5). Two cases that share two blocks or more are
    compared block by block; the variance is then that of launches after what the cases of a block have in common was
    subtracted. NaN for a case with one launch.
    """
    raw = _Pooled([list(logs.values()) for logs in cases])
    aligned = _Pooled(_aligned(cases), len(cases) / (len(cases) - 1))
    centres = [centre(list(logs.values())) if len(logs) > 1 else None for logs in cases]
    first, found = centres[best], []
    for logs, own in zip(cases, centres, strict=True):
        ratios = [log - cases[best][block] for block, log in logs.items() if block in cases[best]]
        if len(ratios) > 1:
            middle, _, left = centre(ratios)
            half = aligned.half(2 / left)
        elif own and first:
            middle, half = own.mean - first.mean, raw.half(1 / own.left + 1 / first.left)
        else:
            middle = half = math.nan
        found.append((middle - half, middle + half))
    return found


def centre(values: Iterable[float]) -> Centre:
    """Return the centre of one value or more, as ``trimmed`` has it for blocks. Fewer than five are not trimmed."""
    ordered = sorted(values)
    cut = math.floor(SHARE * len(ordered))
    kept = ordered[cut : len(ordered) - cut]
    winsorised = [kept[0]] * cut + kept + [kept[-1]] * cut
    mean = math.fsum(winsorised) / len(winsorised)
    return Centre(math.fsum(kept) / len(kept), math.fsum((value - mean) ** 2 for value in winsorised), len(kept))


class _Pooled:
    """The winsorised variance of launches, pooled over cases.

    ``lost`` corrects for the degrees of freedom that alignment uses.
    """

    def __init__(self, cases: Sequence[Sequence[float]], lost: float = 1.0) -> None:
        parts = [centre(logs) for logs in cases if len(logs) > 1]
        freedom = sum(part.left - 1 for part in parts) / lost
        self.variance = sum(part.squares for part in parts) / freedom if parts else math.nan
        self.t = float(stdtrit(freedom, 1 - LEVEL / (len(cases) * (len(cases) - 1)))) if parts else math.nan

    def half(self, share: float) -> float:
        """Return half the width of the interval of a difference whose variance is ``share`` times that of a launch."""
        return self.t * math.sqrt(self.variance * share)


def _aligned(cases: Sequence[Logs]) -> list[list[float]]:
    """Return each case's deviations from its own median, minus the median of each block's deviations."""
    own = [median(logs.values()) if logs else 0.0 for logs in cases]
    deviations = [{block: log - middle for block, log in logs.items()} for logs, middle in zip(cases, own, strict=True)]
    blocks: dict[Any, list[float]] = defaultdict(list)
    for of_case in deviations:
        for block, deviation in of_case.items():
            blocks[block].append(deviation)
    common = {block: median(of) if len(of) >= TO_ALIGN else 0.0 for block, of in blocks.items()}
    return [[deviation - common[block] for block, deviation in of_case.items()] for of_case in deviations]
