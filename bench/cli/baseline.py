"""``bench baseline``: manages baselines, the sessions that later runs are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bench.cli.console import confirmed, say, warn
from bench.cli.shared_options import Out
from bench.errors import EXIT_OK, ResultsError
from bench.report.format import wide_console
from bench.report.wide_tables import print_table
from bench.store import baselines
from bench.store.reader import read_launches
from bench.store.runs import find

app = typer.Typer(help="Manage baselines: sessions that later runs are compared with.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The baseline: results/baselines/NAME.csv.")]


@app.command("add")
def add(
    name: Name,
    run: Annotated[list[str], typer.Argument(metavar="RUN", help="Runs by id, latest, or paths to their folders.")],
    out: Out = Path("results"),
) -> int:
    """Add runs to a baseline, each as a session; create the baseline if there is none.

    `bench check` needs 5 sessions, best from different days, because it compares a run with how much they differ.
    """
    rows = [(one, read_launches(find(out, one) / "launches.csv", warn)) for one in run]
    found = baselines.add(out, name, rows, warn)
    count = len(found.sessions)
    lacking = baselines.LEAST_SESSIONS - count
    more = f"; {lacking} more and bench check can decide" if lacking > 0 else ""
    say(f"{found.file}: {count} session{'s' if count != 1 else ''}{more}", on_stdout=True)
    return EXIT_OK


@app.command("list")
def list_(out: Out = Path("results")) -> int:
    """List the baselines: their sessions, cases and machine."""
    table = Table("baseline", "sessions", "cases", "device", "torch", "from", "to", show_edge=False, pad_edge=False)
    for name in baselines.names(out):
        table.add_row(name, *map(Text, _about(out, name)))
    if table.row_count:
        print_table(table, wide_console())
    else:
        print("no baselines; add one: bench baseline add NAME RUN")
    return EXIT_OK


def _about(out: Path, name: str) -> Iterator[str]:
    """Yield the cells of a baseline; none, with a warning, if it cannot be read."""
    try:
        rows = baselines.load(out, name, warn).rows
    except ResultsError as error:
        warn(str(error))
        return
    columns = ("run_id", "case_id", "device_name", "torch")
    sessions, cases, devices, versions = (
        dict.fromkeys(str(getattr(row, column)) for row in rows if getattr(row, column)) for column in columns
    )
    days = sorted(str(row.started_at)[:10] for row in rows if row.started_at)
    yield from (str(len(sessions)), str(len(cases)), ", ".join(devices), ", ".join(versions))
    yield from (days[0], days[-1]) if days else ()


@app.command("rm")
def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    out: Out = Path("results"),
) -> int:
    """Delete a baseline, after asking."""
    file = baselines.existing(out, name)
    if not yes and not confirmed("bench baseline rm", str(file)):
        return EXIT_OK
    try:
        file.unlink()
    except OSError as error:
        raise ResultsError(f"cannot delete {file}: {error.strerror}") from None
    say(f"deleted {file}", on_stdout=True)
    return EXIT_OK
