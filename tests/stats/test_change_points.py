"""Change points: their rate where nothing changes, against its bound; where steps are, by hand; and a plain count of orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bench.stats.change_points import (
    EDGE,
    LEAST,
    LEVEL,
    Found,
    exact,
    of_series,
    p_value,
    scored,
    statistic,
)
from tests.benchmarks import change_points as rates


def noise(count: int, seed: int = 0, spread: float = 0.01) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, count)


def only(values: np.ndarray, floor: float = 0.0) -> list[Found]:
    return of_series([list(values)], [floor])[0]


# -- rates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quiet", "noisy"])
def test_at_most_five_pages_of_a_hundred_have_a_change_point_by_chance(name: str) -> None:
    """200 pages of 10 cases: 10 are allowed, with a deviation of 3.1; without the floor, which hides some."""
    sessions = rates.apart(name)(np.random.default_rng(5), 200 * 10 * 24).reshape(200, 10, 24)
    pages = [of_series([list(series) for series in page]) for page in sessions]
    wrong = sum(any(page) for page in pages)
    assert wrong <= 200 * LEVEL + 4 * math.sqrt(200 * LEVEL * (1 - LEVEL))
    assert wrong >= 2  # A search that never sees anything would pass as well.


def test_without_its_correction_the_rate_would_be_far_above() -> None:
    """What the test above would see if each series had the whole level."""
    sessions = rates.apart("quiet")(np.random.default_rng(5), 50 * 10 * 24).reshape(50, 10, 24)
    wrong = sum(any(of_series([list(series)])[0] for series in page) for page in sessions)
    assert wrong > 11  # 40 % of 50 are expected, with a deviation of 3.5, and 2 or 3 with the correction


def test_a_step_of_a_quiet_machine_is_found() -> None:
    """5 % in the last ten of 60 sessions, on a page of 20 cases: 19 of 20 are found."""
    assert rates.steps_found(rates.apart("quiet"), 0.05, 10, 60, np.random.default_rng(1)) >= 50


# -- by hand -------------------------------------------------------------------------------------------------------


def test_the_statistic_worked_out() -> None:
    """Eight sessions 0 1 0 1 4 5 4 5: the cut at 4 has means 0.5 and 4.5, so t² = 6 * 32 / 2 = 96.

    Less its mean, each session is 0.5 away, below and above in turns: D1 = 1, D2 = 0, r = 0 - 1 + 3 / sqrt(8) = 0.0607.
    """
    values = np.array([0.0, 1, 0, 1, 4, 5, 4, 5])
    value, at = statistic((values - values.mean())[None])
    assert at.tolist() == [4]
    rho = -1 + 3 / math.sqrt(8)
    assert value[0] == pytest.approx(math.sqrt(96 * (1 - rho) / (1 + rho)))


def test_the_statistic_is_that_of_students_t() -> None:
    """With scipy, for the best cut, and the correlation as the page describes it."""
    from scipy.stats import ttest_ind

    values = noise(16, seed=2) + np.repeat([0, 0.04], [9, 7])
    value, at = statistic((values - values.mean())[None])
    best = {n: abs(ttest_ind(values[:n], values[n:]).statistic) for n in range(EDGE, 16 - EDGE + 1)}
    cut = max(best, key=lambda n: best[n])
    rest = values - np.repeat([values[:cut].mean(), values[cut:].mean()], [cut, 16 - cut])
    one, two = (np.mean((rest[far:] - rest[:-far]) ** 2) for far in (1, 2))
    rho = min(max(two / one - 1 + 3 / 4, 0), 0.95)
    assert at[0] == cut == 9
    assert value[0] == pytest.approx(best[cut] * math.sqrt((1 - rho) / (1 + rho)))


def test_p_is_the_share_of_orders() -> None:
    """Against 20,000 other random orders."""
    scores = scored(noise(14, seed=4) + np.repeat([0, 0.035], [8, 6]))
    orders = np.random.default_rng(99).permuted(np.broadcast_to(scores, (20_000, 14)), axis=1)
    share = float((statistic(orders)[0] >= statistic(scores[None])[0][0] * (1 - 1e-9)).mean())
    assert 0.001 < share < 0.2
    assert p_value(scores, 0.001) == pytest.approx(share, rel=0.6)


def test_p_is_the_same_each_time() -> None:
    scores = scored(noise(30))
    assert p_value(scores, 0.01) == p_value(scores, 0.01)


@pytest.mark.parametrize("size", [0.05, -0.05])
def test_a_step_is_found_where_it_is(size: float) -> None:
    values = noise(60) + np.repeat([0, size], [43, 17])
    [one] = only(values)
    assert (one.at, one.kind) == (43, "step")
    assert (one.before, one.after) == (np.median(values[:43]), np.median(values[43:]))
    assert one.p is not None
    assert one.p < 0.01


def test_a_step_that_is_taken_back_gives_two() -> None:
    found = only(noise(90, seed=3) + np.repeat([0, 0.05, 0], [40, 25, 25]))
    assert [one.at for one in found] == [40, 65]
    assert found[0].after == found[1].before == pytest.approx(0.05, abs=0.01)


def test_a_straight_line_is_a_drift() -> None:
    [one] = only(noise(60) + np.linspace(0, 0.1, 60))
    assert (one.kind, one.at) == ("drift", 59)
    assert one.after - one.before == pytest.approx(0.1, abs=0.015)


def test_single_sessions_that_are_off_are_no_steps() -> None:
    values = noise(40)
    values[[7, 21, 22, 33]] += [1.0, -2.0, 1.5, 0.7]
    assert only(values) == []


def test_a_change_up_to_the_floor_is_left_out() -> None:
    """Of three levels 0, 0.004 and 0.05 only the larger step is beyond 1 %, and its level is of both before it."""
    values = noise(90, spread=0.0005) + np.repeat([0, 0.004, 0.05], 30)
    assert [one.at for one in only(values)] == [30, 60]
    [one] = only(values, floor=math.log1p(0.01))
    assert (one.at, one.before) == (60, np.median(values[:60]))


def test_short_and_constant_series_have_none() -> None:
    step = np.repeat([0.0, 1.0], [5, 4])
    assert len(step) == LEAST - 1
    assert of_series([list(step), [], [3.0] * 50]) == [[], [], []]


def test_the_level_is_shared_by_the_series_of_a_page() -> None:
    """A step with p = 0.01 is found alone, and not among 50 others; short ones take no share."""
    values = next(
        found
        for seed in itertools.count()
        if 0.003 < p_value(scored(found := noise(20, seed) + np.repeat([0, 0.02], 10)), 0.001) < 0.03
    )
    assert len(only(values)) == 1
    assert of_series([list(values), *[[0.0] * (LEAST - 1)] * 50])[0] == only(values)
    assert of_series([list(values), *[list(noise(20, 1000 + n)) for n in range(50)]])[0] == []


def test_more_than_half_equal_values_are_ranked() -> None:
    values = np.array([1.0] * 8 + [2.0, 1000.0, 3.0])
    assert scored(values).tolist() == [-1.5] * 8 + [3.0, 5.0, 4.0]


# -- without noise -------------------------------------------------------------------------------------------------


def test_a_figure_without_noise_changes_exactly() -> None:
    sessions = [[100.0, 100.0]] * 3 + [[102.0, 102.0]] * 2
    assert exact(sessions, False) == [Found(3, 100.0, 102.0, None, "exact")]
    assert exact([[100.0, 100.0]] * 3 + [[100.9, 100.9]] * 2, False) == []  # less than 1 %
    assert exact([[0.0, 0.0]] * 4 + [[0.1, 0.1]], False) == [Found(4, 0.0, 0.1, None, "exact")]
    assert exact([[5.0], [5.0], [7.0]], True) == [Found(2, 5.0, 7.0, None, "exact")]
    assert exact([[5.0]], True) == []


@pytest.mark.parametrize(
    "sessions",
    [
        [[100.0, 100.0]] * 5 + [[100.0, 101.0]],  # launches differ
        [[100.0]] * 5 + [[110.0]],  # one launch, which may be noise
        [[100.0, 100.0], [110.0, 110.0]] * 3,  # changes each time
        [[100.0, 100.0]] * 2 + [[110.0, 110.0]] * 2,  # may be equal by chance
    ],
)
def test_a_figure_with_noise_needs_the_test(sessions: list[list[float]]) -> None:
    assert exact(sessions, False) is None
