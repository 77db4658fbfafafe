"""Heat maps of the own time of each rank in each step: a slow rank is a light row, a slow step a light column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from bench.analysis.answers import Answers
from bench.analysis.summary import GROUP
from bench.report.charts.canvas import SMALL, WIDTH, Sheet, chart_settings, truncate
from bench.report.charts.chart import Chart
from bench.report.charts.questions import Question, case_key, one_line, slug
from bench.report.charts.style import SENTINELS, Colours
from bench.report.format import number

Array = NDArray[np.float64]
MOST_MAPS = 3  # of a question
MOST_RANKS, MOST_COLUMNS = 32, 60  # of a map


def ranks(answers: Answers, questions: Sequence[Question]) -> Iterator[Chart]:
    """Yield heat maps of each question: of its cases with a slow rank, else of the one whose ranks differ most."""
    known = {case_key(of): rows for of, rows in answers.slow_ranks.groupby(list(GROUP), sort=False, dropna=False)}
    for question in questions:
        keys = map(case_key, question.cases[list(GROUP)].itertuples(index=False))
        labelled = zip(question.cases["label"], keys, strict=True)
        found = [(str(label), known[key]) for label, key in labelled if key in known]
        found.sort(key=lambda one: float(one[1]["excess"].max()), reverse=True)
        slow = [one for one in found if one[1]["slow"].notna().any()]
        for label, rows in (slow or found[:1])[:MOST_MAPS]:
            on_first_hosts = rows[~rows["rank"].duplicated()]  # launches on other hosts have rows of their own
            yield _chart(question, label, on_first_hosts.reset_index(drop=True))


def _chart(question: Question, label: str, rows: pd.DataFrame) -> Chart:
    shown = rows.sort_values("own_ms", ascending=False, kind="stable").head(MOST_RANKS).sort_values("rank")
    names = [f"rank {rank} {one_line(host)}" for rank, host in zip(shown["rank"], shown["host"], strict=True)]
    values = cells(shown["own_steps_ms"])
    most, launches = rows.sort_values("excess").iloc[-1], int(rows["launches"].max())
    left_out = (
        f" Of {len(rows)} ranks these are the {len(shown)} with the most own time." if len(shown) < len(rows) else ""
    )
    case = f"{question.subject}, {label}" if label else question.subject
    alt = (
        f"Heat map of own time in ms of {len(shown)} ranks of {case}, over steps. The median of all is "
        f"{number(float(np.nanmedian(values)))} ms. Rank {most['rank']} has the most: {number(most['own_ms'])} ms, "
        f"{most['excess']:+.1%} to the others."
    )
    note = (
        f"A row is a rank, a column a step or the mean of some, of {launches} launches with gaps between; lighter "
        f"cells take longer. Own time: {rows['own_method'].iloc[0]}.{left_out}"
    )
    columns = {name: row[~np.isnan(row)] for name, row in zip(names, values, strict=True)}
    return Chart(
        name=slug("ranks", question.stem, label),
        title=f"Own time of ranks of {case}, ms",
        alt=alt,
        note=note,
        data=pd.DataFrame(columns).rename_axis("column").reset_index(),
        figure=partial(_figure, names, values),
    )


def cells(own: Iterable[str]) -> Array:
    """Return the own times of each rank, (ranks, columns), from cells of own_steps_ms; NaN between launches.

    Of many launches the first are taken; of many steps means of neighbours.
    """
    rows = []
    for cell in own:
        launches = cell.split("|")[: MOST_COLUMNS // 4]
        width = (MOST_COLUMNS - len(launches) + 1) // len(launches)
        row: list[float] = []
        for launch in launches:
            steps = np.array(launch.split(";"), dtype=np.float64)
            row += [float(part.mean()) for part in np.array_split(steps, min(width, len(steps)))]
            row.append(np.nan)
        rows.append(row[:-1])
    return np.array(rows)


def _figure(names: Sequence[str], values: Array, colours: Colours = SENTINELS) -> Figure:
    return draw(names, values, colours)


# -- drawing --------------------------------------------------------------------------------------------------------

ROW, LEFT, HEAD, BAR = 16.0, 96.0, 18.0, 120.0  # Points.


def draw(names: Sequence[str], values: Array, colours: Colours) -> Figure:
    """Draw the map below a bar with the scale of its colours."""
    known = values[~np.isnan(values)]
    low, high = float(known.min()), float(np.percentile(known, 99))
    scale, colour_map = Normalize(low, max(high, low * 1.01), clip=True), matplotlib.colormaps["cividis"]
    with chart_settings():
        sheet = Sheet(colours, HEAD + ROW * len(names) + 4)
        _scale(sheet, scale, colour_map, float(known.max()))
        wide = (WIDTH - LEFT - 2) / values.shape[1]
        for row, name in enumerate(names):
            y = HEAD + ROW * row
            sheet.text(0, y + ROW - 4.5, truncate(name, LEFT - 6, SMALL), "muted", size=SMALL)
            for column, value in enumerate(values[row]):
                if not np.isnan(value):
                    place = (LEFT + wide * column, sheet.top + y + 1)
                    fill = to_hex(colour_map(scale(value)))
                    sheet.page.add_patch(Rectangle(place, wide, ROW - 2, facecolor=fill, edgecolor="none"))
        return sheet.figure


def _scale(sheet: Sheet, scale: Normalize, colour_map: matplotlib.colors.Colormap, most: float) -> None:
    steps = 24
    for part in range(steps):
        place = (LEFT + BAR / steps * part, sheet.top + 2)
        fill = to_hex(colour_map(part / (steps - 1)))
        sheet.page.add_patch(Rectangle(place, BAR / steps + 0.2, 9, facecolor=fill, edgecolor="none"))
    sheet.text(LEFT - 6, 10, f"{number(scale.vmin or 0.0)} ms", "muted", at="right", size=SMALL)
    more = f" (most: {number(most)})" if most > (scale.vmax or 0.0) * 1.05 else ""
    sheet.text(LEFT + BAR + 6, 10, f"{number(scale.vmax or 0.0)} ms{more}", "muted", size=SMALL)
