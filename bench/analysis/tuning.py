"""The best threads and DataLoader workers, and what the defaults lose against them."""

from __future__ import annotations

import pandas as pd

from bench.analysis.rates import LOSS, Key, Rates, losses, rates
from bench.analysis.summary import GROUP
from bench.plan.options import AXES

TUNED = ("omp_num_threads", "num_workers", "prefetch_factor")
COLUMNS = (
    *(*GROUP, "workload", "data", "strategy", "gpus", *TUNED, "group", "status"),
    *("samples_per_s", "data_wait_share", "best", "default", *LOSS),
)


def tuning(summary: pd.DataFrame, launches: pd.DataFrame) -> pd.DataFrame:
    """Return the cases that differ only in TUNED, in groups (numbered from 0) of two or more.

    ``best`` marks the fastest whose launches all succeeded, ``default`` the one with the defaults of all three axes.
    ``loss`` is 1 - median throughput / the best's, with the bounds of ``losses``.
    """
    cases = summary.copy()
    # Without workers these axes have no effect, and the case belongs to the group of those with workers.
    idle = cases["num_workers"] == 0
    cases.loc[idle, "persistent_workers"] = AXES["persistent_workers"].default
    fixed = ["environment", "work", "code", "oversubscribe", *(name for name in AXES if name not in TUNED)]
    by_case = rates(launches)
    number = cases.groupby(fixed, sort=False, dropna=False).ngroup()
    several = number.duplicated(keep=False)  # most cases are alone, and a group for each would take long
    groups = [rows for _, rows in cases[several].groupby(number[several], sort=False) if _is_tuned(rows)]
    found = [_group(rows.assign(group=number), by_case) for number, rows in enumerate(groups)]
    return pd.concat(found, ignore_index=True)[list(COLUMNS)] if found else pd.DataFrame(columns=list(COLUMNS))


def _is_tuned(rows: pd.DataFrame) -> bool:
    return len(rows[rows["ok"] > 0].drop_duplicates(list(TUNED))) > 1


def _group(rows: pd.DataFrame, by_case: dict[Key, Rates]) -> pd.DataFrame:
    sound = rows[(rows["status"] == "ok") & (rows["ok"] > 0)]
    best = sound["samples_per_s"].idxmax() if len(sound) else None
    lost = losses(rows, best, by_case) if best is not None else pd.DataFrame(index=rows.index, columns=list(LOSS))
    # an axis without effect in all of them does not matter for the default
    default = [
        all(pd.isna(row[name]) or row[name] == AXES[name].default for name in TUNED) for _, row in rows.iterrows()
    ]
    return rows.assign(best=rows.index == best, default=default).join(lost)
