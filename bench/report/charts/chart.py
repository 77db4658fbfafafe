"""A chart: its texts, its data and the function that draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from bench.report.charts.style import SENTINELS, Colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Draw(Protocol):
    """A function that draws a figure in the colours of a theme, or in the sentinels that ``svg`` replaces."""

    def __call__(self, colours: Colours = SENTINELS) -> Figure:
        """Return the figure."""


@dataclass(frozen=True)
class Chart:
    """A chart.

    ``name`` is the stem of its file and its HTML id; ``title`` has the metric and its unit; ``alt`` is the text for
    readers who do not see the drawing; ``note`` says how to read it and what is missing; ``data`` is what is drawn.
    """

    name: str
    title: str
    alt: str
    note: str
    data: pd.DataFrame
    figure: Draw
