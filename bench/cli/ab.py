"""``bench ab``: measures two sides in turns on this machine, and prints verdicts."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import interrupts
from bench.cli.node_options import as_node_0, with_node_options, work_as_follower
from bench.cli.shared_options import Given, Out, default_text, keyword_parameter, with_parameters, with_run_options
from bench.cli.verdict_options import VerdictOptions, with_verdict_options
from bench.comparison.sides import Side, read_side
from bench.errors import UsageError
from bench.nodes.options import nodes_asked
from bench.report.format import SafeConsole


def _of_side(what: str, metavar: str) -> Any:
    return typer.Option(help=what, metavar=metavar, show_default=False, rich_help_panel="Sides")


AXIS = "An axis of this side; repeatable."
VARIABLE = "An environment variable of this side's ranks; repeatable."
PYTHON = "Python interpreter of this side, e.g. with another torch."
REV = "Git revision of your workload on this side."
SIDES = (
    keyword_parameter("a", Annotated[list[str] | None, _of_side(AXIS, "AXIS=VALUE")], None),
    keyword_parameter("b", Annotated[list[str] | None, _of_side(AXIS, "AXIS=VALUE")], None),
    keyword_parameter("a_env", Annotated[list[str] | None, _of_side(VARIABLE, "NAME=VALUE")], None),
    keyword_parameter("b_env", Annotated[list[str] | None, _of_side(VARIABLE, "NAME=VALUE")], None),
    keyword_parameter("a_python", Annotated[str | None, _of_side(PYTHON, "PYTHON")], None),
    keyword_parameter("b_python", Annotated[str | None, _of_side(PYTHON, "PYTHON")], None),
    keyword_parameter("a_rev", Annotated[str | None, _of_side(REV, "REV")], None),
    keyword_parameter("b_rev", Annotated[str | None, _of_side(REV, "REV")], None),
)
DEFAULT = default_text("by --budget or bench calibrate, else 8")
BLOCKS = f"Blocks of the first stage; a second stage has twice as many.{DEFAULT}"


@with_run_options
@with_node_options
@with_verdict_options
@with_parameters("sides", SIDES, dict)
def ab(
    given: Given,
    nodes: Given,
    verdict_options: VerdictOptions,
    sides: Given,
    duet: Annotated[bool, typer.Option("--duet", help="Run both sides at once, in turns of a few steps.")] = False,
    blocks: Annotated[int | None, typer.Option(help=BLOCKS, show_default=False)] = None,
    out: Out = Path("results"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the verdicts.")] = False,
) -> int:
    """Measure two sides in turns on this machine, and decide whether B is slower than A.

    --a and --b override the other options on their side. Two equal sides test the machine itself. Files (--md, --junit,
    --json-file) are written after each block, so that a job that is cut off has its verdict so far.
    """
    over = nodes_asked(nodes)
    if over and not over.is_head:
        return work_as_follower(over, quiet)
    if given["launches"] is not None:
        raise UsageError("--launches: a comparison is measured in blocks of A B B A.", hint="Give --blocks.")
    both = _side("A", sides), _side("B", sides)
    if blocks is not None and given["budget"] is not None:
        raise UsageError("--blocks and --budget both set the length of a comparison.", hint="Give one.")
    from bench.api.keywords import asked_for
    from bench.comparison.setup import Gating, compete
    from bench.report.progress import observer

    progress = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(progress), verdict_options.withdrawn():
        so_far = functools.partial(verdict_options.so_far, warn=progress.note) if verdict_options.has_files else None
        gating = Gating(verdict_options.rules, blocks, verdict_options.detect_given, duet, so_far)
        with as_node_0(over, progress) as all_nodes:
            gate = compete(asked_for(given), both, out, gating, progress, all_nodes)
    return verdict_options.report(gate)


def _side(name: str, given: Given) -> Side:
    own = {what: given[f"{name.lower()}{what}"] for what in ("", "_env", "_python", "_rev")}
    return read_side(name, own[""] or [], own["_env"] or [], own["_python"], own["_rev"])
