"""What a million samples or tokens cost on each of two sides: in dollars and in joules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd

from bench.stats.ab_gate import rate
from bench.stats.comparison import Pair
from bench.stats.intervals import of_median
from bench.stats.verdict import Verdict
from bench.store.columns import LaunchRow

MILLION, HOUR_S = 1e6, 3600.0
OF_A_SIDE = (
    *("gpus", "price", "per_million_samples", "per_million_samples_low", "per_million_samples_high"),
    *("per_million_tokens", "per_million_tokens_low", "per_million_tokens_high"),
    *("joules_per_sample", "joules_per_token"),
)
COLUMNS = (
    *("case", "label", *(f"{name}_{side}" for side in "ab" for name in OF_A_SIDE)),
    *("ratio", "ratio_low", "ratio_high", "cheaper", "joules_ratio"),
)


def costs(
    pairs: Mapping[str, Pair],
    verdicts: Mapping[str, Verdict],
    labels: Mapping[str, str],
    prices: tuple[float, float] | None,
) -> pd.DataFrame:
    """Return a row for each case with a price or joules, with COLUMNS.

    ``prices`` are those of a device of A and of B, in dollars per hour. A million samples take 10^6 / X seconds of all
    N devices, with X samples/s: p N 10^6 / (3600 X) dollars, with the 95 % bounds of the median X over launches.
    ``ratio`` is B's cost / A's with the bounds of the verdict's ratio of throughput, and ``cheaper`` the side for which
    the verdict decides that: empty if its bounds include equal costs or are not known.
    """
    rows = [
        _row(verdicts[case], labels[case], pair, prices)
        for case, pair in pairs.items()
        if prices or any(row.joules_per_sample is not None for side in pair.sides for row in side)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(verdict: Verdict, label: str, pair: Pair, prices: tuple[float, float] | None) -> dict[str, Any]:
    sides = [_side(rows, price) for rows, price in zip(pair.sides, prices or (math.nan,) * 2, strict=True)]
    row: dict[str, Any] = {"case": verdict.case, "label": label}
    row |= {f"{name}_{side}": found[name] for side, found in zip("ab", sides, strict=True) for name in OF_A_SIDE}
    ratio, low, high = _ratio(verdict, *(side["price"] * side["gpus"] for side in sides))
    cheaper = "B" if high < 1 else "A" if low > 1 else ""
    joules = sides[1]["joules_per_sample"] / sides[0]["joules_per_sample"]
    return row | {"ratio": ratio, "ratio_low": low, "ratio_high": high, "cheaper": cheaper, "joules_ratio": joules}


def _side(rows: Sequence[LaunchRow], price: float) -> dict[str, float]:
    """Return OF_A_SIDE; NaN is unknown."""
    rates = [rate(row) for row in rows]
    low, high = of_median(pd.Series(rates))
    gpus, tokens = float(rows[0].gpus or 0), _tokens_of_a_sample(rows)
    of_all = price * gpus * MILLION / HOUR_S
    samples = {"": of_all / median(rates), "_low": of_all / high, "_high": of_all / low}
    joules = _median([row.joules_per_sample for row in rows])
    return {
        **{"gpus": gpus, "price": price, "joules_per_sample": joules, "joules_per_token": joules / tokens},
        **{f"per_million_samples{end}": cost for end, cost in samples.items()},
        **{f"per_million_tokens{end}": cost / tokens for end, cost in samples.items()},
    }


def _tokens_of_a_sample(rows: Sequence[LaunchRow]) -> float:
    """Return the tokens of a sample: of the workload, or else as it counts them in its batches."""
    return _median([row.tokens_per_s / rate(row) if row.tokens_per_s else None for row in rows])


def _ratio(verdict: Verdict, a_per_hour: float, b_per_hour: float) -> tuple[float, float, float]:
    """Return B's cost / A's and its bounds from those of the throughputs; NaN is unknown."""
    times = b_per_hour / a_per_hour
    ratios = (verdict.ratio, verdict.high, verdict.low)  # The faster B is, the less it costs.
    ratio, low, high = (times / value if value else math.nan for value in ratios)
    return ratio, low, high


def _median(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return median(known) if known else math.nan
