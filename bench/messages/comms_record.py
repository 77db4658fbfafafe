"""What one rank measured in a round of ``bench comms``."""

from __future__ import annotations

from dataclasses import dataclass, field

STATUSES = ("ok", "oom", "crashed", "skipped")


@dataclass(frozen=True)
class CommsTimes:
    """The times of a rank in a round, which is number ``round`` of ``bench.plan.comms_rounds``.

    ``times_ns``: duration of each iteration. ``correct``: whether the result of the first one was right; None if there
    is nothing to check. ``status`` is one of STATUSES, with the ``reason`` of all but ``ok``.
    """

    round: int
    times_ns: list[int] = field(default_factory=list)
    correct: bool | None = None
    status: str = "ok"
    reason: str = ""

    def odd(self) -> str:
        """Return why this cannot have been measured; an empty text if it can."""
        if self.status not in STATUSES:
            return f"has a status {self.status[:40]!r} in round {self.round}"
        if self.status == "ok" and (not self.times_ns or min(self.times_ns) <= 0):
            return f"measured no time in round {self.round}"
        return ""
