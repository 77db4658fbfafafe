"""Arithmetic of intervals of time, each ``(start, end)``. Any unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Interval = tuple[float, float]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the same points of time as intervals that neither overlap nor touch, in order."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if end <= start:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def within(intervals: Iterable[Interval], bounds: Interval) -> list[Interval]:
    """Return the parts of intervals that are within ``bounds``."""
    low, high = bounds
    cut = ((max(start, low), min(end, high)) for start, end in intervals)
    return [(start, end) for start, end in cut if start < end]


def length(intervals: Iterable[Interval]) -> float:
    """Return how long at least one of the intervals lasts."""
    return sum(end - start for start, end in union(intervals))


def overlap(one: Sequence[Interval], other: Sequence[Interval]) -> float:
    """Return how long both last: the sum of their lengths, less the length of their union."""
    return length(one) + length(other) - length([*one, *other])
