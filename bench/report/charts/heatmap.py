"""Which threads and workers? Throughput over OMP_NUM_THREADS and DataLoader workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.summary import GROUP
from bench.options import AXES
from bench.report.charts.chart import Chart
from bench.report.charts.questions import Question, count, devices, environment, labelled, name_of, slug, without
from bench.report.charts.style import SENTINELS, Colours
from bench.report.words import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TUNED = {"omp_num_threads": "OMP_NUM_THREADS", "num_workers": "workers", "prefetch_factor": "prefetch"}


def heatmap(answers: Answers, _: Sequence[Question] = ()) -> Iterator[Chart]:
    """For each group of cases that differ in nothing but what is tuned (and work that cannot be compared)."""
    if answers.tuning.empty:
        return
    more = [name for name in (*AXES, "code", "ok", "launches", "reason") if name not in answers.tuning]
    cases = answers.tuning.merge(answers.summary[[*GROUP, *more]], on=list(GROUP), how="left")
    groups = [rows for _, rows in cases.groupby(["group", "work_key"], sort=False, dropna=False)]
    groups = [rows for rows in groups if rows["samples_per_s"].notna().any()]
    # what a group's fixed axes are is said in as few words as tell the groups of a question apart
    if not groups:
        return
    untuned: dict[str, Any] = dict.fromkeys(TUNED)
    fixed = pd.concat([rows.iloc[:1] for rows in groups]).assign(**untuned)
    for rows, name in zip(groups, labelled(fixed)["label"], strict=True):
        yield _chart(rows.reset_index(drop=True), name, answers.summary)


def _chart(cases: pd.DataFrame, label: str, summary: pd.DataFrame) -> Chart:
    first = cases.iloc[0]
    cases = cases.assign(label=[_words(case) for _, case in cases.iterrows()])
    where, apart = (environment(first["environment"], summary, between) for between in (" ", "-"))
    subject = ", ".join(
        [f"{name_of(first['workload'])}, {name_of(label)}", devices(first["gpus"], first["device"]), *where]
    )
    missing = without(cases)
    return Chart(
        name=slug("heatmap", str(first["workload"]), f"x{first['gpus']}", label, *apart),
        title=f"Throughput by OMP threads and workers of {subject}, samples/s",
        alt=" ".join(filter(None, (_alt(cases, subject), missing))),
        note=" ".join(filter(None, (_note(cases), missing))),
        data=_data(cases),
        figure=partial(_figure, cases),
    )


def _alt(cases: pd.DataFrame, subject: str) -> str:
    known = cases[cases["samples_per_s"].notna()].sort_values("samples_per_s")
    said = [f"Heat map of throughput in samples/s of {subject}, over OMP_NUM_THREADS and DataLoader workers."]
    for _, case in known.iterrows():
        rate = f"{case['label']} with {number(case['samples_per_s'])} samples/s"
        if case["best"]:
            said.append(f"Best: {rate}.")
        elif case["default"]:
            said.append(
                f"Default: {rate}" + ("." if pd.isna(case["loss"]) else f", {case['loss']:.1%} less than the best.")
            )
    slowest = known.iloc[0]
    return " ".join([*said, f"Slowest: {slowest['label']} with {number(slowest['samples_per_s'])}."])


def _words(case: pd.Series) -> str:
    """``OMP 2, 4 workers, prefetch 2``."""
    prefetch = "" if pd.isna(case["prefetch_factor"]) else f", prefetch {case['prefetch_factor']}"
    omp, workers = ("unset" if pd.isna(case[name]) else case[name] for name in ("omp_num_threads", "num_workers"))
    return f"OMP {omp}, {workers} workers{prefetch}"


def _note(cases: pd.DataFrame) -> str:
    counts = cases.loc[cases["ok"] > 0, "ok"]
    few, many = counts.min(), counts.max()
    said = (
        f"A number is the median of {few if few == many else f'{few} to {many}'} launches, in samples/s; a lighter "
        "cell is faster. A thick frame marks the best whose every launch was ok, a dashed one the default; — was "
        "not run."
    )
    if cases["prefetch_factor"].nunique() > 1 and (cases["num_workers"] == 0).any():
        said += " Without workers nothing is prefetched: that column is the same in each part."
    return said


def _data(cases: pd.DataFrame) -> pd.DataFrame:
    marks = [
        "; ".join(word for word in ("best", "default") if case[word]) for _, case in cases.iterrows()
    ]  # as the frames
    names = {**TUNED, "status": "status", "samples_per_s": "median, samples/s", "loss": "loss to the best, share"}
    found = cases[list(names)].rename(columns=names)
    return found.assign(launches=[count(case) or f"{case['ok']}" for _, case in cases.iterrows()], mark=marks)


def _figure(cases: pd.DataFrame, colours: Colours = SENTINELS) -> Figure:
    from bench.report.charts.cells import draw

    return draw(cases, colours)
