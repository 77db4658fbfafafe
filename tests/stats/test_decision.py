"""From blocks to verdicts, with blocks whose p values are worked out by hand.

``around(m, d)`` are m - 2d, m - d, m, m + d, m + 2d: trimmed mean m, error d sqrt(4 / 6) = 0.8164966 d, 2 degrees of
freedom. So t = m / (0.8164966 d), and p = 1/2 - t / (2 sqrt(2 + t²)).
"""

from __future__ import annotations

import math

import pytest

from bench.stats.decision import Stages, candidates, compared, control, decide, holm
from bench.stats.power import Blocks, detectable, upper
from bench.stats.trimmed import spread
from bench.stats.verdict import Rules

RULES = Rules()


def around(mean: float, step: float) -> list[float]:
    return [mean + place * step for place in (1, -2, 0, 2, -1)]


SUSPECT = around(-0.04, 0.01)  # t 4.899, p 0.0196: a candidate, and no more
CONFIRMED = around(-0.04, 0.003)  # t 16.330, p 0.00186
HALF = around(-0.04, 0.0045)  # t 10.887, p 0.00417
STEADY = around(0.0, 0.001)


def minus(blocks: list[float]) -> list[float]:
    return [-block for block in blocks]


def verdict(first: list[float], second: list[float] | None = None, rules: Rules = RULES) -> tuple[str, str]:
    found = decide({"a": Stages(first, second or [])}, rules)["a"]
    return found.verdict, found.reason


def test_the_p_values_of_this_page() -> None:
    cases = {"suspect": SUSPECT, "confirmed": CONFIRMED, "half": HALF}
    found = decide({name: Stages(blocks) for name, blocks in cases.items()}, RULES)
    assert [found[name].p for name in cases] == [
        *(pytest.approx(0.0196155, abs=1e-7), pytest.approx(0.0018645, abs=1e-7), pytest.approx(0.0041661, abs=1e-7)),
    ]


def test_candidates_are_all_that_differ_at_the_loose_level_either_way() -> None:
    """around(0.04, 0.02): t 2.449, p 0.0670."""
    first = {
        "slower": SUSPECT,
        "faster": minus(SUSPECT),
        "noisy": around(0.04, 0.02),
        "steady": STEADY,
        "few": CONFIRMED[:4],
    }
    assert candidates(first) == ["slower", "faster"]


def test_slower_and_faster_are_confirmed_by_fresh_blocks() -> None:
    assert verdict(SUSPECT, CONFIRMED)[0] == "slower"
    assert verdict(minus(SUSPECT), minus(CONFIRMED))[0] == "faster"


def test_what_is_said_of_a_confirmed_change() -> None:
    """exp(-0.04) = 0.9607894; the interval is -0.04 -+ 4.30265273 x 0.00244949 = -0.0505393, -0.0294607."""
    found = decide({"a": Stages(SUSPECT, CONFIRMED)}, RULES)["a"]
    assert (found.ratio, found.low, found.high) == (
        *(pytest.approx(0.9607894, abs=1e-7), pytest.approx(math.exp(-0.0505393), abs=1e-6)),
        pytest.approx(math.exp(-0.0294607), abs=1e-6),
    )
    assert (found.blocks, found.p) == (5, pytest.approx(0.0018645, abs=1e-7))
    assert found.detectable == detectable(upper(float(spread(CONFIRMED)), 5), Blocks(5, 5))
    assert found.reason.startswith("-3.9% (-4.9%…-2.9%) on 5 blocks; confirmed by fresh launches")


@pytest.mark.parametrize("first", [SUSPECT, CONFIRMED, around(-0.4, 0.001)])
def test_a_first_stage_alone_is_no_change_however_sure(first: list[float]) -> None:
    assert verdict(first)[0] == "inconclusive"


def test_a_second_stage_decides_alone() -> None:
    """p 0.0196 is above 0.005, whatever the first stage said."""
    said, why = verdict(CONFIRMED, SUSPECT)
    assert said == "inconclusive"
    assert "fresh launches do not confirm it" in why


def test_a_second_stage_that_contradicts_the_first() -> None:
    said, why = verdict(SUSPECT, minus(CONFIRMED))
    assert said == "inconclusive"
    assert "fresh launches do not confirm it" in why
    assert decide({"a": Stages(SUSPECT, minus(CONFIRMED))}, RULES)["a"].p == pytest.approx(1 - 0.0018645, abs=1e-7)


