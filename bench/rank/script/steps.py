"""The steps of a script, from what its hooks see: where each ends, its parts, and what does not belong to training.

No torch here. An interval lasts from the end of one step to the end of the next. It is ordinary if it only trains;
an interval with a validation, a save or a new epoch is set apart as a whole, as nothing tells how long the training in
it took alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.messages.rank_record import SCRIPT_PARTS
from bench.rank.script.timeline import Timeline

DATA_WAIT, REST, BACKWARD, OPTIMIZER, OUTSIDE = SCRIPT_PARTS
VALIDATION, SAVE, NEW_EPOCH, ANOTHER_DATASET = "validation", "save", "new epoch", "another dataset"


@dataclass
class Interval:
    """One step: its number of spans, the samples read for it, and why it is set apart.

    ``samples`` is None if a batch of unknown size was read. ``datasets`` identifies the data that it trained on.
    """

    spans: int = 0
    samples: int | None = 0
    fetched: bool = False
    datasets: set[int] = field(default_factory=set)
    reasons: dict[str, None] = field(default_factory=dict)


class Steps:
    """Collects the intervals since ``start``. The part in force is that of the innermost call that has begun."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.intervals: list[Interval] = []
        self._now = Interval()
        self._inside: list[str] = []  # parts of the calls that have begun
        self._base = OUTSIDE
        self._closed = 0  # spans of the intervals so far

    def start(self, timeline: Timeline) -> None:
        """Begin to collect anew, at the end of a step."""
        self.timeline, self.intervals, self._now, self._base, self._closed = timeline, [], Interval(), OUTSIDE, 0

    def enter(self, part: str) -> None:
        """Begin a part inside of the present one."""
        self.timeline.mark(self.part)
        self._inside.append(part)
        if part == DATA_WAIT:
            self._base = REST

    def leave(self) -> None:
        """End the innermost part."""
        self.timeline.mark(self.part)
        if self._inside:
            self._inside.pop()

    def read(self, dataset: int, samples: int | None, trains: bool) -> None:
        """Note a batch: ``samples`` is None if its size is unknown, ``trains`` is false for a validation."""
        if not trains:
            return self.apart(VALIDATION)
        self._now.fetched = True
        self._now.datasets.add(dataset)
        self._now.samples = None if samples is None or self._now.samples is None else self._now.samples + samples

    def apart(self, reason: str) -> None:
        """Set the present interval apart."""
        self._now.reasons[reason] = None

    def end_step(self, samples: int | None = None) -> None:
        """End an interval; ``samples`` replaces the number that was read."""
        if samples is not None:
            self._now.samples, self._now.fetched = samples, True
        self._now.spans = len(self.timeline) - self._closed
        self._closed = len(self.timeline)
        self.intervals.append(self._now)
        self._now, self._base = Interval(), OUTSIDE

    def reasons(self) -> list[str]:
        """Return for each interval why it is set apart; an empty text for an ordinary one."""
        usual = Counter(frozenset(one.datasets) for one in self.intervals if not one.reasons)
        ordinary = usual.most_common(1)[0][0] if usual else frozenset()
        found = []
        for one in self.intervals:
            reasons = list(one.reasons)
            if frozenset(one.datasets) != ordinary:  # an evaluation with gradients on, which begins with an iterator
                reasons = [*(reason for reason in reasons if reason != NEW_EPOCH), ANOTHER_DATASET]
            found.append(", ".join(reasons))
        return found

    def samples(self) -> list[int] | None:
        """Return the samples of each interval; None if unknown."""
        found = [one.samples for one in self.intervals]
        return None if None in found else [one or 0 for one in found]

    def parts_ns(self, durations: Sequence[int]) -> dict[str, list[int]]:
        """Return the durations of spans as the sum of each part in each interval.

        Without a batch nothing tells what comes before the training: all of it is then the rest.
        """
        found: dict[str, list[int]] = {part: [] for part in SCRIPT_PARTS}
        at = 0
        for one in self.intervals:
            sums = dict.fromkeys(SCRIPT_PARTS, 0)
            for part, ns in zip(self.timeline.parts[at : at + one.spans], durations[at : at + one.spans], strict=True):
                sums[REST if part == OUTSIDE and not one.fetched else part] += ns
            at += one.spans
            for part, ns in sums.items():
                found[part].append(ns)
        return found

    @property
    def part(self) -> str:
        """The part in force."""
        return self._inside[-1] if self._inside else self._base
