"""How a launch stands to others: alone, or as one side of a duet. This decides what ends it from outside, and which
figures are its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import interrupts
from bench.messages.rank_record import OTHER_IS_GONE, RankRecord
from bench.messages.spec import Turns
from bench.runner.metrics import ranks_by_device
from bench.runner.watchdog import Watchdog
from bench.store.columns import Row

# Columns that are of no side alone: a side waits for the other, and both are on a device.
OF_BOTH_SIDES = ("startup_s", "device_used_mib")
# Columns of a device that hold whoever uses it.
OF_THE_DEVICE = ("throttled_share", "throttle_reasons", "sm_clock_min_mhz", "temperature_max_c", "foreign_processes")


class Role:
    """What a launch is to others. ``turns`` is what its ranks are told of a duet, None where there is none."""

    turns: Turns | None
    is_alone: bool

    def others_turn(self) -> bool:
        """Whether its ranks may wait, as it is another launch's turn."""
        return False

    def ends(self, watchdog: Watchdog) -> bool:
        """One look: whether the launch has to be ended."""
        return bool(interrupts.pending()) or watchdog()

    def stopped(self, records: Mapping[int, RankRecord] | None = None) -> Row:
        """Status and reason of a launch that is not ended for its own sake; empty as long as it is not to end."""
        if not interrupts.pending():
            return {}
        return {"status": "interrupted", "reason": f"the run was stopped by {interrupts.name()}"}

    def with_others(self, pids: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """The processes of ours by GPU: those given, and those of other launches beside them."""
        return {uuid: list(of) for uuid, of in pids.items()}

    def own(self, row: Row) -> Row:
        """The columns that are this launch's own."""
        return row

    def own_of_devices(self, columns: Row) -> Row:
        """Those of them that NVML gives."""
        return columns


class Alone(Role):
    """A launch beside which nothing else of ours runs. Only a signal ends it before its time."""

    turns = None
    is_alone = True


ALONE = Alone()


@dataclass(eq=False)
class DuetSide(Role):
    """One side of a duet. It says of itself whether it is idle; ``bench.comparison.duet`` says the rest.

    ``idle``: all its ranks wait for their turn, or it has ended. ``folder`` is the launch's own, ``other`` the other
    side, and ``ended`` becomes the reason for which this launch has to end, at ``ended_at_ns`` of the wall clock. Both
    launches have threads of their own; every field has one writer.
    """

    turns: Turns
    folder: Path
    idle: bool = False
    ended: str = ""
    ended_at_ns: int = 0
    other: DuetSide | None = None
    is_alone = False

    def end(self, reason: str) -> None:
        self.ended_at_ns = time.time_ns()
        self.ended = reason

    def others_turn(self) -> bool:
        """Whether the other side is at work, as far as is known; if neither is, nobody's waiting is excused."""
        return self.other is not None and not self.other.idle

    def ends(self, watchdog: Watchdog) -> bool:
        """Also if the duet is over; but one that has measured all may still write it down."""
        if super().ends(watchdog):
            return True
        self.idle = watchdog.waiting
        return bool(self.ended) and not watchdog.ending

    def stopped(self, records: Mapping[int, RankRecord] | None = None) -> Row:
        """Also if the duet is over. One whose rank had failed before, as ``records`` may tell, did not end for its
        duet's sake: the duet did for its."""
        if stopped := super().stopped(records):
            return stopped
        failures = [record.failure for record in (records or {}).values() if record.failure]
        own = any(one.time_ns < self.ended_at_ns and OTHER_IS_GONE not in one.message for one in failures)
        return {"status": "interrupted", "reason": self.ended} if self.ended and not own else {}

    def with_others(self, pids: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        if self.other is None:
            return super().with_others(pids)
        others = ranks_by_device(RankRecord.read_all(self.other.folder, self.other.turns.ranks))
        return {uuid: [*of, *others.get(uuid, [])] for uuid, of in pids.items()}

    def own(self, row: Row) -> Row:
        return {name: value for name, value in row.items() if name not in OF_BOTH_SIDES}

    def own_of_devices(self, columns: Row) -> Row:
        return {name: columns[name] for name in OF_THE_DEVICE}
