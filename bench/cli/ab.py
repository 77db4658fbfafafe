"""``bench ab``: two sides measured in turns on this machine, and a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench import interrupts
from bench.cli.asks import Given, Out, asks, by_default, wanted
from bench.cli.judging import Judging, judges
from bench.errors import UsageError
from bench.sides import read_side


def _of_side(what: str, metavar: str) -> Any:
    return typer.Option(help=what, metavar=metavar, show_default=False, rich_help_panel="Sides")


Overrides = Annotated[list[str] | None, _of_side("An axis of this side; repeatable.", "AXIS=VALUE")]
Variables = Annotated[list[str] | None, _of_side("A variable of this side's ranks; repeatable.", "NAME=VALUE")]
Python = Annotated[str | None, _of_side("Interpreter of this side: another torch.", "PYTHON")]
Rev = Annotated[str | None, _of_side("Git revision of your workload on this side.", "REV")]
BLOCKS = f"Of the first stage; a second has twice as many.{by_default('by bench calibrate, or 8')}"


@asks
@judges
def ab(
    given: Given,
    judging: Judging,
    a: Overrides = None,
    b: Overrides = None,
    a_env: Variables = None,
    b_env: Variables = None,
    a_python: Python = None,
    b_python: Python = None,
    a_rev: Rev = None,
    b_rev: Rev = None,
    duet: Annotated[bool, typer.Option("--duet", help="Both sides up at once, in turns of a few steps.")] = False,
    blocks: Annotated[int | None, typer.Option(help=BLOCKS, show_default=False)] = None,
    out: Out = Path("results"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the verdicts.")] = False,
) -> int:
    """Measure two sides in turns on this machine, and decide: is B slower than A?

    A is what the options say with --a over it, B the same with --b. Sides that are equal are a test of the machine.
    """
    if given["launches"] is not None:
        raise UsageError("--launches: a comparison is made in blocks of A B B A; give --blocks.")
    sides = (
        read_side("A", a or [], a_env or [], a_python, a_rev),
        read_side("B", b or [], b_env or [], b_python, b_rev),
    )
    if blocks is not None and given["budget"] is not None:
        raise UsageError("--blocks and --budget both say how long a comparison is; give one.")
    from bench.contest import compete

    with interrupts.deferred():
        gate = compete(
            wanted(given), sides, judging.rules, out, blocks=blocks, insists=judging.insists, duet=duet, quiet=quiet
        )
    return judging.tell(gate)
