"""``bench run``: the product of its options, or a suite, launched, measured and recorded."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench import interrupts
from bench.cli.console import ignore_broken_pipe, say
from bench.cli.shared_options import Given, Out, keyword_parameter, with_parameters, with_run_options
from bench.errors import EXIT_OK, UsageError
from bench.plan.options import RETRY

if TYPE_CHECKING:
    from bench.api.runs import Run

Text = str | None


RESUMING = (
    keyword_parameter(
        "resume",
        Annotated[Text, typer.Option(metavar="RUN", help="Do what a run (its id, or latest) still lacks.")],
        None,
    ),
    keyword_parameter(
        "retry",
        Annotated[
            Text, typer.Option(metavar=", ".join(RETRY), help="Launch these again as well; comma list, with --resume.")
        ],
        None,
    ),
    keyword_parameter(
        "resume_anyway",
        Annotated[
            bool, typer.Option("--resume-anyway", help="Even if plan, tool or machine changed; the rows say what.")
        ],
        False,
    ),
)


@with_run_options
@with_parameters("resuming", RESUMING, dict)
def run(
    given: Given,
    resuming: Given,
    out: Out = Path("results"),
    strict_machine: Annotated[
        bool, typer.Option("--strict-machine", help="Refuse to run on a machine that is busy, full or too small.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its time; launch nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout instead of a table.")] = False,
) -> int:
    """Run every combination of the axes, and record one row a launch.

    Each axis takes a comma list; the run is their product. Combinations that cannot run become rows with a reason.
    """
    from bench.api.keywords import asked_for
    from bench.api.runs import measure, to_resume
    from bench.report.format import SafeConsole
    from bench.report.progress import observer
    from bench.store.plan_file import asked_of

    earlier = to_resume(out, resuming["resume"], resuming["retry"], resuming["resume_anyway"])
    if earlier and given["suite"] is not None:
        raise UsageError("--resume has a plan already; leave --suite out, or start a new run.")
    asked = asked_for(given, asked_of(earlier.plan) if earlier else None)
    if dry_run:
        from bench.cli.dry_run import show_plan

        show_plan(asked, out, as_json, earlier)
        return EXIT_OK

    def show(done: Run) -> None:
        watcher.close()
        _show(done, as_json)

    watcher = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(watcher):
        return measure(asked, out, watcher, earlier, strict_machine, show).exit_code


def _show(done: Run, as_json: bool) -> None:
    from bench.report.format import run_json, wide_console
    from bench.report.terminal import print_rows

    with ignore_broken_pipe():  # a reader that has gone (bench run | head) does not change the exit code
        if as_json:
            print(run_json(done.folder, done.rows))
        else:
            print_rows(done.rows, wide_console())
            say(f"\nresults: {done.folder / 'launches.csv'}", on_stdout=True)
