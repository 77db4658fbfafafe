"""What a comparison will be able to detect and how long it takes: said before it, and after two blocks of each pair.

With a budget and without a calibration these two blocks also decide how many there will be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bench.plan.duration import words
from bench.stats.calibration import Noise
from bench.stats.first_look import LOOK, OF_SECOND, FirstLook, cost, first_looks, fitting
from bench.stats.power import Blocks
from bench.stats.trimmed import LEAST_BLOCKS
from bench.store.columns import LaunchRow

MARGIN = 1.1  # Of a budget that is recommended: later blocks may take longer.


@dataclass
class Outlook:
    """What is said of a comparison, to ``tell``, and its number of blocks.

    ``blocks``: by the name of the pair; None if the first two blocks decide, by the ``budget`` (s). ``overhead``
    returns the seconds that were spent on anything but blocks. ``too_short`` says why the budget is not enough for a
    test; it is empty if it is.
    """

    blocks: Mapping[str, Blocks] | None
    budget: float | None
    detect: float
    tell: Callable[[str], None]
    overhead: Callable[[], float] = lambda: 0.0
    now: Callable[[], datetime] = datetime.now
    too_short: str = ""
    _calibrated: bool = field(default=False, init=False)

    def before(self, names: Sequence[str], noise: Mapping[str, Noise], seconds_a_block: Mapping[str, float]) -> None:
        """Say what is known before the first launch, by calibrations or by how long earlier launches took."""
        if not names:
            return
        self._calibrated = self.blocks is not None and all(name in noise for name in names)
        if self._calibrated:
            seconds_a_block = {name: noise[name].seconds_a_block for name in names}
        known = all(name in seconds_a_block for name in names)
        looks = {name: FirstLook(seconds_a_block[name]) for name in names} if known else {}
        if self.blocks is None:
            self._tell_of_first_blocks(looks)
            return
        counts = {name: self.blocks[name] for name in names}
        took = f": {self._times(looks, counts)}, by {'the calibration' if self._calibrated else 'earlier launches'}"
        self.tell(f"{_counts(counts)}{took if known else ''}")
        if self._calibrated:
            self.tell(f"they detect a slowdown of {_percents(noise[name].detectable(counts[name]) for name in names)}")
        else:
            self.tell(f"what they detect is known after {LOOK} blocks of each pair")

    def after(self, rows: Sequence[LaunchRow]) -> Mapping[str, Blocks]:
        """Return the blocks of each pair, and say what they detect and when they end, by the first blocks of each."""
        looks = first_looks(rows)
        control = next(iter([*first_looks(rows, "control").values(), *looks.values()]), None)
        if self.blocks is None:
            self.blocks = self._fitting(looks, control) if control else {}
        counts = {name: self.blocks[name] for name in looks if name in self.blocks}
        if counts and not self._calibrated and not self.too_short:
            each = _span((look.seconds_a_block for look in looks.values()), words)
            self.tell(f"{_counts(counts)}, of {each} a block: {self._times(looks, counts, control, LOOK)}")
            self._tell_detectable(looks, counts, cost(looks.values(), control or next(iter(looks.values()))))
        return self.blocks

    def _fitting(self, looks: Mapping[str, FirstLook], control: FirstLook) -> dict[str, Blocks]:
        """Return as many blocks as the budget allows; no more than there are if these are too few for a test."""
        assert self.budget is not None
        overhead, each = self.overhead(), cost(looks.values(), control)
        count = fitting(looks.values(), control, max(self.budget - overhead, 0.0))
        if count >= LEAST_BLOCKS:
            return dict.fromkeys(looks, Blocks(count, OF_SECOND * count))
        self.too_short = (
            f"a budget of {words(self.budget)} is too short: each block of {len(looks)} {_cases(len(looks))} and the "
            f"control pair, with a second stage, takes {words(each)}, and a test takes {LEAST_BLOCKS}: give --budget "
            f"{_rounded(LEAST_BLOCKS * each + overhead)}"
        )
        self.tell(f"warning: {self.too_short}")
        return dict.fromkeys(looks, Blocks(LOOK, 0))

    def _tell_of_first_blocks(self, looks: Mapping[str, FirstLook]) -> None:
        """Say that the first blocks decide, and how long they take if that is known."""
        assert self.budget is not None
        first = next(iter(looks.values()), None)
        seconds = LOOK * (sum(look.seconds_a_block for look in looks.values()) + first.seconds_a_block) if first else 0
        took = f"about {words(seconds)} by earlier launches" if first else "no earlier launch says how long that takes"
        self.tell(
            f"{LOOK} blocks of each case and of the control pair come first ({took}); then it is known how many fit "
            f"{words(self.budget)}, and what they detect"
        )
        least = LEAST_BLOCKS * cost(looks.values(), first) if first else 0.0
        if least > self.budget:
            short = f"{words(self.budget)} are too short for a test, which takes about {words(least)}"
            self.tell(f"warning: by earlier launches {short}")

    def _times(
        self,
        looks: Mapping[str, FirstLook],
        counts: Mapping[str, Blocks],
        control: FirstLook | None = None,
        done: int = 0,
    ) -> str:
        """Return how long both stages take, in words, if ``done`` blocks of each pair are made."""
        if not looks:
            return ""
        of_control = (control or next(iter(looks.values()))).seconds_a_block
        most = max(count.first for count in counts.values())
        first = sum((counts[name].first - done) * look.seconds_a_block for name, look in looks.items())
        first += (most - done) * of_control
        second = sum(counts[name].second * look.seconds_a_block for name, look in looks.items()) + most * of_control
        return f"{self._in(first)}, or at most {self._in(first + second)} if cases may differ"

    def _in(self, seconds: float) -> str:
        return f"{words(seconds)} (until {self.now() + timedelta(seconds=seconds):%H:%M})"

    def _tell_detectable(self, looks: Mapping[str, FirstLook], counts: Mapping[str, Blocks], each: float) -> None:
        """Say what the blocks detect, and if that is not the change to detect, what would.

        ``each``: the cost of one more block of all pairs in seconds.
        """
        found = {name: both for name, look in looks.items() if (both := look.detectable(counts[name]))}
        if not found:
            return
        bounds, likely = zip(*found.values(), strict=True)
        self.tell(
            f"they detect a slowdown of {_percents(bounds)} by the upper bound of the spread of the first blocks, and "
            f"of {_percents(likely)} if these show the true spread"
        )
        if max(bounds) <= self.detect:
            return
        needs = [looks[name].needed(self.detect) for name in found]
        known = [count for count in needs if count is not None]
        if len(known) < len(needs):
            enough = "no number of blocks is enough"
        elif self.budget is None:
            enough = f"give --blocks {max(known)}"
        else:
            enough = f"give --budget {_rounded(max(known) * each + self.overhead())}"
        said = f"to be sure of {self.detect:.1%} by that bound, {enough}"
        self.tell(f"warning: {said}" if max(likely) > self.detect else said)


def _counts(blocks: Mapping[str, Blocks]) -> str:
    first, second = (_span((count[stage] for count in blocks.values()), lambda n: f"{n:.0f}") for stage in (0, 1))
    return f"{first} blocks of each pair, and {second} more where it may differ"


def _cases(count: int) -> str:
    return "case" if count == 1 else "cases"


def _percents(values: Iterable[float]) -> str:
    return _span(values, lambda value: f"{value:.1%}")


def _span(values: Iterable[float], show: Callable[[float], str]) -> str:
    """Return the smallest and the largest value, or one if they look the same."""
    known = list(values)
    return " to ".join(dict.fromkeys((show(min(known)), show(max(known)))))


def _rounded(seconds: float) -> str:
    """Return a budget with MARGIN in whole ten seconds, from ten minutes on in whole minutes."""
    step = 10 if seconds * MARGIN < 600 else 60
    return words(math.ceil(seconds * MARGIN / step) * step)
