"""``bench report``: what the rows of some runs say, on the terminal and as files to hand on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

import bench
from bench.cli.console import say, warn
from bench.cli.shared_options import Given, keyword_parameter, with_parameters
from bench.errors import EXIT_OK, ResultsError, UsageError
from bench.report.format import wide_console
from bench.store.columns import LaunchRow
from bench.store.reader import read_launches
from bench.store.runs import LATEST, find

if TYPE_CHECKING:
    import pandas as pd

    from bench.analysis.answers import Answers
    from bench.report.tables import Table


def _file(what: str, metavar: str = "FILE") -> Any:
    return typer.Option(help=what, metavar=metavar, show_default=False)


FILES = (
    keyword_parameter("md", Annotated[Path | None, _file("Write Markdown.")], None),
    keyword_parameter("html", Annotated[Path | None, _file("Write one self-contained page with charts.")], None),
    keyword_parameter("plots", Annotated[Path | None, _file("Write every chart as PNG and SVG.", "DIR")], None),
    keyword_parameter(
        "csv",
        Annotated[Path | None, _file("Write summary, scaling, trade-off, tuning and failures as CSV.", "DIR")],
        None,
    ),
)


@with_parameters("files", FILES, dict)
def report(
    files: Given,
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]…", help="Ids, paths, or latest (the default).", show_default=False),
    ] = None,
    within_gib: Annotated[
        str | None, _file("Also name the fastest case within so much memory of a device; comma list.", "GIB,…")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on stdout instead of tables.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("results"),
) -> int:
    """Answer from the rows: which case is fastest, what it costs in memory, how it scales, and what failed.

    Runs of unlike machines or software stand side by side and are never put together.
    """
    memory = _numbers(within_gib)
    folders = list(dict.fromkeys(find(out, name).resolve() for name in run or [LATEST]))
    every = [row for folder in folders for row in read_launches(folder / "launches.csv", warn)]
    rows = [row for row in every if row.side is None]
    if every and not rows:
        raise ResultsError(f"{', '.join(f.name for f in folders)}: a comparison; see bench compare {folders[0].name}")
    if not any(row.role == "measure" for row in rows):  # probes alone answer nothing
        raise ResultsError(f"no launch is recorded in {', '.join(map(str, folders))}; run one, or name another run.")
    from bench.analysis.answers import answer
    from bench.report.files import report_json
    from bench.report.headline import headline
    from bench.report.tables import tables
    from bench.report.terminal import print_report

    answers = answer(rows, _steps(folders if files["html"] or files["plots"] else []), memory)
    heading = _Heading(_title(rows), _about(rows), headline(answers, memory))
    found = tables(answers)
    try:
        for file in _write(answers, heading, found, files):
            say(f"wrote {file}")
    finally:  # what cannot be written can still be read
        if as_json:
            print(report_json(answers, heading.sentences))
        else:
            print_report(heading.sentences, found, wide_console())
    return EXIT_OK


class _Heading(NamedTuple):
    """What stands above the tables: the workloads, who made it when and of what, and the findings."""

    title: str
    about: list[str]
    sentences: list[str]


def _write(answers: Answers, heading: _Heading, found: Sequence[Table], files: Given) -> Iterator[Path]:
    """Every file that was asked for, told when it is there."""
    from bench.report.files import write_csv, write_text
    from bench.report.markdown import markdown

    if files["csv"]:
        yield from write_csv(answers, files["csv"])
    if files["md"]:
        yield write_text(files["md"], markdown(*heading, found))
    if files["html"] or files["plots"]:
        from bench.report.charts import charts

        drawn = charts(answers)
        if files["html"]:
            from bench.report.html import page

            yield write_text(files["html"], page(*heading, found, drawn))
        if files["plots"]:
            from bench.report.plots import write_plots

            yield from write_plots(drawn, files["plots"])


def _numbers(text: str | None) -> list[float]:
    try:
        found = [float(word) for word in text.split(",")] if text else []
    except ValueError:
        found = [0.0]
    if not all(0 < number < float("inf") for number in found):
        raise UsageError(f"--within-gib: got {text!r}; allowed: numbers above 0, as in 24,80.")
    return found


def _steps(folders: Sequence[Path]) -> pd.DataFrame:
    """The steps of all runs. A file that cannot be read costs the report its steps, and nothing else."""
    import pandas as pd

    from bench.analysis.frames import no_steps, steps

    found = [no_steps()]
    for folder in folders:
        try:
            found.append(steps(folder / "steps.csv", warn))
        except ResultsError as error:
            warn(f"the report goes without the steps of {folder.name}: {error}")
    return pd.concat([frame for frame in found if len(frame)] or found, ignore_index=True)


def _title(rows: Sequence[LaunchRow]) -> str:
    names = list(dict.fromkeys(str(row.workload) for row in rows))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _about(rows: Sequence[LaunchRow]) -> list[str]:
    runs = list(dict.fromkeys(str(row.run_id) for row in rows))
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [f"stepbench {bench.__version__}, {when}", f"run{'s' if len(runs) > 1 else ''} {', '.join(runs)}"]
