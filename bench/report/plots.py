"""Charts as files for slides and papers: PNG and SVG, in the light theme on white paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.errors import ResultsError
from bench.report.charts import Chart
from bench.report.charts.style import THEMES
from bench.report.charts.svg import standalone

DPI = 150


def write_plots(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write ``<name>.png`` and ``<name>.svg`` of each chart, and return the paths in this order.

    Raise ResultsError if a file cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            picture, drawing = folder / f"{chart.name}.png", folder / f"{chart.name}.svg"
            _png(chart, picture)
            drawing.write_text(standalone(chart, "light"), encoding="utf-8")
            written += [picture, drawing]
    except OSError as error:
        raise ResultsError(
            f"cannot write plots to {folder}: {error.strerror or error}", hint="Choose another folder."
        ) from None
    return written


def _png(chart: Chart, file: Path) -> None:
    from bench.report.charts.canvas import add_caption, chart_settings

    colours = THEMES["light"]
    with chart_settings():
        figure = chart.figure(colours)
        add_caption(figure, chart.title, chart.note, colours)
        figure.savefig(file, format="png", dpi=DPI, facecolor=colours["paper"], metadata={"Software": None})
