"""``bench calibrate``: measures how noisy this machine is, and which slowdowns a gate can find on it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from bench import interrupts
from bench.api.margins import share
from bench.cli.node_options import as_node_0, with_node_options, work_as_follower
from bench.cli.shared_options import Given, Out, default_text, with_run_options
from bench.errors import EXIT_FAILED, EXIT_OK, UsageError
from bench.nodes.options import nodes_asked
from bench.plan.duration import words
from bench.plan.options import SETTINGS
from bench.report.format import SafeConsole, wide_console
from bench.report.wide_tables import print_table

if TYPE_CHECKING:
    from bench.stats.calibration import Noise

BUDGET = "30m"


@with_run_options
@with_node_options
def calibrate(
    given: Given,
    nodes: Given,
    duet: Annotated[bool, typer.Option("--duet", help="Calibrate for bench ab --duet.")] = False,
    blocks: Annotated[
        int | None, typer.Option(help=f"Blocks of each case.{default_text(24)}", show_default=False)
    ] = None,
    detect: Annotated[str, typer.Option(help="Slowdown that a gate must find.", metavar="SHARE")] = "3%",
    out: Out = Path("results"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")] = False,
) -> int:
    """Measure cases against themselves: how much launches, blocks and sessions differ if nothing has changed.

    `bench ab` uses the result to choose the number of blocks. --budget is the time of a gate, not of the calibration.
    """
    over = nodes_asked(nodes)
    if over and not over.is_head:
        return work_as_follower(over, quiet)
    if given["launches"] is not None:
        raise UsageError("--launches: a calibration is measured in blocks of four launches.", hint="Give --blocks.")
    change, budget = share("--detect", detect), SETTINGS["budget"].read(given["budget"] or BUDGET, "--budget")
    assert isinstance(budget, float)
    given["budget"] = None
    from bench.api.keywords import asked_for
    from bench.comparison.block_counts import check_at_most
    from bench.comparison.setup import calibrated
    from bench.stats.calibration import MEASURED_BLOCKS
    from bench.stats.trimmed import LEAST_BLOCKS

    count = MEASURED_BLOCKS if blocks is None else blocks
    if count < LEAST_BLOCKS:
        raise UsageError(
            option="--blocks",
            given=count,
            allowed=f"a whole number from {LEAST_BLOCKS}",
            hint="With fewer blocks, their noise cannot be estimated.",
        )
    check_at_most(count)
    from bench.report.progress import observer

    progress = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(progress), as_node_0(over, progress) as all_nodes:
        noises, failed = calibrated(asked_for(given), count, duet, out, progress, all_nodes)
        if all_nodes:
            all_nodes.exit_code = EXIT_FAILED if failed or not noises else EXIT_OK
    _show(noises, change, budget, as_json)
    return EXIT_FAILED if failed or not noises else EXIT_OK


def _show(noises: Sequence[Noise], change: float, budget: float, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_figures(noise, change, budget) for noise in noises]))
        return
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("case", overflow="fold")
    for title in (
        *("within a launch", "between launches", "blocks", "sessions", "s a block"),
        *(f"found in {words(budget)}", f"blocks for {change:.1%}", "best steps"),
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for noise in noises:
        found, needed = noise.within(budget / 2), noise.needed(change)  # The control pair takes the other half.
        table.add_row(
            noise.case_id,
            *(_percent(value) for value in (noise.within_launch, noise.between_launches, noise.of_blocks)),
            _percent(noise.between_sessions),
            f"{noise.seconds_a_block:.1f}",
            _percent(noise.detectable(found)) if found else "too short",
            f"{needed.first} + {needed.second}" if needed else "too noisy",
            str(noise.best_steps or "—"),
        )
    print_table(table, wide_console())


def _figures(noise: Noise, change: float, budget: float) -> dict[str, Any]:
    """Return the figures of a case for JSON: shares and seconds as numbers, None for unknown or impossible ones."""
    found, needed = noise.within(budget / 2), noise.needed(change)
    return {
        **dataclasses.asdict(noise),
        "best_steps": noise.best_steps,
        "detectable": noise.detectable(found) if found else None,
        "blocks_needed": list(needed) if needed else None,
    }


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{value:.2%}"
