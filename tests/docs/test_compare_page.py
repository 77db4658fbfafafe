"""The table of sessions in docs/compare-clusters.md, worked out again with scipy's noncentral t."""

from __future__ import annotations

import math
import re

import pytest
from documents import ROOT
from scipy import optimize, stats

from bench.stats.power import LEVEL

PAGE = ROOT / "docs" / "compare-clusters.md"


def found(spread: float, sessions: int) -> float:
    """The slowdown that so many sessions a side find 95 times of 100, at the level of one case."""
    error, freedom = spread * math.sqrt(2 / sessions), sessions - 1
    least = stats.t.ppf(1 - LEVEL, freedom)
    shift = optimize.brentq(lambda shift: stats.nct.sf(least, freedom, shift) - 0.95, 0, 30)
    return 1 - math.exp(-shift * error)


def test_the_table_of_sessions() -> None:
    lines = [
        line for line in PAGE.read_text().splitlines() if re.fullmatch(r"\| (sessions differ by|\d.*%) \|.*", line)
    ]
    header, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    counts = [int(text.split()[0]) for text in header[1:]]
    assert min(counts) == 3  # with 2, the shift is beyond what scipy can tell
    for spread, *cells in rows:
        told = [float(cell.rstrip(" %")) / 100 for cell in cells]
        expected = [found(float(spread.rstrip(" %")) / 100, count) for count in counts]
        assert told == pytest.approx(expected, abs=0.0006, rel=0.02)
