"""The findings of a report, one sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.order import labels
from bench.analysis.slow_ranks import NODE
from bench.analysis.summary import BY_PROFILE, GROUP, MARKS, each_of
from bench.analysis.tradeoff import QUESTION
from bench.errors import shorten
from bench.report.format import first_few, number
from bench.report.tables import MIB_A_GIB

SHOWN = 3  # Warnings about the machine, and slow ranks.


def headline(answers: Answers, within_gib: Iterable[float] = ()) -> list[str]:
    """Return the most important findings, one sentence each.

    They say how much was run and what failed, which case of each workload is fastest and which needs the least memory,
    how well it scales, what the default settings cost, and what disturbed the measurement. A sentence says so if a
    difference is within the noise. ``within_gib`` are memory sizes in GiB: the fastest case within each is named.
    """
    return [
        _counts(answers),
        *_throughput(answers, list(within_gib)),
        *_scaling(answers),
        *_communication(answers),
        *_slow_ranks(answers),
        *_tuning(answers),
        *_machine(answers),
        *_disturbed(answers),
        *_shortened_windows(answers),
        *_code_versions(answers),
    ]


def _counts(answers: Answers) -> str:
    cases, launches = len(answers.summary), int(answers.summary["launches"].sum())
    runs = answers.launches["run_id"].nunique()
    sentence = f"{_plural(cases, 'case')}, {_plural(launches, 'launch', 'launches')} in {_plural(runs, 'run')}"
    bad = answers.failures
    if bad.empty:
        return f"{sentence}; every launch was ok."
    launched, never = bad[bad["launches"] > 0], bad[bad["launches"] == 0].drop_duplicates(list(GROUP))
    if len(launched):
        by_status = launched.groupby("status")["launches"].sum()
        sentence += f"; {_plural(int(by_status.sum()), 'launch', 'launches')} failed ({_status_counts(by_status)})"
    if len(never):
        was = "case was" if len(never) == 1 else "cases were"
        sentence += f"; {len(never):,} {was} not launched ({_status_counts(never['status'].value_counts())})"
    return f"{sentence}."


def _status_counts(counts: pd.Series) -> str:
    """Return the status if all have the same, else how many have each."""
    return str(counts.index[0]) if len(counts) == 1 else each_of(counts)


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _throughput(answers: Answers, within_gib: list[float]) -> Iterator[str]:
    several = set(answers.summary.loc[answers.summary["code"] > 0, "workload"])  # Those with several code versions.
    for _, cases in answers.summary.groupby(list(QUESTION), sort=False, dropna=False):
        environment, workload, data, _, gpus, work, code = cases.iloc[0][list(QUESTION)].fillna("unknown")
        name = f"{workload} on {gpus} × {_device(cases)}"
        name += f" from {data}" if data not in ("resident", "unknown") else ""  # a script does not tell
        name += f" ({environment})" if answers.summary["environment"].nunique() > 1 else ""
        name += " with other data, or measured otherwise" if work else ""
        name += f" (code {code + 1})" if workload in several else ""
        measured = cases[cases["ok"] > 0]
        if measured.empty:
            yield f"{name}: no launch was ok."
        elif len(measured) == 1:
            yield f"{name}: {_speed(measured.iloc[0])}."
        else:
            traded = answers.tradeoff.merge(cases[list(GROUP)], on=list(GROUP))
            yield f"{name}: {_recommendations(measured, traded, within_gib)}."


def _device(cases: pd.DataFrame) -> str:
    names = [name for name in dict.fromkeys(cases["device_name"].dropna()) if name != "cpu"]
    return " and ".join(names) or ("CPU rank" if (cases["device"] == "cpu").all() else "device")


def _speed(case: pd.Series) -> str:
    low = case["samples_per_s_low"]
    bounds = "" if pd.isna(low) else f"{number(low)}…{number(case['samples_per_s_high'])}, "
    interval = f" ({bounds}{_plural(case['ok'], 'launch', 'launches')})"
    memory = "" if pd.isna(case["memory_mib"]) else f" at {_gib(case['memory_mib'])}"
    return f"{number(case['samples_per_s'])} samples/s{interval}{memory}"


def _gib(mib: float) -> str:
    return f"{mib / MIB_A_GIB:.3g} GiB"


def _recommendations(cases: pd.DataFrame, traded: pd.DataFrame, within_gib: list[float]) -> str:
    """Return the fastest case, cases within the noise of it, the smallest, and the fastest within each memory size."""
    named = traded.merge(cases[list(GROUP)].assign(label=labels(cases, ())), on=list(GROUP))
    named["label"] = named["label"].where(named["label"] != "", named["case_id"])
    sound = named[named["status"] == "ok"]
    if sound.empty:
        return "no case had all its launches ok, so none is recommended"
    first = sound.iloc[0]  # ``tradeoff`` has the fastest first.
    parts = [f"fastest is {first['label']} with {_speed(cases.merge(first[list(GROUP)].to_frame().T).iloc[0])}"]
    others = sound.iloc[1:]
    tied = others.loc[others["loss_low"] <= 0, "label"].to_list()
    if tied:
        parts.append(f"{_plural(len(tied), 'other')} within the noise of it ({first_few(tied)})")
    if others["loss_low"].isna().any():
        parts.append("a case with one launch cannot be told from the others (--launches 5)")
    small = sound[sound["choice"].fillna("").str.contains("smallest")]
    if len(small) and small.index[0] != first.name:
        row = small.iloc[0]
        parts.append(f"smallest is {row['label']} with {_gib(row['memory_mib'])}{_slower(row)}")
    for gib in within_gib:
        words = f"fastest within {gib:g} GiB"
        fit = sound[[words in choice.split("; ") for choice in sound["choice"].fillna("")]]
        parts.append(f"{words} is {fit.iloc[0]['label']}" if len(fit) else f"nothing fits into {gib:g} GiB")
    return "; ".join(parts)


def _slower(case: pd.Series) -> str:
    """Return by how much a case is slower than the fastest; nothing if that is within the noise."""
    return f", {case['loss']:.1%} slower" if case["loss_low"] > 0 else ""


def _scaling(answers: Answers) -> Iterator[str]:
    """Yield the best and the worst efficiency on the most devices, for each workload and mode."""
    found = answers.scaling[
        answers.scaling["efficiency"].notna() & (answers.scaling["gpus"] > answers.scaling["base_gpus"])
    ]
    text = dict(
        zip(answers.summary[list(GROUP)].itertuples(index=False, name=None), labels(answers.summary), strict=True)
    )
    for (workload, mode), rows in found.groupby(["workload", "mode"], sort=False):
        most = rows[rows["gpus"] == rows["gpus"].max()].sort_values("efficiency", ascending=False, kind="stable")
        ends = most.iloc[[0, -1]] if len(most) > 1 else most
        words = []
        for case in ends.to_dict("records"):
            low = case["efficiency_low"]
            interval = "" if pd.isna(low) else f" ({low:.1%}…{case['efficiency_high']:.1%})"
            words.append(f"{case['efficiency']:.1%}{interval} with {text[tuple(case[name] for name in GROUP)]}")
        sizes = f"from {most['base_gpus'].min():.0f} to {most['gpus'].max()} devices"
        yield f"{workload} scales {mode}ly: {sizes} at an efficiency of {' down to '.join(words)}."
    odd = int(found["flag"].notna().sum())
    if odd:
        yield f"{_plural(odd, 'efficiency is', 'efficiencies are')} above 102 %, which is suspicious: see Scaling."
    refused = int(answers.scaling["mode"].isna().sum())
    if refused:
        yield f"{_plural(refused, 'case is', 'cases are')} not compared for scaling, as more than devices differs."


def _communication(answers: Answers) -> Iterator[str]:
    """Yield how much of a step waits for communication: for each workload the least and the most of its cases."""
    known = answers.summary[answers.summary["exposed_comm_share"].notna() & (answers.summary["world_size"] > 1)]
    several = answers.summary["environment"].nunique() > 1
    for (environment, workload, gpus), cases in known.groupby(["environment", "workload", "gpus"], sort=False):
        name = f"{workload} on {gpus} × {_device(cases)}" + (f" ({environment})" if several else "")
        words = labels(cases, ()).where(lambda text: text != "", cases["strategy"])
        ordered = cases.assign(words=words).sort_values("exposed_comm_share", kind="stable")
        ends = ordered.iloc[[0, -1]] if len(ordered) > 1 else ordered
        yield f"{name}: {' to '.join(map(_waits, ends.to_dict('records')))} of a step waits for communication."


def _waits(case: Mapping[Any, Any]) -> str:
    by = "" if case["comm_method"] == BY_PROFILE else ", by ablation"
    return f"{max(case['exposed_comm_share'], 0):.1%} ({case['words']}{by})"


def _slow_ranks(answers: Answers) -> Iterator[str]:
    """Yield which rank or node the others wait for, for each case in which one is slow."""
    slow = answers.slow_ranks[answers.slow_ranks["slow"].notna()]
    of_node = (slow["slow"] == NODE) & slow.duplicated([*GROUP, "slow", "node"])
    slow = slow[~of_node].sort_values("slow_by", ascending=False, kind="stable")
    cases = answers.summary.assign(label=labels(answers.summary))[[*GROUP, "workload", "label", "device"]]
    for one in slow.head(SHOWN).merge(cases, on=list(GROUP)).to_dict("records"):
        if one["slow"] == NODE:
            who, others = f"node {one['node']} ({one['host']})", "the other nodes"
        else:
            who, others = f"rank {one['rank']} ({_place(one)})", "the other ranks"
        slower = _slower_than(one, f"the median of {others}")
        yield f"{one['workload']}, {one['label']}: {who} {slower}, and is the last in {one['slow_last']:.0%} of steps."
    if len(slow) > SHOWN:
        yield f"Slow ranks: {_plural(len(slow) - SHOWN, 'more is', 'more are')} named in the table of ranks."


def _place(rank: Mapping[Any, Any]) -> str:
    device = "" if rank["device"] == "cpu" else f", GPU {rank['local_rank']}"
    return f"{rank['host']}{device}"


def _slower_than(one: Mapping[Any, Any], others: str) -> str:
    """Return by how much a rank or node is slower, and by how much at least."""
    by, low = one["slow_by"], one["slow_low"]
    if by < 1:
        return f"is {by:.1%} slower than {others} (at least {low:.1%})"
    return f"takes {1 + by:.2g} times as long as {others} (at least {1 + low:.2g} times)"


def _tuning(answers: Answers) -> Iterator[str]:
    for _, rows in answers.tuning.groupby("group", sort=False):
        best, default = rows[rows["best"]], rows[rows["default"] & rows["loss"].notna()]
        if best.empty:
            continue
        case = best.iloc[0]
        name = f"{case['workload']} ({case['strategy']} ×{case['gpus']})"
        sentence = f"{name}: fastest with {_setting(case)}"
        if default.empty:
            yield f"{sentence}; the defaults are not among the cases that ran."
        elif default.index[0] == best.index[0]:
            yield f"{sentence}, which are the defaults."
        else:
            loss = default.iloc[0]
            bounds = "" if pd.isna(loss["loss_low"]) else f" ({loss['loss_low']:.1%}…{loss['loss_high']:.1%})"
            tied = "" if loss["loss_low"] > 0 else ", which is within the noise"
            yield f"{sentence}; the defaults ({_setting(loss)}) lose {loss['loss']:.1%}{bounds}{tied}."


def _setting(case: pd.Series) -> str:
    words = {"omp_num_threads": "OMP_NUM_THREADS {}", "num_workers": "{} workers", "prefetch_factor": "prefetch {}"}
    return ", ".join(text.format(case[name]) for name, text in words.items() if pd.notna(case[name]))


def _code_versions(answers: Answers) -> Iterator[str]:
    """Yield which runs used which version of a workload's files, if there are several versions."""
    for workload, rows in answers.launches[answers.launches["role"] == "measure"].groupby("workload", sort=False):
        if rows["code"].nunique() > 1:
            runs = [list(rows.loc[rows["code"] == code, "run_id"].unique()) for code in sorted(rows["code"].unique())]
            versions = "; ".join(f"code {number} in {first_few(ids)}" for number, ids in enumerate(runs, 1))
            yield f"{workload} has files with other contents, which are cases of their own: {versions}."


