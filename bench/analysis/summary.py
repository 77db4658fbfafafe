"""The summary of each case over its launches."""

from __future__ import annotations

import pandas as pd

from bench.analysis.frames import good
from bench.analysis.order import in_order
from bench.plan.options import AXES
from bench.stats.intervals import of_median
from bench.store.columns import COMMUNICATION

# What identifies a case: launches on another machine, with ranks on other nodes, with other data, with other code or
# measured otherwise are not combined.
GROUP = ("environment", "case_id", "nproc_per_node", "work_key", "code_key")
FIGURES = (
    *("samples_per_s", "samples_per_s_per_device", "tokens_per_s", "step_ms", "step_p95_ms", "data_wait_share"),
    *("mfu", "hfu", "mfu_achievable", "bubble_share", "startup_s", "first_step_ms", "compile_s", "joules_per_sample"),
    *("peak_allocated_mib", "peak_reserved_mib", "device_used_mib", "device_memory_peak_mib", "peak_rss_mib"),
    "peak_host_mib",
)
SAVING = (
    *("save_blocked_s", "save_total_s", "save_step_ms", "save_bytes", "save_mb_per_s"),
    *("save_peak_allocated_mib", "save_peak_rss_mib", "load_s", "goodput"),
)
PARTS = (
    *("data_wait_ms", "device_gap_ms", "copy_ms", "forward_ms", "backward_ms", "optimizer_ms"),
    *("bubble_ms", "rest_ms", "outside_ms"),
)
BY_PROFILE = "profile"  # the value of comm_method that is preferred
OF_THE_CASE = (*AXES, "oversubscribe", "world_size", "global_batch", "parameters", "device_name", "command")
# What distorts a launch's timing or makes it differ from what was asked: column -> text for the worst launch.
MARKS = {
    "throttled_share": "throttled {:.0%}",
    "foreign_processes": "GPU used by others",
    "alloc_retries": "{:.0f} allocator retries",
    "window_compilations": "compiled in the window",
    "optimizer_steps_skipped": "{:.0f} steps overflowed",
    "window_cut": "fewer steps (--max-seconds)",
}


def summarise(launches: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each case by GROUP, in the order of the axes, from LAUNCHES rows.

    ``status`` is ``ok`` if every launch was, else the first other one, with its ``reason``; ``launches`` counts fresh
    starts, ``ok`` the successful ones, ``failed`` says how the others ended (``2 oom, 1 crashed``; None if there are
    none), and ``runs`` joins the ids of their runs. Each of FIGURES, PARTS, SAVING and COMMUNICATION is the median over
    successful launches, the last of those by ``comm_method``; ``samples_per_s_low`` and ``_high`` are the 95 % bounds
    of that median, and ``spread`` is (largest - smallest) / median, both unknown for fewer than two. ``marks`` says in
    words what distorted a launch, and what was not as asked for. ``work`` is 0, and 1 … for cases with the same axes
    but another work_key (other data or measurement); ``code`` is the version of the user's files (see ``with_codes``).
    """
    measured = launches[launches["role"] == "measure"]
    group = [name for name in GROUP if name in measured]
    number = measured.groupby(group, sort=False, dropna=False).ngroup()
    measured = measured.assign(_case=number)
    sound = good(measured)
    failed = measured[measured["status"] != "ok"].drop_duplicates("_case").set_index("_case")
    summary = measured.groupby("_case")[[*group, *OF_THE_CASE]].first()
    summary["status"] = failed["status"].reindex(summary.index).fillna("ok")
    summary["reason"] = failed["reason"].reindex(summary.index)
    summary["launches"] = measured.groupby("_case")["order"].count()
    summary["ok"] = sound.groupby("_case").size().reindex(summary.index, fill_value=0)
    summary["failed"] = _failed(measured)
    summary["runs"] = measured.groupby("_case")["run_id"].agg(lambda ids: ";".join(dict.fromkeys(ids.dropna())))
    sound = _by_one_method(sound)
    sound = _of_one_place(sound)
    medians = sound.groupby("_case")[[*FIGURES, *PARTS, *SAVING, *COMMUNICATION]].median()
    summary = summary.join(medians.astype("float64")).join(_spread(sound)).join(_marks(sound))
    summary["comm_method"] = sound.groupby("_case")["comm_method"].first().astype("str")
    summary["work"] = _works(summary)
    summary["code"] = measured.groupby("_case")["code"].first() if "code" in measured else 0
    return in_order(summary.reset_index(drop=True))


def _of_one_place(sound: pd.DataFrame) -> pd.DataFrame:
    """Return the launches without what saving costs in cases that were saved in several folders.

    Without the goodput, if the intervals between saves are several.
    """
    places = sound.groupby("_case")["save_dir"].transform("nunique", dropna=False) > 1
    intervals = sound.groupby("_case")["save_interval"].transform("nunique") > 1
    kept = {name: sound[name].where(~(places | (intervals & (name == "goodput")))) for name in SAVING}
    return sound.assign(**kept)


def _by_one_method(sound: pd.DataFrame) -> pd.DataFrame:
    """Return the launches with the communication of each case by one method: by profile, if any launch has that."""
    known = sound["comm_method"].where(sound["exposed_comm_share"].notna())
    by_profile = (known == BY_PROFILE).groupby(sound["_case"]).transform("any")
    kept = known.where(~by_profile | (known == BY_PROFILE))
    figures = {name: sound[name].where(kept.notna()) for name in COMMUNICATION}
    return sound.assign(comm_method=kept, **figures)


def _failed(measured: pd.DataFrame) -> pd.Series:
    """Return how many launches of each case ended in each status but ``ok``, in words, the most frequent first."""
    bad = measured[(measured["status"] != "ok") & measured["order"].notna()]
    words = {case: each_of(statuses.value_counts()) for case, statuses in bad.groupby("_case")["status"]}
    return pd.Series(words, dtype="str", name="failed")


def each_of(counts: pd.Series) -> str:
    """Return how many there are of each name in the index, the most frequent first: ``2 oom, 1 crashed``."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {name}" for name, count in ordered)


def _works(summary: pd.DataFrame) -> pd.Series:
    """Return numbers that distinguish cases with the same axes but other work: 0, 1 … by their work_keys."""
    same = [name for name in ("environment", "workload", "data", "global_batch") if name in summary]
    keys = summary.groupby(same, sort=False, dropna=False)["work_key"]
    return keys.transform(lambda of_work: pd.factorize(of_work, use_na_sentinel=False)[0]).astype("int64")


def _spread(sound: pd.DataFrame) -> pd.DataFrame:
    """Return the bounds and the spread of each case's throughput over its launches."""
    rates = sound.groupby("_case")["samples_per_s"]
    bounds = {case: of_median(values) for case, values in rates}
    found = pd.DataFrame.from_dict(bounds, orient="index", columns=["samples_per_s_low", "samples_per_s_high"])
    spread = ((rates.max() - rates.min()) / rates.median()).astype("float64").where(rates.count() > 1)
    return found.astype("float64").assign(spread=spread)


def _marks(sound: pd.DataFrame) -> pd.Series:
    worst = sound.groupby("_case")[list(MARKS)].max().astype("float64")
    if not len(worst):
        return pd.Series(name="marks", dtype="str")
    words = worst.apply(lambda row: "; ".join(t.format(row[n]) for n, t in MARKS.items() if row[n] > 0), axis=1)
    told = sound.groupby("_case")["not_as_asked"].agg(lambda texts: "; ".join(dict.fromkeys(texts.dropna())))
    words = words.astype("str").str.cat(told, sep="; ").str.strip("; ")
    return words.rename("marks").where(words != "")
