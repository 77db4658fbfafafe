"""Durations, read and said."""

from __future__ import annotations

import pytest

from bench.plan.duration import seconds, words
from bench.plan.options import SETTINGS, show


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90.0),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("2h", 7200.0),
        ("1h1s", 3601.0),
        ("1m0.5s", 60.5),
        ("90", 90.0),
        ("0.25", 0.25),
    ],
)
def test_a_duration_is_read_and_what_is_shown_of_it_reads_back(text: str, value: float) -> None:
    assert seconds(text) == value
    assert seconds(show(value)) == value


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "h", "-5", "5x", "1m1h", "1.5h", "inf", "nan", "1 h", "1d", "٣", "9" * 30, "1h30", "5m10", "1h2m3"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        seconds(text)


@pytest.mark.parametrize(("given", "value"), [("30m", 1800.0), (1800, 1800.0), (0.5, 0.5)])
def test_a_suite_may_give_a_number(given: object, value: float) -> None:
    assert SETTINGS["budget"].read(given, "here") == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (125, "2m05s"),
        (3599.7, "1h00m00s"),
        (5400, "1h30m00s"),
    ],
)
def test_a_duration_in_words(value: float, said: str) -> None:
    assert words(value) == said
