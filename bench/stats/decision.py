"""From the blocks of two stages to verdicts that take the noise into account.

The first stage tests all cases at a loose level. Only its candidates are launched again, and only those new launches
decide on them, with Holm's correction over the candidates: the false-alarm rate of a suite of any size is that of one
case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from scipy.special import bdtr

from bench.stats.power import FIRST_LEVEL, LEVEL, Blocks, detectable, needed, smallest, upper
from bench.stats.trimmed import LEAST_BLOCKS, Trimmed, spread, trimmed, untrimmed
from bench.stats.verdict import Control, Rules

SAME_LEVEL = 0.05  # for each of the two one-sided tests of equivalence
FEW_BLOCKS = 8  # with fewer, the trimmed share is too large for a verdict based on the trimmed mean alone
Name = TypeVar("Name")
FOUND = 0.95  # chance to find what is called detectable; each of two stages has POWER
CONTROL_LEVEL = 0.005  # one-sided: one gate of a hundred is undecided by chance


@dataclass(frozen=True)
class Found:
    """The result of one case's blocks: log ratios of throughput, B over A."""

    verdict: str
    reason: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    blocks: int = 0
    detectable: float | None = None


@dataclass(frozen=True)
class Stages:
    """Log ratios of one case by block, of the first and of the second stage (empty if it was not a candidate)."""

    first: Sequence[float]
    second: Sequence[float] = field(default_factory=tuple)

    @property
    def deciding(self) -> Sequence[float]:
        """The blocks that decide: those of the second stage if there are any."""
        return self.second or self.first


