"""Arithmetic of intervals, with numbers that are worked out in the head."""

from __future__ import annotations

import pytest

from bench.rank.profiling.intervals import Interval, length, overlap, union, within


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], []),
        ([(3, 3)], []),  # of no duration
        ([(1, 3)], [(1, 3)]),
        ([(5, 7), (1, 3)], [(1, 3), (5, 7)]),
        ([(1, 3), (3, 4)], [(1, 4)]),  # they touch
        ([(1, 9), (2, 3), (8, 10)], [(1, 10)]),  # one is in another
        ([(1, 3), (1, 2), (2, 5), (6, 7)], [(1, 5), (6, 7)]),
    ],
)
def test_the_union_has_each_point_once(intervals: list[Interval], expected: list[Interval]) -> None:
    assert union(intervals) == expected
    assert length(intervals) == sum(end - start for start, end in expected)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([], [(1, 9)], 0),
        ([(0, 2)], [(2, 4)], 0),
        ([(0, 3)], [(2, 4)], 1),
        ([(0, 10)], [(1, 2), (3, 5)], 3),
        ([(0, 4), (2, 6)], [(5, 9), (8, 12)], 1),  # unions 0 to 6 and 5 to 12
        ([(0, 4), (6, 10)], [(3, 7), (9, 11)], 3),  # 3 to 4, 6 to 7, 9 to 10
    ],
)
def test_an_overlap_is_the_sum_less_the_union(one: list[Interval], other: list[Interval], expected: float) -> None:
    assert overlap(one, other) == overlap(other, one) == expected


def test_what_is_within_bounds() -> None:
    assert within([(0, 2), (1, 5), (4, 9), (9, 12), (12, 13)], (2, 10)) == [(2, 5), (4, 9), (9, 10)]
