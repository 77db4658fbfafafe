"""``bench env``: what a row would say about this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bench.devices import this_machine
from bench.environment import host_facts, installed
from bench.report.words import wide_console
from bench.session import rank_environment


def env(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> int:
    """Show the machine, the software and the settings that results are recorded with."""
    machine = this_machine()
    facts = {
        **host_facts(machine, rank_environment()),
        **installed(),
        "gpus": [f"{gpu.name} {gpu.memory_mib:.0f} MiB {gpu.uuid}" for gpu in machine.gpus],
        "note": machine.note,
    }
    if as_json:
        print(json.dumps(facts))
        return 0
    table = Table("what", "value", show_edge=False, pad_edge=False)
    for name, value in facts.items():
        text = "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        table.add_row(name, Text(text or "—"))
    wide_console().print(table)
    return 0
