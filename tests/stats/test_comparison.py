"""Comparisons of two results: paired, unpaired, and not comparable; against numbers worked out by hand and scipy's."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

import in_process
import pytest
from in_process import Done
from made_up_rows import block, blocks, launch, session, write
from scipy import stats

from bench.stats.between_sessions import Change, Spread, judged
from bench.stats.comparison import _change, compare
from bench.stats.verdict import Gate, Rules, Verdict
from bench.store.columns import LAUNCHES, LaunchRow

RULES = Rules()
A, B, C, D = "20260101-000000-aaaa", "20260102-000000-bbbb", "20260103-000000-cccc", "20260104-000000-dddd"


def one(a: Iterable[LaunchRow], b: Iterable[LaunchRow], rules: Rules = RULES, **known: Any) -> Verdict:
    (verdict,) = compare(list(a), list(b), rules, **known).verdicts
    return verdict


def runs(prefix: str, rates: Iterable[float], **known: Any) -> list[LaunchRow]:
    """A run of one launch for each throughput."""
    return [launch(run_id=f"{prefix}{n}", samples_per_s=rate, **known) for n, rate in enumerate(rates)]


def everywhere(rows: Iterable[LaunchRow], spread: float) -> dict[str, Spread]:
    return {str(row.case_id): Spread(spread) for row in rows}


# -- paired --------------------------------------------------------------------------------------------------------


def test_paired_by_the_blocks_that_both_sides_share() -> None:
    """Blocks 1 to 5 are shared, while the machine gets slower by a third: log ratios -0.04 + (-2, -1, 0, 1, 2) x 0.003, of
    which the trimmed mean is -0.04 and the error 0.003 x sqrt(4 / 6): p 0.0018645 (test_decision.py), bounds
    -0.04 -+ 4.30265273 x 0.00244949 = -0.0505393, -0.0294607. Block 0 of A and 6 of B enter nothing."""
    drift = [100 * 0.93**n for n in range(7)]
    ratios = [math.exp(-0.04 + place * 0.003) for place in (1, -2, 0, 2, -1)]
    a = session(drift[:6])
    b = [row.but(block=n) for n, row in enumerate(session([drift[n] * ratios[n - 1] for n in range(1, 6)]), 1)]
    b.append(launch(block=6, samples_per_s=1000.0))
    said = one(a, b)
    assert (said.verdict, said.how, said.blocks, said.launches) == ("slower", "blocks", 5, 12)
    assert said.p == pytest.approx(0.0018645, abs=1e-7)
    assert said.ratio == pytest.approx(math.exp(-0.04), rel=1e-9)
    assert (said.low, said.high) == (
        *(pytest.approx(math.exp(-0.0505393), abs=1e-6), pytest.approx(math.exp(-0.0294607), abs=1e-6)),
    )
    assert said.reason.startswith("-3.9% (-4.9%…-2.9%) on 5 blocks; significant; ")


def test_several_launches_in_a_block_count_as_their_geometric_mean() -> None:
    """sqrt(81 x 100) = 90 against 100, in each of five blocks: no error at all."""
    a = session([100.0] * 5)
    b = [launch(block=n, turn=turn, samples_per_s=rate) for n in range(5) for turn, rate in enumerate((81.0, 100.0))]
    said = one(a, b)
    assert (said.ratio, said.verdict) == (pytest.approx(0.9), "slower")
    assert (said.low, said.high) == (pytest.approx(0.9), pytest.approx(0.9))


def test_blocks_of_other_runs_are_not_shared() -> None:
    assert one(session([100.0] * 5, run_id=A), session([90.0] * 5, run_id=B)).how == "unpaired"


def test_holm_over_paired_cases() -> None:
    """p 0.0018645 is below 0.005 / 2 and above 0.005 / 3."""
    slower = [100 * math.exp(-0.04 + place * 0.003) for place in (1, -2, 0, 2, -1)]
    for others, verdict in ((1, "slower"), (2, "inconclusive")):
        a = [row for seed in range(others + 1) for row in session([100.0] * 5, seed=seed)]
        steady = [100 * math.exp(place * 0.001) for place in (1, -2, 0, 2, -1)]
        b = [row for seed in range(others) for row in session(steady, seed=seed)]
        found = compare(a, [*b, *session(slower, seed=others)], RULES)
        assert [said.verdict for said in found.verdicts] == [*["same"] * others, verdict]


def test_few_shared_blocks_are_named() -> None:
    said = one(session([100.0] * 4), session([90.0] * 4))
    assert (said.verdict, said.how) == ("inconclusive", "unpaired")
    assert "4 blocks are shared, and 5 are enough (bench run --launches)" in said.reason


# -- unpaired ------------------------------------------------------------------------------------------------------


def test_one_session_a_side_is_undecided_and_says_below_what_spread_it_is_not() -> None:
    """Medians 100 and 95 (ln 0.95 = -0.0512933): the error of a difference of two sessions is sqrt(2) times their standard
    deviation, and z(0.995) = 2.5758293: 0.0512933 / 2.5758293 / 1.4142136 = 0.0140808."""
    a, b = session([90.0, 100.0, 101.0], run_id=A), session([95.0, 50.0, 96.0], run_id=B)
    said = one(a, b)
    assert (said.verdict, said.how, said.ratio) == ("inconclusive", "unpaired", pytest.approx(0.95))
    assert (said.low, said.high, said.p, said.blocks, said.launches) == (None, None, None, 0, 6)
    assert said.reason == (
        "unpaired, -5.0%: how far sessions differ is not known; it is slower if their standard deviation is below 1.40%; "
        "give --session-spread (bench calibrate shows it), or several runs a side (--by, --run)"
    )
    assert one(a, b, session_spread={"a": Spread(0.0140)}).verdict == "slower"
    assert one(a, b, session_spread={"a": Spread(0.0141)}).verdict == "inconclusive"


@pytest.mark.parametrize("cases", [1, 2, 20])
@pytest.mark.parametrize(("rate", "verb"), [(95.0, "slower"), (105.0, "faster"), (98.0, "slower")])
def test_the_spread_that_is_named_decides_every_case_of_a_suite(cases: int, rate: float, verb: str) -> None:
    """By Holm, the first of n is compared with 0.005 / n. The spread is rounded down, so that it is enough."""
    a = [row for seed in range(cases) for row in session([100.0], run_id=A, seed=seed)]
    b = [row for seed in range(cases) for row in session([rate], run_id=B, seed=seed)]
    (reason,) = {said.reason for said in compare(a, b, RULES).verdicts}
    found = re.search(rf"it is {verb} if their standard deviation is below ([0-9.]+)%", reason)
    assert found is not None
    named = float(found[1]) / 100
    exact = abs(math.log(rate / 100)) / NormalDist().inv_cdf(1 - 0.005 / cases) / math.sqrt(2)
    assert exact - 1e-4 < named <= exact
    assert {said.verdict for said in compare(a, b, RULES, session_spread=everywhere(a, named)).verdicts} == {verb}


def test_within_the_floor_no_spread_is_named() -> None:
    assert "standard deviation is below" not in one(runs("a", [100]), runs("b", [99.5])).reason


@pytest.mark.parametrize(
    ("rate", "spread", "verdict"),
    [
        (96.0, 0.01, "slower"),  # 0.0408220 / 0.0141421 = 2.8866: p 0.00195
        (97.0, 0.01, "inconclusive"),  # 0.0304592 / 0.0141421 = 2.1538: p 0.01563
        (104.2, 0.01, "faster"),  # 0.0411419 / 0.0141421 = 2.9092
        (99.5, 0.01, "same"),  # (0.0304592 - 0.0050125) / 0.0141421 = 1.7994 > 1.6449
        (99.2, 0.01, "inconclusive"),  # (0.0304592 - 0.0080322) / 0.0141421 = 1.5858
        (100.0, 0.013, "same"),  # 0.0304592 / 0.0183848 = 1.6568
        (100.0, 0.014, "inconclusive"),  # 0.0304592 / 0.0197990 = 1.5384
        (99.1, 0.001, "same"),  # significant (6.4), within the floor of 1 %, and far from 3 %
    ],
)
def test_a_session_spread_that_is_known(rate: float, spread: float, verdict: str) -> None:
    said = one(runs("a", [100.0]), runs("b", [rate]), session_spread={"a": Spread(spread)})
    error = spread * math.sqrt(2)
    expected = NormalDist().cdf(-abs(math.log(rate / 100)) / error)
    assert (said.verdict, said.p, said.blocks) == (verdict, pytest.approx(expected, rel=1e-9), 2)
    assert said.low == pytest.approx(rate / 100 * math.exp(-1.9599640 * error), rel=1e-7)
    assert said.high == pytest.approx(rate / 100 * math.exp(1.9599640 * error), rel=1e-7)
    assert f"by a session spread of {spread:.2%}" in said.reason
    # 2.5758293 + 1.6448536 errors are found 95 times of 100
    assert said.detectable == pytest.approx(1 - math.exp(-4.2206829 * error), rel=1e-4)


def test_a_spread_is_of_the_cases_it_is_given_for() -> None:
    a, b = runs("a", [100.0]), runs("b", [90.0])
    assert one(a, b, session_spread={"other": Spread(0.01)}).verdict == "inconclusive"
    assert one(a, runs("b", [90.0, 90.0]), session_spread={"a": Spread(0.01)}).p == pytest.approx(
        NormalDist().cdf(math.log(0.9) / 0.01 / math.sqrt(1.5)), rel=1e-6
    )


def test_several_sessions_by_welchs_statistic() -> None:
    """Against scipy.stats.ttest_ind(equal_var=False) on the logs, but with the degrees of freedom of the smaller side."""
    a, b = [100.0, 101.0, 99.0, 100.5, 100.2], [96.0, 95.0, 96.5, 95.5]
    said = one(runs("a", a), runs("b", b))
    logs = [[math.log(rate) for rate in side] for side in (b, a)]
    test = stats.ttest_ind(*logs, equal_var=False)
    change = fmean(logs[0]) - fmean(logs[1])
    half = stats.t.ppf(0.975, 3) * change / test.statistic
    assert said.p == pytest.approx(stats.t.cdf(test.statistic, 3), rel=1e-9)
    assert (said.low, said.high) == (pytest.approx(math.exp(change - half)), pytest.approx(math.exp(change + half)))
    assert (said.verdict, said.blocks, said.launches) == ("slower", 9, 9)
    assert "by 5 and 4 sessions; more than sessions differ by; a slowdown of" in said.reason
    said = one(runs("a", a), runs("b", [100.2, 99.9, 100.4, 100.1]))
    assert said.verdict == "same"
    said = one(runs("a", a), runs("b", [97.0, 101.0, 94.0, 98.0]))
    assert said.verdict == "inconclusive"
    assert "within what sessions differ by" in said.reason


def test_few_sessions_against_many_alarm_no_more_often_than_they_may() -> None:
    """At 0.5 %: of 2,000 comparisons of 2 sessions with 20, 10 are expected and 2.2 their deviation; Welch's own degrees
    of freedom give about 70."""
    draw = random.Random(1)
    p = [
        _change(*([[draw.gauss(0, 0.01)] for _ in range(count)] for count in (20, 2)), None).p_beyond(0.0)  # type: ignore[union-attr]
        for _ in range(1000)
    ]
    assert sum(one <= 0.005 for one in p) <= 10 + 4 * 3.2  # in either direction


def test_a_session_is_one_number_however_many_launches_it_has() -> None:
    """It is the median of each run; a resumed run is one session."""
    alone = one(runs("a", [100.0, 102.0]), runs("b", [90.0, 93.0]))
    a = [*session([100.0, 50.0, 101.0], run_id=A), *session([102.0] * 9, run_id=B)]
    b = [*session([90.0], run_id=C), *session([93.0, 94.0], run_id=D), launch(run_id=D, session=1, samples_per_s=92.0)]
    b[1:] = [row.but(block=n + 1) for n, row in enumerate(b[1:])]
    many = one(a, b)
    assert (many.p, many.low, many.high) == (alone.p, alone.low, alone.high)


def test_a_spread_that_was_measured_has_degrees_of_freedom_and_launches() -> None:
    """Sessions differ by 1 %, as four of them say, launches by 2 %. A is the median of 3 launches, B of 1: an error of
    sqrt(2 x 0.01² + 0.02² x (pi / 2 / 3 + 1)) = sqrt(0.0002 + 0.00060944) = 0.028451, with 3 degrees of freedom."""
    a, b = session([100.0] * 3, run_id=A), session([90.0], run_id=B)
    said = one(a, b, session_spread={"a": Spread(0.01, 3, 0.02)})
    assert said.p == pytest.approx(stats.t.cdf(math.log(0.9) / 0.028451, 3), rel=1e-4)


def test_sessions_that_do_not_differ_at_all() -> None:
    assert one(runs("a", [100.0, 100.0]), runs("b", [90.0, 90.0])).verdict == "slower"
    assert one(runs("a", [100.0, 100.0]), runs("b", [100.0, 100.0])).verdict == "same"


def test_holm_over_unpaired_cases() -> None:
    """2.8866 errors: p 0.00195, below 0.005 / 2 and above 0.005 / 3."""
    for others, verdict in ((1, "slower"), (2, "inconclusive")):
        a = [row for seed in range(others + 1) for row in runs("a", [100.0], seed=seed)]
        b = [*[row for seed in range(others) for row in runs("b", [100.0], seed=seed)], *runs("b", [96.0], seed=others)]
        found = compare(a, b, RULES, session_spread=everywhere(a, 0.01))
        assert found.verdicts[-1].verdict == verdict


def test_what_is_detectable_by_the_noncentral_t() -> None:
    """As scipy.stats.nct has it: at that slowdown 95 of 100 are beyond the critical value, if sessions differ by the upper
    bound of what they were seen to: with 3.7 degrees of freedom sqrt(3.7 / chi-squared(0.05)) as much."""
    change = Change(-0.01, 0.008, 3.7, 4, "")
    shift = -math.log1p(-change.detectable(0.005)) / (0.008 * math.sqrt(3.7 / stats.chi2.ppf(0.05, 3.7)))
    assert stats.nct.sf(stats.t.isf(0.005, 3.7), 3.7, shift) == pytest.approx(0.95, abs=1e-5)


def test_a_change_that_is_sure_and_too_near_to_the_floor() -> None:
    """-0.9 % with an error of 0.1 %: significant, below the floor, and not shown to be within 1 %."""
    (found,) = judged({"a": Change(math.log(0.991), 0.001, math.inf, 2, "")}, Rules(detect=0.0101)).values()
    assert found.verdict == "inconclusive"
    assert "a change, but not shown to be beyond the floor of 1.0%" in found.reason


# -- what is not compared ------------------------------------------------------------------------------------------

BAD = {"status": "crashed", "reason": "rank 1: RuntimeError: no", "samples_per_s": None}


def test_a_case_of_one_side() -> None:
    found = compare(
        [*runs("a", [100.0]), *runs("a", [50.0], seed=1)], [*runs("b", [100.0]), *runs("b", [60.0], seed=2)], RULES
    )
    assert [(said.verdict, said.ratio and round(said.ratio, 9)) for said in found.verdicts] == [
        *(("inconclusive", 1.0), ("missing", None), ("new", None)),
    ]
    assert [(said.case_a, said.case_b, said.how) for said in found.verdicts[1:]] == [
        ("a-seed=1", None, ""),
        (None, "a-seed=2", ""),
    ]
    assert [said.reason for said in found.verdicts[1:]] == ["B has no launch of it", "A has no launch of it"]
    assert (found.verdicts[1].samples_per_s_a, found.verdicts[2].samples_per_s_b) == (50.0, 60.0)
    assert found.failed is False


def test_nothing_in_common_is_no_good_comparison() -> None:
    assert compare(runs("a", [100.0]), runs("b", [100.0], seed=1), RULES).exit_code == 3


def test_other_work_is_not_compared() -> None:
    found = compare(runs("a", [100.0], work_key="f00"), runs("b", [50.0], work_key="ba4"), RULES)
    (said,) = found.verdicts
    assert (said.verdict, said.ratio, found.exit_code) == ("incomparable", None, 4)
    assert said.reason == "other data, or another way of measuring: work_key f00 in A, ba4 in B"


@pytest.mark.parametrize("good", [0, 1, 4])
def test_a_case_of_which_a_launch_failed_in_b_only_is_broken(good: int) -> None:
    b = [*session([100.0] * good, run_id=B), launch(run_id=B, block=9, **BAD)]
    found = compare(session([100.0] * 5, run_id=A), b, RULES)
    (said,) = found.verdicts
    assert (said.verdict, said.ratio, found.exit_code) == ("broken", None, 1)
    assert said.reason.endswith("crashed: rank 1: RuntimeError: no")
    if good:
        assert said.reason.startswith(f"1 of {good + 1} launches failed; ")


@pytest.mark.parametrize("status", ["interrupted", "skipped"])
def test_what_was_stopped_or_cannot_run_in_b_is_missing_and_not_broken(status: str) -> None:
    found = compare(session([100.0] * 5, run_id=A), [launch(run_id=B, **{**BAD, "status": status})], RULES)
    assert (found.verdicts[0].verdict, found.failed, found.exit_code) == ("missing", False, 3)
    assert found.verdicts[0].reason == f"B has no number for it; {status}: rank 1: RuntimeError: no"


def test_a_case_that_neither_side_can_run_is_no_failure_beside_others() -> None:
    skipped = {"status": "skipped", "reason": "needs 8 GPUs", "samples_per_s": None, "seed": 1}
    a, b = ([*session([rate] * 5, run_id=run), launch(run_id=run, **skipped)] for run, rate in ((A, 100.0), (B, 90.0)))
    assert compare(a, b, RULES, session_spread=everywhere(a, 0.01)).exit_code == 1
    assert compare(a[-1:], b[-1:], RULES).exit_code == 5


def test_launches_that_failed_in_both_leave_the_numbers_of_the_others() -> None:
    a, b = (
        [*session([rate] * 5, run_id=run), launch(run_id=run, block=9, **BAD)] for run, rate in ((A, 100.0), (B, 90.0))
    )
    assert one(a, b, session_spread={"a": Spread(0.01)}).verdict == "slower"
    assert one(a, b[:-1], session_spread={"a": Spread(0.01)}).verdict == "slower"


def test_a_launch_that_was_made_again_counts_once() -> None:
    """The run was resumed, and its second block was repeated."""
    b = [*session([100.0], run_id=B), launch(run_id=B, block=1, **BAD), launch(run_id=B, block=1, samples_per_s=100.0)]
    assert one(session([100.0], run_id=A), b, session_spread={"a": Spread(0.001)}).verdict == "same"
    assert one(session([100.0], run_id=A), b[:2]).verdict == "broken"


def test_what_failed_in_a_is_new_and_what_failed_in_both_is_a_failure() -> None:
    good, bad = runs("b", [100.0]), [launch(**BAD)]
    found = compare(bad, good, RULES)
    assert (found.verdicts[0].verdict, found.failed) == ("new", False)
    assert found.verdicts[0].reason == "A failed; crashed: rank 1: RuntimeError: no"
    found = compare(bad, bad, RULES)
    assert (found.verdicts[0].verdict, found.failed, found.exit_code) == ("inconclusive", True, 5)
    assert found.verdicts[0].reason == "both failed; crashed: rank 1: RuntimeError: no"
    found = compare([], bad, RULES)
    assert (found.verdicts[0].verdict, found.exit_code) == ("new", 5)
    assert found.verdicts[0].reason == "A has no launch of it; crashed: rank 1: RuntimeError: no"
    assert compare([], [], RULES).exit_code == 5


@pytest.mark.parametrize("rate", [None, 0.0, -1.0, math.nan, math.inf])
def test_a_launch_without_a_throughput_is_none(rate: float | None) -> None:
    """As in a file that was edited."""
    bad = launch(samples_per_s=rate)
    said = one(runs("a", [100.0]), [bad])
    assert (said.verdict, said.reason) == ("broken", "ok: no throughput")
    assert one([bad], [bad]).verdict == "inconclusive"


def test_only_measured_launches_are_compared() -> None:
    rows = [launch(role=role, samples_per_s=1.0) for role in ("probe", "control")]
    assert one([*runs("a", [100.0]), *rows], [*runs("b", [100.0]), *rows]).launches == 2


def test_cases_are_matched_by_their_axes_but_for_what_they_are_grouped_by() -> None:
    a, b = session([100.0] * 5, strategy="ddp", case_id="x"), session([90.0] * 5, strategy="fsdp", case_id="y")
    assert [said.verdict for said in compare(a, b, RULES).verdicts] == ["missing", "new"]
    (said,) = compare(a, b, RULES, by=["strategy"]).verdicts
    assert (said.verdict, said.case, said.case_a, said.case_b) == ("slower", "x", "x", "y")


def test_the_whole_of_a_gate() -> None:
    """The geometric mean of 0.9 and 1 / 0.9 is 1; what differs and what is unpaired is told."""
    a = [*runs("a", [90.0], torch="2.11.0"), *runs("a", [100.0], seed=1, torch="2.11.0")]
    b = [*runs("b", [100.0], torch="2.12.0"), *runs("b", [90.0], seed=1, torch="2.12.0")]
    found = compare(a, b, RULES, ("left", "right"))
    assert (found.a, found.b, found.ratio) == ("left", "right", pytest.approx(1.0))
    assert found.differences == ("torch: 2.11.0 in A, 2.12.0 in B",)
    assert [note[:40] for note in found.notes] == ["unpaired: the sides were not measured in"]
    assert compare(session([100.0] * 5), session([100.0] * 5), RULES).notes == ()


# -- the command ---------------------------------------------------------------------------------------------------


def bench(cwd: Path, *words: str) -> Done:
    return in_process.bench(cwd, "compare", *words)


def run(cwd: Path, run_id: str, rows: Iterable[LaunchRow]) -> Path:
    return write(cwd / "results" / "runs" / run_id, [row.but(run_id=run_id) for row in rows])


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A: 100 and, of another batch size, 50; B: 95 and 45."""
    for run_id, rates in ((A, (100.0, 50.0)), (B, (95.0, 45.0))):
        run(
            tmp_path,
            run_id,
            [launch(batch_size=size, samples_per_s=rate) for size, rate in zip((32, 64), rates, strict=True)],
        )
    return tmp_path


