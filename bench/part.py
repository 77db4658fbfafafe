"""What ends a launch from outside, and its part in a duet."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import interrupts
from bench.messages import OTHER_IS_GONE, RankRecord, Turns
from bench.record import Row
from bench.watchdog import Watchdog


@dataclass(eq=False)
class Part:
    """A launch's part in a duet. Each launch says of itself whether it is idle; ``bench.duet`` says the rest.

    ``idle``: all its ranks wait for their turn, or it has ended. ``folder`` is the launch's own, ``other`` the part of
    the other side, and ``ended`` becomes the reason for which this launch has to end, at ``ended_at_ns`` of the wall
    clock. Both launches have threads of their own; every field has one writer.
    """

    turns: Turns
    folder: Path
    idle: bool = False
    ended: str = ""
    ended_at_ns: int = 0
    other: Part | None = None

    def end(self, reason: str) -> None:
        self.ended_at_ns = time.time_ns()
        self.ended = reason

    def others_turn(self) -> bool:
        """Whether the other side is at work, as far as is known; if neither is, nobody's waiting is excused."""
        return self.other is not None and not self.other.idle


def ends(watchdog: Watchdog, part: Part | None = None) -> bool:
    """A watch: whether the launch has to be ended, by its watchdog, or because the run or its duet is over.

    One that has measured all may still write it down, whatever became of the other side.
    """
    if interrupts.pending() or watchdog():
        return True
    if part:
        part.idle = watchdog.waiting
    return bool(part and part.ended) and not watchdog.ending


def stopped(part: Part | None, records: Mapping[int, RankRecord] | None = None) -> Row:
    """Status and reason of a launch that is not ended for its own sake; empty as long as it is not to end.

    One whose rank had failed before, as ``records`` may tell, did not end for its duet's sake: the duet did for its.
    """
    if interrupts.pending():
        return {"status": "interrupted", "reason": f"the run was stopped by {interrupts.name()}"}
    if part is None or not part.ended:
        return {}
    failures = [record.failure for record in (records or {}).values() if record.failure]
    if any(one.time_ns < part.ended_at_ns and OTHER_IS_GONE not in one.message for one in failures):
        return {}
    return {"status": "interrupted", "reason": part.ended}
