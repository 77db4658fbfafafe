"""The verdict on two measurements of one case, and on a whole comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.errors import EXIT_FAILED, EXIT_INCOMPARABLE, EXIT_OK

EXIT_SLOWER, EXIT_UNDECIDED = 1, 3
VERDICTS = {
    "faster": "throughput of B is higher: significant, and by more than the floor",
    "slower": "throughput of B is lower: significant, and by more than the floor",
    "same": "no change as large as the one to be detected (an equivalence test)",
    "inconclusive": "neither a change nor its absence is shown; the reason says what would be needed",
    "incomparable": "not about the same work",
    "missing": "measured in A and not in B",
    "new": "measured in B and not in A",
    "broken": "failed in B and not in A",
}
MEMORY = {
    "more": "B takes more by more than the floor, in every launch",
    "less": "B takes less by more than the floor, in every launch",
    "same": "neither",
}


@dataclass(frozen=True)
class Rules:
    """Shares (0.03 is 3 %). ``detect`` is also the margin of ``same``; a change within ``floor`` does not matter."""

    floor: float = 0.01
    floor_memory: float = 0.02
    detect: float = 0.03
    strict: bool = False


@dataclass(frozen=True)
class Verdict:
    """The verdict on one case.

    None is unknown; ratios are B / A, with 95 % bounds ``low`` and ``high`` of the throughput's.

    ``how`` is ``blocks`` (launches A B B A), ``duet``, ``sessions`` or ``unpaired``; ``blocks`` and ``launches`` count
    those behind the decision, of both sides and successful ones; ``p`` is one-sided, before the correction for the
    number of cases. ``detectable`` is the smallest slowdown that so many blocks with this noise find in 95 gates of
    100.
    """

    case: str
    verdict: str
    reason: str
    case_a: str | None = None
    case_b: str | None = None
    workload: str = ""
    unit: str = "samples/s"  # Of the throughputs of both sides.
    command: str | None = None
    how: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    blocks: int = 0
    launches: int = 0
    detectable: float | None = None
    samples_per_s_a: float | None = None
    samples_per_s_b: float | None = None
    memory: str | None = None
    memory_measure: str | None = None
    memory_ratio: float | None = None
    memory_mib_a: float | None = None
    memory_mib_b: float | None = None
    seconds: float = 0.0  # of all launches

    @property
    def fails(self) -> bool:
        """Whether it closes a gate, ``missing`` aside."""
        return self.verdict in ("slower", "broken") or self.memory == "more"


@dataclass(frozen=True)
class Control:
    """A case against itself, measured like the others: any difference is the machine's."""

    case: str
    flagged: bool
    words: str
    why: str = ""  # why it is flagged


@dataclass(frozen=True)
class SoFar:
    """How far a comparison is: ``blocks`` are done of ``of`` in this ``part`` of it."""

    blocks: int
    of: int
    part: str  # first look, first stage or second stage

    @property
    def words(self) -> str:
        """The same in words."""
        return f"so far: {self.blocks} of {_of(self.of, 'block')} ({self.part})"


@dataclass(frozen=True)
class Gate:
    """The result of a comparison. ``a`` and ``b`` name the sides; ``differences`` are those of their environments.

    ``so_far`` is None for one that has ended.
    """

    a: str
    b: str
    verdicts: tuple[Verdict, ...]
    rules: Rules = field(default_factory=Rules)
    control: Control | None = None
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failed: bool = False  # a launch of A or of both sides failed, or nothing could run
    run_id: str = ""
    ratio: float | None = None  # the geometric mean over cases, and its bounds
    low: float | None = None
    high: float | None = None
    so_far: SoFar | None = None

    def of(self, verdict: str) -> list[Verdict]:
        """Return the cases with a verdict."""
        return [one for one in self.verdicts if one.verdict == verdict]

    @property
    def exit_code(self) -> int:
        """The exit code of the first of these that applies.

        4 if cases are not comparable, 5 if a launch failed (without making a case broken), 1 if a case is slower than
        allowed, broken or takes more memory, 3 if undecided, else 0. With ``strict``, missing cases give 1 and any
        inconclusive case 3. A comparison without any decision is undecided, whether its cases are inconclusive or on
        one side only, unless all of them are new.
        """
        decided = any(one.verdict not in ("inconclusive", "missing", "new") for one in self.verdicts)
        decided = decided or len(self.of("new")) == len(self.verdicts)
        if self.of("incomparable"):
            return EXIT_INCOMPARABLE
        if self.failed or not self.verdicts:
            return EXIT_FAILED
        if any(one.fails for one in self.verdicts) or (self.rules.strict and self.of("missing")):
            return EXIT_SLOWER
        if self._flagged or not decided or (self.of("inconclusive") and self.rules.strict):
            return EXIT_UNDECIDED
        return EXIT_OK

    @property
    def _flagged(self) -> bool:
        return self.control is not None and self.control.flagged

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        counts = [f"{len(found)} {name}" for name in VERDICTS if (found := self.of(name))]
        more = sum(one.memory == "more" for one in self.verdicts)
        counts += [f"{more} with more memory"] if more else []
        said = f"{_of(len(self.verdicts), 'case')}: {', '.join(counts) or 'none'}"
        said = f"{self.so_far.words}; {said}" if self.so_far else said
        return f"{said}; undecided, as the control pair {self.control.why}" if self.control and self._flagged else said


def _of(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def worst_first(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that close a gate, then those that may, then the rest; each in its order."""
    rank = {"broken": 0, "slower": 1, "incomparable": 2, "missing": 3, "inconclusive": 4}
    return sorted(verdicts, key=lambda one: min(rank.get(one.verdict, 5), 1 if one.memory == "more" else 5))
