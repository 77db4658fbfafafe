"""Measures two sides in blocks of launches A B B A, with new servers for each block, and candidates once more."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.comparison.duet import Duet, both_fit
from bench.comparison.one_sided import OneSided
from bench.comparison.sides import Side
from bench.errors import IncomparableError, UsageError
from bench.messages.spec import SIDES
from bench.plan.case import Case
from bench.plan.options import AXES
from bench.plan.plan import Plan, Planned
from bench.runner.run_session import Session, launch_and_record, probing
from bench.stats.ab_gate import LEAST_LAUNCHES, NOT_THERE, failures, for_second_stage
from bench.stats.first_look import LOOK
from bench.stats.power import Blocks
from bench.stats.verdict import SoFar
from bench.store.columns import LaunchRow, Row

CONTROL = "control"
SET_BATCHES = {"workload", "batch_size", "gpus", "strategy", "grad_accum_steps"}  # Axes that determine the batch.
PARTS = ("first look", "first stage", "second stage")
ORDERS = ("ABBA", "BAAB")  # In both orders a linear drift cancels.


@dataclass(frozen=True, eq=False)
class Pair:
    """A case on both sides. ``name``: the case_id of side A."""

    name: str
    sides: Mapping[str, Planned]
    role: str = "measure"


def pairs(plans: Mapping[str, Plan], sides: Sequence[Side]) -> list[Pair]:
    """Match cases on the axes that neither side overrides; a lone pair always matches.

    UsageError if a case has no match; IncomparableError if batch sizes differ that neither side overrides.
    """
    own = {axis for side in sides for axis in side.axes}
    if not own & SET_BATCHES:
        _check_batches(plans)
    names = [name for name in AXES if name not in own]
    found: dict[str, dict[object, Planned]] = {}
    for side, plan in plans.items():
        keyed = {tuple(getattr(p.case, name) for name in names): p for p in plan.cases}
        if len(keyed) < len(plan.cases) or any(p.case.auto_batch for p in plan.cases):
            raise UsageError(
                f"side {side} has several cases that differ only in what the sides set, or --batch-size auto",
                option=f"--{side.lower()}",
                hint="Give each side one value of what the sides differ in, and a batch size.",
            )
        found[side] = dict(keyed)
    a, b = (found[side.name] for side in sides)
    if len(a) == len(b) == 1:
        b = dict(zip(a, b.values(), strict=True))
    alone = [planned.case.case_id for key, planned in [*a.items(), *b.items()] if key not in a or key not in b]
    if alone:
        raise UsageError(
            f"{alone[0]} is a case of one side only: what the sides set changes other axes as well",
            hint="Set those on both sides (--a, --b), or compare one such case at a time.",
        )
    return [Pair(a[key].case.case_id, {sides[0].name: a[key], sides[1].name: b[key]}) for key in a]


def _check_batches(plans: Mapping[str, Plan]) -> None:
    """Raise IncomparableError if a workload's own batch size differs between its revisions."""
    a, b = (
        {(p.case.workload, p.case.batch_size) for p in plan.cases if p.skip is None and p.case.batch_size}
        for plan in plans.values()
    )
    for (workload, of_a), (_, of_b) in zip(sorted(a - b), sorted(b - a), strict=False):
        raise IncomparableError(
            f"A and B do different work: the batch size of {workload} is {of_a} in A and {of_b} in B",
            option="--batch-size",
            hint="Give --batch-size.",
        )