def ratios(done: Done) -> list[float]:
    return [round(one["ratio"], 6) for one in done.told["verdicts"]]


def test_two_runs_by_id_folder_and_file(two: Path) -> None:
    """-ln 0.95 and -ln 0.9 by 2 % x sqrt(2) = 0.0282843: 1.81 and 3.73 errors, p 0.035 and 0.0001."""
    (two / "b.csv").write_bytes((two / "results" / "runs" / B / "launches.csv").read_bytes())
    for b in (B, "latest", f"results/runs/{B}", f"results/runs/{B}/launches.csv", "b.csv"):
        done = bench(two, A, b, "--session-spread", "2%", "--json")
        assert (done.code, ratios(done)) == (1, [0.95, 0.9]), done.err
        assert [one["verdict"] for one in done.told["verdicts"]] == ["inconclusive", "slower"]


def test_one_session_a_side_decides_nothing(two: Path) -> None:
    done = bench(two, A, B)
    assert done.code == 3
    assert "unpaired" in done.out


def test_where_chooses_launches(two: Path) -> None:
    for column in ("batch_size=64", "batch-size=64"):
        assert ratios(bench(two, A, B, "--where", column, "--json")) == [0.9]
    assert ratios(bench(two, A, B, "--where", "batch_size=64", "--where", "strategy=ddp", "--json")) == [0.9]
    assert bench(two, A, B, "--where", "batch_size=64", "--where", "batch_size=32") == (
        *(5, ""),
        f"bench: {A}: there is no measured launch that fits --where batch_size=64 --where batch_size=32. "
        "See bench results show, or name another run.\n",
    )


