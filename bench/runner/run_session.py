"""A session: the part of a run that one command makes.

It describes workloads, launches cases and records their ends.

The order of launches is decided by ``bench.runner.schedule`` (``bench run``), ``bench.comparison.abba`` and
``bench.comparison.baseline_check``.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from bench import interrupts
from bench.errors import BenchError
from bench.machine import environment
from bench.machine.gpus import Machine
from bench.messages.heartbeat import Beat
from bench.plan.case import Case
from bench.plan.constraints import refusal
from bench.plan.description import Description
from bench.plan.plan import Plan, Planned, facts
from bench.plan.plan import Protocol as Settings
from bench.runner.batch_size import CEILING, Probes, search
from bench.runner.earlier_sessions import EarlierSessions
from bench.runner.launch_case import ATTEMPTS, CaseLauncher, OverNodes, here_alone
from bench.runner.launch_role import ALONE, Role
from bench.runner.launched import Launched
from bench.runner.machine_survey import Survey
from bench.runner.matmul_peaks import MatmulPeaks
from bench.runner.rank_site import Site
from bench.runner.row_recorder import Notes, Observer, Recorder, RunFacts
from bench.runner.workload_descriptions import WorkloadDescriptions
from bench.store.columns import LaunchRow, Row
from bench.store.plan_file import plan_json
from bench.store.resume import Earlier, workload_files
from bench.store.writer import Store
from bench.untrusted.text import legible

PROBE_STEPS = 3
SAVED = (
    "scripts run in a folder of their own, which is removed afterwards; what a script saves by an absolute path, or in "
    "a folder of many files, is really saved"
)


class Session:
    """One run, or the rest of one. ``rows`` has all its launches so far, in order, with those of earlier sessions."""

    def __init__(
        self,
        plan: Plan,
        survey: Survey,
        store: Store,
        observer: Observer,
        earlier: Earlier | None = None,
        site: Site | None = None,
        launcher: CaseLauncher | None = None,
        over_nodes: OverNodes = here_alone,
    ) -> None:
        """Set up a session.

        ``site`` is where its ranks run, by default here. Several sessions may share a store, and sessions of one site a
        ``launcher`` with its servers. ``over_nodes`` makes the launcher of this node one of several nodes.
        """
        self.plan, self.survey, self.store, self.site = plan, survey, store, site or Site()
        self.observer, self.notes = observer, Notes(observer)
        self.earlier = EarlierSessions(store.run_id, earlier, self.notes.warn)
        variables = environment.rank_environment()
        host = environment.host_facts(survey.machine, variables, self.site.folder())
        self.facts = RunFacts(survey, variables, host, self.earlier.number, repeatable=self.site.is_here)
        self.recorder = Recorder(store, observer, self.facts, self.earlier.rows)
        log = store.folder / "logs" / "launcher.log"
        self.launcher = launcher or CaseLauncher(
            survey.machine, variables, log, plan.protocol, self.notes.warn, self._progress, self.site, over_nodes
        )
        self.workloads = WorkloadDescriptions(
            self.launcher, survey.machine, lambda: store.new_folder("describe"), self.notes
        )
        self.matmul_peaks = MatmulPeaks(
            *(self.launcher, survey.machine, host, self.site.versions or environment.installed()["torch"]),
            *(lambda: store.new_folder("matmul-peak"), self.notes, plan.protocol.matmul_peak),
        )

    @property
    def rows(self) -> list[LaunchRow]:
        """All launches so far."""
        return self.recorder.rows

    @property
    def preparing_s(self) -> float:
        """Seconds that it took so far to describe workloads and to measure peaks."""
        return self.workloads.seconds + self.matmul_peaks.seconds

    def renew(self) -> None:
        """End the launch servers, so that the next launch comes from a new one."""
        self.launcher.close()

    def close(self) -> None:
        """End the launch servers."""
        self.launcher.close()

    def prepare(self) -> tuple[Planned, ...]:
        """Add what only torch knows to the cases, check that a resumed run has not changed, and write the plan."""
        if any(planned.case.is_script for planned in self.plan.cases):
            self.notes.warn(SAVED)
        cases = self.workloads.complete(self.plan.cases)
        now = _plan_json(dataclasses.replace(self.plan, cases=cases), self.survey.machine, self.facts.host)
        self._plan_json, changes = self.earlier.resumed_plan(now, self.plan, cases)
        self.facts.despite = "; ".join(changes)
        self.store.plan(self._plan_json)
        return cases

    def ready(self, planned: Planned, more: Row | None = None) -> Case | None:
        """Return the case to launch, with a batch size that is searched for if necessary.

        If the case cannot run, return None and write a row with ``more``.
        """
        case, skip = planned.case, planned.skip
        if skip is None and case.auto_batch:
            case, skip = self._with_batch(planned)
        if skip is None:
            description = self.workloads.known(case)
            for warning in self.survey.of_case(case, description.parameters if description else None):
                self.notes.warn(warning)
            if description and description.flops_per_sample:
                self.matmul_peaks.of(case, case.precision)  # now, so that no launch has to wait for it
                interrupts.check()
            return case
        if (case.case_id, None) not in self.earlier.done:
            row = self.blank(case, status="crashed" if planned.failed else "skipped", reason=skip, **(more or {}))
            # The global batch could not be divided; no command gives this case alone.
            self.recorder.record(row | {"command": None} if planned.strong_from else row)
        return None

    def begins(self, case: Case, number: int, of: int, or_more: bool) -> None:
        """Tell the observer that a launch begins."""
        self.observer.launch_begins(case, number, of, or_more)

    def launch(self, case: Case, more: Row, protocol: Settings | None = None) -> LaunchRow:
        """Launch a case, again after a failure of the machine, and record it."""
        opened = self.open(case, more, protocol)
        [row] = launch_and_record([opened], opened)
        return row

    def open(self, case: Case, more: Row, protocol: Settings | None = None) -> Opened:
        """Return a launch that is about to start, with what is known of its row and a folder for its records."""
        interrupts.check()
        protocol = protocol or self.plan.protocol
        row = self.blank(case, protocol, **{"status": "interrupted", "reason": "the run was stopped", **more})
        order = self.store.next_order()
        launch_id = f"{order:04}-{case.case_id}"[:120]
        row |= {"order": order, "started_at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        row |= {"launch_id": launch_id, "attempts": 1}
        description = self.workloads.known(case) or self.workloads.of(case)
        return Opened(self, case, description, protocol, row, self.store.launch_folder(launch_id))

    def blank(self, case: Case, protocol: Settings | None = None, **known: Any) -> Row:
        """Return all that is known of a launch before it starts."""
        return self.recorder.blank(case, protocol or self.plan.protocol, self.workloads.known(case), **known)

    def check(self, row: LaunchRow) -> None:
        """Raise Interrupted after a signal, or IncomparableError if a launch shows that the run has changed."""
        interrupts.check()
        self.site.check(row.sources)
        self.earlier.check(row)

    def _with_batch(self, planned: Planned) -> tuple[Case, str | None]:
        """Return a case with the largest batch that fits, and why it cannot run."""
        answer, words = self._fit(planned)
        case = dataclasses.replace(planned.case, batch_size=answer, auto_batch=answer is None)
        self.facts.searches[case] = words
        if answer is None:
            return case, f"no batch size fits: {words}"
        with contextlib.suppress(BenchError):  # enough is known of the workload to measure it
            self.workloads.of(case)
        return case, refusal(case, facts(self.survey.machine, planned.samples, self.workloads.known(case)))

    def _fit(self, planned: Planned) -> tuple[int | None, str]:
        """Return the largest batch that fits, and how it was found: by probes, or by an earlier session of this run."""
        case, entry = planned.case, next(c for c in self._plan_json["cases"] if c["case_id"] == planned.case.case_id)
        if "search" not in entry:
            shared = case.data_devices * case.micro_batches
            ceiling = max(1, planned.samples // shared) if planned.samples else CEILING
            protocol = probing(self.plan.protocol)
            self.notes.note(f"looking for the largest batch size of {case.case_id}")
            found = search(
                self.workloads.of(case).batch_size,
                ceiling,
                Probes(case, lambda probe: self.launch(probe, {"role": "probe"}, protocol), self.survey.looks),
            )
            entry.update(answer=found.answer, search=found.words)
            self.store.plan(self._plan_json)
        return entry["answer"], entry["search"]

    def _progress(self, beat: Beat) -> None:
        self.observer.progress(beat.done, beat.planned, beat.time_ns)


class Launches(Protocol):
    """One launch, or several at the same time."""

    def launched(self) -> Sequence[Launched]:
        """Launch, wait for the end, and return the result of each."""
        ...


@dataclasses.dataclass
class Opened:
    """A launch that is about to start. ``row`` is what is known of it."""

    session: Session
    case: Case
    description: Description
    protocol: Settings
    row: Row
    folder: Path
    began: float = dataclasses.field(default_factory=lambda: monotonic())

    @property
    def seconds(self) -> float:
        """Seconds since it was opened."""
        return monotonic() - self.began

    def launched(self) -> list[Launched]:
        """Launch it alone, and return the result."""
        return [self.launch(ALONE)]

    def launch(self, role: Role) -> Launched:
        """Launch it in a role, and return the result."""
        return self.session.launcher.launch(self.case, self.description, self.folder, self.protocol, role)

    def again(self, launched: Launched) -> bool:
        """Return whether to launch again after a failure of the machine; the records then get a folder of their own."""
        row = self.row
        if not launched.machine_failure or row["attempts"] == ATTEMPTS or interrupts.pending():
            return False
        row |= {"launch_id": f"{row['launch_id']}-again", "attempts": ATTEMPTS, "first_attempt": launched.row["reason"]}
        self.folder = self.session.store.launch_folder(row["launch_id"])
        self.session.notes.warn(f"launched again after a failure of the machine: {launched.row['reason']}")
        return True

    def lost(self, error: Exception) -> None:
        """Record a launch that a bug of this program ended; the ranks' records have what was measured."""
        reason = f"a bug in stepbench, {type(error).__name__}: {error}; the ranks' records are in {self.folder}"
        self.session.recorder.record(self.row | {"status": "invalid", "reason": reason, "launch_s": self.seconds})

    def closed(self, launched: Launched) -> LaunchRow:
        """Record a launch that has ended, and return its row."""
        earlier = self.session.earlier
        known = {"launch_s": self.seconds, "code_changed": earlier.edited_files(self.row, launched)}
        achieved = self.session.matmul_peaks.columns(self.case, {**self.row, **launched.row}, launched.precision)
        row = legible({**self.row, **launched.row, **achieved, **known})
        if changes := earlier.machine_changes(row):  # a later resume on the original machine launches it again
            row |= {"status": "interrupted", "reason": f"the run was stopped: {'; '.join(changes)}"}
        return self.session.recorder.record(row, launched)


