"""``bench check``: a run against a baseline, for a gate."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench import baselines, interrupts
from bench.cli.asks import Out
from bench.cli.judging import Judging, judges
from bench.cli.talk import warn
from bench.errors import ResultsError, UsageError
from bench.read import read
from bench.report.words import Listened
from bench.runs import find

if TYPE_CHECKING:
    from bench.analysis.verdict import Gate, Rules
    from bench.baselines import Baseline


@judges
def check(
    judging: Judging,
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
    kept = baselines.settled(baselines.load(out, baseline, warn), warn)
    if run is None:
        with interrupts.deferred():
            gate = _measured(kept, judging.rules, out, quiet)
    else:
        gate = _of_run(kept, judging.rules, out, run)
    return judging.tell(gate)


def _few(kept: Baseline) -> str:
    return (
        f"baseline {kept.name} has too few sessions ({len(kept.sessions)}; {baselines.LEAST_SESSIONS} are needed): "
        "nothing will be decided, but the run can be added to it (bench baseline add)"
    )


def _of_run(kept: Baseline, rules: Rules, out: Path, run: str) -> Gate:
    """The verdict on a run that was made without a control pair."""
    from bench.analysis.prediction import against

    folder = find(out, run)
    rows = [row for row in read(folder / "launches.csv", warn) if row["side"] is None]
    if not any(row["role"] == "measure" for row in rows):
        raise ResultsError(f"no launch is recorded in {folder}; run one, or name another run.")
    baselines.check_alike(kept, [row for row in rows if row["role"] == "measure"])
    if rows[0]["run_id"] in kept.sessions:
        raise UsageError(f"run {rows[0]['run_id']} is part of baseline {kept.name}; judge a later one by it.")
    return against(kept.rows, rows, rules, kept.name, None)


def _measured(kept: Baseline, rules: Rules, out: Path, quiet: bool) -> Gate:
    from bench.analysis.prediction import against
    from bench.check import Check, asked_again
    from bench.devices import Machine, this_machine
    from bench.preflight import look, run_warnings
    from bench.report.progress import observer
    from bench.session import Session, begun
    from bench.store import Store
    from bench.suite import make_plan

    machine = this_machine()
    plan = make_plan(asked_again(kept), machine)
    seen = look(machine if any(p.case.on_accelerator for p in plan.cases) else Machine(), out)
    warnings, watcher = run_warnings(seen), observer(Listened(stderr=True), quiet)
    with contextlib.closing(watcher):
        for warning in filter(None, (machine.note, *warnings)):
            watcher.note(f"warning: {warning}")
        if len(kept.sessions) < baselines.LEAST_SESSIONS:
            watcher.note(f"warning: {_few(kept)}")
        session = Session(plan, machine, Store.create(out, begun(plan, machine)), watcher, seen, warnings)
        with contextlib.closing(session):
            checked = Check(kept, session, rules, watcher.note)
            checked.run()
    return against(kept.rows, session.rows, rules, kept.name, checked.control)
