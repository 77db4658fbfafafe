"""The certificate of the verdicts: its machinery quickly, its goals slowly, and that the page says what was counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.stats.trimmed import trimmed
from tests.benchmarks import certificate, certificate_page, gates_page
from tests.benchmarks.noise_models import LAUNCH_SPIKE, MODELS, STEPS, Noise, recorded
from tests.benchmarks.rivals import RIVALS, mean_of_all, pooled_ranks, pooled_t, single_run

SILENT = Noise(run=0, drift=0, within=0, keeps_steps=0, spikes=0, trend=0)


def draw(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def deviation(found: float, expected: float, samples: int) -> None:
    """A standard deviation of normal samples is off by 1 / sqrt(2 n); four of those."""
    assert found == pytest.approx(expected, rel=4 / math.sqrt(2 * samples))


# -- the machines --------------------------------------------------------------------------------------------------


def test_a_machine_without_noise() -> None:
    assert (SILENT(draw(), 8) == np.ones((8, STEPS))).all()


def test_launches_vary_as_they_should() -> None:
    deviation(np.log(Noise(0.03, 0, 0, 0, 0, 0)(draw(), 5000)[:, 0]).std(), 0.03, 5000)


def test_drift_keeps_nine_tenths() -> None:
    """Of 20,000 launches, as good as 20,000 (1 - 0.81) / (1 + 0.81) = 2,100 independent ones."""
    drift = np.log(Noise(0, 0.05, 0, 0, 0, 0)(draw(), 20_000)[:, 0])
    deviation(drift.std(), 0.05, 2100)
    assert np.corrcoef(drift[:-1], drift[1:])[0, 1] == pytest.approx(0.9, abs=0.02)


def test_steps_are_autocorrelated_within_a_launch_only() -> None:
    steps = np.log(Noise(0, 0, 0.02, 0.5, 0, 0)(draw(), 4000))
    undisturbed = np.where(steps < 0.07, steps, 0)  # a spike adds 0.1 and more: one step in a hundred
    deviation(undisturbed[:, 0].std(), 0.02, 2000)
    assert np.corrcoef(undisturbed[:, 3], undisturbed[:, 4])[0, 1] == pytest.approx(0.5, abs=0.07)
    assert np.corrcoef(undisturbed[:-1, -1], undisturbed[1:, 0])[0, 1] == pytest.approx(0, abs=0.07)


def test_spikes_of_launches_and_of_steps_come_as_often_as_they_should() -> None:
    """Of 20,000 launches 400, with a deviation of 20; of 600,000 steps 6,000, with 77."""
    slow = np.log(Noise(0, 0, 0, 0, 0.02, 0)(draw(), 20_000)[:, 0])
    assert 320 < (slow > 0).sum() < 480
    assert LAUNCH_SPIKE[0] <= slow[slow > 0].min() < slow.max() <= LAUNCH_SPIKE[1]
    steps = Noise(0, 0, 0.001, 0, 0, 0)(draw(), 20_000)
    assert 5500 < (np.log(steps) > 0.00475).sum() < 6500


def test_a_trend_leaves_nothing_in_a_block() -> None:
    ratios, _ = certificate.measure(Noise(0, 0, 0, 0, 0, trend=0.5), draw(), 50)
    assert np.abs(ratios).max() < 1e-12


# -- recorded launches ---------------------------------------------------------------------------------------------


def rows(case: str = "a", blocks: int = 6, size: int = 4) -> list[dict[str, str]]:
    """A made-up recording, out of order: launch i of a case takes 100 + i ms for a sample."""
    said = [
        {"case_id": case, "order": str(i), "block": str(i // size), "samples_per_s": repr(1000 / (100 + i))}
        for i in range(blocks * size)
    ]
    return said[::-1]


def test_recorded_launches_come_in_stretches_of_whole_blocks() -> None:
    """Their times are 100 … 123 over the median, 111.5; a stretch is three blocks in a row, as they were or with the
    sides of each block swapped: 1 0 3 2 for 0 1 2 3."""
    times = np.rint(recorded(rows())(draw(), 10_000) * 111.5 - 100).astype(int)
    assert times.shape == (10_000, 1)
    stretches = times[:9996].reshape(-1, 12)
    places = {tuple(stretch - stretch.min()) for stretch in stretches}
    assert places == {tuple(range(12)), (1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10)}
    assert {int(stretch.min()) for stretch in stretches} == {0, 4, 8, 12}


def test_recorded_launches_have_no_change_in_them_even_if_the_recording_has() -> None:
    """Launches 1 and 2 of each block are slower by a tenth: in half of the draws it is the others."""
    said = [
        {"case_id": "a", "order": str(i), "block": str(i // 4), "samples_per_s": "90" if i % 4 in (1, 2) else "100"}
        for i in range(40)
    ]
    ratios, _ = certificate.measure(recorded(said), draw(), 3000)
    assert {round(abs(ratio), 9) for ratio in ratios} == {round(math.log(10 / 9), 9)}
    assert abs((ratios > 0).mean() - 0.5) < 4 * math.sqrt(0.25 / 1000)


def test_one_case_at_a_time_and_only_those_that_were_recorded_long_enough() -> None:
    said = [
        *rows("a"),
        *[{**row, "samples_per_s": "7"} for row in rows("b")],
        *rows("c", blocks=2),
        *rows("d", 9, size=3),
    ]
    source, random = recorded(said), draw()
    seen = [set(np.unique(source(random, 12))) for _ in range(40)]
    assert {len(values) for values in seen} == {1, 12}
    kept = source.one(random)  # a case of a suite is calibrated as the case that it is
    assert len({len(np.unique(kept(random, 12))) for _ in range(40)}) == 1
    with pytest.raises(ValueError, match="no case has 3 blocks of four launches"):
        recorded(rows(blocks=2))


# -- others' rules -------------------------------------------------------------------------------------------------


def test_thresholds() -> None:
    even, first = np.full((4, 3), 1.0), np.array([[1.06] * 3, [1.0] * 3, [1.0] * 3, [1.0] * 3])
    assert [single_run(even, first), mean_of_all(even, first)] == [True, False]
    assert [single_run(first, even), mean_of_all(even, even * 1.051), mean_of_all(even, even * 1.049)] == [
        False,
        True,
        False,
    ]


def test_the_mean_is_judged_as_pytest_benchmark_does() -> None:
    from pytest_benchmark.utils import PercentageRegressionCheck

    check: Any = PercentageRegressionCheck("mean", 5)
    a = np.full((4, 3), 0.2)
    for factor in (0.9, 1.0, 1.049, 1.051, 2.0):
        assert mean_of_all(a, a * factor) is bool(check.fails({"mean": 0.2 * factor}, {"mean": 0.2})), factor


@pytest.mark.parametrize("rule", [pooled_t, pooled_ranks])
def test_pooled_rules_only_alarm_of_what_is_slower(rule: Any) -> None:
    a, b = draw(1).normal(1, 0.01, (6, 30)), draw(2).normal(1.01, 0.01, (6, 30))
    assert rule(a, b) is True
    assert rule(b, a) is False
    assert rule(a, a) is False


# -- the gate ------------------------------------------------------------------------------------------------------


def test_a_block_is_the_log_ratio_of_b_over_a() -> None:
    """Launches of 1, 2, 4, 8 steps' length; A B B A: (ln 2 + ln 4) / 2 - (ln 1 + ln 8) / 2 = 0. Then B lacks a fifth."""
    ratios, sides = certificate.measure(
        lambda _, count: np.resize([[1.0], [2.0], [4.0], [8.0]], (count, 1)), draw(), 10, 0.2
    )
    assert ratios == pytest.approx(math.log(0.8))
    assert sides.shape == (2, 20, 1)
    assert {tuple(block) for block in sides[0].reshape(10, 2)} == {(1, 8), (2, 4)}  # A B B A and B A A B
    assert {tuple(block) for block in sides[1].reshape(10, 2)} == {(2.5, 5), (1.25, 10)}


