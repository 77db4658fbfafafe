"""`bench ab` with ranks that keep a given pace: which launches are made, in which order, and what they decide; and a
real run of two sides of which one has more to do."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import socket
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command_line import Run
from fake_ranks import MLP, Turns, plain, turns, wanted
from rich.console import Console

from bench.comparison.abba import CONTROL, ORDERS, Ab, pairs
from bench.comparison.block_counts import FIRST, planned_blocks
from bench.comparison.duet import Duet
from bench.comparison.setup import Gating, compete
from bench.comparison.sides import Side
from bench.errors import IncomparableError, Interrupted, UsageError
from bench.machine.gpus import Machine
from bench.machine.preflight import GpuLook, Look
from bench.plan.case import Case
from bench.plan.plan import Asked, asked, make_plan
from bench.report.progress import Quiet
from bench.runner.run_session import Opened, Session
from bench.stats.ab_gate import gate as judge
from bench.stats.calibration import Noise
from bench.stats.power import Blocks, needed, upper
from bench.stats.verdict import Gate, Rules
from bench.store.columns import LaunchRow, Row
from bench.store.reader import read_launches

RATE = 640.0  # samples/s at a pace of 1: 64 in 0.1 s
MLP_A, MLP_B = "mlp-single-x1-cpu-84c3a454", "mlp-single-x1-cpu-seed1-"  # the latter as far as it is readable


def silent() -> Quiet:
    """Who is told of warnings only, on stderr."""
    return Quiet(Console(stderr=True))


def of_b(case: Case, number: int) -> float:
    """Side B (seed 1) has half the pace."""
    return 0.5 if case.seed == 1 else 1.0


def blocks_of(rows: list[LaunchRow]) -> dict[tuple[str, str, int, int], list[LaunchRow]]:
    """The launches by (pair, role, stage, block), in the order in which the first of each was made."""
    found: dict[tuple[str, str, int, int], list[LaunchRow]] = defaultdict(list)
    for row in rows:
        found[row.pair, row.role, row.stage, row.block].append(row)
    return dict(found)


def orders(rows: list[LaunchRow]) -> list[str]:
    """The sides of each block, in the order of its launches."""
    return ["".join(row.side for row in block) for block in blocks_of(rows).values()]


# -- blocks ------------------------------------------------------------------------------------------------------------


def launched(
    monkeypatch: pytest.MonkeyPatch, out: Path, seed: str = "0", count: int = 5
) -> tuple[list[LaunchRow], Turns]:
    """One stage of a case against its like: of ``count`` blocks and as many of its control pair."""
    ranks = Turns(out, [[]])
    with turns(monkeypatch, out, ranks, {"seed": "0"}, {"seed": "1"}, Blocks(count, 10), order_seed=seed) as (ab, _, _):
        ab.run()
    return ab.rows, ranks


def test_each_block_is_one_of_two_orders_that_come_from_the_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twelve blocks of one of two orders are all alike once in 2048 seeds."""
    rows, _ = launched(monkeypatch, tmp_path / "1", count=6)
    again, _ = launched(monkeypatch, tmp_path / "2", count=6)
    other, _ = launched(monkeypatch, tmp_path / "3", seed="1", count=6)
    assert ORDERS == ("ABBA", "BAAB")
    assert set(orders(rows)) == set(orders(other)) == set(ORDERS)
    assert orders(rows) == orders(again) != orders(other)
    for block in blocks_of(rows).values():
        first = block[0].order
        assert [(row.turn, row.order) for row in block] == [(turn, first + turn) for turn in range(4)]


def test_a_round_has_a_block_of_each_pair_in_an_order_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows, _ = launched(monkeypatch, tmp_path, count=6)
    made = [(role, block) for _, role, _, block in blocks_of(rows)]
    rounds = [made[2 * number : 2 * number + 2] for number in range(6)]
    assert len(made) == 12
    assert [{block for _, block in both} for both in rounds] == [{number} for number in range(6)]
    firsts = [both[0][0] for both in rounds]
    assert {role for both in rounds for role, _ in both} == set(firsts) == {"measure", "control"}


