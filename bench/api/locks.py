"""``bench.lock``: counts the work of cases, writes it to a lock, and compares the present code with one."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.keywords import ASKING, asked_for, takes
from bench.api.runs import measure, silent
from bench.api.signals import recorded_first
from bench.errors import EXIT_FAILED, EXIT_INCOMPARABLE, EXIT_OK, BenchError, IncomparableError, UsageError
from bench.locking import lock_file
from bench.locking.changes import changes, comparable_anyway, in_words
from bench.locking.counted_cases import locked
from bench.locking.lock_file import Lock, LockedCase
from bench.machine.gpus import this_machine
from bench.messages.counts import CountLine
from bench.plan.case import Case
from bench.plan.options import FAKE_RANKS, Value
from bench.plan.plan import Asked, make_plan
from bench.plan.plan import asked as asked_of
from bench.stats.verdict import EXIT_SLOWER
from bench.store.columns import COUNTED, LaunchRow
from bench.store.reader import read
from bench.untrusted.files import write_bytes

if TYPE_CHECKING:
    from bench.runner.row_recorder import Observer

FILE = "bench.lock"
# As few steps as possible: counts do not depend on how many there are.
LEAST: dict[str, Value] = {
    **{"warmup_steps": 3, "steps": 2, "min_seconds": 0.0, "max_seconds": 0.0},
    **{"count_work": True, "matmul_peak": "off"},
}
WRITING, CHECKING = 2, 1  # Launches of a case.
SAME, MORE, LESS, NEW, FAILED, OTHER = "same", "more", "less", "new", "failed", "incomparable"
CODES = {FAILED: EXIT_FAILED, OTHER: EXIT_INCOMPARABLE, NEW: EXIT_INCOMPARABLE, MORE: EXIT_SLOWER}
STRENGTH = (EXIT_INCOMPARABLE, EXIT_FAILED, EXIT_SLOWER, EXIT_OK)


@dataclass(frozen=True)
class Found:
    """The result for one case: its verdict, and what changed, a line each."""

    case_id: str
    verdict: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class LockResult:
    """The result for all cases; ``lock`` is the present work of those that could be counted."""

    file: Path
    found: tuple[Found, ...]
    lock: Lock = field(repr=False)
    wrote: bool = False

    @property
    def exit_code(self) -> int:
        """0: as much work or less, or written; 1: more, 4: not comparable, 5: a launch failed."""
        codes = {CODES.get(one.verdict, EXIT_OK) for one in self.found if not self.wrote or one.verdict == FAILED}
        return next((code for code in STRENGTH if code in codes), EXIT_OK)

    @property
    def text(self) -> str:
        """The result in words, a line for each case and each change."""
        return "\n".join(line for one in self.found for line in (f"{one.verdict:<12} {one.case_id}", *_indented(one)))


def _indented(found: Found) -> list[str]:
    return [f"             {line}" for line in found.lines]


@takes(*ASKING, FAKE_RANKS.name)
def lock(
    *,
    file: str | Path = FILE,
    check: bool = False,
    any_torch: bool = False,
    observer: Observer | None = None,
    **options: Any,
) -> LockResult:
    """Count the work of cases, and write it to a lock; with ``check`` compare it with the lock instead.

    The keywords are the options of ``bench run``; without any, the cases are those of the lock. ``fake_ranks`` in place
    of ``gpus`` counts collectives and memory of rank 0 of so many ranks, in one process. ``any_torch``: compare
    what can be compared with a lock of another version of torch. Raises a child of BenchError.
    """
    with recorded_first():
        make = checked if check else written
        return make(Path(file), lock_request(options), observer or silent(), any_torch)


def lock_request(options: Mapping[str, Any]) -> Asked | None:
    """Return the request of options, None without any; UsageError for what fake ranks exclude."""
    given = {name: value for name, value in options.items() if value is not None}
    if FAKE_RANKS.name in given:
        for name, value in given.items():
            if (name in ("gpus", "oversubscribe", "scaling") and value is not False) or (
                name == "device" and value not in ("cpu", ["cpu"])
            ):
                raise UsageError(
                    f"{FAKE_RANKS.flag} is the number of ranks, in one process on the CPU",
                    option=f"--{name}",
                    given=value,
                    hint=f"Leave --{name} out, or {FAKE_RANKS.flag}.",
                )
    return asked_for(given, also=(FAKE_RANKS.name,)) if given else None


def checked(file: Path, wanted: Asked | None, observer: Observer, any_torch: bool = False) -> LockResult:
    """Compare the present work of cases with a lock. The caller defers signals."""
    before = lock_file.read(file)
    here = _torch()
    if before.counting != lock_file.COUNTING:
        raise IncomparableError(
            f"{file} has counts of version {before.counting}, and this stepbench counts by {lock_file.COUNTING}",
            hint="Write the lock anew: bench lock --update",
        )
    if before.torch != here and not any_torch:
        raise IncomparableError(
            f"{file} is of torch {before.torch}, and torch {here} is installed",
            option="--any-torch",
            hint="Install that version, write the lock anew (bench lock --update), or compare what does not depend on "
            "torch with --any-torch.",
        )
    if not before.cases:
        raise IncomparableError(f"{file} has no cases", hint="Add one: bench lock --workload NAME --strategy ddp")
    elsewhere = _elsewhere(before) if wanted is None else {}
    todo = wanted or _asked_again(file, before, [case_id for case_id in before.cases if case_id not in elsewhere])
    present, failed = count(todo, CHECKING, observer) if todo else (Lock(here), {})
    same_torch = before.torch == here
    found = [Found(case_id, OTHER, (why,)) for case_id, why in elsewhere.items()]
    found += [Found(case_id, FAILED, (why,)) for case_id, why in failed.items()]
    for case_id, case in present.cases.items():
        found.append(_compared(case_id, before, case, file, same_torch))
    return LockResult(file, tuple(sorted(found, key=lambda one: one.case_id)), present)


def written(file: Path, wanted: Asked | None, observer: Observer, any_torch: bool = False) -> LockResult:
    """Count cases, and write them to the lock; other cases of the lock stay. The caller defers signals."""
    before = lock_file.read(file) if file.exists() else None
    if wanted is None and before is None:
        raise UsageError(
            f"there is no lock {file} to update", option="--file", hint="Say what to count: bench lock --workload NAME"
        )
    here = _torch()
    keeps = before if wanted is not None else None  # with all cases counted anew, nothing is left of another torch
    if keeps and (keeps.torch != here or keeps.counting != lock_file.COUNTING):
        raise IncomparableError(
            f"{file} has counts of version {keeps.counting} by torch {keeps.torch}; here it is torch {here}, "
            f"version {lock_file.COUNTING}",
            hint="Count all its cases anew first: bench lock --update",
        )
    todo = wanted or _asked_again(file, before or Lock(here), list((before or Lock(here)).cases))
    assert todo is not None
    present, failed = count(todo, WRITING, observer)
    found = [Found(case_id, FAILED, (why,)) for case_id, why in failed.items()]
    for case_id, case in present.cases.items():
        if before and case_id in before.cases:
            found.append(_compared(case_id, before, case, file, before.torch == here))
        else:
            found.append(Found(case_id, NEW))
    kept = dict(before.cases) if before and wanted is not None else {}
    tolerance = before.tolerance if before else present.tolerance
    whole = dataclasses.replace(present, cases={**kept, **present.cases}, tolerance=tolerance)
    if present.cases:
        write_bytes(file, whole.text().encode())
    return LockResult(file, tuple(sorted(found, key=lambda one: one.case_id)), whole, wrote=True)


def count(wanted: Asked, launches: int, observer: Observer) -> tuple[Lock, dict[str, str]]:
    """Launch the cases, and return their counts, and for each case that could not be counted the reason."""
    wanted = dataclasses.replace(wanted, settings={**wanted.settings, **LEAST, "launches": launches, "budget": None})
    with tempfile.TemporaryDirectory(prefix="bench-lock-") as out:
        counting = _Counting(observer)
        run = measure(wanted, Path(out), counting)
        lines = _lines(run.folder / "counts.csv", observer.note)
    by_case: dict[str, list[LaunchRow]] = {}
    for row in run.rows:
        by_case.setdefault(str(row.case_id), []).append(row)
    failed = {case_id: why for case_id, rows in by_case.items() if (why := _failure(rows, lines))}
    cases = {
        case_id: locked(counting.cases[case_id], [lines[str(row.launch_id)] for row in rows])
        for case_id, rows in by_case.items()
        if case_id not in failed
    }
    return Lock(_torch(), cases), failed


class _Counting:
    """Tells an observer which case is being counted, and nothing about times, nor how busy the machine is."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.cases: dict[str, Case] = {}

    def note(self, message: str) -> None:
        """Leave out what is about times."""

    def launch_begins(self, case: Case, number: int, of: int, or_more: bool) -> None:
        """Say which case it is."""
        self.cases[case.case_id] = case
        self._observer.note(f"counting {case.case_id} ({number} of {of})")

    def progress(self, steps_done: int, steps_planned: int, time_ns: int) -> None:
        """Leave out how far it is."""

    def launch_ends(self, row: LaunchRow) -> None:
        """Leave out the speed."""