def test_throughput_is_of_the_whole_window() -> None:
    """Steps of 1 and 3: as long as two of 2, whatever their logs are."""
    ratios, _ = certificate.measure(lambda _, count: np.resize([[1.0, 3.0], [2.0, 2.0]], (count, 2)), draw(), 4)
    assert ratios == pytest.approx(0)


@pytest.mark.parametrize("machine", list(MODELS))
def test_the_ratios_of_blocks_average_to_nothing(machine: str) -> None:
    """First stages of 12 blocks at 5 % either way: of 200 cases 20 are expected to be candidates, with a deviation of 4.2."""
    found = [trimmed(certificate.measure(MODELS[machine], draw(seed), 12)[0]) for seed in range(200)]
    flagged = sum(float(min(one.p_above(), one.p_below())) <= 0.05 for one in found)
    assert flagged < 20 + 4 * 4.2


@pytest.mark.parametrize("machine", ["quiet", "shared"])
def test_what_is_a_third_slower_is_always_found(machine: str) -> None:
    judged = [certificate.judge(MODELS[machine], draw(seed), 0.03, slowdown=0.3) for seed in range(2)]
    assert all(certificate.OURS in suite.alarmed for suite in judged)
    assert all(suite.first < suite.both for suite in judged)


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # of Welch's t on steps that are all equal
def test_suites_without_a_change_or_noise_take_one_stage_and_alarm_nobody() -> None:
    judged = certificate.judge(SILENT, draw(), 0.03)
    assert (judged.alarmed, judged.first, judged.both, judged.refused) == (frozenset(), 20 * 20, 20 * 20, 0)


