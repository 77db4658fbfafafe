"""Intervals of throughput, against values worked out by hand and against a known coverage."""

from __future__ import annotations

import math
import random
from statistics import fmean, median

import pandas as pd
import pytest
from scipy import stats

from bench.stats.intervals import REACH, of_mean_log, of_median, of_median_log, of_ratio, place

Rates = dict[tuple[str, int], float]


def rates(*values: float, run: str = "r", first: int = 0) -> Rates:
    """Throughputs by (run_id, block), as the rows of one case have them."""
    return {(run, first + i): value for i, value in enumerate(values)}


def test_interval_of_three_launches() -> None:
    """90, 100, 111.111: logs -0.1053605, 0, +0.1053605 about ln 100, of which the range is 0.2107210; 0.85 of it beyond
    both ends: -+0.2844734, and 100 x exp(-+0.2844734) = 75.2410, 132.9063."""
    low, high = of_median(pd.Series([90.0, 100.0, 100 / 0.9]))
    assert (low, high) == (pytest.approx(75.2410, abs=1e-3), pytest.approx(132.9063, abs=1e-3))


def test_interval_of_two_launches_is_students() -> None:
    """100 and 102: ln 1.02 = 0.0198026, half of it x 12.7062047 = 0.1258081; sqrt(10200) = 100.99505."""
    low, high = of_median(pd.Series([100.0, 102.0]))
    assert (low, high) == (pytest.approx(89.0561, abs=1e-3), pytest.approx(114.5349, abs=1e-3))


def test_more_launches_are_bounded_by_their_order_statistics() -> None:
    """Of 20, P(B < 6) = 0.0206947 holds 0.9586105 and P(B < 7) = 0.0576591 holds 0.8846817. Hettmansperger and Sheather:
    I = 0.00861053 / 0.07392883 = 0.11647059; 14 I / (6 + 8 I) = 0.2352342 from the 6th to the 7th."""
    assert place(20) == (6, pytest.approx(0.2352342, abs=1e-6))
    logs = [float(value) for value in range(1, 21)]
    random.Random(1).shuffle(logs)
    assert of_median_log(logs) == (pytest.approx(6.2352342), pytest.approx(14.7647658))


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (10, 2), (11, 2), (12, 3), (15, 4), (50, 18)])
def test_the_outer_order_statistic_holds_95_of_100_whatever_the_noise(n: int, rank: int) -> None:
    found = place(n)
    assert found.rank == rank
    assert 1 - 2 * stats.binom.cdf(rank - 1, n, 0.5) >= 0.95 > 1 - 2 * stats.binom.cdf(rank, n, 0.5)
    assert 0 <= found.weight < 1


def test_no_bound_lies_beyond_the_middle_of_a_gap_that_the_inner_one_may_miss() -> None:
    """Of 10 the inner order statistics cover 89.1 %: of five slow and five fast launches both speeds are inside."""
    assert place(10).weight < 0.5
    assert of_median_log([0.0] * 3 + [1.0] * 7) == (0.0, 1.0)
    assert of_median_log([0.0] * 2 + [1.0] * 8)[0] < 0.5


@pytest.mark.parametrize("n", list(REACH))
def test_few_launches_hold_a_normal_median_95_times_of_100(n: int) -> None:
    """By quadrature: all are on one side of the median, and the nearest is farther from it than their range extends."""
    from scipy.integrate import quad

    def density(x: float) -> float:
        return float(n * stats.norm.pdf(x) * (stats.norm.cdf(x + x / REACH[n]) - stats.norm.cdf(x)) ** (n - 1))

    missed = 2 * quad(density, 0, math.inf)[0]
    assert 0.046 < missed < 0.0501


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 10, 13, 20, 41])
def test_a_median_lies_in_its_own_interval(n: int) -> None:
    """Also on a machine with two speeds, where it was outside of the mean's interval in most reports."""
    draw = random.Random(n)
    for share in (0.0, 0.3, 0.5):
        values = [100.0 * math.exp(draw.gauss(0, 0.01)) * (0.7 if draw.random() < share else 1) for _ in range(n)]
        low, high = of_median(pd.Series(values))
        assert low <= median(values) <= high


def test_equal_launches_have_an_interval_without_width() -> None:
    assert of_median(pd.Series([100.0, 100.0, 100.0])) == (pytest.approx(100), pytest.approx(100))


@pytest.mark.parametrize("values", [[], [100.0], [100.0, None]])
def test_fewer_than_two_launches_have_none(values: list[float | None]) -> None:
    assert all(math.isnan(bound) for bound in of_median(pd.Series(values, dtype="Float64")))


def test_an_unknown_launch_is_left_out() -> None:
    assert of_median(pd.Series([100.0, None, 102.0], dtype="Float64")) == of_median(pd.Series([100.0, 102.0]))


def test_paired_by_the_log_ratios_of_shared_blocks() -> None:
    """110 / 100, 216 / 200 and 318 / 300: 1.1, 1.08, 1.06; 0.85 of the range beyond both, on logs:
    1.06 (1.06 / 1.1)^0.85 = 1.027146, 1.1 (1.1 / 1.06)^0.85 = 1.135185."""
    low, high, how = of_ratio(rates(110.0, 216.0, 318.0), rates(100.0, 200.0, 300.0))
    assert (low, high, how) == (pytest.approx(1.027146, abs=1e-6), pytest.approx(1.135185, abs=1e-6), "paired")


