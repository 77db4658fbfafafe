"""The order within a round, and whether there is time for another."""

from __future__ import annotations

import dataclasses

import pytest
from plain_case import PLAIN

from bench.runner.schedule import another_fits, shuffled, spent
from bench.store.columns import LaunchRow

CASES = [dataclasses.replace(PLAIN, seed=seed) for seed in range(5)]


def test_the_order_is_that_of_a_hash_of_seed_round_and_case() -> None:
    """By sha256sum: printf 0/0/resnet18-ddp-x2-cpu-b32-… | sha256sum"""
    names = [case.case_id for case in CASES]
    order = {
        (block, seed): [names.index(case.case_id) for case in shuffled(CASES, block, seed)]
        for block, seed in [(0, 0), (1, 0), (0, 7)]
    }
    assert order == {(0, 0): [1, 0, 4, 2, 3], (1, 0): [4, 1, 0, 3, 2], (0, 7): [3, 2, 0, 1, 4]}


def test_the_order_of_some_is_that_among_all() -> None:
    """A resumed run, or one with more cases, launches the rest in the same order as without the interruption."""
    every = shuffled(CASES, 3, 0)
    assert shuffled(reversed(CASES[1:4]), 3, 0) == [case for case in every if case in CASES[1:4]]


def row(
    case_id: str, launch_s: float | None, status: str = "ok", role: str = "measure", block: int | None = 0
) -> LaunchRow:
    return LaunchRow(case_id=case_id, launch_s=launch_s, status=status, role=role, block=block)


def test_time_is_spent_by_every_launch() -> None:
    rows = [
        row("a", 2, role="probe"),
        row("a", 3),
        row("b", 4, "crashed"),
        row("c", None, "skipped"),
        row("a", 1, "interrupted"),
    ]
    assert spent(rows) == 10


ROWS = [row("a", 30), row("b", 9), row("a", 3), row("b", 90, role="probe"), row("b", None, "skipped", block=None)]


@pytest.mark.parametrize(
    ("case_ids", "left_s", "fits"),
    [("ab", 12, True), ("ab", 11.9, False), ("a", 3, True), ("b", 8.9, False), ("ab", -1, False), ("", 100, False)],
)
def test_the_latest_launch_of_each_case_says_what_a_round_will_take(case_ids: str, left_s: float, fits: bool) -> None:
    assert another_fits(ROWS, set(case_ids), left_s) == fits


def test_failures_alone_are_not_launched_again() -> None:
    failed = [row("a", 1), row("a", 1, "crashed"), row("b", 1, "timeout")]
    assert not another_fits(failed, {"a", "b"}, 100)
    assert another_fits([*failed, row("c", 1)], {"a", "b", "c"}, 100)
