"""Runs a plan: describes the workloads, launches every case round by round, and turns each end into a row."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from bench import environment, interrupts
from bench.batch_size import CEILING, search
from bench.case import Case
from bench.devices import Machine
from bench.duration import words
from bench.errors import BenchError, IncomparableError
from bench.launching import ATTEMPTS, Launched, Launching, absolute_data
from bench.messages import Beat, Description
from bench.options import AXES, SETTINGS
from bench.preflight import Look, case_warnings
from bench.record import FILES, SCHEMA, Row
from bench.resume import (
    OUT_OF_MEMORY,
    Earlier,
    changed_facts,
    changed_plan,
    changed_rows,
    changed_work,
    out_of_memory,
    workload_files,
)
from bench.rounds import another_fits, shuffled, spent
from bench.rules import refusal
from bench.site import Site
from bench.store import Store
from bench.suite import Plan, Planned, command, facts, joined, plan_case, plan_json
from bench.suite import Protocol as Settings
from workloads import files

PROBE_STEPS = 3
MEMORY_SHARE = 0.8  # of the host's free memory, that a batch may be expected to need without being tried


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
        self._done = earlier.done() if earlier else {}
        self._out_of_memory = out_of_memory(self._done)
        self._describing_s = 0.0
        self._despite = ""
        self._variables = rank_environment()
        log = store.folder / "logs" / "launcher.log"
        self.site = site or Site()
        self._host = environment.host_facts(machine, self._variables, self.site.folder())
        self.launching = launching or Launching(
            machine, self._variables, log, plan.protocol, self._warn, self._progress, self.site
        )
        self._descriptions: dict[tuple[str, str], Description] = {}
        self._launched = 0  # launches of this session
        self._searches: dict[Case, str] = {}
        self._warned: set[str] = set()

    def run(self) -> list[Row]:
        """Every launch of every case that is still to be made; a case that ran out of memory is not launched again.

        Interrupted is raised once what was running is recorded; IncomparableError if a resumed run is not what it was.
        """
        for warning in filter(None, (self.machine.note, *self.warnings)):
            self._warn(warning)
        try:
            prepared = self.prepare()
            # a set: the answer of a search may be a batch size that is asked for as well
            self._rounds(list(dict.fromkeys(case for case in map(self.ready, prepared) if case is not None)))
        finally:
            self.close()
        return self.rows

    def close(self) -> None:
        self.launching.close()

    def renew(self) -> None:
        """The next launch comes from a fresh server."""
        self.launching.close()

    # -- rounds --------------------------------------------------------------------------------------------------

    def _rounds(self, ready: Sequence[Case]) -> None:
        """Round by round, every case once in each: as many rounds as were asked for, or as the budget allows."""
        limit, budget, first, rounds = self.plan.protocol.launches, self.plan.protocol.budget, self._launched, 0
        total = sum(len(self._due(self._missing(ready, b))) for b in range(limit or 0)) if budget is None else 0
        for block in itertools.count() if limit is None else range(limit):
            cases = self._missing(ready, block)
            if not ready or (cases and not self._may_begin(block, cases)):
                break
            rounds = block + 1
            self._round(block, cases, first, total or self._launched - first + len(self._due(cases)))
            alone = block == 0 and not any(row["block"] for row in self.rows)  # with --retry others may have followed
            if budget is not None and alone and cases and self._spent() > budget:
                self._warn(f"the first round ended after {words(self._spent())}, and the budget is {words(budget)}")
        if budget is not None:
            count = f"{rounds} {'launch' if rounds == 1 else 'launches'} a case"
            self._tell(self.observer.note, f"budget: {count} in {words(self._spent())} of {words(budget)}")

    def _missing(self, ready: Sequence[Case], block: int) -> list[Case]:
        left = [case for case in ready if (case.case_id, block) not in self._done]
        return shuffled(left, block, self.plan.protocol.order_seed)

    def _due(self, cases: Sequence[Case]) -> set[str]:
        """The ids of those that will be launched, and not left out as they ran out of memory."""
        return {case.case_id for case in cases} - self._out_of_memory

    def _may_begin(self, block: int, cases: Sequence[Case]) -> bool:
        """Whether there is time for the round. The first always runs, and one that was begun is completed."""
        budget = self.plan.protocol.budget
        begun = any(row["block"] == block for row in self.rows if row["role"] == "measure")
        if budget is None or block == 0 or begun:
            return True
        return another_fits(self.rows, self._due(cases), budget - self._spent())

    def _round(self, block: int, cases: Sequence[Case], first: int, of: int) -> None:
        or_more = self.plan.protocol.budget is not None and block + 1 != self.plan.protocol.launches
        for case in cases:
            if case.case_id in self._out_of_memory:
                self._record(self._blank(case, "skipped", OUT_OF_MEMORY, block))
                continue
            self.begins(case, self._launched - first + 1, of, or_more)
            if self.launch(case, {"block": block})["status"] == "oom":
                self._out_of_memory.add(case.case_id)

    def _spent(self) -> float:
        """Seconds: those of all launches, and those that this session took to look at workloads."""
        return spent(self.rows) + self._describing_s

    # -- before the first launch ---------------------------------------------------------------------------------

    def prepare(self) -> tuple[Planned, ...]:
        """Fill in what only torch knows, see whether a resumed run still is what it was, and write the plan down."""
        # a batch size may be given, and be the workload's own as well
        planned = joined(self.complete(planned) for planned in self.plan.cases)
        gpus = ", ".join(gpu.name for gpu in self.machine.gpus)
        known = {**self._host, **environment.installed(), "gpus": gpus, "workloads": workload_files(planned)}
        self._plan_json = {**plan_json(dataclasses.replace(self.plan, cases=planned)), "facts": known}
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
        changes = [*changed_plan(earlier.plan, now), *changed_facts(earlier.plan["facts"], now["facts"])]
        changes += changed_work(earlier.rows, keys)
        if changes and not earlier.anyway:
            raise self._not_the_same(changes)
        for change in changes:
            self._warn(f"resumed although it differs: {change}")
        return changes

    def _not_the_same(self, changes: Sequence[str]) -> IncomparableError:
        return IncomparableError(
            f"run {self.store.run_id} is not what it was: {'; '.join(changes)}. Start a new run, or add "
            "--resume-anyway: the rows will say what differs"
        )

    def complete(self, planned: Planned) -> Planned:
        if planned.skip is not None:
            return planned
        case, description = planned.case, self._describe(planned.case)
        if case.batch_size is None and not case.auto_batch:
            case = dataclasses.replace(case, batch_size=description.batch_size)
        return plan_case(case, facts(self.machine, planned.samples, description), planned.strong_from)

    def _describe(self, case: Case) -> Description:
        key = (case.workload, case.activation_checkpointing)
        if key not in self._descriptions:
            self._tell(self.observer.note, f"looking at {case.workload} on the meta device")
            began = monotonic()
            self._descriptions[key] = self.launching.describe(case, lambda: self.store.new_folder("describe"))
            self._describing_s += monotonic() - began
        return self._descriptions[key]

    def ready(self, planned: Planned, more: Row | None = None) -> Case | None:
        """The case as it is launched, its batch size found if it must be; None, and a row (with ``more``), if it cannot
        run."""
        case, skip = planned.case, planned.skip
        if skip is None and case.auto_batch:
            answer, words = self._fit(planned)
            case = dataclasses.replace(case, batch_size=answer, auto_batch=answer is None)
            self._searches[case] = words
            skip = None if answer else f"no batch size fits: {words}"
            skip = skip or refusal(case, facts(self.machine, planned.samples, self._describe(case)))
        if skip is None:
            for warning in case_warnings(case, self.look):
                self._warn(warning)
            return case
        if (case.case_id, None) not in self._done:
            row = self._blank(case, "skipped", skip) | (more or {})
            # a batch that could not be shared out: no command gives this case alone
            self._record(row | {"command": None} if planned.strong_from else row)
        return None

    def _fit(self, planned: Planned) -> tuple[int | None, str]:
        """The largest batch that fits and how it was found: by probes, or by an earlier session of this run."""
        entry = next(c for c in self._plan_json["cases"] if c["case_id"] == planned.case.case_id)
        if "search" not in entry:
            shared = planned.case.devices * planned.case.grad_accum_steps
            ceiling = max(1, planned.samples // shared) if planned.samples else CEILING
            first = self._describe(planned.case).batch_size
            protocol = probing(self.plan.protocol)
            grown: dict[int, float] = {}  # what a batch made a rank grow by, in MiB
            self._tell(self.observer.note, f"looking for the largest batch size of {planned.case.case_id}")

            def attempt(batch: int) -> str:
                case = dataclasses.replace(planned.case, batch_size=batch, auto_batch=False)
                if case.device == "cpu" and self._too_much(batch, grown, case.world_size):
                    return "not tried (would need most of the host's memory)"
                row = self.launch(case, {"role": "probe"}, protocol)
                if row.get("rss_growth_mib"):
                    grown[batch] = row["rss_growth_mib"]
                return str(row["status"])

            found = search(first, ceiling, attempt)
            entry.update(answer=found.answer, search=found.words)
            self.store.plan(self._plan_json)
        return entry["answer"], entry["search"]

    def _too_much(self, batch: int, grown: dict[int, float], ranks: int) -> bool:
        """Whether ``batch`` would take the host's memory from others, by what the largest one so far has taken."""
        smaller = [b for b in grown if b < batch]
        if not smaller or self.look.memory_available_mib is None:
            return False
        expected = grown[max(smaller)] * batch / max(smaller) * ranks
        return expected > MEMORY_SHARE * self.look.memory_available_mib

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
        self._tell(self.observer.launch_begins, case, number, of, or_more)

    def opened(self, case: Case, more: Row, protocol: Settings | None = None) -> Opened:
        """A launch that is about to be made: what is known of its row, and a folder for its records."""
        interrupts.check()
        protocol = protocol or self.plan.protocol
        row = {**self._blank(case, "interrupted", "the run was stopped", protocol=protocol), **more}
        order = self.store.next_order()
        launch_id = f"{order:04}-{case.case_id}"[:120]
        row |= {"order": order, "started_at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        row |= {"launch_id": launch_id, "attempts": 1}
        self._launched += 1
        return Opened(self._describe(case), protocol, row, self.store.launch_folder(launch_id))

    def again(self, opened: Opened, launched: Launched) -> bool:
        """Whether to launch once more, as the machine was in the way; the records have a folder of their own then."""
        row = opened.row
        if not launched.machines_fault or row["attempts"] == ATTEMPTS or interrupts.pending():
            return False
        row |= {"launch_id": f"{row['launch_id']}-again", "attempts": ATTEMPTS, "first_attempt": launched.row["reason"]}
        opened.folder = self.store.launch_folder(row["launch_id"])
        self._warn(f"launched once more, as the machine was in the way: {launched.row['reason']}")
        return True

    def lost(self, opened: Opened, error: Exception) -> None:
        """Record a launch in which we failed; what its ranks have measured is in their records."""
        reason = f"a bug in stepbench, {type(error).__name__}: {error}; the ranks' records are in {opened.folder}"
        self._record(opened.row | {"status": "invalid", "reason": reason, "launch_s": opened.seconds})

    def closed(self, opened: Opened, launched: Launched) -> Row:
        """Record a launch that has ended; its row."""
        row = {**opened.row, **launched.row, "launch_s": opened.seconds}
        if changes := self._unlike_before(row):  # a resume on the machine that it was will launch it again
            row |= {"status": "interrupted", "reason": f"the run was stopped: {'; '.join(changes)}"}
        self._record(row, launched)
        return row

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

    def _blank(
        self, case: Case, status: str, reason: str, block: int | None = None, protocol: Settings | None = None
    ) -> Row:
        """All that is known of a launch before it is one."""
        protocol = protocol or self.plan.protocol
        description = self._descriptions.get((case.workload, case.activation_checkpointing))
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

    def _record(self, row: Row, launched: Launched | None = None) -> None:
        """Write a launch down: its row comes last, so that what has a row is there whole."""
        if row.get("torch"):  # else no rank came far enough to say what it runs on
            row["env_key"] = environment.env_key(row)
        row = {**dict.fromkeys(FILES["launches.csv"]), **row}
        self.rows.append(row)
        identity = {"run_id": row["run_id"], "launch_id": row["launch_id"]}
        for name, rows in (launched.others if launched else {}).items():
            self.store.append(name, [{**identity, **one} for one in rows])
        self.store.append("launches.csv", [row])
        self._tell(self.observer.launch_ends, row)

    def _progress(self, beat: Beat) -> None:
        self._tell(self.observer.progress, beat.done, beat.planned, beat.time_ns)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self._tell(self.observer.note, f"warning: {message}")

    @staticmethod
    def _tell(say: Callable[..., None], *what: object) -> None:
        """Nothing is lost because nobody listens any more: a terminal that has gone is no reason to stop."""
        with contextlib.suppress(OSError):
            say(*what)


def probing(protocol: Settings) -> Settings:
    """As few steps as show the memory that they take."""
    return dataclasses.replace(protocol, warmup_steps=0, steps=PROBE_STEPS, min_seconds=0.0)


def rank_environment() -> dict[str, str]:
    """The environment of every rank, less what a case decides: nothing of the user's folder may shadow our modules."""
    return {**os.environ, "PYTHONSAFEPATH": "1"}
