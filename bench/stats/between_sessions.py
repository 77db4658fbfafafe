"""Verdicts where each session is one number: by Student's t on changes of which the error is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import nctdtrinc, stdtr, stdtrit  # scipy.stats takes half a second to import

from bench.stats.decision import SAME_LEVEL, Found, Name, holm
from bench.stats.intervals import CONFIDENCE, exp
from bench.stats.power import LEVEL, widening
from bench.stats.verdict import Rules


@dataclass(frozen=True)
class Spread:
    """How far sessions differ, as a standard deviation of the log of throughput: as somebody vouches for, or as found
    in a few of them, with ``freedom`` degrees. ``launches`` is what single launches differ by beside it."""

    sessions: float
    freedom: float = math.inf
    launches: float = 0.0


@dataclass(frozen=True)
class Change:
    """Of the log of throughput, from A to B. ``error`` is its standard error with ``freedom`` degrees, infinitely many
    where it is known beforehand; ``sessions`` are those it rests on, and ``words`` what it was held against."""

    log: float
    error: float
    freedom: float
    sessions: int
    words: str

    @property
    def p(self) -> float:
        """One-sided, in the direction of the change."""
        return self.p_beyond(0.0)

    def p_beyond(self, bound: float) -> float:
        """P(T > (|log| - bound) / error): small where the change is larger than ``bound``."""
        distance = abs(self.log) - bound
        return float(stdtr(self.freedom, -distance / self.error)) if self.error else float(distance <= 0)

    def interval(self) -> tuple[float, float]:
        half = float(stdtrit(self.freedom, 0.5 + CONFIDENCE / 2)) * self.error
        return exp(self.log - half), exp(self.log + half)

    def detectable(self, level: float) -> float:
        """The slowdown that is found at ``level`` 95 times of 100, by the noncentral t distribution, if sessions differ
        by the upper bound of what they were seen to."""
        errors = float(nctdtrinc(self.freedom, 0.05, stdtrit(self.freedom, 1 - level)))
        return -math.expm1(-errors * self.error * widening(self.freedom))


def judged(changes: Mapping[Name, Change], rules: Rules, others: Sequence[float] = ()) -> dict[Name, Found]:
    """A verdict for each: significant (LEVEL over all of them by Holm) and beyond the floor, or shown to be within
    ``detect`` by two one-sided tests, or neither. ``others``: p values of what else the same comparison decides on."""
    significant = holm([*(change.p for change in changes.values()), *others], LEVEL)[: len(changes)]
    level = LEVEL / max(len(changes) + len(others), 1)  # that of Holm's first step
    return {
        name: _judged(change, found, level, rules)
        for (name, change), found in zip(changes.items(), significant, strict=True)
    }


def _judged(change: Change, significant: bool, level: float, rules: Rules) -> Found:
    verdict, why = _verdict(change, significant, rules)
    (low, high), smallest = change.interval(), change.detectable(level)
    said = f"{math.expm1(change.log):+.1%} ({low - 1:+.1%}…{high - 1:+.1%}) {change.words}; {why}; "
    said += f"a slowdown of {smallest:.1%} could be detected"
    return Found(verdict, said, exp(change.log), low, high, change.p, change.sessions, smallest)


def _verdict(change: Change, significant: bool, rules: Rules) -> tuple[str, str]:
    if significant and abs(math.expm1(change.log)) > rules.floor:
        return ("slower" if change.log < 0 else "faster"), "more than sessions differ by"
    margin = -math.log1p(-rules.detect)
    if 1 - change.p_beyond(margin) <= SAME_LEVEL:
        return "same", f"no change of {rules.detect:.1%} or more"
    if significant:
        return "inconclusive", f"a change, and not shown to be beyond the floor of {rules.floor:.1%}"
    return "inconclusive", "within what sessions differ by"
