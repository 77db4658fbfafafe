"""The trimmed t against values worked out by hand, published ones, scipy's, and its level under normal noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.stats.trimmed import LEAST_BLOCKS, error_of, spread, trimmed

FIVE = [0.02, 0.06, 0.04, 0.03, 0.05]
# Yuen's two-sample t of R's PairedData::yuen.t.test at 20 %, as quoted in scipy's tests (stats/tests/test_stats.py,
# Test_ttest_trim); the first two samples are of 11, the others of 20.
PAIRED_DATA = [
    (
        [2.7, 2.7, 1.1, 3.0, 1.9, 3.0, 3.8, 3.8, 0.3, 1.9, 1.9],
        [6.5, 5.4, 8.1, 3.5, 0.5, 3.8, 6.8, 4.9, 9.5, 6.2, 4.1],
        -4.2461168970325,
    ),
    (
        [
            *(-0.84504783, 0.13366078, 3.53601757, -0.62908581, 0.54119466, -1.16511574, -0.08836614, 1.18495416),
            *(2.48028757, -1.58925028, -1.6706357, 0.3090472, -2.12258305, 0.3697304, -1.0415207, -0.57783497),
            *(-0.90997008, 1.09850192, 0.41270579, -1.4927376),
        ],
        [
            *(1.2725522, 1.1657899, 2.7509041, 1.2389013, -0.9490494, -1.0752459, 1.1038576, 2.9912821, 3.5349111),
            *(0.4171922, 1.0168959, -0.7625041, -0.4300008, 3.0431921, 1.6035947, 0.5285634, -0.7649405, 1.5575896),
            *(1.3670797, 1.1726023),
        ],
        -3.0983317739483,
    ),
]


def test_five_blocks_by_hand() -> None:
    """One is left out at each end: the mean is 0.04. Winsorised 0.03, 0.03, 0.04, 0.05, 0.05: squares 4e-4; / (3 x 2),
    the root: 0.00816497. With 2 degrees of freedom P(T > t) = 1/2 - t / (2 sqrt(2 + t²)): t = 4.898979, and
    4.898979 / (2 x 5.0990195) = 0.4803845. t(0.975, 2) = 4.30265273, x 0.00816497 = 0.0351310."""
    found = trimmed(FIVE)
    assert (float(found.mean), float(found.error), found.freedom) == (
        *(pytest.approx(0.04, rel=1e-12), pytest.approx(0.00816497, rel=1e-6), 2),
    )
    assert float(found.p_above()) == pytest.approx(0.0196155, abs=1e-7)
    assert float(found.p_below()) == pytest.approx(0.9803845, abs=1e-7)
    low, high = found.interval()
    assert (float(low), float(high)) == (pytest.approx(0.004869, abs=1e-6), pytest.approx(0.075131, abs=1e-6))


def test_a_bound_other_than_nothing() -> None:
    """(0.04 - 0.03) / 0.00816497 = 1.2247449; 1/2 -+ 1.2247449 / (2 sqrt(3.5)) = 1/2 -+ 0.3273268."""
    assert float(trimmed(FIVE).p_above(0.03)) == pytest.approx(0.1726732, abs=1e-7)
    assert float(trimmed(FIVE).p_below(0.03)) == pytest.approx(0.8273268, abs=1e-7)


def test_a_wild_launch_changes_nothing() -> None:
    assert trimmed([0.02, 60.0, 0.04, 0.03, 0.05]) == trimmed(FIVE)


def test_the_data_of_wilcox() -> None:
    """Times of self-awareness (Wilcox, Introduction to Robust Estimation), as quoted in scipy's tests of
    ``mstats.trimmed_mean`` and ``mstats.winsorize``: trimmed by 20 % a mean of 283 and a winsorised variance of 21551.4.
    19 values, 3 left out at each end: the error is sqrt(18 x 21551.4 / (13 x 12)) = 49.867."""
    times = [77, 87, 88, 114, 151, 210, 219, 246, 253, 262, 296, 299, 306, 376, 428, 515, 666, 1310, 2611]
    found = trimmed(times)
    assert (round(float(found.mean)), found.freedom) == (283, 12)
    assert float(found.error) == pytest.approx(49.867, abs=5e-4)


@pytest.mark.parametrize(("a", "b", "t"), PAIRED_DATA, ids=["11", "20"])
def test_yuens_two_samples_are_made_of_it(a: list[float], b: list[float], t: float) -> None:
    """Yuen's t is the difference of the means over the root of the sum of the squared errors."""
    first, second = trimmed(a), trimmed(b)
    assert float((first.mean - second.mean) / np.hypot(first.error, second.error)) == pytest.approx(t, rel=1e-12)


