"""Throughput of single launches, and by how much a case is slower than another."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.analysis.frames import good
from bench.analysis.summary import GROUP
from bench.stats.best_of import bounds
from bench.stats.intervals import exp, of_ratio
from bench.store.environments import known_values

Key = tuple[str | None, ...]
Rates = dict[tuple[str | None, int | None], float]
LOSS = ("loss", "loss_low", "loss_high", "interval")


def rates(launches: pd.DataFrame) -> dict[Key, Rates]:
    """Return samples/s of the successful launches by (run_id, block), for each case by ``key``."""
    known = good(launches)[[*GROUP, "run_id", "block", "samples_per_s"]]
    found: dict[Key, Rates] = defaultdict(dict)
    for *case, run_id, block, rate in known_values(known):
        found[tuple(case)][run_id, block] = float(rate)
    return found


def key(case: Mapping[Any, Any] | pd.Series) -> Key:
    """Return what identifies the case of a launch; unknown values are None."""
    return tuple(None if pd.isna(case[name]) else str(case[name]) for name in GROUP)


def losses(cases: pd.DataFrame, best: Any, by_case: Mapping[Key, Rates]) -> pd.DataFrame:
    """Return LOSS against the case at the index ``best``, for each case that has a median of ``samples_per_s``.

    ``loss`` is 1 - median / best's median, with 95 % bounds that contain it. ``interval`` says how they were made. With
    two cases they are those of ``of_ratio``; with more, the wider of these and those of ``best_of.bounds``, so that any
    of so many equal cases is called slower by chance in at most 5 of 100 reports. If the lower bound is at or below 0,
    the two cannot be distinguished.
    """
    known = {index: by_case[key(case)] for index, case in cases.iterrows() if case["ok"]}
    wider = dict.fromkeys(known, (math.nan, math.nan))
    if len(known) > 2 and best in known:
        logs = [{block: math.log(rate) for block, rate in rates.items()} for rates in known.values()]
        wider = dict(zip(known, bounds(logs, list(known).index(best)), strict=True))
    found: list[tuple[float, float, float, str | None]] = []
    for index, rate in cases["samples_per_s"].items():
        low, high, how = math.nan, math.nan, ""
        if index in known and index != best:
            low, high, how = of_ratio(known[index], known[best])
            low, high = min(low, exp(wider[index][0])), max(high, exp(wider[index][1]))
        found.append((1 - rate / cases.loc[best, "samples_per_s"], 1 - high, 1 - low, how or None))
    return pd.DataFrame(found, columns=list(LOSS), index=cases.index)
