"""Splits the difference of two steps into waiting for data, exposed communication, and the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import NamedTuple

from scipy.special import stdtrit  # t's quantile; scipy.stats takes half a second to import

from bench.stats.intervals import CONFIDENCE

LEAST = 2  # Launches, or sessions, of each side for an interval.
STEP = "step"
PARTS = ("data", "exposed communication", "computation and the rest")


class Step(NamedTuple):
    """The mean step of a launch in ms, in parts that add up to it, in the order of PARTS."""

    data: float
    communication: float
    rest: float


class Part(NamedTuple):
    """A part of a step, or the whole: its mean on both sides in ms, and the 95 % bounds of the change from A to B.

    The bounds are NaN where a side has fewer than LEAST launches.
    """

    name: str
    a_ms: float
    b_ms: float
    low_ms: float
    high_ms: float

    @property
    def change_ms(self) -> float:
        """By how much B takes longer."""
        return self.b_ms - self.a_ms

    @property
    def is_shown(self) -> bool:
        """Whether the interval of the change excludes zero."""
        return self.low_ms > 0 or self.high_ms < 0


@dataclass(frozen=True)
class Split:
    """The change of the mean step from A to B, and its ``parts``, which add up to it.

    ``count`` is the number of ``units`` (launches, or sessions) of the side with fewer, over which the intervals are.
    """

    step: Part
    parts: tuple[Part, ...]
    count: int
    units: str

    def share(self, part: Part) -> float:
        """Return the share of a part in the change of the step: above 1 where another part goes the other way."""
        return part.change_ms / self.step.change_ms if self.step.change_ms else math.nan

    @property
    def cause(self) -> Part | None:
        """The part with the largest change in the direction of the step's; None unless both intervals exclude zero."""
        largest = max(self.parts, key=self.share)
        return largest if self.step.is_shown and largest.is_shown else None


def split(a: Mapping[str, Sequence[Step]], b: Mapping[str, Sequence[Step]]) -> Split:
    """Return the change from the launches of A to those of B, by session on each side.

    With LEAST sessions on both sides, each session is one value, the mean of its launches; else each launch is one, and
    what changed between sessions is in the difference. All figures are means, so that parts add up. Bounds are by
    Welch's statistic with the degrees of freedom of the smaller side, as verdicts between sessions are.
    """
    by_session = min(len(a), len(b)) >= LEAST
    values_a, values_b = (_values(side, by_session) for side in (a, b))
    parts = [_part(name, *sides) for name, *sides in zip(PARTS, _columns(values_a), _columns(values_b), strict=True)]
    step = _part(STEP, *([sum(value) for value in values] for values in (values_a, values_b)))
    count = min(len(values_a), len(values_b))
    return Split(step, tuple(parts), count, "sessions" if by_session else "launches")


def _values(side: Mapping[str, Sequence[Step]], by_session: bool) -> list[Step]:
    if by_session:
        return [Step(*map(fmean, _columns(launches))) for launches in side.values()]
    return [launch for launches in side.values() for launch in launches]


def _columns(steps: Sequence[Step]) -> list[tuple[float, ...]]:
    return list(zip(*steps, strict=True))


def _part(name: str, a: Sequence[float], b: Sequence[float]) -> Part:
    mean_a, mean_b, few = fmean(a), fmean(b), min(len(a), len(b))
    if few < LEAST:
        return Part(name, mean_a, mean_b, math.nan, math.nan)
    error = math.sqrt(sum(variance(side) / len(side) for side in (a, b)))
    half = float(stdtrit(few - 1, 0.5 + CONFIDENCE / 2)) * error
    return Part(name, mean_a, mean_b, mean_b - mean_a - half, mean_b - mean_a + half)
