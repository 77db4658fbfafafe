"""``bench results``: lists runs; shows, exports or deletes them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import interrupts
from bench.cli.console import confirmed, say, warn
from bench.errors import EXIT_OK, ResultsError, UsageError
from bench.report.format import number, run_json, wide_console
from bench.report.wide_tables import print_table
from bench.store.columns import LaunchRow
from bench.store.comms_rates import is_comms
from bench.store.counting_rows import latest
from bench.store.reader import read_launches
from bench.store.runs import Run, busy, find, look, runs
from bench.untrusted.files import read_json

Out = Annotated[Path | None, typer.Option(help="Folder of results (default: results).", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RUN = "A run's id, latest, or a path to its folder."

# Lines of `bench results show` about the machine: columns, and the text for each.
FACTS = {
    "machine": {"hostname": "{}", "cpu_model": "{}", "cpu_cores": "{} cores", "ram_gib": "{} GiB", "os": "{}"},
    "devices": {"device_name": "{}", "driver": "driver {}"},
    "software": {
        **{"python": "Python {}", "torch": "torch {}", "torchvision": "torchvision {}"},
        **{"cuda": "CUDA {}", "cudnn": "cuDNN {}", "nccl": "NCCL {}", "tool_version": "stepbench {}"},
    },
}

app = typer.Typer()


@app.callback(invoke_without_command=True)
def results(context: typer.Context, out: Out = None, as_json: Json = False) -> int:
    """List the runs, the newest first; show, export or delete them."""
    context.obj = out, as_json  # Options before a subcommand are valid for it as well.
    if context.invoked_subcommand is None:
        _list(runs(_out(context, None)), _out(context, None), as_json)
    return EXIT_OK


@app.command("show")
def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN)],
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Show the machine, the settings and the results of a run, and the reasons of failures."""
    folder = find(_out(context, out), run)
    rows = read_launches(folder / "launches.csv", warn)
    if as_json or context.obj[1]:
        print(run_json(folder, rows))
        return EXIT_OK
    console = wide_console()
    console.print(_about(look(folder), rows))
    if rows:
        _print_rows(folder, rows, console)
    return EXIT_OK


@app.command("export")
def export(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN)],
    pytest_benchmark: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Write JSON of pytest-benchmark, with a benchmark for each case."
        ),
    ] = None,
    out: Out = None,
) -> int:
    """Write a run in a format that other tools read."""
    from bench.export import pytest_benchmark as format_  # Imported here to keep other commands fast.
    from bench.report.files import write_text

    if pytest_benchmark is None:
        raise UsageError("bench results export needs a format", hint="Add --pytest-benchmark FILE.")
    folder = find(_out(context, out), run)
    rows = read_launches(folder / "launches.csv", warn)
    if not any(format_.measured(row) for row in rows):
        raise ResultsError(f"no launch of {folder.name} was ok, so nothing can be exported", hint="Choose another run.")
    say(f"wrote {write_text(pytest_benchmark, format_.pytest_benchmark(rows))}")
    return EXIT_OK


