"""``bench run``: the product of its options, or a suite, launched, measured and recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from bench import interrupts
from bench.cli.asks import Given, Out, asks, wanted
from bench.cli.plan import show_plan
from bench.cli.talk import say
from bench.errors import EXIT_FAILED, EXIT_OK, BenchError, UsageError, near
from bench.record import Row
from bench.report.words import Listened, run_json, wide_console
from bench.resume import RETRY, Earlier, earlier_run, latest, statuses
from bench.runs import find
from bench.suite import Asked, Plan, asked_of, make_plan

Text = str | None


@asks
def run(
    given: Given,
    out: Out = Path("results"),
    resume: Annotated[Text, typer.Option(metavar="RUN", help="Do what a run (its id, or latest) still lacks.")] = None,
    retry: Annotated[
        Text, typer.Option(metavar=", ".join(RETRY), help="Launch these again as well; comma list, with --resume.")
    ] = None,
    resume_anyway: Annotated[
        bool, typer.Option("--resume-anyway", help="Even if plan, tool or machine changed; the rows say what.")
    ] = False,
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
    earlier = _earlier(out, resume, retry, resume_anyway)
    if earlier and given["suite"] is not None:
        raise UsageError("--resume has a plan already; leave --suite out, or start a new run.")
    asked = wanted(given, asked_of(earlier.plan) if earlier else None)
    if dry_run:
        show_plan(asked, out, as_json, earlier)
        return EXIT_OK
    with interrupts.deferred():
        return _run(asked, out, earlier, strict_machine, quiet, as_json)


def _earlier(out: Path, resume: str | None, retry: str | None, anyway: bool) -> Earlier | None:
    """The run to go on with; UsageError for options that make no sense without one."""
    words = [] if retry is None else retry.split(",")
    for word in words:
        if word not in RETRY:
            raise UsageError(f"--retry: got {word!r}; allowed: {', '.join(RETRY)}.{near(word, RETRY)}")
    if resume is None:
        if words or anyway:
            raise UsageError("--retry and --resume-anyway need --resume RUN; `bench results` lists the runs.")
        return None
    return earlier_run(find(out, resume).resolve(), statuses(words), anyway)


def _run(asked: Asked, out: Path, earlier: Earlier | None, strict: bool, quiet: bool, as_json: bool) -> int:
    from bench.devices import Machine, this_machine
    from bench.preflight import case_warnings, look, run_warnings
    from bench.report.progress import observer
    from bench.rounds import Rounds
    from bench.session import Session, begun
    from bench.store import Store

    machine = this_machine()
    plan: Plan = make_plan(asked, machine)
    uses_gpus = any(planned.case.on_accelerator for planned in plan.cases)
    seen = look(machine if uses_gpus else Machine(), out)
    warnings = run_warnings(seen)
    if strict:
        _refuse([*warnings, *(w for p in plan.cases if p.skip is None for w in case_warnings(p.case, seen))])
    interrupts.check()
    watcher = observer(Listened(stderr=True), quiet)
    rows: list[Row] = []
    try:
        if earlier:
            store, rows = Store.resume(earlier.folder, lambda text: watcher.note(f"warning: {text}"))
            earlier = dataclasses.replace(earlier, rows=tuple(rows))
        else:
            store = Store.create(out, begun(plan, machine))
        session = Session(plan, machine, store, watcher, seen, warnings, earlier)
        rows = session.rows
        Rounds(session).run()
    finally:
        watcher.close()
        if rows:
            _show_results(rows, store.folder, as_json)
    return _exit_code(rows)


def _refuse(warnings: list[str]) -> None:
    if warnings:
        said = "\n".join(f"- {warning}" for warning in dict.fromkeys(warnings))
        raise BenchError(f"--strict-machine: this machine does not fit the run:\n{said}")


def _show_results(rows: list[Row], folder: Path, as_json: bool) -> None:
    from bench.report.terminal import print_rows

    if as_json:
        print(run_json(folder, rows))
    else:
        print_rows(rows, wide_console())
        say(f"\nresults: {folder / 'launches.csv'}", on_stdout=True)


def _exit_code(rows: list[Row]) -> int:
    """5 if a launch failed or nothing could run, else 0. A skipped case is no failure."""
    counted = [row["status"] for row in latest(rows).values()]
    failed = any(status not in ("ok", "skipped") for status in counted)
    return EXIT_FAILED if failed or "ok" not in counted else EXIT_OK
