"""What is outside of a script that is watched. No torch here."""

from __future__ import annotations

from bench.messages.counts import Counts
from bench.messages.rank_record import Measurement, ScriptRecord


class Surroundings:
    """What is outside of the script: other ranks, and those who wait for the result. Here there is nobody."""

    def progress(self, done: int, planned: int, step_ns: int) -> None:
        """Show how far the script is; ``step_ns`` is its longest step so far."""

    def part(self, name: str) -> None:
        """Show that a part of a step begins."""

    def agree(self, name: str, number: float) -> list[float]:
        """Wait for all ranks, and return the numbers of all."""
        return [number]

    def measuring(self) -> None:
        """Note that the window begins."""

    def measured(self, measurement: Measurement, record: ScriptRecord) -> None:
        """Take the result of the window."""

    def ended(self, counts: Counts | None) -> None:
        """Take the work of a step, if it was counted: nothing more is watched."""
