"""When the rounds of an agreement end, and what is said of them."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.agreement import Round, interval, rounds


def test_the_interval_is_students_on_logarithms() -> None:
    """Logarithms 0, 0.02 and 0.04: mean 0.02, standard deviation 0.02; t for 2 degrees of freedom is 4.3027."""
    mean, half = interval([1.0, math.exp(0.02), math.exp(0.04)])
    assert mean == pytest.approx(math.exp(0.02))
    assert half == pytest.approx(4.3027 * 0.02 / math.sqrt(3), rel=1e-4)
    assert interval([1.01]) == (pytest.approx(1.01), math.inf)


@pytest.mark.parametrize(
    ("half_width", "limit_s", "made"),
    [
        (0.0, 1e9, 12),  # all
        (0.05, 1e9, 5),  # narrow at once, but never fewer than five
        (0.008, 1e9, 10),  # ten of ± 0.01: t 2.2622 x 0.01 x sqrt(10 / 9) / sqrt(10) = 0.00754; nine: 0.0081
        (0.0, 0.0, 1),  # no time for a second
    ],
)
def test_rounds_end_when_the_interval_is_narrow_or_the_time_is_up(half_width: float, limit_s: float, made: int) -> None:
    ratios = iter([math.exp(0.01 * (-1) ** n) for n in range(12)])
    found = rounds(lambda: Round(100.0, 100.0 * next(ratios)), 12, half_width, limit_s)
    assert len(found) == made