def test_groups_of_one_run_by_a_column_are_paired(tmp_path: Path) -> None:
    """Five rounds of batch sizes 32 and 64, with 100 and 200, and the same work: exactly 2."""
    rows = [launch(batch_size=size, block=n, samples_per_s=3.125 * size) for n in range(5) for size in (32, 64)]
    run(tmp_path, A, rows)
    for column in ("batch_size", "batch-size"):
        done = bench(tmp_path, "32", "64", "--by", column, "--json")
        assert (done.code, ratios(done)) == (0, [2.0]), done.err
        assert (done.told["a"], done.told["b"]) == ("batch_size=32", "batch_size=64")
        assert done.told["verdicts"][0]["how"] == "blocks"


def test_groups_of_several_runs_are_compared_by_their_sessions(tmp_path: Path) -> None:
    """Welch's statistic of 2 and 2 sessions, with one degree of freedom."""
    for run_id, host, rate in ((A, "x", 100.0), (B, "x", 101.0), (C, "y", 80.0), (D, "y", 81.0)):
        run(tmp_path, run_id, [launch(hostname=host, samples_per_s=rate)])
    words = [word for run_id in (A, B, C, D, A) for word in ("--run", run_id)]
    done = bench(tmp_path, "x", "y", "--by", "hostname", *words, "--json")
    (said,) = done.told["verdicts"]
    logs = [[math.log(rate) for rate in side] for side in ((80.0, 81.0), (100.0, 101.0))]
    assert said["p"] == pytest.approx(stats.t.cdf(stats.ttest_ind(*logs, equal_var=False).statistic, 1), rel=1e-6)
    assert said["launches"] == 4
    assert done.told["differences"] == ["hostname: x in A, y in B"]