def test_each_block_has_a_server_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows, ranks = launched(monkeypatch, tmp_path)
    assert [server for server, _ in ranks.launched] == [1 + number // 4 for number in range(40)]
    assert len(rows) == 40


def test_what_each_launch_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The control pair launches A's case on both of its sides."""
    rows, ranks = launched(monkeypatch, tmp_path)
    assert [case.seed for _, case in ranks.launched] == [row.seed for row in rows]
    assert {(r.role, r.side, r.seed, r.pair) for r in rows} == {
        ("measure", "A", 0, MLP_A),
        ("measure", "B", 1, MLP_A),
        ("control", "A", 0, MLP_A),
        ("control", "B", 0, MLP_A),
    }
    assert [row.order for row in rows] == list(range(40))
    assert all(row.case_id.startswith(MLP_B) for row in rows if row.seed == 1)
    [folder] = (tmp_path / "runs").iterdir()
    kept = read_launches(folder / "launches.csv", print)
    assert [(r.pair, r.side, r.stage, r.block, r.turn, r.role) for r in kept] == [
        (r.pair, r.side, r.stage, r.block, r.turn, r.role) for r in rows
    ]


def test_the_control_has_as_many_blocks_as_the_largest_case_and_others_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ranks = Turns(tmp_path, [[]])
    a, b = {"precision": "fp32"}, {"precision": "amp-bf16"}
    axes = {"batch_size": "32,64"}
    small, large = (p.case.case_id for p in make_plan(wanted(axes), Machine()).cases)
    blocks = {small: Blocks(5, 10), large: Blocks(7, 14)}
    with turns(monkeypatch, tmp_path, ranks, a, b, blocks, axes) as (ab, _, told):
        ab.run()
    counts = {(pair, role): 0 for pair, role, _, _ in blocks_of(ab.rows)}
    for pair, role, _, _ in blocks_of(ab.rows):
        counts[pair, role] += 1
    assert counts == {(small, "measure"): 5, (large, "measure"): 7, (small, "control"): 7}
    assert told == []


# -- stages ------------------------------------------------------------------------------------------------------------


def test_only_candidates_are_launched_again_in_fresh_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of two batch sizes only 32 is slower in B. The control pair, of 32 in both stages, has 5 blocks and then, as 32
    has in a first stage, 5 again."""

    def pace(case: Case, number: int) -> float:
        return 0.8 if (case.batch_size, case.precision) == (32, "bf16") else 1.0

    ranks = Turns(tmp_path, [[]], pace=pace)
    a, b, axes = {"precision": "fp32"}, {"precision": "bf16"}, {"batch_size": "32,64"}
    with turns(monkeypatch, tmp_path, ranks, a, b, Blocks(5, 8), axes) as (ab, _, told):
        ab.run()
    assert told == ["1 of 2 cases may differ: fresh launches decide"]
    small, large = (p.case.case_id for p in make_plan(wanted(axes | a), Machine()).cases)
    found = {
        key[:3]: {block for *same, block in blocks_of(ab.rows) if tuple(same) == key[:3]} for key in blocks_of(ab.rows)
    }
    assert found == {
        (small, "measure", 1): set(range(5)),
        (large, "measure", 1): set(range(5)),
        (small, "control", 1): set(range(5)),
        (small, "measure", 2): set(range(5, 13)),
        (small, "control", 2): set(range(5, 10)),
    }


def test_a_second_stage_has_a_control_of_the_candidates_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The control is of the first case, which has 9 blocks and is no candidate: in the second stage it has as many as
    the candidate had in the first."""

    def pace(case: Case, number: int) -> float:
        return 0.8 if (case.batch_size, case.precision) == (64, "bf16") else 1.0

    ranks = Turns(tmp_path, [[]], pace=pace)
    axes = {"batch_size": "32,64"}
    first, second = (p.case.case_id for p in make_plan(wanted(axes), Machine()).cases)
    blocks = {first: Blocks(9, 9), second: Blocks(5, 6)}
    with turns(monkeypatch, tmp_path, ranks, {"precision": "fp32"}, {"precision": "bf16"}, blocks, axes) as (ab, _, _):
        ab.run()
    counts = defaultdict(int)
    for pair, role, stage, _ in blocks_of(ab.rows):
        counts[pair, role, stage] += 1
    assert counts == {
        (first, "measure", 1): 9,
        (second, "measure", 1): 5,
        (first, "control", 1): 9,
        (second, "measure", 2): 6,
        (first, "control", 2): 5,
    }


def test_without_a_candidate_there_is_no_second_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows, _ = launched(monkeypatch, tmp_path)
    assert {row.stage for row in rows} == {1}


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_side_that_fails_ends_its_pair_at_once_and_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """B of 64 runs out of memory in its first launch; 32 has all of its blocks."""
    ranks = Turns(tmp_path, [[]], fails_at=lambda case, _: (case.seed, case.batch_size) == (1, 64))
    blocks = Blocks(5, 10)
    with turns(monkeypatch, tmp_path, ranks, {"seed": "0"}, {"seed": "1"}, blocks, {"batch_size": "32,64"}) as (
        ab,
        _,
        _,
    ):
        ab.run()
    counts: dict[Any, int] = defaultdict(int)
    for row in ab.rows:
        counts[row.role, row.batch_size, row.side, row.status] += 1
    of_failed = {key: count for key, count in counts.items() if key[1] == 64}
    assert of_failed.pop(("measure", 64, "B", "oom")) == 1
    assert of_failed == {("measure", 64, "A", "ok"): 1}
    assert {key: count for key, count in counts.items() if key[1] == 32} == {
        ("measure", 32, "A", "ok"): 10,
        ("measure", 32, "B", "ok"): 10,
        ("control", 32, "A", "ok"): 10,
        ("control", 32, "B", "ok"): 10,
    }


@pytest.mark.parametrize("number", [0, 5, 17])
def test_a_launch_that_fails_late_ends_its_pair_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    ranks = Turns(tmp_path, [[]], fails_at=lambda _, launch: launch == number)
    with turns(monkeypatch, tmp_path, ranks, {"seed": "0"}, {"seed": "1"}, Blocks(5, 10)) as (ab, _, _):
        ab.run()
    failed = ab.rows[number]
    assert [row.status for row in ab.rows].count("oom") == 1
    assert failed.status == "oom"
    after = [row for row in ab.rows[number + 1 :] if row.role == failed.role]
    # only where the first launch of all fails is the other side not seen yet
    assert [row.side for row in after] == ([{"A": "B", "B": "A"}[failed.side]] if number == 0 else [])
    assert len([row for row in ab.rows if row.role != failed.role]) == 20


def test_where_the_case_of_the_control_fails_another_takes_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first of two cases runs out of memory on A: the second is still decided on."""
    ranks = Turns(tmp_path, [[]], fails_at=lambda case, _: case.batch_size == 32, pace=of_b)
    plain(monkeypatch, ranks)
    sides = (Side("A"), Side("B", {"seed": ["1"]}))
    asked = wanted({"batch_size": "32,64"})
    gate = compete(asked, sides, tmp_path, Gating(Rules(), 5), silent())
    other = next(verdict.case for verdict in gate.verdicts if verdict.samples_per_s_a)
    assert {verdict.case == other: verdict.verdict for verdict in gate.verdicts} == {
        False: "inconclusive",
        True: "slower",
    }
    assert gate.control is not None
    assert (gate.control.flagged, gate.control.case, gate.exit_code) == (False, other, 5)


def test_without_a_control_pair_no_second_stage_is_launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A launch of the control pair fails, and there is no other case."""
    ranks = Turns(tmp_path, [[]], pace=of_b)
    with turns(monkeypatch, tmp_path, ranks, {"seed": "0"}, {"seed": "1"}, Blocks(5, 10)) as (ab, _, told):
        launch = Session.launch

        def failing(self: Session, case: Case, more: Row, *rest: Any) -> LaunchRow:
            ranks.fails_at = lambda *_: more["role"] == "control"
            return launch(self, case, more, *rest)

        monkeypatch.setattr(Session, "launch", failing)
        ab.run()
    assert {row.stage for row in ab.rows} == {1}
    found = judge(ab.rows, Rules(), "A", "B")
    assert found.sentence.endswith("undecided, as the control pair has too few blocks")
    assert told == []


def test_a_launch_that_does_not_come_to_be_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One of each side of the pair and of its control; both pairs end with them."""
    ranks = Turns(tmp_path, [[]], never_starts=True)
    with turns(monkeypatch, tmp_path, ranks, {"seed": "0"}, {"seed": "1"}, Blocks(5, 10)) as (ab, _, _):
        ab.run()
    assert sorted((row.role, row.status, row.reason) for row in ab.rows) == [
        *[("control", "crashed", "the launch server did not start")] * 2,
        *[("measure", "crashed", "the launch server did not start")] * 2,
    ]


def test_a_side_that_cannot_run_is_told_and_nothing_of_its_pair_launched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """tf32 is CUDA's alone. A could run and has nothing to be compared with, so there is no control either."""
    ranks = Turns(tmp_path, [[]])
    with turns(monkeypatch, tmp_path, ranks, {"precision": "fp32"}, {"precision": "tf32"}, Blocks(5, 10)) as (ab, _, _):
        ab.run()
    [row] = ab.rows
    assert (row.pair, row.side, row.status, row.order) == (MLP_A, "B", "skipped", None)
    assert ranks.launched == []


# -- servers, and duets ------------------------------------------------------------------------------------------------


def test_where_sides_have_servers_of_their_own_so_has_the_control(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A block of the control pair is to have all the noise of the others: two address layouts, where they have two."""
    ranks = Turns(tmp_path, [[]])
    a, b = {"omp_num_threads": "1"}, {"omp_num_threads": "2"}
    with turns(monkeypatch, tmp_path, ranks, a, b, Blocks(5, 10)) as (ab, sessions, _):
        assert sessions[CONTROL].launcher is not sessions["A"].launcher
        ab.run()
    assert [(row.role, row.side, row.omp_num_threads) for row in sessions[CONTROL].rows] == [("control", "B", 1)] * 10
    assert judge(ab.rows, Rules(), "A", "B").control is not None
    with turns(monkeypatch, tmp_path, ranks, {"seed": "0"}, {"seed": "1"}, Blocks(5, 10)) as (ab, sessions, _):
        assert set(sessions) == {"A", "B"}
        assert sessions["A"].launcher is sessions["B"].launcher


def dueling(ab: Ab, sessions: dict[str, Session]) -> Ab:
    """The same as duets."""
    return Ab(ab.pairs, {**sessions, CONTROL: sessions["A"]}, ab.blocks, 0, ab.tell, duet=True)


def test_a_duet_looks_first_at_the_memory_of_each_pair_of_sides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The control pair has the name of the first case, and other sides: those of A, which is launched once."""
    looked: list[list[str]] = []
    monkeypatch.setattr("bench.comparison.abba.both_fit", lambda a, b, *_: looked.append([a.case_id, b.case_id]))
    monkeypatch.setattr("bench.comparison.abba.launch_and_record", lambda *_: [])
    with turns(monkeypatch, tmp_path, Turns(tmp_path, [[]]), {"seed": "0"}, {"seed": "1"}, Blocks(5, 10)) as known:
        ab = dueling(*known[:2])
        ab.run()
        [a, b], control = looked
        assert (a, b[: len(MLP_B)], control) == (MLP_A, MLP_B, [MLP_A, MLP_A])
        assert [(row.role, row.side, row.block) for row in ab.rows] == [("probe", side, None) for side in "AB"]
        looked.clear()
        dueling(*known[:2]).calibrate()
        assert looked == [[MLP_A, MLP_A]]


def test_a_pair_without_room_is_refused_before_any_duet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What others held before the run is no side's."""
    held: list[dict[str, float]] = []
    monkeypatch.setattr(
        "bench.comparison.abba.both_fit", lambda a, b, machine, others: held.append(others) or "too little"
    )
    with turns(monkeypatch, tmp_path, Turns(tmp_path, [[]]), {"seed": "0"}, {"seed": "1"}, Blocks(5, 10)) as known:
        ab = dueling(*known[:2])
        a, looks = known[1]["A"], (GpuLook(0, "GPU-a", 1000.0, 300.0), GpuLook(1, "GPU-b", 1000.0))
        a.survey = dataclasses.replace(a.survey, look=Look(gpus=looks))
        with pytest.raises(UsageError, match=f"^--duet runs both sides of {MLP_A} at once: too little") as raised:
            ab.run()
        assert (raised.value.option, raised.value.hint) == ("--duet", "Leave --duet out.")
    assert {row.role for row in ab.rows} == {"probe"}
    assert held == [{"GPU-a": 300.0}]


@pytest.mark.parametrize(("bad", "alone"), [({"B": "oom", "A": "interrupted"}, 1), ({"A": "oom"}, 0), ({}, 0)])
def test_where_b_alone_fails_in_a_duet_it_is_launched_once_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: dict[str, str], alone: int
) -> None:
    def played(opened: Sequence[Opened], _: Duet) -> list[LaunchRow]:
        a, b = opened
        control = b.session is a.session
        return [LaunchRow(side=side, status="ok" if control else bad.get(side, "ok")) for side in "AB"]

    monkeypatch.setattr("bench.comparison.abba.launch_and_record", played)
    monkeypatch.setattr("bench.comparison.abba.both_fit", lambda *_: None)
    sides = {"omp_num_threads": "1"}, {"omp_num_threads": "2"}  # with servers of their own, as in a duet
    with turns(monkeypatch, tmp_path, Turns(tmp_path, [[]]), *sides, Blocks(5, 10)) as (ab, sessions, told):
        sessions = {**sessions, CONTROL: sessions["A"]}
        Ab(ab.pairs, sessions, ab.blocks, 0, ab.tell, duet=True).run()
    made = [(row.role, row.side, row.stage, row.status) for row in ab.rows if row.block is not None]
    assert made == [("probe", "B", 1, "ok")] * alone
    assert [text.endswith("failed in the duet with A: launching it alone") for text in told] == [True] * alone


def test_a_duet_has_no_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain(monkeypatch, Turns(tmp_path, [[]]))
    request = dataclasses.replace(wanted({}), settings={"profile": "on"})
    sides = (Side("A"), Side("B", {"seed": ["1"]}))
    with pytest.raises(UsageError, match=r"the other side trains while the steps for --profile are taken"):
        compete(request, *(sides, tmp_path, Gating(Rules(), 5, duet=True), silent()))


def test_a_duet_saves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain(monkeypatch, Turns(tmp_path, [[]]))
    with pytest.raises(UsageError, match="the other side trains while the state for --save-checkpoint is saved"):
        compete(
            wanted({"save_checkpoint": "dcp"}),
            *((Side("A"), Side("B", {"seed": ["1"]})), tmp_path, Gating(Rules(), 5, duet=True), silent()),
        )


@pytest.mark.parametrize(
    "sides", [(Side("A"), Side("B", {"seed": ["1"]})), (Side("A"), Side("B", {"num_workers": ["2"]}))]
)
def test_a_duet_with_workers_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sides: tuple[Side, Side]
) -> None:
    """They would load while the other side trains."""
    plain(monkeypatch, Turns(tmp_path, [[]]))
    workers = "0" if "num_workers" in sides[1].axes else "1"
    with pytest.raises(UsageError, match=r"--duet: DataLoader workers of mlp-single.* Add --num-workers 0, or leave"):
        compete(
            wanted({"data": "synthetic", "num_workers": workers}),
            *(sides, tmp_path, Gating(Rules(), 5, duet=True), silent()),
        )


