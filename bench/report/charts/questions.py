"""Questions: the cases of one chart, which train the same on the same number of devices; and the texts about them."""

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
from bench.report.format import by_reason, first_few

DEVICES = {"cuda": "GPU", "cpu": "CPU rank"}


@dataclass(frozen=True)
class Question:
    """Cases that can be compared, which one chart shows.

    ``stem`` and ``subject`` go into names and titles; ``cases`` are rows of the summary, with a ``label``. If there are
    too many cases for one figure, this is ``page`` of ``page_count``.
    """

    stem: str
    subject: str
    cases: pd.DataFrame
    page: int = 1
    page_count: int = 1

    @property
    def on_gpus(self) -> bool:
        """Whether all cases ran on GPUs."""
        return bool((self.cases["device"] == "cuda").all())

    def name(self, kind: str) -> str:
        """Return the name of a chart of this kind."""
        return f"{kind}-{self.stem}" + (f"-{self.page}" if self.page_count > 1 else "")

    def title(self, metric: str, unit: str) -> str:
        """Return the title of a chart of a metric in a unit."""
        more = f" ({self.page} of {self.page_count})" if self.page_count > 1 else ""
        return f"{metric} of {self.subject}, {unit}{more}"

    def pages(self, most: int) -> Iterator[Question]:
        """Yield pages of at most ``most`` cases, of nearly equal length."""
        count = max(1, -(-len(self.cases) // most))
        size = max(1, -(-len(self.cases) // count))
        for page in range(count):
            cases = self.cases.iloc[page * size : (page + 1) * size]
            yield replace(self, cases=cases, page=page + 1, page_count=count)


BY_THE_SCRIPT = "by the script"  # What an axis has that a script decides on itself.


def questions(answers: Answers) -> list[Question]:
    """Return the cases of the summary, grouped by QUESTION."""
    cases = answers.summary
    found = []
    for _, rows in cases.groupby(list(QUESTION), sort=False, dropna=False):
        first = rows.iloc[0]
        stem = slug(str(first["workload"]), f"x{first['gpus']}", *_distinctions(first, cases, "-"))
        own = dict.fromkeys(("precision", "activation_checkpointing"), BY_THE_SCRIPT)
        found.append(Question(stem, _subject(first, cases), with_labels(rows).fillna(own)))
    return found


def with_labels(rows: pd.DataFrame, always: tuple[str, ...] = ("strategy", "precision")) -> pd.DataFrame:
    """Return the cases with a column ``label``; equal labels get the first digits of the case's work_key."""
    found = labels(rows, always).map(one_line)
    alike = found.duplicated(keep=False)
    key = rows["work_key"].fillna("?").astype("str").str[:6]
    return rows.assign(label=found.where(~alike, found + " work " + key.map(one_line)).astype("str"))


def _subject(first: pd.Series, cases: pd.DataFrame) -> str:
    return f"{short_name(first['workload'])} on {device_words(first['gpus'], first['device'])}" + "".join(
        f", {part}" for part in _distinctions(first, cases, " ")
    )


def _distinctions(first: pd.Series, cases: pd.DataFrame, between: str) -> list[str]:
    """Return data, code version and environment of a case, each only if there are several of them."""
    found = []
    if cases.loc[cases["workload"] == first["workload"], "data"].nunique(dropna=False) > 1:
        found.append(f"data{between}{short_name(first['data'])}")
    if cases["code"].any() and (cases.loc[cases["workload"] == first["workload"], "code"] > 0).any():
        found.append(f"code{between}{first['code'] + 1}")
    return found + environment_words(first["environment"], cases, between)


def environment_words(letter: Any, cases: pd.DataFrame, between: str = " ") -> list[str]:
    """Return the environment in words, or nothing if all cases have the same."""
    return [f"environment{between}{letter}"] if cases["environment"].nunique() > 1 else []


def device_words(count: Any, device: Any = "cuda") -> str:
    """Return a number of devices in words: ``8 GPUs``."""
    return f"{count} {DEVICES.get(str(device), one_line(device))}{'' if count == 1 else 's'}"


def short_name(value: Any) -> str:
    """Return a name from the user, shortened to 48 characters for a title."""
    return shorten(one_line(value), 48)


def one_line(value: Any) -> str:
    """Return a value as one line, with U+FFFD for unprintable characters, some of which XML does not allow."""
    text = "unset" if pd.isna(value) else str(value)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))


def slug(*parts: str) -> str:
    """Return the parts as lower-case letters, digits and dashes, for a file name and an HTML id."""
    words = (re.sub("[^a-z0-9]+", "-", part.lower()).strip("-")[:40].strip("-") for part in parts)
    return "-".join(filter(None, words))


def launches_by_case(launches: pd.DataFrame, columns: list[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    """Return these columns of the launches that were ok, by case (see ``case_key``), in the order of the rows."""
    good = launches.loc[(launches["role"] == "measure") & (launches["status"] == "ok"), [*GROUP, *columns]]
    return {case_key(of): rows[columns] for of, rows in good.groupby(list(GROUP), sort=False, dropna=False)}


def case_key(parts: Any) -> tuple[Any, ...]:
    """Return a case's values of GROUP as a dictionary key; unknown values are None, so that they are equal."""
    return tuple(None if pd.isna(part) else part for part in parts)


def ok_of_launches(case: pd.Series) -> str:
    """Return ``2 of 3 launches ok`` where some failed, else nothing."""
    return "" if case["ok"] == case["launches"] else f"{case['ok']} of {case['launches']} launches ok"


def launch_counts(cases: pd.DataFrame) -> str:
    """Return how many launches of each case were ok: ``3 launches``, or ``2 to 3 launches``."""
    counts = cases.loc[cases["ok"] > 0, "ok"]
    if counts.empty:
        return "no launch"
    few, many = int(counts.min()), int(counts.max())
    return f"{few if few == many else f'{few} to {many}'} launch{'es' if many > 1 else ''}"


def failure_words(cases: pd.DataFrame) -> str:
    """Return sentences on the cases without a value, and on those of which some launches failed, with the reasons."""
    none = _by_reason((case["label"], f"{case['status']}: {one_line(case['reason'])}")
                      for _, case in cases[cases["ok"] == 0].iterrows())  # fmt: skip
    partly = cases[(cases["ok"] > 0) & (cases["ok"] < cases["launches"])]
    part = _by_reason((case["label"], f"{ok_of_launches(case)}; {case['failed']}: {one_line(case['reason'])}")
                      for _, case in partly.iterrows())  # fmt: skip
    sentences = [f"No result: {'; '.join(none)}." if none else "", f"Some failed: {'; '.join(part)}." if part else ""]
    return " ".join(filter(None, sentences))


def _by_reason(named: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{first_few(names)} ({reason})" for names, reason in by_reason(named)]
