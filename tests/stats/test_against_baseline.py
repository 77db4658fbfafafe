"""Prediction intervals of a baseline against numbers worked out by hand, scipy's t and simulation."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from made_up_rows import launch, session
from scipy import stats

from bench.stats.against_baseline import against, candidates, judged, of_sessions
from bench.stats.verdict import Control, Gate, Rules, Verdict
from bench.store.columns import LaunchRow

RULES = Rules()
FIVE = [-0.02, -0.01, 0.0, 0.01, 0.02]  # m 0, s sqrt(0.001 / 4) = 0.0158114, x sqrt(1 + 1/5) = 0.0173205
WIDER = math.sqrt(4 / 0.7107230)  # chi-squared with 4 degrees of freedom is below that in 5 of 100


def found(sessions: Sequence[float], now: float, rules: Rules = RULES) -> Any:
    return judged({"a": sessions}, {"a": now}, rules)["a"]


def logs(rates: Sequence[float]) -> list[float]:
    return [math.log(rate) for rate in rates]


# -- the interval --------------------------------------------------------------------------------------------------


def test_the_prediction_interval_worked_out() -> None:
    """The error of one more session is 0.0158114 x sqrt(6 / 5) = 0.0173205. Now -0.1: t -5.7735 with 4 degrees of freedom,
    of which scipy has the p value. Bounds -0.1 -+ 2.7764451 x 0.0173205 = 0.0480895:
    exp(-0.1480895) = 0.862354, exp(-0.0519105) = 0.949414."""
    said = found(FIVE, -0.1)
    assert (said.verdict, said.blocks) == ("slower", 5)
    assert said.ratio == pytest.approx(0.9048374, abs=1e-7)
    assert (said.low, said.high) == (pytest.approx(0.862354, abs=1e-6), pytest.approx(0.949414, abs=1e-6))
    assert said.p == pytest.approx(stats.t.sf(0.1 / 0.0173205081, 4), rel=1e-7)
    assert said.reason.startswith(
        "-9.5% (-13.8%…-5.1%) against 5 sessions; more than sessions differ by; a slowdown of "
    )


def test_four_degrees_of_freedom_by_their_closed_form() -> None:
    """P(T > t) = 1/2 - (3/4) (x - x³/3) with x = t / sqrt(4 + t²)."""
    t = 0.1 / (math.sqrt(0.001 / 4) * math.sqrt(1.2))
    x = t / math.sqrt(4 + t**2)
    assert found(FIVE, 0.1).p == pytest.approx(0.5 - 0.75 * (x - x**3 / 3), rel=1e-9)


def test_the_published_example() -> None:
    """Hahn & Meeker 1991, chapter 4: of the output voltages 50.3, 48.3, 49.6, 50.4 and 51.9 (mean 50.10, s 1.31) one more is
    within 50.10 -+ 3.04 x 1.31 = [46.1, 54.1] with 95 %. The bounds of a change are as far from it, as logs."""
    said = found([50.3, 48.3, 49.6, 50.4, 51.9], 50.10)
    assert (50.10 + math.log(said.low), 50.10 + math.log(said.high)) == (
        *(pytest.approx(46.1, abs=0.05), pytest.approx(54.1, abs=0.05)),
    )


def test_the_interval_is_that_of_a_regression_on_a_constant() -> None:
    """An independent method: statsmodels' prediction interval for one more observation of an intercept alone."""
    sessions, now = logs([51.4, 49.5, 48.7, 49.3, 51.6]), math.log(49.0)
    fit = sm.OLS(np.array(sessions), np.ones(5)).fit()
    low, high = fit.get_prediction(np.ones((1, 1))).conf_int(obs=True, alpha=0.05)[0]
    said = found(sessions, now)
    assert (now - math.log(said.high), now - math.log(said.low)) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("count", [5, 8])
