"""What two blocks of each pair tell, worked out by hand; and that a number of blocks by their time biases no test."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from made_up_rows import block, blocks
from scipy import stats

from bench.stats.decision import candidates, p_same
from bench.stats.first_look import FirstLook, cost, first_looks, fitting
from bench.stats.power import Blocks, detectable, needed
from bench.store.columns import LaunchRow

STEP = 0.01


def looked(ratios: list[float], control: list[float], **known: object) -> FirstLook:
    """The look at a pair of blocks with these logs of the ratio, and at a control pair with those."""
    rows = [*blocks(map(math.exp, ratios), **known), *blocks(map(math.exp, control), role="control", **known)]
    return first_looks(rows)["a"]


def test_the_spread_is_that_within_the_pair_and_within_its_control() -> None:
    """Of 0 and 2 hundredths around their mean and of 0 and 4: squares 2 and 8 of two degrees of freedom are a variance
    of 5. Chi-squared with two degrees of freedom is -2 ln p below p: its 5 % point is 0.1025866."""
    found = looked([0.0, 2 * STEP], [0.0, 4 * STEP])
    assert (found.freedom, found.blocks) == (2, 4)
    assert found.deviation == pytest.approx(STEP * math.sqrt(5))
    bound = STEP * math.sqrt(5) * math.sqrt(2 / (-2 * math.log(0.95)))
    assert found.detectable(Blocks(8, 16)) == (
        pytest.approx(detectable(bound, Blocks(8, 16)), abs=2e-5),
        pytest.approx(detectable(STEP * math.sqrt(5), Blocks(8, 16)), abs=2e-5),
    )


def test_the_difference_of_the_sides_does_not_matter() -> None:
    one, other = looked([0.0, STEP], [0.0, STEP]), looked([-0.5, STEP - 0.5], [0.0, STEP])
    assert one.deviation == pytest.approx(other.deviation)
    assert (one.freedom, one.seconds_a_block) == (other.freedom, other.seconds_a_block)


def test_each_pair_has_its_own_spread_and_that_of_the_control() -> None:
    rows = [
        *blocks([1.0, math.exp(2 * STEP)], pair="a"),
        *blocks([1.0, 1.0], pair="b"),
        *blocks([1.0, 1.0], pair="a", role="control"),
    ]
    found = first_looks(rows)
    assert found["a"].deviation == pytest.approx(STEP)  # a square of 2 on two degrees
    assert found["b"].deviation == pytest.approx(0.0, abs=1e-12)


def test_a_block_takes_what_its_four_launches_take_and_a_duet_what_one_does() -> None:
    """The first launch waits for its server: 31 and three times 3 s are 40 s."""
    rows = [row.but(launch_s=31.0 if row.turn == 0 else 3.0) for row in blocks([1.0, 1.0])]
    assert first_looks(rows)["a"].seconds_a_block == pytest.approx(40.0)
    duet = [row.but(duet_ratio=1.0) for number in range(2) for row in block(number, [100, 100], "AB")]
    assert first_looks(duet)["a"].seconds_a_block == 10.0


def test_a_pair_with_a_failure_is_left_out_and_one_without_two_numbers_has_no_spread() -> None:
    failed = [row.but(status="oom") if row.side == "B" else row for row in blocks([1.0, 1.0])]
    assert first_looks(failed) == {}
    one = first_looks(blocks([1.0]))["a"]
    assert (one.deviation, one.freedom, one.detectable(Blocks(5, 10))) == (None, 0, None)


def test_a_budget_pays_for_both_stages_and_the_control() -> None:
    """Blocks of 10 and 20 s, three of each, and two of the control of 10 s: 110 s."""
    looks, control = [FirstLook(10.0), FirstLook(20.0)], FirstLook(10.0)
    assert cost(looks, control) == 110.0
    assert [fitting(looks, control, budget) for budget in (109.0, 110.0, 549.0, 550.0)] == [0, 1, 4, 5]


def test_what_a_change_needs_is_enough_in_both_stages() -> None:
    look = FirstLook(10.0, 0.01, 2, 4)
    bound = 0.01 * math.sqrt(2 / stats.chi2.ppf(0.05, 2))
    count, both = look.needed(0.05), needed(bound, 0.05)
    assert count is not None
    assert both is not None
    assert count == max(both.first, math.ceil(both.second / 2))
    assert look.detectable(Blocks(count, 2 * count))[0] <= 0.05  # type: ignore[index]
    assert FirstLook(10.0, 2.0, 2, 4).needed(0.03) is None


# -- no bias -----------------------------------------------------------------------------------------------------------


def gauss(draw: random.Random) -> float:
    return draw.gauss(0.0, 0.02)


def slow_now_and_then(draw: random.Random) -> float:
    """One launch in ten is slower by 10 to 100 %, as on a shared machine."""
    return draw.gauss(0.0, 0.01) - (math.log(draw.uniform(1.1, 2.0)) if draw.random() < 0.1 else 0.0)


def gate_of(draw: random.Random, noise: Callable[[random.Random], float], change: float) -> list[float]:
    """The first stage of a gate, whose number of blocks is by the time of the first two: launches last 1 / throughput."""

    def one() -> tuple[float, list[LaunchRow]]:
        rates = [100 * math.exp(noise(draw) + (change if side == "B" else 0.0)) for side in "ABBA"]
        log = (math.log(rates[1]) + math.log(rates[2]) - math.log(rates[0]) - math.log(rates[3])) / 2
        return log, [row.but(launch_s=1000 / rate) for row, rate in zip(block(0, rates), rates, strict=True)]

    found = [one(), one()]
    look = first_looks([row.but(block=n) for n, (_, rows) in enumerate(found) for row in rows])["a"]
    count = max(5, fitting([look], look, 5 * 9 * 40.0))  # nine blocks of four launches of 10 s
    return [log for log, _ in found] + [one()[0] for _ in range(count - 2)]


@pytest.mark.parametrize("noise", [gauss, slow_now_and_then])
def test_no_more_cases_are_suspected_than_with_a_fixed_number(noise: Callable[[random.Random], float]) -> None:
    """At 5 % in either direction, 100 of 1000 are expected with a deviation of 9.5; the trimmed t itself is off by a
    few tenths of a per cent."""
    draw, suspects, counts = random.Random(7), 0, set()
    for _ in range(1000):
        logs = gate_of(draw, noise, 0.0)
        counts.add(len(logs))
        suspects += bool(candidates({"a": logs}))
    assert len(counts) > 1  # the number does follow the time
    assert suspects < 100 + 4 * 9.5


def test_same_is_said_of_a_change_as_large_as_the_margin_5_times_of_100() -> None:
    """Of 1000 gates with a slowdown by the margin itself: 50, with a deviation of 6.9."""
    draw, margin = random.Random(8), -math.log1p(-0.03)
    wrong = sum(p_same(gate_of(draw, gauss, -margin), margin) <= 0.05 for _ in range(1000))
    assert wrong < 50 + 4 * 6.9
