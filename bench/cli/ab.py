"""``bench ab``: two sides measured in turns on this machine, and a verdict."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import interrupts
from bench.cli.shared_options import Given, Out, default_text, keyword_parameter, with_parameters, with_run_options
from bench.cli.verdict_options import VerdictOptions, with_verdict_options
from bench.comparison.sides import Side, read_side
from bench.errors import UsageError
from bench.report.format import SafeConsole


def _of_side(what: str, metavar: str) -> Any:
    return typer.Option(help=what, metavar=metavar, show_default=False, rich_help_panel="Sides")


VARIABLE = "A variable of this side's ranks; repeatable."
PYTHON = "Interpreter of this side: another torch."
REV = "Git revision of your workload on this side."
SIDES = (
    keyword_parameter(
        "a", Annotated[list[str] | None, _of_side("An axis of this side; repeatable.", "AXIS=VALUE")], None
    ),
    keyword_parameter(
        "b", Annotated[list[str] | None, _of_side("An axis of this side; repeatable.", "AXIS=VALUE")], None
    ),
    keyword_parameter("a_env", Annotated[list[str] | None, _of_side(VARIABLE, "NAME=VALUE")], None),
    keyword_parameter("b_env", Annotated[list[str] | None, _of_side(VARIABLE, "NAME=VALUE")], None),
    keyword_parameter("a_python", Annotated[str | None, _of_side(PYTHON, "PYTHON")], None),
    keyword_parameter("b_python", Annotated[str | None, _of_side(PYTHON, "PYTHON")], None),
    keyword_parameter("a_rev", Annotated[str | None, _of_side(REV, "REV")], None),
    keyword_parameter("b_rev", Annotated[str | None, _of_side(REV, "REV")], None),
)
BLOCKS = f"Of the first stage; a second has twice as many.{default_text('by bench calibrate, or 8')}"


@with_run_options
@with_verdict_options
@with_parameters("sides", SIDES, dict)
def ab(
    given: Given,
    judging: VerdictOptions,
    sides: Given,
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
    both = _side("A", sides), _side("B", sides)
    if blocks is not None and given["budget"] is not None:
        raise UsageError("--blocks and --budget both say how long a comparison is; give one.")
    from bench.api.keywords import asked_for
    from bench.comparison.setup import Gating, compete
    from bench.report.progress import observer

    watcher = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(watcher):
        gating = Gating(judging.rules, blocks, judging.insists, duet)
        gate = compete(asked_for(given), both, out, gating, watcher)
    return judging.tell(gate)


def _side(name: str, given: Given) -> Side:
    own = {what: given[f"{name.lower()}{what}"] for what in ("", "_env", "_python", "_rev")}
    return read_side(name, own[""] or [], own["_env"] or [], own["_python"], own["_rev"])
