"""What a rank tells of saving and loading its state."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Save:
    """One save. Times are nanoseconds.

    ``blocked_ns``: training stood still. ``total_ns``: from the begin until all was written. ``steps``: trained while
    it was written, in ``steps_ns`` in all.
    """

    blocked_ns: int
    total_ns: int
    steps: int = 0
    steps_ns: int = 0


@dataclass(frozen=True)
class Saved:
    """The saves of a rank, of which the first is set apart if there are several, and what it loaded of the last one.

    ``alone_ns``: duration of a step without a save, each waited for as those beside a save are; None if none was taken.
    ``bytes``: size of all files of one save. ``unlike``: what was not as before after loading. ``*_mib``: peaks of the
    rank's memory while it saved; None if unknown. ``note``: why something is missing; empty if nothing is.
    """

    saves: list[Save] = field(default_factory=list)
    alone_ns: int | None = None
    bytes: int | None = None
    load_ns: int | None = None
    unlike: list[str] = field(default_factory=list)
    allocated_mib: float | None = None
    rss_mib: float | None = None
    note: str = ""

    def odd(self) -> str:
        """Return why this cannot be what a rank saw; an empty text if it can."""
        if any(min(one.blocked_ns, one.total_ns, one.steps, one.steps_ns) < 0 for one in self.saves):
            return "has a save that took less than no time"
        if any(one.total_ns < 1 or one.total_ns < one.blocked_ns for one in self.saves):
            return "has a save that ended before training went on"
        known = (self.bytes or 0, self.load_ns or 0, self.alone_ns or 0)
        return "has a size or a time below 0" if min(known) < 0 else ""
