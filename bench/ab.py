"""Two sides, measured in turns: blocks of launches A B B A, a fresh server each, then fresh blocks for candidates."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.calibration import Noise
from bench.analysis.gate import for_second_stage
from bench.analysis.power import Blocks
from bench.analysis.trimmed import LEAST_BLOCKS
from bench.case import Case
from bench.errors import UsageError
from bench.options import AXES
from bench.record import Row
from bench.session import Session
from bench.sides import Side
from bench.suite import Plan, Planned

CONTROL = "control"
FIRST = 8  # blocks of a first stage where nothing is known of the machine; a second one has twice as many
ORDERS = ("ABBA", "BAAB")  # in both, a drift that is a straight line cancels


@dataclass(frozen=True, eq=False)
class Pair:
    """One case on both sides. ``name`` is A's case_id."""

    name: str
    sides: Mapping[str, Planned]
    role: str = "measure"


def pairs(plans: Mapping[str, Plan], sides: Sequence[Side]) -> list[Pair]:
    """The cases of both plans, put together by the axes that no side sets, or whatever they are if each side has one.
    UsageError if a side lacks one."""
    own = {axis for side in sides for axis in side.axes}
    names = [name for name in AXES if name not in own]
    found: dict[str, dict[object, Planned]] = {}
    for side, plan in plans.items():
        keyed = {tuple(getattr(p.case, name) for name in names): p for p in plan.cases}
        if len(keyed) < len(plan.cases) or any(p.case.auto_batch for p in plan.cases):
            raise UsageError(
                f"side {side} has several cases of one kind, or batch sizes that are to be found: give each side "
                "one value of what the sides differ in, and a batch size."
            )
        found[side] = dict(keyed)
    a, b = (found[side.name] for side in sides)
    if len(a) == len(b) == 1:
        b = dict(zip(a, b.values(), strict=True))
    alone = [planned.case.case_id for key, planned in [*a.items(), *b.items()] if key not in a or key not in b]
    if alone:
        raise UsageError(
            f"{alone[0]} is a case of one side only: what the sides set changes other axes as well; set those on both "
            "sides (--a, --b), or compare one such case at a time."
        )
    return [Pair(a[key].case.case_id, {sides[0].name: a[key], sides[1].name: b[key]}) for key in a]