# -- pairs -------------------------------------------------------------------------------------------------------------


def paired(a: dict[str, str], b: dict[str, str], **axes: str) -> list[tuple[str, str]]:
    """The case_ids of both sides of each pair."""
    sides = [Side(name, {axis: [text] for axis, text in own.items()}) for name, own in (("A", a), ("B", b))]
    both = asked({name: [text] for name, text in {**MLP, **axes}.items()}, {})
    found = pairs({side.name: make_plan(side.asked(both), Machine()) for side in sides}, sides)
    assert [pair.name for pair in found] == [pair.sides["A"].case.case_id for pair in found]
    assert {pair.role for pair in found} == {"measure"}
    return [(pair.sides["A"].case.case_id[:-9], pair.sides["B"].case.case_id[:-9]) for pair in found]


def test_pairs_differ_in_what_the_sides_set_and_in_nothing_else() -> None:
    assert paired({"precision": "fp32"}, {"precision": "bf16"}, batch_size="8,16", seed="0,1") == [
        ("mlp-single-x1-cpu-b8", "mlp-single-x1-cpu-bf16-b8"),
        ("mlp-single-x1-cpu-b8-seed1", "mlp-single-x1-cpu-bf16-b8-seed1"),
        ("mlp-single-x1-cpu-b16", "mlp-single-x1-cpu-bf16-b16"),
        ("mlp-single-x1-cpu-b16-seed1", "mlp-single-x1-cpu-bf16-b16-seed1"),
    ]


