"""Each rank's own time, from records made by hand."""

from __future__ import annotations

import dataclasses

import pytest
from made_up_measurements import MS, rank

from bench.messages.rank_record import Measurement, RankRecord
from bench.runner.metrics import launch_metrics, rank_rows, step_rows
from bench.runner.own_time import critical_rank, own_time_ns, own_times
from bench.store.columns import AFTER_WINDOW, IN_WINDOW

PARTS = {"data_wait": 5, "copy": 1, "forward": 1}, {"data_wait": 3, "copy": 2, "forward": 8}
RANKS = [rank([20, 20, 30, 40], parts_ms=parts) for parts in PARTS]


def records(measured: list[Measurement], own_ns: list[list[int]] | None = None) -> dict[int, RankRecord]:
    after = own_ns or [[]] * len(measured)
    return {
        at: RankRecord(at, at, "here", 1, True, measurement=one, own_ns=after[at]) for at, one in enumerate(measured)
    }


@pytest.mark.parametrize(
    ("forward_is_local", "critical", "own_ms"),
    [
        (True, 1, [7, 13]),  # wait, copy and forward: 5 + 1 + 1 and 3 + 2 + 8
        (False, 0, [6, 5]),  # wait and copy: 5 + 1 and 3 + 2
    ],
)
def test_critical_rank_has_the_most_time_before_the_first_collective(
    forward_is_local: bool, critical: int, own_ms: list[int]
) -> None:
    ranks = [dataclasses.replace(m, forward_is_local=forward_is_local) for m in RANKS]
    own = own_time_ns(ranks)
    assert own is not None
    assert own.tolist() == [[own_ms[0] * MS] * 4, [own_ms[1] * MS] * 4]
    assert critical_rank(ranks) == critical


def test_rank_alone_is_critical_and_waits_for_nobody() -> None:
    alone = [rank([10, 10], forward_is_local=None)]
    assert own_time_ns(alone) is None
    assert critical_rank(alone) == 0
    assert [row["critical_rank"] for row in step_rows(alone)] == [None, None]


def test_the_window_gives_own_times_if_the_forward_pass_is_local() -> None:
    parts = {name: [ms * MS for ms in values] for name, values in (("data_wait", [1, 1, 1]), ("copy", [1, 1, 1]))}
    forward = [8, 10, 12], [9, 9, 30]
    both = [
        dataclasses.replace(
            rank([50] * 3), parts_ns={**rank([50] * 3).parts_ns, **parts, "forward": [ms * MS for ms in one]}
        )
        for one in forward
    ]
    own = own_times(records(both))
    assert own is not None
    assert own.slowest == 1
    first, second = rank_rows(records(both), {})
    assert (first["own_method"], first["own_steps_ms"]) == (IN_WINDOW, "10;12;14")
    assert (second["own_ms"], second["own_steps_ms"]) == (pytest.approx(54 / 3), "11;11;32")
    assert first["own_cv"] == pytest.approx(2 / 12)  # 10, 12, 14
    assert (first["last_share"], second["last_share"]) == pytest.approx((1 / 3, 2 / 3))


def test_steps_after_the_window_come_first() -> None:
    measured = [dataclasses.replace(one, forward_is_local=False) for one in RANKS]
    own = own_times(records(measured, [[4 * MS, 5 * MS], [3 * MS, 3 * MS]]))
    assert own is not None
    assert (own.method, own.slowest) == (AFTER_WINDOW, 0)
    assert launch_metrics(measured, 0, None, own=own)["critical_rank"] == 0
    assert [row["own_ms"] for row in rank_rows(records(measured, [[4 * MS, 5 * MS], [3 * MS, 3 * MS]]), {})] == [4.5, 3]


@pytest.mark.parametrize("after", [[[], []], [[4 * MS], []], [[4 * MS], [3 * MS, 3 * MS]]])
def test_nothing_is_known_if_the_forward_pass_communicates_and_no_steps_were_taken(after: list[list[int]]) -> None:
    measured = [dataclasses.replace(one, forward_is_local=False) for one in RANKS]
    assert own_times(records(measured, after)) is None
    assert "own_ms" not in rank_rows(records(measured, after), {})[0]


def test_a_rank_without_peers_has_no_own_time() -> None:
    assert own_times(records(RANKS[:1])) is None


def test_many_steps_are_means_of_neighbours() -> None:
    own = own_times(records(RANKS, [[MS, 3 * MS] * 100, [2 * MS] * 200]))
    assert own is not None
    assert own.of_rank(0)["own_steps_ms"] == ";".join(["2"] * 100)
    assert own.of_rank(0)["last_share"] == 0.5