def ab(cwd: Path, plan: object = None) -> None:
    """A run of `bench ab` in one stage: both cases the same; the control, of another batch size, as well."""
    ratios = [math.exp(place * 0.001) for place in (1, -2, 0, 2, -1)]
    rows = [
        *(*blocks(ratios, pair="a", batch_size=32), *blocks(ratios, pair="b", batch_size=64)),
        *blocks(ratios, role="control", batch_size=32),
    ]
    run(cwd, A, rows)
    if plan is not None:
        (cwd / "results" / "runs" / A / "plan.json").write_text(json.dumps(plan))


def test_a_run_of_ab_alone(tmp_path: Path) -> None:
    """The first has the blocks of its plan, and a second stage could have had ten; the second was stopped early."""
    ab(tmp_path, {"sides": {"A": {"words": "main"}, "B": {"words": "mine"}}, "blocks": {"a": [5, 10], "b": [20, 40]}})
    done = bench(tmp_path, A, "--json")
    assert (done.code, done.told["a"], done.told["b"]) == (0, "main", "mine")
    assert [one["verdict"] for one in done.told["verdicts"]] == ["same", "same"]
    first, second = (one["detectable"] for one in done.told["verdicts"])
    assert second > first
    done = bench(tmp_path, A, "--where", "batch_size=64", "--json")
    assert [one["case"] for one in done.told["verdicts"]] == ["b"]
    assert done.told["control"]["flagged"] is False  # it is of the machine


