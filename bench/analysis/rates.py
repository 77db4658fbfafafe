"""Throughput of single launches, and by how much a case is slower than another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.analysis.frames import good, known_values
from bench.analysis.intervals import of_ratio
from bench.analysis.summary import GROUP

Key = tuple[str | None, ...]
Rates = dict[tuple[str | None, int | None], float]
LOSS = ("loss", "loss_low", "loss_high", "interval")


def rates(launches: pd.DataFrame) -> dict[Key, Rates]:
    """samples/s of the launches that were ok, by (run_id, block), for each case by ``key``."""
    known = good(launches)[[*GROUP, "run_id", "block", "samples_per_s"]]
    found: dict[Key, Rates] = defaultdict(dict)
    for *case, run_id, block, rate in known_values(known):
        found[tuple(case)][run_id, block] = float(rate)
    return found


def key(case: Mapping[Any, Any] | pd.Series) -> Key:
    """What makes launches those of one case, None where it is unknown."""
    return tuple(None if pd.isna(case[name]) else str(case[name]) for name in GROUP)


def losses(cases: pd.DataFrame, best: Any, by_case: Mapping[Key, Rates]) -> pd.DataFrame:
    """LOSS against the case at the index ``best``, for each case that has a median of ``samples_per_s``.

    ``loss`` is 1 - median / best's median, with 95 % bounds of the mean log ratio; ``interval`` says how they were
    made. A bound at or below 0 means that the two cannot be told apart.
    """
    found: list[tuple[float, float, float, str | None]] = []
    for index, case in cases.iterrows():
        low, high, how = float("nan"), float("nan"), None
        if case["ok"] and index != best:
            low, high, how = of_ratio(by_case[key(case)], by_case[key(cases.loc[best])])
        found.append((1 - case["samples_per_s"] / cases.loc[best, "samples_per_s"], 1 - high, 1 - low, how or None))
    return pd.DataFrame(found, columns=list(LOSS), index=cases.index)
