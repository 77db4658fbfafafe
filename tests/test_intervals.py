"""Intervals of throughput, against values worked out by hand and against a coverage that is known."""

from __future__ import annotations

import math
import random

import pandas as pd
import pytest

from bench.analysis.intervals import of_mean, of_ratio

Rates = dict[tuple[str, int], float]


def rates(*values: float, run: str = "r", first: int = 0) -> Rates:
    """Throughputs by (run_id, block), as the rows of one case have them."""
    return {(run, first + i): value for i, value in enumerate(values)}


def test_interval_of_three_launches() -> None:
    """90, 100, 111.111: logs -0.1053605, 0, +0.1053605 about ln 100; s = 0.1053605; t(0.975, 2) = 4.30265273;
    4.30265273 x 0.1053605 / sqrt(3) = 0.2617294; 100 x exp(-+0.2617294) = 76.972, 129.917."""
    low, high = of_mean(pd.Series([90.0, 100.0, 100 / 0.9]))
    assert (low, high) == (pytest.approx(76.972, abs=1e-3), pytest.approx(129.917, abs=2e-3))
    assert math.sqrt(low * high) == pytest.approx(100, rel=1e-12)  # around the geometric mean


def test_interval_of_two_launches() -> None:
    """100 and 102: ln 1.02 = 0.0198026, half of it x 12.7062047 = 0.1258081; sqrt(10200) = 100.99505."""
    low, high = of_mean(pd.Series([100.0, 102.0]))
    assert (low, high) == (pytest.approx(89.0561, abs=1e-3), pytest.approx(114.5349, abs=1e-3))


def test_equal_launches_have_an_interval_without_width() -> None:
    assert of_mean(pd.Series([100.0, 100.0, 100.0])) == (pytest.approx(100), pytest.approx(100))


@pytest.mark.parametrize("values", [[], [100.0], [100.0, None]])
def test_fewer_than_two_launches_have_none(values: list[float | None]) -> None:
    assert all(math.isnan(bound) for bound in of_mean(pd.Series(values, dtype="Float64")))


def test_an_unknown_launch_is_left_out() -> None:
    assert of_mean(pd.Series([100.0, None, 102.0], dtype="Float64")) == of_mean(pd.Series([100.0, 102.0]))


def test_paired_by_the_log_ratios_of_shared_blocks() -> None:
    """110 / 100, 216 / 200 and 318 / 300: logs 0.0953102, 0.0769610, 0.0582689; mean 0.0768467; deviations 0.0184635,
    0.0001143, -0.0185778; s = sqrt((0.00034090 + 0.00000001 + 0.00034514) / 2) = 0.0185209;
    x 4.30265273 / sqrt(3) = 0.0460085; exp(0.0768467 -+ 0.0460085) = 1.031319, 1.130721."""
    low, high, how = of_ratio(rates(110.0, 216.0, 318.0), rates(100.0, 200.0, 300.0))
    assert (low, high, how) == (pytest.approx(1.031319, abs=3e-6), pytest.approx(1.130721, abs=3e-6), "paired")


def test_drift_that_both_share_cancels_where_they_are_paired() -> None:
    """The machine slows down by a third from block to block; the ratio is 1.1 in each."""
    assert of_ratio(rates(1.1, 0.733, 0.484), rates(1.0, 2.0 / 3, 0.44)) == (
        *(pytest.approx(1.0980, abs=2e-3), pytest.approx(1.1017, abs=2e-3)),
        "paired",
    )


def test_only_shared_blocks_are_paired() -> None:
    """Blocks 1 and 2 are shared; the 5 and the 7 of others enter nothing: 2 in both."""
    assert of_ratio(rates(5.0, 20.0, 40.0), rates(10.0, 20.0, 7.0, first=1)) == (
        *(pytest.approx(2), pytest.approx(2)),
        "paired",
    )


def test_welch_where_fewer_than_two_blocks_are_shared() -> None:
    """Logs of 100, 110, 121: ln 110 -+ 0.0953102, variance 0.00908403, / 3 = 0.00302801. Logs of 50, 52: variance
    0.0392207^2 / 2 = 0.000769132, / 2 = 0.000384566. Sum 0.00341258, its root 0.0584173. Degrees of freedom
    0.00341258^2 / (0.00302801^2 / 2 + 0.000384566^2 / 1) = 1.164570e-5 / (4.584423e-6 + 1.47891e-7) = 2.460884.
    t(0.975, 2.460884) = 3.615636; x 0.0584173 = 0.211216. Difference of the means 4.7004804 - 3.9316334 = 0.7688470.
    exp(0.7688470 -+ 0.211216) = 1.746531, 2.664623."""
    low, high, how = of_ratio(rates(100.0, 110.0, 121.0), rates(50.0, 52.0, run="s"))
    assert how == "unpaired"
    assert (low, high) == (pytest.approx(1.746531, abs=5e-6), pytest.approx(2.664623, abs=5e-6))


def test_welch_of_launches_that_are_all_equal() -> None:
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
    of sqrt(400 x 0.95 x 0.05) = 4.4; Welch's is known to be a little wide for 3 and 3, so it may hold more."""
    draw, held = random.Random(7), 0
    for _ in range(400):
        a, b = ([mean * math.exp(draw.gauss(0, 0.05)) for _ in range(3)] for mean in (200.0, 100.0))
        low, high, found = of_ratio(rates(*a), rates(*b, run=run))
        assert found == how
        held += low <= 2 <= high
    assert 380 - 4 * 4.4 <= held <= (380 + 4 * 4.4 if how == "paired" else 400)


def test_a_throughput_of_nothing_has_no_interval() -> None:
    assert all(math.isnan(bound) for bound in of_mean(pd.Series([0.0, 100.0])))


def test_bounds_beyond_what_a_float_holds_are_no_error() -> None:
    """Two launches whose logs differ by 230: x 12.7 / 2 is 1461."""
    low, _ = of_mean(pd.Series([1e-50, 1e50]))
    assert low < 1e-50
