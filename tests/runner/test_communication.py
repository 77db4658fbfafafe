"""From the ranks' profiles to columns."""

from __future__ import annotations

import dataclasses

import pytest

from bench.messages.rank_record import RankRecord
from bench.messages.step_profile import BY_ABLATION, BY_PROFILE, StepProfile
from bench.runner.communication import communication, of_rank

MS = 1_000_000
PROFILED = StepProfile(  # the third step is the median one
    BY_PROFILE,
    steps_ns=[90 * MS, 300 * MS, 100 * MS, 95 * MS, 101 * MS],
    comm_ns=[40 * MS, 240 * MS, 50 * MS, 45 * MS, 51 * MS],
    compute_ns=[60 * MS, 60 * MS, 70 * MS, 60 * MS, 60 * MS],
    overlap_ns=[20 * MS, 20 * MS, 30 * MS, 20 * MS, 20 * MS],
)
ABLATED = StepProfile(BY_ABLATION, steps_ns=[100 * MS, 90 * MS, 400 * MS], without_ns=[60 * MS, 61 * MS, 10 * MS])
COLUMNS = {"profiled_step_ms": 100.0, "comm_ms": 50.0, "compute_ms": 70.0, "overlap_ms": 30.0}


def record(rank: int, profile: StepProfile | None) -> RankRecord:
    return dataclasses.replace(RankRecord(rank, rank, "here", 1, True), profile=profile)


def test_the_parts_are_those_of_the_median_step() -> None:
    assert of_rank(PROFILED) == {**COLUMNS, "exposed_comm_ms": 20.0, "exposed_comm_share": 0.2}


def test_by_ablation_the_difference_of_two_medians() -> None:
    assert of_rank(ABLATED) == {"profiled_step_ms": 100.0, "exposed_comm_ms": 40.0, "exposed_comm_share": 0.4}


def test_a_launch_has_the_columns_of_its_critical_rank() -> None:
    records = {0: record(0, ABLATED), 1: record(1, PROFILED)}
    row = communication(records, 1)
    assert (row["comm_method"], row["comm_note"], row["exposed_comm_ms"]) == ("profile", None, 20.0)
    assert communication(records, 0)["comm_method"] == "ablation"


def test_what_is_unknown_is_empty() -> None:
    assert communication({0: record(0, None)}, 0) == communication({}, 0) == {}
    hidden = StepProfile(BY_PROFILE, note="torch's profiler saw no collective")
    assert communication({0: record(0, hidden)}, 0) == {
        "comm_method": "profile",
        "comm_note": "torch's profiler saw no collective",
    }


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"method": "guess"}, "has a profile by 'guess'"),
        ({"comm_ns": [1]}, "has a profile of more or fewer than its 5 steps"),
        ({"steps_ns": [0] * 5}, "has a profile of steps without a duration"),
    ],
)
def test_a_profile_that_cannot_be(change: dict[str, object], why: str) -> None:
    assert PROFILED.odd() == ABLATED.odd() == ""
    assert dataclasses.replace(PROFILED, **change).odd() == why  # type: ignore[arg-type]
