"""The number of blocks that a verdict needs: against statsmodels' noncentral t, and against simulated blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from bench.stats.power import (
    CANDIDATES,
    CERTAINTY,
    FIRST_LEVEL,
    LEVEL,
    MOST_BLOCKS,
    POWER,
    Blocks,
    detectable,
    needed,
    power,
    upper,
)
from bench.stats.trimmed import LEAST_BLOCKS, error_of, spread, trimmed

SECOND_LEVEL = LEVEL / CANDIDATES


@pytest.mark.parametrize("level", [0.05, 0.005])
@pytest.mark.parametrize(("blocks", "left"), [(8, 6), (16, 10), (40, 24)])
def test_power_is_the_noncentral_ts(blocks: int, left: int, level: float) -> None:
    """A plain t-test on as many values as remain, of an effect of as many errors."""
    effect = -math.log(0.97) / float(error_of(0.02, blocks)) / math.sqrt(left)
    expected = TTestPower().power(effect, nobs=left, alpha=level, alternative="larger")
    assert power(blocks, 0.02, 0.03, level) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("level", [FIRST_LEVEL, LEVEL])
@pytest.mark.parametrize(("blocks", "change"), [(8, 0.012), (16, 0.009), (40, 0.005)])
def test_power_is_that_of_simulated_blocks(blocks: int, change: float, level: float) -> None:
    """20,000 samples with a spread of 1 %: a deviation of up to 0.35 %. ``error_of`` is a little too large, so that a
    little more is found than is promised."""
    samples = np.random.default_rng(blocks).normal(math.log1p(-change), 0.01, (20_000, blocks))
    found = float((trimmed(samples).p_below() <= level).mean())
    assert -0.014 < found - power(blocks, 0.01, change, level) < 0.06


def test_power_grows_with_the_change_and_falls_with_the_level_and_the_spread() -> None:
    assert power(10, 0.02, 0.02, 0.05) < power(10, 0.02, 0.03, 0.05) < power(10, 0.01, 0.03, 0.05)
    assert power(10, 0.02, 0.03, 0.005) < power(10, 0.02, 0.03, 0.05)
    assert power(10, 0.02, 0.0, 0.05) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("change", [0.02, 0.03, 0.05])
@pytest.mark.parametrize("deviation", [0.002, 0.007, 0.013, 0.03])
def test_needed_are_the_fewest(deviation: float, change: float) -> None:
    blocks = needed(deviation, change)
    assert blocks is not None
    for count, level in ((blocks.first, FIRST_LEVEL), (blocks.second, SECOND_LEVEL)):
        assert power(count, deviation, change, level) >= POWER
        assert all(power(fewer, deviation, change, level) < POWER for fewer in range(LEAST_BLOCKS, count))


@pytest.mark.parametrize("change", [0.02, 0.03, 0.05])
@pytest.mark.parametrize("deviation", [0.007, 0.013, 0.03])
def test_detectable_is_the_inverse_of_needed(deviation: float, change: float) -> None:
    blocks = needed(deviation, change)
    assert blocks is not None
    smallest = detectable(deviation, blocks)
    assert 0 < smallest < change + 2e-5
    assert needed(deviation, smallest) == blocks
    assert needed(deviation, smallest - 1e-4) != blocks


def test_a_machine_without_noise_needs_the_least_and_one_with_much_is_refused() -> None:
    assert needed(0.0, 0.03) == Blocks(LEAST_BLOCKS, LEAST_BLOCKS)
    assert detectable(0.0, Blocks(5, 5)) < 1e-4
    assert needed(1.0, 0.03) is None
    assert power(MOST_BLOCKS, 1.0, 0.03, FIRST_LEVEL) < POWER


def test_the_upper_bound_of_sixteen_blocks() -> None:
    """10 are left, 9 degrees of freedom: chi-squared is below 4.168159 in 10 of 100 and below 3.325113 in 5."""
    expected = {0.9: math.sqrt(9 / 4.168159), 0.95: math.sqrt(9 / 3.325113)}
    assert upper(0.01, 16) == pytest.approx(0.01 * expected[CERTAINTY], rel=1e-6)
    assert upper(0.01, 16) > upper(0.01, 40) > 0.01


def test_the_upper_bound_holds_as_often_as_it_says() -> None:
    """10,000 samples of 16: the winsorised variance varies more than chi-squared with as few degrees of freedom would,
    and is a little small, so that it holds up to five times of a hundred less often."""
    spreads = spread(np.random.default_rng(16).standard_normal((10_000, 16)))
    held = float((upper(1.0, 16) * spreads >= 1).mean())
    assert CERTAINTY - 0.05 < held < CERTAINTY + 0.01


def test_both_stages_find_what_is_asked_for() -> None:
    """10,000 gates with the blocks that a known spread needs: both stages find 3 % in POWER² of them at least."""
    blocks, draw = needed(0.013, 0.03), np.random.default_rng(13)
    assert blocks is not None
    first, second = (trimmed(draw.normal(math.log(0.97), 0.013, (10_000, n))).p_below() for n in blocks)
    found = ((first <= FIRST_LEVEL) & (second <= SECOND_LEVEL)).mean()
    assert found > POWER**2 - 4 * math.sqrt(POWER**2 * (1 - POWER**2) / 10_000)
    assert found >= 0.95