class Ab:
    """The launches of a comparison; each row has its pair, side, stage, block and turn."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        sessions: Mapping[str, Session],
        blocks: Mapping[str, Blocks] | None,
        seed: int,
        tell: Callable[[str], None],
        duet: bool = False,
        block_ends: Callable[[SoFar], None] = lambda _: None,
        look: Callable[[Sequence[LaunchRow]], Mapping[str, Blocks]] | None = None,
        one_sided: Sequence[OneSided] = (),
    ) -> None:
        """Prepare the comparison; nothing is launched.

        ``sessions``: by side. If each side has its own servers, as in a duet, a third session CONTROL runs side A
        against itself. ``block_ends`` is called after each block. ``look`` is called once, after LOOK blocks of each
        pair, and returns the number of blocks of those that did not fail; without ``blocks`` it decides on it. The
        cases of ``one_sided`` are launched first, on their side.
        """
        self.pairs, self.sessions, self.tell, self.duet = list(pairs), sessions, tell, duet
        self.one_sided = list(one_sided)
        look_only = {pair.name: Blocks(LOOK, 0) for pair in pairs}
        self.blocks: Mapping[str, Blocks] = look_only if blocks is None else blocks
        self._random, self._block_ends, self._look = random.Random(seed), block_ends, look
        self._part = PARTS[0 if blocks is None else 1]
        self._failed: set[Pair] = set()
        self._made = self._due = 0  # Launches of the stage.
        self._cases: dict[tuple[str, str], Case] = {}

    @property
    def rows(self) -> list[LaunchRow]:
        """Rows of all sessions in the order of their launches."""
        rows = {id(row): row for session in self.sessions.values() for row in session.rows}
        return sorted(rows.values(), key=lambda row: (row.order is None, row.order))

    def run(self) -> None:
        """Run both stages, each with a control pair: the first case against itself, or another if that failed."""
        for alone in self.one_sided:
            self._alone(alone)
        ready = [pair for pair in self.pairs if self._ready(pair)]
        control = list(map(self._control, ready[:1]))
        self._check_memory([*ready, *control])
        self.stage(1, [*ready, *control])
        others = iter(ready[1:])
        while control and control[0] in self._failed and (other := next(others, None)):
            if other not in self._failed:
                self.tell(f"the control pair failed: {other.name} takes its place")
                control = [self._control(other)]
                self.stage(1, control)
        again = set(for_second_stage(self.rows))
        chosen = [pair for pair in ready if pair.name in again]
        if chosen and control[0] not in self._failed:
            self.tell(f"{len(chosen)} of {len(ready)} cases may differ: fresh launches decide")
            self.stage(2, [*chosen, *control])

    def _alone(self, alone: OneSided) -> None:
        """Launch a case on the only side that has it, each time from a new server, and record what the other lacks."""
        has, case = next(side for side in SIDES if side != alone.lacks), alone.planned.case
        self.tell(f"{case.workload} is on side {has} only ({alone.why}): it is measured without a comparison")
        absent = dataclasses.replace(alone.planned, skip=f"{NOT_THERE}: {alone.why}", failed=False)
        self.sessions[alone.lacks].ready(absent, {"pair": alone.name, "side": alone.lacks})
        ready = self.sessions[has].ready(alone.planned, {"pair": alone.name, "side": has})
        for number in range(LEAST_LAUNCHES if ready else 0):
            self.sessions[has].renew()
            self.sessions[has].begins(case, number + 1, LEAST_LAUNCHES, or_more=False)
            where = {"pair": alone.name, "side": has, "stage": 1, "block": number, "turn": 0}
            if self.sessions[has].launch(case, {"role": "measure", **where}).status != "ok":
                break

    def calibrate(self) -> None:
        """Run one stage with every case against itself."""
        pairs = [self._control(pair) for pair in self.pairs if self._ready(pair)]
        self._check_memory(pairs)
        self.stage(1, pairs)

    def stage(self, stage: int, pairs: Sequence[Pair]) -> None:
        """Run the blocks of a stage: in each round one block of each pair that has one left, in random order."""
        counts = self._counts(stage, pairs)
        before, made = max((row.block for row in self.rows if row.block is not None), default=-1) + 1, Counter[Pair]()
        self._made, block = 0, 0
        while due := [pair for pair, count in counts.items() if block < count]:
            for pair in self._random.sample(due, len(due)):
                if pair not in self._failed:  # A pair with a failed launch gets no verdict.
                    self._block(pair, stage, before + block)
                    made[pair] += 1
                    of = sum(made[pair] if pair in self._failed else count for pair, count in counts.items())
                    self._block_ends(SoFar(made.total(), of, self._part if stage == 1 else PARTS[stage]))
            block += 1
            if self._look and block == LOOK:
                self.blocks, self._look, self._part = self._look(self.rows), None, PARTS[stage]
                counts = self._counts(stage, pairs)

    def _counts(self, stage: int, pairs: Sequence[Pair]) -> dict[Pair, int]:
        counts = {pair: self._count(pair, stage, pairs) for pair in pairs}
        self._due = sum(counts.values()) * (len(SIDES) if self.duet else len(ORDERS[0]))
        return counts

    def _count(self, pair: Pair, stage: int, pairs: Sequence[Pair]) -> int:
        """Return the number of blocks of a pair; the control has the most that another pair has in its first stage."""
        if pair.role == CONTROL:
            return max(self._planned(other).first for other in pairs if other is not pair or len(pairs) == 1)
        return self._planned(pair)[stage - 1]

    def _planned(self, pair: Pair) -> Blocks:
        return self.blocks.get(pair.name, Blocks(0, 0))

    def _block(self, pair: Pair, stage: int, block: int) -> None:
        for session in self.sessions.values():
            session.renew()
        where = {"role": pair.role, "pair": pair.name, "stage": stage, "block": block}
        rows = self._in_a_duet(pair, where) if self.duet else self._in_turns(pair, where)
        if any(row.status != "ok" for row in rows):
            self._failed.add(pair)

    def _in_turns(self, pair: Pair, where: Row) -> list[LaunchRow]:
        """Run four launches one after the other; stop after a failure, once both sides were launched."""
        rows: list[LaunchRow] = []
        sessions, cases = self._sides(pair)
        for turn, side in enumerate(self._random.choice(ORDERS)):
            self._begins(sessions[side], cases[side])
            rows.append(sessions[side].launch(cases[side], {**where, "side": side, "turn": turn}))
            if len({row.side for row in rows}) == 2 and any(row.status != "ok" for row in rows):
                break
        return rows

    def _sides(self, pair: Pair) -> tuple[dict[str, Session], dict[str, Case]]:
        """Return the session and the case of each side; a control pair has side A twice."""
        if pair.role != CONTROL:
            return {side: self.sessions[side] for side in SIDES}, {side: self._cases[pair.name, side] for side in SIDES}
        a, case = self.sessions["A"], self._cases[pair.name, "A"]
        return {"A": a, "B": self.sessions.get(CONTROL, a)}, dict.fromkeys(SIDES, case)

    def _begins(self, session: Session, case: Case) -> None:
        """Tell the observer that a launch of this stage begins, and that a second stage may follow."""
        self._made += 1
        session.begins(case, self._made, self._due, or_more=True)

    def _in_a_duet(self, pair: Pair, where: Row) -> list[LaunchRow]:
        """Run two launches at once, and B again alone if only B failed, as A may be the cause."""
        sessions, cases = self._sides(pair)
        for side, session in sessions.items():
            self._begins(session, cases[side])
        opened = {
            side: session.open(cases[side], {**where, "side": side, "turn": turn})
            for turn, (side, session) in enumerate(sessions.items())
        }
        rows = launch_and_record(list(opened.values()), Duet(opened["A"], opened["B"]))
        if pair.role != CONTROL and [row.side for row in failures(rows)] == ["B"]:
            self.tell(f"B of {pair.name} failed in the duet with A: launching it alone")
            sessions["B"].launch(cases["B"], {**where, "side": "B", "role": "probe"})
        return rows

    def _check_memory(self, pairs: Sequence[Pair]) -> None:
        """Measure the memory of each side alone; UsageError if both sides of a pair do not fit together."""
        session, probe = self.sessions["A"], functools.cache(self._probe)
        held = {gpu.uuid: gpu.used_mib for gpu in session.survey.look.gpus if gpu.used_mib is not None}
        for pair in pairs if self.duet else ():
            a, b = (probe(pair.name, "A" if pair.role == CONTROL else side) for side in SIDES)
            if not a.status == b.status == "ok":
                continue  # The duet will record the failure.
            if reason := both_fit(a, b, session.survey.machine, held):
                raise UsageError(
                    f"--duet runs both sides of {pair.name} at once: {reason}",
                    option="--duet",
                    hint="Leave --duet out.",
                )

    def _probe(self, name: str, side: str) -> LaunchRow:
        """Run a short launch of one side of a pair alone."""
        session, more = self.sessions[side], {"role": "probe", "pair": name, "side": side}
        return session.launch(self._cases[name, side], more, probing(session.plan.protocol))

    def _ready(self, pair: Pair) -> bool:
        """Return whether both sides can run; if not, a row records why."""
        for side, planned in pair.sides.items():
            case = self.sessions[side].ready(planned, {"pair": pair.name, "side": side})
            if case is not None:
                self._cases[pair.name, side] = case
        return all((pair.name, side) in self._cases for side in pair.sides)

    @staticmethod
    def _control(pair: Pair) -> Pair:
        return dataclasses.replace(pair, role=CONTROL)