@app.command("rm")
def rm(
    context: typer.Context,
    run: Annotated[list[str], typer.Argument(metavar="RUN", help=RUN)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    out: Out = None,
) -> int:
    """Delete runs with all their files, after asking."""
    where = _out(context, out)
    chosen = [look(folder) for folder in dict.fromkeys(_run_folder(where, find(where, name)) for name in run)]
    _refuse_busy(chosen)
    if not yes and not _confirmed(chosen):
        return EXIT_OK
    _refuse_busy(chosen)  # A run may have been resumed while the user was asked.
    for old in chosen:
        _delete(old.folder)
        say(f"deleted {old.folder}", on_stdout=True)
    return EXIT_OK


def _out(context: typer.Context, given: Path | None) -> Path:
    before: Path | None = context.obj[0]
    return given or before or Path("results")


# -- list ----------------------------------------------------------------------------------------------------------


def _list(found: Sequence[Run], out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps([dataclasses.asdict(run) for run in found], default=_plain))
    elif not found:
        say(f"no runs in {out / 'runs'}; start one with bench run, or choose another folder with --out", on_stdout=True)
    else:
        print_table(_table(found), wide_console())


def _table(found: Sequence[Run]) -> Table:
    """Return a table with a row for each run, whose id contains the time when it was started."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("machine", overflow="fold")
    for title in ("cases", "launches"):
        table.add_column(title, justify="right")
    table.add_column("status", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    notes = ["; ".join(filter(None, ["being written" if run.busy else "", run.trouble])) for run in found]
    if any(notes):
        table.add_column("note", overflow="fold")
    for run, note in zip(found, notes, strict=True):
        counts = ("" if count is None else str(count) for count in (run.cases, run.launches))
        status = ", ".join(f"{count} {status}" for status, count in run.statuses.items())
        known = (run.run_id, run.hostname, *counts, status, _size(run.bytes))
        table.add_row(*(Text(cell or "—") for cell in known), *([Text(note)] if any(notes) else []))
    return table


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _started(run: Run) -> str:
    return run.started.strftime("%Y-%m-%d %H:%M:%S") if run.started else ""


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{number(count)} {unit}"
        count /= 1024
    return f"{number(count)} GiB"


# -- show ----------------------------------------------------------------------------------------------------------


def _about(run: Run, rows: Sequence[LaunchRow]) -> Table:
    table = Table("what", "value", show_edge=False, pad_edge=False)
    lines = {
        "run": f"{run.run_id}{' (being written)' if run.busy else ''}",
        "folder": f"{run.folder} ({_size(run.bytes)})",
        "started": f"{_started(run)} UTC" if run.started else "",
        **{name: _facts(rows, columns) for name, columns in FACTS.items()},
        "protocol": _protocol(run.folder),
        "launches": f"{run.launches} (cases: {run.cases})" if rows else "none recorded",
    }
    for name, value in lines.items():
        table.add_row(name, Text(value or "—"))
    return table


def _facts(rows: Sequence[LaunchRow], columns: dict[str, str]) -> str:
    parts = []
    for column, words in columns.items():
        values = dict.fromkeys(str(getattr(row, column)) for row in rows if getattr(row, column) is not None)
        if values:
            parts.append(words.format(" and ".join(values)))
    return ", ".join(parts)


def _protocol(folder: Path) -> str:
    """Return the protocol of a run as options, or why it is not known: plan.json may be lost or damaged."""
    file = folder / "plan.json"
    try:
        plan = read_json(file)
    except ResultsError as error:
        return f"not known: {error if str(error).startswith('cannot read') else f'{file} is damaged'}"
    protocol = plan.get("protocol") if isinstance(plan, dict) else None
    if not isinstance(protocol, dict):
        return f"not known: {file} is damaged"
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in protocol.items() if value is not None)


def _print_rows(folder: Path, rows: Sequence[LaunchRow], console: Console) -> None:
    from bench.api.comms import comms_answers_of
    from bench.report.terminal import print_comms, print_rows

    trained = [row for row in rows if not is_comms(row)]
    if trained:
        console.print()
        print_rows(trained, console)
    if len(trained) < len(rows):
        print_comms(comms_answers_of([folder], rows, warn), console)
    failed = [row for row in latest(rows).values() if row.status not in ("ok", "skipped") and row.launch_id]
    if failed:
        console.print("\nfailed launches, and their logs:")
    for row in failed:
        logs = folder / "logs" / str(row.launch_id)
        console.print(Text(f"{row.status}: {row.reason}\n  {logs}"), soft_wrap=True)


# -- delete --------------------------------------------------------------------------------------------------------


def _run_folder(out: Path, folder: Path) -> Path:
    """Return the folder of a run; UsageError if it is a symbolic link, or not directly in ``out``/runs."""
    real, home = folder.resolve(), (out / "runs").resolve()
    if folder.is_symlink() or real.parent != home:
        raise UsageError(
            f"{folder} is a link, or is not in {out / 'runs'}; only runs in that folder are deleted",
            hint="Choose the folder of results with --out, or delete it yourself.",
        )
    return out / "runs" / real.name


def _refuse_busy(chosen: Iterable[Run]) -> None:
    for run in chosen:
        if busy(run.folder):
            raise ResultsError(
                f"run {run.run_id} is being written by bench run", hint="Wait until it has ended, or end it, first."
            )


def _confirmed(chosen: Sequence[Run]) -> bool:
    about = ""
    for run in chosen:
        launches = "?" if run.launches is None else run.launches
        about += f"{run.folder}: launches: {launches}, size: {_size(run.bytes)}\n"
    return confirmed("bench results rm", "this run" if len(chosen) == 1 else f"these {len(chosen)} runs", about)


def _delete(folder: Path) -> None:
    try:
        with interrupts.deferred():  # Do not leave half a run.
            shutil.rmtree(folder)
    except OSError as error:
        raise ResultsError(f"cannot delete {error.filename or folder}: {error.strerror}") from None