@pytest.mark.parametrize(
    "plan", [None, [], {"sides": 1, "blocks": 1}, {"sides": {"A": "x"}, "blocks": {"a": "55", "b": [5], "c": ["5", 5]}}]
)
def test_a_run_of_ab_without_a_plan_that_can_be_read(tmp_path: Path, plan: object) -> None:
    ab(tmp_path, plan)
    done = bench(tmp_path, A, "--json")
    assert (done.code, done.told["a"], done.told["b"]) == (0, "A", "B")


def test_a_side_of_a_run_of_ab_against_another_run(tmp_path: Path) -> None:
    """Its two sides are never combined."""
    run(tmp_path, A, [row for n in range(5) for row in block(n, [100.0, 90.0, 90.0, 100.0])])
    run(tmp_path, B, session([90.0] * 5))
    done = bench(tmp_path, A, B)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"bench: {A} is a run of bench ab, which has two sides. Compare it alone, or with --where side=A, "
        "or A with B --by side.\n"
    )
    assert bench(tmp_path, A, B, "--where", "side=A").code == 5  # B has no such launch
    assert ratios(bench(tmp_path, "A", "B", "--by", "side", "--run", A, "--json")) == [0.9]


ALLOWED = "as workload, strategy,"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([A, B, "--where", "batch_size"], 2, "--where: got 'batch_size'; allowed: COLUMN=VALUE."),
        ([A, B, "--where", "batchsize=1"], 2, "--where: got 'batchsize'; allowed: a column of launches.csv"),
        (["x", "y", "--by", "hostnam"], 2, "--by: got 'hostnam'; allowed: a column of launches.csv"),
        (
            ["here", "ther", "--by", "hostname"],
            2,
            "--by hostname: got 'ther'; allowed: here. Did you mean 'here'?",
        ),
        ([A, B, "--run", A], 2, "--run has no effect without --by COLUMN"),
        (
            [A, B, "--session-spread", "much"],
            2,
            "--session-spread: got 'much'; allowed: a share above 0 and below 100%",
        ),
        ([A, B, "--floor", "5%"], 2, "--detect: got '3%'; allowed: a share above --floor, which is 5.00%."),
        ([A], 2, f"A: got '{A}'; allowed: a run of bench ab, where B is not given. Give B as well."),
        ([A, "--by", "hostname"], 2, "--by needs two arguments, A and B. Give B as well."),
        ([A, "--session-spread", "1%"], 2, "--session-spread needs two arguments, A and B. Give B as well."),
        ([A, "nowhere"], 5, "run: got 'nowhere'; allowed: a run's id"),
        ([A, "x" * 5000], 5, "run: got 'xxx"),
        ([A, "notes.txt"], 5, "notes.txt, line 1: got 'hello'; allowed: a header with columns of launches.csv"),
        ([A, "damaged.csv"], 5, "damaged.csv, line 2, column samples_per_s: got 'fast'; allowed: a number"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(two: Path, words: list[str], code: int, said: str) -> None:
    (two / "notes.txt").write_text("hello\n")
    (two / "damaged.csv").write_text("run_id,role,samples_per_s\nr,measure,fast\n")
    done = bench(two, *words)
    assert (done.code, done.out) == (code, "")
    assert f"bench: {said}" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("lacking", ["settings", "stage", "session", "work_key", "samples_per_s", "block", "command"])
def test_a_file_that_lacks_a_column_is_an_older_ones(two: Path, lacking: str) -> None:
    rows = [launch(run_id=C, samples_per_s=100.0), launch(run_id=C, samples_per_s=100.0, block=1)]
    write(two, rows, [name for name in LAUNCHES if name != lacking], "old.csv")
    assert bench(two, "old.csv", "old.csv").code in ((5,) if lacking == "samples_per_s" else (0, 3))
    assert bench(two, A, "old.csv").code in ((4,) if lacking == "work_key" else (1, 3))
    assert bench(two, "old.csv").code == 2


def test_settings_that_are_no_json_are_told(two: Path) -> None:
    write(two, [launch(settings="{oops")], name="odd.csv")
    done = bench(two, A, "odd.csv")
    assert (done.code, done.out) == (5, "")
    assert "column settings: got '{oops'; allowed: a JSON object. Restore the file from a copy." in done.err


def test_compare_of_the_same_run_is_the_same(tmp_path: Path) -> None:
    run(tmp_path, A, session([100.0, 90.0, 110.0, 95.0, 105.0]))
    done = bench(tmp_path, A, A, "--json")
    assert (done.code, ratios(done)) == (0, [1.0])


def test_exits_are_of_the_gate(two: Path) -> None:
    assert isinstance(compare([], [], RULES), Gate)
    run(two, C, [launch(batch_size=32, work_key="other"), launch(batch_size=64)])
    assert bench(two, A, C).code == 4
    run(two, D, [launch(batch_size=32), launch(batch_size=64, **BAD)])
    assert bench(two, A, D).code == 1


@pytest.mark.launch
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_reader_that_has_gone_costs_neither_files_nor_the_exit_code(tmp_path: Path, words: tuple[str, ...]) -> None:
    """As `bench compare … | head -0`."""
    run(tmp_path, A, [launch(batch_size=size, block=n) for n in range(5) for size in (32, 64)])
    read, write = os.pipe()
    os.close(read)
    command = ["compare", "32", "64", "--by", "batch_size", "--junit", "gate.xml", *words]
    done = subprocess.run([sys.executable, "-m", "bench", *command], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"wrote gate.xml\n")
    assert (tmp_path / "gate.xml").read_text().startswith("<?xml")


def test_where_nothing_can_be_compared_an_unwritable_file_does_not_hide_it(tmp_path: Path) -> None:
    """Exit code 4 is stronger than 5."""
    run(tmp_path, A, [launch(samples_per_s=100.0, work_key="one")])
    run(tmp_path, B, [launch(samples_per_s=100.0, work_key="other")])
    (tmp_path / "file").write_text("")
    done = bench(tmp_path, A, B, "--junit", "file/gate.xml")
    assert done.code == 4
    assert "warning: cannot write file/gate.xml" in done.err
