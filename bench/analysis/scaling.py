"""Speed-up and efficiency of each case over a comparable one with fewer devices."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from bench.analysis.rates import Key, Rates, key, rates
from bench.analysis.summary import GROUP
from bench.plan.options import AXES, effective, show
from bench.stats.intervals import of_ratio
from bench.store.environments import known_values

SUSPICIOUS = 1.02  # an efficiency above it means more than N times the work by N times the devices
BASE = ("base_case_id", "base_code_key")
MAY_DIFFER = {"weak": ("gpus",), "strong": ("gpus", "batch_size")}
MUST_AGREE = (*(name for name in AXES if name != "gpus"), "oversubscribe", "environment", "code")
COLUMNS = (
    *(*GROUP, "base_case_id", "base_code_key", "workload", "strategy", "mode", "gpus", "base_gpus"),
    *("batch_size", "global_batch", "samples_per_s", "base_samples_per_s"),
    *("speedup", "speedup_low", "speedup_high", "efficiency", "efficiency_low", "efficiency_high"),
    *("launches", "interval", "flag", "refused"),
)


class Base(NamedTuple):
    """A case to compare with and the mode, or why there is none."""

    case: dict[str, Any] | None
    mode: str | None
    refused: str | None


def scaling(summary: pd.DataFrame, launches: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each base, and for each mode of each case with more devices.

    ``mode`` is ``weak`` if the batch of a device equals the base's, ``strong`` if the global batch does; all other
    axes, the environment and the code must be equal, and for strong scaling the work_key. The base is the one with the
    fewest devices; ``single`` represents one device of a strategy that did not run on one. With X the median throughput
    and N the devices, ``speedup`` is X(N) / X(N0) and ``efficiency`` is speedup / (N / N0), which for a strong case is
    T(N0) / (N / N0 T(N)). The bounds (95 %) are those of ``of_ratio``, by blocks of the same run if there are two, else
    by the intervals of both; ``interval`` says which. ``flag`` is set above SUSPICIOUS. ``refused`` says why there is
    no number; such a case has a row as well.
    """
    cases = [dict(zip(summary.columns, values, strict=True)) for values in known_values(summary)]
    cases = [case for case in cases if (case["gpus"] or 0) > 0]
    by_case = rates(launches)
    rows: list[dict[str, Any]] = []
    for case in cases:
        for base in _bases(case, cases):
            rows += _rows(case, base, by_case)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).drop_duplicates([*GROUP, "mode"])
    curve = frame.groupby(["environment", "workload", "mode", *BASE], sort=False, dropna=False).ngroup()
    frame = frame.assign(curve=curve).sort_values(["curve", "gpus"], kind="stable")
    numbers = [name for name in COLUMNS if name.startswith(("speedup", "efficiency"))]
    kinds = dict.fromkeys([*numbers, "samples_per_s", "base_samples_per_s"], "float64")
    kinds |= dict.fromkeys(("gpus", "base_gpus", "batch_size", "global_batch", "launches"), "Int64")
    return frame[list(COLUMNS)].astype(kinds).reset_index(drop=True)


def _bases(case: dict[str, Any], cases: list[dict[str, Any]]) -> list[Base]:
    """Return the base in each mode, or the reason why the most similar case is none; empty if there is no question."""
    fewer = [
        other
        for other in cases
        if other["workload"] == case["workload"] and other["gpus"] < case["gpus"] and other["ok"]
    ]
    candidates = [other for other in fewer if other["strategy"] == case["strategy"]]
    # sorted first among cases with as many devices
    candidates += [{**other, "strategy": case["strategy"]} for other in fewer if other["strategy"] == "single"]
    if not candidates:
        return []
    found = []
    for mode in MAY_DIFFER:
        fit = [other for other in candidates if not _unlike(case, other, mode)]
        if fit:
            base = min(fit, key=lambda other: other["gpus"])
            found.append(Base(base, mode, None if case["ok"] else _why_unknown(case)))
    if found:
        return found
    closest = min(candidates, key=lambda other: (len(_unlike(case, other, "strong")), other["gpus"]))
    against = f"{closest['case_id']}: " + "; ".join(_unlike(case, closest, "strong"))
    return [Base(None, None, f"no case of fewer devices is equal but for them; it differs from {against}")]


def _why_unknown(case: dict[str, Any]) -> str:
    return "no throughput" if case["status"] == "ok" else f"{case['status']}: {case['reason']}"


def _unlike(case: dict[str, Any], other: dict[str, Any], mode: str) -> list[str]:
    """Return the differences that prevent a comparison, in words."""
    names = [name for name in MUST_AGREE if name not in MAY_DIFFER[mode]]
    if other["gpus"] == 1:
        names.remove("placement")  # it has none
    if mode == "strong":
        names += ["global_batch" if other["global_batch"] != case["global_batch"] else "work_key"]
    return [
        f"{name} {show(other[name]) or 'unset'} there, {show(case[name]) or 'unset'} here"
        for name in names
        if effective(name, other[name]) != effective(name, case[name])
    ]


def _rows(case: dict[str, Any], base: Base, by_case: dict[Key, Rates]) -> list[dict[str, Any]]:
    own = {name: case.get(name) for name in COLUMNS} | {"launches": case["ok"], "mode": base.mode}
    if base.case is None or base.refused:
        return [own | {"refused": base.refused}]
    of_base = {name: base.case.get(name) for name in COLUMNS} | {"launches": base.case["ok"], "mode": base.mode}
    of_base |= {"base_case_id": base.case["case_id"], "base_code_key": base.case["code_key"]}
    of_base |= {"base_gpus": base.case["gpus"], "strategy": case["strategy"]}
    of_base |= {"base_samples_per_s": base.case["samples_per_s"], "speedup": 1.0, "efficiency": 1.0}
    devices = case["gpus"] / base.case["gpus"]
    speedup = case["samples_per_s"] / base.case["samples_per_s"]
    low, high, how = of_ratio(by_case[key(case)], by_case[key(base.case)])
    return [
        of_base,
        own
        | {name: of_base[name] for name in (*BASE, "base_gpus", "base_samples_per_s")}
        | {"speedup": speedup, "speedup_low": low, "speedup_high": high, "interval": how or None}
        | {"efficiency": speedup / devices, "efficiency_low": low / devices, "efficiency_high": high / devices}
        | {"flag": f"above {SUSPICIOUS}: suspicious" if speedup / devices > SUSPICIOUS else None},
    ]