def candidates(first: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the cases whose first blocks show a change at the loose level, in either direction."""
    return [name for name, blocks in first.items() if len(blocks) >= LEAST_BLOCKS and _one_sided(blocks) <= FIRST_LEVEL]


def decide(cases: Mapping[str, Stages], rules: Rules, asked: Mapping[str, Blocks] | None = None) -> dict[str, Found]:
    """Return a verdict for each case: ``faster``, ``slower``, ``same`` or ``inconclusive``.

    A change needs significance in the second stage (one-sided, in the direction of the first; LEVEL over all candidates
    by Holm) and an estimate beyond the floor. ``same`` needs both equivalence tests within ``detect``. ``asked`` has
    the blocks that a gate was to have for each case, for what it could have detected; by default as many as there are.
    """
    second = {name: case for name, case in cases.items() if len(case.second) >= LEAST_BLOCKS}
    levels = {name: _in_direction(case) for name, case in second.items()}
    significant = {name for name, found in zip(levels, holm(list(levels.values()), LEVEL), strict=True) if found}
    asked, suspects = asked or {}, candidates({name: case.first for name, case in cases.items() if not case.second})
    return {
        name: _found(
            *(case, name in significant, levels.get(name), rules, _detectable(case, asked.get(name))),
            suspected=name in suspects,
        )
        for name, case in cases.items()
    }


def compared(cases: Mapping[Name, Sequence[float]], rules: Rules, others: Sequence[float] = ()) -> dict[Name, Found]:
    """Return verdicts from one stage, for launches that no first stage selected: Holm's correction over all cases.

    ``others`` are p values of other decisions in the same comparison.
    """
    p_values = [p_of(blocks) for blocks in cases.values()]
    significant = holm([*p_values, *others], LEVEL)[: len(cases)]
    level = LEVEL / max(len(cases) + len(others), 1)  # the level of Holm's first step
    return {
        name: _found(Stages(blocks), found, p, rules, smallest(_upper(blocks), [(len(blocks), level)], FOUND))
        for (name, blocks), p, found in zip(cases.items(), p_values, significant, strict=True)
    }


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Return which hypotheses are rejected with a family-wise error of ``level``.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    rejected = [False] * len(p_values)
    for before, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if not p_values[at] <= level / (len(p_values) - before):
            break
        rejected[at] = True
    return rejected


def control(case: str, blocks: Sequence[float], rules: Rules) -> Control:
    """Test whether a case differs from itself: if so, the cause is the machine, and nothing can be decided on it."""
    if len(blocks) < LEAST_BLOCKS:
        return Control(case, True, f"only {len(blocks)} of its blocks have a number", "has too few blocks")
    found = trimmed(blocks)
    p, change = p_of(blocks), abs(math.expm1(float(found.mean)))
    words = f"{case} against itself: {_range(found)} on {len(blocks)} blocks"
    if p <= CONTROL_LEVEL and change > rules.floor:
        return Control(case, True, f"{words}; it should show no difference", "differs from itself")
    return Control(case, False, words)


def _detectable(case: Stages, asked: Blocks | None) -> float | None:
    """Return what the blocks that were asked for could detect with the noise of the deciding blocks.

    If nothing was asked for, or the gate was stopped early, it is what the present blocks could detect.
    """
    if len(case.deciding) < LEAST_BLOCKS:
        return None
    first, second = len(case.first), len(case.second)
    whole = asked and first >= asked.first and (not second or second >= asked.second)
    least = max(LEAST_BLOCKS, first)
    return detectable(_upper(case.deciding), asked if asked and whole else Blocks(least, max(least, second)))


def _found(
    case: Stages, significant: bool, p: float | None, rules: Rules, least: float | None, suspected: bool = False
) -> Found:
    """Return one case's verdict, by the blocks that decide on it. ``suspected``: its second stage is still to come."""
    blocks = case.deciding
    if least is None:
        return Found(
            "inconclusive", f"{len(blocks)} blocks with a number; {LEAST_BLOCKS} are needed", blocks=len(blocks)
        )
    found, deviation = trimmed(blocks), float(spread(blocks))
    ratio = math.exp(float(found.mean))
    verdict, why = _verdict(blocks, significant, rules, bool(case.second), suspected)
    if verdict == "inconclusive":
        why += f"; {_blocks_needed(deviation, rules)}"
    low, high = (math.exp(float(bound)) for bound in found.interval())
    said = f"{_range(found)} on {len(blocks)} blocks; {why}; a slowdown of {least:.1%} could be detected"
    return Found(verdict, said, ratio, low, high, _one_sided(blocks) if p is None else p, len(blocks), least)


def _verdict(
    blocks: Sequence[float], significant: bool, rules: Rules, confirmed: bool, suspected: bool
) -> tuple[str, str]:
    change = math.expm1(float(trimmed(blocks).mean))
    if significant and abs(change) > rules.floor:
        return ("slower" if change < 0 else "faster"), "confirmed by fresh launches" if confirmed else "significant"
    if p_same(blocks, -math.log1p(-rules.detect)) <= SAME_LEVEL:
        return "same", f"no change of {rules.detect:.1%} or more"
    if significant:
        return "inconclusive", f"a change, but not shown to be beyond the floor of {rules.floor:.1%}"
    if suspected:
        return "inconclusive", "it may differ, and only fresh launches could decide"
    return "inconclusive", "fresh launches do not confirm it" if confirmed else "within the noise"


def _blocks_needed(deviation: float, rules: Rules) -> str:
    blocks = needed(deviation, rules.detect)
    if blocks is None:
        return f"this machine is too noisy to tell {rules.detect:.1%}"
    return f"to tell {rules.detect:.1%} it would take {blocks.first} and {blocks.second} blocks"


def _one_sided(blocks: Sequence[float]) -> float:
    """Return the smaller p value of the two directions."""
    found = trimmed(blocks)
    return float(min(found.p_above(), found.p_below()))


def p_of(blocks: Sequence[float]) -> float:
    """Return the same for a verdict without a second stage.

    With fewer than FEW_BLOCKS, Student's t on all of them must agree: if launches have two speeds, four blocks of five
    are equal by chance, and the fifth is trimmed.
    """
    whole = untrimmed(blocks)
    least = float(min(whole.p_above(), whole.p_below())) if len(blocks) < FEW_BLOCKS else 0.0
    return max(_one_sided(blocks), least)


def p_same(blocks: Sequence[float], margin: float) -> float:
    """Return the p value of a change (a log, either way) as large as ``margin``.

    It is small if the blocks show that the change is less.

    It is the larger of the p values of the trimmed t and the sign test. On a machine with two speeds the first alone
    results in ``same`` up to 7 times of 100 where 5 are promised, and a gate tests twice.
    """
    found = trimmed(blocks)
    beyond = max(sum(block <= -margin for block in blocks), sum(block >= margin for block in blocks))
    return max(float(found.p_above(-margin)), float(found.p_below(margin)), float(bdtr(beyond, len(blocks), 0.5)))


def _upper(blocks: Sequence[float]) -> float:
    """Return an upper bound of the spread of blocks, which the true one seldom exceeds."""
    return upper(float(spread(blocks)), len(blocks))


def _in_direction(case: Stages) -> float:
    """Return the second stage's p value in the direction that the first stage showed."""
    second = trimmed(case.second)
    first = trimmed(case.first).mean if len(case.first) >= LEAST_BLOCKS else second.mean
    return float(second.p_below() if first < 0 else second.p_above())


def _range(found: Trimmed) -> str:
    """Return the change of throughput from A to B with its interval, in words."""
    low, high = found.interval()
    return f"{math.expm1(float(found.mean)):+.1%} ({math.expm1(float(low)):+.1%}…{math.expm1(float(high)):+.1%})"
