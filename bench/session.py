"""What all that launches has in common: describes the workloads of a plan, launches its cases, and records each end.

Which case is launched when is said by ``bench.rounds`` (``bench run``), ``bench.ab`` and ``bench.check``.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from bench import environment, interrupts
from bench.batch_size import CEILING, Probes, search
from bench.case import Case
from bench.code import FirstSeen, Source
from bench.devices import Machine
from bench.errors import BenchError, IncomparableError, ResultsError
from bench.inputs import absolute_data
from bench.launching import ATTEMPTS, Launched, Launching
from bench.messages import Beat, Description
from bench.options import AXES, SETTINGS
from bench.preflight import Look, case_warnings
from bench.record import FILES, SCHEMA, Row
from bench.resume import (
    Earlier,
    changed_code,
    changed_facts,
    changed_plan,
    changed_rows,
    changed_work,
    workload_files,
)
from bench.rules import refusal
from bench.site import Site
from bench.store import Store
from bench.suite import Plan, Planned, command, facts, joined, plan_case, plan_json
from bench.suite import Protocol as Settings
from bench.text import legible
from bench.workload import parse_workload
from workloads import files

PROBE_STEPS = 3
Key = tuple[str, str, str, str, int | None, bool]


class Observer(Protocol):
    """Who watches a run; ``bench.report.progress`` has those for people."""

    def note(self, message: str) -> None: ...
    def launch_begins(self, case: Case, number: int, of: int, or_more: bool) -> None: ...
    def progress(self, steps_done: int, steps_planned: int, time_ns: int) -> None: ...
    def launch_ends(self, row: Row) -> None: ...


@dataclasses.dataclass
class Opened:
    """A launch that is about to be made. ``row`` is what is known of it, and ``seconds`` how long it has taken."""

    description: Description
    protocol: Settings
    row: Row
    folder: Path
    began: float = dataclasses.field(default_factory=lambda: monotonic())

    @property
    def seconds(self) -> float:
        return monotonic() - self.began


class Session:
    """One run, or what is left of one. ``rows`` holds all its launches so far, earlier ones as well, in order."""

    def __init__(
        self,
        plan: Plan,
        machine: Machine,
        store: Store,
        observer: Observer,
        look: Look | None = None,
        warnings: Sequence[str] = (),
        earlier: Earlier | None = None,
        site: Site | None = None,
        launching: Launching | None = None,
    ) -> None:
        """``site``: where the ranks run, here by default. Several sessions may share a store, and those of one site
        ``launching``, and so its servers."""
        self.plan, self.machine, self.store, self.observer = plan, machine, store, observer
        self.look, self.warnings, self.earlier = look or Look(), tuple(warnings), earlier
        self.rows: list[Row] = list(earlier.rows) if earlier else []
        self._session = earlier.session if earlier else 0
        self.done = earlier.done() if earlier else {}
        self.describing_s = 0.0  # that it took so far to look at workloads
        self._despite = ""
        self._variables = environment.rank_environment()
        log = store.folder / "logs" / "launcher.log"
        self.site = site or Site()
        self._host = environment.host_facts(machine, self._variables, self.site.folder())
        self.launching = launching or Launching(
            machine, self._variables, log, plan.protocol, self.warn, self._progress, self.site
        )
        self._descriptions: dict[Key, Description] = {}
        self._refused: dict[tuple[str, str], BenchError] = {}  # (workload, env) of those that are none
        self._searches: dict[Case, str] = {}
        self._code = FirstSeen(earlier.code() if earlier else ())
        self._told: set[Source] = set()  # that it is not what it was

    def close(self) -> None:
        self.launching.close()

    def renew(self) -> None:
        """The next launch comes from a fresh server."""
        self.launching.close()

    # -- before the first launch ---------------------------------------------------------------------------------

    def prepare(self) -> tuple[Planned, ...]:
        """Fill in what only torch knows, see whether a resumed run still is what it was, and write the plan down."""
        # a batch size may be given, and be the workload's own as well
        planned = self.completed()
        self._plan_json = _plan_json(dataclasses.replace(self.plan, cases=planned), self.machine, self._host)
        if self.earlier:
            self._despite = "; ".join(self._changes(self.earlier, self._plan_json, planned))
            self._plan_json["facts"] = self.earlier.plan["facts"]  # what it began with, however often it is resumed
            answers = self.earlier.answers()
            for case in self._plan_json["cases"]:
                case.update(answers.get(case["case_id"], {}))
        self.store.plan(self._plan_json)
        return planned

    def _changes(self, earlier: Earlier, now: dict[str, Any], planned: Sequence[Planned]) -> list[str]:
        """What changed since the run began; IncomparableError unless that is allowed."""
        keys = {p.case.case_id: self.work_key(p.case) for p in planned if p.case.batch_size}
        asked = now if earlier.described else {**now, **plan_json(self.plan)}
        changes = [*changed_plan(earlier.plan, asked), *changed_facts(earlier.plan["facts"], now["facts"])]
        changes = list(dict.fromkeys([*changes, *changed_code(earlier.code()), *changed_work(earlier.rows, keys)]))
        if changes and not earlier.anyway:
            raise self._not_the_same(changes)
        for change in changes:
            self.warn(f"resumed although it differs: {change}")
        return changes

    def _not_the_same(self, changes: Sequence[str]) -> IncomparableError:
        return IncomparableError(
            f"run {self.store.run_id} is not what it was: {'; '.join(changes)}. Start a new run, or add "
            "--resume-anyway: the rows will say what differs"
        )

    def completed(self) -> tuple[Planned, ...]:
        """The plan with what only torch knows. What is wrong with one workload ends the cases of that one alone; the
        BenchError that says it is raised if no case is left that can run."""
        planned = joined(self.complete(planned) for planned in self.plan.cases)
        if self._refused and all(one.skip for one in planned):
            raise next(iter(self._refused.values()))
        return planned

    def complete(self, planned: Planned) -> Planned:
        if planned.skip is not None:
            return planned
        case = planned.case
        try:
            description = self._describe(case)
            if case.batch_size is None and not case.auto_batch:
                case = dataclasses.replace(case, batch_size=description.batch_size)
                self._descriptions.setdefault(_key(case), description)
            planned = plan_case(case, facts(self.machine, planned.samples, description), planned.strong_from)
            if planned.skip is None and planned.case != case:  # its batch is that of strong scaling
                self._describe(planned.case)
        except ResultsError:
            raise
        except BenchError as error:
            return dataclasses.replace(planned, skip=str(error), failed=True)
        return planned

    def _describe(self, case: Case) -> Description:
        """What torch says of the workload with this batch; BenchError if it is none."""
        key, workload = _key(case), (case.workload, case.env)
        if workload in self._refused:
            raise self._refused[workload]
        if key not in self._descriptions:
            self.note(f"looking at {case.workload}{f', batches of {case.rank_batch}' if case.rank_batch else ''}")
            began = monotonic()
            try:
                found = self.launching.describe(case, lambda: self.store.new_folder("describe"))
            except ResultsError:
                raise
            except BenchError as error:
                self._refused[workload] = error
                raise
            finally:
                self.describing_s += monotonic() - began
            self._descriptions[key] = found
            if found.flops_per_sample is None and found.flops_note:
                self.warn(f"FLOPs of {case.workload} stay empty: {found.flops_note}")
        return self._descriptions[key]

    def _known(self, case: Case) -> Description | None:
        """What has been said of the workload: with this batch, or without FLOPs while one is looked for."""
        if found := self._descriptions.get(_key(case)):
            return found
        other = self._descriptions.get(_key(dataclasses.replace(case, batch_size=None, auto_batch=True)))
        return other and dataclasses.replace(
            other, flops_per_sample=None, hardware_flops_per_sample=None, flops_note="not counted for this batch size"
        )

    def ready(self, planned: Planned, more: Row | None = None) -> Case | None:
        """The case as it is launched, its batch size found if it must be; None, and a row (with ``more``), if it cannot
        run."""
        case, skip = planned.case, planned.skip
        if skip is None and case.auto_batch:
            answer, words = self._fit(planned)
            case = dataclasses.replace(case, batch_size=answer, auto_batch=answer is None)
            self._searches[case] = words
            skip = None if answer else f"no batch size fits: {words}"
            if answer:
                with contextlib.suppress(BenchError):  # of the workload enough is known to measure it
                    self._describe(case)
            skip = skip or refusal(case, facts(self.machine, planned.samples, self._known(case)))
        if skip is None:
            for warning in case_warnings(case, self.look):
                self.warn(warning)
            return case
        if (case.case_id, None) not in self.done:
            row = self.blank(case, "crashed" if planned.failed else "skipped", skip) | (more or {})
            # a batch that could not be shared out: no command gives this case alone
            self.record(row | {"command": None} if planned.strong_from else row)
        return None

    def _fit(self, planned: Planned) -> tuple[int | None, str]:
        """The largest batch that fits and how it was found: by probes, or by an earlier session of this run."""
        case, entry = planned.case, next(c for c in self._plan_json["cases"] if c["case_id"] == planned.case.case_id)
        if "search" not in entry:
            shared = case.devices * case.grad_accum_steps
            ceiling = max(1, planned.samples // shared) if planned.samples else CEILING
            protocol = probing(self.plan.protocol)
            self.note(f"looking for the largest batch size of {case.case_id}")
            found = search(
                self._describe(case).batch_size,
                ceiling,
                Probes(case, lambda probe: self.launch(probe, {"role": "probe"}, protocol), self.look),
            )
            entry.update(answer=found.answer, search=found.words)
            self.store.plan(self._plan_json)
        return entry["answer"], entry["search"]

    # -- one launch ----------------------------------------------------------------------------------------------

    def launch(self, case: Case, more: Row, protocol: Settings | None = None) -> Row:
        """Launch, once more if the machine was in the way, and record it."""
        opened = self.opened(case, more, protocol)
        while True:
            try:
                launched = self.launching.launch(case, opened.description, opened.folder, opened.protocol)
            except BenchError:
                raise
            except Exception as error:
                self.lost(opened, error)
                raise
            if not self.again(opened, launched):
                break
        row = self.closed(opened, launched)
        self.check(row)
        return row

    def begins(self, case: Case, number: int, of: int, or_more: bool) -> None:
        """Tell who watches that a launch begins."""
        self.observer.launch_begins(case, number, of, or_more)

    def opened(self, case: Case, more: Row, protocol: Settings | None = None) -> Opened:
        """A launch that is about to be made: what is known of its row, and a folder for its records."""
        interrupts.check()
        protocol = protocol or self.plan.protocol
        row = {**self.blank(case, "interrupted", "the run was stopped", protocol=protocol), **more}
        order = self.store.next_order()
        launch_id = f"{order:04}-{case.case_id}"[:120]
        row |= {"order": order, "started_at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        row |= {"launch_id": launch_id, "attempts": 1}
        return Opened(self._known(case) or self._describe(case), protocol, row, self.store.launch_folder(launch_id))

    def again(self, opened: Opened, launched: Launched) -> bool:
        """Whether to launch once more, as the machine was in the way; the records have a folder of their own then."""
        row = opened.row
        if not launched.machines_fault or row["attempts"] == ATTEMPTS or interrupts.pending():
            return False
        row |= {"launch_id": f"{row['launch_id']}-again", "attempts": ATTEMPTS, "first_attempt": launched.row["reason"]}
        opened.folder = self.store.launch_folder(row["launch_id"])
        self.warn(f"launched once more, as the machine was in the way: {launched.row['reason']}")
        return True

    def lost(self, opened: Opened, error: Exception) -> None:
        """Record a launch in which we failed; what its ranks have measured is in their records."""
        reason = f"a bug in stepbench, {type(error).__name__}: {error}; the ranks' records are in {opened.folder}"
        self.record(opened.row | {"status": "invalid", "reason": reason, "launch_s": opened.seconds})

    def closed(self, opened: Opened, launched: Launched) -> Row:
        """Record a launch that has ended; its row."""
        known = {"launch_s": opened.seconds, "code_changed": self._edited(opened, launched)}
        row = legible({**opened.row, **launched.row, **known})
        if changes := self._unlike_before(row):  # a resume on the machine that it was will launch it again
            row |= {"status": "interrupted", "reason": f"the run was stopped: {'; '.join(changes)}"}
        self.record(row, launched)
        return row

    def _edited(self, opened: Opened, launched: Launched) -> str | None:
        """The user's files that are not what they were when the run first imported them; warns of each once."""
        edited = self._code.changed(parse_workload(opened.row["workload"]).target, launched.code)
        for source in edited:
            if source not in self._told:
                self.warn(f"{source.name} has changed since the run began; launches with it are a case of their own")
        self._told.update(edited)
        return "; ".join(dict.fromkeys(source.name for source in edited)) or None

    def check(self, row: Row) -> None:
        """Whether to go on after a launch: Interrupted, or IncomparableError if it was not what it was to be."""
        interrupts.check()
        self.site.check(row.get("sources"))
        if changes := self._unlike_before(row):
            raise self._not_the_same(changes)

    def _unlike_before(self, row: Row) -> list[str]:
        """What only ranks know of the machine, and is not what it was in earlier sessions."""
        if not self.earlier or self.earlier.anyway:
            return []
        return changed_rows(self.earlier.rows, {**row, "env_key": row.get("torch") and environment.env_key(row)})

    # -- rows ----------------------------------------------------------------------------------------------------

    def blank(
        self, case: Case, status: str, reason: str, block: int | None = None, protocol: Settings | None = None
    ) -> Row:
        """All that is known of a launch before it is one."""
        protocol = protocol or self.plan.protocol
        description = self._known(case)
        known = {
            "parameters": description.parameters if description else None,
            "tokens_per_sample": description.tokens_per_sample if description else None,
            "work_key": self.work_key(case),
        }
        settings = {**self._variables, **case.environment, "OMP_NUM_THREADS": str(case.omp_num_threads)}
        return {
            "schema": SCHEMA,
            "run_id": self.store.run_id,
            "case_id": case.case_id,
            "role": "measure",
            "block": block,
            "status": status,
            "reason": reason,
            "session": self._session,
            "resumed_despite": self._despite or None,
            **{name: getattr(case, name) for name in AXES},
            **{name: getattr(protocol, name) for name in SETTINGS},
            "oversubscribe": case.oversubscribe,
            "world_size": case.world_size,
            "global_batch": case.global_batch,
            "batch_search": self._searches.get(case),
            "machine_warnings": "; ".join([*self.warnings, *case_warnings(case, self.look)]) or None,
            **known,
            **self._host,
            "settings": environment.settings(settings, always=case.environment),
            "command": command(case, protocol) if self.site.is_here else None,  # bench run has one site
        }

    @staticmethod
    def work_key(case: Case) -> str:
        return environment.work_key(case, files.fingerprint(absolute_data(case.data)))

    def record(self, row: Row, launched: Launched | None = None) -> None:
        """Write a launch down: its row comes last, so that what has a row is there whole."""
        if row.get("torch"):  # else no rank came far enough to say what it runs on
            row["env_key"] = environment.env_key(row)
        row = {**dict.fromkeys(FILES["launches.csv"]), **legible(row)}
        self.rows.append(row)
        identity = {"run_id": row["run_id"], "launch_id": row["launch_id"]}
        for name, rows in (launched.others if launched else {}).items():
            self.store.append(name, [{**identity, **one} for one in rows])
        self.store.append("launches.csv", [row])
        self.observer.launch_ends(row)

    def _progress(self, beat: Beat) -> None:
        self.observer.progress(beat.done, beat.planned, beat.time_ns)

    def warn(self, message: str) -> None:
        self.note(f"warning: {message}")

    def note(self, message: str) -> None:
        self.observer.note(message)


def _key(case: Case) -> Key:
    """What a description depends on: the workload and all that changes the work of its step."""
    return case.workload, case.env, case.data, case.activation_checkpointing, case.rank_batch, case.auto_batch


def begun(plan: Plan, machine: Machine) -> dict[str, Any]:
    """What ``plan.json`` says of a run before torch has been asked: the cases have no batch size but what was given."""
    host = environment.host_facts(machine, environment.rank_environment())
    return {**_plan_json(plan, machine, host), "described": False}


def _plan_json(plan: Plan, machine: Machine, host: Row) -> dict[str, Any]:
    gpus = ", ".join(gpu.name for gpu in machine.gpus)
    known = {**host, **environment.installed(), "gpus": gpus, "workloads": workload_files(plan.cases)}
    return {**plan_json(plan), "facts": known, "described": True}


def probing(protocol: Settings) -> Settings:
    """As few steps as show the memory that they take."""
    return dataclasses.replace(protocol, warmup_steps=0, steps=PROBE_STEPS, min_seconds=0.0)
