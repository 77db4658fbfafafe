"""Verdicts if each session gives one number: Student's t on changes with a known error."""

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
    """How far sessions differ, as a standard deviation of the log of throughput.

    It is given by the user, or estimated from a few sessions with ``freedom`` degrees of freedom. ``launches`` is the
    deviation of single launches in addition.
    """

    sessions: float
    freedom: float = math.inf
    launches: float = 0.0


@dataclass(frozen=True)
class Change:
    """A change of the log of throughput from A to B.

    ``error`` is its standard error with ``freedom`` degrees, infinitely many if it is known beforehand. ``sessions``
    counts the sessions behind it, and ``words`` says what it was compared with.
    """

    log: float
    error: float
    freedom: float
    sessions: int
    words: str

    @property
    def p(self) -> float:
        """The one-sided p value in the direction of the change."""
        return self.p_beyond(0.0)

    def p_beyond(self, bound: float) -> float:
        """Return P(T > (|log| - bound) / error): small if the change is larger than ``bound``."""
        distance = abs(self.log) - bound
        return float(stdtr(self.freedom, -distance / self.error)) if self.error else float(distance <= 0)

    def interval(self) -> tuple[float, float]:
        """Return the 95 % bounds of the ratio."""
        half = float(stdtrit(self.freedom, 0.5 + CONFIDENCE / 2)) * self.error
        return exp(self.log - half), exp(self.log + half)

    def detectable(self, level: float) -> float:
        """Return the slowdown that is found at ``level`` 95 times of 100, by the noncentral t distribution.

        It assumes that sessions differ by the upper bound of their estimated spread.
        """
        errors = float(nctdtrinc(self.freedom, 0.05, stdtrit(self.freedom, 1 - level)))
        return -math.expm1(-errors * self.error * widening(self.freedom))


def judged(changes: Mapping[Name, Change], rules: Rules, others: Sequence[float] = ()) -> dict[Name, Found]:
    """Return a verdict for each change.

    It is significant (LEVEL over all of them by Holm) and beyond the floor, or shown to be within ``detect`` by two
    one-sided tests, or neither. ``others`` are p values of other decisions in the same comparison.
    """
    significant = holm([*(change.p for change in changes.values()), *others], LEVEL)[: len(changes)]
    level = LEVEL / max(len(changes) + len(others), 1)  # the level of Holm's first step
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
        return "inconclusive", f"a change, but not shown to be beyond the floor of {rules.floor:.1%}"
    return "inconclusive", "within what sessions differ by"
