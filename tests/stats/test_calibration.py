"""The noise of a machine, against figures worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from made_up_rows import block, launch

from bench.stats.calibration import LEAST_STEPS, MOST_STEPS, Noise, between, noise_of
from bench.stats.power import Blocks, detectable, needed, upper
from bench.stats.trimmed import error_of
from bench.store.columns import LaunchRow

TOLD = {"role": "control", "window_steps": 20, "window_s": 4.0, "launch_s": 10.0, "step_cv": 0.03}
NOISE = Noise(
    case_id="a",
    hostname="here",
    work_key="work",
    env_key="env",
    duet=False,
    steps=20,
    blocks=16,
    within_launch=0.04,
    between_launches=0.0125,
    of_blocks=0.01,
    between_sessions=None,
    seconds_a_block=60.0,
    step_s=0.25,
    samples_per_s=100.0,
    by_steps=0.04 / math.sqrt(20),
    window=(20, 0.0),
)


def noise(**known: Any) -> Noise:
    return Noise(**{**vars(NOISE), **known})


def rows(count: int = 5, **known: Any) -> list[LaunchRow]:
    """Blocks with A at 100 exp(+-e) and B at 100 exp(r +- e) for e = 0.01, r = 0.002 x (1, -2, 0, 2, -1)."""
    places = (1, -2, 0, 2, -1)
    found: list[LaunchRow] = []
    for n in range(count):
        mean = 100 * math.exp(0.002 * places[n % 5])
        rates = [100 * math.exp(0.01), mean * math.exp(0.01), mean * math.exp(-0.01), 100 * math.exp(-0.01)]
        found += block(n, rates, **{**TOLD, **known})
    return found


# -- the figures ---------------------------------------------------------------------------------------------------


def test_every_figure_of_a_case() -> None:
    """Two launches of a side are exp(+-0.01) apart: variance 2 x 0.01² / 1, deviation 0.0141421 in every group. The log
    ratios of the blocks are -0.004, -0.002, 0, 0.002, 0.004: of these one is trimmed at each end, and the winsorised ones
    have a sum of squares of 4 x 0.002² = 1.6e-5; an error of sqrt(1.6e-5 / 6) = 0.00163299, where normal blocks with a
    deviation of 1 have error_of(1, 5). Launches of 10 s, four a block; steps of 4 s / 20. Of the 20
    throughputs the tenth is 100 exp(-0.01 + 0.004), the eleventh 100 exp(0.01 - 0.004)."""
    (found,) = noise_of(rows(), {})
    assert (found.case_id, found.hostname, found.work_key, found.env_key) == ("a", "here", "work", "env")
    assert (found.duet, found.steps, found.blocks) == (False, 20, 5)
    assert found.within_launch == 0.03
    assert found.between_launches == pytest.approx(0.0141421, abs=1e-7)
    assert found.of_blocks == pytest.approx(0.00163299 / float(error_of(1.0, 5)), rel=1e-5)
    assert found.between_sessions is None
    assert (found.seconds_a_block, found.step_s) == (40.0, 0.2)
    assert found.samples_per_s == pytest.approx(100 * math.cosh(0.006))


def test_the_winsorised_deviation_of_five_normal_blocks() -> None:
    """z(0.8) = 0.8416212, phi(z) = 0.2799619: variance 0.6 - 2 x 0.8416212 x 0.2799619 + 0.4 x 0.7083263 = 0.4120886;
    x 4 / (3 x 2), its root 0.5241429. So 0.00163299 / 0.5241429 = 0.00311555."""
    (found,) = noise_of(rows(), {})
    assert found.of_blocks == pytest.approx(0.00311555, abs=2e-7)


def test_launches_are_pooled_within_a_side_of_a_block() -> None:
    """Between blocks everything doubles, which does not matter.

    Groups with ln 1.02 and ln 1.04 between their two launches have the variances 0.0198026² / 2 and 0.0392207² / 2; the
    root of their mean is 0.0219682.
    """
    made = [row for n in range(5) for row in block(n, [2.0**n, 3.0, 3.12, 2.0**n * 1.02], **TOLD)]
    (found,) = noise_of(made, {})
    assert found.between_launches == pytest.approx(0.0219682, abs=1e-7)


def test_medians_of_the_launches() -> None:
    made = [
        row.but(step_cv=None if n < 3 else 0.01 * n, window_steps=20 + n, window_s=(20 + n) * 0.1 * (n + 1))
        for n, row in enumerate(rows())
    ]
    (found,) = noise_of(made, {})
    assert found.within_launch == pytest.approx(0.11)  # 3 to 19 hundredths
    assert found.steps == 30  # 29.5
    assert found.step_s == pytest.approx(1.05)  # a tenth of 1 to 20
    assert noise_of(rows(step_cv=None), {})[0].within_launch is None


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"step_drift": 0.0}, 0.00670820),  # 0.03 / sqrt(20)
        # ln 1.04 = 0.0392207, either way; / 0.67449 = 0.0581487, a half of it 0.0290743, / sqrt(pi / 2) = 0.0231980
        ({"step_drift": 0.04}, 0.0231980),
        ({"step_drift": 1 / 1.04 - 1}, 0.0231980),
        ({"step_drift": 0.01}, 0.00670820),  # 0.0058854 is less
        ({"step_drift": None}, 0.00670820),
        ({"step_drift": 0.04, "step_cv": None}, 0.0231980),
        ({"step_drift": None, "step_cv": None}, None),
    ],
)
def test_what_steps_alone_move_launches_by(known: dict[str, Any], expected: float | None) -> None:
    (found,) = noise_of(rows(**known), {})
    assert found.by_steps == (None if expected is None else pytest.approx(expected, rel=1e-5))


def test_a_duet_runs_both_at_once() -> None:
    """Ratios of its own, and one launch on each side: the noise of launches of one side in one block is unknown."""
    made: list[LaunchRow] = []
    for n, ratio in enumerate((-0.004, -0.002, 0.0, 0.002, 0.004)):
        of_a, of_b = block(n, [100.0, 70.0], "AB", **TOLD)
        made += [of_a, of_b.but(duet_ratio=math.exp(ratio))]
    (found,) = noise_of(made, {})
    assert (found.duet, found.seconds_a_block, found.between_launches, found.best_steps) == (True, 10.0, None, None)
    assert found.of_blocks == pytest.approx(0.00311555, abs=2e-7)


def test_sessions() -> None:
    """ln 1.02 / sqrt(2) of two; None of one."""
    assert between([100.0, 102.0]) == pytest.approx(0.0198026 / math.sqrt(2), abs=1e-7)
    assert between([100.0]) is None
    assert between([]) is None
    (found,) = noise_of(rows(), {"a": [200.0], "b": [1.0]})
    assert found.between_sessions == pytest.approx(abs(math.log(200 / found.samples_per_s)) / math.sqrt(2))


def test_cases_have_noise_of_their_own_and_few_blocks_have_none() -> None:
    assert [one.case_id for one in noise_of([*rows(case_id="a"), *rows(case_id="b", pair="b")], {})] == ["a", "b"]
    assert noise_of(rows(4), {}) == []
    assert noise_of([], {}) == []
    assert noise_of(rows(role="measure"), {}) == []


@pytest.mark.parametrize(
    "how",
    [
        {"status": "crashed", "samples_per_s": None, "launch_s": None},
        {"samples_per_s": None},
        {"launch_s": None},
        {"window_steps": None},
        {"window_steps": 0},
        {"window_s": None},
    ],
    ids=str,
)
def test_a_launch_of_which_not_all_is_known_costs_its_block(how: dict[str, Any]) -> None:
    """As in a calibration that was stopped, or that an older version made."""
    made = rows(6)
    made[0] = made[0].but(**how)
    (found,) = noise_of(made, {})
    assert (found.blocks, found.seconds_a_block) == (5, 40.0)
    assert noise_of([row.but(**how) for row in made], {}) == []


def test_launches_of_a_block_that_was_stopped_do_not_make_blocks_cheaper() -> None:
    (found,) = noise_of([*rows(), launch(pair="a", side="A", stage=1, block=5, turn=0, **TOLD)], {})
    assert (found.blocks, found.seconds_a_block) == (5, 40.0)


# -- what it is planned with ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "steps"),
    [
        # a launch costs 60 / 4 - 20 x 0.25 = 10 s, a step 0.25 s: sqrt(40) = 6.3246;
        # beside its steps it varies by sqrt(0.0125² - 0.04² / 20) = 0.00873212: 6.3246 x 0.04 / 0.00873212 = 28.97
        ({}, 29),
        ({"duet": True, "seconds_a_block": 15.0}, 29),  # the same launch
        ({"duet": True}, 68),  # 60 - 5 = 55 s: sqrt(220) = 14.8324; x 4.58079 = 67.94
        ({"between_launches": 0.03}, LEAST_STEPS),  # 6.3246 x 0.04 / 0.0286356 = 8.83
        # 0.00895² = 8.01025e-5, less 8e-5 = 1.025e-7: 6.3246 x 0.04 / 0.000320156 = 790.2
        ({"between_launches": 0.00895}, 791),
        ({"between_launches": 0.0089}, MOST_STEPS),  # less than the steps explain
        ({"between_launches": 0.0}, MOST_STEPS),
        ({"by_steps": 0.0}, LEAST_STEPS),
        # steps that resemble their neighbours: sqrt(0.0125² - 0.01²) = 0.0075 beside them, 6.3246 x 0.0447214 / 0.0075 = 37.7
        ({"by_steps": 0.01}, 38),
        ({"seconds_a_block": 10.0}, LEAST_STEPS),  # a launch that costs nothing
        ({"between_launches": None}, None),
        ({"by_steps": None}, None),
    ],
)
def test_best_steps_by_the_two_level_optimum(known: dict[str, Any], steps: int | None) -> None:
    assert noise(**known).best_steps == steps


def test_best_steps_cost_the_least_for_a_given_certainty() -> None:
    """By trying all: the variance of a mean over launches of r steps is (s_launch² + s_step² / r) per launch, and a launch
    takes 10 s + 0.25 s x r; their product is smallest at what is proposed, or beside it."""
    alone = 0.0125**2 - 0.04**2 / 20
    cost = {r: (alone + 0.04**2 / r) * (10 + 0.25 * r) for r in range(1, 1001)}
    best = min(cost, key=lambda r: cost[r])
    assert NOISE.best_steps in (best, best + 1)


@pytest.mark.parametrize(
    ("seconds", "blocks"),
    [
        (899.0, None),  # 15 blocks of 60 s: 5 and 10
        (900.0, Blocks(5, 10)),
        (1079.0, Blocks(5, 10)),
        (1080.0, Blocks(6, 12)),
        (36000.0, Blocks(200, 400)),
        (0.0, None),
    ],
)
def test_as_many_blocks_as_there_is_time_for(seconds: float, blocks: Blocks | None) -> None:
    assert NOISE.within(seconds) == blocks
    if blocks:
        assert sum(blocks) * NOISE.seconds_a_block <= seconds


def test_plans_are_made_with_what_the_spread_seldom_exceeds() -> None:
    assert NOISE.upper == upper(0.01, 16) > 0.01
    assert NOISE.needed(0.03) == needed(upper(0.01, 16), 0.03)
    assert NOISE.detectable(Blocks(8, 16)) == detectable(upper(0.01, 16), Blocks(8, 16))
    assert noise(blocks=40).upper < NOISE.upper
    found = NOISE.needed(0.03)
    assert found is not None
    assert NOISE.detectable(found) <= 0.03 + 1e-5
    assert NOISE.detectable(Blocks(found.first, found.second - 1)) > 0.03
    assert noise(of_blocks=1.0).needed(0.03) is None
    assert noise(of_blocks=0.0).needed(0.03) == Blocks(5, 5)
