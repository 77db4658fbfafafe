"""``bench baseline``: manages baselines, the sessions that later runs are compared with."""

from __future__ import annotations

import contextlib
import shlex
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
from bench.store.comms_rates import beside_rates, figures
from bench.store.reader import read_launches
from bench.store.runs import find

app = typer.Typer(help="Manage baselines: sessions that later runs are compared with.", no_args_is_help=True)
NUMBERS = ("none", "one", "two", "three", "four", "five")  # Sessions that may be lacking.
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
    folders = [find(out, one) for one in run]
    rows = [beside_rates(folder, read_launches(folder / "launches.csv", warn), warn) for folder in folders]
    found = baselines.add(out, name, zip(run, rows, strict=True), warn)
    for line in _still_lacking(found, out):
        say(line, on_stdout=True)
    return EXIT_OK


def _still_lacking(found: baselines.Baseline, out: Path) -> Iterator[str]:
    """Yield how many sessions a baseline has, what it lacks for verdicts, and the commands that measure and add one."""
    count, least = len(found.sessions), baselines.LEAST_SESSIONS
    of_cases = baselines.sessions_of_cases(found)
    fewest = min(of_cases, key=lambda case_id: of_cases[case_id])
    lacking = least - of_cases[fewest]
    if lacking <= 0:
        yield f"{found.file}: {count} session{'s' * (count != 1)}"
        return
    counted = f"{count} of {least} sessions" if count < least else f"{count} sessions"
    of_case = f", {of_cases[fewest]} with {fewest}" if of_cases[fewest] < count else ""
    more = f"{NUMBERS[lacking]} more {'is' if lacking == 1 else 'are'} needed for verdicts"
    yield f"{found.file}: {counted}{of_case}; {more}. On {_days(lacking)}:"
    folder = [] if out == Path("results") else ["--out", str(out)]
    bench, command, *rest = _measuring(found)
    yield f"  {shlex.join([bench, command, *folder, *rest])}"  # The arguments of a script come last.
    yield f"  {shlex.join(['bench', 'baseline', 'add', *folder, found.name, 'latest'])}"


def _days(lacking: int) -> str:
    return "another day" if lacking == 1 else "other days"


def _measuring(found: baselines.Baseline) -> list[str]:
    """Return the command that measures a session: that of the last one if it has one case, else ``bench check``."""
    last = [row for row in found.rows if row.run_id == found.sessions[-1]]
    commands = {row.command for row in last}
    command = commands.pop() if len(commands) == 1 else None
    with contextlib.suppress(ValueError):  # A file that was edited may hold an open quote.
        if command and command.startswith("bench run "):
            return shlex.split(command)
    return ["bench", "check", "--baseline", found.name]


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
        rows = figures(baselines.load(out, name, warn).rows)
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
