"""The difference of two steps in parts: against numbers worked out by hand. Student's t has 12.7062047 at 97.5 % for one
degree of freedom."""

from __future__ import annotations

import math

import pytest

from bench.stats.step_split import PARTS, Split, Step, split

T = 12.7062047
A = [Step(1, 10, 49), Step(1, 12, 51)]
B = [Step(1, 50, 49), Step(3, 54, 51)]


def changes(of: Split) -> list[float]:
    return [part.change_ms for part in of.parts]


def test_means_and_bounds() -> None:
    """Means 62 and 104: data 1 and 2, communication 11 and 52, rest 50 and 50. The variances of communication are 2 and 8:
    its error is the root of 2 / 2 + 8 / 2."""
    found = split({"a": A}, {"b": B})
    assert (found.step.a_ms, found.step.b_ms, found.count, found.units) == (62, 104, 2, "launches")
    assert changes(found) == [1, 41, 0]
    communication = found.parts[1]
    assert communication.low_ms == pytest.approx(41 - T * math.sqrt(5), rel=1e-7)
    assert communication.high_ms == pytest.approx(41 + T * math.sqrt(5), rel=1e-7)
    assert [found.share(part) for part in found.parts] == pytest.approx([1 / 42, 41 / 42, 0])


def test_parts_add_up_to_the_change_exactly() -> None:
    """Also where a part goes the other way, and below 0 as by ablation."""
    found = split({"a": [Step(5, -1, 96), Step(4, 0, 96)]}, {"b": [Step(0, 60, 30), Step(1, 61, 28)]})
    assert (sum(changes(found)), found.step.change_ms) == (-10, -10)
    assert sum(part.a_ms for part in found.parts) == found.step.a_ms == 100


def test_no_cause_unless_the_step_and_its_largest_part_are_shown() -> None:
    """The communication above is 41 -+ 28.4, but the step 42 -+ T sqrt(8 / 2 + 32 / 2) = 42 -+ 56.8."""
    noisy = split({"a": A}, {"b": B})
    assert noisy.parts[1].is_shown
    assert not noisy.step.is_shown
    assert noisy.cause is None
    quiet = split({"a": [A[0], A[0]]}, {"b": [B[0], Step(1, 50.5, 49)]})
    assert quiet.cause is quiet.parts[1]


def test_the_cause_goes_the_way_of_the_step() -> None:
    """B is faster by 10 although it waits 30 longer for communication: the rest is the cause."""
    found = split({"a": [Step(0, 0, 100), Step(0, 0, 100.1)]}, {"b": [Step(0, 30, 60), Step(0, 30, 60.1)]})
    assert found.cause is not None
    assert (found.cause.name, found.share(found.cause)) == (PARTS[2], pytest.approx(4.0))


def test_one_launch_of_a_side_has_no_bounds() -> None:
    found = split({"a": A[:1]}, {"b": B})
    assert all(math.isnan(part.low_ms) and math.isnan(part.high_ms) for part in (*found.parts, found.step))
    assert (found.cause, found.count, changes(found)) == (None, 1, [1, 42, 1])


def test_sessions_are_the_units_where_both_sides_have_two() -> None:
    """The means of B's sessions are 100 and 104, whatever the number of their launches; of A both are 60."""
    b = {"c": [Step(0, 50, 50)], "d": [Step(0, 52, 50), Step(0, 56, 50)]}
    found = split({"a": [Step(0, 10, 50)], "b": [Step(0, 10, 50)] * 3}, b)
    assert (found.step.b_ms, found.count, found.units) == (102, 2, "sessions")
    assert found.step.high_ms - found.step.change_ms == pytest.approx(T * math.sqrt(8 / 2), rel=1e-7)
    alone = split({"a": [Step(0, 10, 50)]}, b)
    assert (alone.step.b_ms, alone.units) == (pytest.approx(308 / 3), "launches")


def test_no_change_has_no_shares() -> None:
    found = split({"a": A}, {"b": A})
    assert all(math.isnan(found.share(part)) for part in found.parts)
    assert found.cause is None