def test_an_axis_may_be_set_on_one_side_alone_or_another_on_each() -> None:
    assert paired({}, {"seed": "1"}) == [("mlp-single-x1-cpu", "mlp-single-x1-cpu-seed1")]
    assert paired({"seed": "2"}, {"precision": "bf16"}, batch_size="8,16") == [
        ("mlp-single-x1-cpu-b8-seed2", "mlp-single-x1-cpu-bf16-b8"),
        ("mlp-single-x1-cpu-b16-seed2", "mlp-single-x1-cpu-bf16-b16"),
    ]
    assert paired({}, {}) == [("mlp-single-x1-cpu", "mlp-single-x1-cpu")]


def test_sides_of_one_case_each_are_a_pair_whatever_else_changes() -> None:
    """`single` has one rank whatever is asked for, and resident data no workers."""
    assert paired({"strategy": "single"}, {"strategy": "ddp"}, gpus="2") == [("mlp-single-x1-cpu", "mlp-ddp-x2-cpu")]
    assert paired({"data": "resident"}, {"data": "synthetic"}) == [("mlp-single-x1-cpu", "mlp-single-x1-cpu-synthetic")]


def test_a_side_that_makes_one_case_of_two_is_refused() -> None:
    """On side A the values of --gpus are one case, and B has two."""
    with pytest.raises(UsageError, match=r"is a case of one side only: .* compare one such case at a time"):
        paired({"strategy": "single"}, {"strategy": "ddp"}, gpus="1,2")


