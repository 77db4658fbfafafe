"""A value of each case with those of its launches: the common part of the bar charts of throughput and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.report.charts.questions import Question, one_line
from bench.report.format import number

LONGEST_WHISKER = 1.25  # In times the largest bar or launch. Longer ones are clipped: they would leave bars no room.
CASES_A_PAGE = 40


@dataclass(frozen=True)
class Measured:
    """The values of a question's cases, in ``unit``.

    ``median``, ``low`` and ``high`` have the index of the cases; ``launches`` are in the order of the cases. ``by`` is
    the axis that colours show; ``limit`` is the end of the x axis, which is the same on all pages of a question.
    """

    question: Question
    by: str
    unit: str
    median: pd.Series
    low: pd.Series
    high: pd.Series
    launches: Sequence[Sequence[float]]
    limit: float

    def pages(self) -> Iterator[Measured]:
        """Yield this object, or one for each page if it has more than CASES_A_PAGE cases."""
        start = 0
        for page in self.question.pages(CASES_A_PAGE):
            at = page.cases.index
            some = self.launches[start : start + len(at)]
            yield replace(self, question=page, launches=some, median=self.median[at], low=self.low[at],
                          high=self.high[at])  # fmt: skip
            start += len(at)

    def data(self) -> pd.DataFrame:
        """Return the table of what is drawn."""
        cases = self.question.cases
        columns: dict[str, Any] = {
            "reason": cases["reason"].map(one_line, na_action="ignore"),
            "launches ok": cases["ok"],
            "launches": cases["launches"],
            f"median, {self.unit}": self.median,
            f"95 % from, {self.unit}": self.low,
            f"95 % to, {self.unit}": self.high,
            f"each launch, {self.unit}": ["; ".join(f"{value:.6g}" for value in some) for some in self.launches],
        }
        found = cases[["label", self.by, "status"]].assign(**columns)
        unknown = [name for name in (f"95 % from, {self.unit}", f"95 % to, {self.unit}") if found[name].isna().all()]
        return found.drop(columns=unknown).rename(columns={"label": "case", self.by: self.by.replace("_", " ")})

    def range_words(self, best: str, worst: str) -> str:
        """Return a sentence on the case with the largest value, and one on the case with the smallest."""
        known = self.median.dropna()
        if known.empty:
            return "No case here has a number."
        names: dict[Any, str] = self.question.cases["label"].to_dict()
        first, last = (
            f"{names[at]} with {number(value)} {self.unit}"
            for at, value in ((known.idxmax(), known.max()), (known.idxmin(), known.min()))
        )
        return f"{best}: {first}." + (f" {worst}: {last}." if len(known) > 1 else "")

    def beyond(self) -> str:
        """Return a sentence on the whiskers that are clipped, or nothing."""
        names: dict[Any, str] = self.question.cases["label"].to_dict()
        far = [f"{names[at]} to {number(high)} {self.unit}" for at, high in self.high.items() if high > self.limit]
        return f"Whiskers that end in an arrow are clipped: {'; '.join(far)}." if far else ""


def axis_end(median: pd.Series, high: pd.Series, launches: Sequence[Sequence[float]]) -> float:
    """Return the end of the x axis: beyond all bars and launches, and whiskers up to LONGEST_WHISKER."""
    largest = max([*median.dropna(), *(value for some in launches for value in some)])
    whiskers = high[high <= LONGEST_WHISKER * largest].max()
    return 1.03 * float(np.nanmax([largest, whiskers]))
