"""``bench check``: compares a new or an existing run with a baseline, and prints verdicts."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from bench import interrupts
from bench.cli.console import warn
from bench.cli.node_options import as_node_0, with_node_options, work_as_follower
from bench.cli.shared_options import Given, Out
from bench.cli.verdict_options import VerdictOptions, with_verdict_options
from bench.errors import UsageError
from bench.nodes.options import nodes_asked


@with_verdict_options
@with_node_options
def check(
    verdict_options: VerdictOptions,
    nodes: Given,
    baseline: Annotated[
        str | None, typer.Option(help="A baseline: results/baselines/NAME.csv.", metavar="NAME", show_default=False)
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Use this run (its id, latest, a path) instead of a new one.", metavar="RUN")
    ] = None,
    out: Out = Path("results"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the verdicts.")] = False,
) -> int:
    """Measure the cases of a baseline again, and decide whether this machine has become slower.

    The exit code is 4 if the baseline is from another machine or software. With fewer than 5 sessions the changes are
    shown, and it is 3.
    """
    from bench.api.gates import check_now, check_run, load_baseline
    from bench.report.format import SafeConsole
    from bench.report.progress import observer

    over = nodes_asked(nodes)
    if over and not over.is_head:
        return work_as_follower(over, quiet)
    if baseline is None:  # which only a follower does not need
        raise UsageError("--baseline is missing", option="--baseline", hint="Name one; bench baseline list shows them.")
    kept = load_baseline(out, baseline, warn)
    if run is not None:
        return verdict_options.report(check_run(kept, verdict_options.rules, out, run, warn))
    progress = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(progress), as_node_0(over, progress) as all_nodes:
        gate = check_now(kept, verdict_options.rules, out, progress, all_nodes)
    return verdict_options.report(gate)
