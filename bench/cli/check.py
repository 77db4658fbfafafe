"""``bench check``: a run against a baseline, for a gate."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from bench import interrupts
from bench.cli.console import warn
from bench.cli.shared_options import Out
from bench.cli.verdict_options import VerdictOptions, with_verdict_options


@with_verdict_options
def check(
    judging: VerdictOptions,
    baseline: Annotated[str, typer.Option(help="A baseline: results/baselines/NAME.csv.", metavar="NAME")],
    run: Annotated[
        str | None, typer.Option(help="Judge this run (its id, latest, a path) instead of a new one.", metavar="RUN")
    ] = None,
    out: Out = Path("results"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the verdicts.")] = False,
) -> int:
    """Measure the cases of a baseline anew, and decide: is this machine slower than it was?

    Exit code 4 if the baseline is another machine's or software's, 3 if it has fewer than 5 sessions.
    """
    from bench.api.gates import check_now, check_run, load_baseline
    from bench.report.format import SafeConsole
    from bench.report.progress import observer

    kept = load_baseline(out, baseline, warn)
    if run is not None:
        return judging.tell(check_run(kept, judging.rules, out, run, warn))
    watcher = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(watcher):
        gate = check_now(kept, judging.rules, out, watcher)
    return judging.tell(gate)
