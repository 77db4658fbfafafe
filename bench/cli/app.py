"""The table of subcommands. Only the module of the used command is imported, and none for ``bench --help``."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

import bench
from bench.errors import UsageError


class Command(NamedTuple):
    """A command: its module in bench.cli, the name of its function (or app of subcommands) there, and its summary."""

    module: str
    what: str
    about: str


COMMANDS = {
    "run": Command("run", "run", "Run every combination of the axes, and record one row for each launch."),
    "comms": Command(
        "comms",
        "comms",
        "Measure collectives alone: time, algorithm and bus bandwidth by size, type and group of ranks.",
    ),
    "report": Command(
        "report",
        "report",
        "Summarise runs: which case is fastest, how much memory it needs, how it scales, and what failed.",
    ),
    "compare": Command(
        "compare", "compare", "Compare two results case by case, and decide whether B is slower than A."
    ),
    "ab": Command("ab", "ab", "Measure two sides in turns on this machine, and decide whether B is slower than A."),
    "check": Command(
        "check", "check", "Measure the cases of a baseline again, and decide whether this machine has become slower."
    ),
    "calibrate": Command(
        "calibrate",
        "calibrate",
        "Measure cases against themselves: how much launches, blocks and sessions differ if nothing has changed.",
    ),
    "attach": Command("slurm", "attach", "Show how a job of Slurm goes that bench run has submitted."),
    "lock": Command(
        "lock", "lock", "Count the work of one training step, and tell whether it does more than a file says."
    ),
    "baseline": Command(
        "baseline",
        "app",
        "Manage baselines: sessions that later runs are compared with.",
    ),
    "history": Command(
        "history",
        "app",
        "Keep sessions in a folder or on a branch, and show how figures move over them, as advice.",
    ),
    "list": Command(
        "list_",
        "list_",
        "List workloads, strategies with their options, values of other axes, suites, or all options.",
    ),
    "matrix": Command(
        "compatibility",
        "matrix",
        "Show which combinations of strategy, precision, checkpointing and compile can run, on the CPU and on GPUs.",
    ),
    "env": Command(
        "env",
        "env",
        "Show what results record about the machine, the software and its settings.",
    ),
    "results": Command(
        "results",
        "app",
        "List the runs, the newest first; show, export or delete them.",
    ),
}


class _Commands(TyperGroup):
    """The command line as a group that lets every error through.

    If the reader of their output is gone, click and rich exit with 1, which would mean "slower" here.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command of ``sys.argv``, and return its exit code; raise BrokenPipeError if the reader is gone."""
        _hide_types_of_flags(self)
        try:
            with self.make_context("bench", sys.argv[1:]) as context:
                return self.invoke(context)
        except typer.Exit as end:
            return end.exit_code
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):
                raise end.__context__ from None
            raise


def _hide_types_of_flags(command: Any) -> None:
    """Leave ``<bool>`` out of the help of options that take no value, in all commands below this one."""
    for parameter in command.get_params(typer.Context(command)):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    for below in getattr(command, "commands", {}).values():
        _hide_types_of_flags(below)


def make(word: str = "") -> typer.Typer:
    """Return the command line with the command ``word``, or with all commands if there is no such command."""
    app = typer.Typer(
        name="bench",
        cls=_Commands,
        help="Distributed training benchmarks for PyTorch.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(version)
    if word not in COMMANDS:
        for name, command in COMMANDS.items():
            app.command(name, help=command.about)(_not_first)
        return app
    command = COMMANDS[word]
    found = getattr(importlib.import_module(f"bench.cli.{command.module}"), command.what)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=word)
    else:
        app.command(word)(found)
    return app


def _not_first() -> None:
    """Raise UsageError for a command that is not the first word."""
    raise UsageError("the command comes first: bench COMMAND [OPTIONS].")


def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Print the version if ``--version`` was given."""
    if show:
        print(f"stepbench {bench.__version__}")
        raise typer.Exit
