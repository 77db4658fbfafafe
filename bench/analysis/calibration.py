"""How noisy is this machine, and what can be found on it? From launches of cases against themselves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev, variance
from typing import Any

from bench.analysis.gate import OF_A_SIDE, by_pair, has_rate, log_ratios
from bench.analysis.power import Blocks, detectable, needed, upper
from bench.analysis.trimmed import LEAST_BLOCKS, spread
from bench.messages import SIDES
from bench.record import Row

MEASURED_BLOCKS = 24  # of each case: fewer, and the bound of their spread asks a gate for many more launches
LEAST_STEPS, MOST_STEPS = 10, 1000
IN_A_BLOCK = OF_A_SIDE * len(SIDES)  # launches, one after the other; those of a duet run at once


@dataclass(frozen=True)
class Noise:
    """Of one case on one machine, as standard deviations of the log of throughput; None where it cannot be known.

    ``within_launch`` is of a launch's steps, ``between_launches`` of launches in one block, ``of_blocks`` of the log
    ratios of blocks (robust), and ``between_sessions`` of runs. ``duet``: a block is a duet, else four launches.
    """

    case_id: str
    hostname: str
    work_key: str | None
    env_key: str | None
    duet: bool
    steps: int
    blocks: int
    within_launch: float | None
    between_launches: float | None
    of_blocks: float
    between_sessions: float | None
    seconds_a_block: float
    step_s: float
    samples_per_s: float
    torch: str | None = None

    @property
    def upper(self) -> float:
        """What is planned with: the spread of blocks is seldom larger than this."""
        return upper(self.of_blocks, self.blocks)

    def needed(self, change: float) -> Blocks | None:
        """The blocks of both stages that find ``change``; None where no number of them does."""
        return needed(self.upper, change)

    def detectable(self, blocks: Blocks) -> float:
        return detectable(self.upper, blocks)

    def within(self, seconds: float) -> Blocks | None:
        """As many blocks as there is time for, a second stage of twice the first's among them; None for too few."""
        count = int(seconds / self.seconds_a_block / 3)
        return Blocks(count, 2 * count) if count >= LEAST_BLOCKS else None

    @property
    def best_steps(self) -> int | None:
        """How long a launch should be for the most certainty in a given time: sqrt(c_launch / c_step) times
        s_within / s_launch (Kalibera & Jones 2013, their two-level optimum), the costs in seconds. ``s_launch`` is what
        launches differ by beside their steps: launches that differ by no more than that can be as long as you like."""
        if self.between_launches is None or self.within_launch is None:
            return None
        launch = max(self.seconds_a_block / (1 if self.duet else IN_A_BLOCK) - self.steps * self.step_s, 0.0)
        alone = self.between_launches**2 - self.within_launch**2 / self.steps
        best = math.sqrt(launch / self.step_s / alone) * self.within_launch if alone > 0 else MOST_STEPS
        return min(max(math.ceil(best), LEAST_STEPS), MOST_STEPS)


def noise_of(rows: Sequence[Row], sessions: Mapping[str, Sequence[float]]) -> list[Noise]:
    """The noise of each pair of `bench calibrate`. ``sessions``: median throughputs of other runs, by case_id. Cases
    with fewer than LEAST_BLOCKS whole blocks have none."""
    found = []
    for of in by_pair(filter(_told, rows), "control").values():
        blocks = log_ratios(of, 1)
        if len(blocks) >= LEAST_BLOCKS:
            found.append(_noise(of, blocks, sessions.get(str(of[0]["case_id"]), ())))
    return found


def _told(row: Row) -> bool:
    """Whether a launch was ok, and its times are known."""
    return has_rate(row) and all((row[name] or 0) > 0 for name in ("window_steps", "window_s", "launch_s"))


def _noise(good: Sequence[Row], blocks: Sequence[float], sessions: Sequence[float]) -> Noise:
    own = median(row["samples_per_s"] for row in good)
    duet = any(row.get("duet_ratio") for row in good)
    return Noise(
        case_id=str(good[0]["case_id"]),
        hostname=str(good[0]["hostname"]),
        work_key=good[0]["work_key"],
        env_key=good[0]["env_key"],
        duet=duet,
        steps=round(median(row["window_steps"] for row in good)),
        blocks=len(blocks),
        within_launch=_median(row["step_cv"] for row in good),
        between_launches=_pooled(good, lambda row: (row["block"], row["side"])),
        of_blocks=float(spread(blocks)),
        between_sessions=between([own, *sessions]),
        seconds_a_block=fmean(row["launch_s"] for row in good) * (1 if duet else IN_A_BLOCK),
        step_s=median(row["window_s"] / row["window_steps"] for row in good),
        samples_per_s=own,
        torch=good[0]["torch"],
    )


def between(rates: Sequence[float]) -> float | None:
    """The standard deviation of the logs of some throughputs; None for fewer than two."""
    return stdev(math.log(rate) for rate in rates) if len(rates) > 1 else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _pooled(rows: Iterable[Row], group: Callable[[Row], Any]) -> float | None:
    """The standard deviation within groups, pooled: launches of one side in one block. None without two in any."""
    groups: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        groups[group(row)].append(math.log(row["samples_per_s"]))
    several = [logs for logs in groups.values() if len(logs) > 1]
    return math.sqrt(fmean(variance(logs) for logs in several)) if several else None
