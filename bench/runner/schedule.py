"""Implements ``bench run``: rounds of all cases in a new random order each, as long as there is time for another."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from bench.plan.case import Case
from bench.plan.duration import words
from bench.store.columns import LaunchRow
from bench.store.resume import OUT_OF_MEMORY, out_of_memory

if TYPE_CHECKING:  # type-only import: keeps numpy out of --dry-run
    from bench.runner.run_session import Session


class Rounds:
    """The rounds of a session's plan that are still to be made."""

    def __init__(self, session: Session) -> None:
        self.session, self.protocol = session, session.plan.protocol
        self._out_of_memory = out_of_memory(session.earlier.done)
        self._made = 0  # launches

    def run(self) -> list[LaunchRow]:
        """Make every launch that is still to be made; a case that ran out of memory is not launched again.

        Raise Interrupted after a signal, once the running launch is recorded, and IncomparableError if a resumed run
        has changed.
        """
        session = self.session
        for warning in session.survey.notes():
            session.notes.warn(warning)
        try:
            prepared = session.prepare()
            # A set, as a search may find a batch size that was also asked for.
            self._rounds(list(dict.fromkeys(case for case in map(session.ready, prepared) if case is not None)))
        finally:
            session.close()
        return session.rows

    def _rounds(self, ready: Sequence[Case]) -> None:
        """Make as many rounds as were asked for, or as fit the budget."""
        limit, budget, rounds = self.protocol.launches, self.protocol.budget, 0
        total = sum(len(self._due(self._missing(ready, b))) for b in range(limit or 0)) if budget is None else 0
        for block in itertools.count() if limit is None else range(limit):
            cases = self._missing(ready, block)
            if not ready or (cases and not self._may_begin(block, cases)):
                break
            rounds = block + 1
            self._round(block, cases, total or self._made + len(self._due(cases)))
            # with --retry there may have been other rounds
            alone = block == 0 and not any(row.block for row in self.session.rows)
            if budget is not None and alone and cases and (took := self._spent()) > budget:
                self.session.notes.warn(f"the first round ended after {words(took)}, and the budget is {words(budget)}")
        if budget is not None:
            count = f"{rounds} {'launch' if rounds == 1 else 'launches'} a case"
            self.session.notes.note(f"budget: {count} in {words(self._spent())} of {words(budget)}")

    def _missing(self, ready: Sequence[Case], block: int) -> list[Case]:
        left = [case for case in ready if (case.case_id, block) not in self.session.earlier.done]
        return shuffled(left, block, self.protocol.order_seed)

    def _due(self, cases: Sequence[Case]) -> set[str]:
        """Return the ids of the cases that will be launched, without those that ran out of memory."""
        return {case.case_id for case in cases} - self._out_of_memory

    def _may_begin(self, block: int, cases: Sequence[Case]) -> bool:
        """Return whether there is time for the round.

        The first always runs, and a round that has begun is completed.
        """
        budget, rows = self.protocol.budget, self.session.rows
        begun = any(row.block == block for row in rows if row.role == "measure")
        return budget is None or block == 0 or begun or another_fits(rows, self._due(cases), budget - self._spent())

    def _round(self, block: int, cases: Sequence[Case], of: int) -> None:
        or_more = self.protocol.budget is not None and block + 1 != self.protocol.launches
        for case in cases:
            if case.case_id in self._out_of_memory:
                row = self.session.blank(case, status="skipped", reason=OUT_OF_MEMORY, block=block)
                self.session.recorder.record(row)
                continue
            self._made += 1
            self.session.begins(case, self._made, of, or_more)
            if self.session.launch(case, {"block": block}).status == "oom":
                self._out_of_memory.add(case.case_id)

    def _spent(self) -> float:
        """Return the seconds of all launches, and those that this session took to prepare them."""
        return spent(self.session.rows) + self.session.preparing_s


def shuffled(cases: Iterable[Case], block: int, seed: int) -> list[Case]:
    """Return the cases in the order of a round, which depends on each case alone, so that a resumed run keeps it."""
    return sorted(cases, key=lambda case: hashlib.sha256(f"{seed}/{block}/{case.case_id}".encode()).hexdigest())


def spent(rows: Iterable[LaunchRow]) -> float:
    """Return the seconds that launches have taken, with probes and earlier sessions of the run."""
    return float(sum(row.launch_s or 0 for row in rows))


def another_fits(rows: Sequence[LaunchRow], case_ids: Collection[str], left_s: float) -> bool:
    """Return whether a round of these cases should end within ``left_s`` seconds, by the latest launch of each.

    False if none of those launches was ok: a budget should be spent on results.
    """
    latest = {row.case_id: row for row in rows if row.role == "measure" and row.launch_s is not None}
    due = [latest[case_id] for case_id in case_ids if case_id in latest]
    return any(row.status == "ok" for row in due) and spent(due) <= left_s
