"""The noise of this machine, and what can be detected on it, from launches of cases against themselves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev, variance
from typing import Any

from bench.messages.spec import SIDES
from bench.stats.ab_gate import OF_A_SIDE, by_pair, has_rate, log_rate, log_ratios, rate
from bench.stats.power import Blocks, detectable, needed, upper
from bench.stats.trimmed import LEAST_BLOCKS, spread
from bench.store.columns import LaunchRow

MEASURED_BLOCKS = 24  # for each case; with fewer, the bound of their spread makes a gate need many more launches
LEAST_STEPS, MOST_STEPS = 10, 1000
MEDIAN_OF_NORMAL = 0.67449  # of the absolute value of a standard normal variable
IN_A_BLOCK = OF_A_SIDE * len(SIDES)  # launches in a block, one after the other; those of a duet run at the same time


@dataclass(frozen=True)
class Noise:
    """The noise of one case on one machine, as standard deviations of the log of throughput; None if unknown.

    ``within_launch`` is that of a launch's steps, ``by_steps`` the part of the deviation between launches that steps
    explain, ``between_launches`` that of launches in one block, ``of_blocks`` that of the log ratios of blocks
    (robust), and ``between_sessions`` that of runs. ``duet`` says whether a block is a duet or four launches.
    ``window`` has the steps and the seconds that were asked for in a launch. ``sessions`` counts the calibrations
    behind ``between_sessions``.
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
    by_steps: float | None = None
    window: tuple[int, float] | None = None
    sessions: int = 1
    code_key: str | None = None

    def is_like(self, other: Noise) -> bool:
        """Return whether two calibrations are sessions of one case: nothing has changed between them."""
        mine, others = ((of.work_key, of.env_key, of.code_key, of.window, of.duet) for of in (self, other))
        return mine == others

    def is_of(self, row: LaunchRow) -> bool:
        """Return whether a launch has the same data, machine and software, and a window of the same length."""
        return (self.work_key, self.env_key, self.torch, self.window) == (
            row.work_key,
            row.env_key,
            row.torch,
            (row.steps, row.min_seconds),
        )

    @property
    def upper(self) -> float:
        """The spread of blocks to plan with: the true one is seldom larger."""
        return upper(self.of_blocks, self.blocks)

    def needed(self, change: float) -> Blocks | None:
        """Return the blocks of both stages that detect ``change``; None if no number of blocks does."""
        return needed(self.upper, change)

    def detectable(self, blocks: Blocks) -> float:
        """Return the smallest slowdown that so many blocks detect."""
        return detectable(self.upper, blocks)

    def within(self, seconds: float) -> Blocks | None:
        """Return as many blocks as there is time for, including a second stage of twice the first; None for too few."""
        count = int(seconds / self.seconds_a_block / 3)
        return Blocks(count, 2 * count) if count >= LEAST_BLOCKS else None

    @property
    def best_steps(self) -> int | None:
        """The steps of a launch that give most certainty in a given time; None if unknown.

        It is sqrt(c_launch / c_step) times s_step / s_launch (Kalibera & Jones 2013, their two-level optimum), with
        costs in seconds. ``s_step`` is the deviation of independent steps that would explain ``by_steps``; ``s_launch``
        is the launch-to-launch deviation that steps do not explain; without it launches can be as long as MOST_STEPS.
        """
        if self.between_launches is None or self.by_steps is None:
            return None
        launch = max(self.seconds_a_block / (1 if self.duet else IN_A_BLOCK) - self.steps * self.step_s, 0.0)
        step, alone = self.by_steps * math.sqrt(self.steps), self.between_launches**2 - self.by_steps**2
        best = math.sqrt(launch / self.step_s / alone) * step if alone > 0 else MOST_STEPS
        return min(max(math.ceil(best), LEAST_STEPS), MOST_STEPS)


def noise_of(rows: Sequence[LaunchRow], sessions: Mapping[str, Sequence[float]]) -> list[Noise]:
    """Return the noise of each pair of ``bench calibrate``.

    Cases with fewer than LEAST_BLOCKS complete blocks are left out.

    ``sessions`` has the median throughputs of other runs, by case_id.
    """
    found = []
    for of in by_pair(filter(_has_times, rows), "control").values():
        blocks = log_ratios(of, 1)
        if len(blocks) >= LEAST_BLOCKS:
            found.append(_noise(of, blocks, sessions.get(str(of[0].case_id), ())))
    return found


def _has_times(row: LaunchRow) -> bool:
    """Return whether a launch was ok, and its times are known."""
    return has_rate(row) and all((getattr(row, name) or 0) > 0 for name in ("window_steps", "window_s", "launch_s"))


def _noise(good: Sequence[LaunchRow], blocks: Sequence[float], sessions: Sequence[float]) -> Noise:
    own = median(map(rate, good))
    duet = any(row.duet_ratio for row in good)
    return Noise(
        case_id=str(good[0].case_id),
        hostname=str(good[0].hostname),
        work_key=good[0].work_key,
        env_key=good[0].env_key,
        duet=duet,
        steps=round(median(row.window_steps or 0 for row in good)),
        blocks=len(blocks),
        within_launch=_median(row.step_cv for row in good),
        between_launches=_pooled(good, lambda row: (row.block, row.side)),
        of_blocks=float(spread(blocks)),
        between_sessions=between([own, *sessions]),
        sessions=1 + len(sessions),
        seconds_a_block=fmean(row.launch_s or 0.0 for row in good) * (1 if duet else IN_A_BLOCK),
        step_s=median((row.window_s or 0.0) / (row.window_steps or 1) for row in good),
        samples_per_s=own,
        torch=good[0].torch,
        by_steps=_by_steps(good),
        window=_window(good[0]),
        code_key=good[0].code_key,
    )


def _window(row: LaunchRow) -> tuple[int, float] | None:
    """Return the steps and the seconds that were asked for in a launch."""
    return None if row.steps is None or row.min_seconds is None else (row.steps, row.min_seconds)


def _by_steps(rows: Sequence[LaunchRow]) -> float | None:
    """Return the deviation between launches that their steps explain.

    It is the spread of steps over the root of their number, or half of the difference between the two halves of a
    launch if that is larger, as consecutive steps are similar (batch means, of two batches). Both are robust over the
    launches. A half is represented by its median, which spreads sqrt(pi / 2) times as much as a mean.
    """
    independent = _median(row.step_cv and row.step_cv / math.sqrt(row.window_steps or 1) for row in rows)
    halves = _median(row.step_drift and abs(math.log1p(row.step_drift)) for row in rows)
    known = [independent, halves and halves / MEDIAN_OF_NORMAL / 2 / math.sqrt(math.pi / 2)]
    return max((value for value in known if value is not None), default=None)


def between(rates: Sequence[float]) -> float | None:
    """Return the standard deviation of the logs of some throughputs; None for fewer than two."""
    return stdev(math.log(rate) for rate in rates) if len(rates) > 1 else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _pooled(rows: Iterable[LaunchRow], group: Callable[[LaunchRow], Any]) -> float | None:
    """Return the pooled standard deviation within groups: launches of one side in one block.

    None if no group has two.
    """
    groups: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        groups[group(row)].append(log_rate(row))
    several = [logs for logs in groups.values() if len(logs) > 1]
    return math.sqrt(fmean(variance(logs) for logs in several)) if several else None