def test_drift_that_both_share_cancels_where_they_are_paired() -> None:
    """The machine slows down by a third from block to block; the ratio is 1.1 in each."""
    assert of_ratio(rates(1.1, 0.733, 0.484), rates(1.0, 2.0 / 3, 0.44)) == (
        *(pytest.approx(1.0990, abs=2e-3), pytest.approx(1.1009, abs=2e-3)),
        "paired",
    )


def test_only_shared_blocks_are_paired_and_the_ratio_of_the_medians_is_held() -> None:
    """Blocks 1 and 2 are shared: 2 in both. The medians are 20 and 10."""
    assert of_ratio(rates(5.0, 20.0, 40.0), rates(10.0, 20.0, 7.0, first=1)) == (
        *(pytest.approx(2), pytest.approx(2)),
        "paired",
    )
    low, high, _ = of_ratio(rates(50.0, 20.0, 40.0), rates(10.0, 20.0, 7.0, first=1))
    assert (low, high) == (pytest.approx(2), pytest.approx(4))  # 40 / 10


def test_both_intervals_together_where_fewer_than_two_blocks_are_shared() -> None:
    """Logs of 100, 110, 121: 110 in the middle, 0.0953102 + 0.85 x 0.1906204 = 0.2573375 either way. Of 50 and 52: half
    of 0.0392207, x 12.7062047 is 0.2491735, about their geometric mean; their median 51 is 0.0001923 above it.
    Below: hypot(0.2573375, 0.2491735 - 0.0001923) = 0.3580737; above: hypot(0.2573375, 0.2491735 + 0.0001923)."""
    low, high, how = of_ratio(rates(100.0, 110.0, 121.0), rates(50.0, 52.0, run="s"))
    assert how == "unpaired"
    assert low == pytest.approx(110 / 51 * math.exp(-0.3580737), rel=1e-5)
    assert high == pytest.approx(110 / 51 * math.exp(math.hypot(0.2573375, 0.2493658)), rel=1e-5)


def test_unpaired_launches_that_are_all_equal() -> None:
    assert of_ratio(rates(200.0, 200.0), rates(100.0, 100.0, run="s")) == (
        *(pytest.approx(2), pytest.approx(2)),
        "unpaired",
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (rates(1.0), rates(2.0)),
        (rates(1.0), rates(2.0, 3.0)),
        (rates(1.0, 2.0), rates(2.0, run="s")),
        (rates(), rates(2.0, 3.0)),
    ],
    ids=["one each", "one shared block", "one of another run", "none"],
)
def test_one_launch_of_either_has_no_interval(a: Rates, b: Rates) -> None:
    low, high, how = of_ratio(a, b)
    assert math.isnan(low)
    assert math.isnan(high)
    assert how == ""


def test_the_other_way_round_gives_the_reciprocals() -> None:
    for a, b in ((rates(3.0, 4.0, 6.0), rates(1.0, 1.5, 1.4)), (rates(3.0, 4.0, 6.0), rates(1.0, 1.5, run="s"))):
        (low, high, how), (back_low, back_high, back) = of_ratio(a, b), of_ratio(b, a)
        assert (back_low, back_high, back) == (pytest.approx(1 / high), pytest.approx(1 / low), how)


@pytest.mark.parametrize(("run", "how"), [("r", "paired"), ("s", "unpaired")])
def test_95_of_100_intervals_hold_the_truth(run: str, how: str) -> None:
    """Log-normal launches, 3 of each case, true ratio 2. Of 400 independent intervals 380 are expected, with a deviation
    of sqrt(400 x 0.95 x 0.05) = 4.4; two intervals together are known to be a little wide, so they may hold more."""
    draw, held = random.Random(7), 0
    for _ in range(400):
        a, b = ([mean * math.exp(draw.gauss(0, 0.05)) for _ in range(3)] for mean in (200.0, 100.0))
        low, high, found = of_ratio(rates(*a), rates(*b, run=run))
        assert found == how
        held += low <= 2 <= high
    assert 380 - 4 * 4.4 <= held <= (380 + 4 * 4.4 if how == "paired" else 400)


def test_a_throughput_of_nothing_has_no_interval() -> None:
    assert all(math.isnan(bound) for bound in of_median(pd.Series([0.0, 100.0])))


def test_bounds_beyond_what_a_float_holds_are_no_error() -> None:
    """Two launches whose logs differ by 230: x 5.85 is 1347."""
    low, high = of_median(pd.Series([1e-50, 1e50]))
    assert (low, high) == (0, math.inf)


def test_a_geometric_mean_is_bounded_by_students_t() -> None:
    """Logs -0.1, 0, 0.2: mean 0.0333333, s = 0.1527525; t(0.975, 2) = 4.30265273, x s / sqrt(3) = 0.3794585."""
    logs = [-0.1, 0.0, 0.2]
    assert of_mean_log(logs) == (
        pytest.approx(math.exp(fmean(logs) - 0.3794585), abs=1e-6),
        pytest.approx(math.exp(fmean(logs) + 0.3794585), abs=1e-6),
    )
    assert all(map(math.isnan, of_mean_log([0.1])))