def test_95_of_100_new_sessions_lie_within(count: int) -> None:
    """Of 2000, 1900 are expected with a deviation of 9.7; the interval around the change contains 0 as often."""
    draw, held = random.Random(count), 0
    for _ in range(2000):
        *sessions, now = (draw.gauss(4.6, 0.02) for _ in range(count + 1))
        said = found(sessions, now)
        held += said.low <= 1 <= said.high
    assert abs(held - 1900) < 4 * 9.7


def test_a_new_session_of_an_unchanged_machine_is_seldom_slower_or_faster() -> None:
    """One-sided 0.005 in either direction: 20 of 2000 with a deviation of 4.4."""
    draw, changed = random.Random(1), 0
    for _ in range(2000):
        *sessions, now = (draw.gauss(4.6, 0.05) for _ in range(6))
        changed += found(sessions, now).verdict in ("slower", "faster")
    assert 20 - 4 * 4.4 < changed < 20 + 4 * 4.4


def test_what_could_be_detected_is_found_95_times_of_100() -> None:
    """Of 1000 sessions that are slower by as much as the spread that is true lets one detect: 950, with a deviation of
    6.9. By scipy's noncentral t: 7.5209 errors, where 4.6041 are the critical value."""
    draw, hits = random.Random(2), 0
    assert stats.nct.sf(stats.t.isf(0.005, 4), 4, 7.520863) == pytest.approx(0.95, abs=1e-6)
    shift = 7.520863 * 0.01 * math.sqrt(1.2)
    for _ in range(1000):
        *sessions, now = (draw.gauss(4.6, 0.01) for _ in range(6))
        hits += found(sessions, now - shift).verdict == "slower"
    assert abs(hits - 950) < 4 * 6.9
    assert found(FIVE, 0.0).detectable == pytest.approx(1 - math.exp(-7.520863 * 0.0173205081 * WIDER), rel=1e-6)


# -- verdicts ------------------------------------------------------------------------------------------------------

NARROW = [place * 0.1 for place in FIVE]  # error 0.00173205


@pytest.mark.parametrize(
    ("sessions", "now", "rules", "verdict", "why"),
    [
        (FIVE, -0.0798, RULES, "slower", "more than sessions differ by"),  # 4.6073 errors > 4.6041
        (FIVE, -0.0797, RULES, "inconclusive", "within what sessions differ by"),  # 4.6015
        (FIVE, 0.0798, RULES, "faster", "more than sessions differ by"),
        (NARROW, -0.0102, RULES, "slower", "more than"),  # 5.9 errors; exp(-0.0102) = -1.01 %
        (NARROW, -0.0099, RULES, "same", "no change of 3.0% or more"),  # -0.99 %: within the floor
        (
            NARROW,
            -0.0267,
            Rules(floor=0.028),
            "same",
            "no change",
        ),  # (0.0304592 - 0.0267) / 0.00173205 = 2.170 > 2.1318
        (NARROW, -0.0268, Rules(floor=0.028), "inconclusive", "not shown to be beyond the floor of 2.8%"),  # 2.113
        (NARROW, 0.0, RULES, "same", "no change of 3.0% or more"),
        (FIVE, 0.0, RULES, "inconclusive", "within what sessions differ by"),  # 0.0304592 / 0.0173205 = 1.7586
        ([0.0] * 5, 0.0, RULES, "same", "no change"),
        ([0.0] * 5, -0.02, RULES, "slower", "more than"),
        ([0.0] * 5, -0.005, RULES, "same", "no change"),
    ],
)
def test_verdicts(sessions: list[float], now: float, rules: Rules, verdict: str, why: str) -> None:
    said = found(sessions, now, rules)
    assert said.verdict == verdict
    assert why in said.reason


