"""From the launches of `bench ab` to a verdict for each case, and to an exit code.

As in test_decision.py, blocks m - 2d, m - d, m, m + d, m + 2d have the trimmed mean m with an error of 0.8164966 d and
2 degrees of freedom: p = 1/2 - t / (2 sqrt(2 + t²)) with t = m / (0.8164966 d).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import pytest
from made_up_rows import block, blocks, launch

from bench.stats.ab_gate import NOT_THERE, for_second_stage, gate, geometric_mean, log_ratios, memory
from bench.stats.power import Blocks
from bench.stats.verdict import Control, Gate, Rules, Verdict, worst_first
from bench.store.columns import LaunchRow

RULES = Rules()


def around(mean: float, step: float) -> list[float]:
    return [math.exp(mean + place * step) for place in (1, -2, 0, 2, -1)]


STEADY = around(0.0, 0.001)  # the same: see test_decision.py
SUSPECT = around(-0.04, 0.01)  # p 0.0196
CONFIRMED = around(-0.04, 0.003)  # p 0.00186


def of(rows: Iterable[LaunchRow], rules: Rules = RULES, **known: Any) -> Gate:
    return gate(list(rows), rules, "old", "new", **known)


def one(rows: Iterable[LaunchRow], rules: Rules = RULES) -> Verdict:
    (verdict,) = of(rows, rules).verdicts
    return verdict


# -- blocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "rates"),
    [("ABBA", (100, 90, 80, 50)), ("BAAB", (90, 100, 50, 80))],
)
def test_a_block_is_the_ratio_of_the_geometric_means(order: str, rates: tuple[float, ...]) -> None:
    """A: sqrt(100 x 50) = sqrt(5000), B: sqrt(90 x 80) = sqrt(7200): ratio sqrt(1.44) = 1.2."""
    assert log_ratios(block(0, rates, order), 1) == [pytest.approx(math.log(1.2), rel=1e-12)]


@pytest.mark.parametrize("order", ["ABBA", "BAAB"])
def test_a_steady_drift_cancels(order: str) -> None:
    """B has 0.9 of A, and everything gets slower by a tenth from launch to launch: 1, 0.9, 0.81, 0.729."""
    rates = [100 * 0.9**turn * (0.9 if side == "B" else 1) for turn, side in enumerate(order)]
    assert log_ratios(block(0, rates, order), 1) == [pytest.approx(math.log(0.9), rel=1e-12)]


def test_blocks_are_told_apart_and_those_of_the_other_stage_left_out() -> None:
    rows = [*blocks([1.1, 1.2]), *blocks([1.3], first=2, stage=2)]
    mixed = [rows[n] for n in (8, 0, 4, 9, 1, 5, 10, 2, 6, 11, 3, 7)]
    assert log_ratios(mixed, 1) == [pytest.approx(math.log(1.1)), pytest.approx(math.log(1.2))]
    assert log_ratios(mixed, 2) == [pytest.approx(math.log(1.3))]


@pytest.mark.parametrize("there", [1, 2, 3])
@pytest.mark.parametrize("order", ["ABBA", "BAAB"])
def test_a_block_that_was_stopped_half_way_has_no_number(order: str, there: int) -> None:
    """Not even after A B: a drift between the two would look like a difference."""
    rows = [*blocks([1.1]), *block(1, [100, 90, 90, 100][:there], order)]
    assert log_ratios(rows, 1) == [pytest.approx(math.log(1.1))]


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize(
    "how",
    [
        {"status": "crashed", "samples_per_s": None},
        {"status": "interrupted", "samples_per_s": None},
        {"status": "invalid"},
        {"samples_per_s": None},
        {"samples_per_s": 0.0},
        {"samples_per_s": -1.0},
        {"samples_per_s": math.inf},
        {"samples_per_s": math.nan},
    ],
    ids=str,
)
def test_a_block_with_a_launch_that_failed_has_no_number(how: dict[str, Any], turn: int) -> None:
    rows = blocks([1.1, 1.2])
    rows[turn] = rows[turn].but(**how)
    assert log_ratios(rows, 1) == [pytest.approx(math.log(1.2))]


def test_a_duet_says_its_ratio_itself() -> None:
    """It is 0.97, whatever the throughputs of the two launches are."""
    of_a, of_b = block(0, [100, 50], "AB")
    rows = [of_a, of_b.but(duet_ratio=0.97)]
    assert log_ratios(rows, 1) == [pytest.approx(math.log(0.97), rel=1e-12)]
    assert log_ratios(rows[1:], 1) == []  # A has none
    assert log_ratios([rows[0].but(status="crashed"), rows[1]], 1) == []
    assert one([row.but(block=n) for n in range(5) for row in rows]).how == "duet"


def test_the_whole_of_a_verdict() -> None:
    """B has 100 exp(-0.04 + k 0.003), its median 100 exp(-0.04) = 96.0789; twenty launches of 10 s in the first stage and
    twenty in the second, which decides. Bounds: -0.04 -+ 4.30265273 x 0.00244949 = -0.0505393, -0.0294607."""
    known = {"case_id": "a", "workload": "gpt-nano", "peak_rss_mib": 500.0}
    found = of([*blocks(SUSPECT, **known), *blocks(CONFIRMED, first=5, stage=2, **known)])
    (said,) = found.verdicts
    assert (said.verdict, said.case, said.case_a, said.case_b) == ("slower", "a", "a", "a")
    assert (said.workload, said.how, said.command) == ("gpt-nano", "blocks", "bench run a")
    assert (said.blocks, said.launches, said.seconds) == (5, 20, 400.0)
    assert said.p == pytest.approx(0.0018645, abs=1e-7)
    assert said.ratio == pytest.approx(0.9607894, abs=1e-7)
    assert (said.low, said.high) == (
        *(pytest.approx(math.exp(-0.0505393), abs=1e-6), pytest.approx(math.exp(-0.0294607), abs=1e-6)),
    )
    assert said.samples_per_s_a == 100
    assert said.samples_per_s_b == pytest.approx(96.0789, abs=1e-4)
    assert (said.memory, said.memory_ratio) == ("same", 1.0)
    assert (found.a, found.b, found.run_id, found.exit_code) == ("old", "new", "20260101-120000-00aa", 1)


def test_only_candidates_that_did_not_fail_are_launched_again() -> None:
    broken = blocks(SUSPECT, pair="broken")
    broken[1] = broken[1].but(status="crashed")
    rows = [*blocks(STEADY, pair="same"), *blocks(SUSPECT, pair="slower"), *broken, *blocks(SUSPECT, role="control")]
    assert for_second_stage(rows) == ["slower"]


def test_a_case_could_have_found_what_its_own_blocks_find() -> None:
    """The more blocks a pair was to have, the smaller the change; the pair with the fewest blocks does not matter."""
    rows = [*blocks(STEADY, pair="few"), *blocks(STEADY, pair="many")]
    few, many = of(rows, asked={"few": Blocks(5, 5), "many": Blocks(5, 40)}).verdicts
    alone, none = of(rows, asked={"many": Blocks(5, 40)}).verdicts
    assert few.detectable is not None
    assert many.detectable is not None
    assert many.detectable < few.detectable
    assert (alone.detectable, none.detectable) == (few.detectable, many.detectable)


# -- what failed ---------------------------------------------------------------------------------------------------


def failing(side: str, status: str = "crashed", pair: str = "a", **known: Any) -> list[LaunchRow]:
    """Return two good blocks, and one that ends with a failed launch of a side."""
    rows = [
        *blocks([1.0, 1.0], pair=pair, **known),
        *block(2, [100, 100], "AB" if side == "B" else "BA", pair=pair, **known),
    ]
    rows[-1] = rows[-1].but(status=status, reason="rank 1: RuntimeError: no", samples_per_s=None)
    return rows


@pytest.mark.parametrize("status", ["crashed", "oom", "timeout", "invalid"])
def test_what_fails_in_b_alone_is_broken(status: str) -> None:
    found = of(failing("B", status))
    (said,) = found.verdicts
    assert (said.verdict, said.reason) == ("broken", f"B {status}: rank 1: RuntimeError: no")
    assert (said.ratio, said.samples_per_s_b, said.launches) == (None, 100, 9)
    assert (found.failed, found.exit_code) == (False, 1)


def test_what_fails_in_a_is_a_failed_launch_and_no_fault_of_b() -> None:
    found = of([*failing("A"), *blocks(STEADY, pair="b")])
    assert [said.verdict for said in found.verdicts] == ["inconclusive", "same"]
    assert found.verdicts[0].reason == "A crashed: rank 1: RuntimeError: no"
    assert (found.failed, found.exit_code) == (True, 5)


def test_what_fails_in_both() -> None:
    rows = failing("B")
    rows[-2] = rows[-2].but(status="oom", reason="rank 0: CUDA out of memory", samples_per_s=None)
    found = of(rows)
    assert found.verdicts[0].verdict == "inconclusive"
    assert found.verdicts[0].reason == "both failed; A oom: rank 0: CUDA out of memory"
    assert found.exit_code == 5


def test_a_failed_launch_of_the_control_pair_is_a_failed_launch() -> None:
    found = of([*blocks(STEADY), *failing("B", role="control")])
    assert found.control == Control("a", True, "only 2 of its blocks have a number", "has too few blocks")
    assert (found.failed, found.exit_code) == (True, 5)


def test_a_probe_is_no_launch_that_counts() -> None:
    """A duet first measures how much memory each side takes."""
    probes = [launch(role="probe", pair="a", side=side, block=None) for side in "AB"]
    assert of(probes).exit_code == 5
    found = of([probes[0].but(status="crashed"), *blocks(STEADY)])
    assert (found.exit_code, found.verdicts[0].launches) == (0, 20)


@pytest.mark.parametrize(
    ("alone", "verdict", "exit_code"),
    [("ok", "inconclusive", 5), ("oom", "broken", 1), ("interrupted", "broken", 1), (None, "broken", 1)],
)
def test_what_fails_only_beside_a_is_not_broken(alone: str | None, verdict: str, exit_code: int) -> None:
    """In a duet both sides share the machine: a B that runs by itself may just lack memory."""
    failed = {"status": "oom", "reason": "CUDA out of memory", "samples_per_s": None}
    duet = [
        launch(pair="b", side="B", role="probe", block=None),  # of its memory before the duet, where it was ok
        launch(pair="b", side="A", **{**failed, "status": "interrupted"}),
        launch(pair="b", side="B", **failed),
        *([launch(pair="b", side="B", role="probe", status=alone)] if alone else []),
    ]
    found = of([*blocks(STEADY), *blocks(STEADY, role="control"), *duet])
    of_b = {one.case: one for one in found.verdicts}["b"]
    assert (of_b.verdict, found.exit_code) == (verdict, exit_code)
    said = "B oom: CUDA out of memory"
    assert of_b.reason == (f"only beside A, and not alone, {said}; leave --duet out" if alone == "ok" else said)


def test_a_case_that_can_run_on_neither_side_is_no_failure_where_another_ran() -> None:
    skipped = {"status": "skipped", "reason": "needs 8 GPUs", "order": None, "block": None, "samples_per_s": None}
    rows = [launch(pair="s", case_id="s", side=side, launch_s=None, **skipped) for side in "AB"]
    found = of([*rows, *blocks(STEADY)])
    assert [said.verdict for said in found.verdicts] == ["inconclusive", "same"]
    assert found.exit_code == 0
    assert of([*rows, *blocks(STEADY)], Rules(strict=True)).exit_code == 3
    assert of(rows).exit_code == 5  # nothing could run
    assert of([*rows[1:], *blocks(STEADY)]).verdicts[0].verdict == "broken"  # A could run, B cannot


def test_a_run_that_was_stopped_says_what_it_knows() -> None:
    rows = blocks([1.0] * 5)
    rows[-1] = rows[-1].but(status="interrupted", samples_per_s=None)
    assert (one(rows).verdict, one(rows).blocks) == ("inconclusive", 4)
    assert of(rows).exit_code == 3


def test_no_launch_at_all() -> None:
    assert (of([]).verdicts, of([]).exit_code, of([]).run_id) == ((), 5, "")
    assert of([launch()]).verdicts == ()  # of `bench run`


def test_rows_that_are_damaged_are_no_launches() -> None:
    """A pair without a side, a side that is neither A nor B, a block without a number."""
    odd = [launch(pair="a", side=side, stage=1) for side in (None, "C")]
    found = of([*odd, *blocks(STEADY), launch(pair="a", side="A", stage=1, block=None, samples_per_s=None)])
    assert [(said.verdict, said.launches) for said in found.verdicts] == [("same", 20)]


def test_what_differs_between_the_sides_is_told() -> None:
    rows = [row.but(torch="2.11.0" if row.side == "A" else "2.12.0") for row in blocks(STEADY)]
    assert of(rows).differences == ("torch: 2.11.0 in A, 2.12.0 in B",)


# -- memory --------------------------------------------------------------------------------------------------------


def sides(a: list[float], b: list[float], **known: Any) -> tuple[list[LaunchRow], list[LaunchRow]]:
    return tuple([launch(peak_rss_mib=mib, **known) for mib in side] for side in (a, b))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("a", "b", "said", "ratio"),
    [
        ([100, 101, 102], [104, 105, 106], "more", 105 / 101),  # +3.96 %
        ([100, 101, 105], [104, 105, 106], "same", 105 / 101),  # the ranges overlap
        ([100, 101, 104], [104, 105, 106], "same", 105 / 101),  # they touch
        ([100], [102], "same", 1.02),  # the floor itself
        ([100] * 3, [102.1] * 3, "more", 1.021),
        ([100] * 2, [102.1] * 9, None, 1.021),  # too few launches
        ([104, 105, 106], [100, 101, 102], "less", 101 / 105),
        ([104, 105, 106], [100, 101, 104], "same", 101 / 105),
        ([100], [98], "same", 0.98),
        ([100] * 3, [97.9] * 3, "less", 0.979),
        ([100] * 3, [97.9], None, 0.979),
    ],
)
def test_memory(a: list[float], b: list[float], said: str | None, ratio: float) -> None:
    found = memory(*sides(a, b), RULES)
    assert (found["memory"], found["memory_ratio"]) == (said, pytest.approx(ratio, rel=1e-12))
    assert (found["memory_mib_a"], found["memory_mib_b"]) == (sorted(a)[len(a) // 2], sorted(b)[len(b) // 2])


def test_memory_by_a_floor_of_ones_own() -> None:
    assert memory(*sides([100], [105]), Rules(floor_memory=0.06))["memory"] == "same"
    assert memory(*sides([100] * 3, [101] * 3), Rules(floor_memory=0.005))["memory"] == "more"


def test_memory_is_of_the_first_measure_that_every_launch_knows() -> None:
    alone = {"foreign_processes": False, "device_used_mib": 1000.0, "peak_reserved_mib": 500.0}
    a, b = sides([100], [100], device="cuda", **alone)
    b = [b[0].but(device_used_mib=1100.0, peak_reserved_mib=450.0)]
    assert memory(a, b, RULES)["memory_ratio"] == pytest.approx(1.1)
    for others in ({"foreign_processes": True}, {"foreign_processes": None}, {"bursts": 8}):
        assert memory(a, [b[0].but(**others)], RULES)["memory_ratio"] == pytest.approx(0.9)  # of the process alone
    a = [a[0].but(device_used_mib=None)]
    assert memory(a, b, RULES)["memory_ratio"] == pytest.approx(0.9)
    assert memory(*sides([100], [200], device="cuda"), RULES) == {}  # host memory is not compared
    assert memory([], b, RULES) == memory(a, [], RULES) == {}
    assert memory(a, sides([100], [100])[0], RULES) == {}  # on a GPU, and on a CPU


def test_memory_of_launches_with_loaders_is_that_of_their_workers_as_well() -> None:
    a, b = sides([100] * 3, [100] * 3, num_workers=2)
    a, b = ([row.but(peak_host_mib=mib) for row in rows] for rows, mib in ((a, 500.0), (b, 900.0)))
    assert memory(a, b, RULES) == {
        "memory": "more",
        "memory_measure": "peak_host_mib",
        "memory_ratio": 1.8,
        "memory_mib_a": 500.0,
        "memory_mib_b": 900.0,
    }
    a, b = ([row.but(num_workers=None) for row in rows] for rows in (a, b))
    assert memory(a, b, RULES)["memory_ratio"] == 1.0
    b[0] = b[0].but(num_workers=2, peak_host_mib=None)
    assert memory(a, b, RULES)["memory_measure"] == "peak_rss_mib"


def test_more_memory_closes_the_gate_of_a_case_that_is_as_fast() -> None:
    rows = [row.but(peak_rss_mib=500.0 if row.side == "A" else 550.0) for row in blocks(STEADY)]
    assert (one(rows).verdict, one(rows).memory, of(rows).exit_code) == ("same", "more", 1)
    assert of(rows, Rules(floor_memory=0.2)).exit_code == 0


# -- the control pair ----------------------------------------------------------------------------------------------

FLAGGED = blocks(around(0.02, 0.001), role="control")  # t 24.5, p 0.0008; 2 %


def test_where_the_control_differs_from_itself_nothing_is_decided() -> None:
    rows = [
        *(*blocks(SUSPECT, pair="slower"), *blocks(CONFIRMED, first=5, stage=2, pair="slower")),
        *(*blocks(STEADY, pair="same"), *failing("B", pair="broken")),
    ]
    assert [said.verdict for said in of(rows).verdicts] == ["slower", "same", "broken"]
    found = of([*rows, *FLAGGED])
    assert [said.verdict for said in found.verdicts] == ["inconclusive", "inconclusive", "broken"]
    assert found.verdicts[0].reason.startswith("the control pair differs from itself; -3.9% (-4.9%…-2.9%) on 5 blocks")
    assert found.verdicts[0].ratio == pytest.approx(0.9607894, abs=1e-7)  # the numbers stay
    assert found.exit_code == 1  # a failure does not depend on noise
    assert of([*blocks(STEADY), *FLAGGED]).exit_code == 3
    assert of([*blocks(STEADY), *blocks(STEADY, role="control")]).exit_code == 0


def test_the_control_is_judged_by_the_blocks_of_both_stages() -> None:
    """Three blocks of each: too few alone. ln 0.98 = -0.0202 in all: no error."""
    three = [*blocks([0.98] * 3, role="control"), *blocks([0.98] * 3, first=3, stage=2, role="control")]
    found = of([*blocks(STEADY), *three]).control
    assert found is not None
    assert (found.case, found.flagged) == ("a", True)
    assert found.words == "a against itself: -2.0% (-2.0%…-2.0%) on 6 blocks; it should show no difference"


# -- over cases ----------------------------------------------------------------------------------------------------


def test_the_geometric_mean_over_cases() -> None:
    """Logs of 0.9, 1, 1 / 0.9: mean 0, s = 0.1053605; t(0.975, 2) = 4.30265273; x 0.1053605 / sqrt(3) = 0.2617294."""
    ratio, low, high = geometric_mean([Verdict(str(r), "same", "", ratio=r) for r in (0.9, None, 1.0, 1 / 0.9)])
    assert (ratio, low, high) == (
        *(pytest.approx(1.0), pytest.approx(math.exp(-0.2617294), abs=1e-6)),
        pytest.approx(math.exp(0.2617294), abs=1e-6),
    )
    assert geometric_mean([Verdict("a", "same", "", ratio=0.9)]) == (pytest.approx(0.9), None, None)
    assert geometric_mean([Verdict("a", "missing", "")]) == (None, None, None)


# -- one side only -------------------------------------------------------------------------------------------------


def lacking(side: str, statuses: str = "ok ok ok", **known: Any) -> list[LaunchRow]:
    """A case of which this side has no workload; the other has launches of 100, 110 and 120 samples/s."""
    other = {"A": "B", "B": "A"}[side]
    absent = launch(side=side, pair="n", order=None, status="skipped", reason=f"{NOT_THERE}: there is no n.py", **known)
    return [
        absent.but(samples_per_s=None, launch_s=None),
        *(
            launch(side=other, pair="n", stage=1, block=n, status=status, samples_per_s=100.0 + 10 * n, reason="why")
            for n, status in enumerate(statuses.split())
        ),
    ]


def test_a_case_that_a_lacks_is_new_with_the_figures_of_b() -> None:
    rows = [row.but(peak_rss_mib=500.0) if row.status == "ok" else row for row in lacking("A")]
    said = one(rows)
    assert (said.verdict, said.reason, said.how) == ("new", "A lacks it: there is no n.py", "")
    assert (said.samples_per_s_a, said.samples_per_s_b, said.launches, said.blocks) == (None, 110.0, 3, 0)
    assert (said.memory, said.memory_mib_a, said.memory_mib_b) == (None, None, 500.0)
    assert of(rows).exit_code == 0
    assert of(lacking("A", "interrupted")).verdicts[0].verdict == "new"


def test_a_case_that_b_lacks_is_missing_and_a_new_one_that_fails_is_broken() -> None:
    said = one(lacking("B"))
    assert (said.verdict, said.reason) == ("missing", "B lacks it: there is no n.py")
    assert (said.samples_per_s_a, said.samples_per_s_b) == (110.0, None)
    assert of(lacking("B")).exit_code == 3
    failed = of(lacking("A", "oom"))
    assert (failed.verdicts[0].verdict, failed.verdicts[0].reason) == (
        *("broken", "A lacks it: there is no n.py; B oom: why"),
    )
    assert (failed.failed, failed.exit_code) == (False, 1)
    assert of(lacking("B", "oom")).exit_code == 5  # A failed


def test_a_case_of_one_side_is_neither_flagged_nor_part_of_the_differences() -> None:
    """The control pair differs from itself, which says nothing of a case that is not compared."""
    flagged = blocks(around(-0.2, 0.001), role="control")
    rows = [*blocks(STEADY), *flagged, *lacking("A", torch="1.0")]
    found = of(rows)
    assert {said.case: said.verdict for said in found.verdicts} == {"a": "inconclusive", "n": "new"}
    assert (found.differences, found.exit_code) == ((), 3)


# -- exit codes ----------------------------------------------------------------------------------------------------

KINDS = ("faster", "slower", "same", "inconclusive", "incomparable", "missing", "new", "broken")
TWOS = [*((kind,) for kind in KINDS), *itertools.combinations(KINDS, 2)]


def expected(kinds: tuple[str, ...], strict: bool, flagged: bool, failed: bool) -> int:
    """Return the exit code by the table of the design: the strongest first."""
    if "incomparable" in kinds:
        return 4
    if failed:
        return 5
    if "slower" in kinds or "broken" in kinds or (strict and "missing" in kinds):
        return 1
    good = {"faster", "same"} & set(kinds) or set(kinds) == {"new"}
    return 3 if flagged or not good or (strict and "inconclusive" in kinds) else 0


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("flagged", [False, True])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kinds", TWOS, ids="-".join)
def test_the_exit_code_is_of_the_strongest(kinds: tuple[str, ...], strict: bool, flagged: bool, failed: bool) -> None:
    verdicts = tuple(Verdict(kind, kind, "") for kind in kinds)
    found = Gate(
        "A", "B", verdicts, Rules(strict=strict), Control("a", flagged, "", "differs from itself"), failed=failed
    )
    assert found.exit_code == expected(kinds, strict, flagged, failed)


@pytest.mark.parametrize(
    ("kinds", "strict", "code"),
    [
        (("same",), True, 0),
        (("same", "inconclusive"), False, 0),
        (("same", "inconclusive"), True, 3),
        (("inconclusive", "inconclusive"), False, 3),
        (("same", "missing", "new"), False, 0),
        (("same", "missing", "new"), True, 1),
        (("new", "new"), False, 0),  # there is nothing that could have become slower
        (("missing", "new"), False, 3),  # nothing was compared
        (("inconclusive", "new"), False, 3),
        (("slower", "incomparable"), False, 4),
        ((), False, 5),
    ],
)
def test_exit_codes_one_by_one(kinds: tuple[str, ...], strict: bool, code: int) -> None:
    assert Gate("A", "B", tuple(Verdict(kind, kind, "") for kind in kinds), Rules(strict=strict)).exit_code == code


def test_the_exit_code_with_more_memory() -> None:
    more = Verdict("m", "faster", "", memory="more")
    assert Gate("A", "B", (more,)).exit_code == 1
    assert Gate("A", "B", (more,), failed=True).exit_code == 5
    assert Gate("A", "B", (Verdict("l", "same", "", memory="less"),)).exit_code == 0


def test_the_worst_first_and_each_in_its_order() -> None:
    kinds = ("same", "inconclusive", "slower", "new", "broken", "missing", "slower", "incomparable", "faster", "broken")
    verdicts = [Verdict(f"{n}", kind, "") for n, kind in enumerate(kinds)]
    more = Verdict("more", "same", "", memory="more")
    assert [said.case for said in worst_first([*verdicts, more])] == [
        *("4", "9"),  # broken
        *("2", "6", "more"),  # slower, or with more memory
        *("7", "5", "1"),  # incomparable, missing, inconclusive
        *("0", "3", "8"),
    ]
