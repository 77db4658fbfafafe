"""docs/history.md: its rates are those that were counted, and keep what the page promises."""

from __future__ import annotations

import math

import pytest

from bench.stats.change_points import BOUND, CLIP, EDGE, FLOOR, LEAST, LEVEL
from tests.benchmarks import change_points as rates

PAGE = rates.PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_generator_makes_of_the_stored_rates() -> None:
    assert rates.update(PAGE, rates.stored()) == PAGE


def test_the_page_has_the_numbers_of_the_code() -> None:
    assert (LEAST, EDGE, CLIP, BOUND, LEVEL, round(math.expm1(FLOOR), 12)) == (10, 3, 3.0, 3.0, 0.05, 0.01)
    for words in ("It takes 10 sessions.", "more than three robust deviations", "at least three sessions on each side"):
        assert words in " ".join(PAGE.split())
    for words in ("D2 ÷ D1 − 1 + 3 ÷ √n", "p is at most 5 % ÷ the number of series", "differ by more than 1 %"):
        assert words in " ".join(PAGE.split())


def test_the_stored_rates_keep_what_is_promised() -> None:
    found = rates.stored()
    assert {rate.noise for rate in found} == set(rates.NOISES)
    for rate in found:
        if rate.table == "pages" and rate.noise in rates.MODELS:
            assert rate.count <= rate.of * LEVEL + 4 * math.sqrt(rate.of * LEVEL * (1 - LEVEL)), rate


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(rates.NOISES))
def test_the_rates_are_those_that_are_stored(name: str) -> None:
    assert rates.certify(name) == [rate for rate in rates.stored() if rate.noise == name], "make certificate"
