"""``bench run``: every case of a plan once a round, in an order drawn anew, while there is time for another round."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from bench.plan.case import Case
from bench.plan.duration import words
from bench.store.columns import LaunchRow
from bench.store.resume import OUT_OF_MEMORY, out_of_memory

if TYPE_CHECKING:  # numpy comes with it, which who only plans a run has no use for
    from bench.runner.run_session import Session


class Rounds:
    """The rounds that are still to be made of a session's plan."""

    def __init__(self, session: Session) -> None:
        self.session, self.protocol = session, session.plan.protocol
        self._out_of_memory = out_of_memory(session.earlier.done)
        self._made = 0  # launches

    def run(self) -> list[LaunchRow]:
        """Every launch of every case that is still to be made; a case that ran out of memory is not launched again.

        Interrupted is raised once what was running is recorded; IncomparableError if a resumed run is not what it was.
        """
        session = self.session
        for warning in session.survey.notes():
            session.notes.warn(warning)
        try:
            prepared = session.prepare()
            # a set: the answer of a search may be a batch size that is asked for as well
            self._rounds(list(dict.fromkeys(case for case in map(session.ready, prepared) if case is not None)))
        finally:
            session.close()
        return session.rows

    def _rounds(self, ready: Sequence[Case]) -> None:
        """As many as were asked for, or as the budget allows."""
        limit, budget, rounds = self.protocol.launches, self.protocol.budget, 0
        total = sum(len(self._due(self._missing(ready, b))) for b in range(limit or 0)) if budget is None else 0
        for block in itertools.count() if limit is None else range(limit):
            cases = self._missing(ready, block)
            if not ready or (cases and not self._may_begin(block, cases)):
                break
            rounds = block + 1
            self._round(block, cases, total or self._made + len(self._due(cases)))
            alone = block == 0 and not any(row.block for row in self.session.rows)  # --retry may have had others
            if budget is not None and alone and cases and (took := self._spent()) > budget:
                self.session.notes.warn(f"the first round ended after {words(took)}, and the budget is {words(budget)}")
        if budget is not None:
            count = f"{rounds} {'launch' if rounds == 1 else 'launches'} a case"
            self.session.notes.note(f"budget: {count} in {words(self._spent())} of {words(budget)}")

    def _missing(self, ready: Sequence[Case], block: int) -> list[Case]:
        left = [case for case in ready if (case.case_id, block) not in self.session.earlier.done]
        return shuffled(left, block, self.protocol.order_seed)

    def _due(self, cases: Sequence[Case]) -> set[str]:
        """The ids of those that will be launched, and not left out as they ran out of memory."""
        return {case.case_id for case in cases} - self._out_of_memory

    def _may_begin(self, block: int, cases: Sequence[Case]) -> bool:
        """Whether there is time for the round. The first always runs, and one that was begun is completed."""
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
        """Seconds: those of all launches, and those that this session took to look at workloads."""
        return spent(self.session.rows) + self.session.workloads.seconds


def shuffled(cases: Iterable[Case], block: int, seed: int) -> list[Case]:
    """The cases in the order of a round: it depends on each case alone, so that a resumed run keeps to it."""
    return sorted(cases, key=lambda case: hashlib.sha256(f"{seed}/{block}/{case.case_id}".encode()).hexdigest())


def spent(rows: Iterable[LaunchRow]) -> float:
    """Seconds that launches have taken, probes and earlier sessions of the run included."""
    return float(sum(row.launch_s or 0 for row in rows))


def another_fits(rows: Sequence[LaunchRow], case_ids: Collection[str], left_s: float) -> bool:
    """Whether a round of these cases is expected to end within ``left_s`` seconds, by the latest launch of each.

    Not if none of those was ok: a budget is there to be spent on numbers.
    """
    latest = {row.case_id: row for row in rows if row.role == "measure" and row.launch_s is not None}
    due = [latest[case_id] for case_id in case_ids if case_id in latest]
    return any(row.status == "ok" for row in due) and spent(due) <= left_s
