"""A number of each case with its launches: what throughput and memory have in common before they are drawn as bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.report.charts.questions import Question, printable
from bench.report.format import number

FAR = 1.25  # of the largest bar or launch: whiskers up to here are drawn in full, and none squashes the bars
MOST = 40  # cases of a figure


@dataclass(frozen=True)
class Measured:
    """``median``, ``low`` and ``high`` have the index of the question's cases; ``launches`` are in their order.

    ``by`` is the axis that colours show; ``limit`` the end of x, equal on all pages of a question.
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
        """Itself, or as many as make readable figures."""
        start = 0
        for page in self.question.pages(MOST):
            at = page.cases.index
            some = self.launches[start : start + len(at)]
            yield replace(self, question=page, launches=some, median=self.median[at], low=self.low[at],
                          high=self.high[at])  # fmt: skip
            start += len(at)

    def data(self) -> pd.DataFrame:
        """The table of what is drawn."""
        cases = self.question.cases
        columns: dict[str, Any] = {
            "reason": cases["reason"].map(printable, na_action="ignore"),
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
        """The two ends in words."""
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
        """Which whiskers do not fit."""
        names: dict[Any, str] = self.question.cases["label"].to_dict()
        far = [f"{names[at]} to {number(high)} {self.unit}" for at, high in self.high.items() if high > self.limit]
        return f"Whiskers that end in an arrow go on beyond the chart: {'; '.join(far)}." if far else ""


def limit(median: pd.Series, high: pd.Series, launches: Sequence[Sequence[float]]) -> float:
    """Where x ends: beyond every bar and launch, and every whisker that is not far longer."""
    largest = max([*median.dropna(), *(value for some in launches for value in some)])
    whiskers = high[high <= FAR * largest].max()
    return 1.03 * float(np.nanmax([largest, whiskers]))