def test_cases_that_differ_only_in_what_a_side_sets_are_no_pairs() -> None:
    """B sets the strategy, and the cases are of two."""
    both = Asked(({"strategy": ["ddp"]}, {"strategy": ["fsdp"], "seed": [1]}))
    asked_for = dataclasses.replace(
        both, matrices=tuple({**MLP, "gpus": [2], "device": ["cpu"], "workload": ["mlp"], **m} for m in both.matrices)
    )
    a, b = Side("A"), Side("B", {"seed": ["1"]})
    plans = {"A": make_plan(a.asked(asked_for), Machine()), "B": make_plan(b.asked(asked_for), Machine())}
    assert [pair.sides["B"].case.seed for pair in pairs(plans, [a, b])] == [1, 1]
    c = Side("B", {"strategy": ["ddp"], "seed": ["1"]})
    with pytest.raises(UsageError, match="side A has several cases that differ only in what the sides set"):
        pairs({"A": plans["A"], "B": make_plan(c.asked(asked_for), Machine())}, [a, c])


def test_a_batch_that_the_workload_itself_changed_is_other_work() -> None:
    """As the workload of another revision says: 64 where it was 32."""
    before, now = (make_plan(wanted({"batch_size": batch}), Machine()) for batch in ("32", "64"))
    message = "different work: the batch size of mlp is 32 in A and 64 in B. Give --batch-size"
    with pytest.raises(IncomparableError, match=message):
        pairs({"A": before, "B": now}, (Side("A"), Side("B", rev="main")))
    assert len(pairs({"A": before, "B": now}, (Side("A"), Side("B", {"batch_size": ["64"]})))) == 1


