"""The subcommands, put together."""

from __future__ import annotations

import importlib

import typer

import bench

# name -> module of bench.cli, and what of it: a command, or an app of subcommands
COMMANDS = {
    "run": ("run", "run"),
    "report": ("report", "report"),
    "compare": ("compare", "compare"),
    "ab": ("ab", "ab"),
    "check": ("check", "check"),
    "calibrate": ("calibrate", "calibrate"),
    "baseline": ("baseline", "app"),
    "list": ("list_", "list_"),
    "matrix": ("matrix", "matrix"),
    "env": ("env", "env"),
    "results": ("results", "app"),
}


def make(word: str = "") -> typer.Typer:
    """The command line whose first word this is. Of a known command no other is imported: that halves the wait."""
    app = typer.Typer(
        name="bench",
        help="Distributed training benchmarks for PyTorch.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(version)
    for name in [word] if word in COMMANDS else COMMANDS:
        module, what = COMMANDS[name]
        command = getattr(importlib.import_module(f"bench.cli.{module}"), what)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show:
        print(f"stepbench {bench.__version__}")
        raise typer.Exit
