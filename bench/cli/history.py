"""``bench history``: keeps sessions in a folder or on a branch, and shows how figures move over them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.console import say, warn
from bench.cli.shared_options import Out
from bench.errors import EXIT_OK

app = typer.Typer(
    help="Keep sessions in a folder or on a branch, and show how figures move over them, as advice.",
    no_args_is_help=True,
)
Folder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="A folder with a file for each session (default: history in --out).", show_default=False
    ),
]
Branch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A branch of this repository that has only the history, such as bench-history.",
        show_default=False,
    ),
]


@app.command("add")
def add(
    run: Annotated[list[str], typer.Argument(metavar="RUN", help="Runs by id, latest, or paths to their folders.")],
    folder: Folder = None,
    branch: Branch = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="REMOTE", help="Push the branch, with what others have added.", show_default=False),
    ] = None,
    out: Out = Path("results"),
) -> int:
    """Add runs to a history, each as a session; of a comparison its side B.

    A session is added and never changed. The branch is not checked out: neither your files nor the index change.
    """
    from bench.api import history  # Imported here to keep --help fast.
    from bench.history.repository import without_secrets

    where = history.place(folder, branch, push, out)
    for one in run:
        new = history.add(out, one, where, push, warn)
        name = str(where) if isinstance(where, Path) else f"branch {where.name}"
        pushed = f", pushed to {without_secrets(push)}" if push else ""
        say(f"{one}: {'added to' if new else 'is already in'} {name}{pushed}", on_stdout=True)
    return EXIT_OK


@app.command("page")
def page(
    folder: Folder = None,
    branch: Branch = None,
    html: Annotated[Path, typer.Option(metavar="FILE", help="The page: one file with all charts.")] = Path(
        "history.html"
    ),
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN,…",
            help="Numeric columns of launches.csv (default: throughput, step time, peak memory and counts of a step).",
            show_default=False,
        ),
    ] = None,
    last: Annotated[int, typer.Option(metavar="N", help="The latest N sessions.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")] = False,
    out: Out = Path("results"),
) -> int:
    """Write a page with the trend of every case, and print a summary.

    Each point is the median over the launches of a session, with its interval. Changes of environment and code are
    marked. Change points are advice, and the exit code is 0 whatever they are: history is no gate.
    """
    from bench.api import history
    from bench.report.files import write_text
    from bench.report.format import wide_console
    from bench.report.terminal import print_report
    from bench.report.trend import tables

    found = history.read(
        history.place(folder, branch, None, out), (metrics or "").split(",") if metrics else [], last, warn
    )
    try:
        say(f"wrote {write_text(html, found.html())}")
    finally:  # Show the results even if the file cannot be written.
        if as_json:
            print(history.as_json(found))
        else:
            shown = [table for table in tables(found.found) if table.name != "sessions"]
            print_report(found.sentences, shown, wide_console())
    return EXIT_OK
