"""The rates of the certificate's statistics: counted quickly, against bounds that only an error exceeds, and stored."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats.power import Blocks
from tests.benchmarks import statistics_page, statistics_rates
from tests.benchmarks.launch_noise import LAUNCHES
from tests.benchmarks.statistics_rates import Rate

# Three launches of a machine with two speeds of equal frequency are of one speed once in four times: no procedure holds 93.
UNREACHABLE = {("two-speed 50%", "3"): 0.75}
# Ten blocks may hardly show that one launch in five is slow, as the farthest of them are trimmed.
HARDLY_SEEN = {("two-speed 20%", "5/10"): 0.75, ("two-speed 20%", "8/16"): 0.85, ("two-speed 30%", "5/10"): 0.8}
ALONE = {name: noise for name, noise in LAUNCHES.items() if name != "two-speed 50%"}


def draw(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def most(share: float, of: int) -> float:
    """What a count with this chance does not exceed but by four deviations."""
    return of * share + 4 * math.sqrt(of * share * (1 - share))


@pytest.mark.parametrize("name", list(LAUNCHES))
def test_the_medians_of_the_noise(name: str) -> None:
    """Half of 20,000 lie below it, with a deviation of 71."""
    below = (LAUNCHES[name].draw(draw(), (20_000,)) < LAUNCHES[name].median).sum()
    assert abs(below - 10_000) < 4 * 71


@pytest.mark.parametrize("n", [3, 5, 10, 20])
@pytest.mark.parametrize("name", list(ALONE))
def test_intervals_hold_the_median_of_the_noise(name: str, n: int) -> None:
    held = statistics_rates.coverage(LAUNCHES[name], n, 1500, draw(n))
    assert 1500 - most(0.07, 1500) <= held <= 1500 - 1500 * 0.03 + 4 * math.sqrt(1500 * 0.03 * 0.97)


@pytest.mark.parametrize("paired", [False, True], ids=["unpaired", "paired"])
@pytest.mark.parametrize("name", list(LAUNCHES))
def test_equal_cases_are_seldom_slower_than_the_best(name: str, paired: bool) -> None:
    """8 cases of 3 launches: pairwise intervals of 95 % call one slower in 8 to 40 of 100 reports."""
    assert statistics_rates.slower_than_best(LAUNCHES[name], 8, 3, paired, 80, draw(8)) <= most(0.05, 80)


@pytest.mark.parametrize("name", ["normal", "two-speed 50%"])
def test_five_rounds_seldom_alarm(name: str) -> None:
    """1 % is promised; the trimmed t alone would be at 3.3 % of two speeds: 66 of 2,000."""
    assert statistics_rates.alarms(LAUNCHES[name], 5, 2000, draw(5)) <= most(0.01, 2000)


@pytest.mark.parametrize("name", ["normal", "two-speed 50%"])
def test_same_is_seldom_said_of_what_is_to_be_detected(name: str) -> None:
    assert statistics_rates.wrongly_same(LAUNCHES[name], Blocks(8, 16), 0.3, 150, draw(3)) <= most(0.05, 150)


@pytest.mark.parametrize("name", ["normal", "skewed"])
def test_what_is_called_detectable_is_found(name: str) -> None:
    found, tenth = statistics_rates.found(LAUNCHES[name], Blocks(5, 10), 100, draw(2))
    assert found >= 100 - most(0.05, 100)
    assert (tenth is None) is (name != "normal")
    assert tenth is None or tenth > 0.9


def assert_promises(rate: Rate) -> None:
    """What the page promises of a cell, but for four deviations of the count."""
    if rate.table == "coverage":
        least = UNREACHABLE.get((rate.noise, rate.size), 0.93)
        assert rate.of - rate.count <= most(1 - least, rate.of), rate
    elif rate.table == "detectable":
        least = HARDLY_SEEN.get((rate.noise, rate.size), 0.95)
        assert rate.of - rate.count <= most(1 - least, rate.of), rate
    else:
        assert rate.count <= most({"best": 0.05, "alarms": 0.014, "same": 0.05}[rate.table], rate.of), rate


def test_the_stored_rates_keep_what_is_promised() -> None:
    rates = statistics_rates.stored()
    assert {rate.noise for rate in rates} == set(LAUNCHES)
    for rate in rates:
        assert_promises(rate)


def test_the_page_is_what_the_generator_makes_of_the_stored_rates() -> None:
    page = statistics_rates.PAGE.read_text(encoding="utf-8")
    assert page == statistics_page.update(page, statistics_rates.stored())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(LAUNCHES))
def test_the_rates_are_those_that_are_stored(name: str) -> None:
    """Counted again, with the seed that is committed: what is stored is no longer true if the statistics have changed."""
    rates = statistics_rates.certify(name)
    assert rates == [rate for rate in statistics_rates.stored() if rate.noise == name], "make certificate"
    for rate in rates:
        assert_promises(rate)