def _machine(answers: Answers) -> Iterator[str]:
    """Yield each warning about the machine from the rows, with its number of launches."""
    texts = answers.launches.loc[answers.launches["role"] == "measure", "machine_warnings"].value_counts()
    for text, count in texts.head(SHOWN).items():
        yield f"Machine, {_plural(count, 'launch', 'launches')}: {shorten(str(text))}."
    if len(texts) > SHOWN:
        more = _plural(len(texts) - SHOWN, "other warning")
        yield f"Machine: {more} in the column machine_warnings of launches.csv."


def _disturbed(answers: Answers) -> Iterator[str]:
    marked = answers.summary[answers.summary["marks"].notna()]
    if len(marked):
        texts = [
            f"{text}: {marks}"
            for text, marks in zip(labels(answers.summary)[marked.index], marked["marks"], strict=True)
            if marks != MARKS["window_cut"]
        ]
        if texts:
            yield f"Disturbed: {first_few(texts)}."


def _shortened_windows(answers: Answers) -> Iterator[str]:
    cut = int(answers.summary["marks"].fillna("").str.contains(MARKS["window_cut"], regex=False).sum())
    if cut:
        has = _plural(cut, "case has", "cases have")
        yield f"{has} fewer steps than asked for, as --max-seconds ends a window early."
