"""``bench matrix``: shows which combinations can run, and why the others cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.machine.gpus import Machine, this_machine
from bench.plan.compatibility import FURTHER, GPUS, MATRIX, WITH, Cell, cells, further_cells
from bench.plan.options import AXES, show
from bench.plan.plan import facts
from bench.report.format import wide_console


def matrix(
    workload: Annotated[str, typer.Option(help="Workload to show it for.")] = "gpt-nano",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show which combinations of strategy, precision, checkpointing and compile can run, on the CPU and on GPUs.

    A second table has each value of further axes with each strategy. Each combination that cannot run has the reason.
    Options of strategies have more constraints: `bench run --dry-run` checks all of them.
    """
    spec = str(AXES["workload"].read(workload, "--workload"))
    machine = this_machine()
    known = facts(machine, None)
    products = {device: cells(spec, device, known) for device in ("cpu", "cuda")}
    further = {device: further_cells(spec, device, known) for device in products}
    if as_json:
        print(
            json.dumps([_as_json(device, cell) for of in (products, further) for device in of for cell in of[device]])
        )
        return 0
    console = wide_console()
    for device in products:
        console.print(Text(f"{_heading(device, machine)}\n", "bold"))
        _print(console, _product_table, products[device])
        _print(console, _further_table, further[device])
    return 0


def _heading(device: str, machine: Machine) -> str:
    if device == "cpu":
        return f"--device cpu, {GPUS} ranks"
    here = len(machine.gpus)
    assumed = "" if here >= GPUS else f" (this machine has {here}; assumed: compute capability 9.0 or newer)"
    return f"--device cuda, {GPUS} GPUs{assumed}"


class _Marks:
    """The reasons of cells, numbered from 1 as they are met."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def of(self, cell: Cell) -> str:
        """Return ``yes``, or the number of the reason why a combination cannot run."""
        if cell.reason is None:
            return "yes"
        if cell.reason not in self.reasons:
            self.reasons.append(cell.reason)
        return str(self.reasons.index(cell.reason) + 1)


def _print(console: Console, make: Callable[[Sequence[Cell], _Marks], Table], found: Sequence[Cell]) -> None:
    marks = _Marks()
    console.print(make(found, marks))
    for number, reason in enumerate(marks.reasons, 1):
        console.print(Text(f"{number}: {reason}"), soft_wrap=True)
    console.print()


def _product_table(found: Sequence[Cell], marks: _Marks) -> Table:
    """Return rows of strategy, precision and compile, with a column for each value of checkpointing."""
    checkpointing = [f"ac {value}" for value in MATRIX["activation_checkpointing"]]
    table = Table("strategy", "precision", "compile", *checkpointing, show_edge=False)
    by_values = {tuple(cell.values.values()): cell for cell in found}
    for strategy in MATRIX["strategy"]:
        for precision in MATRIX["precision"]:
            lines: dict[tuple[str, ...], list[str]] = {}  # Values of compile with equal rows share one.
            for mode in MATRIX["compile"]:
                row = (by_values[strategy, precision, ac, mode] for ac in MATRIX["activation_checkpointing"])
                lines.setdefault(tuple(map(marks.of, row)), []).append(mode)
            for said, modes in lines.items():
                table.add_row(strategy, precision, ", ".join(modes), *said)
        table.add_section()
    return table


def _further_table(found: Sequence[Cell], marks: _Marks) -> Table:
    """Return a row for each value of a further axis, with a column for each strategy."""
    table = Table("axis", "value", *MATRIX["strategy"], show_edge=False)
    for axis, values in FURTHER.items():
        for value in values:
            row = (cell for cell in found if cell.values.get(axis) == value)
            more = [f" with {name} {other}" for name, other in WITH.get(axis, {}).items()]
            table.add_row(AXES[axis].flag.removeprefix("--"), value + "".join(more), *map(marks.of, row))
        table.add_section()
    return table


def _as_json(device: str, cell: Cell) -> dict[str, str | bool | None]:
    values = {name: show(getattr(cell.case, name)) for name in (*MATRIX, *FURTHER)}
    return {"device": device, **values, "runs": cell.reason is None, "reason": cell.reason}
