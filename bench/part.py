"""What ends a launch from outside, and its part in a duet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import interrupts
from bench.messages import Turns
from bench.record import Row
from bench.watchdog import Watchdog


@dataclass(eq=False)
class Part:
    """A launch's part in a duet. Each launch says of itself whether it is idle; ``bench.duet`` says the rest.

    ``idle``: all its ranks wait for their turn, or it has ended. ``folder`` is the launch's own, ``other`` the part of
    the other side, and ``ended`` becomes the reason for which this launch has to end. Both launches have threads of
    their own; every field has one writer.
    """

    turns: Turns
    folder: Path
    idle: bool = False
    ended: str = ""
    other: Part | None = None

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


def stopped(part: Part | None) -> Row:
    """Status and reason of a launch that is not ended for its own sake; empty as long as it is not to end."""
    if interrupts.pending():
        return {"status": "interrupted", "reason": f"the run was stopped by {interrupts.name()}"}
    return {"status": "interrupted", "reason": part.ended} if part and part.ended else {}