class Ab:
    """The launches of a comparison: ``rows`` of both sessions, each with its pair, side, stage, block and turn."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        sessions: Mapping[str, Session],
        blocks: Mapping[str, Blocks],
        seed: int,
        tell: Callable[[str], None],
    ) -> None:
        self.pairs, self.sessions, self.blocks, self.tell = list(pairs), sessions, blocks, tell
        self._random = random.Random(seed)
        self._failed: set[Pair] = set()
        self._cases: dict[tuple[str, str], Case] = {}

    @property
    def rows(self) -> list[Row]:
        rows = {id(row): row for session in self.sessions.values() for row in session.rows}
        return sorted(rows.values(), key=lambda row: (row["order"] is None, row["order"]))

    def run(self) -> None:
        """Both stages. The control pair, the first case that can run against itself, is in each."""
        ready = [pair for pair in self.pairs if self._ready(pair)]
        control = [self._control(ready[0])] if ready else []
        self.stage(1, [*ready, *control])
        again = set(for_second_stage(self.rows))
        chosen = [pair for pair in ready if pair.name in again]
        if chosen:
            self.tell(f"{len(chosen)} of {len(ready)} cases may differ: fresh launches decide")
            self.stage(2, [*chosen, *control])

    def calibrate(self) -> None:
        """One stage of every pair against itself."""
        self.stage(1, [self._control(pair) for pair in self.pairs if self._ready(pair)])

    def stage(self, stage: int, pairs: Sequence[Pair]) -> None:
        """Round by round one block of each pair that has one left, in an order drawn anew."""
        counts = {pair: self._count(pair, stage, pairs) for pair in pairs}
        before = max((row["block"] for row in self.rows if row["block"] is not None), default=-1) + 1
        for block in range(max(counts.values(), default=0)):
            due = [pair for pair, count in counts.items() if block < count]
            for pair in self._random.sample(due, len(due)):
                self._block(pair, stage, before + block)

    def _count(self, pair: Pair, stage: int, pairs: Sequence[Pair]) -> int:
        """The control has as many blocks as the others have at most, in a second stage as in the first."""
        if pair.role == CONTROL:
            return max(self.blocks[other.name].first for other in pairs if other is not pair or len(pairs) == 1)
        return self.blocks[pair.name][stage - 1]

    def _block(self, pair: Pair, stage: int, block: int) -> None:
        order = self._random.choice(ORDERS)
        for session in self.sessions.values():
            session.renew()
        for turn, side in enumerate(order):
            if pair in self._failed:  # whatever the others say, there is no number for it
                return
            more = {"role": pair.role, "pair": pair.name, "side": side, "stage": stage, "block": block, "turn": turn}
            session = self.sessions["A" if pair.role == CONTROL else side]
            row = session.launch(self._cases[pair.name, "A" if pair.role == CONTROL else side], more)
            if row["status"] != "ok":
                self._failed.add(pair)

    def _ready(self, pair: Pair) -> bool:
        """Whether both sides can run; a row says why not."""
        for side, planned in pair.sides.items():
            case = self.sessions[side].ready(planned, {"pair": pair.name, "side": side})
            if case is not None:
                self._cases[pair.name, side] = case
        return all((pair.name, side) in self._cases for side in pair.sides)

    @staticmethod
    def _control(pair: Pair) -> Pair:
        return dataclasses.replace(pair, role=CONTROL)


def planned_blocks(
    names: Iterable[str],
    noise: Mapping[str, Noise],
    change: float,
    *,
    blocks: int | None,
    budget: float | None,
    insists: bool,
    warn: Callable[[str], None],
) -> dict[str, Blocks]:
    """The blocks of each pair: ``blocks`` (and twice as many), or what ``budget`` (s) pays for, or what finds
    ``change`` by the machine's calibration, or FIRST.

    UsageError for a plan that cannot decide: fewer than LEAST_BLOCKS, or too few for a change that the user ``insists``
    on; else a warning says so.
    """
    names = list(names)
    if blocks is not None and blocks < LEAST_BLOCKS:
        raise UsageError(
            f"--blocks {blocks}: no test can decide on so few; allowed: a whole number from {LEAST_BLOCKS}."
        )
    unknown = [name for name in names if name not in noise]
    if unknown:
        warn(f"{unknown[0]} is not calibrated here, so what can be found is not known before: bench calibrate")
    found = {}
    for name in names:
        known = noise.get(name)
        wanted = known.needed(change) if known else None
        own = Blocks(blocks, 2 * blocks) if blocks else _affordable(name, known, budget, len(names))
        found[name] = own or wanted or Blocks(FIRST, 2 * FIRST)
        if known and (wanted is None or found[name].first < wanted.first or found[name].second < wanted.second):
            _too_few(name, found[name], wanted, known, change, warn=None if insists else warn)
    return found


def _affordable(name: str, noise: Noise | None, budget: float | None, cases: int) -> Blocks | None:
    """A case's share of the budget, the control pair's taken off."""
    if budget is None:
        return None
    if noise is None:
        raise UsageError(f"--budget: how long a block of {name} takes is not known; bench calibrate, or give --blocks.")
    blocks = noise.within(budget / (cases + 1))
    if blocks is None:
        raise UsageError(
            f"--budget: {budget:.0f} s are not enough for {LEAST_BLOCKS} blocks of {name} and twice as many more at "
            f"{noise.seconds_a_block:.0f} s each; give more, or fewer cases."
        )
    return blocks


def _too_few(
    name: str, blocks: Blocks, wanted: Blocks | None, noise: Noise, change: float, warn: Callable[[str], None] | None
) -> None:
    """Say what cannot be decided; UsageError where nobody is to be warned."""
    need = f"it takes {wanted.first} and {wanted.second}" if wanted else "no number of blocks does"
    said = (
        f"{name}: {blocks.first} and {blocks.second} blocks find a slowdown of {noise.detectable(blocks):.1%} on this "
        f"machine, not of {change:.1%}: {need}"
    )
    if warn is None:
        raise UsageError(f"{said}. Give --blocks, --budget or --detect accordingly.")
    warn(said)
