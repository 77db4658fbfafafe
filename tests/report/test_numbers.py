"""Every number of a report, worked out again from the raw rows, with scipy's distributions.

Nothing here comes from ``bench`` but the command that writes the report: what the tables and sentences must say is
written down a second time, from what their docstrings and the design promise.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import random
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from bench.cli.report import report

RESULTS = Path(__file__).parents[1] / "data" / "results"
NEW, OLD = "20261102-090000-5e1f", "20260904-141500-07b2"
WITHIN = (24.0, 40.0)

# -- what the columns are ------------------------------------------------------------------------------------------

INTS = {
    *("gpus", "batch_size", "grad_accum_steps", "num_workers", "prefetch_factor", "omp_num_threads", "seed"),
    *("world_size", "global_batch", "parameters", "order", "block"),
}
BOOLS = {"pin_memory", "persistent_workers", "channels_last", "deterministic", "cudnn_benchmark", "oversubscribe"}
AXES = (
    *(
        "workload",
        "args",
        "strategy",
        "gpus",
        "device",
        "precision",
        "activation_checkpointing",
        "activation_offload",
        "attention",
        "compile",
        "compile_scope",
        "batch_size",
    ),
    *(
        "grad_accum_steps",
        "max_grad_norm",
        "optimizer",
        "lr_scheduler",
        "init",
        "data",
        "num_workers",
        "pin_memory",
        "prefetch_factor",
    ),
    *("persistent_workers", "omp_num_threads", "seed", "channels_last", "deterministic", "cudnn_benchmark"),
    *("numa_binding", "placement", "save_checkpoint", "env"),
)
# In the order in which `bench list` shows them.
REGISTERED = {
    "workload": (
        *("resnet18", "resnet50", "vit-b-16", "mnist-cnn", "gpt", "gpt-nano", "gpt-124m", "gpt-350m", "llama"),
        *("llama-nano", "llama-1b", "llama-8b", "bert", "dlrm", "mlp"),
    ),
    "strategy": ("single", "dp", "ddp", "fsdp"),
    "precision": ("fp32", "tf32", "amp-bf16", "amp-fp16", "bf16", "fp8", "fp8-rowwise"),
    "compile": ("off", "default", "max-autotune"),
    "compile_scope": ("model", "block"),
    "attention": ("auto", "flash", "efficient", "cudnn", "math"),
    "save_checkpoint": ("none", "full", "dcp", "dcp-async"),
    "optimizer": ("adamw", "sgd", "adam", "rmsprop", "adafactor", "muon"),
    "activation_checkpointing": ("none", "selective", "every", "full"),
}
GROUP = ("environment", "case_id", "nproc_per_node", "work_key", "code_key")
MEDIANS = (
    *("samples_per_s", "samples_per_s_per_device", "tokens_per_s", "step_ms", "step_p95_ms", "data_wait_share"),
    *("mfu", "hfu", "mfu_achievable", "bubble_share", "startup_s", "first_step_ms", "compile_s", "joules_per_sample"),
    "peak_allocated_mib",
    *("peak_reserved_mib", "device_used_mib", "device_memory_peak_mib", "peak_rss_mib", "peak_host_mib"),
    *("data_wait_ms", "device_gap_ms", "copy_ms", "forward_ms", "backward_ms", "optimizer_ms"),
    *("bubble_ms", "rest_ms", "outside_ms"),
    *("save_blocked_s", "save_total_s", "save_step_ms", "save_bytes", "save_mb_per_s"),
    *("save_peak_allocated_mib", "save_peak_rss_mib", "load_s", "goodput"),
    # none of these launches has a profile
    *("profiled_step_ms", "comm_ms", "compute_ms", "overlap_ms", "exposed_comm_ms", "exposed_comm_share"),
)
FLOATS = {*MEDIANS, "max_grad_norm", "throttled_share", "alloc_retries", "window_compilations"}
FLOATS |= {"optimizer_steps_skipped"}
FACTS = ("oversubscribe", "world_size", "global_batch", "parameters", "device_name", "command")

Row = dict[str, Any]

# -- from raw rows to cases ----------------------------------------------------------------------------------------


def raw_rows(*files: Path) -> list[Row]:
    """The whole lines of some launches.csv; no cell of those here has a line end in it."""
    rows: list[Row] = []
    for file in files:
        text = file.read_bytes().decode()
        rows += csv.DictReader(io.StringIO(text[: text.rindex("\n") + 1], newline=""))
    return [{name: typed(name, row.get(name) or "") for name in {*row, *AXES, *FACTS, *MEDIANS}} for row in rows]


def typed(name: str, text: str) -> Any:
    if text == "":
        return None
    if name in ("work_key", "env_key") and re.fullmatch("[0-9a-f]{12}", text):  # before schema 7 without a letter
        return name[0] + text
    if name in INTS:
        return int(text)
    if name in FLOATS:
        return float(text)
    return {"true": True, "false": False}[text] if name in BOOLS else text


def counted(rows: Sequence[Row]) -> list[Row]:
    """Launches that count: no probes and controls, and of those made again the last; with their environment."""
    measured = [row for row in rows if row["role"] == "measure"]
    launched = {(row["run_id"], row["case_id"]) for row in measured if row["block"] is not None}
    last = {(row["run_id"], row["case_id"], row["block"]): number for number, row in enumerate(measured)}
    kept = [
        row
        for number, row in enumerate(measured)
        if last[row["run_id"], row["case_id"], row["block"]] == number
        and not (row["block"] is None and (row["run_id"], row["case_id"]) in launched)
    ]
    # a run's machine and software is what its env_key says, of those of its launches that came so far
    letters: dict[Any, str] = {}
    for row in rows:
        letters.setdefault(env_of(row["run_id"], rows), "ABCDEFGH"[len(letters)])
    # built-in workloads, or rows of before there was a code_key: none has any
    constant = {"code_key": "", "placement": None}
    return [
        {
            **row,
            "environment": letters[env_of(row["run_id"], rows)],
            "nproc_per_node": on_one_node(row, rows),
            **constant,
        }
        for row in kept
    ]


def on_one_node(row: Row, rows: Sequence[Row]) -> str:
    """All ranks of a case, if any of its rows in the run tells how many they are."""
    alike = [other for other in rows if (other["run_id"], other["case_id"]) == (row["run_id"], row["case_id"])]
    return str(first(alike, "world_size") or "")


def env_of(run_id: str, rows: Sequence[Row]) -> frozenset[str]:
    return frozenset(row["env_key"] for row in rows if row["run_id"] == run_id and row["env_key"])


def by_group(rows: Sequence[Row], *names: str) -> list[list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.values())


def first(rows: Sequence[Row], name: str) -> Any:
    return next((row[name] for row in rows if row[name] is not None), None)


def place(case: Row) -> list[tuple[int, float, str]]:
    """What cases are sorted by: unknown first, names as registered, numbers by size."""
    keys = []
    for axis in AXES:
        value = case[axis]
        if value is None:
            keys.append((-1, 0.0, ""))
        elif isinstance(value, str):
            known, name = REGISTERED.get(axis, ()), re.split("[:=]", value)[0]
            keys.append((known.index(name) if name in known else len(known), 0.0, value))
        else:
            keys.append((0, float(value), ""))
    return keys


REACH = {2: 12.706204736175 / 2 - 0.5, 3: 0.85, 4: 0.25, 5: 0.04}


def bounds_of_median(logs: Sequence[float]) -> tuple[float, float]:
    """By order statistics: with k of n cut off, 1 - 2 P(B < k) are held, and 95 % lie between two k."""
    ordered, n = sorted(logs), len(logs)
    if n in REACH:
        reach = REACH[n] * (ordered[-1] - ordered[0])
        return ordered[0] - reach, ordered[-1] + reach
    held = [1 - 2 * stats.binom.cdf(k - 1, n, 0.5) for k in range(n // 2 + 1)]
    k = max(k for k in range(1, n // 2 + 1) if held[k] >= 0.95)
    share = (held[k] - 0.95) / (held[k] - held[k + 1])
    weight = (n - k) * share / (k + (n - 2 * k) * share)  # Hettmansperger & Sheather (1986)
    if held[k + 1] < 0.925:
        weight = min(weight, 0.45)
    return tuple(end[k - 1] * (1 - weight) + end[k] * weight for end in (ordered, ordered[::-1]))  # type: ignore[return-value]


def interval_of_median(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    low, high = bounds_of_median([math.log(value) for value in values])
    return math.exp(low), math.exp(high)


def logs_of(case: Row) -> dict[Any, float]:
    return {(row["run_id"], row["block"]): math.log(row["samples_per_s"]) for row in case["good"]}


def interval_of_ratio(a: Row, b: Row) -> tuple[float | None, float | None, str | None]:
    """Of two cases with their launches: paired by (run, block) where two are shared, else of both medians."""
    rate_a, rate_b = logs_of(a), logs_of(b)
    ratio = a["samples_per_s"] / b["samples_per_s"]
    shared = [rate_a[key] - rate_b[key] for key in rate_a if key in rate_b]
    if len(shared) > 1:
        low, high = bounds_of_median(shared)
        return min(ratio, math.exp(low)), max(ratio, math.exp(high)), "paired"
    if min(len(rate_a), len(rate_b)) < 2:
        return None, None, None
    # MOVER (Zou & Donner 2008)
    (low_a, high_a), (low_b, high_b) = (bounds_of_median(list(rate.values())) for rate in (rate_a, rate_b))
    mid_a, mid_b = math.log(a["samples_per_s"]), math.log(b["samples_per_s"])
    low = mid_a - mid_b - math.sqrt((mid_a - low_a) ** 2 + (high_b - mid_b) ** 2)
    high = mid_a - mid_b + math.sqrt((high_a - mid_a) ** 2 + (mid_b - low_b) ** 2)
    return math.exp(low), math.exp(high), "unpaired"


def winsorised(values: Sequence[float]) -> tuple[float, float, int]:
    """The mean without a fifth at each end, the sum of squares of the winsorised sample, and how many are left."""
    cut = len(values) // 5
    ordered = sorted(values)
    held = [min(max(value, ordered[cut]), ordered[-1 - cut]) for value in values]
    return (
        float(stats.trim_mean(values, 0.2)),
        sum((h - statistics.fmean(held)) ** 2 for h in held),
        len(values) - 2 * cut,
    )


def bounds_among(case: Row, best: Row, cases: Sequence[Row]) -> tuple[float, float]:
    """Of the ratio, for any choice of the best: 2.5 % over the K (K - 1) bounds of all pairs, the variance pooled."""
    each, count = [logs_of(one) for one in cases], len(cases)
    blocks = {block for of in each for block in of}
    rest = [{b: log - statistics.median(of.values()) for b, log in of.items()} for of in each]
    common = {b: [of[b] for of in rest if b in of] for b in blocks}
    taken = {b: statistics.median(values) if len(values) > 2 else 0.0 for b, values in common.items()}
    own, other = logs_of(case), logs_of(best)
    ratios = [own[b] - other[b] for b in own if b in other]
    if len(ratios) > 1:
        pooled, lost = [[log - taken[b] for b, log in of.items()] for of in rest], count / (count - 1)
        middle, _, left = winsorised(ratios)
        share = 2 / left
    elif min(len(own), len(other)) > 1:
        pooled, lost = [list(of.values()) for of in each], 1.0
        (mine, _, left), (its, _, of_its) = (winsorised(list(of.values())) for of in (own, other))
        middle, share = mine - its, 1 / left + 1 / of_its
    else:
        return math.inf, -math.inf
    parts = [winsorised(of) for of in pooled if len(of) > 1]
    freedom = sum(left - 1 for _, _, left in parts) / lost
    error = math.sqrt(sum(squares for _, squares, _ in parts) / freedom * share)
    half = stats.t.ppf(1 - 0.025 / (count * (count - 1)), freedom) * error
    return math.exp(middle - half), math.exp(middle + half)


def counted_words(statuses: Iterable[str]) -> str:
    """How many there are of each, the most frequent first."""
    counts = Counter(statuses)
    return ", ".join(
        f"{counts[status]} {status}" for status in sorted(counts, key=lambda status: (-counts[status], status))
    )


def summary_of(rows: Sequence[Row]) -> list[Row]:
    cases = []
    for launches in by_group(rows, *GROUP):
        good = [row for row in launches if row["status"] == "ok"]
        bad = [row for row in launches if row["status"] != "ok"]
        rates = [row["samples_per_s"] for row in good]
        low, high = interval_of_median(rates)
        case = {name: first(launches, name) for name in (*GROUP, *AXES, *FACTS)}
        case |= {"status": bad[0]["status"] if bad else "ok", "reason": bad[0]["reason"] if bad else None}
        case |= {
            "launches": sum(row["order"] is not None for row in launches),
            "ok": len(good),
            "good": good,
            "bad": bad,
        }
        case["failed"] = counted_words(row["status"] for row in bad if row["order"] is not None) or None
        case |= {"runs": ";".join(dict.fromkeys(row["run_id"] for row in launches))}
        for name in MEDIANS:
            known = [row[name] for row in good if row[name] is not None]
            case[name] = statistics.median(known) if known else None
        case |= {"samples_per_s_low": low, "samples_per_s_high": high}
        case["code"] = 0
        case["spread"] = (max(rates) - min(rates)) / statistics.median(rates) if len(rates) > 1 else None
        case["marks"] = "; ".join(marks_of(good)) or None
        case["comm_method"] = None
        cases.append(case)
    for same in by_group(cases, "environment", "workload", "data", "global_batch"):
        keys = list(dict.fromkeys(case["work_key"] for case in same))
        for case in same:
            case["work"] = keys.index(case["work_key"])
    cases.sort(key=place)
    for question in by_group(cases, *QUESTION):
        measured = [case for case in question if case["ok"]]
        names = ("device_used_mib", "peak_reserved_mib", "peak_allocated_mib")
        if question[0]["device"] != "cuda":
            with_workers = len({case["num_workers"] or 0 for case in measured}) > 1
            names = ("peak_host_mib", "peak_rss_mib") if with_workers else ("peak_rss_mib",)
        known = [name for name in names if measured and all(case[name] is not None for case in measured)]
        for case in question:
            case["memory_measure"] = known[0] if known and case["ok"] else None
            case["memory_mib"] = case[known[0]] if known and case["ok"] else None
    return cases


QUESTION = ("environment", "workload", "data", "device", "gpus", "work")


def marks_of(good: Sequence[Row]) -> Iterator[str]:
    worst = {
        name: max((row[name] for row in good if row.get(name) is not None), default=0)
        for name in ("throttled_share", "alloc_retries", "window_compilations", "optimizer_steps_skipped")
    }
    if worst["throttled_share"] > 0:
        yield f"throttled {Decimal(worst['throttled_share'] * 100).quantize(Decimal(1), ROUND_HALF_EVEN)}%"
    if any(row.get("foreign_processes") == "true" for row in good):
        yield "GPU used by others"
    if worst["alloc_retries"]:
        yield f"{int(worst['alloc_retries'])} allocator retries"
    if worst["window_compilations"]:
        yield "compiled in the window"
    if worst["optimizer_steps_skipped"]:
        yield f"{int(worst['optimizer_steps_skipped'])} steps overflowed"


# -- from cases to answers -----------------------------------------------------------------------------------------


def said(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else "unset" if value is None else str(value)


def apart(case: Row, other: Row, strong: bool) -> list[str]:
    """In what two cases differ that may not, in words: but for the devices and, where strong, their batch."""
    free = {"gpus", "batch_size"} if strong else {"gpus"}
    names = [name for name in (*AXES, "oversubscribe", "environment") if name not in free]
    if strong:
        names += ["global_batch"] if case["global_batch"] != other["global_batch"] else ["work_key"]
    return [f"{n} {said(other[n])} there, {said(case[n])} here" for n in names if case[n] != other[n]]


def scaling_of(cases: Sequence[Row]) -> list[Row]:
    found: dict[Any, Row] = {}
    for case in cases:
        fewer = [o for o in cases if o["workload"] == case["workload"] and o["gpus"] < case["gpus"] and o["ok"]]
        own = [other for other in fewer if other["strategy"] == case["strategy"]]
        own += [{**o, "strategy": case["strategy"]} for o in fewer if o["strategy"] == "single"]
        modes = 0
        for mode in ("weak", "strong"):
            equal = [other for other in own if not apart(case, other, mode == "strong")]
            if equal:
                modes += 1
                base = sorted(equal, key=lambda other: int(other["gpus"]))[0]
                for row in scaled(case, base, mode):
                    found.setdefault((*(row[name] for name in GROUP), mode), row)
        if own and not modes:
            closest = sorted(own, key=lambda other: (len(apart(case, other, True)), other["gpus"]))[0]
            reason = "no case of fewer devices is equal but for them; it differs from "
            reason += f"{closest['case_id']}: {'; '.join(apart(case, closest, True))}"
            row = scaling_row(case) | {"refused": reason}
            found.setdefault((*(row[name] for name in GROUP), None), row)
    curves: dict[Any, int] = {}
    # curve by curve, the fewest devices first
    for row in found.values():
        curves.setdefault(curve_of(row), len(curves))
    return sorted(found.values(), key=lambda row: (curves[curve_of(row)], row["gpus"]))


def curve_of(row: Row) -> tuple[Any, ...]:
    return row["environment"], row["workload"], row["mode"], row["base_case_id"]


SCALING = (
    *(*GROUP, "base_case_id", "base_code_key", "workload", "strategy", "mode", "gpus", "base_gpus"),
    *("batch_size", "global_batch", "samples_per_s", "base_samples_per_s", "speedup", "speedup_low", "speedup_high"),
    *("efficiency", "efficiency_low", "efficiency_high", "launches", "interval", "flag", "refused"),
)


def scaling_row(case: Row) -> Row:
    row = dict.fromkeys(SCALING)
    return row | {name: case[name] for name in SCALING if name in case} | {"launches": case["ok"]}


def scaled(case: Row, base: Row, mode: str) -> Iterator[Row]:
    row = scaling_row(case) | {"mode": mode}
    if not case["ok"]:
        yield row | {"refused": f"{case['status']}: {case['reason']}"}
        return
    of_base = {
        "base_case_id": base["case_id"],
        "base_code_key": "",
        "base_gpus": base["gpus"],
        "base_samples_per_s": base["samples_per_s"],
    }
    yield scaling_row(base) | {"mode": mode, "speedup": 1, "efficiency": 1, "strategy": case["strategy"]} | of_base
    speedup, times = case["samples_per_s"] / base["samples_per_s"], case["gpus"] / base["gpus"]
    if mode == "strong":  # T(N0) / (N / N0 T(N)), with the time that one global batch takes
        assert case["global_batch"] == base["global_batch"]
        t, t0 = (c["global_batch"] / c["samples_per_s"] for c in (case, base))
        assert t0 / (times * t) == pytest.approx(speedup / times, rel=1e-12)
    low, high, how = interval_of_ratio(case, base)
    row |= of_base | {"speedup": speedup, "speedup_low": low, "speedup_high": high, "interval": how}
    row |= {"efficiency": speedup / times, "flag": "above 1.02: suspicious" if speedup / times > 1.02 else None}
    yield row | {"efficiency_low": low and low / times, "efficiency_high": high and high / times}


def lost_to(case: Row, best: Row | None, cases: Sequence[Row]) -> Row:
    if best is None or not case["ok"]:
        return {"loss": None, "loss_low": None, "loss_high": None, "interval": None}
    low, high, how = (None, None, None) if case is best else interval_of_ratio(case, best)
    known = [one for one in cases if one["ok"]]
    if low is not None and high is not None and len(known) > 2:
        least, most = bounds_among(case, best, known)
        low, high = min(low, least), max(high, most)
    loss = 1 - case["samples_per_s"] / best["samples_per_s"]
    bounds = {"loss_low": None if high is None else 1 - high, "loss_high": None if low is None else 1 - low}
    return {"loss": loss, **bounds, "interval": how}


def tradeoff_of(cases: Sequence[Row], within: Sequence[float]) -> list[Row]:
    rows = []
    names = (*GROUP, "workload", "data", "device", "gpus", "status", "samples_per_s", "memory_mib", "memory_measure")
    for question in by_group(cases, *QUESTION):
        if sum(case["ok"] > 0 for case in question) < 2:
            continue
        size = {case["case_id"]: math.inf if case["memory_mib"] is None else case["memory_mib"] for case in question}
        question = sorted(question, key=lambda case: (-(case["samples_per_s"] or -math.inf), size[case["case_id"]]))
        sound = [case for case in question if case["status"] == "ok"]
        known = [case for case in sound if case["memory_mib"] is not None]
        front = [case for case in known if not any(beats(other, case) for other in known)]
        choice: dict[int, list[str]] = {id(case): [] for case in question}
        if front:
            choice[id(max(front, key=lambda case: case["samples_per_s"]))].append("fastest")
            least = min(case["memory_mib"] for case in front)  # more by less than 2 % is no more
            smallest = [case for case in front if 0.98 * case["memory_mib"] <= least]
            choice[id(max(smallest, key=lambda case: case["samples_per_s"]))].append("smallest")
        for gib in within:
            fit = [case for case in known if case["memory_mib"] <= gib * 1024]
            if fit:
                choice[id(fit[0])].append(f"fastest within {gib:g} GiB")
        for case in question:
            row = {name: case[name] for name in names} | lost_to(case, sound[0] if sound else None, question)
            rows.append(row | {"on_front": case in front, "choice": "; ".join(choice[id(case)]) or None})
    return rows


def beats(other: Row, case: Row) -> bool:
    """As fast or faster with as little memory or less, and better in one of both."""
    a, b = (other["samples_per_s"], -other["memory_mib"]), (case["samples_per_s"], -case["memory_mib"])
    return a[0] >= b[0] and a[1] >= b[1] and a != b


TUNED = {"omp_num_threads": 1, "num_workers": 2, "prefetch_factor": 2}  # and their defaults


def tuning_of(cases: Sequence[Row]) -> list[Row]:
    rows, number = [], 0
    names = (*GROUP, "workload", "data", "strategy", "gpus", *TUNED, "status", "samples_per_s", "data_wait_share")
    fixed = ("environment", "oversubscribe", *(axis for axis in AXES if axis not in TUNED))
    # without workers there are none that persist
    alike = [{**case, "persistent_workers": True} if case["num_workers"] == 0 else case for case in cases]
    for group in by_group(alike, *fixed):
        if sum(case["ok"] > 0 for case in group) < 2:
            continue
        sound = [case for case in group if case["status"] == "ok"]
        best = max(sound, key=lambda case: case["samples_per_s"], default=None)
        for case in group:
            row = (
                {name: case[name] for name in names}
                | lost_to(case, best, group)
                | {"group": number, "best": case is best}
            )
            rows.append(row | {"default": all(case[name] in (None, value) for name, value in TUNED.items())})
        number += 1
    return rows


def failures_of(rows: Sequence[Row]) -> list[Row]:
    found = []
    bad = [row for row in rows if row["status"] != "ok"]
    for launches in by_group(bad, *GROUP, "status", "reason", "run_id"):
        row = {name: launches[0][name] for name in (*GROUP, "status", "reason", "run_id")}
        row |= {name: first(launches, name) for name in ("launch_id", "command", *AXES)}
        row |= {"launches": sum(one["order"] is not None for one in launches)}
        found.append(row | {"log": row["launch_id"] and f"logs/{row['launch_id']}"})
    found.sort(key=place)
    return [{name: value for name, value in row.items() if name not in AXES} for row in found]


def recomputed(rows: Sequence[Row], within: Sequence[float]) -> dict[str, list[Row]]:
    launches = counted(rows)
    summary = summary_of(launches)
    return {
        "summary": summary,
        "scaling": scaling_of(summary),
        "tradeoff": tradeoff_of(summary, within),
        "tuning": tuning_of(summary),
        "slow_ranks": [],  # these runs have no own times
        "failures": failures_of(launches),
    }


# -- the files -----------------------------------------------------------------------------------------------------


class Reported:
    """What the command wrote, and what it should have."""

    def __init__(self, out: Path, runs: Sequence[str], folder: Path, within: Sequence[float] = WITHIN) -> None:
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            gib = ",".join(f"{gib:g}" for gib in within)
            report(run=list(runs), csv=folder, within_gib=gib or None, as_json=True, out=out)
        self.folder, self.stderr = folder, stderr.getvalue()
        self.json: dict[str, Any] = json.loads(stdout.getvalue(), parse_constant=lambda name: pytest.fail(name))
        self.rows = raw_rows(*(out / "runs" / run / "launches.csv" for run in runs))
        self.expected = recomputed(self.rows, within)

    def cells(self, name: str) -> list[dict[str, str]]:
        with (self.folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream, strict=True))


def check(reported: Reported, name: str) -> None:
    """Every row of a file, in its order, and every column of it: text exactly, numbers to 1e-9."""
    expected = [{k: v for k, v in row.items() if k not in ("good", "bad")} for row in reported.expected[name]]
    found, objects = reported.cells(name), reported.json[name]
    keys = [name for name in (*GROUP, "mode", "status", "reason", "run_id") if expected and name in expected[0]]
    assert [[row[key] for key in keys] for row in found] == [[row[key] or "" for key in keys] for row in expected]
    assert len(objects) == len(expected)
    for cells, values, row in zip(found, objects, expected, strict=True):
        assert cells.keys() == values.keys() == row.keys()
        for column, value in row.items():
            assert same(cells[column], value), (name, row["case_id"], column, cells[column], value)
            assert values[column] == (pytest.approx(value, rel=1e-9, abs=1e-12) if is_number(value) else value), column


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same(text: str, value: Any) -> bool:
    if value is None or isinstance(value, str):
        return text == (value or "")
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    # a loss that is 1 - x / x may be 0 or the last bit of 1
    return text != "" and math.isclose(float(text), value, rel_tol=1e-9, abs_tol=1e-12)


FILES = ("summary", "scaling", "tradeoff", "tuning", "slow_ranks", "failures")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """The report of both committed runs."""
    return Reported(RESULTS, [NEW, OLD], tmp_path_factory.mktemp("both"))


def test_the_committed_runs_have_all_that_this_is_about(both: Reported) -> None:
    """Else the tests below would check little."""
    assert Counter(row["role"] for row in both.rows) == {"measure": 129, "probe": 1}
    assert {case["environment"] for case in both.expected["summary"]} == {"A", "B"}
    statuses = {"ok", "oom", "timeout", "crashed", "invalid", "skipped"}
    assert {case["status"] for case in both.expected["summary"]} == statuses
    scaling = both.expected["scaling"]
    assert {row["mode"] for row in scaling} == {"weak", "strong", None}
    assert sum(row["flag"] is not None for row in scaling) == 1
    assert {row["memory_measure"] for row in both.expected["tradeoff"]} == {"device_used_mib", None}
    assert sum(row["default"] for row in both.expected["tuning"]) == 1
    assert [case["marks"] for case in both.expected["summary"] if case["marks"]] == [
        "throttled 12%; GPU used by others"
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_cell_of_the_files_comes_from_the_raw_rows(both: Reported, name: str) -> None:
    assert both.expected[name] or name == "slow_ranks"
    check(both, name)


def test_there_is_no_other_file_and_no_other_key(both: Reported) -> None:
    assert sorted(file.name for file in both.folder.iterdir()) == sorted(f"{name}.csv" for name in FILES)
    assert list(both.json) == ["runs", "headline", *FILES]
    assert both.json["runs"] == [NEW, OLD]


def test_whole_numbers_are_written_as_such(both: Reported) -> None:
    wrong = {
        (name, column, cell)
        for name in FILES
        for row in both.cells(name)
        for column, cell in row.items()
        if column in {*INTS, "base_gpus", "launches", "ok", "group"} and not re.fullmatch(r"-?\d*", cell)
    }
    assert wrong == set()
    assert {type(row[column]) for row in both.json["summary"] for column in INTS & row.keys()} == {int, type(None)}


def test_the_torn_row_and_the_probe_enter_nothing(both: Reported) -> None:
    text = (RESULTS / "runs" / NEW / "launches.csv").read_text()
    torn = text.rpartition("\n")[2]
    assert torn
    assert "the last row is not whole" in both.stderr
    launches = {row["launch_id"] for row in both.rows}
    assert torn.split(",")[2] not in launches
    # 124 whole rows of the new run less its probe, and 6 of the old one, less those that were never launched
    never = sum(row["order"] is None for row in both.rows)
    assert (never, sum(int(case["launches"]) for case in both.cells("summary"))) == (3, 123 + 6 - 3)
    assert not any("probe" in row["launch_id"] for row in both.cells("failures"))


# -- the sentences -------------------------------------------------------------------------------------------------

WORDS = {
    **dict.fromkeys(("workload", "strategy", "precision", "data", "env", "optimizer", "device"), "{}"),
    **{"gpus": "×{}", "batch_size": "batch {}", "activation_checkpointing": "ac {}", "num_workers": "{} workers"},
    **{"omp_num_threads": "OMP {}", "prefetch_factor": "prefetch {}"},
}
NUMBER, SHARE = r"[\d,.]*\d", r"-?[\d.]*\d%"


def four(value: float) -> str:
    """Four significant digits, thousands apart."""
    return f"{Decimal(value).quantize(Decimal(1), ROUND_HALF_EVEN):,}" if value >= 999.95 else four_to(value)


def four_to(value: float, figures: int = 4) -> str:
    digits = figures - 1 - math.floor(math.log10(value))
    text = f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def gib(mib: float) -> str:
    return four_to(mib / 1024, 3)


def label(case: Row, among: Sequence[Row], always: Sequence[str] = ()) -> str:
    """A case in the words of the axes that tell it from others of its workload, and of those that are always said."""
    rivals = [other for other in among if other["workload"] == case["workload"]]
    told = {axis for axis in AXES if len({other[axis] for other in rivals} - {None}) > 1} | set(always)
    told |= {"workload"} if len({other["workload"] for other in among}) > 1 else set()
    text = " ".join(WORDS[a].format(said(case[a])) for a in AXES if a in told and case[a] not in (None, ""))
    return f"{text} ({case['environment']})" if len({other["environment"] for other in among}) > 1 else text


def full_label(case: Row, among: Sequence[Row]) -> str:
    return label(case, among, ("strategy", "gpus", "precision"))


def some(names: Sequence[str]) -> str:
    return "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def take(sentence: str, pattern: str, expected: dict[str, str] | None) -> str:
    """The sentence without what ``pattern`` finds in it, whose groups must be as expected; None: it finds nothing."""
    found = re.search(pattern, sentence)
    if expected is None:
        assert not found, sentence
        return sentence
    assert found, (pattern, sentence)
    assert found.groupdict() == expected, sentence
    spans = sorted((found.span(name) for name in expected), reverse=True)
    for start, end in spans:
        sentence = sentence[:start] + "_" + sentence[end:]
    return sentence


def speed_words(case: Row) -> tuple[str, dict[str, str]]:
    pattern, expected = rf"(?P<rate>{NUMBER}) samples/s", {"rate": four(case["samples_per_s"])}
    if case["samples_per_s_low"] is not None:
        pattern += rf" \((?P<low>{NUMBER})…(?P<high>{NUMBER}), (?P<launches>\d+) launches\)"
        expected |= {"low": four(case["samples_per_s_low"]), "high": four(case["samples_per_s_high"])}
    else:
        pattern += r" \((?P<launches>\d+) launch(?:es)?\)"
    expected |= {"launches": str(case["ok"])}
    if case["memory_mib"] is not None:
        pattern, expected = rf"{pattern} at (?P<gib>{NUMBER}) GiB", expected | {"gib": gib(case["memory_mib"])}
    return pattern + "(?=;|[.]$)", expected


def check_speed(sentence: str, question: Sequence[Row], traded: Sequence[Row], within: Sequence[float]) -> str:
    """What remains of the sentence about one question, without its beginning."""
    measured = [case for case in question if case["ok"]]
    if len(measured) < 2:
        if not measured:
            assert sentence == "no launch was ok."
            return sentence
        pattern, expected = speed_words(measured[0])
        return take(sentence, f"^{pattern}", expected)
    cases = {case["case_id"]: case for case in measured}
    names = {case_id: label(case, measured) for case_id, case in cases.items()}
    sound = [row for row in traded if row["status"] == "ok"]
    if not sound:
        assert sentence == "no case had all its launches ok, so none is recommended."
        return sentence
    pattern, expected = speed_words(cases[sound[0]["case_id"]])
    expected["case"] = names[sound[0]["case_id"]]
    left = take(sentence, f"^fastest is (?P<case>.+?) with {pattern}", expected)
    tied = [names[row["case_id"]] for row in sound[1:] if row["loss_low"] is not None and row["loss_low"] <= 0]
    expected = {"count": str(len(tied)), "names": some(tied)}
    left = take(
        left, r"(?P<count>\d+) others? within the noise of it \((?P<names>.+?)\)(?=;|[.]$)", expected if tied else None
    )
    alone = any(row["loss_low"] is None for row in sound[1:])
    left = take(
        left, r"one launch cannot be told from the others \(--launches (?P<n>5)\)", {"n": "5"} if alone else None
    )
    small = [row for row in sound if "smallest" in (row["choice"] or "") and row is not sound[0]]
    expected = small and {"case": names[small[0]["case_id"]], "gib": gib(small[0]["memory_mib"])}
    slower = ""
    if small and small[0]["loss_low"] is not None and small[0]["loss_low"] > 0:  # no percentage within the noise
        expected, slower = expected | {"loss": percent(small[0]["loss"])}, rf", (?P<loss>{SHARE}) slower"
    left = take(left, rf"smallest is (?P<case>.+?) with (?P<gib>{NUMBER}) GiB{slower}(?=;|[.]$)", expected or None)
    for limit in within:
        fit = [r for r in sound if r["memory_mib"] is not None and r["memory_mib"] <= limit * 1024]
        expected = {"limit": f"{limit:g}"} | ({"case": names[fit[0]["case_id"]]} if fit else {})
        is_or_none = r"fastest within (?P<limit>[\d.]+) GiB is (?P<case>.+?)(?=;|[.]$)"
        left = take(left, is_or_none if fit else r"nothing fits into (?P<limit>[\d.]+) GiB", expected)
    return left


def check_counts(sentence: str, cases: Sequence[Row], rows: Sequence[Row]) -> str:
    numbers = {"cases": f"{len(cases):,}", "launches": f"{sum(case['launches'] for case in cases):,}"}
    numbers["runs"] = str(len({row["run_id"] for row in rows}))
    pattern = r"^(?P<cases>[\d,]+) cases?, (?P<launches>[\d,]+) launch(?:es)? in (?P<runs>\d+) runs?; "
    left = take(sentence, pattern, numbers)
    bad = [row for case in cases for row in case["bad"]]
    if not bad:
        assert left.endswith("; every launch was ok.")
        return left
    failed = Counter(row["status"] for row in bad if row["order"] is not None)
    expected = {"count": f"{failed.total():,}", "each": each(failed)} if failed else None
    left = take(left, r"(?P<count>[\d,]+) launch(?:es)? failed \((?P<each>.+?)\)", expected)
    never = Counter(row["status"] for case in cases for row in [r for r in case["bad"] if r["order"] is None][:1])
    expected = {"count": f"{never.total():,}", "each": each(never)} if never else None
    return take(left, r"(?P<count>[\d,]+) cases? (?:was|were) not launched \((?P<each>.+?)\)", expected)


def each(counts: Counter[str]) -> str:
    return next(iter(counts)) if len(counts) == 1 else counted_words(counts.elements())


def check_scaling(sentence: str, rows: Sequence[Row], cases: Sequence[Row]) -> str:
    """Of one workload and mode: the best and the worst of the most devices."""
    most = [row for row in rows if row["gpus"] == max(row["gpus"] for row in rows)]
    most.sort(key=lambda row: -row["efficiency"])
    expected = {"base": str(min(row["base_gpus"] for row in most)), "gpus": str(most[0]["gpus"])}
    pattern = r"scales \w+ly: from (?P<base>\d+) to (?P<gpus>\d+) devices at an efficiency of "
    for end, row in {"best": most[0], "worst": most[-1]}.items():
        if end == "worst" and len(most) == 1:
            continue
        pattern += " down to " if end == "worst" else ""
        pattern += rf"(?P<{end}>{SHARE})"
        expected[end] = percent(row["efficiency"])
        if row["efficiency_low"] is not None:
            pattern += rf" \((?P<{end}_low>{SHARE})…(?P<{end}_high>{SHARE})\)"
            expected |= {f"{end}_low": percent(row["efficiency_low"]), f"{end}_high": percent(row["efficiency_high"])}
        pattern += rf" with (?P<{end}_case>.+?)"
        case = next(case for case in cases if all(case[name] == row[name] for name in GROUP))
        expected[f"{end}_case"] = full_label(case, cases)
    return take(sentence, pattern + "[.]$", expected)


def check_tuning(sentence: str, group: Sequence[Row]) -> str:
    def words(row: Row) -> str:
        said = {"omp_num_threads": "OMP_NUM_THREADS {}", "num_workers": "{} workers", "prefetch_factor": "prefetch {}"}
        return ", ".join(text.format(row[name]) for name, text in said.items() if row[name] is not None)

    [best] = [row for row in group if row["best"]]
    default = [row for row in group if row["default"] and row["loss"] is not None]
    ends = r"(?=; the defaults|, which are the defaults)"
    left = take(sentence, rf": fastest with (?P<best>.+?){ends}", {"best": words(best)})
    if not default:
        assert left.endswith("; the defaults are not among the cases that ran.")
    elif default[0] is best:
        assert left.endswith(", which are the defaults.")
    else:
        pattern = rf"the defaults \((?P<default>.+?)\) lose (?P<loss>{SHARE})"
        expected = {"default": words(default[0]), "loss": percent(default[0]["loss"])}
        if default[0]["loss_low"] is not None:
            pattern += rf" \((?P<low>{SHARE})…(?P<high>{SHARE})\)"
            expected |= {"low": percent(default[0]["loss_low"]), "high": percent(default[0]["loss_high"])}
        told_apart = default[0]["loss_low"] is not None and default[0]["loss_low"] > 0
        left = take(left, pattern + ("[.]$" if told_apart else ", which is within the noise[.]$"), expected)
    return left


def check_headline(reported: Reported, within: Sequence[float] = WITHIN) -> None:
    """Every sentence is one that must be there, every one is there, and no digit of it goes unchecked."""
    sentences, expected = list(reported.json["headline"]), reported.expected
    cases = expected["summary"]
    several = len({case["environment"] for case in cases}) > 1
    left = [check_counts(sentences.pop(0), cases, reported.rows)]
    for question in by_group(cases, *QUESTION):
        one = question[0]
        device = first(question, "device_name") if one["device"] == "cuda" else "CPU rank"
        name = f"{one['workload']} on {one['gpus']} × {device or 'device'}"
        name += f" from {one['data']}" if one["data"] != "resident" else ""
        name += f" ({one['environment']})" if several else ""
        name += " with other data, or measured otherwise: " if one["work"] else ": "
        sentence = sentences.pop(0)
        assert sentence.startswith(name)
        ids = {tuple(case[key] for key in GROUP) for case in question}
        traded = [row for row in expected["tradeoff"] if tuple(row[key] for key in GROUP) in ids]
        left.append(check_speed(sentence.removeprefix(name), question, traded, within))
    grown = [row for row in expected["scaling"] if row["efficiency"] is not None and row["gpus"] > row["base_gpus"]]
    for rows in by_group(grown, "workload", "mode"):
        sentence, name = sentences.pop(0), f"{rows[0]['workload']} scales {rows[0]['mode']}ly: "
        assert sentence.startswith(name)
        left.append(check_scaling(sentence, rows, cases).removeprefix(f"{rows[0]['workload']} "))
    for pattern, count in (
        (
            r"^(?P<count>\d+) (?:efficiency is|efficiencies are) above (?P<limit>\d+) %",
            sum(bool(r["flag"]) for r in grown),
        ),
        (r"^(?P<count>\d+) cases? (?:is|are) not compared", sum(r["mode"] is None for r in expected["scaling"])),
    ):
        if count:
            limit = {"limit": "102"} if "limit" in pattern else {}
            left.append(take(sentences.pop(0), pattern, {"count": str(count)} | limit))
    for group in by_group(expected["tuning"], "group"):
        if any(row["best"] for row in group):
            sentence, one = sentences.pop(0), group[0]
            name = f"{one['workload']} ({one['strategy']} ×{one['gpus']})"
            assert sentence.startswith(name)
            left.append(check_tuning(sentence.removeprefix(name), group))
    marked = [f"{full_label(case, cases)}: {case['marks']}" for case in cases if case["marks"]]
    if marked:
        left.append(take(sentences.pop(0), r"^Disturbed: (?P<cases>.+)\.$", {"cases": some(marked)}))
    assert sentences == []
    assert [text for text in left if re.search(r"\d", text)] == []


def test_every_number_of_the_headline_comes_from_the_raw_rows(both: Reported) -> None:
    check_headline(both)


def test_the_headline_says_what_a_person_would_read_from_these_runs(both: Reported) -> None:
    """Two sentences in whole, worked out with a calculator from launches.csv."""
    assert both.json["headline"][0] == (
        "44 cases, 126 launches in 2 runs; 8 launches failed (3 invalid, 3 timeout, 1 crashed, 1 oom); "
        "2 cases were not launched (skipped)."
    )
    rates = sorted(
        row["samples_per_s"]
        for row in both.rows
        if row["case_id"].startswith("gpt-350m-fsdp") and "ac-" not in row["case_id"]
    )
    assert len(rates) == 3
    assert f"{rates[1]:.1f}" == "352.2"
    assert any("fastest is fsdp ac none with 352.2 samples/s" in sentence for sentence in both.json["headline"])


# -- rows of our own -----------------------------------------------------------------------------------------------


def messy_rows(seed: int) -> list[Row]:
    """Three runs of few cases with all that happens: launches made again, failures, unknown memory, lost blocks."""
    draw = random.Random(seed)
    points = [
        {"workload": "gpt-nano", "strategy": s, "gpus": n, "batch_size": b, "data": "resident"}
        for s in ("fsdp", "ddp")
        for n, b in ((1, 8), (2, 8), (10, 8), (2, 4), (4, 2))
    ]
    loaded = {"workload": "mnist-cnn", "strategy": "ddp", "gpus": 2, "batch_size": 64, "data": "synthetic"}
    points += [loaded | {"num_workers": w, "omp_num_threads": t} for w in (0, 2, 4) for t in (1, 2)]
    rows: list[Row] = []
    for run, torch, device in (("r1", "2.11.0", "cuda"), ("r2", "2.11.0", "cuda"), ("r3", "2.12.0", "cpu")):
        made: list[Row] = []
        # cases of one workload in a run each, so that they share no block
        own = [
            *points,
            {
                "workload": "bert",
                "strategy": "ddp",
                "gpus": {"r1": 1, "r2": 2, "r3": 4}[run],
                "batch_size": 8,
                "data": "resident",
            },
        ]
        for block in range(3):
            for point in draw.sample(own, len(own) if block else len(own) - 2):
                for _ in range(draw.choice((1, 1, 1, 2))):  # a resumed run makes some again
                    made.append(messy_row(draw, run, torch, device, point, block, len(made)))
        if run == "r2":  # could not run in the first session, and was launched in the second
            made.insert(0, made[-1] | {"status": "skipped", "reason": "no room", "block": None, "order": None})
            made.append(made[5] | {"role": "control", "samples_per_s": 1e9})
        rows += made
    return rows


def messy_row(draw: random.Random, run: str, torch: str, device: str, point: Row, block: int, order: int) -> Row:
    loads = point["data"] != "resident"
    idle = point.get("num_workers", 0) == 0
    batch = point["batch_size"] * point["gpus"]
    row: Row = dict.fromkeys(AXES) | {
        **{"precision": "fp32", "activation_checkpointing": "none", "compile": "off", "grad_accum_steps": 1},
        **{"max_grad_norm": 0.0, "optimizer": "adamw", "omp_num_threads": 1, "seed": 0, "channels_last": False},
        **{"deterministic": False, "cudnn_benchmark": True, "numa_binding": "off", "device": device},
        **{"pin_memory": True if loads else None, "persistent_workers": None if idle else True},
        **{"prefetch_factor": None if idle else 2},
        **point,
        **{"run_id": run, "role": "measure", "block": block, "order": order, "oversubscribe": False, "torch": torch},
        **{"case_id": "-".join(str(value) for value in point.values()) + f"-{device}", "world_size": point["gpus"]},
        **{"global_batch": batch, "work_key": f"{point['workload']} {batch}", "env_key": f"key of {torch}"},
        **{"device_name": "A GPU" if device == "cuda" else "cpu", "launch_id": f"{order:04}", "schema": 4},
        **{"command": f"bench run -- {run}", "attempts": 1, "session": 0},
    }
    if draw.random() < 0.12 and point["gpus"] > 1:
        status = draw.choice(("crashed", "timeout", "oom", "invalid"))
        return row | {"status": status, "reason": draw.choice(("rank 1, died", 'it said "no"'))}
    rate = point["gpus"] ** 0.93 * (900 if loads else 90) * math.exp(draw.gauss(0, 0.08))
    row |= {"status": "ok", "samples_per_s": rate, "samples_per_s_per_device": rate / point["gpus"]}
    row |= {"step_ms": 1000 * batch / rate, "data_wait_share": draw.random() if loads else 0.0}
    known = {"device_used_mib": 0.7, "peak_reserved_mib": 0.9, "peak_allocated_mib": 0.95, "peak_rss_mib": 0.98}
    row |= {name: draw.uniform(9e3, 5e4) if draw.random() < share else None for name, share in known.items()}
    if row["peak_rss_mib"] and row["peak_rss_mib"] < 4e4:  # not known of every launch
        row["peak_host_mib"] = 0.7 * row["peak_rss_mib"] + 900 * (row["num_workers"] or 0)
    spoilt = {"throttled_share": draw.choice((0.25, 0.5)), "foreign_processes": True, "alloc_retries": 3}
    return row | (spoilt if draw.random() < 0.05 else {})


def written(rows: Sequence[Row], out: Path) -> list[str]:
    """As runs below a folder of results; their ids."""
    for run in by_group(rows, "run_id"):
        folder = out / "runs" / run[0]["run_id"]
        folder.mkdir(parents=True)
        names = list(dict.fromkeys(name for row in run for name in row))
        with (folder / "launches.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            bools = {True: "true", False: "false"}
            writer.writerows({k: bools[v] if isinstance(v, bool) else v for k, v in row.items()} for row in run)
    return [run[0]["run_id"] for run in by_group(rows, "run_id")]


@pytest.fixture(scope="module", params=[0, 1])
def messy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    out = tmp_path_factory.mktemp("messy")
    return Reported(out, written(messy_rows(request.param), out), out / "csv", (0.001, 14.5, 40.0))


def test_every_cell_and_sentence_of_messy_runs_comes_from_their_rows(messy: Reported) -> None:
    for name in FILES:
        assert messy.expected[name] or name == "slow_ranks", name
        check(messy, name)
    check_headline(messy, (0.001, 14.5, 40.0))
    intervals = {row["interval"] for name in ("scaling", "tradeoff", "tuning") for row in messy.expected[name]}
    assert intervals == {"paired", "unpaired", None}


def test_a_launch_that_was_made_again_counts_once(tmp_path: Path) -> None:
    """The last of (run, case, block) counts: 100 and 130, not 1000; the same block of another run is another launch."""
    draw = random.Random(0)
    point = {"workload": "mlp", "strategy": "ddp", "gpus": 2, "batch_size": 8, "data": "resident"}
    rows = [messy_row(draw, run, "2.11.0", "cuda", point, 0, order) for run, order in (("r1", 0), ("r1", 1), ("r2", 0))]
    rates = zip(rows, (1000.0, 100.0, 130.0), strict=True)
    rows = [row | {"samples_per_s": rate, "status": "ok", "reason": None} for row, rate in rates]
    [case] = Reported(tmp_path, written(rows, tmp_path), tmp_path / "csv").cells("summary")
    assert (float(case["samples_per_s"]), case["launches"], case["ok"], case["runs"]) == (115.0, "2", "2", "r1;r2")