def test_a_case_that_is_too_noisy_is_refused_and_not_found() -> None:
    judged = certificate.judge(Noise(2.0, 0, 0, 0, 0, 0), draw(), 0.03, slowdown=0.03)
    assert (judged.alarmed, judged.refused) == (frozenset(), certificate.CASES)


def test_counts_are_the_same_each_time_and_can_be_stored(tmp_path: Path) -> None:
    first, again = (certificate.certify("quiet", MODELS["quiet"], 1, 1) for _ in range(2))
    assert first == again
    assert [count.rule for count in first] == [certificate.OURS, *RIVALS]
    certificate.write(first, tmp_path / "new" / "counts.csv")
    assert certificate.stored(tmp_path / "new" / "counts.csv") == first


def test_rules_of_steps_cannot_judge_recorded_launches() -> None:
    counts = certificate.certify("recorded", recorded(rows()), 1, 1)
    assert [count.rule for count in counts] == [certificate.OURS, *list(RIVALS)[:2]]


def test_bounds_of_clopper_and_pearson() -> None:
    """Of none in 300: 1 - 0.025^(1/300) = 0.0122. Of all in 200: 0.025^(1/200) = 0.9817."""
    assert certificate.bounds(0, 300) == (0, pytest.approx(0.0122, abs=5e-5))
    assert certificate.bounds(200, 200) == (pytest.approx(0.9817, abs=5e-5), 1)


# -- the page ------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_generator_makes_of_the_stored_counts() -> None:
    """make certificate, or python -m tests.benchmarks.certificate --page if only words changed."""
    page = certificate.PAGE.read_text(encoding="utf-8")
    assert page == certificate_page.update(page, certificate.stored())


def test_the_other_half_of_the_page_stays() -> None:
    page = certificate_page.FRAME.replace("measured: begin -->", "measured: begin -->\nby someone else")
    made = certificate_page.update(page, certificate.stored())
    assert made.endswith("<!-- measured: begin -->\nby someone else\n<!-- measured: end -->\n")
    assert certificate_page.update(made, certificate.stored()) == made
    assert certificate_page.update("", certificate.stored()).startswith("# Certificate\n")


def assert_goals(count: certificate.Count) -> None:
    assert (count.null_suites, count.slowed_suites) == (300, 200)
    assert count.alarms <= certificate_page.GOAL_ALARMS * count.null_suites, count
    assert count.found >= certificate_page.GOAL_FOUND * count.slowed_suites, count


def test_the_stored_counts_reach_the_goals() -> None:
    ours = [count for count in certificate.stored() if count.rule == certificate.OURS]
    assert {count.machine for count in ours} == set(certificate.SLOWDOWN)
    for count in ours:
        assert_goals(count)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", list(certificate.machines()))
def test_verdicts_reach_the_goals(machine: str) -> None:
    """Counted again, with the seed that is committed: what is stored is no longer true if the verdicts have changed."""
    counts = certificate.certify(machine, certificate.machines()[machine], 300, 200)
    assert_goals(counts[0])
    assert counts == [count for count in certificate.stored() if count.machine == machine], "make certificate"


def test_the_measured_half_counts_gates() -> None:
    """By hand; of 1 in 2 the bounds are 1 - 0.975^(1/2) = 0.0126 and its complement, of all in 2 0.025^(1/2) = 0.158."""

    def gate(slowed: bool, verdict: str, ratio: str, detectable: str, blocks: int, seconds: int) -> dict[str, str]:
        known = {"machine": "m", "mode": "duet", "slowed": str(slowed), "verdict": verdict, "ratio": ratio}
        return {**known, "detectable": detectable, "blocks": str(blocks), "seconds": str(seconds)}

    made = [
        gate(False, "same", "1.01", "0.04", 8, 100),
        gate(False, "faster", "1.05", "0.05", 16, 301),
        gate(True, "slower", "0.945", "0.06", 16, 400),
        gate(True, "inconclusive", "0.955", "0.07", 8, 200),
        gate(True, "inconclusive", "", "", 4, 90),
    ]
    text = gates_page.section([*made, *[{**made[2], "mode": "launches"}] * 2])
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert table == [
        "| duet | 2 | 1 of 2: 50% (1%–99%) | 0 | 3 | 1 of 3: 33% (1%–91%) | 2 | -5.0% | 5.5% | 12 / 9 | 200 / 230 |",
        "| launches | 0 |  | 0 | 2 | 2 of 2: 100% (16%–100%) | 0 | -5.5% | 6.0% | 16 | 400 |",
    ]
    page = f"before {gates_page.BEGIN}old{gates_page.END} after"
    assert gates_page.update(page, made) == (
        f"before {gates_page.BEGIN}\n{gates_page.section(made)}{gates_page.END} after"
    )
