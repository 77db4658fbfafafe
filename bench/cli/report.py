"""``bench report``: summarises runs on the terminal and in files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

import bench
from bench.cli.console import say, warn
from bench.cli.shared_options import Given, keyword_parameter, with_parameters
from bench.errors import EXIT_OK, ResultsError, UsageError
from bench.plan.comms import COMMS
from bench.report.format import wide_console
from bench.store.columns import LaunchRow
from bench.store.reader import read, read_launches
from bench.store.runs import LATEST, find

if TYPE_CHECKING:
    import pandas as pd

    from bench.analysis.answers import Answers
    from bench.analysis.comms import CommsAnswers
    from bench.report.tables import Table


def _file(what: str, metavar: str = "FILE") -> Any:
    return typer.Option(help=what, metavar=metavar, show_default=False)


FILES = (
    keyword_parameter("md", Annotated[Path | None, _file("Write Markdown.")], None),
    keyword_parameter("html", Annotated[Path | None, _file("Write one self-contained page with charts.")], None),
    keyword_parameter("plots", Annotated[Path | None, _file("Write every chart as PNG and SVG.", "DIR")], None),
    keyword_parameter(
        "csv",
        Annotated[Path | None, _file("Write summary, scaling, trade-off, tuning, ranks and failures as CSV.", "DIR")],
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
        str | None, _file("Also name the fastest case within this memory of a device; comma list.", "GIB,…")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("results"),
) -> int:
    """Summarise runs: which case is fastest, how much memory it needs, how it scales, and what failed.

    Runs on different machines or software are shown side by side, but never combined.
    """
    memory = _numbers(within_gib)
    folders = list(dict.fromkeys(find(out, name).resolve() for name in run or [LATEST]))
    every = [row for folder in folders for row in read_launches(folder / "launches.csv", warn)]
    rows = [row for row in every if row.side is None]
    if every and not rows:
        names = ", ".join(folder.name for folder in folders)
        raise ResultsError(f"{names}: this is a comparison", hint=f"Use bench compare {folders[0].name}.")
    if not any(row.role == "measure" for row in rows):  # Probes are not results.
        raise ResultsError(f"no launch is recorded in {', '.join(map(str, folders))}", hint="Choose another run.")
    from bench.analysis.answers import answer
    from bench.analysis.comms import comms_answers
    from bench.api.comms import comms_rows
    from bench.report.comms import comms_sentences, comms_tables
    from bench.report.files import report_json
    from bench.report.headline import headline
    from bench.report.tables import tables
    from bench.report.terminal import print_report

    steps = _steps(folders if files["html"] or files["plots"] else [])
    answers = answer(rows, steps, memory, _ranks(folders if any((row.world_size or 1) > 1 for row in rows) else []))
    comms = comms_answers(answers.launches, rows_of) if (rows_of := comms_rows(folders, warn)) else None
    sentences = headline(answers, memory) if len(answers.summary) else []
    heading = _Heading(_title(rows), _about(rows), [*sentences, *(comms_sentences(comms) if comms else [])])
    found = [*tables(answers), *(comms_tables(comms) if comms else [])]
    try:
        for file in _write(answers, comms, heading, found, files):
            say(f"wrote {file}")
    finally:  # Show the results even if a file cannot be written.
        if as_json:
            print(report_json(answers, heading.sentences, comms))
        else:
            print_report(heading.sentences, found, wide_console())
    return EXIT_OK


class _Heading(NamedTuple):
    """The text above the tables: the workloads; version, time and runs; and the findings."""

    title: str
    about: list[str]
    sentences: list[str]


def _write(
    answers: Answers, comms: CommsAnswers | None, heading: _Heading, found: Sequence[Table], files: Given
) -> Iterator[Path]:
    """Write every requested file, and yield its path."""
    from bench.report.files import write_comms_csv, write_csv, write_text
    from bench.report.markdown import markdown

    if files["csv"]:
        yield from write_csv(answers, files["csv"])
        yield from write_comms_csv(comms, files["csv"]) if comms else ()
    if files["md"]:
        yield write_text(files["md"], markdown(*heading, found))
    if files["html"] or files["plots"]:
        from bench.report.charts import charts
        from bench.report.charts.bandwidth import bandwidth

        drawn = [*charts(answers), *(bandwidth(comms) if comms else [])]
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
        raise UsageError(option="--within-gib", given=text, allowed="numbers above 0, such as 24,80")
    return found


def _steps(folders: Sequence[Path]) -> pd.DataFrame:
    """Return the steps of all runs, without those of files that cannot be read, of which the user is warned."""
    import pandas as pd

    from bench.analysis.frames import no_steps, steps

    found = [no_steps()]
    for folder in folders:
        try:
            found.append(steps(folder / "steps.csv", warn))
        except ResultsError as error:
            warn(f"the report has no steps of {folder.name}: {error}")
    return pd.concat([frame for frame in found if len(frame)] or found, ignore_index=True)


def _ranks(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the ranks of all runs, without those of files that cannot be read, of which the user is warned."""
    from bench.analysis.slow_ranks import READ

    found = []
    for file in (folder / "ranks.csv" for folder in folders):
        try:
            found += read(file, warn, only=READ) if os.path.lexists(file) else []
        except ResultsError as error:
            warn(f"the report does not compare the ranks of {file.parent.name}: {error}")
    return found


def _title(rows: Sequence[LaunchRow]) -> str:
    names = list(dict.fromkeys(str(row.workload).partition(f"{COMMS}:")[0] or COMMS for row in rows))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _about(rows: Sequence[LaunchRow]) -> list[str]:
    runs = list(dict.fromkeys(str(row.run_id) for row in rows))
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [f"stepbench {bench.__version__}, {when}", f"run{'s' if len(runs) > 1 else ''} {', '.join(runs)}"]
