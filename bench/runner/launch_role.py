"""The role of a launch: alone, or one side of a duet.

The role decides what ends the launch from outside, and which figures are its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import interrupts
from bench.machine.slurm_log import why_ended
from bench.messages.rank_record import OTHER_IS_GONE, RankRecord
from bench.messages.spec import Turns
from bench.runner.metrics import ranks_by_device
from bench.runner.watchdog import Watchdog
from bench.store.columns import Row

# Columns that describe both sides together: one side waits for the other, and both use the device.
OF_BOTH_SIDES = ("startup_s", "device_used_mib")
# Columns of a device that hold for all processes on it.
OF_THE_DEVICE = ("throttled_share", "throttle_reasons", "sm_clock_min_mhz", "temperature_max_c", "foreign_processes")


class Role:
    """The role of a launch. ``turns`` is the part of the ranks' spec about a duet, None without one."""

    turns: Turns | None
    is_alone: bool

    def others_turn(self) -> bool:
        """Return whether the ranks may wait because another launch has its turn."""
        return False

    def ends(self, watchdog: Watchdog) -> bool:
        """Look once, and return whether the launch has to be ended."""
        return bool(interrupts.pending()) or watchdog()

    def stopped(self, records: Mapping[int, RankRecord] | None = None) -> Row:
        """Return status and reason if the launch ends for a cause outside of it, else an empty row."""
        if not interrupts.pending():
            return {}
        why = f" (Slurm: {words})" if (words := why_ended()) else ""
        return {"status": "interrupted", "reason": f"the run was stopped by {interrupts.name()}{why}"}

    def with_others(self, pids: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """Return the process ids by GPU: those given, and those of other launches beside this one."""
        return {uuid: list(of) for uuid, of in pids.items()}

    def own(self, row: Row) -> Row:
        """Return the columns that are this launch's own."""
        return row

    def own_of_devices(self, columns: Row) -> Row:
        """Return the columns from NVML that are this launch's own."""
        return columns


class Alone(Role):
    """A launch without another one beside it. Only a signal ends it early."""

    turns = None
    is_alone = True


ALONE = Alone()


@dataclass(eq=False)
class DuetSide(Role):
    """One side of a duet. It notes whether it is idle; ``bench.comparison.duet`` sets the other fields.

    ``idle`` says that all its ranks wait for their turn, or that it has ended. ``folder`` is the launch's own,
    ``other`` is the other side, and ``ended`` is set to the reason why this launch has to end, at ``ended_at_ns`` of
    the wall clock. Each launch has a thread of its own; every field has one writer.
    """

    turns: Turns
    folder: Path
    idle: bool = False
    ended: str = ""
    ended_at_ns: int = 0
    other: DuetSide | None = None
    is_alone = False

    def end(self, reason: str) -> None:
        """End this launch for a reason."""
        self.ended_at_ns = time.time_ns()
        self.ended = reason

    def others_turn(self) -> bool:
        """Return whether the other side is active as far as is known.

        If neither is, waiting counts towards time-outs.
        """
        return self.other is not None and not self.other.idle

    def ends(self, watchdog: Watchdog) -> bool:
        """Also end the launch if the duet is over. If it has measured everything, it may still write its records."""
        if super().ends(watchdog):
            return True
        self.idle = watchdog.waiting
        return bool(self.ended) and not watchdog.ending

    def stopped(self, records: Mapping[int, RankRecord] | None = None) -> Row:
        """Return status and reason also if the duet is over.

        If a rank of this launch had failed before, as ``records`` may show, the launch ended the duet and not the
        reverse.
        """
        if stopped := super().stopped(records):
            return stopped
        failures = [record.failure for record in (records or {}).values() if record.failure]
        own = any(one.time_ns < self.ended_at_ns and OTHER_IS_GONE not in one.message for one in failures)
        return {"status": "interrupted", "reason": self.ended} if self.ended and not own else {}

    def with_others(self, pids: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """Return the process ids by GPU, with those of the other side."""
        if self.other is None:
            return super().with_others(pids)
        others = ranks_by_device(RankRecord.read_all(self.other.folder, self.other.turns.ranks))
        return {uuid: [*of, *others.get(uuid, [])] for uuid, of in pids.items()}

    def own(self, row: Row) -> Row:
        """Return the columns that are this side's own."""
        return {name: value for name, value in row.items() if name not in OF_BOTH_SIDES}

    def own_of_devices(self, columns: Row) -> Row:
        """Return the columns from NVML that hold for both sides."""
        return {name: columns[name] for name in OF_THE_DEVICE}