def test_four_sessions_are_too_few() -> None:
    """-1 against a mean of -0.005, with s = sqrt((1.5^2 + 0.5^2 + 0.5^2 + 1.5^2) / 3) = 1.290994 hundredths and an error
    of sqrt(1.25) times that: 0.0144338. t is 3.1824463 at 97.5 % with 3 degrees of freedom: -0.995 -+ 0.0459347."""
    said = found(FIVE[:4], -1.0)
    assert (said.verdict, said.p, said.detectable, said.blocks) == ("inconclusive", None, None, 4)
    assert said.ratio == pytest.approx(math.exp(-0.995), rel=1e-12)
    assert (said.low, said.high) == (
        pytest.approx(math.exp(-1.0409347), abs=1e-6),
        pytest.approx(math.exp(-0.9490653), abs=1e-6),
    )
    assert said.reason == "-63.0% (-64.7%…-61.3%); 4 of 5 sessions"


def test_two_sessions_have_an_interval_and_one_has_none() -> None:
    """Of 0 and 0.02: s is 0.02 / sqrt(2), the error sqrt(1.5) times that, 0.0173205. With one degree of freedom t is the
    tangent: tan(0.475 pi) = 12.7062047, so that 0 - 0.01 has the bounds -0.01 -+ 0.2200779."""
    two, one = found([0.0, 0.02], 0.0), found([0.02], 0.0)
    assert (math.log(two.low), math.log(two.high)) == (
        pytest.approx(-0.01 - math.tan(0.475 * math.pi) * 0.0173205081, abs=1e-8),
        pytest.approx(-0.01 + math.tan(0.475 * math.pi) * 0.0173205081, abs=1e-8),
    )
    assert two.reason == "-1.0% (-20.6%…+23.4%); 2 of 5 sessions"
    assert (one.verdict, one.low, one.high, one.blocks, one.reason) == (
        *("inconclusive", None, None),
        *(1, "1 of 5 sessions"),
    )
    assert one.ratio == pytest.approx(math.exp(-0.02))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_95_of_100_new_sessions_lie_within_where_nothing_is_decided(count: int) -> None:
    draw, held = random.Random(count), 0
    for _ in range(2000):
        *sessions, now = (draw.gauss(4.6, 0.02) for _ in range(count + 1))
        said = found(sessions, now)
        held += said.low <= 1 <= said.high
        assert said.verdict == "inconclusive"
    assert abs(held - 1900) < 4 * 9.7


def test_holm_over_the_cases() -> None:
    """t 5.7735: p 0.00223 is below 0.005 / 2 and above 0.005 / 3. What one could detect falls as well."""
    for others, verdict in ((1, "slower"), (2, "inconclusive")):
        said = judged({n: FIVE for n in range(others + 1)}, {0: -0.1, **{n: 0.0 for n in range(1, others + 1)}}, RULES)
        assert said[0].verdict == verdict
        assert said[0].detectable is not None
        shift = -math.log1p(-said[0].detectable) / (0.0173205081 * WIDER)
        assert stats.nct.sf(stats.t.isf(0.005 / (others + 1), 4), 4, shift) == pytest.approx(0.95, abs=1e-5)


def test_candidates_at_the_loose_level() -> None:
    """t(0.95, 4) = 2.1318: x 0.0173205 = 0.0369243."""
    now = {"slower": -0.0370, "faster": 0.0370, "inside": -0.0369, "unknown": -1.0}
    assert candidates(dict.fromkeys(("slower", "faster", "inside", "gone"), FIVE), now) == ["slower", "faster"]


def test_a_session_is_the_median_of_its_launches() -> None:
    rows = [
        *session([100.0, 1.0, 101.0], run_id="r"),
        *session([90.0, 92.0], run_id="s"),
        *(
            launch(run_id="r", role="control"),
            launch(run_id="r", status="crashed"),
            launch(run_id="t", samples_per_s=None),
        ),
        launch(run_id="r", case_id="b", samples_per_s=7.0),
    ]
    assert of_sessions(rows) == {
        "a": [pytest.approx(math.log(100)), pytest.approx(math.log(90 * 92) / 2)],
        "b": [pytest.approx(math.log(7))],
    }


# -- a run against a baseline --------------------------------------------------------------------------------------


