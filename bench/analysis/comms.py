"""Collectives: times and bandwidths by size over launches, and the α–β model of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.failures import failures
from bench.analysis.frames import DTYPES
from bench.plan.comms import COLLECTIVES, COMMS, GROUPS
from bench.plan.comms import DTYPES as TYPES
from bench.stats.alpha_beta import Model, fit, over_launches
from bench.stats.intervals import of_median
from bench.store.columns import COMMS as COLUMNS

# What distinguishes series of sizes, besides the collective: launches and groups that are not combined.
WHERE = (
    *("environment", "device", "backend", "gpus", "nproc_per_node", "omp_num_threads", "numa_binding", "env"),
    *("oversubscribe", "group", "group_ranks", "group_size", "dtype"),
)
SERIES = ("collective", *WHERE)
POINT = (*SERIES, "size_bytes")
FIGURES = ("time_us", "algbw_gb_per_s", "busbw_gb_per_s")
MODEL = Model._fields


@dataclass(frozen=True)
class CommsAnswers:
    """Frames about collectives.

    ``sizes``: a row for each collective, group, type and size. ``models``: the α–β model over the sizes of each.
    ``failures``: launches and cases that failed, as ``bench.analysis.failures`` has them.
    """

    sizes: pd.DataFrame
    models: pd.DataFrame
    failures: pd.DataFrame


def is_comms(launches: pd.DataFrame) -> pd.Series:
    """Return which launches measured collectives."""
    return launches["workload"].fillna("").astype("str").str.fullmatch(f"{COMMS}(:.*)?")


def comms_answers(launches: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> CommsAnswers:
    """Return the answers from rows of comms.csv; ``launches`` are those that count, with their ``environment``."""
    frame = comms_frame(launches, rows)
    return CommsAnswers(_sizes(frame), _models(frame), failures(launches[is_comms(launches)]))


def comms_frame(launches: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows of launches that count, with columns typed and without unknown values in what identifies them."""
    kinds = {name: DTYPES[COLUMNS[name].kind] for name in COLUMNS}
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in kinds.items()})
    known = launches.loc[is_comms(launches), ["run_id", "launch_id", "environment"]]
    frame = frame.merge(known, on=["run_id", "launch_id"])
    texts = [name for name in SERIES if name in COLUMNS and COLUMNS[name].kind == "text"]
    return frame.assign(**{name: frame[name].fillna("") for name in texts})


def _sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each POINT.

    Each of FIGURES is the median over launches that were ok; ``time_us_low`` and ``_high`` are the 95 % bounds of the
    median time, and ``spread`` is (largest - smallest) / median, both unknown for one launch. ``time_cv`` is the median
    of the iterations' variation. ``status`` and ``reason`` are those of the first launch that was not ok.
    """
    groups = frame.groupby(list(POINT), sort=False, dropna=False)
    found = [{**dict(zip(POINT, key, strict=True)), **_over_launches(of)} for key, of in groups]
    return _in_order(pd.DataFrame(found, columns=[*POINT, *_OVER_LAUNCHES]))


_OVER_LAUNCHES = (
    *("status", "reason", "launches", "ok", "message_bytes", *FIGURES, "time_us_low", "time_us_high", "spread"),
    *("time_cv", "correct"),
)


def _over_launches(rows: pd.DataFrame) -> dict[str, Any]:
    good, bad = rows[rows["status"] == "ok"], rows[rows["status"] != "ok"]
    times = good["time_us"]
    low, high = of_median(times)
    several = len(times) > 1
    return {
        "status": "ok" if bad.empty else bad["status"].iloc[0],
        "reason": None if bad.empty else bad["reason"].iloc[0],
        "launches": len(rows),
        "ok": len(good),
        "message_bytes": rows["message_bytes"].iloc[0],
        **{name: good[name].median() for name in FIGURES},
        "time_us_low": low,
        "time_us_high": high,
        "spread": (times.max() - times.min()) / times.median() if several else None,
        "time_cv": good["time_cv"].median(),
        "correct": None if good["correct"].isna().all() else bool(good["correct"].all()),
    }


def _models(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each SERIES with a message: the MODEL, and what was measured at both ends.

    ``latency_us`` is the time of the smallest size, ``busbw_gb_per_s`` the largest bus bandwidth, at ``best_bytes``.
    The model is unknown for fewer than three sizes, or where no positive latency and bandwidth fit those of a launch.
    """
    found = []
    good = frame[(frame["status"] == "ok") & frame["size_bytes"].notna()]
    for key, rows in good.groupby(list(SERIES), sort=False, dropna=False):
        launches = rows.groupby(["run_id", "launch_id"], sort=False)
        fits = [fit(list(of["message_bytes"]), list(of["time_us"])) for _, of in launches]
        known = [one for one in fits if one is not None]
        model = over_launches(known) if len(known) == len(fits) else None  # those with a solution would be a selection
        medians = rows.groupby("size_bytes")[["time_us", "busbw_gb_per_s"]].median().astype("float64")
        best = int(medians["busbw_gb_per_s"].argmax())
        ends = {"least_bytes": medians.index[0], "latency_us": medians["time_us"].iloc[0]}
        ends |= {"best_bytes": medians.index[best], "busbw_gb_per_s": medians["busbw_gb_per_s"].iloc[best]}
        found.append({**dict(zip(SERIES, key, strict=True)), **ends, **(model._asdict() if model else {})})
    columns = [*SERIES, "least_bytes", "latency_us", "best_bytes", "busbw_gb_per_s", *MODEL]
    return _in_order(pd.DataFrame(found, columns=columns))


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the order of the tables of options."""
    orders = {"collective": list(COLLECTIVES), "group": list(GROUPS), "dtype": list(TYPES)}

    def place(column: pd.Series) -> pd.Series:
        names = orders.get(str(column.name))
        return column if names is None else column.map({name: n for n, name in enumerate(["", *names])})

    by = [name for name in (*WHERE[:9], "group", "group_ranks", "collective", "dtype", "size_bytes") if name in rows]
    return rows.sort_values(by, key=place, kind="stable", ignore_index=True)
