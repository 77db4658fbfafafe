"""Throughput against memory, and the cases that no other case beats in both."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bench.analysis.rates import LOSS, Key, Rates, losses, rates
from bench.analysis.summary import GROUP
from bench.stats.verdict import Rules
from bench.store.columns import DEVICE_MEMORY, HOST_MEMORY, RANK_MEMORY

# Cases are traded off if these axes are equal: the same training on as many devices.
QUESTION = ("environment", "workload", "data", "device", "gpus", "work", "code")
MIB_A_GIB = 1024
FLOOR = Rules().floor_memory  # a smaller difference of memory, as a share, is of no interest
COLUMNS = (
    *(*GROUP, "workload", "data", "device", "gpus", "status"),
    *("samples_per_s", "memory_mib", "memory_measure", "on_front", "choice", *LOSS),
)


def host_memory(cases: pd.DataFrame) -> tuple[str, ...]:
    """Return the measures by which host memory of these cases can be compared.

    If they have different numbers of DataLoader workers, the workers' memory counts.
    """
    return HOST_MEMORY if cases["num_workers"].astype("float64").fillna(0).nunique() > 1 else RANK_MEMORY


def with_memory(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the summary with ``memory_mib`` and ``memory_measure``.

    Within one question all cases have the same measure, the first that is known of every case with a number; unknown if
    there is none.
    """
    found = cases.assign(memory_mib=float("nan"), memory_measure=None)
    for _, rows in cases.groupby(list(QUESTION), sort=False, dropna=False):
        measured = rows[rows["ok"] > 0]
        names = host_memory(measured) if rows["device"].iloc[0] == "cpu" else DEVICE_MEMORY
        measure = next((name for name in names if len(measured) and measured[name].notna().all()), None)
        if measure:
            found.loc[measured.index, "memory_mib"] = measured[measure].astype("float64")
            found.loc[measured.index, "memory_measure"] = measure
    return found


def tradeoff(summary: pd.DataFrame, launches: pd.DataFrame, within_gib: Iterable[float] = ()) -> pd.DataFrame:
    """Return the cases of each question with two or more of them, the fastest first, from a summary ``with_memory``.

    ``on_front``: no other case is as fast or faster with as little or less memory, and better in one of them. Only
    cases whose launches all succeeded are on it. ``choice`` is ``fastest``, ``smallest`` (the fastest of those whose
    memory is within FLOOR of the least), or ``fastest within M GiB`` for each of ``within_gib`` (memory of one device),
    joined by `; `; None for others. ``loss`` and its bounds say how much slower a case is than the fastest of those
    whose launches all succeeded (see ``losses``).
    """
    by_case = rates(launches)
    questions = [
        _question(rows, by_case, list(within_gib))
        for _, rows in summary.groupby(list(QUESTION), sort=False, dropna=False)
        if (rows["ok"] > 0).sum() > 1
    ]
    found = pd.concat(questions, ignore_index=True) if questions else pd.DataFrame(columns=list(COLUMNS))
    return found[list(COLUMNS)]


def _question(rows: pd.DataFrame, by_case: dict[Key, Rates], within_gib: list[float]) -> pd.DataFrame:
    rows = rows.sort_values(["samples_per_s", "memory_mib"], ascending=[False, True], na_position="last", kind="stable")
    sound = rows[(rows["status"] == "ok") & (rows["ok"] > 0)]
    lost = losses(rows, sound.index[0], by_case) if len(sound) else pd.DataFrame(index=rows.index, columns=list(LOSS))
    known = sound[sound["memory_mib"].notna()]
    # Fastest first: a case is on the front if no faster one needs as little memory, and no equally fast one less.
    least = known["memory_mib"] == known["memory_mib"].cummin()
    front = known[least & (known["samples_per_s"] == known.groupby("memory_mib")["samples_per_s"].transform("max"))]
    choices: dict[object, list[str]] = {}
    if len(front):
        choices.setdefault(front.index[0], []).append("fastest")
        small = front[front["memory_mib"] * (1 - FLOOR) <= front["memory_mib"].min()]
        choices.setdefault(small.index[0], []).append("smallest")
    for gib in within_gib:
        fit = front[front["memory_mib"] <= gib * MIB_A_GIB]
        if len(fit):
            choices.setdefault(fit.index[0], []).append(f"fastest within {gib:g} GiB")
    choice = ["; ".join(choices.get(index, [])) or None for index in rows.index]
    return rows.assign(on_front=rows.index.isin(front.index), choice=pd.Series(choice, rows.index, "str")).join(lost)