def base(rates: Sequence[float] = (98.0, 99.0, 100.0, 101.0, 102.0), **known: Any) -> list[LaunchRow]:
    return [row for n, rate in enumerate(rates) for row in session([rate] * 3, run_id=f"r{n}", **known)]


def of(rows: Sequence[LaunchRow], before: Sequence[LaunchRow] | None = None, checked: Control | None = None) -> Gate:
    return against(base() if before is None else before, rows, RULES, "main", checked)


def one(rows: Sequence[LaunchRow], before: Sequence[LaunchRow] | None = None) -> Verdict:
    (said,) = of(rows, before).verdicts
    return said


def now(rates: Sequence[float], **known: Any) -> list[LaunchRow]:
    return session(rates, run_id="now", **known)


def later(rows: Sequence[LaunchRow]) -> list[LaunchRow]:
    """Return the same launches, three blocks later."""
    return [row.but(block=block) for block, row in enumerate(rows, 3)]


def test_the_whole_of_a_verdict() -> None:
    before = logs([98.0, 99.0, 100.0, 101.0, 102.0])
    error = stdev(before) * math.sqrt(1.2)
    gate = of(now([90.0, 80.0, 91.0], stage=1, workload="gpt-nano", case_id="a"))
    (said,) = gate.verdicts
    assert (said.verdict, said.how, said.blocks, said.launches, said.seconds) == ("slower", "sessions", 5, 3, 30.0)
    assert (said.samples_per_s_a, said.samples_per_s_b, said.workload) == (100, 90, "gpt-nano")
    assert said.p == pytest.approx(stats.t.sf((fmean(before) - math.log(90)) / error, 4), rel=1e-9)
    assert (gate.a, gate.b, gate.run_id, gate.exit_code) == ("baseline main", "now", "now", 1)
    assert gate.ratio == pytest.approx(90 / math.exp(fmean(before)))


def test_the_second_stage_decides_alone() -> None:
    """The first stage was slower by a tenth, as with another process on the machine; and the other way round."""
    assert one([*now([90.0] * 3, stage=1), *later(now([100.0] * 3, stage=2))]).ratio == (
        pytest.approx(100 / math.exp(fmean(logs([98.0, 99.0, 100.0, 101.0, 102.0]))))
    )
    assert one([*now([100.0] * 3, stage=1), *later(now([90.0] * 3, stage=2))]).verdict == "slower"


def test_only_of_cases_that_were_launched_again() -> None:
    before = [*base(), *base(case_id="b")]
    rows = [*now([90.0] * 3, stage=1), *now([100.0] * 3, stage=2), *now([90.0] * 3, stage=1, case_id="b")]
    assert [said.verdict for said in of(rows, before).verdicts] == ["inconclusive", "slower"]


def test_a_flagged_control_leaves_all_undecided() -> None:
    gate = of(now([90.0] * 3), checked=Control("a", True, "it differs", "differs from itself"))
    assert gate.verdicts[0].verdict == "inconclusive"
    assert gate.verdicts[0].reason.startswith("the control pair differs from itself; -10.0%")
    assert gate.exit_code == 3
    assert of(now([90.0] * 3), checked=Control("a", False, "it does not")).exit_code == 1


NARROW = (99.8, 99.9, 100.0, 100.1, 100.2)
BAD = {"status": "crashed", "reason": "rank 1: RuntimeError: no", "samples_per_s": None}


def test_a_case_that_fails_now_is_broken() -> None:
    for good in (0, 2):
        gate = of([*now([100.0] * good), launch(run_id="now", block=5, **BAD)])
        assert (gate.verdicts[0].verdict, gate.exit_code) == ("broken", 1)
        assert gate.verdicts[0].reason == "crashed: rank 1: RuntimeError: no"


