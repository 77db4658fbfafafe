"""What the first blocks of a comparison tell of its time and its noise, when no test is possible yet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from bench.stats.ab_gate import by_pair, failures, log_ratios
from bench.stats.calibration import IN_A_BLOCK
from bench.stats.power import Blocks, detectable, needed, widening
from bench.store.columns import LaunchRow

LOOK = 2  # Blocks of each pair: the fewest that have a spread.
OF_SECOND = 2  # A second stage has so many times the blocks of the first.


@dataclass(frozen=True)
class FirstLook:
    """The first blocks of a pair: the seconds of one, and how far their log ratios differ.

    ``deviation`` is their standard deviation, of ``blocks`` blocks of the pair and of the control pair with ``freedom``
    degrees of freedom; None if they have none. It is the same whatever the difference of the sides.
    """

    seconds_a_block: float
    deviation: float | None = None
    freedom: int = 0
    blocks: int = 0

    def detectable(self, blocks: Blocks) -> tuple[float, float] | None:
        """Return the smallest slowdown that so many blocks detect: by the spread's upper bound, and by the spread."""
        if self.deviation is None:
            return None
        return detectable(self._upper, blocks), detectable(self.deviation, blocks)

    def needed(self, change: float) -> int | None:
        """Return the blocks of a first stage, with OF_SECOND times as many in a second, that detect ``change``.

        By the upper bound of the spread; None if no number does.
        """
        found = needed(self._upper, change)
        return max(found.first, math.ceil(found.second / OF_SECOND)) if found else None

    @property
    def _upper(self) -> float:
        return (self.deviation or 0.0) * widening(self.freedom)


def first_looks(rows: Sequence[LaunchRow], role: str = "measure") -> dict[str, FirstLook]:
    """Return the first look at each pair with a block on both sides and without a failed launch, by its name."""
    control = [log_ratios(of, 1) for of in by_pair(rows, "control").values()]
    found = {}
    for name, of in by_pair(rows, role).items():
        if failures(of) or {row.side for row in of if row.launch_s} != {"A", "B"}:
            continue
        groups = [log_ratios(of, 1), *(control if role == "measure" else [])]
        at_once = any(row.duet_ratio for row in of)
        seconds = fmean(row.launch_s for row in of if row.launch_s) * (1 if at_once else IN_A_BLOCK)
        found[name] = FirstLook(seconds, *_pooled(groups))
    return found


def _pooled(groups: Iterable[Sequence[float]]) -> tuple[float | None, int, int]:
    """Return the deviation within groups of blocks, each around its own mean, its freedom and the number of blocks."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum(variance(group) * (len(group) - 1) for group in several)
    return (math.sqrt(squares / freedom) if freedom else None), freedom, sum(map(len, several))


def cost(looks: Iterable[FirstLook], control: FirstLook) -> float:
    """Return the seconds that each block of a first stage costs at most: one of every pair, and their second stage.

    A pair has OF_SECOND blocks in a second stage for one in the first, and the control pair one.
    """
    return (1 + OF_SECOND) * sum(look.seconds_a_block for look in looks) + 2 * control.seconds_a_block


def fitting(looks: Iterable[FirstLook], control: FirstLook, budget: float) -> int:
    """Return the blocks of a first stage, the same for each pair, for which a budget is enough.

    It depends on time alone. A number that depended on the spread of blocks that are tested afterwards would make their
    test reject too often.
    """
    return int(budget / cost(looks, control))
