"""Collectives of two sides beside each other: the bandwidth of the largest size, the time of the smallest, α and β."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from bench.analysis.comms import SERIES, comms_answers, comms_frame
from bench.plan.comms import COLLECTIVES
from bench.stats.intervals import exp, log_median, of_ratio

# What must be equal on both sides. The ranks of a node may differ, as those of clusters do.
ALIKE = tuple(name for name in SERIES if name not in ("environment", "nproc_per_node"))
RATIO = ("ratio", "low", "high")
COLUMNS = (
    *ALIKE,
    *("largest_bytes", "busbw_a", "busbw_b", *(f"busbw_{name}" for name in RATIO)),
    *("smallest_bytes", "time_us_a", "time_us_b", *(f"time_{name}" for name in RATIO)),
    *("alpha_us_a", "alpha_us_b", "beta_a", "beta_b", "launches_a", "launches_b"),
)
Comms = tuple[pd.DataFrame, list[Mapping[str, Any]]]  # Launches with their environment, and the rows of comms.csv.


def links(a: Comms, b: Comms) -> pd.DataFrame:
    """Return a row for each collective, group and type that both sides have measured at a common size, with COLUMNS.

    ``busbw_a`` and ``busbw_b`` are the median bus bandwidths in GB/s at the largest common size, ``time_us_a`` and
    ``time_us_b`` the median times at the smallest; their ratios are B / A with the 95 % bounds of ``of_ratio`` over
    launches. α and β are those of each side's own model (``bench.stats.alpha_beta``), over all of its sizes.
    """
    frames = [_good(*side) for side in (a, b)]
    models = [_models(*side) for side in (a, b)]
    sides = [
        {_key(key): rows for key, rows in frame.groupby(list(ALIKE), sort=False, dropna=False)} for frame in frames
    ]
    rows = [dict(zip(ALIKE, key, strict=True)) | found
            for key in sides[0] if key in sides[1]
            for found in _row(sides[0][key], sides[1][key], [model.get(key, {}) for model in models])]  # fmt: skip
    order = {name: place for place, name in enumerate(COLLECTIVES)}
    rows.sort(key=lambda row: (row["gpus"], row["group"] != "all", order.get(row["collective"], len(order))))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _good(launches: pd.DataFrame, rows: list[Mapping[str, Any]]) -> pd.DataFrame:
    frame = comms_frame(launches, rows)
    return frame[(frame["status"] == "ok") & frame["size_bytes"].notna() & (frame["time_us"] > 0)]


def _models(launches: pd.DataFrame, rows: list[Mapping[str, Any]]) -> dict[Any, dict[Any, Any]]:
    """Return the model of each series; none of a series that a side measured in several environments."""
    found = comms_answers(launches, rows).models
    alone = found[~found.duplicated(list(ALIKE), keep=False)]
    return {_key(row[name] for name in ALIKE): row for row in alone.to_dict("records")}


def _key(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return what identifies a series; unknown values are None, so that they are equal."""
    return tuple(None if pd.isna(value) else value for value in values)


def _row(a: pd.DataFrame, b: pd.DataFrame, models: list[dict[Any, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the row of a series if both sides have a common size."""
    common = sorted(set(a["size_bytes"]) & set(b["size_bytes"]))
    if not common:
        return
    small, large = ([side[side["size_bytes"] == size] for side in (a, b)] for size in (common[0], common[-1]))
    yield {
        **{"smallest_bytes": common[0], "largest_bytes": common[-1]},
        **{f"busbw_{name}": side["busbw_gb_per_s"].median() for name, side in zip("ab", large, strict=True)},
        **{f"time_us_{name}": side["time_us"].median() for name, side in zip("ab", small, strict=True)},
        **_ratio("busbw", *map(_rates, large[::-1])),
        **_ratio("time", *map(_rates, small)),
        **{f"{what}_{name}": model.get(what, math.nan)
           for what in ("alpha_us", "beta") for name, model in zip("ab", models, strict=True)},
        **{f"launches_{name}": len(side) for name, side in zip("ab", large, strict=True)},
    }  # fmt: skip


def _rates(rows: pd.DataFrame) -> dict[Any, float]:
    """Return calls per second by run and launch."""
    return {(run, launch): 1e6 / time for run, launch, time in rows[["run_id", "launch_id", "time_us"]].to_numpy()}


def _ratio(what: str, above: Mapping[Any, float], below: Mapping[Any, float]) -> dict[str, float]:
    low, high, _ = of_ratio(above, below)
    ratio = exp(log_median(above) - log_median(below))
    return dict(zip((f"{what}_{name}" for name in RATIO), (ratio, low, high), strict=True))
