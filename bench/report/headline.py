"""The findings of a report, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.order import labels
from bench.analysis.summary import GROUP, MARKS
from bench.analysis.tradeoff import QUESTION
from bench.report.format import number
from bench.report.tables import MIB_A_GIB


def headline(answers: Answers, within_gib: Iterable[float] = ()) -> list[str]:
    """What a reader must know, one sentence a finding: how much was run and what failed, the fastest and the smallest
    of each workload, how far it scales, what the defaults lose. A difference inside the noise is said to be one."""
    return [
        _counts(answers),
        *_speeds(answers, list(within_gib)),
        *_scaling(answers),
        *_tuning(answers),
        *_disturbed(answers),
        *_cut(answers),
        *_codes(answers),
    ]


def _counts(answers: Answers) -> str:
    cases, launches = len(answers.summary), int(answers.summary["launches"].sum())
    runs = answers.launches["run_id"].nunique()
    said = f"{_of(cases, 'case')}, {_of(launches, 'launch', 'launches')} in {_of(runs, 'run')}"
    bad = Counter(answers.summary["status"][answers.summary["status"] != "ok"])
    if not bad:
        return f"{said}; every launch was ok."
    words = ", ".join(f"{count} {status}" for status, count in bad.most_common())
    return f"{said}; {_of(sum(bad.values()), 'case')} with launches that failed or could not run: {words}."


def _of(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _speeds(answers: Answers, within_gib: list[float]) -> Iterator[str]:
    several = set(answers.summary.loc[answers.summary["code"] > 0, "workload"])  # of which there are several codes
    for _, cases in answers.summary.groupby(list(QUESTION), sort=False, dropna=False):
        environment, workload, data, _, gpus, work, code = cases.iloc[0][list(QUESTION)].fillna("unknown")
        name = f"{workload} on {gpus} × {_device(cases)}" + (f" from {data}" if data != "resident" else "")
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
            yield f"{name}: {_choices(measured, traded, within_gib)}."


def _device(cases: pd.DataFrame) -> str:
    names = [name for name in dict.fromkeys(cases["device_name"].dropna()) if name != "cpu"]
    return " and ".join(names) or ("CPU rank" if (cases["device"] == "cpu").all() else "device")


def _speed(case: pd.Series) -> str:
    low = case["samples_per_s_low"]
    interval = "" if pd.isna(low) else f" ({number(low)}…{number(case['samples_per_s_high'])}, {case['ok']} launches)"
    memory = "" if pd.isna(case["memory_mib"]) else f" at {_gib(case['memory_mib'])}"
    return f"{number(case['samples_per_s'])} samples/s{interval}{memory}"


def _gib(mib: float) -> str:
    return f"{mib / MIB_A_GIB:.1f} GiB"


def _choices(cases: pd.DataFrame, traded: pd.DataFrame, within_gib: list[float]) -> str:
    """Fastest, what cannot be told from it, smallest, and the fastest within each amount of memory."""
    named = traded.merge(cases[list(GROUP)].assign(label=labels(cases, ())), on=list(GROUP))
    named["label"] = named["label"].where(named["label"] != "", named["case_id"])
    sound = named[named["status"] == "ok"]
    if sound.empty:
        return "no case had all its launches ok, so none is recommended"
    first = sound.iloc[0]  # they come fastest first
    said = [f"fastest is {first['label']} with {_speed(cases.merge(first[list(GROUP)].to_frame().T).iloc[0])}"]
    tied = [row["label"] for _, row in sound.iloc[1:].iterrows() if not row["loss_low"] > 0]
    if tied:
        said.append(f"not to be told from {_of(len(tied), 'other')} ({_some(tied)})")
    small = sound[sound["choice"].fillna("").str.contains("smallest")]
    if len(small) and small.index[0] != first.name:
        row = small.iloc[0]
        said.append(f"smallest is {row['label']} with {_gib(row['memory_mib'])}, {row['loss']:.1%} slower")
    for gib in within_gib:
        words = f"fastest within {gib:g} GiB"
        fit = sound[[words in choice.split("; ") for choice in sound["choice"].fillna("")]]
        said.append(f"{words} is {fit.iloc[0]['label']}" if len(fit) else f"nothing fits into {gib:g} GiB")
    return "; ".join(said)


def _some(names: list[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return "; ".join(names[:shown]) + more


def _scaling(answers: Answers) -> Iterator[str]:
    """The best and the worst case of the most devices, for each workload and mode."""
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
        yield f"{_of(odd, 'efficiency is', 'efficiencies are')} above 102 %, which is suspicious: see Scaling."
    refused = int(answers.scaling["mode"].isna().sum())
    if refused:
        yield f"{_of(refused, 'case is', 'cases are')} not compared for scaling, as more than devices differs."


def _tuning(answers: Answers) -> Iterator[str]:
    for _, rows in answers.tuning.groupby("group", sort=False):
        best, default = rows[rows["best"]], rows[rows["default"] & rows["loss"].notna()]
        if best.empty:
            continue
        case = best.iloc[0]
        name = f"{case['workload']} ({case['strategy']} ×{case['gpus']})"
        said = f"{name}: fastest with {_setting(case)}"
        if default.empty:
            yield f"{said}; the defaults are not among the cases that ran."
        elif default.index[0] == best.index[0]:
            yield f"{said}, which are the defaults."
        else:
            loss = default.iloc[0]
            bounds = "" if pd.isna(loss["loss_low"]) else f" ({loss['loss_low']:.1%}…{loss['loss_high']:.1%})"
            tied = "" if loss["loss_low"] > 0 else ", which is within the noise"
            yield f"{said}; the defaults ({_setting(loss)}) lose {loss['loss']:.1%}{bounds}{tied}."


def _setting(case: pd.Series) -> str:
    words = {"omp_num_threads": "OMP_NUM_THREADS {}", "num_workers": "{} workers", "prefetch_factor": "prefetch {}"}
    return ", ".join(text.format(case[name]) for name, text in words.items() if pd.notna(case[name]))


def _codes(answers: Answers) -> Iterator[str]:
    """Of which runs each version of a workload's files is, where there are several."""
    for workload, rows in answers.launches[answers.launches["role"] == "measure"].groupby("workload", sort=False):
        if rows["code"].nunique() > 1:
            runs = [list(rows.loc[rows["code"] == code, "run_id"].unique()) for code in sorted(rows["code"].unique())]
            said = "; ".join(f"code {number} in {_some(ids)}" for number, ids in enumerate(runs, 1))
            yield f"{workload} has files with other contents, which are cases of their own: {said}."


def _disturbed(answers: Answers) -> Iterator[str]:
    marked = answers.summary[answers.summary["marks"].notna()]
    if len(marked):
        texts = [
            f"{text}: {marks}"
            for text, marks in zip(labels(answers.summary)[marked.index], marked["marks"], strict=True)
            if marks != MARKS["window_cut"]
        ]
        if texts:
            yield f"Disturbed: {_some(texts)}."


def _cut(answers: Answers) -> Iterator[str]:
    cut = int(answers.summary["marks"].fillna("").str.contains(MARKS["window_cut"], regex=False).sum())
    if cut:
        yield f"{_of(cut, 'case has', 'cases have')} fewer steps than asked for, as --max-seconds ends a window early."
