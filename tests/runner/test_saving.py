"""What saving costs, with times that are worked out in the head."""

from __future__ import annotations

import dataclasses

import pytest
from made_up_measurements import rank
from made_up_plans import case

from bench.messages.rank_record import RankRecord
from bench.messages.saved import Save, Saved
from bench.runner.saving import goodput, saving
from bench.store.columns import Row

SECOND = 10**9
ASKED = case(strategy="ddp", gpus=2, save_checkpoint="dcp-async")


def row(*ranks: Saved | None, step_ms: float = 100.0, interval: int = 10) -> Row:
    records = {
        number: RankRecord(number, number, "here", 1, True, measurement=rank([10] * 12), saved=one)
        for number, one in enumerate(ranks)
    }
    return saving(ASKED, records, step_ms, interval)


def of_rank(*saves: Save, **changes: object) -> Saved:
    return dataclasses.replace(Saved(list(saves), bytes=3_000_000, load_ns=SECOND), **changes)


def test_a_case_that_saves_nothing_has_no_such_columns() -> None:
    assert saving(case(), {}, 100.0, 10) == {}


def test_each_save_counts_with_its_slowest_rank_and_the_first_is_left_out() -> None:
    first = Save(9 * SECOND, 20 * SECOND)
    fast = of_rank(first, Save(SECOND, 2 * SECOND, 4, SECOND), Save(SECOND, 4 * SECOND, 6, SECOND), rss_mib=50.0)
    slow = of_rank(first, Save(2 * SECOND, 2 * SECOND, 4, SECOND), Save(SECOND, 6 * SECOND, 6, SECOND), rss_mib=70.0)
    found = row(fast, dataclasses.replace(slow, load_ns=3 * SECOND))
    assert found == {
        "save_blocked_s": 1.5,  # the median of 2 and 1
        "save_total_s": 4.0,  # of 2 and 6
        "save_step_ms": 200.0,  # 10 steps in 2 s
        "goodput": pytest.approx(1 / (1 + 1.5 + 0.5)),  # 5 steps a save are 100 ms slower each; that is less than 4 s
        "save_bytes": 3_000_000,
        "save_mb_per_s": 0.75,
        "save_peak_allocated_mib": None,
        "save_peak_rss_mib": 70.0,
        "load_s": 3.0,
        "save_restored": True,
        "save_note": None,
    } | {"goodput": pytest.approx(1 / 4)}  # as the next save waits until 4 s have passed


def test_steps_beside_a_save_are_compared_with_steps_that_were_waited_for_as_well() -> None:
    """Steps of the window take 100 ms, those that are waited for 150 ms, and beside a save 200 ms."""
    found = row(*[of_rank(Save(SECOND, SECOND, 5, SECOND), alone_ns=150_000_000)] * 2)
    assert found["save_step_ms"] == 200.0
    assert found["goodput"] == pytest.approx(1 / (1 + 1 + 5 * 0.05))


def test_a_save_alone_is_not_left_out() -> None:
    found = row(of_rank(Save(SECOND, SECOND)), of_rank(Save(SECOND, SECOND)))
    assert (found["save_blocked_s"], found["save_step_ms"], found["goodput"]) == (1.0, None, 0.5)


def test_steps_that_are_faster_while_it_saves_are_no_gain() -> None:
    found = row(*[of_rank(Save(SECOND, 2 * SECOND, 20, SECOND))] * 2)
    assert found["goodput"] == 0.5


def test_what_was_not_restored_is_named() -> None:
    found = row(of_rank(Save(1, 1)), of_rank(Save(1, 1), unlike=["model a", "model b"]))
    assert found["save_restored"] is False
    assert found["save_note"] == "after loading not as it was: model a, model b"
    assert found["save_blocked_s"] == 1e-9


def test_what_failed_is_said_and_what_was_measured_before_is_kept() -> None:
    both = of_rank(Save(SECOND, SECOND), load_ns=None, note="loading failed: OSError: gone")
    found = row(both, both)
    assert (found["save_blocked_s"], found["load_s"], found["save_restored"]) == (1.0, None, None)
    assert found["save_note"] == "loading failed: OSError: gone"
    assert row(Saved(note="no room"), Saved(note="no room")) == {
        "load_s": None,
        "save_restored": None,
        "save_note": "no room",
    }
    assert row(None, None)["save_note"] == "the launch ended before its state was saved"


@pytest.mark.parametrize(
    ("interval", "blocked", "slowed", "total", "share"),
    [
        (60.0, 0.0, 0.0, 30.0, 1.0),
        (60.0, 15.0, 0.0, 15.0, 0.8),
        (60.0, 5.0, 10.0, 30.0, 0.8),
        (60.0, 5.0, 0.0, 100.0, 0.6),  # the disk is slower than the training
    ],
)
def test_goodput(interval: float, blocked: float, slowed: float, total: float, share: float) -> None:
    assert goodput(interval, blocked, slowed, total) == pytest.approx(share)


@pytest.mark.parametrize(
    ("saved", "why"),
    [
        (Saved(), ""),
        (of_rank(Save(1, 2, 0, 0)), ""),
        (of_rank(Save(2, 1)), "has a save that ended before training went on"),
        (of_rank(Save(0, 0)), "has a save that ended before training went on"),
        (of_rank(Save(1, 2, -1, 0)), "has a save that took less than no time"),
        (Saved(bytes=-1), "has a size or a time below 0"),
        (Saved(alone_ns=-1), "has a size or a time below 0"),
        (Saved(load_ns=-1), "has a size or a time below 0"),
    ],
)
def test_nonsense_is_noticed(saved: Saved, why: str) -> None:
    assert saved.odd() == why
