"""``bench env``: shows what rows record about this machine, or how the environments of two runs differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.console import warn
from bench.errors import EXIT_OK, ResultsError
from bench.machine.environment import host_facts, installed, rank_environment
from bench.machine.gpus import Machine, device_names, this_machine
from bench.report.format import number, wide_console
from bench.store.columns import LaunchRow
from bench.store.environment_diff import Difference, differences
from bench.store.matmul_peaks import StoredPeak, all_stored, machine_facts
from bench.store.node_facts import between_nodes, differences_of_nodes
from bench.store.reader import read_launches
from bench.store.runs import find


def env(
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="RUN_A RUN_B", help="Show how the environments of two runs differ instead."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results, for --diff.")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show what results record about the machine, the software and its settings."""
    if diff is not None:
        return _diff(out, *diff, as_json)
    machine = this_machine()
    facts = {
        **host_facts(machine, rank_environment()),
        **installed(),
        "gpus": [f"{gpu.name} {gpu.memory_mib:.0f} MiB {gpu.uuid}" for gpu in machine.gpus],
        "note": machine.note,
    }
    peaks = _peaks(machine, facts)
    if as_json:
        print(json.dumps({**facts, "matmul_peaks": [_of_peak(one) for one in peaks]}))
        return EXIT_OK
    table = Table("what", "value", show_edge=False, pad_edge=False)
    about_hardware = json.loads(facts.pop("hardware"))
    for name, value in [*facts.items(), *about_hardware.items()]:
        text = "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        table.add_row(name, Text(text or "—"))
    for one in peaks:
        table.add_row(*map(Text, _peak_words(one)))
    wide_console().print(table)
    return EXIT_OK


def _peaks(machine: Machine, facts: dict[str, Any]) -> list[StoredPeak]:
    """Return the stored peaks of matrix products that a run here uses."""
    devices = ["cpu", *([device_names(machine)] if machine.gpus else [])]
    return [one for device in devices for one in all_stored(machine_facts(facts, device, facts["torch"]))]


def _of_peak(one: StoredPeak) -> dict[str, Any]:
    return {"tflops": one.peak.tflops, **dataclasses.asdict(one)}


def _peak_words(one: StoredPeak) -> tuple[str, str]:
    """Return what a peak is of, and its rate with the shape of the product and the date."""
    peak, best = one.peak, one.peak.best
    on = peak.device if peak.device != "cpu" else f"cpu, threads: {peak.threads}"
    shape = f"({best.m:,} x {best.k:,}) by ({best.k:,} x {best.n:,})"
    return f"matmul peak, {peak.type}", f"{number(peak.tflops)} TFLOP/s; {on}; {shape}; {one.measured_at}"


def _diff(out: Path, a: str, b: str, as_json: bool) -> int:
    folders = find(out, a), find(out, b)
    rows = [_rows(folder) for folder in folders]
    found = [*differences(*rows), *differences_of_nodes(*rows)]
    nodes = {folder.name: between_nodes(of) for folder, of in zip(folders, rows, strict=True)}
    if as_json:
        names = {"a": folders[0].name, "b": folders[1].name}
        of_nodes = {run: {host: _plain(unlike) for host, unlike in hosts.items()} for run, hosts in nodes.items()}
        print(json.dumps({**names, "differences": _plain(found), "nodes": of_nodes}))
        return EXIT_OK
    console = wide_console()
    for side, folder in zip("AB", folders, strict=True):
        _print(console, f"{side}: {folder}")
    _print_group(console, "bench check refuses a baseline with these differences", [d for d in found if d.in_env_key])
    _print_group(console, "other differences", [d for d in found if not d.in_env_key])
    if not found:
        _print(console, "\nno recorded difference")
    for run, hosts in nodes.items():
        for host, unlike in hosts.items():
            _print(console, f"\n{host} differs from node 0 of {run}:")
            for difference in unlike:
                _print(console, f"  {difference.words('on node 0', f'on {host}')}")
    return EXIT_OK


def _plain(found: Sequence[Difference]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(difference) for difference in found]


def _rows(folder: Path) -> list[LaunchRow]:
    rows = read_launches(folder / "launches.csv", warn)
    if not rows:
        raise ResultsError(
            f"run {folder.name} has no launches, so its environment is not known", hint="Choose another run."
        )
    return rows


def _print_group(console: Console, title: str, group: Sequence[Difference]) -> None:
    if group:
        _print(console, f"\n{title}:")
    for difference in group:
        _print(console, f"  {difference.words()}")


def _print(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)