def test_a_batch_size_that_is_to_be_found_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--batch-size auto. Give each side one value .* a batch size"):
        paired({}, {"seed": "1"}, batch_size="auto")


# -- how many blocks ---------------------------------------------------------------------------------------------------

QUIET = Noise("q", "h", None, None, False, 30, 16, 0.01, 0.003, 0.005, None, 10.0, 0.01, 100.0)
LOUD = dataclasses.replace(QUIET, case_id="l", of_blocks=2.0)


def plan_of(
    *names: str,
    noise: tuple[Noise, ...] = (),
    change: float = 0.03,
    blocks: int | None = None,
    budget: float | None = None,
    insists: bool = False,
) -> tuple[dict[str, Blocks], list[str]]:
    """The blocks, as if none were left to the first two, and what is warned of."""
    warned: list[str] = []
    known = {one.case_id: one for one in noise}
    found = planned_blocks(names, known, change, blocks=blocks, budget=budget, insists=insists, warn=warned.append)
    return found, warned


@pytest.mark.parametrize("blocks", [-1, 0, 1, 4])
def test_too_few_blocks_for_any_test_are_refused(blocks: int) -> None:
    with pytest.raises(UsageError) as raised:
        plan_of("q", blocks=blocks)
    assert (raised.value.option, raised.value.given) == ("--blocks", blocks)
    assert raised.value.allowed == "a whole number from 5"


def test_blocks_are_what_is_asked_for_and_twice_as_many() -> None:
    assert plan_of("q", "p", noise=(QUIET, dataclasses.replace(QUIET, case_id="p")), blocks=30) == (
        {"q": Blocks(30, 60), "p": Blocks(30, 60)},
        [],
    )


def test_without_a_calibration_there_are_eight_blocks_and_a_warning() -> None:
    assert FIRST == 8
    assert plan_of("x", "q", noise=(QUIET,))[0]["x"] == Blocks(8, 16)
    assert plan_of("x", insists=True) == (  # nothing is known that it could be refused by
        {"x": Blocks(8, 16)},
        [
            f"x is not calibrated on host {socket.gethostname()} with this data, torch and window, so it is "
            "not known yet which change can be detected; run bench calibrate (in a container, set its name by "
            "--hostname), or give --budget"
        ],
    )


def test_a_calibration_says_how_many_find_the_change() -> None:
    """Planned with the bound of the spread, not with the spread itself."""
    expected = needed(upper(0.005, 16), 0.03)
    assert expected is not None
    assert plan_of("q", noise=(QUIET,)) == ({"q": expected}, [])
    finer = plan_of("q", noise=(QUIET,), change=0.01)[0]["q"]
    assert finer.first > expected.first
    assert finer.second > expected.second


def test_a_budget_is_shared_with_the_control_pair() -> None:
    """1800 s for two cases and the control: 600 s each, of blocks of 10 s: 60, a third of them in the first stage."""
    two = (QUIET, dataclasses.replace(QUIET, case_id="p", seconds_a_block=20.0))
    assert plan_of("q", "p", noise=two, budget=1800)[0] == {"q": Blocks(20, 40), "p": Blocks(10, 20)}