def launch_and_record(opened: Sequence[Opened], launches: Launches) -> list[LaunchRow]:
    """Make launches, again after a failure of the machine, and record each, however it ended."""
    while True:
        try:
            found = launches.launched()
        except BenchError:
            raise
        except Exception as error:
            for one in opened:
                one.lost(error)
            raise
        whose = next((launched for launched in found if launched.machine_failure), found[0])
        if not all([one.again(whose) for one in opened]):
            break
    rows = [one.closed(launched) for one, launched in zip(opened, found, strict=True)]
    for one, row in zip(opened, rows, strict=True):
        one.session.check(row)
    return rows


def begun(plan: Plan, machine: Machine) -> dict[str, Any]:
    """Return the ``plan.json`` of a run before torch was asked: cases have a batch size only if it was given."""
    host = environment.host_facts(machine, environment.rank_environment())
    return {**_plan_json(plan, machine, host), "described": False}


def _plan_json(plan: Plan, machine: Machine, host: Row) -> dict[str, Any]:
    gpus = ", ".join(gpu.name for gpu in machine.gpus)
    known = {**host, **environment.installed(), "gpus": gpus, "workloads": workload_files(plan.cases)}
    return {**plan_json(plan), "facts": known, "described": True}


def probing(protocol: Settings) -> Settings:
    """Return a protocol with as few steps as show the memory that they need."""
    short = dataclasses.replace(protocol, warmup_steps=0, steps=PROBE_STEPS, min_seconds=0.0)
    return dataclasses.replace(short, profile="off", stragglers=False)
