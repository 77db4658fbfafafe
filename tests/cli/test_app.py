"""The table of commands: what `bench --help` says of each without importing it is what each says of itself."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import typer

from bench.cli.app import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    command = COMMANDS[name]
    found = getattr(importlib.import_module(f"bench.cli.{command.module}"), command.what)
    about = found.info.help if isinstance(found, typer.Typer) else found.__doc__
    if not isinstance(about, str):  # an app whose callback says it
        about = found.registered_callback.callback.__doc__
    assert command.about == about.partition("\n")[0]


def test_the_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys; sys.argv = ['bench', '--help']\nfrom bench import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith(('bench.plan', 'bench.store', 'bench.runner'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *told, imported = done.stdout.splitlines()
    assert imported == "[]"
    for name, command in COMMANDS.items():
        (line,) = (line for line in told if line.strip("│ ").split(" ")[0] == name)
        assert command.about[:20] in line
