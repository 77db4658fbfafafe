"""``bench.run`` and ``bench.load``: the launches of a run, and how it ended."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import interrupts
from bench.api.keywords import ASKING, asked_for, folder_of, run_name, takes, words_of
from bench.api.signals import recorded_first
from bench.errors import EXIT_FAILED, EXIT_OK, UsageError, did_you_mean
from bench.plan.options import RETRY
from bench.plan.plan import Asked, make_plan
from bench.store.columns import STATUSES, LaunchRow
from bench.store.counting_rows import latest
from bench.store.plan_file import asked_of
from bench.store.resume import Earlier, earlier_run, statuses
from bench.store.runs import find

if TYPE_CHECKING:
    import pandas as pd

    from bench.runner.row_recorder import Observer
    from bench.runner.several_nodes import SeveralNodes

SHOWN = ("case_id", "status", "samples_per_s", "step_ms", "reason")  # Columns in a notebook.


@dataclass(frozen=True)
class Run:
    """A run: its folder, and a row per launch."""

    folder: Path
    rows: tuple[LaunchRow, ...] = field(repr=False)

    @property
    def run_id(self) -> str:
        """Id of the run: the name of its folder."""
        return self.folder.name

    @property
    def launches(self) -> pd.DataFrame:
        """A row per launch with the typed columns of ``launches.csv``; unknown values are NA."""
        from bench.analysis.frames import launches

        return launches(self.rows)

    @property
    def status(self) -> str:
        """``ok``, or the other statuses of launches, joined by ``, ``; ``skipped`` if all cases were skipped."""
        counted = {row.status or "unknown" for row in latest(self.rows).values()}
        others = sorted(counted - {"ok", "skipped"}, key=lambda status: (status not in STATUSES, status))
        return ", ".join(others) or ("ok" if "ok" in counted else "skipped")

    @property
    def exit_code(self) -> int:
        """5 if a launch failed or nothing could run, else 0; a skipped case is not a failure."""
        return EXIT_OK if self.status == "ok" else EXIT_FAILED

    def __fspath__(self) -> str:
        return str(self.folder)

    def _repr_html_(self) -> str:
        table = self.launches[list(SHOWN)].to_html(index=False, na_rep="", border=0)
        return f"<p>run {html.escape(self.run_id)}: {self.status}</p>{table}"


@takes(*ASKING)
def run(
    *,
    out: str | Path = "results",
    resume: str | Path | Run | None = None,
    retry: str | Sequence[str] = (),
    resume_anyway: bool = False,
    strict_machine: bool = False,
    observer: Observer | None = None,
    **options: Any,
) -> Run:
    """Launch every combination of the axes, and record one row per launch in a new folder in ``out``.

    The keywords are the options of ``bench run``, with ``_`` for ``-``; an axis takes a value or a list. ``observer``
    is told about the progress; without one only warnings are printed, on stderr. Raises a child of BenchError if the
    request is not possible. A launch that fails is a row and not an error: see ``status``.
    """
    folder = folder_of(out)
    earlier = to_resume(folder, None if resume is None else run_name(resume), words_of("retry", retry), resume_anyway)
    if earlier and options.get("suite") is not None:
        raise UsageError(
            "suite: a run that is resumed has a plan already",
            option="suite",
            given=options["suite"],
            hint="Leave suite out, or start a new run.",
        )
    asked = asked_for(options, asked_of(earlier.plan) if earlier else None)
    with recorded_first():
        made = measure(asked, folder, observer or silent(), earlier, strict_machine)
    return load(made.folder)  # Floats have the digits of the file.


def load(run: str | Path | Run, out: str | Path = "results") -> Run:
    """Read a run by its id or ``latest`` in ``out``, or by the path of its folder; ResultsError if there is none."""
    from bench.store.reader import read_launches

    folder = find(folder_of(out), run_name(run)).resolve()
    return Run(folder, tuple(read_launches(folder / "launches.csv", warner())))


def measure(
    asked: Asked,
    out: Path,
    observer: Observer,
    earlier: Earlier | None = None,
    strict: bool = False,
    at_end: Callable[[Run], None] = lambda run: None,
    nodes: SeveralNodes | None = None,
) -> Run:
    """Measure a request in a new run, or the rest of an ``earlier`` one.

    ``strict``: raise BenchError if the machine has warnings. ``at_end``: called with the run if anything was measured,
    also after an error. ``nodes``: all nodes, if there are several. The caller defers signals.
    """
    from bench.machine.gpus import this_machine
    from bench.runner.machine_survey import Survey
    from bench.runner.run_session import Session, begun
    from bench.runner.schedule import Rounds
    from bench.runner.several_nodes import OneNode
    from bench.store.writer import Store

    machine = this_machine()
    nodes = nodes or OneNode()
    plan = nodes.checked({"": make_plan(asked, nodes.machine(machine))}, observer)[""]
    survey = nodes.surveyed(Survey.taken(machine, (planned.case for planned in plan.cases), out))
    if strict:
        survey.refuse(planned.case for planned in plan.cases if planned.skip is None)
    interrupts.check()
    rows: list[LaunchRow] = []
    store: Store | None = None
    try:
        if earlier:
            store, rows = Store.resume(earlier.folder, lambda text: observer.note(f"warning: {text}"))
            earlier = dataclasses.replace(earlier, rows=tuple(rows))
        else:
            store = Store.create(out, begun(plan, machine))
        session = Session(plan, survey, store, observer, earlier, over_nodes=nodes.launcher)
        rows = session.rows
        Rounds(session).run()
    finally:
        try:
            if rows and store:
                at_end(Run(store.folder, tuple(rows)))
        finally:
            if store:
                store.close()
    return Run(store.folder, tuple(rows))


def to_resume(out: Path, resume: str | None, retry: str | Iterable[str] | None, anyway: bool) -> Earlier | None:
    """Return the run to resume, or None; UsageError for options that have no effect without one."""
    words = retry.split(",") if isinstance(retry, str) else list(retry or ())
    for word in words:
        if word not in RETRY:
            raise UsageError(option="--retry", given=word, allowed=", ".join(RETRY), hint=did_you_mean(word, RETRY))
    if resume is None:
        if words or anyway:
            flag = "--retry" if words else "--resume-anyway"
            hint = "Add --resume RUN; bench results lists the runs."
            raise UsageError(f"{flag} has no effect without --resume", option=flag, hint=hint)
        return None
    return earlier_run(find(out, resume).resolve(), statuses(words), anyway)


def silent() -> Observer:
    """Return an observer that prints only warnings, on stderr."""
    from bench.report.format import SafeConsole
    from bench.report.progress import Quiet

    return Quiet(SafeConsole(stderr=True))


def warner(observer: Observer | None = None) -> Callable[[str], None]:
    """Return a function that passes warnings to ``observer``, or prints them on stderr."""
    watcher = observer or silent()
    return lambda text: watcher.note(f"warning: {text}")
