"""The earlier sessions of a run: which launches remain valid, and whether the run has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.errors import IncomparableError
from bench.plan.code_key import FirstSeen, Source
from bench.plan.plan import Plan, Planned
from bench.plan.workload_spec import parse_workload
from bench.runner.launched import Launched
from bench.runner.row_recorder import work_key_of
from bench.store.columns import LaunchRow, Row
from bench.store.counting_rows import Key
from bench.store.env_key import env_key
from bench.store.plan_file import plan_json
from bench.store.resume import Earlier, changed_code, changed_facts, changed_plan, changed_rows, changed_work


class EarlierSessions:
    """The earlier sessions of a run that is resumed, ``earlier``; a new run has none."""

    def __init__(self, run_id: str, earlier: Earlier | None, warn: Callable[[str], None]) -> None:
        self._run_id, self._earlier, self._warn = run_id, earlier, warn
        self.done: dict[Key, LaunchRow] = earlier.done() if earlier else {}
        self._code = FirstSeen(earlier.code() if earlier else ())
        self._told: set[Source] = set()  # files that a warning has named

    @property
    def number(self) -> int:
        """The number of this session: how often the run has been resumed."""
        return self._earlier.session if self._earlier else 0

    @property
    def rows(self) -> list[LaunchRow]:
        """The launches of earlier sessions."""
        return list(self._earlier.rows) if self._earlier else []

    def resumed_plan(
        self, now: dict[str, Any], plan: Plan, cases: Sequence[Planned]
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the ``plan.json`` of the resumed run, and what has changed since it began, in words.

        ``now`` is the ``plan.json`` of a new run. Raise IncomparableError for changes, unless they are allowed.
        """
        earlier = self._earlier
        if earlier is None:
            return now, []
        changes = self._changes(earlier, now, plan, cases)
        answers = earlier.answers()
        joined = [case | answers.get(case["case_id"], {}) for case in now["cases"]]
        # Facts stay as they were at the beginning, however often the run is resumed.
        return {**now, "cases": joined, "facts": earlier.plan["facts"]}, changes

    def machine_changes(self, row: Row) -> list[str]:
        """Return, in words, what only ranks know of the machine and what differs from earlier sessions."""
        if not self._earlier or self._earlier.anyway:
            return []
        return changed_rows(self._earlier.rows, {**row, "env_key": row.get("torch") and env_key(row)})

    def check(self, row: LaunchRow) -> None:
        """Raise IncomparableError if a launch shows that the machine has changed."""
        if changes := self.machine_changes(row.columns()):
            raise self._changed_error(changes)

    def edited_files(self, row: Row, launched: Launched) -> str | None:
        """Return the user's files that have changed since the run first imported them, and warn of each once."""
        edited = self._code.changed(parse_workload(row["workload"]).target, launched.code)
        for source in edited:
            if source not in self._told:
                self._warn(
                    f"{source.name} has changed since the run began; launches with the new version are a separate case"
                )
        self._told.update(edited)
        return "; ".join(dict.fromkeys(source.name for source in edited)) or None

    def _changes(self, earlier: Earlier, now: Mapping[str, Any], plan: Plan, cases: Sequence[Planned]) -> list[str]:
        keys = {p.case.case_id: work_key_of(p.case) for p in cases if p.case.batch_size}
        asked = now if earlier.described else {**now, **plan_json(plan)}
        changes = [*changed_plan(earlier.plan, asked), *changed_facts(earlier.plan["facts"], now["facts"])]
        changes = list(dict.fromkeys([*changes, *changed_code(earlier.code()), *changed_work(earlier.rows, keys)]))
        if changes and not earlier.anyway:
            raise self._changed_error(changes)
        for change in changes:
            self._warn(f"resumed although it differs: {change}")
        return changes

    def _changed_error(self, changes: Sequence[str]) -> IncomparableError:
        return IncomparableError(
            f"run {self._run_id} has changed since it began: {'; '.join(changes)}. Start a new run, or add "
            "--resume-anyway: the rows will say what differs"
        )
