"""A run as JSON of pytest-benchmark, which ``pytest-benchmark compare``, github-action-benchmark and Bencher read."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from bench.plan.options import AXES
from bench.report.format import to_json
from bench.store.code_versions import Identity, identities
from bench.store.columns import LaunchRow

FORMAT = "5.3.1"  # The version of pytest-benchmark that has these fields.
MEDIANS = (
    *("samples_per_s", "tokens_per_s", "startup_s", "compile_s", "data_wait_share"),
    *("mfu", "mfu_achievable", "joules_per_sample"),
)
LARGEST = ("peak_allocated_mib", "peak_reserved_mib", "device_used_mib", "peak_rss_mib")
COUNTS = ("world_size", "global_batch")
MACHINE = ("device_name", "driver", "torch", "cuda", "cudnn", "nccl", "ram_gib", "env_key")


def pytest_benchmark(rows: Sequence[LaunchRow]) -> str:
    """Return JSON with a benchmark for each case, and for each side of a comparison, in the order of the rows.

    Only measured launches that were ok are in it. If a case has launches with several environments or code versions,
    each has its own benchmark, and its name says which.

    ``data`` has one number for each launch: the seconds of a step, global_batch / samples_per_s, which is the mean step
    of the window on the slowest rank. Launches are the unit of replication, so the standard deviation that other tools
    show or test with is that between launches. ``extra_info`` has the median throughput and the largest memory.
    """
    cases: dict[tuple[str, str, str], list[LaunchRow]] = defaultdict(list)
    for row, name in zip(rows, _names(rows), strict=True):
        if measured(row):
            cases[name, str(row.work_key), row.side or ""].append(row)
    first = next(iter(cases.values()), [LaunchRow()])[0]
    content = {
        "machine_info": _machine_info(first),
        "commit_info": _commit_info(first),
        "benchmarks": [_benchmark(case, side, found) for (case, _, side), found in cases.items()],
        "datetime": first.started_at,
        "version": FORMAT,
    }
    return to_json(content, indent=1) + "\n"


def _names(rows: Sequence[LaunchRow]) -> list[str]:
    """Return the name of each launch's case: its id, and what distinguishes it from cases with the same id."""
    found = identities(rows)
    several: dict[tuple[str | None, str | None], set[Identity]] = defaultdict(set)
    for row, one in zip(rows, found, strict=True):
        if measured(row):
            several[row.case_id, row.side].add(one)
    return [
        f"{row.case_id} ({one.words})" if len(several[row.case_id, row.side]) > 1 else str(row.case_id)
        for row, one in zip(rows, found, strict=True)
    ]


def measured(row: LaunchRow) -> bool:
    """Return whether a row is a measured launch that was ok and has a throughput."""
    known = [getattr(row, name) for name in ("samples_per_s", "global_batch")]
    good = all(value is not None and 0 < value < math.inf for value in known)
    return row.role == "measure" and row.status == "ok" and good


def _benchmark(case: str, side: str, rows: Sequence[LaunchRow]) -> dict[str, Any]:
    name = f"{case}[{side}]" if side else case
    axes = {axis: getattr(rows[0], axis) for axis in AXES}
    return {
        "group": rows[0].workload,
        "name": name,
        "fullname": f"stepbench::{name}",
        "params": {axis: value for axis, value in axes.items() if value is not None},
        "param": side or None,
        "extra_info": extra_info(rows),
        "options": {},
        "stats": stats([step_s(row) for row in rows]),
    }


def step_s(row: LaunchRow) -> float:
    """Return the seconds of a measured launch's mean step."""
    return (row.global_batch or 0) / (row.samples_per_s or math.nan)


def extra_info(rows: Sequence[LaunchRow]) -> dict[str, Any]:
    """Return medians, largest values and counts of the columns that have a number, and the columns of the run."""
    columns = {
        name: [getattr(row, name) for row in rows if _number(getattr(row, name))] for name in (*MEDIANS, *LARGEST)
    }
    medians = {name: statistics.median(columns[name]) for name in MEDIANS if columns[name]}
    largest = {name: max(columns[name]) for name in LARGEST if columns[name]}
    same = {name: getattr(rows[0], name) for name in (*COUNTS, "run_id", "work_key", "env_key", "code_key", "command")}
    return medians | largest | {name: value for name, value in same.items() if value is not None}


def _number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _machine_info(row: LaunchRow) -> dict[str, Any]:
    """Return the columns of the machine, with pytest-benchmark's names if it has one."""
    cpu = {"brand_raw": row.cpu_model, "count": row.cpu_threads}
    named = {"node": "hostname", "processor": "cpu_model", "platform": "os", "python_version": "python"}
    ours = {name: getattr(row, name) for name in MACHINE}
    return {name: getattr(row, column) for name, column in named.items()} | {"cpu": cpu} | ours


def _commit_info(row: LaunchRow) -> dict[str, Any]:
    """Return the commit like pytest-benchmark; rows have neither times nor the branch."""
    return {
        "id": row.work_commit or "unversioned",
        "time": None,
        "author_time": None,
        "dirty": bool(row.work_dirty),
        "project": "stepbench",
        "branch": "(unknown)",
    }


def stats(data: Sequence[float]) -> dict[str, Any]:
    """Return the statistics of at least one number, as pytest-benchmark computes them.

    Quartiles are by method 2 of Wikipedia's article "Quartile" for an even number of values and by method 3 for an odd
    one; outliers are more than 1.5 interquartile ranges away from the quartiles.
    """
    ordered, mean, total = sorted(data), statistics.mean(data), sum(data)
    stddev = statistics.stdev(data) if len(data) > 1 else 0
    q1, q3 = _first_quartile(ordered), _first_quartile(ordered[::-1])
    iqr = q3 - q1
    within = [value for value in ordered if q1 - 1.5 * iqr <= value <= q3 + 1.5 * iqr]
    beyond = len(data) - len(within)
    far = sum(not mean - stddev <= value <= mean + stddev for value in data)
    return {
        **{"min": ordered[0], "max": ordered[-1], "mean": mean, "stddev": stddev, "rounds": len(data)},
        **{"median": statistics.median(data), "iqr": iqr, "q1": q1, "q3": q3},
        **{"iqr_outliers": beyond, "stddev_outliers": far, "outliers": f"{far};{beyond}"},
        **{"ld15iqr": within[0], "hd15iqr": within[-1], "ops": len(data) / total, "total": total},
        **{"data": list(data), "iterations": 1},
    }


def _first_quartile(ordered: Sequence[float]) -> float:
    """Return the first quartile of ascending values; of descending values, that is the third one."""
    n = len(ordered)
    quarter, rest = divmod(n, 4)
    if n == 1:
        return ordered[0]
    if n % 2 == 0:
        return statistics.median(ordered[: n // 2])
    if rest == 1:
        return 0.25 * ordered[quarter - 1] + 0.75 * ordered[quarter]
    return 0.75 * ordered[quarter] + 0.25 * ordered[quarter + 1]
