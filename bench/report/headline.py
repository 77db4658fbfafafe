"""The findings of a report, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.order import labels
from bench.analysis.summary import GROUP, MARKS, each_of
from bench.analysis.tradeoff import QUESTION
from bench.errors import shorten
from bench.report.format import number, some
from bench.report.tables import MIB_A_GIB

SHOWN = 3  # warnings about the machine


def headline(answers: Answers, within_gib: Iterable[float] = ()) -> list[str]:
    """Return what a reader must know, one sentence a finding.

    How much was run and what failed, the fastest and the smallest case of each workload, how far it scales, what the
    defaults lose, and what disturbed the measurement. A difference within the noise is called so.
    """
    return [
        _counts(answers),
        *_speeds(answers, list(within_gib)),
        *_scaling(answers),
        *_tuning(answers),
        *_machine(answers),
        *_disturbed(answers),
        *_cut(answers),
        *_codes(answers),
    ]


def _counts(answers: Answers) -> str:
    cases, launches = len(answers.summary), int(answers.summary["launches"].sum())
    runs = answers.launches["run_id"].nunique()
    said = f"{_of(cases, 'case')}, {_of(launches, 'launch', 'launches')} in {_of(runs, 'run')}"
    bad = answers.failures
    if bad.empty:
        return f"{said}; every launch was ok."
    launched, never = bad[bad["launches"] > 0], bad[bad["launches"] == 0].drop_duplicates(list(GROUP))
    if len(launched):
        by_status = launched.groupby("status")["launches"].sum()
        said += f"; {_of(int(by_status.sum()), 'launch', 'launches')} failed ({_each(by_status)})"
    if len(never):
        was = "case was" if len(never) == 1 else "cases were"
        said += f"; {len(never):,} {was} not launched ({_each(never['status'].value_counts())})"
    return f"{said}."


def _each(counts: pd.Series) -> str:
    """Return the status of all, or how many there are of each."""
    return str(counts.index[0]) if len(counts) == 1 else each_of(counts)


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
    bounds = "" if pd.isna(low) else f"{number(low)}…{number(case['samples_per_s_high'])}, "
    interval = f" ({bounds}{_of(case['ok'], 'launch', 'launches')})"
    memory = "" if pd.isna(case["memory_mib"]) else f" at {_gib(case['memory_mib'])}"
    return f"{number(case['samples_per_s'])} samples/s{interval}{memory}"


def _gib(mib: float) -> str:
    return f"{mib / MIB_A_GIB:.3g} GiB"


def _choices(cases: pd.DataFrame, traded: pd.DataFrame, within_gib: list[float]) -> str:
    """Return the fastest case, those within the noise of it, the smallest, and the fastest within some memory."""
    named = traded.merge(cases[list(GROUP)].assign(label=labels(cases, ())), on=list(GROUP))
    named["label"] = named["label"].where(named["label"] != "", named["case_id"])
    sound = named[named["status"] == "ok"]
    if sound.empty:
        return "no case had all its launches ok, so none is recommended"
    first = sound.iloc[0]  # they come fastest first
    said = [f"fastest is {first['label']} with {_speed(cases.merge(first[list(GROUP)].to_frame().T).iloc[0])}"]
    others = sound.iloc[1:]
    tied = others.loc[others["loss_low"] <= 0, "label"].to_list()
    if tied:
        said.append(f"{_of(len(tied), 'other')} within the noise of it ({some(tied)})")
    if others["loss_low"].isna().any():
        said.append("a case with one launch cannot be told from the others (--launches 5)")
    small = sound[sound["choice"].fillna("").str.contains("smallest")]
    if len(small) and small.index[0] != first.name:
        row = small.iloc[0]
        said.append(f"smallest is {row['label']} with {_gib(row['memory_mib'])}{_slower(row)}")
    for gib in within_gib:
        words = f"fastest within {gib:g} GiB"
        fit = sound[[words in choice.split("; ") for choice in sound["choice"].fillna("")]]
        said.append(f"{words} is {fit.iloc[0]['label']}" if len(fit) else f"nothing fits into {gib:g} GiB")
    return "; ".join(said)


def _slower(case: pd.Series) -> str:
    """Return by how much a case is slower than the fastest, where that is shown."""
    return f", {case['loss']:.1%} slower" if case["loss_low"] > 0 else ""


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
            said = "; ".join(f"code {number} in {some(ids)}" for number, ids in enumerate(runs, 1))
            yield f"{workload} has files with other contents, which are cases of their own: {said}."


def _machine(answers: Answers) -> Iterator[str]:
    """Yield each warning about the machine, as rows hold it, and of how many launches."""
    texts = answers.launches.loc[answers.launches["role"] == "measure", "machine_warnings"].value_counts()
    for text, count in texts.head(SHOWN).items():
        yield f"Machine, {_of(count, 'launch', 'launches')}: {shorten(str(text))}."
    if len(texts) > SHOWN:
        more = _of(len(texts) - SHOWN, "other warning")
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
            yield f"Disturbed: {some(texts)}."


def _cut(answers: Answers) -> Iterator[str]:
    cut = int(answers.summary["marks"].fillna("").str.contains(MARKS["window_cut"], regex=False).sum())
    if cut:
        yield f"{_of(cut, 'case has', 'cases have')} fewer steps than asked for, as --max-seconds ends a window early."
