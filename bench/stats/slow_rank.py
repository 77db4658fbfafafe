"""Decides which rank is slower than the others, from the own times of each rank's steps in some launches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # t's quantile; scipy.stats takes half a second to import

CONFIDENCE = 0.99  # of all ranks of a case together: nobody looks after a rank that was named by chance twice
FLOOR = 0.05  # a rank that is less slower than that is never named
# With fewer launches nothing is known of how much a rank differs from launch to launch, such as by the processor that
# it happens to run on. Then, as with any number of launches, a rank is named that is slower by FAR in each of them.
LEAST_LAUNCHES, FAR = 3, 0.25
GROUPS = 10  # of consecutive steps of a launch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Excess:
    """By how much a rank's own time is above the median of the other ranks', as a share.

    It is the geometric mean over launches; ``low`` is its lower bound. ``named`` says that the rank is slow.
    """

    excess: float
    low: float
    named: bool


def excesses(launches: Sequence[Array]) -> list[Excess]:
    """Return the excess of each rank, from its own times in each launch, (ranks, steps), all above 0.

    The bound is the lower one of two. The first is Student's t over launches, if there are LEAST_LAUNCHES. The second
    is Student's t with the standard errors within the launches, by the jackknife over up to GROUPS groups of
    consecutive steps (Efron and Stein 1981), as steps that follow each other are alike. Both are one-sided and hold for
    all ranks together (Bonferroni). A slow rank's bound exceeds FLOOR. Or it is far slower: the second bound exceeds
    FAR, and so does its excess in each launch; then the smallest of these is the bound.
    """
    ranks, n = len(launches[0]), len(launches)
    level = 1 - (1 - CONFIDENCE) / ranks
    logs, errors, freedom = zip(*map(_excess_logs, launches), strict=True)
    mean = np.mean(logs, axis=0)
    within = mean - _margin(np.sqrt(np.square(errors).sum(axis=0)) / n, sum(freedom), level)
    of_each = np.minimum(within, np.min(logs, axis=0))
    far = np.expm1(of_each) > FAR
    low, named = within, far
    if n >= LEAST_LAUNCHES:
        over = np.minimum(within, mean - _margin(np.std(logs, axis=0, ddof=1) / math.sqrt(n), n - 1, level))
        low, named = np.where(far, of_each, over), far | (np.expm1(over) > FLOOR)
    return [
        Excess(float(excess), float(bound), bool(is_named))
        for excess, bound, is_named in zip(np.expm1(mean), np.expm1(low), named, strict=True)
    ]


def by_node(launches: Sequence[Array], nodes: Sequence[int]) -> tuple[list[int], list[Array]]:
    """Return the nodes, and the own times of each as the mean over its ranks, (nodes, steps), in each launch."""
    names = sorted(set(nodes))
    members = [[at for at, node in enumerate(nodes) if node == name] for name in names]
    return names, [np.array([own[of].mean(axis=0) for of in members]) for own in launches]


def _excess_logs(own: Array) -> tuple[Array, Array, int]:
    """Return the log of each rank's excess in a launch, their standard errors, and the degrees of freedom of these."""
    steps = own.shape[1]
    groups = np.array_split(np.arange(steps), min(GROUPS, steps))
    n = len(groups)
    logs = _log_ratios(own.mean(axis=1))
    if n < 2:
        return logs, np.full_like(logs, math.inf), 1
    without = np.array([_log_ratios(np.delete(own, group, axis=1).mean(axis=1)) for group in groups])
    return logs, np.sqrt((n - 1) / n * np.square(without - without.mean(axis=0)).sum(axis=0)), n - 1


def _log_ratios(means: Array) -> Array:
    """Return the log of each mean over the median of the others."""
    order = means.argsort()
    ordered, count = means[order], len(means) - 1
    place = np.empty_like(order)
    place[order] = np.arange(len(means))  # of each mean among all
    middles = [at + (at >= place) for at in ((count - 1) // 2, count // 2)]  # of the others, each without itself
    medians = np.mean([ordered[middle] for middle in middles], axis=0)
    logs: Array = np.log(means / medians)
    return logs


def _margin(errors: Array, freedom: int, level: float) -> Array:
    return float(stdtrit(freedom, level)) * errors
