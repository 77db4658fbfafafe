"""What a chart is, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from bench.report.charts.style import SENTINELS, Colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Draw(Protocol):
    """Draws a figure, in the sentinels that ``svg`` replaces or in a theme's own colours."""

    def __call__(self, colours: Colours = SENTINELS) -> Figure: ...


@dataclass(frozen=True)
class Chart:
    """``name`` is a file's stem and an HTML id; ``title`` names the metric and its unit; ``alt`` says what a reader who
    does not see it must know; ``note`` how to read it and what is missing; ``data`` holds exactly what is drawn."""

    name: str
    title: str
    alt: str
    note: str
    data: pd.DataFrame
    figure: Draw