def test_same_needs_to_be_shown() -> None:
    """-ln 0.97 = 0.0304592 off nothing, / 0.000816497 = 37.3: p 0.0004. With steps of 0.02, 1.865: p 0.1016."""
    assert verdict(STEADY)[0] == "same"
    said, why = verdict(around(0.0, 0.02))
    assert said == "inconclusive"
    assert "within the noise" in why
    assert "to tell 3.0% it would take" in why


def test_same_is_within_what_is_to_be_detected() -> None:
    """Against a margin of 1 %: 0.01005 / 0.000816497 = 12.3, p 0.0032; of 0.2 %: 0.002002 / 0.000816497 = 2.45, p 0.067."""
    assert verdict(STEADY, rules=Rules(detect=0.01))[0] == "same"
    assert verdict(STEADY, rules=Rules(detect=0.002))[0] == "inconclusive"


def test_a_suspect_that_fresh_blocks_clear_is_the_same() -> None:
    assert verdict(SUSPECT, STEADY)[0] == "same"


def test_within_the_floor_a_change_is_none() -> None:
    """-0.009 in steps of 0.0005: t 22.0, p 0.0010; a change, of 0.9 %."""
    assert verdict(SUSPECT, around(-0.009, 0.0005))[0] == "same"
    assert verdict(SUSPECT, around(-0.009, 0.0005), Rules(floor=0.005))[0] == "slower"
    said, why = verdict(
        SUSPECT, around(-0.009, 0.0005), Rules(detect=0.01)
    )  # (0.01005 - 0.009) / 0.00041 = 2.57: 0.062
    assert said == "inconclusive"
    assert "floor of 1.0%" in why


def test_holm_over_two_candidates() -> None:
    """The smaller p is compared with 0.0025, and only if it is below, the other one with 0.005."""
    both = decide({"a": Stages(SUSPECT, HALF), "b": Stages(SUSPECT, CONFIRMED)}, RULES)
    assert [found.verdict for found in both.values()] == ["slower", "slower"]
    neither = decide({"a": Stages(SUSPECT, HALF), "b": Stages(SUSPECT, HALF)}, RULES)
    assert [found.verdict for found in neither.values()] == ["inconclusive", "inconclusive"]
    assert verdict(SUSPECT, HALF)[0] == "slower"


def test_only_candidates_share_the_level() -> None:
    many = {str(case): Stages(STEADY) for case in range(30)}
    assert decide({**many, "a": Stages(SUSPECT, HALF)}, RULES)["a"].verdict == "slower"


def test_holms_steps() -> None:
    """0.01 / 4 = 0.0025, / 3 = 0.0033, / 2 = 0.005: the third is above it, and stops the fourth as well."""
    assert holm([0.0030, 0.0095, 0.0020, 0.0060], 0.01) == [True, False, True, False]
    assert holm([], 0.005) == []
    assert holm([0.005], 0.005) == [True]
    assert holm([0.0051], 0.005) == [False]


@pytest.mark.parametrize(
    ("first", "second", "count"), [([], [], 0), (CONFIRMED[:4], [], 4), (SUSPECT, CONFIRMED[:3], 3)]
)
def test_too_few_blocks(first: list[float], second: list[float], count: int) -> None:
    found = decide({"a": Stages(first, second)}, RULES)["a"]
    assert (found.verdict, found.blocks, found.ratio) == ("inconclusive", count, None)
    assert f"{count} blocks with a number; 5 are needed" in found.reason


def test_blocks_that_are_all_equal() -> None:
    assert verdict([-0.05] * 6, [-0.05] * 6)[0] == "slower"
    assert verdict([0.0] * 6)[0] == "same"


def test_launches_made_without_a_question_are_decided_in_one_stage() -> None:
    """Holm over all: with three, 0.0018645 is compared with 0.00167, with two with 0.0025."""
    assert compared({"a": CONFIRMED, "b": STEADY}, RULES)["a"].verdict == "slower"
    assert compared({"a": CONFIRMED, "b": STEADY, "c": STEADY}, RULES)["a"].verdict == "inconclusive"


@pytest.mark.parametrize(
    ("blocks", "flagged"),
    [
        (around(0.02, 0.001), True),  # t 24.5, p 0.0008; 2 %
        (around(-0.02, 0.001), True),
        (around(0.009, 0.0003), False),  # t 36.7, within the floor
        (around(0.04, 0.01), False),  # p 0.0196
        (STEADY, False),
        (around(0.02, 0.001)[:4], True),  # unknown
    ],
)
def test_the_control_pair(blocks: list[float], flagged: bool) -> None:
    found = control("a", blocks, RULES)
    assert found.flagged is flagged
    assert found.case == "a"