def _failure(rows: Sequence[LaunchRow], lines: Mapping[str, Sequence[CountLine]]) -> str:
    for row in rows:
        if row.status != "ok":
            return f"{row.status}: {row.reason}"
        if row.launch_id not in lines:
            return f"not counted: {row.counts_note or 'its ranks left no counts'}"
    return ""


def _lines(file: Path, warn: Callable[[str], None]) -> dict[str, list[CountLine]]:
    """Return the lines of counts.csv by launch."""
    found: dict[str, list[CountLine]] = {}
    for row in read(file, warn):
        values = {name: row[name] for name in COUNTED} | {name: row[name] or "" for name in ("name", "type")}
        found.setdefault(row["launch_id"], []).append(CountLine(**values))
    return found


def _compared(case_id: str, before: Lock, now: LockedCase, file: Path, same_torch: bool) -> Found:
    if case_id not in before.cases:
        return Found(case_id, NEW, (f"{file} does not have this case; add it with bench lock and the same options",))
    found = changes(before.cases[case_id], now, before.tolerance)
    if not same_torch:
        found = [change for change in found if comparable_anyway(change.path)]
    verdict = MORE if any(change.more for change in found) else LESS if found else SAME
    return Found(case_id, verdict, tuple(in_words(found)))


def _elsewhere(before: Lock) -> dict[str, str]:
    """Return the locked cases that this machine is no judge of, as it lacks their device."""
    there = len(this_machine().gpus)
    return {
        case_id: f"locked on {case.axes['gpus']} GPUs, and this machine has {there or 'none'}"
        for case_id, case in before.cases.items()
        if case.axes.get("device", "cpu") != "cpu" and int(str(case.axes.get("gpus", 1))) > there
    }


def _asked_again(file: Path, before: Lock, case_ids: Sequence[str]) -> Asked | None:
    """Return the request for some locked cases."""
    matrices: list[Any] = []
    for case_id in case_ids:
        try:
            one = asked_of(axes={name: [value] for name, value in before.cases[case_id].axes.items()}, settings={})
            [planned] = make_plan(one, this_machine()).cases
        except BenchError as error:
            raise error.at(f"{file}: {case_id}") from None
        if planned.case.case_id != case_id:
            raise UsageError(
                option=f"{file}: {case_id}",
                given=planned.case.case_id,
                allowed="a name of a case that follows from its axes",
                hint="Undo the change of the lock, or remove the case and add it with bench lock.",
            )
        matrices += one.matrices
    return Asked(matrices=tuple(matrices)) if matrices else None


def _torch() -> str:
    """Return the version of torch without its build, such as +cu130."""
    try:
        return importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        raise UsageError("torch is not installed", hint="Install it: pip install torch") from None