def test_a_budget_for_fewer_than_five_blocks_is_refused() -> None:
    """149 s of 298 s are 14 blocks of 10 s: 4 and 8."""
    with pytest.raises(UsageError, match=r"--budget: 298 s are not enough for 5 blocks of q .* 10 s each. Give more"):
        plan_of("q", noise=(QUIET,), budget=298)
    assert plan_of("q", noise=(QUIET,), budget=300)[0] == {"q": Blocks(5, 10)}


def test_a_budget_without_a_calibration_is_left_to_the_first_blocks() -> None:
    """Also if only one of two cases is not calibrated; there is nothing to warn of."""
    assert plan_of("x", budget=300) == (None, [])
    assert plan_of("q", "x", noise=(QUIET,), budget=300, insists=True) == (None, [])
    assert plan_of("x", budget=300, blocks=6)[0] == {"x": Blocks(6, 12)}


def test_what_cannot_be_found_is_warned_of_or_refused_with_the_numbers() -> None:
    known = dataclasses.replace(QUIET, of_blocks=0.02)
    wanted = needed(upper(0.02, 16), 0.03)
    assert wanted is not None
    assert wanted.first > 6
    smallest = known.detectable(Blocks(6, 12))
    words = (
        f"q: 6 and 12 blocks detect a slowdown of {smallest:.1%} on this machine, not of 3.0%: "
        f"that needs {wanted.first} and {wanted.second}"
    )
    assert smallest > 0.03
    assert plan_of("q", noise=(known,), blocks=6) == ({"q": Blocks(6, 12)}, [words])
    with pytest.raises(UsageError) as refused:
        plan_of("q", noise=(known,), blocks=6, insists=True)
    assert refused.value.message == words
    assert (refused.value.option, refused.value.given) == ("--detect", 0.03)


def test_a_machine_that_is_too_noisy_for_any_number_of_blocks() -> None:
    found, warned = plan_of("l", noise=(LOUD,))
    assert found == {"l": Blocks(8, 16)}
    [words] = warned
    assert words.startswith("l: 8 and 16 blocks detect a slowdown of 9")
    assert words.endswith("not of 3.0%: no number of blocks does")
    with pytest.raises(UsageError, match=r"no number of blocks does\. Change --blocks, --budget or --detect"):
        plan_of("l", noise=(LOUD,), insists=True)


# -- from the command to the gate --------------------------------------------------------------------------------------


def decided(
    monkeypatch: pytest.MonkeyPatch, out: Path, ranks: Turns, rules: Rules | None = None, **axes: str
) -> tuple[Gate, Path]:
    plain(monkeypatch, ranks)
    sides = (Side("A"), Side("B", {"seed": ["1"]}))
    gate = compete(wanted(axes), sides, out, Gating(rules or Rules(), 5), silent())
    [folder] = (out / "runs").iterdir()
    return gate, folder


def test_half_the_pace_is_slower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gate, folder = decided(monkeypatch, tmp_path, Turns(tmp_path, [[]], pace=of_b))
    [verdict] = gate.verdicts
    assert (verdict.verdict, verdict.how, verdict.blocks, verdict.launches) == ("slower", "blocks", 10, 40)
    assert (verdict.samples_per_s_a, verdict.samples_per_s_b) == (pytest.approx(RATE), pytest.approx(RATE / 2))
    assert verdict.ratio == pytest.approx(0.5)
    assert gate.exit_code == 1
    assert (gate.a, gate.b, gate.run_id) == ("as asked", "seed=1", folder.name)
    assert gate.control is not None
    assert not gate.control.flagged
    assert gate.control.case == MLP_A
    plan = json.loads((folder / "plan.json").read_text())
    assert (plan["kind"], plan["blocks"], plan["sides"]["B"]["words"]) == ("ab", {MLP_A: [5, 10]}, "seed=1")


def test_the_same_pace_is_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Off by 0.1 % this way and that, in waves that are no multiple of a block."""
    ranks = Turns(tmp_path, [[]], pace=lambda _, number: 1 + 0.001 * math.sin(number))
    gate, _ = decided(monkeypatch, tmp_path, ranks)
    assert [(one.verdict, one.blocks, one.launches) for one in gate.verdicts] == [("same", 5, 20)]
    assert gate.exit_code == 0


def test_a_drift_that_is_a_straight_line_is_no_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine gets slower by 1 % a launch (in the log): within A B B A that cancels to nothing."""
    ranks = Turns(tmp_path, [[]], pace=lambda _, number: 0.99**number)
    gate, _ = decided(monkeypatch, tmp_path, ranks)
    [verdict] = gate.verdicts
    assert verdict.verdict == "same"
    assert verdict.ratio == pytest.approx(1.0, abs=1e-6)