def test_a_case_that_fails_now_as_it_did_before_is_judged_by_its_other_launches() -> None:
    before = [*base(NARROW), launch(run_id="r0", block=9, **BAD)]
    gate = of([*now([100.0] * 3), launch(run_id="now", block=5, **BAD)], before)
    assert (gate.verdicts[0].verdict, gate.exit_code) == ("same", 5)
    gate = of([launch(run_id="now", block=5, **BAD)], before)
    assert gate.verdicts[0].reason == "both failed; crashed: rank 1: RuntimeError: no"
    assert (gate.verdicts[0].verdict, gate.exit_code) == ("inconclusive", 5)


def test_a_case_that_cannot_run_here_is_missing_and_if_it_is_the_only_one_nothing_ran() -> None:
    skipped = launch(run_id="now", case_id="b", **{**BAD, "status": "skipped", "reason": "needs 8 GPUs"})
    gate = of([*now([100.0] * 3), skipped], [*base(NARROW), *base(case_id="b")])
    assert (gate.verdicts[1].verdict, gate.verdicts[1].reason, gate.exit_code) == (
        *("missing", "the run has no launch of it; skipped: needs 8 GPUs", 0),
    )
    gate = of([skipped], base(case_id="b"))
    assert (gate.verdicts[0].verdict, gate.exit_code) == ("missing", 5)


@pytest.mark.parametrize(("count", "verdict"), [(1, "inconclusive"), (2, "inconclusive"), (3, "slower")])
def test_a_run_with_fewer_launches_than_the_sessions_had_is_not_judged(count: int, verdict: str) -> None:
    """The sessions have three: the median of fewer is noisier than their spread shows."""
    said = one(now([50.0] * count))
    assert said.verdict == verdict
    if count < 3:
        assert said.reason == f"{count} launch{'es' * (count > 1)} of it; sessions of the baseline have 3"


def test_a_launch_that_was_made_again_is_no_failure() -> None:
    assert one([launch(run_id="now", **BAD), *now([100.0])]).verdict == "inconclusive"
    assert one([*now([100.0]), launch(run_id="now", **BAD)]).verdict == "broken"


def test_cases_of_one_side() -> None:
    before = [*base(), *base(case_id="b")]
    gate = of([*now([100.0]), *now([100.0], case_id="c")], before)
    assert [(said.case, said.verdict, said.reason) for said in gate.verdicts[1:]] == [
        ("b", "missing", "the run has no launch of it"),
        ("c", "new", "the baseline has no launch of it"),
    ]


def test_a_new_case_that_fails_is_a_failed_launch() -> None:
    gate = of([*now([100.0]), launch(run_id="now", case_id="c", **BAD)])
    assert (gate.verdicts[1].verdict, gate.exit_code) == ("new", 5)
    assert gate.verdicts[1].reason == "the baseline has no launch of it; crashed: rank 1: RuntimeError: no"


def test_a_case_that_never_was_ok() -> None:
    before = [*base(), launch(run_id="r0", case_id="b", **BAD)]
    gate = of([*now([100.0]), launch(run_id="now", case_id="b", **BAD)], before)
    assert (gate.verdicts[1].verdict, gate.exit_code) == ("inconclusive", 5)
    gate = of([*now([100.0]), *now([100.0], case_id="b")], before)
    assert gate.verdicts[1].reason == "the baseline has no launch of it that was ok"
    assert gate.failed is False


def test_a_run_that_was_stopped_before_its_first_launch_ended() -> None:
    gate = of([launch(run_id="now", status="interrupted", samples_per_s=None)])
    assert (gate.verdicts[0].verdict, gate.verdicts[0].reason, gate.exit_code) == (
        "inconclusive",
        "no launch was ok",
        5,
    )
    assert of([]).exit_code == 5


def test_a_failed_control_is_a_failed_launch() -> None:
    assert of([*now([100.0]), launch(run_id="now", role="control", **BAD)]).exit_code == 5


def test_memory_is_held_against_all_sessions() -> None:
    assert one(now([100.0] * 3, peak_rss_mib=520.0), base(peak_rss_mib=500.0)).memory == "more"
    assert one(now([100.0] * 3, peak_rss_mib=505.0), base(peak_rss_mib=500.0)).memory == "same"