@pytest.mark.parametrize("blocks", [5, 6, 9, 10, 16, 33])
def test_it_is_scipys_against_zeros(blocks: int) -> None:
    """Yuen's t against a sample of zeros has the degrees of freedom of the other sample."""
    rows = np.random.default_rng(blocks).standard_t(2, (4, blocks)) + 0.5
    for row, mean, p in zip(rows, trimmed(rows).mean, trimmed(rows).p_above(), strict=True):
        expected = stats.ttest_ind(row, np.zeros(blocks), equal_var=False, trim=0.2, alternative="greater")
        assert p == pytest.approx(expected.pvalue, rel=1e-9)
        assert mean == pytest.approx(stats.trim_mean(row, 0.2), rel=1e-12)


def test_rows_are_by_themselves() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 3, 8))
    found = trimmed(rows)
    assert found.mean.shape == found.p_below().shape == (2, 3)
    assert found.error[1, 2] == trimmed(rows[1, 2]).error


def test_equal_blocks_leave_no_doubt() -> None:
    found = trimmed([-0.05] * 6)
    assert (float(found.p_below()), float(found.p_above())) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    assert [float(bound) for bound in found.interval()] == [pytest.approx(-0.05)] * 2
    nothing = trimmed([0.0] * 6)
    assert (float(nothing.p_below()), float(nothing.p_above())) == (0.5, 0.5)


def test_too_few_blocks() -> None:
    with pytest.raises(ValueError, match="4 blocks; a trimmed mean needs 5"):
        trimmed([0.0] * (LEAST_BLOCKS - 1))


def test_error_of_five_by_hand() -> None:
    """A fifth lies beyond z = 0.8416212, where the density is 0.2799619. Within: 1 - 0.4 - 2 x 0.8416212 x 0.2799619 =
    0.1287562; beyond: 0.4 x 0.7083263 = 0.2833305. Sum 0.4120867, x 4 / (3 x 2) = 0.2747245, its root 0.5241417."""
    assert float(error_of(1.0, 5)) == pytest.approx(0.5241417, abs=1e-7)
    assert float(error_of(0.02, 5)) == pytest.approx(0.0104828, abs=1e-7)
    assert float(spread(FIVE)) == pytest.approx(0.00816497 / 0.5241417, rel=1e-6)


@pytest.mark.parametrize(
    ("blocks", "measured", "above"),
    [
        (5, 0.4800, 0.10),
        (8, 0.3680, 0.03),
        (16, 0.2666, 0.025),
        (20, 0.2394, 0.02),
        (40, 0.1693, 0.01),
        (100, 0.10699, 0.005),
    ],
)
def test_error_of_is_that_of_simulated_blocks(blocks: int, measured: float, above: float) -> None:
    """The root mean square of the error over 200,000 normal samples each. ``error_of`` takes the winsorised variance
    for that of endless samples, which is larger: by a tenth at five blocks, by a hundredth at forty."""
    assert measured < float(error_of(1.0, blocks)) < (1 + above) * measured


def test_its_level_is_kept_under_normal_noise() -> None:
    """8,000 samples of 20: at 5 % 400 are expected, with a deviation of 19.5; at 0.5 % 40, with 6.3. The trimmed t is
    known to exceed its level a little (measured with 400,000 samples: 5.2 and 0.62 %)."""
    p_values = trimmed(np.random.default_rng(20).standard_normal((8000, 20))).p_above()
    assert 400 - 4 * 19.5 < (p_values < 0.05).sum() < 416 + 4 * 19.5
    assert 40 - 4 * 6.3 < (p_values < 0.005).sum() < 50 + 4 * 6.3


def test_it_finds_what_spikes_hide_from_the_mean() -> None:
    """A slowdown of 3 % under a spread of 1 %, and every twentieth block off by ln 2: of 2,000 samples of 20 blocks."""
    draw = np.random.default_rng(3)
    blocks = draw.normal(math.log(0.97), 0.01, (2000, 20)) + math.log(2) * draw.choice(
        [-1, 0, 1], (2000, 20), p=[0.025, 0.95, 0.025]
    )
    plain = stats.ttest_1samp(blocks, 0, axis=1, alternative="less").pvalue
    assert (trimmed(blocks).p_below() < 0.005).mean() > 0.98
    assert (plain < 0.005).mean() < 0.5
