"""``bench baseline``: sessions that later ones are judged by."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench import baselines
from bench.cli.asks import Out
from bench.errors import EXIT_OK, ResultsError
from bench.read import read
from bench.report.words import wide_console
from bench.runs import find

LEAST_SESSIONS = 5

app = typer.Typer(help="Keep sessions that later ones are judged by.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The baseline: results/baselines/NAME.csv.")]


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


@app.command("add")
def add(
    name: Name,
    run: Annotated[list[str], typer.Argument(metavar="RUN", help="Runs by id, latest, or paths to their folders.")],
    out: Out = Path("results"),
) -> int:
    """Add runs to a baseline, each a session; begin it with them if there is none.

    A gate needs 5 sessions, best from different days: how far they differ is what a later one is judged by.
    """
    for one in run:
        found = baselines.add(out, name, read(find(out, one) / "launches.csv", _warn), _warn)
    count = len(found.sessions)
    more = f"; {LEAST_SESSIONS - count} more and bench check can decide" if count < LEAST_SESSIONS else ""
    print(f"{found.file}: {count} session{'s' if count != 1 else ''}{more}")
    return EXIT_OK


@app.command("list")
def list_(out: Out = Path("results")) -> int:
    """List the baselines: their sessions, cases and machine."""
    table = Table("baseline", "sessions", "cases", "device", "torch", "from", "to")
    for name in baselines.names(out):
        rows = baselines.load(out, name, _warn).rows
        days = sorted(str(row["started_at"])[:10] for row in rows if row["started_at"])
        sets = [dict.fromkeys(str(row[column]) for row in rows if row[column]) for column in _COLUMNS]
        sessions, cases, devices, versions = sets
        table.add_row(
            *(name, str(len(sessions)), str(len(cases)), ", ".join(devices), ", ".join(versions)),
            *((days[0], days[-1]) if days else ("", "")),
        )
    wide_console().print(table if table.row_count else "no baselines; add one: bench baseline add NAME RUN")
    return EXIT_OK


_COLUMNS = ("run_id", "case_id", "device_name", "torch")


@app.command("rm")
def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    out: Out = Path("results"),
) -> int:
    """Delete a baseline, after asking."""
    file = baselines.load(out, name, _warn).file
    if not yes and not typer.confirm(f"delete {file}?", err=True):
        return EXIT_OK
    try:
        file.unlink()
    except OSError as error:
        raise ResultsError(f"cannot delete {file}: {error.strerror}") from None
    return EXIT_OK
