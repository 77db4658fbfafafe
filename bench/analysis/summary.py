"""What became of each case over its launches."""

from __future__ import annotations

import pandas as pd

FIGURES = (
    *("samples_per_s", "tokens_per_s", "step_ms", "step_p95_ms", "data_wait_share", "mfu", "startup_s"),
    *("peak_allocated_mib", "device_memory_peak_mib", "peak_rss_mib", "compile_s", "joules_per_sample"),
)
# What spoils a launch's timing, or makes it another's than it seems: column -> how to say it of the worst launch.
MARKS = {
    "throttled_share": "throttled {:.0%}",
    "foreign_processes": "GPU used by others",
    "alloc_retries": "{:.0f} allocator retries",
    "window_compilations": "compiled in the window",
    "optimizer_steps_skipped": "{:.0f} steps overflowed",
}


def summarise(launches: pd.DataFrame) -> pd.DataFrame:
    """One row a case, in the order of their first launch, from a frame of LAUNCHES rows.

    ``status`` is ``ok`` if every launch was, else the first other one; ``launches`` and ``ok`` count; each of FIGURES
    is the median over the launches that were ok. ``spread`` is (largest - smallest) / median throughput of those,
    unknown for fewer than two; ``marks`` says in words what spoilt a launch, and is None if nothing is known to.
    """
    measured = launches[launches["role"] == "measure"]
    cases = [_case(str(name), rows) for name, rows in measured.groupby("case_id", sort=False)]
    return pd.DataFrame(cases, columns=list(_case("", measured.head(0))))


def _case(case_id: str, rows: pd.DataFrame) -> dict[str, object]:
    good, bad = rows[rows["status"] == "ok"], rows[rows["status"] != "ok"]
    return {
        "case_id": case_id,
        "status": "ok" if bad.empty else bad["status"].iloc[0],
        "reason": None if bad.empty else bad["reason"].iloc[0],
        "launches": int(rows["order"].notna().sum()),
        "ok": len(good),
        **{name: _median(good[name]) for name in FIGURES},
        "spread": _spread(good["samples_per_s"]),
        "marks": _marks(good),
    }


def _median(values: pd.Series) -> float | None:
    known = values.dropna()
    return None if known.empty else float(known.median())


def _spread(values: pd.Series) -> float | None:
    known = values.dropna()
    return None if len(known) < 2 else float((known.max() - known.min()) / known.median())


def _marks(rows: pd.DataFrame) -> str | None:
    worst = {name: rows[name].dropna().astype(float).max() for name in MARKS}
    return "; ".join(text.format(worst[name]) for name, text in MARKS.items() if worst[name] > 0) or None
