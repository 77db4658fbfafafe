"""The α–β model: exact on times that follow it, and its interval by hand."""

from __future__ import annotations

import math

import pytest

from bench.stats.alpha_beta import Fit, fit, over_launches

SIZES = [1000, 10_000, 1_000_000]


def test_times_of_the_model_give_its_numbers() -> None:
    found = fit(SIZES, [20 + size / 500 for size in SIZES])  # 20 µs, 500 bytes/µs
    assert found is not None
    assert found.alpha_us == pytest.approx(20)
    assert found.beta == pytest.approx(500)
    assert found.misfit == pytest.approx(0, abs=1e-9)


def test_errors_are_relative() -> None:
    """By hand: sizes 0, 1 and 2 with times 1, 1 and 4 minimise (a - 1)² + (a + b - 1)² + ((a + 2 b) / 4 - 1)².

    With a derivative of zero: 33 a + 18 b = 36 and 18 a + 20 b = 24, so that a = 24/28 and b = 12/28.
    """
    found = fit([0, 1, 2], [1, 1, 4])
    assert found is not None
    assert found.alpha_us == pytest.approx(24 / 28)
    assert found.beta == pytest.approx(28 / 12)
    assert found.misfit == pytest.approx(4 / 7)  # at size 2: 48/28 is 4/7 less than 4


@pytest.mark.parametrize(
    ("sizes", "times"),
    [
        ([1, 2], [1.0, 2.0]),  # two sizes fit any two numbers
        ([1, 1, 2], [1.0, 1.0, 2.0]),
        ([1, 2, 3], [3.0, 2.0, 1.0]),  # larger messages are faster
        ([1, 2, 3], [1.0, 4.0, 9.0]),  # the latency would be below 0
    ],
)
def test_no_model_without_a_latency_and_a_bandwidth(sizes: list[float], times: list[float]) -> None:
    assert fit(sizes, times) is None


def test_over_launches_it_is_the_geometric_mean_with_its_interval() -> None:
    found = over_launches([Fit(10, 100, 0.1), Fit(40, 100, 0.3)])
    assert found is not None
    assert (found.alpha_us, found.beta, found.misfit, found.launches) == pytest.approx((20, 100, 0.3, 2))
    # t with one degree of freedom is 12.706; the error of two logs is half of their difference.
    half = 12.7062047 * math.log(4) / 2
    assert found.alpha_us_low == pytest.approx(20 * math.exp(-half))
    assert found.alpha_us_high == pytest.approx(20 * math.exp(half))
    assert (found.beta_low, found.beta_high) == pytest.approx((100, 100))


def test_one_launch_has_no_interval() -> None:
    found = over_launches([Fit(10, 100, 0)])
    assert found is not None
    assert all(map(math.isnan, (found.alpha_us_low, found.beta_high)))
    assert over_launches([]) is None
