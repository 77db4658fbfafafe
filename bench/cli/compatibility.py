"""``bench matrix``: shows which combinations can run, and why the others cannot."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bench.machine.environment import compiler_lacks
from bench.machine.gpus import Machine, this_machine
from bench.plan.compatibility import GPUS, MATRIX, Cell, cells
from bench.plan.options import AXES
from bench.report.format import wide_console


def matrix(
    workload: Annotated[str, typer.Option(help="Workload to show it for.")] = "gpt-nano",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show which combinations of strategy, precision, checkpointing and compile can run, on the CPU and on GPUs.

    Each other combination has the reason why it cannot. Options of strategies have more constraints:
    `bench run --dry-run` checks all of them.
    """
    spec = str(AXES["workload"].read(workload, "--workload"))
    machine = this_machine()
    found = {device: cells(spec, device, machine, compiler_lacks()) for device in ("cpu", "cuda")}
    if as_json:
        print(json.dumps([_as_json(device, cell) for device in found for cell in found[device]]))
        return 0
    console = wide_console()
    for device, of_device in found.items():
        table, reasons = _table(of_device)
        console.print(Text(f"{_heading(device, machine)}\n", "bold"))
        console.print(table)
        for number, reason in enumerate(reasons, 1):
            console.print(Text(f"{number}: {reason}"), soft_wrap=True)
        console.print()
    return 0


def _heading(device: str, machine: Machine) -> str:
    if device == "cpu":
        return f"--device cpu, {GPUS} ranks"
    here = len(machine.gpus)
    assumed = "" if here >= GPUS else f" (this machine has {here}; assumed: compute capability 8.0 or newer)"
    return f"--device cuda, {GPUS} GPUs{assumed}"


def _table(found: list[Cell]) -> tuple[Table, list[str]]:
    """Return the table, and the reasons that its numbers refer to, from 1.

    It has rows of strategy, precision and compile, and a column for each value of checkpointing.
    """
    reasons = list(dict.fromkeys(cell.reason for cell in found if cell.reason))
    checkpointing = [f"ac {value}" for value in MATRIX["activation_checkpointing"]]
    table = Table("strategy", "precision", "compile", *checkpointing, show_edge=False)
    by_values = {cell.values: cell for cell in found}
    for strategy in MATRIX["strategy"]:
        for precision in MATRIX["precision"]:
            lines: dict[tuple[str, ...], list[str]] = {}  # Values of compile with equal rows share one.
            for mode in MATRIX["compile"]:
                row = [by_values[strategy, precision, ac, mode] for ac in MATRIX["activation_checkpointing"]]
                marks = tuple(str(reasons.index(cell.reason) + 1) if cell.reason else "yes" for cell in row)
                lines.setdefault(marks, []).append(mode)
            for marks, modes in lines.items():
                table.add_row(strategy, precision, ", ".join(modes), *marks)
        table.add_section()
    return table, reasons


def _as_json(device: str, cell: Cell) -> dict[str, str | bool | None]:
    values = dict(zip(MATRIX, cell.values, strict=True))
    return {"device": device, **values, "runs": cell.reason is None, "reason": cell.reason}
