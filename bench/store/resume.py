"""Resuming a run: what remains to be done, and whether anything has changed since it began."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import ResultsError
from bench.machine.hardware import FACTS
from bench.messages.rank_record import RankRecord
from bench.plan.case import Case
from bench.plan.code_key import Code, Source, digest, other_now
from bench.plan.options import RETRY
from bench.plan.plan import Plan, Planned, joined
from bench.plan.workload_spec import parse_workload
from bench.store.columns import LaunchRow
from bench.store.counting_rows import Key, latest
from bench.store.env_key import MACHINE_COLUMNS
from bench.store.environment_diff import between
from bench.store.hardware_facts import HARDWARE
from bench.store.plan_file import asked_of, case_of, read_plan
from bench.untrusted.rank_files import NonsenseError, read_json

OUT_OF_MEMORY = "it ran out of memory in an earlier launch"
CHANGED = "has changed"
TOLD_BY_RANKS = ("device_name", "cuda", "cudnn", "nccl")


@dataclass(frozen=True)
class Earlier:
    """A run so far: its folder, plan and rows.

    ``retry``: statuses whose launches are repeated. ``anyway``: resume even if something has changed.
    """

    folder: Path
    plan: Mapping[str, Any]
    retry: frozenset[str] = frozenset()
    anyway: bool = False
    rows: tuple[LaunchRow, ...] = ()

    def code(self) -> list[tuple[str, Code]]:
        """Return (workload target, the user's files that it imported) for the first launch of each case."""
        first = {row.case_id: row for row in reversed(self.rows) if row.launch_id and row.workload}
        return [
            (parse_workload(str(row.workload)).target, _code(self.folder / "logs" / str(row.launch_id)))
            for row in reversed(first.values())
        ]

    @property
    def session(self) -> int:
        """Number of the session that begins now."""
        return max((row.session or 0 for row in self.rows), default=0) + 1

    @property
    def described(self) -> bool:
        """Whether the plan of the run has the descriptions of its workloads."""
        return bool(self.plan.get("described", True))

    def done(self) -> dict[Key, LaunchRow]:
        """Return the rows whose launches are not repeated: (case_id, block) -> row."""
        return {key: row for key, row in latest(self.rows).items() if not self._again(row)}

    def answers(self) -> dict[str, dict[str, Any]]:
        """Return the results of searches for a batch size: case_id as planned -> ``answer`` and ``search``."""
        searched = {case["case_id"]: case for case in self.plan["cases"] if "search" in case}
        return {
            case_id: {"answer": case["answer"], "search": case["search"]}
            for case_id, case in searched.items()
            if case["answer"] or "skipped" not in self.retry
        }

    def _again(self, row: LaunchRow) -> bool:
        if row.status == "skipped" and row.reason == OUT_OF_MEMORY:
            return "oom" in self.retry
        return row.status == "interrupted" or row.status in self.retry


def _code(folder: Path) -> Code:
    """Return the user's files that the ranks of a launch imported; missing and damaged records are skipped."""
    found: set[Source] = set()
    for file in sorted(folder.glob("rank*.json")):
        with contextlib.suppress(NonsenseError):
            record = read_json(file, RankRecord)
            found.update(record.code if record else ())
    return frozenset(found)


def earlier_run(folder: Path, retry: frozenset[str], anyway: bool) -> Earlier:
    """Return the run in ``folder``, without its rows; ResultsError if its plan cannot be read."""
    try:
        plan = read_plan(folder)
    except ResultsError as error:
        fields = {**error.fields, "hint": "Start a new run."}
        raise ResultsError(f"cannot resume {folder.name}: {error.message}", **fields) from None
    return Earlier(folder, plan, retry, anyway)


def statuses(retry: Iterable[str]) -> frozenset[str]:
    """Return the statuses that the words of ``--retry`` stand for."""
    return frozenset(status for word in retry for status in RETRY[word])


def out_of_memory(done: Mapping[Key, LaunchRow]) -> set[str]:
    """Return the cases that ran out of memory and are not launched again."""
    return {case_id for (case_id, _), row in done.items() if row.status == "oom"}


def so_far(plan: Plan, earlier: Earlier) -> Plan:
    """Return a resumed run's plan with what the run has found: batch sizes, and cases that run out of memory.

    If the request has changed since the run began, its batch sizes are left as requested.
    """
    cases = plan.cases
    if plan.asked == asked_of(earlier.plan):
        now = {planned.case: planned for planned in plan.cases if planned.case.batch_size or planned.case.auto_batch}
        answers = earlier.answers()
        cases = joined(_as_found(entry, now, answers.get(entry["case_id"])) for entry in earlier.plan["cases"])
    ended = out_of_memory(earlier.done())
    found = (
        dataclasses.replace(p, skip=OUT_OF_MEMORY) if p.skip is None and p.case.case_id in ended else p for p in cases
    )
    return dataclasses.replace(plan, cases=tuple(found))


def _as_found(entry: Mapping[str, Any], now: Mapping[Case, Planned], answer: Mapping[str, Any] | None) -> Planned:
    """Return a case of a ``plan.json`` as planned ``now`` or, if that has no batch size yet, as in the file."""
    case = case_of(entry)
    planned = now.get(case) or Planned(case, entry["skip"], None, entry.get("strong_from"))
    if answer is None:
        return planned
    if not answer["answer"]:
        return dataclasses.replace(planned, skip=f"no batch size fits: {answer['search']}")
    return dataclasses.replace(planned, case=dataclasses.replace(case, batch_size=answer["answer"], auto_batch=False))


def changed_plan(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences between two ``plan.json``, in words."""
    said = [
        f"{name}: {old['protocol'].get(name)} when it began, {value} now"
        for name, value in new["protocol"].items()
        if old["protocol"].get(name) != value
    ]
    before, now = ([case["case_id"] for case in plan["cases"]] for plan in (old, new))
    return [*said, *_listed("cases no longer asked for", before, now), *_listed("new cases", now, before)]


def changed_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences in stepbench, machine and software that are known before a rank runs."""
    of_machine = [name for name in MACHINE_COLUMNS if name not in TOLD_BY_RANKS]
    said = _said(old, new, ["tool_version", "tool_commit", *of_machine, "settings", HARDWARE])
    if old.get("gpus") != new.get("gpus"):
        said.append(f"gpus: {old.get('gpus') or 'none'} when it began, {new.get('gpus') or 'none'} now")
    before, now = old.get("workloads") or {}, new.get("workloads") or {}
    return said + [f"{file} {CHANGED}" for file in now if before.get(file, now[file]) != now[file]]


def changed_code(earlier: Iterable[tuple[str, Code]]) -> list[str]:
    """Return the imported files that have changed since, in words."""
    return [f"{file} {CHANGED}" for file in other_now({source for _, code in earlier for source in code})]


def changed_work(rows: Iterable[LaunchRow], keys: Mapping[str, str]) -> list[str]:
    """Return the cases whose data or other work has changed, in words; ``keys``: case_id -> work_key."""
    before = {row.case_id: row.work_key for row in rows}
    other = [case_id for case_id, key in keys.items() if before.get(case_id, key) != key]
    return _listed("other data or work now in", other, ())


def workload_files(planned: Iterable[Planned]) -> dict[str, str]:
    """Return the user's workload files with a hash of each."""
    specs = [p.case.spec for p in planned if p.case.spec.entry is None and p.case.spec.script != "module"]
    paths = {spec.target if spec.script else spec.target.rpartition(":")[0] for spec in specs}
    files = [Path(path) for path in sorted(paths) if path.endswith(".py") and os.path.isfile(path)]
    return {str(file.resolve()): digest(file.read_bytes()) for file in files}


def changed_rows(rows: Iterable[LaunchRow], row: Mapping[str, Any]) -> list[str]:
    """Return how the first launch of a resumed run differs from earlier ones, in what only ranks can report."""
    alike = [r for r in rows if r.env_key and r.device == row["device"]]
    same = [r for r in alike if r.case_id == row["case_id"]]
    if not alike or not row.get("env_key"):
        return []
    # Another case may use other devices, and has settings of its own.
    columns = (
        [*MACHINE_COLUMNS, "settings", HARDWARE, "nodes", "interface"]
        if same
        else [c for c in MACHINE_COLUMNS if c != "device_name"]
    )
    return _said((same or alike)[0].columns(), row, columns)


def _said(old: Mapping[str, Any], new: Mapping[str, Any], columns: Collection[str]) -> list[str]:
    """Return differences in words, but not all of the machine: other facts than those in env_key may change.

    So may the memory by a little, after an update of the kernel.
    """
    found = between(old, new, columns)
    return [d.words("when it began", "now") for d in found if d.in_env_key or d.name not in (*MACHINE_COLUMNS, *FACTS)]


def _listed(what: str, some: Collection[str], others: Collection[str]) -> list[str]:
    missing = [name for name in some if name not in others]
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return [f"{what}: {', '.join(missing[:3])}{more}"] if missing else []
