"""Whether a case is slower than the best of several: worked out with scipy, and how often chance alone says so."""

from __future__ import annotations

import math
import random
from statistics import fmean, median

import pytest
from scipy import stats

from bench.stats.best_of import bounds

Logs = dict[tuple[str, int], float]


def logs(*values: float, run: str = "r") -> Logs:
    return {(run, block): value for block, value in enumerate(values)}


def test_cases_of_other_runs_have_tukeys_bounds_with_bonferronis_t() -> None:
    """Three cases of three launches: the pooled variance has 6 degrees of freedom, and 2.5 % are for 6 bounds."""
    samples = [[0.0, 0.01, -0.02], [-0.05, -0.03, -0.06], [-0.1, -0.11, -0.13]]
    pooled = fmean(stats.tvar(sample) for sample in samples)
    half = stats.t.isf(0.025 / 6, 6) * math.sqrt(pooled * 2 / 3)
    found = bounds([logs(*sample, run=str(place)) for place, sample in enumerate(samples)], 0)
    for sample, (low, high) in zip(samples[1:], found[1:], strict=True):
        difference = fmean(sample) - fmean(samples[0])
        assert (low, high) == (pytest.approx(difference - half), pytest.approx(difference + half))


def test_cases_of_the_same_blocks_are_compared_without_what_the_blocks_share() -> None:
    """Each block's drift, far larger than the cases' noise, changes nothing but the last digits."""
    samples = [[0.0, 0.01, -0.02, 0.0], [-0.05, -0.03, -0.06, -0.04], [-0.1, -0.11, -0.13, -0.12]]
    drift = [0.3, -0.2, 0.5, 0.0]
    alone, drifting = (
        bounds([logs(*(x + d * scale for x, d in zip(sample, drift, strict=True))) for sample in samples], 0)
        for scale in (0, 1)
    )
    for before, after in zip(alone[1:], drifting[1:], strict=True):
        assert after[1] < 0  # slower
        assert sum(before) == pytest.approx(sum(after))  # the difference of the means
        assert after[1] - after[0] < 0.2


def test_the_variance_of_aligned_launches_by_hand() -> None:
    """Deviations from each case's median: 0 1 -1; 2 0 -1; 0 1 -2 (x 0.01). Medians of the blocks: 0, 1, -1. Left are
    0 0 0; 2 -1 0; 0 0 -1: sums of squares about the mean 0, 4.6667, 0.6667. Freedom 6 x 2/3 = 4."""
    cases = [logs(*(0.01 * x for x in values)) for values in ((0, 1, -1), (2, 0, -1), (0, 1, -2))]
    half = stats.t.isf(0.025 / 6, 4) * 0.01 * math.sqrt((4.666667 + 0.666667) / 4 * 2 / 3)
    low, high = bounds(cases, 0)[1]
    assert high - low == pytest.approx(2 * half, rel=1e-6)
    assert (low + high) / 2 == pytest.approx(0.01 / 3)  # 2 0 -1 less 0 1 -1


def test_a_launch_that_is_far_off_blurs_nothing_where_a_fifth_is_trimmed() -> None:
    draw = random.Random(3)
    cases = [[draw.gauss(-0.1 * (place == 3), 0.01) for _ in range(10)] for place in range(4)]
    cases[1][4] -= 0.7
    assert bounds([logs(*case) for case in cases], 0)[3][1] < -0.05


def test_one_launch_has_no_bounds() -> None:
    found = bounds([logs(0.0, 0.1), logs(0.0, run="s"), logs(0.1, 0.2)], 0)
    assert all(map(math.isnan, found[1]))
    assert not any(map(math.isnan, found[2]))


@pytest.mark.parametrize("run", ["shared", "own"])
def test_chance_alone_seldom_makes_one_of_eight_slower_than_the_best(run: str) -> None:
    """200 reports of 8 equal cases and 3 launches: at 5 % ten are expected, with a deviation of 3.1. Pairwise intervals
    of 95 % call a case slower in 25 to 60."""
    draw, alarms = random.Random(8), 0
    for _ in range(200):
        samples = [[draw.gauss(0, 0.01) for _ in range(3)] for _ in range(8)]
        best = max(range(8), key=lambda place: median(samples[place]))
        found = bounds([logs(*s, run=run if run == "shared" else str(n)) for n, s in enumerate(samples)], best)
        alarms += any(high < 0 for _, high in found)
    assert alarms <= 10 + 4 * 3.1
