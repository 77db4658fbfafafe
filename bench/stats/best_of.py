"""Comparisons with the best of several cases: it was chosen for looking fast, and chance alone makes some look slow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from scipy.special import stdtrit

from bench.stats.trimmed import SHARE

# Of all pairs of a question together, two-sided. Half of the 5 % that are promised: with three launches of three cases
# on a machine of two speeds the pooled spread is off that far (docs/certificate.md).
LEVEL = 0.025
TO_ALIGN = 3  # cases of a block that tell what is common to them: of two it would be half of their difference

Logs = Mapping[Any, float]  # of throughput, by block


class Centre(NamedTuple):
    """Of some values: their trimmed mean, the sum of squares of the winsorised ones, and how many were not trimmed."""

    mean: float
    squares: float
    left: int


def bounds(cases: Sequence[Logs], best: int) -> list[tuple[float, float]]:
    """For each case, bounds of the log of its throughput over the best's that hold for any choice of the best.

    By Tukey's procedure for all pairs with Bonferroni's bound in the place of the studentised range: the difference of
    trimmed means ± t(1 - LEVEL / (K (K - 1))) standard errors, with the winsorised variance of all K cases pooled. It
    bounds every comparison with the best (Hsu 1996, ch. 3 and 5). Two cases that share two blocks or more are compared
    block by block; then the variance is that of launches from which is taken what the cases of a block have in common.
    NaN where either has one launch.
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
    """As ``trimmed`` has it of blocks, of any one value or more: of fewer than five nothing is trimmed."""
    ordered = sorted(values)
    cut = math.floor(SHARE * len(ordered))
    kept = ordered[cut : len(ordered) - cut]
    winsorised = [kept[0]] * cut + kept + [kept[-1]] * cut
    mean = math.fsum(winsorised) / len(winsorised)
    return Centre(math.fsum(kept) / len(kept), math.fsum((value - mean) ** 2 for value in winsorised), len(kept))


class _Pooled:
    """The winsorised variance of launches, pooled over cases; ``lost`` corrects for what was taken from them."""

    def __init__(self, cases: Sequence[Sequence[float]], lost: float = 1.0) -> None:
        parts = [centre(logs) for logs in cases if len(logs) > 1]
        freedom = sum(part.left - 1 for part in parts) / lost
        self.variance = sum(part.squares for part in parts) / freedom if parts else math.nan
        self.t = float(stdtrit(freedom, 1 - LEVEL / (len(cases) * (len(cases) - 1)))) if parts else math.nan

    def half(self, share: float) -> float:
        """Half of an interval's width, of a difference whose variance is ``share`` times that of a launch."""
        return self.t * math.sqrt(self.variance * share)


def _aligned(cases: Sequence[Logs]) -> list[list[float]]:
    """Each case's deviations from its own median, less the median of each block's deviations."""
    own = [median(logs.values()) if logs else 0.0 for logs in cases]
    deviations = [{block: log - middle for block, log in logs.items()} for logs, middle in zip(cases, own, strict=True)]
    blocks: dict[Any, list[float]] = defaultdict(list)
    for of_case in deviations:
        for block, deviation in of_case.items():
            blocks[block].append(deviation)
    common = {block: median(of) if len(of) >= TO_ALIGN else 0.0 for block, of in blocks.items()}
    return [[deviation - common[block] for block, deviation in of_case.items()] for of_case in deviations]