def test_who_stops_a_comparison_is_told_how_to_judge_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch, count = Session.launch, itertools.count()

    def stopped(self: Session, case: Case, more: Row, *rest: Any) -> LaunchRow:
        if next(count) == 30:
            raise Interrupted(2)
        return launch(self, case, more, *rest)

    monkeypatch.setattr(Session, "launch", stopped)
    with pytest.raises(Interrupted):
        decided(monkeypatch, tmp_path, Turns(tmp_path, [[]], pace=of_b))
    [folder] = (tmp_path / "runs").iterdir()
    assert len(read_launches(folder / "launches.csv", print)) == 30
    assert f"stopped; to judge what was measured: bench compare {folder.name}" in capsys.readouterr().err


def test_a_side_that_fails_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gate, _ = decided(monkeypatch, tmp_path, Turns(tmp_path, [[]], fails_at=lambda case, _: case.seed == 1))
    [verdict] = gate.verdicts
    assert (verdict.verdict, verdict.reason.partition(":")[0], gate.exit_code) == ("broken", "B oom", 1)


def test_a_machine_that_differs_from_itself_decides_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever is launched as B is slower by a tenth, in the control pair as well."""
    ranks, launch = Turns(tmp_path, [[]]), Session.launch
    plain(monkeypatch, ranks)

    def slower_b(self: Session, case: Case, more: Row, *rest: Any) -> LaunchRow:
        ranks.pace = lambda *_: 0.9 if more["side"] == "B" else 1.0
        return launch(self, case, more, *rest)

    monkeypatch.setattr(Session, "launch", slower_b)
    sides = (Side("A"), Side("B", {"seed": ["1"]}))
    gate = compete(wanted(), sides, tmp_path, Gating(Rules(), 5), silent())
    [verdict] = gate.verdicts
    assert len(ranks.launched) == 20 + 20 + 40 + 20  # both stages of the pair and of its control
    assert gate.control is not None
    assert gate.control.flagged
    assert (verdict.verdict, gate.exit_code) == ("inconclusive", 3)
    assert verdict.reason.startswith("the control pair differs from itself; -10.0%")


# -- a real one --------------------------------------------------------------------------------------------------------

WORK = """
import torch
from torch import nn


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4096

    def __getitem__(self, index):
        return (torch.full((WIDTH,), float(index)),)


WIDTH = 256


class Work:
    unit, batch_size = "samples", 128

    def __init__(self, repeat=1):
        self.repeat = repeat

    def build(self):
        return nn.Linear(WIDTH, WIDTH)

    def loss(self, model, batch):
        (x,) = batch
        for _ in range(self.repeat):
            x = model(x)
        return x.square().mean()

    def samples(self, data):
        return Data()

    def layers(self, model):
        return []
"""


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_side_with_four_times_the_work_is_slower(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    common = ["--strategy", "single", "--gpus", "1", "--device", "cpu", "--warmup-steps", "0", "--steps", "10"]
    sides = [word for side, n in (("--a", 1), ("--b", 4)) for word in (side, f"workload=work.py:Work:repeat={n}")]
    done: Run = bench("ab", *common, "--blocks", "5", *sides, "--junit", "j.xml", "--md", "m.md", timeout=600)
    assert done.code == 1, done.stderr
    rows = done.rows()
    a, b = ({row["workload"] for row in rows if row["side"] == side and row["role"] == "measure"} for side in "AB")
    assert (a, b) == ({"work.py:Work:repeat=1"}, {"work.py:Work:repeat=4"})
    assert len(rows) == 20 + 20 + 40 + 20
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["sources"] for row in rows} == {""}  # no revisions
    first, *_ = done.stdout.splitlines()
    assert first == "worse: 1 case: 1 slower"
    assert "A: workload=work.py:Work:repeat=1; B: workload=work.py:Work:repeat=4 (run " in done.stdout
    [suite] = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == [
        rows[0]["pair"]
    ]
    assert (
        (tmp_path / "m.md").read_text().startswith("<!-- stepbench -->\n## stepbench: worse\n\n**1 case: 1 slower**\n")
    )
    assert done.folder is not None
    again = bench("compare", done.folder.name)
    assert (again.code, again.stdout) == (1, done.stdout)
    assert bench("report", done.folder.name)[:3] == (
        5,
        "",
        f"bench: {done.folder.name}: this is a comparison. Use bench compare {done.folder.name}.\n",
    )
    shown = bench("results", "show", done.folder.name)
    assert shown.code == 0
    assert "--steps 10" in shown.stdout
    assert "--launches" not in shown.stdout
