"""How much of a step waits for communication, as a rank found in a few steps after its window."""

from __future__ import annotations

from dataclasses import dataclass, field

BY_PROFILE, BY_ABLATION = "profile", "ablation"  # the methods, as in the column comm_method

TRACE = ".trace.json.gz"  # end of the name of a rank's Chrome trace, beside its record


@dataclass(frozen=True)
class StepProfile:
    """Durations of some steps in nanoseconds, one for each step; ``method`` is BY_PROFILE or BY_ABLATION.

    By a profile: how long the rank communicated, how long it computed, and how long it did both. By ablation:
    ``without_ns``, the durations of as many steps without collectives. No step is known where ``note`` says why.
    """

    method: str
    steps_ns: list[int] = field(default_factory=list)
    comm_ns: list[int] = field(default_factory=list)
    compute_ns: list[int] = field(default_factory=list)
    overlap_ns: list[int] = field(default_factory=list)
    without_ns: list[int] = field(default_factory=list)
    note: str = ""

    def odd(self) -> str:
        """Return why this cannot be the profile of some steps; an empty text if it can."""
        if self.method not in (BY_PROFILE, BY_ABLATION):
            return f"has a profile by {self.method[:40]!r}"
        parts = (self.without_ns,) if self.method == BY_ABLATION else (self.comm_ns, self.compute_ns, self.overlap_ns)
        if any(len(part) != len(self.steps_ns) for part in parts):
            return f"has a profile of more or fewer than its {len(self.steps_ns)} steps"
        return "has a profile of steps without a duration" if 0 in self.steps_ns else ""
