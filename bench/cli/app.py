"""The subcommands, put together. Only the module of the command in use is imported, and none for ``bench --help``."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

import bench
from bench.errors import UsageError


class Command(NamedTuple):
    """A module of bench.cli, what of it is the command (or an app of subcommands), and its first sentence."""

    module: str
    what: str
    about: str


COMMANDS = {
    "run": Command("run", "run", "Run every combination of the axes, and record one row a launch."),
    "report": Command(
        "report",
        "report",
        "Answer from the rows: which case is fastest, what it costs in memory, how it scales, and what failed.",
    ),
    "compare": Command("compare", "compare", "Compare two results case by case: is B slower than A?"),
    "ab": Command("ab", "ab", "Measure two sides in turns on this machine, and decide: is B slower than A?"),
    "check": Command(
        "check", "check", "Measure the cases of a baseline anew, and decide: is this machine slower than it was?"
    ),
    "calibrate": Command(
        "calibrate",
        "calibrate",
        "Measure cases against themselves: how far launches, blocks and sessions differ where nothing has changed.",
    ),
    "baseline": Command(
        "baseline",
        "app",
        "Keep sessions that later ones are judged by.",
    ),
    "list": Command(
        "list_",
        "list_",
        "List what there is: workloads, strategies with their options, values of other axes, suites, all options.",
    ),
    "matrix": Command(
        "compatibility",
        "matrix",
        "Show strategy x precision x checkpointing x compile on the CPU and on GPUs: what runs, and why the rest does "
        "not.",
    ),
    "env": Command(
        "env",
        "env",
        "Show the machine, the software and the settings that results are recorded with.",
    ),
    "results": Command(
        "results",
        "app",
        "List the runs, the newest first; show or export one, or delete some.",
    ),
}


class _Commands(TyperGroup):
    """The command line as a group that lets every error through.

    Where the reader of their output has gone, click and rich end the process with 1, which means "slower".
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command of ``sys.argv``, and return its exit code."""
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
    """Return the command line whose first word is ``word``."""
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
    """Refuse a command that is not the first word."""
    raise UsageError("the command comes first: bench COMMAND [OPTIONS].")


def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Print the version where it is asked for."""
    if show:
        print(f"stepbench {bench.__version__}")
        raise typer.Exit
