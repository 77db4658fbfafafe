"""The cases that are drawn in one chart: the same training on as many devices, in words that tell them apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.order import labels
from bench.analysis.summary import GROUP
from bench.analysis.tradeoff import QUESTION
from bench.errors import shorten
from bench.report.format import by_reason, some

DEVICES = {"cuda": "GPU", "cpu": "CPU rank"}


@dataclass(frozen=True)
class Question:
    """``stem`` and ``subject`` go into names and titles; ``cases`` are rows of the summary, each with its ``label``.

    ``part`` of ``parts``: where the cases are too many for one figure.
    """

    stem: str
    subject: str
    cases: pd.DataFrame
    part: int = 1
    parts: int = 1

    @property
    def on_gpus(self) -> bool:
        return bool((self.cases["device"] == "cuda").all())

    def name(self, kind: str) -> str:
        return f"{kind}-{self.stem}" + (f"-{self.part}" if self.parts > 1 else "")

    def title(self, metric: str, unit: str) -> str:
        more = f" ({self.part} of {self.parts})" if self.parts > 1 else ""
        return f"{metric} of {self.subject}, {unit}{more}"

    def pages(self, most: int) -> Iterator[Question]:
        """Itself, or as many of nearly equal length as it takes."""
        parts = max(1, -(-len(self.cases) // most))
        size = max(1, -(-len(self.cases) // parts))
        for part in range(parts):
            yield replace(self, cases=self.cases.iloc[part * size : (part + 1) * size], part=part + 1, parts=parts)


def questions(answers: Answers) -> list[Question]:
    """All cases of the summary, by what they may be compared in."""
    cases = answers.summary
    return [
        Question(slug(str(first["workload"]), f"x{first['gpus']}", *_where(first, cases, "-")), _subject(first, cases),
                 labelled(rows))
        for _, rows in cases.groupby(list(QUESTION), sort=False, dropna=False)
        for first in [rows.iloc[0]]
    ]  # fmt: skip


def labelled(rows: pd.DataFrame, always: tuple[str, ...] = ("strategy", "precision")) -> pd.DataFrame:
    """The cases with ``label``; those that would read alike have the beginning of their work_key in it."""
    found = labels(rows, always).map(printable)
    alike = found.duplicated(keep=False)
    key = rows["work_key"].fillna("?").astype("str").str[:6]
    return rows.assign(label=found.where(~alike, found + " work " + key.map(printable)).astype("str"))


def _subject(first: pd.Series, cases: pd.DataFrame) -> str:
    return f"{name_of(first['workload'])} on {devices(first['gpus'], first['device'])}" + "".join(
        f", {part}" for part in _where(first, cases, " ")
    )


def _where(first: pd.Series, cases: pd.DataFrame, between: str) -> list[str]:
    """Data, environment and code, where there are several."""
    found = []
    if cases.loc[cases["workload"] == first["workload"], "data"].nunique(dropna=False) > 1:
        found.append(f"data{between}{name_of(first['data'])}")
    if cases["code"].any() and (cases.loc[cases["workload"] == first["workload"], "code"] > 0).any():
        found.append(f"code{between}{first['code'] + 1}")
    return found + environment(first["environment"], cases, between)


def environment(letter: Any, cases: pd.DataFrame, between: str = " ") -> list[str]:
    """Nothing where all cases are of one."""
    return [f"environment{between}{letter}"] if cases["environment"].nunique() > 1 else []


def devices(count: Any, device: Any = "cuda") -> str:
    """``8 GPUs``."""
    return f"{count} {DEVICES.get(str(device), printable(device))}{'' if count == 1 else 's'}"


def name_of(value: Any) -> str:
    """What a person named, for a title."""
    return shorten(printable(value), 48)


def printable(value: Any) -> str:
    """One line without what no reader sees, and XML does not allow."""
    text = "unset" if pd.isna(value) else str(value)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))


def slug(*parts: str) -> str:
    """Lower-case letters, digits and dashes."""
    words = (re.sub("[^a-z0-9]+", "-", part.lower()).strip("-")[:40].strip("-") for part in parts)
    return "-".join(filter(None, words))


def of_launches(launches: pd.DataFrame, columns: list[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    """What each launch that was ok measured, by case (see ``key``), in the order of the rows."""
    good = launches.loc[(launches["role"] == "measure") & (launches["status"] == "ok"), [*GROUP, *columns]]
    return {key(of): rows[columns] for of, rows in good.groupby(list(GROUP), sort=False, dropna=False)}


def key(parts: Any) -> tuple[Any, ...]:
    """GROUP's values of a case; unknown ones are equal."""
    return tuple(None if pd.isna(part) else part for part in parts)


def count(case: pd.Series) -> str:
    """Return ``2 of 3 launches ok`` where some failed, else nothing."""
    return "" if case["ok"] == case["launches"] else f"{case['ok']} of {case['launches']} launches ok"


def launches_of(cases: pd.DataFrame) -> str:
    """``3 launches``, or ``2 to 3 launches``: how many each number of these cases is of."""
    counts = cases.loc[cases["ok"] > 0, "ok"]
    if counts.empty:
        return "no launch"
    few, many = int(counts.min()), int(counts.max())
    return f"{few if few == many else f'{few} to {many}'} launch{'es' if many > 1 else ''}"


def without(cases: pd.DataFrame) -> str:
    """Which cases have no number, and why; or that some launches failed."""
    none = _by_reason((case["label"], f"{case['status']}: {printable(case['reason'])}")
                      for _, case in cases[cases["ok"] == 0].iterrows())  # fmt: skip
    partly = cases[(cases["ok"] > 0) & (cases["ok"] < cases["launches"])]
    part = _by_reason((case["label"], f"{count(case)}; {case['failed']}: {printable(case['reason'])}")
                      for _, case in partly.iterrows())  # fmt: skip
    said = [f"Without a number: {'; '.join(none)}." if none else "", f"Some failed: {'; '.join(part)}." if part else ""]
    return " ".join(filter(None, said))


def _by_reason(named: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{some(names)} ({reason})" for names, reason in by_reason(named)]
