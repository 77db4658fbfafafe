"""From what ranks measured of collectives to rows, with figures worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bench.api.comms import comms_request
from bench.machine.gpus import Machine
from bench.messages.comms_record import CommsTimes
from bench.messages.heartbeat import Beat
from bench.messages.rank_record import Failure, RankRecord
from bench.plan.plan import make_plan
from bench.runner.comms_launched import CommsJudge
from bench.runner.failure_cause import Evidence
from bench.runner.launch_role import ALONE
from bench.runner.launched import End, Launched
from bench.runner.rank_site import Site
from bench.runner.workload_descriptions import UNDESCRIBED
from bench.store.columns import COMMS
from launch import Outcome

US = 1000  # ns
TIMES = {0: [100 * US, 300 * US, 200 * US], 1: [150 * US, 250 * US, 900 * US]}


def judged(
    options: dict[str, str],
    measured: dict[int, list[CommsTimes]],
    done: bool = True,
    nodes: dict[int, int] | None = None,
    failure: Failure | None = None,
) -> tuple[Launched, list[dict[str, Any]]]:
    request = comms_request({"device": "cpu", "gpus": str(len(measured)), **options})
    [planned] = make_plan(request, Machine((), None, None)).cases
    records = {
        rank: RankRecord(rank, rank, "host", 1, True, "cpu", software={"torch": "2"}, comms=times, comms_done=done)
        for rank, times in measured.items()
    }
    if failure:
        records[1] = dataclasses.replace(records[1], failure=failure)
    evidence = Evidence(records, Outcome({1: 1} if failure else {}), len(records), beats={0: Beat(planned=5)})
    end = End(evidence, "", {}, 0, ALONE, nodes or {})
    found = CommsJudge(planned.case, UNDESCRIBED, Site(), lambda _: None).launched(end)
    assert all(set(row) <= set(COMMS) for row in found.others["comms.csv"])
    return found, found.others["comms.csv"]


def both(round_: int = 0, correct: bool | None = True) -> dict[int, list[CommsTimes]]:
    return {rank: [CommsTimes(round_, times, correct)] for rank, times in TIMES.items()}


def test_an_iteration_counts_with_its_slowest_rank() -> None:
    found, [row] = judged({"collectives": "all_gather", "sizes": "1000"}, both())
    assert found.row["status"] == "ok"
    assert (row["status"], row["group_ranks"], row["group_size"], row["iterations"]) == ("ok", "0-1", 2, 3)
    # The slowest of each are 150, 300 and 900 µs; rank 1 took 1,300 of them, rank 0 600.
    assert (row["time_us"], row["time_mean_us"], row["time_min_us"]) == (300, 450, 150)
    assert row["time_cv"] == pytest.approx(396.863 / 450, rel=1e-5)
    assert row["time_p95_us"] == pytest.approx(840)  # nine tenths of the way from 300 to 900
    assert row["slowest_rank"] == 1
    # 1,000 bytes in 300 µs; of an all-gather over two ranks half of them pass the link.
    assert row["message_bytes"] == 1000
    assert row["algbw_gb_per_s"] == pytest.approx(1000 / 300e-6 / 1e9)
    assert row["busbw_gb_per_s"] == pytest.approx(1000 / 300e-6 / 1e9 / 2)
    assert row["correct"] is True


def test_a_barrier_has_times_alone() -> None:
    _, [row] = judged({"collectives": "barrier"}, both(correct=None))
    assert (row["time_us"], row["size_bytes"], row["dtype"], row["correct"]) == (300, None, None, None)
    assert "busbw_gb_per_s" not in row


def test_a_wrong_result_makes_the_launch_invalid() -> None:
    measured = {**both(), 1: [CommsTimes(0, TIMES[1], False)]}
    found, [row] = judged({"collectives": "all_reduce", "sizes": "1K"}, measured)
    assert (row["status"], row["correct"], row["reason"]) == ("invalid", False, "the result is wrong on rank 1")
    assert found.row["status"] == "invalid"
    assert found.row["reason"] == "all_reduce of 1,024 bytes of float32 (all): the result is wrong on rank 1"


def test_what_does_not_fit_is_skipped_and_the_launch_is_ok() -> None:
    skipped = CommsTimes(1, status="skipped", reason="it needs 4 GiB on each rank, and 1 GiB may be used (--sizes)")
    measured = {rank: [*times, skipped] for rank, times in both().items()}
    found, rows = judged({"collectives": "all_reduce", "sizes": "1K,1G"}, measured)
    assert found.row["status"] == "ok"
    assert [(row["status"], row.get("reason"), row.get("time_us")) for row in rows] == [
        ("ok", None, 300),
        ("skipped", skipped.reason, None),
    ]


def test_the_reason_is_that_of_the_rank_that_failed() -> None:
    measured = {
        0: [CommsTimes(0, status="skipped", reason="it failed on another rank")],
        1: [CommsTimes(0, status="oom", reason="MemoryError: no")],
    }
    found, [row] = judged({"collectives": "all_reduce", "sizes": "1K"}, measured)
    assert (row["status"], row["reason"]) == ("oom", "MemoryError: no")
    assert (found.row["status"], found.row["reason"]) == ("invalid", "nothing could be measured: MemoryError: no")


def test_a_failed_launch_keeps_what_it_measured_and_names_the_collective_that_was_at_work() -> None:
    failure = Failure("crashed", "RuntimeError: the cable is out", 5)
    found, rows = judged({"collectives": "all_reduce", "sizes": "1K,2K,4K"}, both(), done=False, failure=failure)
    assert found.row["status"] == "crashed"
    assert "the cable is out" in found.row["reason"]
    assert [row["status"] for row in rows] == ["ok", "crashed", "skipped"]
    assert rows[1]["reason"] == found.row["reason"]
    assert rows[2]["reason"] == "the launch had ended before it"


def test_groups_that_work_at_the_same_time_have_a_row_each() -> None:
    times = {rank: [CommsTimes(0, [(rank + 1) * US] * 3, True)] for rank in range(4)}
    options = {"collectives": "all_reduce", "sizes": "1K", "groups": "node,across"}
    measured = {rank: [*own, CommsTimes(1, [10 * US] * 3, True)] for rank, own in times.items()}
    found, rows = judged(options, measured, nodes={2: 1, 3: 1})
    assert [(row["group"], row["group_ranks"], row["time_us"]) for row in rows] == [
        ("node", "0-1", 2),
        ("node", "2-3", 4),
        ("across", "0,2", 10),
        ("across", "1,3", 10),
    ]
    assert (found.row["nodes"], found.row["nproc_per_node"]) == (2, "2(x2)")


def test_groups_that_do_not_exist_are_a_row() -> None:
    options = {"collectives": "all_reduce", "sizes": "1K", "groups": "all,across"}
    found, rows = judged(options, both())
    assert found.row["status"] == "ok"
    assert rows[0] == {"group": "across", "status": "skipped", "reason": "all ranks are on one node; add --nnodes"}


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (CommsTimes(3), "measured no time in round 3"),
        (CommsTimes(3, [5, 0]), "measured no time in round 3"),
        (CommsTimes(3, status="fine"), "has a status 'fine' in round 3"),
        (CommsTimes(3, [5]), ""),
        (CommsTimes(3, status="skipped", reason="x"), ""),
    ],
)
def test_nonsense_is_noticed(times: CommsTimes, words: str) -> None:
    assert times.odd() == words
