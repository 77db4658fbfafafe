"""``bench run``: launches, measures and records every combination of its options, or a suite."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench import interrupts
from bench.cli import slurm as slurm_job
from bench.cli.console import ignore_broken_pipe, say
from bench.cli.node_options import as_node_0, with_node_options, work_as_follower
from bench.cli.shared_options import Given, Out, keyword_parameter, with_parameters, with_run_options
from bench.errors import EXIT_OK, UsageError
from bench.nodes.options import nodes_asked
from bench.plan.options import RETRY

if TYPE_CHECKING:
    from bench.api.runs import Run

Text = str | None


RESUMING = (
    keyword_parameter(
        "resume",
        Annotated[
            Text, typer.Option(metavar="RUN", help="Continue a run (its id, or latest): launch what is missing.")
        ],
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
            bool,
            typer.Option("--resume-anyway", help="Resume even if plan, tool or machine changed; the rows record it."),
        ],
        False,
    ),
)


@with_run_options
@with_parameters("resuming", RESUMING, dict)
@with_node_options
@with_parameters("slurm", slurm_job.OPTIONS, dict)
def run(
    given: Given,
    resuming: Given,
    nodes: Given,
    slurm: Given,
    out: Out = Path("results"),
    strict_machine: Annotated[
        bool, typer.Option("--strict-machine", help="Refuse to run on a machine that is busy, full or too small.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its time; launch nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the table.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results as JSON on stdout instead of a table.")
    ] = False,
) -> int:
    """Run every combination of the axes, and record one row for each launch.

    Each axis takes a comma list. Combinations that cannot run become rows with a reason.
    """
    from bench.api.keywords import asked_for
    from bench.api.runs import measure, to_resume
    from bench.report.format import SafeConsole
    from bench.report.progress import observer
    from bench.store.plan_file import asked_of

    if slurm_job.scheduled(slurm):
        flags = {"strict_machine": strict_machine, "quiet": quiet, "json": as_json}
        return slurm_job.run_as_job({**given, **resuming}, nodes, slurm, flags, out, dry_run)
    over = nodes_asked(nodes)
    if over and not over.is_head:
        if dry_run:
            raise UsageError("--dry-run shows the plan, which node 0 has", option="--dry-run", hint="Run it there.")
        return work_as_follower(over, quiet)
    earlier = to_resume(out, resuming["resume"], resuming["retry"], resuming["resume_anyway"])
    if earlier and given["suite"] is not None:
        raise UsageError("--resume uses the plan of the run, so --suite is not allowed", hint="Remove one of them.")
    asked = asked_for(given, asked_of(earlier.plan) if earlier else None)
    if dry_run:
        from bench.cli.dry_run import show_plan

        with interrupts.deferred():
            show_plan(asked, out, as_json, earlier)
        return EXIT_OK

    def show(done: Run) -> None:
        progress.close()
        _show(done, as_json)

    progress = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(progress), as_node_0(over, progress) as all_nodes:
        code = measure(asked, out, progress, earlier, strict_machine, show, all_nodes).exit_code
        if all_nodes:
            all_nodes.exit_code = code
        return code


def _show(done: Run, as_json: bool) -> None:
    from bench.report.format import run_json, wide_console
    from bench.report.terminal import print_rows

    with ignore_broken_pipe():  # A closed stdout (bench run | head) does not change the exit code.
        if as_json:
            print(run_json(done.folder, done.rows))
        else:
            print_rows(done.rows, wide_console())
            say(f"\nresults: {done.folder / 'launches.csv'}", on_stdout=True)
