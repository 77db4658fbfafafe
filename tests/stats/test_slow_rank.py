"""Which rank is slow: figures worked out by hand, and how often the wrong one is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.stats.slow_rank import FAR, by_node, excesses


def steady(*ms: float, steps: int = 20) -> np.ndarray:
    """A launch in which each rank takes as long in every step."""
    return np.array([[one] * steps for one in ms])


def test_the_excess_is_over_the_median_of_the_others() -> None:
    found = excesses([steady(10, 20, 12, 11)] * 3)
    assert [one.excess for one in found] == pytest.approx([10 / 12 - 1, 20 / 11 - 1, 12 / 11 - 1, 11 / 12 - 1])
    assert [one.low for one in found] == pytest.approx([one.excess for one in found])  # nothing varies
    assert [one.named for one in found] == [False, True, True, False]  # 12 / 11 is 9.1 %


def test_over_launches_it_is_a_geometric_mean_with_a_bound_by_t() -> None:
    launches = [steady(10, 10 * math.exp(log)) for log in (0.18, 0.2, 0.22)]
    first, second = excesses(launches)
    assert second.excess == pytest.approx(math.expm1(0.2))
    assert first.excess == pytest.approx(math.expm1(-0.2))
    # sd 0.02 over 3 launches, one-sided at 1 % of both ranks together
    margin = stats.t.ppf(0.995, 2) * 0.02 / math.sqrt(3)
    assert second.low == pytest.approx(math.expm1(0.2 - margin))
    assert second.named  # by a bound of 8.9 %
    assert not excesses([steady(10, 10 * math.exp(log)) for log in (0.14, 0.16, 0.18)])[1].named  # of 4.7 %


def test_what_is_far_slower_in_each_launch_is_named_whatever_differs_between_launches() -> None:
    """By t over these three launches the bound is below 0."""
    [_, second] = excesses([steady(10, slow) for slow in (13, 20, 60)])
    assert (second.named, second.low) == (True, pytest.approx(0.3))  # the least of the three
    assert not excesses([steady(10, slow) for slow in (12, 20, 60)])[1].named  # 20 % in one of them


def test_within_a_launch_the_bound_is_by_the_jackknife_over_groups_of_steps() -> None:
    """Of single steps whose mean is their only use, the jackknife's error is that of a mean, here of logs' ratio."""
    slow = np.array([18.0, 22.0, 19.0, 21.0])
    [_, second] = excesses([np.array([[10.0] * 4, slow])])
    assert second.excess == pytest.approx(1.0)
    without = np.log(np.array([62, 58, 61, 59]) / 3 / 10)
    error = math.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum())
    assert second.low == pytest.approx(2 * math.exp(-stats.t.ppf(0.995, 3) * error) - 1)
    assert second.named  # 1 launch: above FAR


def test_few_launches_name_only_what_is_far_slower() -> None:
    a_bit = steady(10, 10 * (1 + FAR / 2))
    assert [one.named for one in excesses([a_bit])] == [False, False]
    assert [one.named for one in excesses([a_bit] * 2)] == [False, False]
    assert [one.named for one in excesses([a_bit] * 3)] == [False, True]
    assert [one.named for one in excesses([steady(10, 10 * (1 + 2 * FAR))])] == [False, True]


def test_a_rank_within_the_floor_is_never_named() -> None:
    assert not any(one.named for one in excesses([steady(10, 10.4)] * 30))


def test_one_step_says_nothing() -> None:
    assert not any(one.named for one in excesses([steady(10, 90, steps=1)]))


def test_nodes_are_the_means_of_their_ranks() -> None:
    names, [own] = by_node([np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])], [1, 1, 0])
    assert names == [0, 1]
    assert own.tolist() == [[10.0, 20.0], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("ranks", "launches", "between"), [(2, 3, 0.03), (2, 3, 0.08), (8, 3, 0.03), (2, 1, 0.05), (2, 10, 0.05)]
)
def test_nobody_is_named_more_often_than_promised(ranks: int, launches: int, between: float) -> None:
    """Step times of all ranks are alike, with a difference by launch and steps that follow each other alike."""
    random = np.random.default_rng(7)
    tries, wrong = 500, 0
    for _ in range(tries):
        wrong += any(one.named for one in excesses([_noisy(random, ranks, between) for _ in range(launches)]))
    assert wrong / tries <= 0.004  # 1 % is promised; the floor makes it fewer


def test_a_quarter_of_a_processor_is_always_named() -> None:
    """A rank computes 25 ms of each 100 ms; a third of the 30 ms that a step computes is before its collectives."""
    random = np.random.default_rng(7)
    for _ in range(300):
        launches = [np.array([_noisy(random, 1, 0.05)[0], _throttled(random)]) for _ in range(3)]
        assert [one.named for one in excesses(launches)] == [False, True]


def _throttled(random: np.random.Generator) -> np.ndarray:
    """Return the own times of a rank with a quota: once it is used up, the rank stands still until the next period."""
    now, left, own = 100 * random.random(), 25.0, []
    for work in 10 * np.exp(random.normal(0, 0.1, 90)):
        began = now
        while work > left:
            work -= left
            now, left = 100 * math.floor((now + left) / 100) + 100, 25.0
        now, left = now + work, left - work
        own.append(now - began)
    return np.array(own[::3])


@pytest.mark.parametrize("ranks", [2, 3, 4, 5])
def test_the_median_of_the_others_is_that_of_numpy(ranks: int) -> None:
    means = np.random.default_rng(ranks).random(ranks) + 1
    expected = [means[at] / np.median(np.delete(means, at)) - 1 for at in range(ranks)]
    assert [one.excess for one in excesses([np.repeat(means[:, None], 5, axis=1)])] == pytest.approx(expected)


def _noisy(random: np.random.Generator, ranks: int, between: float, steps: int = 30) -> np.ndarray:
    noise = random.normal(0, 0.1, (ranks, steps))
    for step in range(1, steps):
        noise[:, step] += 0.5 * noise[:, step - 1]
    outliers = 20 * (random.random((ranks, steps)) < 0.02)
    return 10 * np.exp(noise + random.normal(0, between, (ranks, 1))) + outliers
